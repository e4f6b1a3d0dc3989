"""Random TensorFlow Lite files of operators that move codes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from tflite_draws import Case, Rng, kind, scale, zero
from tflite_files import O, T


def shape_of(rng: Rng, rank: int = 3, low: int = 2, high: int = 7) -> tuple[int, ...]:
    return (1, *rng.integers(low, high, rank).tolist())


def moved(rng: Rng, name: str, shapes: list[tuple[int, ...]], lists: tuple[Any, ...] = (), **options: Any) -> Case:
    """Return an operator with one input of codes, stored lists of integers behind it, and outputs on one grid."""
    dtype = kind(rng)
    grid = (dtype, scale(rng, 0.05, 0.3), zero(rng, dtype))
    stored = [T(np.shape(v), "int32", None, 0, v) for v in lists]
    tensors = [T(shapes[0], *grid), *stored, *(T(s, *grid) for s in shapes[1:])]
    inputs, n = tuple(range(len(stored) + 1)), len(stored) + 1
    outputs = tuple(range(n, n + len(shapes) - 1))
    return tensors, [O(name, inputs, outputs, options)], [0], list(outputs)


def transpose(rng: Rng) -> Case:
    shape = shape_of(rng, int(rng.integers(2, 5)))
    axes = [0, *(1 + rng.permutation(len(shape) - 1)).tolist()]
    return moved(rng, "transpose", [shape, tuple(shape[a] for a in axes)], (axes,))


def blocks(rng: Rng, name: str) -> Case:
    block, (h, w, c) = int(rng.integers(1, 4)), rng.integers(1, 5, 3).tolist()
    deep, wide = (1, h, w, c * block**2), (1, h * block, w * block, c)
    return moved(rng, name, [wide, deep] if name == "space_to_depth" else [deep, wide], block=block)


def slice_(rng: Rng) -> Case:
    shape = shape_of(rng)
    begin = [0, *(int(rng.integers(0, n)) for n in shape[1:])]
    size = [1, *(int(rng.integers(1, n - b + 1)) for b, n in zip(begin[1:], shape[1:], strict=True))]
    told = [-1 if rng.integers(4) == 0 and b + s == n else s for b, s, n in zip(begin, size, shape, strict=True)]
    return moved(rng, "slice", [shape, tuple(size)], (begin, told))


def strided_slice(rng: Rng) -> Case:
    """All that numpy's basic indexing says: masks, negative places and steps, new axes, axes that go, an ellipsis."""
    shape = shape_of(rng)
    source, index = np.zeros(shape), []
    entries: list[tuple[int, int, int]] = []
    masks = dict.fromkeys(("begin", "end", "ellipsis", "new_axis", "shrink"), 0)
    axis, cut = 0, int(rng.integers(1, 5))
    for i in range(cut):
        place = 1 << i
        if axis and rng.integers(6) == 0 and not masks["new_axis"]:
            masks["new_axis"] |= place
            entries.append((0, 0, 1))
            index.append(None)
            continue
        if axis and rng.integers(6) == 0 and not masks["ellipsis"] and i == cut - 1:
            masks["ellipsis"] |= place
            entries.append((0, 0, 1))
            index.append(Ellipsis)
            continue
        n = shape[axis]
        begin, end, step = *sorted(rng.choice(n + 1, 2, replace=False).tolist()), int(rng.integers(1, 3))
        if axis == 0:
            begin, end, step = 0, 1, 1
        elif rng.integers(4) == 0:
            masks["shrink"] |= place
            entries.append((begin - (n if rng.integers(2) else 0), begin + 1, 1))
            index.append(begin)
            axis += 1
            continue
        elif rng.integers(4) == 0:
            begin, end, step = end - 1, begin - 1 - n if begin == 0 else begin - 1, -step
        whole = [bool(rng.integers(4) == 0) for _ in range(2)]
        masks["begin"] |= place * whole[0]
        masks["end"] |= place * whole[1]
        entries.append((begin, end, step))
        index.append(slice(None if whole[0] else begin, None if whole[1] else end, step))
        axis += 1
    found = source[tuple(index)]
    lists = tuple([e[i] for e in entries] for i in range(3))
    if found.size == 0 or found.ndim < 2:
        return strided_slice(rng)
    return moved(rng, "strided_slice", [shape, found.shape], lists, **masks)


def split(rng: Rng) -> Case:
    shape, axis = list(shape_of(rng)), int(rng.integers(1, 4))
    count = int(rng.integers(1, 5))
    part = tuple(shape)
    shape[axis] *= count
    tensors, (op,), _, outputs = moved(rng, "split", [tuple(shape), *[part] * count], (axis - 4,), count=count)
    return tensors, [O("split", (1, 0), op.outputs, op.options)], [0], outputs


def split_v(rng: Rng) -> Case:
    shape, axis = list(shape_of(rng)), int(rng.integers(1, 4))
    sizes = rng.integers(1, 4, int(rng.integers(1, 5))).tolist()
    shape[axis] = sum(sizes)
    parts = [tuple(n if i == axis else m for i, m in enumerate(shape)) for n in sizes]
    told = [-1, *sizes[1:]] if rng.integers(2) else sizes
    return moved(rng, "split_v", [tuple(shape), *parts], (told, axis), count=len(sizes))


def unpack(rng: Rng) -> Case:
    shape, axis = shape_of(rng), int(rng.integers(1, 4))
    part = tuple(n for i, n in enumerate(shape) if i != axis)
    return moved(rng, "unpack", [shape, *[part] * shape[axis]], count=shape[axis], axis=axis)


def pack(rng: Rng) -> Case:
    dtype = kind(rng)
    grid = (dtype, scale(rng, 0.05, 0.3), zero(rng, dtype))
    shape, count, axis = shape_of(rng, 2), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    tensors = [*(T(shape, *grid) for _ in range(count)), T((*shape[:axis], count, *shape[axis:]), *grid)]
    op = O("pack", tuple(range(count)), (count,), {"count": count, "axis": axis})
    return tensors, [op], list(range(count)), [count]


def mirror_pad(rng: Rng) -> Case:
    shape, mode = shape_of(rng), int(rng.integers(2))
    widths = [[0, 0], *([int(rng.integers(0, n + mode)) for _ in range(2)] for n in shape[1:])]
    padded = tuple(n + sum(w) for n, w in zip(shape, widths, strict=True))
    return moved(rng, "mirror_pad", [shape, padded], (widths,), mode=mode)


def tile(rng: Rng) -> Case:
    shape, times = shape_of(rng), [1, *rng.integers(1, 4, 3).tolist()]
    return moved(rng, "tile", [shape, tuple(n * t for n, t in zip(shape, times, strict=True))], (times,))


def gather(rng: Rng) -> Case:
    shape, axis = shape_of(rng), int(rng.integers(1, 4))
    chosen = rng.integers(0, shape[axis], int(rng.integers(1, 9))).tolist()
    given: Any = chosen if rng.integers(3) else chosen[0]
    found = np.take(np.zeros(shape), given, axis).shape
    return moved(rng, "gather", [shape, found], (given,), axis=axis)


def nearest(rng: Rng) -> Case:
    (h, w, c), factors = rng.integers(1, 7, 3).tolist(), rng.integers(1, 4, 2).tolist()
    size = [h * factors[0], w * factors[1]] if rng.integers(2) else rng.integers(1, 15, 2).tolist()
    align, half = [(False, False), (True, False), (False, True)][int(rng.integers(3))]
    options = {"align_corners": align, "half_pixel": half}
    return moved(rng, "resize_nearest_neighbor", [(1, h, w, c), (1, *size, c)], (size,), **options)


def bilinear(rng: Rng) -> Case:
    (h, w, c), factors = rng.integers(1, 6, 3).tolist(), (2 ** rng.integers(0, 5, 2)).tolist()
    size = [h * factors[0], w * factors[1]]
    return moved(rng, "resize_bilinear", [(1, h, w, c), (1, *size, c)], (size,), half_pixel=bool(rng.integers(2)))


def cast(rng: Rng) -> Case:
    shape = shape_of(rng)
    tensors, (op,), inputs, outputs = moved(rng, "cast", [shape, shape])
    number = 9 if tensors[0].dtype == "int8" else 3
    return tensors, [O("cast", op.inputs, op.outputs, {"from": number, "to": number})], inputs, outputs


def reverse(rng: Rng) -> Case:
    shape = shape_of(rng)
    return moved(rng, "reverse_v2", [shape, shape], ([int(rng.integers(1, 4))],))


def squeezed(rng: Rng) -> Case:
    """The shape of a RESHAPE computed in the file, as converters write it where the batch is open."""
    dtype = kind(rng)
    grid = (dtype, scale(rng, 0.05, 0.3), zero(rng, dtype))
    shape = shape_of(rng)
    flat = shape[1] * shape[2] * shape[3]
    lists = [T((1,), "int32", None, 0, [v]) for v in (0, 1, 1)]
    count = T((), "int32", None, 0, flat)
    tensors = [T(shape, *grid), T((4,), "int32", None), *lists, T((), "int32", None), count, T((2,), "int32", None)]
    ops = [
        O("shape", (0,), (1,), {"to": 2}), O("strided_slice", (1, 2, 3, 4), (5,), {"shrink": 1}),
        O("pack", (5, 6), (7,), {"count": 2, "axis": 0}), O("reshape", (0, 7), (8,)),
    ]  # fmt: skip
    return [*tensors, T((1, flat), *grid)], ops, [0], [8]


MOVES: dict[str, Callable[[Rng], Case]] = {
    "cast": cast,
    "depth_to_space": partial(blocks, name="depth_to_space"),
    "gather": gather,
    "mirror_pad": mirror_pad,
    "pack": pack,
    "resize_bilinear": bilinear,
    "resize_nearest": nearest,
    "reverse": reverse,
    "shape_arithmetic": squeezed,
    "slice": slice_,
    "space_to_depth": partial(blocks, name="space_to_depth"),
    "split": split,
    "split_v": split_v,
    "strided_slice": strided_slice,
    "tile": tile,
    "transpose": transpose,
    "unpack": unpack,
}
