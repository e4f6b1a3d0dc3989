"""An accelerator as compiled loops take it: plain numbers, derived once per simulation.

The kernels of scheduling, counting and timing take a `MachineCodes`; what its numbers mean is said in
`accelsim.config`.
"""

import math
from typing import NamedTuple

from numba import njit

from accelsim.config import Accelerator

WS, OS, IS = 0, 1, 2
DATAFLOW_CODES = {"ws": WS, "os": OS, "is": IS}
ISOLATED, OVERLAPPED, SCALESIM = 0, 1, 2
MODE_CODES = {"isolated": ISOLATED, "overlapped": OVERLAPPED, "scalesim": SCALESIM}
STORAGE_CODES = {"packed": 0, "pow2": 1, "byte": 2}

WHOLE, BY_OUTPUTS, BY_BATCH = 0, 1, 2


class ArrayCodes(NamedTuple):
    """The array: rows, columns, dataflow, timing mode, MAC depth, whether small groups are packed."""

    rows: int
    cols: int
    dataflow: int
    mode: int
    depth: int
    packed: int


class SramCodes(NamedTuple):
    """One buffer: its bytes, those one tile may fill, bits of a word, bits read per cycle, whether halves alternate."""

    whole: int
    room: int
    word: int
    port: int
    double: int


class MachineCodes(NamedTuple):
    """A whole machine, as one core sees it.

    Parameters
    ----------
    array
        The PEs.
    act, weight, sums
        Activation, weight and accumulator buffer. `room` of `act` is its whole capacity: what is kept there lies
        beside the tiles that pass through. That of `weight` shrinks by what is pinned there.
    sum_bits
        Width of the accumulator memory.
    vector_lanes, requantizer_lanes
        Elements per cycle.
    bytes_per_cycle
        Of the DRAM channel, this core's share of it.
    latency
        Cycles from the end of a read transfer until its data can be used.
    storage, copy_pass
        Codes of the storage format and of duplication.
    cores, split
        Cores that share the network, and how: outputs of each layer, or the batch.
    """

    array: ArrayCodes
    act: SramCodes
    weight: SramCodes
    sums: SramCodes
    sum_bits: int
    vector_lanes: int
    requantizer_lanes: int
    bytes_per_cycle: float
    latency: int
    storage: int
    copy_pass: int
    cores: int
    split: int


def array_codes(accelerator: Accelerator, mode: str) -> ArrayCodes:
    """Return an accelerator's array in a timing mode."""
    array = accelerator.array
    return ArrayCodes(
        array.rows,
        array.cols,
        DATAFLOW_CODES[array.dataflow],
        MODE_CODES[mode],
        array.pipeline_depth,
        int(array.groups == "packed"),
    )


def machine_codes(accelerator: Accelerator, mode: str, batch: int) -> MachineCodes:
    """Return an accelerator in a timing mode, working on batches of a size."""
    act, weight, sums = accelerator.activation_sram, accelerator.weight_sram, accelerator.accumulator_sram
    cores = accelerator.cores
    return MachineCodes(
        array=array_codes(accelerator, mode),
        act=SramCodes(act.bytes, act.bytes, act.word_bits, act.word_bits * act.banks, int(act.double_buffered)),
        weight=SramCodes(
            weight.bytes,
            weight.bytes // (2 if weight.double_buffered else 1),
            weight.word_bits,
            weight.word_bits * weight.banks,
            int(weight.double_buffered),
        ),
        sums=SramCodes(
            sums.bytes,
            sums.bytes // (2 if sums.double_buffered else 1),
            sums.word_bits,
            sums.word_bits * sums.banks,
            int(sums.double_buffered),
        ),
        sum_bits=accelerator.accumulator.bits,
        vector_lanes=accelerator.vector_lanes,
        requantizer_lanes=accelerator.requantizer_lanes,
        bytes_per_cycle=bytes_per_cycle(accelerator) / cores,
        latency=math.ceil(accelerator.dram.latency_ns * accelerator.clock_mhz / 1000),
        storage=STORAGE_CODES[accelerator.storage],
        copy_pass=int(accelerator.duplication == "copy_pass"),
        cores=cores,
        split=WHOLE if cores == 1 else (BY_BATCH if batch >= cores else BY_OUTPUTS),
    )


def bytes_per_cycle(accelerator: Accelerator) -> float:
    """Return what the whole DRAM channel moves per clock cycle."""
    dram = accelerator.dram
    return dram.bandwidth_gb_per_s * 1e3 * dram.page_efficiency / accelerator.clock_mhz


@njit(cache=True)
def ceil_div(value: int, step: int) -> int:
    """Return ``value / step`` rounded up."""
    return -(-value // step)


@njit(cache=True)
def stored_bits(bits: int, storage: int) -> int:
    """Return the width that a value of `bits` takes in memory: packed, next power of two, or whole bytes."""
    if storage == 0:
        return bits
    if storage == 2:
        return ceil_div(bits, 8) * 8
    width = 1
    while width < bits:
        width *= 2
    return width


@njit(cache=True)
def rounded_bits(rows: int, length: int, bits: int, word: int) -> int:
    """Return the bits of `rows` lines of `length` values, each line rounded up to whole words."""
    return rows * ceil_div(length * bits, word) * word


@njit(cache=True)
def transfer_cycles(count: int, rate: float) -> int:
    """Return the cycles that the DRAM channel is busy with `count` bytes."""
    return math.ceil(count / rate) if count > 0 else 0
