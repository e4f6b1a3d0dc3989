"""Standings, bands and standard errors against a second route: plain loops over pairs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.technology import ratio_band, ratio_share
from reports.charts import BEHIND, FRONT, UNDECIDED
from reports.page.decide import AHEAD, COSTS, EQUAL, FRONTS, Errors, Field, cost_verdict, shares
from workloads.metrics import METRICS

WIDTHS = [(2, 8), (3, 8), (4, 8), (4, 4), (5, 8), (8, 8), (16, 8)]


@given(st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=8), st.sampled_from(WIDTHS))
def test_bands_are_those_of_the_technology(others, one):
    expected = [max(ratio_share(a, b) for a, b in zip(other, one, strict=True)) for other in others]
    assert shares(np.array(others), one).tolist() == expected


def told_apart(first, second, cost):
    """Whether the band of the ratio, taken >= 1, leaves 1 out."""
    a, b = cost.of(first), cost.of(second)
    if not cost.banded:
        return a != b
    wider = max(zip(first.bits, second.bits, strict=True), key=lambda pair: ratio_share(*pair))
    return 1.0 not in ratio_band(max(a, b) / min(a, b), *wider)


def standing(designs, one, cost, tallies):
    """The definition, pair by pair."""
    metric = METRICS["top1"]
    better, decided = False, False
    for other in designs:
        gain = other.accuracy - one.accuracy
        if cost.of(other) > cost.of(one) or gain < 0 or (cost.of(other) == cost.of(one) and gain == 0):
            continue
        better = True
        error = metric.paired_error(tallies[other.row.accuracy_key], tallies[one.row.accuracy_key])
        decided |= told_apart(other, one, cost) or gain > 1.96 * error
    return BEHIND if decided else UNDECIDED if better else FRONT


@pytest.mark.parametrize("cost", FRONTS)
def test_standings_follow_from_their_definition(made_up, random_right, cost):
    store = made_up()
    rng = np.random.default_rng(3)
    for place in range(40):
        right = random_right(place % 12, 0.5 + 0.04 * (place % 12))
        store.design(
            right,
            {"weight_bits": int(place), "technology": "google"},
            weight_bits=int(rng.choice([2, 3, 4, 5, 8])),
            energy=float(rng.choice([1.0, 1.04, 1.1, 1.3, 2.0])) * 1e6,
            seconds=float(rng.choice([1.0, 1.01, 2.0])) * 1e-5,
        )
    (network,) = store.load().networks
    field = Field.of(network, network.designs, Errors.of(network))
    expected = [standing(network.designs, one, COSTS[cost], network.tallies) for one in network.designs]
    assert field.standings(COSTS[cost]) == expected
    assert {FRONT, BEHIND} <= set(expected)


def test_paired_errors_are_those_of_the_metric(made_up, random_right):
    store = made_up()
    for place in range(6):
        store.design(random_right(place, 0.3 + 0.1 * place), {"place": place})
    (network,) = store.load().networks
    errors = Errors.of(network)
    for one, other in itertools.product(network.tallies, repeat=2):
        exact = METRICS["top1"].paired_error(network.tallies[one], network.tallies[other])
        assert errors.paired[errors.place[one], errors.place[other]] == pytest.approx(exact, abs=1e-15)


def test_less_is_better_turns_the_front_round(made_up, random_right):
    store = made_up()
    for place, share in enumerate((0.1, 0.5, 0.95)):
        store.design(random_right(place, share), {"place": place}, energy=1e6)
    (network,) = store.load().networks
    object.__setattr__(network, "facts", dict(network.facts) | {"higher_is_better": False})
    field = Field.of(network, network.designs, Errors.of(network))
    by_accuracy = dict(zip([d.accuracy for d in field.designs], field.standings(COSTS["energy"]), strict=True))
    assert by_accuracy[min(by_accuracy)] == FRONT
    assert by_accuracy[max(by_accuracy)] == BEHIND


@pytest.mark.parametrize(
    ("ratio", "widths", "technologies", "expected"),
    [
        (1.0, (4, 4), ("google", "google"), EQUAL),
        (1.04, (4, 4), ("google", "google"), UNDECIDED),
        (1.08, (4, 4), ("google", "google"), BEHIND),
        (1.08, (4, 8), ("google", "google"), BEHIND),
        (1.08, (4, 5), ("google", "google"), UNDECIDED),
        (1.2, (4, 5), ("google", "google"), BEHIND),
        (1.9, (4, 4), ("google", "nangate45"), UNDECIDED),
        (2.1, (4, 4), ("google", "nangate45"), BEHIND),
    ],
)
def test_verdicts_of_two_designs(made_up, random_right, ratio, widths, technologies, expected):
    store = made_up()
    right = random_right(0, 0.5)
    names = [
        store.design(right, {"technology": technology}, weight_bits=bits, energy=energy, technology=technology)
        for technology, bits, energy in zip(technologies, widths, (ratio * 1e6, 1e6), strict=True)
    ]
    (network,) = store.load().networks
    first, second = ({d.row.digest: d for d in network.designs}[name] for name in names)
    assert cost_verdict(first, second, COSTS["energy"]) == expected
    turned = {AHEAD: BEHIND, BEHIND: AHEAD}.get(expected, expected)
    assert cost_verdict(second, first, COSTS["energy"]) == turned
    assert cost_verdict(first, second, COSTS["latency"]) == EQUAL


def test_best_is_the_cheapest_of_those_not_behind(made_up, random_right):
    store = made_up()
    store.design(random_right(1, 0.99), {"place": 0}, energy=3e6)
    near = store.design(random_right(1, 0.98), {"place": 1}, energy=2e6)
    store.design(random_right(2, 0.3), {"place": 2}, energy=1e6)
    (network,) = store.load().networks
    field = Field.of(network, network.designs, Errors.of(network))
    assert field.best(COSTS["energy"]).row.digest == near
