"""Random TensorFlow Lite files of one operator (or two), by operator: `CASES` maps its name to a maker."""

from collections.abc import Callable

import numpy as np
from tflite_curve_cases import CURVES
from tflite_draws import Case, Rng, ends, kind, scale, size, weights, zero
from tflite_files import O, T, tflite
from tflite_move_cases import MOVES
from tflite_sum_cases import SUMS

from quant.importers.tflite_kernels import KERNELS


def product(rng: Rng, dtype: str, w: T, shapes: tuple[tuple[int, ...], tuple[int, ...]], op: O, dyadic: bool) -> Case:
    """Return a file of one layer with weights; its output scale fills the grid."""
    x = T(shapes[0], dtype, scale(rng, 0.01, 0.1, 1, dyadic), zero(rng, dtype))
    out = shapes[1][-1]
    k = int(np.prod(w.shape)) // out
    spread = float(x.scale[0]) * float(np.max(w.scale)) * np.sqrt(k) * 5000 / 60
    y = T(shapes[1], dtype, scale(rng, spread / 2, spread, 1, dyadic), zero(rng, dtype))
    bias = T((out,), "int32", x.scale * w.scale, 0, rng.integers(-3000, 3000, out))
    if op.kind == "fully_connected" and rng.integers(4) == 0:  # LiteRT's convolutions need a bias
        return [x, w, y], [O(op.kind, (0, 1), (2,), op.options)], [0], [2]
    return [x, w, bias, y], [O(op.kind, (0, 1, 2), (3,), op.options)], [0], [3]


def conv_2d(rng: Rng, depthwise: bool = False) -> Case:
    dtype, dyadic = kind(rng), bool(rng.integers(2))
    channels = int(rng.integers(1, 20))
    out = channels * int(rng.integers(1, 4)) if depthwise else int(rng.integers(1, 20))
    (kh, kw), (h, w) = rng.integers(1, 4, 2).tolist(), rng.integers(7, 15, 2).tolist()
    stride, dilation = rng.integers(1, 3, 2).tolist(), [1, 1]
    if rng.integers(4) == 0:
        stride, dilation = [1, 1], [2, 2]
    padding = int(rng.integers(2))
    shape = tuple(size(n, k, s, d, padding) for n, k, s, d in zip((h, w), (kh, kw), stride, dilation, strict=True))
    options = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "dilation_h": dilation[0],
        "dilation_w": dilation[1], "activation": int(rng.choice([0, 1, 2, 3])),
    }  # fmt: skip
    if depthwise:
        options["multiplier"] = out // channels
        kernel = weights(rng, dtype, (1, kh, kw, out), out, 3, dyadic)
    else:
        kernel = weights(rng, dtype, (out, kh, kw, channels), out, 0, dyadic)
    op = O("depthwise_conv_2d" if depthwise else "conv_2d", (), (), options)
    return product(rng, dtype, kernel, ((1, h, w, channels), (1, *shape, out)), op, dyadic)


def depthwise_conv_2d(rng: Rng) -> Case:
    return conv_2d(rng, depthwise=True)


def fully_connected(rng: Rng) -> Case:
    dtype, dyadic = kind(rng), bool(rng.integers(2))
    inner, out = (int(n) for n in rng.integers(1, 40, 2))
    options = {"activation": int(rng.choice([0, 1, 3]))}
    kernel = weights(rng, dtype, (out, inner), out, 0, dyadic)
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((1, inner), (1, out))
    if rng.integers(2):
        shapes, options = ((1, 5, inner), (1, 5, out)), options | {"keep_num_dims": True}
    return product(rng, dtype, kernel, shapes, O("fully_connected", (), (), options), dyadic)


def add(rng: Rng, name: str = "add") -> Case:
    dtype, dyadic = kind(rng), bool(rng.integers(2))
    shape = (1, *rng.integers(1, 12, 3).tolist())
    other = (1, 1, 1, shape[3]) if rng.integers(4) == 0 else shape
    tensors = [T(s, dtype, scale(rng, 0.02, 0.5, 1, dyadic), zero(rng, dtype)) for s in (shape, other, shape)]
    return tensors, [O(name, (0, 1), (2,), {"activation": int(rng.choice([0, 1, 3]))})], [0, 1], [2]


def sub(rng: Rng) -> Case:
    return add(rng, "sub")


def pool(rng: Rng, name: str) -> Case:
    dtype = kind(rng)
    h, w, c = rng.integers(5, 14, 3).tolist()
    kernel, stride, padding = rng.integers(1, 5, 2).tolist(), rng.integers(1, 4, 2).tolist(), int(rng.integers(2))
    shape = (1, size(h, kernel[0], stride[0], 1, padding), size(w, kernel[1], stride[1], 1, padding), c)
    options = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "filter_h": kernel[0], "filter_w": kernel[1],
        "activation": int(rng.choice([0, 1, 3])),
    }  # fmt: skip
    grid = (dtype, scale(rng, 0.02, 0.1), zero(rng, dtype))
    return [T((1, h, w, c), *grid), T(shape, *grid)], [O(name, (0,), (1,), options)], [0], [1]


def mean(rng: Rng) -> Case:
    dtype, dyadic, keep = kind(rng), bool(rng.integers(2)), bool(rng.integers(2))
    h, w = rng.integers(1, 10, 2).tolist()
    c = int(rng.integers(1, 70))
    x = T((1, h, w, c), dtype, scale(rng, 0.02, 0.1, 1, dyadic), zero(rng, dtype))
    y = T((1, 1, 1, c) if keep else (1, c), dtype, x.scale * scale(rng, 0.25, 2, 1, dyadic), zero(rng, dtype))
    axes = T((2,), "int32", None, 0, [2, 1] if rng.integers(2) else [1, -2])
    return [x, axes, y], [O("mean", (0, 1), (2,), {"keep_dims": keep})], [0], [2]


def softmax(rng: Rng) -> Case:
    dtype, n = kind(rng), int(rng.integers(1, 60))
    x = T((1, 40, n), dtype, scale(rng, 0.01, 1.0), zero(rng, dtype))
    y = T((1, 40, n), dtype, 1 / 256, ends(dtype)[0])
    return [x, y], [O("softmax", (0,), (1,), {"beta": float(rng.choice([1.0, 0.5, 1.7]))})], [0], [1]


def quantize(rng: Rng) -> Case:
    dyadic, (first, second) = bool(rng.integers(2)), (kind(rng), kind(rng))
    shape = (1, int(rng.integers(1, 300)))
    x = T(shape, first, scale(rng, 0.02, 0.3, 1, dyadic), zero(rng, first))
    return (
        [x, T(shape, second, scale(rng, 0.02, 0.3, 1, dyadic), zero(rng, second))],
        [O("quantize", (0,), (1,))],
        [0],
        [1],
    )


def concatenation(rng: Rng) -> Case:
    dtype, axis = kind(rng), int(rng.integers(1, 4))
    grids = [(dtype, scale(rng, 0.05, 0.3), zero(rng, dtype)) for _ in range(3)]
    if dtype == "int8":
        grids = [grids[0]] * 3  # the kernels take int8 on one grid only
    shape = [1, *rng.integers(1, 8, 3).tolist()]
    lengths = rng.integers(1, 8, 2).tolist()
    shapes = [tuple(n if i != axis else length for i, n in enumerate(shape)) for length in (*lengths, sum(lengths))]
    tensors = [T(s, *grid) for s, grid in zip(shapes, grids, strict=True)]
    return tensors, [O("concatenation", (0, 1), (2,), {"axis": int(rng.choice([axis, axis - 4]))})], [0, 1], [2]


def pad(rng: Rng) -> Case:
    grid = (kind(rng), scale(rng, 0.05, 0.3), zero(rng, "int8") // 2 + 64)
    shape, widths = rng.integers(1, 8, 3).tolist(), rng.integers(0, 3, (3, 2))
    amounts = T((4, 2), "int32", None, 0, [[0, 0], *widths.tolist()])
    tensors = [T((1, *shape), *grid), amounts, T((1, *(np.array(shape) + widths.sum(1)).tolist()), *grid)]
    if rng.integers(2):
        return tensors, [O("pad", (0, 1), (2,))], [0], [2]
    tensors.append(T((1,), *grid, data=[int(rng.integers(0, 100))]))
    return tensors, [O("padv2", (0, 1, 3), (2,))], [0], [2]


def reshape(rng: Rng) -> Case:
    grid = (kind(rng), 0.5, 3)
    shape = T((3,), "int32", None, 0, [1, 6, 4])
    tensors = [T((1, 2, 3, 4), *grid), shape, T((1, 6, 4), *grid)]
    return tensors, [O("reshape", (0, 1), (2,))], [0], [2]


def relu(rng: Rng) -> Case:
    grid = (kind(rng), scale(rng, 0.03, 0.3), int(rng.integers(20, 80)))
    shape = (1, 3, 30)
    return [T(shape, *grid), T(shape, *grid)], [O(str(rng.choice(["relu", "relu6"])), (0,), (1,))], [0], [1]


def constant_operand(rng: Rng) -> Case:
    dtype = kind(rng)
    low, high = ends(dtype)
    x, y = (T((1, 4, 9), dtype, scale(rng, 0.02, 0.5), zero(rng, dtype)) for _ in range(2))
    b = T((1, 1, 9), dtype, scale(rng, 0.02, 0.5), zero(rng, dtype), rng.integers(low, high, (1, 1, 9)))
    return [x, b, y], [O("add", (0, 1), (2,), {"activation": 0})], [0], [2]


def float_ends(rng: Rng) -> Case:
    """Real input and output around a linear layer."""
    tensors, (op,), _, _ = product(
        rng, "int8", weights(rng, "int8", (6, 10), 6, 0, False), ((1, 10), (1, 6)), O("fully_connected", (), ()), False
    )
    n = len(tensors)
    all_of = [*tensors, T((1, 10), "float32"), T((1, 6), "float32")]
    ops = [O("quantize", (n,), (0,)), op, O("dequantize", (n - 1,), (n + 1,))]
    return all_of, ops, [n], [n + 1]


CASES: dict[str, Callable[[Rng], Case]] = {
    "conv_2d": conv_2d,
    "depthwise_conv_2d": depthwise_conv_2d,
    "fully_connected": fully_connected,
    "add": add,
    "sub": sub,
    "average_pool_2d": lambda rng: pool(rng, "average_pool_2d"),
    "max_pool_2d": lambda rng: pool(rng, "max_pool_2d"),
    "mean": mean,
    "softmax": softmax,
    "quantize": quantize,
    "concatenation": concatenation,
    "pad": pad,
    "reshape": reshape,
    "relu": relu,
    "constant_operand": constant_operand,
    "float_ends": float_ends,
    **CURVES,
    **MOVES,
    **SUMS,
}


ABSENT = {("elu", "reference")}
"""Operators that a kernel set of LiteRT has not."""

READ = [(name, kernels) for name in CASES for kernels in KERNELS if (name, kernels) not in ABSENT]


def case_file(name: str, seed: int) -> bytes:
    """Return the bytes of a random file of an operator."""
    return tflite(*CASES[name](np.random.default_rng(seed)))
