"""The float32 arithmetic between ONNX Runtime's integers, step by step, each step rounded once.

Found by running ONNX Runtime 1.31.1 on an x86-64 CPU with FMA and comparing every code; the orders are those of its
sources (onnxruntime/core/mlas/lib: qladd, qlmul, qlgavgpool, logistic, tanh; contrib_ops/cpu/quantization: qlinear_*).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.float_steps import fused_multiply_add

Array = NDArray[Any]
f32 = np.float32
Function = Callable[[Array], Array]


def composed_scale(first: Array | float, second: Array | float, out: float) -> NDArray[np.float64]:
    """Return the multiplier of a product: float32(float32(first · second) / out) (QLinearConv, QLinearMatMul)."""
    product = np.asarray(first, dtype=f32) * np.asarray(second, dtype=f32)
    return np.atleast_1d(np.asarray(product / f32(out), dtype=np.float64))


def mean_scale(source: float, out: float, count: int) -> float:
    """Return the multiplier of a global average: float32(source / float32(out · count)) (QLinearGlobalAveragePool)."""
    return float(f32(source) / (f32(out) * f32(count)))


def add_offset(scales: tuple[float, float], zeros: tuple[int, int], zero_out: int) -> float:
    """Return what QLinearAdd adds its two products to: zero_out - fma(m0, zero0, float32(m1 · zero1))."""
    inner = fused_multiply_add(f32(scales[0]), f32(zeros[0]), f32(scales[1]) * f32(zeros[1]))
    return float(f32(zero_out) - inner)


def dequantize(codes: Array, scale: float, zero: int) -> NDArray[np.float32]:
    """Return DequantizeLinear's float32 values of codes."""
    return np.asarray((codes.astype(np.int64) - zero).astype(f32) * f32(scale), dtype=f32)


def quantize(values: Array, scale: float, zero: int, low: int, high: int) -> NDArray[np.int64]:
    """Return QuantizeLinear's codes: the float32 quotient, ties to even, then the zero point and the clamp."""
    with np.errstate(over="ignore"):
        quotient = np.nan_to_num(np.asarray(values, dtype=f32), posinf=np.inf, neginf=-np.inf) / f32(scale)
    rounded = np.rint(np.clip(quotient, low - zero, high - zero).astype(np.float64))
    return np.asarray(rounded.astype(np.int64) + zero, dtype=np.int64)


# --- functions -------------------------------------------------------------------------------------------------------

_SIGMOID = (
    (4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03, 2.48287947061529e-01),
    (
        6.10247389755681e-13,
        5.76102136993427e-09,
        6.29106785017040e-06,
        1.70198817374094e-03,
        1.16817656904453e-01,
        9.93151921023180e-01,
    ),
)
"""Numerator (odd) and denominator (even) of the rational function that Eigen and ONNX Runtime use, x within ±18."""

_TANH = (
    (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ),
    (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
)
"""Likewise for tanh, x within ±9."""


def _rational(x: Array, parts: tuple[Sequence[float], Sequence[float]], reach: float) -> Array:
    held = np.clip(x.astype(f32), f32(-reach), f32(reach))
    square = held * held
    sums = []
    for coefficients in parts:
        total = np.full_like(square, f32(coefficients[0]))
        for coefficient in coefficients[1:]:
            total = fused_multiply_add(total, square, f32(coefficient))
        sums.append(total)
    return np.asarray(sums[0] * held / sums[1], dtype=f32)


def sigmoid(x: Array) -> Array:
    """Return ONNX Runtime's Sigmoid on a CPU with FMA."""
    return np.clip(_rational(x, _SIGMOID, 18.0) + f32(0.5), f32(0), f32(1))


def tanh(x: Array) -> Array:
    """Return ONNX Runtime's Tanh on a CPU with FMA."""
    return _rational(x, _TANH, 9.0)


def hard_sigmoid(alpha: float, beta: float) -> Function:
    """Return HardSigmoid with its slope and offset."""
    return lambda x: np.clip(f32(alpha) * x + f32(beta), f32(0), f32(1))


def hard_swish(x: Array) -> Array:
    """Return x · hard_sigmoid(x) with slope 1/6."""
    return np.asarray(x * hard_sigmoid(1 / 6, 0.5)(x), dtype=f32)


def leaky_relu(alpha: float) -> Function:
    """Return LeakyRelu with its slope."""
    return lambda x: np.where(x >= 0, x, f32(alpha) * x).astype(f32)


def clip(low: float, high: float) -> Function:
    """Return Clip with its limits."""
    return lambda x: np.clip(x, f32(low), f32(high))


def rounded(function: Callable[[float], float]) -> Function:
    """Return a function of real numbers rounded once to float32: within an ulp of ONNX Runtime's, not always equal."""
    return lambda x: np.array([function(float(v)) for v in x.ravel()], dtype=np.float64).astype(f32).reshape(x.shape)


ROUNDED: dict[str, Function] = {
    "Erf": rounded(math.erf),
    "Exp": rounded(lambda v: math.exp(min(v, 88.0))),
    "Gelu": rounded(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2)))),
    "com.microsoft::Gelu": rounded(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2)))),
    "Softplus": rounded(lambda v: max(v, 0.0) + math.log1p(math.exp(-abs(v)))),
    "Log": rounded(lambda v: math.log(v) if v > 0 else -math.inf if v == 0 else math.nan),
    "Sin": rounded(math.sin),
    "Cos": rounded(math.cos),
    "Reciprocal": rounded(lambda v: 1 / v if v else math.inf),
    "Mish": rounded(lambda v: v * math.tanh(max(v, 0.0) + math.log1p(math.exp(-abs(v))))),
}
"""Functions whose float32 steps are not followed: a code may differ where a value lies within an ulp of a tie."""

EXACT: dict[str, Function] = {
    "Relu": lambda x: np.maximum(x, f32(0)),
    "Sigmoid": sigmoid,
    "Tanh": tanh,
    "HardSwish": hard_swish,
    "Neg": lambda x: -x,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
}
"""Functions without attributes that equal ONNX Runtime's on every code."""
