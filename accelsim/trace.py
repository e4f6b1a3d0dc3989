"""The arrays one clock cycle at a time: every edge wire and register, for vectors, waveforms and comparison with RTL.

A second, slow route to what the register engine computes, in plain numpy and built like the hardware: operands,
control bits and the identity of the sum that they belong to enter at the edge through delay lines and hop from PE to
PE; folds start when flip-flops say that they may. No cycle is computed and no kernel of the engine is used. Outputs,
cycles, overflow maps and toggles are equal to the engine's.

A `Cycle` is what the wires carry and the registers hold during a cycle, just before the clock edge that ends it; the
overflows are those of the additions that this edge completes. A run of c array cycles gives c + 1 of them: in the last
one the array is idle and its registers hold the final state. Under WS and IS the bottom wires are the bottom row's sum
registers, so that sums show (and the accumulator memory adds them) the cycle after they were added; the last of them is
the cycle after the array's time has ended. Under OS the bottom PE puts its sum out in the cycle itself.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import IntArray, apply_overflow
from accelsim.dataflow import Dataflow, Job

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
        Control bits at the edges by name, see `accelsim.vectors`.
    activations, weights
        Operand registers ``[copies, R, C, L]``; two copies where a stationary operand is in ping-pong.
    sums
        Sum registers ``[copies, R, C]``.
    overflows
        Where the additions of this clock edge leave the sum register, ``[R, C]``.
    bottom, bottom_valid
        What leaves the array, ``[C]``, idle columns of a fold included.
    output
        Index ``m · n_total + n`` of the output that it belongs to, -1 in idle columns and cycles, ``[C]``.
    total, total_final
        What the accumulator memory takes, ``[C]``, and whether it is an output's last addition. OS: as `bottom`.
    total_overflows, bias_overflows
        Where that addition, and the bias when it is loaded for it (OS: enters the array), leaves the accumulator, ``[C]``.
    """

    index: int
    left: Ints
    top: Ints
    control: dict[str, Ints]
    activations: Ints
    weights: Ints
    sums: Ints
    overflows: Bools
    bottom: Ints
    bottom_valid: Bools
    output: Ints
    total: Ints
    total_final: Bools
    total_overflows: Bools
    bias_overflows: Bools


@dataclass(frozen=True, eq=False)
class TraceRun:
    """What a trace adds up to, comparable with `accelsim.dataflow.RegisterRun`.

    Parameters
    ----------
    outputs
        int64 ``[m, n]``.
    cycles
        Array cycles.
    overflows
        Overflowed additions of all PEs, and of the accumulator memory with its bias loads under WS and IS.
    weight_register_toggles, activation_register_toggles, psum_register_toggles
        Hamming distances at the registers' widths.
    """

    outputs: Ints
    cycles: int
    overflows: tuple[int, int]
    weight_register_toggles: int
    activation_register_toggles: int
    psum_register_toggles: int


def trace(dataflow: Dataflow, job: Job) -> Iterator[Cycle]:
    """Step an array through a GEMM.

    Parameters
    ----------
    dataflow
        A value of `accelsim.dataflow.DATAFLOWS`.
    job
        As `accelsim.dataflow.make_job` gives it. A rule ``error`` wraps.

    Yields
    ------
    Cycle
        The array's cycles and one more, in order.
    """
    return _output_stationary(dataflow, job) if dataflow.stationary == "output" else _stationary(dataflow, job)


def run_trace(dataflow: Dataflow, job: Job) -> TraceRun:
    """Step a whole GEMM and add up what happened."""
    gemm, operands, rules = job.operands.gemm, job.operands, job.accumulation
    sum_bits = rules.acc_bits if dataflow.stationary == "output" else rules.psum_bits
    outputs, toggles, hops, totals, cycles = np.zeros(gemm.m * gemm.n, dtype=np.int64), [0, 0, 0], 0, 0, 0
    for before, after in pairwise(trace(dataflow, job)):
        registers = ("weights", operands.weight_bits), ("activations", operands.act_bits), ("sums", sum_bits)
        for i, (name, bits) in enumerate(registers):
            toggles[i] += distance(getattr(before, name), getattr(after, name), bits)
        hops, cycles = hops + int(before.overflows.sum()), after.index
        for cycle in (before,) if before.index else (before, after):
            del cycle
        _note(outputs, before)
        totals += int(before.total_overflows.sum() + before.bias_overflows.sum())
        last = after
    _note(outputs, last)
    totals += int(last.total_overflows.sum() + last.bias_overflows.sum())
    return TraceRun(outputs.reshape(gemm.m, gemm.n), cycles, (hops, totals), *toggles)
