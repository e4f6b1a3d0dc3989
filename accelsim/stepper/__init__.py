"""The arrays one clock cycle at a time: every edge wire and register, for vectors, waveforms and comparison with RTL.

A second, slow route to what the register engine computes, in plain numpy and built like hardware: operands, control
bits and the identity of the sum that they belong to enter at the edge through delay lines and hop from PE to PE; folds
start when flip-flops say that they may. No cycle is computed and no kernel of the engine is used; outputs, cycles,
overflow maps and toggles are equal to the engine's.

======================  ==============================================================================================
`trace`                 the cycles of one GEMM, in order
`run_trace`             outputs, cycles, overflow maps and toggles, as seen in them
`Cycle`, `TraceRun`     the records
======================  ==============================================================================================
"""

from collections.abc import Iterator

import numpy as np

from accelsim.dataflow import Dataflow, Job
from accelsim.stepper.base import Bools, Cycle, Ints, TraceRun, distance
from accelsim.stepper.os import OutputStationary
from accelsim.stepper.stationary import Stationary

__all__ = ["Cycle", "TraceRun", "run_trace", "trace"]


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
    return iter(OutputStationary(dataflow, job) if dataflow.stationary == "output" else Stationary(dataflow, job))


def run_trace(dataflow: Dataflow, job: Job) -> TraceRun:
    """Step a whole GEMM and add up what happened."""
    gemm, operands, rules = job.operands.gemm, job.operands, job.accumulation
    resident = dataflow.stationary == "output"
    widths = {
        "weights": operands.weight_bits,
        "activations": operands.act_bits,
        "sums": rules.acc_bits if resident else rules.psum_bits,
    }
    toggles = dict.fromkeys(widths, 0)
    outputs, hops, totals = (np.zeros((gemm.m, gemm.n), dtype=np.int64) for _ in range(3))
    before: Cycle | None = None
    for cycle in trace(dataflow, job):
        if before is not None:
            for name, bits in widths.items():
                toggles[name] += distance(getattr(before, name), getattr(cycle, name), bits)
        done = cycle.total_final & (cycle.output >= 0)
        outputs.flat[cycle.output[done]] = cycle.total[done]
        _count(totals if resident else hops, cycle.owners, cycle.overflows)
        _count(totals, cycle.owners, cycle.bias_overflows)
        _count(totals, cycle.output, cycle.total_overflows)
        _count(totals, cycle.output, cycle.total_bias_overflows)
        before = cycle
    assert before is not None
    return TraceRun(outputs, hops, totals, before.index, toggles["weights"], toggles["activations"], toggles["sums"])


def _count(events: Ints, places: Ints, happened: Bools) -> None:
    np.add.at(events.reshape(-1), places[happened & (places >= 0)], 1)
