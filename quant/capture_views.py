"""Capture of operations that only move data: views, parts, joins, repeats.

Contract: handlers as `quant.capture_ops` describes; views stay views (`quant.capture_axes`), parts are cut from the
stored tensor itself where its layout allows.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from quant import capture_axes as ax
from quant.capture_axes import BATCH, Value
from quant.capture_build import (
    Args,
    Builder,
    Handler,
    Slots,
    UnsupportedError,
    array_of,
    tensor_axis,
    value_of,
)


def _dim_sizes(a: Args) -> list[ax.Dim]:
    """Return the result's dimensions, which the driver adds to a view's arguments."""
    return list(a["result_dims"])


def _view(b: Builder, a: Args) -> Value:
    x, target = value_of(a["self"]), _dim_sizes(a)
    try:
        return ax.regroup(x, target)
    except ax.MisalignedError:
        pass
    if x.dims[:1] != ((BATCH,),) or target[:1] != [(1, True)] or any(batched for _, batched in target[1:]):
        raise UnsupportedError("it mixes the batch with other axes")
    flat = b.plain(x, x.rank - 1)
    return b.result(b.reshape(flat, [size for size, _ in target[1:]]))


def _transpose(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    order = list(range(x.rank))
    i, j = (a["dim0"], a["dim1"]) if "dim0" in a else (x.rank - 2, x.rank - 1)
    order[i], order[j] = order[j], order[i]
    return ax.permuted(x, order)


def _movedim(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    source, target = ([d] if isinstance(d, int) else list(d) for d in (a["source"], a["destination"]))
    moved = dict(zip((t % x.rank for t in target), (s % x.rank for s in source), strict=True))
    rest = iter(i for i in range(x.rank) if i not in moved.values())
    return ax.permuted(x, [moved[i] if i in moved else next(rest) for i in range(x.rank)])


def _expand(b: Builder, a: Args) -> Value:
    dims = _dim_sizes(a)
    x = value_of(a["self"])
    held = [False] * (len(dims) - x.rank) + [BATCH in g for g in x.dims]
    if [batched for _, batched in dims] != held:
        raise UnsupportedError("it repeats along the batch")
    return ax.expanded(x, [size for size, _ in dims])


def _repeat(b: Builder, a: Args) -> Value:
    x, repeats = value_of(a["self"]), [int(n) for n in a["repeats"]]
    lead = len(repeats) - x.rank
    if any(n != 1 and BATCH in x.dims[i - lead] for i, n in enumerate(repeats) if i >= lead):
        raise UnsupportedError("it repeats along the batch")
    return ax.tiled(x, repeats)


def _repeat_interleave(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    if a["dim"] is None or not isinstance(a["repeats"], int) or BATCH in x.dims[a["dim"]]:
        raise UnsupportedError("it repeats a varying number of times, or along the batch")
    return ax.interleaved(x, a["dim"], a["repeats"])


def part(b: Builder, x: Value, dim: int, start: int, stop: int, step: int = 1) -> Value:
    """Return elements start, start + step, .. below stop along one torch dimension."""
    group = x.dims[dim]
    size = ax.size_of(group)
    if (start, stop, step) == (0, size, 1):
        return x
    if BATCH in group:
        raise UnsupportedError("it takes a part of the batch")
    if len(group) == 1 and group[0] in x.base:
        found = _direct_part(b, x, dim, (start, stop, step))
        if found is not None:
            return found
    name, slots = b.frame(x)
    axis, shape = tensor_axis(slots, dim), b.shapes[name]
    return b.unframe(_slice_node(b, name, axis, start, min(stop, shape[axis]), step), slots)


def _direct_part(b: Builder, x: Value, dim: int, cut: tuple[int, int, int]) -> Value | None:
    """Cut the stored tensor itself where the axis is a whole one, an outer part, or (one place) an inner; else None."""
    axis = x.dims[dim][0]
    start, stop, step = cut
    sizes, axes = b.shapes[x.tensor], list(x.base)
    for place, size in enumerate(sizes):
        inner, atoms = 1, []
        while axes and inner < size:
            atoms.append(axes.pop(0))
            inner *= atoms[-1].size
        if axis not in atoms:
            continue
        new = ax.Axis(-(-(stop - start) // step))
        if atoms[0] is axis and inner == size and (step == 1 or len(atoms) == 1):
            rest = size // axis.size
            name = _slice_node(b, x.tensor, place, start * rest, stop * rest, step)
        elif atoms[-1] is axis and inner == size and new.size == 1:
            name = _slice_node(b, x.tensor, place, start, size, axis.size)
        else:
            return None
        swap = {axis: (new,) if new.size != 1 else ()}
        base = tuple(n for old in x.base for n in swap.get(old, (old,)))
        return Value(name, base, (*x.dims[:dim], swap[axis], *x.dims[dim + 1 :]))
    return None


def _slice_node(b: Builder, name: str, axis: int, start: int, stop: int, step: int) -> str:
    shape = b.shapes[name]
    starts = tuple(start if i == axis else 0 for i in range(len(shape)))
    stops = tuple(stop if i == axis else size for i, size in enumerate(shape))
    steps = tuple(step if i == axis else 1 for i in range(len(shape)))
    before = b.node(name)
    if before is not None and before.op == "slice":
        first, stride = before.attrs["start"], before.attrs["step"]
        ends = ((n - 1) * s + 1 for n, s in zip(stops, stride, strict=True))
        stops = tuple(f + e for f, e in zip(first, ends, strict=True))
        starts = tuple(f + n * s for f, n, s in zip(first, starts, stride, strict=True))
        steps = tuple(n * s for n, s in zip(steps, stride, strict=True))
        name = before.inputs[0]
    return b.emit("slice", (name,), {"start": starts, "stop": stops, "step": steps})


def _bounds(start: Any, stop: Any, size: int) -> tuple[int, int]:
    """Return Python's slice bounds, clipped into the axis."""
    first, last, _ = slice(start, stop).indices(size)
    return first, max(first, last)


def _slice(b: Builder, a: Args) -> Value:
    x, dim = value_of(a["self"]), int(a["dim"])
    if x.dims[dim] == (BATCH,):
        if a["start"] in (None, 0) and a["end"] in (None, 2**63 - 1) and a["step"] == 1:
            return x
        raise UnsupportedError("it takes a part of the batch")
    return part(b, x, dim % x.rank, *_bounds(a["start"], a["end"], ax.size_of(x.dims[dim])), int(a["step"]))


def _narrow(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    return part(b, x, a["dim"] % x.rank, a["start"], a["start"] + a["length"])


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Views stacked along a new first dimension, not yet joined: an LSTM's final states, layer by layer."""

    values: tuple[Value, ...]


def _select(b: Builder, a: Args) -> Value:
    if isinstance(a["self"], Stack):
        if a["dim"] == 0:
            return a["self"].values[a["index"]]
        a = {**a, "self": joined(b, a["self"])}
    x, dim = value_of(a["self"]), int(a["dim"])
    index = int(a["index"]) % max(1, ax.size_of(x.dims[dim]))
    dim %= x.rank
    return ax.squeezed(part(b, x, dim, index, index + 1), [dim])


def joined(b: Builder, stack: Stack) -> Value:
    """Return a stack as one view."""
    return concat(b, [ax.unsqueezed(v, 0) for v in stack.values], 0)


def _split(b: Builder, a: Args) -> tuple[Value, ...]:
    x = value_of(a["self"])
    dim = int(a["dim"]) % x.rank
    size = ax.size_of(x.dims[dim])
    if "chunks" in a:
        sizes: Any = -(-size // int(a["chunks"]))
    else:
        sizes = next(a[key] for key in ("split_size", "split_sizes") if key in a)
    if isinstance(sizes, int):
        sizes = [min(sizes, size - i) for i in range(0, size, sizes)]
    edges = np.cumsum([0, *sizes]).tolist()
    return tuple(part(b, x, dim, i, j) for i, j in itertools.pairwise(edges))


def _unbind(b: Builder, a: Args) -> tuple[Value, ...]:
    x, dim = value_of(a["self"]), int(a["dim"])
    return tuple(_select(b, {"self": x, "dim": dim, "index": i}) for i in range(ax.size_of(x.dims[dim])))


def concat(b: Builder, items: Sequence[Any], dim: int) -> Value:
    """Return views and constants joined along a torch dimension."""
    rank = next(v.rank for v in items if isinstance(v, Value))
    framed: list[tuple[str, Slots] | None] = [b.frame(v) if isinstance(v, Value) else None for v in items]
    slots = next(f[1] for f in framed if f is not None)
    if any(f is not None and f[1] != slots for f in framed):
        raise UnsupportedError("its operands have the batch in different places")
    axis = tensor_axis(slots, dim % rank)
    names = [
        f[0] if f is not None else b.constant(b.framed_constant(v, slots)) for v, f in zip(items, framed, strict=True)
    ]
    return b.unframe(b.emit("concat", names, {"axis": axis}), slots)


def _one_more(x: Any, dim: int) -> Any:
    """Return a view or a constant with a dimension of size 1 put before `dim`."""
    return ax.unsqueezed(x, dim) if isinstance(x, Value) else x.unsqueeze(dim)


def _pad(b: Builder, a: Args) -> Value:
    x, pads = value_of(a["self"]), [int(p) for p in a.get("pad", a.get("padding"))]
    mode = a.get("mode", "constant")
    if mode != "constant":
        for i in range(len(pads) // 2):
            dim = x.rank - 1 - i
            size = ax.size_of(x.dims[dim])
            x = gather(b, x, dim, _beyond(mode, np.arange(-pads[2 * i], size + pads[2 * i + 1]), size).tolist())
        return x
    for i in range(len(pads) // 2):
        dim = x.rank - 1 - i
        if min(pads[2 * i : 2 * i + 2]) < 0:
            x = part(b, x, dim, max(0, -pads[2 * i]), ax.size_of(x.dims[dim]) - max(0, -pads[2 * i + 1]))
    if max(pads) <= 0:
        return x
    name, slots = b.frame(x)
    before, after = [0] * len(b.shapes[name]), [0] * len(b.shapes[name])
    for i in range(len(pads) // 2):
        if max(pads[2 * i : 2 * i + 2]) > 0:
            axis = tensor_axis(slots, -1 - i)
            before[axis], after[axis] = max(0, pads[2 * i]), max(0, pads[2 * i + 1])
    attrs = {"before": tuple(before), "after": tuple(after), "value": float(a.get("value") or 0.0)}
    return b.unframe(b.emit("pad", (name,), attrs), slots)


def _beyond(mode: str, places: np.ndarray, size: int) -> np.ndarray:
    """Return what is read at places in front of and behind a line of `size` elements."""
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    if mode == "circular":
        return places % size
    if mode == "reflect":
        return size - 1 - np.abs(size - 1 - np.abs(places))
    raise UnsupportedError(f"its mode is {mode}; known are constant, reflect, replicate and circular")


def gather(b: Builder, x: Value, dim: int, src: Sequence[int]) -> Value:
    """Return elements src[0], src[1], .. along one torch dimension."""
    name, slots = b.frame(x)
    attrs = {"axis": tensor_axis(slots, dim), "src": tuple(int(i) for i in src)}
    return b.unframe(b.emit("duplicate", (name,), attrs), slots)


def _index_select(b: Builder, a: Args) -> Value:
    return gather(b, value_of(a["self"]), int(a["dim"]), array_of(a["index"], "index").astype(np.int64).tolist())


def _index(b: Builder, a: Args) -> Value:
    given = [(dim, index) for dim, index in enumerate(a["indices"]) if index is not None]
    x = value_of(a["self"])
    if not given or not all(isinstance(index, torch.Tensor) for _, index in given):
        raise UnsupportedError("its indices are computed, not constant")
    dims = [dim for dim, _ in given]
    if any(BATCH in x.dims[dim] for dim in dims) or dims != list(range(dims[0], dims[0] + len(dims))):
        raise UnsupportedError("it indexes along the batch, or along dimensions that are not next to each other")
    if any(index.dtype == torch.bool for _, index in given):
        if len(given) != 1 or given[0][1].ndim != 1:
            raise UnsupportedError("its mask has more than one dimension")
        return gather(b, x, dims[0], given[0][1].nonzero().flatten().tolist())
    sizes = [ax.size_of(x.dims[dim]) for dim in dims]
    lists = torch.broadcast_tensors(*(index % size for (_, index), size in zip(given, sizes, strict=True)))
    flat = np.ravel_multi_index([part.numpy() for part in lists], sizes)
    return _places(b, x, dims, flat)


def _places(b: Builder, x: Value, dims: Sequence[int], places: np.ndarray) -> Value:
    """Return elements by their places in some neighbouring dimensions, counted row by row."""
    name, slots = b.frame(x)
    axes = [tensor_axis(slots, dim) for dim in dims]
    shape = b.shapes[name]
    name = b.reshape(name, (*shape[: axes[0]], math.prod(shape[i] for i in axes), *shape[axes[-1] + 1 :]))
    attrs = {"axis": axes[0], "src": tuple(int(i) for i in places.ravel())}
    name = b.emit("duplicate", (name,), attrs)
    name = b.reshape(name, (*shape[: axes[0]], *places.shape, *shape[axes[-1] + 1 :]))
    return b.unframe(name, (*slots[: dims[0]], *(0 for _ in places.shape), *slots[dims[-1] + 1 :]))


def _flip(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    for dim in a["dims"]:
        x = gather(b, x, dim, range(ax.size_of(x.dims[dim]) - 1, -1, -1))
    return x


def _roll(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    for shift, dim in zip(a["shifts"], a["dims"], strict=True):
        size = ax.size_of(x.dims[dim])
        x = gather(b, x, dim, [(i - shift) % size for i in range(size)])
    return x


def _same(b: Builder, a: Args) -> Any:
    return a["self"] if "self" in a else a["input"]


def _chain(*steps: Callable[[Value, Args], Value]) -> Handler:
    def handler(b: Builder, a: Args) -> Value:
        x = value_of(a["self"])
        for step in steps:
            x = step(x, a)
        return x

    return handler


def _squeeze_dims(a: Args) -> Sequence[int] | None:
    dim = a.get("dim")
    return [dim] if isinstance(dim, int) else dim


def _mode_pad(name: str) -> Handler:
    mode = {"reflection_pad": "reflect", "replication_pad": "replicate"}[name]
    return lambda b, a: _pad(b, {**a, "pad": a["padding"], "mode": mode})


VIEWS: dict[str, Handler] = {
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view", "view_as", "reshape_as"), _view),
    **dict.fromkeys(("transpose", "t", "swapaxes", "mT"), _transpose),
    **dict.fromkeys(("movedim", "moveaxis"), _movedim),
    "permute": _chain(lambda x, a: ax.permuted(x, a["dims"])),
    "unsqueeze": _chain(lambda x, a: ax.unsqueezed(x, a["dim"])),
    "squeeze": _chain(lambda x, a: ax.squeezed(x, _squeeze_dims(a))),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expand),
    "repeat": _repeat,
    "repeat_interleave": _repeat_interleave,
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    **dict.fromkeys(("split", "chunk", "split_with_sizes", "unsafe_split", "unsafe_chunk"), _split),
    "unbind": _unbind,
    "index_select": _index_select,
    "index": _index,
    "flip": _flip,
    "roll": _roll,
    "stack": lambda b, a: concat(b, [_one_more(x, a["dim"]) for x in a["tensors"]], a["dim"]),
    "cat": lambda b, a: concat(b, a["tensors"], a["dim"]),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **{f"{mode}{nd}d": _mode_pad(mode) for mode in ("reflection_pad", "replication_pad") for nd in (1, 2)},
    **dict.fromkeys(
        ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "dropout", "feature_dropout", "alpha_dropout",
         "to", "_to_copy", "type_as"), _same,
    ),
}  # fmt: skip
"""Operations that only move data; the ones allowed on index inputs too."""
