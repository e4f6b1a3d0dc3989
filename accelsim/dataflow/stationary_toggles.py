"""Toggles of the weight- and input-stationary arrays without stepping cycles: the stream through each PE is known.

Registers see, from reset (zero) on and with f counting the folds of one bank:

* stationary register of row r: what it held, then, per fold, the operands of rows rows - 1, rows - 2, .. r;
* moving register of row r, any column: the fold's elements of row r in order, one zero between folds where the next
  fold does not follow at once (always in ``isolated``), a zero after the last fold;
* sum register of row r: the sums of rows 0 .. r of the same elements, zeros in the same places.

The run ends when the last sum has left PE (rows - 1, cols - 1), so that this PE's sum register never takes the last
zero, nor does its moving register unless the MAC is pipelined.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.dataflow.base import Job, Toggles, lane_dtype
from accelsim.dataflow.jit import flips
from accelsim.dataflow.stationary import Layout, Roles, lay_out


@njit(cache=True)
def _pass(x, still, held, running, mask):
    """Pass one element's products down all rows, free of overflow; return the toggles of the sum registers.

    x[rows, lanes]; still[rows, lanes, cols]; held[rows, cols] is what each register holds; running[cols] scratch.
    """
    total = 0
    running[:] = 0
    for r in range(held.shape[0]):
        for lane in range(x.shape[1]):
            for c in range(running.size):
                running[c] += x[r, lane] * still[r, lane, c]
        ones = np.int32(0)
        for c in range(running.size):
            ones = np.int32(ones + np.int32(flips(held[r, c], running[c], mask[c])))
            held[r, c] = running[c]
        total += ones
    return total


@njit(cache=True)
def _pass_by_rule(x, still, held, running, mask, limits):
    """As `_pass`, each hop obeying a rule. limits = [half of the range, 1 wrap or 2 saturate]."""
    half, rule = limits[0], limits[1]
    total = 0
    running[:] = 0
    for r in range(held.shape[0]):
        for lane in range(x.shape[1]):
            for c in range(running.size):
                running[c] += x[r, lane] * still[r, lane, c]
        for c in range(running.size):
            s = running[c]
            running[c] = ((s + half) & (half + half - 1)) - half if rule == 1 else min(max(s, -half), half - 1)
            total += flips(held[r, c], running[c], mask[c])
            held[r, c] = running[c]
    return total


@njit(cache=True)
def _sum_toggles(stream, still, table, gaps, held, running, mask, limits):
    """Toggles of all sum registers, the zero after the last fold included in all PEs but the last.

    stream[t, k / lanes, lanes]; still[k / lanes, lanes, c]; gaps[f]: whether a zero passes before fold f.
    """
    rows, cols = held.shape
    nothing, total = np.zeros_like(running), 0
    for f in range(table.shape[0]):
        t0, length, first_row, c0 = table[f, 0], table[f, 1], table[f, 2] // still.shape[1], table[f, 4]
        weights = still[first_row : first_row + rows, :, c0 : c0 + cols].copy()
        if gaps[f]:
            for r in range(rows):
                for c in range(cols):
                    total += flips(held[r, c], nothing[c], mask[c])
            held[:] = 0
        for t in range(t0, t0 + length):
            x = stream[t, first_row : first_row + rows]
            if limits[1] == 0:
                total += _pass(x, weights, held, running, mask)
            else:
                total += _pass_by_rule(x, weights, held, running, mask, limits)
    for r in range(rows):
        for c in range(cols):
            total += flips(held[r, c], nothing[c], mask[c])
    return total - flips(held[rows - 1, cols - 1], nothing[0], mask[0])


def toggles(roles: Roles, job: Job) -> Toggles:
    """Return the toggles and zero operands of a GEMM, equal to the register engine's."""
    layout = lay_out(roles, job)
    rows, lanes = job.array.rows, job.array.products_per_pe
    stream = np.ascontiguousarray(layout.stream[:, :, : rows * lanes].transpose(1, 0, 2))
    stream = stream.reshape(len(stream), -1, lanes)
    cols = job.array.cols
    tiles = layout.still[:, :, :cols].transpose(1, 0, 2)
    still = np.ascontiguousarray(tiles).reshape(stream.shape[1], lanes, -1)
    gaps = _gaps(job, layout.table, rows)
    weight_mask, act_mask = (1 << job.operands.weight_bits) - 1, (1 << job.operands.act_bits) - 1
    stream_mask, still_mask = (act_mask, weight_mask) if roles.weights_stay else (weight_mask, act_mask)
    moving = _moving_toggles(job, stream, layout.table, gaps, stream_mask)
    stationary = _still_toggles(job, still, layout.table, still_mask)
    zero_moving, zero_still, zero_either = _zero_macs(layout.table, stream, still)
    return Toggles(
        weight_register_toggles=stationary if roles.weights_stay else moving,
        activation_register_toggles=moving if roles.weights_stay else stationary,
        psum_register_toggles=_psum_toggles(job, layout, stream, still, gaps),
        zero_activation_macs=zero_moving if roles.weights_stay else zero_still,
        zero_weight_macs=zero_still if roles.weights_stay else zero_moving,
        zero_macs=zero_either,
    )


def _gaps(job: Job, table: NDArray[np.int64], rows: int) -> NDArray[np.bool_]:
    """Tell before which folds a zero passes: a stream shorter than the load, or one that waits for the array."""
    gaps = np.zeros(len(table), dtype=np.bool_)
    gaps[1:] = (table[:-1, 1] < rows) | (job.banks == 1)
    return gaps


def _distance(first: NDArray[np.int32], second: NDArray[np.int32] | int, mask: int) -> int:
    return int(np.bitwise_count((first ^ second) & np.int32(mask)).sum(dtype=np.int64))


def _moving_toggles(
    job: Job, stream: NDArray[np.int32], table: NDArray[np.int64], gaps: NDArray[np.bool_], mask: int
) -> int:
    rows, cols = job.array.rows, job.array.cols
    inside: dict[tuple[int, int], int] = {}
    total, last = 0, np.zeros_like(stream[0, :rows])
    for (t0, length, k0, *_), gap in zip(table.tolist(), gaps.tolist(), strict=True):
        row = k0 // stream.shape[2]
        part = stream[t0 : t0 + length, row : row + rows]
        if (t0, k0) not in inside:
            inside[t0, k0] = _distance(part[1:], part[:-1], mask)
        total += inside[t0, k0]
        total += _distance(last, 0, mask) + _distance(part[0], 0, mask) if gap else _distance(last, part[0], mask)
        last = part[-1]
    corner = _distance(last[-1], 0, mask) if job.array.pipeline_depth == 1 else 0
    return (total + _distance(last, 0, mask)) * cols - corner


def _still_toggles(job: Job, still: NDArray[np.int32], table: NDArray[np.int64], mask: int) -> int:
    rows, cols = job.array.rows, job.array.cols
    latches = np.arange(1, rows, dtype=np.int64)
    total = 0
    held = [np.zeros_like(still[:rows, :, :cols])] * job.banks
    for f, (_, _, k0, _, c0, _) in enumerate(table.tolist()):
        row = k0 // still.shape[1]
        part = still[row : row + rows, :, c0 : c0 + cols]
        steps = np.bitwise_count((part[1:] ^ part[:-1]) & np.int32(mask)).sum(axis=(1, 2), dtype=np.int64)
        total += int(steps @ latches) + _distance(held[f % job.banks], part[-1:], mask)
        held[f % job.banks] = part
    return total


def _psum_toggles(
    job: Job, layout: Layout, stream: NDArray[np.int32], still: NDArray[np.int32], gaps: NDArray[np.bool_]
) -> int:
    bits = job.accumulation.psum_bits
    lane_type = lane_dtype(layout.sum_bound, bits, exact_width=True)
    held = np.zeros((job.array.rows, job.array.cols), dtype=lane_type)
    mask = np.full(job.array.cols, (1 << bits) - 1 if bits < 8 * held.itemsize else -1, dtype=lane_type)
    limits = np.array([1 << (min(bits, 62) - 1), layout.sum_rule], dtype=np.int64)
    return int(_sum_toggles(stream, still, layout.table, gaps, held, np.zeros_like(held[0]), mask, limits))


def _zero_macs(
    table: NDArray[np.int64], stream: NDArray[np.int32], still_operands: NDArray[np.int32]
) -> tuple[int, int, int]:
    """Return how many useful MACs have a zero streamed operand, a zero stationary one, and either."""
    moving = still = both = 0
    elements = stream.reshape(len(stream), -1)
    flat = still_operands.reshape(elements.shape[1], -1)
    for t0, length, k0, k1, c0, c1 in table.tolist():
        zero_x = (elements[t0 : t0 + length, k0:k1] == 0).sum(axis=0, dtype=np.int64)
        zero_w = (flat[k0:k1, c0:c1] == 0).sum(axis=1, dtype=np.int64)
        moving += int(zero_x.sum()) * (c1 - c0)
        still += int(zero_w.sum()) * length
        both += int(zero_x @ zero_w)
    return moving, still, moving + still - both
