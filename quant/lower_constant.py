"""Lowering of stored tensors: learned positions, rotary angles, class tokens, slopes, initial states."""

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Constant
from quant.build import Builder, Value
from quant.graph import Node
from quant.grid import Grid, quantize, symmetric, unsigned

CONSTANT_BITS = 8
"""Least width of stored tensors, that of weights in the first and last layer."""


def constant_grid(builder: Builder, values: NDArray[np.floating], bits: int) -> Grid:
    """Return the grid of stored values: over all of them, never clipped."""
    alpha = float(np.abs(values).max(initial=0.0))
    wide = max(bits, CONSTANT_BITS)
    return builder.rounded_scale(unsigned(alpha, wide) if values.min(initial=0.0) >= 0 else symmetric(alpha, wide))


def constant(
    builder: Builder,
    name: str,
    values: NDArray[np.floating],
    layout: tuple[int, ...],
    grid: Grid | None = None,
) -> Value:
    """Write stored values as a tensor of codes; equal ones are stored once.

    Parameters
    ----------
    builder, name
        Where, and under which name.
    values
        In the float graph's order of axes, batch apart.
    layout
        Order of axes in the Program.
    grid
        Their grid, all of whose codes the tensor then declares; `constant_grid` at the width of activations by default.
    """
    own = constant_grid(builder, values, builder.recipe.act_bits) if grid is None else grid
    codes = quantize(values, own).transpose(layout)
    low, high = (int(codes.min()), int(codes.max())) if grid is None else (own.low, own.high)
    key = (codes.shape, codes.tobytes(), own.one_scale, own.one_zero_point, own.bits, low, high)
    grid = own
    if key not in builder.constants:
        tensor = builder.code_tensor(name, codes.shape, grid, low, high)
        narrow = np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high))
        stored = codes.astype(narrow if narrow.kind in "iu" else np.int64)
        builder.emit(Constant(name=name, inputs=(), output=tensor.name, values=stored))
        builder.constants[key] = name
    return Value(builder.constants[key], grid, layout)


def lower_constant(builder: Builder, node: Node) -> None:
    """Write a stored tensor in the order of axes of what it is combined with."""
    values = node.params["value"]
    layout = tuple(range(values.ndim))
    for reader in builder.graph.consumers(node.name):
        for name in reader.inputs:
            known = builder.values.get(name)
            if known is not None and len(known.layout) == values.ndim:
                layout = known.layout
    grid = constant_grid(builder, values, builder.bits(node.name))
    value = constant(builder, node.name, values, layout, grid)
    builder.set(node, value.name, value.grid, value.layout)
