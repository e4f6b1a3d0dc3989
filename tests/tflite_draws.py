"""Random parts of TensorFlow Lite files: types, scales, zero points, sizes, weights."""

from collections.abc import Sequence

import numpy as np
from tflite_files import O, T

Rng = np.random.Generator
Case = tuple[Sequence[T], Sequence[O], Sequence[int], Sequence[int]]


def ends(dtype: str) -> tuple[int, int]:
    return (-128, 127) if dtype == "int8" else (0, 255)


def kind(rng: Rng) -> str:
    return str(rng.choice(["int8", "uint8"]))


def scale(rng: Rng, low: float, high: float, count: int = 1, dyadic: bool = False) -> np.ndarray:
    values = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return (2.0 ** np.round(np.log2(values)) if dyadic else values).astype(np.float32)


def zero(rng: Rng, dtype: str) -> int:
    return int(rng.integers(*ends(dtype), endpoint=True))


def size(length: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    reach = (kernel - 1) * dilation + 1
    return -(-length // stride) if padding == 0 else (length - reach) // stride + 1


def weights(rng: Rng, dtype: str, shape: tuple[int, ...], out: int, axis: int, dyadic: bool) -> T:
    per_channel = dtype == "int8" and bool(rng.integers(2))
    scales = scale(rng, 0.002, 0.02, out if per_channel else 1, dyadic)
    low, high = ends(dtype)
    zeros = 0 if dtype == "int8" else int(rng.integers(100, 156))
    data = rng.integers(low + 1, high, shape, endpoint=True)
    return T(shape, dtype, scales, zeros, data, axis if per_channel else 0)
