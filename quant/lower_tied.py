"""One grid for what layers of the same parameters read (`quant.tied`), and their integers stored once.

As the hidden states of an LSTM are on one grid, so is what tied layers read, over the ranges of all of it: their biases
and bounds are then the same integers too, as the rule of `accelsim.program.Op.shares` wants. Where they are not (a
width is set for one of them alone, say), a layer stores its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from accelsim.program import Op, op_fields
from quant.graph import Graph
from quant.inner import PASSING
from quant.observe import Stats, TensorStats
from quant.tied import tied_layers

Peers = Mapping[str, tuple[str, ...]]
"""All tensors of one grid, by each of them."""

_OWN = frozenset({"name", "inputs", "output", "shares"})
_FUSED = frozenset({"relu", "relu6", "clamp"})
"""Operations that choose the grid where they alone read what computes their input (`quant.lower_linear`)."""


def peers(graph: Graph) -> Peers:
    """Return, for tensors whose grid is that of others too, all of these with itself: what tied layers read."""
    sets: dict[str, tuple[str, ...]] = {}
    for group in tied_layers(graph):
        names = [_chooser(graph, node.inputs[0]) for node in group]
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
    for owner in owners:
        stored = {name: getattr(owner, name) for name in own}
        if type(op) is type(owner) and all(_equal(own[name], stored[name]) for name in own):
            return dataclasses.replace(op, **(stored | {"shares": owner.name}))
    owners.append(op)
    return op


def _equal(first: Any, second: Any) -> bool:
    return type(first) is type(second) and bool(np.array_equal(first, second))
