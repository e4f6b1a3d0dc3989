"""Tables of exponentials as LiteRT's softmax kernels make them, one entry per distance from the row's largest code."""

import math

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import shift_half_away

DISTANCES = 256
"""8-bit codes are at most 255 apart."""

ONE = 2**31 - 1
FRACTION_BITS = 26
"""Of a scaled difference in gemmlowp's Q5.26."""

# exp(-2**k) in Q0.31 by k (gemmlowp fixedpoint.h, exp_on_negative_values)
_POWERS = ((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242))


def float_exponentials(scale: float, beta: float) -> NDArray[np.float32]:
    """Return exp(-scale · beta · d): float32 products, each exponential the nearest float32.

    The built-in kernels' table (TensorFlow Lite kernels/internal/common.h, ``PopulateSoftmaxLookupTable``).
    """
    factor = np.float32(-np.float32(scale)) * np.float32(beta)
    products = factor * np.arange(DISTANCES, dtype=np.float32)
    return np.exp(products.astype(np.float64)).astype(np.float32)


def fixed_exponentials(scale: float, beta: float) -> NDArray[np.int64]:
    """Return exp(-scale · beta · d) in Q0.31 by gemmlowp's fixed-point polynomial, 0 from where the kernel stops on.

    The reference kernel (TensorFlow Lite kernels/internal/reference/softmax.h): differences are scaled to Q5.26 by a
    31-bit multiplier; beyond 31 units they count as zero.

    Raises
    ------
    ValueError
        If scale · beta is at most 2**-26, which the kernel refuses.
    """
    multiplier = min(float(np.float32(beta)) * float(np.float32(scale)) * 2.0**FRACTION_BITS, ONE)
    if not multiplier > 1:
        raise ValueError(f"softmax of scale {scale} and beta {beta}: their product must exceed 2**-26; rescale")
    fraction, shift = math.frexp(multiplier)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        mantissa, shift = 2**30, shift + 1
    farthest = math.floor(31 * 2**FRACTION_BITS / 2**shift)
    entries = [_exponential(_high(-d * 2**shift, mantissa)) for d in range(min(DISTANCES - 1, farthest) + 1)]
    return np.array([*entries, 0], dtype=np.int64)


def _high(a: int, b: int) -> int:
    return (a * b + 2**30) >> 31


def _exponential(value: int) -> int:
    """Return exp of a non-positive Q5.26 number in Q0.31: a polynomial on [-1/4, 0) times powers for the rest."""
    if value == 0:
        return ONE
    quarter = 1 << (FRACTION_BITS - 2)
    within = (value & (quarter - 1)) - quarter
    result, rest = _near_zero(within << 5), within - value
    for power, factor in _POWERS:
        if rest >> (FRACTION_BITS + power) & 1:
            result = _high(result, factor)
    return result


def _near_zero(value: int) -> int:
    """Return exp of a Q0.31 number in [-1/4, 0): the fourth-order Taylor polynomial around -1/8."""
    constant, third = 1895147668, 715827883  # exp(-1/8) and 1/3
    x = value + (1 << 28)
    square = _high(x, x)
    cube, fourth = _high(square, x), _high(square, square)
    tail = shift_half_away(_high(shift_half_away(fourth, 2) + cube, third) + square, 1)
    return constant + _high(constant, x + tail)
