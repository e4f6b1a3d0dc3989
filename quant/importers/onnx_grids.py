"""QuantizeLinear, DequantizeLinear and QONNX's Quant: how values of a quantized ONNX file get on and off a grid."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.arith import code_range
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_rules import dequantize
from quant.importers.onnx_values import (
    CODE_DTYPES,
    Codes,
    Curve,
    Given,
    Grid,
    Held,
    Moved,
    Port,
    Real,
    Scaled,
    Waiting,
    Weights,
)
from quant.importers.onnx_writer import Writer


def one_number(writer: Writer, node: OnnxNode, place: int, default: Any = None) -> Any:
    """Return a constant input that must be a single number."""
    value = writer.constant(node, place, default)
    require(value.size == 1, f"has {value.size} scales or zero points as input {place}; one is known")
    return value.reshape(-1)[0]


def grid_at(writer: Writer, node: OnnxNode, scale: int, zero: int) -> Grid:
    """Return the grid that a node's inputs (numbers of scale and zero point) describe."""
    dtype = np.dtype(np.uint8)
    if zero < len(node.inputs) and node.inputs[zero]:
        dtype = writer.constant(node, zero).dtype
    elif node.attrs.get("output_dtype", 0):
        dtype = np.dtype({2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}.get(node.attrs["output_dtype"], "float32"))
    require(dtype.name in CODE_DTYPES, f"quantizes to {dtype.name}; known are {', '.join(CODE_DTYPES)}")
    bits, signed = CODE_DTYPES[dtype.name]
    factor = float(np.float32(one_number(writer, node, scale)))
    require(np.isfinite(factor) and factor > 0, f"has the scale {factor}; a positive number is needed")
    return Grid(factor, int(one_number(writer, node, zero, dtype.type(0))), bits, signed, *code_range(bits, signed))


def quantize_linear(writer: Writer, node: OnnxNode) -> None:
    """QuantizeLinear of weights, an input, or what float operators left behind."""
    if node.inputs[0] in writer.constants or isinstance(writer.values.get(node.inputs[0]), Weights):
        _quantize_weights(writer, node)
        return
    put(writer, node, writer.values[node.inputs[0]], grid_at(writer, node, 1, 2), node.outputs[0])


def put(writer: Writer, node: OnnxNode, value: Held, grid: Grid, name: str) -> None:
    """Bring a real value onto a grid as tensor `name`."""
    if isinstance(value, Moved):
        put(writer, node, value.value, grid, writer.free(f"{name}.before"))
        codes = writer.named.popitem()[1]
        doubtful = codes.name in writer.parts.inexact
        for i, (moving, move) in enumerate(value.moves):
            codes = move(writer, moving, codes, writer.free(name if i == len(value.moves) - 1 else f"{name}.{i}"))
        if doubtful:
            writer.parts.inexact.add(codes.name)
    elif isinstance(value, Given):
        codes = writer.declare_input(name, value.shape, grid)
        item = writer.model.inputs[value.index]
        writer.parts.inputs.append(Port(item.name, codes.name, codes.layout, np.array([grid.scale]), grid.zero))
    elif isinstance(value, Real):
        codes = writer.curve(value, None, grid, name)
    elif isinstance(value, Curve):
        codes = writer.curve(value.source, value.function, grid, name)
        if not value.exact:
            writer.remark(
                codes.name, f"{name!r} follows a function within an ulp of {writer.runtime.name}'s, not to the bit"
            )
    elif isinstance(value, Scaled):
        codes = _put_sums(writer, node, value, grid, name)
    elif isinstance(value, Waiting):
        _note_doubt(writer, value, grid, name)
        finish = writer.runtime.finish.get(value.node.op)
        require(finish is not None, f"quantizes what {value.node} gives, which has no integer form; leave it in float")
        assert finish is not None
        codes = finish(writer, value, writer.clipped(grid, value.low, value.high), name)
    else:
        raise ValueError("quantizes what are codes already")
    writer.values[name] = codes
    writer.named[name] = codes


MIDWAY_BITS = 16


def settled(writer: Writer, value: Held, name: str) -> Real | None:
    """Bring a float step that no QuantizeLinear follows onto 16 bits, which hold all it can be; ``None`` if unknown."""
    inner = value.value if isinstance(value, Moved) else value
    reach = _reach(writer, inner)
    if reach is None or not np.isfinite(reach):
        return None
    low, high = code_range(MIDWAY_BITS, True)
    grid = Grid(max(reach, 1e-30) / high, 0, MIDWAY_BITS, True, low, high)
    label = writer.free(f"{name}.midway")
    before = dict(writer.named)
    put(writer, OnnxNode(name, "QuantizeLinear", (name,), (label,), {}), value, grid, label)
    codes = writer.values.pop(label)
    writer.named.clear()
    writer.named.update(before)  # no tensor of the file
    assert isinstance(codes, Codes)
    writer.parts.midway.add(codes.name)
    writer.remark(codes.name, f"{name!r} is float32 in {writer.runtime.name}; here it has {MIDWAY_BITS} bits")
    return Real(codes, grid.scale, 0)


def _reach(writer: Writer, value: Held) -> float | None:
    """Return a bound on the magnitude of a float step."""
    if isinstance(value, Curve):
        tensor = writer.tensor(value.source.codes)
        codes = np.arange(tensor.low, tensor.high + 1)
        values = value.function(dequantize(codes, value.source.scale, value.source.zero))
        finite = np.abs(np.asarray(values, dtype=np.float64))
        return float(finite[np.isfinite(finite)].max(initial=0.0))
    if isinstance(value, Scaled):
        bias = 0.0 if value.bias is None else np.abs(value.bias)
        most = float((writer.tensor(value).magnitude * np.asarray(value.scale, np.float64) + bias).max())
        return min(most, max(abs(value.low), abs(value.high)))
    if isinstance(value, Waiting):
        return _joined_reach(writer, value)
    return None


_KEEPING = ("AveragePool", "GlobalAveragePool", "ReduceMean", "Concat", "Resize", "Max", "Min")
"""Operators whose results lie within the range of what they read."""


def _largest_number(writer: Writer, name: str) -> float:
    """Return the largest magnitude of a constant, quantized or not."""
    held = writer.values.get(name)
    numbers = held.real() if isinstance(held, Weights) else writer.constants.get(name, np.zeros(1))
    return float(np.abs(numbers).max(initial=0.0))


_NORMS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization")


def _joined_reach(writer: Writer, value: Waiting) -> float | None:
    """Return a bound on the magnitude of what several tensors are joined to."""
    ends = []
    for held in value.operands:
        if isinstance(held, Weights):
            ends.append(float(np.abs(held.real()).max(initial=0.0)))
        elif isinstance(held, Real):
            tensor = writer.tensor(held.codes)
            ends.append(max(abs(tensor.low - held.zero), abs(tensor.high - held.zero)) * held.scale)
        else:
            return None
    if value.node.op in _KEEPING:
        return max(ends)
    if value.node.op in ("Add", "Sub", "Sum"):
        return sum(ends)
    if value.node.op in _NORMS:  # a row of n values has none above √n, once normalized
        most = [_largest_number(writer, name) for name in value.node.inputs[1:3]]
        return math.sqrt(math.prod(writer.sample_of(value.operands[0]))) * most[0] + sum(most[1:])
    if value.node.op == "PRelu":
        return ends[0] * max(1.0, _largest_number(writer, value.node.inputs[1]))
    return math.prod(ends) if value.node.op == "Mul" else None


def _note_doubt(writer: Writer, value: Scaled | Waiting, grid: Grid, name: str) -> None:
    doubt = writer.runtime.doubt(writer, value, grid)
    if doubt:
        writer.remark(name, f"{name!r} {doubt}")


def _put_sums(writer: Writer, node: OnnxNode, value: Scaled, grid: Grid, name: str) -> Codes:
    _note_doubt(writer, value, grid, name)
    multiplier = writer.runtime.multiplier(value.scale, grid.scale)
    return writer.requantized(value, multiplier, grid, name, value.low, value.high)


def _quantize_weights(writer: Writer, node: OnnxNode) -> None:
    held = writer.values.get(node.inputs[0])
    real = held.real() if isinstance(held, Weights) else writer.constant(node, 0)
    scale = writer.constant(node, 1).astype(np.float32).reshape(-1)
    zero = writer.optional(node, 2)
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    require(dtype.name in CODE_DTYPES, f"quantizes weights to {dtype.name}")
    bits, signed = CODE_DTYPES[dtype.name]
    zeros = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64).reshape(-1)
    blank = Weights(np.zeros(real.shape, np.int64), scale, zeros, int(node.attrs.get("axis", 1)), bits, signed)
    quotient = real.astype(np.float32) / blank.along(scale)
    codes = np.clip(np.rint(quotient) + blank.along(zeros), *code_range(bits, signed)).astype(np.int64)
    writer.values[node.outputs[0]] = replace(blank, values=codes)


def dequantize_linear(writer: Writer, node: OnnxNode) -> None:
    """DequantizeLinear of stored or computed codes."""
    if node.inputs[0] in writer.constants or isinstance(writer.values.get(node.inputs[0]), Weights):
        writer.values[node.outputs[0]] = stored_weights(writer, node, 0, 1, 2, int(node.attrs.get("axis", 1)))
        return
    codes = writer.values[node.inputs[0]]
    require(isinstance(codes, Codes), "dequantizes what are no codes")
    assert isinstance(codes, Codes)
    scale, zero = float(np.float32(one_number(writer, node, 1))), int(one_number(writer, node, 2, 0))
    writer.values[node.outputs[0]] = Real(codes, scale, zero)


def stored_weights(writer: Writer, node: OnnxNode, place: int, scale: int | None, zero: int, axis: int = 0) -> Weights:
    """Return a node's stored codes with scales (ones if `scale` is ``None``) and zero points, `axis` the channels'."""
    name = node.inputs[place]
    held = writer.values.get(name)
    if isinstance(held, Weights):
        return held
    values = writer.constant(node, place)
    require(values.dtype.kind in "iu", f"needs codes as input {place}, which is {values.dtype}")
    bits, signed = CODE_DTYPES.get(values.dtype.name, (32, True))
    bits = writer.model.widths.get(name, bits)
    scales = np.ones(1, np.float32) if scale is None else writer.constant(node, scale).astype(np.float32).reshape(-1)
    zeros = writer.optional(node, zero)
    numbers = np.zeros(1, np.int64) if zeros is None else zeros.astype(np.int64).reshape(-1)
    axis %= max(1, values.ndim)
    if scales.size > 1 or numbers.size > 1:
        require(
            values.ndim > 0 and {scales.size, numbers.size} <= {1, values.shape[axis]},
            f"has {scales.size} scales and {numbers.size} zero points for weights of shape {values.shape}",
        )
    require(bool(np.all(np.isfinite(scales)) and np.all(scales > 0)), "has weights whose scales are not positive")
    return Weights(values.astype(np.int64), scales, numbers, axis, bits, signed)


def qonnx_quant(writer: Writer, node: OnnxNode) -> None:
    """QONNX's Quant (Pappalardo et al., arXiv:2206.07527): onto a grid of any width and off again."""
    bits = int(one_number(writer, node, 3))
    signed, narrow = bool(node.attrs.get("signed", 1)), bool(node.attrs.get("narrow", 0))
    mode = str(node.attrs.get("rounding_mode", "ROUND")).upper()
    require(2 <= bits <= 16, f"has {bits} bits; 2..16 are known")
    require(mode in ("ROUND", "HALF_EVEN", "ROUND_HALF_EVEN"), f"rounds by {mode}; half to even is known")
    low, high = code_range(bits, signed)
    low, high = (low + int(signed), high - int(not signed)) if narrow else (low, high)
    name = node.outputs[0]
    if node.inputs[0] in writer.constants:
        scale = writer.constant(node, 1).astype(np.float32)
        zero = writer.constant(node, 2)
        real = writer.constant(node, 0)
        wide = [i for i, d in enumerate(scale.shape) if d > 1]
        require(len(wide) <= 1 and (not wide or scale.ndim == real.ndim), f"has scales of shape {scale.shape}")
        codes = np.clip(np.rint(real.astype(np.float32) / scale + zero.astype(np.float32)), low, high).astype(np.int64)
        axis = wide[0] if wide else 0
        numbers = zero.astype(np.int64).reshape(-1)
        writer.values[name] = Weights(codes, scale.reshape(-1), numbers, axis, bits, signed)
        return
    grid = Grid(
        float(np.float32(one_number(writer, node, 1))), int(one_number(writer, node, 2)), bits, signed, low, high
    )
    require(grid.scale > 0, f"has the scale {grid.scale}; a positive number is needed")
    put(writer, node, writer.values[node.inputs[0]], grid, name)
    codes_of = writer.named[name]
    writer.values[name] = Real(codes_of, grid.scale, grid.zero)
