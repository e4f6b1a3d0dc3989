"""Linear integer grids: the only place where values are rounded.

A grid of b bits is a scale, a zero point and a range of codes. Rounding is half up, ``floor(x + 1/2)``, as in the OCS
paper's definition of Q (Zhao et al., ICML 2019, section 3.3), for which quantization-aware splitting is exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import half_up

MIN_BITS, MAX_BITS = 2, 16


@dataclass(frozen=True, eq=False)
class Grid:
    """A linear grid: value = scale · (code - zero_point), low <= code <= high.

    Parameters
    ----------
    bits, signed
        Width of a stored code.
    scale
        float64, shape ``[1]`` for one scale or ``[channels]``.
    zero_point
        int64 of the scale's shape; zero for symmetric grids.
    low, high
        Smallest and largest code.
    """

    bits: int
    signed: bool
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    low: int
    high: int

    @property
    def one_scale(self) -> float:
        """The scale of a per-tensor grid."""
        assert self.scale.size == 1
        return float(self.scale[0])

    @property
    def one_zero_point(self) -> int:
        """The zero point of a per-tensor grid."""
        assert self.zero_point.size == 1
        return int(self.zero_point[0])


def check_bits(bits: int, what: str) -> int:
    """Return `bits` if a grid may have it.

    Raises
    ------
    ValueError
        If it is outside 2..16.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(
            f"{what} must be within {MIN_BITS}..{MAX_BITS} bits (got {bits}); choose a width in that range"
        )
    return bits


def _alphas(alpha: float | NDArray[Any]) -> NDArray[np.float64]:
    """Return thresholds as an array; an all-zero tensor has alpha 1, so that its scale is finite."""
    wide = np.atleast_1d(np.asarray(alpha, dtype=np.float64))
    return np.where(wide > 0, wide, 1.0)


def symmetric(alpha: float | NDArray[Any], bits: int, *, wide: bool = False) -> Grid:
    """Signed grid over ``[-alpha, alpha]`` with codes ``-n..n``, n = 2**(bits-1) - 1 (OCS paper, eq. 1).

    Parameters
    ----------
    alpha
        One threshold, or one per channel.
    bits
        Width of a code.
    wide
        Let codes reach ``-n - 1``, as the OCS authors' released code does.
    """
    n = 2 ** (check_bits(bits, "grid") - 1) - 1
    scale = _alphas(alpha) / n
    return Grid(bits, True, scale, np.zeros(scale.shape, dtype=np.int64), -n - int(wide), n)


def unsigned(alpha: float | NDArray[Any], bits: int) -> Grid:
    """Unsigned grid over ``[0, alpha]``: all ``2**bits`` codes, zero point 0; for tensors that are never negative."""
    high = 2 ** check_bits(bits, "grid") - 1
    scale = _alphas(alpha) / high
    return Grid(bits, False, scale, np.zeros(scale.shape, dtype=np.int64), 0, high)


def affine(low: float | NDArray[Any], high: float | NDArray[Any], bits: int, *, signed: bool = False) -> Grid:
    """Grid over ``[low, high]`` stretched to hold zero, which is exactly representable (an integer zero point)."""
    levels = 2 ** check_bits(bits, "grid") - 1
    bottom = np.minimum(np.atleast_1d(np.asarray(low, dtype=np.float64)), 0.0)
    top = np.maximum(np.atleast_1d(np.asarray(high, dtype=np.float64)), 0.0)
    scale = np.where(top > bottom, top - bottom, 1.0) / levels
    first = -(2 ** (bits - 1)) if signed else 0
    zero_point = np.clip(half_up(first - bottom / scale), first, first + levels).astype(np.int64)
    return Grid(bits, signed, scale, zero_point, first, first + levels)


def _along(values: NDArray[Any], per_channel: NDArray[Any], axis: int) -> NDArray[Any]:
    """Shape per-channel numbers so that they broadcast along `axis` of `values`."""
    if per_channel.size == 1:
        return per_channel.reshape(1)
    shape = [1] * values.ndim
    shape[axis] = -1
    return per_channel.reshape(shape)


def quantize(values: NDArray[Any], grid: Grid, axis: int = 0, *, clamp: bool = True) -> NDArray[np.int64]:
    """Return codes of real values, rounded half up.

    Parameters
    ----------
    values
        Any shape.
    grid
        Per tensor, or per channel along `axis`.
    axis
        Of the grid's channels.
    clamp
        ``False`` gives unbounded integers, as integer-domain splitting needs them.
    """
    scaled = np.asarray(values, dtype=np.float64) / _along(values, grid.scale, axis)
    codes = half_up(scaled).astype(np.int64) + _along(values, grid.zero_point, axis)
    return np.clip(codes, grid.low, grid.high) if clamp else codes


def dequantize(codes: NDArray[Any], grid: Grid, axis: int = 0) -> NDArray[np.float64]:
    """Return the real values of codes."""
    return (codes - _along(codes, grid.zero_point, axis)) * _along(codes, grid.scale, axis)
