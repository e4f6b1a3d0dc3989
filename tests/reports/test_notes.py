"""What a run says beside its figures of how the network became integers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from quant.capture import capture
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports import cli, notes


def test_layers_that_were_left_whole_are_named_by_reason() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(4, 4, 3, groups=4) for _ in range(6)), nn.Conv2d(4, 6, 1)).eval()
    x = np.random.default_rng(0).standard_normal((4, 4, 16, 16)).astype(np.float32)
    graph = capture(net, torch.from_numpy(x))
    plain = quantize_network(graph, lambda: [x], Recipe(first_last="same"))
    assert notes.integer_notes(plain) == []
    split = quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=(SplitOutliers(ratio=0.1),)))
    (text,) = notes.integer_notes(split)
    whole = [layer.name for layer in split.layers if layer.remark]
    assert text.startswith("channels not split: depthwise")
    assert text.endswith(f"({', '.join(whole[: notes.NAMED])} and {len(whole) - notes.NAMED} more)")


def test_an_importers_remarks_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_nets = pytest.importorskip("onnx_nets", reason="onnx is not installed (extra onnx)")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra oracle)")
    x = np.random.default_rng(0).normal(0, 1, (16, 3, 10, 10)).astype(np.float32)
    data = onnx_nets.quantized(onnx_nets.float_cnn(3, "mobile"), tmp_path, x)
    (tmp_path / "net.onnx").write_bytes(data)
    from reports.files import Imported, read_network

    network = read_network(tmp_path / "net.onnx")
    assert isinstance(network, Imported)
    assert notes.integer_notes(network) == list(network.remarks)
    assert cli.main(["cost", str(tmp_path / "net.onnx")]) == 0
    printed = capsys.readouterr().out
    assert all(f"note: {text}" in printed for text in network.remarks)


def test_what_is_neither_has_no_notes() -> None:
    assert notes.integer_notes(SimpleNamespace(program=None)) == []  # type: ignore[arg-type]
