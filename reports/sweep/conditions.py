"""Conditions on a design's factors: equal to a value, one of several, or compared with a number."""

import operator
import re
from collections.abc import Collection, Mapping
from typing import Any

_COMPARED = re.compile(r"\s*(<=|>=|!=|<|>)\s*(\S.*?)\s*")
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


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
            return not _holds(_number(other), value)
        return _is_number(value) and bool(_ORDER[sign](value, float(other)))
    alike = type(asked) is type(value) or (_is_number(asked) and _is_number(value))
    return alike and bool(asked == value)


def check_condition(condition: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return what is wrong with a condition: unknown factors, comparisons with something else than numbers."""
    problems = [f"there is no factor {name!r}; there are {', '.join(known)}" for name in condition if name not in known]
    if not condition:
        problems.append("an empty condition leaves everything out; remove it")
    for name, asked in condition.items():
        for item in asked if isinstance(asked, list) else [asked]:
            found = _COMPARED.fullmatch(item) if isinstance(item, str) else None
            if found and found[1] != "!=" and not _is_number(_number(found[2])):
                problems.append(f"{name}: must be compared with a number (got {item!r})")
    return problems


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return None if text in ("null", "none") else text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
