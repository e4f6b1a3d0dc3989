"""Float32 steps that hardware takes in one go, and sums that depend on their order, defined to the bit."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

f32 = np.float32


def fused_multiply_add(a: Any, b: Any, c: Any) -> NDArray[np.float32]:
    """Return ``a·b + c`` of float32 numbers, rounded once (IEEE 754 fusedMultiplyAdd), element by element.

    The product is exact in float64. The float64 sum is rounded to odd, so that rounding it again to float32 is as good
    as rounding once (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    product = np.asarray(a, dtype=f32).astype(np.float64) * np.asarray(b, dtype=f32).astype(np.float64)
    addend = np.asarray(c, dtype=f32).astype(np.float64)
    total = np.asarray(product + addend)
    part = total - product
    error = (product - (total - part)) + (addend - part)
    even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.asarray(np.where((error != 0) & even, odd, total), dtype=f32)


def fused_multiply_add_scalar(a: float, b: float, c: float) -> float:
    """Return the same of three numbers: the definition, by exact fractions."""
    exact = Fraction(float(f32(a))) * Fraction(float(f32(b))) + Fraction(float(f32(c)))
    near = f32(float(exact))
    around = (near, np.nextafter(near, f32(np.inf)), np.nextafter(near, f32(-np.inf)))
    return float(min(around, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.int32)) & 1)))


def float32_window_means(
    windows: NDArray[np.int64], counts: NDArray[np.int64], scales: tuple[float, float], zero_out: int
) -> NDArray[np.int64]:
    """Return the means of windows of real values added one after the other, as codes.

    Each code is scaled to float32, the products are added in the order of the window's rows and columns, the sum is
    divided by the count and by the output's scale, the zero point is added, and the result rounded, ties to even
    (ONNX Runtime, contrib_ops/cpu/quantization/qlinear_pool.cc).

    Parameters
    ----------
    windows
        Codes without zero point ``[.., kh, kw, channels]``, zero outside the map.
    counts
        ``[.., channels]``.
    scales
        Of the input and the output.
    zero_out
        Zero point of the output.
    """
    kh, kw = windows.shape[-3:-1]
    total = np.zeros(counts.shape, dtype=f32)
    for row in range(kh):
        for column in range(kw):
            total = total + windows[..., row, column, :].astype(f32) * f32(scales[0])
    shifted = total / counts.astype(f32) / f32(scales[1]) + f32(zero_out)
    return np.clip(np.rint(shifted).astype(np.float64), -(2.0**62), 2.0**62).astype(np.int64)
