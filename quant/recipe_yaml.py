"""Recipes as YAML, both ways.

A file names fields of `quant.recipe.Recipe`; what it leaves out has the default. Clip rules and transforms are a name,
or a name with options; transforms are a list in order:

    name: my-recipe
    weight_bits: 4
    weight_clip: mse
    act_clip: {percentile: {percent: 99.99}}
    transforms: [two-step, {ocs: {ratio: 0.02}}]
    layer_bits: [{pattern: "layer3.*", weight_bits: 6}]

Reading is strict: unknown keys, wrong types and values out of range are reported, all at once, in one line.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from accelsim.plain_yaml import plain_mapping
from quant.clip import CLIPS
from quant.recipe import LayerBits, Recipe
from quant.transforms import TRANSFORMS

MAX_YAML_BYTES = 1 << 20

Known = Mapping[str, Callable[..., Any]]


class _Problems(list[str]):
    """What is wrong with a file; lives only inside one reading."""

    def add(self, where: str, text: str) -> None:
        """Take a problem down."""
        self.append(f"{where}: {text}")


# --- reading ----------------------------------------------------------------------------------------------------------


def recipe_from_yaml(text: str, origin: str = "text") -> Recipe:
    """Build a recipe from YAML text.

    Parameters
    ----------
    text
        A mapping of fields.
    origin
        Names the text in errors.

    Raises
    ------
    ValueError
        With all errors in one line, each as field: rule (got value).
    """
    plain = plain_mapping(text, f"recipe {origin}", "e.g. weight_bits: 4")
    problems = _Problems()
    recipe = _build(problems, "", Recipe, plain)
    if problems:
        raise ValueError(f"recipe {origin} has {len(problems)} error(s): " + "; ".join(problems))
    assert isinstance(recipe, Recipe)
    return recipe


def _build(problems: _Problems, where: str, kind: Any, options: Any) -> Any:
    """Build a dataclass, or note all that is wrong: each option is tried by itself."""
    if not isinstance(options, dict):
        return problems.add(where, f"must be a mapping of options (got {options!r})")
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    hints = get_type_hints(kind)
    needed = {n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    before, values = len(problems), {}
    for key, value in options.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in fields:
            problems.add(place, f"is unknown; known are {', '.join(fields) or 'no options'}")
            continue
        known = len(problems)
        values[key] = _value(problems, place, hints[key], value)
        if len(problems) == known and not needed:
            _tried(problems, place, kind, {key: values[key]})
    for name in sorted(needed - set(options)):
        problems.add(f"{where}.{name}", "must be given")
    return _tried(problems, where or "recipe", kind, values) if len(problems) == before else None


def _tried(problems: _Problems, where: str, kind: Any, values: Mapping[str, Any]) -> Any:
    try:
        return kind(**values)
    except ValueError as error:
        return problems.add(where, str(error))


def _value(problems: _Problems, where: str, hint: Any, value: Any) -> Any:
    """Return a field's value of the field's type, or note what is wrong with it."""
    if where in ("weight_clip", "act_clip"):
        return _named(problems, where, CLIPS, value)
    if where in ("transforms", "layer_bits"):
        if not isinstance(value, list):
            return problems.add(where, f"must be a list (got {value!r})")
        if where == "transforms":
            return tuple(_named(problems, f"{where}[{i}]", TRANSFORMS, item) for i, item in enumerate(value))
        return tuple(_build(problems, f"{where}[{i}]", LayerBits, item) for i, item in enumerate(value))
    converted, rule = _typed(hint, value)
    return problems.add(where, f"must be {rule} (got {value!r})") if rule else converted


def _named(problems: _Problems, where: str, known: Known, item: Any) -> Any:
    """Return a clip rule or transform from its name, or from ``{name: {option: value}}``."""
    name: Any = item
    options: Any = None
    if isinstance(item, dict) and len(item) == 1:
        ((name, options),) = item.items()
    if not isinstance(name, str) or name not in known:
        return problems.add(where, f"must name one of {', '.join(known)} (got {item!r})")
    if not isinstance(known[name], type) and options:
        return problems.add(where, f"{name} takes no options (got {options!r})")
    return _build(problems, f"{where}.{name}", known[name], options or {}) if options else known[name]()


def _typed(hint: Any, value: Any) -> tuple[Any, str]:
    """Return a plain value converted to a type, and the rule that it breaks if it does."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = next(part for part in get_args(hint) if part is not type(None))
        return (None, "") if value is None else _typed(inner, value)
    if get_origin(hint) is Literal:
        return value, "" if value in get_args(hint) else f"one of {', '.join(map(str, get_args(hint)))}"
    if hint is bool:
        return value, "" if isinstance(value, bool) else "true or false"
    if hint is int:
        return value, "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return (float(value), "") if fits else (value, "a finite number")
    if hint is str:
        return value, "" if isinstance(value, str) else "text"
    assert hint == tuple[tuple[str, int], ...], hint
    fits = isinstance(value, dict) and all(isinstance(k, str) and type(v) is int for k, v in value.items())
    return (tuple(value.items()), "") if fits else (value, "a mapping of layer names to whole numbers")


# --- writing ----------------------------------------------------------------------------------------------------------


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return a recipe as YAML that `recipe_from_yaml` reads back as an equal recipe.

    Raises
    ------
    ValueError
        For a clip rule or transform that is not listed by name.
    """
    plain = {"name": recipe.name, "weight_bits": recipe.weight_bits, "act_bits": recipe.act_bits}
    plain |= _options(recipe)
    text: str = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
    return text


def _options(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, as plain values."""
    plain = {}
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if held != default:
            plain[field.name] = _plain(field.name, held)
    return plain


def _plain(name: str, value: Any) -> Any:
    if name in ("weight_clip", "act_clip"):
        return _by_name(CLIPS, value)
    if name == "transforms":
        return [_by_name(TRANSFORMS, transform) for transform in value]
    if name == "layer_bits":
        return [_options(entry) for entry in value]
    return dict(value) if isinstance(value, tuple) else value


def _by_name(known: Known, value: Any) -> Any:
    for name, make in known.items():
        if make() == value:
            return name
    for name, make in known.items():
        if make is type(value):
            return {name: _options(value)}
    raise ValueError(f"recipe_to_yaml knows {', '.join(known)} by name (got {type(value).__name__}); list it first")
