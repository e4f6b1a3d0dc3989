"""What the page of a search's store says of it: choices, convergence, front."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_pages import parsed
from hypothesis import given
from hypothesis import strategies as st

from reports.page.designs import load
from reports.page.render import render_page
from reports.page.searched import MARGIN, searches, volumes
from reports.sweep.store import Store
from reports.task import TaskOptions

PLAIN: dict[str, Any] = {
    "name": "small <b>",
    "network": {"name": "digits", "images": 48, "calib": 32},
    "groups": {"front": ["block1.*"], "back": ["widen*", "block3.*"]},
    "weight_bits": [3, 8],
    "ocs": {"together": [0, 0.05]},
    "accelerators": [{"base": "edge-32x32", "array.rows": [16, 32]}],
    "objectives": ["accuracy", "energy", "latency"],
    "budget": {"max_accuracy_drop": 0.1, "minimize": "energy"},
    "trials": 10,
    "population": 4,
    "sampler": "random",
    "start": {"designs": 0},
    "bit_exact_images": 1,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("optuna", reason="optuna is not installed (extra dse)")
    from reports.search.file import build_search
    from reports.search.run import run_search

    path = tmp_path_factory.mktemp("search") / "search.db"
    run_search(build_search(PLAIN, TaskOptions(network="")), path)
    return path


def test_the_page_tells_what_was_searched_and_found(store: Path) -> None:
    page = render_page(load([store]))
    text = " ".join("".join(parsed(page.html).text).split())
    with Store(store) as opened:
        (record,) = opened.records("search").values()
    for words in (
        "Search small <b>", "Choices of weight_bits.front", "max_accuracy_drop 0.1; least energy",
        f"{len(record['front'])} designs", "Volume dominated against designs judged", "random, population 4, seed 0",
    ):  # fmt: skip
        assert words in text, words
    assert "small <b>" not in page.html
    found = searches(load([store]))[0]
    assert len(found.rows) == len(record["front"])
    drops = [row[2] for row in found.rows]
    worst = max(entry["accuracy_drop"] for entry in record["front"])
    assert any(drop.startswith(f"\N{MINUS SIGN}{100 * worst:.2f} ±") for drop in drops) or worst <= 0
    assert {figure.name for figure in page.figures} >= {"search-small--b-convergence"}


def test_designs_of_a_search_are_called_by_their_layers(store: Path) -> None:
    labels = {design.label for design in load([store]).networks[0].designs}
    assert any(" mixed (mean " in label for label in labels)
    assert not any("front" in label or "OCS plan" in label for label in labels)


def test_convergence_ends_with_the_front_of_all_designs(store: Path) -> None:
    """The same volume by counting random points of the box that some design beats."""
    loaded = load([store])
    with Store(store) as opened:
        (record,) = opened.records("search").values()
    by = {design.row.digest: design.figures for design in loaded.networks[0].designs}
    from reports.search.objectives import OBJECTIVES

    losses = np.array([[OBJECTIVES[name].loss(by[one]) for name in record["objectives"]] for one in record["trials"]])
    span = np.ptp(losses, axis=0)
    scaled = ((losses - losses.min(axis=0)) / np.where(span > 0, span, 1))[:, span > 0]
    random = np.random.default_rng(0).random((40_000, scaled.shape[1])) * (1 + MARGIN)
    beaten = np.any(np.all(scaled[:, None] <= random[None], axis=2), axis=0).mean()
    found = volumes(losses)
    assert found[-1][1] == pytest.approx(beaten, abs=0.02)
    (chart,) = [one for name, one in searches(loaded)[0].charts.items() if name == "convergence"]
    assert chart.series[0].marks[-1].x == len(record["trials"])


def test_a_store_that_lost_designs_still_has_a_page(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(store.read_bytes())
    with Store(copy, create=True) as opened:
        opened._db.execute("DELETE FROM points WHERE digest IN (SELECT digest FROM points LIMIT 3)")
    assert "Search small" in render_page(load([copy])).html


LOSSES = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=12)


@given(LOSSES)
def test_volumes_never_shrink_and_do_not_depend_on_units(losses: list[list[int]]) -> None:
    given_losses = np.array(losses, dtype=float)
    found = volumes(given_losses)
    shares = [share for _, share in found]
    assert all(0 < share <= 1 + 1e-12 for share in shares)
    assert shares == sorted(shares)
    assert [count for count, _ in found] == sorted({count for count, _ in found})
    assert np.array(volumes(given_losses * [1e12, 1e-6, 3.0])) == pytest.approx(np.array(found))


def test_designs_that_cannot_be_built_count_as_judged() -> None:
    nothing = [np.nan, np.nan]
    assert volumes(np.array([nothing, [1.0, 2.0], nothing, [2.0, 1.0]]))[-1][0] == 4
    assert volumes(np.array([nothing])) == []
    assert volumes(np.array([[1.0, 1.0], [1.0, 1.0]])) == [(1, 1.0)]
