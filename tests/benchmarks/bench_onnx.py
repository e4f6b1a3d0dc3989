"""Duplicated channels on commodity hardware: exported networks in ONNX Runtime, float, W8A8 and W8A8 with OCS.

Zhao et al. (ICML 2019, section 3.4) claim that OCS runs on ordinary hardware at the cost of its added channels. The
network is a plain VGG-like one of random weights, batch 1, one thread: latency depends on shapes alone.
"""

import io
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from quant.capture import capture
from quant.exporters.onnx_export import export_onnx
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.witness_ort import latencies_s

CHANNELS = (64, 64, 128, 128, 256, 256)
SIDE = 64
RATIOS = (0.02, 0.05, 0.1)


def _network() -> nn.Module:
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
        torch.onnx.export(network, (x,), held, dynamo=False, opset_version=17)
    return held.getvalue()


def run() -> list[dict[str, Any]]:
    """Return the latencies, each against the one that it is to be compared with."""
    network = _network()
    x = np.random.default_rng(0).normal(0, 1, (4, 3, SIDE, SIDE)).astype(np.float32)
    graph = capture(network, torch.zeros(1, 3, SIDE, SIDE), "vgg-like")

    def exported(ratio: float) -> bytes:
        transforms = (SplitOutliers(ratio=ratio),) if ratio else ()
        return export_onnx(quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms)))

    files = {"float32": _float_file(network, torch.from_numpy(x[:1]))}
    files |= {f"W8A8 + OCS {ratio:g}" if ratio else "W8A8": exported(ratio) for ratio in (0.0, *RATIOS)}
    found = latencies_s(files, x[:1])
    rows = [_row("W8A8", found["W8A8"], "float32", found["float32"])]
    return rows + [_row(name, value, "W8A8", found["W8A8"]) for name, value in found.items() if "OCS" in name]


def _row(name: str, value: float, baseline_name: str, baseline: float) -> dict[str, Any]:
    return {
        "name": f"ONNX Runtime latency, {name}",
        "value": value * 1e3,
        "unit": "ms",
        "baseline_name": baseline_name,
        "baseline": baseline * 1e3,
        "ratio": value / baseline,
    }
