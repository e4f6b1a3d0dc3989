"""Layers that use the same parameters: the steps of an unrolled recurrent layer, a module that is called twice.

Contract: graph in, graph out, the float function unchanged. `mark_tied` notes on such layers whose parameters they use,
where arrays still are those of the network. Transforms treat every layer by itself and do the same to the same weights;
layers stay tied as long as their parameters come out equal, and one whose parameters come out different is a layer of
its own. What lowering does with them: `quant.lower_tied`.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from quant.graph import Graph, Node, layers

TIED = "tied"
"""Key of the note: name of the first layer with these parameters."""

LAYERS = ("conv", "linear")


def mark_tied(graph: Graph) -> Graph:
    """Return the graph with a note on every layer whose weight is the very array of another one's."""
    first: dict[tuple[object, ...], str] = {}
    owners: dict[str, str] = {}
    for node in layers(graph, LAYERS):
        weight = node.params["weight"]
        place = (node.op, weight.__array_interface__["data"][0], weight.shape, weight.strides)
        owners[node.name] = first.setdefault(place, node.name)
    shared = {owner for name, owner in owners.items() if name != owner}
    nodes = tuple(
        node.with_notes(**{TIED: owners[node.name]}) if owners.get(node.name) in shared else node
        for node in graph.nodes
    )
    return dataclasses.replace(graph, nodes=nodes) if shared else graph


def tied_layers(graph: Graph) -> list[list[Node]]:
    """Return the layers that are tied, in groups of two or more, each in order."""
    found: dict[str, list[list[Node]]] = {}
    for node in graph.nodes:
        if TIED in node.notes:
            groups = found.setdefault(node.notes[TIED], [])
            group = next((group for group in groups if same(group[0], node)), None)
            groups.append([node]) if group is None else group.append(node)
    return [group for groups in found.values() for group in groups if len(group) > 1]


def with_tied(graph: Graph, names: Collection[str]) -> frozenset[str]:
    """Return the names of layers, and of all layers tied to them."""
    groups = [{node.name for node in group} for group in tied_layers(graph)]
    return frozenset(names).union(*(group for group in groups if not group.isdisjoint(names)))


def same(first: Node, second: Node) -> bool:
    """Tell whether two nodes compute the same function, of whatever they read."""
    alike = (
        first.op == second.op and dict(first.attrs) == dict(second.attrs) and set(first.params) == set(second.params)
    )
    return alike and all(np.array_equal(first.params[key], second.params[key]) for key in first.params)
