"""Golden vectors: what enters an array in each cycle and what must leave it, for people who build the hardware.

`gemm_vectors` steps an array through a product and keeps operands, skewed input streams, control bits, sums at the
bottom edge, what the accumulators take, and the outputs. `accelsim.vectors_layer` takes the product from a layer of a
Program, `accelsim.vectors_files` writes them as one ``.npz`` and as ``.memh`` for ``$readmemh``, with a README.

Line t of a stream is cycle t: what the wires carry just before the clock edge that ends it, see
`accelsim.stepper.base`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import IntArray
from accelsim.dataflow import Dataflow, Job
from accelsim.stepper import Cycle, trace

Progress = Callable[[int, int], None]
"""Called with (cycles stepped, all cycles)."""

CYCLES_PER_REPORT = 256


@dataclass(frozen=True, eq=False)
class Stream:
    """Lines of equal fields.

    Parameters
    ----------
    values
        Integers ``[lines, fields]``, or 1-D for one field a line.
    bits
        Width of a field, two's complement where negative.
    meaning
        One line for the README.
    """

    values: IntArray
    bits: int
    meaning: str

    @property
    def fields(self) -> int:
        """Fields of a line."""
        return int(np.prod(self.values.shape[1:], dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of one GEMM.

    Parameters
    ----------
    dataflow, job
        What was run.
    signed
        Whether (activations, weights) are two's complement.
    cycles
        Array cycles; the per-cycle streams have one line more.
    operands, per_cycle, results
        Streams by name: matrices before the run, wires during it, outputs after it.
    """

    dataflow: Dataflow
    job: Job
    signed: tuple[bool, bool]
    cycles: int
    operands: dict[str, Stream]
    per_cycle: dict[str, Stream]
    results: dict[str, Stream]

    @property
    def streams(self) -> dict[str, Stream]:
        """All of them."""
        return {**self.operands, **self.per_cycle, **self.results}

    @property
    def parameters(self) -> dict[str, int]:
        """Names and values as in ``parameters.vh`` and in the Verilog arrays of this project's tests."""
        job = self.job
        rules, rule = job.accumulation, {"wrap": 0, "error": 0, "saturate": 1}
        return {
            "INPUTS_STAY": int(self.dataflow.stationary == "input"),
            "ROWS": job.array.rows,
            "COLS": job.array.cols,
            "LANES": job.array.products_per_pe,
            "DEPTH": job.array.pipeline_depth,
            "BANKS": job.banks,
            "ACT_BITS": job.operands.act_bits,
            "ACT_SIGNED": int(self.signed[0]),
            "WEIGHT_BITS": job.operands.weight_bits,
            "WEIGHT_SIGNED": int(self.signed[1]),
            "PSUM_BITS": rules.psum_bits,
            "PSUM_SATURATE": rule[rules.psum_overflow],
            "ACC_BITS": rules.acc_bits,
            "ACC_SATURATE": rule[rules.acc_overflow],
            "CYCLES": self.cycles,
        }


def gemm_vectors(
    dataflow: Dataflow,
    job: Job,
    signed: tuple[bool, bool] | None = None,
    *,
    registers: bool = False,
    progress: Progress | None = None,
) -> Vectors:
    """Return the vectors of one GEMM.

    Parameters
    ----------
    dataflow, job
        As `accelsim.stepper.trace`.
    signed
        Whether (activations, weights) are two's complement; ``None``: unless a value needs all bits unsigned.
    registers
        Whether to keep every PE's registers and overflows of every cycle, too.
    progress
        Called now and then.
    """
    operands, gemm = job.operands, job.operands.gemm
    if signed is None:
        widths = (operands.a, operands.act_bits), (operands.w, operands.weight_bits)
        act_signed, weight_signed = (int(values.max()) < 1 << (bits - 1) for values, bits in widths)
        signed = act_signed, weight_signed
    bias = np.zeros(gemm.n, dtype=np.int64) if operands.bias is None else operands.bias
    taps = _edges(dataflow, job) + (_registers(dataflow, job) if registers else [])
    per_cycle = _record(dataflow, job, taps, progress)
    resident = dataflow.stationary == "output"
    names = ("bottom_valid", "output", "bottom") if resident else ("total_final", "output", "total")
    final, place, total = (per_cycle[name].values for name in names)
    outputs, done = np.zeros(gemm.m * gemm.n, dtype=np.int64), final.astype(np.bool_) & (place >= 0)
    outputs[place[done]] = total[done]
    result = outputs.reshape(gemm.m, gemm.n)
    return Vectors(
        dataflow=dataflow,
        job=job,
        signed=signed,
        cycles=len(place) - 1,
        operands={
            "a": Stream(operands.a, operands.act_bits, "activations, one row of a[m, k] a line"),
            "w": Stream(operands.w, operands.weight_bits, "weights, one row of w[k, n] a line"),
            "initial": Stream(bias, 64, "bias of output column n, before it is brought into range"),
        },
        per_cycle=per_cycle,
        results={"outputs": Stream(result, job.accumulation.acc_bits, "one row of the result[m, n] a line")},
    )


def line_bits(dataflow: Dataflow, job: Job) -> int:
    """Return how many bits the streams by cycle of `gemm_vectors` have in one cycle."""
    operands = job.operands
    least = replace(job, operands=replace(operands, a=operands.a[:1, :1], w=operands.w[:1, :1], bias=None))
    cycle = next(trace(dataflow, least))
    return sum(tap.read(cycle).size * tap.bits for tap in _edges(dataflow, job))


@dataclass(frozen=True)
class _Tap:
    """A wire or register to record: name of the stream, what to read, width of a field."""

    name: str
    read: Callable[[Cycle], NDArray[Any]]
    bits: int
    meaning: str


def _record(dataflow: Dataflow, job: Job, taps: list[_Tap], progress: Progress | None) -> dict[str, Stream]:
    """Step the array and keep what the taps read, each in the narrowest type that holds it."""
    lines = dataflow.cycles(job.operands.gemm, job.array, job.mode, job.stream_tile) + 1
    kept: list[NDArray[Any]] = []
    seen = 0
    for cycle in trace(dataflow, job):
        read = [tap.read(cycle).ravel() for tap in taps]
        if not kept:
            kept = [np.empty((lines, len(part)), _dtype(tap.bits)) for part, tap in zip(read, taps, strict=True)]
        for array, part in zip(kept, read, strict=True):
            array[cycle.index] = part
        seen += 1
        if progress is not None and (seen % CYCLES_PER_REPORT == 0 or seen == lines):
            progress(seen, lines)
    assert seen == lines, "the trace took other cycles than the closed form says"
    return {tap.name: Stream(array, tap.bits, tap.meaning) for tap, array in zip(taps, kept, strict=True)}


def _dtype(bits: int) -> type[np.signedinteger[Any]]:
    """Return a type for fields of a width; of operands, which may be unsigned, none is as wide as 32 bits."""
    return np.int8 if bits < 8 else np.int16 if bits < 16 else np.int32 if bits <= 32 else np.int64


def _tap(name: str, bits: int, meaning: str, field: str = "") -> _Tap:
    return _Tap(name, attrgetter(field or name), bits, meaning)


def _edges(dataflow: Dataflow, job: Job) -> list[_Tap]:
    """Return the wires at the edges."""
    operands, rules = job.operands, job.accumulation
    resident, swapped = dataflow.stationary == "output", dataflow.stationary == "input"
    moves, comes = ("weights", "activations") if swapped else ("activations", "weights")
    left, top = operands.act_bits, operands.weight_bits
    if swapped:
        left, top = top, left
    drained = "whether a sum register of the array drains here; one that holds no output has no place, by column"
    valid = drained if resident else "whether it is a sum, by column"
    way = "moving down" if resident else "on their way down to the PEs that keep them"
    shared = [
        _tap("left", left, f"{moves} entering at the left, by row, skewed"),
        _tap("top", top, f"{comes} {way}, by column, skewed"),
        *(_control(name, rules.acc_bits) for name in CONTROL[dataflow.stationary]),
        _tap("bottom", rules.acc_bits if resident else rules.psum_bits, "what the bottom row puts out, by column"),
        _tap("bottom_valid", 1, valid),
        _tap("output", 32, "its place m * N + n in the result, all ones for none, by column"),
    ]
    memory = [
        _tap("total", rules.acc_bits, "what the accumulator memory takes, 0 for nothing, by column"),
        _tap("total_final", 1, "whether that is the output, by column"),
        _tap("total_overflow", 1, "whether that addition overflowed, by column", "total_overflows"),
        _tap("total_bias_overflow", 1, "whether the bias that it starts from did, by column", "total_bias_overflows"),
    ]
    return shared if resident else shared + memory


def _control(name: str, acc_bits: int) -> _Tap:
    return _Tap(name, lambda cycle: cycle.control[name], acc_bits if name == "bias" else 1, MEANING[name])


def _registers(dataflow: Dataflow, job: Job) -> list[_Tap]:
    """Return the registers of all PEs: by row, column and product lane, copies of a register outermost."""
    operands, rules = job.operands, job.accumulation
    return [
        _tap("activations", operands.act_bits, "activation registers"),
        _tap("weights", operands.weight_bits, "weight registers"),
        _tap("sums", rules.acc_bits if dataflow.stationary == "output" else rules.psum_bits, "sum registers"),
        _tap("overflow", 1, "additions that overflow at the end of the cycle", "overflows"),
        _tap("bias_overflow_by_pe", 1, "PEs that take a bias out of range", "bias_overflows"),
    ]


MEANING = {
    "select": "stationary register that multiplies, by row, skewed",
    "shift": "whether stationary registers take from above, by row",
    "load_bank": "which of them do",
    "first": "whether a fold's first product arrives, which is added to the bias, by row, skewed",
    "bank": "sum register that adds, by row, skewed",
    "drain": "whether sum registers take from above, by row",
    "drain_bank": "which of them do, and which one the bottom row puts out",
    "bias": "wire down the column, the bias brought into range, by column, skewed",
    "bias_overflow": "whether that bias was out of range, by column, skewed",
}
"""What the control bits at the edges mean."""

STILL_CONTROL = ("select", "shift", "load_bank")
CONTROL = {
    "weight": STILL_CONTROL,
    "input": STILL_CONTROL,
    "output": ("first", "bank", "drain", "drain_bank", "bias", "bias_overflow"),
}
"""The control bits of an array, by what stays in it."""
