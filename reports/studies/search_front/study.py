"""The runs behind the tables: all designs measured once, then searched for by several ways with several seeds."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.search.explore import Judged, Settings, explore
from reports.search.front import hypervolume, non_dominated
from reports.search.space import Axis, Design

SHARES = (0.1, 0.25, 0.5)
"""Of the space, after which searches are compared."""

MARGIN = 0.01
"""Of each loss's range, by which the reference point of the hypervolume is beyond the worst design."""

COST = 1
"""Place of the cost that is to be least within the budget, among the losses."""

WAYS = ("random", "nsga2", "nsga2, start, neighbours", "tpe", "tpe, start", "tpe, start, neighbours")
"""A sampler of `reports.search.explore.SAMPLERS`, with what is added to it; random goes without repetition."""

Table = Mapping[Design, Judged | None]


def results(
    table: Table, axes: Sequence[Axis], settings: Settings, starts: Mapping[str, Sequence[Design]], seeds: int
) -> dict[str, Any]:
    """Return what every way finds of the front, by share of the space: plain types, shares from 0 to 1.

    Searches are run twice: for the whole front, without limits, and within the budget, where only designs that keep it
    count.

    Parameters
    ----------
    table
        All designs, those that cannot be built as ``None``.
    axes, settings
        Of the search.
    starts
        Designs that sensitivity proposes: for the ``whole`` front, and within the ``budget``.
    seeds
        Runs of each way.
    """
    free = {design: None if judged is None else Judged(judged.losses) for design, judged in table.items()}
    return {
        "designs": len(table),
        "refused": sum(judged is None for judged in table.values()),
        "seeds": seeds,
        "whole": _compared(free, axes, settings, starts["whole"], seeds),
        "budget": _compared(table, axes, settings, starts["budget"], seeds),
    }


def _compared(
    table: Table, axes: Sequence[Axis], settings: Settings, start: Sequence[Design], seeds: int
) -> dict[str, Any]:
    truth = Truth(table)
    last = round(max(SHARES) * len(table))
    rows = []
    for way in WAYS:
        walks = [_walk(way, table, axes, replace(settings, seed=seed, trials=last), start) for seed in range(seeds)]
        for share in SHARES:
            found = [truth.measure(walk[: round(share * len(table))]) for walk in walks]
            rows.append({"way": way, "share": share, "designs": round(share * len(table))} | _spread(found))
    return {"allowed": len(truth.judged), "front": len(truth.front), "start_designs": len(start), "rows": rows}


def _walk(way: str, table: Table, axes: Sequence[Axis], settings: Settings, start: Sequence[Design]) -> list[Design]:
    """Return the designs in the order in which a way judges them."""
    if way == "random":  # without repetition, which is the best that chance can do
        designs = list(table)
        random.Random(settings.seed).shuffle(designs)
        return designs[: settings.trials]
    sampler, *besides = way.split(", ")
    settings = replace(settings, sampler=sampler, local="neighbours" in besides)
    objectives = next(len(judged.losses) for judged in table.values() if judged is not None)
    trials = explore(axes, settings, objectives, lambda d: table[d], start if "start" in besides else ())
    return [trial.design for trial in trials]


def _spread(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean of each figure over the seeds, and its standard error."""
    spread = {}
    for name in found[0]:
        values = [item[name] for item in found]
        spread[name] = fmean(values)
        spread[f"{name}_standard_error"] = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return spread


class Truth:
    """The whole front of the designs that keep the limits, and how much of it some designs make up."""

    def __init__(self, table: Table) -> None:
        """Take all designs of the space."""
        self.judged = {
            design: judged
            for design, judged in table.items()
            if judged is not None and all(value <= 0 for value in judged.violations)
        }
        if not self.judged:
            raise ValueError("no design of the space keeps the budget; widen it")
        losses = self._losses(list(self.judged))
        low, high = losses.min(axis=0), losses.max(axis=0)
        self.low, self.range = low, np.where(high > low, high - low, 1.0)
        self.reference = np.full(losses.shape[1], 1.0 + MARGIN)
        self.front = {tuple(row) for row in losses[non_dominated(losses)]}
        self.volume = self._volume(losses)
        self.least = losses[:, COST].min()

    def measure(self, designs: Sequence[Design]) -> dict[str, float]:
        """Return shares of the hypervolume and of the front, and by how much the least cost is missed, over it.

        A point of the front counts as found with any of the designs that have its losses. Nothing found misses as much
        as the dearest design does.
        """
        losses = self._losses([design for design in designs if design in self.judged])
        seen = {tuple(row) for row in losses}
        cost = losses[:, COST].min() if len(losses) else max(row.losses[COST] for row in self.judged.values())
        return {
            "hypervolume": self._volume(losses) / self.volume,
            "found": len(seen & self.front) / len(self.front),
            "least_missed": float(cost / self.least - 1),
        }

    def _losses(self, designs: Sequence[Design]) -> NDArray[np.float64]:
        width = len(next(iter(self.judged.values())).losses)
        return np.array([self.judged[design].losses for design in designs], dtype=np.float64).reshape(-1, width)

    def _volume(self, losses: NDArray[np.float64]) -> float:
        scaled = (losses - self.low) / self.range
        return hypervolume(scaled[non_dominated(scaled)], self.reference)


def front_rows(table: Table, names: Sequence[str], chosen: Callable[[Design], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the designs of the front with their losses by objective, least drop first; equal losses once."""
    designs = [design for design, judged in table.items() if judged is not None]
    losses = np.array([judged.losses for judged in table.values() if judged is not None])
    best = {
        tuple(row): design for row, design, keep in zip(losses, designs, non_dominated(losses), strict=True) if keep
    }
    return [
        {"design": chosen(design), "losses": dict(zip(names, map(float, row), strict=True))}
        for row, design in sorted(best.items())
    ]
