"""What a trace is made of: the record of a cycle, edges with delay lines, hops.

A `Cycle` is what the wires carry and the registers hold during a cycle, just before the clock edge that ends it; its
overflows are those of the additions that this edge completes. A run of c array cycles gives c + 1 of them: in the last,
nothing moves any more. Under WS and IS the bottom wires are the bottom row's sum registers, so that a sum shows, and
the accumulator memory adds it, in the cycle after it was formed: the last one when the array's time is over. Under OS
the bottom PE puts a sum out within the array's time.

Control bits at the edges; those by row hop right, one column a cycle:

=================  ===================================================================================================
WS, IS
``select``         by row, skewed like the operands: which stationary register multiplies
``shift``          by row: whether stationary registers take from above
``load_bank``      one for all rows: which of them do
OS
``first``          by row, skewed like the operands: a fold's first product, added to the bias in place of the sum
``bank``           by row, skewed like the operands: which sum register adds
``drain``          by row: whether sum registers take from above
``drain_bank``     one for all rows: which of them do, and which one the bottom PE puts out
``bias``           by column, does not hop: what the wire down the column carries
``bias_overflow``  by column, does not hop: whether that bias was out of the accumulator's range
=================  ===================================================================================================
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import IntArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cycle:
    """One cycle of an array of R rows and C columns whose PEs multiply L pairs of operands.

    Parameters
    ----------
    index
        Cycle since reset.
    left, top
        Operands at the edges, ``[R, L]`` and ``[C, L]``; zeros where there is none.
    control
        Control bits at the edges by name, ``[R]``, ``[C]`` or ``[1]``; see the module.
    activations, weights
        Operand registers ``[copies, R, C, L]``; two copies where a stationary operand is in ping-pong.
    sums
        Sum registers ``[copies, R, C]``.
    owners
        Output ``m · n_total + n`` that the addition of each PE belongs to, -1 where it is none, ``[R, C]``.
    overflows, bias_overflows
        Additions that leave the sum register, and (OS) PEs that take a bias out of range, ``[R, C]``.
    bottom, bottom_valid, output
        What leaves the array, whether it is a sum (idle rows and columns of a fold included), and of which output, -1
        for none; ``[C]``. Under OS `bottom` is what the bottom PE holds even when it is no sum that leaves.
    total, total_final, total_overflows, total_bias_overflows
        What the accumulator memory takes (0 where nothing), whether it is an output's last addition, whether that
        addition overflowed, and whether the bias that it started from did; ``[C]``. OS: `bottom`, without overflows.
    """

    index: int
    left: Ints
    top: Ints
    control: dict[str, Ints]
    activations: Ints
    weights: Ints
    sums: Ints
    owners: Ints
    overflows: Bools
    bias_overflows: Bools
    bottom: Ints
    bottom_valid: Bools
    output: Ints
    total: Ints
    total_final: Bools
    total_overflows: Bools
    total_bias_overflows: Bools


@dataclass(frozen=True, eq=False)
class TraceRun:
    """What a trace adds up to; all as `accelsim.dataflow.RegisterRun` and its `Toggles` have it.

    Parameters
    ----------
    outputs, hop_events, accumulator_events
        int64 ``[m, n]``.
    cycles
        Array cycles.
    weight_register_toggles, activation_register_toggles, psum_register_toggles
        Hamming distances at the registers' widths.
    """

    outputs: Ints
    hop_events: Ints
    accumulator_events: Ints
    cycles: int
    weight_register_toggles: int
    activation_register_toggles: int
    psum_register_toggles: int


class Lines:
    """Delay lines at an edge: item i of a vector comes out `extra` + i cycles after it went in."""

    def __init__(self, idle: Ints, extra: int = 0) -> None:
        """Fill the lines with what enters when there is nothing, ``[lines, ...]``."""
        self._held = deque([idle] * (len(idle) + extra), maxlen=len(idle) + extra)
        self._extra = extra

    def put(self, vector: Ints) -> Ints:
        """Pass one cycle: take a vector, return what comes out."""
        self._held.append(vector)
        return np.stack([self._held[-1 - self._extra - i][i] for i in range(len(vector))])


def distance(before: IntArray, after: IntArray, bits: int) -> int:
    """Return the Hamming distance of registers of a width, in two's complement.

    >>> distance(np.array([0, 1]), np.array([-1, 0]), bits=8)
    9
    """
    changed = (before.astype(np.int64) ^ after.astype(np.int64)).view(np.uint64)
    return int(np.bitwise_count(changed & np.uint64((1 << bits) - 1)).sum(dtype=np.int64))


def hop_right(left: Ints, registers: Ints) -> Ints:
    """Return what arrives at each PE ``[R, C, ...]`` from the left."""
    return np.concatenate([left[:, None], registers[:, :-1]], axis=1)


def hop_down(top: Ints, registers: Ints) -> Ints:
    """Return what arrives at each PE ``[R, C, ...]`` from above."""
    return np.concatenate([top[None], registers[:-1]], axis=0)


def padded(values: IntArray, rows: int, cols: int) -> Ints:
    """Return a matrix with zeros up to multiples of `rows` and `cols`."""
    result = np.zeros((-(-values.shape[0] // rows) * rows, -(-values.shape[1] // cols) * cols), dtype=np.int64)
    result[: values.shape[0], : values.shape[1]] = values
    return result
