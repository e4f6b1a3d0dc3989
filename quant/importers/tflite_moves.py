"""TensorFlow Lite operators that move codes: the same on codes and on real values, so input and output share a grid.

Every move is made of the Program's own: reshapes, transpositions, slices, joins, and gathers along an axis.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accelsim.program import Concat, Duplicate, Pad, Reshape, Slice, Table, Tensor, Transpose
from quant.importers.tflite_reader import FileOperator, FileTensor
from quant.importers.tflite_writer import CODE_TYPES, Writer

Shape = tuple[int, ...]

LONGEST_GATHER = 2**16
"""Places of an axis that are chosen one by one."""


class Steps:
    """The moves of one operator, each with a name of its own; axes and shapes leave the batch out."""

    def __init__(self, writer: Writer, op: FileOperator) -> None:
        self.writer, self.op = writer, op
        self._count = 0

    def _made(self, like: Tensor, shape: Shape) -> Tensor:
        self._count += 1
        return self.writer.add(replace(like, name=f"{self.op.label}.{self._count}", shape=shape))

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        """Return the same codes in another shape."""
        if shape == x.shape:
            return x
        if math.prod(shape) != x.size:
            raise self.writer.fail(self.op, f"brings samples of {x.size} values into {list(shape)}")
        y = self._made(x, shape)
        return self.writer.emit(Reshape(name=f"{y.name}.reshape", inputs=(x.name,), output=y.name, shape=shape))

    def permute(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Return codes with their axes in another order."""
        if list(axes) == sorted(axes):
            return x
        y = self._made(x, tuple(x.shape[axis] for axis in axes))
        return self.writer.emit(Transpose(name=f"{y.name}.permute", inputs=(x.name,), output=y.name, axes=tuple(axes)))

    def cut(self, x: Tensor, limits: Sequence[tuple[int, int, int]]) -> Tensor:
        """Return ``x[start:stop:step]`` per axis."""
        if all((start, step) == (0, 1) and stop == n for (start, stop, step), n in zip(limits, x.shape, strict=True)):
            return x
        start, stop, step = (tuple(numbers) for numbers in zip(*limits, strict=True))
        y = self._made(x, tuple(-(-(b - a) // s) for a, b, s in limits))
        name = f"{y.name}.cut"
        return self.writer.emit(Slice(name=name, inputs=(x.name,), output=y.name, start=start, stop=stop, step=step))

    def join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Return tensors joined along an axis; they may reach different codes."""
        first = parts[0]
        for part in parts:
            if part.shape[:axis] + part.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]:
                raise self.writer.fail(self.op, f"joins {list(first.shape)} and {list(part.shape)} along axis {axis}")
        shape = (*first.shape[:axis], sum(part.shape[axis] for part in parts), *first.shape[axis + 1 :])
        reach = replace(first, low=min(part.low for part in parts), high=max(part.high for part in parts))
        y = self._made(reach, shape)
        names = tuple(part.name for part in parts)
        return self.writer.emit(Concat(name=f"{y.name}.join", inputs=names, output=y.name, axis=axis))

    def pad(self, x: Tensor, widths: Sequence[tuple[int, int]], value: int) -> Tensor:
        """Return codes with a border of one value."""
        reach = replace(x, low=min(x.low, value), high=max(x.high, value))
        y = self._made(reach, tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)))
        self.writer.emit(Pad(name=f"{y.name}.pad", inputs=(x.name,), output=y.name, widths=tuple(widths), value=value))
        return y

    def take(self, x: Tensor, axis: int, chosen: Sequence[int]) -> Tensor:
        """Return the places of an axis that are chosen, in their order: repeats are joined, others gathered."""
        if len(chosen) > LONGEST_GATHER:
            raise self.writer.fail(self.op, f"chooses {len(chosen)} places of an axis; {LONGEST_GATHER} are read")
        n, whole = x.shape[axis], list(chosen)
        if whole == list(range(n)):
            return x
        if whole == list(range(whole[0], whole[0] + len(whole))):
            return self.cut(
                x, [(whole[0], whole[-1] + 1, 1) if i == axis else (0, m, 1) for i, m in enumerate(x.shape)]
            )
        times = len(whole) // n
        if whole == [place for place in range(n) for _ in range(times)]:
            shape = (math.prod(x.shape[: axis + 1]), 1, math.prod(x.shape[axis + 1 :]))
            apart = self.reshape(x, shape)
            return self.reshape(self.join([apart] * times, 1), (*x.shape[:axis], n * times, *x.shape[axis + 1 :]))
        order = [i for i in range(len(x.shape)) if i != axis] + [axis]
        last = self.permute(x, order)
        y, none = self._made(last, (*last.shape[:-1], len(whole))), np.zeros(len(whole), dtype=np.int64)
        self.writer.emit(
            Duplicate(
                name=f"{y.name}.take", inputs=(last.name,), output=y.name, source=np.array(whole, dtype=np.int64),
                offset=none, shift=none, low=y.low, high=y.high,
            )
        )  # fmt: skip
        return self.permute(y, [order.index(i) for i in range(len(order))])

    def reflected(self, x: Tensor, low: int, high: int) -> Tensor:
        """Return ``low + high - x``: what turns minima into maxima."""
        y = self._made(replace(x, low=low + high - x.high, high=low + high - x.low), x.shape)
        entries = low + high - np.arange(x.low, x.high + 1, dtype=np.int64)
        return self.writer.emit(
            Table(name=f"{y.name}.reflect", inputs=(x.name,), output=y.name, entries=entries, low_code=x.low)
        )


def sample_axis(writer: Writer, op: FileOperator, axis: int, rank: int) -> int:
    """Return an axis behind the batch, counted without it; `axis` may count from the end of `rank` axes."""
    place = axis + rank if axis < 0 else axis
    if not 0 <= place < rank:
        raise writer.fail(op, f"has axis {axis} of {rank}; the file is damaged")
    if place == 0:
        raise writer.fail(op, f"works along axis {axis}, the batch; samples would mix, axes behind it are read")
    return place - 1


# --- shapes ----------------------------------------------------------------------------------------------------------


def reshape(writer: Writer, op: FileOperator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS and CAST to the same type: the output's declared shape says it all."""
    y = writer.output(op)
    x, shape = writer.same_grid(op, 0, y), writer.sample_shape(y, writer.batch)
    if op.kind == "reshape" and len(op.inputs) > 1 and op.inputs[1] >= 0:
        _require_shape(writer, op, y)
    writer.give(op, Steps(writer, op).reshape(x, shape))


def _require_shape(writer: Writer, op: FileOperator, y: FileTensor) -> None:
    """Require the shape that RESHAPE is told, where it is known, to be the declared one."""
    told = writer.file_tensor(op, 1)
    values = writer.numbers.get(told.index, told.data)
    if values is None or told.dtype not in ("int32", "int64"):
        raise writer.fail(op, f"takes its shape from {told}, which is not known before a run; store it in the file")
    wanted = [int(v) for v in values.reshape(-1)]
    if len(wanted) != len(y.shape) or any(a not in (-1, b) for a, b in zip(wanted, y.shape, strict=True)):
        raise writer.fail(op, f"is told the shape {wanted}, but its output is declared {list(y.shape)}")


def transpose(writer: Writer, op: FileOperator) -> None:
    """TRANSPOSE that leaves the batch in front."""
    x, axes = writer.same_grid(op, 0, writer.output(op)), writer.integers(op, 1)
    if sorted(axes) != list(range(len(x.shape) + 1)) or axes[0] != 0:
        raise writer.fail(op, f"permutes axes {axes}; permutations that leave the batch in front are read")
    writer.give(op, Steps(writer, op).permute(x, [axis - 1 for axis in axes[1:]]))


def space_to_depth(writer: Writer, op: FileOperator) -> None:
    """SPACE_TO_DEPTH and DEPTH_TO_SPACE: blocks of pixels and their channels, pixels first."""
    x, block, steps = writer.same_grid(op, 0, writer.output(op)), int(op.options["block"]), Steps(writer, op)
    if len(x.shape) != 3 or block < 1:
        raise writer.fail(op, f"has blocks of {block} on samples of shape {list(x.shape)}; maps and 1 or more are read")
    h, w, c = x.shape
    if op.kind == "space_to_depth":
        if h % block or w % block:
            raise writer.fail(op, f"has blocks of {block} that do not divide {list(x.shape)}")
        made = steps.permute(steps.reshape(x, (h // block, block, w // block, block, c)), (0, 2, 1, 3, 4))
        writer.give(op, steps.reshape(made, (h // block, w // block, c * block * block)))
        return
    if c % block**2:
        raise writer.fail(op, f"has blocks of {block} that do not divide the channels of {list(x.shape)}")
    inner = c // block**2
    made = steps.permute(steps.reshape(x, (h, w, block, block, inner)), (0, 2, 1, 3, 4))
    writer.give(op, steps.reshape(made, (h * block, w * block, inner)))


# --- borders and copies ----------------------------------------------------------------------------------------------


def pad(writer: Writer, op: FileOperator) -> None:
    """PAD with the zero point, PADV2 with a constant, MIRROR_PAD; the batch stays as it is."""
    x, y = writer.same_grid(op, 0, writer.output(op)), writer.output(op)
    _, amounts = writer.constant(op, 1, ("int32", "int64"))
    if amounts.shape != (len(x.shape) + 1, 2) or amounts.min() < 0 or amounts[0].any():
        raise writer.fail(op, f"has paddings {amounts.tolist()}; two per axis, 0 or more, none for the batch are read")
    widths = [(int(a), int(b)) for a, b in amounts[1:]]
    if tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)) != writer.sample_shape(y, writer.batch):
        raise writer.fail(op, f"pads {list(x.shape)} by {widths}, but its output is declared {list(y.shape)}")
    if op.kind == "mirror_pad":
        _mirror(writer, op, x, widths)
        return
    value = x.zero_point
    if op.kind == "padv2":
        fill, values = writer.constant(op, 2, CODE_TYPES)
        if values.size != 1 or writer.grid(op, fill) != writer.grid(op, y):
            raise writer.fail(op, f"fills with {fill}; one code on the input's grid is read")
        value = int(values.reshape(-1)[0])
    writer.give(op, Steps(writer, op).pad(x, widths, value))


def _mirror(writer: Writer, op: FileOperator, x: Tensor, widths: list[tuple[int, int]]) -> None:
    mode, steps = op.options["mode"], Steps(writer, op)
    if mode not in (0, 1):
        raise writer.fail(op, f"has mode {mode}; REFLECT (0) and SYMMETRIC (1) are read")
    for axis, (before, after) in enumerate(widths):
        n, own = x.shape[axis], 1 - mode
        if max(before, after) > n - own or n + before + after > LONGEST_GATHER:
            raise writer.fail(op, f"mirrors {before} and {after} of {n} places; at most {n - own} are read")
        ahead, behind = range(before - 1 + own, own - 1, -1), range(n - 1 - own, n - 1 - own - after, -1)
        x = steps.take(x, axis, [*ahead, *range(n), *behind])
    writer.give(op, x)


def tile(writer: Writer, op: FileOperator) -> None:
    """TILE: copies one after the other along each axis but the batch."""
    y, times, steps = writer.output(op), writer.integers(op, 1), Steps(writer, op)
    x = writer.same_grid(op, 0, y)
    if len(times) != len(x.shape) + 1 or min(times) < 1 or times[0] != 1:
        raise writer.fail(op, f"repeats by {times}; 1 or more per axis, 1 for the batch are read")
    if tuple(n * t for n, t in zip(x.shape, times[1:], strict=True)) != writer.sample_shape(y, writer.batch):
        raise writer.fail(op, f"repeats {list(x.shape)} by {times}, but its output is declared {list(y.shape)}")
    for axis, count in enumerate(times[1:]):
        if count > LONGEST_GATHER:
            raise writer.fail(op, f"repeats an axis {count} times; {LONGEST_GATHER} are read")
        x = steps.join([x] * count, axis) if count > 1 else x
    writer.give(op, x)


def reverse(writer: Writer, op: FileOperator) -> None:
    """REVERSE_V2 along axes behind the batch."""
    x, steps = writer.same_grid(op, 0, writer.output(op)), Steps(writer, op)
    for axis in {sample_axis(writer, op, a, len(x.shape) + 1) for a in writer.integers(op, 1)}:
        x = steps.take(x, axis, range(x.shape[axis] - 1, -1, -1))
    writer.give(op, x)


def gather(writer: Writer, op: FileOperator) -> None:
    """GATHER of stored places along an axis behind the batch."""
    x, (tensor, data) = writer.same_grid(op, 0, writer.output(op)), writer.constant(op, 1, ("int32", "int64"))
    axis, chosen = sample_axis(writer, op, int(op.options["axis"]), len(x.shape) + 1), data.reshape(-1).tolist()
    if op.options["batch_dims"] != 0 or data.ndim > 1:
        raise writer.fail(op, f"gathers {tensor} with batch_dims {op.options['batch_dims']}; lists and 0 are read")
    if min(chosen) < 0 or max(chosen) >= x.shape[axis]:
        raise writer.fail(op, f"gathers places {min(chosen)}..{max(chosen)} of {x.shape[axis]}; the file is damaged")
    steps = Steps(writer, op)
    made = steps.take(x, axis, chosen)
    writer.give(op, made if data.ndim else steps.reshape(made, (*x.shape[:axis], *x.shape[axis + 1 :]) or (1,)))
