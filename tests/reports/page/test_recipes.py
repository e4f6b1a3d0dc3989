"""What a report calls recipes: widths by layer, and plans of splits."""

from dataclasses import replace
from typing import Any

import pytest

from quant.ocs import SplitOutliers
from quant.recipe import LayerBits, Recipe
from reports.page.designs import load
from reports.page.recipes import recipe_words
from reports.sweep.store import Row
from reports.sweep.sweep import How, run_sweep

# three layers of 100, 300 and 600 weights, and a product of two activations, which has none
LAYERS: dict[str, list[Any]] = {
    "kind": ["conv", "conv", "conv", "matmul"], "k": [10, 10, 20, 50], "n": [10, 30, 30, 50], "groups": [1, 1, 1, 4],
    "weight_bits": [8, 2, 4, 8],
}  # fmt: skip


def row(label: str, expansion: float = 1.0, weight_bits: list[int] | None = None, **factors: Any) -> Row:
    return Row(
        digest="d",
        network="n",
        factors=factors,
        figures={"recipe": label, "weight_expansion": expansion},
        layers=LAYERS | ({"weight_bits": weight_bits} if weight_bits else {}),
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (row("W4A8 + OCS 0.02"), "W4A8 + OCS 0.02"),
        (row("W2-8A8 + mse w"), "W2-8 mixed (mean 3.8 bits) A8 + mse w"),
        (row("W8A8", **{"weight_bits.front": 2, "weight_bits.back": 4}), "W2-8 mixed (mean 3.8 bits) A8"),
        (row("W8A8", **{"weight_bits.front": 4, "weight_bits.back": 4}), "W4A8"),
        (row("W8A8", **{"weight_bits.together": 4, "act_bits.front": 6, "act_bits.back": 8}), "W4A6-8 mixed"),
        (row("W8A4-8", weight_bits=[8, 8, 8, 8]), "W8A4-8 mixed"),
        (row("W4A8 + OCS plan", ocs="fill"), "W4A8 + OCS fill"),
        (row("W4A8 + OCS 37 channels", ocs_folds=2), "W4A8 + OCS 2 folds"),
        (row("W4A8 + OCS 37 channels", **{"ocs.front": 0, "ocs.back": 0.05}), "W4A8 + OCS 0/0.05"),
        (row("W4A8 + OCS plan", 1.034), "W4A8 + OCS planned (+3.4\N{NO-BREAK SPACE}% weights)"),
        (row("W4A8 + OCS 37 channels", 1.034), "W4A8 + OCS 37 channels (+3.4\N{NO-BREAK SPACE}% weights)"),
        (row("as imported"), "as imported"),
    ],
)
def test_recipes_are_called_what_they_are(given: Row, words: str) -> None:
    assert recipe_words(given) == words


def test_a_recipes_own_label_has_its_range_and_its_channels() -> None:
    mixed = Recipe(weight_bits=4, layer_bits=(LayerBits("a", weight_bits=2, act_bits=6), LayerBits("b", act_bits=8)))
    assert mixed.label() == "W2-4A6-8"
    assert Recipe(layer_bits=(LayerBits("a", weight_bits=8),)).label() == "W8A8"
    assert SplitOutliers(splits=(("a", 3), ("b", 4))).label == "OCS 7 channels"


def test_two_points_equal_in_all_but_the_recipes_name_are_executed_once(study_of_page: Any, tmp_path: Any) -> None:
    (point,) = study_of_page.points
    recipes = [Recipe(name=name, layer_bits=(LayerBits("block1.*", weight_bits=3),)) for name in ("first", "second")]
    points = tuple(replace(point, options=recipe) for recipe in recipes)
    summary = run_sweep(replace(study_of_page, points=points), tmp_path / "two.db", How(threads=1))
    assert (summary.points, summary.measured) == (1, 1)
    (design,) = load([tmp_path / "two.db"]).networks[0].designs
    assert design.label.startswith("W3-8 mixed (mean ")
