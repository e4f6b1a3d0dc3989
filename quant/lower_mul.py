"""Lowering of products of two activations, of activations with stored numbers, of embeddings and of means.

Products are exact sums (`Mul`, `MatMul`) that are requantized once. A product that only an addition reads is not
requantized at all: the addition takes the exact products. Multiplying by one positive number changes a grid's scale and
no code.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Add, AvgPool, Concat, Duplicate, Gather, MatMul, Mul, Requantize, Tensor
from quant.build import Builder, Value
from quant.clip import ClipInput
from quant.graph import Node
from quant.grid import Grid, quantize, symmetric
from quant.lower_constant import constant
from quant.lower_linear import Sums, clamp_codes, finish_sums, fused_activation, output_grid
from quant.lower_plain import lower_avg_pool

Layout = tuple[int, ...]


# --- sums and their grids --------------------------------------------------------------------------------------------


def product_sums(builder: Builder, name: str, scale: NDArray[np.float64], layout: Layout) -> Sums:
    """Return sums without a bias, as the recipe's requantization rule takes them."""
    return Sums(name, scale, layout, builder.no_bias().get("float_bias"))


def exact_value(builder: Builder, name: str, layout: Layout) -> Value:
    """Return exact sums as a value on the grid of their own unit, which additions take as they are."""
    acc = builder.tensors[name]
    scale = np.atleast_1d(np.asarray(acc.scale, dtype=np.float64))
    return Value(name, Grid(acc.bits, True, scale, np.zeros(1, dtype=np.int64), acc.low, acc.high), layout)


def multiply(builder: Builder, name: str, first: Value, second: Value) -> Tensor:
    """Write the exact product of two values of one layout as an accumulator."""
    tensors = [builder.tensors[value.name] for value in (first, second)]
    zeros = (first.on.one_zero_point, second.on.one_zero_point)
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip(tensors, zeros, strict=True)]
    shape = tuple(np.broadcast_shapes(tensors[0].shape, tensors[1].shape))
    acc = builder.accumulator(f"{name}.acc", shape, max(1, reach[0] * reach[1]), first.on.scale * second.on.scale)
    builder.emit(Mul(name=f"{name}.mul", inputs=(first.name, second.name), output=acc.name, zero_points=zeros))
    return acc


def add_onto(
    builder: Builder,
    name: str,
    operands: tuple[Value, Value],
    grid: Grid,
    *,
    factors: tuple[float, float] = (1.0, 1.0),
    clamp: tuple[int, int] | None = None,
    output: str = "",
) -> None:
    """Write op `name`: the sum of two values of one layout, each times a factor, rounded once onto a grid.

    The tensor is `output`, or has the op's name.
    """
    low, high = (grid.low, grid.high) if clamp is None else clamp
    shape = np.broadcast_shapes(*(builder.tensors[value.name].shape for value in operands))
    builder.code_tensor(output or name, tuple(shape), grid, low, high)
    first, second = (
        abs(factor) * value.on.one_scale / grid.one_scale for value, factor in zip(operands, factors, strict=True)
    )
    builder.emit(
        Add(
            name=name,
            inputs=(operands[0].name, operands[1].name),
            output=output or name,
            multipliers=(first, second),
            zero_points=(operands[0].on.one_zero_point, operands[1].on.one_zero_point),
            zero_out=grid.one_zero_point,
            low=low,
            high=high,
            signs=(-1 if factors[0] < 0 else 1, -1 if factors[1] < 0 else 1),
        )
    )


def _add(
    builder: Builder, node: Node, operands: tuple[Value, Value], factors: tuple[float, float] = (1.0, 1.0)
) -> None:
    """Write a node as a sum of two values, with the ReLU that follows."""
    target, limits = fused_activation(builder, node)
    grid = output_grid(builder, target)
    clamp = clamp_codes(grid, limits)
    add_onto(builder, node.name, operands, grid, factors=factors, clamp=clamp, output=target.name)
    builder.set(target, target.name, grid, operands[0].layout)


def _added_up(builder: Builder, node: Node) -> bool:
    """Tell whether an addition alone reads a node's result."""
    reader = builder.graph.sole_consumer(node.name)
    return reader is not None and reader.op in ("add", "sub")


def finish_product(builder: Builder, node: Node, acc: Tensor, layout: Layout) -> None:
    """Requantize exact products, or leave them to the addition that alone reads them."""
    if _added_up(builder, node):
        value = exact_value(builder, acc.name, layout)
        builder.set(node, value.name, value.grid, layout)
        return
    finish_sums(builder, node, product_sums(builder, acc.name, np.atleast_1d(np.asarray(acc.scale)), layout))


# --- element by element ----------------------------------------------------------------------------------------------


def lower_mul(builder: Builder, node: Node) -> None:
    """Multiply two activations (gates, squeeze-and-excite factors), or one by itself."""
    first, second = (builder.value(name) for name in (*node.inputs, *node.inputs)[:2])
    sizes = [math.prod(builder.tensors[value.name].shape) for value in (first, second)]
    layout = (second if sizes[1] > sizes[0] else first).layout
    first, second = (builder.in_layout(value, layout) for value in (first, second))
    finish_product(builder, node, multiply(builder, node.name, first, second), layout)


def lower_neg(builder: Builder, node: Node) -> None:
    """Negate codes: a product with the stored code -1, on the same scale."""
    _turned(builder, node, -1.0)


def _turned(builder: Builder, node: Node, factor: float) -> None:
    """Multiply by a negative number: codes times -1, under the scale times its magnitude."""
    value = builder.value(node.inputs[0])
    source, zero = builder.tensors[value.name], value.on.one_zero_point
    minus = constant(
        builder,
        f"{node.name}.minus",
        np.full((1,) * len(value.layout), -1.0),
        value.layout,
        symmetric(1.0, 2),
    )
    grid = _codes_grid(zero - source.high, zero - source.low, value.on.one_scale * abs(factor))
    builder.code_tensor(node.name, source.shape, grid)
    builder.emit(
        Mul(name=node.name, inputs=(value.name, minus.name), output=node.name, zero_points=(zero, 0))
    )  # fmt: skip
    builder.set(node, node.name, grid, value.layout)


def _codes_grid(low: int, high: int, scale: float) -> Grid:
    """Return the grid of codes low..high without zero point."""
    signed = low < 0
    bits = max(high.bit_length(), (-low - 1).bit_length() if signed else 0) + signed
    return Grid(max(2, bits), signed, np.array([scale]), np.zeros(1, dtype=np.int64), low, high)


def lower_scale(builder: Builder, node: Node) -> None:
    """Multiply by one number, or by one per channel."""
    factors = node.params["weight"].astype(np.float64)
    value = builder.value(node.inputs[0])
    if factors.size == 1 and builder.recipe.rule != "pot_shift" and factors[0] != 0:
        factor = float(factors[0])
        if factor < 0:
            _turned(builder, node, factor)
            return
        grid = replace(value.on, scale=value.on.scale * factor)
        builder.reshaped(value.name, node.name, builder.tensors[value.name].shape, grid.one_scale)
        builder.set(node, node.name, grid, value.layout)
    elif (factors >= 0).all() and (factors.size == 1 or value.layout[-1] == node.attrs["axis"]):
        _requantize_channels(builder, node, factors)
    else:
        acc = multiply(builder, node.name, value, _per_channel(builder, node, "weight", value))
        finish_product(builder, node, acc, value.layout)


def _requantize_channels(builder: Builder, node: Node, factors: NDArray[np.float64]) -> None:
    """Multiply each channel by a positive number on its way to the output's grid: no rounding of the factors."""
    value = builder.value(node.inputs[0])
    target, limits = fused_activation(builder, node)
    grid = output_grid(builder, target)
    low, high = clamp_codes(grid, limits)
    builder.code_tensor(target.name, builder.tensors[value.name].shape, grid, low, high)
    builder.emit(
        Requantize(
            name=f"{target.name}.requantize",
            inputs=(value.name,),
            output=target.name,
            multiplier=value.on.one_scale * factors / grid.one_scale,
            low=low,
            high=high,
            zero_in=value.on.one_zero_point,
            zero_out=grid.one_zero_point,
        )
    )
    builder.set(target, target.name, grid, value.layout)


def _per_channel(builder: Builder, node: Node, name: str, value: Value) -> Value:
    """Return a node's parameter as a stored tensor that broadcasts along its axis."""
    shape = [1] * len(value.layout)
    shape[node.attrs["axis"]] = node.params[name].size
    return constant(builder, f"{node.name}.{name}", node.params[name].reshape(shape), value.layout)


def lower_affine(builder: Builder, node: Node) -> None:
    """Multiply and add per channel: exact products with stored factors, plus stored offsets, rounded once."""
    value = builder.value(node.inputs[0])
    offset = _per_channel(builder, node, "bias", value)
    factors = node.params["weight"]
    if (factors == factors[0]).all():
        _add(builder, node, (value, offset), (float(factors[0]), 1.0))
        return
    acc = multiply(builder, node.name, value, _per_channel(builder, node, "weight", value))
    _add(builder, node, (exact_value(builder, acc.name, value.layout), offset))


def lower_rotary(builder: Builder, node: Node) -> None:
    """Turn the halves of each head against each other: two exact products with stored angles, added, rounded once.

    The second product's channels are gathered crosswise; the minus of the first half is in the stored sines.
    """
    value = builder.plain(builder.value(node.inputs[0]))
    source, size = builder.tensors[value.name], builder.tensors[value.name].shape[-1]
    half = size // 2
    zeros = np.zeros(size, dtype=np.int64)
    crossed = f"{node.name}.crossed"
    builder.tensors[crossed] = replace(source, name=crossed)
    builder.emit(
        Duplicate(
            name=crossed,
            inputs=(value.name,),
            output=crossed,
            source=np.roll(np.arange(size, dtype=np.int64), -half),
            offset=zeros,
            shift=zeros,
            low=source.low,
            high=source.high,
        )
    )
    signs = np.where(np.arange(size) < half, -1.0, 1.0)
    straight = multiply(
        builder, f"{node.name}.cos", value, constant(builder, f"{node.name}.cos", node.params["cos"], value.layout)
    )
    turned = multiply(
        builder,
        f"{node.name}.sin",
        Value(crossed, value.grid, value.layout),
        constant(builder, f"{node.name}.sin", node.params["sin"] * signs, value.layout),
    )
    parts = (exact_value(builder, straight.name, value.layout), exact_value(builder, turned.name, value.layout))
    _add(builder, node, parts)


# --- matrix products -------------------------------------------------------------------------------------------------


def lower_matmul(builder: Builder, node: Node) -> None:
    """Multiply two activations as matrices."""
    rank = len(builder.graph.shapes[node.name])
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    first, second = (builder.value(name) for name in node.inputs)
    transpose = second.layout == swapped
    first, second = builder.plain(first), second if transpose else builder.plain(second)
    acc = matrix_product(builder, node.name, _with_heads(builder, node, first, second), second, transpose)
    finish_product(builder, node, acc, tuple(range(rank)))


def matrix_product(builder: Builder, name: str, first: Value, second: Value, transpose: bool) -> Tensor:
    """Write the exact matrix product of two values as an accumulator."""
    left, right = (builder.tensors[value.name] for value in (first, second))
    zeros = (first.on.one_zero_point, second.on.one_zero_point)
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip((left, right), zeros, strict=True)]
    bound = left.shape[-1] * reach[0] * reach[1]
    shape = (*left.shape[:-1], right.shape[-2 if transpose else -1])
    acc = builder.accumulator(f"{name}.acc", shape, max(1, bound), first.on.scale * second.on.scale)
    builder.emit(
        MatMul(
            name=name,
            inputs=(first.name, second.name),
            output=acc.name,
            zero_points=zeros,
            transpose=transpose,
            bound=bound,
        )
    )
    return acc


def _with_heads(builder: Builder, node: Node, first: Value, second: Value) -> Value:
    """Repeat the first operand along leading axes that only the second one has in full."""
    for axis in range(len(first.layout) - 2):
        left, right = (builder.tensors[value.name].shape for value in (first, second))
        if left[axis] == 1 and right[axis] > 1:
            name = f"{node.name}.heads{axis}"
            shape = (*left[:axis], right[axis], *left[axis + 1 :])
            builder.tensors[name] = replace(builder.tensors[first.name], name=name, shape=shape)
            builder.emit(Concat(name=name, inputs=(first.name,) * right[axis], output=name, axis=axis))
            first = Value(name, first.grid, first.layout)
    return first


# --- embeddings and means --------------------------------------------------------------------------------------------


def lower_embedding(builder: Builder, node: Node) -> None:
    """Look rows up in a table stored on the output's grid, whose threshold comes from the whole table."""
    indices = builder.plain(builder.value(node.inputs[0]))
    table = node.params["weight"]
    bits = builder.recipe.act_bits_of(node.name, builder.recipe.act_bits)
    flat = table.reshape(1, -1)
    alpha = builder.recipe.act_clip(ClipInput(flat, np.abs(flat).max(axis=1).astype(np.float64), bits))
    grid = builder.rounded_scale(symmetric(alpha, bits))
    rows = quantize(table, grid)
    shape = builder.graph.shapes[node.name]
    builder.code_tensor(node.name, shape, grid)
    builder.emit(
        Gather(
            name=node.name,
            inputs=(indices.name,),
            output=node.name,
            rows=rows.astype(np.min_scalar_type(-(2 ** (bits - 1)))),
            storage_bits=bits,
        )
    )
    builder.set(node, node.name, grid, tuple(range(len(shape))))


def lower_mean(builder: Builder, node: Node) -> None:
    """Lower a mean: over a whole map a pooling window, over other axes likewise after bringing them first, as one."""
    value = builder.value(node.inputs[0])
    axes = sorted(node.attrs["axes"])
    if len(value.layout) == 3 and axes == [1, 2]:
        lower_avg_pool(builder, node)
        return
    kept = tuple(axis for axis in range(len(value.layout)) if axis not in axes)
    value = builder.in_layout(value, (*axes, *kept))
    shape = builder.tensors[value.name].shape
    count = math.prod(shape[: len(axes)])
    flat = builder.reshaped(value.name, f"{node.name}.flat", (count, math.prod(shape[len(axes) :])))
    grid = builder.act_grid(node.name)
    pooled = f"{node.name}.pooled"
    builder.code_tensor(pooled, (1, builder.tensors[flat].shape[1]), grid)
    builder.emit(
        AvgPool(
            name=pooled,
            inputs=(flat,),
            output=pooled,
            kernel=(1, count),
            stride=(1, 1),
            multiplier=value.on.one_scale / grid.one_scale,
            zero_in=value.on.one_zero_point,
            zero_out=grid.one_zero_point,
            low=grid.low,
            high=grid.high,
        )
    )
    out = builder.graph.shapes[node.name]
    builder.reshaped(pooled, node.name, out)
    builder.set(node, node.name, grid, tuple(range(len(out))))
