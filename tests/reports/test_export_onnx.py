"""``accelsim export-onnx``: the file gives our integers in ONNX Runtime; a comparison that cannot be made is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quant.capture import capture
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports import cli, export_onnx, options, witness_ort
from reports.task import Task
from reports.witness import NoWitness

pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra oracle)")


def command(path: Path, *more: str) -> tuple[int, dict[str, Any]]:
    record = path.with_suffix(".json")
    asked = ["export-onnx", "digits", "--weight-bits", "5", "--ocs", "0.05", "--calib", "128", "--images", "4"]
    status = cli.main([*asked, "--out", str(path), "--json", str(record), *more])
    return status, json.loads(record.read_text())


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("onnx") / "digits5.onnx"
    status, record = command(path)
    assert status == 0
    return path, record


def test_the_file_gives_real_outputs_with_the_splits_in_it(real: tuple[Path, dict[str, Any]], digits: Task) -> None:
    path, record = real
    assert record["bit_exact"] is True
    assert record["bytes"] == path.stat().st_size
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    x = digits.samples.batch(np.arange(16))
    (out,) = session.run(None, {session.get_inputs()[0].name: x})
    assert out.shape == (16, 10)
    assert (out.argmax(1) == digits.samples.labels(np.arange(16))).mean() > 0.8
    import onnx

    assert any(node.op_type == "Gather" for node in onnx.load(path).graph.node)


def test_codes_are_compared_as_codes(tmp_path: Path, real: tuple[Path, dict[str, Any]], capsys: Any) -> None:
    status, record = command(tmp_path / "codes.onnx", "--ends", "codes")
    assert (status, record["bit_exact"], record["values"]) == (0, True, real[1]["values"])
    assert record["program_digest"] == real[1]["program_digest"]
    assert "gives the same integers" in capsys.readouterr().out
    session = onnxruntime.InferenceSession((tmp_path / "codes.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type in ("tensor(uint8)", "tensor(int8)")


@pytest.mark.parametrize("scale", [1, 2])
def test_axes_of_one_length_and_moved_ones_are_told_apart(scale: int) -> None:
    """Maps of 8 channels, 8 by 8, look alike in every order of axes; an upsampled one is held in another order."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=scale), nn.Conv2d(8, 8, 3, padding=1)]
    net = nn.Sequential(*layers).eval()
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    graph = capture(net, torch.from_numpy(x))
    quantized = quantize_network(graph, lambda: [x], Recipe())
    for ends in export_onnx.ENDS:
        found = witness_ort.compare_exported(quantized, x, ends=ends)
        assert found.bit_exact, found.difference
        assert found.tensors >= 2


def test_without_onnx_runtime_the_file_is_written_and_that_is_said(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*args: Any, **kwargs: Any) -> Any:
        raise NoWitness("ONNX Runtime is not installed; install accelsim[oracle]")

    monkeypatch.setattr(witness_ort, "runtime_session", absent)
    status, record = command(tmp_path / "alone.onnx")
    assert (status, record["bit_exact"]) == (0, None)
    assert "ONNX Runtime is not installed" in record["not_compared"]
    assert "not compared with ONNX Runtime" in capsys.readouterr().out


def test_a_difference_is_named_and_fails(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = witness_ort._run

    def wrong(session: Any, feeds: Any) -> Any:
        found = honest(session, feeds)
        name = next(name for name in found if "conv" in name)
        return found | {name: found[name] + 1}

    monkeypatch.setattr(witness_ort, "_run", wrong)
    status, record = command(tmp_path / "wrong.onnx")
    assert (status, record["bit_exact"]) == (1, False)
    assert "gives other integers: " in capsys.readouterr().out
    assert "conv" in record["difference"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--weight-bits", "9"), "ONNX holds 8 bits"),
        (("--ends", "sums"), "argument --ends: invalid choice"),
        (("--out", "/nowhere/net.onnx"), "does not exist"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path, capsys: Any, more: tuple[str, str], text: str
) -> None:
    path = tmp_path / "net.onnx"
    assert cli.main(["export-onnx", "digits", "--calib", "64", "--out", str(path), *more]) == 2
    assert text in capsys.readouterr().err
    assert not path.exists()


def test_networks_that_came_as_integers_are_refused(tmp_path: Path, capsys: Any, digits: Task) -> None:
    path, samples = tmp_path / "codes.onnx", tmp_path / "samples.npz"
    assert command(path)[0] == 0
    chosen = np.arange(40)
    np.savez(samples, x=digits.samples.batch(chosen), y=digits.samples.labels(chosen))
    asked = ["export-onnx", str(path), "--data", str(samples), "--out", str(tmp_path / "again.onnx")]
    assert cli.main(asked) == 2
    assert "came as integers" in capsys.readouterr().err


def test_the_command_knows_the_kernel_sets_and_the_ends() -> None:
    from typing import get_args

    from quant.exporters.onnx_export import Ends
    from quant.importers.tflite_kernels import KERNELS

    assert tuple(KERNELS) == options.KERNEL_SETS
    assert get_args(Ends) == export_onnx.ENDS


def test_kernels_choose_whose_rules_a_tflite_file_follows(data_dir: Path) -> None:
    from reports.task import TaskOptions, load_task

    asked = TaskOptions(network="tiny-resnet8", data=data_dir, images=4)
    digests = set()
    for kernels in options.KERNEL_SETS:
        found = load_task(replace(asked, kernels=kernels))
        assert f"({kernels})" in found.as_integers(0).label
        digests.add(found.as_integers(0).program.digest())
    assert len(digests) == 3
