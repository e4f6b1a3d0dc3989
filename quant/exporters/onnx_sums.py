"""Layers of a Program, and what brings their sums onto a grid, as ONNX operators."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Blank, Conv, MatMul, Requantize
from quant.exporters.onnx_writer import Writer, channels_first, dtype_of, require

Array = NDArray[Any]


def _stored(op: Conv) -> tuple[Array, str, int]:
    """Return a layer's weights as the file holds them: codes, their type and zero point."""
    assert not isinstance(op.weight, Blank)
    low, high = int(op.weight.min()), int(op.weight.max())
    if low >= -128 and high <= 127:
        return op.weight.astype(np.int8), "int8", 0
    require(
        high - low <= 255 and -255 <= low <= 0,
        f"layer {op.name!r} has weights {low}..{high}; ONNX holds 8 bits: quantize its weights to 8 bits or fewer",
    )
    return (op.weight.astype(np.int64) - low).astype(np.uint8), "uint8", -low


def _bias(op: Conv) -> Array:
    """Return a layer's bias without the zero point that is folded into it, which the file's operator takes off."""
    assert not isinstance(op.weight, Blank)
    assert not isinstance(op.bias, Blank)
    sums = op.weight.astype(np.int64).reshape(op.weight.shape[0], -1).sum(axis=1)
    bias = op.bias.astype(np.int64) + op.pad_value * sums
    require(bool(np.abs(bias).max() < 2**31), f"layer {op.name!r} has a bias beyond int32; ONNX adds int32")
    return bias.astype(np.int32)


def _require_zero(writer: Writer, op: Conv) -> str:
    dtype = dtype_of(writer.tensor(op.inputs[0]))
    limits = np.iinfo(dtype)
    require(
        limits.min <= op.pad_value <= limits.max,
        f"layer {op.name!r} has input zero point {op.pad_value}, outside {dtype}",
    )
    return dtype


def _geometry(writer: Writer, op: Conv) -> tuple[str, tuple[int, ...], dict[str, Any], bool]:
    """Return a layer's input, weight shape, attributes, and whether it is a convolution rather than a product."""
    shape = writer.tensor(op.inputs[0]).shape
    out, kh, kw, channels = op.weight.shape
    one = (kh, kw) == (1, 1) and op.groups == 1 and not any(op.padding) and op.stride == (1, 1)
    if one and len(shape) < 3:
        return writer.plain(op.inputs[0]), (out, channels), {}, False
    spatial = len(shape) - 1
    require(spatial >= 1, f"layer {op.name!r} is a convolution of a vector; ONNX takes maps")
    t, left, b, right = op.padding
    attrs: dict[str, Any] = {
        "group": op.groups,
        "kernel_shape": [kh, kw][2 - spatial :],
        "strides": list(op.stride)[2 - spatial :],
        "dilations": list(op.dilation)[2 - spatial :],
        "pads": [t, left, b, right] if spatial == 2 else [left, right],
    }
    return writer.as_map(op.inputs[0]), (out, channels, *[kh, kw][2 - spatial :]), attrs, True


def integer_conv(writer: Writer, op: Conv) -> None:
    """Write a layer's exact sums by ConvInteger or MatMulInteger, and its bias."""
    codes, kind, zero = _stored(op)
    dtype = _require_zero(writer, op)
    source, shape, attrs, spatial = _geometry(writer, op)
    moved = codes.transpose(0, 3, 1, 2).reshape(shape)
    rank = len(writer.tensor(op.output).shape)
    order = channels_first(rank) if spatial else tuple(range(rank))
    weight = writer.constant(moved if spatial else moved.T, kind, f"{op.name}.weight")
    zeros = [writer.constant(op.pad_value, dtype, "zero"), writer.constant(zero, kind, "zero")]
    sums = writer.node("ConvInteger" if spatial else "MatMulInteger", [source, weight, *zeros], **attrs)
    bias = writer.along(_bias(op), order, rank - 1)
    total = writer.node("Add", [sums, writer.constant(bias, "int32", f"{op.name}.bias")], op.output)
    if dtype_of(writer.tensor(op.output)) == "int64":
        require(False, f"layer {op.name!r} can reach sums beyond 32 bits; ONNX adds int32")
    writer.keep(op.output, total, order)


def quantized_conv(writer: Writer, op: Conv, then: Requantize) -> None:
    """Write a layer and its requantization as DequantizeLinear, Conv or MatMul, QuantizeLinear."""
    codes, kind, zero = _stored(op)
    dtype = _require_zero(writer, op)
    source, shape, attrs, spatial = _geometry(writer, op)
    moved = codes.transpose(0, 3, 1, 2).reshape(shape)
    unit_in, unit_out = writer.unit(op.inputs[0]), writer.unit(then.output)
    multiplier = then.multiplier.astype(np.float32)
    scale = multiplier * np.float32(unit_out / unit_in)
    exact = bool(np.all(scale * np.float32(unit_in) / np.float32(unit_out) == multiplier)) and bool(np.all(scale > 0))
    if not exact:  # a scale of zero, or beyond float32: no file holds it
        integer_conv(writer, op)
        requantize(writer, then)
        return
    scale = scale.reshape(()) if scale.size == 1 else scale
    x = writer.dequantize(source, dtype, np.float32(unit_in), op.pad_value)
    weight = writer.constant(moved, kind, f"{op.name}.weight")
    w = writer.dequantize(weight, kind, scale, zero, axis=0)
    bias_unit = np.asarray(scale * np.float32(unit_in))
    bias = writer.dequantize(writer.constant(_bias(op), "int32", f"{op.name}.bias"), "int32", bias_unit, 0, axis=0)
    tensor = writer.tensor(then.output)
    rank = len(tensor.shape)
    if spatial:
        real = writer.node("Conv", [x, w, bias], **attrs)
    elif rank == 1:
        real = writer.node("Gemm", [x, w, bias], transB=1)
    else:
        integer_conv(writer, op)
        requantize(writer, then)
        return
    name = writer.quantize(real, tensor, unit_out, then.zero_out, (then.low, then.high), then.output)
    writer.keep(then.output, name, channels_first(rank) if spatial else tuple(range(rank)))


def integer_matmul(writer: Writer, op: MatMul) -> None:
    """Write a product of two computed tensors by MatMulInteger."""
    first, second = (writer.tensor(name) for name in op.inputs)
    require(
        first.shape[:-2] == second.shape[:-2],
        f"{op.name!r} shares heads ({first.shape} by {second.shape}); ONNX does not",
    )
    axes = tuple(range(len(second.shape)))
    order = (*axes[:-2], axes[-1], axes[-2]) if op.transpose else axes
    operands = [writer.plain(op.inputs[0]), writer.at(op.inputs[1], order)]
    zeros = [writer.constant(z, dtype_of(t), "zero") for z, t in zip(op.zero_points, (first, second), strict=True)]
    require(
        dtype_of(writer.tensor(op.output)) == "int32", f"{op.name!r} can reach sums beyond 32 bits; ONNX adds int32"
    )
    writer.keep(op.output, writer.node("MatMulInteger", [*operands, *zeros], op.output), axes)


def requantize(writer: Writer, op: Requantize) -> None:
    """Write rule ``float32_rne`` step by step."""
    require(
        op.rule == "float32_rne",
        f"{op.name!r} requantizes by rule {op.rule}; ONNX Runtime's is float32_rne: quantize with rule float32_rne",
    )
    held = writer.held[op.inputs[0]]
    source, tensor = writer.tensor(op.inputs[0]), writer.tensor(op.output)
    real = centred(writer, held.name, dtype_of(source), op.zero_in)
    multiplier = writer.along(op.multiplier.astype(np.float32), held.order, len(tensor.shape) - 1)
    scaled = writer.node("Mul", [real, writer.constant(multiplier, "float32", f"{op.name}.multiplier")])
    writer.keep(op.output, writer.rounded(scaled, tensor, op.zero_out, op.low, op.high, op.output), held.order)


def centred(writer: Writer, name: str, dtype: str, zero: int, target: str = "float32") -> str:
    """Return codes without their zero point as float32, or another type."""
    wide = "int64" if dtype == "int64" else "int32"
    if zero:
        whole = name if dtype == wide else writer.cast(name, wide)
        name = writer.node("Sub", [whole, writer.constant(zero, wide, "zero")])
        dtype = wide
    return name if dtype == target else writer.cast(name, target)
