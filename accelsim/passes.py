"""One pass of some samples through the network on the machine: schedule, counts and time, all layers at once.

A batch goes through in one pass where that moves the fewest bytes over DRAM, or in several passes of fewer samples each
(every pass fetches the parameters again), whichever is less. Several cores split the batch, if it is at least as large
as their number, or else the outputs of every layer; then each core reads all inputs, and passes its outputs on to all
others (`hop_bits`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim import tiling
from accelsim.codes import BY_BATCH, BY_OUTPUTS, SCALESIM, ArrayCodes, MachineCodes, ceil_div
from accelsim.counting import COUNT_DTYPE, count
from accelsim.layers import VECTOR, LayerTable
from accelsim.memory import ON_ARRAY, tile_table
from accelsim.memory_events import Span, play
from accelsim.memory_recurrence import COPIES, DRAM, VECTOR_UNIT, solve
from accelsim.schedule import Schedule, make_schedule, share_schedule
from accelsim.timing import array_cycles, lay

STALLS = ("fill_drain", "weight_load", "sram", "dram", "vector", "duplicate")
"""Why the array did not stream operands; see `accelsim.result.Result`."""

TIME_DTYPE = np.dtype([(name, np.int64) for name in ("folds", "array", "busy", *STALLS)])
"""Cycles of one layer; `array` is what the array takes by itself, `busy` and the stalls sum up to all."""

MEMORY_MODELS = ("recurrence", "events")


@dataclass(frozen=True, eq=False)
class Pass:
    """Counts and times of `samples` samples.

    Parameters
    ----------
    samples
        Carried through together.
    schedule
        Of the core with the largest share.
    counts
        dtype `COUNT_DTYPE` per layer, over all cores.
    times
        dtype `TIME_DTYPE` per layer, of the slowest core.
    cycles
        End to end.
    spans
        Timeline, where the event-driven model was asked for.
    """

    samples: int
    schedule: Schedule
    counts: NDArray[Any]
    times: NDArray[Any]
    cycles: int
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, eq=False)
class Work:
    """What a batch takes: its passes, and the sums over them.

    Parameters
    ----------
    first
        The pass that the batch is mostly made of.
    passes
        Number of passes of the slowest core.
    counts, times, cycles
        Sums: counts over all cores, times of the slowest core.
    """

    first: Pass
    passes: int
    counts: NDArray[Any]
    times: NDArray[Any]
    cycles: int


@dataclass(frozen=True)
class Model:
    """How to evaluate a pass: the machine, what its PEs do, which memory model, and a schedule to keep to."""

    codes: MachineCodes
    pe_work: NDArray[np.int64]
    memory: str = "recurrence"
    fixed: Schedule | None = None


def run_batch(table: LayerTable, model: Model, batch: int) -> Work:
    """Return what a batch takes, in the passes with the least DRAM traffic."""
    cores = model.codes.cores
    samples = ceil_div(batch, cores) if model.codes.split == BY_BATCH else batch
    size, first = _least_traffic(table, model, samples)
    if batch == size:
        return Work(first, 1, first.counts, first.times, first.cycles)
    known = {size: first}
    total = _Sum(len(table))
    active = ceil_div(batch, samples)
    for share, alike in ((samples, active - 1), (batch - samples * (active - 1), 1)):
        for part, repeats in _parts(share, size):
            if part not in known:
                known[part] = _evaluate(table, model, part)
            total.count(known[part], repeats * alike)
    for part, repeats in _parts(samples, size):
        if part not in known:
            known[part] = _evaluate(table, model, part)
        total.time(known[part], repeats)
    return Work(first, ceil_div(samples, size), total.counts, total.times, total.cycles)


def _parts(samples: int, size: int) -> list[tuple[int, int]]:
    """Return (samples of a pass, how many such passes)."""
    return [(part, repeats) for part, repeats in ((size, samples // size), (samples % size, 1)) if part and repeats]


class _Sum:
    """Adds passes up."""

    def __init__(self, layers: int) -> None:
        self.counts = np.zeros(layers, dtype=COUNT_DTYPE)
        self.times = np.zeros(layers, dtype=TIME_DTYPE)
        self.cycles = 0

    def count(self, one: Pass, repeats: int) -> None:
        _flat(self.counts)[:] += repeats * _flat(one.counts)

    def time(self, one: Pass, repeats: int) -> None:
        _flat(self.times)[:] += repeats * _flat(one.times)
        self.cycles += repeats * one.cycles


def totals(records: NDArray[Any]) -> dict[str, int]:
    """Return the sum of every column."""
    return dict(zip(records.dtype.names or (), _flat(records).sum(axis=0).tolist(), strict=True))


def _flat(records: NDArray[Any]) -> NDArray[np.int64]:
    """Return a structured array of int64 columns as a matrix, without copying."""
    return records.view(np.int64).reshape(len(records), -1)


def traffic(counts: NDArray[Any]) -> int:
    """Return the DRAM bytes of counts."""
    found = totals(counts)
    return sum(found[name] for name in ("weights", "ifmap", "ofmap", "psum_out", "psum_in"))


def _least_traffic(table: LayerTable, model: Model, samples: int) -> tuple[int, Pass]:
    """Return the number of samples per pass with the least traffic, and that pass."""
    if model.fixed is not None:
        samples = min(samples, model.fixed.samples)
    best = _evaluate(table, model, samples)
    if samples == 1 or model.fixed is not None or bool(best.schedule.plan["output_kept"][:-1].all()):
        return samples, best
    size, least = samples, float(traffic(best.counts))
    parts = 2
    while parts <= samples:
        tried = ceil_div(samples, parts)
        one = _evaluate(table, model, tried)
        moved = traffic(one.counts) * samples / tried
        if moved < least:
            size, least, best = tried, moved, one
        parts *= 2
    return size, best


def _evaluate(table: LayerTable, model: Model, samples: int) -> Pass:
    """Schedule, count and time one pass."""
    codes = model.codes
    schedule = make_schedule(table, codes, model.pe_work, samples, model.fixed)
    counts = count(table.layers, table.tensors, table.reads, schedule.plan, codes, schedule.sizes)
    if codes.split == BY_OUTPUTS:
        last = share_schedule(table, codes, model.pe_work, samples, schedule)
        rest = count(table.layers, table.tensors, table.reads, last.plan, codes, last.sizes)
        _flat(counts)[:] = _flat(counts) * (schedule.plan["active"][:, None] - 1) + _flat(rest)
        counts["requantized"] = table.layers["requantized"] * samples
    times = np.zeros(len(table), dtype=TIME_DTYPE)
    if codes.array.mode == SCALESIM:
        _formula_times(table.layers, schedule.plan, codes.array, times)
        return Pass(samples, schedule, counts, times, int(times["array"].sum()))
    tiles = tile_table(table.layers, schedule.plan, codes, tiling.PLACES)
    _array_times(tiles, codes.array.rows + codes.array.cols - 2 + codes.array.depth - 1, _drain_mode(codes), times)
    if model.memory == "events":
        whole = codes._replace(bytes_per_cycle=codes.bytes_per_cycle * codes.cores)
        played = play(tile_table(table.layers, schedule.plan, whole, tiling.PLACES), len(table), whole, codes.cores)
        cycles, waits, spans = played.cycles, played.waits, played.spans
    else:
        cycles, waits, _ = solve(tiles, len(table), codes)
        spans = ()
    times["dram"], times["vector"], times["duplicate"] = waits[:, DRAM], waits[:, VECTOR_UNIT], waits[:, COPIES]
    return Pass(samples, schedule, counts, times, cycles, spans)


def _drain_mode(codes: MachineCodes) -> int:
    """Return 0 where skew is paid once a layer, 1 per fold, 2 where drain is all that is not busy (os)."""
    if codes.array.dataflow == 1:
        return 2
    return int(codes.array.mode == 0)


@njit(cache=True)
def _array_times(tiles: Any, skew: int, drain: int, times: Any) -> None:
    """Add the array's own cycles up, by layer."""
    for place in range(tiles.size):
        tile = tiles[place]
        if tile.kind != ON_ARRAY:
            continue
        row = times[tile.layer]
        row.folds += tile.repeat * tile.folds
        row.busy += tile.repeat * tile.busy
        row.sram += tile.repeat * tile.stretch
        row.array += tile.repeat * (tile.steps * tile.array + tile.array_rest - tile.stretch)
    for place in range(times.size):
        row = times[place]
        if row.folds > 0:
            idle = row.array - row.busy
            row.fill_drain = idle if drain == 2 else (skew * row.folds if drain == 1 else min(skew, idle))
            row.weight_load = idle - row.fill_drain


@njit(cache=True)
def _formula_times(layers: Any, plan: Any, array: ArrayCodes, times: Any) -> None:
    """Fill in SCALE-Sim's count, which knows no memory: one group after the other, streams uncut."""
    for place in range(layers.size):
        row, out = plan[place], times[place]
        if layers[place].kind != VECTOR:
            mapping = lay(array, (row.m, row.k, row.n), row.groups, row.products, 0, 1)
            out.folds, out.array, out.busy, out.weight_load, out.fill_drain = array_cycles(array, mapping, row.steps)
