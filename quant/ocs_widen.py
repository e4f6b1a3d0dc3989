"""Channel duplication in the producer: instead of copying a layer's input, its producer computes channels twice.

Nothing is copied at run time, but the producer does more work; OpenVINO, Brevitas and PPQ split channels this way. It
takes a convolution or linear layer whose output reaches the split layer alone, through nothing but element-wise
functions, pooling and depthwise convolutions, which are widened with it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.graph import UNARY, Graph, Node, replace_node

_BY_ELEMENT = frozenset(UNARY) | {"max_pool", "avg_pool"}
_PER_CHANNEL = frozenset({"prelu", "scale", "affine", "clamp_channels", "batch_norm"})


@dataclass(frozen=True, eq=False)
class Widening:
    """Nodes from a producer to a split layer's input, or why there is no such way.

    Parameters
    ----------
    nodes
        All that are widened, the producer last; empty where `reason` is given.
    reason
        What stands in the way, for reports.
    """

    nodes: tuple[Node, ...] = ()
    reason: str = ""


def find_producer(graph: Graph, layer: Node) -> Widening:
    """Find the nodes that widen when a layer's input channels are duplicated."""
    last = layer.op == "linear"
    reader, path = layer, list[Node]()
    while True:
        tensor = reader.inputs[0]
        node = graph.producer(tensor)
        if node is None:
            return Widening(reason=f"{tensor} is an input of the network")
        if graph.sole_consumer(tensor) is None:
            return Widening(reason=f"{tensor} has other readers")
        path.append(node)
        shape = graph.shapes[tensor]
        if (node.op == "conv" and node.attrs["groups"] == 1 and (not last or len(shape) == 1)) or (
            node.op == "linear" and (last or len(shape) == 1)
        ):
            return Widening(tuple(path))
        if not _passes(graph, node, len(shape) - 1 if last else 0):
            return Widening(reason=f"{tensor} comes from {node.op}")
        # in front of a flatten that only drops axes of length one, channels are on axis 0
        last = last and node.op != "flatten"
        reader = node


def _passes(graph: Graph, node: Node, axis: int) -> bool:
    """Tell whether each channel of a node's output along `axis` depends on the same channel of its input alone."""
    before = graph.shapes[node.inputs[0]]
    if node.op == "flatten":
        return int(np.prod(before[1:])) == 1
    if node.op == "mean":
        return 0 not in node.attrs["axes"] and axis == 0
    if node.op in _PER_CHANNEL:
        return int(node.attrs.get("axis", 0)) == axis
    depthwise = node.op == "conv" and node.attrs["groups"] == before[0] == node.params["weight"].shape[0]
    return (depthwise and axis == 0) or node.op in _BY_ELEMENT


def widen(graph: Graph, found: Widening, source: tuple[int, ...]) -> Graph:
    """Return the graph with the channels of `found` gathered by `source`; what reads them must be widened next."""
    channels: NDArray[np.int64] = np.array(source, dtype=np.int64)
    for node in found.nodes:
        graph = replace_node(graph, node.name, _widened(node, channels), result=node.name)
    return graph


def _widened(node: Node, channels: NDArray[np.int64]) -> Node:
    params = {key: value if value.size == 1 else value[channels] for key, value in node.params.items()}
    if node.op in ("conv", "linear"):
        params = {key: value[channels] for key, value in node.params.items()}
    wider = node.with_params(**params)
    groups = node.attrs.get("groups", 1)
    return wider.with_attrs(groups=channels.size) if node.op == "conv" and groups > 1 else wider
