"""Networks from files on the command line: float ONNX, quantized ONNX, TensorFlow Lite."""

import json
from pathlib import Path

import numpy as np
import pytest

from quant.exporters.onnx_export import export_onnx
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports import cli
from reports.files import Imported, is_network_file, read_network
from reports.task import Task, TaskOptions, load_task, run_engine

pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(TaskOptions(network="digits", images=24, calib=32))


@pytest.fixture(scope="module")
def files(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quantized ONNX file of digits that takes codes, and its samples."""
    folder = tmp_path_factory.mktemp("files")
    quantized = quantize_network(task.graph, task.calibration, Recipe())
    (folder / "digits8.onnx").write_bytes(export_onnx(quantized, ends="codes"))
    x = task.samples.batch(task.evaluated)
    codes = next(iter(quantized.encode(x).values())).transpose(0, 3, 1, 2)
    labels = task.samples.labels(task.evaluated)
    np.savez(folder / "codes.npz", x=codes, y=labels)
    np.savez(folder / "unlabelled.npz", x=codes)
    outputs = run_engine(quantized, x, None).outputs
    right = quantized.decode(outputs)[0].argmax(1) == labels
    (folder / "expected.json").write_text(json.dumps(float(right.mean())))
    return folder


def run(files: Path, *arguments: object) -> int:
    return cli.main([str(a) for a in arguments])


def test_quantized_onnx_runs_as_it_is(files: Path) -> None:
    record = files / "run.json"
    page = files / "run.html"
    network = files / "digits8.onnx"
    assert run(files, "run", network, "--data", files / "codes.npz", "--json", record, "--html", page) == 0
    found = json.loads(record.read_text())
    assert found["accuracy"]["integer"] == pytest.approx(json.loads((files / "expected.json").read_text()))
    assert found["accuracy"]["float"] is None
    assert found["bit_exact"] is True
    assert found["images"] == 24
    assert "came as integers" in page.read_text()


def test_prices_need_no_data(files: Path) -> None:
    assert run(files, "cost", files / "digits8.onnx", "--json", files / "cost.json") == 0
    found = json.loads((files / "cost.json").read_text())
    assert run(files, "cost", "digits", "--json", files / "ours.json") == 0
    ours = json.loads((files / "ours.json").read_text())
    assert found["array_cycles"] == ours["array_cycles"]
    assert found["weight_bytes"] == pytest.approx(ours["weight_bytes"], rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "unlabelled.npz"), "must have labels y"),
        (("--data", "codes.npz", "--weight-bits", "4"), "came as integers"),
        (("--data", "codes.npz", "--weights", "other.pth"), "holds its own weights"),
        ((), "FILE.npz"),
    ],
)
def test_what_does_not_fit_is_refused(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("ACCELSIM_DATA", raising=False)
    monkeypatch.chdir(files)
    assert run(files, "run", files / "digits8.onnx", *arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert message in printed


def test_absent_and_broken_files(tmp_path: Path, files: Path) -> None:
    assert is_network_file("NET.ONNX")
    assert not is_network_file("digits")
    with pytest.raises(ValueError, match="must exist"):
        read_network(tmp_path / "no.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((files / "digits8.onnx").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"broken"):
        read_network(broken)
    assert isinstance(read_network(files / "digits8.onnx"), Imported)
