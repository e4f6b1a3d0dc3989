"""Quantized ONNX networks as integer Programs, under ONNX Runtime's own rules.

QDQ groups, the QLinear operators, the Integer operators and QONNX's Quant come down to the same few steps: exact sums,
tables, and the float32 rules of `quant.importers.onnx_rules`. What ONNX Runtime computes in float between integers in
a way that no rule here follows to the bit is imported by the nearest rule and remarked upon.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Clamp
from quant.importers import onnx_moves as moves
from quant.importers import onnx_quant_layers as layers
from quant.importers import onnx_quant_maps as maps
from quant.importers.onnx_attributes import clip_limits
from quant.importers.onnx_grids import (
    dequantize_linear,
    grid_at,
    one_number,
    put,
    qonnx_quant,
    quantize_linear,
    settled,
    stored_weights,
)
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_quant_functions import (
    ATTRIBUTED,
    POINTWISE,
    point,
    pointwise,
    pointwise_or_waiting,
    prelu,
    with_attributes,
)
from quant.importers.onnx_rules import EXACT, ROUNDED, clip, hard_sigmoid, leaky_relu
from quant.importers.onnx_sums import add_bias, convolve, multiply, multiply_stored
from quant.importers.onnx_values import Codes, Curve, Held, Moved, Real, Scaled, Waiting, Weights
from quant.importers.onnx_writer import Writer

Array = NDArray[Any]
Rule = Callable[[Writer, OnnxNode], None]


# --- layers ----------------------------------------------------------------------------------------------------------


def operand(writer: Writer, node: OnnxNode, place: int) -> Held:
    """Return what an operator reads; a float constant stays apart."""
    name = node.inputs[place]
    require(name in writer.values, f"reads {name!r}, which is not quantized")
    return writer.values[name]


def real_at(writer: Writer, node: OnnxNode, place: int = 0) -> Real:
    """Return an operand that must be dequantized codes."""
    value = operand(writer, node, place)
    name = node.inputs[place]
    if isinstance(value, Curve | Scaled | Moved | Waiting):
        found = settled(writer, value, name)
        if found is not None:
            value = writer.values[name] = found
    require(isinstance(value, Real), f"reads {name!r}, which is not quantized; quantize it too")
    assert isinstance(value, Real)
    return value


def _product(writer: Writer, node: OnnxNode) -> None:
    """Conv, Gemm or MatMul between DequantizeLinear and QuantizeLinear."""
    x, second = real_at(writer, node), operand(writer, node, 1)
    if isinstance(second, Real):
        require(node.op == "MatMul", "has weights that are computed")
        sums = multiply(writer, node, x.codes, second.codes, (x.zero, second.zero))
        scale = np.array([np.float32(x.scale) * np.float32(second.scale)])
        writer.values[node.outputs[0]] = replace(sums, scale=scale)
        return
    require(isinstance(second, Weights), "has weights that are not quantized")
    assert isinstance(second, Weights)
    gain = np.float32(node.attrs.get("alpha", 1.0)) if node.op == "Gemm" else np.float32(1)
    scale = gain * np.float32(x.scale) * second.scale
    whole, rest = _bias(writer, node, scale)
    if node.op == "Conv":
        sums = convolve(writer, node, x.codes, x.zero, second, whole)
    else:
        require(not node.attrs.get("transA", 0), "transposes the batch (transA)")
        transposed = bool(node.attrs.get("transB", 0))
        sums = multiply_stored(writer, node, x.codes, x.zero, second, whole, transposed)
    writer.values[node.outputs[0]] = replace(sums, scale=scale, bias=rest)


def _bias(writer: Writer, node: OnnxNode, scale: Array) -> tuple[Array | None, Array | None]:
    """Return a layer's bias as codes of the sums, or else as real numbers."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return None, None
    held = writer.values.get(node.inputs[2])
    beta = node.attrs.get("beta", 1.0) if node.op == "Gemm" else 1.0
    if isinstance(held, Weights):
        alike = np.allclose(held.scale, scale, rtol=1e-3, atol=0) and beta == 1.0 and not held.zero.any()
        return (held.values.ravel(), None) if alike else (None, held.real().ravel())
    real = writer.constant(node, 2).astype(np.float32) * np.float32(beta)
    return None, real.reshape(-1)


def _qlinear_conv(writer: Writer, node: OnnxNode) -> None:
    weights = stored_weights(writer, node, 3, 4, 5)
    bias = writer.optional(node, 8)
    scale = np.float32(one_number(writer, node, 1)) * weights.scale
    sums = convolve(writer, node, codes_at(writer, node, 0), int(one_number(writer, node, 2, 0)), weights, bias)
    put(writer, node, replace(sums, scale=scale), grid_at(writer, node, 6, 7), node.outputs[0])


def codes_at(writer: Writer, node: OnnxNode, place: int) -> Codes:
    """Return an operand that must be codes; a constant is written as a tensor."""
    value = writer.values.get(node.inputs[place])
    require(isinstance(value, Codes), f"reads {node.inputs[place]!r}, which holds no codes")
    assert isinstance(value, Codes)
    return value


def _qlinear_matmul(writer: Writer, node: OnnxNode) -> None:
    x, zero = codes_at(writer, node, 0), int(one_number(writer, node, 2, 0))
    first = np.float32(one_number(writer, node, 1))
    if writer.is_constant(node, 3) or isinstance(writer.values.get(node.inputs[3]), Weights):
        weights = stored_weights(writer, node, 3, 4, 5, axis=1)
        sums = multiply_stored(writer, node, x, zero, weights, None, transposed=False)
        scale = first * weights.scale
    else:
        sums = multiply(writer, node, x, codes_at(writer, node, 3), (zero, int(one_number(writer, node, 5, 0))))
        scale = np.array([first * np.float32(one_number(writer, node, 4))])
    put(writer, node, replace(sums, scale=scale), grid_at(writer, node, 6, 7), node.outputs[0])


def _qgemm(writer: Writer, node: OnnxNode) -> None:
    require(not node.attrs.get("transA", 0), "transposes the batch (transA)")
    transposed = bool(node.attrs.get("transB", 0))
    weights = stored_weights(writer, node, 3, 4, 5, axis=0 if transposed else 1)
    x, zero = codes_at(writer, node, 0), int(one_number(writer, node, 2, 0))
    sums = multiply_stored(writer, node, x, zero, weights, writer.optional(node, 6), transposed)
    scale = np.float32(node.attrs.get("alpha", 1.0)) * np.float32(one_number(writer, node, 1)) * weights.scale
    if len(node.inputs) > 7 and node.inputs[7]:
        put(writer, node, replace(sums, scale=scale), grid_at(writer, node, 7, 8), node.outputs[0])
    else:
        writer.values[node.outputs[0]] = replace(sums, scale=scale)


def _integer_product(writer: Writer, node: OnnxNode) -> None:
    """ConvInteger or MatMulInteger: int32 sums that are no real numbers yet."""
    x, zero = codes_at(writer, node, 0), int(one_number(writer, node, 2, 0))
    if not writer.is_constant(node, 1):
        require(node.op == "MatMulInteger", "has weights that are computed")
        sums = multiply(writer, node, x, codes_at(writer, node, 1), (zero, int(one_number(writer, node, 3, 0))))
    else:
        weights = stored_weights(writer, node, 1, None, 3, axis=int(node.op == "MatMulInteger"))
        if node.op == "ConvInteger":
            sums = convolve(writer, node, x, zero, weights, None)
        else:
            sums = multiply_stored(writer, node, x, zero, weights, None, transposed=False)
    codes = Codes(sums.name, sums.layout)
    writer.values[node.outputs[0]] = codes
    writer.named[node.outputs[0]] = codes


# --- real steps behind sums ------------------------------------------------------------------------------------------


_FLOAT_OR_BOOL = {1: np.float32, 9: np.bool_}


def _cast(writer: Writer, node: OnnxNode) -> None:
    value = writer.values.get(node.inputs[0])
    if isinstance(value, Curve) and node.attrs["to"] in _FLOAT_OR_BOOL:
        dtype = _FLOAT_OR_BOOL[node.attrs["to"]]
        writer.values[node.outputs[0]] = replace(value, function=lambda x: value.function(x).astype(dtype))
        return
    codes = codes_at(writer, node, 0)
    require(node.attrs["to"] == 1, f"casts to type {node.attrs['to']}; float32 is known")
    if writer.tensor(codes).kind == "accumulator":
        writer.values[node.outputs[0]] = Scaled(codes.name, codes.layout, np.ones(1, np.float32))
    else:
        writer.values[node.outputs[0]] = Real(codes, 1.0, 0)


def _along_channels(writer: Writer, value: Scaled, constant: Array) -> NDArray[np.float32]:
    """Return a constant that varies along the channels (last Program axis) alone, as one number or one per channel."""
    rank = len(value.layout) + 1
    full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape).astype(np.float32)
    wide = [i for i, d in enumerate(full.shape) if d > 1]
    require(wide in ([], [value.layout[-1] + 1]), f"scales exact sums by a constant of shape {constant.shape}")
    return full.reshape(-1)


def _binary(writer: Writer, node: OnnxNode) -> None:
    places = [i for i in (0, 1) if node.inputs[i] in writer.constants]
    other = writer.values.get(node.inputs[1 - places[0]]) if len(places) == 1 else None
    if isinstance(other, Scaled) and node.op in ("Add", "Mul", "Sub", "Div"):
        _rescale(writer, node, other, writer.constants[node.inputs[places[0]]], places[0])
        return
    if isinstance(other, Codes) and node.op == "Add":
        sums = add_bias(writer, other, writer.constants[node.inputs[places[0]]])
        writer.values[node.outputs[0]] = writer.named[node.outputs[0]] = sums
        return
    operands = tuple(writer.values.get(name) for name in node.inputs)
    joined = node.op in ("Add", "Mul") and all(isinstance(value, Real | Weights) for value in operands)
    found = None if joined or node.op == "Sum" else point(writer, node)  # what ONNX Runtime joins as codes waits
    if found is not None:
        writer.values[node.outputs[0]] = found
        return
    for i, value in enumerate(operands):
        if isinstance(value, Curve | Scaled | Moved | Waiting):
            real_at(writer, node, i)
    operands = tuple(operand(writer, node, i) for i in range(len(node.inputs)))
    require(
        all(isinstance(value, Real | Weights) for value in operands),
        "joins values that are not quantized one by one; quantize each of them",
    )
    writer.values[node.outputs[0]] = Waiting(node, operands)


def _rescale(writer: Writer, node: OnnxNode, value: Scaled, constant: Array, place: int) -> None:
    require(place == 1 or node.op in ("Add", "Mul"), "divides or subtracts sums from a constant")
    require(value.low == -np.inf and value.high == np.inf, "goes on with sums behind an activation")
    number = _along_channels(writer, value, constant)
    if node.op in ("Add", "Sub"):
        offset = number if node.op == "Add" else -number
        bias = offset if value.bias is None else value.bias + offset
        writer.values[node.outputs[0]] = replace(value, bias=bias, steps=value.steps + 1)
        return
    factor = number if node.op == "Mul" else np.float32(1) / number
    require(bool(np.all(factor > 0)), "scales sums by numbers that are not positive")
    scaled = None if value.bias is None else value.bias * factor
    plain = bool(np.all(value.scale == 1)) and value.steps == 0
    scale = np.asarray(value.scale * factor, dtype=np.float32)
    writer.values[node.outputs[0]] = replace(value, scale=scale, bias=scaled, steps=value.steps + int(not plain))


def _function(writer: Writer, node: OnnxNode) -> None:
    value = operand(writer, node, 0)
    if isinstance(value, Codes):
        _clip_codes(writer, node, value)
        return
    if isinstance(value, Moved) and _before_moves(node, value):
        writer.values[node.outputs[0]] = replace(value, value=_of_value(writer, node, value.value))
        return
    clips = node.op in ("Relu", "Clip")
    if isinstance(value, Moved) or (isinstance(value, Scaled | Waiting) and not clips):
        value = real_at(writer, node)
    writer.values[node.outputs[0]] = _of_value(writer, node, value)


def _before_moves(node: OnnxNode, value: Moved) -> bool:
    """Tell whether a function may be taken in front of moves: not where these bring in numbers of their own."""
    padded = any(moving.op == "Pad" for moving, _ in value.moves)
    clips = node.op in ("Relu", "Clip")
    return (clips or isinstance(value.value, Curve)) and (not padded or node.op == "Relu")


def _of_value(writer: Writer, node: OnnxNode, value: Held) -> Any:
    """Return a function of a value: limits of what waits or is a sum, else a function of its code."""
    low, high = (0.0, np.inf) if node.op == "Relu" else clip_limits(writer, node) if node.op == "Clip" else (None, None)
    if isinstance(value, Scaled | Waiting) and low is not None and high is not None:
        return replace(value, low=max(value.low, low), high=max(min(value.high, high), max(value.low, low)))
    function = clip(low, high) if low is not None and high is not None else _named(node)
    if isinstance(value, Curve):
        inner = value.function
        exact = value.exact and node.op not in _ROUNDED
        return replace(value, function=lambda x: function(inner(x)), exact=exact)
    require(isinstance(value, Real), "is a function of values that are not quantized yet; quantize them first")
    assert isinstance(value, Real)
    return Curve(value, function, node.op not in _ROUNDED)


def _named(node: OnnxNode) -> Callable[[Array], Array]:
    if node.op == "LeakyRelu":
        return leaky_relu(node.attrs.get("alpha", 0.01))
    if node.op == "HardSigmoid":
        return hard_sigmoid(node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5))
    found = with_attributes(node)
    if found is not None:
        return found
    require(node.attrs.get("approximate", "none") == "none", f"approximates by {node.attrs.get('approximate')}")
    return (EXACT | ROUNDED)[node.op]


def _clip_codes(writer: Writer, node: OnnxNode, codes: Codes) -> None:
    require(node.op in ("Clip", "Relu"), "is a function of codes that are no real numbers")
    tensor = writer.tensor(codes)
    given = (0.0, float(tensor.high)) if node.op == "Relu" else clip_limits(writer, node)
    low, high = (int(min(max(v, tensor.low), tensor.high)) for v in given)
    name = node.outputs[0]
    writer.parts.tensors[name] = replace(tensor, name=name, low=low, high=high)
    writer.emit(Clamp, (codes.name,), name, low=low, high=high)
    writer.values[name] = writer.named[name] = replace(codes, name=name)


def _waiting(writer: Writer, node: OnnxNode) -> None:
    operands = tuple(real_at(writer, node, i) for i in range(len(node.inputs)) if node.inputs[i] in writer.values)
    writer.values[node.outputs[0]] = Waiting(node, operands)


# --- QLinear operators -----------------------------------------------------------------------------------------------


def _qlinear(op: str, count: int = 1) -> Rule:
    """Return the rule of an operator of (codes, scale, zero point) `count` times, then scale and zero point."""

    def rule(writer: Writer, node: OnnxNode) -> None:
        require(not node.attrs.get("channels_last", 0), "has channels last")
        operands = tuple(_qlinear_operand(writer, node, 3 * i) for i in range(count))
        inner = replace(node, op=op, inputs=tuple(node.inputs[3 * i] for i in range(count)))
        grid = grid_at(writer, node, 3 * count, 3 * count + 1)
        value: Held = Waiting(inner, operands)
        if count == 1 and op in ("LeakyRelu", "Sigmoid"):
            source = operands[0]
            require(isinstance(source, Real), "is a function of a constant")
            assert isinstance(source, Real)
            value = Curve(source, _named(inner), True)
        put(writer, node, value, grid, node.outputs[0])

    return rule


def _qlinear_operand(writer: Writer, node: OnnxNode, place: int) -> Real | Weights:
    if writer.is_constant(node, place) or isinstance(writer.values.get(node.inputs[place]), Weights):
        return stored_weights(writer, node, place, place + 1, place + 2)
    scale, zero = float(np.float32(one_number(writer, node, place + 1))), int(one_number(writer, node, place + 2, 0))
    return Real(codes_at(writer, node, place), scale, zero)


def _qlinear_concat(writer: Writer, node: OnnxNode) -> None:
    places = range(2, len(node.inputs), 3)
    inner = replace(node, op="Concat", inputs=tuple(node.inputs[i] for i in places))
    value = Waiting(inner, tuple(_qlinear_operand(writer, node, i) for i in places))
    put(writer, node, value, grid_at(writer, node, 0, 1), node.outputs[0])


_QONNX = ("qonnx.custom_op.general::Quant", "finn.custom_op.general::Quant", "onnx.brevitas::Quant")
_MS = "com.microsoft::"
_ROUNDED = (*ROUNDED, *ATTRIBUTED[:3])
_FUNCTIONS = ("Relu", "Clip", "LeakyRelu", "HardSigmoid", *(EXACT.keys() - {"Relu"}), *ROUNDED, *ATTRIBUTED)
_POINTS = (*(POINTWISE.keys() - {"Add", "Sub", "Mul", "Div", "Max", "Min"}), "Pow")

RULES: dict[str, Rule] = {
    "QuantizeLinear": quantize_linear, f"{_MS}QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear, f"{_MS}DequantizeLinear": dequantize_linear,
    **dict.fromkeys(_QONNX, qonnx_quant),
    "Conv": _product, "Gemm": _product, "MatMul": _product,
    "QLinearConv": _qlinear_conv, "QLinearMatMul": _qlinear_matmul, f"{_MS}QGemm": _qgemm,
    "ConvInteger": _integer_product, "MatMulInteger": _integer_product,
    "Add": _binary, "Mul": _binary, "Sub": _binary, "Div": _binary, "Sum": _binary,
    f"{_MS}QLinearAdd": _qlinear("Add", 2), f"{_MS}QLinearMul": _qlinear("Mul", 2),
    f"{_MS}QLinearSigmoid": _qlinear("Sigmoid"), f"{_MS}QLinearLeakyRelu": _qlinear("LeakyRelu"),
    f"{_MS}QLinearAveragePool": _qlinear("AveragePool"),
    f"{_MS}QLinearGlobalAveragePool": _qlinear("GlobalAveragePool"),
    f"{_MS}QLinearSoftmax": _qlinear("Softmax"), f"{_MS}QLinearConcat": _qlinear_concat,
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(_POINTS, pointwise), "Max": pointwise_or_waiting, "Min": pointwise_or_waiting, "PRelu": prelu,
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean", "Softmax", "Concat"), _waiting),
    "Cast": _cast,
    **moves.RULES,
    "ConvTranspose": layers.conv_transpose, "BatchNormalization": maps.batch_norm,
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), maps.wait_for_grid),
    **dict.fromkeys(("ReduceSum", "LogSoftmax"), _waiting),
}  # fmt: skip
