"""Runtimes' own ways to add, average and take softmax, in torch, written from the rules' documentation.

See the dicts of `accelsim.runtime_rules` for what each name promises. Fixed-point rules use int64, float32 rules
torch.float32, one operation after the other.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from accelsim.program import Add, AvgPool, Softmax
from quant.oracle_rules import RULES, fixed_point, float32, round_to_int, shift_right_half_away, shift_right_half_up

Q31 = 2**31
EIGHT_BIT_SHIFT = 20
SUM_SHIFT = 12


def _scaled(rule: str, values: Tensor, multiplier: float) -> Tensor:
    return RULES[rule](values, np.array([multiplier]), None)


def _times(values: Tensor, multiplier: float) -> Tensor:
    return values.to(torch.float32) * float32(np.array([multiplier]))


# --- add -------------------------------------------------------------------------------------------------------------


def _add_float32(op: Add, first: Tensor, second: Tensor) -> Tensor:
    parts = [_times(x, m) for x, m in zip((first, second), op.multipliers, strict=True)]
    signed = [part if sign > 0 else -part for part, sign in zip(parts, op.signs, strict=True)]
    return round_to_int(signed[0] + signed[1])


def _add_then_scale(op: Add, first: Tensor, second: Tensor) -> Tensor:
    left, right = (_times(x, s * m) for x, m, s in zip((first, second), op.multipliers, op.signs, strict=True))
    return round_to_int((left + right) * float32(np.array([op.multiplier_out])))


def _fused(values: Tensor, multiplier: float, addend: Tensor) -> Tensor:
    """Multiply and add with one rounding: where the float64 sum is not exact its last bit is made odd."""
    product = values.to(torch.float64) * float32(np.array([multiplier])).to(torch.float64)
    wide = addend.to(torch.float64)
    total = product + wide
    larger, smaller = (
        torch.where(product.abs() >= wide.abs(), product, wide),
        torch.where(product.abs() >= wide.abs(), wide, product),
    )
    left = smaller - (total - larger)
    up = torch.nextafter(total, torch.full_like(total, math.inf))
    down = torch.nextafter(total, torch.full_like(total, -math.inf))
    is_even = total.view(torch.int64) % 2 == 0
    odd = torch.where(left > 0, up, down)
    return torch.where((left != 0) & is_even, odd, total).to(torch.float32)


def _add_fused(op: Add, first: Tensor, second: Tensor) -> Tensor:
    offset = torch.tensor(op.multiplier_out, dtype=torch.float64).to(torch.float32)
    inner = _fused(second, op.signs[1] * op.multipliers[1], offset)
    return round_to_int(_fused(first, op.signs[0] * op.multipliers[0], inner))


def _add_gemmlowp(op: Add, first: Tensor, second: Tensor) -> Tensor:
    scaled = [
        sign * _scaled("gemmlowp_double", x * 2**EIGHT_BIT_SHIFT, m)
        for x, m, sign in zip((first, second), op.multipliers, op.signs, strict=True)
    ]
    return _scaled("gemmlowp_double", scaled[0] + scaled[1], op.multiplier_out)


def _add_xnnpack(op: Add, first: Tensor, second: Tensor) -> Tensor:
    factors = float32(np.array(op.multipliers)).to(torch.float64)
    shift = EIGHT_BIT_SHIFT - math.floor(math.log2(float(factors.max())))
    whole = torch.round(factors * 2.0**shift).to(torch.int64)
    total = op.signs[0] * whole[0] * first + op.signs[1] * whole[1] * second
    return shift_right_half_up(total, torch.full_like(total, shift))


ADDS: dict[str, Callable[[Add, Tensor, Tensor], Tensor]] = {
    "float32": _add_float32,
    "gemmlowp_double": _add_gemmlowp,
    "float32_fma": _add_fused,
    "float32_scaled": _add_then_scale,
    "xnnpack": _add_xnnpack,
}


# --- means -----------------------------------------------------------------------------------------------------------


def _factors(op: AvgPool, counts: Tensor) -> Tensor:
    return float32(op.multiplier / counts.numpy().astype(np.float64))


def _mean_gemmlowp(op: AvgPool, totals: Tensor, counts: Tensor) -> Tensor:
    mantissa, exponent = fixed_point(op.multiplier)
    result = torch.empty_like(totals)
    wide = counts.expand_as(totals)
    for count in counts.unique().tolist():
        up = max(min(math.floor(math.log2(count)), 32, 31 + exponent), 0)
        divided, left = mantissa * 2**up // count, exponent - up
        held = (totals * 2 ** max(left, 0)).clamp(-Q31, Q31 - 1)
        high = (held * divided + 2**30) >> 31
        here = shift_right_half_away(high, torch.full_like(high, max(-left, 0)))
        result = torch.where(wide == count, here, result)
    return result + op.zero_out


def _mean_shifted(op: AvgPool, totals: Tensor, counts: Tensor) -> Tensor:
    zeros, raw = counts * op.zero_in, totals + counts * op.zero_in
    factors = float32(np.array(op.multiplier)) / counts.to(torch.float32)
    offsets = torch.tensor(op.zero_out).to(torch.float32) - zeros.to(torch.float32) * factors
    return round_to_int(raw.to(torch.float32) * factors + offsets)


def _divide_away(op: AvgPool, totals: Tensor, counts: Tensor) -> Tensor:
    half = torch.div(counts, 2, rounding_mode="floor")
    towards = torch.where(totals > 0, totals + half, totals - half)
    return torch.div(towards, counts, rounding_mode="trunc") + op.zero_out


def window_means(op: AvgPool, taps: Iterable[Tensor], counts: Tensor) -> Tensor:
    """Return the codes of rule ``float32_window`` from a window's places one after the other, zero points off."""
    total: Tensor | None = None
    for tap in taps:
        value = _times(tap, op.multiplier)
        total = value if total is None else total + value
    assert total is not None
    mean = total / counts.to(torch.float32) / float32(np.array([op.divisor]))
    return round_to_int(mean + torch.tensor(float(op.zero_out), dtype=torch.float32))


MEANS: dict[str, Callable[[AvgPool, Tensor, Tensor], Tensor]] = {
    "float32_rne": lambda op, totals, counts: (
        round_to_int(totals.to(torch.float32) * _factors(op, counts)) + op.zero_out
    ),
    "float32_shifted": _mean_shifted,
    "divide_away": _divide_away,
    "gemmlowp_double": lambda op, totals, counts: _scaled("gemmlowp_double", totals, op.multiplier) + op.zero_out,
    "ruy_double_up": lambda op, totals, counts: _scaled("ruy_double_up", totals, op.multiplier) + op.zero_out,
    "gemmlowp_mean": _mean_gemmlowp,
}


# --- softmax ---------------------------------------------------------------------------------------------------------


def _doubling_high(a: Tensor, b: Tensor | int) -> Tensor:
    return (a * b + 2**30) >> 31


def _softmax_gemmlowp(op: Softmax, powers: Tensor) -> Tensor:
    shift = torch.tensor(SUM_SHIFT)
    totals = shift_right_half_up(powers, shift).sum(dim=-1, keepdim=True)
    headroom = torch.tensor([32 - int(t).bit_length() for t in totals.flatten()]).reshape(totals.shape)
    halved = (totals << headroom) >> 1  # (1 + x) / 2 in Q0.31, x the fraction behind the leading one
    inverse = 1515870810 + _doubling_high(halved, -1010580540)
    for _ in range(3):
        inverse = inverse + (_doubling_high(inverse, 2**29 - _doubling_high(halved, inverse)) << 2)
    inverse = (inverse << 1).clamp(max=Q31 - 1)
    return shift_right_half_up(_doubling_high(inverse, powers), SUM_SHIFT - headroom + 31 - op.out_bits)


def _softmax_float32(op: Softmax, powers: Tensor) -> Tensor:
    total = torch.zeros_like(powers[..., :1])
    for column in range(powers.shape[-1]):
        total = total + powers[..., column : column + 1]
    inverse = 1.0 / (total * 2.0**-op.out_bits)
    return torch.floor((powers * inverse).to(torch.float64) + 0.5).to(torch.int64)


def runtime_softmax(op: Softmax, x: Tensor) -> Tensor:
    """Return the codes of a softmax by a runtime's rule, zero point included."""
    table = torch.from_numpy(np.asarray(op.exponentials))
    distance = (x.amax(dim=-1, keepdim=True) - x).clamp(max=table.numel() - 1)
    return SOFTMAXES[op.rule](op, table[distance]).clamp(max=2**op.out_bits - 1) + op.zero_out


SOFTMAXES: dict[str, Callable[[Softmax, Tensor], Tensor]] = {
    "gemmlowp": _softmax_gemmlowp,
    "float32": _softmax_float32,
}
