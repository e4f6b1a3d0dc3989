"""Figures as inline SVG, built by hand: text stays text, colours are the page's variables, no script, no reference.

Every function takes the width it is drawn at and returns one ``<svg>`` at scale 1, so that type has the same size in
every figure and on every screen. Colours are the CSS classes ``c-<key>`` of the page's style sheet.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

CHARACTER = 7.2
"""Estimated advance of a character of the 12 px sans-serif face; an estimate on the wide side."""

ROW = 30
BAR = 16
THIN = 3
"""A part no wider than this has no edge, which would hide it."""

NARROW = 460
"""Below this width labels stand above their bars."""

Text = Callable[[float], str]


@dataclass(frozen=True)
class Bar:
    """A row of a bar figure: the parts of a total by key."""

    label: str
    parts: Mapping[str, float]
    group: str = ""

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Point:
    """A point of a scatter or interval figure, with the standard error of its value."""

    label: str
    value: float
    error: float = 0.0
    at: float = 0.0
    key: str = "1"


@dataclass
class Drawing:
    """SVG elements so far."""

    width: float
    height: float = 0.0
    parts: list[str] = field(default_factory=list)

    def rect(self, x: float, y: float, width: float, height: float, kind: str, title: str = "") -> None:
        hint = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}">{hint}</rect>'
        )

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        (x1, y1), (x2, y2) = start, end
        self.parts.append(f'<line class="{kind}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        self.parts.append(f'<text x="{x:.2f}" y="{y:.2f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>')

    def dot(self, x: float, y: float, kind: str, title: str) -> None:
        self.parts.append(
            f'<circle class="dot {kind}" cx="{x:.2f}" cy="{y:.2f}" r="4.5"><title>{escape(title)}</title></circle>'
        )

    def svg(self, title: str) -> str:
        return (
            f'<svg class="figure" role="img" aria-label="{escape(title)}" width="{self.width:g}" '
            f'height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}">'
            f"{''.join(self.parts)}</svg>"
        )


def shortened(text: str, room: float) -> str:
    """Return a text that fits `room` pixels, its middle left out where it does not."""
    most = max(int(room / CHARACTER + 1e-6), 3)  # a room made for so many characters holds them
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:] if tail else ''}"


def stacked_bars(
    title: str, bars: Sequence[Bar], width: float, text: Text, name: Callable[[str], str], *, share: bool = True
) -> str:
    """Return horizontal stacked bars on one scale from zero, totals written behind those that have labels.

    Parameters
    ----------
    title
        Accessible name of the figure.
    bars
        Rows; a heading is set wherever `group` changes.
    width
        Of the drawing, in pixels.
    text
        Formats a value.
    name
        Words for a part's key.
    share
        Whether tool tips give each part's share of the total.
    """
    longest = max(len(bar.label) for bar in bars)
    above = longest > 0 and (width < NARROW or longest * CHARACTER + 10 > width * 0.4)
    tail = max(len(text(bar.total)) for bar in bars) * CHARACTER + 10 if longest else 0.0
    label_room = 0.0 if above or not longest else longest * CHARACTER + 10
    scale = (width - label_room - tail) / (max(bar.total for bar in bars) or 1.0)
    drawing = Drawing(width)
    y, group = 0.0, ""
    for bar in bars:
        if bar.group != group:
            group = bar.group
            y += 22 if y else 14
            drawing.text(0, y, group, "group")
            y += 8
        if above:
            drawing.text(0, y + 12, shortened(bar.label, width), "label")
            y += 17
        else:
            drawing.text(0, y + BAR / 2 + 4, shortened(bar.label, label_room - 10), "label")
        _stack(drawing, bar, (label_room, y), scale, text, name, share)
        if longest:
            drawing.text(label_room + bar.total * scale + 6, y + BAR / 2 + 4, text(bar.total), "value")
        y += BAR + (10 if above else 7)
    drawing.height = y
    return drawing.svg(title)


def _stack(
    drawing: Drawing,
    bar: Bar,
    corner: tuple[float, float],
    scale: float,
    text: Text,
    name: Callable[[str], str],
    share: bool,
) -> None:
    x, y = corner
    for key, value in bar.parts.items():
        if value > 0:
            part = f", {100 * value / bar.total:.1f} %" if share else ""
            edged = "part " if value * scale > THIN else ""
            drawing.rect(x, y, value * scale, BAR, f"{edged}c-{key}", f"{bar.label}: {name(key)} {text(value)}{part}")
            x += value * scale


def intervals(
    title: str,
    points: Sequence[Point],
    width: float,
    text: Text,
    deviations: float = 1.96,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> str:
    """Return values with their intervals, `deviations` standard errors to either side, on one axis.

    The axis need not start at zero: places are compared, not lengths. It ends at `limits`, beyond which no value is.
    """
    above = width < NARROW
    label_room = 0.0 if above else min(max(len(p.label) for p in points) * CHARACTER + 14, width * 0.4)
    tail = max(len(text(p.value)) for p in points) * CHARACTER + 10
    ends = [
        (max(p.value - deviations * p.error, limits[0]), min(p.value + deviations * p.error, limits[1])) for p in points
    ]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    margin = 0.05 * abs(high) if high - low < 1e-9 else 0.0  # all alike: still an axis
    axis = Axis.over(
        [max(low - margin, limits[0]), min(high + margin, limits[1])],
        (label_room + 16, width - tail - 10),
        4 if above else 5,
    )
    drawing = Drawing(width)
    step = 42 if above else ROW
    bottom = step * len(points)
    for tick in axis.ticks:
        drawing.line((axis.place(tick), 0), (axis.place(tick), bottom), "grid")
        drawing.text(axis.place(tick), bottom + 16, text(tick), "tick", "middle")
    for i, (point, (low, high)) in enumerate(zip(points, ends, strict=True)):
        y = step * i + (27 if above else step / 2)
        if above:
            drawing.text(0, y - 13, shortened(point.label, width), "label")
        else:
            drawing.text(0, y + 4, shortened(point.label, label_room - 14), "label")
        drawing.line((axis.place(low), y), (axis.place(high), y), "whisker")
        drawing.dot(
            axis.place(point.value), y, f"c-{point.key}", f"{point.label}: {text(point.value)} ± {text(point.error)}"
        )
        drawing.text(width, y + 4, text(point.value), "value", "end")
    drawing.height = bottom + 24
    return drawing.svg(title)


@dataclass(frozen=True)
class Axis:
    """A linear axis: values low..high at pixels start..end, ticks at round values."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], pixels: tuple[float, float], count: int = 5) -> "Axis":
        """Return an axis that holds all values, its ends at ticks."""
        low, high = min(values), max(values)
        if high - low < 1e-12 * max(abs(high), 1e-300):
            margin = abs(high) * 0.05 or 1.0
            low, high = low - margin, high + margin
        step = round_step((high - low) / count)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(step * i for i in range(first, last + 1))
        return cls(ticks[0], ticks[-1], *pixels, ticks)

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def round_step(step: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten, not below `step`.

    >>> round_step(0.3), round_step(7.0)
    (0.5, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= step * (1 - 1e-9))


def scatter(
    title: str,
    points: Sequence[Point],
    size: tuple[float, float],
    texts: tuple[Text, Text],
    names: tuple[str, str],
    deviations: float = 1.96,
) -> str:
    """Return labelled points, `value` upward over `at`, with intervals of `value`.

    Parameters
    ----------
    title
        Accessible name of the figure.
    points
        What is drawn.
    size
        Width and height.
    texts, names
        Formats and titles of (horizontal, vertical) axes.
    deviations
        Standard errors that an interval spans to either side.
    """
    width, height = size
    values = [p.value + side * deviations * p.error for p in points for side in (-1, 1)]
    probe = Axis.over(values, (0, 1))
    left = max(len(texts[1](tick)) for tick in probe.ticks) * CHARACTER + 10
    down = Axis.over(values, (height - 44, 26))
    across = Axis.over([p.at for p in points], (left + 12, width - 16), 3 if width < NARROW else 5)
    drawing = Drawing(width, height)
    drawing.text(0, 12, names[1], "axis")
    drawing.text(width, height - 4, names[0], "axis", "end")
    for tick in down.ticks:
        drawing.line((left, down.place(tick)), (width, down.place(tick)), "grid")
        drawing.text(left - 6, down.place(tick) + 4, texts[1](tick), "tick", "end")
    for tick in across.ticks:
        drawing.line((across.place(tick), 26), (across.place(tick), height - 44), "grid")
        drawing.text(across.place(tick), height - 26, texts[0](tick), "tick", "middle")
    places = [(across.place(p.at), down.place(p.value)) for p in points]
    for point, (x, y) in zip(points, places, strict=True):
        reach = deviations * point.error
        drawing.line((x, down.place(point.value - reach)), (x, down.place(point.value + reach)), "whisker")
        drawing.dot(x, y, f"c-{point.key}", f"{point.label}: {texts[1](point.value)} at {texts[0](point.at)}")
    for point, (x, y, anchor) in zip(points, place_labels(points, places, (left, width)), strict=True):
        drawing.text(x, y, point.label, "label halo", anchor)
    return drawing.svg(title)


Box = tuple[float, float, float, float]


def place_labels(
    points: Sequence[Point], places: Sequence[tuple[float, float]], room: tuple[float, float]
) -> list[tuple[float, float, str]]:
    """Return (x, y, anchor) of every label: beside, above or below its point, where it meets least else."""
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    chosen = []
    for point, (x, y) in zip(points, places, strict=True):
        long = len(point.label) * CHARACTER
        candidates: list[tuple[float, int, Box, tuple[float, float, str]]] = []
        for dx, dy, anchor in (
            (9, 4, "start"), (-9, 4, "end"), (9, -9, "start"), (9, 18, "start"), (-9, -9, "end"), (-9, 18, "end"),
            (0, -12, "middle"), (0, 22, "middle"),
        ):  # fmt: skip
            left = x + dx - {"start": 0.0, "middle": long / 2, "end": long}[anchor]
            box = (left, y + dy - 10, left + long, y + dy + 3)
            outside = max(0.0, room[0] - box[0]) + max(0.0, box[2] - room[1])
            candidates.append((sum(_overlap(box, other) for other in taken) + 1000 * outside, len(candidates), box,
                               (x + dx, y + dy, anchor)))  # fmt: skip
        best = min(candidates)
        taken.append(best[2])
        chosen.append(best[3])
    return chosen


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across * down if across > 0 and down > 0 else 0.0


def strip(title: str, counts: Mapping[int, int], length: int, width: float) -> str:
    """Return a row of cells, one per channel, darker where more happened (by the logarithm of the count)."""
    drawing = Drawing(width, 14)
    drawing.rect(0, 0, width, 14, "track")
    most = math.log1p(max(counts.values(), default=1))
    cell = width / max(length, 1)
    for channel, count in counts.items():
        drawing.parts.append(
            f'<rect class="heat" x="{channel * cell:.2f}" y="0" width="{max(cell, 1):.2f}" height="14" '
            f'fill-opacity="{0.25 + 0.75 * math.log1p(count) / most:.2f}"><title>channel {channel}: {count}</title>'
            "</rect>"
        )
    return drawing.svg(title)


def mini_bar(share: float, kind: str = "busy") -> str:
    """Return a bar of 40 px for a table cell; `share` is held within 0..1."""
    filled = 40 * min(max(share, 0.0), 1.0)
    return (
        '<svg class="mini" width="40" height="8" viewBox="0 0 40 8" aria-hidden="true"><rect class="track" width="40" '
        f'height="8"/><rect class="c-{kind}" width="{filled:.1f}" height="8"/></svg>'
    )
