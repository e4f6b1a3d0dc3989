"""Requantization in torch, written from the rules' documentation.

float32 rules use torch.float32, one operation after the other; fixed-point rules use int64, with shift amounts held to
what int64 defines and results held within ±2**62, beyond every clamp that follows.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WIDEST = 2**62
"""Results beyond this magnitude are held at it: no grid is that wide, so the clamp that follows decides."""

Rule = Callable[[Tensor, NDArray[np.float64], NDArray[np.float64] | None], Tensor]


def round_to_int(values: Tensor) -> Tensor:
    """Round float32 values to nearest, ties to even, as int64 within ±2**62."""
    return torch.round(values).to(torch.float64).clamp(-float(WIDEST), float(WIDEST)).to(torch.int64)


def float32(values: NDArray[np.float64]) -> Tensor:
    """Convert float64 numbers to a float32 tensor with one rounding."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).to(torch.float32)


def fixed_point(multiplier: float) -> tuple[int, int]:
    """Write a multiplier as ``mantissa · 2**(exponent - 31)``, mantissa in 31 bits, rounded half away from zero.

    What is smaller than 2**-32 becomes zero, as in TensorFlow Lite's ``QuantizeMultiplier``.
    """
    if multiplier == 0:
        return 0, 0
    fraction, exponent = math.frexp(multiplier)
    numerator, denominator = fraction.as_integer_ratio()
    mantissa = ((numerator << 32) + denominator) // (2 * denominator)
    if mantissa == 1 << 31:
        mantissa, exponent = 1 << 30, exponent + 1
    return (mantissa, exponent) if exponent >= -31 else (0, 0)


def shift_right_half_up(values: Tensor, shift: Tensor) -> Tensor:
    """Divide by ``2**shift``, ties toward +infinity; a negative shift multiplies.

    Values are within ±2**62, so that a shift of 63 or more gives zero.
    """
    right = shift.clamp(0, 62)
    nudge = torch.where(right > 0, torch.ones_like(right) << (right - 1).clamp(min=0), 0)
    rounded = torch.where(shift > 62, 0, (values + nudge) >> right)
    return torch.where(shift < 0, _shift_left(values, (-shift).clamp(min=0)), rounded)


def shift_right_half_away(values: Tensor, shift: Tensor) -> Tensor:
    """Divide by ``2**shift``, ties away from zero; a negative shift multiplies."""
    return torch.sign(values) * shift_right_half_up(values.abs(), shift)


def _shift_left(values: Tensor, shift: Tensor) -> Tensor:
    """Multiply by ``2**shift``, held within ±2**62."""
    left = shift.clamp(max=62)
    fits = values.abs() <= (torch.full_like(left, WIDEST) >> left)
    return torch.where(fits, values << left, torch.sign(values) * WIDEST)


def _float32_rne(acc: Tensor, multiplier: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Tensor:
    return round_to_int(acc.to(torch.float32) * float32(multiplier))


def _fbgemm(acc: Tensor, multiplier: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Tensor:
    if bias is None:
        raise ValueError("oracle: rule fbgemm adds a float bias, and the op has none; give Requantize.float_bias")
    biased = acc.to(torch.float32) + float32(bias)
    return round_to_int(biased * float32(multiplier))


def _mantissas(multiplier: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    pairs = torch.tensor([fixed_point(m) for m in multiplier.tolist()], dtype=torch.int64)
    return pairs[:, 0], pairs[:, 1]


def _doubling_high(acc: Tensor, mantissa: Tensor, exponent: Tensor) -> Tensor:
    """Shift left by a positive exponent, saturating at int32; then the high half of twice the product, ties up."""
    left = exponent.clamp(0, 32)  # beyond 32 every nonzero accumulator saturates just the same
    shifted = (acc.clamp(-(2**31), 2**31 - 1) << left).clamp(-(2**31), 2**31 - 1)
    return (shifted * mantissa + 2**30) >> 31


def _gemmlowp_double(acc: Tensor, multiplier: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Tensor:
    mantissa, exponent = _mantissas(multiplier)
    return shift_right_half_away(_doubling_high(acc, mantissa, exponent), (-exponent).clamp(min=0))


def _ruy_double_up(acc: Tensor, multiplier: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Tensor:
    mantissa, exponent = _mantissas(multiplier)
    return shift_right_half_up(_doubling_high(acc, mantissa, exponent), (-exponent).clamp(min=0))


def _single_away(acc: Tensor, multiplier: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Tensor:
    mantissa, exponent = _mantissas(multiplier)
    return shift_right_half_away(acc * mantissa, 31 - exponent)


def _single_up(acc: Tensor, multiplier: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Tensor:
    mantissa, exponent = _mantissas(multiplier)
    return shift_right_half_up(acc * mantissa, 31 - exponent)


def _pot_shift(acc: Tensor, multiplier: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Tensor:
    shifts = []
    for value in multiplier.tolist():
        fraction, exponent = math.frexp(value)
        if fraction != 0.5:
            raise ValueError(
                f"oracle: rule pot_shift needs multipliers that are powers of two (got {value}); round the scales first"
            )
        shifts.append(1 - exponent)
    return shift_right_half_up(acc, torch.tensor(shifts, dtype=torch.int64))


def requantize(
    acc: Tensor,
    multiplier: NDArray[np.float64],
    *,
    rule: str,
    zero_out: int,
    low: int,
    high: int,
    bias: NDArray[np.float64] | None = None,
) -> Tensor:
    """Return ``clamp(rule(acc, multiplier, bias) + zero_out, low, high)``.

    Parameters
    ----------
    acc
        int64, channels last, input zero point taken off.
    multiplier, bias
        ``[channels]`` or ``[1]``.
    rule
        A key of `RULES`.
    zero_out, low, high
        Zero point and clamp of the output grid.

    Raises
    ------
    ValueError
        For a rule of another name, a missing float bias, or what the rule cannot take: a multiplier, or an accumulator
        of more than 32 bits under a fixed-point rule.
    """
    if rule not in RULES:
        raise ValueError(f"oracle: unknown requantization rule {rule!r}; known are {', '.join(RULES)}")
    if rule not in ("float32_rne", "fbgemm") and int(acc.abs().max()) > 2**31:
        raise ValueError(
            f"oracle: rule {rule} holds 32 bits (got accumulator ±{int(acc.abs().max())}); use float32_rne"
        )
    return (RULES[rule](acc, multiplier, bias) + zero_out).clamp(low, high)


RULES: dict[str, Rule] = {
    "float32_rne": _float32_rne,
    "fbgemm": _fbgemm,
    "gemmlowp_double": _gemmlowp_double,
    "ruy_double_up": _ruy_double_up,
    "single_away": _single_away,
    "single_up": _single_up,
    "pot_shift": _pot_shift,
}
