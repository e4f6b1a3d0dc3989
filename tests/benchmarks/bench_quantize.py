"""Quantizing a ResNet-50: transforms, clip search and lowering against one float forward pass of 32 pictures.

The weights are random (seeded, heavy-tailed): what these steps cost depends on shapes, not on what was learnt.
Capturing and observing run the float network itself and are measured apart. The whole way, from torch module to
Program, is measured with all 32 pictures as calibration.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quant.capture import capture
from quant.clip import Kl, Mse
from quant.fold import fold_batch_norm
from quant.lower import lower
from quant.observe import observe
from quant.ocs import SplitOutliers
from quant.pipeline import prepare, quantize_network
from quant.recipe import Recipe

IMAGES, SIDE = 32, 224
CALIBRATION = 4
BATCH = 8
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


class Bottleneck(nn.Module):
    """A block of 1×1, 3×3 and 1×1 convolutions with an addition around them."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.down: nn.Module = nn.Identity()
        if stride > 1 or channels != 4 * width:
            self.down = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.down(x)).relu()


class ResNet50(nn.Module):
    """The network of He et al. (arXiv:1512.03385), 25.5 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        channels = 64
        for stage, (width, count) in enumerate(STAGES):
            for block in range(count):
                blocks.append(Bottleneck(channels, width, 2 if stage and not block else 1))
                channels = 4 * width
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Classify pictures ``[batch, 3, 224, 224]``."""
        y = self.blocks(self.pool(self.bn1(self.conv1(x)).relu()))
        scores: Tensor = self.fc(y.mean((2, 3)))
        return scores


def resnet50(seed: int = 0) -> nn.Module:
    """Return a ResNet-50 with heavy-tailed weights whose activations stay of one size."""
    generator = np.random.default_rng(seed)
    module = ResNet50().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                values = generator.standard_t(5, parameter.shape) / np.sqrt(fan_in)
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    return module


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the wall time of one call and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def run() -> list[dict[str, Any]]:
    """Measure quantization with OCS r = 0.05 and the MSE and KL clips, beside one float pass."""
    module = resnet50()
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((IMAGES, 3, SIDE, SIDE)).astype(np.float32))
    with torch.inference_mode():
        module(x[:1])
        forward = min(seconds(lambda: module(x))[0] for _ in range(2))
    captured, graph = seconds(lambda: capture(module, x[:2], "resnet50"))
    rows = [_row("capture ResNet-50", captured, forward)]
    for name, clip in (("MSE", Mse()), ("KL", Kl())):
        recipe = Recipe(weight_bits=5, weight_clip=clip, transforms=(SplitOutliers(ratio=0.05),))
        prepared, ready = seconds(partial(prepare, graph, recipe))
        if name == "MSE":
            folded, _ = seconds(partial(fold_batch_norm, graph))
            observed, stats = seconds(partial(observe, ready, [x[:CALIBRATION].numpy()], 0))
            rows.append(_row(f"observe ResNet-50 on {CALIBRATION} pictures", observed, forward))
            rows.append(_row("fold and split channels of ResNet-50, OCS 0.05", prepared, forward))
            rows.append(_row("of which folding batch norms", folded, forward))
        lowered, _ = seconds(partial(lower, ready, stats, recipe))
        rows.append(_row(f"quantize ResNet-50, OCS 0.05 + {name} clip", prepared + lowered, forward))
    return rows + [_row(name, value, forward) for name, value in whole(module, x.numpy()).items()]


def whole(module: nn.Module, x: NDArray[np.float32]) -> dict[str, float]:
    """Return seconds of capture, calibration on all pictures, transforms and lowering together, by name."""
    found = {}
    for recipe in (Recipe(), Recipe(weight_bits=5, weight_clip=Mse(), transforms=(SplitOutliers(ratio=0.02),))):

        def make(recipe: Recipe = recipe) -> None:
            graph = capture(module, torch.from_numpy(x[:2]), "resnet50")
            quantize_network(graph, lambda: np.split(x, len(x) // BATCH), recipe)

        name = f"capture + quantize + lower, {recipe.label()}, {len(x)} pictures"
        found[name] = min(seconds(make)[0] for _ in range(2))
    return found


def _row(name: str, value: float, forward: float) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": "s",
        "baseline_name": f"float pass of {IMAGES} pictures",
        "baseline": forward,
        "ratio": value / forward,
    }
