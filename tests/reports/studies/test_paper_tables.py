"""The published tables beside ours: complete, as printed, and judged by their numbers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from reports.draw import svg_file
from reports.plots import SVG_WIDTH
from reports.studies.common import HELD, NOT_HELD, UNDECIDED
from reports.studies.paper_tables import published
from reports.studies.paper_tables.__main__ import main
from reports.studies.paper_tables.charts import charts
from reports.studies.paper_tables.claims import CLAIMS, NO_CASE, Claim, judge_claim, order
from reports.studies.paper_tables.page import render
from reports.studies.paper_tables.study import BITS, OURS, PAIRS, PLAIN, collect, compared

STUDIES = Path(published.__file__).parents[1]
FOLDER = STUDIES / "paper_tables"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_committed_files_follow_from_the_other_studies(results):
    assert results == json.loads(json.dumps(collect(STUDIES)))
    page = render(results)
    assert page == (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, chart in charts(results).items():
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == svg_file(chart, SVG_WIDTH)
        assert (FOLDER / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert f"({name}.png)" in page


def test_missing_studies_are_one_line(tmp_path, capsys):
    assert main(["--studies", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- published figures -----------------------------------------------------------------------------------------------


def test_published_tables_are_complete():
    for table, rows in (("weights", published.WEIGHTS), ("activations", published.ACTIVATIONS)):
        assert list(rows) == list(published.FLOAT)
        for network in rows.values():
            assert tuple(network) == BITS
            assert all(len(row) == len(published.COLUMNS[table]) for row in network.values())
    assert set(published.ORACLE) < set(published.FLOAT)
    assert all(len(row) == len(published.ORACLE_BATCHES) for row in published.ORACLE.values())
    tables = [source.table for source in published.SOURCES if source.arxiv.startswith("1901.09504")]
    assert tables == [f"Table {number}" for number in range(1, 7)]
    assert {source.arxiv[:10] for source in published.SOURCES} == {
        "1901.09504", "1810.05723", "2501.12428", "2503.07657", "1902.01917",
    }  # fmt: skip


@pytest.mark.parametrize("table", ["weights", "activations"])
def test_best_clip_is_the_best_of_its_row(table):
    """A slip of the pen in a row shows here; the one row that the paper itself prints otherwise is known."""
    columns, rows = published.COLUMNS[table], {"weights": published.WEIGHTS, "activations": published.ACTIVATIONS}
    odd = {}
    for network, widths in rows[table].items():
        for bits, row in widths.items():
            cells = dict(zip(columns, row, strict=True))
            if cells["best"] != max(cells[name] for name in PLAIN):
                odd[network, bits] = cells["best"]
    assert odd == ({} if table == "weights" else {("DenseNet-121", 7): 73.6})


@pytest.mark.parametrize(
    ("network", "quoted"),
    [("ResNet-50", (75.7, 75.6, 75.2, 73.4, 69.3)), ("Inception-V3", (75.3, 74.7, 72.5, 62.9, 4.8))],
)
def test_another_paper_quotes_the_same_figures(network, quoted):
    """Fang et al., "Post-Training Piecewise Linear Quantization", ECCV 2020, Table 3, quotes r = 0.05's better one."""
    place = [published.COLUMNS["weights"].index(name) for name in ("ocs 0.05", "ocs 0.05 + clip")]
    assert tuple(max(row[i] for i in place) for row in published.WEIGHTS[network].values()) == quoted


@pytest.mark.parametrize(
    ("table", "network", "bits", "column", "top1"),
    [
        ("weights", "VGG16-BN", 8, "kl", 68.4),
        ("weights", "VGG16-BN", 5, "ocs 0.05", 71.0),
        ("weights", "ResNet-50", 4, "aciq", 33.2),
        ("weights", "DenseNet-121", 6, "mse", 71.4),
        ("weights", "Inception-V3", 5, "best", 40.5),
        ("weights", "Inception-V3", 4, "ocs 0.02 + clip", 2.3),
        ("activations", "VGG16-BN", 5, "aciq", 58.1),
        ("activations", "ResNet-50", 6, "none", 62.6),
        ("activations", "DenseNet-121", 5, "ocs 0.02", 18.7),
        ("activations", "Inception-V3", 6, "best", 69.6),
    ],
)
def test_published_cells(table, network, bits, column, top1):
    rows = {"weights": published.WEIGHTS, "activations": published.ACTIVATIONS}[table]
    assert rows[network][bits][published.COLUMNS[table].index(column)] == top1


def test_the_other_published_figures(results):
    assert published.ORACLE["ResNet-50"][0] == 74.6
    assert published.ORACLE["Inception-V3"][-1] == 70.3
    assert published.OVERHEAD[0.05] == (1.05, 1.06)
    assert published.SPLITQUANT_GAINS == (3.3, 2.1)
    assert sorted(published.ACIQ.values()) == [15.440, 62.154, 71.404, 73.330, 74.2]
    assert published.EQUALIZED == {"none": (0.25, 5.78), "one-step": (0.38, 0.80), "two-step": (0.25, 0.78)}
    word = {(c["bits"], c["ratio"], c["clip"]): c["more_bits"] for c in results["lstm"][0]["cells"]}
    assert word[5, 0.0, "aciq"] == pytest.approx(math.log(100.8 / 95.1) / math.log(2), abs=1e-5)
    assert word[5, 0.05, "none"] == 0


# --- ours ------------------------------------------------------------------------------------------------------------


def test_drops_are_those_of_the_study(results):
    source = json.loads((STUDIES / "cnn_tables" / "results.json").read_text(encoding="utf-8"))["networks"]
    for network in (n for n in results["networks"] if n["whose"] == OURS):
        part = source[network["name"]]
        for cell in network["cells"]:
            assert cell["drop"] == pytest.approx(cell["accuracy"] - 100 * part["float"]["accuracy"])
            if cell["column"] == "best":
                row = [
                    c["accuracy"] for c in network["cells"]
                    if (c["table"], c["bits"]) == (cell["table"], cell["bits"]) and c["column"] in PLAIN
                ]  # fmt: skip
                assert cell["accuracy"] == max(row)
        assert len(network["differences"]) == sum(len(PAIRS[t]) for t in ("weights", "activations")) * len(BITS)


def _part(errors: dict[tuple[str, str], float]) -> dict[str, Any]:
    cells = [
        {"table": "weights", "bits": 4, "column": column, "accuracy": accuracy, "minus_float_standard_error": 0.05}
        for column, accuracy in (("none", 0.2), ("mse", 0.5), ("a", 0.6), ("b", 0.7))
    ]
    rows = [
        {"table": "weights", "bits": 4, "first": one, "second": two, "standard_error": error}
        for (one, two), error in errors.items()
    ]
    return {"cells": cells, "comparisons": rows}


def test_errors_are_paired_or_bounded():
    part = _part({("a", "mse"): 0.01, ("b", "mse"): 0.02})
    assert compared(part, "weights", 4, "a", "mse") == {"value": pytest.approx(10), "error": 1.0, "paired": True}
    assert compared(part, "weights", 4, "mse", "a")["value"] == pytest.approx(-10)
    bound = compared(part, "weights", 4, "b", "a")
    assert bound == {"value": pytest.approx(10), "error": pytest.approx(3), "paired": False}
    assert compared(_part({}), "weights", 4, "b", "a")["error"] == pytest.approx(10)  # by way of the float network


# --- claims on made-up numbers ---------------------------------------------------------------------------------------


def _network(
    differences: dict[tuple[int, str, str], tuple[float, float | None]], *, whose: str = OURS, top1: float = 70.0
) -> dict[str, Any]:
    """Return a network whose methods differ as given; 0 ± 1 where not given."""
    columns = ("none", "best", "mse", "ocs 0.01", "ocs 0.02", "ocs 0.05")
    columns += tuple(f"ocs {r} + clip" for r in ("0.01", "0.02", "0.05"))
    cells = [
        {"table": table, "bits": bits, "column": column, "accuracy": top1}
        for table in ("weights", "activations") for bits in BITS for column in columns
    ]  # fmt: skip
    rows = []
    for table in ("weights", "activations"):
        for bits in BITS:
            for first, second in PAIRS[table]:
                value, error = differences.get((bits, first, second), (0.0, 1.0))
                rows.append(
                    {"table": table, "bits": bits, "first": first, "second": second, "value": value, "error": error}
                )
    return {"name": "made-up", "whose": whose, "float": 72.0, "cells": cells, "differences": rows}


def _claim(words: str) -> Claim:
    return next(claim for claim in CLAIMS if words in claim.says)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ({6: (3.0, 1.0), 5: (3.0, 1.0)}, HELD),
        ({6: (3.0, 1.0), 5: (1.9, 1.0)}, UNDECIDED),
        ({6: (3.0, 1.0), 5: (-3.0, 1.0)}, NOT_HELD),
        ({}, UNDECIDED),
    ],
)
def test_a_gain_is_held_where_it_is_decided_everywhere(differences, verdict):
    network = _network({(bits, "ocs 0.02", "best"): found for bits, found in differences.items()})
    judged = judge_claim({"networks": [network]}, _claim("OCS with r = 0.02 is ahead"))["made-up"]
    assert judged.verdict == verdict
    assert judged.on_side == sum(value > 0 for value, _ in differences.values())


@pytest.mark.parametrize(("value", "verdict"), [(-0.5, HELD), (0.0, HELD), (0.5, UNDECIDED), (3.0, NOT_HELD)])
def test_no_better_is_undecided_where_it_leans(value, verdict):
    network = _network({(7, "rule", "none"): (value, 1.0), (8, "rule", "none"): (-3.0, 1.0)})
    assert judge_claim({"networks": [network]}, _claim("no better than no clip"))["made-up"].verdict == verdict


def test_a_claim_for_the_second_turns_its_cases():
    pairs = [("ocs 0.01", "best"), ("ocs 0.02", "best")]
    network = _network({(4, *pair): (-3.0, 1.0) for pair in pairs})
    judged = judge_claim({"networks": [network]}, _claim("The best clip is ahead of OCS alone"))["made-up"]
    assert (judged.verdict, judged.on_side) == (HELD, 2)
    assert all(case.value == 3.0 for case in judged.cases)


def test_lost_accuracy_is_no_case():
    claim = _claim("OCS with r = 0.02 is ahead")
    judged = judge_claim({"networks": [_network({(6, "ocs 0.02", "best"): (9.0, 1.0)}, top1=10.0)]}, claim)["made-up"]
    assert (judged.verdict, judged.left_out, judged.cases) == (NO_CASE, 2, ())


def test_order_tells_decided_neighbours():
    network = _network({})
    for cell in network["cells"]:
        cell["accuracy"] += {"ocs 0.05 + clip": 3, "ocs 0.05": 2, "none": -9}.get(cell["column"], 0)
    for row in network["differences"]:
        if (row["first"], row["second"]) == ("rule", "none"):
            row["value"] = 9.0
    assert order(network, "weights", 5) == "OCS + clip ≈ OCS ≈ clip > none"
    for row in network["differences"]:
        if (row["first"], row["second"]) == ("ocs 0.05 + clip", "ocs 0.05"):
            row["value"] = 3.0
    assert order(network, "weights", 5) == "OCS + clip > OCS ≈ clip > none"


def test_every_claim_has_the_papers_cases(results):
    for claim in CLAIMS:
        judged = judge_claim(results, claim)
        names = {row["name"] for kind in ("networks", "qa") for row in results[kind] if row["whose"] == OURS}
        assert any(item.cases for name, item in judged.items() if name not in names)
        assert all(case.error is None for name, item in judged.items() if name not in names for case in item.cases)
        assert all(case.error is not None for name, item in judged.items() if name in names for case in item.cases)
