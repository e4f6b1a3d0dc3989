"""One grid for what layers of the same parameters read and give (`quant.tied`), and their integers stored once.

As in an LSTM (`quant.lower_lstm`), all steps have the same grids, over the ranges of all of them, for what tied layers
read and for what follows them alike. Biases, multipliers and tables are then the same integers too, as the rule of
`accelsim.program.Op.shares` wants. Where they are not (a width is set for one of them alone, say), each has its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from accelsim.program import Op, op_fields
from quant.graph import Graph
from quant.inner import PASSING
from quant.observe import Stats, TensorStats
from quant.tied import same, tied_layers

Peers = Mapping[str, tuple[str, ...]]
"""All tensors of one grid, by each of them."""

_OWN = frozenset({"name", "inputs", "output", "shares"})
_FUSED = frozenset({"relu", "relu6", "clamp"})
"""Operations that choose the grid where they alone read what computes their input (`quant.lower_linear`)."""


def alike(graph: Graph) -> list[list[str]]:
    """Return the names of nodes that do the same in several places: tied layers, and what follows all of them alike."""
    groups = [[node.name for node in group] for group in tied_layers(graph)]
    known = {name for group in groups for name in group}
    for group in groups:  # grows while it is gone through
        readers = [graph.consumers(name) for name in group]
        if len({len(nodes) for nodes in readers}) > 1:
            continue
        for column in zip(*readers, strict=True):
            names = [node.name for node in column]
            places = {tuple(i == name for i in node.inputs) for name, node in zip(group, column, strict=True)}
            fresh = len(set(names)) == len(names) and known.isdisjoint(names)
            if fresh and len(places) == 1 and all(same(column[0], node) for node in column):
                known.update(names)
                groups.append(names)
    return groups


def peers(graph: Graph, groups: list[list[str]]) -> Peers:
    """Return the tensors of one grid: what tied layers read, and what nodes that do the same (`alike`) give."""
    tied = {name for group in tied_layers(graph) for name in (node.name for node in group)}
    reads = [[graph.node(name).inputs[0] for name in group] for group in groups if group[0] in tied]
    sets: dict[str, tuple[str, ...]] = {}
    for group in (*reads, *groups):
        names = [_chooser(graph, name) for name in group]
        joined = tuple(dict.fromkeys(other for name in names for other in sets.get(name, (name,))))
        sets.update(dict.fromkeys(joined, joined))
    return {name: found for name, found in sets.items() if len(found) > 1}


def _chooser(graph: Graph, name: str) -> str:
    """Return the tensor whose grid a tensor has, which operations hand on that only move codes."""
    node = graph.producer(name)
    while node is not None and node.op in PASSING:
        before = graph.producer(node.inputs[0])
        computed = before is not None and before.op not in PASSING
        if node.op in _FUSED and computed and graph.sole_consumer(node.inputs[0]) is not None:
            break
        name, node = node.inputs[0], before
    return name


def together(stats: Stats, found: Peers) -> Stats:
    """Return statistics in which tensors of one grid (`peers`) have what was seen of all of them, in one channel."""
    known = {names: [stats[name] for name in names] for names in set(found.values()) if set(names) <= set(stats)}
    merged = {names: _merged(seen) for names, seen in known.items()}
    return {**stats, **{name: merged[names] for name, names in found.items() if names in merged}}


def _merged(seen: list[TensorStats]) -> TensorStats:
    return TensorStats(
        axis=0,
        channel_min=np.array([min(one.min for one in seen)], dtype=np.float32),
        channel_max=np.array([max(one.max for one in seen)], dtype=np.float32),
        count=sum(one.count for one in seen),
        values=np.concatenate([one.values for one in seen]),
        exact=all(one.exact for one in seen),
    )


def sharing(op: Op, owners: list[Op]) -> Op:
    """Return the op with the parameters of the first owner that has the same; one that finds none becomes an owner."""
    own = {name: value for name, value in op_fields(op) if name not in _OWN}
    for owner in (other for other in owners if type(other) is type(op)):
        stored = {name: getattr(owner, name) for name in own}
        if all(_equal(own[name], stored[name]) for name in own):
            return dataclasses.replace(op, **(stored | {"shares": owner.name}))
    owners.append(op)
    return op


def _equal(first: Any, second: Any) -> bool:
    return type(first) is type(second) and bool(np.array_equal(first, second))
