"""Float ONNX networks as `quant.graph.Graph`, so that everything done to captured networks can be done to them."""

from collections.abc import Callable

import numpy as np

from quant.graph import Graph
from quant.graph import prune as without_unused
from quant.graph_hoist import hoist
from quant.importers.onnx_float_maps import MAPS
from quant.importers.onnx_float_plain import PLAIN
from quant.importers.onnx_float_walk import FloatWalk, widest, with_rank
from quant.importers.onnx_fold import axes_of
from quant.importers.onnx_geometry import window
from quant.importers.onnx_model import OnnxModel, OnnxNode, require
from quant.importers.onnx_walk import axis_of
from quant.tied import mark_tied


def import_float(model: OnnxModel) -> Graph:
    """Return a float ONNX model as a graph.

    Raises
    ------
    ValueError
        Listing every operator that the graph has no form for, or naming the one whose parts do not fit.
    """
    walk = FloatWalk(model)
    walk.go(RULES, "float")
    for name in model.outputs:
        require(name in walk.values, f"{model.name}: output {name!r} is a constant; nothing is computed")
    graph = Graph(
        name=model.name.removesuffix(".onnx"),
        inputs=tuple(walk.inputs),
        nodes=tuple(walk.nodes),
        outputs=tuple(walk.values[name] for name in model.outputs),
    )
    return hoist(mark_tied(without_unused(graph))).check()


# --- layers ----------------------------------------------------------------------------------------------------------


def _conv(walk: FloatWalk, node: OnnxNode) -> None:
    weight, bias = walk.constant(node, 1), walk.optional(node, 2)
    shape = walk.shapes[walk.of(node)]
    found = window(node, shape[1:], weight.shape[2:])
    attrs = {
        "stride": found.stride,
        "dilation": found.dilation,
        "padding": (*found.before, *found.after),
        "groups": int(node.attrs.get("group", 1)),
    }
    walk.write(node, "conv", attrs=attrs, params={"weight": weight, "bias": bias})


def _gemm(walk: FloatWalk, node: OnnxNode) -> None:
    require(not node.attrs.get("transA", 0), "transposes the batch (transA)")
    weight, alpha = walk.constant(node, 1).astype(np.float32, copy=False), np.float32(node.attrs.get("alpha", 1.0))
    weight = weight if alpha == 1 else weight * alpha  # the file's own array, which other nodes may use as well
    weight = weight if node.attrs.get("transB", 0) else weight.T
    bias = walk.optional(node, 2)
    if bias is not None:
        scaled = bias.astype(np.float32) * np.float32(node.attrs.get("beta", 1.0))
        bias = np.broadcast_to(scaled.reshape(-1), (weight.shape[0],))
    walk.write(node, "linear", params={"weight": weight, "bias": bias})


def _matmul(walk: FloatWalk, node: OnnxNode) -> None:
    if walk.is_constant(node, 1) and walk.constant(node, 1).ndim == 2:
        walk.write(node, "linear", params={"weight": walk.constant(node, 1).T})
        return
    pair = [with_rank(walk, node, place, widest(walk, node)) for place in (0, 1)]
    walk.write(node, "matmul", *pair)


def _batch_norm(walk: FloatWalk, node: OnnxNode) -> None:
    require(not node.attrs.get("training_mode", 0), "is in training mode; export the network for evaluation")
    names = ("weight", "bias", "mean", "var")
    params = {name: walk.constant(node, i + 1) for i, name in enumerate(names)}
    walk.write(node, "batch_norm", attrs={"eps": node.attrs.get("epsilon", 1e-5)}, params=params)


def _layer_norm(walk: FloatWalk, node: OnnxNode) -> None:
    rank = walk.rank(node)
    ndim = rank - 1 - axis_of(node.attrs.get("axis", -1), rank)
    shape = walk.shapes[walk.of(node)][-ndim:]
    weight, bias = (
        None if part is None else np.broadcast_to(part, shape)
        for part in (walk.constant(node, 1), walk.optional(node, 2))
    )
    attrs = {"eps": node.attrs.get("epsilon", 1e-5), "ndim": ndim}
    walk.write(node, "layer_norm", attrs=attrs, params={"weight": weight, "bias": bias})


def _rms_norm(walk: FloatWalk, node: OnnxNode) -> None:
    rank = walk.rank(node)
    ndim = rank - 1 - axis_of(node.attrs.get("axis", -1), rank)
    attrs = {"eps": node.attrs.get("epsilon", 1e-5), "ndim": ndim}
    walk.write(node, "rms_norm", attrs=attrs, params={"weight": walk.optional(node, 1)})


def _pool(walk: FloatWalk, node: OnnxNode) -> None:
    require(len(node.outputs) == 1 or not node.outputs[1], "gives the indices of maxima, which are not computed")
    found = window(node, walk.shapes[walk.of(node)][1:], node.attrs["kernel_shape"])
    average = node.op == "AveragePool"
    require(not average or set(found.dilation) == {1}, f"averages with dilation {found.dilation}")
    attrs = {
        "kernel": found.kernel,
        "stride": found.stride,
        "padding": (*found.before, *found.after),
        "dilation": found.dilation,
        "ceil_mode": bool(node.attrs.get("ceil_mode", 0)),
        "count_include_pad": bool(node.attrs.get("count_include_pad", 0)),
    }
    walk.write(node, "avg_pool" if average else "max_pool", attrs=attrs)


def _global_pool(walk: FloatWalk, node: OnnxNode) -> None:
    walk.write(node, "mean", attrs={"axes": tuple(range(1, walk.rank(node) - 1))})


def _reduce_mean(walk: FloatWalk, node: OnnxNode) -> None:
    axes, rank = axes_of(node, walk.constant_inputs(node)), walk.rank(node)
    require(bool(axes), "takes the mean over all axes, the batch too")
    inner = tuple(sorted(axis_of(axis, rank) for axis in axes or ()))
    name = walk.emit(f"{node.outputs[0]}.mean", "mean", (walk.of(node),), node.name, attrs={"axes": inner})
    kept = bool(node.attrs.get("keepdims", 1))
    shape = tuple(d for i, d in enumerate(walk.shapes[name]) if kept or i not in inner)
    walk.emit(node.outputs[0], "reshape", (name,), node.name, attrs={"shape": shape})


def _embedding(walk: FloatWalk, node: OnnxNode) -> None:
    if walk.is_constant(node, 0):
        require(node.attrs.get("axis", 0) == 0 and walk.constant(node, 0).ndim == 2, "is no look-up of a table's rows")
        walk.write(node, "embedding", walk.of(node, 1), params={"weight": walk.constant(node, 0)})
        return
    index, rank = walk.constant(node, 1), walk.rank(node)
    axis = axis_of(node.attrs.get("axis", 0), rank)
    length = walk.shapes[walk.of(node)][axis]
    require(index.ndim <= 1, f"gathers by indices of shape {index.shape}")
    chosen = tuple(int(i) % length if -length <= i < length else length for i in index.ravel())
    name = node.outputs[0] if index.ndim else f"{node.outputs[0]}.row"
    walk.emit(name, "duplicate", (walk.of(node),), node.name, attrs={"axis": axis, "src": chosen})
    if not index.ndim:
        shape = tuple(d for i, d in enumerate(walk.shapes[name]) if i != axis)
        walk.emit(node.outputs[0], "reshape", (name,), node.name, attrs={"shape": shape})


RULES: dict[str, Callable[[FloatWalk, OnnxNode], None]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm,
    "MaxPool": _pool, "AveragePool": _pool, "GlobalAveragePool": _global_pool, "ReduceMean": _reduce_mean,
    "Gather": _embedding,
    **MAPS, **PLAIN,
}  # fmt: skip
