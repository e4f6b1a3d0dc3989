"""Does the order of designs survive other prices and another timing?

Rank correlations (Kendall's tau-b, Spearman's rho) between two settings, and the pairs of designs that change order. A
pair is decided in a setting where its ratio lies beyond the band; only a pair that is decided both ways has changed
order for certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.page.decide import COSTS, Cost, Floats, shares
from reports.page.designs import Design, Network, Setting

MEASURES = ("energy", "latency", "edp")

LISTED = 12
"""Reversals that are shown one by one."""


@dataclass(frozen=True, eq=False)
class Reversal:
    """A pair of designs that changes order: `ahead` is cheaper in the first setting, `behind` in the second.

    `ratios` are behind over ahead in the first setting, and ahead over behind in the second; both are > 1.
    """

    ahead: Design
    behind: Design
    ratios: tuple[float, float]
    decided: bool


@dataclass(frozen=True, eq=False)
class Stability:
    """How the order of designs by one cost agrees between two settings.

    Parameters
    ----------
    cost
        What is ranked.
    first, second
        The settings.
    designs, pairs
        In both, and pairs of them that are tied in neither.
    tau, rho
        Kendall's tau-b and Spearman's rho; ``nan`` where all designs are tied.
    same
        Pairs in the same order.
    reversed_decided, reversed_undecided
        Pairs in the other order, beyond the band in both settings or not.
    reversals
        The widest of the decided, then of the undecided ones.
    """

    cost: Cost
    first: Setting
    second: Setting
    designs: int
    pairs: int
    tau: float
    rho: float
    same: int
    reversed_decided: int
    reversed_undecided: int
    reversals: tuple[Reversal, ...]


def stabilities(network: Network) -> list[Stability]:
    """Compare all settings that differ in one respect, by every measure."""
    settings = sorted(network.settings)
    found = []
    for i, first in enumerate(settings):
        for second in settings[i + 1 :]:
            differing = [
                (first.technology, first.node_nm) != (second.technology, second.node_nm),
                first.timing_mode != second.timing_mode,
                first.batch != second.batch,
            ]
            if sum(differing) != 1 or differing[2]:
                continue
            pairs = common(network, first, second)
            if len(pairs) < 2:
                continue
            found += [compare(COSTS[key], first, second, pairs) for key in MEASURES]
    return [one for one in found if not (one.cost.key == "latency" and one.first.timing_mode == one.second.timing_mode)]


def common(network: Network, first: Setting, second: Setting) -> list[tuple[Design, Design]]:
    """Return the designs that were measured in both settings."""
    others = {design.identity: design for design in network.at(second)}
    return [(design, others[design.identity]) for design in network.at(first) if design.identity in others]


def compare(cost: Cost, first: Setting, second: Setting, pairs: Sequence[tuple[Design, Design]]) -> Stability:
    """Return how the order of some designs agrees."""
    one = np.array([cost.of(design) for design, _ in pairs])
    two = np.array([cost.of(design) for _, design in pairs])
    bits = np.array([design.bits for design, _ in pairs], dtype=np.int64)
    same = decided = undecided = ties_one = ties_two = 0
    widest: list[tuple[bool, float, int, int]] = []
    for i in range(len(pairs) - 1):
        a, b = one[i + 1 :], two[i + 1 :]
        order = np.sign(a - one[i]) * np.sign(b - two[i])
        ties_one += int((a == one[i]).sum())
        ties_two += int((b == two[i]).sum())
        same += int((order > 0).sum())
        turned = np.flatnonzero(order < 0)
        if not len(turned):
            continue
        margins = np.minimum(_apart(a[turned], one[i]), _apart(b[turned], two[i]))
        band = shares(bits[i + 1 :][turned], pairs[i][0].bits) if cost.banded else np.zeros(len(turned))
        beyond = margins * (1 - band) > 1
        decided += int(beyond.sum())
        undecided += int((~beyond).sum())
        most = np.lexsort((-margins, ~beyond))[:LISTED]
        widest += [(bool(beyond[j]), float(margins[j]), i, int(turned[j]) + i + 1) for j in most]
        widest = sorted(widest, key=lambda item: (not item[0], -item[1]))[:LISTED]
    count = len(pairs) * (len(pairs) - 1) // 2
    room = np.sqrt(float(count - ties_one) * float(count - ties_two))
    return Stability(
        cost=cost,
        first=first,
        second=second,
        designs=len(pairs),
        pairs=same + decided + undecided,
        tau=(same - decided - undecided) / room if room else float("nan"),
        rho=_correlation(ranks(one), ranks(two)),
        same=same,
        reversed_decided=decided,
        reversed_undecided=undecided,
        reversals=tuple(_reversal(pairs, one, two, item) for item in widest),
    )


def _apart(values: Floats, value: float) -> Floats:
    ratios: Floats = np.maximum(values, value) / np.minimum(values, value)
    return ratios


def _reversal(
    pairs: Sequence[tuple[Design, Design]], one: Floats, two: Floats, item: tuple[bool, float, int, int]
) -> Reversal:
    decided, _, i, j = item
    if one[i] > one[j]:
        i, j = j, i
    return Reversal(pairs[i][0], pairs[j][0], (float(one[j] / one[i]), float(two[i] / two[j])), decided)


def ranks(values: Floats) -> Floats:
    """Return ranks from 1; those that are tied share their mean.

    >>> ranks(np.array([30.0, 10.0, 30.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Floats = (2 * last - counts + 1) / 2
    return mean[place]


def _correlation(one: Floats, two: Floats) -> float:
    a, b = one - one.mean(), two - two.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")
