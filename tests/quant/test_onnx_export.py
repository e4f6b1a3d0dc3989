"""Exported networks: ONNX Runtime's integers are ours."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: install accelsim[oracle]")

import onnx
import torch
from float_nets import residual_graph
from onnx_nets import float_cnn, session
from torch import nn

from accelsim.execute import execute
from quant.capture import capture
from quant.exporters.onnx_export import export_onnx
from quant.graph import Graph
from quant.importers.onnx_import import OnnxNetwork, import_onnx_bytes
from quant.lower import Quantized
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from workloads.digits import DIGITS, _model, digits_samples

Array = NDArray[Any]


@pytest.fixture(scope="module")
def digits() -> tuple[Graph, Array, Array]:
    network = _model(SimpleNamespace(weights=None)).eval()  # type: ignore[arg-type]
    samples = digits_samples()
    return capture(network, torch.zeros(2, 1, 8, 8), DIGITS.name), samples.x[:64], samples.x[600:728]


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.ModelProto.FromString(data).graph.node]


def assert_our_integers(found: Quantized, x: Array) -> bytes:
    """Compare every tensor that the file has with ours, then the outputs of the file of codes, and of its re-import."""
    data = export_onnx(found)
    written = {name for node in onnx.ModelProto.FromString(data).graph.node for name in node.output}
    names = [op.output for op in found.program.ops if op.output in written]
    assert len(names) > len(found.program.ops) // 3
    run = session(data, *names)
    codes = found.encode(*([x] if len(found.inputs) == 1 else x))
    ours = execute(found.program, codes, keep=names).outputs
    theirs = dict(zip([o.name for o in run.get_outputs()], run.run(None, {run.get_inputs()[0].name: x}), strict=True))
    for name in names:
        mine, other = ours[name], theirs[name]
        other = other if other.shape == mine.shape else np.moveaxis(other, 1, -1)
        np.testing.assert_array_equal(mine, other, err_msg=name)
    for value, real in zip(found.outputs, found.decode(ours), strict=True):
        np.testing.assert_allclose(theirs[f"output.{value.name}"], real, rtol=1e-6, atol=1e-9)
    plain = export_onnx(found, ends="codes")
    run, first = session(plain), found.inputs[0]
    given = codes[first.name].transpose(0, *(first.layout.index(axis) + 1 for axis in range(len(first.layout))))
    dtype = np.uint8 if "uint8" in run.get_inputs()[0].type else np.int8
    sums = run.run(None, {run.get_inputs()[0].name: given.astype(dtype)})[0]
    np.testing.assert_array_equal(sums.reshape(ours[found.program.outputs[0]].shape), ours[found.program.outputs[0]])
    return plain


RECIPES = {
    "W8A8": Recipe(),
    "W8A8 per channel": Recipe(per_channel=True, first_last="same"),
    "W8A8 OCS": Recipe(transforms=(SplitOutliers(ratio=0.05),), first_last="same"),
    "W5A8 OCS": Recipe(weight_bits=5, transforms=(SplitOutliers(ratio=0.02),)),
    "W5A8 OCS per channel": Recipe(weight_bits=5, per_channel=True, transforms=(SplitOutliers(ratio=0.05),)),
    "W4A6 affine": Recipe(weight_bits=4, act_bits=6, act_scheme="affine", first_last="same"),
    "W8A7 split activations": Recipe(act_bits=7, transforms=(SplitActivations(ratio=0.05),), first_last="same"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_digits_give_our_integers(name: str, digits: tuple[Graph, Array, Array]) -> None:
    graph, x, calibration = digits
    found = quantize_network(graph, lambda: [calibration], RECIPES[name])
    data = assert_our_integers(found, x)
    kinds = operators(data)
    assert kinds.count("Conv") >= 9  # the layers are QDQ groups
    splits = sum(layer.splits + layer.act_splits for layer in found.layers)
    assert ("Gather" in kinds) == (splits > 0) == ("OCS" in name or "split" in name)


def test_an_exported_file_comes_back_as_the_same_integers(digits: tuple[Graph, Array, Array]) -> None:
    graph, x, calibration = digits
    found = quantize_network(graph, lambda: [calibration], RECIPES["W5A8 OCS"])
    back = import_onnx_bytes(export_onnx(found, ends="codes"), "back")
    assert isinstance(back, OnnxNetwork)
    codes = found.encode(x)
    first = found.inputs[0]
    given = codes[first.name].transpose(0, *(first.layout.index(axis) + 1 for axis in range(len(first.layout))))
    ours = execute(found.program, codes).outputs[found.program.outputs[0]]
    again = execute(back.program, back.encode(given)).outputs[back.program.outputs[0]]
    np.testing.assert_array_equal(again, ours)
    assert not back.remarks


@pytest.mark.parametrize("kind", ["residual", "mobile", "dense"])
def test_networks_with_gates_joins_and_pools(kind: str) -> None:
    x = np.random.default_rng(1).normal(0, 1, (64, 3, 10, 10)).astype(np.float32)
    graph = import_onnx_bytes(float_cnn(2, kind))
    assert isinstance(graph, Graph)
    assert_our_integers(quantize_network(graph, lambda: [x[:32]], Recipe(act_scheme="affine")), x)


def test_token_networks_with_attention() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (layer(x).reshape(-1, 5, 2, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return torch.relu(self.out(mixed.transpose(1, 2).reshape(-1, 5, 8)) + x)

    torch.manual_seed(0)
    x = np.random.default_rng(1).normal(0, 1, (64, 5, 8)).astype(np.float32)
    graph = capture(Block().eval(), torch.zeros(2, 5, 8), "block")
    recipe = Recipe(first_last="same", inner_bits=8)
    assert_our_integers(quantize_network(graph, lambda: [x], recipe), x)


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Recipe(act_bits=12, first_last="same"), "12-bit codes; ONNX multiplies integers of 8 bits"),
        (Recipe(weight_bits=12, first_last="same"), "quantize its weights to 8 bits"),
        (Recipe(rule="single_up"), "by rule single_up"),
    ],
)
def test_what_onnx_has_no_integers_for_is_refused_with_the_reason(recipe: Recipe, text: str) -> None:
    rng = np.random.default_rng(0)
    graph = residual_graph(rng)
    x = rng.normal(0, 1, (8, *graph.inputs[0].shape)).astype(np.float32)
    with pytest.raises(ValueError, match=text):
        export_onnx(quantize_network(graph, lambda: [x], recipe))
