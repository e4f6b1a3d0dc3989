"""Networks that torch or torchao quantized (PT2E): their integers, by the float32 steps that torch takes between them.

Such a program computes in float32 on dequantized values. Exact here, bit for bit: putting values onto a grid
(``rint(x · float32(1 / scale)) + zero``), functions of one tensor (torch's own, taken of every code), sums of two
tensors, all moves and maxima; and convolutions, products and window means wherever scales are powers of two and sums
stay below 2**24, because float32 adds such numbers without rounding. Otherwise torch's convolution, product or mean
rounds at every addition, in the order of whatever kernel runs: here the sum is exact and is rounded once, so a code
may differ by one where the real value lies within that noise of a tie. Every such tensor is remarked upon.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.arith import code_range
from accelsim.program import Add, AvgPool
from quant.importers import onnx_quant_ops as ops
from quant.importers.onnx_grids import put
from quant.importers.onnx_import import OnnxNetwork, read_integers
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_quant import RULES as ONNX_RULES
from quant.importers.onnx_quant import Rule, operand
from quant.importers.onnx_sums import add_bias
from quant.importers.onnx_values import CODE_DTYPES, Codes, Curve, Grid, Real, Scaled, Waiting, Weights, map_layout
from quant.importers.onnx_writer import Runtime, Writer
from quant.importers.pt2e_model import is_quantized_program, translate

Array = NDArray[Any]
f32 = np.float32

Finish = Callable[[Writer, Waiting, Grid, str], Codes]

WIDE_BITS = 26
FINE_BITS = 14
"""Of a tensor that torch leaves in float32: its width, and how much finer its steps are than the next grid's."""

FLOAT32_WHOLE = 2**24
"""Whole numbers below this magnitude are float32 numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchNetwork(OnnxNetwork):
    """A network that torch or torchao quantized.

    Parameters
    ----------
    traced
        What torch runs.
    """

    traced: torch.export.ExportedProgram

    def torch_codes(self, *samples: Array) -> dict[str, Array]:
        """Return the codes of every quantized tensor as torch computes them: by Program tensor, in its order of axes.

        Parameters
        ----------
        samples
            One float32 array per input, batch first; run in pieces of the traced batch.
        """
        graph = self.traced.module()
        placeholder = next(node for node in self.traced.graph.nodes if node.name == self.inputs[0].name)
        size = placeholder.meta["val"].shape[0]
        size = size if isinstance(size, int) else len(samples[0])
        pieces: list[dict[str, Array]] = []
        for start in range(0, len(samples[0]), size):
            places = np.arange(start, start + size) % len(samples[0])
            runner = _Recorder(graph, frozenset(self.tensors))
            with torch.no_grad():
                runner.run(*(torch.from_numpy(np.ascontiguousarray(x[places], np.float32)) for x in samples))
            pieces.append(runner.codes)
        found = {}
        for name, codes in self.tensors.items():
            whole = np.concatenate([piece[name] for piece in pieces])[: len(samples[0])]
            shape = self.program.tensors[codes.name].shape
            found[codes.name] = whole.transpose(0, *(axis + 1 for axis in codes.layout)).reshape(-1, *shape)
        return found


class _Recorder(torch.fx.Interpreter):
    """Runs a graph and keeps the results of some of its nodes."""

    def __init__(self, module: torch.fx.GraphModule, names: frozenset[str]) -> None:
        super().__init__(module)
        self.names, self.codes = names, dict[str, Array]()

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run a node and keep its result if it is one of those."""
        result = super().run_node(n)
        if n.name in self.names:
            self.codes[n.name] = result.numpy().astype(np.int64)
        return result


def import_pt2e(program: torch.export.ExportedProgram, name: str = "network") -> TorchNetwork:
    """Return the integers of an exported program with quantize and dequantize pairs.

    Raises
    ------
    ValueError
        In one line: a program without such pairs, operations that have no integer form (all named), or layers between
        which nothing is quantized.
    """
    require(is_quantized_program(program), f"{name} holds no quantize and dequantize pairs; it is a float network")
    found = read_integers(translate(program, name), TORCH, RULES)
    return TorchNetwork(**{field.name: getattr(found, field.name) for field in fields(found)}, traced=program)


def import_pt2e_module(module: torch.nn.Module, example: torch.Tensor, name: str = "network") -> TorchNetwork:
    """Return the integers of a module that convert_pt2e gave, or that wraps one; the example's batch is traced.

    Raises
    ------
    ValueError
        As `import_pt2e`; or if torch.export cannot trace the module with that example.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        try:
            program = torch.export.export(module, (example,), strict=False)
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise ValueError(f"{name}: torch.export must be able to trace it (got {text}); simplify it") from error
    return import_pt2e(program, name)


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
    if len(fixed) == 1:
        ONNX_RULES[node.op](writer, node)
        return
    require(not fixed and node.op != "Div", "divides computed tensors; multiply by the reciprocal of a constant")
    writer.values[node.outputs[0]] = Waiting(node, tuple(held))


def _wait(writer: Writer, node: OnnxNode) -> None:
    operands = tuple(
        operand(writer, node, i) for i in range(len(node.inputs)) if node.inputs[i] not in writer.constants
    )
    writer.values[node.outputs[0]] = Waiting(node, operands)


_STEPS = {
    "Add": lambda x, y: f32(x) + f32(y),
    "Sub": lambda x, y: f32(x) - f32(y),
    "Mul": lambda x, y: f32(x) * f32(y),
    "Div": lambda x, y: f32(x) / f32(y),
}


# --- what waits for its grid -----------------------------------------------------------------------------------------


def _resolved(writer: Writer, held: Any, value: Waiting, grid: Grid, name: str) -> Any:
    """Return an operand as codes: one that nothing quantizes gets a grid `FINE_BITS` finer than the result's."""
    if isinstance(held, Real | Weights):
        return held
    scale = grid.scale if grid.bits == WIDE_BITS else grid.scale / 2**FINE_BITS
    fine = Grid(scale, 0, WIDE_BITS, True, *code_range(WIDE_BITS, True))
    label = writer.free(f"{name}.fine")
    put(writer, value.node, held, fine, label)
    codes = writer.named.pop(label)
    writer.remark(name, f"{name!r} reads float32 values that nothing quantizes, here in steps of 2**-{FINE_BITS} codes")
    return Real(codes, scale, 0)


def _on_codes(finish: Finish) -> Finish:
    """Return how an operator is finished once all its operands are codes."""

    def rule(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
        operands = tuple(_resolved(writer, held, value, grid, name) for held in value.operands)
        return finish(writer, replace(value, operands=operands), grid, name)

    return rule


def _add(writer: Writer, value: Waiting, grid: Grid, name: str) -> Codes:
    """Write ``rint((v0·s0 ± v1·s1)·float32(1 / scale))``."""
    held = ops.operands(writer, value)
    shape = tuple(np.broadcast_shapes(*(writer.tensor(part.codes).shape for part in held)))
    bits = max(writer.tensor(part.codes).bits for part in held)
    inverse = float(f32(1.0 / grid.scale))
    scales = [float(f32(part.scale)) for part in held]
    if 8 < bits < WIDE_BITS:
        writer.remark(name, f"{name!r} adds codes of more than 8 bits with one rounding less than torch")
    writer.codes_tensor(name, shape, grid)
    writer.emit(
        Add,
        (held[0].codes.name, held[1].codes.name),
        name,
        multipliers=(scales[0], scales[1]) if bits <= 8 else (scales[0] * inverse, scales[1] * inverse),
        zero_points=(held[0].zero, held[1].zero),
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
        signs=(1, -1) if value.node.op == "Sub" else (1, 1),
        rule="float32_scaled" if bits <= 8 else "float32",
        multiplier_out=inverse if bits <= 8 else 1.0,
    )
    return Codes(name, held[0].codes.layout, grid.scale, grid.zero)


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


FINISH: Mapping[str, Finish] = {
    **{op: ops.FINISH[op] for op in ("ReduceMean", "Concat", "Softmax")},
    "Add": _add, "Sub": _add, "Mul": _mul, "AveragePool": _average, "GlobalAveragePool": _global_average,
}  # fmt: skip

TORCH = Runtime(
    name="torch",
    quantize=quantize,
    multiplier=multiplier,
    finish={op: _on_codes(finish) for op, finish in FINISH.items()},
    doubt=_doubt,
)  # fmt: skip
"""torch 2.13 on a CPU, running the program as it is."""

RULES: Mapping[str, Rule] = {
    **{op: ONNX_RULES[op] for op in (
        "DequantizeLinear", "Clip", "Identity", "Reshape", "Transpose", "MaxPool", "Slice", "Split", "Pad",
    )},
    "QuantizeLinear": _quantize_linear, "Function": _function,
    **dict.fromkeys(("GlobalAveragePool", "AveragePool", "ReduceMean", "Softmax", "Concat"), _wait),
    **dict.fromkeys(("Conv", "Gemm", "MatMul"), _product),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _binary),
}  # fmt: skip
