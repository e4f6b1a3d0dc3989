"""Studies over sweeps: pages follow from their results, and results from their points."""

import argparse
import importlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from reports.draw import svg_file
from reports.plots import SVG_WIDTH
from reports.studies.accumulators.study import narrowest
from reports.studies.free_splits.study import rows_of
from reports.studies.ocs_vs_bits.page import verdict
from reports.studies.ocs_vs_bits.study import break_evens, matching_ratio
from reports.studies.outliers.mixed import NARROWEST, WIDEST, _Layer, assign
from reports.studies.swept import Designs, measured
from reports.sweep.store import Row
from reports.sweep.study import build_study
from reports.task import TaskOptions

FOLDER = Path(__file__).parents[3] / "reports" / "studies"
SWEPT = ("ocs_vs_bits", "free_splits", "bitwidth_energy", "accumulators", "outliers")


@pytest.mark.parametrize("name", SWEPT)
def test_page_and_figures_are_those_of_the_results(name):
    page = importlib.import_module(f"reports.studies.{name}.page")
    results = json.loads((FOLDER / name / "results.json").read_text(encoding="utf-8"))
    assert (FOLDER / name / "README.md").read_text(encoding="utf-8") == page.render(results)
    charts = page.charts(results)
    assert charts
    for file, chart in charts.items():
        assert (FOLDER / name / f"{file}.svg").read_text(encoding="utf-8") == svg_file(chart, SVG_WIDTH)
        assert (FOLDER / name / f"{file}.png").read_bytes()[:4] == b"\x89PNG"
        assert f"({file}.png)" in page.render(results)


# --- ocs_vs_bits -----------------------------------------------------------------------------------------------------


def _accuracy(ocs, minus_next, error=0.01):
    return {"network": "n", "clip": None, "bits": 4, "ocs": ocs, "minus_next": minus_next, "minus_next_error": error}


@pytest.mark.parametrize(
    ("differences", "expected"),
    [({0.0: -0.5, 0.01: -0.1, 0.05: -0.0195}, 0.05), ({0.0: -0.0195, 0.05: 0.1}, 0.0), ({0.0: -0.5, 0.2: -0.02}, None)],
)
def test_smallest_expansion_that_is_not_decidedly_behind(differences, expected):
    rows = [_accuracy(ratio, value) for ratio, value in reversed(differences.items())]
    assert matching_ratio(rows, {"network": "n", "clip": None, "bits": 4}, 1.96) == expected


def _priced(bits, ocs, cycles):
    machine = {"array.dataflow": "ws", "array.rows": 8, "pe.type": "native", "dram.bandwidth_gb_per_s": 8.5}
    factors = {"network": "n", "weight_bits": bits, **machine} | ({"ocs": ocs} if ocs else {})
    figures = {"cycles": cycles, "energy_pj": {"total": 2.0 * cycles}, "energy_delay_pj_s": 1.0}
    figures |= {"dram_bytes": 10 - bits, "weight_bytes": bits, "area_um2": {"total": 1.0}}
    return Row(digest=f"{bits}{ocs}", network="n", factors=factors, figures=figures, layers={})


def test_break_even_stops_at_the_first_expansion_that_costs_more():
    rows = [_priced(4, 0, 90), _priced(4, 0.1, 100), _priced(4, 0.2, 101), _priced(4, 0.3, 99), _priced(5, 0, 100)]
    (found,) = break_evens(Designs(tuple(rows), {}))
    assert dict(zip(("cycles", "energy", "edp", "dram", "weights", "area"), found[-6:], strict=True)) == {
        "cycles": 0.1, "energy": 0.1, "edp": 0.3, "dram": None, "weights": 0.3, "area": 0.3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("figure", "ratio", "word"),
    [
        ("cycles", 1.0, "equal"),
        ("cycles", 1.01, "dearer"),
        ("energy_pj", 1.1, "undecided"),
        ("energy_pj", 0.8, "cheaper"),
    ],
)
def test_verdict_knows_the_band(figure, ratio, word):
    assert verdict(figure, ratio) == word


# --- outliers --------------------------------------------------------------------------------------------------------


def _layers(rng, sizes):
    return [_Layer(f"l{i}", rng.standard_t(2 + i, size=n)) for i, n in enumerate(sizes)]


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_mixed_widths_take_no_more_memory_than_one_width(bits):
    layers = _layers(np.random.default_rng(bits), (7, 40, 11, 100))
    widths = assign(layers, bits)
    stored = sum(layer.weight.size * widths[layer.name] for layer in layers)
    assert stored <= bits * sum(layer.weight.size for layer in layers)
    assert all(NARROWEST <= width <= WIDEST for width in widths.values())
    if bits == WIDEST:
        assert set(widths.values()) == {WIDEST}


def test_mixed_widths_of_equal_layers_are_near_the_best_by_enumeration():
    layers = _layers(np.random.default_rng(1), (32, 32, 32))
    widths = assign(layers, 4)

    def error(choice):
        return sum(layer.error(bits) for layer, bits in zip(layers, choice, strict=True))

    fitting = [c for c in itertools.product(range(NARROWEST, WIDEST + 1), repeat=3) if sum(c) <= 12]
    assert error(widths.values()) <= 1.1 * min(map(error, fitting))


# --- accumulators ----------------------------------------------------------------------------------------------------


def test_narrowest_width_counts_from_wide_to_narrow():
    setting = {"network": "n", "dataflow": "ws", "rows": 32, "narrow": "both", "rule": "wrap", "recipe": "W8A8"}
    values = {24: (0.0, 0), 16: (-0.01, 0), 14: (-0.5, 3), 12: (0.0, 9)}  # 12 is luck: 14 already lost
    rows = [
        setting | {"bits": bits, "minus_wide": loss, "minus_wide_error": 0.02, "overflowed_outputs": count}
        for bits, (loss, count) in values.items()
    ]
    (found,) = narrowest(rows)
    assert (found["kept"], found["clean"], found["measured"]) == (16, 16, 12)


# --- from a sweep ----------------------------------------------------------------------------------------------------


def test_gain_of_filling_is_the_difference_of_two_executions(tmp_path):
    study = build_study(
        {
            "name": "small",
            "networks": [{"name": "digits", "images": 60, "calib": 64}],
            "recipes": [{"weight_bits": 3, "ocs": [None, 0.05, "fill"], "first_last": "same"}],
            "accelerators": [{"base": "edge-32x32", "array.rows": [24, 32], "pe.type": "native"}],
        },
        TaskOptions(network=""),
    )
    args = argparse.Namespace(store=tmp_path / "s.db", workers=1)
    (found,) = measured(args, [study], layers=True)
    rows = list(rows_of(found))
    assert len(rows) == 6
    for row in rows:
        plain = next(r for r in rows if r["rows"] == row["rows"] and r["ocs"] is None)
        assert row["gain"] == pytest.approx(row["accuracy"] - plain["accuracy"])
        if row["ocs"] == "fill":
            assert row["array_cycles"] == 1.0
            assert row["splits"] > 0
            fixed = next(r for r in rows if r["rows"] == row["rows"] and r["ocs"] == 0.05)
            assert row["minus_0.05"][0] == pytest.approx(row["accuracy"] - fixed["accuracy"])
