"""The register engine against Verilator on the same machine in Verilog, cycle for cycle, in the same run.

Both step an array of 32 × 32 through the same matrix product, overlapped folds, one thread. Verilator runs the machine
of `tests/rtl` (controller, delay lines, array, accumulator memory) with its own and the C++ compiler's optimisation.
Before the times are taken, all outputs and the cycles of the two are found equal.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.dataflow import DATAFLOWS, ArrayShape, Job
from accelsim.vectors import Stream, Vectors
from tests.rtl.driver import Bench, missing, verilator, write_tile
from tests.rtl.driver import run as run_tool

SIDE = 32
SIZE = (1024, 4 * SIDE, 8 * SIDE)
FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-CFLAGS", "-O3 -march=native")
BENCHES = (
    Bench("ws", ArrayShape(SIDE, SIDE), "overlapped", psum_bits=32, acc_bits=32),
    Bench("ws", ArrayShape(SIDE, SIDE), "overlapped", psum_bits=16, acc_bits=24, rules=("saturate", "saturate")),
    Bench("os", ArrayShape(SIDE, SIDE), "overlapped", psum_bits=32, acc_bits=32),
)


def engine_seconds(dataflow: str, job: Job, runs: int = 5) -> float:
    """Return the shortest wall time of several runs of the register engine after one to compile."""
    DATAFLOWS[dataflow].register(job, False)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        DATAFLOWS[dataflow].register(job, False)
        times.append(time.perf_counter() - start)
    return min(times)


def operands_only(bench: Bench, job: Job) -> Vectors:
    """Return what a bench needs in order to run, without stepping the array."""
    values = job.operands
    assert values.bias is not None
    operands = {
        "a": Stream(values.a, bench.act_bits, ""),
        "w": Stream(values.w, bench.weight_bits, ""),
        "initial": Stream(values.bias.astype(np.int64), 64, ""),
    }
    return Vectors(DATAFLOWS[bench.dataflow], job, (bench.act_signed, True), 0, operands, {}, {})


def rtl_outputs(bench: Bench, job: Job, text: str) -> NDArray[np.int64]:
    """Return the outputs ``[m, n]`` that a bench wrote in the order in which they left the columns; no ragged folds."""
    gemm, cols, bits = job.operands.gemm, bench.array.cols, bench.acc_bits
    columns: list[list[int]] = [[] for _ in range(cols)]
    for line in text.splitlines():
        valid, word = (int(part, 16) for part in line.split())
        for c, column in enumerate(columns):
            if valid >> c & 1:
                value = (word >> (c * bits)) % 2**bits
                column.append(value - 2**bits if value >= 2 ** (bits - 1) else value)
    folds = DATAFLOWS[bench.dataflow].folds(gemm, job.array, None)
    step = -1 if bench.dataflow == "os" else 1
    places = [
        (m, int(fold["n0"]))
        for fold in folds
        if fold["k1"] == gemm.k
        for m in range(int(fold["m0"]), int(fold["m1"]))[::step]
    ]
    outputs = np.empty((gemm.m, gemm.n), dtype=np.int64)
    for c, column in enumerate(columns):
        for (m, n0), value in zip(places, column, strict=True):
            outputs[m, n0 + c] = value
    return outputs


def verilator_seconds(bench: Bench, job: Job, folder: Path, runs: int = 3) -> tuple[int, float, NDArray[np.int64]]:
    """Return cycles stepped, shortest wall time of several runs, compilation and memories apart, and all outputs."""
    places = {} if bench.dataflow == "os" else {"PLACES": SIZE[0]}
    command = [*verilator([bench], folder, FLAGS, DUMP=0, WORDS=1 << 15, **places), f"+dir={folder}"]
    write_tile(operands_only(bench, job), folder / "0")
    run_tool([*command, "+outputs"], folder)
    outputs = rtl_outputs(bench, job, (folder / "0" / "outputs.txt").read_text())
    seen = [run_tool(command, folder).split() for _ in range(runs)]
    return int(seen[0][0]), min(float(words[2]) for words in seen), outputs


def run() -> Iterator[dict[str, Any]]:
    """Measure PE updates a second of both; nothing where Verilator is not installed.

    Compiling takes minutes, so that each row comes as soon as it is there.
    """
    if missing("verilator", "g++", "make"):
        return
    for bench in BENCHES:
        job = bench.job(SIZE, None, seed=0)
        sums = bench.acc_bits if bench.dataflow == "os" else bench.psum_bits
        cycles = DATAFLOWS[bench.dataflow].cycles(job.operands.gemm, job.array, job.mode, None)
        with tempfile.TemporaryDirectory() as folder:
            stepped, seconds, outputs = verilator_seconds(bench, job, Path(folder))
        assert 0 <= stepped - cycles < 8, "the two machines did not step the same cycles, reset apart"
        assert np.array_equal(outputs, DATAFLOWS[bench.dataflow].register(job, False).outputs), "the machines differ"
        speed = SIDE * SIDE * cycles / engine_seconds(bench.dataflow, job)
        baseline = SIDE * SIDE * stepped / seconds
        yield {
            "name": f"register engine {bench.dataflow} {SIDE}×{SIDE}, {bench.rules[1]} at {sums} bits",
            "value": speed / 1e9,
            "unit": "G PE-updates/s",
            "baseline_name": "Verilator on the same RTL",
            "baseline": baseline / 1e9,
            "ratio": speed / baseline,
        }
