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

from accelsim.arith import apply_overflow
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
    half_of,
    lane_dtype,
)
from accelsim.dataflow.lanes import CHAINS, aligned, pitch, variant
from accelsim.dataflow.tiles import by_columns, by_rows, largest_sums


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
        int32 ``[k fold, t, pitch]``, zeros up to whole folds.
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
    fold_k = array.rows * array.products_per_pe
    depth = ceil_div(gemm.k, fold_k) * fold_k
    stream, reach = by_columns(a if roles.weights_stay else w.T, fold_k, getattr(gemm, roles.stream))
    still, largest = (by_columns if roles.weights_stay else by_rows)(w if roles.weights_stay else a, array.cols, depth)
    bias = np.zeros(gemm.n, np.int64) if job.operands.bias is None else job.operands.bias.astype(np.int64)
    held, overflowed = apply_overflow(bias, rules.acc_bits, rules.acc_overflow)
    plan = folds(roles, gemm, array, job.stream_tile)
    names = (f"{roles.stream}0", "length", "k0", "k1", f"{roles.column}0", f"{roles.column}1")
    table = np.stack([plan[name] for name in names], axis=1).astype(np.int64)
    sum_rule, memory_rule, sum_bound, bound = _rules(job, (reach, largest), still, int(np.abs(bias).max()))
    return Layout(
        stream,
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
    length, width = getattr(gemm, roles.stream), getattr(gemm, roles.column)
    memory = _memory(layout.bias.astype(lanes), length, width, shape, roles.weights_stay)
    nothing = np.zeros(1, dtype=lanes)
    data = kernel.Operands(layout.stream.reshape(-1), layout.still.reshape(-1))
    seen = kernel.Memory(
        sums=memory.reshape(-1),
        hop_events=np.zeros_like(memory).reshape(-1) if shape.sum_rule else nothing,
        events=np.zeros_like(memory).reshape(-1) if shape.memory_rule else nothing,
    )
    state, tally = np.zeros(kernel.STATE_SIZE, dtype=np.int64), np.zeros(len(kernel.TALLY), dtype=np.int64)
    plan, started = _places(layout, shape, length), np.zeros((2, len(layout.table)), dtype=np.int64)
    inputs = shape.rows * shape.lanes
    edge = kernel.Edge(np.zeros(inputs, dtype=np.int32), np.zeros(inputs, dtype=np.int32))
    stepped = int(kernel.run(edge, shape, data, plan, state, started, tally))
    act = variant(shape.sum_rule, activity, lanes is np.int32 and shape.lanes == 1)
    kernel.add_up(act, _planes(shape, lanes, job), shape, data, seen, plan, started, tally)

    def by_output(values: NDArray[Any]) -> NDArray[np.int64]:
        if values is nothing:
            return np.zeros((gemm.m, gemm.n), dtype=np.int64)
        result = np.empty((gemm.m, gemm.n), dtype=np.int64)
        by_column = result if roles.weights_stay else result.T
        for tile, c0 in zip(values.reshape(memory.shape), range(0, width, shape.cols), strict=True):
            by_column[:, c0 : c0 + shape.cols] = tile[:, : min(shape.cols, width - c0)]
        return result

    return RegisterRun(
        outputs=by_output(seen.sums),
        cycles=stepped,
        hop_events=by_output(seen.hop_events),
        accumulator_events=_with_bias(by_output(seen.events), layout.bias_events),
        toggles=_toggles(roles, tally) if activity else None,
        counts=_counts(roles, job, tally) if activity else None,
    )


def _places(layout: Layout, shape: kernel.Shape, length: int) -> NDArray[np.int64]:
    """Return the folds as the engine wants them: where their operands and sums are."""
    t0, elements, k0, k1, c0, c1 = layout.table.T
    tile = c0 // shape.cols
    columns = (
        (k0 // (shape.rows * shape.lanes) * length + t0) * shape.edge_pitch,
        elements,
        k1 - k0,
        c1 - c0,
        (tile * layout.still.shape[1] + k0) * shape.pitch,
        (tile * length + t0) * shape.pitch,
    )
    return np.stack(columns, axis=1)


def _with_bias(events: NDArray[np.int64], bias_events: NDArray[np.int64]) -> NDArray[np.int64]:
    return events + bias_events if bias_events.any() else events


def _rules(job: Job, largest: tuple[int, int], still: NDArray[np.int32], bias: int) -> tuple[int, int, int, int]:
    """Tell which rules can act, and how large a sum can get before one does; largest = of streamed and still operands.

    The magnitudes of the stationary operands are summed up only where the widths alone do not show that all is safe.
    """
    rules, fold_k, reach = job.accumulation, job.array.rows * job.array.products_per_pe, largest[0]
    fold, total = largest[1] * min(fold_k, job.operands.gemm.k), largest[1] * job.operands.gemm.k
    if max(reach * fold >> min(31, rules.psum_bits - 1), (reach * total + bias) >> min(31, rules.acc_bits - 1)):
        fold, total = largest_sums(still, fold_k)
    psum_bound, total_bound = reach * fold, reach * total + bias
    hops_safe = psum_bound < 1 << (rules.psum_bits - 1)
    held = psum_bound if hops_safe else 1 << (rules.psum_bits - 1)
    product = reach * largest[1] * job.array.products_per_pe
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
        sum_half=1 << (rules.psum_bits - 1) if layout.sum_rule else half_of(layout.bound),
        memory_rule=layout.memory_rule,
        memory_half=1 << (rules.acc_bits - 1) if layout.memory_rule else 0,
        still_mask=weight_mask if roles.weights_stay else act_mask,
        moving_mask=act_mask if roles.weights_stay else weight_mask,
        activity=activity,
    )


def _planes(shape: kernel.Shape, lanes: type[np.integer[Any]], job: Job) -> kernel.Planes:
    """Allocate the registers, all zero: the state after reset."""
    size, sum_bits = (1 + shape.rows + CHAINS) * shape.pitch, job.accumulation.psum_bits
    mask = aligned(shape.pitch, lanes)
    mask[:] = (1 << sum_bits) - 1 if sum_bits < 8 * mask.itemsize else -1
    return kernel.Planes(
        sums=aligned(size, lanes),
        events=aligned(size, lanes),
        mask=mask,
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
