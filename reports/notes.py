"""What a reader must know of how a network became integers: steps that are not followed, layers left as they are."""

from collections.abc import Iterable

from quant.lower import Quantized
from reports.files import Imported
from reports.task import Integers

NAMED = 4
"""Layers that a note names before it only counts them."""


def integer_notes(integers: Integers) -> list[str]:
    """Return an imported network's remarks, or what was left aside on layers of a quantized one, a line a reason."""
    if isinstance(integers, Imported):
        return list(integers.remarks)
    if not isinstance(integers, Quantized):
        return []
    places: dict[str, list[str]] = {}
    for layer in integers.layers:
        if layer.remark:
            places.setdefault(layer.remark, []).append(layer.name)
    return [f"{reason} ({_listed(names)})" for reason, names in places.items()]


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    rest = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(known[:NAMED]) + rest
