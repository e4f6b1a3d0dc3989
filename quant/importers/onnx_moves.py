"""Operators of a quantized ONNX file that move codes, or take their maximum: the same on codes and on real values."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Duplicate, MaxPool, Pad, Reshape, Slice
from quant.importers.onnx_attributes import pad_widths, read_beyond, split_sizes
from quant.importers.onnx_fold import axes_of, reshape_target, slice_limits
from quant.importers.onnx_geometry import resize_places, window
from quant.importers.onnx_grids import put, settled
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_quant_ops import ceil_pads
from quant.importers.onnx_sums import pair, sides
from quant.importers.onnx_values import Codes, Curve, Given, Grid, Held, Moved, Real, Scaled, Waiting, Weights
from quant.importers.onnx_walk import axis_of, keeps_batch
from quant.importers.onnx_writer import Writer

Ints = NDArray[np.int64]
Move = Callable[[Writer, OnnxNode, Codes, str], Codes]


def _source(writer: Writer, node: OnnxNode) -> tuple[Held, Codes]:
    require(node.inputs[0] in writer.values, f"reads {node.inputs[0]!r}, which is not quantized")
    held = writer.values[node.inputs[0]]
    require(isinstance(held, Real | Codes), "moves values that are not quantized yet")
    assert isinstance(held, Real | Codes)
    return held, held.codes if isinstance(held, Real) else held


def _keep(writer: Writer, name: str, held: Held, codes: Codes) -> None:
    if isinstance(held, Real):
        writer.values[name] = replace(held, codes=codes)
    else:
        writer.values[name] = writer.named[name] = codes


def _rule(move: Move) -> Callable[[Writer, OnnxNode], None]:
    def rule(writer: Writer, node: OnnxNode) -> None:
        later = writer.values.get(node.inputs[0])
        if isinstance(later, Moved):
            writer.values[node.outputs[0]] = replace(later, moves=(*later.moves, (node, move)))
            return
        if isinstance(later, Given | Scaled | Curve | Waiting):
            writer.values[node.outputs[0]] = Moved(later, ((node, move),))
            return
        if isinstance(later, Weights) and node.op == "Identity":
            writer.values[node.outputs[0]] = later
            return
        held, codes = _source(writer, node)
        _keep(writer, node.outputs[0], held, move(writer, node, codes, node.outputs[0]))

    return rule


def _same(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    return codes


def reshaped(writer: Writer, codes: Codes, shape: tuple[int, ...], name: str) -> Codes:
    """Write codes in another shape, given in the file's order of axes."""
    require(len(shape) >= 1 and min(shape) >= 1, f"gives samples of shape {shape}")
    source = writer.plain(codes)
    require(math.prod(shape) == writer.tensor(source).size, f"cannot bring {writer.tensor(source).shape} into {shape}")
    name = writer.free(name)
    writer.like(source, name, shape)
    writer.emit(Reshape, (source.name,), name, shape=shape)
    return replace(codes, name=name, layout=tuple(range(len(shape))))


def _reshape(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    whole = (writer.batch, *writer.sample_of(codes))
    shape = reshape_target(writer.constant(node, 1), whole, bool(node.attrs.get("allowzero", 0)))
    return reshaped(writer, codes, keeps_batch(shape, writer.batch), name)


def _flatten(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    require(node.attrs.get("axis", 1) in (1, -len(codes.layout)), "flattens the batch")
    return reshaped(writer, codes, (math.prod(writer.sample_of(codes)),), name)


def _squeeze(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    shape = writer.sample_of(codes)
    axes = axes_of(node, writer.constant_inputs(node))
    gone = {i for i, d in enumerate(shape) if d == 1} if axes is None else {axis_of(a, len(shape) + 1) for a in axes}
    require(all(shape[i] == 1 for i in gone), f"squeezes axes {axes} of {shape}")
    return reshaped(writer, codes, tuple(d for i, d in enumerate(shape) if i not in gone), name)


def _unsqueeze(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    axes, shape = axes_of(node, writer.constant_inputs(node)) or (), list(writer.sample_of(codes))
    for axis in sorted(axis_of(a, len(shape) + 1 + len(axes)) for a in axes):
        shape.insert(axis, 1)
    return reshaped(writer, codes, tuple(shape), name)


def _transpose(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    """Permute by reading the same codes in another order of axes: nothing moves until somebody needs it to."""
    rank = len(codes.layout) + 1
    order = tuple(node.attrs.get("perm", reversed(range(rank))))
    require(
        sorted(order) == list(range(rank)) and order[0] == 0,
        f"permutes axes {order}, the batch among them; export with the batch first, or give the torch module",
    )
    inner = [axis - 1 for axis in order[1:]]
    return replace(codes, layout=tuple(inner.index(axis) for axis in codes.layout))


def _max_pool(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    require(len(node.outputs) == 1 or not node.outputs[1], "gives the indices of maxima, which are not computed")
    source, sizes = writer.as_map(codes), writer.sample_of(codes)[1:]
    found = window(node, sizes, node.attrs["kernel_shape"])
    after = ceil_pads(node, found, sizes)
    pixels = tuple(
        (n + b + a - d * (k - 1) - 1) // s + 1
        for n, b, a, k, s, d in zip(sizes, found.before, after, found.kernel, found.stride, found.dilation, strict=True)
    )
    name = writer.free(name)
    writer.like(source, name, (*pixels, writer.sample_of(codes)[0]))
    writer.emit(
        MaxPool,
        (source.name,),
        name,
        kernel=pair(found.kernel, 1),
        stride=pair(found.stride, 1),
        padding=sides(found.before, after),
        dilation=pair(found.dilation, 1),
    )
    return replace(codes, name=name, layout=source.layout)


def cut_part(writer: Writer, codes: Codes, limits: list[slice], name: str) -> Codes:
    """Write a part of codes; the limits are in the file's order of axes."""
    shape = writer.tensor(codes).shape
    parts = [limits[axis].indices(size) for axis, size in zip(codes.layout, shape, strict=True)]
    require(all(step > 0 and stop > start for start, stop, step in parts), f"slices {limits} of {shape}")
    start, stop, step = (tuple(part[i] for part in parts) for i in range(3))
    name = writer.free(name)
    writer.like(codes, name, tuple(-(-(b - a) // s) for a, b, s in parts))
    writer.emit(Slice, (codes.name,), name, start=start, stop=stop, step=step)
    return replace(codes, name=name)


def _split(writer: Writer, node: OnnxNode) -> None:
    held, codes = _source(writer, node)
    shape = writer.sample_of(codes)
    axis, start = axis_of(node.attrs.get("axis", 0), len(shape) + 1), 0
    for name, size in zip(node.outputs, split_sizes(writer, node, shape[axis]), strict=True):
        limits = [slice(start, start + size) if i == axis else slice(None) for i in range(len(shape))]
        _keep(writer, name, held, cut_part(writer, codes, limits, name))
        start += size


def _pad(writer: Writer, node: OnnxNode) -> None:
    if node.attrs.get("mode", "constant") != "constant":
        _rule(_pad_by_reading)(writer, node)
        return
    held = writer.values.get(node.inputs[0])
    if isinstance(held, Codes):  # the value is a code itself
        _, _, value = pad_widths(writer, node, len(held.layout) + 1)
        stored = writer.values.get(node.inputs[2]) if len(node.inputs) > 2 else None
        value = float(stored.values.item()) if isinstance(stored, Weights) else value
        codes = _bordered(writer, node, held, value, node.outputs[0])
        _keep(writer, node.outputs[0], held, codes)
        return
    if isinstance(held, Real):
        value = _pad_code(writer, node, held.codes, held.scale, held.zero)
        codes = _bordered(writer, node, held.codes, value, node.outputs[0])
        _keep(writer, node.outputs[0], held, codes)
        return
    _rule(_padded)(writer, node)


def _padded(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    """Pad what is on its grid by now."""
    return _bordered(writer, node, codes, _pad_code(writer, node, codes, codes.scale or 1.0, codes.zero), name)


def _pad_code(writer: Writer, node: OnnxNode, codes: Codes, scale: float, zero: int) -> float:
    """Return the code of a Pad's value.

    Raises
    ------
    ValueError
        If no code stands for it.
    """
    _, _, value = pad_widths(writer, node, len(codes.layout) + 1)
    code = float(np.rint(np.float32(value) / np.float32(scale)) + zero)
    again = np.float32(code - zero) * np.float32(scale)
    require(bool(again == np.float32(value)), f"pads by {value}, which is on no code of its grid; pad by 0")
    return code


def _bordered(writer: Writer, node: OnnxNode, codes: Codes, code: float, name: str) -> Codes:
    tensor = writer.tensor(codes)
    before, after, _ = pad_widths(writer, node, len(tensor.shape) + 1)
    require(min((*before, *after)) >= 0, f"cuts by negative pads {before}, {after}")
    require(tensor.low <= code <= tensor.high, f"pads by code {code}, outside {tensor.low}..{tensor.high}")
    widths = tuple((before[axis], after[axis]) for axis in codes.layout)
    name = writer.free(name)
    writer.like(codes, name, tuple(n + a + b for n, (a, b) in zip(tensor.shape, widths, strict=True)))
    writer.emit(Pad, (codes.name,), name, widths=widths, value=int(code))
    return replace(codes, name=name)


def gathered(writer: Writer, codes: Codes, axis: int, src: Ints, name: str) -> Codes:
    """Write elements src[0], src[1], .. along an axis (file's order), which is brought last."""
    source = writer.in_layout(codes, (*(a for a in codes.layout if a != axis), axis))
    tensor = writer.tensor(source)
    name, zeros = writer.free(name), np.zeros(src.size, dtype=np.int64)
    writer.like(source, name, (*tensor.shape[:-1], src.size))
    writer.emit(
        Duplicate, (source.name,), name, source=src, offset=zeros, shift=zeros, low=tensor.low, high=tensor.high
    )  # fmt: skip
    return replace(source, name=name)


def _gather(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    """Take elements by constant indices of any shape, which then stand in the place of the axis."""
    index, shape = writer.constant(node, 1), writer.sample_of(codes)
    axis = axis_of(node.attrs.get("axis", 0), len(shape) + 1)
    inside = index.dtype.kind in "iu" and bool(np.all((index >= -shape[axis]) & (index < shape[axis])))
    require(inside and index.size > 0, f"gathers by indices beyond the {shape[axis]} there are")
    taken = gathered(writer, codes, axis, index.reshape(-1).astype(np.int64) % shape[axis], name)
    if index.ndim == 1:
        return taken
    return reshaped(writer, taken, (*shape[:axis], *index.shape, *shape[axis + 1 :]), f"{name}.shaped")


def _along(writer: Writer, codes: Codes, sources: list[Any], name: str) -> Codes:
    """Take elements along every axis for which there is a list."""
    for axis, src in enumerate(sources):
        size = writer.sample_of(codes)[axis]
        if src is not None and not np.array_equal(src, np.arange(size)):
            codes = gathered(writer, codes, axis, np.asarray(src, dtype=np.int64), f"{name}.{axis}")
    return codes


def _depth_to_space(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    block = int(node.attrs["blocksize"])
    channels, height, width = writer.sample_of(codes)
    count, deep = channels // block**2, node.attrs.get("mode", "DCR") == "DCR"
    wide = (block, block, count, height, width) if deep else (count, block, block, height, width)
    order = (2, 3, 0, 4, 1) if deep else (0, 3, 1, 4, 2)
    return _shuffled(writer, codes, (wide, order, (count, height * block, width * block)), name)


def _space_to_depth(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    block = int(node.attrs["blocksize"])
    channels, height, width = writer.sample_of(codes)
    wide = (channels, height // block, block, width // block, block)
    after = (channels * block**2, height // block, width // block)
    return _shuffled(writer, codes, (wide, (2, 4, 0, 1, 3), after), name)


def _shuffled(writer: Writer, codes: Codes, way: tuple[tuple[int, ...], ...], name: str) -> Codes:
    """Reshape, permute, reshape."""
    wide, order, after = way
    parts = reshaped(writer, codes, wide, f"{name}.wide")
    turned = replace(parts, layout=tuple(order.index(axis) for axis in parts.layout))
    return reshaped(writer, turned, after, name)


def _tile(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    repeats = [int(n) for n in writer.constant(node, 1).ravel()]
    require(repeats[0] == 1, "repeats the batch")
    sizes = writer.sample_of(codes)
    return _along(writer, codes, [list(range(d)) * n for d, n in zip(sizes, repeats[1:], strict=True)], name)


def _expand(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    shape = (writer.batch, *writer.sample_of(codes))
    target = np.broadcast_shapes(shape, tuple(int(d) for d in writer.constant(node, 1).ravel()))
    require(len(target) == len(shape) and target[0] == shape[0], f"expands samples of {shape} to {target}")
    src = [None if a == b else (0,) * b for a, b in zip(shape[1:], target[1:], strict=True)]
    return _along(writer, codes, src, name)


def _nearest(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    places = resize_places(writer, node, (writer.batch, *writer.sample_of(codes)))
    require(places[0] is None, "resizes the batch")
    return _along(writer, codes, places[1:], name)


def _pad_by_reading(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    """Pad with what is inside the map."""
    sizes, mode = writer.sample_of(codes), str(node.attrs["mode"])
    plain = replace(node, attrs={**node.attrs, "mode": "constant"})
    before, after, _ = pad_widths(writer, plain, len(sizes) + 1)
    lines = (np.arange(-b, n + a) for n, b, a in zip(sizes, before, after, strict=True))
    return _along(writer, codes, [read_beyond(mode, p, n) for p, n in zip(lines, sizes, strict=True)], name)


def _largest_along(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    """Take the maximum over axes: quantizing keeps order."""
    shape = writer.sample_of(codes)
    axes = axes_of(node, writer.constant_inputs(node)) if node.op == "ReduceMax" else range(2, len(shape) + 1)
    require(bool(axes), "takes the maximum over the batch")
    inner = sorted({axis_of(a, len(shape) + 1) for a in axes or ()})
    rest = tuple(a for a in range(len(shape)) if a not in inner)
    count, others = math.prod(shape[a] for a in inner), math.prod(shape[a] for a in rest)
    source = writer.in_layout(codes, (*inner, *rest))
    flat, best = writer.free(f"{name}.rows"), writer.free(f"{name}.largest")
    writer.like(source, flat, (count, 1, others))
    writer.emit(Reshape, (source.name,), flat, shape=(count, 1, others))
    writer.like(source, best, (1, 1, others))
    writer.emit(MaxPool, (flat,), best, kernel=(count, 1), stride=(count, 1))
    kept = node.op != "ReduceMax" or bool(node.attrs.get("keepdims", 1))
    after = tuple(1 if i in inner else d for i, d in enumerate(shape) if kept or i not in inner)
    return reshaped(writer, replace(codes, name=best, layout=(0, 1, 2)), after, name)


def _slice_any(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    """Slice; backwards by reading."""
    sizes = writer.sample_of(codes)
    limits = slice_limits(node, writer.constant_inputs(node), (writer.batch, *sizes))
    require(limits[0].indices(writer.batch) == (0, writer.batch, 1), "slices the batch")
    if all((part.step or 1) > 0 for part in limits[1:]):
        return cut_part(writer, codes, limits[1:], name)
    return _along(writer, codes, [np.arange(n)[part] for n, part in zip(sizes, limits[1:], strict=True)], name)


def resize(writer: Writer, node: OnnxNode) -> None:
    """Resize: nearest by reading; else what it gives must wait for its grid."""
    if node.attrs.get("mode", "nearest") == "nearest":
        _rule(_nearest)(writer, node)
        return
    value, mode = writer.values.get(node.inputs[0]), node.attrs["mode"]
    require(mode == "linear", f"resizes by {mode}; nearest and linear are known")
    if isinstance(value, Codes) and value.scale is not None:  # codes in, codes out, on one grid
        tensor, held = writer.tensor(value), Real(value, value.scale, value.zero)
        grid = Grid(value.scale, value.zero, tensor.bits, tensor.signed, tensor.low, tensor.high)
        put(writer, node, Waiting(node, (held,)), grid, node.outputs[0])
        return
    if isinstance(value, Scaled | Curve | Waiting | Moved):
        value = settled(writer, value, node.inputs[0])
    require(isinstance(value, Real), "resizes values that are not quantized yet; quantize them first")
    writer.values[node.outputs[0]] = Waiting(node, (value,))


RULES: dict[str, Callable[[Writer, OnnxNode], Any]] = {
    "Identity": _rule(_same), "Dropout": _rule(_same), "Reshape": _rule(_reshape), "Flatten": _rule(_flatten),
    "Squeeze": _rule(_squeeze), "Unsqueeze": _rule(_unsqueeze), "Transpose": _rule(_transpose),
    "MaxPool": _rule(_max_pool), "Slice": _rule(_slice_any), "Split": _split, "Pad": _pad, "Gather": _rule(_gather),
    "DepthToSpace": _rule(_depth_to_space), "SpaceToDepth": _rule(_space_to_depth), "Tile": _rule(_tile),
    "Resize": resize, "Upsample": resize, "Expand": _rule(_expand),
    "ReduceMax": _rule(_largest_along), "GlobalMaxPool": _rule(_largest_along),
}  # fmt: skip
