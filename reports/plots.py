"""`reports.charts` as matplotlib figures, for PNG files and for studies; colours are those of the page.

    figure = plots.bars(Bars(...))
    figure.savefig("energy.png")

Figures belong to no window and to no global state.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullFormatter, NullLocator

from accelsim.store import write_atomically
from reports.charts import Bars, Heatmap, Lines, Pareto, Scale, Series, Staircase
from reports.draw import Chart, log_ticks, svg_file
from reports.palette import colors, variables
from reports.progress import progress

DPI = 144
INCHES = 7.2
PAD = 0.1
SVG_WIDTH = 760.0

_MARKERS: dict[str, dict[str, Any]] = {
    "dots": {"marker": "o", "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.8, "zorder": 4},
    "rings": {"marker": "o", "markersize": 5, "markerfacecolor": "none", "markeredgewidth": 1.3, "zorder": 3},
    "crosses": {"marker": "x", "markersize": 6, "zorder": 4},
    "faint": {"marker": "o", "markersize": 3.2, "alpha": 0.6, "markeredgewidth": 0, "zorder": 2},
}
_PATHS: dict[str, dict[str, Any]] = {
    "line": {"linewidth": 1.4},
    "dashed": {"linewidth": 1.0, "linestyle": (0, (4, 3))},
    "steps": {"linewidth": 1.2, "drawstyle": "steps-post"},
    "thick": {"linewidth": 3.6, "solid_capstyle": "round"},
}


def lines(chart: Lines) -> Figure:
    """Draw series over two axes."""
    below = 0.19 * len(chart.key)
    figure, axes = _empty(chart.title, 4.3 + below)
    for one in chart.series:
        _series(axes, one)
    _scale(axes.xaxis, axes.set_xscale, axes.set_xlabel, chart.x)
    _scale(axes.yaxis, axes.set_yscale, axes.set_ylabel, chart.y)
    if np.isfinite(chart.y.most) and axes.get_ylim()[1] > chart.y.most:
        axes.set_ylim(top=chart.y.most + 0.02 * (chart.y.most - axes.get_ylim()[0]))
    if any(one.name for one in chart.series):
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    if chart.key:
        figure.text(0.02, 0.01, "\n".join(chart.key), fontsize=7.5, va="bottom", color=variables()["soft"])
        share = below / figure.get_figheight()
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD, rect=(0, share, 1, 1 - share)))
    return figure


def pareto(chart: Pareto) -> Figure:
    """Draw value against cost with its front."""
    return lines(chart.lines())


def staircase(chart: Staircase) -> Figure:
    """Draw a cost that grows in steps."""
    return lines(chart.lines())


def bars(chart: Bars) -> Figure:
    """Draw stacked horizontal bars with their totals."""
    groups = list(dict.fromkeys(bar.group for bar in chart.bars))
    headed = any(groups)
    figure, axes = _empty(chart.title, 0.9 + 0.25 * (len(chart.bars) + 1.3 * len(groups) * headed))
    places: list[float] = []
    at, group = 0.0, None
    for bar in chart.bars:
        if headed and bar.group != group:
            group, at = bar.group, at + 1.3
            axes.text(0, at - 0.62, bar.group, fontsize=8, weight="bold", va="center")
        places.append(at)
        at += 1
    keys = list(dict.fromkeys(key for bar in chart.bars for key, value in bar.parts.items() if value > 0))
    starts = np.zeros(len(chart.bars))
    for key in keys:
        widths = np.array([bar.parts.get(key, 0.0) for bar in chart.bars])
        shade = colors().get(f"c-{key}", variables()["grey"])
        axes.barh(places, widths, 0.72, starts, color=shade, label=chart.name(key), edgecolor="white", linewidth=0.4)
        starts += widths
    for place, bar in zip(places, chart.bars, strict=True):
        axes.text(bar.total, place, f" {chart.text(bar.total)}", fontsize=7.5, va="center", color=variables()["soft"])
    axes.set_yticks(places, [bar.label for bar in chart.bars], fontsize=8)
    axes.set_ylim(at - 0.4, -0.6)
    axes.set_xlim(0, max((bar.total for bar in chart.bars), default=1.0) * 1.13 or 1.0)
    axes.xaxis.set_major_locator(NullLocator())
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, fontsize=7.5, ncols=5, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return figure


def heatmap(chart: Heatmap) -> Figure:
    """Draw numbers in rows and columns."""
    figure, axes = _empty(chart.title, 1.0 + 0.23 * len(chart.rows))
    shades = np.array([[np.nan if v is None else chart.shade(v) for v in row] for row in chart.values], dtype=float)
    mapped = LinearSegmentedColormap.from_list("cells", ["#ffffff", variables()["blue"]])
    axes.imshow(np.ma.masked_invalid(shades), cmap=mapped, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for i, row in enumerate(chart.values):
        for j, value in enumerate(row):
            if value:
                ink = "white" if shades[i, j] > 0.55 else variables()["ink"]
                axes.text(j, i, chart.text(value), ha="center", va="center", fontsize=6.5, color=ink)
    axes.set_xticks(range(len(chart.columns)), chart.columns, fontsize=8)
    axes.set_yticks(range(len(chart.rows)), chart.rows, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


def plot(chart: Chart) -> Figure:
    """Draw any chart."""
    return next(draw for kind, draw in PLOTS.items() if isinstance(chart, kind))(chart)


PLOTS: dict[type, Callable[[Any], Figure]] = {
    Lines: lines,
    Pareto: pareto,
    Staircase: staircase,
    Bars: bars,
    Heatmap: heatmap,
}


def write_figures(charts: Mapping[str, Chart], folder: Path) -> list[str]:
    """Write charts by name as SVG and PNG into a folder, which is made; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with progress("figures", len(charts), unit="figure") as advance:
        for name, chart in charts.items():
            vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
            write_atomically(vector, svg_file(chart, SVG_WIDTH).encode())
            write_atomically(pixels, png(chart))
            written += [str(vector), str(pixels)]
            advance(1)
    return written


def png(chart: Chart) -> bytes:
    """Return a chart as a PNG file, the same bytes for the same chart."""
    import io

    buffer = io.BytesIO()
    plot(chart).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _empty(title: str, inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(INCHES, inches), layout=ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.suptitle(title, fontsize=10, x=0.02, ha="left", weight="bold", wrap=True)
    axes.grid(True, color=variables()["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(variables()["grey"])
    axes.tick_params(labelsize=8, color=variables()["grey"])
    return figure, axes


def _series(axes: Axes, one: Series) -> None:
    if not one.marks:
        return
    color = colors()[f"k-{one.color}"]
    x, y = [mark.x for mark in one.marks], [mark.y for mark in one.marks]
    label = one.name or "_nolegend_"
    if one.style in _PATHS:
        axes.plot(x, y, color=color, label=label, **_PATHS[one.style])
        return
    reaches = [mark.reach for mark in one.marks]
    if any(reaches):
        axes.errorbar(x, y, yerr=reaches, fmt="none", ecolor=color, elinewidth=0.9, alpha=0.45)
    axes.plot(x, y, color=color, label=label, linestyle="none", **_MARKERS[one.style])
    for mark in one.marks:
        if mark.label:
            axes.annotate(mark.label, (mark.x, mark.y), (5, 4), textcoords="offset points", fontsize=7.5)


def _scale(axis: Any, set_scale: Callable[[str], Any], set_label: Callable[..., Any], scale: Scale) -> None:
    set_label(scale.name, fontsize=8.5, color=variables()["soft"])
    if scale.ticks:
        axis.set_major_locator(FixedLocator([place for place, _ in scale.ticks]))
        axis.set_major_formatter(FixedFormatter([words for _, words in scale.ticks]))
        return
    if scale.log:
        set_scale("log")
        low, high = axis.get_view_interval()
        axis.set_major_locator(FixedLocator(list(log_ticks(low, high, 6))))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: scale.text(value)))
