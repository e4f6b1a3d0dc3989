"""Waveforms read back by a parser of their own: every value equals PEs stepped as objects, every window the whole."""

import re
from itertools import pairwise
from pathlib import Path

import naive_array
import numpy as np
import pytest
from gemm_jobs import accumulation
from machines import machine
from programs import conv_program

from accelsim.dataflow import DATAFLOWS, ArrayShape, Job, Operands, make_job
from accelsim.vcd import export_vcd, write_vcd


def read(path: Path) -> tuple[dict[str, int], dict[int, dict[str, int]]]:
    """Return widths by full name, and by time what every variable holds from then on (as unsigned integers)."""
    header, body = path.read_text(encoding="ascii").split("$enddefinitions $end")
    names, widths = _variables(header)
    held: dict[str, int] = {}
    times: dict[int, dict[str, int]] = {}
    words = iter(body.split())
    for word in words:
        if word.startswith("#"):
            assert not times or int(word[1:]) > max(times), "time runs forwards"
            times[int(word[1:])] = {}
        elif word[0] == "b":
            held[names[next(words)]] = int(word[1:], 2)
        elif word[0] in "01":
            held[names[word[1:]]] = int(word[0])
        else:
            assert word in ("$dumpvars", "$end")
        times[max(times)] = dict(held)
    for values in times.values():
        assert all(value < 1 << widths[name] for name, value in values.items())
    return widths, times


def _variables(header: str) -> tuple[dict[str, str], dict[str, int]]:
    """Return full names by identifier, and widths by full name."""
    scopes: list[str] = []
    names: dict[str, str] = {}
    widths: dict[str, int] = {}
    for command, *words in (line.split() for line in header.splitlines() if line):
        assert words[-1] == "$end"
        if command == "$scope":
            assert words[0] == "module"
            scopes.append(words[1])
        elif command == "$upscope":
            scopes.pop()
        elif command == "$var":
            bits, code, full = int(words[1]), words[2], ".".join([*scopes, words[3]])
            assert code not in names, "an identifier is given twice"
            assert full not in widths, "a name is given twice"
            assert words[4] in ("$end", f"[{bits - 1}:0]")
            names[code], widths[full] = full, bits
        else:
            assert command in ("$comment", "$timescale")
    assert not scopes
    return names, widths


def job_of(name: str, mode: str = "overlapped", products: int = 1, depth: int = 1, rule: str = "saturate") -> Job:
    """Return a GEMM of several folds with ragged edges whose sums overflow."""
    rng = np.random.default_rng(3)
    array = ArrayShape(3, 2, products, depth)
    operands = Operands(rng.integers(-8, 8, (5, 7)), rng.integers(-8, 8, (7, 3)), None, 4, 4)
    return make_job(DATAFLOWS[name], operands, array, accumulation(DATAFLOWS[name], array, 7, 7, rule), mode)


CASES = [("overlapped", 1, 1), ("isolated", 1, 1), ("overlapped", 2, 1), ("isolated", 2, 3)]


@pytest.mark.parametrize("name", DATAFLOWS)
@pytest.mark.parametrize(("mode", "products", "depth"), CASES)
def test_every_register_of_every_cycle_is_what_pes_as_objects_hold(
    name: str, mode: str, products: int, depth: int, tmp_path: Path
) -> None:
    job = job_of(name, mode, products, depth)
    write_vcd(DATAFLOWS[name], job, tmp_path / "a.vcd", period_ps=10)
    _, times = read(tmp_path / "a.vcd")
    history = naive_array.history(name, job)
    assert [times[10 * i]["array.cycle"] for i in range(len(history))] == list(range(len(history)))
    for i, pes in enumerate(history):
        for (r, c), held in pes.items():
            for field, values, bits in _registers(name, job, held):
                seen = times[10 * i][f"array.pe_r{r}_c{c}.{field}"]
                assert seen == values % 2**bits, (i, r, c, field)


def _registers(name: str, job: Job, held: naive_array.Held) -> list[tuple[str, int, int]]:
    """Return (variable, value, width) of a PE."""
    rules, lanes = job.accumulation, range(job.array.products_per_pe)
    left, other = ("weight", "activation") if name == "is" else ("activation", "weight")
    lane = [f"_lane{i}" if len(lanes) > 1 else "" for i in lanes]
    bank = ["_0", "_1"] if job.banks == 2 else [""]
    found = [(f"{left}{lane[i]}", held.left[i], 4) for i in lanes]
    if name == "os":
        found += [(f"{other}{lane[i]}", held.top[i], 4) for i in lanes]
        return found + [(f"psum{b}", value, rules.acc_bits) for b, value in zip(bank, held.sums, strict=True)]
    found += [(f"{other}{b}{lane[i]}", held.still[j][i], 4) for j, b in enumerate(bank) for i in lanes]
    return [*found, ("psum", held.sums[0], rules.psum_bits)]


@pytest.mark.parametrize("name", DATAFLOWS)
@pytest.mark.parametrize("rule", ["wrap", "saturate"])
def test_toggles_overflows_and_outputs_of_a_waveform_are_the_register_engines(
    name: str, rule: str, tmp_path: Path
) -> None:
    job = job_of(name, rule=rule)
    write_vcd(DATAFLOWS[name], job, tmp_path / "a.vcd", period_ps=10)
    _, times = read(tmp_path / "a.vcd")
    cycles = [times[10 * i] for i in range(max(times) // 10)]
    run = DATAFLOWS[name].register(job, True)
    assert run.toggles is not None
    toggles = dict.fromkeys(("activation", "weight", "psum"), 0)
    for before, after in pairwise(cycles):
        for full in before:
            register = re.fullmatch(r"array\.pe_r\d+_c\d+\.(activation|weight|psum)(_\d)?", full)
            if register:
                toggles[register[1]] += (before[full] ^ after[full]).bit_count()
    assert len(cycles) == run.cycles + 1
    assert toggles["activation"] == run.toggles.activation_register_toggles
    assert toggles["weight"] == run.toggles.weight_register_toggles
    assert toggles["psum"] == run.toggles.psum_register_toggles
    overflows = sum(value for cycle in cycles for full, value in cycle.items() if full.endswith(".overflow"))
    assert overflows >= run.hop_events.sum() + (run.accumulator_events.sum() if name == "os" else 0) > 0
    if name == "os":
        assert _left(job, cycles) == run.outputs.tolist()


def _left(job: Job, cycles: list[dict[str, int]]) -> list[list[int]]:
    """Return the outputs that the bottom wires carried."""
    gemm, bits = job.operands.gemm, job.accumulation.acc_bits
    found = np.full(gemm.m * gemm.n, 1 << 60)
    for cycle in cycles:
        for c in range(job.array.cols):
            place = cycle[f"array.bottom.output_col{c}"]
            if cycle[f"array.bottom.valid_col{c}"] and place < gemm.m * gemm.n:
                value = cycle[f"array.bottom.col{c}"]
                found[place] = value - (1 << bits) if value >> (bits - 1) else value
    return found.reshape(gemm.m, gemm.n).tolist()


@pytest.mark.parametrize("name", DATAFLOWS)
def test_a_window_shows_what_the_whole_run_shows_there(name: str, tmp_path: Path) -> None:
    job = job_of(name)
    write_vcd(DATAFLOWS[name], job, tmp_path / "all.vcd", period_ps=7)
    write_vcd(DATAFLOWS[name], job, tmp_path / "some.vcd", range(5, 11), period_ps=7)
    (widths, whole), (same, window) = read(tmp_path / "all.vcd"), read(tmp_path / "some.vcd")
    assert widths == same
    assert [time for time in window if window[time]["array.clk"]] == [7 * i for i in range(5, 11)]
    for i in range(5, 11):
        assert window[7 * i] == whole[7 * i]
        assert window[7 * i + 3]["array.clk"] == 0


@pytest.mark.parametrize("window", [range(0), range(0, 10, 2), range(100000, 100001), range(-1, 3)])
def test_bad_windows_are_refused(window: range, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="window must be consecutive cycles"):
        write_vcd(DATAFLOWS["ws"], job_of("ws"), tmp_path / "a.vcd", window)
    assert not list(tmp_path.iterdir())


def test_a_clock_needs_two_edges(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="period_ps must be >= 2"):
        write_vcd(DATAFLOWS["ws"], job_of("ws"), tmp_path / "a.vcd", period_ps=1)


def test_a_layer_of_a_program_is_written_at_the_accelerators_clock(tmp_path: Path, rng: np.random.Generator) -> None:
    program = conv_program(rng.integers(-7, 8, (3, 1, 1, 4)), np.zeros(3, dtype=np.int64), (2, 2, 4))
    accelerator = machine(array__rows=3, array__cols=2, clock_mhz=250)
    codes = rng.integers(-128, 128, (1, 2, 2, 4))
    export_vcd(program, {"x": codes}, "layer", accelerator, tmp_path / "a.vcd", window=range(3))
    widths, times = read(tmp_path / "a.vcd")
    assert sorted(times) == [0, 2000, 4000, 6000, 8000, 10000, 12000]
    assert sum(name.endswith(".psum") for name in widths) == 6
