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
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from quant.clip import CLIPS
from quant.recipe import LayerBits, Recipe
from quant.transforms import TRANSFORMS

MAX_YAML_BYTES = 1 << 20

Known = Mapping[str, Callable[..., Any]]


class _Problems:
    """What is wrong with a file; lives only inside one reading."""

    def __init__(self, origin: str) -> None:
        self.origin, self.lines = origin, list[str]()

    def add(self, where: str, text: str) -> None:
        """Take a problem down."""
        self.lines.append(f"{where}: {text}")

    def raise_if_any(self) -> None:
        """Raise with all problems in one line."""
        if self.lines:
            raise ValueError(f"recipe {self.origin} has {len(self.lines)} error(s): " + "; ".join(self.lines))


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
    if len(text.encode()) > MAX_YAML_BYTES:
        raise ValueError(f"recipe {origin} is larger than {MAX_YAML_BYTES} bytes; a recipe is a page of YAML")
    try:
        plain = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"recipe {origin} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(plain, dict):
        raise ValueError(f"recipe {origin} must be a mapping of fields (got {type(plain).__name__}); see recipe_to_yaml")
    problems = _Problems(origin)
    values = {key: value for key, value in plain.items() if key not in _NESTED}
    for key, read in _NESTED.items():
        if key in plain:
            found = read(problems, key, plain[key])
            if found is not None:
                values[key] = found
    recipe = _build(problems, "", Recipe, values)
    problems.raise_if_any()
    assert isinstance(recipe, Recipe)
    return recipe


def _build(problems: _Problems, where: str, kind: type[Any], options: Mapping[Any, Any]) -> Any:
    """Build a dataclass; each option is tried by itself, so that all that is wrong is found."""
    hints = get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind) if f.init}
    before, values = len(problems.lines), {}
    for key, value in options.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in fields:
            problems.add(place, f"is no field; known are {', '.join(sorted(fields))}")
            continue
        try:
            values[key] = _typed(value, hints[key])
        except TypeError as error:
            problems.add(place, f"must be {error} (got {value!r})")
    if len(problems.lines) > before:
        for key, value in values.items():
            _tried(problems, f"{where}.{key}" if where else key, kind, {key: value})
        return None
    found = len(problems.lines)
    for key, value in values.items():
        _tried(problems, f"{where}.{key}" if where else key, kind, {key: value})
    return _tried(problems, where or "recipe", kind, values) if len(problems.lines) == found else None


def _tried(problems: _Problems, where: str, kind: type[Any], values: Mapping[str, Any]) -> Any:
    required = {f.name for f in dataclasses.fields(kind) if f.init and _is_required(f)}
    if missing := sorted(required - set(values)):
        if len(values) != 1 or where.count(".") == 0:
            problems.add(where, f"needs {', '.join(missing)}")
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.add(where, str(error))
        return None
