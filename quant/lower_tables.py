"""Lowering of functions of one tensor: tables computed once, in float64, from every code of the input's grid.

The table's error is that of its two grids alone: entry q is f(scale·(q - zero)) rounded half up onto the output's grid.
A function that is undefined at a code (log of a negative number) has there the entry of the nearest code where it is
defined; where it is infinite, the end of the output's grid.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.program import Add, Clamp, Mul, Table, Tensor
from quant.build import Builder, Value
from quant.graph import Node
from quant.grid import Grid, dequantize, quantize
from quant.lower_constant import constant
from quant.run import FLOAT_OPS

MAX_TABLE_BITS = 16
"""Widest input of a table."""


def lower_function(builder: Builder, node: Node) -> None:
    """Lower a function of one tensor to a table."""
    value = builder.value(node.inputs[0])
    write_table(builder, node, value, builder.act_grid(node.name))


def write_table(builder: Builder, node: Node, value: Value, out: Grid) -> None:
    """Write the table of a node's function from a value onto a grid, as the node's tensor."""
    source = builder.tensors[value.name]
    entries = function_entries(node, value.on, source, out)
    low, high = int(entries.min()), int(entries.max())
    if node.name in builder.peers:  # what is on one grid has one range
        low, high = out.low, out.high
    builder.code_tensor(node.name, source.shape, out, low, high)
    table = Table(name=node.name, inputs=(value.name,), output=node.name, entries=entries, low_code=source.low)
    builder.emit_shared(node.name, table)
    builder.set(node, node.name, out, value.layout)


def function_entries(node: Node, grid: Grid, source: Tensor, out: Grid) -> NDArray[np.int64]:
    """Return the output code of every code of a tensor, from its lowest on.

    Raises
    ------
    ValueError
        If the tensor has more codes than a table of `MAX_TABLE_BITS` holds.
    """
    if source.high - source.low >= 2**MAX_TABLE_BITS:
        raise ValueError(
            f"layer {node.name!r}: {node.op} reads codes {source.low}..{source.high}, more than a table of "
            f"{MAX_TABLE_BITS} bits holds; give {source.name!r} fewer bits"
        )
    codes = np.arange(source.low, source.high + 1)
    real = torch.from_numpy(dequantize(codes, grid))
    values = _defined(FLOAT_OPS[node.op](node, {}, [real], None).numpy())
    low, high = (float(dequantize(np.array(end), out)[0]) for end in (out.low - 1, out.high + 1))
    return quantize(np.clip(values, low, high), out)


def _defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the nearest defined value where there is none."""
    known = np.flatnonzero(~np.isnan(values))
    if known.size == 0:
        return np.zeros_like(values)
    places = np.arange(values.size)
    right = np.minimum(np.searchsorted(known, places), known.size - 1)
    left = np.maximum(right - 1, 0)
    closer = np.abs(known[left] - places) < np.abs(known[right] - places)
    return np.asarray(values[np.where(closer, known[left], known[right])])


def lower_prelu(builder: Builder, node: Node) -> None:
    """Lower a leaky ReLU of learned slopes: one slope is a table; several are max(x, 0) + slope·min(x, 0) in codes."""
    value = builder.value(node.inputs[0])
    slopes = node.params["weight"]
    if slopes.size == 1:
        leaky = Node(node.name, "leaky_relu", node.inputs, {"slope": float(slopes[0])}, layer=node.layer)
        write_table(builder, leaky, value, builder.act_grid(node.name))
        return
    source, zero = builder.tensors[value.name], value.on.one_zero_point
    middle = min(max(zero, source.low), source.high)
    ends = {"above": (middle, source.high), "below": (source.low, middle)}
    for part, (low, high) in ends.items():
        name = f"{node.name}.{part}"
        builder.code_tensor(name, source.shape, value.on, low, high)
        builder.emit(Clamp(name=name, inputs=(value.name,), output=name, low=low, high=high))
    slope = constant(builder, f"{node.name}.slope", slopes.reshape(-1, *(1,) * (len(value.layout) - 1)), value.layout)
    bound = max(abs(source.low - zero), abs(middle - zero)) * builder.tensors[slope.name].magnitude
    acc = builder.accumulator(f"{node.name}.acc", source.shape, bound, value.on.scale * slope.on.scale)
    builder.emit(
        Mul(
            name=f"{node.name}.mul",
            inputs=(f"{node.name}.below", slope.name),
            output=acc.name,
            zero_points=(zero, slope.on.one_zero_point),
        )
    )
    out = builder.act_grid(node.name)
    builder.code_tensor(node.name, source.shape, out)
    builder.emit(
        Add(
            name=node.name,
            inputs=(f"{node.name}.above", acc.name),
            output=node.name,
            multipliers=(value.on.one_scale / out.one_scale, value.on.one_scale * slope.on.one_scale / out.one_scale),
            zero_points=(zero, 0),
            zero_out=out.one_zero_point,
            low=out.low,
            high=out.high,
        )
    )
    builder.set(node, node.name, out, value.layout)
