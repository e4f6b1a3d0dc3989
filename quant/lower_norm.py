"""Lowering of layer norm and RMS norm to the op `Norm`: integer sums, an integer square root, one division.

Widths: the normalized value has as many fraction bits as the wider of 12 and the output's width, and so do the gains;
the square root gets as many extra bits as fit (8 at most). Everything stays within 63 bits, and within 32 where the
recipe's requantization rule holds sums in 32. With f fraction bits and a root of at least R, the normalized value is
off by at most 2**-(f + 1) + |t|·(1/R) from that of the dequantized input.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import half_up
from accelsim.program import Norm, Tensor, norm_reach
from quant.build import Builder, Value
from quant.graph import Node
from quant.grid import Grid, quantize, symmetric
from quant.lower_linear import finish_sums
from quant.lower_mul import product_sums

FRACTION_BITS = 12
"""Least fraction bits of a normalized value and least bits of a gain."""

MAX_ROOT_SHIFT = 8
"""Most fraction bits of the square root."""


@dataclass(frozen=True)
class NormWidths:
    """Fraction bits of the normalized value and of the root, and the norm's epsilon in integer units."""

    fraction_bits: int
    root_shift: int
    epsilon: int


def norm_widths(source: Tensor, grid: Grid, eps: float, center: bool, fraction_bits: int) -> NormWidths:
    """Choose the largest root shift that keeps everything within 63 bits.

    Raises
    ------
    ValueError
        If even a shift of zero does not fit.
    """
    n, zero = source.shape[-1], grid.one_zero_point
    low, high = source.low - zero, source.high - zero
    widest = high - low if center else max(abs(low), abs(high))
    power = n**3 * widest**2 // (4 if center else 1)
    for shift in range(MAX_ROOT_SHIFT, -1, -1):
        epsilon = int(half_up(np.array(eps / grid.one_scale**2 * n**2 * 4.0**shift)))
        total = (power << 2 * shift) + epsilon
        root = math.isqrt((power << 2 * shift) // n + epsilon)
        if max(total, (n * widest << fraction_bits + shift + 1) + root, 2 * root) < 2**63:
            return NormWidths(fraction_bits, shift, epsilon)
    raise ValueError(
        f"layer {source.name!r}: a norm over {n} codes {source.low}..{source.high} leaves 63 bits; give it fewer bits"
    )


def lower_norm(builder: Builder, node: Node) -> None:
    """Lower a layer norm or RMS norm over the last axes."""
    value = _flat(builder, node)
    source = builder.tensors[value.name]
    n, center = source.shape[-1], node.op == "layer_norm"
    wanted = max(FRACTION_BITS, builder.bits(node.name))
    gain = node.params.get("weight", np.ones(n, dtype=np.float32)).reshape(-1)
    shift = node.params.get("bias", np.zeros(n, dtype=np.float32)).reshape(-1).astype(np.float64)
    gain_bits = min(wanted, 16)
    grid = builder.rounded_scale(symmetric(float(np.abs(gain).max()), gain_bits))
    gains = quantize(gain, grid)
    holds_32 = builder.recipe.rule not in ("float32_rne", "fbgemm")
    for fraction_bits in range(wanted, 0, -1):
        widths = norm_widths(source, value.on, node.attrs["eps"], center, fraction_bits)
        unit = grid.one_scale * 2.0**-fraction_bits
        bias = half_up(shift / unit).astype(np.int64)
        reach = norm_reach(n, fraction_bits, widths.epsilon) * int(np.abs(gains).max()) + int(np.abs(bias).max())
        if reach < 2**31 or not holds_32:
            break
    acc = builder.accumulator(f"{node.name}.acc", source.shape, max(1, reach), np.array([unit]))
    builder.emit(
        Norm(
            name=node.name,
            inputs=(value.name,),
            output=acc.name,
            gain=gains,
            bias=bias,
            gain_bits=gain_bits,
            zero_in=value.on.one_zero_point,
            epsilon=widths.epsilon,
            fraction_bits=widths.fraction_bits,
            root_shift=widths.root_shift,
            center=center,
        )
    )
    _finish(builder, node, acc)


def _flat(builder: Builder, node: Node) -> Value:
    """Return the input with the normalized axes as one last axis."""
    value = builder.plain(builder.value(node.inputs[0]))
    shape, ndim = builder.graph.shapes[node.inputs[0]], node.attrs["ndim"]
    if ndim == 1:
        return value
    flat = (*shape[:-ndim], math.prod(shape[-ndim:]))
    name = builder.reshaped(value.name, f"{node.name}.flat", flat)
    return Value(name, value.grid, tuple(range(len(flat))))


def _finish(builder: Builder, node: Node, acc: Tensor) -> None:
    shape = builder.graph.shapes[node.name]
    name = acc.name if acc.shape == shape else builder.reshaped(acc.name, f"{node.name}.whole", shape)
    scale: NDArray[np.float64] = np.atleast_1d(np.asarray(acc.scale, dtype=np.float64))
    finish_sums(builder, node, product_sums(builder, name, scale, tuple(range(len(shape)))))
