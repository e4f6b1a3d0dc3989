"""Duplicated channels on commodity hardware: exported networks in ONNX Runtime, float, W8A8 and W8A8 with OCS (QDQ).

Zhao et al. (ICML 2019, section 3.4) claim that OCS runs on ordinary hardware at the cost of its added channels. The
networks are a plain VGG-like one and ResNet-50, of random weights: latency depends on shapes alone.
"""

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quant.capture import capture
from quant.exporters.onnx_export import export_onnx
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.witness_ort import latencies_s
from tests.benchmarks.bench_quantize import resnet50

CHANNELS = (64, 64, 128, 128, 256, 256)
RATIOS = (0.02, 0.05)
BATCHES = (1, 8)
THREADS = 2
REPEATS = {"vgg-like 64x64": 30, "ResNet-50 224x224": 8}


def vgg_like() -> nn.Module:
    """Return six 3x3 convolutions with poolings and a classifier."""
    layers: list[nn.Module] = []
    before = 3
    for i, channels in enumerate(CHANNELS):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i % 2 else []
        before = channels
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)).eval()


def _float_file(network: nn.Module, x: torch.Tensor) -> bytes:
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "batch"}}
        torch.onnx.export(network, (x,), held, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes)
    return held.getvalue()


def files(network: nn.Module, x: NDArray[np.float32]) -> dict[str, bytes]:
    """Return the ONNX files of a network by name: float, W8A8, W8A8 with OCS."""
    graph = capture(network, torch.from_numpy(x[:1]))

    def exported(ratio: float) -> bytes:
        transforms = (SplitOutliers(ratio=ratio),) if ratio else ()
        return export_onnx(quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms)))

    found = {"float32": _float_file(network, torch.from_numpy(x[:1]))}
    return found | {f"W8A8 + OCS {ratio:g}" if ratio else "W8A8": exported(ratio) for ratio in (0.0, *RATIOS)}


def run() -> Iterator[dict[str, Any]]:
    """Yield the latencies, each against the one that it is to be compared with."""
    for name, network, side in (("vgg-like 64x64", vgg_like(), 64), ("ResNet-50 224x224", resnet50(), 224)):
        x = np.random.default_rng(0).normal(0, 1, (max(BATCHES), 3, side, side)).astype(np.float32)
        made = files(network, x)
        for batch in BATCHES:
            found = latencies_s(made, x[:batch], repeats=REPEATS[name], threads=THREADS)
            for what, value in found.items():
                against = "W8A8" if "OCS" in what else "float32"
                yield _row(f"ONNX Runtime {name} batch {batch}, {what}", value, against, found[against])


def _row(name: str, value: float, baseline_name: str, baseline: float) -> dict[str, Any]:
    return {
        "name": name,
        "value": value * 1e3,
        "unit": "ms",
        "baseline_name": f"{baseline_name}, ms",
        "baseline": baseline * 1e3,
        "ratio": value / baseline,
    }
