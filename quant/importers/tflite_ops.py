"""Which TensorFlow Lite operators are read, and those that tie codes to real numbers: QUANTIZE, DEQUANTIZE, SOFTMAX."""

import math
from collections.abc import Callable

import numpy as np

from accelsim.arith import code_range
from accelsim.program import Op, Requantize, Softmax
from quant.importers import (
    tflite_curves,
    tflite_elementwise,
    tflite_moves,
    tflite_products,
    tflite_reduce,
    tflite_resize,
    tflite_slices,
    tflite_sums,
)
from quant.importers.tflite_reader import FileOperator
from quant.importers.tflite_softmax import fixed_exponentials, float_exponentials
from quant.importers.tflite_writer import Writer


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
    low, high = target.low, target.high

    def make(name: str, inner: str, output: str, rule: str, run: slice) -> Op:
        return Requantize(
            name=name, inputs=(inner,), output=output, multiplier=np.array([multiplier]), rule=rule, zero_in=zero,
            zero_out=target.zero_point, low=low, high=high,
        )  # fmt: skip

    writer.by_elements(op, source, target, segments, make)


def dequantize(writer: Writer, op: FileOperator) -> None:
    """DEQUANTIZE of a network output: the codes are the output, their grid tells the real values."""
    source, y = writer.file_tensor(op, 0), writer.output(op)
    writer.read(op, 0)
    if y.dtype != "float32" or y.index not in writer.model.outputs:
        raise writer.fail(op, f"gives {y} to operators on real numbers; networks of 8-bit codes are read")
    writer.real[y.index] = source.index


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
            name=op.label, inputs=(x.name,), output=target.name, exponentials=table, out_bits=8, rule=rule,
            zero_out=low,
        )
    )  # fmt: skip


OPERATORS: dict[str, Callable[[Writer, FileOperator], None]] = {
    "abs": tflite_curves.curve,
    "add": tflite_elementwise.add,
    "average_pool_2d": tflite_reduce.average_pool_2d,
    "batch_matmul": tflite_products.batch_matmul,
    "cast": tflite_moves.reshape,
    "concatenation": tflite_slices.concatenation,
    "conv_2d": tflite_sums.conv_2d,
    "depth_to_space": tflite_moves.space_to_depth,
    "depthwise_conv_2d": tflite_sums.depthwise_conv_2d,
    "dequantize": dequantize,
    "elu": tflite_curves.curve,
    "exp": tflite_curves.curve,
    "expand_dims": tflite_moves.reshape,
    "fully_connected": tflite_sums.fully_connected,
    "gather": tflite_moves.gather,
    "gelu": tflite_curves.curve,
    "hard_swish": tflite_curves.curve,
    "leaky_relu": tflite_curves.curve,
    "logistic": tflite_curves.curve,
    "max_pool_2d": tflite_reduce.max_pool_2d,
    "maximum": tflite_elementwise.extreme,
    "mean": tflite_reduce.mean,
    "minimum": tflite_elementwise.extreme,
    "mirror_pad": tflite_moves.pad,
    "mul": tflite_elementwise.mul,
    "neg": tflite_curves.curve,
    "pack": tflite_slices.pack,
    "pad": tflite_moves.pad,
    "padv2": tflite_moves.pad,
    "prelu": tflite_elementwise.prelu,
    "quantize": quantize,
    "reduce_max": tflite_reduce.reduce_extreme,
    "reduce_min": tflite_reduce.reduce_extreme,
    "relu": tflite_curves.relu,
    "relu6": tflite_curves.relu,
    "relu_0_to_1": tflite_curves.relu,
    "relu_n1_to_1": tflite_curves.relu,
    "reshape": tflite_moves.reshape,
    "resize_bilinear": tflite_resize.resize_bilinear,
    "resize_nearest_neighbor": tflite_resize.resize_nearest_neighbor,
    "reverse_v2": tflite_moves.reverse,
    "slice": tflite_slices.slice_,
    "softmax": softmax,
    "space_to_depth": tflite_moves.space_to_depth,
    "split": tflite_slices.split,
    "split_v": tflite_slices.split,
    "squeeze": tflite_moves.reshape,
    "strided_slice": tflite_slices.strided_slice,
    "sub": tflite_elementwise.add,
    "tanh": tflite_curves.curve,
    "tile": tflite_moves.tile,
    "transpose": tflite_moves.transpose,
    "transpose_conv": tflite_products.transpose_conv,
    "unpack": tflite_slices.unpack,
}
"""By the reader's names; SHAPE is computed at import (`quant.importers.tflite_shapes`)."""
