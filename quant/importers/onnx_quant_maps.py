"""Transposed convolutions, resizing, normalizations and maxima between DequantizeLinear and QuantizeLinear.

ONNX Runtime computes these in float32, in an order of its own; here they are exact sums or integer algorithms that are
rounded once, so a code may differ where a value lies near a tie. That is remarked upon; maxima are exact.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import half_up
from accelsim.program import (
    Add,
    Clamp,
    Concat,
    Constant,
    MaxPool,
    Mul,
    Norm,
    Requantize,
    Reshape,
    Table,
    norm_reach,
)
from quant.grid import Grid as FloatGrid
from quant.importers.onnx_geometry import resize_places
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_moves import gathered, reshaped
from quant.importers.onnx_quant_ops import mark_joined, operands
from quant.importers.onnx_values import Codes, Grid, Real, Scaled, Waiting, Weights
from quant.importers.onnx_walk import axis_of
from quant.importers.onnx_writer import Writer
from quant.lower_norm import norm_widths

Array = NDArray[Any]
Ints = NDArray[np.int64]

FACTOR_BITS = 16
"""Width of stored factors and offsets of 8-bit codes, and of gains."""

TAP_BITS = 10
"""Fraction bits of the weights of a linear interpolation of 8-bit codes."""

MIDDLE_BITS = 16
"""Width of what lies between two steps on 8-bit codes."""

EXTRA_BITS = 8
"""By how much all of these are wider where codes of more than 8 bits are read or given."""


def real_numbers(writer: Writer, node: OnnxNode, place: int) -> Array | None:
    """Return a constant input as float32, quantized or not; ``None`` where it is left out."""
    name = node.inputs[place] if place < len(node.inputs) else ""
    held = writer.values.get(name)
    if isinstance(held, Weights):
        return held.real()
    return None if not name else writer.constant(node, place).astype(np.float32)


def _given(writer: Writer, node: OnnxNode, place: int) -> Array:
    found = real_numbers(writer, node, place)
    require(found is not None, f"lacks input {place}")
    assert found is not None
    return found


def wait_for_grid(writer: Writer, node: OnnxNode) -> None:
    """Leave an operator of one dequantized tensor until it is known what grid its result goes to."""
    value = writer.values.get(node.inputs[0])
    require(isinstance(value, Real), f"reads {node.inputs[0]!r}, which is not quantized; quantize it too")
    writer.values[node.outputs[0]] = Waiting(node, (value,))


# --- factors and offsets per channel ---------------------------------------------------------------------------------


def _extra(writer: Writer, codes: Codes, grid: Grid) -> int:
    """Return the further bits that steps between two grids need to be exact within a code of either."""
    return EXTRA_BITS if max(writer.tensor(codes).bits, grid.bits) > 8 else 0


def _stored(writer: Writer, name: str, numbers: Array, codes: Codes, bits: int) -> Real:
    """Write numbers that run along the first axis of samples as codes of a width."""
    flat = np.asarray(numbers, dtype=np.float64).reshape(-1)
    top = 2 ** (bits - 1) - 1
    scale = max(float(np.abs(flat).max()), 1e-30) / top
    values = half_up(flat / scale).astype(np.int64)
    shape = [1] * len(codes.layout)
    shape[codes.layout.index(0)] = flat.size
    name = writer.free(name)
    grid = Grid(scale, 0, bits, True, int(values.min()), int(values.max()))
    writer.codes_tensor(name, tuple(shape), grid)
    writer.emit(Constant, (), name, values=values.reshape(shape))
    return Real(Codes(name, codes.layout, scale, 0), scale, 0)


def _product(writer: Writer, held: Real, factors: Real, name: str) -> str:
    """Write the exact products of codes and stored factors."""
    first, second = writer.tensor(held.codes), writer.tensor(factors.codes)
    reach = max(abs(first.low - held.zero), abs(first.high - held.zero)) * second.magnitude
    name = writer.free(name)
    writer.sums_tensor(name, tuple(np.broadcast_shapes(first.shape, second.shape)), reach)
    return writer.emit(Mul, (held.codes.name, factors.codes.name), name, zero_points=(held.zero, 0))


def _sum(writer: Writer, parts: tuple[tuple[str, float, int], ...], grid: Grid, name: str) -> None:
    """Write the sum of two tensors, given as (name, scale, zero point), rounded once onto a grid."""
    shapes = [writer.parts.tensors[part[0]].shape for part in parts]
    writer.codes_tensor(name, tuple(np.broadcast_shapes(*shapes)), grid)
    writer.emit(
        Add,
        tuple(part[0] for part in parts),
        name,
        multipliers=(parts[0][1] / grid.scale, parts[1][1] / grid.scale),
        zero_points=(parts[0][2], parts[1][2]),
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
    )


def _affine(writer: Writer, held: Real, numbers: tuple[Array, Array], grid: Grid, name: str) -> Codes:
    """Write codes times factors plus offsets, per channel or one."""
    bits = FACTOR_BITS + _extra(writer, held.codes, grid)
    factors, offsets = (
        _stored(writer, f"{name}.{what}", n, held.codes, bits) for what, n in zip("wb", numbers, strict=True)
    )
    acc = _product(writer, held, factors, f"{name}.product")
    parts = ((acc, held.scale * factors.scale, 0), (offsets.codes.name, offsets.scale, 0))
    _sum(writer, parts, grid, name)
    return Codes(name, held.codes.layout, grid.scale, grid.zero)


def _doubtful(writer: Writer, name: str, what: str) -> None:
    writer.remark(name, f"{name!r} is a {what} of float32 steps in {writer.runtime.name}; here of integers")


def batch_norm(writer: Writer, node: OnnxNode) -> None:
    """BatchNormalization by itself: of exact sums another scale, of codes factors and offsets."""
    value = writer.values.get(node.inputs[0])
    if not isinstance(value, Scaled):
        wait_for_grid(writer, node)
        return
    factors, offsets = _normalizing(writer, node)
    require(
        value.low == -np.inf and value.high == np.inf and bool((factors > 0).all()),
        "normalizes sums behind an activation, or by factors that are not positive; run quant_pre_process first",
    )
    bias = offsets if value.bias is None else value.bias * factors + offsets
    scale = np.asarray(value.scale * factors, dtype=np.float32)
    writer.values[node.outputs[0]] = replace(value, scale=scale, bias=bias.astype(np.float32), steps=value.steps + 1)


def _normalizing(writer: Writer, node: OnnxNode) -> tuple[Array, Array]:
    weight, bias, mean, var = (_given(writer, node, i).astype(np.float64) for i in (1, 2, 3, 4))
    factors = weight / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
    return factors, bias - mean * factors


def _batch_norm(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    _doubtful(writer, name, "batch normalization")
    return _affine(writer, value.operands[0], _normalizing(writer, value.node), grid, name)


def _prelu(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Leaky ReLU of several slopes: max(x, 0) + slope · min(x, 0)."""
    held: Real = value.operands[0]
    tensor = writer.tensor(held.codes)
    middle = min(max(held.zero, tensor.low), tensor.high)
    parts = []
    above, below = min(held.zero, tensor.high), max(held.zero, tensor.low)  # one part is nothing if zero is no code
    for part, low, high, zero in (("above", middle, tensor.high, above), ("below", tensor.low, middle, below)):
        label = writer.free(f"{name}.{part}")
        writer.parts.tensors[label] = replace(tensor, name=label, low=low, high=high)
        writer.emit(Clamp, (held.codes.name,), label, low=low, high=high)
        parts.append(replace(held, codes=replace(held.codes, name=label), zero=zero))
    slopes = _given(writer, value.node, 1)
    require(
        max(slopes.shape, default=1) == slopes.size, f"has slopes of shape {slopes.shape}; one per channel is known"
    )
    bits = FACTOR_BITS + _extra(writer, held.codes, grid)
    stored = _stored(writer, f"{name}.slope", slopes, held.codes, bits)
    acc = _product(writer, parts[1], stored, f"{name}.product")
    _doubtful(writer, name, "leaky ReLU")
    pair = ((parts[0].codes.name, held.scale, parts[0].zero), (acc, held.scale * stored.scale, 0))
    _sum(writer, pair, grid, name)
    return Codes(name, held.codes.layout, grid.scale, grid.zero)


# --- norms -----------------------------------------------------------------------------------------------------------

FRACTION_BITS = 14


def _norm(writer: Writer, rows: Codes, held: Real, numbers: tuple[Array, Array, float], name: str) -> Scaled:
    """Write the integer layer norm of the last axis; the result are sums on a scale of their own."""
    gain, shift, eps = numbers
    tensor = writer.tensor(rows)
    top = 2 ** (FACTOR_BITS - 1) - 1
    unit = max(float(np.abs(gain).max()), 1e-30) / top
    gains = half_up(np.asarray(gain, np.float64) / unit).astype(np.int64)
    source = FloatGrid(
        tensor.bits, tensor.signed, np.array([held.scale]), np.array([held.zero]), tensor.low, tensor.high
    )
    widths = norm_widths(tensor, source, eps, True, FRACTION_BITS)
    scale = unit * 2.0**-widths.fraction_bits
    bias = half_up(np.asarray(shift, np.float64) / scale).astype(np.int64)
    reach = norm_reach(tensor.shape[-1], widths.fraction_bits, widths.epsilon) * top + int(np.abs(bias).max())
    name = writer.free(name)
    writer.sums_tensor(name, tensor.shape, reach)
    writer.parts.inexact.discard(name)  # wider than any runtime's sums, but no product of the array
    writer.emit(
        Norm,
        (rows.name,),
        name,
        gain=gains,
        bias=bias,
        gain_bits=FACTOR_BITS,
        zero_in=held.zero,
        epsilon=widths.epsilon,
        fraction_bits=widths.fraction_bits,
        root_shift=widths.root_shift,
        center=True,
    )
    return Scaled(name, tuple(range(len(tensor.shape))), np.array([scale], np.float32))


def _onto(writer: Writer, sums: Scaled, grid: Grid, name: str) -> Codes:
    writer.codes_tensor(name, writer.tensor(sums).shape, grid)
    multiplier = np.asarray(sums.scale, np.float64) / grid.scale
    writer.emit(
        Requantize, (sums.name,), name, multiplier=multiplier, low=grid.low, high=grid.high, zero_out=grid.zero
    )  # fmt: skip
    return Codes(name, sums.layout, grid.scale, grid.zero)


def _layer_norm(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    held: Real = value.operands[0]
    source = writer.plain(held.codes)
    shape = writer.tensor(source).shape
    axis = axis_of(value.node.attrs.get("axis", -1), len(shape) + 1)
    n = math.prod(shape[axis:])
    rows = reshaped(writer, source, (*shape[:axis], n), f"{name}.rows") if axis < len(shape) - 1 else source
    gain, shift = _given(writer, value.node, 1), real_numbers(writer, value.node, 2)
    shift = np.zeros(1) if shift is None else shift
    full = tuple(np.broadcast_to(part, shape[axis:]).reshape(-1) for part in (gain, shift))
    sums = _norm(writer, rows, held, (full[0], full[1], float(value.node.attrs.get("epsilon", 1e-5))), f"{name}.norm")
    _doubtful(writer, name, "layer normalization")
    if axis == len(shape) - 1:
        return _onto(writer, sums, grid, name)
    return reshaped(writer, _onto(writer, sums, grid, f"{name}.flat"), shape, name)


def _instance_norm(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Normalize each channel, or group of channels, then multiply and add per channel."""
    held: Real = value.operands[0]
    node, source = value.node, writer.plain(held.codes)
    shape = writer.tensor(source).shape
    groups = int(node.attrs.get("num_groups", shape[0]))
    n = math.prod(shape) // groups
    numbers = (np.ones(n), np.zeros(n), float(node.attrs.get("epsilon", 1e-5)))
    sums = _norm(writer, reshaped(writer, source, (groups, n), f"{name}.rows"), held, numbers, f"{name}.norm")
    bits = MIDDLE_BITS + _extra(writer, source, grid)
    top = 2 ** (bits - 1) - 1
    middle = Grid(math.sqrt(n) / top, 0, bits, True, -top - 1, top)
    codes = reshaped(writer, _onto(writer, sums, middle, writer.free(f"{name}.normal")), shape, f"{name}.map")
    factors, offsets = (_given(writer, node, i) for i in (1, 2))
    if factors.size == groups != shape[0]:
        factors, offsets = (np.repeat(part, shape[0] // groups) for part in (factors, offsets))
    _doubtful(writer, name, "normalization")
    return _affine(writer, Real(codes, middle.scale, 0), (factors, offsets), grid, name)


# --- maxima, interpolation -------------------------------------------------------------------------------------------


def _largest(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Maximum of several tensors: quantizing keeps order, so the largest code is the largest value's."""
    lowest = value.node.op == "Min"
    turn = replace(grid, zero=0, low=-grid.high, high=-grid.low, signed=True, bits=grid.bits + 1)
    found = operands(writer, value)
    parts = [writer.curve(held, None, grid, writer.free(f"{name}.{i}")) for i, held in enumerate(found)]
    mark_joined(writer, found, parts, name)
    shapes = {writer.tensor(part).shape for part in parts}
    require(len(shapes) == 1, f"compares tensors of shapes {sorted(shapes)}; they must be alike")
    parts = (
        [_negated(writer, part, turn, writer.free(f"{name}.minus{i}")) for i, part in enumerate(parts)]
        if lowest
        else parts
    )
    shape, kept = shapes.pop(), turn if lowest else grid
    size = math.prod(shape)
    flat = []
    for part in parts:
        label = writer.free(f"{part.name}.row")
        writer.like(part, label, (1, size, 1))
        flat.append(writer.emit(Reshape, (part.name,), label, shape=(1, size, 1)))
    joined, best = writer.free(f"{name}.all"), writer.free(f"{name}.best")
    writer.codes_tensor(joined, (len(flat), size, 1), kept)
    writer.emit(Concat, tuple(flat), joined, axis=0)
    writer.codes_tensor(best, (1, size, 1), kept)
    writer.emit(MaxPool, (joined,), best, kernel=(len(flat), 1), stride=(len(flat), 1))
    back = writer.free(f"{name}.back") if lowest else name
    writer.codes_tensor(back, shape, kept)
    writer.emit(Reshape, (best,), back, shape=shape)
    largest = Codes(back, parts[0].layout, grid.scale, grid.zero)
    return _negated(writer, largest, grid, name) if lowest else largest


def _negated(writer: Writer, codes: Codes, grid: Grid, name: str) -> Codes:
    tensor = writer.tensor(codes)
    writer.codes_tensor(name, tensor.shape, grid)
    if tensor.bits > 9:  # a sum instead of a table of many entries
        nothing, ones = writer.free(f"{name}.nothing"), (1,) * len(tensor.shape)
        writer.codes_tensor(nothing, ones, Grid(grid.scale, 0, 1, False, 0, 0))
        writer.emit(Constant, (), nothing, values=np.zeros(ones, np.int64))
        own = {"zero_points": (0, 0), "zero_out": 0, "low": grid.low, "high": grid.high, "signs": (-1, 1)}
        writer.emit(Add, (codes.name, nothing), name, multipliers=(1.0, 1.0), **own)
        return replace(codes, name=name)
    writer.emit(Table, (codes.name,), name, entries=-np.arange(tensor.low, tensor.high + 1), low_code=tensor.low)
    return replace(codes, name=name)


def _interpolated(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Resize by linear interpolation: along each axis two gathers, times stored weights, added and rounded once."""
    held, node = value.operands[0], value.node
    shape = (writer.batch, *writer.sample_of(held.codes))
    extra = _extra(writer, held.codes, grid)
    changed = [(i - 1, p) for i, p in enumerate(resize_places(writer, node, shape)) if p is not None]
    for turn, (axis, places) in enumerate(changed):
        last = turn == len(changed) - 1
        onto = grid if last else _finer(writer, held, MIDDLE_BITS + extra)
        label = name if last else writer.free(f"{name}.{turn}")
        codes = _taps(writer, held, (axis, places, TAP_BITS + extra), onto, label)
        held = Real(codes, codes.scale or 1.0, codes.zero)
    _doubtful(writer, name, "linear interpolation")
    return held.codes if changed else writer.curve(held, None, grid, name)


def _finer(writer: Writer, held: Real, bits: int) -> Grid:
    """Return a grid of a width over the same range, which holds all that lies between its codes."""
    tensor = writer.tensor(held.codes)
    span = tensor.high - tensor.low
    spare = max(0, bits - span.bit_length())
    return Grid(held.scale * 2.0**-spare, (held.zero - tensor.low) << spare, bits, False, 0, span << spare)


def _taps(writer: Writer, held: Real, along: tuple[int, Array, int], grid: Grid, name: str) -> Codes:
    """Interpolate along an axis at places between its elements, by weights of so many fraction bits."""
    axis, places, bits = along
    size = writer.sample_of(held.codes)[axis]
    held = replace(held, codes=writer.in_layout(held.codes, (*(a for a in held.codes.layout if a != axis), axis)))
    places = np.clip(places, 0, size - 1)
    first = np.floor(places).astype(np.int64)
    second = np.minimum(first + 1, size - 1)
    share = np.rint((places - first) * 2**bits).astype(np.int64)
    parts = []
    for i, (src, weight) in enumerate(((first, 2**bits - share), (second, share))):
        taken = gathered(writer, held.codes, axis, src, f"{name}.tap{i}")
        label = writer.free(f"{name}.weight{i}")
        shape = (*(1 for _ in held.codes.layout[1:]), weight.size)
        writer.codes_tensor(label, shape, Grid(2.0**-bits, 0, bits + 1, False, 0, 2**bits))
        writer.emit(Constant, (), label, values=weight.reshape(shape))
        factors = Real(Codes(label, taken.layout), 2.0**-bits, 0)
        acc = _product(writer, replace(held, codes=taken), factors, f"{name}.product{i}")
        parts.append((acc, held.scale * 2.0**-bits, 0))
    _sum(writer, (parts[0], parts[1]), grid, name)
    return Codes(name, held.codes.layout, grid.scale, grid.zero)


FINISH = {
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "InstanceNormalization": _instance_norm,
    "GroupNormalization": _instance_norm, "PRelu": _prelu, "Max": _largest, "Min": _largest, "Resize": _interpolated,
}  # fmt: skip
"""How these operators are written once it is known what grid their result goes to."""
