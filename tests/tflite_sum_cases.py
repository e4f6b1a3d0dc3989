"""Random TensorFlow Lite files of transposed convolutions, products of activations, and reductions over any axes."""

from collections.abc import Callable
from functools import partial

import numpy as np
from tflite_draws import Case, Rng, kind, scale, weights, zero
from tflite_files import O, T


def transpose_conv(rng: Rng) -> Case:
    dtype, dyadic, padding = kind(rng), bool(rng.integers(2)), int(rng.integers(2))
    (h, w), channels, out = rng.integers(1, 6, 2).tolist(), int(rng.integers(1, 8)), int(rng.integers(1, 20))
    kernel, stride = rng.integers(1, 5, 2).tolist(), rng.integers(1, 4, 2).tolist()
    sizes = []
    for n, k, s in zip((h, w), kernel, stride, strict=True):
        full = n * s if padding == 0 else (n - 1) * s + k
        sizes.append(full - int(rng.integers(0, s)) if padding == 0 else full + int(rng.integers(0, max(s - k, 0) + 1)))
    filters = weights(rng, dtype, (out, *kernel, channels), out, 0, dyadic)
    x = T((1, h, w, channels), dtype, scale(rng, 0.01, 0.1, 1, dyadic), zero(rng, dtype))
    spread = float(x.scale[0]) * float(np.max(filters.scale)) * np.sqrt(channels * kernel[0] * kernel[1]) * 5000 / 60
    y = T((1, *sizes, out), dtype, scale(rng, spread / 4, spread, 1, dyadic), zero(rng, dtype))
    bias = T((out,), "int32", x.scale * filters.scale, 0, rng.integers(-3000, 3000, out))
    told = T((4,), "int32", None, 0, [1, *sizes, out])
    options = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "activation": int(rng.choice([0, 0, 1, 3])),
    }  # fmt: skip
    inputs = (0, 1, 2, 3) if rng.integers(4) else (0, 1, 2)
    return [told, filters, x, bias, y], [O("transpose_conv", inputs, (4,), options)], [2], [4]


def batch_matmul(rng: Rng) -> Case:
    heads, m, k, n = rng.integers(1, 6, 4).tolist()
    turned = [bool(v) for v in rng.integers(2, size=2)]
    dyadic = bool(rng.integers(2))
    a, b = (heads, k, m) if turned[0] else (heads, m, k), (heads, n, k) if turned[1] else (heads, k, n)
    tensors = [T((1, *s), "int8", scale(rng, 0.02, 0.1, 1, dyadic), zero(rng, "int8")) for s in (a, b)]
    spread = float(tensors[0].scale[0] * tensors[1].scale[0]) * np.sqrt(k) * 50
    tensors.append(T((1, heads, m, n), "int8", scale(rng, spread / 4, spread * 4, 1, dyadic), zero(rng, "int8")))
    op = O("batch_matmul", (0, 1), (2,), {"adj_x": turned[0], "adj_y": turned[1]})
    return tensors, [op], [0, 1], [2]


def over_axes(rng: Rng, name: str) -> Case:
    dtype, keep, dyadic = kind(rng), bool(rng.integers(2)), bool(rng.integers(2))
    rank = int(rng.integers(2, 5))
    shape = (1, *rng.integers(1, 7, rank - 1).tolist())
    count = int(rng.integers(1, rank - 1)) if rank > 2 else 1
    axes = (1 + rng.choice(rank - 1, count, replace=False)).tolist()
    left = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
    if len(left) < 2:
        return over_axes(rng, name)
    told = [a - rank if rng.integers(2) else a for a in axes]
    x = T(shape, dtype, scale(rng, 0.02, 0.1, 1, dyadic), zero(rng, dtype))
    y = T(left, dtype, x.scale, x.zero)
    if name == "mean":
        y = T(left, dtype, x.scale * scale(rng, 0.25, 2, 1, dyadic), zero(rng, dtype))
    return [x, T((len(told),), "int32", None, 0, told), y], [O(name, (0, 1), (2,), {"keep_dims": keep})], [0], [2]


SUMS: dict[str, Callable[[Rng], Case]] = {
    "batch_matmul": batch_matmul,
    "mean_of_axes": partial(over_axes, name="mean"),
    "reduce_max": partial(over_axes, name="reduce_max"),
    "reduce_min": partial(over_axes, name="reduce_min"),
    "transpose_conv": transpose_conv,
}
