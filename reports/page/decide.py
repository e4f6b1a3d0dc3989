"""Which of two designs is ahead, and when that cannot be said.

Costs that prices go into (energy, area, energy-delay product) are undecided where their ratio lies within the band of
prices: 5 % at equal widths and at a factor of two or more between them, 15 % between neighbouring widths, a factor of
two between technologies. Cycles and bytes are counted, so every difference decides. Accuracies are undecided within
1.96 paired standard errors, taken on the same samples.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.technology.band import ABSOLUTE_FACTOR, FAR_RATIO_SHARE, FAR_WIDTH_FACTOR, NEAR_RATIO_SHARE
from reports.charts import BEHIND, FRONT, UNDECIDED, Scale, Text
from reports.page.designs import Design, Network
from reports.studies.common import DEVIATIONS
from reports.units import area, duration, energy, energy_tick, significant, storage
from workloads.metrics import METRICS

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Cost:
    """A figure of which less is better.

    Parameters
    ----------
    key, name
        In tables and in words.
    of
        Takes it from a design's figures.
    text, tick
        Formats it, and for an axis.
    banded
        Whether prices go into it.
    """

    key: str
    name: str
    of: Callable[[Design], float]
    text: Text
    tick: Text
    banded: bool

    @property
    def scale(self) -> Scale:
        """Its axis."""
        return Scale(f"{self.name} per batch" if self.key != "area" else self.name, self.tick)


def _energy_delay(pj_s: float) -> str:
    """Return an energy-delay product given in pJ s, in the usual nJ s."""
    return f"{significant(pj_s / 1e3)}\N{NO-BREAK SPACE}nJ·s"


COSTS = {
    cost.key: cost
    for cost in (
        Cost("energy", "energy", lambda d: float(d.figures["energy_pj"]["total"]), energy, energy_tick, True),
        Cost("latency", "latency", lambda d: float(d.figures["seconds"]), duration, duration, False),
        Cost("area", "area", lambda d: float(d.figures["area_um2"]["total"]), area, area, True),
        Cost(
            "edp",
            "energy-delay product",
            lambda d: float(d.figures["energy_delay_pj_s"]),
            _energy_delay,
            _energy_delay,
            True,
        ),
        Cost("weights", "weights", lambda d: float(d.figures["weight_bytes"]), storage, storage, False),
        Cost("dram", "DRAM traffic", lambda d: float(d.figures["dram_bytes"]), storage, storage, False),
    )
}

FRONTS = ("energy", "latency", "area", "edp")
"""Costs that accuracy is drawn against."""


def shares(bits: NDArray[np.int64], of: tuple[int, int]) -> Floats:
    """Return the half-width of the band between one design's widths and each of others.

    As `accelsim.technology.ratio_share`, the larger of the two operands'.
    """
    high = np.maximum(bits, of)
    low = np.minimum(bits, of)
    far = (high == low) | (high >= FAR_WIDTH_FACTOR * low)
    near: Flags = (~far).any(axis=1)
    return np.where(near, NEAR_RATIO_SHARE, FAR_RATIO_SHARE)


def decidedly_less(values: Floats, value: float, band: Floats | float) -> Flags:
    """Return which values are less than one of them by more than the band of their ratio.

    A ratio R >= 1 is told from 1 where ``R (1 - band) > 1``.
    """
    return values < value * (1 - band)


@dataclass(frozen=True, eq=False)
class Field:
    """Designs of one setting, side by side.

    Parameters
    ----------
    designs
        In order.
    bits
        int ``[designs, 2]``.
    accuracy
        The metric's figure, its sign turned where less is better.
    place
        Row of each design's accuracy in `errors`.
    errors
        Paired standard error of every two accuracies.
    """

    designs: tuple[Design, ...]
    bits: NDArray[np.int64]
    accuracy: Floats
    place: NDArray[np.int64]
    errors: Floats

    @staticmethod
    def of(network: Network, designs: Sequence[Design], errors: "Errors") -> "Field":
        """Put designs side by side; those of a network that was priced alone count as equally accurate."""
        sign = 1.0 if network.higher_is_better else -1.0
        return Field(
            tuple(designs),
            np.array([design.bits for design in designs], dtype=np.int64).reshape(-1, 2),
            np.array([sign * design.accuracy for design in designs]),
            np.array([errors.place.get(design.row.accuracy_key or "", 0) for design in designs], dtype=np.int64),
            errors.paired,
        )

    def costs(self, cost: Cost) -> Floats:
        """Return a cost of every design."""
        return np.array([cost.of(design) for design in self.designs])

    @functools.cached_property
    def _bands(self) -> tuple[NDArray[np.int64], Floats]:
        """Return every design's kind of widths, and the bands between kinds."""
        kinds, kind_of = np.unique(self.bits, axis=0, return_inverse=True)
        between = np.stack([shares(kinds, (int(weight), int(act))) for weight, act in kinds])
        return kind_of.reshape(-1), between

    def band(self, cost: Cost, one: int, others: NDArray[np.int64]) -> Floats | float:
        """Return the band between one design and each of others."""
        if not cost.banded:
            return 0.0
        kind_of, between = self._bands
        found: Floats = between[kind_of[one]][kind_of[others]]
        return found

    def standings(self, cost: Cost) -> list[str]:
        """Return every design's standing: `FRONT`, `UNDECIDED` or `BEHIND`."""
        values = self.costs(cost)
        return [self._standing(values, cost, one) for one in range(len(self.designs))]

    def _standing(self, values: Floats, cost: Cost, one: int) -> str:
        gain = self.accuracy - self.accuracy[one]
        better = (values <= values[one]) & (gain >= 0)
        others = np.flatnonzero(better & ((values < values[one]) | (gain > 0)))
        if not len(others):
            return FRONT
        decided = decidedly_less(values[others], values[one], self.band(cost, one, others))
        decided |= gain[others] > DEVIATIONS * self.errors[self.place[one]][self.place[others]]
        return BEHIND if decided.any() else UNDECIDED

    def best(self, cost: Cost) -> Design:
        """Return the cheapest design whose accuracy is not decidedly behind the best."""
        top = int(np.argmax(self.accuracy))
        gap = self.accuracy[top] - self.accuracy
        near = gap <= DEVIATIONS * self.errors[self.place[top]][self.place]
        values = np.where(near, self.costs(cost), np.inf)
        return self.designs[int(np.argmin(values))]


@dataclass(frozen=True, eq=False)
class Errors:
    """Paired standard errors between all accuracies of a network; `place` finds a key's row."""

    place: Mapping[str, int]
    paired: Floats

    @staticmethod
    def of(network: Network) -> "Errors":
        """Return the errors of every pair, each as `workloads.metrics.Metric.paired_error`."""
        if not network.executed:
            return Errors({}, np.zeros((1, 1)))
        metric = METRICS[network.metric]
        keys = list(network.tallies)
        terms = [metric.terms(network.tallies[key]) for key in keys]
        paired = np.zeros((len(keys), len(keys)))
        for kind in range(len(terms[0]) if terms else 0):
            stacked = np.stack([term[kind] for term in terms])
            samples = stacked.shape[1]
            if samples < 2:
                continue
            for one in range(len(keys)):
                paired[one] += np.var(stacked - stacked[one], axis=1, ddof=1) / samples
        return Errors({key: i for i, key in enumerate(keys)}, np.sqrt(paired))


AHEAD, EQUAL = "ahead", "equal"


def cost_verdict(first: Design, second: Design, cost: Cost) -> str:
    """Return whether the first design is `AHEAD`, `BEHIND`, `EQUAL` or `UNDECIDED` in a cost."""
    one, other = cost.of(first), cost.of(second)
    if one == other:
        return EQUAL
    low, high = min(one, other), max(one, other)
    if cost.banded and first.setting.technology != second.setting.technology:
        decided = high > ABSOLUTE_FACTOR * low
    else:
        band = float(shares(np.array([first.bits]), second.bits)[0]) if cost.banded else 0.0
        decided = low < high * (1 - band)
    if not decided:
        return UNDECIDED
    return AHEAD if one < other else BEHIND
