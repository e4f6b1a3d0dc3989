"""Rung 9 of the ladder: the event-driven memory model = the recurrence that sweeps use, where nothing contends."""

from typing import Any

import numpy as np

from accelsim.config import Accelerator, build_accelerator, load_accelerator, preset_names
from accelsim.program import Program
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate
from reports.checks import Checks
from reports.task import Task
from reports.units import grouped

EXAMPLES = 60
"""Random networks, each on a random machine."""

TOO_SMALL = "fits the buffers"
"""Part of what `simulate` says of a machine that not one fold of a layer fits; another is drawn."""

Rng = np.random.Generator


def check_random(seed: int) -> Checks:
    """Compare cycles, stalls by cause, traffic and every layer's cycles on random networks and machines."""
    checks = Checks()
    refused = 0
    for number in range(EXAMPLES):
        rng = np.random.default_rng([seed, number])
        while True:
            program, machine, batch = _network(rng), _machine(rng), int(rng.integers(1, 4))
            try:
                _compare(checks, program, machine, batch, f"random network {number} of seed {seed}")
                break
            except ValueError as error:
                if TOO_SMALL not in str(error):
                    raise
                refused += 1
    checks.covered = [
        f"{EXAMPLES} random networks on as many machines",
        f"{refused} drawn again, their buffers too small",
    ]
    return checks


def check_networks(tasks: tuple[Task, ...], seed: int) -> Checks:
    """Compare the same of whole networks on every preset that takes their widths."""
    checks = Checks(covered=[task.title for task in tasks])
    for task in tasks:
        program = task.as_integers(seed).program
        for name in preset_names():
            try:
                tiles = _compare(checks, program, load_accelerator(name), 1, f"{task.workload.name} on {name}")
                checks.covered.append(f"{name}: {grouped(tiles)} cycles")
            except ValueError as error:
                checks.skip(f"{task.workload.name} on {name}: {error}")
    return checks


def _compare(checks: Checks, program: Program, machine: Accelerator, batch: int, what: str) -> int:
    fast = simulate(program, machine, batch=batch)
    slow = simulate(program, machine, batch=batch, memory="events")
    what = f"{what}, batch {batch}"
    checks.expect(fast.cycles == slow.cycles, f"{what}: recurrence {fast.cycles} cycles, events {slow.cycles}")
    for cause, cycles in fast.stall_cycles.items():
        theirs = slow.stall_cycles[cause]
        checks.expect(cycles == theirs, f"{what}: {cause} stalls {cycles} by recurrence, {theirs} by events")
    checks.expect(fast.dram_bytes == slow.dram_bytes, f"{what}: DRAM traffic differs")
    for ours, other in zip(fast.layers, slow.layers, strict=True):
        text = f"{what}: layer {ours.name} takes {ours.cycles} cycles by recurrence, {other.cycles} by events"
        checks.expect(ours.cycles == other.cycles, text)
    return int(fast.cycles)


# --- what is drawn ---------------------------------------------------------------------------------------------------


def _network(rng: Rng) -> Program:
    """Return a chain of one to four convolutions, dense, depthwise or grouped, and a linear layer."""
    layers: list[LayerShape] = []
    shape: tuple[int, ...] = (int(rng.integers(3, 15)), int(rng.integers(3, 15)), int(rng.integers(1, 21)))
    for place in range(int(rng.integers(1, 5))):
        side = int(rng.choice((1, 3)))
        channels = shape[-1]
        groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        layers.append(
            LayerShape(
                name=f"l{place}",
                input=shape,
                outputs=groups * int(rng.integers(1, max(2, 40 // groups))),
                kernel=(side, side),
                stride=(int(rng.integers(1, 3)),) * 2,
                padding=(side // 2,) * 4,
                groups=groups,
            )
        )
        shape = layers[-1].output
    layers.append(LayerShape(name="last", input=shape, outputs=int(rng.integers(1, 31))))
    bits = (int(b) for b in rng.integers(2, 17, 2))
    return shape_program("random", layers, *bits, chained=True)


def _machine(rng: Rng) -> Accelerator:
    """Return a small machine of any shape, with small buffers, halves or not, and slow or fast memory."""
    kind = str(rng.choice(("fixed", "native", "composable", "bit_serial")))
    width = 16 if kind in ("fixed", "composable") else 18
    plain: dict[str, Any] = {
        "name": "random",
        "array": {
            "rows": int(rng.integers(1, 13)),
            "cols": int(rng.integers(1, 13)),
            "dataflow": str(rng.choice(("ws", "os", "is"))),
            "double_buffered": bool(rng.integers(2)),
            "pipeline_depth": int(rng.integers(1, 4)),
        },
        "pe": {"type": kind, "weight_bits": width, "act_bits": width},
        "accumulator": {"psum_bits": 32, "bits": 40},
        "vector_lanes": int(rng.integers(1, 21)),
        "requantizer_lanes": int(rng.integers(1, 21)),
        "activation_sram": _sram(rng, 60_000),
        "weight_sram": _sram(rng, 30_000),
        "accumulator_sram": _sram(rng, 20_000),
        "dram": {
            "type": "DDR4",
            "bandwidth_gb_per_s": float(rng.choice((0.5, 2.0, 10.0, 200.0))),
            "latency_ns": int(rng.choice((0, 30, 200))),
        },
    }
    return build_accelerator(plain, "random")


def _sram(rng: Rng, most: int) -> dict[str, Any]:
    return {
        "bytes": int(rng.integers(2_000, most)),
        "word_bits": int(rng.choice((32, 128, 512))),
        "banks": int(rng.integers(1, 5)),
        "double_buffered": bool(rng.integers(2)),
    }
