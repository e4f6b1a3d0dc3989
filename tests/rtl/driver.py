"""Drives the Verilog of this folder: writes operands, compiles benches with Icarus or Verilator, runs them.

A *bench* is one parametrisation of ``bench_stationary.v`` or ``bench_os.v``, a *tile* one matrix product for it. What a
bench dumps of a cycle is put beside what the trace says of it, as the same hexadecimal text.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import Accumulation
from accelsim.dataflow import DATAFLOWS, ArrayShape, Job, Operands, make_job
from accelsim.vectors import Stream, Vectors, gemm_vectors
from accelsim.vectors_files import memh

RTL = Path(__file__).parent
DESIGN = sorted(path for path in RTL.glob("*.v") if not path.name.startswith("bench_"))
BENCHES = [RTL / "bench_stationary.v", RTL / "bench_os.v"]

TIMEOUT_S = 900
"""A simulation that takes longer hangs."""

WORDS = 1024
"""Words of the operand memories under Icarus, which takes its time to fill them."""

EDGES = ("left", "top", "select", "shift", "load_bank", "bottom", "bottom_valid")
MEMORY = ("total", "total_final", "total_overflow", "total_bias_overflow")
STATIONARY_DUMP = (*EDGES, *MEMORY, "moving", "still", "sums", "overflow")
OS_EDGES = ("left", "top", "first", "bank", "drain", "drain_bank", "bias", "bias_overflow", "bottom", "bottom_valid")
OS_DUMP = (*OS_EDGES, "activations", "weights", "sums", "overflow", "bias_overflow_by_pe")
"""What the benches write of a cycle, in order."""


@dataclass(frozen=True)
class Bench:
    """One parametrisation of an array; `rules` are (psum, accumulator)."""

    dataflow: str
    array: ArrayShape
    mode: str
    act_bits: int = 8
    act_signed: bool = True
    weight_bits: int = 8
    psum_bits: int = 16
    acc_bits: int = 20
    rules: tuple[str, str] = ("wrap", "wrap")

    @property
    def parameters(self) -> dict[str, int]:
        """Parameters of the bench's module."""
        found = {
            "ROWS": self.array.rows,
            "COLS": self.array.cols,
            "LANES": self.array.products_per_pe,
            "DEPTH": self.array.pipeline_depth,
            "BANKS": 2 if self.mode == "overlapped" else 1,
            "ACT_BITS": self.act_bits,
            "ACT_SIGNED": int(self.act_signed),
            "WEIGHT_BITS": self.weight_bits,
            "ACC_BITS": self.acc_bits,
            "ACC_SATURATE": int(self.rules[1] == "saturate"),
        }
        if self.dataflow != "os":
            found |= {"PSUM_BITS": self.psum_bits, "PSUM_SATURATE": int(self.rules[0] == "saturate")}
            found |= {"INPUTS_STAY": int(self.dataflow == "is")}
        return found

    def job(self, size: tuple[int, int, int], stream_tile: int | None, seed: int) -> Job:
        """Return a random product of m, k, n for this array; some biases lie out of the accumulator's range.

        Under OS, which has none, `stream_tile` is left out.
        """
        rng = np.random.default_rng(seed)
        m, k, n = size
        half = 1 << (self.act_bits - 1)
        a = rng.integers(-half, half, (m, k)) + (0 if self.act_signed else half)
        w = rng.integers(-(1 << (self.weight_bits - 1)), 1 << (self.weight_bits - 1), (k, n))
        bias = rng.integers(-(2 << self.acc_bits), 2 << self.acc_bits, n)
        resident, lanes = self.dataflow == "os", self.array.products_per_pe
        accumulation = Accumulation(
            fold_k=None if resident else self.array.rows * lanes,
            products_per_hop=lanes,
            psum_bits=self.psum_bits,
            psum_overflow=self.rules[0],
            acc_bits=self.acc_bits,
            acc_overflow=self.rules[1],
        )
        operands = Operands(a, w, bias, act_bits=self.act_bits, weight_bits=self.weight_bits)
        tile = None if resident else stream_tile
        return make_job(DATAFLOWS[self.dataflow], operands, self.array, accumulation, self.mode, tile)

    def vectors(self, job: Job) -> Vectors:
        """Return the vectors of a product, all registers included."""
        return gemm_vectors(DATAFLOWS[self.dataflow], job, (self.act_signed, True), registers=True)


# --- operands in the order in which the machines ask for them --------------------------------------------------------


def write_tile(vectors: Vectors, folder: Path) -> None:
    """Write the operand memories of a bench."""
    folder.mkdir(parents=True, exist_ok=True)
    stays = vectors.dataflow.stationary
    for name, stream in (_os_memories(vectors) if stays == "output" else _stationary_memories(vectors)).items():
        (folder / f"{name}.memh").write_text(memh(stream))


def _words(words: Sequence[NDArray[np.int64]], bits: int) -> Stream:
    return Stream(np.concatenate(words).astype(np.int64), bits, "")


def _tile(matrix: NDArray[np.int64], first: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Cut a tile out of a matrix, zeros beyond its ends."""
    part = matrix[first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]
    return np.pad(part, [(0, size - have) for size, have in zip(shape, part.shape, strict=True)])


def _stationary_memories(vectors: Vectors) -> dict[str, Stream]:
    job, array = vectors.job, vectors.job.array
    rows, cols, lanes = array.rows, array.cols, array.products_per_pe
    a, w, bias = (vectors.operands[name].values.astype(np.int64) for name in ("a", "w", "initial"))
    bits = job.operands.act_bits, job.operands.weight_bits
    weights_stay = vectors.dataflow.stationary == "weight"
    (t, stream, moving_bits), (c, still, still_bits) = ("m", a, bits[0]), ("n", w, bits[1])
    if not weights_stay:
        (t, stream, moving_bits), (c, still, still_bits) = ("n", w.T, bits[1]), ("m", a.T, bits[0])
    folds, streams, loads, biases = [], [], [], []
    for fold in vectors.dataflow.folds(job.operands.gemm, array, job.stream_tile):
        t0, c0, k0, length = (int(fold[name]) for name in (f"{t}0", f"{c}0", "k0", "length"))
        streams.append(_tile(stream, (t0, k0), (length, rows * lanes)))
        block = _tile(still, (k0, c0), (rows * lanes, cols)).reshape(rows, lanes, cols)
        loads.append(block[::-1].transpose(0, 2, 1).reshape(rows, cols * lanes))
        base = c0 // cols if weights_stay else t0
        folds.append(np.array([[length, k0 == 0, int(fold["k1"]) == job.operands.gemm.k, base]]))
    if weights_stay:
        biases = [_tile(bias[None], (0, c0), (1, cols)) for c0 in range(0, len(bias), cols)]
    else:
        biases = [bias[:, None]]
    return {
        "size": Stream(np.array([len(folds)]), 16, ""),
        "folds": _words(folds, 16),
        "streams": _words(streams, moving_bits),
        "loads": _words(loads, still_bits),
        "biases": _words(biases, 64),
    }


def _os_memories(vectors: Vectors) -> dict[str, Stream]:
    job, array = vectors.job, vectors.job.array
    rows, cols, lanes = array.rows, array.cols, array.products_per_pe
    a, w, bias = (vectors.operands[name].values.astype(np.int64) for name in ("a", "w", "initial"))
    activations, weights, biases = [], [], []
    table = vectors.dataflow.folds(job.operands.gemm, array, None)
    for fold in table:
        m0, n0, length = int(fold["m0"]), int(fold["n0"]), int(fold["length"])
        x = _tile(a, (m0, 0), (rows, length * lanes)).reshape(rows, length, lanes)
        y = _tile(w, (0, n0), (length * lanes, cols)).reshape(length, lanes, cols)
        activations.append(x.transpose(1, 0, 2).reshape(length, -1))
        weights.append(y.transpose(0, 2, 1).reshape(length, -1))
        biases.append(_tile(bias[None], (0, n0), (1, cols)))
    return {
        "size": Stream(np.array([len(table), int(table["length"][0])]), 16, ""),
        "activations": _words(activations, job.operands.act_bits),
        "weights": _words(weights, job.operands.weight_bits),
        "biases": _words(biases, 64),
    }


# --- what must be seen -----------------------------------------------------------------------------------------------


def expected(vectors: Vectors) -> dict[str, list[str]]:
    """Return what the bench must dump: by signal, one hexadecimal word a cycle."""
    stays = vectors.dataflow.stationary
    alias = {"moving": "activations", "still": "weights"}
    if stays == "input":
        alias = {"moving": "weights", "still": "activations"}
    names = OS_DUMP if stays == "output" else STATIONARY_DUMP
    return {name: memh(vectors.per_cycle[alias.get(name, name)]).split() for name in names}


def dumped(vectors: Vectors, folder: Path) -> dict[str, list[str]]:
    """Return what a bench did dump."""
    names = OS_DUMP if vectors.dataflow.stationary == "output" else STATIONARY_DUMP
    lines = [line.split() for line in (folder / "dump.txt").read_text().splitlines()]
    return {name: [line[i] for line in lines] for i, name in enumerate(names)}


# --- compiling and running -------------------------------------------------------------------------------------------


def missing(*tools: str) -> str:
    """Name the tools that are not installed."""
    return ", ".join(tool for tool in tools if shutil.which(tool) is None)


def run(command: Sequence[object], folder: Path) -> str:
    """Run a tool; its output is the error when it fails."""
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def top_module(benches: Sequence[Bench], **more: int) -> str:
    """Return Verilog of a module ``top`` that holds benches, bench i with ID i, and is done when all are.

    Its `digest` is the sum of all outputs, which also keeps a compiler from leaving the arrays out.
    """
    count = len(benches)
    parts = ["module top(input wire clk, output wire done, output wire [63:0] digest);", f"wire [{count - 1}:0] each;"]
    parts += ["assign done = &each;"]
    for i, bench in enumerate(benches):
        text = ", ".join(f".{name}({value})" for name, value in {"ID": i, **bench.parameters, **more}.items())
        module = "bench_os" if bench.dataflow == "os" else "bench_stationary"
        parts.append(f"wire [63:0] digest_{i};")
        parts.append(f"{module} #({text}) bench_{i} (.clk(clk), .done(each[{i}]), .digest(digest_{i}));")
    total = " + ".join(f"digest_{i}" for i in range(count))
    return "\n".join([*parts, f"assign digest = {total};", "endmodule", ""])


def icarus(benches: Sequence[Bench], folder: Path, changed: Mapping[str, str] | None = None) -> list[str]:
    """Compile benches with Icarus, free of warnings; return the command that runs them.

    `changed` has the text of files that take the place of those of the same name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.v").write_text(top_module(benches, WORDS=WORDS))
    for name, text in (changed or {}).items():
        (folder / name).write_text(text)
    chosen = [folder / path.name if path.name in (changed or {}) else path for path in DESIGN]
    sources = [*chosen, *BENCHES, RTL / "bench_clock.v", folder / "top.v"]
    options = ["-g2005", "-Wall", "-Wno-timescale", "-s", "bench_clock"]
    warnings = run(["iverilog", *options, "-o", folder / "top.vvp", *sources], folder)
    assert not warnings, warnings
    return ["vvp", "-N", str(folder / "top.vvp")]


def verilator(benches: Sequence[Bench], folder: Path, flags: Sequence[str] = (), **more: int) -> list[str]:
    """Compile benches with Verilator, quickly unless `flags` say otherwise; return the command that runs them.

    Without splitting the output, all of it is one file, which compiles in half the time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.v").write_text(top_module(benches, **more))
    sources = [*DESIGN, *BENCHES, folder / "top.v", RTL / "bench_main.cpp"]
    options = ["--cc", "--exe", "--build", "-j", "2", "--top-module", "top", "-Wno-fatal"]
    chosen = [*flags] if flags else ["--output-split", "0", "-CFLAGS", "-O0"]
    run(["verilator", *options, *chosen, "--Mdir", folder / "built", "-o", "top", *sources], folder)
    return [str(folder / "built" / "top")]


def play_vectors(vectors: Path, folder: Path) -> tuple[int, int]:
    """Play exported golden vectors into the Verilog array; return how many sums were compared, how many differ."""
    resident = "first.memh" in {path.name for path in vectors.iterdir()}
    bench = RTL / f"bench_vectors_{'os' if resident else 'stationary'}.v"
    options = ["-g2005", "-Wall", "-Wno-timescale", "-I", vectors, "-s", bench.stem]
    warnings = run(["iverilog", *options, "-o", folder / "vectors.vvp", *DESIGN, bench], folder)
    assert not warnings, warnings
    words = run(["vvp", "-N", folder / "vectors.vvp", f"+dir={vectors}"], folder).split()
    assert words[::2] == ["compared", "wrong"], words
    return int(words[1]), int(words[3])
