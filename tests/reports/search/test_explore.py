"""Walks through spaces whose figures are known: what they visit, how often, and that they can be taken up again."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from reports.search.explore import SAMPLERS, Judged, Settings, explore
from reports.search.front import non_dominated
from reports.search.space import Axis, Design

AXES = (
    Axis("weight_bits", "a", (2, 3, 4, 6)),
    Axis("weight_bits", "b", (2, 3, 4, 6)),
    Axis("ocs", "together", (0, 0.05, "fill")),
    Axis("array.dataflow", "", ("ws", "os")),
)
SPACE = list(product(*(range(len(axis.choices)) for axis in AXES)))
SETTINGS = Settings(trials=40, seed=3, population=8)


def judge(design: Design) -> Judged | None:
    """Losses of a made-up machine: narrow codes are cheap and lose accuracy; one combination cannot be built."""
    first, second, split, flow = design
    if (split, flow) == (2, 1):
        return None
    drop = 0.3 * 2.0**-first + 0.1 * 2.0**-second / (1 + split)
    cost = 3 * first + 5 * second + 2 * split + 4 * flow + 10
    return Judged((drop, float(cost)), (drop / 0.1 - 1,))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_walk_is_the_same_again_and_a_longer_one_begins_alike(sampler: str) -> None:
    settings = replace(SETTINGS, sampler=sampler)
    walk = explore(AXES, settings, 2, judge)
    assert explore(AXES, settings, 2, judge) == walk
    assert explore(AXES, replace(settings, trials=25), 2, judge) == walk[:25]
    assert len({trial.design for trial in walk}) == len(walk) == 40
    assert explore(AXES, replace(settings, seed=4), 2, judge) != walk


@pytest.mark.parametrize("local", [True, False])
def test_no_design_is_judged_twice_and_the_walk_ends_with_the_space(local: bool) -> None:
    asked: list[Design] = []

    def counted(design: Design) -> Judged | None:
        asked.append(design)
        return judge(design)

    trials = explore(AXES, replace(SETTINGS, sampler="nsga2", trials=10**6, local=local), 2, counted)
    assert sorted(asked) == SPACE
    assert {trial.design for trial in trials if trial.judged is None} == {d for d in SPACE if d[2:] == (2, 1)}


def test_the_start_comes_first_each_design_once() -> None:
    start = [SPACE[40], SPACE[7], SPACE[40]]
    walk = explore(AXES, SETTINGS, 2, judge, start)
    assert [trial.design for trial in walk[:2]] == [SPACE[40], SPACE[7]]


def test_a_space_where_nothing_can_be_built_is_seen_through() -> None:
    trials = explore(AXES, replace(SETTINGS, trials=30), 2, lambda design: None)
    assert len(trials) == 30
    assert all(trial.judged is None for trial in trials)


def test_the_front_is_found_sooner_than_by_chance() -> None:
    built = {design: judged.losses for design in SPACE if (judged := judge(design)) is not None}
    losses = np.array(list(built.values()))
    front = {tuple(row) for row in losses[non_dominated(losses)]}

    def found(sampler: str, local: bool, seed: int) -> int:
        settings = Settings(trials=32, seed=seed, population=8, sampler=sampler, local=local)
        walk = explore(AXES, settings, 2, lambda d: None if d not in built else Judged(built[d]))
        return len({trial.judged.losses for trial in walk if trial.judged is not None} & front)

    ours = sum(found("tpe", True, seed) for seed in range(4))
    chance = sum(found("random", False, seed) for seed in range(4))
    assert ours > 1.3 * chance


def test_limits_draw_the_walk_to_what_keeps_them() -> None:
    def kept(limited: bool) -> int:
        def told(design: Design) -> Judged | None:
            judged = judge(design)
            return judged if judged is None or limited else Judged(judged.losses)

        walks = [explore(AXES, replace(SETTINGS, seed=seed), 2, told) for seed in range(3)]
        judged = [judge(trial.design) for walk in walks for trial in walk]
        return sum(item is not None and item.violations[0] <= 0 for item in judged)

    assert kept(True) > kept(False)
