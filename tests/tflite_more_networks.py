"""Random TensorFlow Lite networks beyond the MobileNet V1 and V2 families: gates, skips, up-sampling, branches."""

from collections.abc import Callable

import numpy as np
from tflite_draws import Rng, ends, weights
from tflite_files import T
from tflite_networks import Chain


def product(net: Chain, a: int, b: int, factor: float) -> int:
    """Append a MUL whose output has the larger shape."""
    shape = max(net.tensors[a].shape, net.tensors[b].shape)
    scale = float(np.max(net.tensors[a].scale)) * float(np.max(net.tensors[b].scale)) * factor
    return net.emit("mul", (a, b), net.tensor(shape, scale), activation=0)


def hard_swish(net: Chain, x: int) -> int:
    return net.emit("hard_swish", (x,), net.tensor(net.tensors[x].shape, float(np.max(net.tensors[x].scale)) * 0.8))


def logistic(net: Chain, x: int) -> int:
    net.tensors.append(T(net.tensors[x].shape, net.dtype, np.float32(1 / 256), ends(net.dtype)[0]))
    return net.emit("logistic", (x,), len(net.tensors) - 1)


def leaky(net: Chain, x: int) -> int:
    shape, scale = net.tensors[x].shape, float(np.max(net.tensors[x].scale))
    return net.emit("leaky_relu", (x,), net.tensor(shape, scale * 0.9), alpha=0.1)


def squeeze(net: Chain, x: int) -> int:
    """Append squeeze-and-excitation: the map's mean, two layers, a hard sigmoid out of ADD, RELU6 and MUL."""
    c = net.tensors[x].shape[3]
    axes = net.tensor((2,), None, data=[1, 2])
    mean = net.emit(
        "mean", (x, axes), net.tensor((1, 1, 1, c), float(np.max(net.tensors[x].scale)) * 0.5), keep_dims=True
    )
    gate = net.conv(net.conv(mean, 8, 1, activation=1), c, 1, activation=0)
    net.tensors[gate].scale = np.float32(12 / 255)
    low, high = ends(net.dtype)
    three = T((), net.dtype, np.float32(3 / 255), low, high)
    sixth = T((1,), net.dtype, np.float32(1 / 6 / 255), low, [high])
    net.tensors += [three, sixth]
    n = len(net.tensors)
    shifted = net.emit("add", (gate, n - 2), net.tensor((1, 1, 1, c), 6 / 255, zero_at=low), activation=3)
    scaled = net.emit("mul", (shifted, n - 1), net.tensor((1, 1, 1, c), 1 / 255, zero_at=low), activation=0)
    return product(net, x, scaled, 255)


def concatenate(net: Chain, first: int, second: int) -> int:
    """Append a join along the channels, both requantized to one grid as converters do for int8."""
    _, h, w, c = net.tensors[first].shape
    d = net.tensors[second].shape[3]
    other = net.emit("quantize", (second,), net.tensor((1, h, w, d), like=first))
    return net.emit("concatenation", (first, other), net.tensor((1, h, w, c + d), like=first), axis=3, activation=0)


def mobilenet_v3(rng: Rng, dtype: str) -> bytes:
    """Hard swish, inverted residuals, gates, a pooled head with a shape that the file computes."""
    net = Chain(rng, dtype, (1, 16, 15, 3))
    x = hard_swish(net, net.conv(0, 8, 3, 2, activation=0))
    for out, stride, gated in ((8, 1, True), (12, 2, False), (12, 1, True)):
        inner = hard_swish(net, net.conv(hard_swish(net, net.conv(x, 24, 1, activation=0)), 0, 3, stride, activation=0))
        inner = net.conv(squeeze(net, inner) if gated else inner, out, 1, activation=0)
        if net.tensors[inner].shape == net.tensors[x].shape:
            total = float(np.max(net.tensors[x].scale) + np.max(net.tensors[inner].scale))
            inner = net.emit("add", (x, inner), net.tensor(net.tensors[x].shape, total * 0.8), activation=0)
        x = inner
    axes = net.tensor((2,), None, data=[1, 2])
    pooled = net.emit(
        "mean", (x, axes), net.tensor((1, 1, 1, 12), float(np.max(net.tensors[x].scale)) * 0.5), keep_dims=True
    )
    x = net.conv(hard_swish(net, net.conv(pooled, 20, 1, activation=0)), 7, 1, activation=0)
    return net.file(net.emit("squeeze", (x,), net.tensor((1, 7), like=x)))


def u_net(rng: Rng, dtype: str) -> bytes:
    """Down by pools, up by transposed convolution, nearest and bilinear resizing, skips joined, a logistic mask."""
    net = Chain(rng, dtype, (1, 16, 16, 3))
    first = net.conv(0, 6, 3, activation=1)
    window = {"padding": 1, "stride_h": 2, "stride_w": 2, "filter_h": 2, "filter_w": 2, "activation": 0}
    second = net.conv(
        net.emit("max_pool_2d", (first,), net.tensor((1, 8, 8, 6), like=first), **window), 8, 3, activation=1
    )
    x = leaky(net, net.conv(net.conv(second, 12, 3, 2, activation=1), 12, 3, activation=0))
    filters = weights(rng, dtype, (8, 3, 3, 12), 8, 0, dyadic=False)
    net.tensors += [T((4,), "int32", None, 0, [1, 8, 8, 8]), filters]
    n, unit = len(net.tensors), np.float32(net.tensors[x].scale) * np.asarray(filters.scale, np.float32)
    up = net.emit(
        "transpose_conv", (n - 2, n - 1, x, net.tensor((8,), unit, data=rng.integers(-2000, 2000, 8))),
        net.tensor((1, 8, 8, 8), float(unit.max()) * np.sqrt(108) * 60),
        padding=0, stride_h=2, stride_w=2, activation=1,
    )  # fmt: skip
    x = net.conv(concatenate(net, second, up), 6, 3, activation=1)
    kind, options = ("resize_nearest_neighbor", {}) if rng.integers(2) else ("resize_bilinear", {"half_pixel": True})
    x = net.emit(kind, (x, net.tensor((2,), None, data=[16, 16])), net.tensor((1, 16, 16, 6), like=x), **options)
    x = net.conv(net.conv(concatenate(net, first, x), 5, 3, activation=1), 1, 1, activation=0)
    return net.file(logistic(net, x))


def detector(rng: Rng, dtype: str) -> bytes:
    """Focus by strided slices, leaky and sigmoid gates, channels split and swapped, boxes read out of a map."""
    net = Chain(rng, dtype, (1, 12, 12, 3))
    parts = []
    for row in (0, 1):
        for column in (0, 1):
            lists = [net.tensor((4,), None, data=v) for v in ([0, row, column, 0], [1, 12, 12, 3], [1, 2, 2, 1])]
            y = net.tensor((1, 6, 6, 3), like=0)
            parts.append(net.emit("strided_slice", (0, *lists), y, begin=0, end=9))
    x = net.emit("concatenation", tuple(parts), net.tensor((1, 6, 6, 12), like=0), axis=3, activation=0)
    x = leaky(net, net.conv(x, 16, 3, activation=0))
    axis = net.tensor((), None, data=3)
    halves = (net.tensor((1, 6, 6, 8), like=x), net.tensor((1, 6, 6, 8), like=x))
    net.emit("split", (axis, x), halves, count=2)
    gate = logistic(net, net.conv(halves[0], 8, 1, activation=0))
    x = net.conv(concatenate(net, product(net, halves[1], gate, 128), halves[0]), 12, 1, activation=0)
    shape = net.tensor((4,), None, data=[1, 36, 3, 4])
    boxes = net.emit("reshape", (x, shape), net.tensor((1, 36, 3, 4), like=x))
    swapped = net.emit(
        "transpose", (boxes, net.tensor((4,), None, data=[0, 2, 1, 3])), net.tensor((1, 3, 36, 4), like=x)
    )
    return net.file(net.emit("tanh", (swapped,), net.tensor((1, 3, 36, 4), 1 / 128)))


MORE_NETWORKS: dict[str, Callable[[Rng, str], bytes]] = {
    "detector": detector,
    "mobilenet_v3": mobilenet_v3,
    "u_net": u_net,
}
