"""Functions behind a pixel shuffle moved in front of it, where a convolution takes them over.

Contract: graph in, graph out, float function unchanged. A transposed convolution is a convolution whose channels are
shuffled into pixels (`quant.graph_compose`); the batch norm and the activation behind it belong to the convolution.
"""

import dataclasses
import math

import numpy as np

from quant.graph import UNARY, Graph, Node

_CHAIN = ("conv", "reshape", "permute", "reshape")


def hoist(graph: Graph) -> Graph:
    """Return the graph with no batch norm, PReLU or element-wise function that alone reads a shuffled convolution."""
    for name in [node.name for node in graph.nodes if node.op in UNARY or node.op in ("batch_norm", "prelu")]:
        node = graph.node(name)
        chain = _shuffled(graph, node.inputs[0])
        if chain:
            graph = _moved(graph, node, chain)
    return graph


def _shuffled(graph: Graph, name: str) -> tuple[Node, ...]:
    """Return the nodes from a convolution through its shuffle (and a cut) to a tensor, each read by the next alone."""
    chain: list[Node] = []
    step = graph.producer(name)
    while step is not None and len(chain) < 5 and graph.sole_consumer(step.name) is not None:
        chain.insert(0, step)
        if step.op == "conv":
            break
        step = graph.producer(step.inputs[0])
    cut = bool(chain) and chain[-1].op == "slice" and not chain[-1].attrs["start"][0]
    ops = tuple(node.op for node in (chain[:-1] if cut else chain))
    return tuple(chain) if ops == _CHAIN and _is_shuffle(graph, chain) else ()


def _is_shuffle(graph: Graph, chain: list[Node]) -> bool:
    """Tell whether channels are split from within, permuted in place, and joined with pixels."""
    conv, split, turn, join = chain[:4]
    before, wide, after = (graph.shapes[node.name] for node in (conv, split, join))
    nd = len(before) - 1
    order = (0, *(n for i in range(nd) for n in (1 + nd + i, 1 + i)))
    fits = (
        len(wide) == 2 * nd + 1 and wide[0] * math.prod(wide[1 : nd + 1]) == before[0] and wide[nd + 1 :] == before[1:]
    )
    kept = graph.shapes[chain[-1].name][0] == wide[0]
    return fits and turn.attrs["order"] == order and after[0] == wide[0] and kept


def _moved(graph: Graph, node: Node, chain: tuple[Node, ...]) -> Graph:
    conv, first, last = chain[0], chain[1], chain[-1]
    repeats = graph.shapes[conv.name][0] // graph.shapes[last.name][0]
    params = {
        key: np.repeat(p, repeats) if p.size > 1 or node.op == "batch_norm" else p for key, p in node.params.items()
    }
    moved = dataclasses.replace(node, inputs=(conv.name,), params=params)
    nodes: list[Node] = []
    for item in graph.nodes:
        if item.name == node.name:
            continue
        if item.name == first.name:
            nodes += [moved, item.with_inputs(node.name)]
        else:
            nodes.append(item.with_inputs(*(last.name if i == node.name else i for i in item.inputs)))
    outputs = tuple(last.name if o == node.name else o for o in graph.outputs)
    return dataclasses.replace(graph, nodes=tuple(nodes), outputs=outputs)
