"""What studies share: Programs from shared observations, kept measurements, verdicts, pages from results."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accelsim.config import load_accelerator
from quant.clip import CLIPS
from quant.equalize_cross import CrossLayer
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.studies import common
from reports.studies.common import Bench, Difference, Kept, difference, judge, kept_setting, measure, measure_all
from reports.task import Task, TaskOptions, load_task
from workloads import METRICS

STUDIES = sorted(path.parent.name for path in Path(common.__file__).parent.glob("*/__main__.py"))

RECIPES = (
    Recipe(name="plain"),
    Recipe(name="w4", weight_bits=4),
    Recipe(name="w4-mse", weight_bits=4, weight_clip=CLIPS["mse"]()),
    Recipe(name="split", weight_bits=4, transforms=(SplitOutliers(ratio=0.05),)),
    Recipe(name="split-same", weight_bits=4, transforms=(SplitOutliers(ratio=0.05),), first_last="same"),
    Recipe(name="corrected", weight_bits=4, bias_correction=True),
    Recipe(name="equalized", weight_bits=4, transforms=(CrossLayer(),)),
    Recipe(name="acts", act_bits=5, transforms=(SplitActivations(ratio=0.05),)),
)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(TaskOptions(network="digits", images=40, calib=64))


@pytest.fixture(scope="module")
def bench(task: Task) -> Bench:
    return Bench(task=task, accelerator=load_accelerator("edge-32x32"), exact_samples=4)


def test_shared_observation_gives_the_programs_of_separate_ones(task: Task) -> None:
    made = dict(common.quantize_all(task, RECIPES))
    for recipe in RECIPES:
        alone = quantize_network(task.graph, task.calibration, recipe)
        assert made[recipe].program.digest() == alone.program.digest(), recipe.name


def test_measure_compares_in_two_batches(bench: Bench, task: Task) -> None:
    quantized = quantize_network(task.graph, task.calibration, RECIPES[3])
    found = measure(bench, quantized)
    assert found.bit_exact
    assert (found.exact_samples, found.exact_batches) == (4, 2)
    assert found.tallies.shape == (40, 2)
    grown = [node.params["weight"].size for node in quantized.graph.nodes if "weight" in node.params]
    plain = [node.params["weight"].size for node in task.graph.nodes if node.op in ("conv", "linear")]
    assert found.expansion == sum(grown) / sum(plain) > 1


def test_kept_measurements_are_not_made_again(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, kept_setting(bench, 0))
    first = measure_all(bench, RECIPES[:3], kept)
    seen: list[int] = []
    monkeypatch.setattr(common, "measure", lambda *_: pytest.fail("measured again"))
    again = measure_all(bench, RECIPES[:3], kept, seen.append)
    assert sum(seen) == 3
    for name, found in first.items():
        assert np.array_equal(found.tallies, again[name].tallies)
        assert (found.bit_exact, found.expansion) == (again[name].bit_exact, again[name].expansion)


def test_another_setting_or_recipe_is_another_measurement(bench: Bench, tmp_path: Path) -> None:
    setting = kept_setting(bench, 0)
    kept = Kept(tmp_path, setting)
    kept.keep(RECIPES[0], measure_all(bench, RECIPES[:1], kept)["plain"])
    assert Kept(tmp_path, setting | {"seed": 1}).find(RECIPES[0]) is None
    assert kept.find(replace(RECIPES[0], weight_bits=7)) is None
    assert kept.find(RECIPES[0], "oracle") is None
    assert kept.find(RECIPES[0]) is not None


def test_difference_is_signed_by_the_metric() -> None:
    tallies = np.stack([np.array([1.0, 1, 1, 1, 1, 1, 1, 0]), np.ones(8)], axis=1)
    others = np.stack([np.array([0.0, 0, 0, 0, 0, 1, 1, 0]), np.ones(8)], axis=1)
    found = difference(METRICS["top1"], tallies, others)
    gaps = tallies[:, 0] - others[:, 0]
    assert found.value == pytest.approx(5 / 8)
    assert found.error == pytest.approx(np.std(gaps, ddof=1) / np.sqrt(8))
    assert found.ahead
    assert not found.behind
    assert replace(found, better=False).behind


AHEAD, BEHIND, NEAR = Difference(2.0, 1.0), Difference(-2.0, 1.0), Difference(1.9, 1.0)


@pytest.mark.parametrize(
    ("claim", "cases", "verdict"),
    [
        ("ahead", [AHEAD, AHEAD], "held"),
        ("ahead", [AHEAD, NEAR], "undecided here"),
        ("ahead", [AHEAD, BEHIND], "not held"),
        ("ahead", [], "undecided here"),
        ("not ahead", [NEAR, BEHIND], "held"),
        ("not ahead", [NEAR, AHEAD], "not held"),
        ("not behind", [NEAR, AHEAD], "held"),
        ("not behind", [BEHIND, AHEAD], "not held"),
    ],
)
def test_judge(claim: str, cases: list[Difference], verdict: str) -> None:
    assert judge(cases, claim=claim) == verdict


def test_equal_samples_decide_nothing() -> None:
    assert judge([Difference(0.0, 0.0)], claim="ahead") == "undecided here"


@pytest.mark.parametrize("name", STUDIES)
def test_committed_page_follows_from_the_committed_results(name: str) -> None:
    page = importlib.import_module(f"reports.studies.{name}.page")
    folder = Path(page.__file__ or "").parent
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert page.render(results) == (folder / "README.md").read_text(encoding="utf-8")
    assert f"reports.studies.{name}" in results["setting"]["command"]
