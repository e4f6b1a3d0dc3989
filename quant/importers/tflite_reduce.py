"""TensorFlow Lite operators that take many codes to one: pools, means, and maxima over axes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.arith import code_range
from accelsim.program import AvgPool, Clamp, MaxPool, Op, Reshape, Tensor
from quant.importers.tflite_kernels import Segments
from quant.importers.tflite_moves import Steps, sample_axis
from quant.importers.tflite_reader import FileOperator
from quant.importers.tflite_sums import window
from quant.importers.tflite_writer import Writer


def _pool(writer: Writer, op: FileOperator) -> tuple[Tensor, Tensor, dict[str, Any]]:
    x = writer.same_grid(op, 0, writer.output(op))
    kernel = (int(op.options["filter_h"]), int(op.options["filter_w"]))
    where = window(writer, op, x.shape, kernel)
    own = {"kernel": where.kernel, "stride": where.stride, "padding": where.padding}
    return x, writer.declare(op, writer.output(op), writer.limits(op, writer.output(op))), own


def average_pool_2d(writer: Writer, op: FileOperator) -> None:
    """AVERAGE_POOL_2D: codes are added as they are and divided by the number of pixels inside the map."""
    x, target, own = _pool(writer, op)
    writer.emit(
        AvgPool(
            name=op.label, inputs=(x.name,), output=target.name, count_padding=False, multiplier=1.0, zero_in=0,
            zero_out=0, low=target.low, high=target.high, rule="divide_away", **own,
        )
    )  # fmt: skip


def max_pool_2d(writer: Writer, op: FileOperator) -> None:
    """MAX_POOL_2D, then the fused activation where there is one."""
    x, target, own = _pool(writer, op)
    plain = (target.low, target.high) == code_range(8, target.signed)
    pooled = target if plain else writer.add(replace(target, name=f"{op.label}.max", low=x.low, high=x.high))
    writer.emit(MaxPool(name=op.label, inputs=(x.name,), output=pooled.name, **own))
    if pooled is not target:
        name = f"{op.label}.clamp"
        writer.emit(Clamp(name=name, inputs=(pooled.name,), output=target.name, low=target.low, high=target.high))


def _axes(writer: Writer, op: FileOperator, rank: int) -> list[int]:
    """Return the axes that go, the batch apart."""
    axes = sorted({sample_axis(writer, op, axis, rank) for axis in writer.integers(op, 1)})
    if not axes:
        raise writer.fail(op, "names no axes; one at least is read")
    return axes


def _require_left(writer: Writer, op: FileOperator, shape: tuple[int, ...], axes: list[int]) -> None:
    """Require what the axes leave to be the output's declared shape."""
    keep, y = bool(op.options["keep_dims"]), writer.output(op)
    left = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
    if left != list(y.shape[1:]) or y.shape[:1] != (writer.batch,):
        raise writer.fail(op, f"gives {left} values, but its output is declared {list(y.shape)}")


def _together(steps: Steps, x: Tensor, axes: list[int]) -> Tensor:
    """Return a map ``[places that become one, 1, places that stay]``."""
    kept = [i for i in range(len(x.shape)) if i not in axes]
    places = math.prod(x.shape[i] for i in axes)
    return steps.reshape(steps.permute(x, [*axes, *kept]), (places, 1, x.size // places))


def mean(writer: Writer, op: FileOperator) -> None:
    """MEAN over axes behind the batch."""
    file, y, x = writer.file_tensor(op, 0), writer.output(op), writer.read(op, 0)
    axes = _axes(writer, op, len(file.shape))
    if file.dtype != y.dtype:
        raise writer.fail(op, f"turns {file.dtype} into {y.dtype}; one type is read")
    (scale, zero), (out, zero_out) = writer.grid(op, file), writer.grid(op, y)
    over_map = len(file.shape) == 4 and axes == [0, 1]
    _require_left(writer, op, x.shape, axes)
    x = x if over_map else _together(Steps(writer, op), x, axes)
    target = writer.declare(op, y)
    channels, area = x.shape[-1], x.shape[0] * x.shape[1]
    kernels = writer.kernels
    mapped = over_map and bool(op.options["keep_dims"])
    segments: Segments = kernels.map_mean(channels) if mapped else ((kernels.mean, channels),)
    shaped = (1, 1, channels)
    pooled = target if target.shape == shaped else writer.add(replace(target, name=f"{op.label}.mean", shape=shaped))
    # the built-in kernel adds codes as they are, and takes the rounded zero point off at the end (optimized/reduce.h)
    shift = tflite_away(np.float32(zero) * scale / out)

    def make(name: str, source: str, output: str, rule: str, run: slice) -> Op:
        raw = rule in ("ruy_double_up", "gemmlowp_double")
        return AvgPool(
            name=name, inputs=(source,), output=output, kernel=(x.shape[0], x.shape[1]), stride=(1, 1), rule=rule,
            multiplier=float(scale / (np.float32(area) * out)) if raw else float(np.float64(scale) / np.float64(out)),
            zero_in=0 if raw else zero, zero_out=zero_out - shift if raw else zero_out, low=target.low,
            high=target.high,
        )  # fmt: skip

    writer.by_segments(x, pooled, segments, make)
    if pooled is not target:
        writer.emit(Reshape(name=op.label, inputs=(pooled.name,), output=target.name, shape=target.shape))


def reduce_extreme(writer: Writer, op: FileOperator) -> None:
    """REDUCE_MAX and REDUCE_MIN over axes behind the batch."""
    y = writer.output(op)
    x, (low, high) = writer.same_grid(op, 0, y), code_range(8, y.dtype == "int8")
    axes = _axes(writer, op, len(x.shape) + 1)
    _require_left(writer, op, x.shape, axes)
    steps = Steps(writer, op)
    x = _together(steps, x, axes)
    x = steps.reflected(x, low, high) if op.kind == "reduce_min" else x
    made = writer.add(replace(x, name=f"{op.label}.max", shape=(1, 1, x.shape[2])))
    kernel = (x.shape[0], 1)
    writer.emit(MaxPool(name=f"{made.name}.pool", inputs=(x.name,), output=made.name, kernel=kernel, stride=kernel))
    made = steps.reflected(made, low, high) if op.kind == "reduce_min" else made
    writer.give(op, steps.reshape(made, writer.sample_shape(y, writer.batch)))


def tflite_away(value: np.float32) -> int:
    """Round a float32 half away from zero by adding half and cutting, as TensorFlow Lite does."""
    return int(np.trunc(value + np.copysign(np.float32(0.5), value)))
