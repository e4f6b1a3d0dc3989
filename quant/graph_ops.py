"""The operations of the float graph: one table, with the shape rule of each.

Contract: torch-free. `OPS[name]` says how many tensors an operation reads, which parameters and attributes it
must or may have, and computes the shape of its result, raising ValueError where the parts do not fit.
All shapes exclude the batch axis, and so do all axis numbers: axis 0 of an image is its channel axis.
Parameters are float32 in torch's layouts (convolution OIHW or OIW, linear OI). Every tensor is batch-first.

=============  ======  =====================================================================================
operation      reads   meaning (params; attributes)
=============  ======  =====================================================================================
conv           1       1-d or 2-d by the weight's rank (weight [O, I/groups, *k], bias? [O]; stride, dilation,
                       groups, padding = all begins, then all ends: (top, left, bottom, right) or (left, right))
linear         1       along the last axis (weight [O, I], bias? [O])
batch_norm     1       along axis 0, evaluation mode (weight, bias, mean, var; eps)
scale          1       times one factor per channel, or one for all (weight [n or 1]; axis)
affine         1       times a factor plus an offset per channel (weight, bias [n or 1]; axis)
clamp_channels 1       min(max(x, lo), hi) with limits per channel (lo, hi [n or 1]; axis)
prelu          1       slope per channel or one, for negative values, along axis 0 (weight [n or 1])
embedding      1       row of a table per index (weight [V, D])
constant       0       a stored tensor, the same for each sample of a batch (value, batch axis left out)
add sub mul    2       element-wise, numpy broadcasting over the axes behind the batch (ranks equal)
matmul         2       over the last two axes, leading axes broadcast
concat         1..     along `axis`
unary          1       relu relu6 sigmoid tanh silu hardswish hardsigmoid exp log neg abs erf sqrt rsqrt square
                       reciprocal softplus mish sin cos; with attributes: clamp (lo, hi), leaky_relu (slope),
                       elu (alpha), gelu (approximate: "none" | "tanh"), pow (exponent),
                       threshold (threshold, value: x where it is above the threshold, else the value)
softmax        1       along `axis`
layer_norm     1       over the last `ndim` axes (weight?, bias?; eps, ndim)
rms_norm       1       x / sqrt(mean(x^2) + eps) over the last `ndim` axes (weight?; eps, ndim)
max_pool       1       1-d or 2-d by the kernel's length (; kernel, stride, padding as conv, dilation, ceil_mode)
avg_pool       1       likewise (; kernel, stride, padding, ceil_mode, count_include_pad)
mean           1       over `axes`, which stay as size 1
flatten        1       all axes into one
reshape        1       row-major to `shape`
permute        1       result axis i is input axis order[i]
slice          1       start, stop, step: one entry for each axis, non-negative, step >= 1
pad            1       before, after: one entry for each axis; value
duplicate      1       gathers along `axis`: result i is input src[i], times weight[i] if given (weight? [len(src)])
lstm           1       one layer, one direction, [T, I] -> [T, hidden], gates i, f, g, o as in torch
                       (weight_ih [4h, I], weight_hh [4h, h], bias? [4h], h0? [h], c0? [h]; hidden)
rotary         1       x cos + concat(-x2, x1) sin, x1 and x2 the halves of [heads, T, d] along d (cos, sin [1, T, d])
attention      3       softmax(q k' * scale + bias, where masked) v over [heads, T, d]; key/value heads may be
                       fewer, each then serves a run of query heads (mask? [.., T, S] 1 = attend, bias? likewise;
                       causal, scale). `causal` lets query t see keys 0..t.
=============  ======  =====================================================================================
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Shape = tuple[int, ...]


class NodeLike(Protocol):
    """What a shape rule may know of a node."""

    @property
    def attrs(self) -> Mapping[str, Any]: ...
    @property
    def params(self) -> Mapping[str, np.ndarray]: ...


ShapeRule = Callable[[NodeLike, tuple[Shape, ...]], Shape]


@dataclass(frozen=True)
class OpSpec:
    """What an operation reads and needs.

    Parameters
    ----------
    shape
        Rule giving the result's shape from the node and its inputs' shapes, batch excluded.
    arity
        Number of tensors read; -1 for one or more.
    params, optional_params
        Names of the parameters that must and may be there.
    attrs
        Names of the attributes, all of which must be there.
    doc
        One line.
    """

    shape: ShapeRule
    arity: int = 1
    params: tuple[str, ...] = ()
    optional_params: tuple[str, ...] = ()
    attrs: tuple[str, ...] = ()
    doc: str = ""


def need(holds: bool, rule: str, got: object, remedy: str) -> None:
    """Raise ValueError stating `rule` and what was found, unless it holds."""
    if not holds:
        raise ValueError(f"{rule} (got {got}); {remedy}")


def _param(node: NodeLike, name: str, shapes: tuple[Shape, ...]) -> None:
    """Require that the parameter, if present, has one of the shapes."""
    if name in node.params:
        got = node.params[name].shape
        need(got in shapes, f"{name} must have shape {' or '.join(map(str, shapes))}", got, "fix the parameter")


def _axis(node: NodeLike, shape: Shape, name: str = "axis") -> int:
    axis: int = node.attrs[name]
    need(0 <= axis < len(shape), f"{name} must be in 0..{len(shape) - 1}", axis, "axes exclude the batch")
    return axis


def _same(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    return shapes[0]


def _window(size: int, kernel: int, stride: int, pads: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """Return the number of window positions along an axis (torch's rule; `pads` = begin + end)."""
    reach = size + pads - dilation * (kernel - 1) - 1
    need(reach >= 0, "window must fit into the padded input", f"size {size}, kernel {kernel}", "use a larger input")
    return (-(-reach // stride) if ceil_mode else reach // stride) + 1


def _conv(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    weight, attrs, shape = node.params["weight"], node.attrs, shapes[0]
    nd = weight.ndim - 2
    need(
        nd in (1, 2) and len(shape) == nd + 1,
        "conv weight and input must be 1-d or 2-d alike",
        weight.shape,
        str(shape),
    )
    groups, channels = attrs["groups"], weight.shape[1] * attrs["groups"]
    need(shape[0] == channels, f"conv input must have {channels} channels", shape[0], "fix weight or groups")
    need(weight.shape[0] % groups == 0, "conv outputs must divide by groups", weight.shape[0], "fix groups")
    _param(node, "bias", ((weight.shape[0],),))
    pads = attrs["padding"]
    need(len(pads) == 2 * nd, f"conv padding must have {2 * nd} entries", pads, "give all begins, then all ends")
    spatial = (
        _window(shape[1 + i], weight.shape[2 + i], attrs["stride"][i], pads[i] + pads[nd + i], attrs["dilation"][i])
        for i in range(nd)
    )
    return (weight.shape[0], *spatial)


def pool_ceil_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Return torch's ceil-mode window count: the last window must start inside the input or its begin padding."""
    count = _window(size, kernel, stride, before + after, dilation, ceil_mode=True)
    return count - 1 if (count - 1) * stride >= size + before else count


def _pool(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    attrs, shape = node.attrs, shapes[0]
    nd = len(attrs["kernel"])
    need(nd in (1, 2) and len(shape) == nd + 1, f"pooled input must have {nd + 1} axes", shape, "fix the kernel")
    pads, dilation = attrs["padding"], attrs.get("dilation", (1,) * nd)
    need(len(pads) == 2 * nd, f"pool padding must have {2 * nd} entries", pads, "give all begins, then all ends")
    even = tuple(pads[:nd]) == tuple(pads[nd:]) and all(
        2 * p <= k for p, k in zip(pads, attrs["kernel"] * 2, strict=True)
    )
    need(even or not attrs["ceil_mode"], "ceil_mode needs equal pads, at most half the kernel", pads, "pad before")
    out = [shape[0]]
    for i in range(nd):
        size, kernel, stride = shape[1 + i], attrs["kernel"][i], attrs["stride"][i]
        if attrs["ceil_mode"]:
            out.append(pool_ceil_size(size, kernel, stride, pads[i], pads[nd + i], dilation[i]))
        else:
            out.append(_window(size, kernel, stride, pads[i] + pads[nd + i], dilation[i]))
    return tuple(out)


def _linear(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    weight = node.params["weight"]
    need(weight.ndim == 2, "linear weight must be [O, I]", weight.shape, "fix the parameter")
    need(
        shapes[0][-1:] == weight.shape[1:],
        f"linear input must have {weight.shape[1]} features",
        shapes[0],
        "fix the weight",
    )
    _param(node, "bias", ((weight.shape[0],),))
    return (*shapes[0][:-1], weight.shape[0])


def _per_channel(*names: str) -> ShapeRule:
    def rule(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
        axis = _axis(node, shapes[0]) if "axis" in node.attrs else 0
        for name in names:
            _param(node, name, ((shapes[0][axis],), (1,)))
        return shapes[0]

    return rule


def _batch_norm(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    for name in ("weight", "bias", "mean", "var"):
        _param(node, name, (shapes[0][:1],))
    return shapes[0]


def _broadcast(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    a, b = shapes
    fits = len(a) == len(b) and all(x == y or 1 in (x, y) for x, y in zip(a, b, strict=True))
    need(fits, "operands must broadcast with equal rank", f"{a} and {b}", "insert a reshape")
    return tuple(max(x, y) if 0 not in (x, y) else 0 for x, y in zip(a, b, strict=True))


def _matmul(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    a, b = shapes
    need(
        len(a) == len(b) >= 2 and a[-1] == b[-2],
        "matmul operands must be [.., m, k] and [.., k, n]",
        f"{a}, {b}",
        "fix k",
    )
    return (*_broadcast(node, (a[:-2], b[:-2])), a[-2], b[-1])


def _concat(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    axis = _axis(node, shapes[0])
    for shape in shapes:
        alike = len(shape) == len(shapes[0]) and all(
            x == y for i, (x, y) in enumerate(zip(shape, shapes[0], strict=True)) if i != axis
        )
        need(alike, f"concatenated shapes must agree but for axis {axis}", shapes, "fix the axis")
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _softmax(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    _axis(node, shapes[0])
    return shapes[0]


def _norm(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    ndim = node.attrs["ndim"]
    need(
        1 <= ndim <= len(shapes[0]), f"ndim must be in 1..{len(shapes[0])}", ndim, "the batch is never normalized over"
    )
    for name in ("weight", "bias"):
        _param(node, name, (shapes[0][-ndim:],))
    return shapes[0]


def _mean(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    axes = node.attrs["axes"]
    need(all(0 <= a < len(shapes[0]) for a in axes), f"axes must be in 0..{len(shapes[0]) - 1}", axes, "fix the axes")
    return tuple(1 if i in axes else d for i, d in enumerate(shapes[0]))


def _reshape(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    shape: Shape = tuple(node.attrs["shape"])
    need(math.prod(shape) == math.prod(shapes[0]), f"shape must hold {math.prod(shapes[0])} elements", shape, "fix it")
    return shape


def _permute(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    order = node.attrs["order"]
    need(sorted(order) == list(range(len(shapes[0]))), f"order must permute {len(shapes[0])} axes", order, "fix it")
    return tuple(shapes[0][i] for i in order)


def _slice(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    start, stop, step = (node.attrs[k] for k in ("start", "stop", "step"))
    fits = len(start) == len(stop) == len(step) == len(shapes[0]) and all(
        0 <= a <= b <= d and s >= 1 for a, b, s, d in zip(start, stop, step, shapes[0], strict=True)
    )
    need(fits, f"slice must lie inside {shapes[0]}", f"{start}, {stop}, {step}", "give one entry for each axis")
    return tuple(-(-(b - a) // s) for a, b, s in zip(start, stop, step, strict=True))


def _pad(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    before, after = node.attrs["before"], node.attrs["after"]
    fits = len(before) == len(after) == len(shapes[0]) and min((*before, *after), default=0) >= 0
    need(fits, f"padding must be >= 0, one entry for each of {len(shapes[0])} axes", f"{before}, {after}", "fix it")
    return tuple(a + d + b for a, d, b in zip(before, shapes[0], after, strict=True))


def _duplicate(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    axis, src = _axis(node, shapes[0]), node.attrs["src"]
    need(all(0 <= i < shapes[0][axis] for i in src), f"src must be in 0..{shapes[0][axis] - 1}", src, "name originals")
    _param(node, "weight", ((len(src),),))
    return (*shapes[0][:axis], len(src), *shapes[0][axis + 1 :])


def _embedding(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    need(node.params["weight"].ndim == 2, "embedding weight must be [V, D]", node.params["weight"].shape, "fix it")
    return (*shapes[0], node.params["weight"].shape[1])


def _lstm(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    hidden = node.attrs["hidden"]
    need(len(shapes[0]) == 2, "lstm input must be [T, features]", shapes[0], "fix the input")
    _param(node, "weight_ih", ((4 * hidden, shapes[0][1]),))
    _param(node, "weight_hh", ((4 * hidden, hidden),))
    for name, size in (("bias", 4 * hidden), ("h0", hidden), ("c0", hidden)):
        _param(node, name, ((size,),))
    return (shapes[0][0], hidden)


def _attention(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    q, k, v = shapes
    fits = len(q) == len(k) == len(v) == 3 and q[2] == k[2] and k[:2] == v[:2] and q[0] % k[0] == 0
    need(fits, "attention must read q [heads, T, d], k [kv, S, d], v [kv, S, e]", shapes, "kv must divide heads")
    for name in ("mask", "bias"):
        if name in node.params:
            got = node.params[name].shape
            want = (q[0], q[1], k[1])
            fits = len(got) == 3 and all(g in (1, w) for g, w in zip(got, want, strict=True))
            need(fits, f"attention {name} must broadcast to {want}", got, "fix the parameter")
    return (q[0], q[1], v[2])


def _rotary(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    shape = shapes[0]
    need(
        len(shape) == 3 and shape[2] % 2 == 0, "rotary input must be [heads, T, d] with d even", shape, "fix the input"
    )
    for name in ("cos", "sin"):
        _param(node, name, ((1, *shape[1:]), shape))
    return shape


def _constant(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    return tuple(node.params["value"].shape)


def _flatten(node: NodeLike, shapes: tuple[Shape, ...]) -> Shape:
    return (math.prod(shapes[0]),)


UNARY: dict[str, tuple[str, ...]] = {
    "relu": (), "relu6": (), "sigmoid": (), "tanh": (), "silu": (), "hardswish": (), "hardsigmoid": (), "exp": (),
    "log": (), "neg": (), "abs": (), "erf": (), "sqrt": (), "rsqrt": (), "square": (), "reciprocal": (),
    "softplus": (), "mish": (), "sin": (), "cos": (), "clamp": ("lo", "hi"), "leaky_relu": ("slope",),
    "elu": ("alpha",), "gelu": ("approximate",), "pow": ("exponent",), "threshold": ("threshold", "value"),
}  # fmt: skip
"""Element-wise functions of one tensor, with the names of their attributes."""

_POOL = ("kernel", "stride", "padding", "ceil_mode")

OPS: dict[str, OpSpec] = {
    "conv": OpSpec(_conv, 1, ("weight",), ("bias",), ("stride", "padding", "dilation", "groups"), "convolution"),
    "linear": OpSpec(_linear, 1, ("weight",), ("bias",), (), "x W' + b along the last axis"),
    "batch_norm": OpSpec(_batch_norm, 1, ("weight", "bias", "mean", "var"), (), ("eps",), "batch normalization"),
    "scale": OpSpec(_per_channel("weight"), 1, ("weight",), (), ("axis",), "times a constant per channel"),
    "affine": OpSpec(_per_channel("weight", "bias"), 1, ("weight", "bias"), (), ("axis",), "x w + b per channel"),
    "clamp_channels": OpSpec(_per_channel("lo", "hi"), 1, ("lo", "hi"), (), ("axis",), "clamp per channel"),
    "prelu": OpSpec(_per_channel("weight"), 1, ("weight",), (), (), "leaky ReLU with learned slopes"),
    "embedding": OpSpec(_embedding, 1, ("weight",), (), (), "table row per index"),
    "constant": OpSpec(_constant, 0, ("value",), (), (), "stored tensor"),
    "add": OpSpec(_broadcast, 2, doc="a + b"),
    "sub": OpSpec(_broadcast, 2, doc="a - b"),
    "mul": OpSpec(_broadcast, 2, doc="a * b"),
    "matmul": OpSpec(_matmul, 2, doc="a @ b"),
    "concat": OpSpec(_concat, -1, (), (), ("axis",), "join along an axis"),
    **{name: OpSpec(_same, 1, (), (), attrs, "element-wise") for name, attrs in UNARY.items()},
    "softmax": OpSpec(_softmax, 1, (), (), ("axis",), "softmax along an axis"),
    "layer_norm": OpSpec(_norm, 1, (), ("weight", "bias"), ("eps", "ndim"), "layer normalization"),
    "rms_norm": OpSpec(_norm, 1, (), ("weight",), ("eps", "ndim"), "root-mean-square normalization"),
    "max_pool": OpSpec(_pool, 1, (), (), (*_POOL, "dilation"), "maximum over windows"),
    "avg_pool": OpSpec(_pool, 1, (), (), (*_POOL, "count_include_pad"), "average over windows"),
    "mean": OpSpec(_mean, 1, (), (), ("axes",), "mean over axes, kept as size 1"),
    "flatten": OpSpec(_flatten, 1, doc="all axes into one"),
    "reshape": OpSpec(_reshape, 1, (), (), ("shape",), "row-major reshape"),
    "permute": OpSpec(_permute, 1, (), (), ("order",), "reorder axes"),
    "slice": OpSpec(_slice, 1, (), (), ("start", "stop", "step"), "strided part"),
    "pad": OpSpec(_pad, 1, (), (), ("before", "after", "value"), "constant border"),
    "duplicate": OpSpec(_duplicate, 1, (), ("weight",), ("axis", "src"), "gather along an axis"),
    "lstm": OpSpec(_lstm, 1, ("weight_ih", "weight_hh"), ("bias", "h0", "c0"), ("hidden",), "one LSTM layer"),
    "rotary": OpSpec(_rotary, 1, ("cos", "sin"), (), (), "rotary position embedding"),
    "attention": OpSpec(_attention, 3, (), ("mask", "bias"), ("causal", "scale"), "scaled dot-product attention"),
}
