"""Operators on whole numbers, and float32 ones that end in Round: what our own exporter writes beside QDQ groups.

``Round, Clip, Add, Cast`` is QuantizeLinear with scale one; ``Cast, Sub`` takes zero points off; ``Gather`` from a
constant is a table; the input's grid is half up in double precision, as `quant.lower.Quantized.encode` has it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import bits_for, code_range
from accelsim.program import Concat, Gather, Table
from quant.importers.onnx_attributes import clip_limits
from quant.importers.onnx_grids import put
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_moves import RULES as MOVES
from quant.importers.onnx_quant import RULES as PLAIN
from quant.importers.onnx_quant import Rule
from quant.importers.onnx_quant_layers import embedding
from quant.importers.onnx_shares import Share, Summed, put_mean, read_softmax, sum_window
from quant.importers.onnx_values import CODE_DTYPES, Codes, Curve, Given, Grid, Real, Scaled, Waiting, Weights
from quant.importers.onnx_walk import axis_of
from quant.importers.onnx_whole_ops import (
    CODE_TYPES,
    FLOAT32,
    FLOAT64,
    WHOLE_TYPES,
    Doubled,
    Halved,
    Rounded,
    Stretched,
    Whole,
    along_channels,
    clamp_whole,
    declare_indices,
    exact_constant,
    halve,
    input_grid,
    multiply_whole,
    requantize_whole,
)
from quant.importers.onnx_writer import Writer

Array = NDArray[Any]


def _constant(writer: Writer, node: OnnxNode) -> tuple[int, Array] | None:
    """Return the place and value of an operator's one constant operand."""
    places = [i for i in (0, 1) if i < len(node.inputs) and node.inputs[i] in writer.constants]
    return (places[0], exact_constant(writer, node.inputs[places[0]])) if len(places) == 1 else None


def _held(writer: Writer, node: OnnxNode) -> list[Any]:
    return [writer.values.get(name) for name in node.inputs]


# --- casts -----------------------------------------------------------------------------------------------------------


def _cast(writer: Writer, node: OnnxNode) -> Any:
    value, to = writer.values.get(node.inputs[0]), node.attrs["to"]
    if isinstance(value, Rounded):
        return _onto_codes(writer, node, value)
    if isinstance(value, Halved):
        require(to in CODE_TYPES, f"casts halves to type {to}; codes of 8 or 16 bits are known")
        return halve(writer, node, value)
    if isinstance(value, Curve) and to in CODE_TYPES:
        return _onto_codes(writer, node, Rounded(value))
    if isinstance(value, Share):
        require(to in CODE_TYPES, f"casts shares to type {to}; codes of 8 or 16 bits are known")
        return read_softmax(writer, node, value.codes, CODE_DTYPES[CODE_TYPES[to]])
    if isinstance(value, Whole):
        if to == FLOAT32:
            require(value.low is None, "converts clamped numbers to float32; cast them to codes first")
            return Real(value.codes, 1.0, value.zero)
        return value if to in WHOLE_TYPES else clamp_whole(writer, node, value)
    if isinstance(value, Codes) and to in WHOLE_TYPES:
        return Whole(value)
    if isinstance(value, Codes | Given) and to == FLOAT64:
        return Doubled(value)
    if isinstance(value, Doubled):
        return input_grid(writer, node, value) if to in CODE_TYPES else value
    if isinstance(value, Codes) and to in CODE_TYPES and writer.tensor(value).kind != "accumulator":
        return value
    return None


def _onto_codes(writer: Writer, node: OnnxNode, value: Rounded) -> Codes:
    to = node.attrs["to"]
    require(to in CODE_TYPES, f"casts rounded values to type {to}; codes of 8 or 16 bits are known")
    bits, signed = CODE_DTYPES[CODE_TYPES[to]]
    limits = code_range(bits, signed)
    low, high = (int(min(max(end + value.zero, limits[0]), limits[1])) for end in (value.low, value.high))
    inner, grid = value.value, Grid(1.0, value.zero, bits, signed, low, high)
    if isinstance(inner, Real | Stretched):
        return requantize_whole(writer, node.outputs[0], inner, grid)
    if isinstance(inner, Summed):
        return put_mean(writer, inner, grid, node.outputs[0])
    if isinstance(inner, Waiting) and inner.node.op == "Add":  # not between DequantizeLinear and QuantizeLinear
        inner = replace(inner, node=replace(inner.node, op="Sum"))
    put(writer, node, inner, grid, node.outputs[0])
    found = writer.values[node.outputs[0]]
    assert isinstance(found, Codes)
    return found


# --- the input's grid ------------------------------------------------------------------------------------------------


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _binary(writer: Writer, node: OnnxNode) -> Any:
    fixed, held = _constant(writer, node), _held(writer, node)
    share = _share(held)
    if share is not None:
        return share
    value = held[1 - fixed[0]] if fixed else held[0]
    if fixed is None:
        whole = [Whole(v) if isinstance(v, Codes) else v for v in held]
        if node.op == "Mul" and all(isinstance(v, Whole) for v in whole):
            return multiply_whole(writer, node, whole)
        return value if isinstance(value, Doubled) and isinstance(value.source, Given) else None
    return _with_constant(writer, node, value, *fixed)


def _with_constant(writer: Writer, node: OnnxNode, value: Any, place: int, number: Array) -> Any:
    """Join what is computed with a constant at a place."""
    if isinstance(value, Doubled) and isinstance(value.source, Given):
        return value
    if isinstance(value, Doubled):
        if node.op == "Sub" and number.size == 1:
            return replace(value, zero=value.zero + int(number.item()))
        require(node.op == "Mul", f"is a float64 step ({node.op}) that no exporter writes")
        return replace(value, scale=np.asarray(number, np.float64).reshape(-1) * value.scale)
    if isinstance(value, Whole | Codes) and node.op == "Sub" and number.size == 1 and place == 1:
        kept = Whole(value) if isinstance(value, Codes) else value
        return replace(kept, zero=kept.zero + int(number.item()))
    if isinstance(value, Rounded) and node.op == "Add" and number.size == 1:
        return replace(value, zero=value.zero + int(number.item()))
    if isinstance(value, Halved) and node.op == "Mul":
        return replace(value, step=number)
    if isinstance(value, Real) and node.op == "Add" and value.scale == 1.0 and number.dtype.kind == "f":
        return Halved(value, number)
    if isinstance(value, Real) and node.op == "Mul" and value.scale == 1.0 and number.size > 1:
        codes, factors = along_channels(writer, value.codes, number)
        return Stretched(replace(value, codes=codes), factors)
    if isinstance(value, Real) and node.op == "Mul" and value.scale == 1.0:
        return replace(value, scale=float(np.float32(number.item())))  # one float32 product, as dequantizing is
    if isinstance(value, Summed) and node.op == "Mul":
        require(value.factor is None, "scales window sums twice")
        return replace(value, factor=number)
    return None


def _share(held: list[Any]) -> Share | None:
    """Return the softmax that any operand is a step of."""
    return next((value for value in held if isinstance(value, Share)), None)


def _softmax_step(writer: Writer, node: OnnxNode) -> Any:
    """Begin or go on with an integer softmax: its last Cast tells whether it is one."""
    held = _held(writer, node)
    share = _share(held)
    whole = next((value for value in held if isinstance(value, Whole)), None)
    if share is None and whole is not None:
        require(whole.zero == 0 and whole.low is None, "takes the largest of numbers that are no codes")
        return Share(whole.codes)
    if share is None and node.op == "ReduceSum":
        of_ours = isinstance(held[0], Real) and held[0].scale == 1.0
        return sum_window(writer, node, held[0]) if of_ours else None
    return share


def _conv(writer: Writer, node: OnnxNode) -> Any:
    source = writer.values.get(node.inputs[0])
    return sum_window(writer, node, source) if isinstance(source, Real) else None


def _concat(writer: Writer, node: OnnxNode) -> Any:
    """Join codes as they are; stored ones are the same for every sample."""
    held: list[Any] = [writer.values.get(name) for name in node.inputs]
    if not any(isinstance(value, Codes) for value in held):
        return None
    rank = max(len(value.layout) for value in held if isinstance(value, Codes))
    name, axis = node.outputs[0], axis_of(node.attrs["axis"], rank + 1)
    for i, source in enumerate(node.inputs):
        if source in writer.constants:
            values = writer.constants[source].astype(np.int64)
            require(len(values) == writer.batch, f"joins a constant of shape {values.shape} with samples")
            bits, signed = CODE_DTYPES[writer.constants[source].dtype.name]
            one = Weights(values[:1], np.ones(1, np.float32), np.zeros(1, np.int64), 0, bits, signed)
            held[i] = writer.stored(one, f"{name}.{i}", rank)
    require(all(isinstance(value, Codes) for value in held), "joins codes with real values")
    layout = held[0].layout
    parts = [writer.in_layout(value, layout) for value in held]
    tensors = [writer.tensor(part) for part in parts]
    place = layout.index(axis)
    shape = tuple(sum(t.shape[i] for t in tensors) if i == place else d for i, d in enumerate(tensors[0].shape))
    low, high = min(t.low for t in tensors), max(t.high for t in tensors)
    signed = any(t.signed for t in tensors)
    bits = max(*(t.bits for t in tensors), bits_for(low, high) - int(not signed))
    writer.codes_tensor(name, shape, Grid(1.0, 0, bits, signed, low, high))
    writer.emit(Concat, tuple(part.name for part in parts), name, axis=place)
    return Codes(name, layout, 1.0, 0)


def _round(writer: Writer, node: OnnxNode) -> Any:
    value = writer.values.get(node.inputs[0])
    return Rounded(value) if isinstance(value, Scaled | Real | Stretched | Waiting | Summed) else None


def _clip(writer: Writer, node: OnnxNode) -> Any:
    value = writer.values.get(node.inputs[0])
    if isinstance(value, Rounded) and value.zero == 0:
        low, high = clip_limits(writer, node)
        return replace(value, low=max(low, value.low), high=min(high, value.high))
    if isinstance(value, Halved):
        low, high = clip_limits(writer, node)
        return replace(value, low=max(low, value.low), high=min(high, value.high))
    return value if isinstance(value, Doubled) else None


def _limit(writer: Writer, node: OnnxNode) -> Any:
    """Max or Min of whole numbers and a constant, alike for all or one per channel."""
    fixed, value = _constant(writer, node), _held(writer, node)[0]
    if isinstance(value, Share):
        return value
    value = Whole(value) if isinstance(value, Codes) else value
    if fixed is None or not isinstance(value, Whole):
        return None
    codes, ends = along_channels(writer, value.codes, fixed[1])
    limit: dict[str, Any] = {"low" if node.op == "Max" else "high": ends.astype(np.int64)}
    return replace(value, codes=codes, **limit)


def _floor(writer: Writer, node: OnnxNode) -> Any:
    value = writer.values.get(node.inputs[0])
    halved = isinstance(value, Halved) and value.step is not None
    return value if halved or isinstance(value, Doubled) else None


def _gather(writer: Writer, node: OnnxNode) -> Any:
    """Gather from a constant: a table of codes, or the rows of an embedding."""
    share = _share(_held(writer, node))
    if share is not None:
        return share
    table, index = _held(writer, node)
    if isinstance(table, Weights) and isinstance(index, Given | Codes):
        if isinstance(index, Given):
            index = declare_indices(writer, node.inputs[1], index, len(table.values))
        embedding(writer, node, table, index)
        return writer.values[node.outputs[0]]
    if node.inputs[0] not in writer.constants:
        return None
    entries, name = writer.constants[node.inputs[0]], node.outputs[0]
    if isinstance(index, Given) and entries.ndim == 2:
        index = declare_indices(writer, node.inputs[1], index, len(entries))
    index = Whole(index) if isinstance(index, Codes) else index
    known = isinstance(index, Whole) and entries.dtype.name in CODE_DTYPES and node.attrs.get("axis", 0) == 0
    require(known, "gathers from a constant by other than codes")
    assert isinstance(index, Whole)
    tensor = writer.tensor(index.codes)
    bits, signed = CODE_DTYPES[entries.dtype.name]
    grid = Grid(1.0, 0, bits, signed, int(entries.min()), int(entries.max()))
    if entries.ndim == 2:
        require(index.zero == 0 and tensor.low >= 0, "gathers rows by other than indices")
        source = writer.plain(index.codes)
        writer.codes_tensor(name, (*writer.tensor(source).shape, entries.shape[1]), grid)
        places = np.minimum(np.arange(tensor.high + 1), len(entries) - 1)  # beyond the last row a runtime fails
        entries = entries if tensor.high < len(entries) else entries[places]
        writer.emit(Gather, (source.name,), name, rows=entries.astype(np.int64), storage_bits=bits)
        return Codes(name, tuple(range(len(tensor.shape) + 1)), 1.0, 0)
    require(
        entries.ndim == 1 and tensor.bits <= 16, f"has entries of shape {entries.shape} for {tensor.bits}-bit codes"
    )
    # codes beyond the table have no entry: a runtime fails on them, so that any will do
    places = np.clip(np.arange(tensor.low, tensor.high + 1) - index.zero, 0, entries.size - 1)
    writer.codes_tensor(name, tensor.shape, grid)
    writer.emit(Table, (index.codes.name,), name, entries=entries.astype(np.int64)[places], low_code=tensor.low)
    return Codes(name, index.codes.layout, 1.0, 0)


def _or_plain(own: Callable[[Writer, OnnxNode], Any], plain: Rule | None) -> Rule:
    """Return the rule that tries one of this file first, and else what other files have there."""

    def rule(writer: Writer, node: OnnxNode) -> None:
        found = own(writer, node)
        if found is None:
            require(plain is not None, "is known of whole numbers only")
            assert plain is not None
            plain(writer, node)
            return
        writer.values[node.outputs[0]] = found
        if isinstance(found, Codes):
            writer.named[node.outputs[0]] = found

    return rule


_OWN: dict[str, Callable[[Writer, OnnxNode], Any]] = {
    "Cast": _cast, "Add": _binary, "Sub": _binary, "Mul": _binary, "Div": _binary, "Round": _round, "Clip": _clip,
    "Max": _limit, "Min": _limit, "Floor": _floor, "GreaterOrEqual": _binary, "Gather": _gather,
    "ReduceMax": _softmax_step, "ReduceSum": _softmax_step, "Where": _softmax_step, "Conv": _conv, "Concat": _concat,
}  # fmt: skip

RULES: dict[str, Rule] = {
    **PLAIN,
    **{op: _or_plain(own, PLAIN.get(op, MOVES.get(op))) for op, own in _OWN.items()},
}
