"""Compiled loops of the functional engine: windows, requantization, element-wise ops and order-keeping sums.

Kernels take checked arrays, write into an argument and hold no state. Narrow integer types in, narrow types out;
float32 operations are the ones the rule names, one rounding each (no fast-math, no contraction).
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

RINT = np.float32(12582912.0)
"""1.5 · 2**23: adding and subtracting it rounds a float32 of magnitude below 2**22 to nearest, ties to even."""


@njit(cache=True, nogil=True)
def im2col(padded: NDArray[Any], out: NDArray[Any], geometry: tuple[int, int, int, int, int, int]) -> None:
    """Copy windows of ``padded[b, h, w, c]`` into ``out[b, oh, ow, kh, kw·c]``; geometry as `max_pool`."""
    kh, kw, stride_h, stride_w, dilation_h, dilation_w = geometry
    channels = padded.shape[3]
    for b in range(out.shape[0]):
        flat = padded[b].reshape(padded.shape[1], padded.shape[2] * channels)
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                for i in range(kh):
                    row = flat[y * stride_h + i * dilation_h]
                    start = x * stride_w * channels
                    target = out[b, y, x, i]
                    if dilation_w == 1:
                        for c in range(kw * channels):
                            target[c] = row[start + c]
                    else:
                        for j in range(kw):
                            for c in range(channels):
                                target[j * channels + c] = row[start + j * dilation_w * channels + c]


@njit(cache=True, nogil=True)
def requantize_float32(
    sums: NDArray[Any],
    bias: NDArray[Any],
    multiplier: NDArray[np.float32],
    output: tuple[int, int, int],
    out: NDArray[Any],
) -> None:
    """Rule float32_rne on ``sums[m, n] + bias[n]`` with ``multiplier[n]``.

    `output` is (zero point, low, high), the limits within ±2**21 of the zero point.
    """
    zero, low, high = output
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    for i in range(sums.shape[0]):
        row, target = sums[i], out[i]
        for j in range(row.size):
            value = np.float32(row[j] + bias[j]) * multiplier[j]
            value = min(max(value, floor), ceiling)
            target[j] = np.int32((value + RINT) - RINT) + np.int32(zero)


@njit(cache=True, nogil=True)
def add_float32(
    operands: tuple[NDArray[Any], NDArray[Any]],
    zero_points: tuple[int, int],
    multipliers: tuple[np.float32, np.float32],
    output: tuple[int, int, int],
    out: NDArray[Any],
) -> None:
    """Quantized add of two flat arrays; `output` is (zero point, low, high)."""
    first, second = operands
    zero0, zero1 = np.int32(zero_points[0]), np.int32(zero_points[1])
    multiplier0, multiplier1 = multipliers
    zero, low, high = output
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    for i in range(out.size):
        value = (
            np.float32(np.int32(first[i]) - zero0) * multiplier0 + np.float32(np.int32(second[i]) - zero1) * multiplier1
        )
        value = min(max(value, floor), ceiling)
        out[i] = np.int32((value + RINT) - RINT) + np.int32(zero)


@njit(cache=True, nogil=True)
def depthwise(padded: NDArray[Any], weight: NDArray[Any], out: NDArray[Any], steps: tuple[int, int, int, int]) -> None:
    """Exact depthwise sums: ``padded[b, h, w, c]`` with ``weight[kh, kw, c]`` into ``out[b, oh, ow, c]``."""
    stride_h, stride_w, dilation_h, dilation_w = steps
    kh, kw, channels = weight.shape
    for b in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                target = out[b, y, x]
                target[:] = 0
                for i in range(kh):
                    for j in range(kw):
                        source = padded[b, y * stride_h + i * dilation_h, x * stride_w + j * dilation_w]
                        taps = weight[i, j]
                        for c in range(channels):
                            target[c] += source[c] * taps[c]


@njit(cache=True, nogil=True)
def max_pool(padded: NDArray[Any], out: NDArray[Any], geometry: tuple[int, int, int, int, int, int]) -> None:
    """Window maxima of ``padded[b, h, w, c]``, whose border holds the smallest code.

    geometry = kernel height, kernel width, strides, dilations.
    """
    kh, kw, stride_h, stride_w, dilation_h, dilation_w = geometry
    for b in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                target = out[b, y, x]
                target[:] = padded[b, y * stride_h, x * stride_w]
                for i in range(kh):
                    for j in range(kw):
                        source = padded[b, y * stride_h + i * dilation_h, x * stride_w + j * dilation_w]
                        for c in range(target.size):
                            target[c] = max(target[c], source[c])


@njit(cache=True, nogil=True)
def window_sums(padded: NDArray[Any], out: NDArray[Any], geometry: tuple[int, int, int, int]) -> None:
    """Exact window sums of ``padded[b, h, w, c]`` into ``out[b, oh, ow, c]``; geometry = kh, kw, strides."""
    kh, kw, stride_h, stride_w = geometry
    out[:] = 0
    for b in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                target = out[b, y, x]
                for i in range(kh):
                    for j in range(kw):
                        source = padded[b, y * stride_h + i, x * stride_w + j]
                        for c in range(target.size):
                            target[c] += source[c]


@njit(cache=True, nogil=True)
def _hold(value: int, low: int, high: int, saturates: bool) -> int:
    """Bring one sum into low..high, by clamping or modulo the range's length."""
    if saturates:
        return min(max(value, low), high)
    span = high - low + 1
    return (value - low) % span + low


@njit(cache=True, nogil=True)
def ordered_sums(  # noqa: C901  (one loop nest, split it and it no longer vectorizes)
    rows: NDArray[Any],
    columns: NDArray[Any],
    bias: NDArray[np.int64],
    order: tuple[int, int],
    psum: tuple[int, int, bool],
    accumulator: tuple[int, int, bool],
    acc: NDArray[np.int64],
    events: NDArray[np.int64],
) -> None:
    """Add products in the machine's order.

    ``rows[m, k]``, ``columns[k, n]``, ``bias[n]``; order = (fold_k, products_per_hop), fold_k 0 for output-stationary;
    psum and accumulator = (low, high, saturates). Writes the sums into ``acc[m, n]`` and adds the number of additions
    that left their register to ``events[m, n]``.
    """
    fold_k, products = order
    psum_low, psum_high, psum_saturates = psum
    acc_low, acc_high, acc_saturates = accumulator
    k, n = columns.shape
    moving = np.zeros(n, dtype=np.int64)
    hop = np.zeros(n, dtype=np.int64)
    fold = fold_k if fold_k > 0 else k
    for m in range(rows.shape[0]):
        held, count = acc[m], events[m]
        for j in range(n):
            value = bias[j]
            if value < acc_low or value > acc_high:
                count[j] += 1
                value = _hold(value, acc_low, acc_high, acc_saturates)
            held[j] = value
        for start in range(0, k, fold):
            stop = min(start + fold, k)
            moving[:] = 0
            for first in range(start, stop, products):
                hop[:] = 0
                for p in range(first, min(first + products, stop)):
                    a = np.int64(rows[m, p])
                    if a != 0:
                        for j in range(n):
                            hop[j] += a * columns[p, j]
                if fold_k > 0:
                    for j in range(n):
                        value = moving[j] + hop[j]
                        if value < psum_low or value > psum_high:
                            count[j] += 1
                            value = _hold(value, psum_low, psum_high, psum_saturates)
                        moving[j] = value
                else:
                    for j in range(n):
                        value = held[j] + hop[j]
                        if value < acc_low or value > acc_high:
                            count[j] += 1
                            value = _hold(value, acc_low, acc_high, acc_saturates)
                        held[j] = value
            if fold_k > 0:
                for j in range(n):
                    value = held[j] + moving[j]
                    if value < acc_low or value > acc_high:
                        count[j] += 1
                        value = _hold(value, acc_low, acc_high, acc_saturates)
                    held[j] = value
