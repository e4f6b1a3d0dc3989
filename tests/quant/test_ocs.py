"""Outlier channel splitting of weights: selection, split trees, the float function."""

import copy
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from float_nets import assert_same_function, conv_graph, graph_of, linear_graph, linear_node, residual_graph
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim.arith import half_up
from quant.clip import Percentile
from quant.graph import Graph, Node
from quant.grid import dequantize, quantize, symmetric
from quant.lower_linear import quantize_weights
from quant.ocs import (
    Split,
    SplitOutliers,
    SplitRecord,
    expand,
    expand_codes,
    merge,
    select_splits,
    split_count,
)
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.remarks import remark
from quant.transform import Context

Array = NDArray[Any]

BY_HAND = np.array([[8, 1, -6], [2, -3, 6]], dtype=np.float32)
"""Two outputs of three channels whose largest magnitudes are 8, 3 and 6."""

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def weights(draw: st.DrawFn, least: int = 1) -> Array:
    """Weights of a linear layer or convolution, heavy-tailed, some with equal maxima or zero channels."""
    rng = np.random.default_rng(draw(SEEDS))
    shape = (draw(st.integers(1, 5)), draw(st.integers(least, 7)))
    shape += draw(st.sampled_from([(), (3, 3), (1, 2)]))
    kind = draw(st.sampled_from(["tail", "integers", "zeros"]))
    weight = rng.standard_t(3, shape)
    if kind == "integers":
        weight = rng.integers(-3, 4, shape).astype(float)
    if kind == "zeros":
        weight[:, rng.integers(0, shape[1])] = 0
    return weight.astype(np.float32)


@st.composite
def records(draw: st.DrawFn, channels: int, most: int = 6) -> SplitRecord:
    """Any split tree, not only a greedy one."""
    splits: list[Split] = []
    for _ in range(draw(st.integers(0, most))):
        threshold = draw(st.sampled_from([0.0, 0.0, 0.7]))
        splits.append(Split(draw(st.integers(0, channels + len(splits) - 1)), threshold))
    return SplitRecord(channels, tuple(splits))


def channel_max(weight: Array) -> Array:
    return np.abs(np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1)).max(axis=1)


def split_weights(weight: Array, ratio: float, **options: Any) -> Node:
    """Return the layer of a linear network after splitting."""
    return SplitOutliers(ratio=ratio, **options)(linear_graph(weight)).node("layer")


# --- selection -------------------------------------------------------------------------------------------------------


def test_the_lowest_of_equal_channels_is_split_first() -> None:
    splits = select_splits(BY_HAND, 4)
    # Maxima: 8 3 6 | 4 3 6 4 | 4 3 3 4 3 | 2 3 3 4 3 2, so channels 0, 2, 0 (before its equal, 3) and 3.
    assert [split.index for split in splits] == [0, 2, 0, 3]
    assert SplitRecord(3, splits).source == (0, 1, 2, 0, 2, 0, 0)


def test_halves_are_candidates_again() -> None:
    weight = np.array([[16.0, 1.0]], dtype=np.float32)
    assert [split.index for split in select_splits(weight, 4)] == [0, 0, 2, 0]


def test_float_halves_of_a_small_layer_are_as_computed_by_hand() -> None:
    record = SplitRecord(3, select_splits(BY_HAND, 3))
    assert expand(BY_HAND, record).tolist() == [[2, 1, -3, 4, -3, 2], [0.5, -3, 3, 1, 3, 0.5]]


def test_integer_pieces_of_a_small_layer_are_as_computed_by_hand() -> None:
    node = SplitOutliers(splits=(("layer", 3),))(linear_graph(BY_HAND)).node("layer")
    found = quantize_weights(node, Recipe(weight_bits=4), 4)
    # Largest magnitude 4, so the step is 4/7 and the unsplit integers are [[14, 2, -10], [4, -5, 11]].
    assert found.alpha == 4
    assert found.codes.tolist() == [[3, 2, -5, 7, -5, 4], [1, -5, 5, 2, 6, 1]]
    assert found.clamped == 0


def test_naive_pieces_of_a_small_layer_are_rounded_one_by_one() -> None:
    node = SplitOutliers(splits=(("layer", 3),), naive=True)(linear_graph(BY_HAND)).node("layer")
    found = quantize_weights(node, Recipe(weight_bits=4), 4)
    assert found.codes.tolist() == [[4, 2, -5, 7, -5, 4], [1, -5, 5, 2, 5, 1]]


def test_alpha_is_looked_for_on_unsplit_weights_and_held_within_the_expanded_maximum() -> None:
    weight = np.array([[10.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]], dtype=np.float32)
    node = SplitOutliers(ratio=0.1)(linear_graph(weight)).node("layer")

    def alpha(percent: float, expanded: bool) -> float:
        return quantize_weights(node, Recipe(weight_clip=Percentile(percent), clip_expanded=expanded), 8).alpha

    assert alpha(100, False) == 5
    assert alpha(95, False) == 5
    assert alpha(80, False) == 3
    assert alpha(95, True) == 5
    assert alpha(70, True) == 3


@given(st.integers(1, 3000), st.integers(0, 1000))
def test_the_number_of_splits_is_the_ratio_of_channels_rounded_up(channels: int, thousandths: int) -> None:
    assert split_count(thousandths / 1000, channels) == -(-thousandths * channels // 1000)


def test_a_ratio_counts_as_the_decimal_it_is_written_as() -> None:
    assert 0.07 * 100 > 7
    assert split_count(0.07, 100) == 7
    assert split_count(1e-12, 3) == 1
    assert split_count(0.02, 1) == 1
    assert split_count(0, 64) == 0


@given(weights(), st.sampled_from([0.01, 0.02, 0.05, 0.2, 1.0]))
def test_a_layer_gains_exactly_the_counted_channels_each_a_copy_of_an_original(weight: Array, ratio: float) -> None:
    channels = weight.shape[1]
    graph = SplitOutliers(ratio=ratio)(linear_graph(weight) if weight.ndim == 2 else conv_graph(weight))
    source = graph.node("layer.duplicate").attrs["src"]
    assert len(source) == channels + math.ceil(round(ratio * channels, 9))
    assert source[:channels] == tuple(range(channels))
    assert max(source) < channels
    assert graph.node("layer").params["weight"].shape[1] == len(source)


@given(weights(), st.integers(1, 6), st.sampled_from([0.0, 0.5]))
def test_every_split_takes_the_channel_of_the_largest_magnitude(weight: Array, count: int, share: float) -> None:
    splits = select_splits(weight, count, share)
    for done in range(count):
        now = channel_max(expand(weight, SplitRecord(weight.shape[1], splits[:done])))
        assert splits[done].index == int(np.argmax(now))
        assert splits[done].threshold == share * now.max()


@given(weights(least=2), st.integers(1, 6))
def test_no_split_widens_the_range_and_one_of_a_lone_largest_channel_narrows_it(weight: Array, count: int) -> None:
    splits = select_splits(weight, count)
    for done in range(count):
        before = channel_max(expand(weight, SplitRecord(weight.shape[1], splits[:done])))
        after = channel_max(expand(weight, SplitRecord(weight.shape[1], splits[: done + 1])))
        assert after.max() <= before.max()
        if before.max() > 0 and (before == before.max()).sum() == 1:
            assert after.max() < before.max()


# --- the float function ----------------------------------------------------------------------------------------------


@given(st.data(), st.integers(0, 2**32 - 1))
def test_any_split_tree_of_a_convolution_keeps_its_function(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = {
        "stride": data.draw(st.integers(1, 2)),
        "padding": data.draw(st.integers(0, 2)),
        "dilation": data.draw(st.integers(1, 2)),
    }
    channels = data.draw(st.integers(1, 4))
    weight = rng.standard_t(3, (3, channels, 3, 3)).astype(np.float32)
    record = data.draw(records(channels))
    graph = conv_graph(weight, rng.normal(size=3).astype(np.float32), **geometry)
    node = graph.node("layer")
    copy = Node("copy", "duplicate", ("x",), {"axis": 0, "src": record.source})
    split = graph_of((channels, 5, 5), copy, node.with_inputs("copy").with_params(weight=expand(weight, record)))
    assert_same_function(graph, split, rng.normal(size=(2, channels, 5, 5)).astype(np.float32))


@given(st.data(), st.integers(0, 2**32 - 1))
def test_any_split_tree_of_a_linear_layer_keeps_its_function(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(3, (3, 5)).astype(np.float32)
    record = data.draw(records(5))
    graph = linear_graph(weight)
    copy = Node("copy", "duplicate", ("x",), {"axis": 0, "src": record.source})
    split = graph_of((5,), copy, linear_node("layer", "copy", expand(weight, record)))
    assert_same_function(graph, split, rng.normal(size=(4, 5)).astype(np.float32))


def test_splitting_a_network_keeps_its_function(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    split = SplitOutliers(ratio=0.5)(graph, Context(protected=frozenset({"first"})))
    assert [n.name for n in split.nodes if n.op == "duplicate"] == ["one.duplicate", "two.duplicate", "last.duplicate"]
    assert_same_function(graph, split, rng.normal(size=(3, 3, 6, 6)).astype(np.float32))


def test_ratio_zero_changes_nothing(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    split = SplitOutliers(ratio=0.0)(graph)
    assert split.nodes == graph.nodes
    record = SplitRecord(6, ())
    weight = graph.node("one").params["weight"]
    assert record.source == tuple(range(6))
    assert np.array_equal(expand(weight, record), weight)
    assert np.array_equal(expand_codes(quantize(weight, symmetric(1.0, 4)), weight, record), quantize(
        weight, symmetric(1.0, 4)
    ))  # fmt: skip


@given(weights(), st.data())
def test_merging_undoes_expanding_bit_for_bit(weight: Array, data: st.DataObject) -> None:
    record = data.draw(records(weight.shape[1]))
    assume(not np.any((weight != 0) & (np.abs(weight) < 2.0**-100)))
    assert np.array_equal(merge(expand(weight, record), record), weight)


@given(weights(), st.sampled_from([0.25, 0.5, 0.9]))
def test_selective_splitting_leaves_small_weights_whole_in_the_first_copy(weight: Array, share: float) -> None:
    (split,) = select_splits(weight, 1, share)
    wide = expand(weight, SplitRecord(weight.shape[1], (split,)))
    first, second = np.moveaxis(wide, 1, 0)[[split.index, -1]]
    original = weight[:, split.index]
    small = np.abs(original) <= share * np.abs(weight).max()
    assert np.array_equal(first[small], original[small])
    assert not second[small].any()
    assert np.array_equal(first[~small], original[~small] / 2)
    assert np.array_equal(second[~small], original[~small] / 2)


# --- integers --------------------------------------------------------------------------------------------------------


@given(weights(), st.data(), st.integers(2, 8))
def test_integer_pieces_of_any_tree_sum_to_the_unsplit_integers(weight: Array, data: st.DataObject, bits: int) -> None:
    record = data.draw(records(weight.shape[1]))
    whole = quantize(weight, symmetric(np.abs(weight).max() / 3, bits), clamp=False)
    assert np.array_equal(merge(expand_codes(whole, weight, record), record), whole)


@given(st.integers(-2000, 2000), st.integers(0, 4))
def test_a_full_tree_of_halves_gives_pieces_that_differ_by_one_at_most(value: int, depth: int) -> None:
    splits = [Split(index) for level in range(depth) for index in range(2**level)]
    codes = np.array([[value]])
    pieces = expand_codes(codes, np.ones((1, 1)), SplitRecord(1, tuple(splits))).ravel()
    assert pieces.size == 2**depth
    assert pieces.sum() == value
    assert pieces.max() - pieces.min() <= 1


@given(weights(), st.data())
def test_integer_pieces_are_the_quantization_aware_split_of_the_paper(weight: Array, data: st.DataObject) -> None:
    # Equation 6 on the real line, for one level of splits: round (x - 1/2) / 2 and (x + 1/2) / 2.
    assume(np.abs(weight).max() > 0)
    grid = symmetric(np.abs(weight).max() / 2, 5)
    index = data.draw(st.integers(0, weight.shape[1] - 1))
    pieces = expand_codes(quantize(weight, grid, clamp=False), weight, SplitRecord(weight.shape[1], (Split(index),)))
    x = weight[:, index].astype(np.float64) / grid.one_scale
    assert np.array_equal(pieces[:, index], half_up((x - 0.5) / 2))
    assert np.array_equal(pieces[:, -1], half_up((x + 0.5) / 2))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_one_split_represents_integers_up_to_twice_the_largest_code_and_no_more(bits: int) -> None:
    n = 2 ** (bits - 1) - 1
    whole = np.arange(-2 * n - 1, 2 * n + 2)[:, None]
    pieces = expand_codes(whole, np.ones(whole.shape), SplitRecord(1, (Split(0),)))
    held = np.clip(pieces, -n, n).sum(axis=1) == whole[:, 0]
    assert held[1:-1].all()
    assert not held[0]
    assert not held[-1]


@given(weights(), st.sampled_from([0.05, 0.3, 1.0]), st.integers(2, 8), st.booleans())
def test_without_clipping_no_piece_is_clamped(weight: Array, ratio: float, bits: int, per_channel: bool) -> None:
    node = split_weights(weight.reshape(weight.shape[0], -1), ratio)
    found = quantize_weights(node, Recipe(weight_bits=bits, per_channel=per_channel), bits)
    assert found.clamped == 0


@given(weights(), st.sampled_from([0.05, 0.3, 1.0]), st.integers(2, 8))
def test_splitting_never_coarsens_the_step_and_errs_by_half_of_it_at_most(
    weight: Array, ratio: float, bits: int
) -> None:
    matrix = weight.reshape(weight.shape[0], -1)
    node = split_weights(matrix, ratio)
    found = quantize_weights(node, Recipe(weight_bits=bits), bits)
    plain = quantize_weights(linear_graph(matrix).node("layer"), Recipe(weight_bits=bits), bits)
    assert found.grid.one_scale <= plain.grid.one_scale or not matrix.any()
    error = merge(dequantize(found.codes, found.grid), node.notes["ocs"]) - matrix
    assert np.abs(error).max() <= 0.5 * found.grid.one_scale * (1 + 1e-6)


# --- what is not split, and layers with nothing to split ------------------------------------------------------------


@pytest.mark.parametrize(("groups", "reason"), [(4, r"depthwise \(4 groups\)"), (2, r"grouped \(2 groups\)")])
def test_grouped_and_depthwise_convolutions_are_left_alone_with_a_reason(
    groups: int, reason: str, rng: np.random.Generator
) -> None:
    graph = conv_graph(rng.normal(size=(4, 4 // groups, 3, 3)).astype(np.float32), groups=groups)
    x = rng.normal(size=(2, 4, 5, 5)).astype(np.float32)
    for transform in (SplitOutliers(ratio=0.5), SplitActivations(ratio=0.5)):
        (node,) = transform(graph, Context(calibration=lambda: [x])).nodes
        assert np.array_equal(node.params["weight"], graph.node("layer").params["weight"])
        assert re.match(f"channels not split: {reason}", remark(node))
        recipe = Recipe(transforms=(transform,), first_last="same")
        (info,) = quantize_network(graph, lambda: [x], recipe).layers
        assert (info.splits, info.act_splits, info.remark) == (0, 0, remark(node))
    with pytest.raises(ValueError, match=rf"ocs cannot split layer 'layer' \(got 1 splits\): {reason}.*leave it out"):
        SplitOutliers(splits=(("layer", 1),))(graph)


def test_protected_layers_are_left_alone(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    names = frozenset({"first", "one", "two", "last"})
    assert SplitOutliers(ratio=0.5)(graph, Context(protected=names)).nodes == graph.nodes


def test_a_plan_splits_the_layers_it_names(rng: np.random.Generator) -> None:
    graph = SplitOutliers(splits=(("two", 3),))(residual_graph(rng))
    assert [n.name for n in graph.nodes if n.op == "duplicate"] == ["two.duplicate"]
    assert len(graph.node("two.duplicate").attrs["src"]) == 9


def test_a_plan_for_layers_that_are_not_there_is_refused(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    with pytest.raises(
        ValueError, match=r"ocs splits must name layers of residual \(got 'three'\); it has first, one, "
    ):
        SplitOutliers(splits=(("two", 1), ("three", 1)))(graph)
    with pytest.raises(ValueError, match=r"ocs splits of 'two' must be >= 0 \(got -1\)"):
        SplitOutliers(splits=(("two", -1),))(graph)


@pytest.mark.parametrize("weight", [np.zeros((2, 3)), np.full((2, 3), -0.25), np.ones((2, 1)), np.zeros((1, 1))])
def test_layers_of_zeros_constants_and_one_channel_are_split_without_harm(weight: Array) -> None:
    weight = weight.astype(np.float32)
    graph = linear_graph(weight)
    node = split_weights(weight, 0.5)
    found = quantize_weights(node, Recipe(weight_bits=4), 4)
    assert np.isfinite(found.grid.scale).all()
    assert found.grid.one_scale > 0
    error = merge(dequantize(found.codes, found.grid), node.notes["ocs"]) - weight
    assert np.abs(error).max() <= found.grid.one_scale / 2
    assert_same_function(graph, SplitOutliers(ratio=0.5)(graph), np.ones((1, weight.shape[1]), dtype=np.float32))


@pytest.mark.parametrize("ratio", [-0.01, 1.01, float("nan")])
def test_ratios_outside_0_to_1_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"ocs ratio must be within 0\.\.1 \(got .*usual"):
        SplitOutliers(ratio=ratio)


def test_a_threshold_that_halves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="ocs threshold_ratio must be within"):
        SplitOutliers(ratio=0.1, threshold_ratio=1.0)


def test_split_records_survive_a_copy_of_the_graph(rng: np.random.Generator) -> None:
    graph: Graph = SplitOutliers(ratio=0.5)(residual_graph(rng))
    again = copy.deepcopy(graph)
    assert again.node("one").notes["ocs"] == graph.node("one").notes["ocs"]
    assert replace(graph).node("two").notes["ocs"].channels == 6
