"""Convolutions and products of a quantized ONNX file as exact sums."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Conv, MatMul, Reshape, conv_bound
from quant.importers.onnx_geometry import window
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_values import Codes, Scaled, Weights, map_layout
from quant.importers.onnx_writer import Writer

Array = NDArray[Any]
Ints = NDArray[np.int64]


def pair(values: tuple[int, ...], fill: int) -> tuple[int, int]:
    """Return (rows, columns) of geometry along one or two spatial axes."""
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def sides(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return padding as (top, left, bottom, right)."""
    return (*pair(before, 0), *pair(after, 0))


def convolve(writer: Writer, node: OnnxNode, x: Codes, zero: int, weights: Weights, bias: Ints | None) -> Scaled:
    """Write a Conv's sums of ``(x - zero) · (w - zero_w)``; the scale is left at one."""
    operands = weights.operands
    source = writer.as_map(x)
    require(operands.ndim == len(x.layout) + 1, f"has weights of shape {operands.shape} for samples of {x.layout} axes")
    require(weights.scale.size == 1 or weights.axis == 0, f"has weights with scales along axis {weights.axis}")
    found = window(node, writer.sample_of(x)[1:], operands.shape[2:])
    spatial = operands.reshape(*operands.shape[:2], *pair(operands.shape[2:], 1))
    groups = int(node.attrs.get("group", 1))
    options = {
        "stride": pair(found.stride, 1),
        "padding": sides(found.before, found.after),
        "dilation": pair(found.dilation, 1),
        "groups": groups,
    }
    require(groups >= 1 and operands.shape[0] % groups == 0, f"has {operands.shape[0]} channels in {groups} groups")
    size = writer.sample_of(x)[1:]
    pixels = tuple(
        (n + b + a - d * (k - 1) - 1) // s + 1
        for n, k, s, d, b, a in zip(
            size, found.kernel, found.stride, found.dilation, found.before, found.after, strict=True
        )
    )
    require(min(pixels) >= 1, f"has a window {found.kernel} larger than its input {size}")
    shape = (*pixels, operands.shape[0])
    name = _emit(writer, node, source, zero, _Layer(spatial.transpose(0, 2, 3, 1), weights, bias, shape, options))
    return Scaled(name, map_layout(len(shape)), np.ones(1, np.float32))


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a layer multiplies: weights ``[out, kh, kw, channels]``, bias as codes, sample shape and geometry."""

    kernel: Ints
    weights: Weights
    bias: Ints | None
    shape: tuple[int, ...]
    options: dict[str, Any]


def _emit(writer: Writer, node: OnnxNode, x: Codes, zero: int, layer: _Layer) -> str:
    kernel, weights, bias, shape, options = layer.kernel, layer.weights, layer.bias, layer.shape, layer.options
    out = kernel.shape[0]
    tensor = writer.tensor(x)
    folded = -zero * kernel.reshape(out, -1).sum(axis=1)
    total = folded if bias is None else folded + np.broadcast_to(bias.ravel(), (out,)).astype(np.int64)
    padded = any(options.get("padding", ()))
    bound = conv_bound(kernel, total, max(tensor.magnitude, abs(zero) if padded else 0))
    name = writer.free(f"{node.outputs[0]}.sums")
    writer.sums_tensor(name, shape, int(bound.max()))
    limit = 2 ** (weights.operand_bits - 1)
    narrow = np.min_scalar_type(-limit)
    taken = {op.name for op in writer.parts.ops}
    label = node.name if node.name and node.name not in taken else name
    return writer.emit(
        Conv,
        (x.name,),
        name,
        name=label,
        weight=np.ascontiguousarray(kernel).astype(narrow),
        bias=total,
        weight_bits=weights.operand_bits,
        storage_bits=weights.bits,
        bound=bound,
        pad_value=zero,
        **options,
    )


def multiply_stored(
    writer: Writer, node: OnnxNode, x: Codes, zero: int, weights: Weights, bias: Ints | None, transposed: bool
) -> Scaled:
    """Write the sums of a product with stored weights ``[k, n]``, ``[n, k]`` where `transposed`."""
    operands = weights.operands
    require(operands.ndim == 2, f"multiplies by weights of shape {operands.shape}; two axes are known")
    kernel = operands if transposed else operands.T
    columns = 0 if transposed else 1
    require(weights.scale.size == 1 or weights.axis == columns, f"has weights with scales along axis {weights.axis}")
    source = writer.plain(x)
    shape = writer.tensor(source).shape
    require(shape[-1] == kernel.shape[1], f"multiplies {shape} by weights of shape {operands.shape}")
    flat = source
    if len(shape) > 3:
        name = writer.free(f"{source.name}.rows")
        rows = (math.prod(shape[:-1]), shape[-1])
        writer.like(source, name, rows)
        writer.emit(Reshape, (source.name,), name, shape=rows)
        flat = Codes(name, (0, 1), x.scale, x.zero)
    inner = (*writer.tensor(flat).shape[:-1], kernel.shape[0])
    name = _emit(writer, node, flat, zero, _Layer(kernel[:, None, None, :], weights, bias, inner, {}))
    full = (*shape[:-1], kernel.shape[0])
    if full != inner:
        back = writer.free(f"{name}.map")
        tensor = writer.parts.tensors[name]
        writer.sums_tensor(back, full, tensor.high)
        name = writer.emit(Reshape, (name,), back, shape=full)
    return Scaled(name, tuple(range(len(full))), np.ones(1, np.float32))


def multiply(writer: Writer, node: OnnxNode, first: Codes, second: Codes, zeros: tuple[int, int]) -> Scaled:
    """Write the sums of a product of two computed tensors."""
    operands = [writer.plain(first), writer.plain(second)]
    tensors = [writer.tensor(codes) for codes in operands]
    a, b = (tensor.shape for tensor in tensors)
    require(len(a) == len(b) >= 2 and a[-1] == b[-2], f"multiplies samples of {a} by {b}")
    require(all(m % n == 0 for m, n in zip(a[:-2], b[:-2], strict=True)), f"broadcasts {a} against {b}")
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip(tensors, zeros, strict=True)]
    bound = a[-1] * reach[0] * reach[1]
    name = writer.free(f"{node.outputs[0]}.sums")
    shape = (*a[:-1], b[-1])
    writer.sums_tensor(name, shape, bound)
    writer.emit(MatMul, (operands[0].name, operands[1].name), name, zero_points=zeros, bound=bound)
    return Scaled(name, tuple(range(len(shape))), np.ones(1, np.float32))


def add_bias(writer: Writer, sums: Codes, bias: Array) -> Codes:
    """Add whole numbers per channel to the sums of a layer that nothing has read yet.

    Raises
    ------
    ValueError
        If the sums are no layer's, have been read, or the numbers do not run along the channels.
    """
    made = next((op for op in writer.parts.ops if op.output == sums.name), None)
    read = any(sums.name in op.inputs for op in writer.parts.ops)
    require(isinstance(made, Conv) and not read, f"adds numbers to {sums.name!r}, which is no layer's fresh sums")
    assert isinstance(made, Conv)
    full = bias.reshape((1,) * (len(sums.layout) + 1 - bias.ndim) + bias.shape)
    wide = [i for i, d in enumerate(full.shape) if d > 1]
    require(
        bias.dtype.kind in "iu" and wide in ([], [sums.layout[-1] + 1]), f"adds numbers of shape {bias.shape} to sums"
    )
    assert isinstance(made.bias, np.ndarray)
    assert isinstance(made.bound, np.ndarray)
    total = made.bias + full.reshape(-1).astype(np.int64)
    bound = made.bound - np.abs(made.bias) + np.abs(total)
    writer.parts.ops[writer.parts.ops.index(made)] = replace(made, bias=total, bound=bound)
    shape = writer.parts.tensors.pop(sums.name).shape
    writer.sums_tensor(sums.name, shape, int(bound.max()))
    return sums
