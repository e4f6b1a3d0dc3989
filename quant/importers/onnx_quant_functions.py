"""Float steps of a quantized ONNX file that depend on one tensor of codes alone: functions of one code, so tables.

Whatever chain of element-wise operators stands between DequantizeLinear and QuantizeLinear, its float32 steps are taken
for every code once.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.onnx_grids import settled
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_rescale import entries_of
from quant.importers.onnx_rules import Function, dequantize, f32, leaky_relu, rounded
from quant.importers.onnx_values import Curve, Moved, Real, Scaled, Waiting, Weights
from quant.importers.onnx_writer import Writer

Array = NDArray[Any]

POINTWISE: dict[str, Callable[..., Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Max": np.maximum, "Min": np.minimum,
    "Greater": np.greater, "Less": np.less, "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal,
    "Equal": np.equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor, "Not": np.logical_not,
    "Where": np.where, "Sign": np.sign, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint,
}  # fmt: skip
"""Operators whose float32 result is the same everywhere: IEEE arithmetic, comparisons, choices."""


def _power(base: Array, exponent: Array) -> Array:
    """Return powers; squares and cubes are products in ONNX Runtime, others are rounded once here."""
    number = float(np.asarray(exponent).item())
    if number in (2.0, 3.0):
        return np.asarray(base * base if number == 2.0 else base * base * base, dtype=f32)
    return np.power(base.astype(np.float64), number).astype(f32)


def _is_product(writer: Writer, node: OnnxNode) -> bool:
    """Tell whether a Pow is a square or cube, which ONNX Runtime multiplies."""
    exponent = writer.constants.get(node.inputs[1]) if node.op == "Pow" else None
    return exponent is not None and exponent.size == 1 and float(exponent.item()) in (2.0, 3.0)


def point(writer: Writer, node: OnnxNode) -> Curve | None:
    """Return an operator as a function of one code, if all it reads are functions of the same code, or numbers."""
    read: list[tuple[Real | None, Function]] = []
    exact = node.op in POINTWISE or _is_product(writer, node)
    for name in node.inputs:
        value = writer.values.get(name)
        if isinstance(value, Curve):
            read.append((value.source, value.function))
            exact = exact and value.exact
        elif isinstance(value, Real):
            read.append((value, _itself))
        else:
            number = value.real() if isinstance(value, Weights) else writer.constants.get(name)
            if number is None or number.size != 1:
                return None
            read.append((None, _always(number.reshape(-1)[0])))
    root = _root(writer, [source for source, _ in read if source is not None])
    if root is None:
        return None
    parts = [
        function if source is None or source == root else _behind(writer, root, source, function)
        for source, function in read
    ]
    function = POINTWISE.get(node.op, _power)

    def steps(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(*(part(x) for part in parts)))

    return Curve(root, steps, exact)


def _itself(x: Array) -> Array:
    return x


def _always(number: Any) -> Function:
    return lambda x: number


def _table(writer: Writer, source: Real, root: Real) -> tuple[Array, int] | None:
    """Return what makes one tensor of codes from another, if a function does: entries, and the code of the first."""
    ops = (op for op in writer.parts.ops if op.output == source.codes.name and op.inputs == (root.codes.name,))
    found = next(ops, None)
    same = found is not None and source.codes.layout == root.codes.layout
    return entries_of(found, writer.tensor(root.codes)) if same else None


def _root(writer: Writer, sources: list[Real]) -> Real | None:
    """Return the tensor of codes that all are, or are tables of."""
    for root in sources:
        if all(source == root or _table(writer, source, root) is not None for source in sources):
            return root
    return None


def _behind(writer: Writer, root: Real, source: Real, function: Function) -> Function:
    """Return a function of a tensor that is a table of another one, as a function of the latter's real values."""
    table = _table(writer, source, root)
    assert table is not None
    entries, low_code = table

    def steps(x: Array) -> Array:
        codes = np.rint(x.astype(np.float64) / root.scale).astype(np.int64) + root.zero
        return function(dequantize(entries[codes - low_code], source.scale, source.zero))

    return steps


def pointwise(writer: Writer, node: OnnxNode) -> None:
    """Write an element-wise operator that has no other form than a function of one code."""
    for name in node.inputs:
        value = writer.values.get(name)
        if isinstance(value, Waiting | Scaled | Moved):
            writer.values[name] = settled(writer, value, name) or value
    found = point(writer, node)
    require(
        found is not None, "joins different tensors, or numbers that differ from place to place; quantize them first"
    )
    assert found is not None
    writer.values[node.outputs[0]] = found


def pointwise_or_waiting(writer: Writer, node: OnnxNode) -> None:
    """Write a maximum or minimum of one code, else of several tensors."""
    found = point(writer, node)
    if found is None:
        operands = tuple(writer.values.get(name) for name in node.inputs)
        require(all(isinstance(v, Real | Weights) for v in operands), "joins values that are not quantized one by one")
        writer.values[node.outputs[0]] = Waiting(node, operands)
        return
    writer.values[node.outputs[0]] = found


def prelu(writer: Writer, node: OnnxNode) -> None:
    """Write a leaky ReLU: of one slope a function of a code, of several a sum of two parts."""
    value, held = writer.values.get(node.inputs[0]), writer.values.get(node.inputs[1])
    slopes = held.real() if isinstance(held, Weights) else writer.constant(node, 1).astype(f32)
    if isinstance(value, Curve | Real) and slopes.size == 1:
        source, inner = (value.source, value.function) if isinstance(value, Curve) else (value, lambda x: x)
        function = leaky_relu(float(slopes.item()))
        exact = value.exact if isinstance(value, Curve) else True
        writer.values[node.outputs[0]] = Curve(source, lambda x: function(inner(x)), exact)
        return
    require(isinstance(value, Real), "is a function of values that are not quantized one by one; quantize them first")
    writer.values[node.outputs[0]] = Waiting(node, (value,))


def _elu(alpha: float, gamma: float = 1.0, inner: float = 1.0) -> Callable[[Array], Array]:
    """Return gamma · (max(0, x) + min(0, alpha · (exp(inner · x) - 1))), rounded once."""
    return rounded(lambda v: gamma * (v if v > 0 else alpha * math.expm1(inner * v)))


def with_attributes(node: OnnxNode) -> Callable[[Array], Array] | None:
    """Return a function of real numbers that attributes decide and ONNX Runtime rounds in steps of its own."""
    alpha = node.attrs.get("alpha", 1.0)
    if node.op == "Elu":
        return _elu(alpha)
    if node.op == "Celu":
        return _elu(alpha, 1.0, 1 / alpha)
    if node.op == "Selu":
        return _elu(node.attrs.get("alpha", 1.6732632423543772), node.attrs.get("gamma", 1.0507009873554805))
    if node.op == "ThresholdedRelu":
        return lambda x: np.where(x > f32(alpha), x, f32(0)).astype(f32)
    return None


ATTRIBUTED = ("Elu", "Celu", "Selu", "ThresholdedRelu")
