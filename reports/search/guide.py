"""How a search begins: designs on the way from all codes wide to all codes narrow, the least harmful step first.

Each group of layers is narrowed alone, and what that adds to the noise at the network's outputs is measured on a few
samples that are not calibrated on. Noises of roundings add up where they are small, so a greedy walk needs no further
measurement: it takes the step that saves most of the cost per noise added (as in Dong et al., "HAWQ-V2", NeurIPS 2020,
section 3.1, with measured noise in place of curvature).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reports.search.space import WIDTHS, Design, Space


@dataclass(frozen=True)
class Probe:
    """A design's output noise over the power of the outputs, and its cost on one machine."""

    noise: float
    cost: float


LEAST = 1e-3
"""Noise that a step is taken to add at least, over the widest design's: what is less is chance."""


def probes_of(space: Space) -> list[Design]:
    """Return the designs to be probed: the widest, and every one with one width less."""
    widest = space.widest
    found = [widest]
    for place, axis in enumerate(space.axes):
        if axis.what in WIDTHS:
            found += [_at(widest, place, choice) for choice in reversed(range(len(axis.choices) - 1))]
    return found


def _at(design: Design, place: int, choice: int) -> Design:
    return (*design[:place], choice, *design[place + 1 :])


def greedy_path(space: Space, probed: Mapping[Design, Probe]) -> list[Design]:
    """Return the designs from the widest to the narrowest, one width narrowed by one choice at a time.

    Parameters
    ----------
    space
        What there is to choose.
    probed
        All of `probes_of`.
    """
    widest = space.widest
    path = [widest]
    while steps := _steps(space, path[-1]):
        path.append(max(steps, key=lambda step: _worth(step, path[-1], widest, probed)))
    return path


def _steps(space: Space, design: Design) -> list[Design]:
    return [
        _at(design, place, design[place] - 1)
        for place, axis in enumerate(space.axes)
        if axis.what in WIDTHS and design[place] > 0
    ]


def _worth(step: Design, at: Design, widest: Design, probed: Mapping[Design, Probe]) -> tuple[float, float]:
    """Return what a step saves per noise it adds, each as measured with this width alone; noise alone where equal."""
    place = next(place for place, (ours, theirs) in enumerate(zip(step, at, strict=True)) if ours != theirs)
    narrow, wide = (probed[_at(widest, place, choice)] for choice in (step[place], at[place]))
    noise = max(narrow.noise - wide.noise, LEAST * probed[widest].noise, 1e-30)
    return max(0.0, wide.cost - narrow.cost) / noise, -noise


def start_designs(
    space: Space, path: Sequence[Design], count: int, price: Callable[[Design], Sequence[float] | None]
) -> list[Design]:
    """Return designs to begin with: evenly along the path, each on the machines that are cheapest in one way or other.

    Parameters
    ----------
    space, path
        What there is to choose, and the greedy path.
    count
        Designs wanted.
    price
        Gives the costs of the path's first design on another machine; ``None`` where it cannot be built there.
    """
    machines = [place for place, axis in enumerate(space.axes) if not axis.group]
    first = path[0]
    priced = {design: costs for design in _variants(space, first, machines) if (costs := price(design)) is not None}
    if not priced or not count:
        return []
    objectives = len(next(iter(priced.values())))
    best = list(dict.fromkeys(min(priced, key=lambda d, at=at: priced[d][at]) for at in range(objectives)))  # type: ignore[misc]
    found = []
    for number in range(count):
        along = path[round(number * (len(path) - 1) / max(1, count - 1))]
        machine = best[number % len(best)]
        found.append(tuple(machine[at] if at in machines else choice for at, choice in enumerate(along)))
    return list(dict.fromkeys(found))


MOST_MACHINES = 64
"""Machines that are priced for the start: in a larger grid, those that differ in one factor from the first."""


def _variants(space: Space, first: Design, machines: Sequence[int]) -> list[Design]:
    found = [first]
    for place in machines:
        found += [_at(first, place, choice) for choice in range(len(space.axes[place].choices)) if choice]
    whole = [first]
    for place in machines:
        whole = [_at(design, place, choice) for design in whole for choice in range(len(space.axes[place].choices))]
        if len(whole) > MOST_MACHINES:
            return found
    return whole
