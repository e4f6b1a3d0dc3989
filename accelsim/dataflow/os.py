"""Output-stationary: rows carry m, columns carry n, k is time; both operands move, sums stay until they are drained.

Folds run column tile by column tile, within one row tile by row tile; each takes all of k, so that nothing is added up
outside the array. `accelsim.dataflow.os_kernel` describes the registers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
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
    half_of,
    lane_dtype,
)
from accelsim.dataflow.lanes import aligned, pitch, variant
from accelsim.dataflow.os_toggles import toggles
from accelsim.dataflow.tiles import by_columns, largest_sums, lines


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


@dataclass(frozen=True)
class Layout:
    """A job in the engine's terms.

    Parameters
    ----------
    x, w
        int32 ``[m, x pitch]``, zeros up to whole folds, and ``[tile, (t, lane), pitch]``, zeros around them.
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
    array, gemm = job.array, operands.gemm
    depth = ceil_div(gemm.k, array.products_per_pe) * array.products_per_pe
    x, reach = lines(operands.a, ceil_div(gemm.m, array.rows) * array.rows, depth)
    w, largest = by_columns(operands.w, array.cols, depth)
    bias = np.zeros(gemm.n, np.int64) if operands.bias is None else operands.bias.astype(np.int64)
    held, overflowed = apply_overflow(bias, rules.acc_bits, rules.acc_overflow)
    extra = int(np.abs(bias).max())
    total = reach * largest * gemm.k + extra
    if total >> min(31, rules.acc_bits - 1):
        total = reach * largest_sums(w, depth)[1] + extra
    half = 1 << (rules.acc_bits - 1)
    safe = total < half
    product = reach * largest * array.products_per_pe
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
    dtype = lane_dtype(layout.bound, job.accumulation.acc_bits, bool(layout.rule) or activity)
    shape = _shape(job, layout, activity)
    tiles = ceil_div(gemm.m, array.rows), ceil_div(gemm.n, array.cols)
    bias = np.zeros(tiles[1] * array.cols, dtype=dtype)
    bias[: gemm.n] = layout.bias
    wires = aligned(tiles[1] * shape.pitch, dtype).reshape(tiles[1], -1)
    wires[:, : array.cols] = bias.reshape(tiles[1], -1)
    padded = tiles[0] * array.rows, tiles[1] * array.cols
    data = kernel.Operands(layout.x.reshape(-1), layout.w.reshape(-1))
    memory = kernel.Memory(wires.reshape(-1), np.empty(padded, dtype=np.int64), np.zeros(padded, dtype=np.int64))
    edge = kernel.Edge(
        moving_x=np.zeros(shape.rows * shape.lanes, dtype=np.int32),
        moving_w=np.zeros(shape.lanes * shape.pitch, dtype=np.int32),
        zeros=np.zeros(shape.k, dtype=np.int32),
    )
    plan = _places(job, shape)
    state, tally = np.zeros(kernel.STATE_SIZE, dtype=np.int64), np.zeros(len(kernel.TALLY), dtype=np.int64)
    stepped = int(kernel.run(edge, shape, data, plan, state, np.zeros(len(plan), dtype=np.int64), tally))
    act = variant(shape.rule, activity, dtype is np.int32 and shape.lanes == 1)
    kernel.add_up(act, _planes(job, shape, dtype), shape, data, memory, plan, tally)
    used = (slice(0, gemm.m), slice(0, gemm.n))
    return RegisterRun(
        outputs=np.ascontiguousarray(memory.outputs[used]),
        cycles=stepped,
        hop_events=np.zeros((gemm.m, gemm.n), dtype=np.int64),
        accumulator_events=memory.events[used] + layout.bias_events,
        toggles=_toggles(tally) if activity else None,
        counts=_counts(job, tally) if activity else None,
    )


def _shape(job: Job, layout: Layout, activity: bool) -> kernel.Shape:
    array = job.array
    return kernel.Shape(
        rows=array.rows,
        cols=array.cols,
        lanes=array.products_per_pe,
        depth=array.pipeline_depth,
        banks=job.banks,
        pitch=pitch(array.cols),
        x_pitch=layout.x.shape[1],
        k=job.operands.gemm.k,
        rule=layout.rule,
        half=1 << (job.accumulation.acc_bits - 1) if layout.rule else half_of(layout.bound),
        mask_x=(1 << job.operands.act_bits) - 1,
        mask_w=(1 << job.operands.weight_bits) - 1,
        activity=activity,
    )


def _places(job: Job, shape: kernel.Shape) -> NDArray[np.int64]:
    """Return the folds as the engine wants them: where their operands and outputs are."""
    table = folds(job.operands.gemm, job.array, job.stream_tile)
    m0, n0, length, tile = table["m0"], table["n0"], table["length"], table["n0"] // shape.cols
    columns = (
        m0 * shape.x_pitch,
        length,
        table["rows_used"],
        table["cols_used"],
        tile * length * shape.lanes * shape.pitch,
        tile * shape.pitch,
        m0,
        n0,
    )
    return np.stack(columns, axis=1)


def _planes(job: Job, shape: kernel.Shape, dtype: type[np.integer[Any]]) -> kernel.Planes:
    """Allocate the registers, all zero: the state after reset."""
    size, bits = (shape.banks * shape.rows + 1) * shape.pitch, job.accumulation.acc_bits
    mask = aligned(shape.pitch, dtype)
    mask[:] = (1 << bits) - 1 if bits < 8 * mask.itemsize else -1
    return kernel.Planes(
        sums=aligned(size, dtype),
        events=aligned(size, dtype),
        mask=mask,
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
