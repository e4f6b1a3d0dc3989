"""Lowering of softmax and attention.

Scores are exact matrix products (plus a stored bias, if any), requantized to a grid of their own; the softmax of their
codes is the op `Softmax`, its table of exponentials computed here; probabilities have as many bits as activations and
enter the second product. Masks are exact: hidden places count as zero, whatever their score.

With b output bits, n columns and exponentials of e = b + 2 + ceil(log2 n) fraction bits (at most 30), each probability
is within ``2**-b · (1/2 + 1/4) + 2**-(e + 1)`` of the softmax of the dequantized scores, one step more at 1, which the
output's grid does not hold.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import half_up
from accelsim.program import Softmax, Tensor
from quant.build import Builder, Value
from quant.graph import Node
from quant.grid import Grid, unsigned
from quant.lower_constant import constant, constant_grid
from quant.lower_mul import add_onto, exact_value, finish_product, matrix_product

SCORE_BITS = 12
"""Least width of attention scores unless a recipe names them (``node:scores``): a step of 8 bits is a factor of e^0.1
to e^0.3 in a probability, which costs more accuracy than all other activations together."""

MAX_EXPONENTIAL_BITS = 30


def exponentials(scale: float, columns: int, out_bits: int, span: int) -> NDArray[np.int64]:
    """Return exp(-d · scale) in fixed point for d = 0, 1, .. as far as it is not zero.

    Parameters
    ----------
    scale
        Of the scores.
    columns
        Scores per row.
    out_bits
        Of the probabilities.
    span
        Largest possible distance of two codes.
    """
    bits = min(MAX_EXPONENTIAL_BITS, out_bits + 2 + max(1, math.ceil(math.log2(max(columns, 2)))))
    zero = math.floor(math.log(2) * (bits + 1) / scale) + 1  # the first distance whose exponential rounds to zero
    distance = np.arange(min(span, zero) + 1)
    return half_up(np.exp(-distance * scale) * 2.0**bits).astype(np.int64)


def write_softmax(
    builder: Builder,
    name: str,
    scores: Value,
    bits: int,
    causal: bool = False,
    mask: NDArray[np.int64] | None = None,
) -> Value:
    """Write the softmax of codes over their last axis as tensor `name`; the result has scale 2**-bits."""
    source = builder.tensors[scores.name]
    table = exponentials(scores.on.one_scale, source.shape[-1], bits, source.high - source.low)
    grid = replace(unsigned(1.0, bits), scale=np.array([2.0**-bits]))
    builder.code_tensor(name, source.shape, grid)
    builder.emit(
        Softmax(
            name=f"{name}.softmax",
            inputs=(scores.name,),
            output=name,
            exponentials=table,
            out_bits=bits,
            causal=causal,
            mask=mask,
        )
    )
    return Value(name, grid, scores.layout)


def lower_softmax(builder: Builder, node: Node) -> None:
    """Lower a softmax along any axis, which is brought last."""
    value, axis = builder.value(node.inputs[0]), node.attrs["axis"]
    if value.layout[-1] != axis:
        value = builder.in_layout(value, (*(a for a in sorted(value.layout) if a != axis), axis))
    probs = write_softmax(builder, node.name, value, builder.bits(node.name))
    builder.set(node, probs.name, probs.grid, probs.layout)


def lower_attention(builder: Builder, node: Node) -> None:
    """Lower scaled dot-product attention; key and value heads may serve a run of query heads each."""
    query, key, value = (builder.plain(builder.value(name)) for name in node.inputs)
    products = matrix_product(builder, f"{node.name}.scores", query, key, transpose=True)
    scores = _scores(builder, node, products)
    bits = builder.recipe.act_bits_of(f"{node.name}:probs", builder.recipe.act_bits)
    mask = node.params["mask"].astype(np.int64) if "mask" in node.params else None
    probs = write_softmax(builder, f"{node.name}.probs", scores, bits, bool(node.attrs["causal"]), mask)
    mixed = matrix_product(builder, f"{node.name}.values", probs, value, transpose=False)
    finish_product(builder, node, mixed, (0, 1, 2))


def _scores(builder: Builder, node: Node, products: Tensor) -> Value:
    """Bring q·k' onto the grid of scores: scale folded into the multiplier, stored bias added."""
    part = f"{node.name}:scores"
    unit = np.asarray(products.scale, dtype=np.float64).reshape(-1) * node.attrs["scale"]
    grid = builder.act_grid(part, builder.bits(part, SCORE_BITS))
    name = f"{node.name}.scores"
    if "bias" in node.params:
        exact = exact_value(builder, products.name, (0, 1, 2))
        scaled = Value(exact.name, replace(exact.on, scale=unit), exact.layout)
        stored = node.params["bias"]
        bias = constant(builder, f"{node.name}.bias", stored, (0, 1, 2), constant_grid(builder, stored, grid.bits))
        add_onto(builder, f"{name}.biased", (scaled, bias), grid, output=name)
    else:
        grid = _reachable(builder, grid, float(unit[0]))
        builder.requantize_sums(products, unit, name, grid, **builder.no_bias())
    return Value(name, grid, (0, 1, 2))


def _reachable(builder: Builder, grid: Grid, unit: float) -> Grid:
    """Round the grid up so that its scale is a power of two times the sums' unit, where the rule is a shift."""
    if builder.recipe.rule != "pot_shift":
        return grid
    return replace(grid, scale=unit * 2.0 ** np.ceil(np.log2(grid.scale / unit)))
