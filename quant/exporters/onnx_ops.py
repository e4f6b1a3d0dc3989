"""Each op of a Program as ONNX operators that give the same integers in ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.check import as_map, window_count
from accelsim.program import (
    Add,
    AvgPool,
    Blank,
    Clamp,
    Concat,
    Constant,
    Conv,
    Duplicate,
    Gather,
    MatMul,
    MaxPool,
    Mul,
    Op,
    Pad,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Table,
    Transpose,
)
from quant.exporters.onnx_sums import centred, integer_conv, integer_matmul, requantize
from quant.exporters.onnx_writer import Writer, channels_first, dtype_of, require

Array = NDArray[Any]


# --- element by element ----------------------------------------------------------------------------------------------


def _pair(writer: Writer, op: Op) -> tuple[list[str], tuple[int, ...]]:
    order = writer.held[op.inputs[0]].order
    if writer.tensor(op.inputs[1]).size > writer.tensor(op.inputs[0]).size:
        order = writer.held[op.inputs[1]].order
    return [writer.at(name, order) for name in op.inputs], order


def _add(writer: Writer, op: Add) -> None:
    require(op.rule == "float32", f"{op.name!r} adds by rule {op.rule}; float32 is written")
    names, order = _pair(writer, op)
    tensor, unit = writer.tensor(op.output), writer.unit(op.output)
    types = [dtype_of(writer.tensor(name)) for name in op.inputs]
    held = [kind in ("int8", "uint8") and np.iinfo(kind).min <= z <= np.iinfo(kind).max
            for kind, z in zip(types, op.zero_points, strict=True)]  # fmt: skip
    if all(held) and op.signs in ((1, 1), (1, -1)) and min(op.multipliers) > 0:
        reals = [
            writer.dequantize(name, kind, np.float32(m) * np.float32(unit), z)
            for name, kind, m, z in zip(names, types, op.multipliers, op.zero_points, strict=True)
        ]
        # Sum, not Add: ONNX Runtime fuses Add into QLinearAdd, which rounds once less
        total = writer.node("Sum" if op.signs == (1, 1) else "Sub", reals)
        name = writer.quantize(total, tensor, unit, op.zero_out, (op.low, op.high), op.output)
        writer.keep(op.output, name, order)
        return
    parts = []
    for name, source, zero, multiplier, sign in zip(
        names, op.inputs, op.zero_points, op.multipliers, op.signs, strict=True
    ):
        real = centred(writer, name, dtype_of(writer.tensor(source)), zero)
        parts.append(
            writer.node("Mul", [real, writer.constant(sign * np.float32(multiplier), "float32", "multiplier")])
        )
    total = writer.node("Add", parts)
    writer.keep(op.output, writer.rounded(total, tensor, op.zero_out, op.low, op.high, op.output), order)


def _mul(writer: Writer, op: Mul) -> None:
    names, order = _pair(writer, op)
    wide = dtype_of(writer.tensor(op.output))
    parts = [
        centred(writer, name, dtype_of(writer.tensor(source)), zero, wide)
        for name, source, zero in zip(names, op.inputs, op.zero_points, strict=True)
    ]
    writer.keep(op.output, writer.node("Mul", parts, op.output), order)


def _clamp(writer: Writer, op: Clamp) -> None:
    held, tensor = writer.held[op.inputs[0]], writer.tensor(op.output)
    dtype, source = dtype_of(tensor), dtype_of(writer.tensor(op.inputs[0]))
    if isinstance(op.low, int) and isinstance(op.high, int) and dtype == source:
        ends = [writer.constant(v, dtype, "limit") for v in (op.low, op.high)]
        writer.keep(op.output, writer.node("Clip", [held.name, *ends], op.output), held.order)
        return
    whole = held.name if source == "int64" else writer.cast(held.name, "int64")
    for kind, limit in (("Max", op.low), ("Min", op.high)):
        numbers = writer.along(np.asarray(limit).reshape(-1), held.order, len(tensor.shape) - 1)
        whole = writer.node(kind, [whole, writer.constant(numbers, "int64", "limit")])
    writer.keep(op.output, writer.cast(whole, dtype, op.output), held.order)


def _duplicate(writer: Writer, op: Duplicate) -> None:
    held, tensor = writer.held[op.inputs[0]], writer.tensor(op.output)
    axis = held.order.index(len(tensor.shape) - 1) + 1
    source = writer.tensor(op.inputs[0])
    index = writer.constant(op.source, "int64", f"{op.name}.source")
    clips = op.low > source.low or op.high < source.high
    halves = bool(op.shift.any() or op.offset.any())
    plain = not clips and not halves and dtype_of(source) == dtype_of(tensor)
    gathered = writer.node("Gather", [held.name, index], op.output if plain else "", axis=axis)
    if plain:
        writer.keep(op.output, gathered, held.order)
        return
    real = writer.cast(gathered, "float32")  # codes of 8 bits and their halves are exact
    last = len(tensor.shape) - 1
    if halves:
        offset, step = (writer.along(v, held.order, last) for v in (op.offset, 2.0 ** -op.shift.astype(np.float64)))
        real = writer.node("Add", [real, writer.constant(offset, "float32", "offset")])
        real = writer.node("Mul", [real, writer.constant(step, "float32", "step")])
        real = writer.node("Floor", [real])
    ends = [writer.constant(v, "float32", "limit") for v in (op.low, op.high)]
    clipped = writer.node("Clip", [real, *ends])
    writer.keep(op.output, writer.cast(clipped, dtype_of(tensor), op.output), held.order)


def _table(writer: Writer, op: Table) -> None:
    held = writer.held[op.inputs[0]]
    index = centred(writer, held.name, dtype_of(writer.tensor(op.inputs[0])), op.low_code, "int32")
    entries = writer.constant(op.entries, dtype_of(writer.tensor(op.output)), f"{op.name}.entries")
    writer.keep(op.output, writer.node("Gather", [entries, index], op.output, axis=0), held.order)


# --- windows ---------------------------------------------------------------------------------------------------------


def _window(writer: Writer, op: MaxPool | AvgPool) -> tuple[str, dict[str, Any], int]:
    spatial = len(writer.tensor(op.inputs[0]).shape) - 1
    require(spatial >= 1, f"{op.name!r} pools a vector; ONNX takes maps")
    t, left, b, right = op.padding
    attrs = {
        "kernel_shape": list(op.kernel)[2 - spatial :],
        "strides": list(op.stride)[2 - spatial :],
        "pads": [t, left, b, right] if spatial == 2 else [left, right],
    }
    return writer.as_map(op.inputs[0]), attrs, spatial


def _max_pool(writer: Writer, op: MaxPool) -> None:
    source, attrs, spatial = _window(writer, op)
    dtype_of(writer.tensor(op.inputs[0]))
    attrs["dilations"] = list(op.dilation)[2 - spatial :]
    name = writer.node("MaxPool", [source], op.output, **attrs)
    writer.keep(op.output, name, channels_first(spatial + 1))


def _avg_pool(writer: Writer, op: AvgPool) -> None:
    """Write a mean as the exact float32 sum of whole numbers, times the factor."""
    require(op.rule == "float32_rne", f"{op.name!r} averages by rule {op.rule}; float32_rne is written")
    source, attrs, spatial = _window(writer, op)
    tensor, given = writer.tensor(op.output), writer.tensor(op.inputs[0])
    reach = op.kernel[0] * op.kernel[1] * max(abs(given.low - op.zero_in), abs(given.high - op.zero_in))
    require(reach < 2**24, f"{op.name!r} adds up to {reach}, which float32 does not hold exactly")
    height, width, channels = as_map(given.shape)
    if op.kernel == (height, width) and not any(op.padding) and _global_average(writer, op, source):
        return
    real = centred(writer, source, dtype_of(given), op.zero_in)
    if op.kernel == (height, width) and not any(op.padding):
        axes = writer.constant(list(range(2, 2 + spatial)), "int64", "axes")
        sums = writer.node("ReduceSum", [real, axes], keepdims=1)
    else:
        ones = np.ones((channels, 1, *attrs["kernel_shape"]), dtype=np.float32)
        weight = writer.constant(ones, "float32", f"{op.name}.ones")
        sums = writer.node("Conv", [real, weight], group=channels, **attrs)
    factor = (op.multiplier / _counts(op, (height, width)).astype(np.float64)).astype(np.float32)
    factor = np.unique(factor).reshape(()) if np.unique(factor).size == 1 else factor[2 - spatial :]
    scaled = writer.node("Mul", [sums, writer.constant(factor, "float32", f"{op.name}.factor")])
    name = writer.rounded(scaled, tensor, op.zero_out, op.low, op.high, op.output)
    writer.keep(op.output, name, channels_first(spatial + 1))


def _global_average(writer: Writer, op: AvgPool, source: str) -> bool:
    """Write a mean over the whole map as GlobalAveragePool, if some scale makes ONNX Runtime's factor ours."""
    given, tensor = writer.tensor(op.inputs[0]), writer.tensor(op.output)
    dtype, unit = dtype_of(given), writer.unit(op.output)
    limits, count = np.iinfo(dtype), op.kernel[0] * op.kernel[1]
    wanted = np.float32(op.multiplier / count)
    near = np.float32(op.multiplier * unit)
    tries = (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(0)))
    found = next((s for s in tries if s / (np.float32(unit) * np.float32(count)) == wanted and s > 0), None)
    if found is None or dtype_of(tensor) != dtype or not limits.min <= op.zero_in <= limits.max:
        return False
    real = writer.dequantize(source, dtype, found, op.zero_in)
    mean = writer.node("GlobalAveragePool", [real])
    name = writer.quantize(mean, tensor, unit, op.zero_out, (op.low, op.high), op.output)
    writer.keep(op.output, name, channels_first(len(tensor.shape)))
    return True


def _counts(op: AvgPool, size: tuple[int, int]) -> Array:
    """Return how many places every window counts, ``[rows, columns]``."""
    if op.count_padding:
        return np.array([[op.kernel[0] * op.kernel[1]]])
    along = []
    for axis in (0, 1):
        before, after = op.padding[axis], op.padding[axis + 2]
        inside = np.pad(np.ones(size[axis], dtype=np.int64), (before, after))
        count = window_count(size[axis], op.kernel[axis], op.stride[axis], (before, after), 1)
        along.append([int(inside[i * op.stride[axis] :][: op.kernel[axis]].sum()) for i in range(count)])
    return np.multiply.outer(np.array(along[0]), np.array(along[1]))


# --- moving codes ----------------------------------------------------------------------------------------------------


def _concat(writer: Writer, op: Concat) -> None:
    order = writer.held[op.inputs[0]].order
    parts = [_per_sample(writer, name, order) for name in op.inputs]
    target = dtype_of(writer.tensor(op.output))
    types = [dtype_of(writer.tensor(name)) for name in op.inputs]
    cast = [name if kind == target else writer.cast(name, target) for name, kind in zip(parts, types, strict=True)]
    writer.keep(op.output, writer.node("Concat", cast, op.output, axis=order.index(op.axis) + 1), order)


def _per_sample(writer: Writer, name: str, order: tuple[int, ...]) -> str:
    """Return a tensor in an order of axes, stored ones repeated for each sample."""
    found = writer.at(name, order)
    stored = {op.output for op in writer.program.ops if isinstance(op, Constant)}
    if name not in stored:
        return found
    shape = [writer.tensor(name).shape[axis] for axis in order]
    batch = writer.node(
        "Slice", [writer.node("Shape", [writer.batch_of]), *(writer.constant([i], "int64") for i in (0, 1))]
    )
    target = writer.node("Concat", [batch, writer.constant(shape, "int64", "shape")], axis=0)
    return writer.node("Expand", [found, target])


def _reshape(writer: Writer, op: Reshape) -> None:
    target = writer.constant([-1, *op.shape], "int64", "shape")
    name = writer.node("Reshape", [writer.plain(op.inputs[0]), target], op.output)
    writer.keep(op.output, name, tuple(range(len(op.shape))))


def _transpose(writer: Writer, op: Transpose) -> None:
    held = writer.held[op.inputs[0]]
    writer.keep(op.output, held.name, tuple(op.axes.index(axis) for axis in held.order))


def _slice(writer: Writer, op: Slice) -> None:
    held = writer.held[op.inputs[0]]
    parts = [[getattr(op, key)[axis] for axis in held.order] for key in ("start", "stop", "step")]
    axes = list(range(1, len(held.order) + 1))
    given = [writer.constant(v, "int64", "slice") for v in (parts[0], parts[1], axes, parts[2])]
    writer.keep(op.output, writer.node("Slice", [held.name, *given], op.output), held.order)


def _pad(writer: Writer, op: Pad) -> None:
    held = writer.held[op.inputs[0]]
    widths = [[0, *(op.widths[axis][side] for axis in held.order)] for side in (0, 1)]
    dtype = dtype_of(writer.tensor(op.inputs[0]))
    given = [writer.constant(widths[0] + widths[1], "int64", "pads"), writer.constant(op.value, dtype, "value")]
    writer.keep(op.output, writer.node("Pad", [held.name, *given], op.output), held.order)


def _gather(writer: Writer, op: Gather) -> None:
    rows = writer.constant(op.rows, dtype_of(writer.tensor(op.output)), f"{op.name}.rows")
    name = writer.node("Gather", [rows, writer.plain(op.inputs[0])], op.output, axis=0)
    writer.keep(op.output, name, tuple(range(len(writer.tensor(op.output).shape))))


def _constant(writer: Writer, op: Constant) -> None:
    assert not isinstance(op.values, Blank)
    name = writer.constant(op.values[None], dtype_of(writer.tensor(op.output)), f"{op.name}.values")
    writer.keep(op.output, writer.node("Identity", [name], op.output), tuple(range(op.values.ndim)))


def _softmax(writer: Writer, op: Softmax) -> None:
    """Write the integer softmax in int64."""
    require(op.rule == "integer", f"{op.name!r} takes softmax by rule {op.rule}; integer is written")
    tensor = writer.tensor(op.inputs[0])
    x = centred(writer, writer.plain(op.inputs[0]), dtype_of(tensor), 0, "int64")
    seen = _visible(op, tensor.shape)
    if seen is not None:
        mask = writer.constant(seen[None], "bool", f"{op.name}.seen")
        x = writer.node("Where", [mask, x, writer.constant(tensor.low - 1, "int64", "low")])
    largest = writer.node("ReduceMax", [x], axes=[-1], keepdims=1)
    last = writer.constant(op.exponentials.size - 1, "int64", "last")
    distance = writer.node("Min", [writer.node("Sub", [largest, x]), last])
    powers = writer.node("Gather", [writer.constant(op.exponentials, "int64", f"{op.name}.exp"), distance], axis=0)
    if seen is not None:
        powers = writer.node("Where", [mask, powers, writer.constant(0, "int64", "none")])
    one, two = writer.constant(1, "int64", "one"), writer.constant(2, "int64", "two")
    total = writer.node("ReduceSum", [powers, writer.constant([-1], "int64", "axes")], keepdims=1)
    raised = writer.node("Mul", [powers, writer.constant(2**op.out_bits, "int64", "raise")])
    raised = writer.node("Add", [raised, writer.node("Div", [total, two])])
    share = writer.node("Div", [raised, writer.node("Max", [total, one])])
    share = writer.node("Min", [share, writer.constant(2**op.out_bits - 1, "int64", "limit")])
    if op.zero_out:
        share = writer.node("Add", [share, writer.constant(op.zero_out, "int64", "zero")])
    name = writer.cast(share, dtype_of(writer.tensor(op.output)), op.output)
    writer.keep(op.output, name, tuple(range(len(tensor.shape))))


def _visible(op: Softmax, shape: tuple[int, ...]) -> Array | None:
    """Return which entries a softmax sees, or ``None`` for all."""
    if op.mask is None and not op.causal:
        return None
    seen = np.broadcast_to(np.True_ if op.mask is None else op.mask != 0, shape)
    if op.causal and len(shape) > 1:
        rows, columns = shape[-2:]
        seen = seen & ~(np.arange(columns)[None, :] > np.arange(rows)[:, None] + columns - rows)
    return np.asarray(seen)


WRITE: dict[type[Op], Callable[[Writer, Any], None]] = {
    Conv: integer_conv, MatMul: integer_matmul, Requantize: requantize, Add: _add, Mul: _mul, Duplicate: _duplicate,
    Clamp: _clamp, MaxPool: _max_pool, AvgPool: _avg_pool, Table: _table, Concat: _concat, Reshape: _reshape,
    Transpose: _transpose, Slice: _slice, Pad: _pad, Gather: _gather, Constant: _constant, Softmax: _softmax,
}  # fmt: skip
