"""Equalization by weight factorization and between layers: formulas by hand, and what they promise."""

from typing import Any

import numpy as np
import pytest
from float_nets import assert_same_function, conv_node, graph_of, linear_node
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transform_nets import NETS, conv, linear, op, samples

from quant.equalize_cross import CrossLayer, pair_ranges
from quant.equalize_graph import find_groups
from quant.equalize_meller import CAP, OneStep, TwoStep
from quant.equalize_scale import blocks, layers_of
from quant.graph import Graph, Node
from quant.observe import observe
from quant.run import run
from quant.transform import Context

Array = NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)
EVERY = (OneStep(), TwoStep(), TwoStep(released=True), CrossLayer())


def context(x: Array) -> Context:
    return Context(calibration=lambda: [x])


def widths(graph: Graph, name: str, axis: int = 0) -> Array:
    """Largest weight of each output (axis 0) or input (axis 1) channel."""
    return (
        np.abs(graph.node(name).params["weight"])
        .astype(np.float64)
        .max(axis=tuple(i for i in range(graph.node(name).params["weight"].ndim) if i != axis))
    )


def two_layers(first: list[list[float]], second: list[list[float]]) -> Graph:
    """Linear, ReLU, linear with given weights."""
    return graph_of(
        (len(first[0]),),
        linear_node("one", "x", np.array(first, dtype=np.float32)),
        op("relu", "relu", "one"),
        linear_node("two", "relu", np.array(second, dtype=np.float32)),
    )


# Three channels that see one input. At x = 1 and -1 the activations are 8, 2, 0.1 and the pre-activations reach
# -8, -2, -0.1.
BY_HAND = two_layers([[8], [2], [0.1]], [[1, 2, 4]])
SEEN = np.array([[1.0], [-1.0]], dtype=np.float32)
ONE_SIDED = np.array([[1.0]], dtype=np.float32)


# --- one step and two steps ------------------------------------------------------------------------------------------


def test_one_step_by_hand() -> None:
    """K/K = 1, 4, 80; A/a likewise, at most 16; A/p likewise: c = 1, 4, 16."""
    equal = OneStep()(BY_HAND, context(SEEN))
    assert np.allclose(equal.node("one").params["weight"], [[8], [8], [1.6]])
    assert np.allclose(equal.node("two").params["weight"], [[1, 0.5, 0.25]])


def test_one_step_keeps_to_the_pre_activations() -> None:
    """With x up to 1 and down to -4, p = 32, 8, 0.4 against A = 8: the limits are 1, 1 and 20."""
    low = np.array([[1.0], [-4.0]], dtype=np.float32)
    equal = OneStep()(BY_HAND, context(low))
    assert np.allclose(equal.node("one").params["weight"].ravel(), [8, 2, 1.6])
    free = OneStep(pre_activation=False)(BY_HAND, context(low))
    assert np.allclose(free.node("one").params["weight"].ravel(), [8, 8, 1.6])


def test_the_cap_is_an_option() -> None:
    equal = OneStep(cap=2)(BY_HAND, context(SEEN))
    assert np.allclose(equal.node("one").params["weight"].ravel(), [8, 4, 0.2])


def test_two_step_by_hand() -> None:
    """m = 1/4, 2/4, 1: K' = A' = max(2, 1, 0.1) = 2, so c = 1/4, 1 and 20, capped to 16."""
    equal = TwoStep()(BY_HAND, context(ONE_SIDED))
    assert np.allclose(equal.node("one").params["weight"].ravel(), [2, 2, 1.6])
    assert np.allclose(equal.node("two").params["weight"].ravel(), [4, 2, 0.25])


def test_two_step_as_released_does_nothing_more_where_there_is_one_reader() -> None:
    for x in (SEEN, ONE_SIDED):
        one, two = OneStep()(BY_HAND, context(x)), TwoStep(released=True)(BY_HAND, context(x))
        for name in ("one", "two"):
            assert np.array_equal(one.node(name).params["weight"], two.node(name).params["weight"])


def test_two_step_as_released_attenuates_where_there_are_two_readers() -> None:
    graph = graph_of(
        (1,),
        *BY_HAND.nodes,
        linear_node("three", "relu", np.array([[1, 4, 2]], dtype=np.float32)),
        op("sum", "add", "two", "three"),
    )
    for released in (False, True):
        equal = TwoStep(released=released)(graph, context(ONE_SIDED))
        # m = 1/4, 1, 1: K' = A' = max(2, 2, 0.1) = 2
        assert np.allclose(equal.node("one").params["weight"].ravel(), [2, 2, 1.6])


def test_slack_counts_every_reader() -> None:
    graph = graph_of(
        (1,),
        *BY_HAND.nodes,
        linear_node("three", "relu", np.array([[3, 1, 1]], dtype=np.float32)),
        op("sum", "add", "two", "three"),
    )
    equal = TwoStep()(graph, context(ONE_SIDED))
    # "three" leans on channel 0 with its widest weight: m = 1, 1/2, 1 and nothing is attenuated
    assert np.allclose(equal.node("one").params["weight"].ravel(), [8, 8, 1.6])


@given(SEEDS)
def test_one_step_amplifies_only_and_until_a_limit_is_tight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = NETS["chain"](rng)
    x = samples(graph, rng, 4)
    equal = OneStep()(graph, context(x))
    before, after = observe(graph, [x], 0), observe(equal, [x], 0)
    for layer, act in (("first", "relu0"), ("second", "relu1"), ("third", "relu2")):
        c = factors_of(graph, equal, layer)
        assert (c >= 1 - 1e-6).all()
        assert (c <= CAP * (1 + 1e-6)).all()
        kernel = widths(equal, layer)
        assert after[act].absmax <= before[act].absmax * (1 + 1e-5)
        seen = after[act].channel_absmax
        low = np.maximum(-after[layer].channel_min, 0)
        tight = (
            near(kernel, kernel.max())
            | near(seen, seen.max())
            | (low >= seen.max() * (1 - 1e-4))
            | near(c, CAP)
            | (before[act].channel_absmax == 0)
        )
        assert tight.all()
    for name in ("first", "second", "third", "last"):
        assert widths(equal, name).max() <= widths(graph, name).max() * (1 + 1e-6)


def near(value: Array, wanted: float) -> Array:
    return np.asarray(value >= wanted * (1 - 1e-4))


def factors_of(before: Graph, after: Graph, layer: str) -> Array:
    """The factors of a layer's outputs: of its biases, which no other factor touches."""
    return after.node(layer).params["bias"].astype(np.float64) / before.node(layer).params["bias"]


@given(SEEDS)
def test_two_steps_attenuate_no_further_than_the_readers_slack(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = NETS["mlp"](rng)
    x = samples(graph, rng, 16)
    equal = TwoStep(pre_activation=False)(graph, context(x))
    for layer, reader in (("first", "second"), ("second", "last")):
        c = factors_of(graph, equal, layer)
        # "second" is read here as it was when "first" had been dealt with: its columns only
        share = widths(graph, reader, 1) / widths(graph, reader, 1).max()
        assert (c >= share * (1 - 1e-5)).all()
        assert (c <= CAP * (1 + 1e-5)).all()
    assert widths(equal, "last").max() <= widths(graph, "last").max() * (1 + 1e-5)


def test_branches_of_a_concat_are_lifted_to_its_widest() -> None:
    rng = np.random.default_rng(4)
    nodes = (
        linear_node("small", "x", 0.3 * rng.normal(size=(3, 4)).astype(np.float32)),
        op("relu0", "relu", "small"),
        linear_node("large", "x", rng.normal(size=(3, 4)).astype(np.float32)),
        op("relu1", "relu", "large"),
        op("joined", "concat", "relu0", "relu1", axis=0),
        linear(rng, "last", "joined", 3, 6),
    )
    graph = graph_of((4,), *nodes)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    equal = OneStep()(graph, context(x))
    seen = observe(equal, [x], 0)
    assert seen["relu0"].absmax == pytest.approx(seen["relu1"].absmax, rel=1e-5)
    assert seen["joined"].absmax == pytest.approx(observe(graph, [x], 0)["joined"].absmax, rel=1e-5)
    assert_same_function(graph, equal, x)


@pytest.mark.parametrize("transform", [OneStep(), TwoStep()], ids=lambda t: t.name)
def test_layers_of_one_addition_stay_within_their_widest(transform: Any) -> None:
    rng = np.random.default_rng(8)
    graph = NETS["residual"](rng)
    x = samples(graph, rng, 6)
    equal = transform(graph, context(x))
    c = [factors_of(graph, equal, name) for name in ("stem", "a.two", "b.two")]
    assert np.allclose(c[0], c[1], rtol=1e-5)
    assert np.allclose(c[0], c[2], rtol=1e-5)
    assert not np.allclose(c[0], 1)
    for name in ("a.relu2", "b.relu2", "relu"):
        assert observe(equal, [x], 0)[name].absmax <= observe(graph, [x], 0)[name].absmax * (1 + 1e-5)


# --- between layers --------------------------------------------------------------------------------------------------


def test_a_pair_by_hand() -> None:
    """r1 = 8, 2, 0.1 and r2 = 1, 2, 4 both become sqrt(r1 r2)."""
    equal = CrossLayer()(BY_HAND)
    root = np.sqrt([8, 4, 0.4])
    assert np.allclose(equal.node("one").params["weight"].ravel(), root)
    assert np.allclose(equal.node("two").params["weight"].ravel(), root)


def test_a_depthwise_triple_meets_at_the_cube_root() -> None:
    rng = np.random.default_rng(2)
    outs = [rng.normal(size=shape).astype(np.float32) for shape in ((5, 3, 1, 1), (5, 1, 3, 3), (4, 5, 1, 1))]
    nodes = (
        conv_node("one", "x", outs[0]),
        op("relu0", "relu", "one"),
        conv_node("two", "relu0", outs[1], groups=5, padding=1),
        op("relu1", "relu", "two"),
        conv_node("three", "relu1", outs[2]),
    )
    graph = graph_of((3, 6, 6), *nodes)
    equal = CrossLayer(tolerance=1e-7)(graph)
    wanted = np.cbrt(widths(graph, "one") * widths(graph, "two") * widths(graph, "three", 1))
    for name, axis in (("one", 0), ("two", 0), ("three", 1)):
        assert np.allclose(widths(equal, name, axis), wanted, rtol=1e-5)


@given(SEEDS, st.sampled_from(["chain", "depthwise", "residual", "concat", "shortcut", "relu6", "affine", "lstm"]))
def test_both_sides_of_every_channel_meet_and_a_second_time_changes_nothing(seed: int, which: str) -> None:
    rng = np.random.default_rng(seed)
    equal = CrossLayer(tolerance=1e-6)(NETS[which](rng))
    groups = find_groups(equal)
    layers, ones = layers_of(equal, groups), np.ones(groups.count)
    for block in blocks(groups):
        written, read = pair_ranges(block, layers, ones)
        assert np.allclose(written[block.groups], read[block.groups], rtol=1e-4)
    again = CrossLayer(tolerance=1e-6)(equal)
    for node in equal.nodes:
        for key, value in node.params.items():
            assert np.allclose(again.node(node.name).params[key], value, rtol=1e-3, atol=0)


def test_the_product_of_a_pairs_ranges_stays() -> None:
    graph = NETS["mlp"](np.random.default_rng(1))
    one = graph_of((10,), *graph.nodes[:3])
    equal = CrossLayer()(one)
    before = widths(one, "first") * widths(one, "second", 1)
    assert np.allclose(widths(equal, "first") * widths(equal, "second", 1), before, rtol=1e-5)


def test_a_layer_that_reads_and_writes_the_same_channels_settles() -> None:
    """Weights [[0, a], [b, 0]] between a tensor and itself: whole steps would swap a and b for ever."""
    weight = np.array([[0.01, 8.0], [0.5, 0.01]], dtype=np.float32)
    nodes = (
        linear_node("in", "x", np.array([[1, 1], [1, 1]], dtype=np.float32)),
        linear_node("self", "in", weight),
        op("sum", "add", "in", "self"),
        linear_node("out", "sum", np.array([[1, 1]], dtype=np.float32)),
    )
    graph = graph_of((2,), *nodes)
    equal = CrossLayer(tolerance=1e-6)(graph)
    groups = find_groups(equal)
    (block,) = blocks(groups)
    written, read = pair_ranges(block, layers_of(equal, groups), np.ones(groups.count))
    assert np.allclose(written[block.groups], read[block.groups], rtol=1e-3)
    assert_same_function(graph, equal, np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32))


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: t.label)
def test_dead_channels_keep_their_weights(transform: Any) -> None:
    rng = np.random.default_rng(6)
    graph = NETS["dead"](rng)
    x = samples(graph, rng, 6)
    equal = transform(graph, context(x))
    first, second = (equal.node(name).params["weight"] for name in ("first", "second"))
    old_first, old_second = (graph.node(name).params["weight"] for name in ("first", "second"))
    dead = [1] if isinstance(transform, CrossLayer) else [1, 2]
    assert np.array_equal(second[:, dead], old_second[:, dead]) or "second" in changed_rows(graph, equal)
    assert np.array_equal(first[dead], old_first[dead])
    for node in equal.nodes:
        for value in node.params.values():
            assert np.isfinite(value).all()
    assert_same_function(graph, equal, x)


def changed_rows(before: Graph, after: Graph) -> list[str]:
    """Layers whose own outputs were scaled: their columns cannot be compared alone."""
    names = [node.name for node in before.nodes if "bias" in node.params]
    return [n for n in names if not np.array_equal(before.node(n).params["bias"], after.node(n).params["bias"])]


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: t.label)
def test_all_zero_and_one_channel_layers_give_no_nan(transform: Any) -> None:
    nodes = (
        linear_node("one", "x", np.zeros((1, 3), dtype=np.float32)),
        op("relu", "relu", "one"),
        linear_node("two", "relu", np.zeros((2, 1), dtype=np.float32)),
        op("relu1", "relu", "two"),
        linear_node("three", "relu1", np.ones((2, 2), dtype=np.float32)),
    )
    graph = graph_of((3,), *nodes)
    x = np.zeros((4, 3), dtype=np.float32)
    equal = transform(graph, context(x))
    for node in graph.nodes:
        for key, value in node.params.items():
            assert np.array_equal(equal.node(node.name).params[key], value)


def capped_net() -> tuple[Graph, Array]:
    """Three channels of width 8, 2 and 0.1 through ReLU6, with inputs that reach the cap."""
    graph = graph_of(
        (1,),
        linear_node("one", "x", np.array([[8], [2], [0.1]], dtype=np.float32)),
        op("cap", "relu6", "one"),
        linear_node("two", "cap", np.array([[1, 2, 4]], dtype=np.float32)),
    )
    return graph, np.linspace(-1, 8, 32, dtype=np.float32)[:, None]


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: t.label)
def test_relu6_gets_a_cap_per_channel(transform: Any) -> None:
    graph, x = capped_net()
    equal = transform(graph, context(x))
    cap = equal.node("cap")
    factors = equal.node("one").params["weight"] / graph.node("one").params["weight"]
    assert cap.op == "clamp_channels"
    assert np.allclose(cap.params["hi"], 6 * factors.ravel())
    assert np.array_equal(cap.params["lo"], np.zeros(3))
    assert_same_function(graph, equal, x)


def test_relu6_under_its_scalar_cap_would_change_the_function() -> None:
    graph, x = capped_net()
    equal = CrossLayer()(graph)
    scalar = Graph(equal.name, equal.inputs, tuple(
        Node("cap", "relu6", n.inputs) if n.name == "cap" else n for n in equal.nodes
    ), equal.outputs).check()  # fmt: skip
    wanted, got = run(graph, x)["two"].numpy(), run(scalar, x)["two"].numpy()
    assert np.abs(wanted - got).max() > 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", [OneStep, TwoStep, CrossLayer])
def test_relu6_can_be_left_alone(kind: Any) -> None:
    graph, x = capped_net()
    assert kind(relu6="skip")(graph, context(x)).nodes == graph.nodes


def test_caps_scale_again_when_equalization_is_repeated() -> None:
    graph, x = capped_net()
    once = OneStep()(graph, context(x))
    twice = CrossLayer()(once, context(x))
    assert_same_function(graph, twice, x)


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (OneStep, {"cap": 0.5}, "one-step cap must be >= 1"),
        (TwoStep, {"cap": float("nan")}, "two-step cap must be >= 1"),
        (OneStep, {"relu6": "cut"}, "one-step relu6 must be caps or skip"),
        (CrossLayer, {"tolerance": 0.0}, "cross-layer tolerance"),
        (CrossLayer, {"sweeps": 0}, "cross-layer sweeps must be >= 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(kind: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        kind(**options)


def test_a_convolution_that_alone_produces_the_output_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    graph = graph_of((3, 5, 5), conv(rng, "only", "x", 4, 3))
    x = samples(graph, rng, 2)
    for transform in EVERY:
        assert transform(graph, context(x)).nodes == graph.nodes
