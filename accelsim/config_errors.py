"""Every error of a description at once, each as field: rule (got value); remedy."""

import difflib
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

REMEDIES = {
    "name": "give a name for reports",
    "rows": "give the number of PE rows",
    "cols": "give the number of PE columns",
    "pipeline_depth": "give the cycles from operands to sum, 1 for one",
    "psum_bits": "give the width of the moving sum in bits",
    "bits": "give the width of the accumulator memory in bits",
    "bytes": "give the capacity of the buffer in bytes",
    "word_bits": "give the width of a bank's word in bits",
    "banks": "give the number of banks, 1 for one",
    "bandwidth_gb_per_s": "give the sustained bandwidth of the channel in 10**9 bytes a second",
    "latency_ns": "give the latency of a transfer in ns, 0 for none",
    "page_efficiency": "give the share of the bandwidth that is left, at most 1",
    "clock_mhz": "give the clock in MHz",
    "node_nm": "give the technology node in nm",
    "cores": "give the number of arrays, 1 for one",
    "array": "give rows, cols and dataflow",
    "activation_sram": "give its bytes",
    "weight_sram": "give its bytes",
    "accumulator_sram": "give its bytes",
}
"""What to do about a field that is missing or out of range, where the rule alone does not say it."""

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 1

Contradictions = Callable[[Mapping[str, Any]], list[str]]


def error_lines(
    error: ValidationError, model: type[BaseModel], plain: Mapping[str, Any], contradictions: Contradictions
) -> list[str]:
    """Return all that is wrong with a description.

    Parameters
    ----------
    error
        What building `model` of it raised.
    model
        The description's type.
    plain
        The description.
    contradictions
        Rules between the fields of `model`. They are not reached where a field is wrong by itself, so here the sound
        fields are held against each other.
    """
    items = error.errors(include_url=False)
    lines = [_line(item, model) for item in items]
    if any(item["loc"] for item in items):
        lines += [f"accelerator: {problem}" for problem in contradictions(_sound_parts(model, plain))]
    return lines


def _sound_parts(model: type[BaseModel], plain: Mapping[str, Any]) -> dict[str, BaseModel]:
    """Return the parts that are valid by themselves."""
    sound: dict[str, BaseModel] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        try:
            if name in plain:
                sound[name] = kind.model_validate(plain[name])
            elif not field.is_required():
                sound[name] = field.default
        except ValidationError:
            continue
    return sound


def _line(item: Any, model: type[BaseModel]) -> str:
    place = [str(part)[:60] for part in item["loc"]]
    field, last = ".".join(place) or "accelerator", place[-1] if place else ""
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(last, _field_names(model, place[:-1]), n=1)
        return f"{field}: there is no such field; {f'did you mean {near[0]}?' if near else 'remove it'}"
    remedy = REMEDIES.get(last, "")
    remedy = remedy and f"; {remedy}"
    if item["type"] == "missing":
        return f"{field}: is required{remedy}"
    if item["type"] == "invalid_key":
        return f"{field}: a field name must be text; remove it"
    if item["type"] == "value_error":  # a rule of ours, which says all there is to say
        return f"{field}: {item['msg'].removeprefix('Value error, ')}"
    got = "" if isinstance(item["input"], dict) else f" (got {_SHORT.repr(item['input'])})"
    return f"{field}: must be {item['msg'].removeprefix('Input should be ')}{got}{remedy}"


def _field_names(model: Any, place: list[str]) -> list[str]:
    """Return the fields of the part at a place."""
    for name in place:
        model = model.model_fields[name].annotation
    return list(model.model_fields)
