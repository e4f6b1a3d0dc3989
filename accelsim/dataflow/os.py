"""Output-stationary: rows carry m, columns carry n, k is time; both operands move, sums stay until they are drained.

Folds run column tile by column tile, within one row tile by row tile; each takes all of k, so that nothing is added up
outside the array. `accelsim.dataflow.os_kernel` describes the registers.
"""

# mypy: disable-error-code="no-untyped-def"

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.arith import apply_overflow
from accelsim.dataflow import os_kernel as kernel
from accelsim.dataflow.base import (
    RULE_CODES,
    ArrayShape,
    Counts,
    Dataflow,
    Gemm,
    Job,
    RegisterRun,
    Toggles,
    ceil_div,
    check_mode,
    fold_table,
    lane_dtype,
)
from accelsim.dataflow.os_toggles import toggles
from accelsim.dataflow.skew import aligned, double


def folds(gemm: Gemm, array: ArrayShape, stream_tile: int | None = None) -> NDArray[Any]:
    """Return the folds in the order of execution, dtype `FOLD_DTYPE`.

    Raises
    ------
    ValueError
        If a `stream_tile` is given: k is not cut.
    """
    _refuse_tile(stream_tile)
    n0 = np.arange(0, gemm.n, array.cols)[:, None]
    m0 = np.arange(0, gemm.m, array.rows)[None, :]
    n1, m1 = np.minimum(n0 + array.cols, gemm.n), np.minimum(m0 + array.rows, gemm.m)
    return fold_table(
        {
            "m0": m0,
            "m1": m1,
            "k0": np.zeros(1, dtype=np.int64),
            "k1": np.full(1, gemm.k),
            "n0": n0,
            "n1": n1,
            "rows_used": m1 - m0,
            "cols_used": n1 - n0,
            "length": np.full(1, ceil_div(gemm.k, array.products_per_pe)),
        }
    )


def cycles(gemm: Gemm, array: ArrayShape, mode: str, stream_tile: int | None = None) -> int:
    """Return the cycles of a GEMM, closed form.

    With T = k / p rounded up, F folds, R rows, C columns and MAC depth d: ``isolated`` takes
    ``F (2R + C + T - 2 + d - 1)``, ``overlapped`` ``(F - 1) max(T, R) + 2R + C + T - 2 + d - 1``, ``scalesim``
    ``F (R + C + T - 2) - 1`` whatever d: it forgets the drain. Edge folds cost as much as full ones.
    """
    check_mode(mode)
    _refuse_tile(stream_tile)
    length = ceil_div(gemm.k, array.products_per_pe)
    count = ceil_div(gemm.m, array.rows) * ceil_div(gemm.n, array.cols)
    if mode == "scalesim":
        return count * (array.rows + array.cols + length - 2) - 1
    fold = 2 * array.rows + array.cols + length - 2 + array.pipeline_depth - 1
    return count * fold if mode == "isolated" else (count - 1) * max(length, array.rows) + fold


def counts(gemm: Gemm, array: ArrayShape, stream_tile: int | None = None) -> Counts:
    """Return what a GEMM does to registers and memories, closed form; see `Counts` for what is counted.

    An activation passes all columns, a weight all rows; the sum of row r is shifted down rows - 1 - r times.
    """
    _refuse_tile(stream_tile)
    m_tiles, n_tiles = ceil_div(gemm.m, array.rows), ceil_div(gemm.n, array.cols)
    last = gemm.m - (m_tiles - 1) * array.rows
    shifts = (m_tiles - 1) * array.rows * (array.rows - 1) // 2 + last * (array.rows - 1) - last * (last - 1) // 2
    return Counts(
        macs=gemm.m * gemm.k * gemm.n,
        weight_register_writes=gemm.k * gemm.n * array.rows * m_tiles,
        activation_register_writes=gemm.m * gemm.k * array.cols * n_tiles,
        psum_register_writes=gemm.n * (gemm.m * ceil_div(gemm.k, array.products_per_pe) + shifts),
        weight_buffer_reads=gemm.k * gemm.n * m_tiles,
        activation_buffer_reads=gemm.m * gemm.k * n_tiles,
        bias_reads=gemm.n * m_tiles,
        accumulator_reads=0,
        accumulator_writes=gemm.m * gemm.n,
    )


@njit(cache=True)
def _skew_lines(values, skewed):
    """skewed[tile, group + i, lane, i] = values[tile * lines + i, k], k = group * lanes + lane."""
    count, _, lanes, lines = skewed.shape
    for tile in range(count):
        for i in range(min(lines, values.shape[0] - tile * lines)):
            for k in range(values.shape[1]):
                skewed[tile, k // lanes + i, k % lanes, i] = values[tile * lines + i, k]


@dataclass(frozen=True)
class Layout:
    """A job in the engine's terms.

    Parameters
    ----------
    x, w
        int32 ``[m, k]`` and ``[n, k]``.
    bias, bias_events
        int64 ``[n]``: what the sums start with, and overflows on the way.
    rule
        Kernel code, 0 where no sum can overflow.
    bound
        Largest magnitude of an exact sum.
    """

    x: NDArray[np.int32]
    w: NDArray[np.int32]
    bias: NDArray[np.int64]
    bias_events: NDArray[np.int64]
    rule: int
    bound: int


def lay_out(job: Job) -> Layout:
    """Bring a job into the engine's terms."""
    rules, operands = job.accumulation, job.operands
    x = np.ascontiguousarray(operands.a, dtype=np.int32)
    w = np.ascontiguousarray(operands.w.T, dtype=np.int32)
    bias = np.zeros(len(w), np.int64) if operands.bias is None else operands.bias.astype(np.int64)
    held, overflowed = apply_overflow(bias, rules.acc_bits, rules.acc_overflow)
    largest = max(abs(int(x.min())), abs(int(x.max())))
    total = largest * int(np.abs(w.astype(np.int64)).sum(axis=1).max()) + int(np.abs(bias).max())
    half = 1 << (rules.acc_bits - 1)
    safe = total < half
    product = largest * int(np.abs(w.astype(np.int64)).max()) * job.array.products_per_pe
    bound = total if safe else half + product
    if bound >= 1 << 62:
        raise ValueError("run_gemm: exact sums must fit 62 bits; narrow the operands or the accumulators")
    rule = RULE_CODES["none" if safe else rules.acc_overflow]
    return Layout(x, w, held, overflowed.astype(np.int64), rule, bound)


def register(job: Job, activity: bool = False) -> RegisterRun:
    """Step every register of the array through a GEMM.

    Parameters
    ----------
    job
        Operands, array, rules and mode (``isolated`` or ``overlapped``).
    activity
        Whether toggles, zero operands and register writes are counted on the way.
    """
    layout, array, gemm = lay_out(job), job.array, job.operands.gemm
    shape = _shape(job, layout, activity)
    dtype = lane_dtype(layout.bound, shape.bits, bool(shape.rule) or activity)
    table = folds(gemm, array, job.stream_tile)
    span = int(table["length"][0]) + max(array.rows, array.cols) - 1
    plan = np.stack([table[name] for name in ("m0", "length", "m0", "m1", "n0", "n1", "n0")], axis=1)
    plan[:, 0] = plan[:, 0] // array.rows * span
    plan[:, 6] = plan[:, 6] // array.cols * span
    bias = np.zeros(ceil_div(gemm.n, array.cols) * array.cols, dtype=dtype)
    bias[: gemm.n] = layout.bias
    padded = ceil_div(gemm.m, array.rows) * array.rows, len(bias)
    data = kernel.Data(
        lines_x=_skewed(layout.x, span, array.products_per_pe, array.rows),
        lines_w=_skewed(layout.w, span, array.products_per_pe, array.cols),
        valid_x=_skewed(_marks(layout.x, array, activity), span, array.products_per_pe, array.rows),
        valid_w=_skewed(_marks(layout.w, array, activity), span, array.products_per_pe, array.cols),
        bias=bias,
        outputs=np.zeros(padded, dtype=np.int64),
        events=np.zeros(padded, dtype=np.int64),
    )
    state, tally = np.zeros(6, dtype=np.int64), np.zeros(len(kernel.TALLY), dtype=np.int64)
    started = np.zeros(len(plan), dtype=np.int64)
    stepped = int(kernel.run(_planes(shape, dtype), shape, data, plan, state, started, tally))
    used = (slice(0, gemm.m), slice(0, gemm.n))
    return RegisterRun(
        outputs=data.outputs[used].copy(),
        cycles=stepped,
        hop_events=np.zeros((gemm.m, gemm.n), dtype=np.int64),
        accumulator_events=data.events[used] + layout.bias_events,
        toggles=_toggles(tally) if activity else None,
        counts=_counts(job, tally) if activity else None,
    )


def _marks(values: NDArray[np.int32], array: ArrayShape, activity: bool) -> NDArray[np.int32]:
    """Mark every element 1, and 3 in product lane 0; nothing unless activity is counted."""
    if not activity:
        return np.zeros((0, values.shape[1]), dtype=np.int32)
    lane = np.arange(values.shape[1]) % array.products_per_pe
    return np.broadcast_to(np.where(lane == 0, 3, 1).astype(np.int32), values.shape).copy()


def _skewed(values: NDArray[np.int32], span: int, lanes: int, lines: int) -> NDArray[np.int32]:
    """Skew ``[line, k]`` by line into ``[u, lanes, lines]``, tile by tile, zeros around it."""
    tiles = ceil_div(len(values), lines)
    skewed = np.zeros((tiles, span, lanes, lines), dtype=np.int32)
    _skew_lines(values, skewed)
    return skewed.reshape(-1, lanes, lines)


def _shape(job: Job, layout: Layout, activity: bool) -> kernel.Shape:
    array, operands = job.array, job.operands
    return kernel.Shape(
        rows=array.rows,
        cols=array.cols,
        lanes=array.products_per_pe,
        depth=array.pipeline_depth,
        banks=job.banks,
        bits=job.accumulation.acc_bits,
        rule=layout.rule,
        x_mask=(1 << operands.act_bits) - 1,
        w_mask=(1 << operands.weight_bits) - 1,
        activity=activity,
    )


def _planes(shape: kernel.Shape, dtype: type[np.integer[Any]]) -> kernel.Planes:
    """Allocate the registers, all zero: the state after reset."""
    column, cells = shape.lanes * shape.rows, (shape.cols, shape.rows)
    side = (shape.cols + 1) * column
    x, w = double(side, column, np.int32), double(side, 1, np.int32)
    marked = side if shape.activity else column
    x_valid, w_valid = double(marked, column, np.int32), double(marked, 1, np.int32)
    by_cell = (2, shape.cols + 1, shape.lanes, shape.rows)
    sums = aligned(shape.cols * shape.rows, dtype)
    idle = sums if shape.banks == 1 else aligned(shape.cols * shape.rows, dtype)
    return kernel.Planes(
        x_in=x[0],
        x_reg=x[1],
        w_in=w[0],
        w_reg=w[1],
        x_valid_in=x_valid[0],
        x_valid_reg=x_valid[1],
        w_valid_in=w_valid[0],
        w_valid_reg=w_valid[1],
        x_cells=x[0].reshape(by_cell),
        w_cells=w[0].reshape(by_cell),
        sums=sums.reshape(cells),
        flat_sums=sums,
        idle=idle.reshape(cells),
        events=np.zeros(cells, dtype=dtype),
        products=aligned(shape.depth * shape.cols * shape.rows, dtype).reshape(shape.depth, *cells),
        before=np.zeros(cells, dtype=dtype),
        last=np.zeros(shape.cols * shape.lanes, dtype=np.int32),
        valid_last=np.zeros(shape.cols * shape.lanes, dtype=np.int32),
        scratch=np.zeros(shape.rows + 1, dtype=dtype),
        sum_mask=np.array([(1 << shape.bits) - 1 if shape.bits < 64 else -1], dtype=np.int64).astype(dtype),
    )


def _toggles(tally: NDArray[np.int64]) -> Toggles:
    seen = dict(zip(kernel.TALLY, tally.tolist(), strict=True))
    return Toggles(
        weight_register_toggles=seen["weight_toggles"],
        activation_register_toggles=seen["activation_toggles"],
        psum_register_toggles=seen["sum_toggles"],
        zero_activation_macs=seen["zero_activation"],
        zero_weight_macs=seen["zero_weight"],
        zero_macs=seen["zero_either"],
    )


def _counts(job: Job, tally: NDArray[np.int64]) -> Counts:
    seen = dict(zip(kernel.TALLY, tally.tolist(), strict=True))
    return Counts(
        macs=seen["macs"],
        weight_register_writes=seen["weight_writes"],
        activation_register_writes=seen["activation_writes"],
        psum_register_writes=seen["sum_writes"],
        weight_buffer_reads=seen["weight_reads"],
        activation_buffer_reads=seen["activation_reads"],
        bias_reads=counts(job.operands.gemm, job.array).bias_reads,
        accumulator_reads=0,
        accumulator_writes=seen["output_writes"],
    )


def _refuse_tile(stream_tile: int | None) -> None:
    if stream_tile is not None:
        raise ValueError(f"stream_tile must be None on an output-stationary array (got {stream_tile}); k is not cut")


OS = Dataflow(
    name="os",
    stationary="output",
    folds=folds,
    cycles=cycles,
    counts=counts,
    register=register,
    toggles=toggles,
)
