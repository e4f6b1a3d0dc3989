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
def gather_channels(codes: NDArray[Any], source: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Write ``out[i, j] = codes[i, source[j]]``; a leading run of source = 0, 1, 2, … is copied straight."""
    run = 0
    while run < source.size and source[run] == run:
        run += 1
    for i in range(codes.shape[0]):
        for j in range(run):
            out[i, j] = codes[i, j]
        for j in range(run, source.size):
            out[i, j] = codes[i, source[j]]


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


BLOCK = 512
"""Outputs whose registers are worked on together: their sums, and a column of operands, stay in the first cache."""


def _make_ordered_sums(lane: Any) -> Any:  # noqa: C901  (one loop nest; cut apart it no longer vectorizes)
    """Compile the order-keeping kernel for sums of one integer type, so that loops run on lanes of its width."""

    @njit(cache=True, nogil=True)
    def ordered_sums(  # noqa: C901
        operands: tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]],
        order: tuple[int, int, bool],
        psum: tuple[int, int, bool],
        accumulator: tuple[int, int, bool],
        acc: NDArray[np.int64],
        events: NDArray[np.int64],
    ) -> None:
        fold_k, products, resident = order
        psum_low, psum_high, psum_saturates = lane(psum[0]), lane(psum[1]), psum[2]
        acc_low, acc_high, acc_saturates = accumulator
        psum_mask, acc_mask = lane(psum_high - psum_low), acc_high - acc_low
        streams, columns, bias = operands
        k, m = streams.shape
        moving, hop, count = np.empty(BLOCK, lane), np.empty(BLOCK, lane), np.empty(BLOCK, lane)
        for left in range(0, m, BLOCK):
            size = min(BLOCK, m - left)
            for n in range(columns.shape[1]):
                held, found = acc[n, left : left + size], events[n, left : left + size]
                for i in range(size):
                    found[i] += (bias[n] < acc_low) | (bias[n] > acc_high)
                    clamped = min(max(bias[n], acc_low), acc_high)
                    held[i] = clamped if acc_saturates else ((bias[n] - acc_low) & acc_mask) + acc_low
                count[:] = 0
                for start in range(0, k, fold_k):
                    for i in range(size):
                        moving[i] = lane(held[i]) if resident else lane(0)
                    stop = min(start + fold_k, k)
                    for first in range(start, stop, products):
                        w = lane(columns[first, n])
                        if products == 1 and w == 0:
                            continue
                        stream = streams[first, left : left + size]
                        for i in range(size):
                            hop[i] = lane(w * lane(stream[i]))
                        for p in range(first + 1, min(first + products, stop)):
                            w = lane(columns[p, n])
                            stream = streams[p, left : left + size]
                            for i in range(size):
                                hop[i] = lane(hop[i] + lane(w * lane(stream[i])))
                        if psum_saturates:
                            for i in range(size):
                                value = lane(moving[i] + hop[i])
                                kept = min(max(value, psum_low), psum_high)
                                count[i] += lane(kept != value)
                                moving[i] = kept
                        else:
                            for i in range(size):
                                value = lane(moving[i] + hop[i])
                                kept = lane((lane(value - psum_low) & psum_mask) + psum_low)
                                count[i] += lane(kept != value)
                                moving[i] = kept
                    for i in range(size):
                        value = np.int64(moving[i]) if resident else held[i] + moving[i]
                        found[i] += (value < acc_low) | (value > acc_high)
                        clamped = min(max(value, acc_low), acc_high)
                        held[i] = clamped if acc_saturates else ((value - acc_low) & acc_mask) + acc_low
                for i in range(size):
                    found[i] += count[i]

    return ordered_sums


_ORDERED_SUMS: dict[Any, Any] = {np.int32: _make_ordered_sums(np.int32), np.int64: _make_ordered_sums(np.int64)}


def ordered_sums(
    lane: type,
    operands: tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]],
    order: tuple[int, int, bool],
    registers: tuple[tuple[int, int, bool], tuple[int, int, bool]],
    results: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    """Add products in the machine's order.

    Parameters
    ----------
    lane
        np.int32 or np.int64: holds a partial sum plus the products of one hop.
    operands
        Streams ``[k, m]``, columns ``[k, n]``, bias ``[n]``.
    order
        (fold_k, products per hop, resident): under an output-stationary array the sum stays in one register, so that
        there is one fold of all k, which starts from the bias in the accumulator's register.
    registers
        (low, high, saturates) of the partial sum and of the accumulator; what does not saturate wraps.
    results
        Sums ``[n, m]``, written, and events ``[n, m]``, to which the additions that left their register are added.
    """
    _ORDERED_SUMS[lane](operands, order, *registers, *results)


@njit(cache=True, nogil=True)
def softmax(
    codes: NDArray[Any],
    exponentials: Any,
    seen: NDArray[np.bool_],
    out_bits: int,
    out: NDArray[Any],
) -> None:
    """Integer softmax of the rows of ``codes[m, n]``; row i sees where ``seen[i % len(seen)]`` is true."""
    last, top = exponentials.size - 1, (1 << out_bits) - 1
    powers = np.zeros(codes.shape[1], dtype=np.int64)
    for i in range(codes.shape[0]):
        row, visible, target = codes[i], seen[i % seen.shape[0]], out[i]
        largest = np.int64(-(2**62))
        for j in range(row.size):
            if visible[j]:
                largest = max(largest, np.int64(row[j]))
        total = np.int64(0)
        for j in range(row.size):
            powers[j] = exponentials[min(largest - np.int64(row[j]), last)] if visible[j] else 0
            total += powers[j]
        half = total // 2
        for j in range(row.size):
            target[j] = min(((powers[j] << out_bits) + half) // total, top) if powers[j] > 0 else 0
