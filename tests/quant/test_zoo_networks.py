"""The papers' networks: captured, quantized by every method that applies, executed, equal to torch integer by integer.

Weights are random: these tests are about integers, not accuracy.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from accelsim.config import load_accelerator
from accelsim.execute import accumulations, execute
from quant.capture import capture
from quant.clip import CLIPS
from quant.graph import Graph
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.transforms import TRANSFORMS
from reports.witness import first_difference
from workloads.zoo import zoo_names, zoo_workload

pytestmark = pytest.mark.skipif(not zoo_names(), reason="torchvision is not installed (extra vision)")

FAST = ("resnet18", "mobilenet_v2")
PAPERS = ("vgg16_bn", "resnet50", "densenet121", "inception_v3", "mobilenet_v2", "resnet18")
LEAST_SIDE = {"inception_v3": 128}
"""Pixels a side that a network needs, 64 where not said: every layer still sees a map."""

PLAIN = Recipe(weight_bits=5, weight_clip=CLIPS["mse"](), act_clip=CLIPS["kl"]())
RECIPES = {
    "clip": PLAIN,
    "per channel": replace(PLAIN, per_channel=True),
    "bias correction": replace(PLAIN, bias_correction=True),
    "same": replace(PLAIN, first_last="same", act_scheme="affine"),
} | {name: replace(PLAIN, transforms=(transform(),)) for name, transform in TRANSFORMS.items()}


def captured(name: str, side: int) -> tuple[Graph, np.ndarray]:
    images = np.random.default_rng(0).standard_normal((4, 3, side, side)).astype(np.float32)
    return capture(zoo_workload(name).build(), torch.from_numpy(images[:1]), name), images


def check(graph: Graph, images: np.ndarray, recipe: Recipe) -> None:
    accelerator = load_accelerator("edge-32x32")
    quantized = quantize_network(graph, lambda: [images[2:]], recipe)
    program = quantized.program
    codes = quantized.encode(images[:2])
    run = execute(program, codes, accelerator, keep=[op.output for op in program.ops])
    assert first_difference(program, codes, run, accumulations(program, accelerator)) == ""
    assert all(len(np.unique(run.outputs[name])) > 1 for name in program.outputs)


@pytest.mark.parametrize("method", ["clip", "ocs", "cross-layer"])
@pytest.mark.parametrize("name", FAST)
def test_small_networks_are_bit_exact(name: str, method: str) -> None:
    graph, images = captured(name, 64)
    check(graph, images, RECIPES[method])


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_networks_of_the_papers_are_bit_exact_by_every_method(name: str) -> None:
    graph, images = captured(name, LEAST_SIDE.get(name, 64))
    for recipe in RECIPES.values():
        check(graph, images, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_networks_of_the_papers_at_full_size(name: str) -> None:
    graph, images = captured(name, zoo_workload(name).input_shape[1])
    check(graph, images, RECIPES["ocs"])
