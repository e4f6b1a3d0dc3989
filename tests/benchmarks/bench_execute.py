"""Whole networks: the functional engine against torch float32 inference of the same network, in the same run."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from accelsim.config import load_accelerator
from accelsim.execute import execute
from quant.capture import capture
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from workloads.cifar import ResNet

IMAGES = 512
BATCHES = (16, 32, 64, 128)


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
            for size in BATCHES
        ]
    torch.set_num_threads(before)
    return max(speeds)


def run() -> list[dict[str, Any]]:
    """Measure ResNet-20 at W8A8 and at W4A8 with OCS, on one thread and on two."""
    module = resnet20()
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((IMAGES, 3, 32, 32)).astype(np.float32))
    graph = capture(module, images[:2], "resnet20")
    accelerator = load_accelerator("edge-32x32")
    rows = []
    for threads in (1, 2):
        baseline = torch_images_per_s(module, images, threads)
        for bits, ratio in ((8, 0.0), (4, 0.05)):
            recipe = Recipe(weight_bits=bits, transforms=(SplitOutliers(ratio=ratio),) if ratio else ())
            network = quantize_network(graph, lambda: [images[:64].numpy()], recipe)
            codes = network.encode(images.numpy())
            call = partial(execute, network.program, codes, accelerator, threads=threads)
            speed = IMAGES / best_seconds(call)
            rows.append(
                {
                    "name": f"functional ResNet-20 {recipe.label()}, {threads} thread(s)",
                    "value": speed,
                    "unit": "images/s",
                    "baseline_name": "torch float32",
                    "baseline": baseline,
                    "ratio": speed / baseline,
                }
            )
    return rows
