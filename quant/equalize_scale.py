"""Scaling channels: the widths of weights and activations under factors per group, and the graph that has them.

Factors are float64, one per group of `quant.equalize_graph.Groups`: a tensor's channel becomes factor times what it
was, so a layer's weights are multiplied by the factors of its output channels and divided by those of its inputs'.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quant.equalize_graph import Groups, Labels
from quant.graph import Graph, Node
from quant.observe import Stats

Factors = NDArray[np.float64]

MATRICES = {
    "conv": "weight", "linear": "weight", "affine": "weight", "scale": "weight", "layer_norm": "weight",
    "rms_norm": "weight", "embedding": "weight", "lstm": "weight_ih",
}  # fmt: skip
"""The parameter that takes factors up, by operation."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Widths of a layer's weights and the groups of its channels.

    Parameters
    ----------
    name
        Of the node.
    widest
        Largest magnitude over the taps, float64 ``[out, in / groups]``.
    rows
        Group of each output channel, ``[out]``; 0 where the layer's output cannot be scaled.
    columns
        Group of each input channel, ``[in]``; zeros where the layer reads nothing that can be scaled.
    """

    name: str
    widest: NDArray[np.float64]
    rows: Labels
    columns: Labels

    @cached_property
    def column_matrix(self) -> Labels:
        """Group of the input channel behind each entry of `widest`, shape ``[out or 1, in / groups]``."""
        outs, width = self.widest.shape
        parts = self.columns.reshape(-1, width)
        return parts if len(parts) == 1 else np.repeat(parts, outs // len(parts), axis=0)

    def _scaled(self, factors: Factors) -> NDArray[np.float64]:
        return self.widest * (factors[self.rows][:, None] / factors[self.column_matrix])

    def row_ranges(self, factors: Factors) -> NDArray[np.float64]:
        """Return the largest magnitude of each output channel under factors, ``[out]``."""
        return self._scaled(factors).max(axis=1, initial=0.0)

    def column_ranges(self, factors: Factors) -> NDArray[np.float64]:
        """Return the largest magnitude of each input channel under factors, ``[in]``."""
        outs, width = self.widest.shape
        split = self.columns.size // width
        return self._scaled(factors).reshape(split, outs // split, width).max(axis=1, initial=0.0).reshape(-1)


def layer_of(node: Node, groups: Groups) -> Layer:
    """Return the widths of a node that takes factors up."""
    weight = np.abs(node.params[MATRICES[node.op]].astype(np.float64)) if MATRICES[node.op] in node.params else None
    rows, columns = groups.rows.get(node.name), groups.columns.get(node.name)
    if node.op in ("affine", "scale", "layer_norm", "rms_norm", "embedding"):
        assert rows is not None
        flat = np.ones(1) if weight is None else weight.reshape(-1, weight.shape[-1]).max(axis=0)
        widest = np.broadcast_to(flat, rows.shape).reshape(-1, 1)
    else:
        assert weight is not None
        widest = weight.reshape(*weight.shape[:2], -1).max(axis=2)
    none = np.zeros(1, dtype=np.int64)
    return Layer(
        node.name,
        widest,
        np.broadcast_to(none, widest.shape[:1]) if rows is None else rows,
        np.broadcast_to(none, widest.shape[1:]) if columns is None else columns,
    )


def layers_of(graph: Graph, groups: Groups) -> dict[str, Layer]:
    """Return the widths of all nodes that take factors up, in order."""
    return {n.name: layer_of(n, groups) for n in graph.nodes if n.name in groups.rows or n.name in groups.columns}


@dataclass(frozen=True, eq=False)
class Block:
    """Groups that begin in the same layers, and whom they concern.

    Parameters
    ----------
    groups
        Sorted, int64.
    producers, consumers
        Layers that write, and read, any of them.
    tensors
        Tensors with a channel in any of them.
    """

    groups: Labels
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    tensors: tuple[str, ...]


def blocks(groups: Groups) -> tuple[Block, ...]:
    """Return the free groups, put together where they share a producer, in the order of their first producers."""
    home = np.full(groups.count, -1, dtype=np.int64)
    for number, rows in enumerate(groups.rows.values()):
        free = rows[groups.free[rows]]
        older = {int(h) for h in home[free] if h >= 0}
        target = min((*older, number))
        home[free] = target
        home[np.isin(home, list(older))] = target

    def reached(named: Mapping[str, Labels]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name, labels in named.items():
            for number in np.unique(home[labels]):
                found.setdefault(int(number), []).append(name)
        return found

    writers, readers, seen = reached(groups.rows), reached(groups.columns), reached(groups.tensors)
    return tuple(
        Block(np.flatnonzero(home == n), tuple(writers[n]), tuple(readers.get(n, ())), tuple(seen[n]))
        for n in np.unique(home[home >= 0]).tolist()
    )


def tensor_ranges(
    groups: Groups, stats: Stats, factors: Factors, name: str
) -> tuple[Labels, NDArray[np.float64]] | None:
    """Return groups and scaled magnitudes of a tensor's channels; ``None`` where channels are not what is scaled."""
    if name not in stats:
        return None
    seen = stats[name]
    labels = groups.along(name, seen.axis, seen.channel_max.size)
    return None if labels is None else (labels, seen.channel_absmax.astype(np.float64) * factors[labels])


# --- the scaled graph ------------------------------------------------------------------------------------------------


def rescale(graph: Graph, groups: Groups, factors: Factors) -> Graph:
    """Return the graph with every channel multiplied by the factor of its group; its function is unchanged.

    Parameters
    ----------
    graph, groups
        A graph, and what `find_groups` found in it.
    factors
        float64 ``[groups.count]``, positive and finite, 1 for groups that are not free.
    """
    assert factors.shape == (groups.count,)
    assert np.isfinite(factors).all()
    assert (factors > 0).all()
    assert (factors[~groups.free] == 1).all()
    nodes = tuple(_rescaled(node, groups, factors) for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes).check()


def _rescaled(node: Node, groups: Groups, factors: Factors) -> Node:
    if node.name in groups.caps:
        return _with_caps(node, groups, factors)
    if node.name not in groups.rows and node.name not in groups.columns:
        return node
    rows = factors[groups.rows[node.name]] if node.name in groups.rows else np.ones(1)
    columns = factors[groups.columns[node.name]] if node.name in groups.columns else np.ones(1)
    if (rows == 1).all() and (columns == 1).all():
        return node
    name = MATRICES[node.op]
    weight = node.params[name].astype(np.float64) if name in node.params else np.ones(rows.size)
    if node.op in ("affine", "scale"):
        scaled = weight * (rows / columns)
    elif node.op in ("layer_norm", "rms_norm", "embedding"):
        scaled = weight * rows
    else:
        scaled = weight * _matrix(weight.shape, rows, columns)
    changed = {name: scaled}
    if "bias" in node.params and node.op != "lstm":
        changed["bias"] = node.params["bias"].astype(np.float64) * rows
    return node.with_params(**changed)


def _matrix(shape: Sequence[int], rows: Factors, columns: Factors) -> NDArray[np.float64]:
    """Return the factor of each weight ``[out, in / groups, ...]``, taps broadcast."""
    outs, width = shape[:2]
    split = np.broadcast_to(columns, (max(columns.size, width),)).reshape(-1, width)
    behind = np.repeat(split, outs // len(split), axis=0)
    factor: NDArray[np.float64] = np.broadcast_to(rows, (outs,))[:, None] / behind
    return factor.reshape(outs, width, *[1] * (len(shape) - 2))


def _with_caps(node: Node, groups: Groups, factors: Factors) -> Node:
    """Scale the limits of a ReLU6 or clamp, which become one pair per channel."""
    scale = factors[groups.tensors[node.name].reshape(-1)]
    if (scale == 1).all():
        return node
    if node.op == "clamp_channels":
        low, high = node.params["lo"], node.params["hi"]
    else:
        limits = (0.0, 6.0) if node.op == "relu6" else (node.attrs["lo"], node.attrs["hi"])
        low, high = (np.array([limit], dtype=np.float32) for limit in limits)
    params = {"lo": low.astype(np.float64) * scale, "hi": high.astype(np.float64) * scale}
    return dataclasses.replace(node, op="clamp_channels", attrs={"axis": groups.caps[node.name]}, params=params)
