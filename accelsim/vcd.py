"""Waveforms of an array: every PE's registers and the edges, for a window of cycles, as a VCD file.

Value change dumps are those of IEEE 1364-2005, section 18, and open in any waveform viewer. A cycle begins with the
rising clock edge: what is shown from there on is what registers took at that edge and what wires carry until the next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.dataflow import Dataflow, Job
from accelsim.program import Program
from accelsim.stepper import Cycle, trace
from accelsim.store import write_atomically
from accelsim.vectors import CONTROL
from accelsim.vectors_layer import layer_job

FIRST_CODE, CODES = 33, 94
"""Identifiers are made of the printable characters ``!`` to ``~``."""

CLOCK, COUNTER = "!", '"'
"""The first two of them; signals have the others."""


def export_vcd(
    program: Program,
    codes: Mapping[str, NDArray[Any]],
    layer: str,
    accelerator: Accelerator,
    path: str | Path,
    window: range | None = None,
    mode: str | None = None,
) -> None:
    """Write the waveform of a layer's (first) product, at the accelerator's clock.

    Parameters are as those of `accelsim.vectors_layer.export_vectors` and `write_vcd`.
    """
    dataflow, job, _ = layer_job(program, codes, layer, accelerator, mode=mode)
    write_vcd(dataflow, job, path, window, period_ps=round(1e6 / accelerator.clock_mhz))


def write_vcd(
    dataflow: Dataflow, job: Job, path: str | Path, window: range | None = None, *, period_ps: int = 1000
) -> None:
    """Write the waveform of one GEMM.

    Parameters
    ----------
    dataflow, job
        As `accelsim.stepper.trace`.
    path
        File to write; it appears whole or not at all.
    window
        Cycles to show, ``None`` for all, the idle one after the last included. The array is stepped from reset, but
        only these are kept.
    period_ps
        Clock period.

    Raises
    ------
    ValueError
        If the window is empty, has a step, or begins after the run.
    """
    last = dataflow.cycles(job.operands.gemm, job.array, job.mode, job.stream_tile)
    window = range(last + 1) if window is None else window
    if window.step != 1 or not 0 <= window.start <= last or len(window) == 0:
        raise ValueError(
            f"write_vcd: window must be consecutive cycles that begin within 0..{last} (got {window}); move it there"
        )
    if period_ps < 2:
        raise ValueError(f"write_vcd: period_ps must be >= 2 (got {period_ps}); a clock has two edges")
    signals = _signals(dataflow, job)
    lines = [*_header(signals, f"{dataflow.name} array, {job.mode}"), f"#{window.start * period_ps}", "$dumpvars"]
    lines += _changes(islice(trace(dataflow, job), window.start, window.stop), signals, period_ps)
    write_atomically(Path(path), "\n".join([*lines, ""]).encode("ascii"))


@dataclass(frozen=True)
class _Signal:
    """One variable: the scope and name that a viewer shows, its width and its identifier."""

    scope: str
    name: str
    bits: int
    code: str


def _signals(dataflow: Dataflow, job: Job) -> list[_Signal]:
    """Return all variables in the order of `_values`."""
    operands, rules, array = job.operands, job.accumulation, job.array
    resident, swapped = dataflow.stationary == "output", dataflow.stationary == "input"
    rows, cols, lanes = range(array.rows), range(array.cols), range(array.products_per_pe)
    sum_bits = rules.acc_bits if resident else rules.psum_bits
    left, top = operands.act_bits, operands.weight_bits
    if swapped:
        left, top = top, left
    lane = [f"_lane{i}" if len(lanes) > 1 else "" for i in lanes]
    found: list[tuple[str, str, int]] = []
    found += [("left", f"row{r}{i}", left) for r in rows for i in lane]
    found += [("top", f"col{c}{i}", top) for c in cols for i in lane]
    for name in CONTROL[dataflow.stationary]:
        by = [f"_col{c}" for c in cols] if name.startswith("bias") else [f"_row{r}" for r in rows]
        by = [""] if name.endswith("_bank") else by
        found += [("control", name + i, rules.acc_bits if name == "bias" else 1) for i in by]
    found += [("bottom", f"col{c}", sum_bits) for c in cols]
    found += [("bottom", f"valid_col{c}", 1) for c in cols]
    found += [("bottom", f"output_col{c}", 32) for c in cols]
    held = ("activation", operands.act_bits, swapped), ("weight", operands.weight_bits, not (resident or swapped))
    for name, bits, stays in held:
        copies = _copies(job.banks if stays else 1)
        found += [(f"pe_r{r}_c{c}", f"{name}{b}{i}", bits) for b in copies for r in rows for c in cols for i in lane]
    copies = _copies(job.banks if resident else 1)
    found += [(f"pe_r{r}_c{c}", f"psum{b}", sum_bits) for b in copies for r in rows for c in cols]
    found += [(f"pe_r{r}_c{c}", "overflow", 1) for r in rows for c in cols]
    return [_Signal(*item, _code(i + 2)) for i, item in enumerate(found)]


def _copies(banks: int) -> list[str]:
    return [""] if banks == 1 else [f"_{bank}" for bank in range(banks)]


def _values(cycle: Cycle) -> NDArray[np.int64]:
    """Return what all variables hold in a cycle."""
    parts = (
        cycle.left,
        cycle.top,
        *cycle.control.values(),
        cycle.bottom,
        cycle.bottom_valid,
        cycle.output,
        cycle.activations,
        cycle.weights,
        cycle.sums,
        cycle.overflows,
    )
    return np.concatenate([part.ravel() for part in parts]).astype(np.int64)


def _code(index: int) -> str:
    """Return the identifier of a variable, shorter ones first."""
    text = ""
    while True:
        text += chr(FIRST_CODE + index % CODES)
        index = index // CODES - 1
        if index < 0:
            return text


def _header(signals: list[_Signal], comment: str) -> Iterator[str]:
    yield f"$comment accelsim: {comment} $end"
    yield "$timescale 1ps $end"
    yield "$scope module array $end"
    yield f"$var wire 1 {CLOCK} clk $end"
    yield f"$var integer 32 {COUNTER} cycle $end"
    scopes: dict[str, list[_Signal]] = {}
    for signal in signals:
        scopes.setdefault(signal.scope, []).append(signal)
    for scope, members in scopes.items():
        yield f"$scope module {scope} $end"
        kind = "reg" if scope.startswith("pe_") else "wire"
        for signal in members:
            span = f" [{signal.bits - 1}:0]" if signal.bits > 1 else ""
            yield f"$var {kind} {signal.bits} {signal.code} {signal.name}{span} $end"
        yield "$upscope $end"
    yield "$upscope $end"
    yield "$enddefinitions $end"


def _changes(cycles: Iterator[Cycle], signals: list[_Signal], period_ps: int) -> Iterator[str]:
    """Yield the values at the first cycle, then what changes."""
    masks = np.array([(1 << signal.bits) - 1 for signal in signals], dtype=np.uint64)
    before: NDArray[np.uint64] | None = None
    time = 0
    for cycle in cycles:
        time = cycle.index * period_ps
        values = _values(cycle).view(np.uint64) & masks
        changed = np.arange(len(values)) if before is None else np.flatnonzero(values != before)
        if before is not None:
            yield f"#{time}"
        yield f"1{CLOCK}"
        yield f"b{cycle.index:b} {COUNTER}"
        for i in changed.tolist():
            signal = signals[i]
            yield f"{values[i]}{signal.code}" if signal.bits == 1 else f"b{int(values[i]):b} {signal.code}"
        if before is None:
            yield "$end"
        before = values
        yield f"#{time + period_ps // 2}"
        yield f"0{CLOCK}"
    yield f"#{time + period_ps}"
