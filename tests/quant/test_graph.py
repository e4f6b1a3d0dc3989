"""The float graph: what `check` refuses, and what the rewriting helpers keep."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.graph import (
    OPS,
    Graph,
    Input,
    Node,
    channel_axes,
    insert_after,
    insert_before,
    layers,
    prune,
    remove_node,
    replace_node,
)
from quant.graph_ops import pool_ceil_size
from quant.run import FLOAT_OPS, run

CONV = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}


def conv(name: str, source: str, ins: int, outs: int, seed: int = 0, **attrs: object) -> Node:
    weight = np.random.default_rng(seed).normal(size=(outs, ins, 3, 3))
    return Node(name, "conv", (source,), {**CONV, **attrs}, {"weight": weight, "bias": np.ones(outs)})


def network(*nodes: Node, outputs: tuple[str, ...] | None = None) -> Graph:
    return Graph("net", (Input("x", (4, 6, 6)),), nodes, outputs or (nodes[-1].name,))


def residual() -> Graph:
    return network(
        conv("a", "x", 4, 4), Node("r", "relu", ("a",)), conv("b", "r", 4, 4, 1), Node("s", "add", ("b", "r")),
        Node("f", "flatten", ("s",)), Node("fc", "linear", ("f",), {}, {"weight": np.ones((2, 144))}),
    )  # fmt: skip


def test_every_operation_has_a_float_meaning() -> None:
    assert set(OPS) == set(FLOAT_OPS)


def test_a_sound_graph_passes_and_knows_its_shapes_and_neighbours() -> None:
    graph = residual().check()
    assert graph.shapes == {"x": (4, 6, 6), **dict.fromkeys("arbs", (4, 6, 6)), "f": (144,), "fc": (2,)}
    assert [n.name for n in graph.consumers("r")] == ["b", "s"]
    assert graph.sole_consumer("r") is None
    assert graph.sole_consumer("a") is graph.node("r")
    assert graph.sole_consumer("fc") is None
    assert graph.producer("x") is None
    assert [n.name for n in layers(graph)] == ["a", "b", "fc"]


BAD: dict[str, tuple[Graph, str]] = {
    "order": (network(Node("r", "relu", ("a",)), conv("a", "x", 4, 4)), "produced before"),
    "twice": (network(Node("r", "relu", ("x",)), Node("r", "relu", ("x",))), "must be unique"),
    "input's name": (network(Node("x", "relu", ("x",))), "must be unique"),
    "unknown op": (network(Node("r", "rely", ("x",))), "must be one of OPS"),
    "arity": (network(Node("r", "add", ("x",))), "must read 2 tensors"),
    "no operands": (network(Node("r", "concat", (), {"axis": 0})), "must read"),
    "missing parameter": (network(Node("a", "linear", ("x",))), "params must be"),
    "unknown parameter": (network(Node("a", "relu", ("x",), {}, {"w": np.ones(1)})), "params must be"),
    "missing attribute": (network(Node("a", "softmax", ("x",))), "attrs must be"),
    "unknown attribute": (network(Node("a", "relu", ("x",), {"axis": 0})), "attrs must be"),
    "channels": (network(conv("a", "x", 3, 4)), "must have 3 channels"),
    "bias": (network(conv("a", "x", 4, 4).with_params(bias=np.ones(3))), "bias must have shape"),
    "features": (network(Node("a", "linear", ("x",), {}, {"weight": np.ones((2, 5))})), "must have 5 features"),
    "too small": (network(conv("a", "x", 4, 4, dilation=(9, 9))), "must fit into the padded input"),
    "groups": (network(conv("a", "x", 2, 3, groups=2)), "must divide by groups"),
    "broadcast": (network(Node("p", "slice", ("x",), {"start": (0, 0, 0), "stop": (3, 6, 6), "step": (1, 1, 1)}),
                          Node("a", "add", ("x", "p"))), "must broadcast"),
    "slice": (network(Node("p", "slice", ("x",), {"start": (0, 0, 0), "stop": (5, 6, 6), "step": (1, 1, 1)})),
              "inside"),
    "gather": (network(Node("p", "duplicate", ("x",), {"axis": 0, "src": (0, 4)})), "must be in 0..3"),
    "axis": (network(Node("p", "softmax", ("x",), {"axis": 3})), "must be in 0..2"),
    "reshape": (network(Node("p", "reshape", ("x",), {"shape": (5, 5)})), "must hold 144 elements"),
    "outputs": (network(Node("r", "relu", ("x",)), outputs=("q",)), "outputs must be produced"),
    "attention heads": (network(Node("k", "slice", ("x",), {"start": (0, 0, 0), "stop": (3, 6, 6), "step": (1, 1, 1)}),
                                Node("a", "attention", ("x", "k", "k"), {"causal": True, "scale": 1.0})),
                        "divide heads"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_check_refuses_a_malformed_graph_in_one_line(name: str) -> None:
    graph, text = BAD[name]
    with pytest.raises(ValueError, match=text) as caught:
        graph.check()
    assert str(caught.value).startswith("net: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_names_layer_and_parameter_that_are_not_finite(value: float) -> None:
    node = conv("body.3", "x", 4, 4)
    weight = node.params["weight"].copy()
    weight[1, 2] = value
    with pytest.raises(ValueError, match=r"body\.3\.weight must be finite \(got 9 NaN or infinite values of 144\)"):
        network(node.with_params(weight=weight)).check()


def test_parameters_are_read_only_float32_views_and_the_callers_array_stays_writable() -> None:
    mine = np.ones((2, 3), np.float32)
    node = Node("a", "linear", ("x",), {}, {"weight": mine})
    with pytest.raises(ValueError, match="read-only"):
        node.params["weight"][0, 0] = 2
    with pytest.raises(TypeError):
        node.attrs["axis"] = 1  # type: ignore[index]
    mine[0, 0] = 5
    assert node.params["weight"].dtype == np.float32


def test_a_graph_survives_pickling() -> None:
    graph = residual()
    again = pickle.loads(pickle.dumps(graph)).check()
    assert [n.name for n in again.nodes] == [n.name for n in graph.nodes]
    assert np.array_equal(again.node("a").params["weight"], graph.node("a").params["weight"])
    assert dict(again.node("a").attrs) == dict(graph.node("a").attrs)


def doubled(name: str, source: str) -> Node:
    return Node(name, "scale", (source,), {"axis": 0}, {"weight": np.full(1, 2.0)})


def test_helpers_insert_where_they_say() -> None:
    graph = residual()
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 6)).astype(np.float32)
    before = insert_before(graph, "s", doubled("d", "r"), "r").check()
    assert before.node("s").inputs == ("b", "d")
    assert before.node("b").inputs == ("r",)
    after = insert_after(graph, "r", doubled("d", "r")).check()
    assert (after.node("b").inputs, after.node("s").inputs) == (("d",), ("b", "d"))
    end = insert_after(graph, "fc", doubled("d", "fc")).check()
    assert end.outputs == ("d",)
    assert np.allclose(run(end, x)["d"], 2 * run(graph, x)["fc"])
    first = insert_after(graph, "x", doubled("d", "x")).check()
    assert first.node("a").inputs == ("d",)


def test_helpers_take_away_what_they_put_in() -> None:
    graph = residual()
    for name in ("x", "a", "r", "s", "fc"):
        again = remove_node(insert_after(graph, name, doubled("d", name)), "d").check()
        assert [(n.name, n.inputs) for n in again.nodes] == [(n.name, n.inputs) for n in graph.nodes]
        assert again.outputs == graph.outputs


def test_replacing_a_node_rewires_readers_and_outputs() -> None:
    graph = replace_node(residual(), "r", doubled("d", "a"), Node("t", "tanh", ("d",))).check()
    assert [n.name for n in graph.nodes] == ["a", "d", "t", "b", "s", "f", "fc"]
    assert graph.node("s").inputs == ("b", "t")
    with pytest.raises(ValueError, match="replace_node"):
        replace_node(graph, "t")
    with pytest.raises(ValueError, match="must have the node"):
        replace_node(graph, "nothing", doubled("e", "a"))


def test_prune_drops_what_no_output_needs() -> None:
    graph = network(conv("a", "x", 4, 4), Node("dead", "relu", ("a",)), Node("r", "tanh", ("a",)))
    assert [n.name for n in prune(graph).nodes] == ["a", "r"]


def test_channels_run_along_the_axis_that_the_reader_works_on() -> None:
    axes = channel_axes(residual())
    assert axes == {"x": 0, "a": 0, "r": 0, "b": 0, "s": 0, "f": 0, "fc": 0}
    graph = Graph(
        "tokens", (Input("x", (4, 3, 5)),),
        (
            Node("t", "reshape", ("x",), {"shape": (4, 15)}),
            Node("p", "permute", ("t",), {"order": (1, 0)}),
            Node("l", "linear", ("p",), {}, {"weight": np.ones((6, 4))}),
            Node("g", "gelu", ("l",), {"approximate": "none"}),
            Node("o", "linear", ("g",), {}, {"weight": np.ones((2, 6))}),
        ),
        ("o",),
    )  # fmt: skip
    assert channel_axes(graph.check()) == {"x": 0, "t": 1, "p": 1, "l": 1, "g": 1, "o": 1}


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(0, 3), st.integers(1, 3))
def test_ceil_mode_counts_windows_as_torch_does(size: int, kernel: int, stride: int, pad: int, dilation: int) -> None:
    pad = min(pad, kernel // 2)
    if size + 2 * pad < dilation * (kernel - 1) + 1:
        return
    graph = Graph(
        "pool", (Input("x", (1, size)),),
        (Node("m", "max_pool", ("x",), {"kernel": (kernel,), "stride": (stride,), "padding": (pad, pad),
                                        "dilation": (dilation,), "ceil_mode": True}),),
        ("m",),
    )  # fmt: skip
    found = run(graph, np.zeros((1, 1, size), np.float32))["m"]
    assert tuple(found.shape[1:]) == graph.shapes["m"]
    assert graph.shapes["m"][1] == pool_ceil_size(size, kernel, stride, pad, pad, dilation)
