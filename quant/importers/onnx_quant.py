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

from accelsim.arith import code_range
from accelsim.program import Clamp
from quant.importers import onnx_moves as moves
from quant.importers import onnx_quant_ops as ops
from quant.importers.onnx_attributes import clip_limits
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_rules import EXACT, ROUNDED, clip, hard_sigmoid, leaky_relu
from quant.importers.onnx_sums import add_bias, convolve, multiply, multiply_stored
from quant.importers.onnx_writer import (
    CODE_DTYPES,
    Codes,
    Curve,
    Given,
    Grid,
    Held,
    Port,
    Real,
    Scaled,
    Waiting,
    Weights,
    Writer,
)

Array = NDArray[Any]
Rule = Callable[[Writer, OnnxNode], None]


# --- on and off the grid ---------------------------------------------------------------------------------------------


def _one(writer: Writer, node: OnnxNode, place: int, default: Any = None) -> Any:
    value = writer.constant(node, place, default)
    require(value.size == 1, f"has {value.size} scales or zero points as input {place}; one is known")
    return value.reshape(-1)[0]


def grid_at(writer: Writer, node: OnnxNode, scale: int, zero: int) -> Grid:
    """Return the grid that a node's inputs (numbers of scale and zero point) describe."""
    dtype = np.dtype(np.uint8)
    if zero < len(node.inputs) and node.inputs[zero]:
        dtype = writer.constant(node, zero).dtype
    elif node.attrs.get("output_dtype", 0):
        dtype = np.dtype({2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}.get(node.attrs["output_dtype"], "float32"))
    require(dtype.name in CODE_DTYPES, f"quantizes to {dtype.name}; known are {', '.join(CODE_DTYPES)}")
    bits, signed = CODE_DTYPES[dtype.name]
    factor = float(np.float32(_one(writer, node, scale)))
    require(np.isfinite(factor) and factor > 0, f"has the scale {factor}; a positive number is needed")
    return Grid(factor, int(_one(writer, node, zero, dtype.type(0))), bits, signed, *code_range(bits, signed))


def _quantize(writer: Writer, node: OnnxNode) -> None:
    if node.inputs[0] in writer.constants:
        _quantize_weights(writer, node)
        return
    put(writer, node, writer.values[node.inputs[0]], grid_at(writer, node, 1, 2), node.outputs[0])


def put(writer: Writer, node: OnnxNode, value: Held, grid: Grid, name: str) -> None:
    """Bring a real value onto a grid as tensor `name`."""
    if isinstance(value, Given):
        codes = writer.declare_input(name, value.shape, grid)
        item = writer.model.inputs[value.index]
        scale = np.array([grid.scale], dtype=np.float32)
        writer.parts.inputs.append(Port(item.name, codes.name, codes.layout, scale, grid.zero))
    elif isinstance(value, Real):
        codes = writer.curve(value, None, grid, name)
    elif isinstance(value, Curve):
        codes = writer.curve(value.source, value.function, grid, name)
        if not value.exact:
            writer.remark(codes.name, f"{name!r} follows a function within an ulp of ONNX Runtime's, not to the bit")
    elif isinstance(value, Scaled):
        codes = _put_sums(writer, node, value, grid, name)
    elif isinstance(value, Waiting):
        codes = ops.finish(writer, value, grid, name)
    else:
        raise ValueError("quantizes what are codes already")
    writer.values[name] = codes
    writer.named[name] = codes


def _put_sums(writer: Writer, node: OnnxNode, value: Scaled, grid: Grid, name: str) -> Codes:
    multiplier = np.asarray(value.scale / np.float32(grid.scale), dtype=np.float64)
    lowest = (grid.low - grid.zero) * grid.scale
    highest = (grid.high - grid.zero) * grid.scale
    if value.steps or value.bias is not None or value.low > lowest or value.high < highest:
        text = f"{name!r} takes float steps behind exact sums (bias, scale or activation) in fewer roundings"
        writer.remark(name, text)
    return writer.requantized(value, multiplier, grid, name, value.low, value.high)


def _quantize_weights(writer: Writer, node: OnnxNode) -> None:
    real, scale = writer.constant(node, 0), writer.constant(node, 1).astype(np.float32).reshape(-1)
    zero = writer.optional(node, 2)
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    require(dtype.name in CODE_DTYPES, f"quantizes weights to {dtype.name}")
    bits, signed = CODE_DTYPES[dtype.name]
    zeros = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64).reshape(-1)
    blank = Weights(np.zeros(real.shape, np.int64), scale, zeros, int(node.attrs.get("axis", 1)), bits, signed)
    quotient = real.astype(np.float32) / blank.along(scale)
    codes = np.clip(np.rint(quotient) + blank.along(zeros), *code_range(bits, signed)).astype(np.int64)
    writer.values[node.outputs[0]] = replace(blank, values=codes)


def _dequantize(writer: Writer, node: OnnxNode) -> None:
    if node.inputs[0] in writer.constants or isinstance(writer.values.get(node.inputs[0]), Weights):
        writer.values[node.outputs[0]] = stored_weights(writer, node, 0, 1, 2, int(node.attrs.get("axis", 1)))
        return
    codes = writer.values[node.inputs[0]]
    require(isinstance(codes, Codes), "dequantizes what are no codes")
    assert isinstance(codes, Codes)
    scale, zero = float(np.float32(_one(writer, node, 1))), int(_one(writer, node, 2, 0))
    writer.values[node.outputs[0]] = Real(codes, scale, zero)


def stored_weights(writer: Writer, node: OnnxNode, place: int, scale: int | None, zero: int, axis: int = 0) -> Weights:
    """Return a node's stored codes with scales (ones if `scale` is ``None``) and zero points, `axis` the channels'."""
    name = node.inputs[place]
    held = writer.values.get(name)
    if isinstance(held, Weights):
        return held
    values = writer.constant(node, place)
    require(values.dtype.kind in "iu", f"needs codes as input {place}, which is {values.dtype}")
    bits, signed = CODE_DTYPES.get(values.dtype.name, (32, True))
    bits = writer.model.widths.get(name, bits)
    scales = np.ones(1, np.float32) if scale is None else writer.constant(node, scale).astype(np.float32).reshape(-1)
    zeros = writer.optional(node, zero)
    numbers = np.zeros(1, np.int64) if zeros is None else zeros.astype(np.int64).reshape(-1)
    axis %= max(1, values.ndim)
    if scales.size > 1 or numbers.size > 1:
        require(
            values.ndim > 0 and {scales.size, numbers.size} <= {1, values.shape[axis]},
            f"has {scales.size} scales and {numbers.size} zero points for weights of shape {values.shape}",
        )
    require(bool(np.all(np.isfinite(scales)) and np.all(scales > 0)), "has weights whose scales are not positive")
    return Weights(values.astype(np.int64), scales, numbers, axis, bits, signed)


def _qonnx(writer: Writer, node: OnnxNode) -> None:
    bits = int(_one(writer, node, 3))
    signed, narrow = bool(node.attrs.get("signed", 1)), bool(node.attrs.get("narrow", 0))
    mode = str(node.attrs.get("rounding_mode", "ROUND")).upper()
    require(2 <= bits <= 16, f"has {bits} bits; 2..16 are known")
    require(mode in ("ROUND", "HALF_EVEN", "ROUND_HALF_EVEN"), f"rounds by {mode}; half to even is known")
    low, high = code_range(bits, signed)
    low, high = (low + int(signed), high - int(not signed)) if narrow else (low, high)
    name = node.outputs[0]
    if node.inputs[0] in writer.constants:
        scale = writer.constant(node, 1).astype(np.float32)
        zero = writer.constant(node, 2)
        real = writer.constant(node, 0)
        wide = [i for i, d in enumerate(scale.shape) if d > 1]
        require(len(wide) <= 1 and (not wide or scale.ndim == real.ndim), f"has scales of shape {scale.shape}")
        codes = np.clip(np.rint(real.astype(np.float32) / scale + zero.astype(np.float32)), low, high).astype(np.int64)
        axis = wide[0] if wide else 0
        numbers = zero.astype(np.int64).reshape(-1)
        writer.values[name] = Weights(codes, scale.reshape(-1), numbers, axis, bits, signed)
        return
    grid = Grid(float(np.float32(_one(writer, node, 1))), int(_one(writer, node, 2)), bits, signed, low, high)
    require(grid.scale > 0, f"has the scale {grid.scale}; a positive number is needed")
    put(writer, node, writer.values[node.inputs[0]], grid, name)
    codes_of = writer.named[name]
    writer.values[name] = Real(codes_of, grid.scale, grid.zero)


# --- layers ----------------------------------------------------------------------------------------------------------


def operand(writer: Writer, node: OnnxNode, place: int) -> Held:
    """Return what an operator reads; a float constant stays apart."""
    name = node.inputs[place]
    require(name in writer.values, f"reads {name!r}, which is not quantized")
    return writer.values[name]


def real_at(writer: Writer, node: OnnxNode, place: int = 0) -> Real:
    """Return an operand that must be dequantized codes."""
    value = operand(writer, node, place)
    require(isinstance(value, Real), f"reads {node.inputs[place]!r}, which is not quantized")
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
    scale = np.float32(_one(writer, node, 1)) * weights.scale
    sums = convolve(writer, node, codes_at(writer, node, 0), int(_one(writer, node, 2, 0)), weights, bias)
    put(writer, node, replace(sums, scale=scale), grid_at(writer, node, 6, 7), node.outputs[0])


def codes_at(writer: Writer, node: OnnxNode, place: int) -> Codes:
    """Return an operand that must be codes; a constant is written as a tensor."""
    value = writer.values.get(node.inputs[place])
    require(isinstance(value, Codes), f"reads {node.inputs[place]!r}, which holds no codes")
    assert isinstance(value, Codes)
    return value


def _qlinear_matmul(writer: Writer, node: OnnxNode) -> None:
    x, zero = codes_at(writer, node, 0), int(_one(writer, node, 2, 0))
    first = np.float32(_one(writer, node, 1))
    if writer.is_constant(node, 3):
        weights = stored_weights(writer, node, 3, 4, 5, axis=1)
        sums = multiply_stored(writer, node, x, zero, weights, None, transposed=False)
        scale = first * weights.scale
    else:
        sums = multiply(writer, node, x, codes_at(writer, node, 3), (zero, int(_one(writer, node, 5, 0))))
        scale = np.array([first * np.float32(_one(writer, node, 4))])
    put(writer, node, replace(sums, scale=scale), grid_at(writer, node, 6, 7), node.outputs[0])


def _qgemm(writer: Writer, node: OnnxNode) -> None:
    require(not node.attrs.get("transA", 0), "transposes the batch (transA)")
    transposed = bool(node.attrs.get("transB", 0))
    weights = stored_weights(writer, node, 3, 4, 5, axis=0 if transposed else 1)
    x, zero = codes_at(writer, node, 0), int(_one(writer, node, 2, 0))
    sums = multiply_stored(writer, node, x, zero, weights, writer.optional(node, 6), transposed)
    scale = np.float32(node.attrs.get("alpha", 1.0)) * np.float32(_one(writer, node, 1)) * weights.scale
    if len(node.inputs) > 7 and node.inputs[7]:
        put(writer, node, replace(sums, scale=scale), grid_at(writer, node, 7, 8), node.outputs[0])
    else:
        writer.values[node.outputs[0]] = replace(sums, scale=scale)


def _integer_product(writer: Writer, node: OnnxNode) -> None:
    """ConvInteger or MatMulInteger: int32 sums that are no real numbers yet."""
    x, zero = codes_at(writer, node, 0), int(_one(writer, node, 2, 0))
    if not writer.is_constant(node, 1):
        require(node.op == "MatMulInteger", "has weights that are computed")
        sums = multiply(writer, node, x, codes_at(writer, node, 1), (zero, int(_one(writer, node, 3, 0))))
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


def _cast(writer: Writer, node: OnnxNode) -> None:
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
    operands = tuple(operand(writer, node, i) for i in range(len(node.inputs)))
    require(
        all(isinstance(value, Real | Weights) for value in operands), "joins values that are not quantized one by one"
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
    low, high = (0.0, np.inf) if node.op == "Relu" else clip_limits(writer, node) if node.op == "Clip" else (None, None)
    if isinstance(value, Scaled):
        require(low is not None, "is a function of exact sums; quantize them first")
        assert low is not None
        assert high is not None
        held = replace(value, low=max(value.low, low), high=max(min(value.high, high), max(value.low, low)))
        writer.values[node.outputs[0]] = held
        return
    function = clip(low, high) if low is not None and high is not None else _named(node)
    if isinstance(value, Curve):
        inner = value.function
        writer.values[node.outputs[0]] = replace(
            value, function=lambda x: function(inner(x)), exact=value.exact and node.op not in ROUNDED
        )
        return
    require(isinstance(value, Real), "is a function of values that are not quantized one by one")
    assert isinstance(value, Real)
    writer.values[node.outputs[0]] = Curve(value, function, node.op not in ROUNDED)


def _named(node: OnnxNode) -> Callable[[Array], Array]:
    if node.op == "LeakyRelu":
        return leaky_relu(node.attrs.get("alpha", 0.01))
    if node.op == "HardSigmoid":
        return hard_sigmoid(node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5))
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
    if writer.is_constant(node, place):
        return stored_weights(writer, node, place, place + 1, place + 2)
    scale, zero = float(np.float32(_one(writer, node, place + 1))), int(_one(writer, node, place + 2, 0))
    return Real(codes_at(writer, node, place), scale, zero)


def _qlinear_concat(writer: Writer, node: OnnxNode) -> None:
    places = range(2, len(node.inputs), 3)
    inner = replace(node, op="Concat", inputs=tuple(node.inputs[i] for i in places))
    value = Waiting(inner, tuple(_qlinear_operand(writer, node, i) for i in places))
    put(writer, node, value, grid_at(writer, node, 0, 1), node.outputs[0])


_QONNX = ("qonnx.custom_op.general::Quant", "finn.custom_op.general::Quant", "onnx.brevitas::Quant")
_MS = "com.microsoft::"
_FUNCTIONS = ("Relu", "Clip", "LeakyRelu", "HardSigmoid", *(EXACT.keys() - {"Relu"}), *ROUNDED)

RULES: dict[str, Rule] = {
    "QuantizeLinear": _quantize, f"{_MS}QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize, f"{_MS}DequantizeLinear": _dequantize,
    **dict.fromkeys(_QONNX, _qonnx),
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
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean", "Softmax", "Concat"), _waiting),
    "Cast": _cast,
    **moves.RULES,
}  # fmt: skip
