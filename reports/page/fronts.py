"""Accuracy against what it costs: the Pareto figures of a network, and the designs on its front."""

import math
from dataclasses import dataclass

from reports.charts import BEHIND, FRONT, UNDECIDED, Candidate, Pareto, Scale
from reports.page.decide import COSTS, FRONTS, Errors, Field
from reports.page.designs import Design, Network, Setting
from reports.studies.common import DEVIATIONS
from reports.summary import SHARES


@dataclass(frozen=True, eq=False)
class Fronts:
    """All designs of one setting with their standing by each cost.

    Parameters
    ----------
    setting
        Prices, timing, batch.
    field
        The designs.
    standings
        By key of the cost: one of `FRONT`, `UNDECIDED`, `BEHIND` for each design.
    charts
        By key of the cost; none where there is no accuracy.
    best
        The design of the least energy-delay product among those not decidedly behind the best accuracy.
    """

    setting: Setting
    field: Field
    standings: dict[str, list[str]]
    charts: dict[str, Pareto]
    best: Design

    def front(self, cost: str = "energy") -> list[Design]:
        """Return the designs on a front, the cheapest first."""
        found = [d for d, s in zip(self.field.designs, self.standings[cost], strict=True) if s == FRONT]
        return sorted(found, key=COSTS[cost].of)

    def leaders(self) -> list[Design]:
        """Return the designs on the front of energy; without accuracies, all by their energy."""
        if self.charts:
            return self.front()
        return sorted(self.field.designs, key=COSTS["energy"].of)

    def counts(self, cost: str) -> dict[str, int]:
        """Return how many designs have each standing."""
        return {standing: self.standings[cost].count(standing) for standing in (FRONT, UNDECIDED, BEHIND)}


def all_fronts(network: Network) -> list[Fronts]:
    """Return the fronts of every setting of a network."""
    errors = Errors.of(network)
    return [_fronts(network, setting, errors) for setting in network.settings]


def _fronts(network: Network, setting: Setting, errors: Errors) -> Fronts:
    field = Field.of(network, network.at(setting), errors)
    standings = {key: field.standings(COSTS[key]) for key in FRONTS}
    drawn = FRONTS if network.executed else ()
    charts = {key: _chart(network, setting, field, key, standings[key]) for key in drawn}
    return Fronts(setting, field, standings, charts, field.best(COSTS["edp"]))


def accuracy_scale(network: Network) -> Scale:
    """Return the axis of a network's metric."""
    most = 1.0 if network.metric in SHARES else math.inf
    return Scale(network.metric_words, lambda value: accuracy_tick(network.metric, value), most=most)


def accuracy_tick(metric: str, value: float) -> str:
    """Return a metric's figure for an axis."""
    return f"{100 * value:.4g} %" if metric in SHARES else f"{value:.4g}"


def _chart(network: Network, setting: Setting, field: Field, key: str, standings: list[str]) -> Pareto:
    cost = COSTS[key]
    candidates = tuple(
        Candidate(
            design.label, cost.of(design), design.accuracy, DEVIATIONS * design.figures["standard_error"], standing
        )
        for design, standing in zip(field.designs, standings, strict=True)
    )
    title = f"{network.name}: {network.metric_words} against {cost.name}, {setting.name}"
    return Pareto(title, cost.scale, accuracy_scale(network), candidates)
