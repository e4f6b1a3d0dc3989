"""Cross-layer equalization: formulas by hand, and what it promises."""

import numpy as np
from equalize_nets import BY_HAND, widths
from float_nets import assert_same_function, conv_node, graph_of, linear_node
from hypothesis import given
from hypothesis import strategies as st
from transform_nets import NETS, op

from quant.equalize_cross import CrossLayer, pair_ranges
from quant.equalize_graph import find_groups
from quant.equalize_scale import blocks, layers_of

SEEDS = st.integers(0, 2**32 - 1)


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
