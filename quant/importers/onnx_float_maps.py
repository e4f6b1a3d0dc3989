"""Float ONNX operators that change the size of maps, normalize groups of channels, or take maxima and sums.

They are compositions (`quant.graph_compose`) of the graph's operations.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant import graph_compose as compose
from quant.graph_compose import Composer, Transposed
from quant.importers.onnx_float_walk import FloatWalk, widest, with_rank
from quant.importers.onnx_fold import axes_of
from quant.importers.onnx_geometry import resize_places, transposed_window
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_walk import axis_of

Array = NDArray[Any]


def composer(walk: FloatWalk, node: OnnxNode) -> Composer:
    """Return the way in which compositions add nodes: a layer bears the output's name, what is beside it another."""

    def emit(op: str, inputs: Sequence[str], attrs: Mapping[str, Any], params: Mapping[str, Array]) -> str:
        base = node.outputs[0]
        owns = op == "conv" and base not in walk.shapes
        tries = (base if owns and not i else f"{base}.{op}{i or ''}" for i in range(len(walk.shapes) + 2))
        name = next(label for label in tries if label not in walk.shapes)
        return walk.emit(name, op, tuple(inputs), node.name, attrs=attrs, params=params)

    return Composer(emit, walk.shapes)


def _set(walk: FloatWalk, node: OnnxNode, name: str) -> None:
    walk.values[node.outputs[0]] = name


def _conv_transpose(walk: FloatWalk, node: OnnxNode) -> None:
    weight, bias = walk.constant(node, 1).astype(np.float32), walk.optional(node, 2)
    x = walk.of(node)
    geometry = Transposed(*transposed_window(node, walk.shapes[x][1:], weight.shape[2:]))
    _set(walk, node, compose.conv_transpose(composer(walk, node), x, weight, bias, geometry))


def _resize(walk: FloatWalk, node: OnnxNode) -> None:
    """Resize (or the older Upsample) of the axes behind batch and channels, one after the other."""
    x, c = walk.of(node), composer(walk, node)
    mode = node.attrs.get("mode", "nearest")
    require(mode in ("nearest", "linear", "cubic"), f"resizes by {mode}; nearest, linear and cubic are known")
    for axis, places in enumerate(resize_places(walk, node, (walk.batch, *walk.shapes[x]))):
        if places is None:
            continue
        require(axis > 0, "resizes the batch")
        if mode == "nearest":
            x = c.gather(x, axis - 1, places.astype(np.int64).tolist())
        else:
            cubic = float(node.attrs.get("cubic_coeff_a", compose.CUBIC)) if mode == "cubic" else None
            places = places if cubic is not None else np.clip(places, 0, walk.shapes[x][axis - 1] - 1)
            x = compose.interpolated(c, x, axis - 1, places, cubic)
    _set(walk, node, x)


def _depth_to_space(walk: FloatWalk, node: OnnxNode) -> None:
    x, c, block = walk.of(node), composer(walk, node), int(node.attrs["blocksize"])
    channels, height, width = walk.shapes[x]
    if node.attrs.get("mode", "DCR") == "DCR":  # the block's place is outermost among the channels
        wide = c.reshape(x, (block * block, channels // block**2, height * width))
        x = c.reshape(c.permute(wide, (1, 0, 2)), (channels, height, width))
    _set(walk, node, compose.shuffle(c, x, (block, block)))


def _space_to_depth(walk: FloatWalk, node: OnnxNode) -> None:
    x, c, block = walk.of(node), composer(walk, node), int(node.attrs["blocksize"])
    channels, height, width = walk.shapes[x]
    wide = c.reshape(x, (channels, height // block, block, width // block, block))
    turned = c.permute(wide, (2, 4, 0, 1, 3))
    _set(walk, node, c.reshape(turned, (channels * block**2, height // block, width // block)))


def _instance_norm(walk: FloatWalk, node: OnnxNode) -> None:
    x, scale, bias = walk.of(node), walk.constant(node, 1), walk.constant(node, 2)
    weight = None if (scale == 1).all() and not bias.any() else scale
    offsets = None if weight is None else bias
    eps = float(node.attrs.get("epsilon", 1e-5))
    _set(walk, node, compose.group_norm(composer(walk, node), x, walk.shapes[x][0], weight, offsets, eps))


def _group_norm(walk: FloatWalk, node: OnnxNode) -> None:
    x, groups = walk.of(node), int(node.attrs["num_groups"])
    weight, bias = walk.constant(node, 1), walk.constant(node, 2)
    channels = walk.shapes[x][0]
    if weight.size == groups != channels:  # before opset 21: one factor a group
        weight, bias = (np.repeat(part, channels // groups) for part in (weight, bias))
    eps = float(node.attrs.get("epsilon", 1e-5))
    _set(walk, node, compose.group_norm(composer(walk, node), x, groups, weight, bias, eps))


def _extreme(lowest: bool) -> Callable[[FloatWalk, OnnxNode], None]:
    def rule(walk: FloatWalk, node: OnnxNode) -> None:
        c = composer(walk, node)
        places = [i for i, name in enumerate(node.inputs) if name not in walk.constants]
        numbers = [walk.constants[name] for name in node.inputs if name in walk.constants]
        require(all(n.size == 1 for n in numbers), "compares with constants that differ from place to place")
        rank = widest(walk, node)
        total = with_rank(walk, node, places[0], rank)
        for place in places[1:]:
            total = (compose.minimum_of if lowest else compose.maximum_of)(c, total, with_rank(walk, node, place, rank))
        for number in numbers:
            ends = (
                {"lo": -math.inf, "hi": float(number.item())}
                if lowest
                else {"lo": float(number.item()), "hi": math.inf}
            )
            total = c.unary("relu", total) if ends["lo"] == 0 else c.unary("clamp", total, **ends)
        _set(walk, node, total)

    return rule


def _reduced(walk: FloatWalk, node: OnnxNode) -> tuple[int, ...]:
    """Return the axes (batch left out) that an operator takes away or makes 1."""
    rank = walk.rank(node)
    axes = axes_of(node, walk.constant_inputs(node))
    require(axes is not None, "runs over the batch")
    return tuple(sorted({axis_of(a, rank) for a in axes or ()}))


def _done(walk: FloatWalk, node: OnnxNode, name: str, axes: tuple[int, ...]) -> None:
    if not node.attrs.get("keepdims", 1):
        shape = walk.shapes[name]
        name = composer(walk, node).reshape(name, tuple(d for i, d in enumerate(shape) if i not in axes))
    _set(walk, node, name)


def _reduce_extreme(lowest: bool) -> Callable[[FloatWalk, OnnxNode], None]:
    def rule(walk: FloatWalk, node: OnnxNode) -> None:
        axes, c, x = _reduced(walk, node), composer(walk, node), walk.of(node)
        x = c.unary("neg", x) if lowest else x
        x = compose.maximum_along(c, x, axes)
        _done(walk, node, c.unary("neg", x) if lowest else x, axes)

    return rule


def _reduce_sum(before: str = "", after: str = "") -> Callable[[FloatWalk, OnnxNode], None]:
    """Return the rule of a sum, with a function in front of it and one behind it."""

    def rule(walk: FloatWalk, node: OnnxNode) -> None:
        axes, c, x = _reduced(walk, node), composer(walk, node), walk.of(node)
        count = math.prod(walk.shapes[x][i] for i in axes)
        x = c.unary(before, x) if before else x
        x = c.emit("mean", (x,), {"axes": axes}, {})
        x = c.scale(x, float(count))
        _done(walk, node, c.unary(after, x) if after else x, axes)

    return rule


def _global_max(walk: FloatWalk, node: OnnxNode) -> None:
    x = walk.of(node)
    sizes = walk.shapes[x][1:]
    _set(walk, node, composer(walk, node).pool("max_pool", x, sizes, sizes))


def _log_softmax(walk: FloatWalk, node: OnnxNode) -> None:
    axis = axis_of(node.attrs.get("axis", -1 if walk.model.opset >= 13 else 1), walk.rank(node))
    _set(walk, node, compose.log_softmax(composer(walk, node), walk.of(node), axis))


def _celu(walk: FloatWalk, node: OnnxNode) -> None:
    c, x, alpha = composer(walk, node), walk.of(node), float(node.attrs.get("alpha", 1.0))
    x = x if alpha == 1 else c.scale(x, 1 / alpha)
    x = c.unary("elu", x, alpha=1.0)
    _set(walk, node, x if alpha == 1 else c.scale(x, alpha))


def _selu(walk: FloatWalk, node: OnnxNode) -> None:
    alpha, gamma = node.attrs.get("alpha", 1.6732632423543772), node.attrs.get("gamma", 1.0507009873554805)
    c = composer(walk, node)
    _set(walk, node, c.scale(c.unary("elu", walk.of(node), alpha=float(alpha)), float(gamma)))


def _tile(walk: FloatWalk, node: OnnxNode) -> None:
    repeats = [int(n) for n in walk.constant(node, 1).ravel()]
    require(repeats[0] == 1, "repeats the batch")
    x, c = walk.of(node), composer(walk, node)
    for axis, count in enumerate(repeats[1:]):
        x = c.gather(x, axis, list(range(walk.shapes[x][axis])) * count)
    _set(walk, node, x)


def _expand(walk: FloatWalk, node: OnnxNode) -> None:
    """Repeat axes of size 1 behind the batch."""
    shape = walk.shape(node.inputs[0])
    target = np.broadcast_shapes(shape, tuple(int(d) for d in walk.constant(node, 1).ravel()))
    require(len(target) == len(shape) and target[0] in (shape[0], 1), f"expands samples of {shape} to {target}")
    x, c = walk.of(node), composer(walk, node)
    for axis, (have, want) in enumerate(zip(shape[1:], target[1:], strict=True)):
        x = x if have == want else c.gather(x, axis, (0,) * want)
    _set(walk, node, x)


MAPS: dict[str, Callable[[FloatWalk, OnnxNode], None]] = {
    "ConvTranspose": _conv_transpose, "Resize": _resize, "Upsample": _resize, "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth, "InstanceNormalization": _instance_norm, "GroupNormalization": _group_norm,
    "Max": _extreme(False), "Min": _extreme(True), "ReduceMax": _reduce_extreme(False),
    "ReduceMin": _reduce_extreme(True), "ReduceSum": _reduce_sum(), "ReduceL2": _reduce_sum("square", "sqrt"),
    "ReduceL1": _reduce_sum("abs"), "ReduceSumSquare": _reduce_sum("square"),
    "ReduceLogSumExp": _reduce_sum("exp", "log"), "GlobalMaxPool": _global_max, "LogSoftmax": _log_softmax,
    "Celu": _celu, "Selu": _selu, "Tile": _tile, "Expand": _expand,
}  # fmt: skip
