"""ONNX Runtime as a witness: agreement is found, and so is a planted difference, with the place and its sums."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: install accelsim[oracle]")

from onnx_nets import float_cnn, quantized

from accelsim.program import Conv, Requantize
from quant.graph import Graph
from quant.importers.onnx_import import OnnxNetwork, import_onnx_bytes
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.witness_ort import compare_exported, compare_imported, latencies_s


@pytest.fixture
def imported(tmp_path: Path) -> tuple[bytes, OnnxNetwork, np.ndarray]:
    x = np.random.default_rng(0).normal(0, 1, (16, 3, 10, 10)).astype(np.float32)
    data = quantized(float_cnn(3, "residual"), tmp_path, x)
    network = import_onnx_bytes(data, "net")
    assert isinstance(network, OnnxNetwork)
    return data, network, x


def test_an_imported_network_agrees(imported: tuple[bytes, OnnxNetwork, np.ndarray]) -> None:
    data, network, x = imported
    found = compare_imported(data, network, x)
    assert found.bit_exact
    assert found.tensors >= 10
    assert not found.tolerated
    assert latencies_s({"a": data, "b": data}, x, repeats=1)["b"] > 0


def test_a_wrong_weight_is_found_where_it_first_shows(imported: tuple[bytes, OnnxNetwork, np.ndarray]) -> None:
    data, network, x = imported
    layer = [op for op in network.program if isinstance(op, Conv)][2]
    bias = layer.bias.copy()
    bias[3] += 900  # type: ignore[index]
    wrong = replace(layer, bias=bias, bound=layer.bound + 900)
    ops = tuple(wrong if op is layer else op for op in network.program)
    tensors = dict(network.program.tensors)
    tensors[layer.output] = replace(tensors[layer.output], bits=32, low=-(2**31), high=2**31 - 1)
    changed = replace(network, program=replace(network.program, ops=ops, tensors=tensors))
    found = compare_imported(data, changed, x)
    assert not found.bit_exact
    reader = next(op for op in ops if isinstance(op, Requantize) and op.inputs == (layer.output,))
    for part in (repr(reader.output), repr(layer.name), "channel 3", "pixel", "sum", "rule float32_rne", "differ"):
        assert part in found.difference


def test_float_steps_are_counted_and_walked_past(imported: tuple[bytes, OnnxNetwork, np.ndarray]) -> None:
    data, network, x = imported
    step = next(op for op in network.program if isinstance(op, Requantize))
    wrong = replace(step, multiplier=step.multiplier * 1.01)
    ops = tuple(wrong if op is step else op for op in network.program)
    changed = replace(network, program=replace(network.program, ops=ops), inexact=frozenset({step.output}))
    found = compare_imported(data, changed, x)
    assert found.bit_exact
    assert list(found.tolerated) == [step.output]
    assert found.tolerated[step.output][1] >= 1


def test_a_network_of_ours_agrees_once_exported() -> None:
    graph = import_onnx_bytes(float_cnn(2, "dense"))
    assert isinstance(graph, Graph)
    x = np.random.default_rng(0).normal(0, 1, (8, 3, 10, 10)).astype(np.float32)
    found = compare_exported(quantize_network(graph, lambda: [x], Recipe()), x)
    assert found.bit_exact
    assert "ONNX Runtime" in found.runtime
