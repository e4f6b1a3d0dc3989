"""SplitQuant: disjoint clusters, the float function, branch ranges, integer branches added on a common scale."""

from typing import Any

import numpy as np
import pytest
from float_nets import (
    assert_engines_agree,
    assert_same_function,
    conv_graph,
    conv_node,
    graph_of,
    linear_graph,
    linear_node,
    outputs_of,
    residual_graph,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim import reference
from accelsim.program import Conv, Requantize, gemm_view
from quant.graph import Graph, Node
from quant.grid import dequantize
from quant.lower import Quantized
from quant.lower_split import MAX_SUM, branch_weights
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.splitquant import (
    BRANCH,
    MOST_CLUSTERED,
    SplitQuant,
    boundaries,
    in_chunks,
    labels,
    parts,
    stored_bits,
    weight_labels,
)
from quant.transform import Context

Array = NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)
PARTS = ("lower", "middle", "upper")


def values_of(seed: int, size: int = 40) -> Array:
    """Values of several shapes: bell, few different, constant, equal but for one."""
    rng = np.random.default_rng(seed)
    kinds = [
        rng.normal(size=size),
        rng.standard_t(2, size),
        rng.integers(-1, 2, size).astype(float),
        np.full(size, rng.normal()),
        np.where(np.arange(size) == 0, 5.0, -1.0),
        np.where(np.arange(size) == 0, 1.0, 1.0 + 1e-6),
    ]
    return kinds[seed % len(kinds)].astype(np.float32)


def quantized(graph: Graph, x: Array, *transforms: Any, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms, **options))


def branches(graph: Graph, layer: str = "layer") -> list[Node]:
    return [graph.node(f"{layer}.{part}") for part in PARTS]


# --- clusters --------------------------------------------------------------------------------------------------------


def test_boundaries_are_midpoints_between_centres() -> None:
    assert boundaries(np.array([0.0, 0.0, 10.0, 10.0, 30.0, 30.0])) == (5, 20)
    low, high = boundaries(np.array([-1.0, -1.2, 0.0, 0.1, -0.1, 3.0, 3.4]))
    assert (low, high) == (pytest.approx((-1.1 + 0) / 2), pytest.approx((0 + 3.2) / 2))


def test_labels_take_in_the_boundaries_at_both_ends() -> None:
    values = np.array([0.0, 5.0, 10.0, 20.0, 30.0, 0.0, 10.0, 30.0])
    low, high = boundaries(values)
    found = labels(np.array([*values, low, high]))
    again = boundaries(np.array([*values, low, high]))
    wide = np.array([*values, low, high])
    assert found.tolist() == np.where(wide <= again[0], 0, np.where(wide < again[1], 1, 2)).tolist()


@given(SEEDS)
def test_every_value_is_in_exactly_one_cluster_and_the_parts_sum_to_the_whole(seed: int) -> None:
    values = values_of(seed)
    found = labels(values)
    assert set(np.unique(found)) <= {0, 1, 2}
    low, middle, high = parts(values, found)
    assert np.array_equal(low + middle + high, values)
    assert not np.any((low != 0) & (middle != 0) | (low != 0) & (high != 0) | (middle != 0) & (high != 0))


def test_coinciding_boundaries_count_no_value_twice() -> None:
    values = np.full(5, 0.75, dtype=np.float32)
    assert boundaries(values) == (0.75, 0.75)
    assert labels(values).tolist() == [0] * 5
    two = np.array([1.0, 2.0, 2.0], dtype=np.float32)
    assert boundaries(two) == (1.5, 2.0)
    assert labels(two).tolist() == [0, 2, 2]


@given(SEEDS)
def test_clusters_do_not_depend_on_the_order_of_the_weights(seed: int) -> None:
    values = values_of(seed)
    order = np.random.default_rng(seed).permutation(values.size)
    assert boundaries(values[order]) == boundaries(values)
    assert np.array_equal(labels(values[order]), labels(values)[order])


@settings(max_examples=20)
@given(SEEDS, st.integers(0, 5))
def test_the_same_seed_gives_the_same_clusters(seed: int, start: int) -> None:
    values = values_of(seed)
    np.random.seed(seed % 1000)  # noqa: NPY002  the global generator must not matter
    first = boundaries(values, start)
    np.random.seed(0)  # noqa: NPY002
    assert boundaries(values, start) == first


def test_large_tensors_are_clustered_by_their_quantiles(rng: np.random.Generator) -> None:
    values = rng.standard_t(4, 20 * MOST_CLUSTERED)
    few = boundaries(values)
    shares = np.bincount(labels(values), minlength=3) / values.size
    thinned = boundaries(np.sort(values)[np.linspace(0, values.size - 1, MOST_CLUSTERED).round().astype(int)])
    assert few == thinned
    assert shares.min() > 0.05


def test_bells_are_cut_as_others_measured(rng: np.random.Generator) -> None:
    for density, middle in (("normal", 0.46), ("laplace", 0.63)):
        shares = np.bincount(labels(getattr(rng, density)(size=20_000))) / 20_000
        assert shares[1] == pytest.approx(middle, abs=0.04)


def test_a_convolution_is_clustered_filter_by_filter_and_a_matrix_as_one() -> None:
    weight = np.array([[0.0, 1, 2, 0], [0, 100, 200, 0]], dtype=np.float32)
    conv = conv_graph(weight.reshape(2, 1, 2, 2)).node("layer")
    assert weight_labels(conv).reshape(2, 4).tolist() == [[0, 1, 2, 0], [0, 1, 2, 0]]
    matrix = linear_graph(weight).node("layer")
    assert weight_labels(matrix).tolist() == [[0, 0, 0, 0], [0, 1, 2, 0]]


# --- the float graph -------------------------------------------------------------------------------------------------


def test_branches_hold_weights_and_biases_by_cluster() -> None:
    weight = np.array([[-5.0, 0.1, 4.0], [0.2, -6.0, 0.0]], dtype=np.float32)
    bias = np.array([9.0, -1.0], dtype=np.float32)
    lower, middle, upper = branches(SplitQuant()(linear_graph(weight, bias)))
    assert lower.params["weight"].tolist() == [[-5, 0, 0], [0, -6, 0]]
    assert upper.params["weight"].tolist() == [[0, 0, 4], [0, 0, 0]]
    assert np.array_equal(middle.params["weight"], weight - lower.params["weight"] - upper.params["weight"])
    assert [b.params["bias"].tolist() for b in (lower, middle, upper)] == [[0, -1], [0, 0], [9, 0]]
    assert [b.notes[BRANCH].members for b in (lower, middle, upper)] == [2, 3, 1]


@settings(max_examples=15)
@given(SEEDS, st.sampled_from([(1, 0, 1, 1), (2, 1, 1, 1), (1, 1, 2, 2), (1, 1, 1, 4)]), st.booleans())
def test_splitting_a_convolution_keeps_its_function(seed: int, geometry: tuple[int, ...], with_bias: bool) -> None:
    rng = np.random.default_rng(seed)
    stride, padding, dilation, groups = geometry
    weight = rng.standard_t(3, (4, 4 // groups, 3, 3)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32) if with_bias else None
    graph = conv_graph(weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    split = SplitQuant()(graph)
    assert len(split.nodes) == 5
    assert_same_function(graph, split, rng.normal(size=(2, 4, 5, 5)).astype(np.float32))


@pytest.mark.parametrize("bias", [None, np.zeros(2), np.array([1.0, -3.0])])
@pytest.mark.parametrize("weight", [np.zeros((2, 3)), np.full((2, 3), 0.5), np.ones((2, 1)), np.eye(2, 3)])
def test_constant_weights_zero_biases_and_small_layers_are_split_all_the_same(
    weight: Array, bias: Array | None
) -> None:
    graph = linear_graph(weight.astype(np.float32), None if bias is None else bias.astype(np.float32))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)[:, : weight.shape[1]]
    split = SplitQuant()(graph)
    assert [node.name for node in split.nodes] == [
        "layer.lower", "layer.middle", "layer.upper", "layer.partial", "layer",
    ]  # fmt: skip
    assert_same_function(graph, split, x)
    for scales in ("affine", "symmetric"):
        found = quantized(graph, x, SplitQuant(scales=scales))
        real = found.decode(assert_engines_agree(found, x).values)[0]
        assert np.abs(real - outputs_of(graph, x)).max() < 0.02


def test_splitting_a_network_keeps_its_function_and_spares_protected_layers(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    split = SplitQuant(activations=True)(graph, Context(protected=frozenset({"first", "last"})))
    assert_same_function(graph, split, rng.normal(size=(3, 3, 6, 6)).astype(np.float32))
    names = {node.name for node in split.nodes}
    assert {"one.lower", "two.upper", "relu1.chunk0"} <= names
    assert not {"first.lower", "last.lower"} & names


def test_a_split_network_is_not_split_again(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"layer 'layer\.lower' is a branch already; list splitquant once"):
        SplitQuant()(SplitQuant()(linear_graph(rng.normal(size=(2, 3)).astype(np.float32))))


# --- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["relu", "relu6", "tanh", "sigmoid", "silu", "gelu", "leaky_relu", "elu", "hardswish"])
@pytest.mark.parametrize("channels", [3, 4, 8])
def test_chunks_of_an_element_wise_function_give_the_unsplit_values(
    op: str, channels: int, rng: np.random.Generator
) -> None:
    attrs = {"leaky_relu": {"slope": 0.1}, "elu": {"alpha": 1.0}, "gelu": {"approximate": "none"}}.get(op, {})
    graph = graph_of((channels, 4), Node("f", op, ("x",), attrs))
    cut = SplitQuant(activations=True)(graph)
    sizes = [cut.shapes[f"f.chunk{i}"][0] for i in range(3)]
    assert sum(sizes) == channels
    assert max(sizes) - min(sizes) <= 1
    x = rng.normal(size=(2, channels, 4)).astype(np.float32)
    assert_same_function(graph, cut, x, tol=1e-6)


def test_softmax_and_short_tensors_are_not_cut() -> None:
    softmax = graph_of((6,), Node("f", "softmax", ("x",), {"axis": 0}))
    assert SplitQuant(activations=True)(softmax).nodes == softmax.nodes
    with pytest.raises(ValueError, match="splitquant: softmax 'f' must be element-wise to be cut into chunks"):
        in_chunks(softmax, softmax.node("f"))
    short = graph_of((2,), Node("f", "relu", ("x",)))
    assert SplitQuant(activations=True)(short).nodes == short.nodes


def test_chunked_activations_run_alike_on_every_engine(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    assert_engines_agree(quantized(residual_graph(rng), x, SplitQuant(activations=True), weight_bits=4), x)


# --- grids of the branches -------------------------------------------------------------------------------------------


@given(SEEDS, st.integers(2, 8), st.sampled_from(["affine", "symmetric"]), st.booleans())
def test_masked_positions_are_exactly_zero(seed: int, bits: int, scales: Any, per_channel: bool) -> None:
    weight = values_of(seed).reshape(4, 10)
    found = weight_labels(linear_graph(weight).node("layer"))
    for place, node in enumerate(branches(SplitQuant(scales=scales)(linear_graph(weight)))):
        ints = branch_weights(node, Recipe(weight_bits=bits, per_channel=per_channel), bits)
        real = ints.codes * ints.grid.scale[:, None]
        assert (real[found != place] == 0).all()
        assert ints.codes.min() >= -(2 ** (ints.operand_bits - 1))
        assert ints.codes.max() < 2 ** (ints.operand_bits - 1)
        assert np.abs(real - node.params["weight"]).max() <= ints.grid.scale.max() * (1 + 1e-6)
        assert np.array_equal(real, dequantize(ints.codes + ints.grid.zero_point[:, None], ints.grid))


@given(SEEDS, st.integers(2, 8))
def test_affine_branches_span_at_most_the_unsplit_range(seed: int, bits: int) -> None:
    weight = values_of(seed).reshape(4, 10)
    graph = linear_graph(weight)
    whole = branch_weights(graph.node("layer").with_notes(**branches(SplitQuant()(graph))[0].notes), Recipe(), bits)
    for node in branches(SplitQuant()(graph)):
        if node.params["weight"].any():
            assert branch_weights(node, Recipe(), bits).grid.one_scale <= whole.grid.one_scale * (1 + 1e-12)


@given(SEEDS, st.integers(2, 8))
def test_one_symmetric_branch_at_least_keeps_the_unsplit_step(seed: int, bits: int) -> None:
    graph = linear_graph(values_of(seed).reshape(4, 10))
    step = max(abs(graph.node("layer").params["weight"].ravel())) / (2 ** (bits - 1) - 1)
    found = [
        branch_weights(node, Recipe(), bits).grid.one_scale
        for node in branches(SplitQuant(scales="symmetric")(graph))
        if node.params["weight"].any()
    ]
    assert max(found) == pytest.approx(step)


@pytest.mark.parametrize(("bits", "affine_gain", "symmetric_gain"), [(2, 5.1, 1.1), (4, 6.6, 2.0), (8, 6.9, 2.0)])
def test_gauss_weights_gain_from_affine_scales_what_others_measured(
    bits: int, affine_gain: float, symmetric_gain: float, rng: np.random.Generator
) -> None:
    graph = linear_graph(rng.normal(size=(100, 1000)).astype(np.float32))
    weight = graph.node("layer").params["weight"]

    def error(nodes: list[Node]) -> float:
        ints = [branch_weights(node, Recipe(), bits) for node in nodes]
        real = sum(i.codes * i.grid.one_scale for i in ints)
        return float(((real - weight) ** 2).mean())

    for scales, gain in (("affine", affine_gain), ("symmetric", symmetric_gain)):
        split = branches(SplitQuant(scales=scales)(graph))
        whole = graph.node("layer").with_notes(**split[0].notes)
        assert error([whole]) / error(split) == pytest.approx(gain, rel=0.12)


# --- integers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", ["affine", "symmetric"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"act_scheme": "affine"},
        {"per_channel": True},
        {"rule": "pot_shift"},
        {"rule": "fbgemm"},
        {"rule": "gemmlowp_double"},
        {"act_bits": 16},
    ],
    ids=str,
)
def test_split_networks_run_alike_on_every_engine(scales: Any, options: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    found = quantized(residual_graph(rng), x, SplitQuant(scales=scales), weight_bits=3, **options)
    assert_engines_agree(found, x)


@settings(max_examples=15)
@given(SEEDS, st.integers(2, 8), st.sampled_from([2, 8, 16]), st.sampled_from(["affine", "symmetric"]))
def test_the_common_scale_loses_nothing_visible(seed: int, bits: int, act_bits: int, scales: Any) -> None:
    rng = np.random.default_rng(seed)
    graph = graph_of(
        (12,),
        linear_node("layer", "x", rng.standard_t(3, (6, 12)).astype(np.float32), rng.normal(size=6)),
        Node("relu", "relu", ("layer",)),
        linear_node("after", "relu", np.eye(6)),
    )
    x = rng.normal(size=(5, 12)).astype(np.float32)
    found = quantized(graph, x, SplitQuant(scales=scales), weight_bits=bits, act_bits=act_bits)
    values = reference.run(found.program, found.encode(x)).values
    tensors = found.program.tensors
    exact = sum(values[f"layer.{part}.acc"] * tensors[f"layer.{part}.acc"].scale for part in PARTS)
    out = tensors["relu"]
    unrounded = np.clip(exact / out.scale, 0, out.high)
    assert np.abs(values["relu"] - unrounded).max() <= 0.5 + (2**-7 if act_bits <= 8 else 0.5)
    assert tensors["layer.sum"].high <= MAX_SUM
    for part in PARTS:
        common = tensors[f"layer.{part}.common"]
        assert np.abs(values[common.name]).max() < common.high


def test_an_output_layer_keeps_the_sum_of_its_branches(rng: np.random.Generator) -> None:
    graph = linear_graph(rng.normal(size=(4, 9)).astype(np.float32), rng.normal(size=4).astype(np.float32))
    x = rng.normal(size=(6, 9)).astype(np.float32)
    found = quantized(graph, x, SplitQuant(), weight_bits=8)
    values = assert_engines_agree(found, x).values
    acc = [found.program.tensors[f"layer.{part}.acc"] for part in PARTS]
    exact = sum(values[a.name] * a.scale for a in acc)
    step = found.program.tensors["layer.sum"].scale
    assert isinstance(step, float)
    assert np.abs(found.decode(values)[0] - exact).max() <= 3 * step
    assert np.abs(exact - outputs_of(graph, x)).max() < 0.1


def test_affine_operands_are_one_bit_wider_than_what_is_stored(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    for scales, wider in (("affine", 1), ("symmetric", 0)):
        found = quantized(graph, x, SplitQuant(scales=scales), weight_bits=4)
        convs = [op for op in found.program.ops if isinstance(op, Conv)]
        assert len(convs) == 12
        assert {(op.weight_bits, op.storage_bits) for op in convs} == {(4 + wider, 4)}


def test_dense_branches_have_three_times_the_macs(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    plain, split = quantized(graph, x).program, quantized(graph, x, SplitQuant()).program

    def macs(program: Any) -> int:
        return sum(gemm.macs for op in program.ops if (gemm := gemm_view(program, op)) is not None)

    assert macs(split) == 3 * macs(plain)


def test_both_storage_forms_can_be_priced(rng: np.random.Generator) -> None:
    graph = linear_graph(rng.normal(size=(10, 12)).astype(np.float32))
    found = quantized(graph, rng.normal(size=(3, 12)).astype(np.float32), SplitQuant(), weight_bits=2)
    infos = [info for info in found.layers if info.part_of == "layer"]
    assert [info.name for info in infos] == ["layer.lower", "layer.middle", "layer.upper"]
    members = [info.members for info in infos]
    assert sum(members) == 120
    assert stored_bits(members, 2) == 3 * 120 * 2
    assert stored_bits(members, 2, "coded") == 120 * (2 + 2)


def test_every_branch_is_requantized_once_and_nothing_is_clamped_before_the_sum(rng: np.random.Generator) -> None:
    graph = linear_graph(rng.normal(size=(4, 9)).astype(np.float32))
    found = quantized(graph, rng.normal(size=(3, 9)).astype(np.float32), SplitQuant())
    steps = [op for op in found.program.ops if isinstance(op, Requantize)]
    assert [op.output for op in steps] == ["layer.lower.common", "layer.middle.common", "layer.upper.common"]
    huge = {"x": np.full((1, 9), 127)}
    values = reference.run(found.program, huge).values
    for op in steps:
        assert np.abs(values[op.output]).max() < op.high


def test_it_composes_with_channel_splitting_of_weights_and_activations(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(6, 3, 6, 6)).astype(np.float32)
    transforms = (SplitActivations(ratio=0.3), SplitOutliers(ratio=0.3), SplitQuant())
    found = quantized(graph, x, *transforms, weight_bits=8, act_bits=8)
    values = assert_engines_agree(found, x).values
    want = outputs_of(graph, x)
    assert np.abs(found.decode(values)[0] - want).max() < 0.1 * np.abs(want).max()
    info = next(info for info in found.layers if info.name == "one.lower")
    assert (info.splits, info.act_splits, info.part_of) == (3, 2, "one")


def test_depthwise_layers_can_be_split_too(rng: np.random.Generator) -> None:
    weight = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)
    graph = graph_of((4, 6, 6), conv_node("layer", "x", weight, groups=4, padding=1), Node("relu", "relu", ("layer",)))
    x = rng.normal(size=(4, 4, 6, 6)).astype(np.float32)
    found = quantized(graph, x, SplitQuant(), weight_bits=4)
    assert_engines_agree(found, x)


def test_unknown_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="splitquant scales must be affine or symmetric"):
        SplitQuant(scales="log")  # type: ignore[arg-type]
