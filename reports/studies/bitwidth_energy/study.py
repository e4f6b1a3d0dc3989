"""Energy by component for every width, PE type, technology, array and network."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reports.studies.swept import Designs, designs
from reports.sweep.store import Row

STUDY = Path(__file__).parent / "bitwidth_energy.yaml"

PARTS = {
    "mac": ("pe", "register"),
    "sram": ("activation_sram", "weight_sram", "accumulator_sram"),
    "dram": ("dram",),
    "leakage": ("leakage",),
    "other": ("requantizer", "vector", "interconnect"),
}
"""The page's components, and those of the cost model that they add up."""


def collect(args: argparse.Namespace) -> dict[str, Any]:
    """Sweep the study and return its results."""
    (found,) = designs(args, [STUDY])
    return {"setting": {"points": len(found.rows)}, "rows": list(rows_of(found))}


def rows_of(found: Designs) -> Iterator[dict[str, Any]]:
    """Yield every design's energy by component, its cycles and its area."""
    for row in sorted(found.rows, key=_order):
        f, energy = row.factors, row.figures["energy_pj"]
        assert {part for parts in PARTS.values() for part in parts} == set(energy) - {"total"}
        yield {
            "network": f["network"],
            "technology": f["technology"],
            "pe": f["pe.type"],
            "size": f["array.rows"],
            "weight_bits": f["weight_bits"],
            "act_bits": f["act_bits"],
            "energy_pj": split(energy),
            "cycles": row.figures["cycles"],
            "pe_um2": row.figures["area_um2"]["pe"],
        }


def split(energy: Mapping[str, float]) -> dict[str, float]:
    """Return energy by the page's components."""
    return {name: float(f"{sum(energy[part] for part in parts):.7g}") for name, parts in PARTS.items()}


def _order(row: Row) -> tuple[Any, ...]:
    f = row.factors
    return f["network"], f["technology"], f["array.rows"], f["pe.type"], f["act_bits"], f["weight_bits"]
