"""Float operators between DequantizeLinear and QuantizeLinear that join codes: sums, products, means, softmax."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Add, AvgPool, Concat, Constant, Mul, Requantize, Reshape, Softmax
from quant.importers.onnx_fold import axes_of
from quant.importers.onnx_geometry import Window, window
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_rules import add_offset, composed_scale, mean_scale, quantize
from quant.importers.onnx_sums import pair, sides
from quant.importers.onnx_values import Codes, Grid, Real, Scaled, Waiting, Weights
from quant.importers.onnx_walk import axis_of
from quant.importers.onnx_writer import Runtime, Writer

Array = NDArray[Any]

EXP_BITS = 24
SOFTMAX_BITS = 16


def operands(writer: Writer, value: Waiting) -> list[Real]:
    """Return the operands as codes in one layout, stored ones as tensors."""
    ranks = [len(v.codes.layout) for v in value.operands if isinstance(v, Real)]
    require(bool(ranks), "joins constants alone")
    found = []
    for i, held in enumerate(value.operands):
        if isinstance(held, Weights):
            codes = writer.stored(held, f"{value.node.outputs[0]}.{i}", max(ranks))
            held = Real(codes, float(np.float32(codes.scale)), codes.zero)
        require(len(held.codes.layout) == max(ranks), "broadcasts samples of different ranks")
        found.append(held)
    layouts = [held.codes.layout for held in found if writer.tensor(held.codes).size > 1] or [found[0].codes.layout]
    return [replace(held, codes=writer.in_layout(held.codes, layouts[0])) for held in found]


def _broadcast(writer: Writer, first: Real, second: Real) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(*(writer.tensor(held.codes).shape for held in (first, second))))


def _repeats(writer: Writer, held: Real) -> bool:
    """Tell whether ONNX Runtime repeats one code of this operand along the file's last axis."""
    return writer.sample_of(held.codes)[-1] == 1


def _wide(writer: Writer, value: Waiting, grid: Grid) -> bool:
    """Tell whether codes of more than 8 bits are read or given, for which ONNX Runtime has no integer operators."""
    read = [writer.tensor(held.codes).bits for held in value.operands if isinstance(held, Real)]
    return max((grid.bits, *read, *(held.bits for held in value.operands if isinstance(held, Weights)))) > 8


def _add(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    if _wide(writer, value, grid):
        return _plain_add(writer, value, grid, name)
    first, second = operands(writer, value)
    shape = _broadcast(writer, first, second)
    swap = _repeats(writer, first) and not _repeats(writer, second)  # the repeated code goes into the offset first
    order = (second, first) if swap else (first, second)
    ratios = tuple(float(np.float32(held.scale) / np.float32(grid.scale)) for held in (first, second))
    offset = add_offset((ratios[0], ratios[1]), (first.zero, second.zero), grid.zero)
    multipliers = ratios if order[0] is first else ratios[::-1]
    writer.codes_tensor(name, shape, grid)
    writer.emit(
        Add,
        (order[0].codes.name, order[1].codes.name),
        name,
        multipliers=(multipliers[0], multipliers[1]),
        zero_points=(0, 0),
        zero_out=0,
        low=grid.low,
        high=grid.high,
        rule="float32_fma",
        multiplier_out=offset,
    )
    return Codes(name, first.codes.layout, grid.scale, grid.zero)


def _plain_add(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Sum of two or more, or a difference, in plain float32."""
    held = operands(writer, value)
    signs = (1, -1) if value.node.op == "Sub" else (1, 1)
    require(len(held) == 2, f"joins {len(held)} tensors; two are known")
    ratios = tuple(float(np.float32(v.scale) / np.float32(grid.scale)) for v in held)
    if np.frexp(grid.scale)[0] != 0.5:
        writer.remark(name, f"{name!r} is divided by its scale after the sum, which is done before it here")
    writer.codes_tensor(name, _broadcast(writer, *held), grid)
    writer.emit(
        Add,
        (held[0].codes.name, held[1].codes.name),
        name,
        multipliers=(abs(ratios[0]), abs(ratios[1])),
        zero_points=(held[0].zero, held[1].zero),
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
        signs=(-signs[0] if ratios[0] < 0 else signs[0], -signs[1] if ratios[1] < 0 else signs[1]),
    )
    return Codes(name, held[0].codes.layout, grid.scale, grid.zero)


def _mul(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Product: exact, scaled in float32, and the zero point added before rounding, as QLinearMul does."""
    first, second = operands(writer, value)
    shape = _broadcast(writer, first, second)
    zeros = (first.zero, second.zero)
    tensors = [writer.tensor(held.codes) for held in (first, second)]
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip(tensors, zeros, strict=True)]
    product = writer.free(f"{name}.product")
    writer.sums_tensor(product, shape, reach[0] * reach[1])
    writer.emit(Mul, (first.codes.name, second.codes.name), product, zero_points=zeros)
    multiplier = composed_scale(first.scale, second.scale, grid.scale)
    writer.codes_tensor(name, shape, grid)
    layout = first.codes.layout
    if grid.zero == 0:
        writer.emit(
            Requantize, (product,), name, multiplier=multiplier, low=grid.low, high=grid.high, zero_out=0
        )  # fmt: skip
        return Codes(name, layout, grid.scale, grid.zero)
    shift = writer.free(f"{name}.zero")
    ones = (1,) * len(shape)
    writer.codes_tensor(shift, ones, replace(grid, low=grid.zero, high=grid.zero))
    writer.emit(Constant, (), shift, values=np.full(ones, grid.zero, dtype=np.int64))
    writer.emit(
        Add,
        (product, shift),
        name,
        multipliers=(float(multiplier[0]), 1.0),
        zero_points=(0, 0),
        zero_out=0,
        low=grid.low,
        high=grid.high,
    )
    return Codes(name, layout, grid.scale, grid.zero)


def _one_operand(value: Waiting) -> Real:
    require(len(value.operands) == 1 and isinstance(value.operands[0], Real), "has other than one operand")
    held = value.operands[0]
    assert isinstance(held, Real)
    return held


def ceil_pads(node: OnnxNode, found: Window, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the padding behind each axis that makes the windows of ceil_mode whole ones."""
    if not node.attrs.get("ceil_mode", 0):
        return found.after
    after = []
    for n, k, s, d, b, a in zip(
        sizes, found.kernel, found.stride, found.dilation, found.before, found.after, strict=True
    ):
        reach = n + b + a - d * (k - 1) - 1
        count = -(-reach // s) + 1
        count -= int((count - 1) * s >= n + b)
        after.append(max(a, (count - 1) * s + d * (k - 1) + 1 - n - b))
    return tuple(after)


def _average(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    node, held = value.node, _one_operand(value)
    source = writer.as_map(held.codes)
    sizes = writer.sample_of(held.codes)[1:]
    found = window(node, sizes, node.attrs["kernel_shape"])
    require(set(found.dilation) == {1}, f"averages with dilation {found.dilation}")
    after = ceil_pads(node, found, sizes)
    pixels = tuple(
        (n + b + a - k) // s + 1
        for n, b, a, k, s in zip(sizes, found.before, after, found.kernel, found.stride, strict=True)
    )
    shape = (*pixels, writer.sample_of(held.codes)[0])
    writer.codes_tensor(name, shape, grid)
    writer.emit(
        AvgPool,
        (source.name,),
        name,
        kernel=pair(found.kernel, 1),
        stride=pair(found.stride, 1),
        padding=sides(found.before, after),
        count_padding=bool(node.attrs.get("count_include_pad", 0)),
        multiplier=float(np.float32(held.scale)),
        divisor=grid.scale,
        zero_in=held.zero,
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
        rule="float32_window",
    )
    return Codes(name, source.layout, grid.scale, grid.zero)


def _global_average(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    held = _one_operand(value)
    return _whole_mean(writer, held, writer.as_map(held.codes), grid, name)


def _whole_mean(writer: Writer, held: Real, source: Codes, grid: Grid, name: str) -> Codes:
    """Write the mean over all of a map but its channels."""
    shape = writer.tensor(source).shape
    require(len(shape) in (2, 3), f"takes the mean of a map of shape {shape}; 1-d and 2-d maps are known")
    size = pair(shape[:-1], 1)
    count = size[0] * size[1]
    writer.codes_tensor(name, (*(1 for _ in shape[:-1]), shape[-1]), grid)
    writer.emit(
        AvgPool,
        (source.name,),
        name,
        kernel=size,
        stride=(1, 1),
        multiplier=mean_scale(held.scale, grid.scale, count) * count,
        zero_in=held.zero,
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
    )
    return Codes(name, source.layout, grid.scale, grid.zero)


def _reduce_mean(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Mean over the axes of a map: ONNX Runtime adds real numbers here, in an order of its own."""
    node, held = value.node, _one_operand(value)
    sample = writer.sample_of(held.codes)
    axes = axes_of(node, writer.constant_inputs(node))
    require(bool(axes), "takes the mean over the batch")
    inner = tuple(sorted({axis_of(a, len(sample) + 1) for a in axes or ()}))
    rest = tuple(a for a in range(len(sample)) if a not in inner)
    source = writer.in_layout(held.codes, (*inner, *rest))
    writer.remark(name, f"{name!r} is a mean of real numbers in {writer.runtime.name}; here of their exact sum")
    count = math.prod(sample[a] for a in inner)
    if len(rest) != 1:
        rows = writer.free(f"{name}.rows")
        writer.like(source, rows, (count, math.prod(sample[a] for a in rest)))
        writer.emit(Reshape, (source.name,), rows, shape=writer.parts.tensors[rows].shape)
        source = Codes(rows, (1, 0))
    held = replace(held, scale=held.scale * count) if node.op == "ReduceSum" else held
    kept = bool(node.attrs.get("keepdims", 1))
    if kept and len(rest) == 1:
        return _whole_mean(writer, held, source, grid, name)
    done = _whole_mean(writer, held, source, grid, writer.free(f"{name}.kept"))
    shape = tuple(1 if i in inner else d for i, d in enumerate(sample) if kept or i not in inner)
    writer.codes_tensor(name, shape, grid)
    writer.emit(Reshape, (done.name,), name, shape=shape)
    return Codes(name, tuple(range(len(shape))), grid.scale, grid.zero)


def mark_joined(writer: Writer, held: list[Real], parts: list[Codes], name: str) -> None:
    """Mark what is put together of parts that may differ from the runtime's, and are no tensors of the file."""
    written = {part.name for part, source in zip(parts, held, strict=True) if part.name != source.codes.name}
    if written & writer.parts.inexact:
        writer.parts.inexact.add(name)


def _concat(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    held = operands(writer, value)
    layout = held[0].codes.layout
    axis = axis_of(value.node.attrs["axis"], len(layout) + 1)
    parts = [writer.curve(v, None, grid, writer.free(f"{name}.{i}")) for i, v in enumerate(held)]
    shapes = [writer.tensor(part).shape for part in parts]
    place = layout.index(axis)
    shape = tuple(sum(s[i] for s in shapes) if i == place else d for i, d in enumerate(shapes[0]))
    mark_joined(writer, held, parts, name)
    writer.codes_tensor(name, shape, grid)
    writer.emit(Concat, tuple(part.name for part in parts), name, axis=place)
    return Codes(name, layout, grid.scale, grid.zero)


def _softmax(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Softmax by integers; ONNX Runtime adds float32 exponentials."""
    held = _one_operand(value)
    rank = len(held.codes.layout)
    default = -1 if writer.model.opset >= 13 else 1
    axis = axis_of(value.node.attrs.get("axis", default), rank + 1)
    source = writer.in_layout(held.codes, (*(a for a in range(rank) if a != axis), axis))
    tensor = writer.tensor(source)
    steps = np.exp(-np.arange(tensor.high - tensor.low + 1) * float(held.scale)) * 2**EXP_BITS
    shares = writer.free(f"{name}.shares")
    writer.codes_tensor(shares, tensor.shape, Grid(2.0**-SOFTMAX_BITS, 0, SOFTMAX_BITS, False, 0, 2**SOFTMAX_BITS - 1))
    exponentials = np.rint(steps).astype(np.int64)
    writer.emit(Softmax, (source.name,), shares, exponentials=exponentials, out_bits=SOFTMAX_BITS)
    codes = writer.curve(Real(Codes(shares, source.layout), 2.0**-SOFTMAX_BITS, 0), None, grid, name)
    writer.remark(
        codes.name, f"{name!r} is a softmax of float32 exponentials in {writer.runtime.name}; here of integers"
    )
    return codes


FINISH: dict[str, Callable[[Writer, Waiting, Grid, str], Codes]] = {
    "Add": _add,
    "Sum": _plain_add,
    "Sub": _plain_add,
    "Mul": _mul,
    "AveragePool": _average,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _reduce_mean,
    "ReduceSum": _reduce_mean,
    "Concat": _concat,
    "Softmax": _softmax,
}


_INTEGER = ("Mul", "AveragePool", "GlobalAveragePool")
"""What ONNX Runtime has an integer operator for, of codes of 8 bits, and is followed here."""


def _doubt(writer: Writer, value: Scaled | Waiting, grid: Grid) -> str:
    ends = [(code - grid.zero) * grid.scale for code in (grid.low, grid.high)]
    clips = value.low > ends[0] or value.high < ends[1]
    wide = "reads or gives codes of more than 8 bits, which ONNX Runtime computes with in float32"
    if isinstance(value, Waiting):
        if value.node.op in _INTEGER and _wide(writer, value, grid):
            return wide
        return "is clipped before it is quantized, where ONNX Runtime goes on in float32" if clips else ""
    if value.steps or value.bias is not None or clips:
        return "takes float steps behind exact sums (bias, scale or activation) in fewer roundings"
    layer = next((op for op in writer.parts.ops if op.output == value.name), None)
    read = [] if layer is None else [writer.parts.tensors[name].bits for name in layer.inputs]
    return wide if max((grid.bits, *read)) > 8 else ""


ONNX_RUNTIME = Runtime(
    name="ONNX Runtime",
    quantize=quantize,
    multiplier=lambda scales, out: np.asarray(scales / np.float32(out), dtype=np.float64),
    finish=FINISH,
    doubt=_doubt,
)
"""ONNX Runtime on a CPU, see `quant.importers.onnx_rules`."""
