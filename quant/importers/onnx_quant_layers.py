"""Layers of a quantized ONNX file that become others: transposed convolutions, and rows of quantized tables."""

import math
from dataclasses import replace

import numpy as np

from accelsim.program import Gather
from quant.graph_compose import Transposed, sub_pixel
from quant.importers.onnx_geometry import transposed_window
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_moves import cut_part, reshaped
from quant.importers.onnx_quant_maps import real_numbers
from quant.importers.onnx_sums import convolve
from quant.importers.onnx_values import Codes, Grid, Moved, Real, Weights
from quant.importers.onnx_writer import Writer


def conv_transpose(writer: Writer, node: OnnxNode) -> None:
    """ConvTranspose: a convolution whose channels are shuffled into pixels once they are codes."""
    value, weights = writer.values.get(node.inputs[0]), writer.values.get(node.inputs[1])
    require(
        isinstance(value, Real) and isinstance(weights, Weights),
        "needs quantized input and weights; quantize both, as the QDQ format does",
    )
    assert isinstance(value, Real)
    assert isinstance(weights, Weights)
    sizes = writer.sample_of(value.codes)[1:]
    geometry = Transposed(*transposed_window(node, sizes, weights.values.shape[2:]))
    require(geometry.groups == 1 or weights.scale.size == 1, "has scales per channel in groups; quantize per tensor")
    require(weights.scale.size == 1 or weights.axis == 1, f"has weights with scales along axis {weights.axis}")
    layout = sub_pixel(weights.operands, sizes, geometry)
    phases = math.prod(geometry.stride)
    scales = weights.scale if weights.scale.size == 1 else np.repeat(weights.scale, phases)
    zeros = np.zeros(1, np.int64)
    inner = Weights(layout.kernel, scales, zeros, 0, weights.operand_bits, True)
    scale = np.float32(value.scale) * scales
    bias = real_numbers(writer, node, 2)
    attrs = {"pads": (*layout.before, *layout.after), "group": geometry.groups}
    sums = convolve(writer, replace(node, attrs=attrs), value.codes, value.zero, inner, None)
    rest = None if bias is None else np.repeat(bias.reshape(-1), phases)
    found = replace(sums, scale=scale, bias=rest, steps=1)  # remarked upon: float32 sums there
    if phases == 1 and not any(layout.cut) and tuple(writer.sample_of(found)[1:]) == geometry.size:
        writer.values[node.outputs[0]] = found
        return

    def shuffled(writer: Writer, node: OnnxNode, codes: Codes, name: str) -> Codes:
        return pixels(writer, codes, geometry, layout.cut, name)

    writer.values[node.outputs[0]] = Moved(found, ((node, shuffled),))


def pixels(writer: Writer, codes: Codes, geometry: Transposed, cut: tuple[int, ...], name: str) -> Codes:
    """Move the channels of every phase to its pixels and cut the map out."""
    nd, strides = len(geometry.stride), geometry.stride
    channels, *sizes = writer.sample_of(codes)
    count = channels // math.prod(strides)
    wide = reshaped(writer, codes, (count, *strides, *sizes), f"{name}.wide")
    order = (0, *(n for i in range(nd) for n in (1 + nd + i, 1 + i)))
    turned = replace(wide, layout=tuple(order.index(axis) for axis in wide.layout))
    joined = reshaped(writer, turned, (count, *(s * f for s, f in zip(sizes, strides, strict=True))), f"{name}.pixels")
    limits = [slice(None), *(slice(a, a + n) for a, n in zip(cut, geometry.size, strict=True))]
    return cut_part(writer, joined, limits, name)


def embedding(writer: Writer, node: OnnxNode, table: Weights, index: Codes) -> None:
    """Gather of rows from quantized weights."""
    require(table.scale.size == 1 and table.values.ndim == 2, "looks rows up in a table with several scales")
    require(node.attrs.get("axis", 0) == 0, "looks up along another axis than the first")
    source, name = writer.plain(index), writer.free(node.outputs[0])
    zero = int(table.zero.reshape(-1)[0])
    low, high = int(table.values.min()), int(table.values.max())
    grid = Grid(float(table.scale[0]), zero, table.bits, table.signed, low, high)
    shape = (*writer.tensor(source).shape, table.values.shape[1])
    writer.codes_tensor(name, shape, grid)
    writer.emit(Gather, (source.name,), name, rows=table.values, storage_bits=table.bits)
    codes = Codes(name, tuple(range(len(shape))), grid.scale, zero)
    writer.values[node.outputs[0]] = Real(codes, grid.scale, zero)
