"""Figures as plain values, before anyone draws them: `reports.draw` makes SVG of them, `reports.plots` PNG.

`Lines`, `Bars` and `Heatmap` are what is drawn; `Pareto` and `Staircase` say what they mean and turn into `Lines`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reports.figures import Bar

Text = Callable[[float], str]

STYLES = ("dots", "rings", "crosses", "faint", "line", "dashed", "steps", "thick")
"""How a series is drawn: marks filled, open, as crosses or small and unnamed; or joined, in steps, or strong."""

SPAN_FOR_LOG = 8.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""

NUMBERED = 12
"""Designs of a front that are numbered and listed below it."""


def plain_number(value: float) -> str:
    """Return a number for an axis."""
    return f"{value:.6g}"


@dataclass(frozen=True)
class Scale:
    """An axis.

    Parameters
    ----------
    name
        With its unit, where `text` does not say it.
    text
        Formats a value.
    log
        Logarithmic; all values are > 0.
    ticks
        Places and words of an axis of names; empty for one of numbers.
    most
        The axis ends there at the latest.
    """

    name: str
    text: Text = plain_number
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    most: float = math.inf


@dataclass(frozen=True)
class Mark:
    """A point of a series: where, what a tool tip says, what stands beside it, half its interval."""

    x: float
    y: float
    title: str = ""
    label: str = ""
    reach: float = 0.0


@dataclass(frozen=True)
class Series:
    """Marks or a line, of one colour.

    Parameters
    ----------
    name
        In the legend; none where empty.
    style
        One of `STYLES`.
    marks
        Points, in order.
    color
        1..8.
    """

    name: str
    style: str
    marks: tuple[Mark, ...]
    color: int = 1

    def __post_init__(self) -> None:
        """Refuse unknown styles."""
        if self.style not in STYLES:
            raise ValueError(f"series {self.name!r}: style must be one of {', '.join(STYLES)} (got {self.style!r})")


@dataclass(frozen=True)
class Lines:
    """Series over two axes; `key` is lines of text below."""

    title: str
    x: Scale
    y: Scale
    series: tuple[Series, ...]
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bars:
    """Stacked horizontal bars; `name` gives words for the key of a part."""

    title: str
    bars: tuple[Bar, ...]
    text: Text
    name: Callable[[str], str]


@dataclass(frozen=True)
class Heatmap:
    """Numbers in rows and columns, darker where larger.

    Parameters
    ----------
    title
        Of the figure.
    rows, columns
        Their names.
    values
        ``values[row][column]``; ``None`` where there is none.
    text
        Formats a value.
    most
        Value of the darkest cell.
    log
        Darkness follows the logarithm of one more than the value.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    text: Text
    most: float
    log: bool = False

    def shade(self, value: float) -> float:
        """Return how dark a cell is, 0..1."""
        if not self.most > 0:
            return 0.0
        if self.log:
            return math.log1p(max(value, 0.0)) / math.log1p(self.most)
        return min(max(value / self.most, 0.0), 1.0)


FRONT, UNDECIDED, BEHIND = "front", "undecided", "behind"
"""Nobody is better in both; only designs that it cannot be told from are; some design is decidedly better."""


@dataclass(frozen=True)
class Candidate:
    """A design of a Pareto figure: name, cost, value with half its interval, and one of the three standings."""

    label: str
    cost: float
    value: float
    reach: float
    standing: str


@dataclass(frozen=True)
class Pareto:
    """Value against cost, less cost being better."""

    title: str
    cost: Scale
    value: Scale
    candidates: tuple[Candidate, ...]

    def lines(self) -> Lines:
        """Return what is drawn: designs by standing, the front joined in steps and numbered."""
        by = {
            standing: sorted((c for c in self.candidates if c.standing == standing), key=lambda c: (c.cost, c.value))
            for standing in (FRONT, UNDECIDED, BEHIND)
        }
        front = _told_apart(by[FRONT])
        named = _spread(front, NUMBERED)
        number = {place: str(i + 1) for i, place in enumerate(named)}
        marks = tuple(
            Mark(c.cost, c.value, self._title(c), number.get(place, ""), c.reach) for place, c in enumerate(front)
        )
        series = (
            Series("decidedly behind", "faint", tuple(Mark(c.cost, c.value) for c in by[BEHIND]), 8),
            Series(
                "not told from the front",
                "rings",
                tuple(Mark(c.cost, c.value, self._title(c)) for c in by[UNDECIDED]),
                2,
            ),
            Series("", "steps", tuple(Mark(m.x, m.y) for m in marks), 1),
            Series("front", "dots", marks, 1),
        )
        log = by_factor([c.cost for c in self.candidates])
        key = tuple(f"{number[place]}  {self._title(front[place])}" for place in named)
        return Lines(
            self.title, replace(self.cost, log=log), self.value, tuple(one for one in series if one.marks), key
        )

    def _title(self, one: Candidate) -> str:
        return f"{one.label}: {self.value.text(one.value)}, {self.cost.text(one.cost)}"


def by_factor(values: Sequence[float]) -> bool:
    """Return whether values are better compared on a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > SPAN_FOR_LOG


def _told_apart(front: Sequence[Candidate]) -> list[Candidate]:
    """Put designs of equal cost and value into one mark."""
    found: dict[tuple[float, float], Candidate] = {}
    more: dict[tuple[float, float], int] = {}
    for one in front:
        place = (one.cost, one.value)
        more[place] = more.get(place, -1) + 1
        found.setdefault(place, one)
    return [
        replace(one, label=f"{one.label} (and {more[place]} more alike)") if more[place] else one
        for place, one in found.items()
    ]


def _spread(items: Sequence[object], most: int) -> list[int]:
    """Return the places of at most so many items, first and last among them."""
    count = len(items)
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


@dataclass(frozen=True)
class Stair:
    """A cost that grows in steps: the exact function at `x`, and the designs measured on it."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    measured: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Staircase:
    """Cost against expansion, one stair per machine or layer; stretches that cost nothing more are drawn strong."""

    title: str
    x: Scale
    y: Scale
    stairs: tuple[Stair, ...]

    def lines(self) -> Lines:
        """Return what is drawn."""
        series: list[Series] = []
        for place, stair in enumerate(self.stairs):
            color = place % 7 + 1
            points = list(zip(stair.x, stair.y, strict=True))
            series.append(Series(stair.name, "steps", tuple(Mark(x, y) for x, y in _corners(points)), color))
            for start, end, level in levels(stair):
                series.append(Series("", "thick", (Mark(start, level), Mark(end, level)), color))
            if stair.measured:
                series.append(Series("", "dots", stair.measured, color))
        return Lines(self.title, self.x, self.y, tuple(series))


def levels(stair: Stair) -> list[tuple[float, float, float]]:
    """Return (start, end, cost) of every stretch along which a stair costs no more."""
    found = []
    start = 0
    for place in range(1, len(stair.x) + 1):
        if place == len(stair.x) or stair.y[place] != stair.y[start]:
            if place - 1 > start:
                found.append((stair.x[start], stair.x[place - 1], stair.y[start]))
            start = place
    return found


def free_until(stair: Stair) -> float:
    """Return up to where a stair costs no more than at its start."""
    first = levels(stair)[:1]
    return first[0][1] if first and first[0][0] == stair.x[0] else stair.x[0]


def _corners(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave points out of the middle of a level: a line in steps through the others is the same."""
    inner = range(1, len(points) - 1)
    kept = [i for i in inner if not points[i - 1][1] == points[i][1] == points[i + 1][1]]
    return [points[i] for i in (0, *kept, *([len(points) - 1] if len(points) > 1 else []))] if points else []
