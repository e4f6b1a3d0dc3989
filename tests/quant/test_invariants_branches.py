"""What every method promises, the numbered statements 22 to 34: degenerate tensors, clusters, scaling, hardware."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from equalize_nets import EVERY, capped_net, context, factors_of, widths
from float_nets import assert_same_function, conv_graph, graph_of, linear_graph, outputs_of, residual_graph
from numpy.typing import NDArray
from transform_nets import NETS, op, samples

from accelsim import reference
from accelsim.arith import half_up
from accelsim.config import load_accelerator
from accelsim.program import gemm_view
from accelsim.simulate import simulate
from quant.clip import CLIPS, ClipInput, Percentile
from quant.equalize_cross import CrossLayer
from quant.equalize_meller import CAP, OneStep
from quant.graph import Graph, Node
from quant.grid import dequantize, symmetric
from quant.lower import Quantized
from quant.lower_split import branch_weights
from quant.observe import observe
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import run
from quant.splitquant import PARTS, SplitQuant, boundaries, in_chunks, labels, parts
from quant.transforms import TRANSFORMS

Array = NDArray[Any]
SEEDS = range(5)
RATIOS = {"ocs": {"ratio": 0.5}, "act-ocs": {"ratio": 0.5}}


def heavy(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_t(3, shape).astype(np.float32)


def quantized(graph: Graph, x: Array, *transforms: Any, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms, **options))


def branches(graph: Graph) -> list[Node]:
    return [graph.node(f"layer.{part}") for part in PARTS]


def net(name: str, seed: int = 3) -> tuple[Graph, Array]:
    rng = np.random.default_rng(seed)
    graph = NETS[name](rng)
    return graph, samples(graph, rng, 6)


@pytest.mark.parametrize("weight", [np.zeros((2, 3)), np.full((2, 3), -0.7), np.eye(2, 1), np.zeros((1, 1))])
def test_22_zeros_single_values_and_one_channel_give_finite_scales(weight: Array) -> None:
    """Every clip rule and every transform; a tensor of zeros has alpha 1."""
    row = weight.reshape(1, -1)
    for rule in CLIPS.values():
        alpha = rule()(ClipInput(row, np.abs(row).max(axis=1), 4))
        assert np.isfinite(alpha).all()
        assert symmetric(alpha, 4).one_scale == pytest.approx((alpha[0] or 1.0) / 7)
    x = np.ones((2, weight.shape[1]), dtype=np.float32)
    layer = linear_graph(weight.astype(np.float32))
    for name, kind in TRANSFORMS.items():
        found = quantized(layer, x, kind(**RATIOS.get(name, {})), weight_bits=4)
        real = found.decode(reference.run(found.program, found.encode(x)).values)[0]
        assert np.allclose(real, outputs_of(layer, x), atol=0.02), name


def test_23_clusters_are_a_partition() -> None:
    """Disjoint and complete, also where boundaries coincide; the parts sum bit for bit to weights and to biases."""
    for values in (heavy(1, 60), np.full(9, 0.5), np.array([1.0, 2, 2]), np.zeros(4), np.array([-1.0, 0, 1])):
        single = values.astype(np.float32)
        found = parts(single, labels(single))
        assert sum((part != 0).astype(int) for part in found).max() <= 1
        assert np.array_equal(found[0] + found[1] + found[2], single)
    for bias in (heavy(2, 4), np.zeros(4, dtype=np.float32)):
        split = branches(SplitQuant()(linear_graph(heavy(3, 4, 6), bias)))
        assert np.array_equal(sum(node.params["bias"] for node in split), bias)
        assert np.array_equal(sum(node.params["weight"] for node in split), heavy(3, 4, 6))


def test_24_the_sum_of_three_layers_is_the_layer() -> None:
    """And element-wise functions may be cut into chunks, but softmax may not."""
    weight, bias, x = heavy(4, 4, 3, 3, 3), heavy(5, 4), heavy(6, 2, 3, 5, 5)
    split = branches(SplitQuant()(conv_graph(weight, bias, stride=2, padding=1)))
    total = sum(
        torch.conv2d(torch.from_numpy(x), torch.tensor(n.params["weight"]), torch.tensor(n.params["bias"]), 2, 1)
        for n in split
    )
    whole = torch.conv2d(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias), 2, 1)
    assert torch.allclose(total, whole, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
    tanh = graph_of((7, 2), op("f", "tanh", "x"))
    z = heavy(12, 5, 7, 2)
    assert np.array_equal(outputs_of(in_chunks(tanh, tanh.node("f")), z), outputs_of(tanh, z))
    soft = graph_of((6,), op("f", "softmax", "x", axis=0))
    with pytest.raises(ValueError, match="must be element-wise to be cut into chunks"):
        in_chunks(soft, soft.node("f"))


@pytest.mark.parametrize("scales", ["affine", "symmetric"])
def test_25_masked_positions_are_exactly_zero(scales: Any) -> None:
    """In every part, at every width."""
    weight = heavy(7, 5, 8) + 1
    for bits in (2, 3, 4, 8):
        for node in branches(SplitQuant(scales=scales)(linear_graph(weight))):
            found = branch_weights(node, Recipe(), bits)
            real = dequantize(found.codes + found.grid.zero_point[:, None], found.grid)
            assert (real[node.params["weight"] == 0] == 0).all()


def test_26_affine_parts_narrow_and_one_symmetric_part_does_not() -> None:
    """Affine ranges (zero included) are within the unsplit one; one symmetric part has the unsplit scale."""
    for seed in SEEDS:
        weight = heavy(seed, 5, 8)
        ends = min(weight.min(), 0), max(weight.max(), 0)
        for node in branches(SplitQuant()(linear_graph(weight))):
            scale = branch_weights(node, Recipe(), 4).grid.one_scale
            assert scale <= (ends[1] - ends[0]) / 15 * (1 + 1e-6)
        split = branches(SplitQuant(scales="symmetric")(linear_graph(weight)))
        scales = [branch_weights(node, Recipe(), 4).grid.one_scale for node in split]
        assert max(scales) == pytest.approx(np.abs(weight).max() / 7)


def test_27_clusters_depend_on_the_seed_and_the_values_alone() -> None:
    """Not on the order of the weights, nor on any global generator."""
    values = heavy(8, 200)
    first = boundaries(values, 5)
    np.random.seed(1)  # noqa: NPY002
    assert boundaries(values, 5) == first
    assert boundaries(values[::-1], 5) == first


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: t.label)
@pytest.mark.parametrize("which", ["chain", "leaky", "pools", "concat", "residual", "depthwise", "dead"])
def test_28_equalized_networks_compute_the_same(which: str, transform: Any) -> None:
    """Through ReLU, leaky ReLU, linear, pools, concat, addition, depthwise; factors positive, dead channels keep 1."""
    graph, x = net(which)
    equal = transform(graph, context(x))
    assert_same_function(graph, equal, x)
    assert any(not np.array_equal(equal.node(n.name).params[k], v) for n in graph.nodes for k, v in n.params.items())
    for name in ("first", "stem"):
        if any(n.name == name for n in graph.nodes):
            old, new = (g.node(name).params["bias"] for g in (graph, equal))
            c = new[old != 0] / old[old != 0]
            assert np.isfinite(c).all()
            assert (c > 0).all()
    if which == "dead":
        assert np.array_equal(equal.node("first").params["weight"][1], graph.node("first").params["weight"][1])


def test_29_one_step_amplifies_until_a_limit_is_tight() -> None:
    """1 <= c <= 16; no maximum of a layer grows; kernel, activation or pre-activation is at its limit."""
    for seed in SEEDS:
        graph, x = net("mlp", seed)
        equal = OneStep()(graph, context(x))
        before, after = observe(graph, [x], 0), observe(equal, [x], 0)
        for layer, act, reader in (("first", "relu0", "second"), ("second", "relu1", "last")):
            c = factors_of(graph, equal, layer)
            assert (c >= 1 - 1e-6).all()
            assert (c <= CAP * (1 + 1e-6)).all()
            assert widths(equal, reader).max() <= widths(graph, reader).max() * (1 + 1e-6)
            assert after[act].absmax <= before[act].absmax * (1 + 1e-5)
            share = [widths(equal, layer) / widths(equal, layer).max(), after[act].channel_absmax / after[act].absmax]
            share += [np.maximum(-after[layer].channel_min, 0) / after[act].absmax, c / CAP]
            dead = before[act].channel_absmax == 0
            assert ((np.max(share, axis=0) >= 1 - 1e-4) | dead).all()


def test_30_cross_layer_ranges_meet() -> None:
    """r1 = r2 for every channel, their product stays, and a second application is the identity."""
    for seed in SEEDS:
        graph, _ = net("mlp", seed)
        pair = graph_of((10,), *graph.nodes[:3])
        equal = CrossLayer(tolerance=1e-7)(pair)
        r1, r2 = widths(equal, "first"), widths(equal, "second", 1)
        assert np.allclose(r1, r2, rtol=1e-5)
        assert np.allclose(r1 * r2, widths(pair, "first") * widths(pair, "second", 1), rtol=1e-5)
        again = CrossLayer(tolerance=1e-7)(equal)
        for node in equal.nodes:
            for key, value in node.params.items():
                assert np.allclose(again.node(node.name).params[key], value, rtol=1e-5)


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: t.label)
def test_31_relu6_is_scaled_through_with_caps_per_channel_alone(transform: Any) -> None:
    """With 6·c per channel the function stays; under the scalar cap it would not, and the option is refused."""
    graph, x = capped_net()
    equal = transform(graph, context(x))
    assert np.allclose(equal.node("cap").params["hi"], 6 * (widths(equal, "one") / widths(graph, "one")))
    assert_same_function(graph, equal, 10 * x)
    scalar = Graph("net", equal.inputs, tuple(
        Node("cap", "relu6", n.inputs) if n.name == "cap" else n for n in equal.nodes), equal.outputs)  # fmt: skip
    wanted = run(graph, 10 * x)["two"].numpy()
    assert np.abs(run(scalar, 10 * x)["two"].numpy() - wanted).max() > 0.05 * np.abs(wanted).max()
    with pytest.raises(ValueError, match=r"relu6 must be caps or skip \(got 'scalar'\); caps is exact"):
        type(transform)(relu6="scalar")


def test_32_neutral_knobs_are_the_plain_quantizer() -> None:
    """Equalization by 1, no splits, no clipping: bit for bit."""
    neutral = (OneStep(cap=1.0), SplitActivations(ratio=0.0), SplitOutliers(ratio=0.0))
    for which in ("residual", "concat"):
        graph, x = net(which)
        plain = quantized(graph, x).program.digest()
        clip = {"weight_clip": Percentile(100), "act_clip": Percentile(100)}
        assert quantized(graph, x, *neutral, **clip).program.digest() == plain
        assert quantized(graph, x, SplitOutliers(ratio=0.1)).program.digest() != plain


def test_33_the_hardware_is_charged_for_what_is_computed() -> None:
    """MACs = O·K'·outputs, folds ceil(K'/A) by ceil(O/B); r = 0 gives the baseline, dense SplitQuant three times it."""
    base = load_accelerator("edge-32x32")
    machine = base.model_copy(update={"array": base.array.model_copy(update={"rows": 8, "cols": 4})})
    graph, x = residual_graph(np.random.default_rng(0)), heavy(9, 2, 3, 6, 6)

    def layers(*transforms: Any) -> dict[str, Any]:
        program = quantized(graph, x, *transforms).program
        found = simulate(program, machine, timing_mode="isolated").to_json()["layers"]
        return {layer["name"]: layer for layer in found if layer["kind"] == "conv"}

    for ratio, splits in ((0.0, 0), (0.2, 2), (0.5, 3)):
        one = layers(SplitOutliers(ratio=ratio))["one"]
        k = (6 + splits) * 9
        assert (one["m"], one["k"], one["n"], one["splits"]) == (36, k, 6, splits)
        assert one["macs"] == 6 * k * 36
        assert one["folds"] == -(-k // 8) * -(-6 // 4)
        assert one["array_cycles"] == one["folds"] * (2 * 8 + 4 + 36 - 2)
    assert layers(SplitOutliers(ratio=0.0)) == layers()
    dense, plain = (sum(layer["macs"] for layer in layers(*t).values()) for t in ((SplitQuant(),), ()))
    assert dense == 3 * plain


def test_34_a_bias_is_added_once_in_units_of_weight_times_activation() -> None:
    """Whatever the splits; the released code of OCS added it unscaled."""
    weight, bias, x = heavy(10, 3, 5), np.array([0.5, -2.0, 3.0], dtype=np.float32), heavy(11, 8, 5)
    for ratio in (0.0, 0.2, 1.0):
        found = quantized(linear_graph(weight, bias), x, SplitOutliers(ratio=ratio))
        layer, acc = found.program.op("layer"), found.program.tensors["layer.acc"]
        weight_scale = found.layers[0].alpha / 127
        assert acc.scale == pytest.approx(weight_scale * np.abs(x).max() / 127)
        assert np.array_equal(layer.bias, half_up(bias / acc.scale))
        zero = {"x": np.zeros((1, 5), dtype=np.int64)}
        real = found.decode(reference.run(found.program, zero).values)[0]
        assert np.abs(real - bias).max() <= acc.scale / 2
        assert gemm_view(found.program, layer).macs == 3 * (5 + -(-5 * int(ratio * 10) // 10))


def test_the_numbers_run_from_22_to_34() -> None:
    """No statement is left out."""
    named = [int(name[5:7]) for name in globals() if name.startswith("test_") and name[5:7].isdigit()]
    assert named[0] == 22
    assert all(second == first + 1 for first, second in pairwise(named))
    assert named[-1] == 34
