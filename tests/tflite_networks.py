"""Random TensorFlow Lite networks of the MobileNet families, int8 and uint8, small enough for tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tflite_draws import Rng, ends, scale, size, weights, zero
from tflite_files import O, T, tflite


class Chain:
    """Tensors and operators of a network that is being written."""

    def __init__(self, rng: Rng, dtype: str, shape: tuple[int, ...]) -> None:
        self.rng, self.dtype = rng, dtype
        self.tensors = [T(shape, dtype, scale(rng, 0.02, 0.05), zero(rng, dtype))]
        self.ops: list[O] = []

    def tensor(
        self,
        shape: tuple[int, ...],
        factor: Any = None,
        like: int | None = None,
        data: Any = None,
        zero_at: int | None = None,
    ) -> int:
        if like is not None:
            made = T(shape, self.dtype, self.tensors[like].scale, self.tensors[like].zero)
        elif data is not None:
            made = T(shape, "int32", factor, 0, data)
        else:
            made = T(shape, self.dtype, np.float32(factor), zero(self.rng, self.dtype) if zero_at is None else zero_at)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def emit(self, kind: str, inputs: tuple[int, ...], output: int | tuple[int, ...], **options: Any) -> int:
        outputs = (output,) if isinstance(output, int) else output
        self.ops.append(O(kind, inputs, outputs, options))
        return outputs[0]

    def conv(self, x: int, out: int, kernel: int, stride: int = 1, activation: int = 3, padding: int = 0) -> int:
        """Append a convolution, depthwise where `out` is 0."""
        _, h, w, c = self.tensors[x].shape
        depthwise, out = out == 0, out or c
        shape = (1, kernel, kernel, c) if depthwise else (out, kernel, kernel, c)
        self.tensors.append(weights(self.rng, self.dtype, shape, out, 3 if depthwise else 0, dyadic=False))
        filters = len(self.tensors) - 1
        unit = np.float32(self.tensors[x].scale) * np.asarray(self.tensors[filters].scale, np.float32)
        bias = self.tensor((out,), unit, data=self.rng.integers(-2000, 2000, out))
        k = kernel * kernel * (1 if depthwise else c)
        y = self.tensor(
            (1, size(h, kernel, stride, 1, padding), size(w, kernel, stride, 1, padding), out),
            float(unit.max()) * np.sqrt(k) * 5000 / self.rng.uniform(60, 120),
        )
        options = {"padding": padding, "stride_h": stride, "stride_w": stride, "activation": activation}
        kind = "depthwise_conv_2d" if depthwise else "conv_2d"
        return self.emit(kind, (x, filters, bias), y, **options, **({"multiplier": 1} if depthwise else {}))

    def file(self, output: int) -> bytes:
        return tflite(self.tensors, self.ops, [0], [output])


def _head(net: Chain, x: int, classes: int) -> int:
    """Append a 1×1 classifier, reshape and softmax."""
    x = net.conv(x, classes, 1, activation=0)
    shape = net.tensor((2,), None, data=[1, classes])
    x = net.emit("reshape", (x, shape), net.tensor((1, classes), like=x))
    net.tensors.append(T((1, classes), net.dtype, 1 / 256, ends(net.dtype)[0]))
    return net.emit("softmax", (x,), len(net.tensors) - 1, beta=1.0)


def mobilenet_v1(rng: Rng, dtype: str) -> bytes:
    """Depthwise and pointwise layers, average pool, classifier."""
    net = Chain(rng, dtype, (1, 17, 16, 3))
    x = net.conv(0, 8, 3, 2)
    for out, stride in ((12, 1), (20, 2), (21, 1)):
        x = net.conv(net.conv(x, 0, 3, stride), out, 1)
    _, h, w, c = net.tensors[x].shape
    window = {"padding": 1, "stride_h": 2, "stride_w": 2, "filter_h": h, "filter_w": w, "activation": 0}
    x = net.emit("average_pool_2d", (x,), net.tensor((1, 1, 1, c), like=x), **window)
    return net.file(_head(net, x, 11))


def mobilenet_v2(rng: Rng, dtype: str) -> bytes:
    """Inverted residuals, an explicit pad in front of a VALID layer, mean over the map, classifier."""
    net = Chain(rng, dtype, (1, 14, 15, 3))
    amounts = net.tensor((4, 2), None, data=[[0, 0], [0, 1], [1, 0], [0, 0]])
    x = net.emit("pad", (0, amounts), net.tensor((1, 15, 16, 3), like=0))
    x = net.conv(x, 16, 3, 2, padding=1)
    for out, stride in ((16, 1), (10, 2), (10, 1)):
        inner = net.conv(net.conv(net.conv(x, 40, 1), 0, 3, stride), out, 1, activation=0)
        if net.tensors[inner].shape == net.tensors[x].shape:
            y = net.tensor(net.tensors[x].shape, float(net.tensors[x].scale + net.tensors[inner].scale) * 0.8)
            inner = net.emit("add", (x, inner), y, activation=0)
        x = inner
    axes = net.tensor((2,), None, data=[1, 2])
    pooled = net.tensor((1, 1, 1, net.tensors[x].shape[3]), float(net.tensors[x].scale) * 0.5)
    return net.file(_head(net, net.emit("mean", (x, axes), pooled, keep_dims=True), 7))


def branches(rng: Rng, dtype: str) -> bytes:
    """Two branches of convolution and max pool joined, on one grid, then a linear layer."""
    net = Chain(rng, dtype, (1, 9, 9, 5))
    first = net.conv(0, 6, 3, 2, activation=1)
    window = {"padding": 0, "stride_h": 2, "stride_w": 2, "filter_h": 3, "filter_w": 3, "activation": 1}
    net.tensors[first].scale, net.tensors[first].zero = net.tensors[0].scale, net.tensors[0].zero
    second = net.emit("max_pool_2d", (0,), net.tensor((1, 5, 5, 5), like=0), **window)
    x = net.emit("concatenation", (first, second), net.tensor((1, 5, 5, 11), like=0), axis=3, activation=0)
    x = net.conv(x, 0, 3, 1, activation=1)
    flat = net.emit("reshape", (x, net.tensor((2,), None, data=[1, 275])), net.tensor((1, 275), like=x))
    net.tensors.append(weights(rng, dtype, (9, 275), 9, 0, dyadic=False))
    kernel = len(net.tensors) - 1
    y = net.tensor((1, 9), float(net.tensors[x].scale) * float(np.max(net.tensors[kernel].scale)) * 900)
    return net.file(net.emit("fully_connected", (flat, kernel), y, activation=0))


NETWORKS: dict[str, Callable[[Rng, str], bytes]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "branches": branches,
}
