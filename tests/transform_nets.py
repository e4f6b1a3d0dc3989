"""A zoo of small float graphs that every transform must keep the function of.

Weights have channels of very different widths, so that equalization and splitting have something to do. Each builder is
given a generator; `NETS` lists them by what they show.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from float_nets import conv_node, graph_of, linear_node
from numpy.typing import NDArray

from quant.graph import Graph, Input, Node

Rng = np.random.Generator
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0), "ceil_mode": False}


def weight(rng: Rng, *shape: int, spread: float = 1.0) -> NDArray[Any]:
    """Weights whose output and input channels differ in width by up to ``10**(2 · spread)``."""
    values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    values *= 10 ** rng.uniform(-spread, spread, (shape[0], *[1] * (len(shape) - 1)))
    if shape[1] > 1:
        values *= 10 ** rng.uniform(-spread / 2, spread / 2, (1, shape[1], *[1] * (len(shape) - 2)))
    return values.astype(np.float32)


def bias(rng: Rng, n: int) -> NDArray[Any]:
    """Small biases."""
    return rng.normal(0, 0.2, n).astype(np.float32)


def conv(rng: Rng, name: str, source: str, outs: int, ins: int, k: int = 3, **geometry: int) -> Node:
    """A convolution with bias that keeps the map's size at stride 1."""
    geometry.setdefault("padding", k // 2)
    width = ins // geometry.get("groups", 1)
    return conv_node(name, source, weight(rng, outs, width, k, k), bias(rng, outs), **geometry)


def linear(rng: Rng, name: str, source: str, outs: int, ins: int) -> Node:
    """A linear layer with bias."""
    return linear_node(name, source, weight(rng, outs, ins), bias(rng, outs))


def op(name: str, kind: str, *sources: str, **attrs: Any) -> Node:
    """A node without parameters."""
    return Node(name, kind, sources, attrs)


def head(rng: Rng, source: str, channels: int) -> tuple[Node, ...]:
    """Global mean, flatten, classifier."""
    return (
        op("mean", "mean", source, axes=(1, 2)),
        op("flat", "flatten", "mean"),
        linear(rng, "last", "flat", 4, channels),
    )


def chain(rng: Rng) -> Graph:
    """Convolutions through ReLU."""
    return graph_of(
        (3, 8, 8),
        conv(rng, "first", "x", 8, 3),
        op("relu0", "relu", "first"),
        conv(rng, "second", "relu0", 6, 8),
        op("relu1", "relu", "second"),
        conv(rng, "third", "relu1", 6, 6),
        op("relu2", "relu", "third"),
        *head(rng, "relu2", 6),
        name="chain",
    )


def mlp(rng: Rng) -> Graph:
    """Linear layers through ReLU."""
    return graph_of(
        (10,),
        linear(rng, "first", "x", 12, 10),
        op("relu0", "relu", "first"),
        linear(rng, "second", "relu0", 9, 12),
        op("relu1", "relu", "second"),
        linear(rng, "last", "relu1", 5, 9),
        name="mlp",
    )


def leaky(rng: Rng) -> Graph:
    """Leaky ReLU, PReLU with slopes per channel, and a layer with no activation."""
    return graph_of(
        (3, 6, 6),
        conv(rng, "first", "x", 6, 3),
        op("leaky", "leaky_relu", "first", slope=0.1),
        conv(rng, "second", "leaky", 6, 6),
        Node("prelu", "prelu", ("second",), {}, {"weight": rng.uniform(0, 0.5, 6)}),
        conv(rng, "third", "prelu", 5, 6),
        conv(rng, "fourth", "third", 5, 5, k=1),
        *head(rng, "fourth", 5),
        name="leaky",
    )


def pools(rng: Rng) -> Graph:
    """Max and average pooling, flatten to a linear layer that reads each channel at four places."""
    return graph_of(
        (3, 8, 8),
        conv(rng, "first", "x", 6, 3),
        op("relu0", "relu", "first"),
        op("max", "max_pool", "relu0", **POOL, dilation=(1, 1)),
        conv(rng, "second", "max", 6, 6),
        op("avg", "avg_pool", "second", **POOL, count_include_pad=True),
        op("relu1", "relu", "avg"),
        op("flat", "flatten", "relu1"),
        linear(rng, "last", "flat", 4, 24),
        name="pools",
    )


def concat(rng: Rng) -> Graph:
    """Two branches of different widths joined, and one of them read again beside."""
    return graph_of(
        (3, 6, 6),
        conv(rng, "stem", "x", 6, 3),
        op("relu0", "relu", "stem"),
        conv(rng, "left", "relu0", 4, 6),
        op("relu1", "relu", "left"),
        conv(rng, "right", "relu0", 5, 6, k=1),
        op("relu2", "relu", "right"),
        op("joined", "concat", "relu1", "relu2", axis=0),
        conv(rng, "after", "joined", 6, 9),
        op("relu3", "relu", "after"),
        conv(rng, "beside", "relu1", 6, 4, k=1),
        op("sum", "add", "relu3", "beside"),
        *head(rng, "sum", 6),
        name="concat",
    )


def residual(rng: Rng) -> Graph:
    """Two residual blocks: the stem and both blocks' last layers share factors."""
    nodes = [conv(rng, "stem", "x", 6, 3), op("relu", "relu", "stem")]
    source = "relu"
    for block in ("a", "b"):
        nodes += [
            conv(rng, f"{block}.one", source, 5, 6),
            op(f"{block}.relu1", "relu", f"{block}.one"),
            conv(rng, f"{block}.two", f"{block}.relu1", 6, 5),
            op(f"{block}.add", "add", f"{block}.two", source),
            op(f"{block}.relu2", "relu", f"{block}.add"),
        ]
        source = f"{block}.relu2"
    return graph_of((3, 6, 6), *nodes, *head(rng, source, 6), name="residual")


def shortcut(rng: Rng) -> Graph:
    """A parameter-free shortcut: every second place, zero channels put around (CIFAR ResNet, option A)."""
    cut = {"start": (0, 0, 0), "stop": (4, 8, 8), "step": (1, 2, 2)}
    border = {"before": (2, 0, 0), "after": (2, 0, 0), "value": 0.0}
    return graph_of(
        (3, 8, 8),
        conv(rng, "stem", "x", 4, 3),
        op("relu0", "relu", "stem"),
        conv(rng, "one", "relu0", 8, 4, stride=2),
        op("relu1", "relu", "one"),
        conv(rng, "two", "relu1", 8, 8),
        op("cut", "slice", "relu0", **cut),
        op("wider", "pad", "cut", **border),
        op("add", "add", "two", "wider"),
        op("relu2", "relu", "add"),
        *head(rng, "relu2", 8),
        name="shortcut",
    )


def depthwise(rng: Rng) -> Graph:
    """Pointwise, depthwise, pointwise, and a grouped convolution."""
    return graph_of(
        (3, 6, 6),
        conv(rng, "first", "x", 6, 3, k=1),
        op("relu0", "relu", "first"),
        conv(rng, "depth", "relu0", 6, 6, groups=6),
        op("relu1", "relu", "depth"),
        conv(rng, "point", "relu1", 8, 6, k=1),
        op("relu2", "relu", "point"),
        conv(rng, "grouped", "relu2", 6, 8, groups=2),
        op("relu3", "relu", "grouped"),
        *head(rng, "relu3", 6),
        name="depthwise",
    )


def relu6(rng: Rng) -> Graph:
    """ReLU6 that caps, hard limits on both sides, and a ReLU6 behind an addition."""
    return graph_of(
        (3, 6, 6),
        conv_node("first", "x", 40 * weight(rng, 6, 3, 3, 3), bias(rng, 6), padding=1),
        op("cap0", "relu6", "first"),
        conv(rng, "second", "cap0", 6, 6),
        op("cap1", "clamp", "second", lo=-1.0, hi=1.0),
        conv_node("third", "cap1", 20 * weight(rng, 6, 6, 1, 1), bias(rng, 6)),
        op("add", "add", "third", "cap0"),
        op("cap2", "relu6", "add"),
        *head(rng, "cap2", 6),
        name="relu6",
    )


def squeeze(rng: Rng) -> Graph:
    """Squeeze and excite: a gate through sigmoid multiplies channels."""
    return graph_of(
        (3, 6, 6),
        conv(rng, "first", "x", 6, 3),
        op("relu0", "relu", "first"),
        op("pooled", "mean", "relu0", axes=(1, 2)),
        conv(rng, "down", "pooled", 4, 6, k=1),
        op("relu1", "relu", "down"),
        conv(rng, "up", "relu1", 6, 4, k=1),
        op("gate", "sigmoid", "up"),
        op("scaled", "mul", "relu0", "gate"),
        conv(rng, "second", "scaled", 5, 6),
        op("relu2", "relu", "second"),
        *head(rng, "relu2", 5),
        name="squeeze",
    )


def smooth(rng: Rng) -> Graph:
    """Functions that hand no factor on: GELU, SiLU, h-swish, sigmoid, tanh."""
    nodes, source = [], "x"
    functions = {"gelu": {"approximate": "none"}, "silu": {}, "hardswish": {}, "sigmoid": {}, "tanh": {}}
    for i, (kind, attrs) in enumerate(functions.items()):
        nodes += [linear(rng, f"layer{i}", source, 6, 6), op(kind, kind, f"layer{i}", **attrs)]
        source = kind
    return graph_of((6,), *nodes, linear(rng, "last", source, 4, 6), name="smooth")


def early_output(rng: Rng) -> Graph:
    """A tensor that is an output and read on as well."""
    return graph_of(
        (3, 6, 6),
        conv(rng, "first", "x", 6, 3),
        op("relu0", "relu", "first"),
        conv(rng, "second", "relu0", 6, 6),
        op("relu1", "relu", "second"),
        conv(rng, "third", "relu1", 4, 6),
        outputs=("third", "relu1"),
        name="early output",
    )


def dead(rng: Rng) -> Graph:
    """A channel without weights, one that ReLU silences, and one that nobody reads."""
    first, second = weight(rng, 6, 3, 3, 3), weight(rng, 5, 6, 3, 3)
    first[1], second[:, 3] = 0, 0
    offsets = bias(rng, 6)
    offsets[1], offsets[2] = 0, -1e4
    return graph_of(
        (3, 6, 6),
        conv_node("first", "x", first, offsets, padding=1),
        op("relu0", "relu", "first"),
        conv_node("second", "relu0", second, bias(rng, 5), padding=1),
        op("relu1", "relu", "second"),
        *head(rng, "relu1", 5),
        name="dead",
    )


def affine(rng: Rng) -> Graph:
    """A batch norm that no layer could take up: offset per channel between concat and ReLU (DenseNet)."""
    return graph_of(
        (3, 6, 6),
        conv(rng, "first", "x", 4, 3),
        op("relu0", "relu", "first"),
        conv(rng, "second", "relu0", 3, 4),
        op("joined", "concat", "relu0", "second", axis=0),
        Node("norm", "affine", ("joined",), {"axis": 0}, {"weight": rng.uniform(0.2, 3, 7), "bias": bias(rng, 7)}),
        op("relu1", "relu", "norm"),
        conv(rng, "third", "relu1", 5, 7),
        op("relu2", "relu", "third"),
        *head(rng, "relu2", 5),
        name="affine",
    )


def _norm(rng: Rng, name: str, source: str, width: int, kind: str = "layer_norm") -> Node:
    params = {"weight": (10 ** rng.uniform(-1, 1, width)).astype(np.float32)}
    if kind == "layer_norm":
        params["bias"] = bias(rng, width)
    return Node(name, kind, (source,), {"eps": 1e-5, "ndim": 1}, params)


def transformer(rng: Rng) -> Graph:
    """A block of attention and a gated MLP, norms first: four heads, two of them for keys and values."""
    tokens, width, size = 5, 8, 4
    heads = {"q": 4, "k": 2, "v": 2}
    nodes = [_norm(rng, "norm1", "x", width)]
    for name, count in heads.items():
        nodes += [
            linear(rng, name, "norm1", count * size, width),
            op(f"{name}.split", "reshape", name, shape=(tokens, count, size)),
            op(f"{name}.heads", "permute", f"{name}.split", order=(1, 0, 2)),
        ]
    nodes += [
        op("attention", "attention", "q.heads", "k.heads", "v.heads", causal=True, scale=0.5),
        op("merge", "permute", "attention", order=(1, 0, 2)),
        op("merged", "reshape", "merge", shape=(tokens, 16)),
        linear(rng, "out", "merged", width, 16),
        op("add1", "add", "out", "x"),
        _norm(rng, "norm2", "add1", width, "rms_norm"),
        linear(rng, "gate", "norm2", 12, width),
        op("silu", "silu", "gate"),
        linear(rng, "up", "norm2", 12, width),
        op("gated", "mul", "silu", "up"),
        linear(rng, "down", "gated", width, 12),
        op("add2", "add", "down", "add1"),
        linear(rng, "last", "add2", 3, width),
    ]
    return graph_of((tokens, width), *nodes, name="transformer")


def lstm(rng: Rng) -> Graph:
    """A layer before an LSTM, which reads its channels and hands none on."""
    hidden = 4
    params = {
        "weight_ih": weight(rng, 4 * hidden, 6), "weight_hh": 0.3 * weight(rng, 4 * hidden, hidden),
        "bias": bias(rng, 4 * hidden),
    }  # fmt: skip
    return graph_of(
        (4, 5),
        linear(rng, "first", "x", 6, 5),
        op("relu0", "relu", "first"),
        Node("lstm", "lstm", ("relu0",), {"hidden": hidden}, params),
        linear(rng, "last", "lstm", 3, hidden),
        name="lstm",
    )


def embedded(rng: Rng) -> Graph:
    """An embedding read by a linear layer."""
    nodes = (
        Node("table", "embedding", ("x",), {}, {"weight": weight(rng, 7, 6)}),
        linear(rng, "first", "table", 5, 6),
        op("relu0", "relu", "first"),
        linear(rng, "last", "relu0", 3, 5),
    )
    return Graph("embedded", (Input("x", (4,), "index"),), nodes, ("last",)).check()


NETS: dict[str, Callable[[Rng], Graph]] = {
    build.__name__: build
    for build in (
        chain, mlp, leaky, pools, concat, residual, shortcut, depthwise, relu6, squeeze, smooth, early_output, dead,
        affine, transformer, lstm, embedded,
    )
}  # fmt: skip


def samples(graph: Graph, rng: Rng, count: int) -> NDArray[Any]:
    """Return inputs for a net of the zoo."""
    item = graph.inputs[0]
    if item.kind == "index":
        return rng.integers(0, 7, (count, *item.shape))
    return rng.normal(size=(count, *item.shape)).astype(np.float32)
