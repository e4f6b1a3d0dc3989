"""The SVG that figures are made of."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import figures
from reports.figures import Axis, Bar, Point

WIDTHS = (340.0, 484.0, 1030.0)


def text(value):
    return f"{value:.4g}"


def elements(svg, tag):
    return list(ElementTree.fromstring(svg).iter(tag))


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_are_as_long_as_their_values(width):
    bars = [Bar("one", {"busy": 30, "dram": 10}), Bar("two", {"busy": 20, "dram": 0})]
    rects = elements(figures.stacked_bars("bars", bars, width, text, str), "rect")
    lengths = [float(rect.get("width")) for rect in rects]
    assert len(rects) == 3
    assert lengths[0] == pytest.approx(3 * lengths[1], abs=0.02)
    assert lengths[2] == pytest.approx(2 * lengths[1], abs=0.02)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaves_the_drawing(width):
    bars = [Bar(f"a layer with a very long name {i}", {"busy": 10.0**i, "vector": 1}, "group") for i in range(6)]
    points = [Point(f"W{b}A8 + OCS 0.05", 0.5 + b / 20, 0.01, 10.0 * b) for b in range(2, 9)]
    drawn = [
        figures.stacked_bars("bars", bars, width, text, str),
        figures.intervals("intervals", points, width, text),
        figures.scatter("scatter", points, (width, 300), (text, text), ("x", "y")),
    ]
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        height = float(root.get("height"))
        for rect in root.iter("rect"):
            assert float(rect.get("x")) + float(rect.get("width")) <= width + 0.1
        for item in root.iter("text"):
            x, long = float(item.get("x")), len(item.text) * figures.CHARACTER
            left = x - {"start": 0, "middle": long / 2, "end": long}[item.get("text-anchor")]
            assert left >= -12
            assert left + long <= width + 12
            assert 0 <= float(item.get("y")) <= height


def test_words_from_outside_cannot_become_markup():
    svg = figures.stacked_bars('"><script>', [Bar("<b>&", {"busy": 1})], 484, text, lambda key: "<i>")
    assert "<script" not in svg
    assert "<b>" not in svg
    assert "<i>" not in svg
    ElementTree.fromstring(svg)


def test_figures_have_names_for_those_who_cannot_see_them():
    svg = figures.intervals("accuracy", [Point("float", 0.9, 0.01)], 484, text)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "accuracy"


@pytest.mark.parametrize("errors", [(0.0, 0.0), (0.02, 0.05)])
def test_no_axis_of_shares_goes_beyond_all_of_them(errors: tuple[float, float]) -> None:
    points = [Point(name, 1.0, error) for name, error in zip(("float", "W8A8"), errors, strict=True)]
    svg = figures.intervals("accuracy", points, 600, lambda v: f"{100 * v:.4g} %", limits=(0.0, 1.0))
    shown = [float(number) for number in re.findall(r">([0-9.]+) %<", svg)]
    assert max(shown) == 100
    assert min(shown) < 100


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_an_axis_holds_its_values_between_round_ticks(values):
    axis = Axis.over(values, (10, 200))
    slack = 1e-8 * (axis.high - axis.low)  # a value may be a rounding error beyond a tick
    assert axis.low - slack <= min(values)
    assert axis.high + slack >= max(values)
    assert 2 <= len(axis.ticks) <= 9
    assert all(9.9 <= axis.place(v) <= 200.1 for v in values)


def test_labels_of_close_points_do_not_cover_each_other():
    points = [Point(f"recipe {i}", 0.9, at=1.0) for i in range(4)]
    places = [(150.0, 150.0 + 6 * i) for i in range(4)]
    boxes = []
    for point, (x, y, anchor) in zip(points, figures.place_labels(points, places, (0, 400)), strict=True):
        long = len(point.label) * figures.CHARACTER
        left = x - {"start": 0, "middle": long / 2, "end": long}[anchor]
        boxes.append((left, y - 10, left + long, y + 3))
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert figures._overlap(one, other) == 0


def test_heat_strips_mark_every_channel_that_overflowed():
    svg = figures.strip("map", {0: 1, 5: 1000}, 8, 400)
    cells = re.findall(r'class="heat" x="([\d.]+)" .*?fill-opacity="([\d.]+)"', svg)
    assert [float(x) for x, _ in cells] == [0.0, 250.0]
    assert float(cells[0][1]) < float(cells[1][1]) == 1.0


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.5, 7.0])
def test_small_bars_stay_in_their_cell(share):
    bar = elements(figures.mini_bar(share), "rect")[1]
    assert 0 <= float(bar.get("width")) <= 40
