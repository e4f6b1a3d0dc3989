"""All equalizations: dead channels, ReLU6 and its caps, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equalize_nets import EVERY, capped_net, context, run_both
from float_nets import assert_same_function, graph_of, linear_node
from transform_nets import NETS, conv, op, samples

from accelsim.check import check
from accelsim.program import Clamp
from accelsim.store import load_program, save_program
from quant.equalize_cross import CrossLayer
from quant.equalize_meller import OneStep, TwoStep
from quant.graph import Graph, Node
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import run


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


@pytest.mark.parametrize("bits", [4, 8])
def test_caps_become_codes_of_the_activations_grid(bits: int) -> None:
    graph, x = capped_net()
    recipe = Recipe(transforms=(CrossLayer(),), act_bits=bits, first_last="same")
    quantized = quantize_network(graph, lambda: [x], recipe)
    (clamp,) = [op for op in quantized.program if isinstance(op, Clamp)]
    limits = quantized.graph.node("cap").params["hi"].astype(np.float64)
    scale = quantized.program.tensors["cap"].scale
    assert np.array_equal(clamp.high, np.minimum(np.floor(limits / scale + 0.5), 2**bits - 1))
    assert not np.asarray(clamp.low).any()
    run_both(quantized, x)


def test_caps_compose_with_split_activations_and_weights() -> None:
    rng = np.random.default_rng(7)
    graph = NETS["relu6"](rng)
    x = samples(graph, rng, 8)
    transforms = (CrossLayer(), SplitActivations(ratio=0.4), SplitOutliers(ratio=0.4))
    quantized = quantize_network(graph, lambda: [x], Recipe(transforms=transforms, first_last="same"))
    assert any(isinstance(op, Clamp) and np.ndim(op.high) for op in quantized.program)
    assert_same_function(graph, quantized.graph, x)
    run_both(quantized, x)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"high": np.array([1, 2])}, r"has \(2,\) limits for 3 channels"),
        ({"low": np.array([9, 0, 0]), "high": np.array([8, 8, 8])}, "lower limit is above its upper one"),
        ({"high": np.array([1, 2, 999])}, "outside its output's"),
    ],
)
def test_bad_limits_per_channel_are_no_valid_program(change: dict[str, Any], text: str) -> None:
    graph, x = capped_net()
    program = quantize_network(graph, lambda: [x], Recipe(transforms=(CrossLayer(),))).program
    ops = tuple(replace(op, **change) if isinstance(op, Clamp) else op for op in program.ops)
    check(program)
    with pytest.raises(ValueError, match=text):
        check(replace(program, ops=ops))


def test_caps_survive_storing(tmp_path: Path) -> None:
    graph, x = capped_net()
    program = quantize_network(graph, lambda: [x], Recipe(transforms=(CrossLayer(),))).program
    save_program(program, tmp_path / "p.npz")
    assert load_program(tmp_path / "p.npz").digest() == program.digest()


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
