"""Float ONNX networks as `quant.graph.Graph`, so that everything done to captured networks can be done to them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.graph import OPS, Graph, Input, Node
from quant.graph import prune as without_unused
from quant.importers.onnx_fold import axes_of, reshape_target, slice_limits
from quant.importers.onnx_geometry import window
from quant.importers.onnx_model import MAX_ELEMENTS, OnnxModel, OnnxNode, require
from quant.importers.onnx_walk import Shape, Walk, axis_of, keeps_batch

Array = NDArray[Any]


class FloatWalk(Walk[str]):
    """The graph as far as it is written; `values` maps tensors of the file to those of the graph."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__(model)
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}
        self.inputs: list[Input] = []
        for i, item in enumerate(model.inputs):
            kind = "index" if item.dtype in ("int64", "int32") else "float"
            require(
                kind == "index" or item.dtype in ("float32", "float64", "float16"),
                f"{model.name}: input {item.name!r} is {item.dtype}; a float network takes float32 or int64",
            )
            self.inputs.append(Input(item.name, self.sample_shape(i), kind))
            self.shapes[item.name] = self.sample_shape(i)
            self.values[item.name] = item.name

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape, batch included."""
        return (self.batch, *self.shapes[self.values[name]])

    def of(self, node: OnnxNode, place: int = 0) -> str:
        """Return the graph tensor that an operator reads; a constant becomes a node of its own."""
        name = node.inputs[place]
        if name in self.values:
            return self.values[name]
        require(name in self.constants, f"{node} reads {name!r}, which is not there")
        value = self.constants[name].astype(np.float32)
        self.emit(name, "constant", (), layer=node.name, params={"value": value})
        return name

    def rank(self, node: OnnxNode) -> int:
        """Return the number of axes of an operator's first input, batch included."""
        return len(self.shapes[self.of(node)]) + 1

    def emit(self, name: str, op: str, inputs: tuple[str, ...], layer: str = "", **parts: Any) -> str:
        """Append a node after working out its shape."""
        attrs = {key: parts.get("attrs", {}).get(key) for key in OPS[op].attrs}
        params = {key: value for key, value in parts.get("params", {}).items() if value is not None}
        node = Node(name, op, inputs, attrs, params, layer=layer or name)
        shape = OPS[op].shape(node, tuple(self.shapes[i] for i in inputs))
        require(math.prod(shape) <= MAX_ELEMENTS, f"{name!r} has shape {list(shape)}, beyond {MAX_ELEMENTS} elements")
        self.nodes.append(node)
        self.shapes[name] = shape
        self.values[name] = name
        return name

    def write(self, node: OnnxNode, op: str, *inputs: str, attrs: Any = None, params: Any = None) -> str:
        """Write an operator's result as one node."""
        sources = inputs or (self.of(node),)
        return self.emit(node.outputs[0], op, sources, node.name, attrs=attrs or {}, params=params or {})

    def same(self, node: OnnxNode) -> None:
        """Let an operator's result be its input."""
        self.values[node.outputs[0]] = self.of(node)


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
    return without_unused(graph).check()


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
    weight = walk.constant(node, 1).astype(np.float32) * np.float32(node.attrs.get("alpha", 1.0))
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
    pair = [_with_rank(walk, node, place, _widest(walk, node)) for place in (0, 1)]
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


# --- element by element ----------------------------------------------------------------------------------------------


def _function(op: str, **attrs: Any) -> Callable[[FloatWalk, OnnxNode], None]:
    """Return the rule of a function of one tensor; `attrs` maps the graph's names to (ONNX name, default)."""

    def rule(walk: FloatWalk, node: OnnxNode) -> None:
        walk.write(node, op, attrs={key: node.attrs.get(name, default) for key, (name, default) in attrs.items()})

    return rule


def _clip(walk: FloatWalk, node: OnnxNode) -> None:
    low, high = clip_limits(walk, node)
    if (low, high) in ((0.0, math.inf), (0.0, 6.0)):
        walk.write(node, "relu" if high == math.inf else "relu6")
        return
    largest = float(np.finfo(np.float32).max)
    walk.write(node, "clamp", attrs={"lo": max(low, -largest), "hi": min(high, largest)})


def clip_limits(walk: Walk[Any], node: OnnxNode) -> tuple[float, float]:
    """Return a Clip's limits, which older files have as attributes and newer ones as inputs."""
    found = []
    for place, key, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        given = walk.optional(node, place)
        found.append(float(node.attrs.get(key, default)) if given is None else float(given.item()))
    require(found[0] <= found[1], f"clips to {found[0]}..{found[1]}")
    return found[0], found[1]


def _hard_sigmoid(walk: FloatWalk, node: OnnxNode) -> None:
    slope, offset = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
    if np.float32(slope) == np.float32(1 / 6) and offset == 0.5:
        walk.write(node, "hardsigmoid")
        return
    line = walk.emit(
        f"{node.outputs[0]}.line",
        "affine",
        (walk.of(node),),
        node.name,
        attrs={"axis": 0},
        params={"weight": np.array([slope]), "bias": np.array([offset])},
    )
    walk.write(node, "clamp", line, attrs={"lo": 0.0, "hi": 1.0})


def _prelu(walk: FloatWalk, node: OnnxNode) -> None:
    slope = walk.constant(node, 1).reshape(-1)
    require(slope.size in (1, walk.shapes[walk.of(node)][0]), f"has {slope.size} slopes, not one per channel")
    walk.write(node, "prelu", params={"weight": slope})


def _softmax(walk: FloatWalk, node: OnnxNode) -> None:
    rank = walk.rank(node)
    axis = axis_of(node.attrs.get("axis", -1 if walk.model.opset >= 13 else 1), rank)
    require(walk.model.opset >= 13 or axis == rank - 2, "before opset 13 takes softmax over several axes at once")
    walk.write(node, "softmax", attrs={"axis": axis})


def _power(walk: FloatWalk, node: OnnxNode) -> None:
    exponent = walk.constant(node, 1)
    op = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(float(exponent.item()))
    require(op is not None, f"raises to the power {exponent.item()}; known are 2, 1/2, -1/2 and -1")
    walk.write(node, str(op))


def _widest(walk: FloatWalk, node: OnnxNode) -> int:
    """Return the sample rank that an operator's operands broadcast to."""
    ranks = [
        len(walk.shapes[walk.values[name]]) if name in walk.values else walk.constants[name].ndim - 1
        for name in node.inputs
    ]
    return max(ranks)


def _with_rank(walk: FloatWalk, node: OnnxNode, place: int, rank: int) -> str:
    """Return an operand with `rank` axes behind the batch, as numpy's broadcasting lines them up."""
    name = node.inputs[place]
    if name not in walk.values:
        value = walk.constants[name].astype(np.float32)
        require(value.ndim <= rank or value.shape[0] == 1, f"adds a constant of shape {value.shape} to every sample")
        value = value.reshape(value.shape[value.ndim - rank :] if value.ndim > rank else value.shape)
        value = value.reshape((1,) * (rank - value.ndim) + value.shape)
        return walk.emit(f"{node.outputs[0]}.{place}", "constant", (), node.name, params={"value": value})
    shape = walk.shapes[walk.values[name]]
    require(len(shape) == rank, f"broadcasts samples of shape {shape} against {rank} axes, across the batch")
    return walk.values[name]


def _per_channel(walk: FloatWalk, node: OnnxNode) -> tuple[str, Array, int] | None:
    """Return (tensor, factors or offsets, axis) where one operand is a constant along one axis; else ``None``."""
    places = [i for i in (0, 1) if node.inputs[i] in walk.constants]
    if len(places) != 1 or (node.op in ("Sub", "Div") and places == [0]):
        return None
    value, name = walk.constants[node.inputs[places[0]]].astype(np.float32), walk.of(node, 1 - places[0])
    shape = walk.shapes[name]
    if value.ndim > len(shape) + 1:
        return None
    full = value.reshape((1,) * (len(shape) + 1 - value.ndim) + value.shape)
    wide = [i for i, d in enumerate(full.shape) if d > 1]
    if not wide:
        return name, value.reshape(1), 0
    fits = len(wide) == 1 and wide[0] > 0 and shape[wide[0] - 1] == full.shape[wide[0]]
    return (name, value.reshape(-1), wide[0] - 1) if fits else None


def _binary(walk: FloatWalk, node: OnnxNode) -> None:
    found = _per_channel(walk, node)
    if found is not None:
        name, value, axis = found
        ones = np.ones_like(value)
        if node.op in ("Mul", "Div"):
            factor = value if node.op == "Mul" else ones / value
            walk.write(node, "scale", name, attrs={"axis": axis}, params={"weight": factor})
        else:
            offset = value if node.op == "Add" else -value
            walk.write(node, "affine", name, attrs={"axis": axis}, params={"weight": ones, "bias": offset})
        return
    rank = _widest(walk, node)
    first, second = (_with_rank(walk, node, place, rank) for place in (0, 1))
    if node.op == "Div":
        second = walk.emit(f"{node.outputs[0]}.inverse", "reciprocal", (second,), node.name)
    walk.write(node, {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "mul"}[node.op], first, second)


def _sum(walk: FloatWalk, node: OnnxNode) -> None:
    total = walk.of(node)
    for i in range(1, len(node.inputs)):
        last = i == len(node.inputs) - 1
        name = node.outputs[0] if last else f"{node.outputs[0]}.{i}"
        total = walk.emit(name, "add", (total, walk.of(node, i)), node.name)
    walk.values[node.outputs[0]] = total


# --- moving values ---------------------------------------------------------------------------------------------------


def _reshape(walk: FloatWalk, node: OnnxNode) -> None:
    target = walk.constant(node, 1)
    shape = reshape_target(target, walk.shape(node.inputs[0]), bool(node.attrs.get("allowzero", 0)))
    walk.write(node, "reshape", attrs={"shape": keeps_batch(shape, walk.batch)})


def _flatten(walk: FloatWalk, node: OnnxNode) -> None:
    require(node.attrs.get("axis", 1) in (1, 1 - walk.rank(node)), "flattens the batch")
    walk.write(node, "flatten")


def _squeeze(walk: FloatWalk, node: OnnxNode) -> None:
    shape, rank = walk.shapes[walk.of(node)], walk.rank(node)
    axes = axes_of(node, walk.constant_inputs(node))
    inner = {axis_of(a, rank) for a in axes} if axes is not None else {i for i, d in enumerate(shape) if d == 1}
    require(all(shape[i] == 1 for i in inner), f"squeezes axes {axes} of {shape}")
    walk.write(node, "reshape", attrs={"shape": tuple(d for i, d in enumerate(shape) if i not in inner)})


def _unsqueeze(walk: FloatWalk, node: OnnxNode) -> None:
    axes = axes_of(node, walk.constant_inputs(node)) or ()
    shape, rank = list(walk.shapes[walk.of(node)]), walk.rank(node) + len(axes)
    for axis in sorted(axis_of(a, rank) for a in axes):
        shape.insert(axis, 1)
    walk.write(node, "reshape", attrs={"shape": tuple(shape)})


def _transpose(walk: FloatWalk, node: OnnxNode) -> None:
    rank = walk.rank(node)
    order = tuple(node.attrs.get("perm", reversed(range(rank))))
    require(sorted(order) == list(range(rank)) and order[0] == 0, f"permutes axes {order}, the batch among them")
    walk.write(node, "permute", attrs={"order": tuple(a - 1 for a in order[1:])})


def _concat(walk: FloatWalk, node: OnnxNode) -> None:
    axis = axis_of(node.attrs["axis"], walk.rank(node))
    rank = _widest(walk, node)
    walk.write(
        node, "concat", *(_with_rank(walk, node, i, rank) for i in range(len(node.inputs))), attrs={"axis": axis}
    )


def _cut(walk: FloatWalk, node: OnnxNode, name: str, limits: list[slice]) -> None:
    shape = walk.shapes[walk.of(node)]
    parts = [part.indices(size) for part, size in zip(limits, shape, strict=True)]
    require(all(step > 0 and stop > start for start, stop, step in parts), f"slices {limits} of {shape}")
    attrs = {key: tuple(part[i] for part in parts) for i, key in enumerate(("start", "stop", "step"))}
    walk.emit(name, "slice", (walk.of(node),), node.name, attrs=attrs)


def _slice(walk: FloatWalk, node: OnnxNode) -> None:
    limits = slice_limits(node, walk.constant_inputs(node), walk.shape(node.inputs[0]))
    require(limits[0].indices(walk.batch) == (0, walk.batch, 1), "slices the batch")
    _cut(walk, node, node.outputs[0], limits[1:])


def split_sizes(walk: Walk[Any], node: OnnxNode, length: int) -> list[int]:
    """Return the lengths that a Split gives its outputs.

    Raises
    ------
    ValueError
        If they do not add up to the axis's length.
    """
    given = walk.optional(node, 1)
    sizes = [int(d) for d in (node.attrs.get("split", ()) if given is None else given.ravel())]
    if not sizes:
        part = -(-length // len(node.outputs))
        sizes = [min(part, length - part * i) for i in range(len(node.outputs))]
    fits = len(sizes) == len(node.outputs) and sum(sizes) == length and min(sizes) > 0
    require(fits, f"splits {length} into {sizes} for {len(node.outputs)} outputs")
    return sizes


def _split(walk: FloatWalk, node: OnnxNode) -> None:
    shape = walk.shapes[walk.of(node)]
    axis = axis_of(node.attrs.get("axis", 0), walk.rank(node))
    start = 0
    for name, size in zip(node.outputs, split_sizes(walk, node, shape[axis]), strict=True):
        limits = [slice(start, start + size) if i == axis else slice(None) for i in range(len(shape))]
        _cut(walk, node, name, limits)
        start += size


def pad_widths(walk: Walk[Any], node: OnnxNode, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """Return a Pad's (before, after, value), batch left out."""
    require(node.attrs.get("mode", "constant") == "constant", f"pads by {node.attrs.get('mode')}; constants are known")
    given = walk.optional(node, 1)
    pads = [int(p) for p in (node.attrs["pads"] if given is None else given.ravel())]
    value = walk.optional(node, 2)
    axes = walk.optional(node, 3)
    if axes is not None:
        spread = [0] * (2 * rank)
        for i, axis in enumerate(int(a) % rank for a in axes.ravel()):
            spread[axis], spread[rank + axis] = pads[i], pads[axes.size + i]
        pads = spread
    require(len(pads) == 2 * rank and pads[0] == pads[rank] == 0, f"pads {pads} for {rank} axes; the batch has none")
    number = float(node.attrs.get("value", 0.0)) if value is None else float(value.item())
    return tuple(pads[1:rank]), tuple(pads[rank + 1 :]), number


def _pad(walk: FloatWalk, node: OnnxNode) -> None:
    before, after, value = pad_widths(walk, node, walk.rank(node))
    walk.write(node, "pad", attrs={"before": before, "after": after, "value": value})


def _expand(walk: FloatWalk, node: OnnxNode) -> None:
    """Expand is taken where it changes nothing but the batch."""
    shape = walk.shape(node.inputs[0])
    require(np.broadcast_shapes(shape, tuple(walk.constant(node, 1))) == shape, f"expands samples of {shape}")
    walk.same(node)


def _cast(walk: FloatWalk, node: OnnxNode) -> None:
    target = node.attrs["to"]
    index = {item.name: item.kind for item in walk.inputs}.get(walk.of(node)) == "index"
    require(target in ((6, 7) if index else (1, 10, 11)), f"casts to type {target}")
    walk.same(node)


RULES: dict[str, Callable[[FloatWalk, OnnxNode], None]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm,
    "MaxPool": _pool, "AveragePool": _pool, "GlobalAveragePool": _global_pool, "ReduceMean": _reduce_mean,
    "Gather": _embedding,
    "Relu": _function("relu"), "Sigmoid": _function("sigmoid"), "Tanh": _function("tanh"), "Erf": _function("erf"),
    "Exp": _function("exp"), "Log": _function("log"), "Sqrt": _function("sqrt"), "Neg": _function("neg"),
    "Abs": _function("abs"), "Reciprocal": _function("reciprocal"), "HardSwish": _function("hardswish"),
    "Softplus": _function("softplus"), "Mish": _function("mish"), "com.microsoft::Gelu": _function("gelu", approximate=("approximate", "none")),
    "Gelu": _function("gelu", approximate=("approximate", "none")),
    "LeakyRelu": _function("leaky_relu", slope=("alpha", 0.01)), "Elu": _function("elu", alpha=("alpha", 1.0)),
    "Clip": _clip, "HardSigmoid": _hard_sigmoid, "PRelu": _prelu, "Softmax": _softmax, "Pow": _power,
    "Add": _binary, "Sub": _binary, "Mul": _binary, "Div": _binary, "Sum": _sum, "Concat": _concat,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Slice": _slice, "Split": _split, "Pad": _pad, "Expand": _expand, "Cast": _cast,
    "Identity": FloatWalk.same, "Dropout": FloatWalk.same,
}  # fmt: skip
