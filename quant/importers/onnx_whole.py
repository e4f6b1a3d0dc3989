"""Operators on whole numbers, and float32 ones that end in Round: what our own exporter writes beside QDQ groups.

``Round, Clip, Add, Cast`` is QuantizeLinear with scale one; ``Cast, Sub`` takes zero points off; ``Gather`` from a
constant is a table; the input's grid is half up in double precision, as `quant.lower.Quantized.encode` has it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import bits_for, code_range
from accelsim.program import Clamp, Concat, Duplicate, Gather, Mul, Requantize, Table
from quant.importers.onnx_attributes import clip_limits
from quant.importers.onnx_grids import put
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_moves import RULES as MOVES
from quant.importers.onnx_quant import RULES as PLAIN
from quant.importers.onnx_quant import Rule
from quant.importers.onnx_shares import Share, Summed, put_mean, read_softmax, sum_window
from quant.importers.onnx_walk import axis_of
from quant.importers.onnx_writer import (
    CODE_DTYPES,
    Codes,
    Curve,
    Given,
    Grid,
    Port,
    Real,
    Scaled,
    Waiting,
    Weights,
    Writer,
)

Array = NDArray[Any]

FLOAT32, FLOAT64 = 1, 11
CODE_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}
WHOLE_TYPES = (6, 7)


@dataclass(frozen=True)
class Whole:
    """The int32 or int64 numbers code - zero, clamped to `low`..`high` where those are given."""

    codes: Codes
    zero: int = 0
    low: Any = None
    high: Any = None


@dataclass(frozen=True, eq=False)
class Rounded:
    """Float32 values rounded half to even, clipped, and shifted: codes once they are cast."""

    value: Any
    low: float = -np.inf
    high: float = np.inf
    zero: int = 0


@dataclass(frozen=True, eq=False)
class Halved:
    """``floor((codes + offset) · step)``, one of each or per channel, clipped: how split channels are halved."""

    source: Real
    offset: Array
    step: Array | None = None
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True, eq=False)
class Stretched:
    """Whole numbers times one factor per channel, the last axis of their tensor."""

    source: Real
    scale: Array


@dataclass(frozen=True, eq=False)
class Doubled:
    """Float64 values (code - zero) · scale on their way out, or a real input on its way to its grid."""

    source: Codes | Given
    zero: int = 0
    scale: Any = 1.0


def _constant(writer: Writer, node: OnnxNode) -> tuple[int, Array] | None:
    """Return the place and value of an operator's one constant operand."""
    places = [i for i in (0, 1) if i < len(node.inputs) and node.inputs[i] in writer.constants]
    return (places[0], _number(writer, node.inputs[places[0]])) if len(places) == 1 else None


def _number(writer: Writer, name: str) -> Array:
    """Return a constant as the file has it."""
    return writer.model.doubles.get(name, writer.constants[name])


def _held(writer: Writer, node: OnnxNode) -> list[Any]:
    return [writer.values.get(name) for name in node.inputs]


# --- casts -----------------------------------------------------------------------------------------------------------


def _cast(writer: Writer, node: OnnxNode) -> Any:
    value, to = writer.values.get(node.inputs[0]), node.attrs["to"]
    if isinstance(value, Rounded):
        return _onto_codes(writer, node, value)
    if isinstance(value, Halved):
        require(to in CODE_TYPES, f"casts halves to type {to}; codes of 8 or 16 bits are known")
        return _halves(writer, node, value)
    if isinstance(value, Curve) and to in CODE_TYPES:
        return _onto_codes(writer, node, Rounded(value))
    if isinstance(value, Share):
        require(to in CODE_TYPES, f"casts shares to type {to}; codes of 8 or 16 bits are known")
        return read_softmax(writer, node, value.codes, CODE_DTYPES[CODE_TYPES[to]])
    if isinstance(value, Whole):
        if to == FLOAT32:
            require(value.low is None, "converts clamped numbers to float32; cast them to codes first")
            return Real(value.codes, 1.0, value.zero)
        return value if to in WHOLE_TYPES else _clamped(writer, node, value)
    if isinstance(value, Codes) and to in WHOLE_TYPES:
        return Whole(value)
    if isinstance(value, Codes | Given) and to == FLOAT64:
        return Doubled(value)
    if isinstance(value, Doubled):
        return _input_grid(writer, node, value) if to in CODE_TYPES else value
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
        return _requantized(writer, node.outputs[0], inner, grid)
    if isinstance(inner, Summed):
        return put_mean(writer, inner, grid, node.outputs[0])
    if isinstance(inner, Waiting) and inner.node.op == "Add":  # not between DequantizeLinear and QuantizeLinear
        inner = replace(inner, node=replace(inner.node, op="Sum"))
    put(writer, node, inner, grid, node.outputs[0])
    found = writer.values[node.outputs[0]]
    assert isinstance(found, Codes)
    return found


def _requantized(writer: Writer, name: str, value: "Real | Stretched", grid: Grid) -> Codes:
    """Write ``rint(float32(code - zero) · float32(multiplier))``, the zero point, and the clamp."""
    held = value if isinstance(value, Real) else value.source
    multiplier = np.atleast_1d(np.asarray(value.scale, np.float64))
    require(bool(np.all(multiplier >= 0)), "scales whole numbers by negative factors")
    writer.codes_tensor(name, writer.tensor(held.codes).shape, grid)
    writer.emit(
        Requantize,
        (held.codes.name,),
        name,
        multiplier=multiplier,
        low=grid.low,
        high=grid.high,
        zero_in=held.zero,
        zero_out=grid.zero,
    )
    return Codes(name, held.codes.layout, grid.scale, grid.zero)


def _clamped(writer: Writer, node: OnnxNode, value: Whole) -> Codes:
    require(value.zero == 0 and value.low is not None, f"casts whole numbers to type {node.attrs['to']}")
    tensor, name = writer.tensor(value.codes), node.outputs[0]
    bits, signed = CODE_DTYPES[CODE_TYPES[node.attrs["to"]]]
    low, high = (tensor.low if value.low is None else value.low), (tensor.high if value.high is None else value.high)
    ends = int(np.min(low)), int(np.max(high))
    grid = Grid(value.codes.scale or 1.0, value.codes.zero, bits, signed, max(ends[0], tensor.low), ends[1])
    writer.codes_tensor(name, tensor.shape, grid)
    plain = [int(e) if np.size(e) == 1 else np.asarray(e, np.int64) for e in (low, high)]
    if not all(isinstance(e, int) for e in plain):
        plain = [np.broadcast_to(e, tensor.shape[-1:]).astype(np.int64) for e in plain]
    writer.emit(Clamp, (value.codes.name,), name, low=plain[0], high=plain[1])
    return replace(value.codes, name=name)


def _halves(writer: Writer, node: OnnxNode, value: Halved) -> Codes:
    codes = value.source.codes
    tensor, last = writer.tensor(codes), codes.layout[-1] + 1
    found = []
    for numbers in (value.offset, value.step):
        assert numbers is not None
        full = numbers.reshape((1,) * (len(codes.layout) + 1 - numbers.ndim) + numbers.shape)
        wide = [i for i, d in enumerate(full.shape) if d > 1]
        require(wide in ([], [last]), f"halves by numbers of shape {numbers.shape}")
        found.append(np.broadcast_to(full.reshape(-1), tensor.shape[-1:]).astype(np.float64))
    shift = -np.log2(found[1])
    exact = value.source.zero == 0 and np.array_equal(shift, np.rint(shift)) and bool(np.all(shift >= 0))
    require(exact and np.array_equal(found[0], np.rint(found[0])), "scales codes by numbers that are no halves")
    bits, signed = CODE_DTYPES[CODE_TYPES[node.attrs["to"]]]
    low, high = (int(min(max(end, limit), 2**31)) for end, limit in ((value.low, -(2**31)), (value.high, -(2**31))))
    writer.codes_tensor(node.outputs[0], tensor.shape, Grid(codes.scale or 1.0, codes.zero, bits, signed, low, high))
    writer.emit(
        Duplicate,
        (codes.name,),
        node.outputs[0],
        source=np.arange(tensor.shape[-1]),
        offset=found[0].astype(np.int64),
        shift=shift.astype(np.int64),
        low=low,
        high=high,
    )
    return replace(codes, name=node.outputs[0])


# --- the input's grid ------------------------------------------------------------------------------------------------


def _input_grid(writer: Writer, node: OnnxNode, value: Doubled) -> Codes:
    """Read ``clip(floor(x / s) + (x / s - floor(x / s) >= 1/2) + zero)`` in double precision."""
    made = {name: item for item in writer.model.nodes for name in item.outputs}

    def behind(name: str, op: str) -> OnnxNode:
        found = made.get(name)
        require(found is not None and found.op == op, f"puts a real input onto a grid by other steps than {op} there")
        assert found is not None
        return found

    clip = behind(node.inputs[0], "Clip")
    shift = behind(clip.inputs[0], "Add")
    total = behind(shift.inputs[0], "Add")
    whole = behind(total.inputs[0], "Floor")
    nearer = behind(behind(total.inputs[1], "Cast").inputs[0], "GreaterOrEqual")
    rest = behind(nearer.inputs[0], "Sub")
    quotient = behind(whole.inputs[0], "Div")
    half = float(writer.constant(nearer, 1).item())
    same = rest.inputs == (quotient.outputs[0], whole.outputs[0]) and half == 0.5
    require(same, "rounds a real input by other steps than half up")
    low, high = (int(end) for end in clip_limits(writer, clip))
    bits, signed = CODE_DTYPES[CODE_TYPES[node.attrs["to"]]]
    zero, scale = int(writer.constant(shift, 1).item()), float(_number(writer, quotient.inputs[1]).item())
    require(scale > 0, f"has the scale {scale}; a positive number is needed")
    given = value.source
    assert isinstance(given, Given)
    codes = writer.declare_input(node.outputs[0], given.shape, Grid(scale, zero, bits, signed, low, high))
    name = writer.model.inputs[given.index].name
    writer.parts.inputs.append(Port(name, codes.name, codes.layout, np.array([scale]), zero, half_up=True))
    return codes


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
            return _product(writer, node, whole)
        return value if isinstance(value, Doubled) and isinstance(value.source, Given) else None
    number = fixed[1]
    if isinstance(value, Doubled) and isinstance(value.source, Given):
        return value
    if isinstance(value, Doubled):
        if node.op == "Sub" and number.size == 1:
            return replace(value, zero=value.zero + int(number.item()))
        require(node.op == "Mul", f"is a float64 step ({node.op}) that no exporter writes")
        return replace(value, scale=np.asarray(number, np.float64).reshape(-1) * value.scale)
    if isinstance(value, Whole | Codes) and node.op == "Sub" and number.size == 1 and fixed[0] == 1:
        kept = Whole(value) if isinstance(value, Codes) else value
        return replace(kept, zero=kept.zero + int(number.item()))
    if isinstance(value, Rounded) and node.op == "Add" and number.size == 1:
        return replace(value, zero=value.zero + int(number.item()))
    if isinstance(value, Halved) and node.op == "Mul":
        return replace(value, step=number)
    if isinstance(value, Real) and node.op == "Add" and value.scale == 1.0 and number.dtype.kind == "f":
        return Halved(value, number)
    if isinstance(value, Real) and node.op == "Mul" and value.scale == 1.0 and number.size > 1:
        codes, factors = _channels(writer, value.codes, number)
        return Stretched(replace(value, codes=codes), factors)
    if isinstance(value, Real) and node.op == "Mul" and value.scale == 1.0:
        return replace(value, scale=float(np.float32(number.item())))  # one float32 product, as dequantizing is
    if isinstance(value, Summed) and node.op == "Mul":
        require(value.factor is None, "scales window sums twice")
        return replace(value, factor=number)
    return None


def _channels(writer: Writer, codes: Codes, numbers: Array) -> tuple[Codes, Array]:
    """Return codes with the axis last that numbers vary along, and the numbers as a vector."""
    rank = len(codes.layout) + 1
    full = numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)
    wide = [i for i, d in enumerate(full.shape) if d > 1]
    require(len(wide) <= 1 and wide != [0], f"joins codes with numbers of shape {numbers.shape}; one axis may vary")
    if wide and wide[0] - 1 != codes.layout[-1]:
        codes = writer.in_layout(codes, (*(a for a in codes.layout if a != wide[0] - 1), wide[0] - 1))
    return codes, full.reshape(-1)


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
        require(isinstance(held[0], Real), "sums what is no tensor of codes")
        return sum_window(writer, node, held[0])
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


def _product(writer: Writer, node: OnnxNode, held: list[Whole]) -> Codes:
    """Write an exact product of two tensors of codes."""
    layout = held[0].codes.layout
    if writer.tensor(held[1].codes).size > writer.tensor(held[0].codes).size:
        layout = held[1].codes.layout
    names, reach = [], 1
    for value in held:
        codes = writer.in_layout(value.codes, layout)
        tensor = writer.tensor(codes)
        names.append(codes.name)
        reach *= max(abs(tensor.low - value.zero), abs(tensor.high - value.zero))
    shape = tuple(np.broadcast_shapes(*(writer.parts.tensors[name].shape for name in names)))
    writer.sums_tensor(node.outputs[0], shape, reach)
    writer.emit(Mul, (names[0], names[1]), node.outputs[0], zero_points=(held[0].zero, held[1].zero))
    return Codes(node.outputs[0], layout)


def _round(writer: Writer, node: OnnxNode) -> Any:
    value = writer.values.get(node.inputs[0])
    require(isinstance(value, Scaled | Real | Waiting | Summed), "rounds what is no float step behind integers")
    return Rounded(value)


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
    require(fixed is not None and isinstance(value, Whole), "is known of whole numbers and a constant")
    assert fixed is not None
    codes, ends = _channels(writer, value.codes, fixed[1])
    return replace(value, codes=codes, **{"low" if node.op == "Max" else "high": ends.astype(np.int64)})


def _floor(writer: Writer, node: OnnxNode) -> Any:
    value = writer.values.get(node.inputs[0])
    halved = isinstance(value, Halved) and value.step is not None
    require(halved or isinstance(value, Doubled), "rounds down float values")
    return value


def _gather(writer: Writer, node: OnnxNode) -> Any:
    """Gather from a constant: a table of codes, or the rows of an embedding."""
    share = _share(_held(writer, node))
    if share is not None:
        return share
    if node.inputs[0] not in writer.constants:
        return None
    entries, name = writer.constants[node.inputs[0]], node.outputs[0]
    index = writer.values.get(node.inputs[1])
    if isinstance(index, Given) and entries.ndim == 2:
        index = _indices(writer, node.inputs[1], index, len(entries))
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


def _indices(writer: Writer, name: str, given: Given, rows: int) -> Codes:
    """Declare a network input of indices into a table."""
    bits = max(1, (rows - 1).bit_length())
    codes = writer.declare_input(name, given.shape, Grid(1.0, 0, bits, False, 0, rows - 1))
    writer.parts.tensors[name] = replace(writer.tensor(codes), kind="index", scale=None)
    writer.parts.inputs.append(Port(name, name, codes.layout, None, 0))
    writer.values[name] = codes
    return codes


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
