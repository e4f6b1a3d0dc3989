"""All remedies on one array: their accuracies on the same images and their costs, mixed precision included."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.studies.common import Difference
from reports.studies.outliers.mixed import mixed_recipe
from reports.studies.swept import Designs, accuracy_of, figure, measured, setting_of
from reports.sweep.store import Row
from reports.sweep.study import Point, Study, read_study
from reports.task import TaskOptions, load_task

STUDY = Path(__file__).parent / "outliers.yaml"
WIDTHS = (3, 4, 5, 6)
COSTS = ("cycles", "energy_pj", "weight_bytes", "dram_bytes", "area_um2")


def collect(args: argparse.Namespace) -> dict[str, Any]:
    """Sweep the study, mixed precision added, and return its results."""
    study = read_study(STUDY, TaskOptions(network="", data=args.data, cache=args.cache))
    (found,) = measured(args, [with_mixed(study)])
    return {"setting": setting_of(found), "rows": list(rows_of(found))}


def with_mixed(study: Study) -> Study:
    """Return a study with a mixed-precision recipe per network and width added."""
    first: dict[TaskOptions, Point] = {}
    for point in study.points:
        first.setdefault(point.task, point)
    added = []
    for task, point in first.items():
        graph = load_task(task).graph
        machine = {name: value for name, value in point.factors.items() if name not in ("weight_bits", "first_last")}
        for bits in WIDTHS:
            factors = {**machine, "weight_bits": bits, "mixed": True}
            added.append(replace(point, options=mixed_recipe(graph, bits), factors=factors))
    return replace(study, points=(*study.points, *added))


METHODS = ("clip", "ocs", "equalize", "per_channel", "splitquant", "mixed")


def method_of(row: Row) -> str:
    """Return what a design does against outliers, in words."""
    f = row.factors
    parts = ["mixed precision"] if f.get("mixed") else []
    parts += [f["equalize"]] if f.get("equalize") else []
    parts += ["per channel"] if f.get("per_channel") else []
    parts += ["SplitQuant"] if f.get("splitquant") else []
    parts += [f"OCS {f['ocs']:g}"] if f.get("ocs") else []
    parts += [f"clip {f['clip']}"] if f.get("clip") else []
    return " + ".join(parts) or "nothing"


def rows_of(found: Designs) -> Iterator[dict[str, Any]]:
    """Yield every design with its gain over plain rounding at its width, and its costs over that and over 8 bits."""
    for row in sorted(found.rows, key=_order):
        f = row.factors
        base = {k: v for k, v in f.items() if k not in METHODS}
        plain, wide = found.find(base), found.find({**base, "weight_bits": 8})
        assert plain is not None
        assert wide is not None
        gain, loss = found.difference(row, plain), found.difference(row, wide)
        yield (
            {"network": f["network"], "bits": f["weight_bits"], "method": method_of(row)}
            | accuracy_of(row)
            | {"gain": _pair(gain), "minus_8bit": _pair(loss)}
            | {f"{name}_over_plain": figure(row, name) / figure(plain, name) for name in COSTS}
            | {f"{name}_over_8bit": figure(row, name) / figure(wide, name) for name in COSTS}
        )


def _order(row: Row) -> tuple[str, str, int]:
    return row.factors["network"], method_of(row), row.factors["weight_bits"]


def _pair(difference: Difference) -> list[float]:
    return [difference.value, difference.error]
