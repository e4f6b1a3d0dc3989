"""Ops of the functional engine on narrow integer arrays: equal to `reference`, bit for bit, and fast.

Tensors are stored in the narrowest numpy type that holds their codes, channels last. Ops without a fast form here run
by the reference's own rule.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import kernels, reference
from accelsim.arith import requantize
from accelsim.check import as_map, window_count
from accelsim.int_gemm import FLOAT32_EXACT, FLOAT64_EXACT, int_matmul
from accelsim.memo import per_op
from accelsim.program import (
    Add,
    AvgPool,
    Blank,
    Clamp,
    Concat,
    Conv,
    Duplicate,
    MatMul,
    MaxPool,
    Op,
    Pad,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Table,
    Tensor,
    Transpose,
)

Array = NDArray[Any]
Geometry = tuple[int, int, int, int, int, int]

_ALIGNMENT = 4
"""Channels of a window are copied in words of at least so many."""

_MAGIC_RANGE = 2**21
"""Codes this close to the zero point are rounded exactly by the kernels' float32 trick."""


def storage_dtype(tensor: Tensor) -> np.dtype[Any]:
    """Return the narrowest numpy integer type that holds a tensor's codes."""
    signed = tensor.low < 0
    for bits in (8, 16, 32):
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if low <= tensor.low and tensor.high <= high and (signed or bits < 32):
            return np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    return np.dtype(np.int32 if tensor.magnitude < 2**31 else np.int64)


def padded_map(codes: Array, padding: tuple[int, int, int, int], fill: int, extra: int = 0) -> Array:
    """Return ``codes[b, h, w, c]`` inside a border of `fill`, with `extra` channels of it behind the others.

    The array itself where there is nothing to put around it.
    """
    if not any(padding) and not extra:
        return np.ascontiguousarray(codes)
    batch, height, width, channels = codes.shape
    top, left, bottom, right = padding
    limits = np.iinfo(codes.dtype)
    holds = limits.min <= fill <= limits.max
    kind = codes.dtype if holds else np.result_type(codes, np.min_scalar_type(fill))
    out = np.full((batch, height + top + bottom, width + left + right, channels + extra), fill, dtype=kind)
    out[:, top : top + height, left : left + width, :channels] = codes
    return out


def _pixels(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, int]:
    kh, kw, stride_h, stride_w, dilation_h, dilation_w = geometry
    return window_count(shape[1], kh, stride_h, (0, 0), dilation_h), window_count(
        shape[2], kw, stride_w, (0, 0), dilation_w
    )


def as_maps(codes: Array) -> Array:
    """View ``[batch, *shape]`` as a batch of maps ``[batch, height, width, channels]``."""
    return codes.reshape(codes.shape[0], *as_map(codes.shape[1:]))


def _conv_geometry(op: Conv) -> Geometry:
    return (*op.weight.shape[1:3], *op.stride, *op.dilation)


def conv_rows(op: Conv, codes: Array, extra: int = 0) -> Array:
    """Return a convolution's left operand, ``[batch · pixels, kh · kw · channels]``, k = (kh, kw, c).

    `extra` channels, which zero weights will meet, make a pixel a whole number of words.
    """
    maps = padded_map(as_maps(codes), op.padding, op.pad_value, extra)
    geometry = _conv_geometry(op)
    kh, kw = geometry[:2]
    channels = maps.shape[3]
    if geometry[:4] == (1, 1, 1, 1):
        return maps.reshape(-1, channels)
    out = np.empty((maps.shape[0], *_pixels(maps.shape, geometry), kh, kw * channels), dtype=maps.dtype)
    word = _word(channels * maps.itemsize)
    kernels.im2col(maps.view(word), out.view(word), geometry)
    return out.reshape(-1, kh * kw * channels)


def _word(size: int) -> str:
    """Return the widest integer type that divides a pixel of `size` bytes: windows are copied word by word."""
    return next(f"u{width}" for width in (8, 4, 2, 1) if size % width == 0)


def _aligned_operands(op: Conv, codes: Array) -> tuple[Array, Array]:
    """Return rows and columns of a convolution of one group, k stretched by zero weights where that copies faster."""
    weight = _aligned_weight(op)
    return conv_rows(op, codes, weight.shape[3] - op.weight.shape[3]), weight.reshape(len(weight), -1).T


@per_op
def _aligned_weight(op: Conv) -> Array:
    """Return the weights, their channels filled up with zeros to whole words."""
    assert not isinstance(op.weight, Blank)
    _, kh, kw, channels = op.weight.shape
    extra = -channels % _ALIGNMENT if kh * kw > 1 and channels >= _ALIGNMENT else 0
    return np.pad(op.weight, ((0, 0), (0, 0), (0, 0), (0, extra))) if extra else np.ascontiguousarray(op.weight)


def group_operands(op: Conv, codes: Array) -> list[tuple[Array, Array]]:
    """Return (rows ``[m, k]``, columns ``[k, n]``, the latter a view of the weights) of every group."""
    if isinstance(op.weight, Blank):
        raise ValueError(f"layer {op.name!r} has no weights; a Program without values can be priced, not executed")
    out, kh, kw, channels = op.weight.shape
    rows = conv_rows(op, codes)
    columns = op.weight.reshape(out, -1).T
    if op.groups == 1:
        return [(rows, columns)]
    split = rows.reshape(-1, kh * kw, op.groups, channels)
    width = out // op.groups
    return [
        (np.ascontiguousarray(split[:, :, g]).reshape(-1, kh * kw * channels), columns[:, g * width : (g + 1) * width])
        for g in range(op.groups)
    ]


def conv(op: Conv, codes: Array, output: Tensor) -> Array:
    """Exact accumulators of a convolution, ``[batch, *output.shape]``."""
    sums = conv_without_bias(op, codes, output)
    assert not isinstance(op.bias, Blank)
    if op.bias.any():
        sums += op.bias.astype(sums.dtype)
    return sums


def conv_without_bias(op: Conv, codes: Array, output: Tensor) -> Array:
    """Exact sums of a convolution's products, ``[batch, *output.shape]``."""
    assert not isinstance(op.weight, Blank)
    assert not isinstance(op.bound, Blank)
    kind = storage_dtype(output)
    out, kh, kw, channels = op.weight.shape
    if channels == 1 and op.groups == out:
        maps = padded_map(as_maps(codes), op.padding, op.pad_value)
        geometry = _conv_geometry(op)
        sums = np.empty((maps.shape[0], *_pixels(maps.shape, geometry), out), dtype=kind)
        taps = np.ascontiguousarray(op.weight.reshape(out, kh, kw).transpose(1, 2, 0)).astype(kind)
        kernels.depthwise(maps, taps, sums, geometry[2:])
        return sums.reshape(-1, *output.shape)
    bound = int(op.bound.max())
    operands = [_aligned_operands(op, codes)] if op.groups == 1 else group_operands(op, codes)
    parts = [int_matmul(rows, columns, bound) for rows, columns in operands]
    sums = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return sums.reshape(-1, *output.shape)


def fusible(op: Requantize) -> bool:
    """Tell whether a requantization has a fast kernel, which may run in one pass with the layer in front of it."""
    near = max(abs(op.low - op.zero_out), abs(op.high - op.zero_out)) < _MAGIC_RANGE
    return op.rule == "float32_rne" and not op.zero_in and near


def conv_requantized(op: Conv, reader: Requantize, codes: Array, tensors: tuple[Tensor, Tensor]) -> Array:
    """Convolve, add the bias and requantize in one pass over the sums; `tensors` are accumulator and output."""
    assert not isinstance(op.bias, Blank)
    sums = conv_without_bias(op, codes, tensors[0])
    return _requantize_sums(reader, sums, op.bias.astype(sums.dtype), tensors[1])


def _factors(op: MatMul, operands: list[Array], kind: type) -> list[Array]:
    """Return both operands of a product ``[batch, *heads, m, k]`` and ``[batch, *heads, k, n]`` as floats."""
    first, second = (
        codes.astype(kind) - kind(zero) if zero else codes.astype(kind)
        for codes, zero in zip(operands, op.zero_points, strict=True)
    )
    if op.transpose:
        second = second.swapaxes(-1, -2)
    for axis in range(1, first.ndim - 2):
        if second.shape[axis] != first.shape[axis]:
            second = second.repeat(first.shape[axis] // second.shape[axis], axis=axis)
    return [first, second]


def matmul_operands(op: MatMul, operands: list[Array]) -> tuple[Array, Array]:
    """Return (rows ``[batch · heads, m, k]``, columns ``[batch · heads, k, n]``) as int64, zero points taken off."""
    rows, columns, _ = reference._matmul_operands(op, [codes.astype(np.int64) for codes in operands])
    return rows, columns


def matmul(op: MatMul, operands: list[Array], output: Tensor) -> Array:
    """Exact accumulators of a product of two activations."""
    if op.bound < FLOAT64_EXACT:
        kind = np.float32 if op.bound < FLOAT32_EXACT else np.float64
        return np.matmul(*_factors(op, operands, kind)).astype(storage_dtype(output))
    return np.matmul(*matmul_operands(op, operands)).reshape(-1, *output.shape)


def _requantize(op: Requantize, operands: list[Array], output: Tensor) -> Array:
    codes = operands[0]
    kind = storage_dtype(output)
    if not fusible(op):
        wide = codes.astype(np.int64) - op.zero_in
        clamp = (op.low, op.high)
        codes = requantize(wide, op.multiplier, rule=op.rule, zero_point=op.zero_out, clamp=clamp, bias=op.float_bias)
        return codes.astype(kind)
    bias = np.zeros(codes.shape[-1], dtype=np.int64 if codes.itemsize > 4 else np.int32)
    return _requantize_sums(op, codes, bias, output)


def _requantize_sums(op: Requantize, sums: Array, bias: Array, output: Tensor) -> Array:
    channels = sums.shape[-1]
    multiplier = np.full(channels, op.multiplier, dtype=np.float32)
    out = np.empty(sums.shape, dtype=storage_dtype(output))
    flat = np.ascontiguousarray(sums).reshape(-1, channels)
    limits = (op.zero_out, op.low, op.high)
    kernels.requantize_float32(flat, bias, multiplier, limits, out.reshape(-1, channels))
    return out


def _add(op: Add, operands: list[Array], output: Tensor) -> Array:
    near = max(abs(op.low - op.zero_out), abs(op.high - op.zero_out)) < _MAGIC_RANGE
    narrow = max(codes.dtype.itemsize for codes in operands) <= 2
    if op.rule != "float32" or not near or not narrow:
        return reference._add(op, [codes.astype(np.int64) for codes in operands]).astype(storage_dtype(output))
    first, second = operands if operands[0].shape == operands[1].shape else np.broadcast_arrays(*operands)
    out = np.empty(first.shape, dtype=storage_dtype(output))
    scaled = [np.float32(sign * multiplier) for sign, multiplier in zip(op.signs, op.multipliers, strict=True)]
    flat = (np.ascontiguousarray(first).ravel(), np.ascontiguousarray(second).ravel())
    kernels.add_float32(flat, op.zero_points, (scaled[0], scaled[1]), (op.zero_out, op.low, op.high), out.ravel())
    return out


def _duplicate(op: Duplicate, operands: list[Array], output: Tensor) -> Array:
    flat = np.ascontiguousarray(operands[0]).reshape(-1, operands[0].shape[-1])
    gathered = np.empty((flat.shape[0], op.source.size), dtype=flat.dtype)
    kernels.gather_channels(flat, op.source.astype(np.int64), gathered)
    gathered = gathered.reshape(*operands[0].shape[:-1], op.source.size)
    if not op.shift.any():
        return np.clip(gathered, op.low, op.high, out=gathered) if _clips(op, gathered) else gathered
    halved = (gathered.astype(np.int32) + op.offset.astype(np.int32)) >> op.shift.astype(np.int32)
    return np.clip(halved, op.low, op.high).astype(storage_dtype(output))


def _clips(op: Duplicate, codes: Array) -> bool:
    limits = np.iinfo(codes.dtype)
    return op.low > limits.min or op.high < limits.max


def _max_pool(op: MaxPool, operands: list[Array], output: Tensor) -> Array:
    maps = padded_map(as_maps(operands[0]), op.padding, int(np.iinfo(operands[0].dtype).min))
    geometry: Geometry = (*op.kernel, *op.stride, *op.dilation)
    out = np.empty((maps.shape[0], *_pixels(maps.shape, geometry), maps.shape[3]), dtype=maps.dtype)
    kernels.max_pool(maps, out, geometry)
    return out.reshape(-1, *output.shape)


def _avg_pool(op: AvgPool, operands: list[Array], output: Tensor) -> Array:
    near = max(abs(op.low - op.zero_out), abs(op.high - op.zero_out)) < _MAGIC_RANGE
    area = op.kernel[0] * op.kernel[1]
    uneven = any(op.padding) and not op.count_padding
    if op.rule != "float32_rne" or not near or operands[0].dtype.itemsize > 2 or area >= 2**14 or uneven:
        return reference._avg_pool(op, [operands[0].astype(np.int64)]).astype(storage_dtype(output))
    maps = padded_map(as_maps(operands[0]), op.padding, op.zero_in)
    geometry = (*op.kernel, *op.stride)
    sums = np.empty((maps.shape[0], *_pixels(maps.shape, (*geometry, 1, 1)), maps.shape[3]), dtype=np.int32)
    kernels.window_sums(maps, sums, geometry)
    sums -= area * op.zero_in
    channels = maps.shape[3]
    multiplier = np.full(channels, op.multiplier / area, dtype=np.float32)
    out = np.empty(sums.shape, dtype=storage_dtype(output))
    limits = (op.zero_out, op.low, op.high)
    zeros = np.zeros(channels, dtype=np.int32)
    kernels.requantize_float32(sums.reshape(-1, channels), zeros, multiplier, limits, out.reshape(-1, channels))
    return out.reshape(-1, *output.shape)


def _softmax(op: Softmax, operands: list[Array], output: Tensor) -> Array:
    if op.rule != "integer" or op.zero_out:
        return reference._softmax(op, [operands[0].astype(np.int64)]).astype(storage_dtype(output))
    columns = output.shape[-1]
    shape = output.shape[-2:] if op.mask is None else output.shape
    seen = np.ascontiguousarray(reference.visible(op, shape)).reshape(-1, columns)
    out = np.empty(operands[0].shape, dtype=storage_dtype(output))
    rows = np.ascontiguousarray(operands[0]).reshape(-1, columns)
    kernels.softmax(rows, op.exponentials.astype(np.int64), seen, op.out_bits, out.reshape(-1, columns))
    return out


def _slice(op: Slice, operands: list[Array], output: Tensor) -> Array:
    return reference._slice(op, operands)


def _pad(op: Pad, operands: list[Array], output: Tensor) -> Array:
    kind = storage_dtype(output)
    return np.pad(operands[0].astype(kind, copy=False), ((0, 0), *op.widths), constant_values=op.value)


def _concat(op: Concat, operands: list[Array], output: Tensor) -> Array:
    return np.concatenate([codes.astype(storage_dtype(output), copy=False) for codes in operands], axis=op.axis + 1)


_FAST: dict[type[Op], Callable[[Any, list[Array], Tensor], Array]] = {
    Requantize: _requantize,
    Add: _add,
    Duplicate: _duplicate,
    Clamp: lambda op, operands, output: np.clip(operands[0], op.low, op.high).astype(storage_dtype(output)),
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    Table: lambda op, operands, output: op.entries.astype(storage_dtype(output))[
        operands[0].astype(np.intp) - op.low_code
    ],
    Concat: _concat,
    Reshape: lambda op, operands, output: operands[0].reshape(-1, *op.shape),
    Transpose: lambda op, operands, output: operands[0].transpose(0, *(axis + 1 for axis in op.axes)),
    Slice: _slice,
    Softmax: _softmax,
    Pad: _pad,
}


def apply(op: Op, operands: list[Array], output: Tensor) -> Array:
    """Run one op that adds no products up."""
    if type(op) in _FAST:
        return _FAST[type(op)](op, operands, output)
    wide = [codes.astype(np.int64) for codes in operands]
    return reference._RULES[type(op)](op, wide).astype(storage_dtype(output))
