"""The register engine against float32 matrix products of one CPU in the same run: PE-updates per multiply-accumulate.

A PE-update is one PE in one cycle, all its registers: a value is rows x cols x cycles per CPU-second, operands laid out
and results gathered included. The baseline is numpy's float32 product, multiply-accumulates per CPU-second.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from accelsim.arith import Accumulation
from accelsim.dataflow import DATAFLOWS, ArrayShape, Dataflow, Operands, make_job

SIDE = 32
GEMM_SIDE = 1024
SHAPE = (3136, 576, 64)
"""m, k, n of a 3x3 convolution of 64 to 64 channels on a map of 56 x 56 (ResNet-50's conv2_x)."""

CASES = (
    ("", 32, "saturate", False),
    (", 18-bit sums saturating", 18, "saturate", False),
    (", toggles", 32, "saturate", True),
)


def best_cpu_seconds(function: Callable[[], object], runs: int = 7) -> float:
    """Return the least CPU time of several runs after one to compile."""
    function()
    times = []
    for _ in range(runs):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def float32_macs_per_second() -> float:
    """Return multiply-accumulates of numpy's float32 matrix product per CPU-second."""
    left = np.random.default_rng(0).random((GEMM_SIDE, GEMM_SIDE), dtype=np.float32)
    return GEMM_SIDE**3 / best_cpu_seconds(lambda: left @ left)


def updates_per_second(dataflow: Dataflow, bits: int, rule: str, toggles: bool) -> float:
    """Return PE-updates of the register engine per CPU-second."""
    m, k, n = SHAPE
    rng = np.random.default_rng(0)
    operands = Operands(rng.integers(0, 128, (m, k)), rng.integers(-127, 128, (k, n)), rng.integers(-99, 99, n))
    array = ArrayShape(SIDE, SIDE)
    rules = Accumulation(
        fold_k=None if dataflow.stationary == "output" else SIDE,
        psum_bits=bits,
        psum_overflow=rule,
        acc_bits=bits if dataflow.stationary == "output" else 32,
        acc_overflow=rule,
    )
    job = make_job(dataflow, operands, array, rules, "overlapped")
    cycles = dataflow.cycles(operands.gemm, array, "overlapped", None)
    return SIDE * SIDE * cycles / best_cpu_seconds(lambda: dataflow.register(job, toggles))


def run() -> list[dict[str, Any]]:
    """Measure every dataflow, each beside a fresh baseline."""
    rows = []
    for name, dataflow in DATAFLOWS.items():
        for label, bits, rule, toggles in CASES:
            value, baseline = updates_per_second(dataflow, bits, rule, toggles) / 1e9, float32_macs_per_second() / 1e9
            rows.append(
                {
                    "name": f"register engine {name} {SIDE}x{SIDE}{label}",
                    "value": value,
                    "unit": "G PE-updates/s",
                    "baseline_name": "float32 GEMM GMAC/s",
                    "baseline": baseline,
                    "ratio": value / baseline,
                }
            )
    return rows
