"""Results that belong to an op: computed on first use, forgotten with it."""

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

R = TypeVar("R")


def per_op(function: Callable[..., R]) -> Callable[..., R]:
    """Return a pure function of an op (immutable, told apart by identity) and hashable values that computes once."""
    kept: WeakKeyDictionary[Any, dict[Hashable, R]] = WeakKeyDictionary()

    @wraps(function)
    def remembered(op: Any, *rest: Hashable) -> R:
        found = kept.setdefault(op, {})
        if rest not in found:
            found[rest] = function(op, *rest)
        return found[rest]

    return remembered
