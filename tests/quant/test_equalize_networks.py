"""Equalization and smoothing on networks with trained weights: outputs stay, integers agree with the oracle."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from accelsim import reference
from quant import oracle
from quant.capture import capture
from quant.fold import fold_batch_norm
from quant.graph import Graph
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import predict
from quant.transform import Context
from quant.transforms import TRANSFORMS
from workloads import WORKLOADS

SCALING = ("one-step", "two-step", "cross-layer", "smoothquant")
SAMPLES = 6


@cache
def network(name: str, data: Path | None) -> tuple[Graph, NDArray[np.float32], NDArray[np.float32]]:
    """Return a network with batch norms folded, a few samples, and its outputs before anything was changed."""
    workload = WORKLOADS[name]
    x = workload.samples(data).batch(np.arange(SAMPLES))
    graph = capture(workload.build(data), torch.from_numpy(x[:2]), name)
    return fold_batch_norm(graph), x, predict(graph, x)


def check_outputs(name: str, transform: str, data: Path | None) -> None:
    graph, x, wanted = network(name, data)
    equal = TRANSFORMS[transform]()(graph, Context(calibration=lambda: [x]))
    assert equal.nodes != graph.nodes
    assert np.abs(predict(equal, x) - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("transform", SCALING)
def test_outputs_of_the_digits_network_stay(transform: str) -> None:
    check_outputs("digits", transform, None)


@pytest.mark.parametrize("transform", SCALING)
@pytest.mark.parametrize("name", ["cifar10-resnet20", "mobilenet-v1-075"])
def test_outputs_of_trained_networks_stay(name: str, transform: str, data_dir: Path) -> None:
    check_outputs(name, transform, data_dir)


def test_mobilenet_has_a_cap_per_channel_behind_every_layer(data_dir: Path) -> None:
    graph, _, _ = network("mobilenet-v1-075", data_dir)
    equal = TRANSFORMS["cross-layer"]()(graph, Context())
    caps = [node for node in equal.nodes if node.op == "clamp_channels"]
    assert len(caps) == sum(node.op == "relu6" for node in graph.nodes)
    assert not any(node.op == "relu6" for node in equal.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10-resnet20", "mobilenet-v1-075"])
@pytest.mark.parametrize("transform", ["two-step", "cross-layer"])
def test_equalized_networks_are_bit_exact_against_the_oracle(name: str, transform: str, data_dir: Path) -> None:
    graph, x, _ = network(name, data_dir)
    recipe = Recipe(weight_bits=6, transforms=(TRANSFORMS[transform](),))
    quantized = quantize_network(graph, lambda: [x], recipe)
    codes = quantized.encode(x[:2])
    got = oracle.run(quantized.program, codes).values
    wanted = reference.run(quantized.program, codes).values
    for tensor in quantized.program.outputs:
        assert np.array_equal(wanted[tensor], got[tensor])
