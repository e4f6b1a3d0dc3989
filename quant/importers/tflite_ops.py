"""TensorFlow Lite operators beside the convolutions as Program ops, each by its kernel's rule."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.arith import code_range
from accelsim.program import Add, AvgPool, Clamp, Concat, MaxPool, Op, Pad, Requantize, Reshape, Softmax, Table, Tensor
from quant.importers import tflite_sums
from quant.importers.tflite_kernels import KERNELS, Segments
from quant.importers.tflite_reader import FileOperator, FileTensor
from quant.importers.tflite_softmax import fixed_exponentials, float_exponentials
from quant.importers.tflite_sums import window
from quant.importers.tflite_writer import CODE_TYPES, Writer

INDEX_TYPES = ("int32", "int64")


def _name(op: FileOperator) -> str:
    return f"{op.kind}_{op.index}"


def _target(writer: Writer, op: FileOperator) -> Tensor:
    """Declare the output, within the ends of the fused activation."""
    y = writer.output(op)
    return writer.declare(op, y, writer.limits(op, y))


def _same_grid(writer: Writer, op: FileOperator, slot: int = 0) -> tuple[Tensor, FileTensor]:
    """Return an input of codes, required to be on the output's grid, and the output."""
    x, y = writer.file_tensor(op, slot), writer.output(op)
    source = writer.read(op, slot)
    if writer.grid(op, x) != writer.grid(op, y) or x.dtype != y.dtype:
        raise writer.fail(op, f"brings {x} onto another grid, that of {y}; equal scales and zero points are read")
    return source, y


# --- element by element ----------------------------------------------------------------------------------------------


def _aligned(writer: Writer, op: FileOperator, slot: int, rank: int) -> Tensor:
    """Return an operand with axes of length one put in front up to a rank."""
    x = writer.read(op, slot)
    if len(x.shape) >= rank:
        return x
    shape = (1,) * (rank - len(x.shape)) + x.shape
    made = writer.add(replace(x, name=f"{_name(op)}.in{slot}", shape=shape))
    return writer.emit(Reshape(name=f"{made.name}.reshape", inputs=(x.name,), output=made.name, shape=shape))


def add(writer: Writer, op: FileOperator) -> None:
    """ADD, and SUB with the second sign turned."""
    files = [writer.file_tensor(op, slot) for slot in (0, 1)]
    y = writer.output(op)
    (s0, z0), (s1, z1), (out, _) = (writer.grid(op, tensor) for tensor in (*files, y))
    if len({tensor.dtype for tensor in (*files, y)}) > 1:
        raise writer.fail(op, "mixes int8 and uint8; the kernels take one type")
    rank = max(len(tensor.shape) for tensor in files) - 1
    operands = [_aligned(writer, op, slot, rank) for slot in (0, 1)]
    target = _target(writer, op)
    rule, multipliers, multiplier_out = writer.kernels.add, (float(s0 / out), float(s1 / out)), 1.0
    if rule == "xnnpack" and not all(2.0**-10 <= m < 2.0**8 for m in multipliers):
        rule = "gemmlowp_double"  # beyond what the delegate takes: the built-in kernel
    if rule == "gemmlowp_double" and writer.kernels is not KERNELS["reference"] and sum(multipliers) * 255 >= 2**15:
        raise writer.fail(
            op, f"scales its inputs by {multipliers}; the built-in kernel wraps at 16 bits, others do not"
        )
    if rule == "gemmlowp_double":
        twice = 2 * max(np.float64(s0), np.float64(s1))
        multipliers = (float(s0 / twice), float(s1 / twice))
        multiplier_out = float(twice / (2**20 * np.float64(out)))
    writer.emit(
        Add(
            name=_name(op), inputs=(operands[0].name, operands[1].name), output=target.name, multipliers=multipliers,
            zero_points=(z0, z1), zero_out=target.zero_point, low=target.low, high=target.high,
            signs=(1, -1 if op.kind == "sub" else 1), rule=rule, multiplier_out=multiplier_out,
        )
    )  # fmt: skip


def relu(writer: Writer, op: FileOperator) -> None:
    """RELU and RELU6 that keep the grid."""
    x, y = _same_grid(writer, op)
    target = writer.declare(op, y, writer.limits(replace(op, options={"activation": 1 if op.kind == "relu" else 3}), y))
    writer.emit(Clamp(name=_name(op), inputs=(x.name,), output=target.name, low=target.low, high=target.high))


def quantize(writer: Writer, op: FileOperator) -> None:
    """QUANTIZE: of a real network input it is the input's grid; between 8-bit types it requantizes."""
    file, y = writer.file_tensor(op, 0), writer.output(op)
    if file.dtype == "float32" and file.index in writer.real:
        if writer.real[file.index] != -1:
            raise writer.fail(op, f"quantizes {file} a second time; one grid per network input is read")
        writer.declare(op, y)
        writer.real[file.index] = y.index
        return
    (scale, zero), (out, _) = writer.grid(op, file), writer.grid(op, y)
    source, target = writer.read(op, 0), writer.declare(op, y)
    multiplier, segments = float(np.float64(scale) / np.float64(out)), writer.kernels.requantize(source.size)
    if multiplier == 1.0:
        segments = (("single_up", source.size),)  # nothing is rounded
    elif writer.kernels.delegates and file.dtype == y.dtype and 2.0**-8 <= scale / out <= 2.0**7:
        # XNNPACK's convert: a multiplier of 8 fraction bits, one rounding, ties up
        multiplier, segments = float(np.rint(np.float32(256) * (scale / out)) / 256), (("single_up", source.size),)
    if len(segments) > 1 and writer.batch > 1:
        raise writer.fail(op, f"rounds in vectors that run across its batch of {writer.batch}; store the file for one")
    flat = source if len(segments) == 1 else _flat(writer, op, source)
    joined = target if flat is source else writer.add(replace(target, name=f"{_name(op)}.out", shape=flat.shape))
    low, high = target.low, target.high

    def make(name: str, inner: str, output: str, rule: str, run: slice) -> Op:
        return Requantize(
            name=name, inputs=(inner,), output=output, multiplier=np.array([multiplier]), rule=rule, zero_in=zero,
            zero_out=target.zero_point, low=low, high=high,
        )  # fmt: skip

    writer.by_segments(flat, joined, segments, make)
    if joined is not target:
        writer.emit(Reshape(name=_name(op), inputs=(joined.name,), output=target.name, shape=target.shape))


def _flat(writer: Writer, op: FileOperator, x: Tensor) -> Tensor:
    made = writer.add(replace(x, name=f"{_name(op)}.flat", shape=(x.size,)))
    return writer.emit(Reshape(name=f"{made.name}.reshape", inputs=(x.name,), output=made.name, shape=(x.size,)))


def dequantize(writer: Writer, op: FileOperator) -> None:
    """DEQUANTIZE of a network output: the codes are the output, their grid tells the real values."""
    source, y = writer.file_tensor(op, 0), writer.output(op)
    writer.read(op, 0)
    if y.dtype != "float32" or y.index not in writer.model.outputs:
        raise writer.fail(op, f"gives {y} to operators on real numbers; networks of 8-bit codes are read")
    writer.real[y.index] = source.index


# --- pools and means -------------------------------------------------------------------------------------------------


def _pool(writer: Writer, op: FileOperator) -> tuple[Tensor, Tensor, dict[str, Any]]:
    x, _ = _same_grid(writer, op)
    kernel = (int(op.options["filter_h"]), int(op.options["filter_w"]))
    where = window(writer, op, x.shape, kernel)
    own = {"kernel": where.kernel, "stride": where.stride, "padding": where.padding}
    return x, _target(writer, op), own


def average_pool_2d(writer: Writer, op: FileOperator) -> None:
    """AVERAGE_POOL_2D: codes are added as they are and divided by the number of pixels inside the map."""
    x, target, own = _pool(writer, op)
    writer.emit(
        AvgPool(
            name=_name(op), inputs=(x.name,), output=target.name, count_padding=False, multiplier=1.0, zero_in=0,
            zero_out=0, low=target.low, high=target.high, rule="divide_away", **own,
        )
    )  # fmt: skip


def max_pool_2d(writer: Writer, op: FileOperator) -> None:
    """MAX_POOL_2D, then the fused activation where there is one."""
    x, target, own = _pool(writer, op)
    plain = (target.low, target.high) == code_range(8, target.signed)
    pooled = target if plain else writer.add(replace(target, name=f"{_name(op)}.max", low=x.low, high=x.high))
    writer.emit(MaxPool(name=_name(op), inputs=(x.name,), output=pooled.name, **own))
    if pooled is not target:
        name = f"{_name(op)}.clamp"
        writer.emit(Clamp(name=name, inputs=(pooled.name,), output=target.name, low=target.low, high=target.high))


def mean(writer: Writer, op: FileOperator) -> None:
    """MEAN over height and width of a map."""
    file, y, x = writer.file_tensor(op, 0), writer.output(op), writer.read(op, 0)
    axes = {int(a) % len(file.shape) for a in writer.constant(op, 1, INDEX_TYPES)[1].reshape(-1)}
    if len(file.shape) != 4 or axes != {1, 2}:
        raise writer.fail(op, f"averages axes {sorted(axes)} of {file}; height and width of a map are read")
    if file.dtype != y.dtype:
        raise writer.fail(op, f"turns {file.dtype} into {y.dtype}; one type is read")
    (scale, zero), (out, zero_out) = writer.grid(op, file), writer.grid(op, y)
    target = writer.declare(op, y)
    channels, area = x.shape[-1], x.shape[0] * x.shape[1]
    if target.size != channels:
        raise writer.fail(op, f"gives {channels} values, but its output is declared {list(target.shape)}")
    kernels, keep = writer.kernels, bool(op.options["keep_dims"])
    segments: Segments = kernels.map_mean(channels) if keep else ((kernels.mean, channels),)
    shaped = (1, 1, channels)
    pooled = target if target.shape == shaped else writer.add(replace(target, name=f"{_name(op)}.mean", shape=shaped))
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
        writer.emit(Reshape(name=_name(op), inputs=(pooled.name,), output=target.name, shape=target.shape))


def tflite_away(value: np.float32) -> int:
    """Round a float32 half away from zero by adding half and cutting, as TensorFlow Lite does."""
    return int(np.trunc(value + np.copysign(np.float32(0.5), value)))


# --- moving codes ----------------------------------------------------------------------------------------------------


def reshape(writer: Writer, op: FileOperator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the output's declared shape says it all."""
    x, y = _same_grid(writer, op)
    shape = writer.sample_shape(y, writer.batch)
    if math.prod(shape) != x.size:
        raise writer.fail(op, f"brings samples of {x.size} values into {list(shape)}")
    target = writer.declare(op, y, (x.low, x.high))
    writer.emit(Reshape(name=_name(op), inputs=(x.name,), output=target.name, shape=shape))


def pad(writer: Writer, op: FileOperator) -> None:
    """PAD with the zero point, PADV2 with a constant; the batch stays as it is."""
    x, y = _same_grid(writer, op)
    _, amounts = writer.constant(op, 1, INDEX_TYPES)
    if amounts.shape != (len(x.shape) + 1, 2) or amounts.min() < 0 or amounts[0].any():
        raise writer.fail(op, f"has paddings {amounts.tolist()}; two per axis, 0 or more, none for the batch are read")
    widths = tuple((int(a), int(b)) for a, b in amounts[1:])
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True))
    value = x.zero_point
    if op.kind == "padv2":
        fill, values = writer.constant(op, 2, CODE_TYPES)
        if values.size != 1 or writer.grid(op, fill) != writer.grid(op, y):
            raise writer.fail(op, f"fills with {fill}; one code on the input's grid is read")
        value = int(values.reshape(-1)[0])
    target = writer.declare(op, y, (min(x.low, value), max(x.high, value)))
    if shape != target.shape:
        raise writer.fail(op, f"gives {list(shape)}, but its output is declared {list(target.shape)}")
    writer.emit(Pad(name=_name(op), inputs=(x.name,), output=target.name, widths=widths, value=value))


def concatenation(writer: Writer, op: FileOperator) -> None:
    """CONCATENATION; uint8 inputs on other grids are brought onto the output's by a table."""
    y = writer.output(op)
    axis = int(op.options["axis"])
    axis += len(y.shape) if axis < 0 else 0
    if not 1 <= axis < len(y.shape) or op.options["activation"] != 0 or not op.inputs:
        raise writer.fail(op, f"joins {len(op.inputs)} inputs along axis {axis}; axes behind the batch are read")
    parts = [_onto_grid(writer, op, slot, y) for slot in range(len(op.inputs))]
    target = writer.declare(op, y)
    names = tuple(part.name for part in parts)
    writer.emit(Concat(name=_name(op), inputs=names, output=target.name, axis=axis - 1))


def _onto_grid(writer: Writer, op: FileOperator, slot: int, y: FileTensor) -> Tensor:
    file, x = writer.file_tensor(op, slot), writer.read(op, slot)
    (scale, zero), (out, zero_out) = writer.grid(op, file), writer.grid(op, y)
    if file.dtype == y.dtype and (scale, zero) == (out, zero_out):
        return x
    if file.dtype != "uint8" or y.dtype != "uint8":
        raise writer.fail(op, f"joins {file}, which is not on the grid of {y}; int8 inputs must share it")
    # ConcatenationWithScaling: float32 product and sum, ties away from zero
    factor = scale * (np.float32(1) / out)
    values = np.arange(256, dtype=np.float32) * factor + -np.float32(zero) * factor
    rounded = np.trunc(values + np.copysign(np.float32(0.5), values)).astype(np.int64) + zero_out
    name = f"{_name(op)}.in{slot}"
    made = replace(x, name=name, low=0, high=255, scale=float(out), zero_point=zero_out)
    writer.add(made)
    entries = np.clip(rounded, 0, 255)
    return writer.emit(Table(name=f"{name}.table", inputs=(x.name,), output=name, entries=entries, low_code=0))


def softmax(writer: Writer, op: FileOperator) -> None:
    """SOFTMAX over the last axis; its output's grid is 1/256 from the lowest code on."""
    file, y, x = writer.file_tensor(op, 0), writer.output(op), writer.read(op, 0)
    (scale, _), (out, zero_out) = writer.grid(op, file), writer.grid(op, y)
    low, _ = code_range(8, y.dtype == "int8")
    if out != np.float32(1 / 256) or zero_out != low or file.dtype != y.dtype:
        raise writer.fail(op, f"gives scale {out} and zero point {zero_out}; the kernels give 1/256 and {low}")
    beta = float(op.options["beta"])
    if not 0 < beta < math.inf:
        raise writer.fail(op, f"has beta {beta}; a positive number is needed")
    rule = writer.kernels.softmax
    table = float_exponentials(float(scale), beta) if rule == "float32" else fixed_exponentials(float(scale), beta)
    target = writer.declare(op, y)
    writer.emit(
        Softmax(
            name=_name(op), inputs=(x.name,), output=target.name, exponentials=table, out_bits=8, rule=rule,
            zero_out=low,
        )
    )  # fmt: skip


OPERATORS: dict[str, Callable[[Writer, FileOperator], None]] = {
    "add": add,
    "average_pool_2d": average_pool_2d,
    "concatenation": concatenation,
    "conv_2d": tflite_sums.conv_2d,
    "depthwise_conv_2d": tflite_sums.depthwise_conv_2d,
    "dequantize": dequantize,
    "expand_dims": reshape,
    "fully_connected": tflite_sums.fully_connected,
    "max_pool_2d": max_pool_2d,
    "mean": mean,
    "pad": pad,
    "padv2": pad,
    "quantize": quantize,
    "relu": relu,
    "relu6": relu,
    "reshape": reshape,
    "softmax": softmax,
    "squeeze": reshape,
    "sub": add,
}
