"""Rank correlations and changes of order against scipy and plain loops."""

import itertools

import numpy as np
import pytest
from scipy import stats

from accelsim.technology import ratio_share
from reports.page.decide import COSTS
from reports.page.stability import common, compare, ranks, stabilities


@pytest.fixture
def network(made_up, random_right):
    store = made_up()
    rng = np.random.default_rng(7)
    for place in range(25):
        bits = int(rng.choice([3, 4, 8]))
        energy = float(rng.choice([1.0, 1.02, 1.1, 1.2, 1.5]))
        for technology, timing in itertools.product(("google", "nangate45"), ("isolated", "overlapped")):
            noise = float(rng.choice([0.8, 0.9, 1.0, 1.0, 1.3]))
            factors = {"place": place, "technology": technology, "timing": timing}
            given = {"energy": 1e6 * energy * noise, "technology": technology, "timing_mode": timing}
            seconds = 1e-5 * float(rng.choice([1.0, 1.5, 2.0]))
            store.design(random_right(0, 0.5), factors, weight_bits=bits, seconds=seconds, **given)
    return store.load().networks[0]


def decided(a, b, x, y, cost):
    band = max(ratio_share(p, q) for p, q in zip(a.bits, b.bits, strict=True)) if cost.banded else 0.0
    return max(x, y) / min(x, y) * (1 - band) > 1


@pytest.mark.parametrize("key", ["energy", "latency", "edp"])
def test_pairs_are_counted_as_by_hand(network, key):
    cost = COSTS[key]
    first, second = sorted(network.settings)[:2]
    pairs = common(network, first, second)
    found = compare(cost, first, second, pairs)
    counts = {"same": 0, "decided": 0, "undecided": 0}
    for (a, a2), (b, b2) in itertools.combinations(pairs, 2):
        x, y, u, v = cost.of(a), cost.of(b), cost.of(a2), cost.of(b2)
        if (x - y) * (u - v) > 0:
            counts["same"] += 1
        elif (x - y) * (u - v) < 0:
            both = decided(a, b, x, y, cost) and decided(a, b, u, v, cost)
            counts["decided" if both else "undecided"] += 1
    assert (found.same, found.reversed_decided, found.reversed_undecided) == tuple(counts.values())
    assert min(counts["decided"], counts["same"]) > 0
    one, two = ([cost.of(pair[side]) for pair in pairs] for side in (0, 1))
    assert found.tau == pytest.approx(stats.kendalltau(one, two).statistic)
    assert found.rho == pytest.approx(stats.spearmanr(one, two).statistic)


def test_reversals_are_what_they_say(network):
    for one in stabilities(network):
        assert one.designs == 25
        assert len(one.reversals) <= one.reversed_decided + one.reversed_undecided
        states = [turned.decided for turned in one.reversals]
        assert states == sorted(states, reverse=True)
        for turned in one.reversals:
            assert min(turned.ratios) > 1
            assert one.cost.of(turned.ahead) < one.cost.of(turned.behind)


def test_only_settings_that_differ_in_one_respect_are_compared(network):
    found = stabilities(network)
    pairs = {
        (one.first.technology, one.first.timing_mode, one.second.technology, one.second.timing_mode) for one in found
    }
    assert len(pairs) == 4
    assert all((a == c) != (b == d) for a, b, c, d in pairs)
    assert not any(one.cost.key == "latency" and one.first.timing_mode == one.second.timing_mode for one in found)


def test_ranks_of_ties_are_their_mean():
    values = np.random.default_rng(1).integers(0, 6, 40).astype(float)
    assert ranks(values).tolist() == stats.rankdata(values).tolist()
