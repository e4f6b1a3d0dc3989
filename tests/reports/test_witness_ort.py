"""ONNX Runtime as a witness: agreement is found, and so is a planted difference, with the place and its sums."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: install accelsim[oracle]")

from corrupt import convolutions, with_bias, with_weight
from onnx_nets import float_cnn, quantized

from accelsim.config import load_accelerator
from accelsim.program import Requantize, Tensor
from quant.graph import Graph
from quant.importers.onnx_import import OnnxNetwork, import_onnx_bytes
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.witness_ort import compare_exported, compare_imported, latencies_s, tolerated_codes


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


EDGE = load_accelerator("edge-32x32")


def test_a_wrong_bias_is_found_where_it_first_shows(imported: tuple[bytes, OnnxNetwork, np.ndarray]) -> None:
    data, network, x = imported
    layer = convolutions(network.program)[1]  # 3×3
    changed = replace(network, program=with_bias(network.program, layer, 3, 900))
    found = compare_imported(data, changed, x, accelerator=EDGE)
    assert not found.bit_exact
    reader = next(op for op in changed.program if isinstance(op, Requantize) and op.inputs == (layer.output,))
    for part in (repr(reader.output), repr(layer.name), "channel 3", "pixel", "fold 2 (k 64..71)", "rule float32_rne"):
        assert part in found.difference
    said = re.search(r"explained by the bias being (\d+)(?:\.\.(\d+))? less in ONNX Runtime", found.difference)
    assert said is not None, found.difference
    assert int(said[1]) <= 900 <= int(said[2] or said[1])


def test_a_wrong_weight_is_named_with_its_fold(imported: tuple[bytes, OnnxNetwork, np.ndarray]) -> None:
    data, network, x = imported
    layer = convolutions(network.program)[1]  # 3×3
    place = (1, 2, 1, 4)
    changed = replace(network, program=with_weight(network.program, layer, place, 60))
    found = compare_imported(data, changed, x, accelerator=EDGE)
    k = int(np.ravel_multi_index(place[1:], layer.weight.shape[1:]))
    where = rf"explained by the weight at k {k} \(kernel \[2, 1\], channel 4, fold {k // 32}\) being \S+ less in ONNX"
    assert re.search(where, found.difference), found.difference
    assert "channel 1: ours" in found.difference


def test_float_steps_are_counted_and_walked_past(imported: tuple[bytes, OnnxNetwork, np.ndarray]) -> None:
    data, network, x = imported
    step = next(op for op in network.program if isinstance(op, Requantize))
    found = compare_imported(data, inexactly_scaled(network, step, 1.005), x)
    assert found.bit_exact
    assert list(found.tolerated) == [step.output]
    assert 1 <= found.tolerated[step.output][1] <= 2


def test_a_gross_difference_is_none_of_float_steps(imported: tuple[bytes, OnnxNetwork, np.ndarray]) -> None:
    data, network, x = imported
    step = next(op for op in network.program if isinstance(op, Requantize))
    found = compare_imported(data, inexactly_scaled(network, step, 1.05), x)
    assert not found.bit_exact
    assert not found.tolerated
    assert repr(step.output) in found.difference
    assert "rule float32_rne" in found.difference


def test_what_is_tolerated_is_two_codes_or_a_hundredth_of_them() -> None:
    ranges = {(0, 255): 2.55, (-128, 127): 2.55, (0, 15): 2, (-32768, 32767): 655.35}
    for (low, high), most in ranges.items():
        tensor = Tensor(name="x", shape=(1,), bits=16, signed=low < 0, low=low, high=high)
        assert tolerated_codes(tensor) == pytest.approx(most)


def inexactly_scaled(network: OnnxNetwork, step: Requantize, factor: float) -> OnnxNetwork:
    wrong = replace(step, multiplier=step.multiplier * factor)
    ops = tuple(wrong if op is step else op for op in network.program)
    return replace(network, program=replace(network.program, ops=ops), inexact=frozenset({step.output}))


def test_a_network_of_ours_agrees_once_exported() -> None:
    graph = import_onnx_bytes(float_cnn(2, "dense"))
    assert isinstance(graph, Graph)
    x = np.random.default_rng(0).normal(0, 1, (8, 3, 10, 10)).astype(np.float32)
    found = compare_exported(quantize_network(graph, lambda: [x], Recipe()), x)
    assert found.bit_exact
    assert "ONNX Runtime" in found.runtime
