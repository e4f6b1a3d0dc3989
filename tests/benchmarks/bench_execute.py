"""Whole networks: the functional engine against torch float32 inference of the same network, in the same run."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.config import load_accelerator
from accelsim.execute import execute
from quant.capture import capture
from quant.graph import Graph
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from workloads.cifar import ResNet
from workloads.zoo import zoo_names, zoo_workload

IMAGES = 512
BATCHES = (8, 16, 32, 64, 128)


def best_seconds(function: Callable[[], object], runs: int = 5) -> float:
    """Return the shortest wall time of several runs after one to warm up."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def resnet20(seed: int = 0) -> torch.nn.Module:
    """Return a ResNet-20 with seeded random weights and plausible batch-norm statistics; speed needs no training."""
    torch.manual_seed(seed)
    return ResNet(3).eval()


def torch_images_per_s(module: torch.nn.Module, images: torch.Tensor, threads: int) -> float:
    """Return float32 inference speed at the best of several batch sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with torch.inference_mode():
        speeds = [
            len(images) / best_seconds(lambda size=size: [module(part) for part in images.split(size)])  # type: ignore[misc]
            for size in sorted({min(size, len(images)) for size in BATCHES})
        ]
    torch.set_num_threads(before)
    return max(speeds)


def quantized_row(
    graph: Graph, images: NDArray[np.float32], recipe: Recipe, threads: int, baseline: float
) -> dict[str, Any]:
    """Measure one recipe's integers against a speed in images per second."""
    network = quantize_network(graph, lambda: [images[:64]], recipe)
    codes = network.encode(images)
    call = partial(execute, network.program, codes, load_accelerator("edge-32x32"), threads=threads)
    speed = len(images) / best_seconds(call)
    return {
        "name": f"functional {graph.name} {recipe.label()}, {threads} thread(s)",
        "value": speed,
        "unit": "images/s",
        "baseline_name": "torch float32 eager, images/s",
        "baseline": baseline,
        "ratio": speed / baseline,
    }


def recipe(weight_bits: int, ratio: float) -> Recipe:
    """Return 8-bit activations with weights of a width, split by a ratio."""
    return Recipe(weight_bits=weight_bits, transforms=(SplitOutliers(ratio=ratio),) if ratio else ())


def run() -> list[dict[str, Any]]:
    """Measure ResNet-20 on one thread and on two, and ResNet-50 at 224x224, batch 8, on two."""
    module = resnet20()
    images = np.random.default_rng(0).standard_normal((IMAGES, 3, 32, 32)).astype(np.float32)
    graph = capture(module, torch.from_numpy(images[:2]), "ResNet-20")
    rows = []
    for threads in (1, 2):
        baseline = torch_images_per_s(module, torch.from_numpy(images), threads)
        rows += [quantized_row(graph, images, recipe(*how), threads, baseline) for how in ((8, 0.0), (4, 0.05))]
    return rows + large_rows()


def large_rows() -> list[dict[str, Any]]:
    """Measure ResNet-50, where torchvision is installed."""
    if "resnet50" not in zoo_names():
        return []
    module = zoo_workload("resnet50").build()
    images = np.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype(np.float32)
    graph = capture(module, torch.from_numpy(images[:2]), "ResNet-50 224x224 batch 8")
    baseline = torch_images_per_s(module, torch.from_numpy(images), 2)
    return [quantized_row(graph, images, recipe(*how), 2, baseline) for how in ((8, 0.0), (5, 0.02))]
