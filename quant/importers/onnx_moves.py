"""Operators of a quantized ONNX file that move codes, or take their maximum: the same on codes and on real values."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.program import Duplicate, MaxPool, Pad, Reshape, Slice
from quant.importers.onnx_attributes import pad_widths, split_sizes
from quant.importers.onnx_fold import axes_of, reshape_target, slice_limits
from quant.importers.onnx_geometry import window
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_quant_ops import ceil_pads
from quant.importers.onnx_sums import pair, sides
from quant.importers.onnx_walk import axis_of, keeps_batch
from quant.importers.onnx_writer import Codes, Curve, Given, Held, Moved, Real, Scaled, Waiting, Weights, Writer

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
    require(sorted(order) == list(range(rank)) and order[0] == 0, f"permutes axes {order}, the batch among them")
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


def _cut(writer: Writer, codes: Codes, limits: list[slice], name: str) -> Codes:
    """Write a part of codes; the limits are in the file's order of axes."""
    shape = writer.tensor(codes).shape
    parts = [limits[axis].indices(size) for axis, size in zip(codes.layout, shape, strict=True)]
    require(all(step > 0 and stop > start for start, stop, step in parts), f"slices {limits} of {shape}")
    start, stop, step = (tuple(part[i] for part in parts) for i in range(3))
    name = writer.free(name)
    writer.like(codes, name, tuple(-(-(b - a) // s) for a, b, s in parts))
    writer.emit(Slice, (codes.name,), name, start=start, stop=stop, step=step)
    return replace(codes, name=name)


def _slice(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    limits = slice_limits(node, writer.constant_inputs(node), (writer.batch, *writer.sample_of(codes)))
    require(limits[0].indices(writer.batch) == (0, writer.batch, 1), "slices the batch")
    return _cut(writer, codes, limits[1:], name)


def _split(writer: Writer, node: OnnxNode) -> None:
    held, codes = _source(writer, node)
    shape = writer.sample_of(codes)
    axis, start = axis_of(node.attrs.get("axis", 0), len(shape) + 1), 0
    for name, size in zip(node.outputs, split_sizes(writer, node, shape[axis]), strict=True):
        limits = [slice(start, start + size) if i == axis else slice(None) for i in range(len(shape))]
        _keep(writer, name, held, _cut(writer, codes, limits, name))
        start += size


def _pad(writer: Writer, node: OnnxNode) -> None:
    held, codes = _source(writer, node)
    tensor = writer.tensor(codes)
    before, after, value = pad_widths(writer, node, len(tensor.shape) + 1)
    require(min((*before, *after)) >= 0, f"cuts by negative pads {before}, {after}")
    code = value
    if isinstance(held, Real):
        code = np.rint(np.float32(value) / np.float32(held.scale)) + held.zero
        again = np.float32(code - held.zero) * np.float32(held.scale)
        require(bool(again == np.float32(value)), f"pads by {value}, which is on no code of its grid")
    require(tensor.low <= code <= tensor.high, f"pads by code {code}, outside {tensor.low}..{tensor.high}")
    widths = tuple((before[axis], after[axis]) for axis in codes.layout)
    name = writer.free(node.outputs[0])
    writer.like(codes, name, tuple(n + a + b for n, (a, b) in zip(tensor.shape, widths, strict=True)))
    writer.emit(Pad, (codes.name,), name, widths=widths, value=int(code))
    _keep(writer, node.outputs[0], held, replace(codes, name=name))


def _gather(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
    index, shape = writer.constant(node, 1), writer.sample_of(codes)
    axis = axis_of(node.attrs.get("axis", 0), len(shape) + 1)
    inside = bool(np.all((index >= -shape[axis]) & (index < shape[axis])))
    require(index.ndim == 1 and inside, f"gathers by indices of shape {index.shape} along {shape[axis]}")
    last = (*(a for a in codes.layout if a != axis), axis)
    source = writer.in_layout(codes, last)
    tensor = writer.tensor(source)
    chosen = index.astype(np.int64) % shape[axis]
    name = writer.free(name)
    writer.like(source, name, (*tensor.shape[:-1], chosen.size))
    zeros = np.zeros(chosen.size, dtype=np.int64)
    writer.emit(
        Duplicate, (source.name,), name, source=chosen, offset=zeros, shift=zeros, low=tensor.low, high=tensor.high
    )
    return replace(codes, name=name, layout=last)


RULES: dict[str, Callable[[Writer, OnnxNode], Any]] = {
    "Identity": _rule(_same), "Dropout": _rule(_same), "Reshape": _rule(_reshape), "Flatten": _rule(_flatten),
    "Squeeze": _rule(_squeeze), "Unsqueeze": _rule(_unsqueeze), "Transpose": _rule(_transpose),
    "MaxPool": _rule(_max_pool), "Slice": _rule(_slice), "Split": _split, "Pad": _pad, "Gather": _rule(_gather),
}  # fmt: skip
