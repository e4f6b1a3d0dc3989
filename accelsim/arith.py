"""Integer arithmetic of the machine: ranges, overflow, shifts, requantization.

Everything here is defined twice: a scalar form on Python integers, which is the definition, and an array form on
int64, which must be equal to it element by element. Nothing in the package relies on the overflow or rounding
behaviour of a library type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Overflow = Literal["wrap", "saturate", "error"]
OVERFLOW_RULES: tuple[Overflow, ...] = ("wrap", "saturate", "error")

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def signed_range(bits: int) -> tuple[int, int]:
    """Return the two's complement range of a width.

    >>> signed_range(8)
    (-128, 127)
    """
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Return the range of all codes of a width, signed or unsigned.

    >>> code_range(4, signed=False)
    (0, 15)
    """
    return signed_range(bits) if signed else (0, (1 << bits) - 1)


def bits_for(low: int, high: int) -> int:
    """Return the narrowest two's complement width that holds both ends.

    >>> bits_for(-128, 127), bits_for(-128, 128), bits_for(0, 1)
    (8, 9, 2)
    """
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0) + 1


def wrap(value: int, bits: int) -> int:
    """Return `value` modulo ``2**bits`` in two's complement.

    >>> wrap(130, bits=8), wrap(-129, bits=8)
    (-126, 127)
    """
    half = 1 << (bits - 1)
    return ((value + half) & ((1 << bits) - 1)) - half


def saturate(value: int, bits: int) -> int:
    """Return `value` clamped to the two's complement range of `bits`.

    >>> saturate(130, bits=8), saturate(-500, bits=8)
    (127, -128)
    """
    low, high = signed_range(bits)
    return min(max(value, low), high)


def wrap_array(values: IntArray, bits: int) -> NDArray[np.int64]:
    """Array form of `wrap`; `bits` at most 64."""
    wide = values.astype(np.int64, copy=False)
    if bits >= 64:
        return wide
    half = np.int64(1) << np.int64(bits - 1)
    mask = np.int64((1 << bits) - 1)
    with np.errstate(over="ignore"):
        return ((wide + half) & mask) - half


def saturate_array(values: IntArray, bits: int) -> NDArray[np.int64]:
    """Array form of `saturate`; `bits` at most 64."""
    wide = values.astype(np.int64, copy=False)
    if bits >= 64:
        return wide
    return np.clip(wide, *signed_range(bits))


def apply_overflow(values: IntArray, bits: int, rule: Overflow) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Bring exact sums into a register by a rule.

    Parameters
    ----------
    values
        Exact integers, any shape, within int64.
    bits
        Register width, two's complement.
    rule
        ``wrap``, ``saturate`` or ``error``. ``error`` keeps the wrapped value; the caller raises, since it alone
        can name the place.

    Returns
    -------
    held, overflowed
        What the register holds, and where the exact value was out of range.
    """
    low, high = signed_range(bits)
    overflowed = (values < low) | (values > high)
    held = saturate_array(values, bits) if rule == "saturate" else wrap_array(values, bits)
    return held, overflowed


@dataclass(frozen=True, kw_only=True)
class Accumulation:
    """How one array adds products up: the part of the machine that can change a network's integers.

    Within a fold the sum that moves down a column starts at zero and passes one PE a hop; each hop adds
    `products_per_hop` consecutive products, summed exactly first, and then obeys `psum_overflow` at `psum_bits`. The
    accumulator memory starts at the bias, adds the folds' column results in k order and obeys `acc_overflow` at
    `acc_bits` after each addition (and on loading the bias). Output-stationary arrays have no hops: `fold_k` is
    ``None`` and every group of `products_per_hop` products is added to a register of `acc_bits` that starts at the
    bias.

    Parameters
    ----------
    fold_k
        Products per fold along k (array rows × products per PE and cycle), or ``None`` for output-stationary.
    products_per_hop
        Consecutive k that one PE multiplies in one cycle.
    psum_bits, acc_bits
        Widths of the moving partial sum and of the accumulator.
    psum_overflow, acc_overflow
        ``wrap``, ``saturate`` or ``error``.
    """

    fold_k: int | None = None
    products_per_hop: int = 1
    psum_bits: int = 32
    psum_overflow: Overflow = "saturate"
    acc_bits: int = 32
    acc_overflow: Overflow = "saturate"

    def __post_init__(self) -> None:
        """Refuse what no array can be."""
        for name in ("psum_overflow", "acc_overflow"):
            if getattr(self, name) not in OVERFLOW_RULES:
                raise ValueError(
                    f"Accumulation.{name} must be one of {', '.join(OVERFLOW_RULES)} (got {getattr(self, name)!r})"
                )
        if self.fold_k is not None and (self.fold_k < 1 or self.fold_k % self.products_per_hop):
            raise ValueError(
                f"Accumulation.fold_k must be a positive multiple of products_per_hop={self.products_per_hop} "
                f"(got {self.fold_k}); use rows x products per PE"
            )
        for name in ("psum_bits", "acc_bits"):
            if not 2 <= getattr(self, name) <= 64:
                raise ValueError(f"Accumulation.{name} must be within 2..64 (got {getattr(self, name)})")

    def excludes_overflow(self, bound: int, fold_bound: int | None = None) -> bool:
        """Tell whether no addition can ever overflow.

        Parameters
        ----------
        bound
            Magnitude that no sum of the layer exceeds, bias included.
        fold_bound
            Magnitude that no partial sum within a fold exceeds; `bound` where not known.
        """
        moving = 0 if self.fold_k is None else bound if fold_bound is None else min(bound, fold_bound)
        return bound <= signed_range(self.acc_bits)[1] and moving <= signed_range(self.psum_bits)[1]


# --- rounding shifts -------------------------------------------------------------------------------------------------


def shift_half_up(value: int, shift: int) -> int:
    """Return ``value / 2**shift`` rounded to nearest, ties toward +infinity.

    >>> shift_half_up(5, 1), shift_half_up(-5, 1)
    (3, -2)
    """
    return (value + (1 << (shift - 1))) >> shift if shift > 0 else value << -shift


def shift_half_away(value: int, shift: int) -> int:
    """Return ``value / 2**shift`` rounded to nearest, ties away from zero.

    >>> shift_half_away(5, 1), shift_half_away(-5, 1)
    (3, -3)
    """
    if shift <= 0:
        return value << -shift
    return shift_half_up(value, shift) if value >= 0 else -shift_half_up(-value, shift)


def _shift_half_up_array(values: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    right = np.maximum(shift, 0)
    nudge = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return np.where(shift > 0, (values + nudge) >> right, values << np.maximum(-shift, 0))


def _shift_half_away_array(values: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(values >= 0, _shift_half_up_array(values, shift), -_shift_half_up_array(-values, shift))


def half_up(values: FloatArray) -> NDArray[np.float64]:
    """Round to nearest, ties toward +infinity: ``floor(x + 1/2)`` without the error of adding 1/2 in floating point.

    >>> half_up(np.array([-0.5, 0.5, 1.5, 0.49999999999999994])).tolist()
    [0.0, 1.0, 2.0, 0.0]
    """
    wide = np.asarray(values, dtype=np.float64)
    low = np.floor(wide)
    return low + (wide - low >= 0.5)


# --- requantization --------------------------------------------------------------------------------------------------


def fixed_point(multiplier: float) -> tuple[int, int]:
    """Write a positive multiplier as ``mantissa * 2**(exponent - 31)`` with a 31-bit mantissa.

    The decomposition of TensorFlow Lite's ``QuantizeMultiplier``: frexp, mantissa rounded half away from zero.

    >>> fixed_point(0.75)
    (1610612736, 0)
    """
    if multiplier == 0:
        return 0, 0
    fraction, exponent = np.frexp(multiplier)
    mantissa = int(np.floor(float(fraction) * 2**31 + 0.5))
    if mantissa == 2**31:
        mantissa, exponent = mantissa // 2, exponent + 1
    return (0, 0) if exponent < -31 else (mantissa, int(exponent))


def _doubling_high(value: int, mantissa: int) -> int:
    """Saturating rounding doubling high multiply; a positive mantissa never meets its one overflow case."""
    return (value * mantissa + (1 << 30)) >> 31


def _pre_shift(value: int, exponent: int) -> int:
    """Shift left by a positive exponent, saturating at int32 as the fixed-point pipelines do."""
    return min(max(value << max(exponent, 0), INT32_MIN), INT32_MAX)


@dataclass(frozen=True)
class RequantRule:
    """One named way from an accumulator and a real multiplier to an integer, zero point and clamp apart.

    Parameters
    ----------
    name
        As used in a Program and on the command line.
    doc
        What it computes and which runtime it is.
    scalar
        ``(accumulator, multiplier, bias) -> int`` on Python integers: the definition.
    array
        The same on int64 accumulators with multipliers (and biases) that broadcast against them.
    float_bias
        Whether the bias is real, in units of the accumulator, and added by the rule.
    """

    name: str
    doc: str
    scalar: Callable[[int, float, float], int]
    array: Callable[[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.int64]]
    float_bias: bool = False


def _to_int(rounded: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Convert rounded values, held within ±2**62 so that the cast is defined; every clamp that follows is narrower."""
    return np.clip(rounded.astype(np.float64), -(2.0**62), 2.0**62).astype(np.int64)


def _float32_rne(acc: int, multiplier: float, bias: float) -> int:
    return int(np.rint(np.float32(acc) * np.float32(multiplier)))


def _float32_rne_array(
    acc: NDArray[np.int64], multiplier: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.int64]:
    return _to_int(np.rint(acc.astype(np.float32) * multiplier.astype(np.float32)))


def _fbgemm(acc: int, multiplier: float, bias: float) -> int:
    return int(np.rint((np.float32(acc) + np.float32(bias)) * np.float32(multiplier)))


def _fbgemm_array(
    acc: NDArray[np.int64], multiplier: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.int64]:
    return _to_int(np.rint((acc.astype(np.float32) + bias.astype(np.float32)) * multiplier.astype(np.float32)))


def _gemmlowp_double(acc: int, multiplier: float, bias: float) -> int:
    mantissa, exponent = fixed_point(multiplier)
    return shift_half_away(_doubling_high(_pre_shift(acc, exponent), mantissa), max(-exponent, 0))


def _ruy_double_up(acc: int, multiplier: float, bias: float) -> int:
    mantissa, exponent = fixed_point(multiplier)
    return shift_half_up(_doubling_high(_pre_shift(acc, exponent), mantissa), max(-exponent, 0))


def _single_away(acc: int, multiplier: float, bias: float) -> int:
    mantissa, exponent = fixed_point(multiplier)
    return shift_half_away(acc * mantissa, 31 - exponent)


def _single_up(acc: int, multiplier: float, bias: float) -> int:
    mantissa, exponent = fixed_point(multiplier)
    return shift_half_up(acc * mantissa, 31 - exponent)


def _pot_shift(acc: int, multiplier: float, bias: float) -> int:
    return shift_half_up(acc, pot_exponent(multiplier))


def pot_exponent(multiplier: float) -> int:
    """Return s of a multiplier that is exactly ``2**-s``.

    Raises
    ------
    ValueError
        If the multiplier is no power of two.
    """
    fraction, exponent = np.frexp(multiplier)
    if fraction != 0.5:
        raise ValueError(
            f"rule pot_shift takes multipliers that are powers of two (got {multiplier}); round the scales first"
        )
    return 1 - int(exponent)


def _fixed_point_arrays(multiplier: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = np.array([fixed_point(float(m)) for m in multiplier.ravel()], dtype=np.int64).reshape(*multiplier.shape, 2)
    return pairs[..., 0], pairs[..., 1]


ShiftArray = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]


def _double_array(shift: ShiftArray) -> Callable[..., NDArray[np.int64]]:
    def rule(acc: NDArray[np.int64], multiplier: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.int64]:
        mantissa, exponent = _fixed_point_arrays(multiplier)
        shifted = np.clip(acc << np.maximum(exponent, 0), INT32_MIN, INT32_MAX)
        high = (shifted * mantissa + (1 << 30)) >> 31
        return shift(high, np.maximum(-exponent, 0))

    return rule


def _single_array(shift: ShiftArray) -> Callable[..., NDArray[np.int64]]:
    def rule(acc: NDArray[np.int64], multiplier: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.int64]:
        mantissa, exponent = _fixed_point_arrays(multiplier)
        return shift(acc * mantissa, 31 - exponent)

    return rule


def _pot_shift_array(
    acc: NDArray[np.int64], multiplier: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.int64]:
    shifts = np.array([pot_exponent(float(m)) for m in multiplier.ravel()], dtype=np.int64).reshape(multiplier.shape)
    return _shift_half_up_array(acc, np.broadcast_to(shifts, acc.shape))


def requantize(
    acc: IntArray,
    multiplier: NDArray[np.float64],
    *,
    rule: str,
    zero_point: int,
    clamp: tuple[int, int],
    bias: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Bring accumulators onto an output grid: ``clamp(rule(acc, multiplier) + zero_point)``.

    Parameters
    ----------
    acc
        Integers, channels last. The fixed-point rules hold accumulators in 32 bits, as their runtimes do.
    multiplier
        Input scale × weight scale ÷ output scale, float64, shape ``[channels]`` or ``[1]``.
    rule
        A key of `REQUANT_RULES`.
    zero_point, clamp
        Of the output grid; `clamp` is (low, high), both included.
    bias
        For rules with a float bias: in units of the accumulator, shape as `multiplier`.

    Returns
    -------
    int64 array of `acc`'s shape.
    """
    zeros = np.zeros(1) if bias is None else bias
    low, high = clamp
    rounded = REQUANT_RULES[rule].array(acc.astype(np.int64, copy=False), multiplier, zeros)
    return np.clip(rounded, low - zero_point, high - zero_point) + zero_point


def requantize_scalar(
    acc: int, multiplier: float, *, rule: str, zero_point: int, clamp: tuple[int, int], bias: float = 0.0
) -> int:
    """Requantize one accumulator: the definition that `requantize` must equal."""
    value = REQUANT_RULES[rule].scalar(acc, multiplier, bias) + zero_point
    return min(max(value, clamp[0]), clamp[1])


REQUANT_RULES: dict[str, RequantRule] = {
    rule.name: rule
    for rule in (
        RequantRule(
            "float32_rne",
            "rint(float32(acc) * float32(multiplier)), ties to even: ONNX Runtime, XNNPACK, Gemmini",
            _float32_rne,
            _float32_rne_array,
        ),
        RequantRule(
            "fbgemm",
            "rint((float32(acc) + float32(bias)) * float32(multiplier)), float bias, ties to even: FBGEMM",
            _fbgemm,
            _fbgemm_array,
            float_bias=True,
        ),
        RequantRule(
            "gemmlowp_double",
            "doubling high multiply, then shift with ties away from zero: TensorFlow Lite reference CONV_2D",
            _gemmlowp_double,
            _double_array(_shift_half_away_array),
        ),
        RequantRule(
            "ruy_double_up",
            "doubling high multiply, then shift with ties up: TensorFlow Lite optimized kernels (ruy)",
            _ruy_double_up,
            _double_array(_shift_half_up_array),
        ),
        RequantRule(
            "single_away",
            "one rounding of acc * mantissa, ties away from zero: TensorFlow Lite reference FULLY_CONNECTED",
            _single_away,
            _single_array(_shift_half_away_array),
        ),
        RequantRule(
            "single_up",
            "one rounding of acc * mantissa, ties up: TOSA",
            _single_up,
            _single_array(_shift_half_up_array),
        ),
        RequantRule(
            "pot_shift",
            "arithmetic right shift with ties up; every multiplier a power of two",
            _pot_shift,
            _pot_shift_array,
        ),
    )
}
