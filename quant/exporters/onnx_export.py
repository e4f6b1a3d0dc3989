"""Quantized networks as ONNX files that ONNX Runtime executes to the very same integers.

Layers of up to 8 bits become DequantizeLinear, Conv or Gemm, QuantizeLinear, which ONNX Runtime runs as integers by
rule ``float32_rne``; duplicated channels become a Gather in front of the expanded weights. Everything else is written
by integer operators, or by float32 ones in the order of our rules. What no operator gives is refused with the reason.

On x86-64 CPUs without VNNI, ONNX Runtime may saturate 16-bit pairs of unsigned 8-bit activations times 8-bit weights
(its documentation calls for ``reduce_range`` there); weights of 7 bits and fewer are not concerned.
"""

from typing import Any, Literal

import numpy as np

from accelsim.program import Conv, Op, Program, Requantize
from quant.build import Value
from quant.exporters.onnx_ops import WRITE
from quant.exporters.onnx_sums import quantized_conv
from quant.exporters.onnx_writer import FILE_VERSION, OPSET, Held, Writer, dtype_of, require
from quant.lower import Quantized

Ends = Literal["real", "codes"]


def export_onnx(quantized: Quantized, *, ends: Ends = "real") -> bytes:
    """Return a quantized network as an ONNX file.

    Parameters
    ----------
    quantized
        As `quant.pipeline.quantize_network` gives it.
    ends
        ``real``: the file takes float32 samples in the network's own layout, puts them onto the input's grid (half
        up, in double precision, as `Quantized.encode` does), and gives float32 outputs. ``codes``: it takes and gives
        integer codes, or exact sums, in that layout.

    Raises
    ------
    ValueError
        For a width, rule or op that ONNX has no integers for, naming it.
    """
    return export_tensors(quantized, ends=ends)[0]


def export_tensors(quantized: Quantized, *, ends: Ends = "real") -> tuple[bytes, dict[str, Held]]:
    """Return a quantized network as an ONNX file, and which tensor of the file stands for each of the Program's.

    Parameters and errors are those of `export_onnx`.
    """
    try:
        from onnx import checker
    except ImportError:
        raise ValueError("writing ONNX files needs the package onnx; install accelsim[onnx]") from None
    program = quantized.program
    require(program.has_values, f"Program {program.name!r} holds no weights; export the one with values")
    missing = sorted({op.kind for op in program.ops if type(op) not in WRITE})
    require(not missing, f"{program.name}: ONNX has no integer form for {', '.join(missing)} (integer square root)")
    writer = Writer(program)
    inputs = [_input(writer, value, ends) for value in quantized.inputs]
    fused = _pairs(program)
    done: set[str] = set()
    for op in program.ops:
        if op.name in done:
            continue
        if op.name in fused:
            quantized_conv(writer, op, fused[op.name])  # type: ignore[arg-type]
            done.add(fused[op.name].name)
        else:
            WRITE[type(op)](writer, op)
    outputs = [_output(writer, value, ends) for value in quantized.outputs]
    model = _model(writer, inputs, outputs)
    checker.check_model(model)
    return bytes(model.SerializeToString()), dict(writer.held)


def _pairs(program: Program) -> dict[str, Requantize]:
    """Return the requantization behind every layer whose sums nothing else reads, by the layer's name."""
    readers = program.consumers()
    found: dict[str, Requantize] = {}
    for op in program.ops:
        if not isinstance(op, Conv) or len(readers[op.output]) != 1 or op.output in program.outputs:
            continue
        then: Op = readers[op.output][0]
        near = isinstance(then, Requantize) and then.rule == "float32_rne" and not then.zero_in
        if near and program.tensors[op.output].bits <= 32:
            found[op.name] = then  # type: ignore[assignment]
    return found


def _input(writer: Writer, value: Value, ends: Ends) -> Any:
    tensor = writer.tensor(value.name)
    order = tuple(value.layout.index(axis) for axis in range(len(value.layout)))
    shape = ["batch", *(tensor.shape[axis] for axis in order)]
    helper = writer.helper
    writer.batch_of = writer.batch_of or f"input.{value.name}"
    name = f"input.{value.name}"
    if value.grid is None or ends == "codes":
        writer.keep(value.name, name, order)
        return helper.make_tensor_value_info(name, _kind(writer, dtype_of(tensor)), shape)
    wide = writer.cast(name, "float64")
    quotient = writer.node("Div", [wide, writer.constant(value.grid.one_scale, "float64", "scale")])
    whole = writer.node("Floor", [quotient])
    half = writer.constant(0.5, "float64", "half")
    up = writer.node("GreaterOrEqual", [writer.node("Sub", [quotient, whole]), half])
    codes = writer.node("Add", [whole, writer.cast(up, "float64")])
    codes = writer.node("Add", [codes, writer.constant(float(value.grid.one_zero_point), "float64", "zero")])
    limits = [writer.constant(float(v), "float64", "limit") for v in (value.grid.low, value.grid.high)]
    clipped = writer.node("Clip", [codes, *limits])
    writer.keep(value.name, writer.cast(clipped, dtype_of(tensor), value.name), order)
    return helper.make_tensor_value_info(name, _kind(writer, "float32"), shape)


def _kind(writer: Writer, dtype: str) -> int:
    return int(writer.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _output(writer: Writer, value: Value, ends: Ends) -> Any:
    tensor = writer.tensor(value.name)
    order = tuple(value.layout.index(axis) for axis in range(len(value.layout)))
    shape = ["batch", *(tensor.shape[axis] for axis in order)]
    source, name = writer.at(value.name, order), f"output.{value.name}"
    dtype = dtype_of(tensor)
    if ends == "codes":
        writer.node("Identity", [source], name)
        return writer.helper.make_tensor_value_info(name, _kind(writer, dtype), shape)
    whole = writer.cast(source, "float64")
    if tensor.zero_point:
        whole = writer.node("Sub", [whole, writer.constant(float(tensor.zero_point), "float64", "zero")])
    scale = writer.along(np.atleast_1d(np.asarray(tensor.scale, dtype=np.float64)), order, len(order) - 1)
    real = writer.node("Mul", [whole, writer.constant(scale, "float64", "scale")])
    writer.cast(real, "float32", name)
    return writer.helper.make_tensor_value_info(name, _kind(writer, "float32"), shape)


def _model(writer: Writer, inputs: list[Any], outputs: list[Any]) -> Any:
    helper = writer.helper
    graph = helper.make_graph(writer.nodes, writer.program.name, inputs, outputs, list(writer.constants.values()))
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=FILE_VERSION, producer_name="accelsim")
