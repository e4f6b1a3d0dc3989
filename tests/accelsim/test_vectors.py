"""Golden vectors: what the files say, read back by Python integers, and the Verilog arrays that play them."""

import json
import re
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from programs import conv_program, matmul_program, random_inputs
from rtl import driver

from accelsim import vectors_files
from accelsim.config import Accelerator, load_accelerator
from accelsim.dataflow import DATAFLOWS, Job
from accelsim.execute import execute
from accelsim.program import Conv, Program
from accelsim.vectors import Vectors, gemm_vectors, line_bits
from accelsim.vectors_files import write_vectors
from accelsim.vectors_layer import Part, cut, export_vectors, layer_job
from reports import cli

ROWS, COLS = 4, 3


def machine(
    dataflow: str, *, depth: int = 1, buffered: bool = False, psum_bits: int = 32, bits: int = 40
) -> Accelerator:
    """Return a small accelerator; its sums saturate."""
    plain = load_accelerator("edge-32x32").model_dump()
    plain["array"] |= {"rows": ROWS, "cols": COLS, "dataflow": dataflow, "double_buffered": buffered}
    plain["array"]["pipeline_depth"] = depth
    plain["accumulator"] = {"psum_bits": psum_bits, "bits": bits, "psum_overflow": "saturate", "overflow": "saturate"}
    plain["pe"] |= {"weight_bits": 16, "act_bits": 16}
    return Accelerator(**plain)


def random_conv(groups: int, channels: int, outputs: int, rng: np.random.Generator) -> Program:
    """Return a strided, padded, grouped convolution of unsigned codes."""
    weight = rng.integers(-8, 8, (outputs, 3, 2, channels // groups))
    geometry: dict[str, Any] = {"stride": (2, 1), "padding": (1, 0, 1, 1), "pad_value": 3, "groups": groups}
    return conv_program(weight, rng.integers(-99, 99, outputs), (5, 4, channels), 0, 15, **geometry)


PROGRAMS = {
    "plain": (lambda rng: random_conv(1, 4, 5, rng), 0),
    "grouped": (lambda rng: random_conv(2, 6, 8, rng), 1),
    "depthwise": (lambda rng: random_conv(5, 5, 5, rng), 3),
    "linear": (lambda rng: conv_program(rng.integers(-8, 8, (7, 1, 1, 9)), np.zeros(7, dtype=np.int64), (9,)), 0),
    "product of activations": (lambda rng: matmul_program(((2, 5, 6), (2, 4, 6)), (3, -2), transpose=True), 2),
}
"""A Program with one op ``layer``, and which of its products to export."""


# --- reading back ----------------------------------------------------------------------------------------------------


def read_memh(path: Path, fields: int, bits: int, *, signed: bool = True) -> list[list[int]]:
    """Read a file as the README describes it."""
    lines = []
    for text in path.read_text().split():
        assert len(text) == -(-fields * bits // 4)
        word = int(text, 16)
        row = [(word >> (i * bits)) % 2**bits for i in range(fields)]
        lines.append([x - 2**bits if signed and x >= 2 ** (bits - 1) else x for x in row])
    return lines


def read_folder(folder: Path) -> dict[str, list[list[int]]]:
    """Read every stream of a folder, sizes and signs as its README and ``parameters.vh`` say."""
    known = dict(re.findall(r"localparam (\w+) = (\d+);", (folder / "parameters.vh").read_text()))
    unsigned = {"a": known["ACT_SIGNED"] == "0", "w": known["WEIGHT_SIGNED"] == "0"}
    moves = ("w", "a") if known["INPUTS_STAY"] == "1" else ("a", "w")
    unsigned |= {"left": unsigned[moves[0]], "top": unsigned[moves[1]]}
    rows = re.findall(r"\| `(\w+)\.memh` \| (\d+) \| (\d+) × (\d+) \|", (folder / "README.md").read_text())
    assert {f"{name}.memh" for name, *_ in rows} == {path.name for path in folder.glob("*.memh")}
    found = {}
    for name, lines, fields, bits in rows:
        signed = int(bits) > 1 and not unsigned.get(name, False)
        found[name] = read_memh(folder / f"{name}.memh", int(fields), int(bits), signed=signed)
        assert len(found[name]) == int(lines)
    return found


def conv_operands(op: Conv, codes: NDArray[np.int64], group: int) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Return a[m][k], w[k][n] and bias of a group by loops, k over (ky, kx, channel)."""
    width, (kh, kw, channels) = len(op.weight) // op.groups, op.weight.shape[1:]
    top, left, bottom, right = op.padding
    shape = codes.shape if codes.ndim == 4 else (len(codes), 1, 1, codes.shape[-1])
    batch, height, breadth, _ = shape
    maps = codes.reshape(shape)

    def code(b: int, y: int, x: int, c: int) -> int:
        inside = 0 <= y < height and 0 <= x < breadth
        return int(maps[b, y, x, group * channels + c]) if inside else op.pad_value

    taps = [(ky, kx, c) for ky in range(kh) for kx in range(kw) for c in range(channels)]
    places = [
        (b, y - top, x - left)
        for b in range(batch)
        for y in range(0, height + top + bottom - kh + 1, op.stride[0])
        for x in range(0, breadth + left + right - kw + 1, op.stride[1])
    ]
    a = [[code(b, y + ky, x + kx, c) for ky, kx, c in taps] for b, y, x in places]
    chosen = range(group * width, (group + 1) * width)
    w = [[int(op.weight[n, ky, kx, c]) for n in chosen] for ky, kx, c in taps]
    return a, w, [int(op.bias[n]) for n in chosen]


def matmul_operands(codes: dict[str, NDArray[np.int64]], batch: int) -> tuple[Any, Any, list[int]]:
    """Return a[m][k] and w[k][n] of the test's product of activations (batches first, then the leading axis)."""
    x, y = (codes[name].reshape(-1, *codes[name].shape[2:])[batch] for name in ("x0", "x1"))
    return (x - 3).tolist(), (y + 2).T.tolist(), [0] * len(y)


@pytest.mark.parametrize("dataflow", list(DATAFLOWS))
@pytest.mark.parametrize("kind", list(PROGRAMS))
@pytest.mark.parametrize("narrow", [False, True])
def test_operands_and_outputs_are_the_layers_and_the_rtl_agrees(
    kind: str, dataflow: str, narrow: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    make, group = PROGRAMS[kind]
    program = make(rng)
    codes = random_inputs(program, 2, 5)
    accelerator = machine(dataflow, depth=2, buffered=narrow, **({"psum_bits": 8, "bits": 9} if narrow else {}))
    folder = tmp_path / "new" / "out"
    vectors = export_vectors(program, codes, Part("layer", group), accelerator, folder)
    op = program.ops[0]
    a, w, bias = conv_operands(op, codes["x"], group) if isinstance(op, Conv) else matmul_operands(codes, group)
    found = read_folder(folder)
    assert found["a"] == a
    assert found["w"] == w
    assert found["initial"] == [[b] for b in bias]
    outputs, hops, totals = naive.gemm(a, w, bias, vectors.job.accumulation)
    assert found["outputs"] == outputs
    overflows = sum(map(sum, [*hops, *totals]))
    if dataflow != "os":
        own = [name for name in ("total_overflow", "total_bias_overflow") for line in found[name] if any(line)]
        assert bool(own) == any(map(any, totals))
    assert (overflows > 0) == narrow
    if not driver.missing("iverilog", "vvp"):
        compared, wrong = driver.play_vectors(folder, tmp_path)
        assert compared == sum(map(sum, found["bottom_valid"])) > 0
        assert wrong == 0


def test_the_rtl_finds_a_wrong_vector(tmp_path: Path, rng: np.random.Generator) -> None:
    if missing := driver.missing("iverilog", "vvp"):
        pytest.skip(f"not installed: {missing}")
    program = random_conv(1, 4, 5, rng)
    folder = tmp_path / "out"
    export_vectors(program, random_inputs(program, 1, 5), Part("layer"), machine("ws"), folder)
    lines = (folder / "left.memh").read_text().split()
    changed = next(i for i, line in enumerate(lines) if int(line, 16))
    lines[changed] = lines[changed][:-1] + format(int(lines[changed][-1], 16) ^ 1, "x")
    (folder / "left.memh").write_text("\n".join(lines))
    compared, wrong = driver.play_vectors(folder, tmp_path)
    assert compared > wrong > 0


# --- cycles, from what the README promises ---------------------------------------------------------------------------


def at(matrix: NDArray[np.int64], i: int, j: int) -> int:
    return int(matrix[i, j]) if i < matrix.shape[0] and j < matrix.shape[1] else 0


def exported(dataflow: str, depth: int, folder: Path, rng: np.random.Generator) -> tuple[Vectors, dict[str, Any]]:
    program = random_conv(1, 4, 5, rng)
    codes = random_inputs(program, 1, 5)
    vectors = export_vectors(program, codes, Part("layer"), machine(dataflow, depth=depth), folder)
    found = read_folder(folder)
    with np.load(folder / "vectors.npz") as arrays:
        for name, lines in found.items():
            assert arrays[name].reshape(len(lines), -1).tolist() == lines
        return vectors, {name: arrays[name].astype(np.int64) for name in arrays.files}


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("dataflow", ["ws", "is"])
def test_streams_of_arrays_that_keep_an_operand(
    dataflow: str, depth: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    vectors, found = exported(dataflow, depth, tmp_path / "out", rng)
    still, stream = (found["w"], found["a"]) if dataflow == "ws" else (found["a"].T, found["w"].T)
    t0s, c0s = (found[f"fold_{name}0"] for name in (("m", "n") if dataflow == "ws" else ("n", "m")))
    left, bottom = np.zeros_like(found["left"]), np.full_like(found["bottom"], 1 << 40)
    start = 0
    for t0, c0, k0, length in zip(t0s, c0s, found["fold_k0"], found["fold_length"], strict=True):
        for t in range(length):
            enters = start + ROWS + t
            for r in range(ROWS):
                left[enters + r, r] = at(stream, t0 + t, k0 + r)
            for c in range(COLS):
                moving = sum(at(stream, t0 + t, k0 + r) * at(still, k0 + r, c0 + c) for r in range(ROWS))
                bottom[enters + ROWS + c + depth - 1, c] = moving
        start += 2 * ROWS + COLS + length - 2 + depth - 1
    assert start == vectors.cycles
    assert np.array_equal(left, found["left"])
    assert np.array_equal(bottom < 1 << 40, found["bottom_valid"].astype(bool))
    assert np.array_equal(bottom[bottom < 1 << 40], found["bottom"][bottom < 1 << 40])


@pytest.mark.parametrize("depth", [1, 3])
def test_streams_of_the_array_that_keeps_sums(depth: int, tmp_path: Path, rng: np.random.Generator) -> None:
    vectors, found = exported("os", depth, tmp_path / "out", rng)
    a, w, result = found["a"], found["w"], found["outputs"]
    left, top = np.zeros_like(found["left"]), np.zeros_like(found["top"])
    bottom = np.full_like(found["bottom"], 1 << 50)
    start = 0
    for m0, n0, length in zip(found["fold_m0"], found["fold_n0"], found["fold_length"], strict=True):
        for t in range(length):
            for r in range(ROWS):
                left[start + t + r, r] = at(a, m0 + r, t)
            for c in range(COLS):
                top[start + t + c, c] = at(w, t, n0 + c)
        for j in range(ROWS):
            for c in range(COLS):
                m, n = m0 + ROWS - 1 - j, n0 + c
                if m < result.shape[0] and n < result.shape[1]:
                    bottom[start + length - 1 + ROWS + c + depth - 1 + j, c] = result[m, n]
        start += 2 * ROWS + COLS + length - 2 + depth - 1
    assert start == vectors.cycles
    assert np.array_equal(left, found["left"])
    assert np.array_equal(top, found["top"])
    sums = bottom < 1 << 50
    assert np.array_equal(sums, found["output"] >= 0)
    assert np.array_equal(bottom[sums], found["bottom"][sums])


# --- parts of a layer ------------------------------------------------------------------------------------------------


def job_of(dataflow: str, rng: np.random.Generator) -> Job:
    program = random_conv(1, 4, 8, rng)
    return layer_job(program, random_inputs(program, 2, 5), "layer", machine(dataflow))[1]


@pytest.mark.parametrize("dataflow", list(DATAFLOWS))
def test_folds_and_rows_are_cut_from_the_whole_result(dataflow: str, rng: np.random.Generator) -> None:
    flow, job = DATAFLOWS[dataflow], job_of(dataflow, rng)
    whole = flow.register(job, False).outputs
    seen = np.zeros(whole.shape, dtype=bool)
    for fold in range(len(flow.folds(job.operands.gemm, job.array, None))):
        part, (m0, m1), (n0, n1) = cut(flow, job, Part("layer", fold=fold))
        assert np.array_equal(gemm_vectors(flow, part).results["outputs"].values, whole[m0:m1, n0:n1])
        seen[m0:m1, n0:n1] = True
    assert seen.all()
    part, m, n = cut(flow, job, Part("layer", first_row=2, rows=3))
    assert (m, n) == ((2, 5), (0, whole.shape[1]))
    assert np.array_equal(gemm_vectors(flow, part).results["outputs"].values, whole[2:5])
    assert cut(flow, job, Part("layer", first_row=4, rows=10**9))[1] == (4, len(whole))


@pytest.mark.parametrize("dataflow", list(DATAFLOWS))
def test_line_bits_are_those_of_the_streams(dataflow: str, rng: np.random.Generator) -> None:
    job = job_of(dataflow, rng)
    vectors = gemm_vectors(DATAFLOWS[dataflow], job)
    streams = vectors.per_cycle.values()
    assert line_bits(DATAFLOWS[dataflow], job) == sum(stream.fields * stream.bits for stream in streams)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part("lager"), "no layer is named 'lager'.* did you mean layer?"),
        (Part("qqqq"), "give one of layer"),
        (Part("layer", group=2), r"group must be within 0\.\.1 "),
        (Part("layer", group=-1), r"group must be within 0\.\.1 "),
        (Part("layer", fold=99), r"fold must be within 0\.\.\d+ "),
        (Part("layer", first_row=99), r"first row must be within 0\.\.\d+ "),
        (Part("layer", rows=0), "rows must be >= 1"),
    ],
)
def test_what_there_is_not_is_refused(part: Part, message: str, tmp_path: Path, rng: np.random.Generator) -> None:
    program = random_conv(2, 6, 8, rng)
    with pytest.raises(ValueError, match=message):
        export_vectors(program, random_inputs(program, 1, 5), part, machine("ws"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_modes_that_the_array_has_not_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    program = random_conv(1, 4, 5, rng)
    codes = random_inputs(program, 1, 5)
    for mode, message in (("overlapped", "double-buffered"), ("scalesim", "must be isolated or overlapped")):
        with pytest.raises(ValueError, match=message):
            export_vectors(program, codes, Part("layer"), machine("ws"), tmp_path / "out", mode=mode)


def test_runs_too_long_are_refused_before_they_begin(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = random_conv(1, 4, 5, rng)
    monkeypatch.setattr("accelsim.vectors_layer.MAX_BYTES", 1 << 10)
    with pytest.raises(ValueError, match="--rows"):
        export_vectors(program, random_inputs(program, 1, 5), Part("layer"), machine("ws"), tmp_path / "out")


# --- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(rng: np.random.Generator) -> Vectors:
    return gemm_vectors(DATAFLOWS["ws"], job_of("ws", rng))


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, small: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        assert len(list(next(tmp_path.iterdir()).iterdir())) > 5
        raise OSError("disk full")

    monkeypatch.setattr(vectors_files, "readme", fail)
    with pytest.raises(OSError, match="disk full"):
        write_vectors(small, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_filled_one_is_left_alone(tmp_path: Path, small: Vectors) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write_vectors(small, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "README.md" in before
    with pytest.raises(ValueError, match="not empty"):
        write_vectors(small, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        write_vectors(small, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]


def test_the_same_run_gives_the_same_text(tmp_path: Path, small: Vectors) -> None:
    for name in ("one", "two"):
        write_vectors(small, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        if path.suffix != ".npz":  # whose members carry times
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


# --- a trained network, split, from the command line -----------------------------------------------------------------


def test_the_command_exports_a_split_layer_that_the_rtl_reproduces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, seen = "block2.conv1.0", []

    def spy(program: Program, codes: Any, *rest: Any, **more: Any) -> Vectors:
        seen.append((program, codes))
        return export_vectors(program, codes, *rest, **more)

    monkeypatch.setattr("accelsim.vectors_layer.export_vectors", spy)
    description = machine("ws", buffered=True, psum_bits=24, bits=32).model_dump(mode="json")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(description))
    asked = ["export-vectors", "digits", "--calib", "16", "--weight-bits", "4", "--ocs", "0.1", "--fold", "0"]
    asked += ["--layer", layer, "--rows", "2", "--accelerator", str(tmp_path / "small.yaml")]
    folder, record = tmp_path / "out", tmp_path / "out.json"
    assert cli.main([*asked, "--out", str(folder), "--json", str(record)]) == 0
    assert layer in capsys.readouterr().out
    written = json.loads(record.read_text())
    assert written["files"] == sorted(path.name for path in folder.iterdir())
    assert (written["m"], written["n"], written["timing_mode"]) == (2, COLS, "overlapped")
    found = read_folder(folder)
    ((program, codes),) = seen
    op = next(op for op in program.ops if op.name == layer)
    assert any(item.output == op.inputs[0] for item in program.ops if item.kind == "duplicate")
    sums = execute(program, codes, keep=[op.output]).outputs[op.output]
    assert sums.reshape(-1, sums.shape[-1])[:2, :COLS].tolist() == found["outputs"]
    if not driver.missing("iverilog", "vvp"):
        compared, wrong = driver.play_vectors(folder, tmp_path)
        assert compared > 0
        assert wrong == 0
    assert cli.main([*asked, "--out", str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err
