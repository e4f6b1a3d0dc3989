"""Capture of what changes the size of maps, of maxima, and of norms over groups of channels.

Contract: handlers as `quant.capture_ops` describes; they are compositions (`quant.graph_compose`).
"""

import math
from typing import Any

import numpy as np
import torch

from quant import capture_axes as ax
from quant import graph_compose as compose
from quant.capture_axes import Value
from quant.capture_build import Args, Builder, Handler, UnsupportedError, array_of, numbers, tensor_axis, value_of
from quant.capture_layers import LAYERS
from quant.capture_sequence import Missing
from quant.graph_compose import Composer, Transposed


def composer(b: Builder) -> Composer:
    """Return the way in which compositions add nodes."""
    return Composer(b.emit, b.shapes)


def _conv_transpose(b: Builder, a: Args) -> Value:
    weight = array_of(a["weight"], "weight")
    nd = weight.ndim - 2
    name = b.plain(value_of(a["input"]), nd + 1)
    stride, dilation, padding, extra = (numbers(a[k], nd) for k in ("stride", "dilation", "padding", "output_padding"))
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(b.shapes[name][1:], stride, padding, dilation, weight.shape[2:], extra, strict=True)
    )
    bias = None if a["bias"] is None else array_of(a["bias"], "bias")
    geometry = Transposed(stride, dilation, padding, size, int(a["groups"]))
    return b.result(_guarded(compose.conv_transpose, composer(b), name, weight, bias, geometry))


def _guarded(write: Any, *args: Any) -> Any:
    """Compose; parts that do not fit are reported with the operation."""
    try:
        return write(*args)
    except ValueError as error:
        raise UnsupportedError(str(error)) from None


def _map(b: Builder, a: Args, nd: int, key: str = "input") -> str:
    return b.plain(value_of(a[key] if key in a else a["self"]), nd + 1)


def _steps(a: Args, sizes: tuple[int, ...], outs: tuple[int, ...]) -> list[float]:
    """Return the distance of neighbouring outputs in pixels of the input, along each axis."""
    given = a.get("scale_factors")
    if given is None:
        keys = ("scales",) if "scales" in a else ("scales_h", "scales_w")
        given = [a.get(key) for key in keys] if any(a.get(key) for key in keys) else [None] * len(sizes)
    return [1.0 / f if f else n / out for n, out, f in zip(sizes, outs, given, strict=True)]


def _outs(b: Builder, a: Args, nd: int) -> tuple[int, ...]:
    return tuple(size for size, _ in a["result_dims"][-nd:])


def _nearest(nd: int, exact: bool) -> Handler:
    def handler(b: Builder, a: Args) -> Value:
        name, outs = _map(b, a, nd), _outs(b, a, nd)
        sizes = b.shapes[name][1:]
        for i, (size, out, step) in enumerate(zip(sizes, outs, _steps(a, sizes, outs), strict=True)):
            places = (np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0)) * np.float32(step)
            name = composer(b).gather(name, i + 1, np.minimum(np.floor(places), size - 1).astype(np.int64).tolist())
        return b.result(name)

    return handler


def _smooth(nd: int, cubic: float | None = None) -> Handler:
    def handler(b: Builder, a: Args) -> Value:
        name, outs = _map(b, a, nd), _outs(b, a, nd)
        sizes = b.shapes[name][1:]
        for i, (size, out, step) in enumerate(zip(sizes, outs, _steps(a, sizes, outs), strict=True)):
            if a["align_corners"]:
                places = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
            else:
                places = (np.arange(out) + 0.5) * step - 0.5
                places = places if cubic is not None else np.maximum(places, 0.0)
            name = compose.interpolated(composer(b), name, i + 1, places, cubic)
        return b.result(name)

    return handler


def _adaptive(op: str, nd: int) -> Handler:
    def handler(b: Builder, a: Args) -> Any:
        name = _map(b, a, nd, "self")
        wanted = [n if n is not None else s for n, s in zip(a["output_size"], b.shapes[name][1:], strict=True)]
        out = b.result(compose.adaptive_pool(composer(b), op, name, wanted))
        return (out, Missing()) if op == "max_pool" else out

    return handler


def _max_pool_with_indices(b: Builder, a: Args) -> Any:
    return LAYERS[f"max_pool{len(a['kernel_size'])}d"](b, a), Missing()


def _maximum(b: Builder, x: Value, dims: Any, keep: bool, lowest: bool = False) -> Value:
    chosen = (
        sorted({d % x.rank for d in ([dims] if isinstance(dims, int) else dims)}) if dims not in (None, []) else None
    )
    if chosen is None:
        chosen = [d for d, group in enumerate(x.dims) if group != (ax.BATCH,)]
    c = composer(b)
    name, slots = b.frame(x)
    axes = [tensor_axis(slots, d) for d in chosen]
    name = c.unary("neg", name) if lowest else name
    name = compose.maximum_along(c, name, axes)
    out = b.unframe(c.unary("neg", name) if lowest else name, slots)
    return out if keep else ax.squeezed(out, chosen)


def _extreme(lowest: bool) -> Handler:
    """Return the handler of max or min: of two tensors, or along one dimension (its places are not computed)."""

    def handler(b: Builder, a: Args) -> Any:
        if "other" in a:
            return _of_two(b, a, lowest)
        x = value_of(a["self"])
        if "dim" not in a:
            raise UnsupportedError("it is one number for the whole batch")
        found = _maximum(b, x, a["dim"], bool(a.get("keepdim")), lowest)
        return found if isinstance(a["dim"], list | tuple) else (found, Missing())

    return handler


def _amax(lowest: bool) -> Handler:
    return lambda b, a: _maximum(b, value_of(a["self"]), a["dim"], bool(a.get("keepdim")), lowest)


def _of_two(b: Builder, a: Args, lowest: bool) -> Value:
    x, y = a["self"], a["other"]
    if not isinstance(x, Value):
        x, y = y, x
    if not isinstance(y, Value):
        number = torch.as_tensor(y)
        if number.numel() != 1:
            raise UnsupportedError("it compares with constants that differ from place to place")
        limits = {"lo": -math.inf, "hi": float(number)} if lowest else {"lo": float(number), "hi": math.inf}
        return b.unary("clamp", x, limits) if lowest or limits["lo"] != 0.0 else b.unary("relu", x)
    (name, slots), (other, other_slots) = b.frame(x), b.frame(y)
    if slots != other_slots:
        raise UnsupportedError("its operands have the batch in different places")
    write = compose.minimum_of if lowest else compose.maximum_of
    return b.unframe(_guarded(write, composer(b), name, other), slots)


def _group_norm(b: Builder, a: Args) -> Value:
    x = value_of(a["input"])
    weight, bias = (None if a.get(key) is None else array_of(a[key], key) for key in ("weight", "bias"))
    groups = int(a["num_groups"]) if "num_groups" in a else ax.size_of(x.dims[1])
    if a.get("use_input_stats") is False:
        raise UnsupportedError("it normalizes by stored statistics; use a batch norm")
    name = b.plain(x, x.rank - 1)
    return b.result(_guarded(compose.group_norm, composer(b), name, groups, weight, bias, float(a["eps"])))


def _log_softmax(b: Builder, a: Args) -> Value:
    name, slots = b.frame(value_of(a["self"]))
    return b.unframe(compose.log_softmax(composer(b), name, tensor_axis(slots, a["dim"])), slots)


PLACES = frozenset(
    {"max", "min", "adaptive_max_pool1d", "adaptive_max_pool2d", "max_pool1d_with_indices", "max_pool2d_with_indices"}
)
"""Operations whose second result are places, as whole numbers: it may be there, but not be read."""

MAPS: dict[str, Handler] = {
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), _conv_transpose),
    "upsample_nearest1d": _nearest(1, False),
    "upsample_nearest2d": _nearest(2, False),
    "_upsample_nearest_exact1d": _nearest(1, True),
    "_upsample_nearest_exact2d": _nearest(2, True),
    "upsample_linear1d": _smooth(1),
    "upsample_bilinear2d": _smooth(2),
    "upsample_bicubic2d": _smooth(2, compose.CUBIC),
    "adaptive_avg_pool1d": _adaptive("avg_pool", 1),
    **dict.fromkeys(("adaptive_avg_pool2d", "_adaptive_avg_pool2d"), _adaptive("avg_pool", 2)),
    "adaptive_max_pool1d": _adaptive("max_pool", 1),
    "adaptive_max_pool2d": _adaptive("max_pool", 2),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool1d_with_indices"), _max_pool_with_indices),
    "amax": _amax(False),
    "amin": _amax(True),
    "max": _extreme(False),
    "min": _extreme(True),
    "maximum": lambda b, a: _of_two(b, a, False),
    "minimum": lambda b, a: _of_two(b, a, True),
    **dict.fromkeys(("group_norm", "instance_norm"), _group_norm),
    **dict.fromkeys(("log_softmax", "_log_softmax"), _log_softmax),
}
