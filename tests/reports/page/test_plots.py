"""Figures as files, and the charts they are made of."""

import io
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from reports import draw, plots
from reports.charts import (
    BEHIND,
    FRONT,
    STYLES,
    UNDECIDED,
    Bars,
    Candidate,
    Heatmap,
    Lines,
    Mark,
    Pareto,
    Scale,
    Series,
    Stair,
    Staircase,
)
from reports.draw import LogAxis, log_ticks
from reports.figures import CHARACTER, Bar
from reports.palette import colors

WIDTHS = (340.0, 484.0, 1030.0)


def plain(value):
    return f"{value:.3g}"


CHARTS = {
    "lines": Lines(
        "lines",
        Scale("x", plain, log=True),
        Scale("y", plain),
        tuple(Series(style, style, (Mark(1, 2), Mark(30, 3, "tip", "7")), i + 1) for i, style in enumerate(STYLES)),
        ("1  a design with a name that is far too long for a narrow screen: 98.33 %, 12.3 µJ",),
    ),
    "pareto": Pareto(
        "pareto",
        Scale("energy", plain),
        Scale("accuracy", plain, most=1.0),
        tuple(
            Candidate(f"W{i}", float(cost), value, 0.05, standing)
            for i, (cost, value, standing) in enumerate(
                [(1, 0.5, FRONT), (2, 0.9, FRONT), (2, 0.9, FRONT), (2.1, 0.9, UNDECIDED), (9, 0.7, BEHIND)]
            )
        ),
    ),
    "staircase": Staircase(
        "stairs", Scale("x", plain), Scale("y", plain), (Stair("ws", (0, 1, 2, 3), (1, 1, 2, 2), (Mark(1, 1),)),)
    ),
    "bars": Bars("bars", (Bar("one", {"pe": 2, "dram": 1}, "a"), Bar("two", {"pe": 1, "dram": 3}, "b")), plain, str),
    "heatmap": Heatmap("heat", ("first", "second"), ("1", "2"), ((0.1, 1.0), (None, 0.0)), plain, 1.0),
}


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaves_the_drawing(name, width):
    root = ElementTree.fromstring(draw.draw(CHARTS[name], width))
    height = float(root.get("height"))
    for item in root.iter("text"):
        long = len(item.text) * CHARACTER
        left = float(item.get("x")) - {"start": 0, "middle": long / 2, "end": long}[item.get("text-anchor")]
        assert left >= -14
        assert left + long <= width * 1.17 + 14
        assert 0 <= float(item.get("y")) <= height
    for item in root.iter("circle"):
        assert 0 <= float(item.get("cx")) <= width
        assert 0 <= float(item.get("cy")) <= height


@pytest.mark.parametrize("name", CHARTS)
def test_files_stand_alone(name, tmp_path):
    written = plots.write_figures({name: CHARTS[name]}, tmp_path / "new")
    assert [path.rsplit(".", 1)[1] for path in written] == ["svg", "png"]
    svg = (tmp_path / "new" / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(--" not in svg or "--blue:#" in svg
    assert "url(" not in svg
    texts = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == CHARTS[name].title
    if name == "bars":  # whose page has the legend as text
        assert {"pe", "dram"} <= set(texts)
    _, _, wide, high = map(float, root.get("viewBox").split())
    assert (float(root.get("width")), float(root.get("height"))) == (wide, high)
    pixels = matplotlib.image.imread(io.BytesIO((tmp_path / "new" / f"{name}.png").read_bytes()))
    assert pixels.shape[1] > 900
    assert np.ptp(pixels[..., :3]) > 0.5


def test_a_front_is_joined_numbered_and_told_apart():
    chart = CHARTS["pareto"].lines()
    by = {series.name: series for series in chart.series}
    assert [(mark.x, mark.y) for mark in by["front"].marks] == [(1, 0.5), (2, 0.9)]
    assert [mark.label for mark in by["front"].marks] == ["1", "2"]
    assert "1 more alike" in chart.key[1]
    assert len(by["not told from the front"].marks) == 1
    assert len(by["decidedly behind"].marks) == 1
    assert chart.x.log


def test_strong_stretches_are_the_free_ones():
    thick = [series for series in CHARTS["staircase"].lines().series if series.style == "thick"]
    assert [[(mark.x, mark.y) for mark in one.marks] for one in thick] == [[(0, 1), (1, 1)], [(2, 2), (3, 2)]]


def test_marks_lie_at_their_values():
    chart = Lines(
        "t", Scale("x", plain), Scale("y", plain), (Series("s", "dots", (Mark(0, 0), Mark(5, 5), Mark(10, 10))),)
    )
    circles = list(ElementTree.fromstring(draw.draw(chart, 484)).iter("circle"))[1:]  # the first is the legend's
    xs, ys = ([float(circle.get(key)) for circle in circles] for key in ("cx", "cy"))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert xs[0] < xs[2]
    assert ys[0] > ys[2]


@pytest.mark.parametrize(("low", "high"), [(1, 1.1), (0.5, 800), (1e-9, 1e9), (7, 8), (99, 1001)])
def test_logarithmic_axes_have_ticks_within(low, high):
    axis = LogAxis.over([low, high], (0, 100))
    assert 2 <= len(axis.ticks) <= 8
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert 0 <= axis.place(low) < axis.place(high) <= 100
    assert list(log_ticks(low, high, 5)) == sorted(set(log_ticks(low, high, 5)))


def test_colours_of_files_are_those_of_the_page():
    assert colors()["c-pe"] == colors()["k-1"] == "#0072b2"
    assert {f"k-{i}" for i in range(1, 9)} <= set(colors())


def test_unknown_styles_are_refused():
    with pytest.raises(ValueError, match="style must be one of"):
        Series("s", "wavy", ())


@pytest.mark.parametrize("width", [340, 484, 1030])
@pytest.mark.parametrize("label", ["W8A8", "os 32×32", "W2-8 mixed (mean 2.8 bits) A8 · os 32×32"])
def test_names_of_bars_are_whole_where_there_is_room(label, width):
    """A room made for a name holds it; names too long to stand beside their bars stand above them."""
    chart = Bars("bars", (Bar(label, {"pe": 2.0}), Bar("x", {"pe": 1.0})), plain, str)
    assert label in [item.text for item in ElementTree.fromstring(draw.draw(chart, width)).iter("text")]
