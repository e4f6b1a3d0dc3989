"""Float graphs as integers: what tests of the lowering share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import reference
from accelsim.config import load_accelerator
from accelsim.execute import execute
from quant import oracle
from quant.graph import Graph, Input, Node
from quant.lower import Quantized
from quant.pipeline import quantize_network
from quant.recipe import Recipe

Array = NDArray[Any]

WIDTHS = (4, 8, 16)
"""Widths at which accuracy is bounded."""

SLACK = 1e-9
"""Of comparisons with bounds, in steps: rounding of the tests' own float64."""

EDGE = load_accelerator("edge-32x32")
WIDE_SUMS = EDGE.model_copy(
    update={"accumulator": EDGE.accumulator.model_copy(update={"psum_bits": 60, "bits": 60})}
)  # fmt: skip
"""A machine on which no sum of these tests overflows."""


def graph_of(shapes: Sequence[tuple[int, ...]], *nodes: Node, name: str = "net") -> Graph:
    """Return a checked graph whose inputs are `x0`, `x1` ...; its last node is its output."""
    inputs = tuple(Input(f"x{place}", shape) for place, shape in enumerate(shapes))
    return Graph(name, inputs, nodes, (nodes[-1].name,)).check()


def ended(shapes: Sequence[tuple[int, ...]], node: Node) -> Graph:
    """Return a graph of one node, its result kept as codes: what ends a network stays as exact sums."""
    out = graph_of(shapes, node).shapes[node.name]
    return graph_of(shapes, node, Node("end", "reshape", (node.name,), {"shape": out}))


def quantized(graph: Graph, *x: Array, **options: Any) -> Quantized:
    """Quantize a graph with all layers alike, calibrated on the very samples."""
    batches: Any = [x if len(x) > 1 else x[0]]
    return quantize_network(graph, lambda: batches, Recipe(**{"first_last": "same"} | options))


def run_alike(found: Quantized, *x: Array) -> dict[str, Array]:
    """Return every tensor's codes; reference, torch oracle and functional engine must give the same."""
    codes, kept = found.encode(*x), set(found.program.tensors)
    expected = reference.run(found.program, codes).values
    theirs = oracle.run(found.program, codes, keep=kept).values
    fast = execute(found.program, codes, WIDE_SUMS, keep=kept).outputs
    for name in kept:
        assert np.array_equal(theirs[name], expected[name]), name
        assert np.array_equal(fast[name], expected[name]), name
    return expected


def real(found: Quantized, codes: dict[str, Array], name: str) -> Array:
    """Return the real values that a tensor's codes stand for, in the Program's order of axes."""
    tensor = found.program.tensors[name]
    return (codes[name] - tensor.zero_point) * np.asarray(tensor.scale, dtype=np.float64)


def operand(found: Quantized, codes: dict[str, Array], place: int) -> Array:
    """Return the real values that a network input's codes stand for, in the network's own order of axes."""
    value = found.inputs[place]
    return real(found, codes, value.name).transpose(0, *(value.layout.index(axis) + 1 for axis in sorted(value.layout)))


def ends(found: Quantized, name: str) -> tuple[float, float]:
    """Return the least and the greatest real value of a tensor."""
    tensor = found.program.tensors[name]
    assert isinstance(tensor.scale, float)
    return (tensor.low - tensor.zero_point) * tensor.scale, (tensor.high - tensor.zero_point) * tensor.scale


def step(found: Quantized, name: str) -> float:
    """Return the step of a tensor's grid."""
    scale = found.program.tensors[name].scale
    assert isinstance(scale, float)
    return scale


def assert_within(found: Quantized, codes: dict[str, Array], name: str, want: Array, steps: Any) -> None:
    """Require a tensor within so many of its steps of the wanted values, these clamped to its grid's ends."""
    low, high = ends(found, name)
    off = np.abs(real(found, codes, name) - np.clip(want, low, high)) / step(found, name)
    assert (off <= steps + SLACK).all(), f"{name}: {float((off - steps).max()):.3g} steps beyond the bound"
