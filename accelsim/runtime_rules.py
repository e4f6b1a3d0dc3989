"""Rules by which inference runtimes add, average and take softmax of quantized tensors.

Each rule has a scalar form on Python numbers, which is the definition, and an array form that must be equal to it.
The float rules take float32 steps in the order written, one rounding each. The fixed-point ones are those of gemmlowp
(fixedpoint/fixedpoint.h) and TensorFlow Lite (kernels/internal/common.h); each rule was found equal to the runtime it
names by running that runtime, on all kernels sets that `quant.importers.tflite_kernels` lists.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES, fixed_point, shift_half_away, shift_half_up
from accelsim.float_steps import fused_multiply_add, fused_multiply_add_scalar

Ints = NDArray[np.int64]
Pair = tuple[Any, Any]
Zeros = tuple[int, int]
f32 = np.float32

ADD_HEADROOM_BITS = 20
"""Left shift of 8-bit operands before a fixed-point add (TensorFlow Lite kernels/add.cc)."""

GEMMLOWP_SUM_BITS = 12
"""Integer bits of a fixed-point softmax's sum of exponentials: fewer than 2**12 entries."""


@dataclass(frozen=True)
class AddRule:
    """How two scaled codes are added.

    Parameters
    ----------
    doc
        What it computes and whose it is.
    scalar
        ``(values, multipliers, multiplier_out, signs) -> int`` on Python integers, zero points taken off.
    array
        The same on int64 arrays.
    """

    doc: str
    scalar: Callable[[Pair, tuple[float, float], float, tuple[int, int]], int]
    array: Callable[[Pair, tuple[float, float], float, tuple[int, int]], Ints]


def _round_float32(values: Any) -> Any:
    return np.clip(np.rint(values).astype(np.float64), -(2.0**62), 2.0**62).astype(np.int64)


def _add_float32(values: Pair, multipliers: tuple[float, float], out: float, signs: tuple[int, int]) -> Any:
    parts = [np.asarray(v).astype(f32) * f32(sign * m) for v, m, sign in zip(values, multipliers, signs, strict=True)]
    return _round_float32(parts[0] + parts[1])


def _add_gemmlowp(values: Pair, multipliers: tuple[float, float], out: float, signs: tuple[int, int]) -> int:
    scale = REQUANT_RULES["gemmlowp_double"].scalar
    scaled = [
        sign * scale(v << ADD_HEADROOM_BITS, m, 0.0) for v, m, sign in zip(values, multipliers, signs, strict=True)
    ]
    return scale(sum(scaled), out, 0.0)


def _add_gemmlowp_array(values: Pair, multipliers: tuple[float, float], out: float, signs: tuple[int, int]) -> Ints:
    scaled = [
        sign * _requantized("gemmlowp_double", v << ADD_HEADROOM_BITS, m)
        for v, m, sign in zip(values, multipliers, signs, strict=True)
    ]
    return _requantized("gemmlowp_double", scaled[0] + scaled[1], out)


def add_factors(multipliers: tuple[float, float]) -> tuple[int, int, int]:
    """Return (first, second, shift): two float32 multipliers as integers of up to 21 bits over ``2**shift``.

    The larger one has its leading bit at 2**20 (XNNPACK src/microparams-init.c, ``xnn_init_qs8_add_minmax_params``).
    """
    exponent = int(np.frexp(max(f32(m) for m in multipliers))[1]) - 1
    shift = ADD_HEADROOM_BITS - exponent
    first, second = (int(np.rint(np.ldexp(np.float64(f32(m)), shift))) for m in multipliers)
    return first, second, shift


def _add_xnnpack(values: Pair, multipliers: tuple[float, float], out: float, signs: tuple[int, int]) -> Any:
    first, second, shift = add_factors(multipliers)
    total = signs[0] * first * values[0] + signs[1] * second * values[1]
    return (total + (1 << (shift - 1))) >> shift


def _add_fused(values: Pair, multipliers: tuple[float, float], out: float, signs: tuple[int, int]) -> int:
    inner = fused_multiply_add_scalar(values[1], signs[1] * multipliers[1], out)
    return int(np.rint(fused_multiply_add_scalar(values[0], signs[0] * multipliers[0], inner)))


def _add_fused_array(values: Pair, multipliers: tuple[float, float], out: float, signs: tuple[int, int]) -> Ints:
    inner = fused_multiply_add(values[1], signs[1] * multipliers[1], out)
    return np.asarray(_round_float32(fused_multiply_add(values[0], signs[0] * multipliers[0], inner)), np.int64)


def _add_scaled(values: Pair, multipliers: tuple[float, float], out: float, signs: tuple[int, int]) -> Any:
    parts = [np.asarray(v).astype(f32) * f32(sign * m) for v, m, sign in zip(values, multipliers, signs, strict=True)]
    return _round_float32((parts[0] + parts[1]) * f32(out))


ADD_RULES: dict[str, AddRule] = {
    "float32": AddRule(
        "rint(float32(v0)·m0 + float32(v1)·m1), ties to even: ours by default",
        lambda *arguments: int(_add_float32(*arguments)),
        _add_float32,
    ),
    "gemmlowp_double": AddRule(
        "both operands shifted left 20 bits and scaled by gemmlowp_double, their sum scaled by it to the output: "
        "TensorFlow Lite built-in and reference ADD",
        _add_gemmlowp,
        _add_gemmlowp_array,
    ),
    "float32_fma": AddRule(
        "rint(fma(v0, m0, fma(v1, m1, offset))), ties to even, the offset in place of zero points: ONNX Runtime's "
        "QLinearAdd on CPUs with FMA",
        _add_fused,
        _add_fused_array,
    ),
    "float32_scaled": AddRule(
        "rint((float32(v0)·m0 + float32(v1)·m1)·out), ties to even: torch's add between dequantize and quantize",
        lambda *arguments: int(_add_scaled(*arguments)),
        _add_scaled,
    ),
    "xnnpack": AddRule(
        "(v0·M0 + v1·M1) / 2**shift, ties up, M of 21 bits: XNNPACK add",
        _add_xnnpack,
        _add_xnnpack,
    ),
}


@dataclass(frozen=True)
class MeanRule:
    """How a window's sum, input zero point taken off, becomes its mean, output zero point included.

    Parameters
    ----------
    doc
        What it computes and whose it is.
    scalar
        ``(total, count, multiplier, zeros) -> int`` on Python integers; zeros are the input's and the output's.
    array
        The same on int64 arrays of totals and counts.
    """

    doc: str
    scalar: Callable[[int, int, float, Zeros], int]
    array: Callable[[Ints, Ints, float, Zeros], Ints]


def _requantized(rule: str, values: Any, multiplier: float) -> Ints:
    return REQUANT_RULES[rule].array(np.asarray(values, np.int64), np.array([multiplier]), np.zeros(1))


def _mean_float32(total: Any, count: Any, multiplier: float, zeros: Zeros) -> Any:
    return _round_float32(np.asarray(total).astype(f32) * np.asarray(multiplier / count).astype(f32)) + zeros[1]


def _mean_shifted(total: Any, count: Any, multiplier: float, zeros: Zeros) -> Any:
    taken = np.asarray(count) * zeros[0]
    factor = f32(multiplier) / np.asarray(count).astype(f32)
    offset = f32(zeros[1]) - taken.astype(f32) * factor
    return _round_float32(np.asarray(total + taken).astype(f32) * factor + offset)


def _divide_away(total: int, count: int, multiplier: float, zeros: Zeros) -> int:
    quotient = (abs(total) + count // 2) // count
    return (quotient if total > 0 else -quotient) + zeros[1]


def _divide_away_array(total: Ints, count: Ints, multiplier: float, zeros: Zeros) -> Ints:
    return np.sign(total) * ((np.abs(total) + count // 2) // count) + zeros[1]


def _mean_mantissa(count: int, multiplier: float) -> tuple[int, int]:
    """Divide a fixed-point multiplier by a count as TensorFlow Lite's ``QuantizedMeanOrSum`` does, rounding down."""
    mantissa, exponent = fixed_point(multiplier)
    shift = max(min(count.bit_length() - 1, 32, 31 + exponent), 0)
    return (mantissa << shift) // count, exponent - shift


def _mean_gemmlowp(total: int, count: int, multiplier: float, zeros: Zeros) -> int:
    mantissa, exponent = _mean_mantissa(count, multiplier)
    shifted = min(max(total << max(exponent, 0), -(2**31)), 2**31 - 1)
    return shift_half_away((shifted * mantissa + (1 << 30)) >> 31, max(-exponent, 0)) + zeros[1]


def _mean_gemmlowp_array(total: Ints, count: Ints, multiplier: float, zeros: Zeros) -> Ints:
    counts, place = np.unique(count, return_inverse=True)
    pairs = np.array([_mean_mantissa(int(n), multiplier) for n in counts], dtype=np.int64)[place.reshape(count.shape)]
    mantissa, exponent = pairs[..., 0], pairs[..., 1]
    shifted = np.clip(total << np.maximum(exponent, 0), -(2**31), 2**31 - 1)
    high, right = (shifted * mantissa + (1 << 30)) >> 31, np.maximum(-exponent, 0)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return np.sign(high) * ((np.abs(high) + half) >> right) + zeros[1]


def _sum_rule(name: str, whose: str) -> MeanRule:
    return MeanRule(
        f"requantization rule {name} of the window's sum; the multiplier holds 1 / count already: {whose}",
        lambda total, count, multiplier, zeros: REQUANT_RULES[name].scalar(total, multiplier, 0.0) + zeros[1],
        lambda total, count, multiplier, zeros: _requantized(name, total, multiplier) + zeros[1],
    )


MEAN_RULES: dict[str, MeanRule] = {
    "float32_rne": MeanRule(
        "rint(float32(total) · float32(multiplier / count)), ties to even, then the zero point: ours by default",
        lambda *arguments: int(_mean_float32(*arguments)),
        _mean_float32,
    ),
    "float32_shifted": MeanRule(
        "rint(float32(raw) · m + b), m = float32(multiplier) / count, b = zero_out - float32(count · zero_in) · m, raw "
        "the sum of codes as they are: XNNPACK mean",
        lambda *arguments: int(_mean_shifted(*arguments)),
        _mean_shifted,
    ),
    "divide_away": MeanRule(
        "total / count, ties away from zero, no multiplier: TensorFlow Lite AVERAGE_POOL_2D",
        _divide_away,
        _divide_away_array,
    ),
    "gemmlowp_double": _sum_rule("gemmlowp_double", "TensorFlow Lite built-in MEAN, channels beyond the vectors"),
    "ruy_double_up": _sum_rule("ruy_double_up", "TensorFlow Lite built-in MEAN over a map, channels in vectors"),
    "gemmlowp_mean": MeanRule(
        "gemmlowp_double with the mantissa divided by count, rounded down: TensorFlow Lite reference MEAN",
        _mean_gemmlowp,
        _mean_gemmlowp_array,
    ),
}


@dataclass(frozen=True)
class SoftmaxRule:
    """How exponentials become shares of one.

    Parameters
    ----------
    doc
        What it computes and whose it is.
    scalar
        ``(exponentials, out_bits) -> codes`` of one row, unsigned.
    array
        The same over the last axis.
    """

    doc: str
    scalar: Callable[[Sequence[Any], int], list[int]]
    array: Callable[[NDArray[Any], int], Ints]


def _high(a: Any, b: Any) -> Any:
    """Rounding doubling high multiply of int32 values that are not both the smallest."""
    return (a * b + (1 << 30)) >> 31


def _reciprocal(x: Any) -> Any:
    """Return 1 / (1 + x) in Q0.31 for x in [0, 1) in Q0.31: three Newton steps from 48/17 - 32/17·d, d = (1 + x) / 2.

    gemmlowp ``one_over_one_plus_x_for_x_in_0_1``; works on Python integers and int64 arrays.
    """
    half = (x + 2**31) >> 1  # rounding half sum of x and 2**31 - 1, both non-negative
    guess = 1515870810 + _high(half, -1010580540)  # Q2.29
    for _ in range(3):
        guess = guess + 4 * _high(guess, (1 << 29) - _high(half, guess))
    return np.minimum(2 * guess, 2**31 - 1) if isinstance(guess, np.ndarray) else min(2 * guess, 2**31 - 1)


def _softmax_gemmlowp(exponentials: Sequence[Any], out_bits: int) -> list[int]:
    total = sum(shift_half_up(int(e), GEMMLOWP_SUM_BITS) for e in exponentials)
    headroom = 32 - total.bit_length()
    scale = int(_reciprocal((total << headroom) - 2**31))
    shift = GEMMLOWP_SUM_BITS - headroom + 31 - out_bits
    return [min(shift_half_up(_high(scale, int(e)), shift), 2**out_bits - 1) for e in exponentials]


def _softmax_gemmlowp_array(exponentials: NDArray[Any], out_bits: int) -> Ints:
    powers = exponentials.astype(np.int64)
    total = ((powers + (1 << (GEMMLOWP_SUM_BITS - 1))) >> GEMMLOWP_SUM_BITS).sum(axis=-1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    scale = _reciprocal((total << headroom) - 2**31)
    shift = GEMMLOWP_SUM_BITS - headroom + 31 - out_bits
    rounded = (_high(scale, powers) + (np.int64(1) << (shift - 1))) >> shift
    return np.minimum(rounded, 2**out_bits - 1)


def _softmax_float32(exponentials: Sequence[Any], out_bits: int) -> list[int]:
    total = f32(0)
    for e in exponentials:
        total = total + f32(e)
    inverse = f32(1) / (total * f32(2.0**-out_bits))
    return [min(int(float(f32(e) * inverse) + 0.5), 2**out_bits - 1) for e in exponentials]


def _softmax_float32_array(exponentials: NDArray[Any], out_bits: int) -> Ints:
    powers = exponentials.astype(f32)
    total = np.add.accumulate(powers, axis=-1)[..., -1:]  # one after the other, as the scalar form
    shares = powers * (f32(1) / (total * f32(2.0**-out_bits)))
    return np.minimum(np.floor(shares.astype(np.float64) + 0.5).astype(np.int64), 2**out_bits - 1)


def _softmax_integer(exponentials: Sequence[Any], out_bits: int) -> list[int]:
    total = max(sum(int(e) for e in exponentials), 1)
    return [min((int(e) * 2**out_bits + total // 2) // total, 2**out_bits - 1) for e in exponentials]


def _softmax_integer_array(exponentials: NDArray[Any], out_bits: int) -> Ints:
    powers = exponentials.astype(np.int64)
    total = powers.sum(axis=-1, keepdims=True)
    return np.minimum((powers * 2**out_bits + total // 2) // np.maximum(total, 1), 2**out_bits - 1)


SOFTMAX_RULES: dict[str, SoftmaxRule] = {
    "integer": SoftmaxRule(
        "(e · 2**out_bits + S // 2) // S with S = Σ e: ours by default", _softmax_integer, _softmax_integer_array
    ),
    "gemmlowp": SoftmaxRule(
        "Q0.31 exponentials, their Q12.19 sum inverted by Newton's method: TensorFlow Lite reference SOFTMAX",
        _softmax_gemmlowp,
        _softmax_gemmlowp_array,
    ),
    "float32": SoftmaxRule(
        "float32 exponentials added one after the other, e · (1 / (S · 2**-out_bits)) rounded half up: "
        "TensorFlow Lite built-in SOFTMAX",
        _softmax_float32,
        _softmax_float32_array,
    ),
}
