"""TensorFlow Lite convolutions and linear layers as Program ops: exact sums, then their kernel's requantization."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Conv, Op, Requantize, Reshape, Tensor, conv_bound
from quant.importers.tflite_kernels import KERNELS, Segments
from quant.importers.tflite_reader import FileOperator, FileTensor
from quant.importers.tflite_writer import CODE_TYPES, Writer

IntArray = NDArray[np.integer]


@dataclass(frozen=True)
class Window:
    """Geometry of a windowed operator: (rows, columns) each, padding as (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]


def window(writer: Writer, op: FileOperator, shape: tuple[int, ...], kernel: tuple[int, int]) -> Window:
    """Return an operator's window on a map ``[height, width, channels]``; SAME pads the odd pixel behind.

    Raises
    ------
    ValueError
        If the input is no map, or a size is no positive number.
    """
    if len(shape) != 3:
        raise writer.fail(op, f"reads samples of shape {list(shape)}; a map [height, width, channels] is needed")
    stride = (int(op.options["stride_h"]), int(op.options["stride_w"]))
    dilation = (int(op.options.get("dilation_h", 1)), int(op.options.get("dilation_w", 1)))
    if min(*kernel, *stride, *dilation) < 1:
        raise writer.fail(op, f"has kernel {kernel}, stride {stride}, dilation {dilation}; 1 or more is needed")
    kind = op.options["padding"]
    if kind not in (0, 1):
        raise writer.fail(op, f"has padding kind {kind}; SAME (0) and VALID (1) are read")
    before, after = [0, 0], [0, 0]
    if kind == 0:
        for axis in (0, 1):
            reach = (kernel[axis] - 1) * dilation[axis] + 1
            total = max((-(-shape[axis] // stride[axis]) - 1) * stride[axis] + reach - shape[axis], 0)
            before[axis], after[axis] = total // 2, total - total // 2
    return Window(kernel, stride, dilation, (before[0], before[1], after[0], after[1]))


def weights(writer: Writer, op: FileOperator, rank: int, axis: int) -> tuple[FileTensor, IntArray]:
    """Return weights and the operands that the array multiplies, zero point taken off; `axis` is the channels'."""
    tensor, data = writer.constant(op, 1, CODE_TYPES)
    if data.ndim != rank:
        raise writer.fail(op, f"has weights {tensor}; {rank} axes are needed")
    if not tensor.scales.size or (tensor.scales.size > 1 and tensor.axis != axis):
        raise writer.fail(op, f"has weights {tensor} with {tensor.scales.size} scales along axis {tensor.axis}")
    if tensor.dtype == "int8" and tensor.zero_points.any():
        raise writer.fail(op, f"has int8 weights {tensor} with a zero point; they must be symmetric")
    if np.unique(tensor.zero_points).size > 1:
        raise writer.fail(op, f"has weights {tensor} with several zero points; one is read")
    zero = int(tensor.zero_points[0])
    if not 0 <= zero <= 255:
        raise writer.fail(op, f"has weights {tensor} with zero point {zero} outside 0..255")
    return tensor, data.astype(np.int16) - np.int16(zero) if zero else data.copy()  # data is a view of the file


def _bias(writer: Writer, op: FileOperator, out: int) -> NDArray[np.int64]:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(out, dtype=np.int64)
    tensor, data = writer.constant(op, 2, ("int32",))
    if data.shape != (out,):
        raise writer.fail(op, f"has bias {tensor} for {out} channels")
    return data.astype(np.int64)


def _multiplier(rule: str, x: FileTensor, weight: FileTensor, y: FileTensor) -> NDArray[np.float64]:
    """Return input scale × weight scale ÷ output scale as the kernel of a rule computes it."""
    if rule == "float32_rne":
        return (x.scales * weight.scales / y.scales).astype(np.float64)
    wide = [t.scales.astype(np.float64) for t in (x, weight, y)]
    # kernel_util.cc, GetQuantizedConvolutionMultipler: one scale for all channels is multiplied in float32 first
    product = (x.scales * weight.scales).astype(np.float64) if weight.scales.size == 1 else wide[0] * wide[1]
    return product / wide[2]


def sums_of(
    writer: Writer, op: FileOperator, x: Tensor, shape: tuple[int, ...], own: tuple[IntArray, Window, int]
) -> Tensor:
    """Emit the sums of products, the input's zero point folded into the bias; `own` is (operands, window, groups)."""
    weight, where, groups = own
    out = weight.shape[0]
    if groups < 1 or out % groups or x.shape[-1] != weight.shape[3] * groups:
        raise writer.fail(op, f"has weights {list(weight.shape)} for {x.shape[-1]} channels; they do not fit")
    file, stored = writer.file_tensor(op, 0), writer.file_tensor(op, 1)
    taps = weight.reshape(out, -1).sum(axis=1, dtype=np.int64)
    bias = _bias(writer, op, out) - x.zero_point * taps
    reach = max(x.magnitude, abs(x.zero_point) if any(where.padding) else 0)
    bound = conv_bound(weight, bias, reach)
    scales = file.scales.astype(np.float64) * stored.scales.astype(np.float64)
    name = op.label
    writer.accumulator(f"{name}.sum", shape, max(int(bound.max()), 1), scales)
    return writer.emit(
        Conv(
            name=name, inputs=(x.name,), output=f"{name}.sum", weight=weight, bias=bias,
            weight_bits=8 if weight.dtype.itemsize == 1 else 9, storage_bits=8, bound=bound, stride=where.stride,
            padding=where.padding, dilation=where.dilation, groups=groups, pad_value=x.zero_point,
        )
    )  # fmt: skip


def requantize(
    writer: Writer, op: FileOperator, sums: Tensor, target: Tensor, segments: Segments, flat: bool = False
) -> None:
    """Emit the kernel's requantization; `segments` run along the channels, or along all elements where `flat`."""
    x, y = writer.file_tensor(op, 0), writer.output(op)
    multiplier = _multiplier(segments[0][0], x, writer.file_tensor(op, 1), y)
    low, high = writer.limits(op, y)

    def make(name: str, source: str, output: str, rule: str, run: slice) -> Op:
        part = multiplier[run] if multiplier.size > 1 else multiplier
        return Requantize(
            name=name, inputs=(source,), output=output, multiplier=part, rule=rule, zero_out=target.zero_point,
            low=low, high=high,
        )  # fmt: skip

    if flat:
        writer.by_elements(op, sums, target, segments, make)
    else:
        writer.by_segments(sums, target, segments, make)


def _pixels(x: Tensor, where: Window) -> tuple[int, int]:
    """Return the windows along both axes (none where the input is smaller than one)."""
    top, left, bottom, right = where.padding
    padded = (x.shape[0] + top + bottom, x.shape[1] + left + right)
    reach = [(k - 1) * d + 1 for k, d in zip(where.kernel, where.dilation, strict=True)]
    rows, columns = ((n - r) // s + 1 for n, r, s in zip(padded, reach, where.stride, strict=True))
    return rows, columns


def _convolve(writer: Writer, op: FileOperator, own: tuple[IntArray, int], segments: Segments) -> None:
    weight, groups = own
    x = writer.read(op, 0)
    where = window(writer, op, x.shape, (weight.shape[1], weight.shape[2]))
    target = writer.declare(op, writer.output(op), writer.limits(op, writer.output(op)))
    shape = (*_pixels(x, where), weight.shape[0])
    if shape != target.shape:
        raise writer.fail(op, f"gives {list(shape)}, but its output is declared {list(target.shape)}")
    requantize(writer, op, sums_of(writer, op, x, shape, (weight, where, groups)), target, segments)


def conv_2d(writer: Writer, op: FileOperator) -> None:
    """CONV_2D, grouped where the weights have fewer channels than the input."""
    _, weight = weights(writer, op, 4, 0)
    groups, rest = divmod(writer.read(op, 0).shape[-1], weight.shape[3])
    if rest:
        raise writer.fail(op, f"has weights {list(weight.shape)} that do not divide the input's channels")
    _convolve(writer, op, (weight, groups), ((writer.kernels.conv, weight.shape[0]),))


def depthwise_conv_2d(writer: Writer, op: FileOperator) -> None:
    """DEPTHWISE_CONV_2D: weights ``[1, kh, kw, out]``; consecutive outputs share an input channel."""
    tensor, weight = weights(writer, op, 4, 3)
    if weight.shape[0] != 1:
        raise writer.fail(op, f"has weights {tensor}; their first axis must have length one")
    rule = writer.kernels.depthwise if tensor.dtype == "int8" else writer.kernels.depthwise_uint8
    if tensor.dtype == "uint8" and tensor.axis:
        rule = KERNELS["builtin"].depthwise_uint8
    operands = np.ascontiguousarray(weight.transpose(3, 1, 2, 0))
    _convolve(writer, op, (operands, writer.read(op, 0).shape[-1]), rule(weight.shape[3]))


def fully_connected(writer: Writer, op: FileOperator) -> None:
    """FULLY_CONNECTED: the input is read as rows of as many values as the weights have columns."""
    _, weight = weights(writer, op, 2, 0)
    if op.options["weights_format"] != 0:
        raise writer.fail(op, f"has weights in format {op.options['weights_format']}; the default order is read")
    x, (out, inner) = writer.read(op, 0), weight.shape
    rows, rest = divmod(x.size, inner)
    if rest:
        raise writer.fail(op, f"has {inner} columns of weights for samples of {x.size} values")
    head = (rows,) if rows > 1 else ()
    if x.shape != (*head, inner):
        x = _reshaped(writer, x, f"{op.label}.rows", (*head, inner))
    target = writer.declare(op, writer.output(op), writer.limits(op, writer.output(op)))
    if target.size != rows * out:
        raise writer.fail(op, f"gives {rows} × {out} values, but its output is declared {list(target.shape)}")
    plain = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))
    sums = sums_of(writer, op, x, (*head, out), (weight.reshape(out, 1, 1, inner), plain, 1))
    if target.shape != sums.shape:
        sums = _reshaped(writer, sums, f"{sums.name}.shaped", target.shape)
    requantize(writer, op, sums, target, ((writer.kernels.fully_connected, out),))


def _reshaped(writer: Writer, x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    if math.prod(shape) != x.size:
        raise ValueError(f"{writer.model.name}: cannot bring {x.name!r} of shape {x.shape} into {shape}")
    writer.add(Tensor(**{**vars(x), "name": name, "shape": shape}))
    return writer.emit(Reshape(name=f"{name}.reshape", inputs=(x.name,), output=name, shape=shape))
