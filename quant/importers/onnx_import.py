"""ONNX files in: float ones become graphs to be quantized, quantized ones the Program of their own integers."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.check import check
from accelsim.program import Program
from quant.graph import Graph
from quant.importers.onnx_float import import_float
from quant.importers.onnx_model import OnnxModel, load_onnx, read_onnx, require
from quant.importers.onnx_quant import Rule
from quant.importers.onnx_quant_maps import FINISH as MAPS
from quant.importers.onnx_quant_ops import ONNX_RUNTIME as PLAIN_RUNTIME
from quant.importers.onnx_sums import add_bias
from quant.importers.onnx_values import CODE_DTYPES, Codes, Curve, Port, Real, Scaled, Waiting, Weights
from quant.importers.onnx_whole import RULES
from quant.importers.onnx_whole_ops import Doubled
from quant.importers.onnx_writer import Runtime, Writer

ONNX_RUNTIME = replace(PLAIN_RUNTIME, finish={**PLAIN_RUNTIME.finish, **MAPS})
"""ONNX Runtime on a CPU, with everything that is known to stand between its codes."""

QUANTIZED_MARKS = ("QuantizeLinear", "DequantizeLinear", "QLinear", "ConvInteger", "MatMulInteger", "QGemm", "::Quant")


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxNetwork:
    """A network that came as integers: a quantized ONNX file, or a module of torch with fixed grids.

    Parameters
    ----------
    program
        Checked, with values, under its runtime's rules.
    inputs, outputs
        The file's own, in its order.
    tensors
        Of every quantized tensor of the file: the Program's tensor, and its layout.
    remarks
        Where the runtime takes float steps that the Program follows by fewer roundings or not at all.
    inexact
        The Program tensors that the remarks are about; all others equal the runtime's integers, given equal inputs.
    runtime
        Whose rules they are.
    """

    program: Program
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tensors: Mapping[str, Codes]
    remarks: tuple[str, ...]
    inexact: frozenset[str]
    runtime: Runtime = ONNX_RUNTIME

    def encode(self, *samples: NDArray[Any]) -> dict[str, NDArray[np.int64]]:
        """Return the Program's input codes for samples ``[batch, ...]`` in the file's layout, one array per input.

        Real values go onto the grid by QuantizeLinear's rule; where the file takes codes, codes are given.

        Raises
        ------
        ValueError
            If the number of inputs or a shape is wrong, or a sample is NaN or infinite.
        """
        names = list(dict.fromkeys(port.name for port in self.inputs))
        require(len(samples) == len(names), f"{self.program.name} takes {names} (got {len(samples)} arrays)")
        given = dict(zip(names, samples, strict=True))
        codes = {}
        for port in self.inputs:
            tensor, batch = self.program.tensors[port.tensor], np.asarray(given[port.name])
            shape = tuple(tensor.shape[port.layout.index(axis)] for axis in range(len(tensor.shape)))
            require(
                batch.shape[1:] == shape,
                f"{self.program.name}: input {port.name!r} must be [samples, {', '.join(map(str, shape))}] "
                f"(got {batch.shape})",
            )
            moved = batch.transpose(0, *(axis + 1 for axis in port.layout))
            if port.scale is None:
                codes[port.tensor] = moved.astype(np.int64)
                continue
            require(bool(np.isfinite(moved).all()), f"{self.program.name}: input {port.name!r} holds NaN or infinity")
            onto = half_up if port.half_up else self.runtime.quantize
            codes[port.tensor] = onto(moved, float(port.scale[0]), port.zero_point, tensor.low, tensor.high)
        return codes

    def decode(self, outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float64]]:
        """Return the file's outputs in its layout: real values, or codes where the file gives codes."""
        found = []
        for port in self.outputs:
            value = in_file_order(outputs[port.tensor], port.layout).astype(np.float64)
            if port.scale is None:
                found.append(value)
                continue
            scale = port.scale if port.scale.size == 1 else _along(port.scale, port.layout)
            found.append((value - port.zero_point) * scale.astype(np.float64))
        return found


def half_up(values: NDArray[Any], scale: float, zero: int, low: int, high: int) -> NDArray[np.int64]:
    """Return codes half up in double precision, as `quant.lower.Quantized.encode` puts samples onto a grid."""
    quotient = np.asarray(values, dtype=np.float64) / scale
    whole = np.floor(quotient)
    return np.clip(whole + (quotient - whole >= 0.5) + zero, low, high).astype(np.int64)


def _along(numbers: NDArray[Any], layout: tuple[int, ...]) -> NDArray[Any]:
    """Shape numbers per channel (last Program axis) to broadcast with a tensor in the file's layout, batch first."""
    return numbers.reshape([-1 if axis == layout[-1] + 1 else 1 for axis in range(len(layout) + 1)])


def in_file_order(codes: NDArray[Any], layout: tuple[int, ...]) -> NDArray[Any]:
    """Return a Program tensor ``[batch, ...]`` with its axes in the file's order."""
    return codes.transpose(0, *(layout.index(axis) + 1 for axis in range(len(layout))))


def import_onnx(path: str | os.PathLike[str]) -> Graph | OnnxNetwork:
    """Read an ONNX file: a float one as a graph, a quantized one as its integers.

    Nothing in the file is executed; tensors outside it are read from its own folder only.

    Raises
    ------
    ValueError
        In one line: a file that is missing, damaged or out of bounds, or all operators that have no form here.
    """
    return convert(load_onnx(path))


def import_onnx_bytes(data: bytes, name: str = "model") -> Graph | OnnxNetwork:
    """Read an ONNX file's bytes, see `import_onnx`; `name` is what errors call it."""
    return convert(read_onnx(data, name))


def is_quantized(model: OnnxModel) -> bool:
    """Tell whether any operator of a model makes or reads codes, or it is given codes."""
    if any(item.dtype in CODE_DTYPES for item in model.inputs):
        return True
    return any(mark in node.op for node in model.nodes for mark in QUANTIZED_MARKS)


def convert(model: OnnxModel) -> Graph | OnnxNetwork:
    """Return the graph or the integers of a model that was read, see `import_onnx`."""
    return import_quantized(model) if is_quantized(model) else import_float(model)


def import_quantized(model: OnnxModel) -> OnnxNetwork:
    """Return the integers of a quantized model, see `import_onnx`."""
    dynamic = [node for node in model.nodes if node.op == "DynamicQuantizeLinear"]
    require(
        not dynamic,
        f"{model.name}: {len(dynamic)} scales are computed while it runs (DynamicQuantizeLinear); a Program's are "
        "fixed: quantize it statically",
    )
    return read_integers(model, ONNX_RUNTIME, RULES)


def read_integers(model: OnnxModel, runtime: Runtime, rules: Mapping[str, Rule]) -> OnnxNetwork:
    """Return the integers of a model by a runtime's float steps and the rules of its operators."""
    writer = Writer(model, runtime)
    writer.go(rules, "integer")
    outputs = [_output(writer, name) for name in model.outputs]
    _spread_doubt(writer)
    program = writer.program(outputs)
    check(program)
    return OnnxNetwork(
        program=program,
        inputs=tuple(writer.parts.inputs),
        outputs=tuple(outputs),
        tensors=writer.named,
        remarks=tuple(writer.parts.remarks),
        inexact=frozenset(writer.parts.inexact),
        runtime=runtime,
    )


def _spread_doubt(writer: Writer) -> None:
    """Carry doubt from tensors that the file does not have to the first ones behind them that it has."""
    named = {codes.name for codes in writer.named.values()}
    doubtful = set(writer.parts.midway)
    for op in writer.parts.ops:
        if doubtful.intersection(op.inputs):
            (writer.parts.inexact if op.output in named else doubtful).add(op.output)


def _output(writer: Writer, name: str) -> Port:
    value = writer.values.get(name)
    stored = writer.constants.get(name)
    if stored is not None and stored.dtype.name in CODE_DTYPES:
        ones, zeros, kind = np.ones(1, np.float32), np.zeros(1, np.int64), CODE_DTYPES[stored.dtype.name]
        one = Weights(stored.astype(np.int64), ones, zeros, 0, *kind)
        value = writer.stored(one, name, stored.ndim - 1)
    if isinstance(value, Codes):
        return Port(name, value.name, value.layout, None, 0)
    if isinstance(value, Doubled) and isinstance(value.source, Codes):
        return Port(name, value.source.name, value.source.layout, np.atleast_1d(value.scale), value.zero)
    if isinstance(value, Waiting | Curve):
        sources = value.operands if isinstance(value, Waiting) else (value.source,)
        value = next((held for held in sources if isinstance(held, Real)), None)
        text = f"output {name!r} is a float step behind the last integers, which stand for it"
        if isinstance(value, Real):
            writer.remark(value.codes.name, text)
    if isinstance(value, Real):
        return Port(name, value.codes.name, value.codes.layout, np.array([value.scale], np.float32), value.zero)
    require(isinstance(value, Scaled), f"{writer.model.name}: output {name!r} is not computed from integers")
    assert isinstance(value, Scaled)
    if value.bias is not None and value.low == -np.inf and value.high == np.inf:
        whole = np.rint(value.bias / value.scale).astype(np.int64)
        add_bias(writer, Codes(value.name, value.layout), _along(whole, value.layout))
        writer.remark(value.name, f"output {name!r} has its float bias rounded to whole sums")
    elif value.bias is not None or value.low > -np.inf or value.high < np.inf:
        writer.remark(value.name, f"output {name!r} takes float steps behind exact sums, which stand for it")
    return Port(name, value.name, value.layout, value.scale, 0)
