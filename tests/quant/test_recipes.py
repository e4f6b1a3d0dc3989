"""Recipes: by name, as YAML, from options; neutral ones are the plain quantizer bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transform_nets import NETS, samples

from quant.clip import CLIPS, Kl, Mse, Percentile
from quant.equalize_cross import CrossLayer
from quant.equalize_meller import OneStep, TwoStep
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import LayerBits, Recipe
from quant.recipe_options import QuantOptions, recipe_from_options
from quant.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from quant.recipes import FAMILIES, RECIPES, TRANSFORMS, describe_recipe, load_recipe
from quant.smoothquant import SmoothQuant
from quant.splitquant import SplitQuant

# --- names -----------------------------------------------------------------------------------------------------------


def test_every_recipe_has_a_name_of_its_own_in_one_family() -> None:
    built = [recipe.name for family in FAMILIES for recipe in family.build()]
    assert len(built) == len(set(built)) == len(RECIPES)
    for name in RECIPES:
        assert name.startswith(tuple(f"{family.name}-" for family in FAMILIES))
        assert name == name.lower().replace(" ", "")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("ocs-table2-w5-none", "W5A8"),
        ("ocs-table2-w5-ocs0.02-mse", "W5A8 + mse w + OCS 0.02"),
        ("ocs-table2-w4-kl", "W4A8 + kl w"),
        ("ocs-table2-w8-ocs0.05", "W8A8 + OCS 0.05"),
        ("ocs-table1-w3-ocs0.2-naive", "W3A8 + OCS 0.2 naive"),
        ("ocs-table3-a6-aciq", "W8A6 + aciq a"),
        ("ocs-table3-a4-ocs0.01", "W8A4 + act OCS 0.01"),
        ("ocs-table4-a6-ocs0.02-oracle", "W8A6 + act OCS 0.02 oracle"),
        ("ocs-table4-a6-mse", "W8A6 + mse a"),
        ("ocs-table5-ocs0.1", "W8A8 + OCS 0.1"),
        ("ocs-released-w4-ocs0.05-kl-mxnet", "W4A8 + kl-mxnet w + wide clamp + OCS 0.05"),
        ("ocs-table6-w5-ocs0-none", "W5A16"),
        ("ocs-table6-w6-ocs0.05-kl", "W6A16 + kl w + OCS 0.05"),
        ("meller-w8a8-two-step", "W8A8 + equalize two-step"),
        ("meller-w8a8-two-step-released", "W8A8 + equalize two-step (released)"),
        ("cross-layer-w4a8", "W4A8 + equalize cross-layer"),
        ("per-channel-w4a8-mse", "W4A8 + mse w + per channel"),
        ("smoothquant-w4a8", "W4A8 + SmoothQuant 0.5"),
        ("splitquant-w2-affine", "W2A16 + SplitQuant affine"),
        ("plain-w8a4", "W8A4"),
    ],
)
def test_rows_of_the_papers_are_there(name: str, label: str) -> None:
    assert RECIPES[name].label() == label
    assert load_recipe(name) is RECIPES[name]
    assert describe_recipe(name).startswith(label)


def test_tables_2_and_3_are_complete() -> None:
    for bits in (8, 7, 6, 5, 4, 3):
        columns = {n.removeprefix(f"ocs-table2-w{bits}-") for n in RECIPES if n.startswith(f"ocs-table2-w{bits}-")}
        splits = {f"ocs{r}{c}" for r in (0.01, 0.02, 0.05) for c in ("", "-mse", "-aciq", "-kl")}
        assert columns == {"none", "mse", "aciq", "kl"} | splits
    for bits in (8, 7, 6, 5, 4):
        columns = {n.removeprefix(f"ocs-table3-a{bits}-") for n in RECIPES if n.startswith(f"ocs-table3-a{bits}-")}
        assert columns == {"none", "mse", "aciq", "kl", "ocs0.01", "ocs0.02", "ocs0.05"}


def test_every_transform_is_in_a_named_recipe() -> None:
    used = {type(t) for recipe in RECIPES.values() for t in recipe.transforms}
    assert used == set(TRANSFORMS.values())


@pytest.mark.parametrize("name", [name for family in FAMILIES for name in [r.name for r in family.build()][::23]])
def test_named_recipes_quantize_a_network(name: str) -> None:
    rng = np.random.default_rng(0)
    graph = NETS["chain"](rng)
    x = samples(graph, rng, 8)
    quantized = quantize_network(graph, lambda: [x], RECIPES[name])
    assert quantized.recipe is RECIPES[name]
    assert len(quantized.layers) >= 4


def test_an_unknown_name_is_a_clear_line() -> None:
    with pytest.raises(ValueError, match=r"recipe 'ocs-table9' is neither a named recipe .* nor a YAML file") as error:
        load_recipe("ocs-table9")
    assert "\n" not in str(error.value)


# --- YAML ------------------------------------------------------------------------------------------------------------


def test_every_named_recipe_survives_yaml() -> None:
    for recipe in RECIPES.values():
        assert recipe_from_yaml(recipe_to_yaml(recipe)) == recipe


clips = st.one_of(
    st.sampled_from([make() for make in CLIPS.values()]),
    st.floats(50, 100).map(Percentile),
    st.integers(1, 200).map(Mse),
)
ratios = st.floats(0, 1)
transforms = st.one_of(
    st.builds(OneStep, cap=st.floats(1, 64), pre_activation=st.booleans(), relu6=st.sampled_from(["caps", "skip"])),
    st.builds(TwoStep, released=st.booleans()),
    st.builds(CrossLayer, sweeps=st.integers(1, 5)),
    st.builds(SmoothQuant, alpha=ratios),
    st.builds(SplitActivations, ratio=ratios, oracle=st.booleans()),
    st.builds(SplitOutliers, ratio=ratios, naive=st.booleans(), threshold_ratio=st.floats(0, 0.9)),
    st.builds(SplitOutliers, splits=st.just((("layer1.0.conv1", 3), ("fc", 1)))),
    st.builds(SplitQuant, scales=st.sampled_from(["affine", "symmetric"]), storage=st.sampled_from(["dense", "coded"])),
)
widths = st.integers(2, 16)
recipes = st.builds(
    Recipe,
    name=st.text(max_size=12),
    weight_bits=widths,
    act_bits=widths,
    per_channel=st.booleans(),
    weight_clip=clips,
    act_clip=clips,
    clip_expanded=st.booleans(),
    wide_clamp=st.booleans(),
    transforms=st.lists(transforms, max_size=3).map(tuple),
    first_last=st.sampled_from(["8bit", "same"]),
    act_scheme=st.sampled_from(["symmetric", "affine"]),
    rule=st.sampled_from(["float32_rne", "pot_shift"]),
    layer_bits=st.lists(
        st.builds(LayerBits, st.text(min_size=1, max_size=8), st.none() | widths, st.none() | widths), max_size=2
    ).map(tuple),
)


@given(recipes)
def test_any_recipe_survives_yaml(recipe: Recipe) -> None:
    assert recipe_from_yaml(recipe_to_yaml(recipe)) == recipe


def test_a_file_is_read_and_leaves_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nweight_bits: 4\nact_clip: {percentile: {percent: 99.9}}\n"
        'transforms: [two-step, {ocs: {ratio: 0.02}}]\nlayer_bits: [{pattern: "layer3.*", weight_bits: 6}]\n'
    )
    assert load_recipe(path) == Recipe(
        name="mine",
        weight_bits=4,
        act_clip=Percentile(99.9),
        transforms=(TwoStep(), SplitOutliers(ratio=0.02)),
        layer_bits=(LayerBits("layer3.*", 6),),
    )


def test_all_errors_are_told_at_once_in_one_line() -> None:
    text = """
weight_bits: 20
act_bits: x
frob: 1
per_channel: 1
weight_clip: {percentile: {percent: 200, q: 1}}
act_clip: mean
transforms: [one-step, {ocs: {ratio: 3, naive: 1}}, foo, {one-step: {cap: .nan}}, {ocs: 3}, {ocs: {splits: [1]}}]
layer_bits: [{weight_bits: 4}, 3]
rule: up
"""
    with pytest.raises(ValueError, match=r"recipe r\.yaml has 16 error") as error:
        recipe_from_yaml(text, "r.yaml")
    told = str(error.value)
    assert "\n" not in told
    for part in (
        "weight_bits: weight_bits must be within 2..16 bits (got 20)",
        "act_bits: must be a whole number (got 'x')",
        "frob: is unknown; known are name, weight_bits",
        "per_channel: must be true or false (got 1)",
        "weight_clip.percentile.percent: percentile must be within (0, 100] (got 200.0)",
        "weight_clip.percentile.q: is unknown; known are percent",
        "act_clip: must name one of max, percentile",
        "transforms[1].ocs.ratio: ocs ratio must be within 0..1 (got 3.0)",
        "transforms[1].ocs.naive: must be true or false (got 1)",
        "transforms[2]: must name one of one-step",
        "transforms[3].one-step.cap: must be a finite number (got nan)",
        "transforms[4].ocs: must be a mapping of options (got 3)",
        "transforms[5].ocs.splits: must be a mapping of layer names to whole numbers",
        "layer_bits[0].pattern: must be given",
        "layer_bits[1]: must be a mapping of options (got 3)",
        "rule: rule must be one of float32_rne",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping of fields (got NoneType)"),
        ("[1]", "must be a mapping of fields (got list)"),
        ("weight_bits: 4\nweight_bits: 5", "key 'weight_bits' is given twice"),
        ("{", "is no valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is no valid YAML"),
        ("transforms: one-step", "transforms: must be a list (got 'one-step')"),
        ("transforms: [{one-step: {}, two-step: {}}]", "transforms[0]: must name one of"),
        ("act_clip: {aciq-gauss: {prior: gauss}}", "act_clip: aciq-gauss takes no options"),
        ("weight_clip: {aciq: {table: best}}", "weight_clip.aciq.table: must be one of"),
        ("layer_bits: [{pattern: a, weight_bits: 1}]", "layer_bits of 'a' must be within 2..16 bits (got 1)"),
        ("first_last: none", "first_last: must be one of 8bit, same (got 'none')"),
        ("1: 2", "1: is unknown"),
    ],
)
def test_bad_yaml_is_a_clear_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="recipe text") as error:
        recipe_from_yaml(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_has_no_name_cannot_be_written() -> None:
    class Odd:
        pass

    with pytest.raises(ValueError, match="recipe_to_yaml knows one-step"):
        recipe_to_yaml(Recipe(transforms=(Odd(),)))  # type: ignore[arg-type]


# --- options ---------------------------------------------------------------------------------------------------------


def from_options(**options: Any) -> Recipe:
    plan = options.pop("plan", None)
    return recipe_from_options(QuantOptions(**options), plan)


def test_no_options_are_the_default_recipe() -> None:
    assert from_options() == Recipe()
    assert from_options(per_channel=False, naive_split=False, splitquant=False) == Recipe()


def test_options_make_transforms_in_the_order_in_which_they_compose() -> None:
    recipe = from_options(
        weight_bits=4, act_bits=6, clip="mse", act_clip="kl", ocs="0.02", act_ocs=0.05, equalize="two-step",
        smoothquant=0.5, first_last="same", per_channel=True,
    )  # fmt: skip
    assert recipe == Recipe(
        weight_bits=4,
        act_bits=6,
        per_channel=True,
        weight_clip=Mse(),
        act_clip=Kl(),
        first_last="same",
        transforms=(TwoStep(), SmoothQuant(alpha=0.5), SplitActivations(ratio=0.05), SplitOutliers(ratio=0.02)),
    )
    assert from_options(splitquant=True).transforms == (SplitQuant(),)
    assert [type(from_options(equalize=how).transforms[0]) for how in ("one-step", "cross-layer")] == [
        OneStep,
        CrossLayer,
    ]


def test_a_ratio_of_zero_is_no_transform() -> None:
    assert from_options(ocs="0", act_ocs=0.0).transforms == ()


def test_a_plan_gives_the_splits_of_each_layer() -> None:
    wanted = (SplitOutliers(splits=(("fc", 2),), naive=True),)
    assert from_options(ocs="fill", plan={"conv": 0, "fc": 2}, naive_split=True).transforms == wanted
    assert from_options(ocs_folds=1, plan={"fc": 2}).transforms == (SplitOutliers(splits=(("fc", 2),)),)
    assert from_options(ocs="fill", plan={"conv": 0}).transforms == ()
    assert QuantOptions(ocs="fill").needs_plan
    assert QuantOptions(ocs_folds=2).needs_plan
    assert not QuantOptions(ocs="0.1").needs_plan


def test_percentile_goes_to_the_rules_that_ask_for_it() -> None:
    recipe = from_options(clip="percentile", percentile=99.0)
    assert (recipe.weight_clip, recipe.act_clip.name) == (Percentile(99.0), "max")
    assert from_options(act_clip="percentile").act_clip == Percentile()


def test_a_named_recipe_takes_widths_and_rules_from_options(tmp_path: Path) -> None:
    recipe = from_options(recipe="ocs-table2-w5-ocs0.02-mse", weight_bits=4, first_last="same", act_clip="kl")
    assert recipe.transforms == (SplitOutliers(ratio=0.02),)
    assert recipe.label() == "W4A8 + mse w + kl a + OCS 0.02"
    assert recipe.first_last == "same"
    path = tmp_path / "r.yaml"
    path.write_text("weight_bits: 3")
    assert from_options(recipe=str(path)) == Recipe(weight_bits=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": "plain-w8a8", "ocs": "0.1", "equalize": "one-step"},
            "--recipe must be given without --ocs, --equalize",
        ),
        ({"clip": "best"}, "--clip must be one of max, percentile"),
        ({"act_clip": "best"}, "--act-clip must be one of"),
        ({"percentile": 99.0}, "--percentile must come with --clip or --act-clip percentile"),
        ({"ocs": "much"}, "--ocs must be a ratio within 0..1 or fill (got 'much')"),
        ({"ocs": "1.5"}, "ocs ratio must be within 0..1 (got 1.5)"),
        ({"ocs": "-0.1"}, "ocs ratio must be within 0..1 (got -0.1)"),
        ({"ocs": "nan"}, "ocs ratio must be within 0..1 (got nan)"),
        ({"act_ocs": -1.0}, "act-ocs ratio must be within 0..1"),
        ({"ocs": "fill"}, "need the splits of every layer"),
        ({"ocs": "0.1", "ocs_folds": 1}, "--ocs-folds must be given without --ocs"),
        ({"naive_split": True}, "--naive-split must come with --ocs"),
        ({"equalize": "twice"}, "--equalize must be one of one-step, two-step, cross-layer"),
        ({"smoothquant": 2.0}, "smoothquant alpha must be within 0..1"),
        ({"weight_bits": 1}, "weight_bits must be within 2..16"),
        ({"first_last": "float"}, "first_last must be 8bit or same"),
    ],
)
def test_options_that_contradict_are_a_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        from_options(**options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- neutral ---------------------------------------------------------------------------------------------------------

NEUTRAL = Recipe(
    transforms=(OneStep(cap=1.0), SplitActivations(ratio=0.0), SplitOutliers(ratio=0.0)),
    weight_clip=Percentile(100.0),
    act_clip=Percentile(100.0),
)


@pytest.mark.parametrize("which", NETS)
def test_neutral_knobs_are_the_plain_quantizer_bit_for_bit(which: str) -> None:
    rng = np.random.default_rng(5)
    graph = NETS[which](rng)
    x = samples(graph, rng, 6)
    plain, neutral = (quantize_network(graph, lambda: [x], recipe).program for recipe in (Recipe(), NEUTRAL))
    assert plain.digest() == neutral.digest()


def test_knobs_that_turn_are_not_the_plain_quantizer() -> None:
    rng = np.random.default_rng(5)
    graph = NETS["chain"](rng)
    x = samples(graph, rng, 6)
    digests = {
        quantize_network(graph, lambda: [x], recipe).program.digest()
        for recipe in (Recipe(), Recipe(transforms=(OneStep(),)), Recipe(weight_clip=Percentile(90.0)))
    }
    assert len(digests) == 3
