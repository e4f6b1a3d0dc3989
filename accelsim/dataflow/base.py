"""What every dataflow shares: the array, the GEMM, folds, and the records of what a run counts.

The array level knows nothing about programs. One call is one product ``a[m, k] @ w[k, n] + bias[n]`` of small integers
on an array of ``rows`` x ``cols`` PEs, cut into *folds*: the parts of the product that the array does between two
changes of its stationary operand. All arrays are synchronous. Moving operands enter at the edge skewed by one cycle
per row (or column), zeros enter whenever there is no data, and every register starts at zero.

Timing modes (names as printed with every figure):

``isolated``    one stationary register per PE; a fold starts when the last result of the one before has left
``overlapped``  two stationary registers per PE in ping-pong: the next fold is loaded (WS, IS) or the last one drained
                (OS) while the array computes
``scalesim``    SCALE-Sim v2/v3's printed count, a formula for comparison (not a machine): it forgets the drain of OS
                and reports the index of the last cycle; it knows no pipelined MAC

A MAC of pipeline depth d is d - 1 product registers between multiplier and adder. The hop down a column stays one
cycle, so depth adds d - 1 cycles to each fold in ``isolated`` and d - 1 once in ``overlapped``.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import Accumulation, IntArray

MODES = ("isolated", "overlapped", "scalesim")

FOLD_DTYPE = np.dtype(
    [(name, np.int64) for name in ("m0", "m1", "k0", "k1", "n0", "n1", "rows_used", "cols_used", "length")]
)
"""One fold: half-open ranges of m, k and n, rows and columns of the array in use, streamed operands per row (T)."""


@dataclass(frozen=True)
class ArrayShape:
    """An array of PEs.

    Parameters
    ----------
    rows, cols
        Height and width in PEs.
    products_per_pe
        Consecutive k that one PE multiplies in a cycle and sums exactly (p of a composable PE).
    pipeline_depth
        Stages of the MAC: 1 is multiply and add in one cycle.
    """

    rows: int
    cols: int
    products_per_pe: int = 1
    pipeline_depth: int = 1

    def __post_init__(self) -> None:
        """Refuse what no array can be."""
        _at_least_one(self)


@dataclass(frozen=True)
class Gemm:
    """The size of one product ``a[m, k] @ w[k, n]``."""

    m: int
    k: int
    n: int

    def __post_init__(self) -> None:
        """Refuse empty products."""
        _at_least_one(self)


@dataclass(frozen=True)
class Operands:
    """The values of one GEMM.

    Parameters
    ----------
    a, w
        Integers, shapes ``[m, k]`` and ``[k, n]``.
    bias
        Integers, shape ``[n]``; ``None`` is zero.
    act_bits, weight_bits
        Widths of the operand registers, for toggles: a value occupies its low bits in two's complement.
    """

    a: IntArray
    w: IntArray
    bias: IntArray | None = None
    act_bits: int = 8
    weight_bits: int = 8

    def __post_init__(self) -> None:
        """Refuse shapes that do not multiply and values wider than the registers."""
        if self.a.ndim != 2 or self.w.ndim != 2 or self.a.shape[1] != self.w.shape[0]:
            raise ValueError(f"Operands: a[m, k] and w[k, n] must share k (got {self.a.shape} and {self.w.shape})")
        if self.bias is not None and self.bias.shape != (self.w.shape[1],):
            raise ValueError(f"Operands.bias must have shape ({self.w.shape[1]},) (got {self.bias.shape})")
        for name, bits, values in (("act_bits", self.act_bits, self.a), ("weight_bits", self.weight_bits, self.w)):
            if not 1 <= bits <= 24:
                raise ValueError(f"Operands.{name} must be within 1..24 (got {bits})")
            low, high = int(values.min(initial=0)), int(values.max(initial=0))
            if low < -(1 << (bits - 1)) or high >= (1 << bits if low >= 0 else 1 << (bits - 1)):
                raise ValueError(f"Operands.{name}={bits} is too narrow for values {low}..{high}; widen it")

    @property
    def gemm(self) -> Gemm:
        """Size of the product."""
        return Gemm(self.a.shape[0], self.a.shape[1], self.w.shape[1])


@dataclass(frozen=True)
class Counts:
    """What one GEMM does to registers and memories, in elements.

    Register writes count the clock edges at which a register takes an element of the GEMM (a sum, for partial sums):
    zeros that fill idle rows, columns and cycles are not counted. Under WS and IS a sum passes all rows of the columns
    in use. Under OS the partial-sum register is the accumulator; its writes are MACs and drain shifts. The accumulator
    memory is written once per fold and output (OS: the output buffer, once per output) and read unless the fold is
    the first of its output, which starts from the bias.
    """

    macs: int
    weight_register_writes: int
    activation_register_writes: int
    psum_register_writes: int
    weight_buffer_reads: int
    activation_buffer_reads: int
    bias_reads: int
    accumulator_reads: int
    accumulator_writes: int


@dataclass(frozen=True)
class Toggles:
    """Data-dependent activity of one GEMM, from reset until its last output has left.

    Toggles are Hamming distances in two's complement between what a register holds and what it takes at the next clock
    edge, over all registers of all PEs, at the operand's width and at the partial sum's (OS: the accumulator's).
    Product registers inside a pipelined MAC are not counted. Of the useful MACs, ``zero_*_macs`` had a zero activation,
    a zero weight, and at least one of the two.
    """

    weight_register_toggles: int
    activation_register_toggles: int
    psum_register_toggles: int
    zero_activation_macs: int
    zero_weight_macs: int
    zero_macs: int


@dataclass(frozen=True)
class RegisterRun:
    """What a register-level engine saw.

    Parameters
    ----------
    outputs
        int64 ``[m, n]``, what the accumulators hold at the end.
    cycles
        Clock cycles stepped until the last result left the array.
    hop_events, accumulator_events
        int64 ``[m, n]``: additions that overflowed inside the array and in the accumulator (the bias load included).
    toggles, counts
        Counted in the registers, ``None`` unless asked for.
    """

    outputs: NDArray[np.int64]
    cycles: int
    hop_events: NDArray[np.int64]
    accumulator_events: NDArray[np.int64]
    toggles: Toggles | None = None
    counts: Counts | None = None


@dataclass(frozen=True)
class Job:
    """One call of an engine: operands, array, rules and mode, already checked against each other."""

    operands: Operands
    array: ArrayShape
    accumulation: Accumulation
    mode: str = "isolated"
    stream_tile: int | None = None

    @property
    def banks(self) -> int:
        """Stationary registers per PE."""
        return 2 if self.mode == "overlapped" else 1


@dataclass(frozen=True)
class Dataflow:
    """A way to map a GEMM onto the array.

    Parameters
    ----------
    name
        As on the command line.
    stationary
        Which operand stays in the PEs: ``weight``, ``output`` or ``input``.
    folds
        ``(gemm, array, stream_tile) -> folds`` in the order of execution, dtype `FOLD_DTYPE`.
    cycles
        ``(gemm, array, mode, stream_tile) -> cycles``, closed form.
    counts
        ``(gemm, array, stream_tile) -> Counts``, closed form.
    register
        ``(job, activity) -> RegisterRun``, every PE register every cycle.
    toggles
        ``job -> Toggles`` from the streams, without stepping cycles.
    """

    name: str
    stationary: str
    folds: Callable[[Gemm, ArrayShape, int | None], NDArray[Any]]
    cycles: Callable[[Gemm, ArrayShape, str, int | None], int]
    counts: Callable[[Gemm, ArrayShape, int | None], Counts]
    register: Callable[[Job, bool], RegisterRun]
    toggles: Callable[[Job], Toggles]


RULE_CODES = {"none": 0, "wrap": 1, "saturate": 2, "error": 1}
"""Overflow rules in the kernels; an error wraps on and is raised by the caller, who alone can name the place."""


def lane_dtype(bound: int, bits: int, exact_width: bool) -> type[np.integer[Any]]:
    """Return the narrowest lanes that hold every exact sum up to `bound`, and the register where its width matters."""
    fits = bound < 1 << 31 and (bits <= 32 or not exact_width)
    return np.int32 if fits else np.int64


def half_of(bound: int) -> int:
    """Return half of a range that holds every sum up to `bound` and whose lanes do: none ever leaves it."""
    return 1 << 31 if bound < 1 << 31 else 1 << 62


def ceil_div(value: int, step: int) -> int:
    """Return ``value / step`` rounded up.

    >>> ceil_div(7, 4)
    2
    """
    return -(-value // step)


def fold_table(columns: dict[str, IntArray]) -> NDArray[Any]:
    """Pack columns that broadcast against each other into a fold table, in C order of the broadcast shape."""
    packed = np.broadcast_arrays(*(columns[name] for name in FOLD_DTYPE.names or ()))
    table = np.empty(packed[0].size, dtype=FOLD_DTYPE)
    for name, column in zip(FOLD_DTYPE.names or (), packed, strict=True):
        table[name] = column.ravel()
    return table


def check_mode(mode: str) -> None:
    """Refuse a mode that is none of `MODES`."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)} (got {mode!r})")


def _at_least_one(record: Any) -> None:
    for item in fields(record):
        value = getattr(record, item.name)
        if value < 1:
            raise ValueError(f"{type(record).__name__}.{item.name} must be >= 1 (got {value})")
