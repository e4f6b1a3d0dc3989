"""Toggles of the output-stationary array without stepping cycles: the stream through each PE is known.

Registers see, from reset (zero) on:

* activation register of row r, any column: each fold's elements of row r in order, one zero between folds where the
  next fold does not follow at once (always in ``isolated``), a zero after the last; weight registers likewise;
* sum register of row r, with f counting the folds of one bank: what it held, then the sums of the fold from the bias
  on, then, as the column drains, the results of rows r - 1, r - 2, .. 0.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.arith import apply_overflow
from accelsim.dataflow.base import RULE_CODES, Job, Toggles, ceil_div, lane_dtype
from accelsim.dataflow.jit import flips


@njit(cache=True)
def _accumulate(x, w, sums, held, mask, limits):
    """Add a fold's products in k order; return the toggles of the sum registers on the way.

    x[rows, groups, lanes], w[groups, lanes, cols]; sums[rows, cols] holds the bias and is updated in place, held[rows,
    cols] is what the registers held before; mask[cols] of the sums' type; limits = [half of the range, rule].
    """
    half, rule, total = limits[0], limits[1], 0
    before = np.empty_like(sums[0])
    for r in range(sums.shape[0]):
        before[:] = held[r]
        for group in range(x.shape[1]):
            for lane in range(x.shape[2]):
                for c in range(sums.shape[1]):
                    sums[r, c] += x[r, group, lane] * w[group, lane, c]
            if rule:
                for c in range(sums.shape[1]):
                    s = sums[r, c]
                    sums[r, c] = ((s + half) & (half + half - 1)) - half if rule == 1 else min(max(s, -half), half - 1)
            ones = np.int32(0)
            for c in range(sums.shape[1]):
                ones = np.int32(ones + np.int32(flips(before[c], sums[r, c], mask[c])))
                before[c] = sums[r, c]
            total += ones
    return total


def toggles(job: Job) -> Toggles:
    """Return the toggles and zero operands of a GEMM, equal to the register engine's."""
    operands, array = job.operands, job.array
    x, w = (
        _by_tile(operands.a, array.rows, array.products_per_pe),
        _by_tile(operands.w.T, array.cols, array.products_per_pe),
    )
    order = [(m, n) for n in range(len(w)) for m in range(len(x))]
    zero_x, zero_w = (operands.a == 0).sum(axis=0), (operands.w == 0).sum(axis=1)
    by_x = int(zero_x.sum()) * operands.w.shape[1]
    by_w = int(zero_w.sum()) * operands.a.shape[0]
    return Toggles(
        weight_register_toggles=_moving_toggles(job, w, [n for _, n in order], array.rows, operands.weight_bits),
        activation_register_toggles=_moving_toggles(job, x, [m for m, _ in order], array.cols, operands.act_bits),
        psum_register_toggles=_sum_toggles(job, x, w, order),
        zero_activation_macs=by_x,
        zero_weight_macs=by_w,
        zero_macs=by_x + by_w - int(zero_x @ zero_w),
    )


def _by_tile(values: NDArray[Any], lines: int, lanes: int) -> NDArray[np.int32]:
    """Return ``[line, k]`` as int32 ``[tile, line, group, lane]``, zeros up to whole tiles and groups."""
    tiles, groups = ceil_div(len(values), lines), ceil_div(values.shape[1], lanes)
    padded = np.zeros((tiles * lines, groups * lanes), dtype=np.int32)
    padded[: len(values), : values.shape[1]] = values
    return padded.reshape(tiles, lines, groups, lanes)


def _moving_toggles(job: Job, tiles: NDArray[np.int32], order: list[int], copies: int, bits: int) -> int:
    """Toggles of one moving operand, whose tiles [line, group, lane] pass through `copies` PEs each in some order."""
    mask = np.int32((1 << bits) - 1)

    def distance(first: NDArray[np.int32], second: NDArray[np.int32]) -> int:
        return int(np.bitwise_count((first ^ second) & mask).sum(dtype=np.int64))

    nothing = np.zeros_like(tiles[0, :, 0])
    inside = [distance(tile[:, 1:], tile[:, :-1]) for tile in tiles]
    gap = job.banks == 1 or tiles.shape[2] < job.array.rows
    total, last = 0, nothing
    for place, tile in enumerate(order):
        first = tiles[tile, :, 0]
        total += inside[tile]
        total += distance(last, nothing) + distance(nothing, first) if gap and place else distance(last, first)
        last = tiles[tile, :, -1]
    return (total + distance(last, nothing)) * copies


def _sum_toggles(job: Job, x: NDArray[np.int32], w: NDArray[np.int32], order: list[tuple[int, int]]) -> int:
    rules, array = job.accumulation, job.array
    bias = np.zeros(len(w) * array.cols, dtype=np.int64)
    if job.operands.bias is not None:
        bias[: len(job.operands.bias)] = job.operands.bias
    bias = apply_overflow(bias, rules.acc_bits, rules.acc_overflow)[0]
    largest = [int(np.abs(v.astype(np.int64)).max()) for v in (x, w)]
    bound = largest[0] * largest[1] * x.shape[2] * x.shape[3] + int(np.abs(bias).max())
    half = 1 << (min(rules.acc_bits, 63) - 1)
    rule = RULE_CODES[rules.acc_overflow] if bound >= half else RULE_CODES["none"]
    dtype = lane_dtype(min(bound, half + largest[0] * largest[1] * x.shape[3]), rules.acc_bits, exact_width=True)
    limits = np.array([half, rule], dtype=np.int64)
    bits = min(rules.acc_bits, 8 * np.dtype(dtype).itemsize)
    mask = np.full(array.cols, (1 << bits) - 1 if bits < 8 * np.dtype(dtype).itemsize else -1, dtype=dtype)
    shifts = np.arange(array.rows - 1, 0, -1)
    held = [np.zeros((array.rows, array.cols), dtype=dtype)] * job.banks
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    columns = w.transpose(0, 2, 3, 1).copy()
    total = 0
    for place, (m, n) in enumerate(order):
        start = bias[n * array.cols : (n + 1) * array.cols].astype(dtype)
        sums = np.broadcast_to(start, (array.rows, array.cols)).copy()
        total += int(_accumulate(x[m], columns[n], sums, held[place % job.banks], mask, limits))
        changed = ((sums[1:] ^ sums[:-1]) & mask).view(unsigned)  # numpy counts the ones of a magnitude
        total += int(np.bitwise_count(changed).sum(axis=1, dtype=np.int64) @ shifts)
        held[place % job.banks] = np.broadcast_to(sums[0], sums.shape).copy()
    return total
