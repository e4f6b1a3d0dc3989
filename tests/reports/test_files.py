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
from reports.listing import format_listing, list_networks
from reports.task import Task, TaskOptions, load_task, run_engine
from workloads.tinyml import TINY_TASKS
from workloads.zoo import zoo_names

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


def test_widths_of_a_network_of_integers_cannot_be_chosen(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "cost", files / "digits8.onnx", "--weight-bits", "4") == 2
    assert "came as integers" in capsys.readouterr().err


def test_pictures_of_bytes_are_not_taken_for_codes(data_dir: Path, tmp_path: Path) -> None:
    path = TINY_TASKS["tiny-resnet8"].model_path(data_dir)
    x = np.full((3, 32, 32, 3), 200)
    np.savez(tmp_path / "bytes.npz", x=x.astype(np.uint8), y=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"takes from -128 to 127 \(got 200..200\); save real values as float32"):
        load_task(TaskOptions(network=str(path), data=tmp_path / "bytes.npz"))
    np.savez(tmp_path / "real.npz", x=x.astype(np.float32), y=np.zeros(3, int))
    task = load_task(TaskOptions(network=str(path), data=tmp_path / "real.npz"))
    assert task.integers is not None
    codes = next(iter(task.integers.encode(task.samples.batch(task.evaluated)).values()))
    assert (codes == 72).all()


# --- quantized files with a name -------------------------------------------------------------------------------------


SCORES = {"tiny-resnet8": 0.850, "tiny-kws": 0.901}
"""Top-1 accuracies known of these files on these samples."""


@pytest.mark.parametrize("name", SCORES)
def test_named_files_run_to_their_known_accuracy(name: str, data_dir: Path, tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    assert cli.main(["run", name, "--data", str(data_dir), "--bit-exact-images", "1", "--json", str(record)]) == 0
    found = json.loads(record.read_text())
    assert found["network"] == name
    assert found["bit_exact"] is True
    assert found["accuracy"]["integer"] == pytest.approx(SCORES[name], abs=0.001)


def test_the_anomaly_detector_is_judged_by_its_area(data_dir: Path, tmp_path: Path) -> None:
    """Score and error by scikit-learn and by drawing the clips anew."""
    from sklearn.metrics import roc_auc_score

    record, page = tmp_path / "run.json", tmp_path / "run.html"
    command = ["run", "tiny-ad", "--data", str(data_dir), "--bit-exact-images", "1"]
    assert cli.main([*command, "--json", str(record), "--html", str(page)]) == 0
    found = json.loads(record.read_text())["accuracy"]
    assert (found["metric"], found["higher_is_better"], found["float"]) == ("auc", True, None)
    assert "area under the ROC curve" in page.read_text()
    task = load_task(TaskOptions(network="tiny-ad", data=data_dir))
    rows = task.samples.labels(task.evaluated)
    assert task.integers is not None
    outputs = task.integers.decode(run_engine(task.integers, task.samples.batch(task.evaluated), None).outputs)[0]
    errors = ((outputs - rows[:, 2:]) ** 2).mean(axis=1)
    clips = np.array([errors[rows[:, 1] == clip].mean() for clip in range(83)])
    labels = np.array([rows[rows[:, 1] == clip][0, 0] for clip in range(83)])
    assert found["integer"] == pytest.approx(roc_auc_score(labels, clips))
    rng = np.random.default_rng(0)
    ones, zeros = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    drawn = [np.concatenate([rng.choice(ones, len(ones)), rng.choice(zeros, len(zeros))]) for _ in range(1000)]
    spread = np.std([roc_auc_score(labels[places], clips[places]) for places in drawn])
    assert found["standard_error"] == pytest.approx(spread, rel=0.1)


def test_named_files_are_priced_and_proposed(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cost", "tiny-kws", "--data", str(data_dir)]) == 0
    assert "LiteRT's rules" in capsys.readouterr().out
    assert cli.main(["run", "tiny-kw", "--data", str(data_dir)]) == 2
    assert "did you mean tiny-kws" in capsys.readouterr().err
    assert cli.main(["run", "tiny-kws", "--data", str(tmp_path)]) == 2
    assert "kws_ref_model.tflite must exist" in capsys.readouterr().err


def test_the_listing_has_every_kind_of_network() -> None:
    rows = {row["name"]: row for row in list_networks()}
    assert {rows[name]["kind"] for name in ("digits", "tiny-ad")} == {"trained", "quantized"}
    assert set(zoo_names()) <= set(rows)
    printed = format_listing("networks", list(rows.values()))
    assert "tiny-ad  [auc; needs --data, quantized already]" in printed
    alone = format_listing("networks", [row for row in rows.values() if row["kind"] != "torchvision"])
    assert "install accelsim[vision]" in alone
