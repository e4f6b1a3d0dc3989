"""Accuracy against the width of sums, per dataflow, rule and recipe."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reports.studies.common import DEVIATIONS
from reports.studies.swept import Designs, accuracy_of, designs, setting_of
from reports.sweep.store import Row

STUDY = Path(__file__).parent / "accumulators.yaml"
SAFE_BITS = 24
"""Width that the others are compared with; nothing overflows there."""


def collect(args: argparse.Namespace) -> dict[str, Any]:
    """Sweep the study and return its results."""
    (found,) = designs(args, [STUDY])
    rows = list(rows_of(found))
    return {"setting": setting_of(found), "rows": rows, "narrowest": list(narrowest(rows))}


def machine_of(factors: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells the study's machines apart: dataflow, rows, rule, and whether only the hops are narrow."""
    psum, acc = factors["accumulator.psum_bits"], factors["accumulator.bits"]
    return {
        "dataflow": factors["array.dataflow"],
        "rows": factors["array.rows"],
        "rule": factors["accumulator.overflow"],
        "narrow": "both" if psum == acc else "hops",
        "bits": psum,
    }


def rows_of(found: Designs) -> Iterator[dict[str, Any]]:
    """Yield every design with its difference to the same recipe under wide sums."""
    wide: dict[Any, Row] = {}
    for row in found.rows:
        if row.factors["accumulator.psum_bits"] == SAFE_BITS:
            wide.setdefault((row.factors["network"], _recipe(row)), row)
    for row in sorted(found.rows, key=_order):
        safe = wide[row.factors["network"], _recipe(row)]
        against = found.difference(row, safe)
        yield (
            {"network": row.factors["network"], "recipe": row.figures["recipe"]}
            | machine_of(row.factors)
            | accuracy_of(row)
            | {
                "minus_wide": against.value,
                "minus_wide_error": against.error,
                "excluded": bool(row.figures["overflow_excluded"]),
            }
        )


def _recipe(row: Row) -> tuple[Any, ...]:
    return row.factors["weight_bits"], row.factors.get("ocs")


def _order(row: Row) -> tuple[Any, ...]:
    machine = machine_of(row.factors)
    return (
        row.factors["network"],
        *(machine[name] for name in ("dataflow", "rows", "narrow", "rule")),
        row.figures["recipe"],
        machine["bits"],
    )


def narrowest(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield, per machine and recipe, the narrowest sums that cost nothing decided, and those that no sum leaves."""
    names = ("network", "dataflow", "rows", "narrow", "rule", "recipe")
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        mine = sorted((row for row in rows if tuple(row[n] for n in names) == key), key=lambda row: -row["bits"])
        kept = None
        clean = None
        for row in mine:
            if -row["minus_wide"] > DEVIATIONS * row["minus_wide_error"]:
                break
            kept = row["bits"]
        for row in mine:
            if row["overflowed_outputs"]:
                break
            clean = row["bits"]
        yield dict(zip(names, key, strict=True)) | {"kept": kept, "clean": clean, "measured": mine[-1]["bits"]}
