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
    space: Space,
    path: Sequence[Design],
    count: int,
    price: Callable[[Design], Sequence[float] | None],
    keeps: Callable[[Design], bool] | None = None,
) -> list[Design]:
    """Return designs to begin with, each on a machine that is cheapest in one way or other.

    Without a limit on accuracy they are spread evenly along the path. With one they close in on it by bisection: once
    without splits, then with the largest ones, then with those between.

    Parameters
    ----------
    space, path
        What there is to choose, and the greedy path.
    count
        Designs wanted.
    price
        Gives the costs of the path's first design on another machine; ``None`` where it cannot be built there.
    keeps
        Tells whether a design keeps the limit on accuracy; ``None`` where there is none.
    """
    machines = [place for place, axis in enumerate(space.axes) if not axis.group]
    priced = {design: costs for design in _variants(space, path[0], machines) if (costs := price(design)) is not None}
    if not priced or not count:
        return []
    objectives = len(next(iter(priced.values())))
    best = list(dict.fromkeys(min(priced, key=lambda d, at=at: priced[d][at]) for at in range(objectives)))  # type: ignore[misc]

    def placed(along: Design, machine: Design) -> Design:
        return tuple(machine[at] if at in machines else choice for at, choice in enumerate(along))

    if keeps is not None:
        return _bisected([[placed(along, best[0]) for along in way] for way in _split_ways(space, path)], count, keeps)
    places = [round(number * (len(path) - 1) / max(1, count - 1)) for number in range(count)]
    return list(dict.fromkeys(placed(path[at], best[number % len(best)]) for number, at in enumerate(places)))


def _split_ways(space: Space, path: Sequence[Design]) -> list[list[Design]]:
    """Return the path with each amount of splits, the same for all groups: none, most, and what is between."""
    splits = [place for place, axis in enumerate(space.axes) if axis.what == "ocs"]
    levels = max((len(space.axes[place].choices) for place in splits), default=1)
    ways = []
    for level in dict.fromkeys((0, levels - 1, *range(1, levels - 1))):
        least = {place: min(level, len(space.axes[place].choices) - 1) for place in splits}
        ways.append([tuple(least.get(at, choice) for at, choice in enumerate(design)) for design in path])
    return ways


def _bisected(ways: Sequence[Sequence[Design]], count: int, keeps: Callable[[Design], bool]) -> list[Design]:
    """Return the designs judged while looking for the last of each way that keeps the limit."""
    found: list[Design] = []
    for way in ways:
        low, high = 0, len(way) - 1
        while low <= high and len(found) < count:
            middle = (low + high) // 2
            found.append(way[middle])
            low, high = (middle + 1, high) if keeps(way[middle]) else (low, middle - 1)
    return found


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
