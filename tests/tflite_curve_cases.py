"""Random TensorFlow Lite files of functions of one code and of operators on two tensors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from tflite_draws import Case, Rng, ends, kind, scale, zero
from tflite_files import O, T

CODES = 256


def grid(rng: Rng, dtype: str, low: float = 0.003, high: float = 0.3) -> tuple[str, np.ndarray, int]:
    return dtype, scale(rng, low, high, 1, bool(rng.integers(2))), zero(rng, dtype)


def unary(rng: Rng, name: str, signed: bool = False, options: dict[str, Any] | None = None) -> Case:
    """All codes of the type as channels of a constant map added to nothing: inputs are random, the table is whole."""
    dtype = "int8" if signed else kind(rng)
    x = grid(rng, dtype)
    y = x if rng.integers(4) == 0 else grid(rng, dtype)
    if name == "logistic":
        y = (dtype, np.float32(1 / 256), ends(dtype)[0])  # built-in kernels give no other
    if name == "neg":
        x = y = (dtype, x[1], 0)
    shape = (1, 2, CODES)
    return [T(shape, *x), T(shape, *y)], [O(name, (0,), (1,), options or {})], [0], [1]


def leaky_relu(rng: Rng) -> Case:
    return unary(rng, "leaky_relu", options={"alpha": float(rng.choice([0.1, 0.3, 0.01, 0.25, 1.5, -0.2, 0.0]))})


def gelu(rng: Rng) -> Case:
    return unary(rng, "gelu", options={"approximate": bool(rng.integers(2))})


def activation(rng: Rng) -> Case:
    return unary(rng, str(rng.choice(["relu", "relu6", "relu_n1_to_1", "relu_0_to_1"])))


def second_shape(rng: Rng, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape that broadcasts: the same, or per channel, per pixel."""
    choice = int(rng.integers(4))
    return [shape, (1, 1, 1, shape[3]), (*shape[:3], 1), (1, 1, *shape[2:])][choice]


def mul(rng: Rng) -> Case:
    dtype, dyadic = kind(rng), bool(rng.integers(2))
    shape = (1, *rng.integers(1, 10, 3).tolist())
    shapes = [shape, second_shape(rng, shape)]
    if rng.integers(2):
        shapes = shapes[::-1]
    tensors = [T(s, dtype, scale(rng, 0.01, 0.5, 1, dyadic), zero(rng, dtype)) for s in shapes]
    product = float(tensors[0].scale[0]) * float(tensors[1].scale[0])
    tensors.append(T(shape, dtype, scale(rng, product * 2, product * 300, 1, dyadic), zero(rng, dtype)))
    return tensors, [O("mul", (0, 1), (2,), {"activation": int(rng.choice([0, 1, 3]))})], [0, 1], [2]


def squeeze_excite(rng: Rng) -> Case:
    """The gate of a squeeze-and-excitation block: [1, 1, C] times a map."""
    dtype, shape = kind(rng), (1, 4, 5, 17)
    x, gate = T(shape, *grid(rng, dtype, 0.02, 0.1)), T((1, 1, 1, 17), dtype, 1 / 256, ends(dtype)[0])
    return [gate, x, T(shape, *grid(rng, dtype, 0.02, 0.1))], [O("mul", (1, 0), (2,), {"activation": 0})], [0, 1], [2]


def stored(rng: Rng, name: str) -> Case:
    """One operand in the file: a scalar, a list per channel, or with all axes."""
    dtype = kind(rng)
    shape: tuple[int, ...] = [(), (1,), (9,), (1, 9), (1, 1, 1, 9), (1, 1, 9)][int(rng.integers(6))]
    x, y = T((1, 3, 4, 9), *grid(rng, dtype, 0.02, 0.1)), T((1, 3, 4, 9), *grid(rng, dtype, 0.02, 0.1))
    low, high = ends(dtype)
    b = T(shape, *grid(rng, dtype, 0.02, 0.1), data=rng.integers(low, high, shape, endpoint=True))
    if name in ("maximum", "minimum"):
        y.scale, y.zero, b.scale, b.zero = x.scale, x.zero, x.scale, x.zero
    order = (0, 1) if rng.integers(2) or name == "prelu" else (1, 0)
    return (
        [x, b, y],
        [O(name, order, (2,), {} if name in ("maximum", "minimum", "prelu") else {"activation": 0})],
        [0],
        [2],
    )


def prelu(rng: Rng) -> Case:
    dtype, shape = kind(rng), (1, 3, 4, 9)
    tensors = [T(shape, *grid(rng, dtype, 0.02, 0.2)), T((1, 1, 9), *grid(rng, dtype, 0.002, 0.02))]
    low, high = ends(dtype)
    tensors[1].data = rng.integers(low, high, (1, 1, 9), endpoint=True)
    return [*tensors, T(shape, *grid(rng, dtype, 0.02, 0.2))], [O("prelu", (0, 1), (2,))], [0], [2]


def tied_add(rng: Rng, name: str = "add") -> Case:
    """Scales in ratios of small numbers: sums fall between two codes, where kernels' roundings part."""
    dtype, shape = kind(rng), (1, *rng.integers(1, 10, 3).tolist())
    other = [shape, shape, (1, 1, 1, shape[3]), (1, 1, *shape[2:]), (1, 1, 1, 1)][int(rng.integers(5))]
    ratios = [1.0, rng.choice([0.6, 0.2, 0.3, 0.7]), rng.choice([0.4, 0.8])]
    scales = [np.float32(0.1) * np.float32(r) for r in ratios]
    if rng.integers(2):
        scales[:2] = scales[1::-1]
    low, high = ends(dtype)
    zeros = rng.integers(low + 60, high - 60, 3).tolist()
    tensors = [T(s, dtype, u, z) for s, u, z in zip((shape, other, shape), scales, zeros, strict=True)]
    if other != shape and rng.integers(2):
        tensors[1].data = rng.integers(low, high, other, endpoint=True)
        return tensors, [O(name, (0, 1), (2,), {"activation": int(rng.choice([0, 3]))})], [0], [2]
    return tensors, [O(name, (0, 1), (2,), {"activation": 0})], [0, 1], [2]


def extreme(rng: Rng, name: str) -> Case:
    own, shape = grid(rng, kind(rng)), (1, *rng.integers(1, 8, 3).tolist())
    return [T(shape, *own), T(second_shape(rng, shape), *own), T(shape, *own)], [O(name, (0, 1), (2,))], [0, 1], [2]


CURVES: dict[str, Callable[[Rng], Case]] = {
    "abs": partial(unary, name="abs", signed=True),
    "activation": activation,
    "elu": partial(unary, name="elu", signed=True),
    "exp": partial(unary, name="exp", signed=True),
    "gelu": gelu,
    "hard_swish": partial(unary, name="hard_swish"),
    "leaky_relu": leaky_relu,
    "logistic": partial(unary, name="logistic"),
    "maximum": partial(extreme, name="maximum"),
    "minimum": partial(extreme, name="minimum"),
    "mul": mul,
    "neg": partial(unary, name="neg", signed=True),
    "prelu": prelu,
    "squeeze_excite": squeeze_excite,
    "stored_add": partial(stored, name="add"),
    "stored_maximum": partial(stored, name="maximum"),
    "stored_minimum": partial(stored, name="minimum"),
    "stored_mul": partial(stored, name="mul"),
    "stored_prelu": partial(stored, name="prelu"),
    "stored_sub": partial(stored, name="sub"),
    "tanh": partial(unary, name="tanh"),
    "tied_add": tied_add,
    "tied_sub": partial(tied_add, name="sub"),
}
