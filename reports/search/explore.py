"""The walk through a space: Optuna proposes, what is measured is told to it.

The walk is a function of the space, the settings and the figures: run again it proposes the same designs in the same
order, and as all of them are in the store by then, it goes on where it was stopped. (Optuna's own storages keep trials,
but not the state of a sampler's random numbers, so that a walk resumed from one takes another way.) A walk of more
trials begins as the one of fewer.
"""

import importlib.util
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.search.front import non_dominated
from reports.search.space import Axis, Design

if TYPE_CHECKING:
    import optuna

Losses = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How designs are found.

    Parameters
    ----------
    trials
        Different designs to judge.
    seed
        Of all random choices.
    sampler
        A key of `SAMPLERS`.
    population
        Designs in a generation of ``nsga2``; those that ``tpe`` learns from before it proposes.
    local
        Once a population is judged, let every second proposal, and every one in place of what was judged already, be a
        neighbour of the front (one choice apart); without it, what was judged already is replaced by any design.
    """

    trials: int = 100
    seed: int = 0
    sampler: str = "tpe"
    population: int = 16
    local: bool = True


@dataclass(frozen=True)
class Judged:
    """A design's losses, less is better, and by how much it passes each limit (at most 0 where it keeps it)."""

    losses: Losses
    violations: Losses = ()


@dataclass(frozen=True)
class Trial:
    """A design in the order of the walk; ``judged`` is ``None`` where it cannot be built."""

    design: Design
    judged: Judged | None


def _nsga2(settings: Settings) -> "optuna.samplers.BaseSampler":
    """Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Trans. Evol. Comp. 6(2)."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=settings.population, seed=settings.seed)


def _tpe(settings: Settings) -> "optuna.samplers.BaseSampler":
    """Ozaki et al., "Multiobjective tree-structured Parzen estimator", JAIR 73, 2022."""
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=settings.population, multivariate=True, seed=settings.seed)


def _random(settings: Settings) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=settings.seed)


SAMPLERS: dict[str, Callable[[Settings], "optuna.samplers.BaseSampler"]] = {
    "nsga2": _nsga2,
    "tpe": _tpe,
    "random": _random,
}
"""Every sampler by name."""


def require_optuna() -> None:
    """Refuse where Optuna is not installed.

    Raises
    ------
    ValueError
        With the remedy.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ValueError("a search needs Optuna, which is not installed; pip install 'accelsim[dse]'")


def explore(
    axes: Sequence[Axis],
    settings: Settings,
    objectives: int,
    judge: Callable[[Design], Judged | None],
    start: Sequence[Design] = (),
) -> tuple[Trial, ...]:
    """Walk until so many different designs are judged, or all there are.

    Parameters
    ----------
    axes
        What is chosen.
    settings
        How.
    objectives
        Number of losses.
    judge
        Gives a design's losses; ``None`` where it cannot be built.
    start
        Designs to judge first.

    Raises
    ------
    ValueError
        Where Optuna is not installed.
    """
    require_optuna()
    import optuna

    walk = _Walk(axes, settings)
    with _quiet():
        sampler = SAMPLERS[settings.sampler](settings)
        study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
        for design in dict.fromkeys(start):
            study.enqueue_trial(walk.named(design))
        while len(walk.seen) < min(settings.trials, walk.size):
            walk.step(study, judge)
    return tuple(Trial(design, judged) for design, judged in walk.seen.items())


@dataclass
class _Walk:
    """Designs judged so far, in order; lives inside one walk."""

    axes: Sequence[Axis]
    settings: Settings
    seen: dict[Design, Judged | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.settings.seed)
        self.size = int(np.prod([len(axis.choices) for axis in self.axes], dtype=object))

    def named(self, design: Design) -> dict[str, int]:
        return {axis.name: at for axis, at in zip(self.axes, design, strict=True)}

    def suggested(self, trial: "optuna.Trial") -> Design:
        """Return what Optuna proposes: places in the choices, of numbers as numbers."""
        return tuple(
            trial.suggest_int(axis.name, 0, len(axis.choices) - 1)
            if axis.ordered
            else trial.suggest_categorical(axis.name, tuple(range(len(axis.choices))))
            for axis in self.axes
        )

    def step(self, study: "optuna.Study", judge: Callable[[Design], Judged | None]) -> None:
        """Judge what Optuna or the front proposes; where that is known, see to it that the next proposal is not."""
        from optuna.trial import TrialState

        count = len(self.seen)
        if self.settings.local and count >= self.settings.population and count % 2:
            study.enqueue_trial(self.named(self.fresh()))
        trial = study.ask()
        design = self.suggested(trial)
        if design in self.seen:
            study.enqueue_trial(self.named(self.fresh()))
        else:
            self.seen[design] = judge(design)
        judged = self.seen[design]
        if judged is None:
            study.tell(trial, state=TrialState.FAIL)
            return
        for place, violation in enumerate(judged.violations):
            trial.set_constraint(str(place), violation)
        study.tell(trial, judged.losses)

    def fresh(self) -> Design:
        """Return a design that was not judged: a neighbour of the front, or any."""
        near = self._neighbours() if self.settings.local else []
        if near:
            return self.random.choice(near)
        while True:
            design = tuple(self.random.randrange(len(axis.choices)) for axis in self.axes)
            if design not in self.seen:
                return design

    def _neighbours(self) -> list[Design]:
        """Return what is one choice from a design of the front and was not judged; numbers move one place."""
        built = {design: judged for design, judged in self.seen.items() if judged is not None}
        allowed = [d for d, judged in built.items() if all(value <= 0 for value in judged.violations)] or list(built)
        if not allowed:
            return []
        front = non_dominated(np.array([built[design].losses for design in allowed]))
        found: dict[Design, None] = {}
        for design in (design for design, best in zip(allowed, front, strict=True) if best):
            for place, axis in enumerate(self.axes):
                steps = (design[place] - 1, design[place] + 1) if axis.ordered else range(len(axis.choices))
                for at in steps:
                    near = (*design[:place], at, *design[place + 1 :])
                    if 0 <= at < len(axis.choices) and near not in self.seen:
                        found[near] = None
        return list(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from writing a line for every trial."""
    import optuna

    before: Any = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
