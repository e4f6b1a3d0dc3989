"""TensorFlow Lite operators that cut tensors apart and join them; input and outputs share a grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from accelsim.program import Table, Tensor
from quant.importers.tflite_moves import Steps, sample_axis
from quant.importers.tflite_reader import FileOperator, FileTensor
from quant.importers.tflite_writer import Writer

Limits = tuple[int, int, int]


def strided_limits(writer: Writer, op: FileOperator, shape: Sequence[int]) -> tuple[list[Limits], list[int | None]]:
    """Return STRIDED_SLICE's (start, stop, step) per axis of a shape, and the output's axes: input's, or new ones.

    Raises
    ------
    ValueError
        If begins, ends and strides do not fit the shape, a stride is zero, or nothing is left.
    """
    begin, end, stride = (writer.integers(op, slot) for slot in (1, 2, 3))
    masks = {name: int(op.options[name]) for name in ("begin", "end", "ellipsis", "new_axis", "shrink")}
    if not len(begin) == len(end) == len(stride):
        raise writer.fail(op, f"has {len(begin)} begins, {len(end)} ends and {len(stride)} strides; as many are needed")
    if bin(masks["ellipsis"]).count("1") > 1:
        raise writer.fail(op, "has more than one ellipsis; one is read")

    def marked(name: str, i: int) -> bool:
        return bool(masks[name] >> i & 1)

    own = sum(not (marked("new_axis", i) or marked("ellipsis", i)) for i in range(len(begin)))
    limits: list[Limits] = []
    kept: list[int | None] = []
    for i in range(len(begin)):
        if marked("ellipsis", i):
            for axis in range(len(limits), len(limits) + len(shape) - own):
                kept.append(axis)
                limits.append((0, shape[axis], 1))
        elif marked("new_axis", i):
            kept.append(None)
        elif len(limits) >= len(shape):
            raise writer.fail(op, f"slices {own} axes of {list(shape)}; the file is damaged")
        else:
            marks = _Marks(marked("begin", i), marked("end", i), marked("shrink", i))
            limits.append(_limit(writer, op, (begin[i], end[i], stride[i]), len(limits), shape, marks))
            if not marked("shrink", i):
                kept.append(len(limits) - 1)
    for axis in range(len(limits), len(shape)):
        kept.append(axis)
        limits.append((0, shape[axis], 1))
    return limits, kept


@dataclass(frozen=True)
class _Marks:
    """Which masks name one entry of a STRIDED_SLICE."""

    begin: bool
    end: bool
    shrink: bool


def _limit(writer: Writer, op: FileOperator, given: Limits, axis: int, shape: Sequence[int], marks: _Marks) -> Limits:
    """Return one axis' limits, counted from the front; a negative step runs from `start` down to above `stop`."""
    begin, end, step = given
    n = shape[axis]
    if step == 0 or (marks.shrink and step < 0):
        raise writer.fail(op, f"has stride {step} on axis {axis}; a stride is not zero, and positive where one is kept")
    if op.options["offset"]:
        end += begin
    if marks.shrink:
        place = begin + n if begin < 0 else begin
        place = 0 if marks.begin else place
        if not 0 <= place < n:
            raise writer.fail(op, f"keeps place {begin} of {n} on axis {axis}; the file is damaged")
        return place, place + 1, 1
    low, high = (0, n) if step > 0 else (-1, n - 1)
    start = (low if step > 0 else high) if marks.begin else min(max(begin + n if begin < 0 else begin, low), high)
    stop = (high if step > 0 else low) if marks.end else min(max(end + n if end < 0 else end, low), high)
    if len(range(start, stop, step)) < 1:
        raise writer.fail(op, f"leaves nothing of axis {axis} ({begin}:{end}:{step} of {n})")
    return start, stop, step


def strided_slice(writer: Writer, op: FileOperator) -> None:
    """STRIDED_SLICE, the batch apart; steps down are gathered."""
    y = writer.output(op)
    x, file = writer.same_grid(op, 0, y), writer.file_tensor(op, 0)
    limits, kept = strided_limits(writer, op, file.shape)
    if limits[0] != (0, file.shape[0], 1) or kept[0] != 0:
        raise writer.fail(op, f"slices the batch ({limits[0]} of {file.shape[0]}); axes behind it are read")
    steps, inner = Steps(writer, op), limits[1:]
    made = steps.cut(x, [limit if limit[2] > 0 else (0, n, 1) for limit, n in zip(inner, x.shape, strict=True)])
    for axis, limit in enumerate(inner):
        if limit[2] < 0:
            made = steps.take(made, axis, range(*limit))
    shape = tuple(1 if axis is None else made.shape[axis - 1] for axis in kept[1:])
    writer.give(op, steps.reshape(made, shape or (1,)))


def slice_(writer: Writer, op: FileOperator) -> None:
    """SLICE from a begin on, a size of -1 up to the end; the batch apart."""
    x, file = writer.same_grid(op, 0, writer.output(op)), writer.file_tensor(op, 0)
    begin, size = writer.integers(op, 1), writer.integers(op, 2)
    if not len(begin) == len(size) == len(file.shape):
        raise writer.fail(op, f"has {len(begin)} begins and {len(size)} sizes for {len(file.shape)} axes")
    stop = [n if s == -1 else b + s for b, s, n in zip(begin, size, file.shape, strict=True)]
    if any(not 0 <= b < e <= n for b, e, n in zip(begin, stop, file.shape, strict=True)):
        raise writer.fail(op, f"slices {begin} to {stop} of {list(file.shape)}; the file is damaged")
    if (begin[0], stop[0]) != (0, file.shape[0]):
        raise writer.fail(op, f"slices the batch ({begin[0]}:{stop[0]} of {file.shape[0]}); axes behind it are read")
    writer.give(op, Steps(writer, op).cut(x, [(b, e, 1) for b, e in zip(begin[1:], stop[1:], strict=True)]))


def _outputs(writer: Writer, op: FileOperator, slot: int) -> Tensor:
    """Return an input of codes that every output shares the grid of."""
    if not op.outputs:
        raise writer.fail(op, "has no outputs")
    sources = [writer.same_grid(op, slot, writer.model.tensors[i]) for i in op.outputs]
    return sources[0]


def _cut_apart(steps: Steps, x: Tensor, axis: int, sizes: Sequence[int]) -> list[Tensor]:
    writer, op, start, parts = steps.writer, steps.op, 0, []
    if sum(sizes) != x.shape[axis] or min(sizes) < 1:
        raise writer.fail(op, f"cuts axis {axis + 1} of {x.shape[axis]} into {list(sizes)[:8]}; they must add up to it")
    for size in sizes:
        limits = [(start, start + size, 1) if i == axis else (0, n, 1) for i, n in enumerate(x.shape)]
        parts.append(steps.cut(x, limits))
        start += size
    return parts


def split(writer: Writer, op: FileOperator) -> None:
    """SPLIT into equal parts, SPLIT_V into given ones."""
    even = op.kind == "split"
    x, axes = _outputs(writer, op, 1 if even else 0), writer.integers(op, 0 if even else 2)
    if len(axes) != 1:
        raise writer.fail(op, f"splits axes {axes}; one is read")
    axis = sample_axis(writer, op, axes[0], len(x.shape) + 1)
    count = len(op.outputs)
    sizes = [x.shape[axis] // count] * count if even else writer.integers(op, 1)
    if len(sizes) != count:
        raise writer.fail(op, f"has {len(sizes)} sizes for {count} outputs")
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(sizes) - 1
    for place, part in enumerate(_cut_apart(Steps(writer, op), x, axis, sizes)):
        writer.give(op, part, place)


def unpack(writer: Writer, op: FileOperator) -> None:
    """UNPACK: one output per place of an axis, which goes."""
    x = _outputs(writer, op, 0)
    axis, steps = sample_axis(writer, op, int(op.options["axis"]), len(x.shape) + 1), Steps(writer, op)
    for place, part in enumerate(_cut_apart(steps, x, axis, [1] * len(op.outputs))):
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        writer.give(op, steps.reshape(part, shape or (1,)), place)


def pack(writer: Writer, op: FileOperator) -> None:
    """PACK: tensors of one shape joined along an axis of its own."""
    y, steps = writer.output(op), Steps(writer, op)
    axis = sample_axis(writer, op, int(op.options["axis"]), len(y.shape))
    if not op.inputs:
        raise writer.fail(op, "has no inputs")
    parts = [writer.same_grid(op, slot, y) for slot in range(len(op.inputs))]
    shaped = [steps.reshape(part, (*part.shape[:axis], 1, *part.shape[axis:])) for part in parts]
    writer.give(op, steps.join(shaped, axis))


def concatenation(writer: Writer, op: FileOperator) -> None:
    """CONCATENATION; uint8 inputs on other grids are brought onto the output's by a table."""
    y = writer.output(op)
    axis = int(op.options["axis"])
    axis += len(y.shape) if axis < 0 else 0
    if not 1 <= axis < len(y.shape) or op.options["activation"] != 0 or not op.inputs:
        raise writer.fail(op, f"joins {len(op.inputs)} inputs along axis {axis}; axes behind the batch are read")
    parts = [_onto_grid(writer, op, slot, y) for slot in range(len(op.inputs))]
    if any(len(part.shape) != len(y.shape) - 1 for part in parts):
        raise writer.fail(op, f"joins {[list(part.shape) for part in parts][:4]} into {list(y.shape)}")
    writer.give(op, Steps(writer, op).join(parts, axis - 1))


def _onto_grid(writer: Writer, op: FileOperator, slot: int, y: FileTensor) -> Tensor:
    file, x = writer.file_tensor(op, slot), writer.read(op, slot)
    (scale, zero), (out, zero_out) = writer.grid(op, file), writer.grid(op, y)
    if file.dtype == y.dtype and (scale, zero) == (out, zero_out):
        return x
    if file.dtype != "uint8" or y.dtype != "uint8":
        raise writer.fail(
            op, f"joins {file}, which is not on the grid of {y}; int8 inputs must share it, put QUANTIZE in front"
        )
    # ConcatenationWithScaling: float32 product and sum, ties away from zero
    factor = scale * (np.float32(1) / out)
    values = np.arange(256, dtype=np.float32) * factor + -np.float32(zero) * factor
    rounded = np.trunc(values + np.copysign(np.float32(0.5), values)).astype(np.int64) + zero_out
    name = f"{op.label}.in{slot}"
    made = replace(x, name=name, low=0, high=255, scale=float(out), zero_point=zero_out)
    writer.add(made)
    entries = np.clip(rounded, 0, 255)
    return writer.emit(Table(name=f"{name}.table", inputs=(x.name,), output=name, entries=entries, low_code=0))
