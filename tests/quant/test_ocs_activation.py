"""Activation splitting: choice of channels, halves as integers, and where the extra bit is kept."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from float_nets import (
    assert_engines_agree,
    assert_same_function,
    conv_node,
    graph_of,
    linear_graph,
    linear_node,
    outputs_of,
    residual_graph,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim import reference
from accelsim.check import check
from accelsim.program import Clamp, Conv, Duplicate, Program, conv_bound
from quant.graph import Graph, Node
from quant.lower import Quantized
from quant.observe import count_above, observe
from quant.ocs import SplitOutliers
from quant.ocs_activation import HalvesRecord, SplitActivations, extreme_thresholds, most_extreme, widest
from quant.ocs_oracle import quantize_per_batch
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.transform import Context

Array = NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def records(draw: st.DrawFn, channels: int = 3, most: int = 5) -> HalvesRecord:
    splits: list[int] = []
    for _ in range(draw(st.integers(0, most))):
        splits.append(draw(st.integers(0, channels + len(splits) - 1)))
    return HalvesRecord(channels, tuple(splits))


def pieces(record: HalvesRecord, codes: Array) -> Array:
    """Halve codes [.., channels] as a `duplicate` does."""
    return (codes[..., list(record.source)] + np.array(record.offset)) >> np.array(record.shift)


def spiky(rng: np.random.Generator, samples: int, *shape: int) -> Array:
    """Activations of which the last channel is five times as wide as the others."""
    x = rng.normal(size=(samples, *shape)).astype(np.float32)
    x[:, -1] *= 5
    return x


def context(x: Array, *protected: str) -> Context:
    return Context(protected=frozenset(protected), calibration=lambda: [x])


def quantized(graph: Graph, x: Array, *transforms: Any, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms, **options))


# --- records ---------------------------------------------------------------------------------------------------------


def test_one_split_feeds_floor_and_ceil_halves() -> None:
    record = HalvesRecord(2, (1,))
    assert (record.source, record.offset, record.shift) == ((0, 1, 1), (0, 0, 1), (0, 1, 1))
    assert record.weight.tolist() == [1, 0.5, 0.5]
    assert pieces(record, np.array([[7, 5], [7, -5]])).tolist() == [[7, 2, 3], [7, -3, -2]]


@given(records(), SEEDS)
def test_pieces_of_any_tree_sum_to_the_code_and_stay_on_its_side_of_zero(record: HalvesRecord, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(-500, 500, (20, 3))
    found = pieces(record, codes)
    sums = np.zeros_like(codes)
    np.add.at(sums, (slice(None), list(record.source)), found)
    assert np.array_equal(sums, codes)
    assert (pieces(record, np.abs(codes)) >= 0).all()
    assert (np.abs(found) <= np.ceil(np.abs(codes[:, list(record.source)]) / 2.0 ** np.array(record.shift))).all()


# --- choice ----------------------------------------------------------------------------------------------------------


def test_channels_with_the_most_extreme_values_are_split_the_lowest_first_among_equals() -> None:
    assert most_extreme(np.array([3, 9, 3, 0]), 2).splits == (1, 0)
    assert most_extreme(np.array([0, 0, 0]), 1).splits == (0,)


def test_the_widest_channel_is_split_until_others_are_wider() -> None:
    assert widest(np.array([1.0, 8.0, 3.0]), 3).splits == (1, 1, 3)
    assert widest(np.array([2.0, 2.0]), 2).splits == (0, 1)


def test_counts_rank_channels_not_maxima(rng: np.random.Generator) -> None:
    x = rng.normal(size=(400, 3)).astype(np.float32)
    x[0, 0] = 100.0  # one huge value
    x[:11, 2] = np.linspace(6, 7, 11)  # several large ones
    graph = SplitActivations(ratio=0.1)(linear_graph(np.eye(3, dtype=np.float32)), context(x))
    assert graph.node("layer.halves").attrs["src"] == (0, 1, 2, 2)
    oracle_graph = SplitActivations(ratio=0.1, oracle=True)(linear_graph(np.eye(3, dtype=np.float32)), context(x))
    assert oracle_graph.node("layer.halves").attrs["src"] == (0, 1, 2, 0)


def test_extreme_values_are_about_one_in_a_hundred(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(64, 3, 6, 6)).astype(np.float32)
    stats = observe(graph, [x], 0, names={"relu0", "relu1", "x"})
    counts = count_above(graph, [x], extreme_thresholds(stats))
    for name, found in counts.items():
        assert found.sum() / stats[name].count == pytest.approx(0.01, rel=0.02)


def test_the_static_choice_does_not_depend_on_the_order_of_the_images(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.standard_t(3, (64, 3, 6, 6)).astype(np.float32)
    transform = SplitActivations(ratio=0.4)

    def choice(batches: list[Array]) -> list[Any]:
        split = transform(graph, Context(calibration=lambda: batches))
        return [n.attrs["src"] for n in split.nodes if n.op == "duplicate"]

    first = choice([x])
    assert len(first) == 4
    order = rng.permutation(64)
    assert choice([x[order]]) == first
    assert choice([x[order[:20]], x[order[20:]]]) == first


@given(SEEDS, st.integers(1, 5), st.integers(1, 6))
def test_no_choice_of_channels_beats_the_oracle(seed: int, channels: int, count: int) -> None:
    maxima = np.random.default_rng(seed).integers(0, 9, channels).astype(float)

    def after(record: HalvesRecord) -> float:
        return float((maxima[list(record.source)] * record.weight).max())

    best = after(widest(maxima, count))
    for choice in itertools.islice(itertools.combinations(range(channels), min(count, channels)), 50):
        assert best <= after(HalvesRecord(channels, choice))


# --- the float function ----------------------------------------------------------------------------------------------


@given(records(), SEEDS)
def test_any_tree_keeps_the_function(record: HalvesRecord, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 3)).astype(np.float32)
    copy = Node("copy", "duplicate", ("x",), {"axis": 0, "src": record.source}, {"weight": record.weight})
    split = graph_of((3,), copy, linear_node("layer", "copy", weight[:, list(record.source)]))
    assert_same_function(linear_graph(weight), split, rng.normal(size=(5, 3)).astype(np.float32))


@pytest.mark.parametrize("oracle_choice", [False, True])
def test_splitting_a_network_keeps_its_function(oracle_choice: bool, rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(8, 3, 6, 6)).astype(np.float32)
    split = SplitActivations(ratio=0.5, oracle=oracle_choice)(graph, context(x, "first"))
    assert [n.name for n in split.nodes if n.op == "duplicate"] == ["one.halves", "two.halves", "last.halves"]
    assert_same_function(graph, split, x)


def test_ratio_zero_and_protected_layers_change_nothing(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(8, 3, 6, 6)).astype(np.float32)
    assert SplitActivations(ratio=0.0)(graph, Context()).nodes == graph.nodes
    assert SplitActivations(ratio=0.5)(graph, context(x, "first", "one", "two", "last")).nodes == graph.nodes


# --- integers --------------------------------------------------------------------------------------------------------


def without_halving(program: Program, layer: str) -> Program:
    """Return the Program whose layer reads the wide codes themselves, with unsplit weights."""
    conv = program.op(layer)
    assert isinstance(conv, Conv)
    copy = next(op for op in program.ops if op.output == conv.inputs[0])
    assert isinstance(copy, Duplicate)
    source = program.tensors[copy.inputs[0]]
    weight = conv.weight[..., : source.shape[-1]]
    bias = conv.bias + conv.pad_value * conv.weight.reshape(len(conv.weight), -1).astype(np.int64).sum(axis=1)
    bias = bias - source.zero_point * weight.reshape(len(weight), -1).astype(np.int64).sum(axis=1)
    bound = conv_bound(weight, bias, source.magnitude)
    plain = dataclasses.replace(conv, inputs=copy.inputs, weight=weight, bias=bias, bound=bound)
    acc = dataclasses.replace(program.tensors[conv.output], low=-(2**40), high=2**40, bits=48)
    ops = tuple(plain if op is conv else op for op in program.ops if op is not copy)
    unsplit = dataclasses.replace(program, ops=ops, tensors={**program.tensors, acc.name: acc})
    check(unsplit)
    return unsplit


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("oracle_choice", [False, True])
@given(seed=SEEDS, bits=st.integers(2, 8), ratio=st.sampled_from([0.2, 0.5, 1.0]))
def test_the_accumulator_is_that_of_the_unsplit_layer_on_wide_codes(
    scheme: Any, oracle_choice: bool, seed: int, bits: int, ratio: float
) -> None:
    rng = np.random.default_rng(seed)
    x = spiky(rng, 6, 4) + 0.5
    graph = linear_graph(rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    split = SplitActivations(ratio=ratio, oracle=oracle_choice)
    found = quantized(graph, x, split, act_bits=bits, act_scheme=scheme)
    halved, wide = (found.program.tensors[name] for name in ("layer.halves", "x"))
    codes = found.encode(x)
    values = assert_engines_agree(found, x).values
    clamped = (values["layer.halves"] == halved.low) | (values["layer.halves"] == halved.high)
    plain = reference.run(without_halving(found.program, "layer"), codes).values["layer.acc"]
    untouched = ~clamped.any(axis=1)
    assert np.array_equal(values["layer.acc"][untouched], plain[untouched])
    # Symmetric grids clip nothing they were calibrated on; rounding the zero point moves an affine grid's ends.
    if scheme == "symmetric":
        assert np.array_equal(values["layer.acc"], plain)
    assert wide.bits > halved.bits
    assert wide.scale == halved.scale


def test_unsplit_maxima_and_halves_of_split_ones_set_the_range(rng: np.random.Generator) -> None:
    x = rng.uniform(0, 1, (200, 4)).astype(np.float32)
    x[:, 2] *= 10
    x[0] = (1.0, 3.0, 10.0, 0.5)
    found = quantized(linear_graph(np.ones((2, 4), dtype=np.float32)), x, SplitActivations(ratio=0.25))
    halved, wide = (found.program.tensors[name] for name in ("layer.halves", "x"))
    assert halved.scale == pytest.approx(5 / 255)
    assert (halved.bits, halved.low, halved.high, halved.signed) == (8, 0, 255, False)
    assert (wide.bits, wide.low, wide.high, wide.signed) == (9, 0, 510, False)
    assert [info.act_splits for info in found.layers] == [1]


def test_an_oracle_that_halves_twice_keeps_two_extra_bits(rng: np.random.Generator) -> None:
    x = spiky(rng, 50, 4)
    x[0, -1] = 40.0
    found = quantized(linear_graph(np.ones((2, 4), dtype=np.float32)), x, SplitActivations(ratio=0.75, oracle=True))
    halved, wide = (found.program.tensors[name] for name in ("layer.halves", "x"))
    assert (wide.bits, wide.low, wide.high) == (10, -508, 508)
    assert halved.scale == pytest.approx(10 / 127)
    assert_engines_agree(found, x)


def test_other_readers_get_the_code_clamped_to_the_narrow_grid(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.standard_t(2, (32, 3, 6, 6)).astype(np.float32)
    found = quantized(graph, x, SplitActivations(ratio=0.3))
    program = found.program
    assert program.tensors["relu0"].bits == 9
    clamp = next(op for op in program.ops if op.inputs == ("relu0",) and isinstance(op, Clamp))
    assert (clamp.low, clamp.high) == (0, 255)
    assert program.op("add").inputs == ("two", clamp.output)
    assert program.tensors[clamp.output].bits == 8
    assert program.tensors["one.halves"].scale == program.tensors["relu0"].scale
    assert program.tensors["relu1"].bits == 9
    values = assert_engines_agree(found, x[:4]).values
    assert np.array_equal(values[clamp.output], np.minimum(values["relu0"], 255))


def chain_graph(rng: np.random.Generator, *between: Node, channels: int = 4, tail: str = "") -> Graph:
    """Return a convolution, the nodes, and a convolution of what they give."""
    weight = [rng.standard_t(3, (channels, c, 3, 3)).astype(np.float32) for c in (2, channels)]
    last = conv_node("reader", tail or between[-1].name, weight[1])
    return graph_of((2, 8, 8), conv_node("maker", "x", weight[0], padding=1), *between, last)


POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0,) * 4, "dilation": (1, 1), "ceil_mode": False}


def test_the_extra_bit_passes_through_pooling_and_padding(rng: np.random.Generator) -> None:
    graph = chain_graph(
        rng,
        Node("relu", "relu", ("maker",)),
        Node("pool", "max_pool", ("relu",), POOL),
        Node("pad", "pad", ("pool",), {"before": (0, 1, 1), "after": (0, 1, 1), "value": 0.0}),
    )
    x = rng.normal(size=(8, 2, 8, 8)).astype(np.float32)
    found = quantized(graph, x, SplitActivations(ratio=0.5))
    assert [found.program.tensors[name].bits for name in ("relu", "pool", "pad", "reader.halves")] == [9, 9, 9, 8]
    assert not any(isinstance(op, Clamp) for op in found.program.ops)
    assert_engines_agree(found, x)


def test_a_clamp_that_others_read_around_keeps_their_codes(rng: np.random.Generator) -> None:
    graph = chain_graph(
        rng,
        Node("relu", "relu", ("maker",)),
        Node("sum", "add", ("maker", "relu")),
        tail="relu",
    )
    graph = dataclasses.replace(graph, outputs=("reader", "sum")).check()
    x = rng.normal(size=(8, 2, 8, 8)).astype(np.float32)
    plain, found = quantized(graph, x), quantized(graph, x, SplitActivations(ratio=0.5))
    for name in ("maker", "sum"):
        now, before = found.program.tensors[name], plain.program.tensors[name]
        assert now.scale == pytest.approx(before.scale)
        assert (now.low, now.high) == (before.low, before.high)
    assert_engines_agree(found, x)


def test_two_layers_that_halve_one_tensor_share_its_grid(rng: np.random.Generator) -> None:
    weight = rng.normal(size=(3, 5)).astype(np.float32)
    graph = graph_of(
        (5,), linear_node("a", "x", weight), linear_node("b", "x", weight), Node("sum", "add", ("a", "b")),
        outputs=("sum",),
    )  # fmt: skip
    x = spiky(rng, 64, 5)
    found = quantized(graph, x, SplitActivations(ratio=0.2))
    scales = {found.program.tensors[name].scale for name in ("x", "a.halves", "b.halves")}
    assert len(scales) == 1
    assert_engines_agree(found, x)


def test_halving_follows_a_slice_on_its_own_codes(rng: np.random.Generator) -> None:
    cut = {"start": (1, 0, 0), "stop": (4, 8, 8), "step": (1, 1, 1)}
    weight = [rng.normal(size=(4, 2, 3, 3)).astype(np.float32), rng.normal(size=(2, 3, 3, 3)).astype(np.float32)]
    graph = graph_of(
        (2, 8, 8), conv_node("maker", "x", weight[0], padding=1), Node("slice", "slice", ("maker",), cut),
        conv_node("reader", "slice", weight[1]),
    )  # fmt: skip
    x = rng.normal(size=(4, 2, 8, 8)).astype(np.float32)
    assert_engines_agree(quantized(graph, x, SplitActivations(ratio=0.4)), x)


@pytest.mark.parametrize("options", [{}, {"act_scheme": "affine"}, {"rule": "pot_shift"}, {"rule": "fbgemm"}])
@pytest.mark.parametrize("weights_too", [False, True])
def test_split_networks_run_alike_on_every_engine(options: Any, weights_too: bool, rng: np.random.Generator) -> None:
    x = rng.standard_t(3, (8, 3, 6, 6)).astype(np.float32)
    both = (SplitActivations(ratio=0.3), *([SplitOutliers(ratio=0.3)] * weights_too))
    found = quantized(residual_graph(rng), x, *both, act_bits=5, **options)
    assert_engines_agree(found, x)


def test_halves_cost_no_accuracy_at_wide_grids(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(32, 3, 6, 6)).astype(np.float32)
    found = quantized(graph, x, SplitActivations(ratio=0.5), weight_bits=12, act_bits=12)
    real = found.decode(reference.run(found.program, found.encode(x)).values)[0]
    want = outputs_of(graph, x)
    assert np.abs(real - want).max() < 0.01 * np.abs(want).max()


def test_per_batch_programs_are_calibrated_on_their_batch(rng: np.random.Generator) -> None:
    graph = linear_graph(rng.normal(size=(3, 8)).astype(np.float32))
    batches = [spiky(rng, 4, 8) * scale for scale in (1, 10)]
    recipe = Recipe(first_last="same", act_bits=4, transforms=(SplitOutliers(ratio=0.1),))
    found = list(quantize_per_batch(graph, batches, recipe, 0.25))
    assert [np.array_equal(batch, b) for (_, batch), b in zip(found, batches, strict=True)] == [True, True]
    for quantized_batch, batch in found:
        halved = quantized_batch.program.tensors["layer.halves"]
        static = SplitActivations(ratio=0.25)(graph, context(spiky(rng, 64, 8))).node("layer.halves")
        after = (np.abs(batch).max(axis=0)[list(static.attrs["src"])] * static.params["weight"]).max()
        assert halved.scale * 7 <= after * (1 + 1e-6)
        assert_engines_agree(quantized_batch, batch)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_the_choice_needs_calibration_samples(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"act-ocs looks at activations \(got no calibration samples\)"):
        SplitActivations(ratio=0.1)(residual_graph(rng), Context())
    with pytest.raises(ValueError, match="calibration samples must be >= 1"):
        SplitActivations(ratio=0.1)(residual_graph(rng), Context(calibration=list))


def test_layers_that_are_split_already_are_refused(rng: np.random.Generator) -> None:
    graph = linear_graph(rng.normal(size=(3, 4)).astype(np.float32))
    x = spiky(rng, 8, 4)
    for first in (SplitOutliers(ratio=0.1), SplitActivations(ratio=0.1)):
        with pytest.raises(ValueError, match="layer 'layer' is split already; list act-ocs once and before ocs"):
            SplitActivations(ratio=0.1)(first(graph, context(x)), context(x))


@pytest.mark.parametrize("ratio", [-0.1, 1.5])
def test_ratios_outside_0_to_1_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"act-ocs ratio must be within 0\.\.1"):
        SplitActivations(ratio=ratio)


def test_unexplained_factors_of_a_duplicate_are_refused() -> None:
    copy = Node("copy", "duplicate", ("x",), {"axis": 0, "src": (0, 1)}, {"weight": np.array([1.0, 0.3])})
    graph = graph_of((2,), copy, linear_node("layer", "copy", np.ones((2, 2), dtype=np.float32)))
    with pytest.raises(ValueError, match="layer 'copy': duplicate with factors has an integer form only as halves"):
        quantized(graph, np.ones((1, 2), dtype=np.float32))


@pytest.mark.parametrize("x", [np.zeros((4, 3)), np.full((4, 3), 2.0), np.full((4, 3), -2.0)])
def test_constant_activations_and_zeros_are_halved_without_harm(x: Array) -> None:
    graph = linear_graph(np.ones((2, 3), dtype=np.float32))
    for oracle_choice in (False, True):
        found = quantized(graph, x.astype(np.float32), SplitActivations(ratio=0.5, oracle=oracle_choice))
        values = assert_engines_agree(found, x).values
        assert np.allclose(found.decode(values)[0], x.sum(axis=1, keepdims=True), atol=0.05)
