"""Which channels share a factor, and what holds them."""

import numpy as np
import pytest
from float_nets import conv_node, graph_of, linear_node
from transform_nets import NETS, conv, linear, op, samples

from quant.equalize_graph import Groups, find_groups
from quant.equalize_scale import blocks, layers_of, rescale
from quant.fold import fold_batch_norm
from quant.graph import Graph, Node
from quant.run import run


def found(name: str, **options: bool) -> tuple[Graph, Groups]:
    graph = NETS[name](np.random.default_rng(3))
    return graph, find_groups(graph, **options)


def held(groups: Groups, tensor: str) -> bool:
    return not groups.free[np.unique(groups.tensors[tensor])].any()


@pytest.mark.parametrize("which", NETS)
def test_any_factors_on_the_free_groups_keep_the_function(which: str) -> None:
    rng = np.random.default_rng(11)
    graph = NETS[which](rng)
    x = samples(graph, rng, 6)
    for gains in (False, True):
        groups = find_groups(graph, gains=gains)
        factors = np.where(groups.free, 10 ** rng.uniform(-1, 1, groups.count), 1.0)
        scaled = rescale(graph, groups, factors)
        before, after = run(graph, x, keep=graph.shapes), run(scaled, x, keep=graph.shapes)
        for name in graph.outputs:
            one, two = before[name].numpy(), after[name].numpy()
            assert np.abs(one - two).max() <= 1e-5 * np.abs(one).max(), name
        for name, labels in groups.tensors.items():
            if graph.inputs[0].kind == "index" and name == "x":
                continue
            wanted = before[name].numpy() * factors[labels]
            assert np.abs(after[name].numpy() - wanted).max() <= 1e-4 * max(np.abs(wanted).max(), 1e-30), name


def test_a_chain_has_one_block_per_layer_and_holds_both_ends() -> None:
    _, groups = found("chain")
    assert [(b.producers, b.consumers) for b in blocks(groups)] == [
        (("first",), ("second",)),
        (("second",), ("third",)),
        (("third",), ("last",)),
    ]
    assert held(groups, "x")
    assert held(groups, "last")
    assert np.array_equal(groups.tensors["first"], groups.tensors["relu0"])
    assert np.array_equal(groups.rows["third"], groups.columns["last"])


def test_producers_of_one_addition_share_their_factors() -> None:
    _, groups = found("residual")
    for name in ("a.two", "b.two", "relu", "a.add", "b.relu2"):
        assert np.array_equal(groups.tensors[name], groups.tensors["stem"])
    assert blocks(groups)[0].producers == ("stem", "a.two", "b.two")
    assert not np.intersect1d(groups.tensors["a.one"], groups.tensors["stem"]).size


def test_a_parameter_free_shortcut_pads_with_channels_of_any_factor() -> None:
    _, groups = found("shortcut")
    narrow, wide = groups.tensors["stem"].ravel(), groups.tensors["two"].ravel()
    assert np.array_equal(wide[2:6], narrow)
    assert np.unique(wide).size == 8
    assert groups.free[wide].all()


def test_padding_with_another_value_holds() -> None:
    rng = np.random.default_rng(0)
    border = {"before": (0, 1, 1), "after": (0, 1, 1), "value": 1.0}
    nodes = (conv(rng, "first", "x", 4, 3), op("edge", "pad", "first", **border), conv(rng, "last", "edge", 4, 4))
    assert held(find_groups(graph_of((3, 6, 6), *nodes)), "first")


def test_a_flattened_channel_has_one_factor_at_all_its_places() -> None:
    _, groups = found("pools")
    flat = groups.columns["last"].reshape(6, 4)
    assert (flat == flat[:, :1]).all()
    assert np.array_equal(flat[:, 0], groups.tensors["relu1"].ravel())


def test_concat_keeps_the_branches_apart() -> None:
    _, groups = found("concat")
    joined = groups.columns["after"]
    assert np.array_equal(joined[:4], groups.rows["left"])
    assert np.array_equal(joined[4:], groups.rows["right"])
    assert np.array_equal(groups.columns["beside"], groups.rows["left"])
    assert np.array_equal(groups.rows["after"], groups.rows["beside"])


def test_a_depthwise_layer_separates_the_factors_before_and_behind_it() -> None:
    graph, groups = found("depthwise")
    assert np.array_equal(groups.columns["depth"], groups.rows["first"])
    assert not np.intersect1d(groups.rows["depth"], groups.rows["first"]).size
    layer = layers_of(graph, groups)["depth"]
    ones = np.ones(groups.count)
    assert np.array_equal(layer.row_ranges(ones), layer.column_ranges(ones))


def test_ranges_of_a_grouped_layer_are_those_of_its_groups() -> None:
    graph, groups = found("depthwise")
    layer, weight = layers_of(graph, groups)["grouped"], np.abs(graph.node("grouped").params["weight"].astype(float))
    ones = np.ones(groups.count)
    assert np.allclose(layer.row_ranges(ones), weight.max(axis=(1, 2, 3)))
    halves = [weight[:3].max(axis=(0, 2, 3)), weight[3:].max(axis=(0, 2, 3))]
    assert np.allclose(layer.column_ranges(ones), np.concatenate(halves))


@pytest.mark.parametrize("kind", ["gelu", "silu", "hardswish", "sigmoid", "tanh"])
def test_functions_that_are_not_homogeneous_are_never_crossed(kind: str) -> None:
    graph, groups = found("smooth")
    assert held(groups, kind)
    assert held(groups, graph.node(kind).inputs[0])
    assert not groups.free[next(iter(groups.rows.values()))].any()


def test_all_of_the_smooth_net_is_held_and_says_why() -> None:
    _, groups = found("smooth")
    assert not groups.free.any()
    assert blocks(groups) == ()
    reasons = {groups.held[int(g)] for g in groups.columns["layer1"]}
    assert reasons == {"it comes out of gelu gelu"}


def test_what_feeds_an_output_is_never_scaled() -> None:
    _, groups = found("early_output")
    assert held(groups, "relu1")
    assert held(groups, "second")
    assert groups.free[groups.rows["first"]].all()


def test_a_gate_hands_the_other_operands_factor_on_and_takes_none() -> None:
    _, groups = found("squeeze")
    assert np.array_equal(groups.tensors["scaled"], groups.tensors["relu0"])
    assert groups.free[groups.rows["first"]].all()
    assert held(groups, "up")


def test_a_product_of_two_free_tensors_holds_both() -> None:
    rng = np.random.default_rng(0)
    nodes = (linear(rng, "a", "x", 4, 4), linear(rng, "b", "x", 4, 4), op("m", "mul", "a", "b"),
             linear(rng, "last", "m", 4, 4))  # fmt: skip
    groups = find_groups(graph_of((4,), *nodes))
    assert held(groups, "a")
    assert held(groups, "b")


def test_relu6_is_crossed_only_with_caps() -> None:
    _, groups = found("relu6")
    assert groups.free[groups.rows["second"]].all()
    _, groups = found("relu6", caps=False)
    assert held(groups, "second")
    assert held(groups, "first")


def test_a_clamp_without_an_upper_end_is_not_crossed() -> None:
    rng = np.random.default_rng(0)
    nodes = (linear(rng, "a", "x", 4, 4), op("c", "clamp", "a", lo=0.0, hi=float("inf")), linear(rng, "b", "c", 4, 4))
    assert held(find_groups(graph_of((4,), *nodes)), "a")


def test_norms_take_factors_up_only_when_asked() -> None:
    _, groups = found("transformer")
    assert held(groups, "norm1")
    _, groups = found("transformer", gains=True)
    assert groups.free[groups.rows["norm1"]].all()
    for name in ("q", "k", "v"):
        assert np.array_equal(groups.columns[name], groups.rows["norm1"])
    assert held(groups, "add1")


def test_attention_hands_factors_of_values_on_but_not_those_of_keys() -> None:
    _, groups = found("transformer")
    assert held(groups, "q")
    assert held(groups, "k")
    values, read = groups.rows["v"].reshape(2, 4), groups.columns["out"].reshape(4, 4)
    assert np.array_equal(read, values.repeat(2, axis=0))
    assert groups.free[values].all()


def test_an_lstm_reads_factors_and_hands_none_on() -> None:
    _, groups = found("lstm")
    assert np.array_equal(groups.columns["lstm"], groups.rows["first"])
    assert groups.free[groups.rows["first"]].all()
    assert held(groups, "lstm")


def test_a_batch_norm_must_be_folded_first() -> None:
    rng = np.random.default_rng(0)
    numbers = {key: rng.uniform(0.5, 2, 4) for key in ("weight", "bias", "mean", "var")}
    nodes = (conv(rng, "first", "x", 4, 3), Node("bn", "batch_norm", ("first",), {"eps": 1e-5}, numbers),
             op("relu", "relu", "bn"), conv(rng, "last", "relu", 4, 4))  # fmt: skip
    graph = graph_of((3, 6, 6), *nodes)
    assert held(find_groups(graph), "first")
    assert not held(find_groups(fold_batch_norm(graph)), "first")


def test_a_layer_that_adds_its_own_input_shares_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    nodes = (linear(rng, "a", "x", 4, 4), linear(rng, "b", "a", 4, 4), op("sum", "add", "a", "b"),
             linear(rng, "last", "sum", 4, 4))  # fmt: skip
    groups = find_groups(graph_of((4,), *nodes))
    assert np.array_equal(groups.rows["b"], groups.columns["b"])


def test_factor_one_leaves_every_node_as_it_is() -> None:
    for name in NETS:
        graph, groups = found(name, gains=True)
        assert rescale(graph, groups, np.ones(groups.count)).nodes == graph.nodes


def test_a_norm_without_gain_gets_one() -> None:
    rng = np.random.default_rng(5)
    norm = Node("norm", "layer_norm", ("x",), {"eps": 1e-5, "ndim": 1})
    graph = graph_of((6,), norm, linear(rng, "last", "norm", 4, 6))
    groups = find_groups(graph, gains=True)
    factors = np.where(groups.free, 3.0, 1.0)
    scaled = rescale(graph, groups, factors)
    assert np.allclose(scaled.node("norm").params["weight"], 3.0)
    x = rng.normal(size=(3, 6)).astype(np.float32)
    assert np.allclose(run(graph, x)["last"].numpy(), run(scaled, x)["last"].numpy(), rtol=1e-5, atol=1e-6)


def test_one_number_scales_pass_factors_on_and_one_number_offsets_do_not() -> None:
    rng = np.random.default_rng(5)
    one = np.ones(1)
    for kind, params, free in (("scale", {"weight": 2 * one}, True), ("affine", {"weight": one, "bias": one}, False)):
        middle = Node("middle", kind, ("first",), {"axis": 0}, params)
        groups = find_groups(graph_of((3,), linear(rng, "first", "x", 4, 3), middle, linear(rng, "b", "middle", 2, 4)))
        assert groups.free[groups.rows["first"]].all() == free


def test_channels_of_two_readers_of_one_axis_order_agree() -> None:
    rng = np.random.default_rng(5)
    nodes = (
        conv_node("first", "x", rng.normal(size=(4, 3, 1, 1)).astype(np.float32)),
        op("moved", "permute", "first", order=(1, 2, 0)),
        linear_node("last", "moved", rng.normal(size=(2, 4)).astype(np.float32)),
    )
    groups = find_groups(graph_of((3, 5, 5), *nodes))
    assert np.array_equal(groups.rows["first"], groups.columns["last"])
