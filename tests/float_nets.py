"""Small float graphs, and what tests of transforms do with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import reference
from accelsim.config import load_accelerator
from accelsim.execute import execute
from quant import oracle
from quant.graph import Graph, Input, Node
from quant.lower import Quantized
from quant.run import run

Array = NDArray[Any]


def conv_node(
    name: str,
    source: str,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Node:
    """Return a 2-d convolution."""
    attrs = {
        "stride": (stride, stride),
        "padding": (padding,) * 4,
        "dilation": (dilation, dilation),
        "groups": groups,
    }
    return Node(name, "conv", (source,), attrs, _params(weight, bias), layer=name)


def linear_node(name: str, source: str, weight: Array, bias: Array | None = None) -> Node:
    """Return a linear layer."""
    return Node(name, "linear", (source,), {}, _params(weight, bias), layer=name)


def _params(weight: Array, bias: Array | None) -> Mapping[str, Array]:
    return {"weight": weight} | ({} if bias is None else {"bias": bias})


def graph_of(shape: tuple[int, ...], *nodes: Node, outputs: Sequence[str] = (), name: str = "net") -> Graph:
    """Return a checked graph with one input `x`; the last node is its output unless others are named."""
    return Graph(name, (Input("x", shape),), nodes, tuple(outputs) or (nodes[-1].name,)).check()


def conv_graph(weight: Array, bias: Array | None = None, *, size: int = 5, groups: int = 1, **geometry: int) -> Graph:
    """Return one convolution over a map of `size` × `size`."""
    shape = (weight.shape[1] * groups, size, size)
    return graph_of(shape, conv_node("layer", "x", weight, bias, groups=groups, **geometry))


def linear_graph(weight: Array, bias: Array | None = None) -> Graph:
    """Return one linear layer."""
    return graph_of((weight.shape[1],), linear_node("layer", "x", weight, bias))


def residual_graph(rng: np.random.Generator, channels: int = 6, size: int = 6) -> Graph:
    """Return conv, relu, then a block of two convolutions around which its input is added, mean and linear."""

    def weight(*shape: int) -> Array:
        return rng.standard_t(4, shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))

    def bias(n: int) -> Array:
        return rng.normal(0, 0.1, n).astype(np.float32)

    return graph_of(
        (3, size, size),
        conv_node("first", "x", weight(channels, 3, 3, 3), bias(channels), padding=1),
        Node("relu0", "relu", ("first",)),
        conv_node("one", "relu0", weight(channels, channels, 3, 3), bias(channels), padding=1),
        Node("relu1", "relu", ("one",)),
        conv_node("two", "relu1", weight(channels, channels, 3, 3), bias(channels), padding=1),
        Node("add", "add", ("two", "relu0")),
        Node("relu2", "relu", ("add",)),
        Node("mean", "mean", ("relu2",), {"axes": (1, 2)}),
        Node("flat", "flatten", ("mean",)),
        linear_node("last", "flat", weight(4, channels), bias(4)),
        name="residual",
    )


def outputs_of(graph: Graph, x: Array) -> Array:
    """Return the float output."""
    return run(graph, x)[graph.outputs[0]].numpy()


def assert_same_function(first: Graph, second: Graph, x: Array, tol: float = 1e-5) -> None:
    """Require equal float outputs, relative to the largest."""
    one, two = outputs_of(first, x), outputs_of(second, x)
    assert one.shape == two.shape
    assert np.abs(one - two).max() <= tol * max(1e-30, float(np.abs(one).max()))


def assert_engines_agree(found: Quantized, x: Array) -> reference.ReferenceRun:
    """Require that reference, torch oracle and functional engine give every tensor of a network alike."""
    codes, kept = found.encode(x), set(found.program.tensors)
    expected = reference.run(found.program, codes)
    torch_run = oracle.run(found.program, codes, keep=kept)
    fast = execute(found.program, codes, load_accelerator("edge-32x32"), keep=kept)
    for name in kept:
        assert np.array_equal(torch_run.values[name], expected.values[name]), name
        assert np.array_equal(fast.outputs[name], expected.values[name]), name
    return expected
