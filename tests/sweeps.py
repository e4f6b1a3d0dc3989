"""What tests of sweeps share: a study of a few points, everything a store holds, commands in their own processes."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.sweep.store import Row, Store
from reports.sweep.study import Study, build_study
from reports.task import TaskOptions

BASE = TaskOptions(network="")

SMALL: dict[str, Any] = {
    "name": "small",
    "networks": [{"name": "digits", "images": 24, "calib": 32}],
    "recipes": [{"weight_bits": [3, 8], "ocs": [None, "fill"]}],
    "accelerators": [
        {
            "base": "edge-32x32",
            "array.rows": 20,
            "array.dataflow": ["ws", "os"],
            "accumulator.bits, accumulator.psum_bits": [[32, 32], [16, 15]],
        }
    ],
    "technologies": ["google"],
    "bit_exact_images": 0,
}
"""Sixteen points of four units; 20 rows leave room to fill; narrow registers overflow."""


def study_of(plain: Mapping[str, Any] = SMALL, **changes: Any) -> Study:
    """Return a study: the small one, or another, with some fields changed."""
    return build_study(dict(plain) | changes, BASE)


def contents(path: Path) -> dict[str, list[Any]]:
    """Return everything that a store holds, in plain values that are equal where every bit is."""
    with Store(path) as store:
        points = [
            (
                r.digest,
                r.network,
                r.status,
                r.reason,
                r.accuracy_key,
                _text(r.factors),
                _text(r.figures),
                _text(r.layers),
            )
            for r in store.rows(layers=True)
        ]
        accuracies = [
            (key, a.network, _text(a.figures), _text(a.layers), a.tallies.tobytes())
            for key, a in sorted(store.accuracies(tallies=True).items())
        ]
        networks = [
            (key, _text(n.facts), None if n.tallies is None else n.tallies.tobytes())
            for key, n in sorted(store.networks().items())
        ]
    return {"points": points, "accuracies": accuracies, "networks": networks}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)  # of a float, the shortest text that reads back as the same


def rows_of(path: Path) -> list[Row]:
    """Return a store's points with their layers."""
    with Store(path) as store:
        return list(store.rows(layers=True))


def accelsim(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "reports.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **more)
