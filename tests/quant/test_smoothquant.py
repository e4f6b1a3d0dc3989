"""SmoothQuant: the formula by hand, where factors go, and what is left alone."""

import numpy as np
import pytest
from float_nets import assert_same_function, graph_of, linear_node
from hypothesis import given
from hypothesis import strategies as st
from transform_nets import NETS, linear, op, samples

from quant.graph import Graph, Node
from quant.observe import observe
from quant.smoothquant import SmoothQuant, skipped
from quant.transform import Context


def norm_net() -> Graph:
    """A norm whose gains make activations of width 8 and 0.5, read by two layers."""
    gains = {"weight": np.array([8.0, 0.5], dtype=np.float32), "bias": np.zeros(2, dtype=np.float32)}
    return graph_of(
        (2,),
        Node("norm", "layer_norm", ("x",), {"eps": 1e-12, "ndim": 1}, gains),
        linear_node("one", "norm", np.array([[1, 1], [2, 0.1]], dtype=np.float32)),
        linear_node("two", "norm", np.array([[0.5, 4], [0, 0]], dtype=np.float32)),
        op("sum", "add", "one", "two"),
    )


# Of two numbers the layer norm makes 1 and -1, so X = 8 and 0.5; W = 2 and 4 over both readers.
X = np.array([[3.0, 1.0], [1.0, 3.0]], dtype=np.float32)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_formula_by_hand(alpha: float) -> None:
    graph = norm_net()
    smooth = SmoothQuant(alpha=alpha)(graph, Context(calibration=lambda: [X]))
    s = np.array([8, 0.5]) ** alpha / np.array([2, 4]) ** (1 - alpha)
    assert np.allclose(smooth.node("norm").params["weight"], np.array([8, 0.5]) / s, rtol=1e-5)
    for name in ("one", "two"):
        assert np.allclose(smooth.node(name).params["weight"], graph.node(name).params["weight"] * s, rtol=1e-5)
    assert_same_function(graph, smooth, X)


def test_a_half_brings_activations_and_weights_to_one_width() -> None:
    smooth = SmoothQuant(alpha=0.5)(norm_net(), Context(calibration=lambda: [X]))
    seen = observe(smooth, [X], 0)["norm"].channel_absmax
    weights = np.maximum(*(np.abs(smooth.node(name).params["weight"]).max(axis=0) for name in ("one", "two")))
    assert np.allclose(seen, weights, rtol=1e-5)


def test_factors_go_into_norms_values_and_gated_layers_of_a_transformer() -> None:
    rng = np.random.default_rng(1)
    graph = NETS["transformer"](rng)
    x = samples(graph, rng, 6)
    smooth = SmoothQuant()(graph, Context(calibration=lambda: [x]))
    changed = {
        n.name for n in graph.nodes if any((smooth.node(n.name).params[k] != v).any() for k, v in n.params.items())
    }
    assert changed == {"norm1", "norm2", "q", "k", "v", "out", "gate", "up", "down"}
    assert set(skipped(smooth)) == {"last"}
    assert_same_function(graph, smooth, x)


def test_a_layer_behind_gelu_is_left_alone_with_a_reason() -> None:
    rng = np.random.default_rng(1)
    graph = NETS["smooth"](rng)
    smooth = SmoothQuant()(graph, Context(calibration=lambda: [samples(graph, rng, 6)]))
    reasons = skipped(smooth)
    assert reasons["layer0"].endswith("it is the network's input")
    assert reasons["layer1"].endswith("it comes out of gelu gelu")
    assert reasons["last"].endswith("it comes out of tanh tanh")
    for node in graph.nodes:
        for key, value in node.params.items():
            assert np.array_equal(smooth.node(node.name).params[key], value)


def test_a_norm_whose_output_is_added_on_is_left_alone() -> None:
    """Norm behind the addition (BERT): the residual path reads the same tensor and ends in the next norm."""
    rng = np.random.default_rng(1)
    norm = {"eps": 1e-5, "ndim": 1}
    graph = graph_of(
        (6,),
        Node("norm1", "layer_norm", ("x",), norm, {"weight": np.ones(6)}),
        linear(rng, "one", "norm1", 6, 6),
        op("add", "add", "one", "norm1"),
        Node("norm2", "layer_norm", ("add",), norm, {"weight": np.ones(6)}),
        linear(rng, "last", "norm2", 3, 6),
    )
    x = samples(graph, rng, 6)
    smooth = SmoothQuant()(graph, Context(calibration=lambda: [x]))
    assert set(skipped(smooth)) == {"one"}
    assert (smooth.node("norm2").params["weight"] != 1).any()
    assert_same_function(graph, smooth, x)


def test_channels_that_are_zero_keep_their_weights() -> None:
    rng = np.random.default_rng(6)
    graph = NETS["dead"](rng)
    x = samples(graph, rng, 6)
    smooth = SmoothQuant()(graph, Context(calibration=lambda: [x]))
    silent, unread = 2, 3
    for channel in (1, silent, unread):
        assert np.array_equal(
            smooth.node("first").params["weight"][channel], graph.node("first").params["weight"][channel]
        )
    assert all(np.isfinite(v).all() for n in smooth.nodes for v in n.params.values())


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_any_strength_keeps_the_function(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    graph = NETS["transformer"](rng)
    x = samples(graph, rng, 3)
    assert_same_function(graph, SmoothQuant(alpha=alpha)(graph, Context(calibration=lambda: [x])), x)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_strengths_outside_0_to_1_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="smoothquant alpha must be within"):
        SmoothQuant(alpha=alpha)
