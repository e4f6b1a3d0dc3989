"""Conditions on a design's factors: equal to a value, one of several, or compared with a number."""

import operator
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_COMPARED = re.compile(r"\s*(<=|>=|!=|<|>)\s*([^\s=<>!].*?)\s*")
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_WORDS = {"null": None, "none": None, "~": None, "true": True, "false": False}


def matches(condition: Mapping[str, Any], factors: Mapping[str, Any]) -> bool:
    """Return whether all of a condition holds; a factor that is not given is ``None``.

    Examples
    --------
    >>> matches({"bits": "< 4", "ocs": ["fill", None]}, {"bits": 3, "ocs": "fill"})
    True
    """
    return all(_holds(asked, factors.get(name)) for name, asked in condition.items())


def _holds(asked: Any, value: Any) -> bool:
    if isinstance(asked, list):
        return any(_holds(item, value) for item in asked)
    if isinstance(asked, str) and (found := _COMPARED.fullmatch(asked)):
        sign, other = found.groups()
        if sign == "!=":
            return not _holds(_value(other), value)
        return _is_number(value) and bool(_ORDER[sign](value, float(other)))
    alike = type(asked) is type(value) or (_is_number(asked) and _is_number(value))
    return alike and bool(asked == value)


def check_condition(condition: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return what is wrong with a condition: unknown factors, what is no value, no comparison with a number."""
    problems = [
        f"there is no factor {name!r}; there are {', '.join(sorted(known))}" for name in condition if name not in known
    ]
    if not condition:
        problems.append("an empty condition leaves everything out; remove it")
    for name, asked in condition.items():
        problems += [f"{name}: {problem}" for problem in _check(asked)]
    return problems


def _check(asked: Any) -> Iterator[str]:
    if asked == []:
        yield "must list at least one value (got none)"
    for item in asked if isinstance(asked, list) else [asked]:
        if isinstance(item, list | dict):
            yield f"must be a value, or a list of values (got {item!r})"
        if not isinstance(item, str) or not item.lstrip().startswith(("<", ">", "=", "!")):
            continue
        found = _COMPARED.fullmatch(item)
        if found is None:
            yield f"must be compared with {', '.join(_ORDER)} or != (got {item!r})"
        elif found[1] != "!=" and not _is_number(_value(found[2])):
            yield f"must be compared with a number (got {item!r})"


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return _WORDS.get(text, text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
