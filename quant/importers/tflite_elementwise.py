"""TensorFlow Lite operators on two tensors, element by element: ADD, SUB, MUL, PRELU, MAXIMUM and MINIMUM."""

import math
from dataclasses import replace

import numpy as np

from accelsim.arith import code_range
from accelsim.program import Add, Clamp, MaxPool, Mul, Requantize, Reshape, Table, Tensor
from quant.importers.tflite_add import add_codes
from quant.importers.tflite_curves import emit_table, prelu_codes
from quant.importers.tflite_kernels import KERNELS
from quant.importers.tflite_moves import Steps
from quant.importers.tflite_reader import FileOperator, FileTensor
from quant.importers.tflite_writer import Writer


def _aligned(writer: Writer, op: FileOperator, slot: int, rank: int) -> Tensor:
    """Return an operand with axes of length one put in front up to a rank, batch apart."""
    file, x = writer.file_tensor(op, slot), writer.read(op, slot, broadcast=rank + 1)
    if file.data is None and len(file.shape) != rank + 1 and writer.batch != 1:
        raise writer.fail(op, f"broadcasts {file}, whose batch of {writer.batch} would meet another axis")
    if len(x.shape) >= rank:
        return x
    shape = (1,) * (rank - len(x.shape)) + x.shape
    made = writer.add(replace(x, name=f"{op.label}.in{slot}", shape=shape))
    return writer.emit(Reshape(name=f"{made.name}.reshape", inputs=(x.name,), output=made.name, shape=shape))


def _operands(writer: Writer, op: FileOperator) -> list[Tensor]:
    """Return both operands, of one rank."""
    if len(op.inputs) != 2:
        raise writer.fail(op, f"has {len(op.inputs)} inputs; two are needed")
    rank = max(len(writer.file_tensor(op, slot).shape) for slot in (0, 1)) - 1
    operands = [_aligned(writer, op, slot, rank) for slot in (0, 1)]
    pairs = zip(operands[0].shape, operands[1].shape, strict=True)
    shape = writer.sample_shape(writer.output(op), writer.batch)
    found = tuple(max(a, b) if 1 in (a, b) or a == b else -1 for a, b in pairs)
    if found != shape:
        shapes = [list(x.shape) for x in operands]
        raise writer.fail(op, f"takes {shapes[0]} and {shapes[1]}, but its output is declared {list(shape)}")
    return operands


def _files(writer: Writer, op: FileOperator) -> tuple[FileTensor, FileTensor, FileTensor]:
    """Return both inputs and the output, of one type."""
    files = (writer.file_tensor(op, 0), writer.file_tensor(op, 1), writer.output(op))
    if len({tensor.dtype for tensor in files}) > 1:
        raise writer.fail(op, "mixes int8 and uint8; the kernels take one type")
    return files


def add(writer: Writer, op: FileOperator) -> None:
    """ADD, and SUB with the second sign turned."""
    _files(writer, op)
    first, second = _operands(writer, op)
    add_codes(writer, op, (first, second))


def mul(writer: Writer, op: FileOperator) -> None:
    """MUL: exact products, then the kernel's requantization."""
    files = _files(writer, op)
    (s0, _), (s1, _), (out, _) = (writer.grid(op, tensor) for tensor in files)
    multiplier = s0 * s1 / out
    rule = writer.kernels.mul
    if rule == "float32_rne" and not 2.0**-16 <= multiplier < 2.0**8:
        rule = KERNELS["builtin"].mul  # beyond what the delegate takes
    operands, y = _operands(writer, op), files[2]
    products = _products(writer, op, operands)
    target = writer.declare(op, y, writer.limits(op, y))
    if (
        rule != "float32_rne"
        and writer.kernels is not KERNELS["reference"]
        and products.high * multiplier >= 2**15 - 2**8
    ):
        raise writer.fail(
            op, f"scales products of up to {products.high} by {multiplier:g}; the built-in kernel wraps at 16 bits: "
            "import it with --kernels reference"
        )  # fmt: skip
    _scale_down(writer, op, (products, target), float(multiplier), rule)


def _products(writer: Writer, op: FileOperator, operands: list[Tensor]) -> Tensor:
    name = op.label
    zeros = (operands[0].zero_point, operands[1].zero_point)
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip(operands, zeros, strict=True)]
    shape = tuple(np.broadcast_shapes(operands[0].shape, operands[1].shape))
    scale = np.float64(operands[0].scale) * np.float64(operands[1].scale)  # type: ignore[arg-type]
    sums = writer.accumulator(f"{name}.product", shape, max(reach[0] * reach[1], 1), np.array([scale]))
    names = (operands[0].name, operands[1].name)
    return writer.emit(Mul(name=f"{name}.mul", inputs=names, output=sums.name, zero_points=zeros))


def _scale_down(writer: Writer, op: FileOperator, ends: tuple[Tensor, Tensor], multiplier: float, rule: str) -> None:
    sums, target = ends
    if rule == "gemmlowp_double":
        writer.require_32_bits(op, sums.high, multiplier)
    writer.emit(
        Requantize(
            name=f"{target.name}.op", inputs=(sums.name,), output=target.name, multiplier=np.array([multiplier]),
            rule=rule, zero_out=target.zero_point, low=target.low, high=target.high,
        )
    )  # fmt: skip


def prelu(writer: Writer, op: FileOperator) -> None:
    """PRELU: a table where one slope is stored, else the rising half by a table and the falling half by products."""
    first, second, y = _files(writer, op)
    (s0, z0), (s1, z1), (out, zero_out) = (writer.grid(op, tensor) for tensor in (first, second, y))
    low, high = code_range(8, y.dtype == "int8")
    rising, falling = float(s0 / out), float(s0 * s1 / out)
    writer.require_32_bits(op, 255, rising)
    writer.require_32_bits(op, 255 * 255, falling)
    if second.data is not None and second.data.size == 1:
        slope = int(second.data.reshape(-1)[0]) - z1
        entries = prelu_codes(np.arange(low, high + 1) - z0, slope, (rising, falling)) + zero_out
        emit_table(writer, op, writer.read(op, 0).name, np.clip(entries, low, high), low)
        return
    (x, slopes), name = _operands(writer, op), op.label
    if writer.sample_shape(y, writer.batch) != x.shape:
        raise writer.fail(op, f"takes slopes {list(slopes.shape)} for samples of shape {list(x.shape)}")
    grown = np.clip(
        prelu_codes(np.maximum(np.arange(low, high + 1) - z0, 0), 0, (rising, falling)) + zero_out, low, high
    )
    ahead = writer.add(
        replace(
            x, name=f"{name}.rising", low=int(grown.min()), high=int(grown.max()), scale=float(out), zero_point=zero_out
        )
    )
    writer.emit(Table(name=f"{name}.table", inputs=(x.name,), output=ahead.name, entries=grown, low_code=low))
    below = writer.add(replace(x, name=f"{name}.below", low=min(x.low, z0), high=min(x.high, z0)))
    writer.emit(Clamp(name=f"{name}.clamp", inputs=(x.name,), output=below.name, low=below.low, high=below.high))
    sums = _products(writer, op, [below, slopes])
    shrunk = writer.add(replace(ahead, name=f"{name}.falling", low=low, high=high))
    _scale_down(writer, op, (sums, shrunk), falling, "gemmlowp_double")
    target = writer.declare(op, y)
    writer.emit(  # one of both is the zero point: nothing is rounded
        Add(
            name=name, inputs=(ahead.name, shrunk.name), output=target.name, multipliers=(1.0, 1.0),
            zero_points=(zero_out, zero_out), zero_out=zero_out, low=low, high=high,
        )
    )  # fmt: skip


def extreme(writer: Writer, op: FileOperator) -> None:
    """MAXIMUM and MINIMUM of codes on one grid: a clamp by one stored code, else a pool over both, stacked."""
    first, second, y = _files(writer, op)
    if len({writer.grid(op, tensor) for tensor in (first, second, y)}) > 1:
        raise writer.fail(op, f"compares {first} and {second} on several grids; equal scales and zero points are read")
    for slot, other in ((0, second), (1, first)):
        if other.data is not None and other.data.size == 1:
            _bounded(writer, op, slot, int(other.data.reshape(-1)[0]))
            return
    low, high = code_range(8, y.dtype == "int8")
    steps, parts = Steps(writer, op), []
    shape = writer.sample_shape(y, writer.batch)
    for operand in _operands(writer, op):
        x = operand
        for axis, n in enumerate(shape):
            x = steps.take(x, axis, [0] * n) if x.shape[axis] != n else x
        x = steps.reflected(x, low, high) if op.kind == "minimum" else x
        parts.append(steps.reshape(x, (1, math.prod(shape[:-1]), shape[-1])))
    both = steps.join(parts, 0)
    made = writer.add(replace(both, name=f"{op.label}.max", shape=(1, *both.shape[1:])))
    writer.emit(MaxPool(name=f"{made.name}.pool", inputs=(both.name,), output=made.name, kernel=(2, 1), stride=(2, 1)))
    made = steps.reflected(made, low, high) if op.kind == "minimum" else made
    writer.give(op, steps.reshape(made, shape))


def _bounded(writer: Writer, op: FileOperator, slot: int, code: int) -> None:
    x, y = writer.read(op, slot), writer.output(op)
    if writer.sample_shape(y, writer.batch) != x.shape:
        raise writer.fail(op, f"takes {list(x.shape)}, but its output is declared {list(y.shape)}")
    low, high = code_range(8, y.dtype == "int8")
    ends = (code, high) if op.kind == "maximum" else (low, code)
    target = writer.declare(op, y, ends)
    name = op.label
    writer.emit(Clamp(name=name, inputs=(x.name,), output=target.name, low=ends[0], high=ends[1]))
