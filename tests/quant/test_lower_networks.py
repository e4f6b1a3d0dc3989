"""Small whole networks of each family as integers: every engine alike, and near the float network."""

from typing import Any

import numpy as np
import pytest
import torch
from capture_nets import captured
from lowered import quantized, run_alike

from quant.ocs import SplitOutliers
from quant.run import run
from quant.smoothquant import SmoothQuant
from quant.splitquant import SplitQuant

NETWORKS = (
    "lstm", "lstm both ways, time first", "mha", "encoder", "mask and bias", "llama", "llama with pairs",
    "eager attention", "norms", "products", "excite", "class token",
)  # fmt: skip

MOST = {16: 0.02, 8: 0.2}
"""Root mean square of the error over that of the output, weights and activations of so many bits."""


def drawn(name: str) -> tuple[Any, list[Any]]:
    _, graph, inputs = captured(name)
    torch.manual_seed(1)
    return graph, [make(3).numpy() for make in inputs]


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("name", NETWORKS)
def test_engines_agree_and_are_near_the_float_network(name: str, bits: int):
    graph, x = drawn(name)
    found = quantized(graph, *x, act_bits=bits, weight_bits=bits)
    ours = found.decode(run_alike(found, *x))
    floats = run(graph, x)
    for output, got in zip(graph.outputs, ours, strict=True):
        want = floats[output].numpy()
        assert got.shape == want.shape
        assert np.isfinite(got).all()
        if bits in MOST:
            assert np.sqrt(((got - want) ** 2).mean()) <= MOST[bits] * np.sqrt((want**2).mean())


@pytest.mark.parametrize("transform", [SplitOutliers(ratio=0.1), SmoothQuant(alpha=0.5), SplitQuant()])
@pytest.mark.parametrize("name", ["lstm", "llama", "encoder"])
def test_transformed_networks(name: str, transform: Any):
    graph, x = drawn(name)
    found = quantized(graph, *x, transforms=(transform,))
    got = found.decode(run_alike(found, *x))[0]
    want = run(graph, x)[graph.outputs[0]].numpy()
    assert np.sqrt(((got - want) ** 2).mean()) <= 0.2 * np.sqrt((want**2).mean())
