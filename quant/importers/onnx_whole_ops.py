"""What whole numbers and rounded float32 values are while a file is read, and how they become ops of a Program."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Clamp, Duplicate, Mul, Requantize
from quant.importers.onnx_attributes import clip_limits
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_values import CODE_DTYPES, Codes, Given, Grid, Port, Real
from quant.importers.onnx_writer import Writer

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


def exact_constant(writer: Writer, name: str) -> Array:
    """Return a constant as the file has it."""
    return writer.model.doubles.get(name, writer.constants[name])


def requantize_whole(writer: Writer, name: str, value: "Real | Stretched", grid: Grid) -> Codes:
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


def clamp_whole(writer: Writer, node: OnnxNode, value: Whole) -> Codes:
    require(value.zero == 0 and value.low is not None, f"casts whole numbers to type {node.attrs['to']}")
    tensor, name = writer.tensor(value.codes), node.outputs[0]
    bits, signed = CODE_DTYPES[CODE_TYPES[node.attrs["to"]]]
    low, high = (tensor.low if value.low is None else value.low), (tensor.high if value.high is None else value.high)
    ends = int(np.min(low)), int(np.max(high))
    grid = Grid(value.codes.scale or 1.0, value.codes.zero, bits, signed, max(ends[0], tensor.low), ends[1])
    writer.codes_tensor(name, tensor.shape, grid)
    plain = [int(np.asarray(e).item()) if np.size(e) == 1 else np.asarray(e, np.int64) for e in (low, high)]
    if not all(isinstance(e, int) for e in plain):
        plain = [np.broadcast_to(e, tensor.shape[-1:]).astype(np.int64) for e in plain]
    writer.emit(Clamp, (value.codes.name,), name, low=plain[0], high=plain[1])
    return replace(value.codes, name=name)


def halve(writer: Writer, node: OnnxNode, value: Halved) -> Codes:
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


def input_grid(writer: Writer, node: OnnxNode, value: Doubled) -> Codes:
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
    zero, scale = int(writer.constant(shift, 1).item()), float(exact_constant(writer, quotient.inputs[1]).item())
    require(scale > 0, f"has the scale {scale}; a positive number is needed")
    given = value.source
    assert isinstance(given, Given)
    codes = writer.declare_input(node.outputs[0], given.shape, Grid(scale, zero, bits, signed, low, high))
    name = writer.model.inputs[given.index].name
    writer.parts.inputs.append(Port(name, codes.name, codes.layout, np.array([scale]), zero, half_up=True))
    return codes


def along_channels(writer: Writer, codes: Codes, numbers: Array) -> tuple[Codes, Array]:
    """Return codes with the axis last that numbers vary along, and the numbers as a vector."""
    rank = len(codes.layout) + 1
    full = numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)
    wide = [i for i, d in enumerate(full.shape) if d > 1]
    require(len(wide) <= 1 and wide != [0], f"joins codes with numbers of shape {numbers.shape}; one axis may vary")
    if wide and wide[0] - 1 != codes.layout[-1]:
        codes = writer.in_layout(codes, (*(a for a in codes.layout if a != wide[0] - 1), wide[0] - 1))
    return codes, full.reshape(-1)


def multiply_whole(writer: Writer, node: OnnxNode, held: list[Whole]) -> Codes:
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


def declare_indices(writer: Writer, name: str, given: Given, rows: int) -> Codes:
    """Declare a network input of indices into a table."""
    bits = max(1, (rows - 1).bit_length())
    codes = writer.declare_input(name, given.shape, Grid(1.0, 0, bits, False, 0, rows - 1))
    writer.parts.tensors[name] = replace(writer.tensor(codes), kind="index", scale=None)
    writer.parts.inputs.append(Port(name, name, codes.layout, None, 0))
    writer.values[name] = codes
    return codes
