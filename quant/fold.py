"""Batch norm out of the way: folded into convolutions where that is exact, else a per-channel affine.

Contract: graph in, graph out; the float function is unchanged up to rounding, and no batch_norm node remains. In
evaluation mode batch norm is y = a x + b per channel with a = weight / sqrt(var + eps), b = bias - a mean.
1. An affine or scale read only from a convolution or linear layer is folded into that layer (densenet, too, where the
   layer before has no other reader).
   Two in a row become one.
2. One read only by convolutions or linear layers is folded forward: the factor always, the offset only where no padding
   puts zeros behind it. Otherwise it stays an `affine` (densenet: relu stands between).
"""

import dataclasses

import numpy as np

from quant.graph import Graph, Node, remove_node, replace_node
from quant.tied import TIED, same, with_tied

_LAYERS = ("conv", "linear")


def fold_batch_norm(graph: Graph) -> Graph:
    """Return the graph with every batch norm folded, or turned into an affine where it cannot be.

    Raises
    ------
    ValueError
        Where a batch norm has a negative variance.
    """
    graph = dataclasses.replace(graph, nodes=tuple(_as_affine(n) if n.op == "batch_norm" else n for n in graph.nodes))
    for name in [n.name for n in graph.nodes if n.op in ("scale", "affine")]:
        graph = _fold_one(graph, graph.node(name))
    return graph.check()


def _as_affine(node: Node) -> Node:
    p = {key: value.astype(np.float64) for key, value in node.params.items()}
    if not (p["var"] + node.attrs["eps"] > 0).all():
        raise ValueError(f"{node.name}.var must be >= 0 (got {p['var'].min():g}); load an intact checkpoint")
    factor = p["weight"] / np.sqrt(p["var"] + node.attrs["eps"])
    params = {"weight": factor, "bias": p["bias"] - factor * p["mean"]}
    return dataclasses.replace(node, op="affine", attrs={"axis": 0}, params=params)


def _of_all(graph: Graph, layer: Node, node: Node) -> bool:
    """Tell whether all layers that are tied to one (`quant.tied`) are followed by the same, so that they stay tied."""
    readers = [graph.sole_consumer(name) for name in with_tied(graph, [layer.name])] if TIED in layer.notes else []
    return all(reader is not None and same(reader, node) for reader in readers)


def _fold_one(graph: Graph, node: Node) -> Graph:
    factor = node.params["weight"].astype(np.float64)
    offset = node.params["bias"].astype(np.float64) if "bias" in node.params else np.zeros(1)
    before = graph.producer(node.inputs[0])
    if before is not None and graph.sole_consumer(before.name) is not None:
        whole = factor.size == offset.size == 1
        if (
            before.op in _LAYERS
            and _of_all(graph, before, node)
            and (whole or node.attrs["axis"] == _channel_axis(graph, before.name, before))
        ):
            folded = _scale_outputs(before, factor, offset)
            return remove_node(replace_node(graph, before.name, folded), node.name)
        merged = _merged(before, node, factor, offset)
        if merged is not None:
            return _fold_one(replace_node(remove_node(graph, before.name), node.name, merged), merged)
    readers = graph.consumers(node.name)
    if node.name in graph.outputs or not readers or not all(_folds_forward(graph, r, node, offset) for r in readers):
        return graph
    for reader in readers:
        graph = replace_node(graph, reader.name, _scale_inputs(reader, factor, offset))
    return remove_node(graph, node.name)


def _merged(before: Node, node: Node, factor: np.ndarray, offset: np.ndarray) -> Node | None:
    """Return two affines in a row as one, where they run along one axis or one of them is by single numbers."""
    if before.op not in ("scale", "affine"):
        return None
    single = [all(p.size == 1 for p in n.params.values()) for n in (before, node)]
    if before.attrs["axis"] != node.attrs["axis"] and not any(single):
        return None
    first = before.params["weight"].astype(np.float64)
    shift = before.params.get("bias", np.zeros(1)) * factor + offset
    size = max((first * factor).size, shift.size)
    params = {"weight": np.broadcast_to(first * factor, (size,)), "bias": np.broadcast_to(shift, (size,))}
    axis = (node if single[0] else before).attrs["axis"]
    return dataclasses.replace(node, op="affine", inputs=before.inputs, attrs={"axis": axis}, params=params)


def _channel_axis(graph: Graph, tensor: str, layer: Node) -> int:
    return 0 if layer.op == "conv" else len(graph.shapes[tensor]) - 1


def _folds_forward(graph: Graph, reader: Node, node: Node, offset: np.ndarray) -> bool:
    if reader.op not in _LAYERS or node.attrs["axis"] != _channel_axis(graph, node.name, reader):
        return False
    return not offset.any() or not any(reader.attrs.get("padding", ()))


def _scale_outputs(layer: Node, factor: np.ndarray, offset: np.ndarray) -> Node:
    weight = layer.params["weight"].astype(np.float64)
    outs = weight.shape[0]
    factor, offset = np.broadcast_to(factor, (outs,)), np.broadcast_to(offset, (outs,))
    bias = factor * layer.params.get("bias", np.zeros(outs)) + offset
    return layer.with_params(weight=weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), bias=bias)


def _scale_inputs(layer: Node, factor: np.ndarray, offset: np.ndarray) -> Node:
    weight = layer.params["weight"].astype(np.float64)
    groups = layer.attrs.get("groups", 1)
    ins = weight.shape[1] * groups
    # Output o of group g reads input channels g * ins/groups ..., so each row of weights has its group's factors.
    rows = np.repeat(np.arange(groups), weight.shape[0] // groups)
    factors = np.broadcast_to(factor, (ins,)).reshape(groups, -1)[rows]
    offsets = np.broadcast_to(offset, (ins,)).reshape(groups, -1)[rows]
    taps = weight.reshape(*weight.shape[:2], -1).sum(2)
    bias = layer.params.get("bias", np.zeros(weight.shape[0])) + (taps * offsets).sum(1)
    scaled = weight * factors.reshape(*factors.shape, *[1] * (weight.ndim - 2))
    keep_bias = "bias" in layer.params or bool(bias.any())
    return layer.with_params(weight=scaled, bias=bias if keep_bias else None)
