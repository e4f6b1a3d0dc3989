"""Accuracy and cost of filling idle rows, beside those of fixed expansions, on arrays of 64 to 256 rows."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reports.studies.common import Difference
from reports.studies.swept import Designs, accuracy_of, designs, figure, setting_of
from reports.sweep.store import Row

STUDY = Path(__file__).parent / "free_splits.yaml"
COSTS = ("array_cycles", "cycles", "energy_pj", "weight_bytes", "dram_bytes")


def collect(args: argparse.Namespace) -> dict[str, Any]:
    """Sweep the study and return its results."""
    (found,) = designs(args, [STUDY], layers=True)
    return {"setting": setting_of(found), "rows": list(rows_of(found))}


def rows_of(found: Designs) -> Iterator[dict[str, Any]]:
    """Yield every design with its gain over the unsplit one, and its cost over it; fills also against expansions."""
    for row in sorted(found.rows, key=_order):
        f = row.factors
        plain = found.find({**f, "ocs": None})
        assert plain is not None
        record = {
            "network": f["network"],
            "clip": f.get("clip"),
            "bits": f["weight_bits"],
            "rows": f["array.rows"],
            "ocs": f.get("ocs"),
        }
        record |= accuracy_of(row) | {"splits": sum(row.layers["splits"])}
        record |= {name: figure(row, name) / figure(plain, name) for name in COSTS}
        record["gain"], record["gain_error"] = _pair(found.difference(row, plain))
        if f.get("ocs") == "fill":
            for other in found.matching({k: v for k, v in f.items() if k != "ocs"}).rows:
                ratio = other.factors.get("ocs")
                if isinstance(ratio, float):
                    record[f"minus_{ratio:g}"] = list(_pair(found.difference(row, other)))
        yield record


def _order(row: Row) -> tuple[Any, ...]:
    f = row.factors
    return f["network"], f.get("clip") or "", f["weight_bits"], f["array.rows"], str(f.get("ocs") or "")


def _pair(difference: Difference) -> tuple[float, float]:
    return difference.value, difference.error
