"""Bad and degenerate input, from the API and the command line: one clear line, or the documented result; no NaN."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equalize_nets import capped_net
from float_nets import assert_engines_agree, conv_graph, conv_node, graph_of, linear_graph, outputs_of, residual_graph
from numpy.typing import NDArray
from transform_nets import NETS, conv, head, op, samples

from accelsim import reference
from quant import oracle
from quant.clip import CLIPS
from quant.graph import Graph
from quant.lower import Quantized
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.ocs_oracle import check_priceable
from quant.pipeline import prepare, quantize_network
from quant.recipe import Recipe
from quant.recipe_options import recipe_from_options
from quant.recipes import RECIPES
from quant.splitquant import SplitQuant
from quant.transform import Transform
from quant.transforms import TRANSFORMS
from reports import cli, options

Array = NDArray[Any]
RATIOS: dict[str, dict[str, Any]] = {"ocs": {"ratio": 0.3}, "act-ocs": {"ratio": 0.3}}
EACH: tuple[Transform, ...] = tuple(kind(**RATIOS.get(name, {})) for name, kind in TRANSFORMS.items())
NAN, INF = float("nan"), float("inf")


def quantized(graph: Graph, x: Array, *transforms: Any, **more: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms, **more))


def assert_finite(found: Quantized, x: Array) -> Array:
    """Require finite scales everywhere, engines that agree, and finite outputs, which are returned."""
    for tensor in found.program.tensors.values():
        assert np.isfinite(np.asarray(tensor.scale if tensor.scale is not None else 1.0, dtype=float)).all()
        assert np.all(np.asarray(1.0 if tensor.scale is None else tensor.scale) > 0)
    assert all(np.isfinite(info.alpha) and info.alpha > 0 for info in found.layers)
    real = found.decode(assert_engines_agree(found, x).values)[0]
    assert np.isfinite(real).all()
    return real


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [-0.01, 1.01, NAN, INF, -INF])
@pytest.mark.parametrize("kind", [SplitOutliers, SplitActivations])
def test_ratios_outside_0_to_1_are_refused(kind: Any, ratio: float) -> None:
    with pytest.raises(ValueError, match=r"ocs ratio must be within 0\.\.1 \(got .*usual") as error:
        kind(ratio=ratio)
    one_line(error)


@pytest.mark.parametrize("bits", [-1, 0, 1, 17, 64])
def test_widths_outside_2_to_16_are_refused(bits: int) -> None:
    for field in ("weight_bits", "act_bits", "inner_bits"):
        with pytest.raises(ValueError, match=rf"{field} must be within 2\.\.16 bits \(got {bits}\)") as error:
            Recipe(**{field: bits})
        one_line(error)


@pytest.mark.parametrize("bits", [2, 16])
def test_the_narrowest_and_widest_grids_work(bits: int) -> None:
    graph = residual_graph(np.random.default_rng(1))
    x = np.random.default_rng(2).normal(size=(4, 3, 6, 6)).astype(np.float32)
    found = quantized(graph, x, SplitOutliers(ratio=0.3), weight_bits=bits, act_bits=bits)
    codes = found.encode(x)
    wanted = reference.run(found.program, codes).values
    got = oracle.run(found.program, codes, keep=set(found.program.tensors)).values
    assert all(np.array_equal(got[name], wanted[name]) for name in found.program.tensors)
    real, want = found.decode(wanted)[0], outputs_of(graph, x)
    assert np.isfinite(real).all()
    assert bits < 16 or np.abs(real - want).max() < 1e-3 * np.abs(want).max()


def asked(*arguments: str) -> Recipe:
    """The recipe of command-line options."""
    args = cli.build_parser().parse_args(["run", "digits", *arguments])
    return recipe_from_options(options.quant_options(args))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ocs=-0.1",), r"ocs ratio must be within 0..1 (got -0.1)"),
        (("--ocs=1.5",), r"ocs ratio must be within 0..1 (got 1.5)"),
        (("--ocs=nan",), r"ocs ratio must be within 0..1 (got nan)"),
        (("--ocs=",), r"--ocs must be a ratio within 0..1 or fill (got '')"),
        (("--act-ocs=-1",), r"act-ocs ratio must be within 0..1 (got -1.0)"),
        (("--act-ocs=nan",), r"act-ocs ratio must be within 0..1 (got nan)"),
        (("--weight-bits=1",), r"weight_bits must be within 2..16 bits (got 1)"),
        (("--act-bits=17",), r"act_bits must be within 2..16 bits (got 17)"),
        (("--clip=percentile", "--percentile=nan"), r"percentile must be within (0, 100] (got nan)"),
        (("--clip=percentile", "--percentile=0"), r"percentile must be within (0, 100] (got 0.0)"),
        (("--smoothquant=nan",), r"smoothquant alpha must be within 0..1 (got nan)"),
        (("--equalize=relu6",), r"--equalize must be one of one-step, two-step, cross-layer (got 'relu6')"),
    ],
)
def test_options_out_of_range_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError) as error:
        asked(*arguments)
    assert message in one_line(error)


def exit_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command; it must exit with 2 and one line on standard error, which is returned."""
    status = cli.main(list(arguments))
    out, err = capsys.readouterr()
    assert status == 2
    assert not out
    assert err.count("\n") == 1
    return err


def test_the_command_ends_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    short = ("run", "digits", "--images", "8", "--calib", "8")
    assert "weight_bits must be within 2..16" in exit_line(capsys, *short, "--weight-bits", "1")
    assert "calib must be >= 1 (got 0)" in exit_line(capsys, "run", "digits", "--calib", "0")
    oracle = exit_line(capsys, *short, "--recipe", "ocs-table4-a6-ocs0.02-oracle")
    assert "is an experiment" in oracle
    plan = tmp_path / "r.yaml"
    plan.write_text("transforms: [{ocs: {splits: {nowhere: 3}}}]")
    assert "ocs splits must name layers of" in exit_line(capsys, *short, "--recipe", str(plan))


def test_the_oracle_has_no_price() -> None:
    assert check_priceable(RECIPES["ocs-table3-a6-ocs0.02"]) is RECIPES["ocs-table3-a6-ocs0.02"]
    with pytest.raises(
        ValueError, match=r"is an experiment \(got W8A6 \+ act OCS 0\.02 oracle\).* has no price"
    ) as error:
        check_priceable(RECIPES["ocs-table4-a6-ocs0.02-oracle"])
    one_line(error)


# --- networks --------------------------------------------------------------------------------------------------------


def test_grouped_layers_are_left_whole_by_channel_splitting() -> None:
    """Inside a network: named in a remark, and what comes before and after is split."""
    graph = NETS["depthwise"](np.random.default_rng(1))
    x = samples(graph, np.random.default_rng(2), 4)
    found = quantized(graph, x, SplitActivations(ratio=0.3), SplitOutliers(ratio=0.3))
    assert_finite(found, x)
    infos = {info.name: info for info in found.layers}
    assert infos["depth"].remark.startswith("channels not split: depthwise (6 groups)")
    assert infos["grouped"].remark.startswith("channels not split: grouped (2 groups)")
    for name, info in infos.items():
        split = name not in ("depth", "grouped")
        assert (info.splits > 0, info.act_splits > 0, info.remark == "") == (split, split, split)


def test_depthwise_layers_are_widened_between_a_producer_and_a_split_layer() -> None:
    rng = np.random.default_rng(3)
    graph = graph_of(
        (3, 6, 6), conv(rng, "first", "x", 6, 3), op("relu", "relu", "first"),
        conv(rng, "depth", "relu", 6, 6, groups=6), conv(rng, "point", "depth", 4, 6, k=1), *head(rng, "point", 4),
    )  # fmt: skip
    wide = prepare(graph, Recipe(first_last="same", transforms=(SplitOutliers(splits=(("point", 2),), form="widen"),)))
    assert wide.node("depth").attrs["groups"] == 8
    assert not [node for node in wide.nodes if node.op == "duplicate"]
    x = samples(graph, rng, 3)
    assert np.allclose(outputs_of(graph, x), outputs_of(wide, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["one-step", "two-step", "cross-layer", "smoothquant"])
def test_relu6_under_a_scalar_cap_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} relu6 must be caps or skip \(got 'scalar'\); caps is exact"
    ) as error:
        TRANSFORMS[name](relu6="scalar")
    one_line(error)
    graph, x = capped_net()
    assert_finite(quantized(graph, x, TRANSFORMS[name]()), x)


@pytest.mark.parametrize("transform", EACH, ids=lambda t: t.label)
@pytest.mark.parametrize("kind", ["zeros", "one channel", "constant", "tiny", "single tap"])
def test_degenerate_layers_give_finite_integers(kind: str, transform: Transform) -> None:
    """All-zero, one-channel, constant, near-underflow and one-weight layers, between layers that are like others."""
    rng = np.random.default_rng(4)
    channels = 1 if kind in ("one channel", "single tap") else 4
    middle: Array = rng.normal(size=(channels, channels, 3, 3))
    if kind in ("zeros", "constant", "tiny"):
        middle = {"zeros": 0.0, "constant": 0.25, "tiny": 1e-30}[kind] * np.ones_like(middle)
    middle = middle[:, :, :1, :1] if kind == "single tap" else middle
    graph = graph_of(
        (2, 5, 5), conv(rng, "first", "x", channels, 2), op("relu", "relu", "first"),
        conv_node("middle", "relu", middle.astype(np.float32)), op("relu1", "relu", "middle"),
        *head(rng, "relu1", channels),
    )  # fmt: skip
    x = rng.normal(size=(4, 2, 5, 5)).astype(np.float32)
    real = assert_finite(quantized(graph, x, transform, weight_bits=6), x)
    want = outputs_of(graph, x)
    assert np.abs(real - want).max() <= 0.2 * max(np.abs(want).max(), 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e-5])
def test_products_that_are_nothing_beside_the_bias_leave_the_bias(size: float, per_channel: bool) -> None:
    """A layer of dead weights: its bias would be more accumulator steps than an integer holds."""
    bias = np.array([0.25, -3.0, 0.0], dtype=np.float32)
    weight = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)
    x = np.random.default_rng(8).normal(size=(5, 4)).astype(np.float32)
    graph = linear_graph(np.float32(size) * weight, bias)
    found = quantized(graph, x, per_channel=per_channel)
    real = assert_finite(found, x)
    assert np.abs(real - outputs_of(graph, x)).max() <= 3.0 * 2**-15
    assert found.program.tensors["layer.acc"].bits <= 48
    if per_channel:  # the third channel has no bias: its weights keep their step
        assert np.abs(found.program.op("layer").weight[2]).max() == 127


@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_constant_activations_are_kept_by_every_clip_rule(rule: str, value: float) -> None:
    graph = linear_graph(np.array([[1.0, 2.0, -0.5], [0.5, 0.25, 1.0]], dtype=np.float32))
    x = np.full((5, 3), value, dtype=np.float32)
    clips = {"weight_clip": CLIPS["max"](), "act_clip": CLIPS[rule]()}
    real = assert_finite(quantized(graph, x, SplitActivations(ratio=0.3), bias_correction=True, **clips), x)
    assert np.abs(real - outputs_of(graph, x)).max() < 0.03


# --- samples and weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", EACH, ids=lambda t: t.label)
def test_no_calibration_samples_are_refused(transform: Transform) -> None:
    graph = residual_graph(np.random.default_rng(5))
    recipe = Recipe(transforms=(transform,), bias_correction=True, first_last="same")
    for batches in ([], [np.zeros((0, 3, 6, 6), dtype=np.float32)]):
        with pytest.raises(ValueError, match=r"samples must be >= 1.*\(got .*0.*\); give ") as error:
            quantize_network(graph, lambda given=batches: given, recipe)  # type: ignore[misc]
        one_line(error)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("transform", EACH, ids=lambda t: t.label)
def test_calibration_samples_that_are_not_finite_are_refused(transform: Transform, value: float) -> None:
    graph = residual_graph(np.random.default_rng(6))
    x = np.ones((3, 3, 6, 6), dtype=np.float32)
    x[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match=r"activations of x must be finite \(got NaN or infinity\)") as error:
        quantized(graph, x, transform, bias_correction=True)
    one_line(error)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: float) -> None:
    weight, bias = np.ones((3, 2, 3, 3), dtype=np.float32), np.ones(3, dtype=np.float32)
    (weight if name == "weight" else bias).flat[1] = value
    x = np.ones((2, 2, 5, 5), dtype=np.float32)
    with pytest.raises(ValueError, match=rf"layer\.{name} must be finite \(got 1 NaN or infinite values") as error:
        quantized(conv_graph(weight, bias), x, SplitOutliers(ratio=0.3))
    one_line(error)


def test_evaluated_samples_that_are_not_finite_are_refused() -> None:
    graph = linear_graph(np.ones((2, 3), dtype=np.float32))
    found = quantized(graph, np.ones((2, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="input 'x' holds NaN or infinity; check the samples"):
        found.encode(np.array([[1.0, NAN, 0.0]]))


def test_activations_that_overflow_inside_are_refused_by_name() -> None:
    graph = linear_graph(np.full((2, 3), 3e38, dtype=np.float32))
    with pytest.raises(ValueError, match="activations of layer must be finite"):
        quantized(graph, np.full((2, 3), 3.0, dtype=np.float32))


@pytest.mark.parametrize(
    ("options_of", "text"),
    [({"seed": -1}, "splitquant seed must be within"), ({"storage": "sparse"}, "splitquant storage must be dense or")],
)
def test_splitquant_options_that_mean_nothing_are_refused(options_of: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SplitQuant(**options_of)
