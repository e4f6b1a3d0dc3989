"""The Verilog of the arrays against the stepper and the register engine: every wire and register, every cycle.

One compiled design holds one array per dataflow and variant; each run of it plays another tile on every array. What
the simulator dumps is compared as text with the stepper's trace, and added up and compared with the register engine.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rtl import driver
from rtl.driver import DESIGN, RTL, Bench

from accelsim.dataflow import DATAFLOWS, ArrayShape, Job
from accelsim.stepper import run_trace
from accelsim.vectors import Vectors

Tile = tuple[tuple[int, int, int], int | None]
"""m, k, n and the longest stream of a fold (under OS none)."""

PLAIN = Bench("", ArrayShape(4, 5), "isolated", psum_bits=15, acc_bits=16)
VARIANTS = (
    PLAIN,
    Bench("", ArrayShape(5, 3, 2, 2), "overlapped", 5, False, 3, psum_bits=9, acc_bits=10, rules=("saturate",) * 2),
    Bench("", ArrayShape(3, 2, 1, 3), "isolated", 8, True, 8, psum_bits=15, acc_bits=17, rules=("saturate", "wrap")),
    Bench("", ArrayShape(2, 4, 3), "overlapped", 2, True, 16, psum_bits=16, acc_bits=17, rules=("wrap", "saturate")),
    Bench("", ArrayShape(1, 1), "isolated", 4, True, 4, psum_bits=8, acc_bits=7, rules=("wrap", "saturate")),
    Bench("", ArrayShape(1, 6, 1, 2), "overlapped", 8, False, 8, psum_bits=16, acc_bits=40),
)
"""Arrays (rows, columns, lanes, depth), modes, widths of activations (signed?) and weights, accumulators and rules."""

BENCHES = tuple(replace(variant, dataflow=name) for name in DATAFLOWS for variant in VARIANTS)
COMPILED = tuple(bench for i, bench in enumerate(BENCHES) if i % len(VARIANTS) in (1, 2))
SIMULATORS = {"icarus": (driver.icarus, ("iverilog", "vvp"), BENCHES)}
SIMULATORS |= {"verilator": (driver.verilator, ("verilator", "g++", "make"), COMPILED)}

TILES: tuple[Tile, ...] = (
    ((1, 1, 1), None),
    ((7, 11, 9), None),
    ((4, 20, 6), 3),
    ((13, 3, 2), 5),
)


def ident(bench: Bench) -> str:
    array = bench.array
    shape = f"{array.rows}x{array.cols}x{array.products_per_pe}d{array.pipeline_depth}"
    return f"{bench.dataflow}-{shape}-{bench.mode}-{'-'.join(bench.rules)}"


def needs(*tools: str) -> None:
    if missing := driver.missing(*tools):
        pytest.skip(f"not installed: {missing}")


@dataclass(frozen=True)
class Played:
    """One tile on one array: what is expected, and what the simulator dumped by signal and cycle."""

    job: Job
    vectors: Vectors
    dump: dict[str, list[str]]


def play(
    command: Sequence[str], benches: Sequence[Bench], folder: Path, tiles: Sequence[Tile], seed: int
) -> list[Played]:
    """Run one tile on each array of a compiled design."""
    jobs = [bench.job(*tile, seed + i) for i, (bench, tile) in enumerate(zip(benches, tiles, strict=True))]
    vectors = [bench.vectors(job) for bench, job in zip(benches, jobs, strict=True)]
    for i, item in enumerate(vectors):
        driver.write_tile(item, folder / str(i))
    driver.run([*command, f"+dir={folder}"], folder)
    dumps = [driver.dumped(item, folder / str(i)) for i, item in enumerate(vectors)]
    return [Played(*parts) for parts in zip(jobs, vectors, dumps, strict=True)]


@pytest.fixture(scope="module", params=list(SIMULATORS))
def simulated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sequence[Bench], list[list[Played]]]:
    """Return the arrays that a simulator has, and every tile on each of them, ``[tile][array]``."""
    compile_benches, tools, benches = SIMULATORS[request.param]
    needs(*tools)
    folder = tmp_path_factory.mktemp(request.param)
    command = compile_benches(benches, folder)
    runs = [play(command, benches, folder / f"tile{i}", [tile] * len(benches), 100 * i) for i, tile in enumerate(TILES)]
    return benches, runs


# --- the comparison --------------------------------------------------------------------------------------------------


def fields(words: Sequence[str], count: int, bits: int, *, signed: bool = True) -> NDArray[np.int64]:
    """Cut hexadecimal words into fields ``[cycles, count]``, by Python integers."""
    rows = []
    for word in words:
        value = int(word, 16)
        row = [(value >> (i * bits)) % 2**bits for i in range(count)]
        rows.append([x - 2**bits if signed and x >= 2 ** (bits - 1) else x for x in row])
    return np.array(rows, dtype=np.int64)


def first_difference(expected: dict[str, list[str]], seen: dict[str, list[str]]) -> str:
    """Name the earliest cycle and signal that differ, or nothing."""
    found = [
        (t, name, mine, theirs)
        for name in expected
        for t, (mine, theirs) in enumerate(zip(expected[name], seen[name], strict=False))
        if mine != theirs
    ]
    found += [
        (min(len(expected[name]), len(seen[name])), name, "", "")
        for name in expected
        if len(expected[name]) != len(seen[name])
    ]
    return "cycle {}, {}: expected {}, RTL has {}".format(*min(found)) if found else ""


def check(bench: Bench, played: Played) -> int:
    """Compare a tile with the stepper and the register engine; return its overflows."""
    difference = first_difference(driver.expected(played.vectors), played.dump)
    assert not difference, f"{ident(bench)}: {difference}"
    flow, job = DATAFLOWS[bench.dataflow], played.job
    engine, stepped = flow.register(job, False), run_trace(flow, job)
    for name in ("outputs", "hop_events", "accumulator_events"):
        assert np.array_equal(getattr(engine, name), getattr(stepped, name)), name
    gemm = job.operands.gemm
    cycles = flow.cycles(gemm, job.array, job.mode, job.stream_tile)
    assert len(played.dump["bottom"]) - 1 == engine.cycles == stepped.cycles == cycles
    counts = os_counts(bench, played) if bench.dataflow == "os" else stationary_counts(bench, played)
    outputs, hops, totals, biases = counts
    assert np.array_equal(outputs, engine.outputs)
    assert hops == engine.hop_events.sum()
    assert totals + biases == engine.accumulator_events.sum()
    outside = ~((-(1 << (bench.acc_bits - 1)) <= job.operands.bias) & (job.operands.bias < 1 << (bench.acc_bits - 1)))
    assert biases == gemm.m * outside.sum()
    return hops + totals


def stationary_counts(bench: Bench, played: Played) -> tuple[NDArray[np.int64], int, int, int]:
    """Return outputs and overflows (moving, in the memory, of biases) that the RTL of WS or IS put out."""
    cols, gemm = bench.array.cols, played.job.operands.gemm
    place = played.vectors.per_cycle["output"].values
    bit = {
        name: fields(played.dump[name], cols, 1, signed=False).astype(bool) & (place >= 0) for name in driver.MEMORY[1:]
    }
    total, final = fields(played.dump["total"], cols, bench.acc_bits), bit["total_final"]
    outputs = np.full(gemm.m * gemm.n, 1 << 62)
    outputs[place[final]] = total[final]
    hops = sum(int(word, 16).bit_count() for word in played.dump["overflow"])
    return outputs.reshape(gemm.m, gemm.n), hops, *(int(bit[name].sum()) for name in driver.MEMORY[2:])


def os_counts(bench: Bench, played: Played) -> tuple[NDArray[np.int64], int, int, int]:
    """Return outputs and overflows (none, of sums, of biases) that the RTL of OS put out.

    Rows of the array that hold no output take a column's bias like the others and are left out of the count.
    """
    rows, cols, gemm = bench.array.rows, bench.array.cols, played.job.operands.gemm
    place = played.vectors.per_cycle["output"].values
    valid = fields(played.dump["bottom_valid"], cols, 1, signed=False).astype(bool) & (place >= 0)
    bottom = fields(played.dump["bottom"], cols, bench.acc_bits)
    outputs = np.full(gemm.m * gemm.n, 1 << 62)
    outputs[place[valid]] = bottom[valid]
    totals, biases = (
        sum(int(word, 16).bit_count() for word in played.dump[name]) for name in ("overflow", "bias_overflow_by_pe")
    )
    whole, odd = divmod(biases * gemm.m, -(-gemm.m // rows) * rows)
    assert odd == 0
    return outputs.reshape(gemm.m, gemm.n), 0, totals, whole


def test_every_cycle_of_the_rtl_is_the_steppers_and_the_register_engines(
    simulated: tuple[Sequence[Bench], list[list[Played]]],
) -> None:
    benches, runs = simulated
    overflows = np.array([[check(*pair) for pair in zip(benches, run, strict=True)] for run in runs]).sum(axis=0)
    quiet = [ident(bench) for bench, count in zip(benches, overflows, strict=True) if bench.acc_bits < 40 and not count]
    assert not quiet


# --- the comparison can fail -----------------------------------------------------------------------------------------

SATURATED = {flow: replace(VARIANTS[1], dataflow=flow) for flow in DATAFLOWS}
BUGS = {
    "no saturation": ("ws", "obey.v", "held = overflow ? {", "held = 1'b0 ? {"),
    "saturates to the wrong end": ("is", "obey.v", "{(BITS-1){!negative}}", "{(BITS-1){negative}}"),
    "overflow seen in two bits only": ("os", "obey.v", "(|signs) && !(&signs)", "^signs[1:0]"),
    "skew off by one": ("ws", "skew.v", "EXTRA + i)", "EXTRA + i + (i == ITEMS - 1))"),
    "unsigned taken as signed": ("ws", "product.v", "(A_SIGNED != 0) && a[", "a["),
    "last lane left out": ("os", "product.v", "i < LANES", "i < LANES - 1"),
    "pipeline a stage short": ("is", "product.v", ".CYCLES(DEPTH - 1)", ".CYCLES(0)"),
    "bank never changes": (
        "ws",
        "stationary_control.v",
        "assign select = BANKS == 2 && fold[0]",
        "assign select = 1'b0",
    ),
    "load starts late": ("is", "stationary_control.v", "? !pending || stream_begin", "? !pending"),
    "bias at every fold": ("ws", "accumulator.v", "base = first ? start", "base = 1'b1 ? start"),
    "bias dropped": ("os", "os_pe.v", "base = begins ? bias : held", "base = held"),
    "drain one row short": ("os", "os_control.v", "step + ONE <= r", "step + ONE < r"),
}
"""A dataflow in which a bug must be seen, the file, its text, and what the bug makes of that."""


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_bug_in_the_rtl_is_seen(bug: str, tmp_path: Path) -> None:
    needs("iverilog", "vvp")
    flow, name, right, wrong = BUGS[bug]
    text = (RTL / name).read_text()
    assert text.count(right) == 1
    bench = SATURATED[flow]
    command = driver.icarus([bench], tmp_path, {name: text.replace(right, wrong)})
    (played,) = play(command, [bench], tmp_path, TILES[1:2], seed=7)
    with pytest.raises(AssertionError, match="cycle"):
        check(bench, played)


# --- the Verilog is hardware -----------------------------------------------------------------------------------------

TOPS = ("ws", "is", "os")
CHOICES = (
    {},
    {"ROWS": 3, "COLS": 2, "BANKS": 2, "DEPTH": 2, "LANES": 2, "ACC_SATURATE": 1, "ACT_SIGNED": 0},
    {"ROWS": 1, "COLS": 1, "DEPTH": 3, "WEIGHT_BITS": 2, "ACT_BITS": 16, "ACC_BITS": 48},
)


@pytest.mark.parametrize("path", DESIGN, ids=lambda path: path.name)
def test_design_files_have_nothing_that_only_simulators_know(path: Path) -> None:
    text = re.sub(r"//.*", "", path.read_text())
    assert not re.search(r"\binitial\b|\bforce\b|\bwait\b|#\s*\d|`", text)
    assert set(re.findall(r"\$\w+", text)) <= {"$clog2"}


@pytest.mark.parametrize("top", TOPS)
def test_verilator_finds_nothing_to_warn_of(top: str, tmp_path: Path) -> None:
    needs("verilator")
    for choice in CHOICES:
        values = [f"-G{name}={value}" for name, value in choice.items()]
        assert driver.run(["verilator", "--lint-only", "-Wall", "--top-module", top, *values, *DESIGN], tmp_path) == ""


def yosys(top: str, choice: dict[str, int], synthesis: str, folder: Path) -> str:
    """Synthesize a machine; fail on problems, latches, and what is left that is no hardware."""
    values = "".join(f"-set {name} {value} " for name, value in choice.items())
    script = [f"read_verilog {' '.join(map(str, DESIGN))}", f"chparam {values}{top}" if values else ""]
    script += [f"hierarchy -check -top {top}", synthesis, "check -assert", "select -assert-none t:$*latch* t:$_DLATCH*"]
    script += ["select -assert-none t:$assert t:$initstate t:$anyconst", "stat"]
    return driver.run(["yosys", "-q", "-p", "; ".join(filter(None, script))], folder)


@pytest.mark.parametrize("top", TOPS)
def test_yosys_elaborates_to_flip_flops_without_latches(top: str, tmp_path: Path) -> None:
    needs("yosys")
    yosys(top, CHOICES[1], "proc; flatten; opt_clean", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("choice", CHOICES, ids=["default", "two-banks", "one-pe"])
def test_yosys_synthesizes_to_gates(top: str, choice: dict[str, int], tmp_path: Path) -> None:
    needs("yosys")
    yosys(top, choice, f"synth -top {top} -flatten -noabc", tmp_path)


# --- many, at random -------------------------------------------------------------------------------------------------


def random_bench(rng: np.random.Generator) -> Bench:
    """Return an array whose registers are narrow enough to overflow now and then."""
    act, weight = (int(bits) for bits in rng.integers(2, 17, 2))
    product = act + weight
    rules = tuple(str(rule) for rule in rng.choice(["wrap", "saturate"], 2))
    return Bench(
        dataflow=str(rng.choice(list(DATAFLOWS))),
        array=ArrayShape(*(int(x) for x in rng.integers(1, (8, 8, 4, 4), endpoint=True))),
        mode=str(rng.choice(["isolated", "overlapped"])),
        act_bits=act,
        act_signed=bool(rng.integers(2)),
        weight_bits=weight,
        psum_bits=int(rng.integers(max(product - 3, 2), product + 5)),
        acc_bits=int(rng.integers(max(product - 3, 2), product + 8)),
        rules=(rules[0], rules[1]),
    )


def random_tile(rng: np.random.Generator, bench: Bench) -> Tile:
    """Return a product of up to four folds along k and along n."""
    array = bench.array
    ends = 24, 3 * array.rows * array.products_per_pe + 2, 3 * array.cols + 2
    m, k, n = (int(size) for size in rng.integers(1, ends, endpoint=True))
    return (m, k, n), int(rng.integers(1, 24)) if rng.integers(2) else None


@pytest.mark.slow
@pytest.mark.parametrize(("simulator", "seed"), [*(("icarus", seed) for seed in range(6)), ("verilator", 6)])
def test_random_arrays_and_tiles(simulator: str, seed: int, tmp_path: Path) -> None:
    compile_benches, tools, _ = SIMULATORS[simulator]
    needs(*tools)
    rng = np.random.default_rng(seed)
    benches = [random_bench(rng) for _ in range(8)]
    command = compile_benches(benches, tmp_path)
    for i in range(6):
        tiles = [random_tile(rng, bench) for bench in benches]
        for bench, played in zip(benches, play(command, benches, tmp_path, tiles, 1000 * seed + 10 * i), strict=True):
            check(bench, played)
