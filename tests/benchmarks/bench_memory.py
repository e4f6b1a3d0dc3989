"""Peak resident memory of ResNet-50 at 224x224, batch 32, two threads, in a process that does nothing but execute."""

from typing import Any

import numpy as np
import torch

from quant.capture import capture
from quant.pipeline import quantize_network
from tests.benchmarks.bench_execute import recipe
from tests.benchmarks.bench_quantize import resnet50
from tests.peak_memory import peak_bytes

IMAGES, SIDE = 32, 224
CALIBRATION = 4
THREADS = 2
MIB = 1 << 20


def run() -> list[dict[str, Any]]:
    """Measure W8A8 and W5A8 with OCS 0.02; the baseline is the process with Program and inputs, before it executes."""
    images = np.random.default_rng(0).standard_normal((IMAGES, 3, SIDE, SIDE)).astype(np.float32)
    graph = capture(resnet50(), torch.from_numpy(images[:2]), "ResNet-50")
    rows = []
    for weight_bits, ratio in ((8, 0.0), (5, 0.02)):
        network = quantize_network(graph, lambda: [images[:CALIBRATION]], recipe(weight_bits, ratio))
        before, most = (size / MIB for size in peak_bytes(network.program, network.encode(images), THREADS))
        rows.append(
            {
                "name": f"peak memory, {graph.name} batch {IMAGES}, {network.label}",
                "value": most,
                "unit": "MiB",
                "baseline_name": "before executing, MiB",
                "baseline": before,
                "ratio": most / before,
            }
        )
    return rows
