"""Stores filled by hand, for the arithmetic of reports."""

from pathlib import Path
from typing import Any

import numpy as np

from accelsim.config import load_accelerator
from reports.page.designs import Loaded, load
from reports.sweep.identity import digest_of
from reports.sweep.store import REFUSED, Accuracy, NetworkRow, Row, Store

MACHINE = load_accelerator("edge-32x32").model_dump(mode="json")


def figures(**given: Any) -> dict[str, Any]:
    """Return the figures of a design, made up where they are not given."""
    energy = given.pop("energy", 1e6)
    plain = {
        "metric": "top1", "higher_is_better": True, "float": 0.9, "accuracy": 0.8, "standard_error": 0.02,
        "images": 100, "bit_exact": True, "bit_exact_images": 2, "overflowed_outputs": 0, "program_digest": "p",
        "recipe": "W4A8", "accelerator": "made-up", "rows": 32, "cols": 32, "dataflow": "ws", "pe": "fixed",
        "weight_expansion": 1.0, "batch": 1, "macs": 1000, "notes": [], "cycles": 1000, "array_cycles": 900,
        "busy_cycles": 600, "stall_cycles": {"fill_drain": 300, "weight_load": 0, "sram": 0, "dram": 100, "vector": 0},
        "seconds": 1e-5, "area_um2": {"pe": 1e6, "total": 1e6}, "weight_bytes": 1000, "dram_bytes": 1100,
        "utilization": 0.5, "folds": 10, "timing_mode": "overlapped", "technology": "google", "node_nm": 45.0,
        "accelerator_description": MACHINE,
    }  # fmt: skip
    plain |= {"energy_pj": {"pe": 0.75 * energy, "dram": 0.25 * energy, "total": energy}} | given
    return plain | {"energy_delay_pj_s": plain["energy_pj"]["total"] * plain["seconds"]}


def layers(weight_bits: int = 4) -> dict[str, list[Any]]:
    one: dict[str, Any] = {
        "name": "conv", "kind": "conv", "m": 64, "k": 27, "n": 32, "groups": 1, "macs": 1000,
        "weight_bits": weight_bits, "act_bits": 8, "splits": 0, "folds": 1, "array_cycles": 900, "cycles": 1000,
        "utilization": 0.5, "dram_bytes": 1100, "weight_bytes": 1000, "energy_pj": 1e6, "stall_cycles": 400,
        "overflowed_outputs": 0, "window": 9,
    }  # fmt: skip
    return {name: [value] for name, value in one.items()}


class MadeUp:
    """A store filled by hand."""

    def __init__(self, path: Path, images: int = 100) -> None:
        self.path, self.images, self.count = path, images, 0
        self.rows: list[Row] = []
        self.right: dict[str, np.ndarray] = {}

    def design(self, right: np.ndarray, factors: dict[str, Any], weight_bits: int = 4, **given: Any) -> str:
        """Add a design that is right on some samples."""
        self.count += 1
        digest = f"{self.count:032x}"
        key = digest_of(right.tolist())
        self.right[key] = right
        accuracy = float(np.mean(right))
        error = float(np.sqrt(np.var(right, ddof=1) / len(right)))
        self.rows.append(
            Row(
                digest=digest,
                network="n" * 32,
                factors={"network": "made-up"} | factors,
                accuracy_key=key,
                figures=figures(accuracy=accuracy, standard_error=error, **given),
                layers=layers(weight_bits),
            )
        )
        return digest

    def refuse(self, reason: str, factors: dict[str, Any]) -> None:
        """Add a point that was refused."""
        self.count += 1
        digest = f"{self.count:032x}"
        factors = {"network": "made-up"} | factors
        row = Row(
            digest=digest, network="n" * 32, status=REFUSED, reason=reason, factors=factors, figures={}, layers={}
        )
        self.rows.append(row)

    def load(self) -> Loaded:
        """Write the store and read it back."""
        facts = {
            "network": "made-up", "description": "none", "origin": "nowhere", "metric": "top1",
            "higher_is_better": True, "images": self.images, "calibration_images": 0, "seed": 0,
            "executed": True, "float": True, "numerics_version": 1,
        }  # fmt: skip
        with Store(self.path, create=True) as store:
            ones = np.ones(self.images)
            tallies = {key: np.stack([value.astype(float), ones], axis=1) for key, value in self.right.items()}
            store.add(
                self.rows,
                [Accuracy(key=k, network="n" * 32, figures={}, layers={}, tallies=t) for k, t in tallies.items()],
                [NetworkRow(digest="n" * 32, facts=facts, tallies=None)],
            )
        return load([self.path])
