"""Pricing ResNet-50 at 224² from shapes: one evaluation, and a loop over machines and widths as a sweep runs it.

Seconds are of one core at work: everything here runs on a single thread.
"""

import itertools
import time
from typing import Any

from accelsim import load_accelerator, simulate
from accelsim.config import Accelerator
from accelsim.program import Program
from tests.networks import resnet50

REPEATS = 40
WIDTHS = tuple(itertools.product((2, 4, 8), (4, 8)))


def run() -> list[dict[str, Any]]:
    """Return milliseconds per evaluation on two arrays, and design points per second at 32×32."""
    rows = []
    for name in ("edge-32x32", "gemmini-16x16"):
        accelerator, program = load_accelerator(name), resnet50()
        simulate(program, accelerator)
        best = min(_seconds(program, accelerator) for _ in range(REPEATS))
        slow = _events_seconds(program, accelerator)
        rows.append(_row(f"cost of ResNet-50, {name}", 1e3 * best, "ms", "event-driven model, ms", 1e3 * slow))
    points = _design_points()
    program = resnet50()
    simulate(program, points[0])
    start = time.process_time()
    for point in points[:10]:
        simulate(resnet50(), point)
    anew = 10 / (time.process_time() - start)
    rates = [_rate(points) for _ in range(3)]
    rows.append(_row("design points, ResNet-50 32x32", max(rates), "points/s", "Program made anew, points/s", anew))
    return rows


def _seconds(program: Program, accelerator: Accelerator) -> float:
    start = time.process_time()
    simulate(program, accelerator)
    return time.process_time() - start


def _events_seconds(program: Program, accelerator: Accelerator) -> float:
    start = time.process_time()
    simulate(program, accelerator, memory="events")
    return time.process_time() - start


def _design_points() -> list[Accelerator]:
    """Return machines around the 32×32 one: buffers, bandwidth, dataflow, storage."""
    base = load_accelerator("edge-32x32").model_dump()
    points = []
    for scale, bandwidth, dataflow in itertools.product((1, 2, 4, 8), (4.0, 8.5, 17.0), ("ws", "os", "is")):
        changed = base | {
            "array": base["array"] | {"dataflow": dataflow},
            "activation_sram": base["activation_sram"] | {"bytes": scale * 131072},
            "dram": base["dram"] | {"bandwidth_gb_per_s": bandwidth},
        }
        points.append(Accelerator(**changed))
    return points


def _rate(points: list[Accelerator]) -> float:
    """Return design points per second: every machine at every pair of widths, Programs made once per pair."""
    programs = [resnet50(weight, act) for weight, act in WIDTHS]
    for program in programs:
        simulate(program, points[0])
    start = time.process_time()
    for program, point in itertools.product(programs, points):
        simulate(program, point)
    return len(programs) * len(points) / (time.process_time() - start)


def _row(name: str, value: float, unit: str, baseline_name: str, baseline: float) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "baseline_name": baseline_name,
        "baseline": baseline,
        "ratio": value / baseline,
    }
