"""Weight- and input-stationary arrays by their common form: one operand streams, the other stays.

WS streams activations past weights, IS streams weights past activations. `Roles` says which is which; the fold order,
the closed forms and the call of the register engine are then the same.

Folds run column tile by column tile; within one, stream chunk by chunk (`stream_tile` bounds the rows of accumulator
memory in use; without it there is one chunk); within a chunk in k order, so that the accumulator memory adds the folds
of an output in k order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import IntArray, apply_overflow
from accelsim.dataflow import stationary_kernel as kernel
from accelsim.dataflow.base import (
    RULE_CODES,
    ArrayShape,
    Counts,
    Gemm,
    Job,
    RegisterRun,
    Toggles,
    ceil_div,
    check_mode,
    fold_table,
    lane_dtype,
)
from accelsim.dataflow.lanes import aligned, pitch
from accelsim.dataflow.tiles import by_columns, by_rows, largest, largest_sums


@dataclass(frozen=True)
class Roles:
    """Which operand does what: the axis that streams ('m' or 'n'), and the one over columns."""

    stream: str
    column: str

    @property
    def weights_stay(self) -> bool:
        """Whether the stationary operand is the weight."""
        return self.stream == "m"


WEIGHTS_STAY = Roles(stream="m", column="n")
INPUTS_STAY = Roles(stream="n", column="m")


def folds(roles: Roles, gemm: Gemm, array: ArrayShape, stream_tile: int | None = None) -> NDArray[Any]:
    """Return the folds in the order of execution, dtype `FOLD_DTYPE`."""
    fold_k = array.rows * array.products_per_pe
    length, width = getattr(gemm, roles.stream), getattr(gemm, roles.column)
    chunk = _chunk(length, stream_tile)
    c0 = np.arange(0, width, array.cols)[:, None, None]
    t0 = np.arange(0, length, chunk)[None, :, None]
    k0 = np.arange(0, gemm.k, fold_k)[None, None, :]
    c1, t1, k1 = np.minimum(c0 + array.cols, width), np.minimum(t0 + chunk, length), np.minimum(k0 + fold_k, gemm.k)
    return fold_table(
        {
            f"{roles.stream}0": t0,
            f"{roles.stream}1": t1,
            "k0": k0,
            "k1": k1,
            f"{roles.column}0": c0,
            f"{roles.column}1": c1,
            "rows_used": -(-(k1 - k0) // array.products_per_pe),
            "cols_used": c1 - c0,
            "length": t1 - t0,
        }
    )


def cycles(roles: Roles, gemm: Gemm, array: ArrayShape, mode: str, stream_tile: int | None = None) -> int:
    """Return the cycles of a GEMM, closed form.

    With T the streamed elements of a fold, F folds, R rows, C columns and MAC depth d: ``isolated`` takes
    ``Σ (2R + C + T - 2 + d - 1)``, ``overlapped`` ``R + Σ_{all but last} max(T, R) + T_last + R + C - 2 + d - 1``,
    ``scalesim`` ``Σ (2R + C + T - 2) - 1`` whatever d. Edge folds cost as much as full ones.
    """
    check_mode(mode)
    rows, cols, extra = array.rows, array.cols, array.pipeline_depth - 1
    length, width = getattr(gemm, roles.stream), getattr(gemm, roles.column)
    chunk = _chunk(length, stream_tile)
    k_folds = ceil_div(gemm.k, rows * array.products_per_pe)
    per_chunk = ceil_div(width, cols) * k_folds
    whole, rest = divmod(length, chunk)
    count = per_chunk * (whole + (rest > 0))
    if mode != "overlapped":
        fixed = 2 * rows + cols - 2
        total = count * fixed + per_chunk * length
        return total - 1 if mode == "scalesim" else total + count * extra
    last = rest or chunk
    period = per_chunk * (whole * max(chunk, rows) + (max(rest, rows) if rest else 0)) - max(last, rows)
    return rows + period + last + rows + cols - 2 + extra


def counts(roles: Roles, gemm: Gemm, array: ArrayShape, stream_tile: int | None = None) -> Counts:
    """Return what a GEMM does to registers and memories, closed form; see `Counts` for what is counted.

    A stationary element of row r is latched in rows 0 .. r; a streamed one passes all columns; a sum passes all rows.
    """
    lanes, fold_k = array.products_per_pe, array.rows * array.products_per_pe
    length, width = getattr(gemm, roles.stream), getattr(gemm, roles.column)
    chunks = ceil_div(length, _chunk(length, stream_tile))
    tiles, k_folds = ceil_div(width, array.cols), ceil_div(gemm.k, fold_k)
    last = gemm.k - (k_folds - 1) * fold_k
    full_hops = (k_folds - 1) * lanes * array.rows * (array.rows + 1) // 2
    rows_whole, lanes_rest = divmod(last, lanes)
    last_hops = lanes * rows_whole * (rows_whole + 1) // 2 + lanes_rest * (rows_whole + 1)
    still_writes = (full_hops + last_hops) * width * chunks
    still_reads = gemm.k * width * chunks
    moving_writes = length * gemm.k * array.cols * tiles
    moving_reads = length * gemm.k * tiles
    weights = (still_writes, still_reads) if roles.weights_stay else (moving_writes, moving_reads)
    inputs = (moving_writes, moving_reads) if roles.weights_stay else (still_writes, still_reads)
    return Counts(
        macs=gemm.m * gemm.k * gemm.n,
        weight_register_writes=weights[0],
        activation_register_writes=inputs[0],
        psum_register_writes=length * array.rows * width * k_folds,
        weight_buffer_reads=weights[1],
        activation_buffer_reads=inputs[1],
        bias_reads=gemm.n * (chunks if roles.weights_stay else tiles),
        accumulator_reads=gemm.m * gemm.n * (k_folds - 1),
        accumulator_writes=gemm.m * gemm.n * k_folds,
    )


@dataclass(frozen=True)
class Layout:
    """A job in the engine's terms: operands by role, folds, and which rules can act at all.

    Parameters
    ----------
    stream
        int32 ``[t, k]``, zeros up to whole folds.
    still
        int32 ``[column tile, k, pitch]``, zeros up to whole folds.
    bias, bias_events
        int64 ``[n]``: what the accumulator starts with, and overflows on loading it.
    table
        int64 ``[folds, 6]``: t0, length, k0, k1, c0, c1.
    sum_rule, memory_rule
        Kernel codes, 0 where no sum can overflow.
    sum_bound, bound
        Largest magnitude of an exact sum that a hop can meet, and that a hop or the memory can.
    """

    stream: NDArray[np.int32]
    still: NDArray[np.int32]
    bias: NDArray[np.int64]
    bias_events: NDArray[np.int64]
    table: NDArray[np.int64]
    sum_rule: int
    memory_rule: int
    sum_bound: int
    bound: int


def lay_out(roles: Roles, job: Job) -> Layout:
    """Bring a job into the engine's terms."""
    rules, array, gemm = job.accumulation, job.array, job.operands.gemm
    a, w = job.operands.a, job.operands.w
    stream = a if roles.weights_stay else w.T
    fold_k = array.rows * array.products_per_pe
    depth = ceil_div(gemm.k, fold_k) * fold_k
    still = by_columns(w, array.cols, depth) if roles.weights_stay else by_rows(a, array.cols, depth)
    bias = np.zeros(gemm.n, np.int64) if job.operands.bias is None else job.operands.bias.astype(np.int64)
    held, overflowed = apply_overflow(bias, rules.acc_bits, rules.acc_overflow)
    plan = folds(roles, gemm, array, job.stream_tile)
    names = (f"{roles.stream}0", "length", "k0", "k1", f"{roles.column}0", f"{roles.column}1")
    table = np.stack([plan[name] for name in names], axis=1).astype(np.int64)
    sum_rule, memory_rule, sum_bound, bound = _rules(job, largest(stream), still, int(np.abs(bias).max()))
    return Layout(
        _padded(stream, depth),
        still,
        held,
        overflowed.astype(np.int64),
        table,
        sum_rule,
        memory_rule,
        sum_bound,
        bound,
    )


def register(roles: Roles, job: Job, activity: bool = False) -> RegisterRun:
    """Step every register of the array through a GEMM.

    Parameters
    ----------
    roles
        Which operand stays.
    job
        Operands, array, rules and mode (``isolated`` or ``overlapped``).
    activity
        Whether toggles, zero operands and register writes are counted on the way.
    """
    layout, gemm = lay_out(roles, job), job.operands.gemm
    lanes = lane_dtype(layout.bound, job.accumulation.psum_bits, bool(layout.sum_rule) or activity)
    shape = _shape(roles, job, layout, activity)
    width = getattr(gemm, roles.column)
    memory = _memory(layout.bias.astype(lanes), len(layout.stream), width, shape, roles.weights_stay)
    nothing = aligned(shape.pitch, lanes)
    data = kernel.Data(
        stream=layout.stream.reshape(-1),
        stream_pitch=layout.stream.shape[1],
        still=layout.still.reshape(-1),
        still_depth=layout.still.shape[1],
        memory=memory.reshape(-1),
        hop_events=np.zeros_like(memory).reshape(-1) if shape.sum_rule else nothing,
        memory_events=np.zeros_like(memory).reshape(-1) if shape.memory_rule else nothing,
    )
    folds_placed = np.empty((len(layout.table), 7), dtype=np.int64)
    folds_placed[:, :6] = layout.table
    folds_placed[:, 6] = layout.table[:, 4] // shape.cols * len(layout.stream) + layout.table[:, 0]
    state, tally = np.zeros(kernel.STATE_SIZE, dtype=np.int64), np.zeros(len(kernel.TALLY), dtype=np.int64)
    started = np.zeros((2, len(layout.table)), dtype=np.int64)
    planes = _planes(shape, lanes, job, roles.weights_stay)
    stepped = int(kernel.run(planes, shape, data, folds_placed, state, started, tally))

    def by_output(values: NDArray[Any]) -> NDArray[np.int64]:
        if values is nothing:
            return np.zeros((gemm.m, gemm.n), dtype=np.int64)
        tiles = values.reshape(memory.shape)[:, :, : shape.cols]
        if roles.weights_stay:
            return tiles.transpose(1, 0, 2).reshape(gemm.m, -1)[:, : gemm.n].astype(np.int64)
        return tiles.transpose(0, 2, 1).reshape(-1, gemm.n)[: gemm.m].astype(np.int64)

    return RegisterRun(
        outputs=by_output(data.memory),
        cycles=stepped,
        hop_events=by_output(data.hop_events),
        accumulator_events=by_output(data.memory_events) + layout.bias_events,
        toggles=_toggles(roles, tally) if activity else None,
        counts=_counts(roles, job, tally) if activity else None,
    )


def _rules(job: Job, reach: int, still: NDArray[np.int32], bias: int) -> tuple[int, int, int, int]:
    """Tell which rules can act on streams up to `reach`, and how large a sum can get before a rule acts."""
    rules, fold_k = job.accumulation, job.array.rows * job.array.products_per_pe
    fold, total = largest_sums(still, fold_k)
    psum_bound, total_bound = reach * fold, reach * total + bias
    hops_safe = psum_bound < 1 << (rules.psum_bits - 1)
    held = psum_bound if hops_safe else 1 << (rules.psum_bits - 1)
    product = reach * largest(still) * job.array.products_per_pe
    sum_bound = psum_bound if hops_safe else held + product
    memory_bound = total_bound if hops_safe else held * (still.shape[1] // fold_k) + bias
    memory_safe = memory_bound < 1 << (rules.acc_bits - 1)
    memory_bound = memory_bound if memory_safe else (1 << (rules.acc_bits - 1)) + held
    bound = max(sum_bound, memory_bound)
    if bound >= 1 << 62:
        raise ValueError("run_gemm: exact sums must fit 62 bits; narrow the operands or the accumulators")
    return (
        RULE_CODES["none" if hops_safe else rules.psum_overflow],
        RULE_CODES["none" if memory_safe else rules.acc_overflow],
        sum_bound,
        bound,
    )


def _shape(roles: Roles, job: Job, layout: Layout, activity: bool) -> kernel.Shape:
    rules, array, operands = job.accumulation, job.array, job.operands
    weight_mask, act_mask = (1 << operands.weight_bits) - 1, (1 << operands.act_bits) - 1
    return kernel.Shape(
        rows=array.rows,
        cols=array.cols,
        lanes=array.products_per_pe,
        depth=array.pipeline_depth,
        banks=job.banks,
        pitch=pitch(array.cols),
        edge_pitch=pitch(array.rows * array.products_per_pe),
        sum_rule=layout.sum_rule,
        sum_half=1 << (rules.psum_bits - 1) if layout.sum_rule else 0,
        memory_rule=layout.memory_rule,
        memory_half=1 << (rules.acc_bits - 1) if layout.memory_rule else 0,
        still_mask=weight_mask if roles.weights_stay else act_mask,
        activity=activity,
    )


def _planes(shape: kernel.Shape, lanes: type[np.integer[Any]], job: Job, weights_stay: bool) -> kernel.Planes:
    """Allocate the registers, all zero: the state after reset."""
    cells, regions, sum_bits = shape.rows * shape.pitch, shape.banks + 1, job.accumulation.psum_bits
    moving_mask = aligned(shape.edge_pitch, np.int32)
    moving_mask[:] = (1 << (job.operands.act_bits if weights_stay else job.operands.weight_bits)) - 1
    moving_mask[shape.rows * shape.lanes :] = 0
    mask = aligned(shape.pitch, lanes)
    mask[:] = (1 << sum_bits) - 1 if sum_bits < 8 * mask.itemsize else -1
    return kernel.Planes(
        sums=aligned(cells + shape.pitch, lanes),
        events=aligned(cells + shape.pitch, lanes),
        chain=aligned(regions * cells * shape.lanes, np.int32),
        edge=aligned(kernel.edge_rows(shape.rows) * shape.edge_pitch, np.int32),
        moving=aligned(2 * shape.edge_pitch, np.int32),
        moving_mask=moving_mask,
        products=aligned(shape.depth * cells + shape.pitch, lanes),
        ones=np.ones(1, dtype=np.int32),
        mask=mask,
        zeros=np.zeros(regions * shape.rows * shape.lanes, dtype=np.int64),
    )


def _memory(initial: NDArray[Any], length: int, width: int, shape: kernel.Shape, per_column: bool) -> NDArray[Any]:
    """Return the accumulator memory ``[tile, t, pitch]``, holding an initial value per column or per element."""
    tiles = ceil_div(width, shape.cols)
    memory = aligned(tiles * length * shape.pitch, initial.dtype.type).reshape(tiles, length, shape.pitch)
    if per_column:
        padded = np.zeros(tiles * shape.cols, dtype=initial.dtype)
        padded[:width] = initial
        memory[:, :, : shape.cols] = padded.reshape(tiles, 1, shape.cols)
    else:
        memory[:, :, : shape.cols] = initial[:, None]
    return memory


def _toggles(roles: Roles, tally: NDArray[np.int64]) -> Toggles:
    seen = dict(zip(kernel.TALLY, tally.tolist(), strict=True))
    moving, still = ("moving", "stationary") if roles.weights_stay else ("stationary", "moving")
    return Toggles(
        weight_register_toggles=seen[f"{still}_toggles"],
        activation_register_toggles=seen[f"{moving}_toggles"],
        psum_register_toggles=seen["sum_toggles"],
        zero_activation_macs=seen[f"zero_{moving}"],
        zero_weight_macs=seen[f"zero_{still}"],
        zero_macs=seen["zero_either"],
    )


def _counts(roles: Roles, job: Job, tally: NDArray[np.int64]) -> Counts:
    seen = dict(zip(kernel.TALLY, tally.tolist(), strict=True))
    moving, still = ("moving", "stationary") if roles.weights_stay else ("stationary", "moving")
    closed = counts(roles, job.operands.gemm, job.array, job.stream_tile)
    outputs = job.operands.gemm.m * job.operands.gemm.n
    return Counts(
        macs=seen["macs"],
        weight_register_writes=seen[f"{still}_writes"],
        activation_register_writes=seen[f"{moving}_writes"],
        psum_register_writes=seen["sum_writes"],
        weight_buffer_reads=seen[f"{still}_reads"],
        activation_buffer_reads=seen[f"{moving}_reads"],
        bias_reads=closed.bias_reads,
        accumulator_reads=seen["memory_writes"] - outputs,
        accumulator_writes=seen["memory_writes"],
    )


def _chunk(length: int, stream_tile: int | None) -> int:
    if stream_tile is not None and stream_tile < 1:
        raise ValueError(f"stream_tile must be >= 1 (got {stream_tile})")
    return length if stream_tile is None else min(stream_tile, length)


def _padded(values: IntArray, columns: int) -> NDArray[np.int32]:
    if values.shape[1] == columns:
        return np.ascontiguousarray(values, dtype=np.int32)
    result = np.zeros((len(values), columns), dtype=np.int32)
    result[:, : values.shape[1]] = values
    return result
