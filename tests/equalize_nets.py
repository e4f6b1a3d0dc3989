"""Small nets with known factors, and what tests of equalization look at."""

from typing import Any

import numpy as np
from float_nets import graph_of, linear_node
from numpy.typing import NDArray
from transform_nets import op

from accelsim import reference
from quant import oracle
from quant.equalize_cross import CrossLayer
from quant.equalize_meller import OneStep, TwoStep
from quant.graph import Graph
from quant.lower import Quantized
from quant.transform import Context

Array = NDArray[Any]
EVERY = (OneStep(), TwoStep(), TwoStep(released=True), CrossLayer())


def context(x: Array) -> Context:
    return Context(calibration=lambda: [x])


def widths(graph: Graph, name: str, axis: int = 0) -> Array:
    """Largest weight of each output (axis 0) or input (axis 1) channel."""
    return (
        np.abs(graph.node(name).params["weight"])
        .astype(np.float64)
        .max(axis=tuple(i for i in range(graph.node(name).params["weight"].ndim) if i != axis))
    )


def two_layers(first: list[list[float]], second: list[list[float]]) -> Graph:
    """Linear, ReLU, linear with given weights."""
    return graph_of(
        (len(first[0]),),
        linear_node("one", "x", np.array(first, dtype=np.float32)),
        op("relu", "relu", "one"),
        linear_node("two", "relu", np.array(second, dtype=np.float32)),
    )


# Three channels that see one input. At x = 1 and -1 the activations are 8, 2, 0.1 and the pre-activations reach
# -8, -2, -0.1.
BY_HAND = two_layers([[8], [2], [0.1]], [[1, 2, 4]])
SEEN = np.array([[1.0], [-1.0]], dtype=np.float32)
ONE_SIDED = np.array([[1.0]], dtype=np.float32)


def factors_of(before: Graph, after: Graph, layer: str) -> Array:
    """The factors of a layer's outputs: of its biases, which no other factor touches."""
    return after.node(layer).params["bias"].astype(np.float64) / before.node(layer).params["bias"]


def capped_net() -> tuple[Graph, Array]:
    """Three channels of width 8, 2 and 0.1 through ReLU6, with inputs that reach the cap."""
    graph = graph_of(
        (1,),
        linear_node("one", "x", np.array([[8], [2], [0.1]], dtype=np.float32)),
        op("cap", "relu6", "one"),
        linear_node("two", "cap", np.array([[1, 2, 4]], dtype=np.float32)),
    )
    return graph, np.linspace(-1, 8, 32, dtype=np.float32)[:, None]


def run_both(quantized: Quantized, x: Array) -> None:
    """Require the torch oracle's integers to be the reference's."""
    codes = quantized.encode(x)
    wanted, got = reference.run(quantized.program, codes).values, oracle.run(quantized.program, codes).values
    for tensor in quantized.program.outputs:
        assert np.array_equal(wanted[tensor], got[tensor])
