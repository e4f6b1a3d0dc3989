"""TensorFlow Lite layers that the Program has no op for: transposed convolutions, and products of two activations."""

from dataclasses import replace

import numpy as np

from accelsim.program import MatMul, Requantize, Tensor
from quant.importers.tflite_kernels import KERNELS, KernelSet
from quant.importers.tflite_moves import Steps
from quant.importers.tflite_reader import FileOperator
from quant.importers.tflite_sums import Window, requantize, sums_of, weights, window
from quant.importers.tflite_writer import Writer


def transpose_conv(writer: Writer, op: FileOperator) -> None:
    """TRANSPOSE_CONV: zero points put between the pixels, then a convolution of stride 1 with the kernel turned round.

    The zeros between are multiplied like any other value: a stride of s costs s² times the products that count.
    """
    if len(op.inputs) < 3:
        raise writer.fail(op, f"has {len(op.inputs)} inputs; sizes, weights and a map are needed")
    told, y = writer.integers(op, 0), writer.output(op)
    layer = replace(op, inputs=(op.inputs[2], op.inputs[1], *op.inputs[3:4]))
    stored, weight = weights(writer, layer, 4, 0)
    x = writer.read(layer, 0)
    plain = replace(layer, options={**op.options, "padding": 1})
    where = window(writer, plain, x.shape, (weight.shape[1], weight.shape[2]))
    if tuple(told) != y.shape or len(y.shape) != 4:
        raise writer.fail(op, f"is told the shape {told}, but its output is declared {list(y.shape)}")
    if weight.shape[3] != x.shape[-1] or y.shape[3] != weight.shape[0]:
        raise writer.fail(op, f"has weights {stored} from {x.shape[-1]} to {y.shape[3]} channels; they do not fit")
    spread, padding = _spread(writer, op, x, where)
    turned = np.ascontiguousarray(weight[:, ::-1, ::-1])
    target = writer.declare(op, y, writer.limits(op, y))
    taps = (turned, Window(where.kernel, (1, 1), (1, 1), padding), 1)
    sums = sums_of(writer, layer, spread, target.shape, taps)
    kernels = _kernels(writer, op, where)
    if stored.dtype == "uint8":
        requantize(writer, layer, sums, target, kernels.transpose_conv_uint8(target.size), flat=True)
    else:
        requantize(writer, layer, sums, target, kernels.transpose_conv(weight.shape[0]))


def _kernels(writer: Writer, op: FileOperator, where: Window) -> KernelSet:
    """Return whose rule counts: XNNPACK leaves SAME kernels that are smaller than their stride."""
    covered = all(k >= s for k, s in zip(where.kernel, where.stride, strict=True))
    return writer.kernels if op.options["padding"] == 1 or covered else KERNELS[writer.kernels.fallback]


def _spread(writer: Writer, op: FileOperator, x: Tensor, where: Window) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Return the map with zero points between its pixels, and (top, left, bottom, right) around it."""
    steps, (h, w, c), sizes = Steps(writer, op), x.shape, writer.output(op).shape[1:3]
    before = [
        _padding(writer, op, (n, size, k, s))
        for n, size, k, s in zip((h, w), sizes, where.kernel, where.stride, strict=True)
    ]
    gaps = [s - 1 if n > 1 else 0 for n, s in zip((h, w), where.stride, strict=True)]
    border = [(0, 0), (0, gaps[0]), (0, 0), (0, gaps[1]), (0, 0)]
    apart = steps.pad(steps.reshape(x, (h, 1, w, 1, c)), border, x.zero_point)
    spread = steps.reshape(apart, (h * (gaps[0] + 1), w * (gaps[1] + 1), c))
    rests = [
        size + k - 1 - n - pad for size, k, n, pad in zip(sizes, where.kernel, spread.shape[:2], before, strict=True)
    ]
    limits = [(0, n + min(rest, 0), 1) for n, rest in zip(spread.shape[:2], rests, strict=True)]
    spread = steps.cut(spread, [*limits, (0, c, 1)])
    return spread, (before[0], before[1], max(rests[0], 0), max(rests[1], 0))


def _padding(writer: Writer, op: FileOperator, sizes: tuple[int, int, int, int]) -> int:
    """Return the padding in front of an axis of (input, output, kernel, stride) once its pixels are spread."""
    n, out, kernel, stride = sizes
    same = op.options["padding"] == 0
    if op.options["padding"] not in (0, 1):
        raise writer.fail(op, f"has padding kind {op.options['padding']}; SAME (0) and VALID (1) are read")
    if -(-(out if same else out - kernel + 1) // stride) != n:
        raise writer.fail(op, f"makes {out} pixels of {n} by stride {stride} and kernel {kernel}; the file is damaged")
    return kernel - 1 - (max((n - 1) * stride + kernel - out, 0) // 2 if same else 0)


def batch_matmul(writer: Writer, op: FileOperator) -> None:
    """BATCH_MATMUL of two activations, the batch in front of both."""
    files = (writer.file_tensor(op, 0), writer.file_tensor(op, 1), writer.output(op))
    if len({tensor.dtype for tensor in files}) > 1:
        raise writer.fail(op, "mixes int8 and uint8; the kernels take one type")
    steps, (a, b) = Steps(writer, op), (writer.read(op, 0), writer.read(op, 1))
    rank = len(a.shape)
    if rank != len(b.shape) or rank < 2:
        raise writer.fail(op, f"multiplies {files[0]} by {files[1]}; equal ranks of 3 or more are read")
    if op.options["adj_x"]:
        a = steps.permute(a, [*range(rank - 2), rank - 1, rank - 2])
    turned = bool(op.options["adj_y"])
    if a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-1 if turned else -2]:
        raise writer.fail(op, f"multiplies {list(a.shape)} by {list(b.shape)}; they do not fit")
    shape = (*a.shape[:-1], b.shape[-2 if turned else -1])
    zeros, name = (a.zero_point, b.zero_point), op.label
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip((a, b), zeros, strict=True)]
    bound = a.shape[-1] * reach[0] * reach[1]
    (s0, _), (s1, _), (out, _) = (writer.grid(op, tensor) for tensor in files)
    sums = writer.accumulator(f"{name}.sum", shape, max(bound, 1), np.array([np.float64(s0) * np.float64(s1)]))
    names = (a.name, b.name)
    writer.emit(MatMul(name=name, inputs=names, output=sums.name, zero_points=zeros, transpose=turned, bound=bound))
    target = writer.declare(op, files[2])
    if shape != target.shape:
        raise writer.fail(op, f"gives {list(shape)}, but its output is declared {list(target.shape)}")
    multiplier = np.array([float(np.float64(s0 * s1) / np.float64(out))])
    writer.emit(
        Requantize(
            name=f"{target.name}.op", inputs=(sums.name,), output=target.name, multiplier=multiplier,
            rule="gemmlowp_double", zero_out=target.zero_point, low=target.low, high=target.high,
        )
    )  # fmt: skip
