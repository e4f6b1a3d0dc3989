"""TensorFlow Lite ADD and SUB, whose built-in kernel takes vectors of elements and finishes the rest one by one.

Both scale the operands, shifted left by 20 bits, to a common scale and their sum to the output's. One by one, the
product and its shift are each rounded; vectors of 16 codes round the shifted product once, vectors of 8 cut the shift
off (lite/kernels/internal/optimized, found by running it). Where no pair of codes shows the difference, one
Program op stands for both.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES, fixed_point
from accelsim.program import Add, AvgPool, Table, Tensor
from accelsim.runtime_rules import ADD_HEADROOM_BITS, ADD_RULES
from quant.importers.tflite_kernels import KERNELS
from quant.importers.tflite_moves import Steps
from quant.importers.tflite_reader import FileOperator
from quant.importers.tflite_writer import Writer

Ints = NDArray[np.int64]


def add_codes(writer: Writer, op: FileOperator, operands: tuple[Tensor, Tensor]) -> None:
    """Emit ADD or SUB of two operands of one rank, by the kernel's rule."""
    y = writer.output(op)
    scales = [writer.grid(op, tensor)[0] for tensor in (*(writer.file_tensor(op, slot) for slot in (0, 1)), y)]
    out = scales[2]
    rule, multipliers, multiplier_out = writer.kernels.add, (float(scales[0] / out), float(scales[1] / out)), 1.0
    if rule == "xnnpack" and not all(2.0**-10 <= m < 2.0**8 for m in multipliers):
        rule = "gemmlowp_double"  # beyond what the delegate takes: the built-in kernel
    built_in = rule == "gemmlowp_double" and writer.kernels is not KERNELS["reference"]
    if built_in and sum(multipliers) * 255 >= 2**15:
        raise writer.fail(
            op, f"scales its inputs by {multipliers}; the built-in kernel wraps at 16 bits: import it with --kernels "
            "reference"
        )  # fmt: skip
    if rule == "gemmlowp_double":
        twice = 2 * max(np.float64(scales[0]), np.float64(scales[1]))
        multipliers = (float(scales[0] / twice), float(scales[1] / twice))
        multiplier_out = float(twice / (2**ADD_HEADROOM_BITS * np.float64(out)))
    low, high = writer.limits(op, y)
    plain = Add(
        name=op.label, inputs=(operands[0].name, operands[1].name), output="", multipliers=multipliers,
        zero_points=(operands[0].zero_point, operands[1].zero_point), zero_out=writer.grid(op, y)[1], low=low,
        high=high, signs=(1, -1 if op.kind == "sub" else 1), rule=rule, multiplier_out=multiplier_out,
    )  # fmt: skip
    if built_in and op.kind == "add" and _vectors_differ(plain, operands):
        _in_vectors(writer, op, plain, operands)
        return
    target = writer.declare(op, y, (low, high))
    writer.emit(replace(plain, output=target.name))


def _lanes(operands: tuple[Tensor, Tensor]) -> int:
    """Return the codes of one vector: 16 of int8, 8 of uint8 and where one code meets a tensor."""
    alone = (operands[0].size == 1) != (operands[1].size == 1)
    return 16 if operands[0].signed and not alone else 8


def _scaled(lanes: int, values: Ints, multiplier: float) -> Ints:
    """Return an operand's codes as vectors scale them."""
    mantissa, exponent = fixed_point(multiplier)
    if lanes == 16:
        return ((values << (ADD_HEADROOM_BITS + exponent)) * mantissa + (1 << 30)) >> 31
    return (((values << ADD_HEADROOM_BITS) * mantissa + (1 << 30)) >> 31) >> -exponent


def _codes(x: Tensor) -> Ints:
    return np.arange(x.low, x.high + 1, dtype=np.int64)


def _vectors_differ(plain: Add, operands: tuple[Tensor, Tensor]) -> bool:
    """Tell whether any pair of codes that can occur gives vectors another sum than single elements."""
    if any(fixed_point(m)[1] < -ADD_HEADROOM_BITS for m in plain.multipliers):
        return True
    values = [_codes(x) - zero for x, zero in zip(operands, plain.zero_points, strict=True)]
    pair = (values[0][:, None], values[1][None, :])
    one = ADD_RULES[plain.rule].array(pair, plain.multipliers, plain.multiplier_out, plain.signs)
    parts = [_scaled(_lanes(operands), v, m) for v, m in zip(pair, plain.multipliers, strict=True)]
    scale = REQUANT_RULES["gemmlowp_double"].array
    many = scale(parts[0] + parts[1], np.array([plain.multiplier_out]), np.zeros(1))
    ends = (plain.low - plain.zero_out, plain.high - plain.zero_out)
    return not np.array_equal(np.clip(one, *ends), np.clip(many, *ends))


def _in_vectors(writer: Writer, op: FileOperator, plain: Add, operands: tuple[Tensor, Tensor]) -> None:
    """Emit vectors and the rest by themselves, and join what counts of each."""
    y, steps = writer.output(op), Steps(writer, op)
    if any(fixed_point(m)[1] < -ADD_HEADROOM_BITS for m in plain.multipliers):
        raise writer.fail(
            op, f"scales its inputs by {plain.multipliers}, too far apart for the built-in kernel's bits: import it "
            "with --kernels xnnpack or reference"
        )  # fmt: skip
    shape = writer.sample_shape(y, writer.batch)
    run = _run(writer, op, operands, shape)
    lanes = _lanes(operands)
    whole = run - run % lanes
    grid = writer.grid(op, y)
    like = replace(
        operands[0], name=f"{op.label}.rest", shape=shape, low=plain.low, high=plain.high, scale=float(grid[0]),
        zero_point=grid[1],
    )  # fmt: skip
    parts = []
    rows = int(np.prod(shape)) // run
    if whole:
        made = steps.reshape(_vectors(steps, plain, operands, like), (rows, run))
        parts.append(steps.cut(made, [(0, rows, 1), (0, whole, 1)]))
    if whole < run:
        rest = writer.add(like)
        writer.emit(replace(plain, name=f"{rest.name}.add", output=rest.name))
        parts.append(steps.cut(steps.reshape(rest, (rows, run)), [(0, rows, 1), (whole, run, 1)]))
    joined = steps.join(parts, 1) if len(parts) > 1 else parts[0]
    writer.give(op, steps.reshape(joined, shape))


def _run(writer: Writer, op: FileOperator, operands: tuple[Tensor, Tensor], shape: tuple[int, ...]) -> int:
    """Return the elements that one row of vectors covers: all, or those of the smaller operand's last axes."""
    total = int(np.prod(shape))
    small = min(operands, key=lambda x: x.size)
    if small.size in (1, total):
        if writer.batch > 1 and total % _lanes(operands):
            raise writer.fail(op, f"rounds in vectors that run across its batch of {writer.batch}; store it for one")
        return total
    last = tuple(n for n in small.shape if n != 1)
    if shape[len(shape) - len(last) :] == last and small.shape[len(shape) - len(last) :] == last:
        return small.size
    raise writer.fail(
        op, f"adds {list(operands[0].shape)} and {list(operands[1].shape)} on scales whose rounding depends on the "
        f"built-in kernel's vectors; import it with --kernels xnnpack or reference"
    )  # fmt: skip


def _vectors(steps: Steps, plain: Add, operands: tuple[Tensor, Tensor], like: Tensor) -> Tensor:
    """Emit the sum as vectors round it: operands scaled by tables, stacked, added and scaled as a pool of two."""
    writer, op, scaled = steps.writer, steps.op, []
    for slot, x in enumerate(operands):
        m = plain.multipliers[slot]
        entries = _scaled(_lanes(operands), _codes(x) - plain.zero_points[slot], m)
        reach = max(int(np.abs(entries).max()), 1)
        wide = writer.accumulator(f"{op.label}.scaled{slot}", x.shape, reach, np.array([m]))
        writer.emit(
            Table(name=f"{wide.name}.table", inputs=(x.name,), output=wide.name, entries=entries, low_code=x.low)
        )
        for axis, n in enumerate(like.shape):
            wide = steps.take(wide, axis, [0] * n) if wide.shape[axis] != n else wide
        scaled.append(steps.reshape(wide, (1, int(np.prod(like.shape[:-1])), like.shape[-1])))
    bits = max(x.bits for x in scaled)
    both = steps.join([replace(x, bits=bits) for x in scaled], 0)
    made = writer.add(replace(like, name=f"{op.label}.vectors", shape=(1, *both.shape[1:])))
    return writer.emit(
        AvgPool(
            name=f"{made.name}.pool", inputs=(both.name,), output=made.name, kernel=(2, 1), stride=(2, 1),
            multiplier=plain.multiplier_out, zero_in=0, zero_out=plain.zero_out, low=plain.low, high=plain.high,
            rule="gemmlowp_double",
        )
    )  # fmt: skip
