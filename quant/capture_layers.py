"""Capture of layers with parameters, of pooling and of means.

Contract: handlers as `quant.capture_ops` describes.
"""

import math
from typing import Any

import numpy as np
import torch

from quant import capture_axes as ax
from quant.capture_axes import Value
from quant.capture_build import Args, Builder, Handler, UnsupportedError, array_of, numbers, tensor_axis, value_of
from quant.capture_math import pairwise, times


def _conv(b: Builder, a: Args) -> Value:
    weight = array_of(a["weight"], "weight")
    nd = weight.ndim - 2
    name = b.plain(value_of(a["input"]), nd + 1)
    dilation = numbers(a["dilation"], nd)
    if a["padding"] == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads = (*(t // 2 for t in total), *(t - t // 2 for t in total))
    else:
        pads = (0,) * 2 * nd if a["padding"] == "valid" else numbers(a["padding"], nd) * 2
    attrs = {"stride": numbers(a["stride"], nd), "padding": pads, "dilation": dilation, "groups": int(a["groups"])}
    return b.result(b.emit("conv", (name,), attrs, _with_bias(weight, a["bias"])))


def _with_bias(weight: np.ndarray, bias: Any) -> dict[str, np.ndarray]:
    return {"weight": weight} if bias is None else {"weight": weight, "bias": array_of(bias, "bias")}


def _linear(b: Builder, a: Args) -> Value:
    name, slots = b.frame(value_of(a["input"]))
    tensor_axis(slots, -1)
    return b.unframe(b.emit("linear", (name,), {}, _with_bias(array_of(a["weight"], "weight"), a["bias"])), slots)


def _batch_norm(b: Builder, a: Args) -> Any:
    x = value_of(a["input"])
    if a.get("training") or a["running_mean"] is None:
        raise UnsupportedError("it normalizes by the batch's own statistics")
    name = b.plain(x, x.rank - 1)
    mean, var = array_of(a["running_mean"], "mean"), array_of(a["running_var"], "variance")
    weight = np.ones_like(mean) if a["weight"] is None else array_of(a["weight"], "weight")
    bias = np.zeros_like(mean) if a["bias"] is None else array_of(a["bias"], "bias")
    params = {"weight": weight, "bias": bias, "mean": mean, "var": var}
    return b.result(b.emit("batch_norm", (name,), {"eps": float(a["eps"])}, params))


def _batch_norm_tuple(b: Builder, a: Args) -> Any:
    return (_batch_norm(b, a), None, None)


def _prelu(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    return b.result(b.emit("prelu", (b.plain(x, x.rank - 1),), {}, {"weight": array_of(a["weight"], "slope")}))


def _embedding(b: Builder, a: Args) -> Value:
    name, slots = b.frame(value_of(a["indices"]))
    return b.unframe(b.emit("embedding", (name,), {}, {"weight": array_of(a["weight"], "table")}), (*slots, 0))


def _layer_norm(b: Builder, a: Args) -> Value:
    name, slots = b.frame(value_of(a["input"]))
    ndim = len(a["normalized_shape"])
    for dim in range(ndim):
        tensor_axis(slots, -1 - dim)
    rms = "bias" not in a
    eps = float(a["eps"]) if a["eps"] is not None else float(torch.finfo(torch.float32).eps)
    keys = [key for key in ("weight", "bias") if a.get(key) is not None]
    params = {key: array_of(a[key], key) for key in keys}
    return b.unframe(b.emit("rms_norm" if rms else "layer_norm", (name,), {"eps": eps, "ndim": ndim}, params), slots)


def _pool(op: str, nd: int) -> Handler:
    def handler(b: Builder, a: Args) -> Value:
        name = b.plain(value_of(a["self"]), nd + 1)
        kernel = numbers(a["kernel_size"], nd)
        attrs: dict[str, Any] = {
            "kernel": kernel,
            "stride": numbers(a["stride"], nd) if a["stride"] not in (None, []) else kernel,
            "padding": numbers(a["padding"], nd) * 2,
            "ceil_mode": bool(a["ceil_mode"]),
        }
        if op == "max_pool":
            attrs["dilation"] = numbers(a["dilation"], nd)
        else:
            attrs["count_include_pad"] = bool(a["count_include_pad"])
            if a.get("divisor_override") is not None:
                raise UnsupportedError("it overrides the divisor")
            if attrs["ceil_mode"] and attrs["count_include_pad"] and any(attrs["padding"]):
                # the padding counts, what ceil_mode adds behind it does not: make it part of the map
                pads = (0, *attrs["padding"][:nd])
                name = b.emit("pad", (name,), {"before": pads, "after": pads, "value": 0.0})
                attrs |= {"padding": (0,) * 2 * nd, "count_include_pad": False}
        return b.result(b.emit(op, (name,), attrs))

    return handler


def window_pool(b: Builder, name: str, kernel: tuple[int, ...], op: str = "avg_pool") -> str:
    """Add a pooling over windows of `kernel` that touch but do not overlap; return its name."""
    if math.prod(kernel) == 1:
        return name
    attrs: dict[str, Any] = {"kernel": kernel, "stride": kernel, "padding": (0,) * 2 * len(kernel), "ceil_mode": False}
    attrs |= {"dilation": (1,) * len(kernel)} if op == "max_pool" else {"count_include_pad": True}
    return b.emit(op, (name,), attrs)


def _mean(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    dims = range(x.rank) if a.get("dim") in (None, []) else a["dim"]
    dims = sorted({d % x.rank for d in ([dims] if isinstance(dims, int) else dims)})
    name, slots = b.frame(x)
    axes = tuple(tensor_axis(slots, d) for d in dims)
    shape = b.shapes[name]
    if len(shape) == 3 and axes == (1, 2):
        name = window_pool(b, name, shape[1:])
    elif math.prod(shape[i] for i in axes) > 1:
        name = b.emit("mean", (name,), {"axes": axes})
    out = b.unframe(name, slots)
    return out if a.get("keepdim") else ax.squeezed(out, dims)


def _sum(b: Builder, a: Args) -> Value:
    x = value_of(a["self"])
    dims = range(x.rank) if a.get("dim") in (None, []) else a["dim"]
    count = math.prod(ax.size_of(x.dims[d]) for d in ([dims] if isinstance(dims, int) else dims))
    return times(b, _mean(b, a), float(count))


def _variance(root: bool) -> Handler:
    """Return the handler of var or std: the mean of squared distances from the mean, over n - correction."""

    def handler(b: Builder, a: Args) -> Value:
        x = value_of(a["self"])
        dims = list(range(x.rank)) if a.get("dim") in (None, []) else a["dim"]
        count = math.prod(ax.size_of(x.dims[d]) for d in ([dims] if isinstance(dims, int) else dims))
        less = float(a.get("unbiased", True)) if a.get("correction") is None else float(a["correction"])
        centre = _mean(b, {"self": x, "dim": dims, "keepdim": True})
        square = b.unary("square", pairwise(b, "sub", x, centre))
        mean = _mean(b, {"self": square, "dim": dims, "keepdim": a.get("keepdim")})
        found = mean if not less else times(b, mean, count / (count - less))
        return b.unary("sqrt", found) if root else found

    return handler


LAYERS: dict[str, Handler] = {
    **dict.fromkeys(("conv1d", "conv2d"), _conv),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_tuple,
    "prelu": _prelu,
    "embedding": _embedding,
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
    "max_pool1d": _pool("max_pool", 1),
    "max_pool2d": _pool("max_pool", 2),
    "avg_pool1d": _pool("avg_pool", 1),
    "avg_pool2d": _pool("avg_pool", 2),
    "mean": _mean,
    "sum": _sum,
    "var": _variance(False),
    "std": _variance(True),
}
