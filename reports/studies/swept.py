"""What studies over sweeps share: their command, their points, and differences of accuracies on the same samples."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.draw import Chart
from reports.plots import write_figures
from reports.studies.command import FOLDER, add_cache, regenerate
from reports.studies.common import Difference
from reports.sweep.conditions import matches
from reports.sweep.store import DONE, Row, Store
from reports.sweep.study import Study, read_study
from reports.sweep.sweep import How, run_sweep
from reports.task import TaskOptions
from workloads import METRICS


@dataclass(frozen=True, eq=False)
class Designs:
    """The points of a study, with the samples' tallies behind their accuracies."""

    rows: tuple[Row, ...]
    tallies: Mapping[str, NDArray[np.float64]]

    def matching(self, conditions: Mapping[str, Any]) -> "Designs":
        """Return the points whose factors fulfil conditions as a study's `skip` states them."""
        return Designs(tuple(row for row in self.rows if matches(conditions, row.factors)), self.tallies)

    def values(self, factor: str) -> list[Any]:
        """Return a factor's values in order of size, ``None`` first."""
        found = {row.factors.get(factor) for row in self.rows}
        return sorted(found, key=lambda v: (v is not None, isinstance(v, str), v if v is not None else 0))

    @cached_property
    def by_factors(self) -> Mapping[tuple[Any, ...], Row]:
        """Points by all their factors' values, factors in alphabetical order."""
        return {tuple(sorted((k, v) for k, v in row.factors.items() if v is not None)): row for row in self.rows}

    def find(self, factors: Mapping[str, Any]) -> Row | None:
        """Return the point of exactly these factors."""
        return self.by_factors.get(tuple(sorted((k, v) for k, v in factors.items() if v is not None)))

    def difference(self, first: Row, second: Row) -> Difference:
        """Return the first design's accuracy minus the second's, with the paired standard error."""
        metric = METRICS[first.figures["metric"]]
        mine, other = (self.tallies[row.accuracy_key or ""] for row in (first, second))
        return Difference(
            metric.value(mine) - metric.value(other), metric.paired_error(mine, other), metric.higher_is_better
        )


def swept_parser(name: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every study over sweeps; `name` is its package in `reports.studies`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m reports.studies.{name}", description=f"Regenerate the study {name}."
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of real weights and samples")
    parser.add_argument(
        "--store", type=Path, default=Path("build") / "studies.db", metavar="FILE",
        help="points are kept here; studies share what they have in common (build/studies.db)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="(one per core)")
    parser.add_argument(
        "--out", type=Path, default=FOLDER / name, metavar="DIR", help="where the files go (the study's package)"
    )
    add_cache(parser)
    return parser


def designs(args: argparse.Namespace, files: Sequence[Path], *, layers: bool = False) -> list[Designs]:
    """Read studies and return what `measured` does."""
    base = TaskOptions(network="", data=args.data, cache=args.cache)
    return measured(args, [read_study(file, base) for file in files], layers=layers)


def measured(args: argparse.Namespace, studies: Sequence[Study], *, layers: bool = False) -> list[Designs]:
    """Sweep studies into the store; return each one's points that can be built and priced, with layers where wanted.

    Raises
    ------
    ValueError
        If a point was not measured: no page is written over half a study.
    """
    args.store.parent.mkdir(parents=True, exist_ok=True)
    found = []
    for study in studies:
        summary = run_sweep(study, args.store, How(workers=args.workers))
        if summary.failures:
            raise ValueError(f"{study.name}: {len(summary.failures)} units failed: {'; '.join(summary.failures)}")
        found.append(summary.digests)
    with Store(args.store) as store:
        tallies = {key: item.tallies for key, item in store.accuracies(tallies=True).items()}
        wanted = frozenset().union(*found)
        rows = [row for row in store.rows(layers=layers) if row.status == DONE and row.digest in wanted]
    return [Designs(tuple(row for row in rows if row.digest in digests), tallies) for digests in found]


def regenerate_swept(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    collect: Callable[[argparse.Namespace], dict[str, Any]],
    render: Callable[[Mapping[str, Any]], str],
    charts: Callable[[Mapping[str, Any]], Mapping[str, Chart]],
) -> int:
    """Run a study over sweeps; write ``results.json``, ``README.md`` and the figures; return the exit status."""

    def run(args: argparse.Namespace) -> dict[str, Any]:
        found = collect(args)
        found["setting"]["command"] = f"{parser.prog} --data DIR"
        args.out.mkdir(parents=True, exist_ok=True)
        write_figures(charts(found), args.out)
        return found

    return regenerate(parser, argv, run, render)


def figure(row: Row, name: str) -> float:
    """Return a figure of a point, its total where it has parts."""
    value = row.figures[name]
    return float(value["total"] if isinstance(value, dict) else value)


def accuracy_of(row: Row) -> dict[str, Any]:
    """Return what a table says of a design's accuracy."""
    names = ("accuracy", "standard_error", "difference", "difference_standard_error", "bit_exact", "bit_exact_images")
    return {name: row.figures[name] for name in names} | {
        "overflowed_outputs": row.figures["overflowed_outputs"],
        "expansion": row.figures["weight_expansion"],
        "recipe": row.figures["recipe"],
    }


def setting_of(accurate: Designs) -> dict[str, Any]:
    """Return what all executed designs of a study have in common, per network."""
    networks = {}
    for row in accurate.rows:
        networks[row.factors["network"]] = {
            "images": row.figures["images"],
            "float": row.figures["float"],
            "float_standard_error": row.figures["float_standard_error"],
            "metric": row.figures["metric"],
        }
    executed = {row.accuracy_key for row in accurate.rows}
    return {
        "networks": dict(sorted(networks.items())),
        "points": len(accurate.rows),
        "executed": len(executed),
        "bit_exact": all(row.figures["bit_exact"] for row in accurate.rows),
        "bit_exact_images": min(row.figures["bit_exact_images"] for row in accurate.rows),
    }
