"""`reports.charts` as inline SVG, drawn at the width it is shown at; see `reports.figures`."""

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from reports import figures
from reports.charts import Bars, Heatmap, Lines, Mark, Pareto, Scale, Series, Staircase
from reports.figures import CHARACTER, NARROW, Axis, Drawing, shortened
from reports.palette import figure_style

Chart = Lines | Bars | Heatmap | Pareto | Staircase

_LEADING = 17
_SWATCH = 16
_INDENT = "\N{EM SPACE}"
_ON_TOP = ("dots", "rings", "crosses")


def draw(chart: Chart, width: float) -> str:
    """Return a chart as ``<svg>`` at a width in pixels."""
    if isinstance(chart, Bars):
        return figures.stacked_bars(chart.title, chart.bars, width, chart.text, chart.name)
    if isinstance(chart, Heatmap):
        return _heatmap(chart, width)
    return _Plane(chart if isinstance(chart, Lines) else chart.lines(), width).svg()


def svg_file(chart: Chart, width: float) -> str:
    """Return a chart as an SVG document of its own: on white, with its title, and a legend where bars have parts."""
    heading = _heading(chart, width)
    svg = draw(chart, width)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    edge = 12
    wide, high = float(box[1]) + 2 * edge, float(box[2]) + heading.height + 2 * edge
    paper = f'<rect x="-{edge}" y="-{edge}" width="{wide:g}" height="{high:g}" fill="#fff"/>'
    head, body = svg.removesuffix("</svg>").split(">", 1)
    head = re.sub(r' (width|height)="[\d.]+"', "", head).replace(box[0], f'viewBox="-{edge} -{edge} {wide:g} {high:g}"')
    head = head.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{high:g}"')
    above = "".join(heading.parts)
    below = f'<g transform="translate(0 {heading.height:g})">{body}</g>'
    style = f"<style>{figure_style()}</style>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}>{style}{paper}{above}{below}</svg>\n'


def _heading(chart: Chart, width: float) -> Drawing:
    """Draw the title, and what the colours of bars mean; the page has both as text."""
    drawing = Drawing(width)
    for line in textwrap.wrap(chart.title, int(width / CHARACTER)):
        drawing.height += _LEADING
        drawing.text(0, drawing.height - 4, line, "group")
    bars = chart.bars if isinstance(chart, Bars) else ()
    x = 0.0
    for key in dict.fromkeys(key for bar in bars for key, value in bar.parts.items() if value > 0):
        name = chart.name(key) if isinstance(chart, Bars) else ""
        long = len(name) * CHARACTER * 0.9 + _SWATCH + 14
        if not x or x + long > width:
            x = 0.0
            drawing.height += _LEADING
        drawing.rect(x, drawing.height - 14, 11, 11, f"c-{key}")
        drawing.text(x + _SWATCH, drawing.height - 4, name, "tick")
        x += long
    drawing.height += 8
    return drawing


# --- axes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis: values low..high at pixels start..end, ticks at round values."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], pixels: tuple[float, float], count: int = 5) -> "LogAxis":
        """Return an axis that holds all values, which are > 0."""
        low, high = min(values), max(values)
        margin = max((high / low) ** 0.04, 1.02)
        return cls(low / margin, high * margin, *pixels, log_ticks(low / margin, high * margin, count))

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)


_DECADES: tuple[tuple[float, ...], ...] = (
    (1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), tuple(i / 2 for i in range(2, 20)),
    tuple(i / 10 for i in range(10, 100)),
)  # fmt: skip


def log_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return about `count` round numbers within low..high.

    >>> log_ticks(0.9, 120.0, 5)
    (1.0, 10.0, 100.0)
    """
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    choices = []
    for step in _DECADES:
        ticks = [float(f"{factor}e{power}") for power in powers for factor in step]
        choices.append(tuple(tick for tick in ticks if low <= tick <= high))
    fitting = [ticks for ticks in choices if 2 <= len(ticks) <= count]
    if fitting:
        return fitting[-1]
    many = next((ticks for ticks in choices if len(ticks) > count), choices[-1])
    return many[:: math.ceil(len(many) / count)] if many else ()


def _axis(scale: Scale, values: Sequence[float], pixels: tuple[float, float], count: int) -> Axis | LogAxis:
    if scale.ticks:
        places = [place for place, _ in scale.ticks]
        return Axis(min(places) - 0.3, max(places) + 0.3, *pixels, tuple(places))
    axis = (LogAxis if scale.log else Axis).over(values, pixels, count)
    if axis.high <= scale.most:
        return axis
    return replace(axis, high=scale.most, ticks=tuple(tick for tick in axis.ticks if tick <= scale.most))


# --- planes ----------------------------------------------------------------------------------------------------------


@dataclass
class _Plane:
    """One drawing of `Lines`."""

    chart: Lines
    width: float
    drawing: Drawing = field(init=False)

    def svg(self) -> str:
        """Return the drawing."""
        self.drawing = Drawing(self.width)
        chart, narrow = self.chart, self.width < NARROW
        top = self._legend() + 36
        bottom = top + max(220.0, min(300.0, self.width * 0.5))
        ys = [min(m.y + side * m.reach, chart.y.most) for one in chart.series for m in one.marks for side in (-1, 1)]
        down = _axis(chart.y, ys, (bottom, top), 6)
        words = dict(chart.y.ticks) or {tick: chart.y.text(tick) for tick in down.ticks}
        left = max(len(word) for word in words.values()) * CHARACTER * 0.92 + 8
        wide = max((len(chart.x.text(m.x)) for one in chart.series for m in one.marks[:1]), default=4) * CHARACTER + 16
        count = int(max(2, min(5 if narrow else 7, (self.width - left) / wide)))
        xs = [m.x for one in chart.series for m in one.marks]
        across = _axis(chart.x, xs, (left + 10, self.width - 12), count)
        self._grid(across, down, (left, bottom), words)
        for one in sorted(chart.series, key=lambda s: s.style in _ON_TOP):
            self._series(one, across, down)
        self._labels(across, down, left)
        self.drawing.height = bottom + 40
        for entry in chart.key:
            for line in textwrap.wrap(entry, int(self.width / (0.86 * CHARACTER)), subsequent_indent=_INDENT):
                self.drawing.height += _LEADING
                self.drawing.text(0, self.drawing.height - 4, line, "tick")
        return self.drawing.svg(chart.title)

    def _legend(self) -> float:
        x, y = 0.0, 12.0
        for one in self.chart.series:
            if not one.name:
                continue
            long = len(one.name) * CHARACTER * 0.9 + _SWATCH + 14
            if x and x + long > self.width:
                x, y = 0.0, y + _LEADING
            self._begin(one)
            if one.style in ("line", "dashed", "steps", "thick"):
                self.drawing.parts.append(f'<path class="path {one.style}" d="M{x:.1f} {y - 4:.1f}h12"/>')
            else:
                self._mark(one.style, x + 6, y - 4, "")
            self.drawing.parts.append("</g>")
            self.drawing.text(x + _SWATCH, y, shortened(one.name, self.width - _SWATCH), "tick")
            x += long
        return y if any(one.name for one in self.chart.series) else -18.0

    def _grid(
        self, across: Axis | LogAxis, down: Axis | LogAxis, corner: tuple[float, float], words: dict[float, str]
    ) -> None:
        left, bottom = corner
        top = down.end
        self.drawing.text(0, top - 12, self.chart.y.name, "axis")
        for tick in down.ticks:
            y = down.place(tick)
            self.drawing.line((left, y), (self.width, y), "grid")
            self.drawing.text(left - 6, y + 4, words[tick], "tick", "end")
        names = dict(self.chart.x.ticks) or {tick: self.chart.x.text(tick) for tick in across.ticks}
        longest = max((len(name) for name in names.values()), default=0) * CHARACTER + 8
        room = (self.width - left) / max(1, len(across.ticks))
        for place, tick in enumerate(across.ticks):
            x = across.place(tick)
            self.drawing.line((x, top), (x, bottom), "grid")
            if place % math.ceil(longest / room):
                continue
            text = names[tick]
            half = len(text) * CHARACTER / 2
            at, anchor = (self.width, "end") if x + half > self.width else (x, "middle")
            self.drawing.text(at, bottom + 16, text, "tick", anchor)
        self.drawing.text(self.width, bottom + 34, self.chart.x.name, "axis", "end")

    def _begin(self, one: Series) -> None:
        self.drawing.parts.append(f'<g class="series k-{one.color}">')

    def _series(self, one: Series, across: Axis | LogAxis, down: Axis | LogAxis) -> None:
        places = [(across.place(m.x), down.place(m.y)) for m in one.marks]
        self._begin(one)
        if one.style == "faint":
            dots = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in sorted({(round(x), round(y)) for x, y in places}))
            self.drawing.parts.append(f'<path class="specks" d="{dots}"/>')
        elif one.style in _ON_TOP:
            for mark, (x, y) in zip(one.marks, places, strict=True):
                if mark.reach:
                    ends = down.place(mark.y - mark.reach), down.place(min(mark.y + mark.reach, down.high))
                    self.drawing.line((x, ends[0]), (x, ends[1]), "whisker")
                self._mark(one.style, x, y, mark.title)
        elif places:
            (x, y), rest = places[0], places[1:]
            step = "H{0:.1f}V{1:.1f}" if one.style == "steps" else "L{0:.1f} {1:.1f}"
            path = f"M{x:.1f} {y:.1f}" + "".join(step.format(*place) for place in rest)
            self.drawing.parts.append(f'<path class="path {one.style}" d="{path}"/>')
        self.drawing.parts.append("</g>")

    def _mark(self, style: str, x: float, y: float, title: str) -> None:
        hint = f"<title>{escape(title)}</title>" if title else ""
        if style == "crosses":
            d = f"M{x - 3.5:.1f} {y - 3.5:.1f}l7 7m0 -7l-7 7"
            self.drawing.parts.append(f'<path class="cross" d="{d}">{hint}</path>')
        elif style == "faint":
            self.drawing.parts.append(f'<path class="specks" d="M{x:.0f} {y:.0f}h0"/>')
        else:
            kind = "ring" if style == "rings" else "spot"
            radius = 3.5 if style == "rings" else 4.5
            self.drawing.parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{hint}</circle>')

    def _labels(self, across: Axis | LogAxis, down: Axis | LogAxis, left: float) -> None:
        named: list[Mark] = [m for one in self.chart.series for m in one.marks if m.label]
        places = [(across.place(m.x), down.place(m.y)) for m in named]
        points = [figures.Point(m.label, m.y) for m in named]
        for mark, (x, y, anchor) in zip(named, figures.place_labels(points, places, (left, self.width)), strict=True):
            self.drawing.text(x, y, mark.label, "label halo", anchor)


# --- heat maps -------------------------------------------------------------------------------------------------------


def _heatmap(chart: Heatmap, width: float) -> str:
    room = min(max(len(row) for row in chart.rows) * CHARACTER + 8, width * 0.36)
    cell = (width - room) / max(len(chart.columns), 1)
    high = 20.0
    drawing = Drawing(width, 22 + high * len(chart.rows))
    for place, name in enumerate(chart.columns):
        drawing.text(room + (place + 0.5) * cell, 13, shortened(name, cell + 4), "tick", "middle")
    for i, (name, values) in enumerate(zip(chart.rows, chart.values, strict=True)):
        y = 22 + high * i
        drawing.text(0, y + 14, shortened(name, room - 6), "label")
        for j, value in enumerate(values):
            if value is None:
                continue
            title = f"{name}, {chart.columns[j]}: {chart.text(value)}"
            shade = chart.shade(value)
            drawing.parts.append(
                f'<rect class="cell" x="{room + j * cell:.1f}" y="{y:.0f}" width="{cell - 1:.1f}" '
                f'height="{high - 1:.0f}" fill-opacity="{0.04 + 0.9 * shade:.2f}"><title>{escape(title)}</title></rect>'
            )
            words = chart.text(value)
            if value and len(words) * 6.2 < cell - 2:
                kind = "inside light" if shade > 0.55 else "inside"
                drawing.text(room + (j + 0.5) * cell, y + 13.5, words, kind, "middle")
    return drawing.svg(chart.title)
