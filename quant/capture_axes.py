"""Views without copies: which axes of a stored tensor make up each dimension of a torch tensor.

Contract: pure. While a network is captured, view, transpose, expand and their kin move no data: a `Value` names a
tensor of the graph (batch first) and says which of its axes each torch dimension runs over, in row-major order. So a
batch that a network keeps second, or merges with heads or windows, stays one known axis. Dimensions of size 1 have no
axes.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Axis:
    """An axis of a stored tensor, or part of one, known by identity. An axis that no tensor has is a broadcast."""

    size: int


BATCH = Axis(0)
"""The batch axis; its size is unknown."""

Group = tuple[Axis, ...]
Dim = tuple[int, bool]
"""A torch dimension's size: a factor, and whether the batch size multiplies it."""


class MisalignedError(Exception):
    """A view cuts across axes, so that data must be reshaped first."""


@dataclass(frozen=True, eq=False)
class Value:
    """A torch tensor as a view of a stored one.

    Parameters
    ----------
    tensor
        Name of the stored tensor.
    base
        Its axes in row-major order, batch excluded.
    dims
        Axes of each torch dimension, outermost first.
    """

    tensor: str
    base: Group
    dims: tuple[Group, ...]

    @property
    def rank(self) -> int:
        """Number of torch dimensions."""
        return len(self.dims)


def size_of(group: Iterable[Axis]) -> int:
    """Return the number of elements along a group of axes, the batch not counted."""
    return math.prod(axis.size for axis in group if axis is not BATCH)


def stored(tensor: str, shape: Sequence[int]) -> Value:
    """Return the plain view [batch, *shape] of a stored tensor."""
    axes = [Axis(size) for size in shape]
    real = tuple(axis for axis in axes if axis.size != 1)
    return Value(tensor, real, ((BATCH,), *((a,) if a.size != 1 else () for a in axes)))


def split_axis(value: Value, axis: Axis, outer: int) -> Value:
    """Return the same view with one axis written as two, the first of size `outer`."""
    parts = tuple(Axis(n) for n in (outer, axis.size // outer))

    def swap(group: Group) -> Group:
        return tuple(part for a in group for part in (parts if a is axis else (a,)))

    return dataclasses.replace(value, base=swap(value.base), dims=tuple(swap(g) for g in value.dims))


def regroup(value: Value, target: Sequence[Dim]) -> Value:
    """Return the row-major view of the same elements in other dimensions.

    Raises
    ------
    MisalignedError
        Where a new dimension would end inside an axis that it does not divide, or would split the batch.
    """
    dims: list[Group] = []
    taken = 0
    for size, batched in target:
        group: list[Axis] = []
        have, seen = 1, False
        while have != size or seen != batched:
            flat = [axis for g in value.dims for axis in g]
            if taken == len(flat):
                raise MisalignedError
            axis, left = flat[taken], size // have
            if axis is BATCH:
                if seen or not batched:
                    raise MisalignedError
                seen = True
            else:
                if size % have or left <= 1 or max(axis.size, left) % min(axis.size, left):
                    raise MisalignedError
                if axis.size > left:
                    value = split_axis(value, axis, left)
                    axis = [a for g in value.dims for a in g][taken]
                have *= axis.size
            group.append(axis)
            taken += 1
        dims.append(tuple(group))
    if taken != sum(len(g) for g in value.dims):
        raise MisalignedError
    return dataclasses.replace(value, dims=tuple(dims))


def permuted(value: Value, order: Sequence[int]) -> Value:
    """Return the view with dimensions reordered; negative numbers count from the last."""
    return dataclasses.replace(value, dims=tuple(value.dims[i] for i in order))


def unsqueezed(value: Value, dim: int) -> Value:
    """Return the view with a dimension of size 1 put before `dim` (torch's count, negative allowed)."""
    place = dim if dim >= 0 else dim + value.rank + 1
    return dataclasses.replace(value, dims=(*value.dims[:place], (), *value.dims[place:]))


def squeezed(value: Value, dims: Iterable[int] | None) -> Value:
    """Return the view without the given dimensions (all, if None) as far as their size is 1."""
    drop = set(range(value.rank)) if dims is None else {d % value.rank for d in dims}
    return dataclasses.replace(value, dims=tuple(g for i, g in enumerate(value.dims) if g or i not in drop))


def expanded(value: Value, sizes: Sequence[int]) -> Value:
    """Return the view with dimensions of size 1 broadcast to `sizes` (aligned at the last; others unchanged)."""
    dims = ((),) * (len(sizes) - value.rank) + value.dims
    wide = (g if g or size <= 1 else (Axis(size),) for g, size in zip(dims, sizes, strict=True))
    return dataclasses.replace(value, dims=tuple(wide))


def interleaved(value: Value, dim: int, repeats: int) -> Value:
    """Return the view with each element along `dim` occurring `repeats` times in a row."""
    dims = list(value.dims)
    if repeats > 1:
        dims[dim] = (*dims[dim], Axis(repeats))
    return dataclasses.replace(value, dims=tuple(dims))


def tiled(value: Value, repeats: Sequence[int]) -> Value:
    """Return the view with the whole extent of each dimension repeated (aligned at the last)."""
    dims = ((),) * (len(repeats) - value.rank) + value.dims
    wide = ((Axis(n), *g) if n > 1 else g for g, n in zip(dims, repeats, strict=True))
    return dataclasses.replace(value, dims=tuple(wide))


def without(value: Value, axes: Iterable[Axis]) -> Value:
    """Return the view without some broadcast axes, which become size 1."""
    drop = set(axes)
    return dataclasses.replace(value, dims=tuple(tuple(a for a in g if a not in drop) for g in value.dims))


def broadcasts(value: Value) -> frozenset[Axis]:
    """Return the axes that the view repeats, which the stored tensor does not have."""
    return frozenset(a for g in value.dims for a in g) - frozenset(value.base) - {BATCH}


def congruent(x: Value, y: Value) -> bool:
    """Return whether two views run over their stored tensors alike, so that these may be combined directly."""

    def plan(value: Value) -> tuple[list[int], list[list[int]]]:
        place = {axis: i for i, axis in enumerate((BATCH, *value.base))}
        return [axis.size for axis in value.base], [[place.get(axis, -1) for axis in g] for g in value.dims]

    return plan(x) == plan(y) and not broadcasts(x)
