"""Regenerate the study: ``python -m reports.studies.search_front``."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.progress import hide_progress, progress
from reports.search.file import Search, read_search
from reports.search.lab import Lab
from reports.search.objectives import Budget
from reports.search.space import Design
from reports.studies.command import FOLDER, regenerate
from reports.studies.search_front.page import render
from reports.studies.search_front.study import COST, front_rows, results
from reports.sweep.store import Store
from reports.task import TaskOptions

NAME = "search_front"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    parser = argparse.ArgumentParser(
        prog=f"python -m reports.studies.{NAME}", description=f"Regenerate the study {NAME}."
    )
    parser.add_argument("--search", type=Path, default=FOLDER / NAME / "search.yaml", metavar="FILE", help="the space")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="searches of each way (10)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the engine (all cores)")
    parser.add_argument(
        "--kept", type=Path, default=Path("build") / NAME, metavar="DIR", help="the store; run again to go on"
    )
    parser.add_argument("--out", type=Path, default=FOLDER / NAME, metavar="DIR", help="where the files go")
    return regenerate(parser, argv, run_study, render)


def run_study(args: argparse.Namespace) -> dict[str, Any]:
    """Return the results with their setting."""
    if args.seeds < 1:
        raise ValueError(f"--seeds must be >= 1 (got {args.seeds})")
    search = read_search(args.search, TaskOptions(network=""))
    limits = dict(search.budget.limits)
    if search.objectives[: COST + 1] != ("accuracy", search.budget.minimize) or list(limits) != ["accuracy"]:
        raise ValueError(f"search {args.search} must limit accuracy alone; it and what is minimized are named first")
    args.kept.mkdir(parents=True, exist_ok=True)
    with Store(args.kept / "store.db", create=True) as store:
        lab = Lab(search, store, args.threads)
        starts = {"budget": lab.start()}
        lab.search = replace(search, budget=Budget(minimize=search.budget.minimize))
        starts["whole"] = lab.start()
        lab.search = search
        table = {}
        designs = _by_splits(search)
        with progress("designs", len(designs), "design") as advance, hide_progress():
            for design in designs:
                table[design] = lab.judge(design)
                advance(1)
        exact = {lab.rows[design].accuracy_key: lab.rows[design].figures for design in designs if table[design]}
    table = {design: table[design] for design in search.space.designs()}
    return {
        "setting": {
            "command": f"python -m reports.studies.{NAME} --seeds {args.seeds}",
            "network": search.task.network,
            "images": search.task.images,
            "calibration_images": search.task.calib,
            "axes": {axis.name: list(axis.choices) for axis in search.space.axes},
            "objectives": list(search.objectives),
            "max_accuracy_drop": limits["accuracy"],
            "population": search.settings.population,
            "programs": len(exact),
            "bit_exact": sum(figures["bit_exact"] is True for figures in exact.values()),
            "bit_exact_images": search.bit_exact_images,
        },
        "front": front_rows(table, search.objectives, search.space.chosen),
    } | results(table, search.space.axes, search.settings, starts, args.seeds)


def _by_splits(search: Search) -> list[Design]:
    """Return all designs, those with equal splits side by side: they share what is observed of the network."""
    turn = {"ocs": 0, "weight_bits": 1, "act_bits": 1}
    places = sorted(range(len(search.space.axes)), key=lambda place: turn.get(search.space.axes[place].what, 2))
    return sorted(search.space.designs(), key=lambda design: [design[place] for place in places])


if __name__ == "__main__":
    sys.exit(main())
