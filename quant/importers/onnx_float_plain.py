"""Float ONNX operators that work element by element, or move values."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.onnx_attributes import clip_limits, pad_widths, read_beyond, split_sizes
from quant.importers.onnx_float_walk import FloatWalk, widest, with_rank
from quant.importers.onnx_fold import axes_of, reshape_target, slice_limits
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_walk import axis_of, keeps_batch

Array = NDArray[Any]


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


def _thresholded(walk: FloatWalk, node: OnnxNode) -> None:
    walk.write(node, "threshold", attrs={"threshold": node.attrs.get("alpha", 1.0), "value": 0.0})


def _softmax(walk: FloatWalk, node: OnnxNode) -> None:
    rank = walk.rank(node)
    axis = axis_of(node.attrs.get("axis", -1 if walk.model.opset >= 13 else 1), rank)
    require(walk.model.opset >= 13 or axis == rank - 2, "before opset 13 takes softmax over several axes at once")
    walk.write(node, "softmax", attrs={"axis": axis})


def _power(walk: FloatWalk, node: OnnxNode) -> None:
    exponent = walk.constant(node, 1)
    require(exponent.size == 1, f"raises to {exponent.size} powers; one is known")
    number = float(exponent.item())
    op = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(number, "pow")
    walk.write(node, op, attrs={"exponent": number} if op == "pow" else {})


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
    rank = widest(walk, node)
    first, second = (with_rank(walk, node, place, rank) for place in (0, 1))
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
    require(
        sorted(order) == list(range(rank)) and order[0] == 0,
        f"permutes axes {order}, the batch among them; export with the batch first, or give the torch module",
    )
    walk.write(node, "permute", attrs={"order": tuple(a - 1 for a in order[1:])})


def _concat(walk: FloatWalk, node: OnnxNode) -> None:
    axis = axis_of(node.attrs["axis"], walk.rank(node))
    rank = widest(walk, node)
    walk.write(node, "concat", *(with_rank(walk, node, i, rank) for i in range(len(node.inputs))), attrs={"axis": axis})


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


def _split(walk: FloatWalk, node: OnnxNode) -> None:
    shape = walk.shapes[walk.of(node)]
    axis = axis_of(node.attrs.get("axis", 0), walk.rank(node))
    start = 0
    for name, size in zip(node.outputs, split_sizes(walk, node, shape[axis]), strict=True):
        limits = [slice(start, start + size) if i == axis else slice(None) for i in range(len(shape))]
        _cut(walk, node, name, limits)
        start += size


def _pad(walk: FloatWalk, node: OnnxNode) -> None:
    if node.attrs.get("mode", "constant") != "constant":
        _pad_by_reading(walk, node)
        return
    before, after, value = pad_widths(walk, node, walk.rank(node))
    walk.write(node, "pad", attrs={"before": before, "after": after, "value": value})


def _pad_by_reading(walk: FloatWalk, node: OnnxNode) -> None:
    """Pad with what is inside the map: a gather along each axis."""
    before, after, _ = pad_widths(walk, replace(node, attrs={**node.attrs, "mode": "constant"}), walk.rank(node))
    name = walk.of(node)
    for axis, (front, back) in enumerate(zip(before, after, strict=True)):
        size = walk.shapes[name][axis]
        src = read_beyond(str(node.attrs["mode"]), np.arange(-front, size + back), size)
        if front or back:
            name = walk.emit(
                walk.free(f"{node.outputs[0]}.{axis}"), "duplicate", (name,), node.name,
                attrs={"axis": axis, "src": tuple(src.tolist())},
            )  # fmt: skip
    walk.values[node.outputs[0]] = name


def _cast(walk: FloatWalk, node: OnnxNode) -> None:
    target = node.attrs["to"]
    index = {item.name: item.kind for item in walk.inputs}.get(walk.of(node)) == "index"
    require(target in ((6, 7) if index else (1, 10, 11)), f"casts to type {target}")
    walk.same(node)


PLAIN: dict[str, Callable[[FloatWalk, OnnxNode], None]] = {
    "Relu": _function("relu"), "Sigmoid": _function("sigmoid"), "Tanh": _function("tanh"), "Erf": _function("erf"),
    "Exp": _function("exp"), "Log": _function("log"), "Sqrt": _function("sqrt"), "Neg": _function("neg"),
    "Abs": _function("abs"), "Reciprocal": _function("reciprocal"), "HardSwish": _function("hardswish"),
    "Softplus": _function("softplus"), "Mish": _function("mish"), "Sin": _function("sin"), "Cos": _function("cos"),
    "ThresholdedRelu": _thresholded,
    "com.microsoft::Gelu": _function("gelu", approximate=("approximate", "none")),
    "Gelu": _function("gelu", approximate=("approximate", "none")),
    "LeakyRelu": _function("leaky_relu", slope=("alpha", 0.01)), "Elu": _function("elu", alpha=("alpha", 1.0)),
    "Clip": _clip, "HardSigmoid": _hard_sigmoid, "PRelu": _prelu, "Softmax": _softmax, "Pow": _power,
    "Add": _binary, "Sub": _binary, "Mul": _binary, "Div": _binary, "Sum": _sum, "Concat": _concat,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Slice": _slice, "Split": _split, "Pad": _pad, "Cast": _cast,
    "Identity": FloatWalk.same, "Dropout": FloatWalk.same,
}  # fmt: skip
