"""Networks that torch or torchao quantized (PT2E): their integers, by the float32 steps that torch takes between them.

Such a program computes in float32 on dequantized values. Exact here, bit for bit: putting values onto a grid
(``rint(x · float32(1 / scale)) + zero``), functions of one tensor (torch's own, taken of every code), sums of two
tensors, all moves and maxima; and convolutions, products and window means wherever scales are powers of two and sums
stay below 2**24, because float32 adds such numbers without rounding. Otherwise torch's convolution, product or mean
rounds at every addition, in the order of whatever kernel runs: here the sum is exact and is rounded once, so a code
may differ by one where the real value lies within that noise of a tie. Every such tensor is remarked upon.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.program import Add, AvgPool
from quant.importers import onnx_quant_ops as ops
from quant.importers.onnx_grids import put
from quant.importers.onnx_import import OnnxNetwork, read_integers
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_quant import RULES as ONNX_RULES
from quant.importers.onnx_quant import Rule, operand
from quant.importers.onnx_sums import add_bias
from quant.importers.onnx_writer import (
    CODE_DTYPES,
    Codes,
    Curve,
    Grid,
    Real,
    Runtime,
    Scaled,
    Waiting,
    Weights,
    Writer,
    map_layout,
)
from quant.importers.pt2e_model import is_quantized_program, translate

Array = NDArray[Any]
f32 = np.float32

FLOAT32_WHOLE = 2**24
"""Whole numbers below this magnitude are float32 numbers."""


def import_pt2e(program: torch.export.ExportedProgram, name: str = "network") -> OnnxNetwork:
    """Return the integers of an exported program with quantize and dequantize pairs.

    Raises
    ------
    ValueError
        In one line: a program without such pairs, operations that have no integer form (all named), or layers between
        which nothing is quantized.
    """
    require(is_quantized_program(program), f"{name} holds no quantize and dequantize pairs; it is a float network")
    return read_integers(translate(program, name), TORCH, RULES)


# --- float32 steps ---------------------------------------------------------------------------------------------------


def quantize(values: Array, scale: float, zero: int, low: int, high: int) -> NDArray[np.int64]:
    """Return the codes of torch's quantize_per_tensor (torch.ao.quantization.fx._decomposed)."""
    with np.errstate(over="ignore"):
        rounded = np.rint(np.asarray(values, dtype=f32) * f32(1.0 / scale)) + f32(zero)
    return np.clip(rounded.astype(np.float64), low, high).astype(np.int64)


def multiplier(scales: Any, out: float) -> NDArray[np.float64]:
    """Return what sums are multiplied by: their scale times float32(1 / out)."""
    return np.asarray(scales, dtype=np.float64) * float(f32(1.0 / out))


def _dyadic(numbers: Any) -> bool:
    return bool(np.all(np.frexp(np.asarray(numbers, dtype=np.float64))[0] == 0.5))


def _doubt(writer: Writer, value: Scaled | Waiting, grid: Grid) -> str:
    if isinstance(value, Scaled) and (value.steps or value.bias is not None):
        return "rounds an exact sum once, where torch adds float32 products in the order of its kernel"
    return ""


# --- layers ----------------------------------------------------------------------------------------------------------


def _quantize_linear(writer: Writer, node: OnnxNode) -> None:
    a = node.attrs
    require(a["dtype"] in CODE_DTYPES, f"quantizes to {a['dtype']}; known are {', '.join(CODE_DTYPES)}")
    require(np.isfinite(a["scale"]) and a["scale"] > 0, f"has the scale {a['scale']}; a positive number is needed")
    require(a["low"] <= a["zero"] <= a["high"], f"has zero point {a['zero']} outside {a['low']}..{a['high']}")
    bits, signed = CODE_DTYPES[a["dtype"]]
    put(
        writer,
        node,
        operand(writer, node, 0),
        Grid(a["scale"], a["zero"], bits, signed, a["low"], a["high"]),
        node.name,
    )


def _product(writer: Writer, node: OnnxNode) -> None:
    """Write a layer's exact sums, and note whether float32 holds them too."""
    ONNX_RULES[node.op](writer, node)
    sums = writer.values[node.outputs[0]]
    assert isinstance(sums, Scaled)
    held = [writer.values[name] for name in node.inputs[:2]]
    scales = [value.scale for value in held if isinstance(value, Real | Weights)]
    fits = all(_dyadic(scale) for scale in scales) and writer.tensor(sums).high < FLOAT32_WHOLE
    whole = None if sums.bias is None else sums.bias.astype(np.float64) / sums.scale
    if fits and whole is not None and bool(np.all(whole == np.rint(whole)) and np.abs(whole).max() < FLOAT32_WHOLE):
        codes = add_bias(writer, Codes(sums.name, sums.layout), _along(whole.astype(np.int64), sums.layout))
        fits = writer.tensor(codes).high < FLOAT32_WHOLE
        sums = replace(sums, bias=None)
    writer.values[node.outputs[0]] = replace(sums, steps=sums.steps + int(not fits))


def _along(numbers: Array, layout: tuple[int, ...]) -> Array:
    """Shape numbers per channel (last Program axis) to broadcast in torch's order of axes, batch first."""
    return numbers.reshape([-1 if axis == layout[-1] + 1 else 1 for axis in range(len(layout) + 1)])


def _function(writer: Writer, node: OnnxNode) -> None:
    value, function = operand(writer, node, 0), node.attrs["function"]
    if isinstance(value, Curve):
        inner = value.function
        writer.values[node.outputs[0]] = replace(value, function=lambda x: function(inner(x)))
        return
    require(isinstance(value, Real), "is a function of values that are not quantized one by one; quantize them first")
    assert isinstance(value, Real)
    writer.values[node.outputs[0]] = Curve(value, function, True)


def _binary(writer: Writer, node: OnnxNode) -> None:
    """Join two tensors, or one and a number; a residual may be added to sums that are not quantized yet."""
    fixed = [i for i in (0, 1) if node.inputs[i] in writer.constants]
    held = [None if i in fixed else operand(writer, node, i) for i in (0, 1)]
    if len(fixed) == 1 and isinstance(held[1 - fixed[0]], Real | Curve):
        number = writer.constants[node.inputs[fixed[0]]].astype(f32)
        require(number.size == 1, f"joins codes with a float constant of shape {number.shape}; quantize it first")
        step, first = _STEPS[node.op], fixed[0] == 0
        turned = replace(
            node, attrs={"function": lambda x: step(number.item(), x) if first else step(x, number.item())}
        )
        _function(writer, replace(turned, inputs=(node.inputs[1 - fixed[0]],)))
        return
    if node.op in ("Add", "Sub") and any(isinstance(value, Scaled) for value in held) and not fixed:
        require(all(isinstance(value, Scaled | Real) for value in held), "adds what is not quantized to sums")
        writer.values[node.outputs[0]] = Waiting(node, tuple(held))
        return
    ONNX_RULES[node.op](writer, node)


_STEPS = {
    "Add": lambda x, y: f32(x) + f32(y),
    "Sub": lambda x, y: f32(x) - f32(y),
    "Mul": lambda x, y: f32(x) * f32(y),
    "Div": lambda x, y: f32(x) / f32(y),
}


# --- what waits for its grid -----------------------------------------------------------------------------------------


def _add(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Write ``rint((v0·s0 ± v1·s1)·float32(1 / scale))``, an operand being codes or exact sums."""
    if any(isinstance(held, Scaled) for held in value.operands):
        return _add_sums(writer, value, grid, name)
    held = ops.operands(writer, value)
    narrow = all(writer.tensor(part.codes).bits <= 8 for part in held)
    if not narrow:
        writer.remark(name, f"{name!r} adds codes of more than 8 bits with one rounding less than torch")
    shape = tuple(np.broadcast_shapes(*(writer.tensor(part.codes).shape for part in held)))
    scales = tuple(float(f32(part.scale)) for part in held)
    _emit_add(writer, value, grid, name, (held[0].codes.name, held[1].codes.name), shape, scales,
              (held[0].zero, held[1].zero), narrow)  # fmt: skip
    return Codes(name, held[0].codes.layout, grid.scale, grid.zero)


def _emit_add(
    writer: Writer, value: Waiting, grid: Grid, name: str, inputs: tuple[str, str], shape: tuple[int, ...],
    scales: tuple[float, ...], zeros: tuple[int, int], narrow: bool,
) -> None:  # fmt: skip
    inverse = float(f32(1.0 / grid.scale))
    factors = scales if narrow else tuple(scale * inverse for scale in scales)
    writer.codes_tensor(name, shape, grid)
    writer.emit(
        Add,
        inputs,
        name,
        multipliers=(factors[0], factors[1]),
        zero_points=zeros,
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
        signs=(1, -1) if value.node.op == "Sub" else (1, 1),
        rule="float32_scaled" if narrow else "float32",
        multiplier_out=inverse if narrow else 1.0,
    )


def _add_sums(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Write a sum of a layer's exact sums and codes, or other sums; a float bias is rounded to whole sums."""
    first = next(held for held in value.operands if isinstance(held, Scaled))
    inputs, scales, zeros, exact = [], [], [], _dyadic(grid.scale)
    for held in value.operands:
        exact = exact and _dyadic(held.scale) and not getattr(held, "steps", 0)
        if isinstance(held, Scaled):
            require(held.scale.size == 1, "adds a residual to sums with a scale for each channel; quantize the sums")
            require(held.low == -np.inf and held.high == np.inf, "adds a residual behind an activation; quantize it")
            if held.bias is not None:
                whole = np.rint(held.bias / held.scale).astype(np.int64)
                add_bias(writer, Codes(held.name, held.layout), _along(whole, held.layout))
                exact = False
            require(held.layout == first.layout, "adds sums in different orders of axes")
            inputs.append(held.name)
            zeros.append(0)
        else:
            codes = writer.in_layout(held.codes, first.layout)
            inputs.append(codes.name)
            zeros.append(held.zero)
        scales.append(float(f32(np.asarray(held.scale).ravel()[0])))
    shape = tuple(np.broadcast_shapes(*(writer.parts.tensors[source].shape for source in inputs)))
    if not exact:
        writer.remark(name, f"{name!r} adds to exact sums, where torch adds float32 products in its kernel's order")
    pair = (inputs[0], inputs[1])
    _emit_add(writer, value, grid, name, pair, shape, tuple(scales), (zeros[0], zeros[1]), narrow=False)
    return Codes(name, first.layout, grid.scale, grid.zero)


def _mul(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    held = [part for part in value.operands if isinstance(part, Real | Weights)]
    if not (_dyadic(grid.scale) and all(_dyadic(part.scale) for part in held)):
        writer.remark(name, f"{name!r} scales an exact product once, where torch rounds three float32 products")
    return ops.FINISH["Mul"](writer, value, grid, name)


def _average(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    _note_mean(writer, value, grid, name)
    return ops.FINISH["AveragePool"](writer, value, grid, name)


def _note_mean(writer: Writer, value: Waiting, grid: Grid, name: str) -> None:
    if not (_dyadic(grid.scale) and all(_dyadic(part.scale) for part in value.operands)):
        writer.remark(name, f"{name!r} adds a window's values one after the other, torch in an order of its own")


def _global_average(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Write the mean over a whole map as one window."""
    _note_mean(writer, value, grid, name)
    held = value.operands[0]
    source = writer.as_map(held.codes)
    shape = writer.tensor(source).shape
    require(len(shape) in (2, 3), f"takes the mean of a map of shape {shape}; 1-d and 2-d maps are known")
    window = (1, shape[0]) if len(shape) == 2 else (shape[0], shape[1])
    writer.codes_tensor(name, (*(1 for _ in shape[:-1]), shape[-1]), grid)
    writer.emit(
        AvgPool,
        (source.name,),
        name,
        kernel=window,
        stride=(1, 1),
        multiplier=float(f32(held.scale)),
        divisor=grid.scale,
        zero_in=held.zero,
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
        rule="float32_window",
    )
    return Codes(name, map_layout(len(shape)), grid.scale, grid.zero)


TORCH = Runtime(
    name="torch",
    quantize=quantize,
    multiplier=multiplier,
    finish={**ops.FINISH, "Add": _add, "Sub": _add, "Mul": _mul, "AveragePool": _average,
            "GlobalAveragePool": _global_average},
    doubt=_doubt,
)  # fmt: skip
"""torch 2.13 on a CPU, running the program as it is."""

RULES: Mapping[str, Rule] = {
    **{op: ONNX_RULES[op] for op in (
        "DequantizeLinear", "Clip", "GlobalAveragePool", "AveragePool", "ReduceMean", "Softmax", "Concat", "Identity",
        "Reshape", "Transpose", "MaxPool", "Slice", "Split", "Pad",
    )},
    "QuantizeLinear": _quantize_linear, "Function": _function,
    **dict.fromkeys(("Conv", "Gemm", "MatMul"), _product),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _binary),
}  # fmt: skip
