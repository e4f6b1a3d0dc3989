"""Capture of element-wise operations, of means and of products with constants.

Contract: handlers as `quant.capture_ops` describes. Functions of one tensor work on the stored tensor and leave
the view what it is; a constant operand becomes a scale or an affine where it is one number or one per channel.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from quant import capture_axes as ax
from quant.capture_axes import Value
from quant.capture_build import Args, Builder, Handler, UnsupportedError, tensor_axis, value_of

MASKED = -1e4
"""Scores at or below this are masked: their exponential is zero in float32 beside any other score."""


def _function(op: str, **names: str) -> Handler:
    """Return the handler of a function of one tensor; `names` maps attributes to the schema's argument names."""

    def handler(b: Builder, a: Args) -> Value:
        attrs = {key: a[arg] for key, arg in names.items()}
        attrs = {key: value if isinstance(value, str) else float(value) for key, value in attrs.items()}
        return b.unary(op, value_of(a["self"]), attrs)

    return handler


def _clamp(b: Builder, a: Args) -> Value:
    lo, hi = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    lo, hi = (-math.inf if lo is None else float(lo)), (math.inf if hi is None else float(hi))
    if (lo, hi) == (0.0, 6.0):
        return b.unary("relu6", value_of(a["self"]))
    if (lo, hi) == (0.0, math.inf):
        return b.unary("relu", value_of(a["self"]))
    return b.unary("clamp", value_of(a["self"]), {"lo": lo, "hi": hi})


def _elu(b: Builder, a: Args) -> Value:
    """Return scale · (max(0, x) + min(0, alpha · (exp(input_scale · x) - 1)))."""
    scale, inner = float(a["scale"]), float(a["input_scale"])
    x = value_of(a["self"])
    found = b.unary("elu", x if inner == 1.0 else times(b, x, inner), {"alpha": float(a["alpha"]) * inner})
    return found if scale == inner == 1.0 else times(b, found, scale / inner)


def _selu(b: Builder, a: Args) -> Value:
    """Return SELU with the constants of Klambauer et al. 2017."""
    return times(b, b.unary("elu", value_of(a["self"]), {"alpha": 1.6732632423543772}), 1.0507009873554805)


def _celu(b: Builder, a: Args) -> Value:
    alpha, x = float(a["alpha"]), value_of(a["self"])
    return (
        _elu(b, {"self": x, "alpha": 1.0, "scale": 1.0, "input_scale": 1.0})
        if alpha == 1.0
        else times(b, b.unary("elu", times(b, x, 1 / alpha), {"alpha": 1.0}), alpha)
    )


def _softplus(b: Builder, a: Args) -> Value:
    """Return log(1 + exp(beta x)) / beta; beyond any threshold of use the function is the identity anyhow."""
    beta, x = float(a["beta"]), value_of(a["self"])
    if float(a["threshold"]) < 15.0:
        raise UnsupportedError(f"its threshold {float(a['threshold']):g} is below 15")
    return b.unary("softplus", x) if beta == 1.0 else times(b, b.unary("softplus", times(b, x, beta)), 1 / beta)


def _log_sigmoid(b: Builder, a: Args) -> Value:
    return b.unary("neg", b.unary("softplus", b.unary("neg", value_of(a["self"]))))


def _softshrink(b: Builder, a: Args) -> Value:
    x, reach = value_of(a["self"]), float(a["lambd"])
    return pairwise(b, "sub", x, b.unary("clamp", x, {"lo": -reach, "hi": reach}))


def _hardshrink(b: Builder, a: Args) -> Value:
    """Return threshold(x) - threshold(-x), both to zero at lambd."""
    x, limit = value_of(a["self"]), {"threshold": float(a["lambd"]), "value": 0.0}
    return pairwise(b, "sub", b.unary("threshold", x, limit), b.unary("threshold", b.unary("neg", x), limit))


def _rrelu(b: Builder, a: Args) -> Value:
    return b.unary("leaky_relu", value_of(a["self"]), {"slope": (float(a["lower"]) + float(a["upper"])) / 2})


def _log1p(b: Builder, a: Args) -> Value:
    return b.unary("log", shifted(b, value_of(a["self"]), 1.0, 1.0))


def _expm1(b: Builder, a: Args) -> Value:
    return shifted(b, b.unary("exp", value_of(a["self"])), 1.0, -1.0)


def _softmax(b: Builder, a: Args) -> Value:
    name, slots = b.frame(value_of(a["self"]))
    return b.unframe(b.emit("softmax", (name,), {"axis": tensor_axis(slots, a["dim"])}), slots)


def _pow(b: Builder, a: Args) -> Value:
    x, exponent = value_of(a["self"]), a["exponent"]
    named = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
    if isinstance(exponent, int | float) and float(exponent) in named:
        return b.unary(named[float(exponent)], x)
    if exponent == 3:
        return multiply(b, b.unary("square", x), x)
    if not isinstance(exponent, int | float):
        raise UnsupportedError("its exponent is computed, or differs from place to place")
    return x if exponent == 1 else b.unary("pow", x, {"exponent": float(exponent)})


def times(b: Builder, x: Value, factor: float) -> Value:
    """Return a view times a number."""
    name = b.emit("scale", (x.tensor,), {"axis": 0}, {"weight": np.array([factor], np.float32)})
    return Value(name, x.base, x.dims)


def shifted(b: Builder, x: Value, factor: float, offset: float) -> Value:
    """Return a view times a number plus a number."""
    params = {"weight": np.array([factor], np.float32), "bias": np.array([offset], np.float32)}
    return Value(b.emit("affine", (x.tensor,), {"axis": 0}, params), x.base, x.dims)


def with_constant(b: Builder, op: str, x: Value, constant: Any) -> Value:
    """Return x + c or x * c: per channel or whole an affine or scale, else an operation on a stored constant."""
    tensor = torch.as_tensor(constant)
    if tensor.numel() == 1 and tensor.ndim <= x.rank:
        number = float(tensor)
        return times(b, x, number) if op == "mul" else shifted(b, x, 1.0, number)
    rank = max(x.rank, tensor.ndim)
    x = dataclasses.replace(x, dims=((),) * (rank - x.rank) + x.dims)
    name, slots = b.frame(x)
    array = b.framed_constant(tensor, slots)
    wide = [i for i, size in enumerate(array.shape) if size != 1]
    if len(wide) == 1 and array.shape[wide[0]] == b.shapes[name][wide[0]] and np.isfinite(array).all():
        flat = array.reshape(-1)
        params = {"weight": flat} if op == "mul" else {"weight": np.ones_like(flat), "bias": flat}
        return b.unframe(b.emit("scale" if op == "mul" else "affine", (name,), {"axis": wide[0]}, params), slots)
    return b.unframe(b.emit(op, (name, b.constant(array))), slots)


def pairwise(b: Builder, op: str, x: Value, y: Value) -> Value:
    """Return an element-wise operation on two views, broadcasting as torch does."""
    rank = max(x.rank, y.rank)
    x, y = (dataclasses.replace(v, dims=((),) * (rank - v.rank) + v.dims) for v in (x, y))
    for _ in range(2):
        # A dimension that one operand repeats and the other has in full needs no copies.
        spare = [a for g, h in zip(x.dims, y.dims, strict=True) for a in g if {*g} <= ax.broadcasts(x) and h]
        x, y = y, ax.without(x, spare)
    if ax.congruent(x, y) and b.shapes[x.tensor] == b.shapes[y.tensor]:
        return Value(b.emit(op, (x.tensor, y.tensor)), x.base, x.dims)
    (name, slots), (other, other_slots) = b.frame(x), b.frame(y)
    if slots != other_slots:
        raise UnsupportedError("its operands have the batch in different places")
    return b.unframe(b.emit(op, (name, other)), slots)


def _binary(op: str) -> Handler:
    def handler(b: Builder, a: Args) -> Value:
        x, y, alpha = a["self"], a["other"], a.get("alpha", 1)
        if op == "sub":
            alpha = -alpha
        if not isinstance(y, Value):
            return with_constant(b, "add", value_of(x), torch.as_tensor(y) * alpha)
        if not isinstance(x, Value):
            return with_constant(b, "add", y if alpha == 1 else times(b, y, float(alpha)), x)
        if abs(alpha) != 1:
            y, alpha = times(b, y, abs(float(alpha))), math.copysign(1, alpha)
        return pairwise(b, "sub" if alpha < 0 else "add", x, y)

    return handler


def multiply(b: Builder, x: Any, y: Any) -> Value:
    """Return a product of two views or of a view and a constant."""
    if not isinstance(y, Value):
        return with_constant(b, "mul", value_of(x), y)
    if not isinstance(x, Value):
        return with_constant(b, "mul", y, x)
    if x.tensor == y.tensor and ax.congruent(x, y):
        return b.unary("square", x)
    return pairwise(b, "mul", x, y)


def _divide(b: Builder, a: Args) -> Value:
    if a.get("rounding_mode") is not None:
        raise UnsupportedError("it rounds the quotient")
    x, y = a["self"], a["other"]
    if not isinstance(y, Value):
        return multiply(b, x, 1.0 / torch.as_tensor(y, dtype=torch.float64))
    return multiply(b, x, b.unary("reciprocal", y))


def _rsub(b: Builder, a: Args) -> Value:
    return _binary("sub")(b, {"self": a["other"], "other": a["self"], "alpha": a.get("alpha", 1)})


def _masked_fill(b: Builder, a: Args) -> Value:
    """Fill where a constant mask says so: a large negative number is added to scores, other values are put in."""
    x, mask, fill = value_of(a["self"]), a["mask"], a["value"]
    if isinstance(mask, Value) or isinstance(fill, Value):
        raise UnsupportedError("its mask or value is computed, not constant")
    fill = float(fill)
    if fill <= MASKED:
        return with_constant(b, "add", x, torch.where(mask, -math.inf, 0.0))
    return with_constant(b, "add", with_constant(b, "mul", x, (~mask).float()), torch.where(mask, fill, 0.0))


def _where(b: Builder, a: Args) -> Value:
    if isinstance(a["condition"], Value) or isinstance(a["self"], Value) == isinstance(a["other"], Value):
        raise UnsupportedError("it chooses by a computed condition, or between computed tensors")
    if isinstance(a["self"], Value):
        x, mask, fill = a["self"], ~a["condition"], a["other"]
    else:
        x, mask, fill = a["other"], a["condition"], a["self"]
    if torch.as_tensor(fill).numel() != 1:
        raise UnsupportedError("it fills in more than one value")
    return _masked_fill(b, {"self": x, "mask": mask, "value": fill})


FUNCTIONS: dict[str, Handler] = {
    **{
        name: _function(name)
        for name in (
            "relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid", "exp", "log", "neg", "abs", "erf",
            "sqrt", "rsqrt", "square", "reciprocal", "mish", "sin", "cos",
        )
    },
    "leaky_relu": _function("leaky_relu", slope="negative_slope"),
    "gelu": _function("gelu", approximate="approximate"),
    **dict.fromkeys(("clamp", "hardtanh", "clamp_min", "clamp_max"), _clamp),
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "log_sigmoid": _log_sigmoid,
    "softshrink": _softshrink,
    "hardshrink": _hardshrink,
    "threshold": _function("threshold", threshold="threshold", value="value"),
    "rrelu": _rrelu,
    "log1p": _log1p,
    "expm1": _expm1,
    "softplus": _softplus,
    **dict.fromkeys(("softmax", "_softmax"), _softmax),
    "pow": _pow,
    "add": _binary("add"),
    "sub": _binary("sub"),
    "rsub": _rsub,
    "mul": lambda b, a: multiply(b, a["self"], a["other"]),
    "div": _divide,
    "masked_fill": _masked_fill,
    "where": _where,
}  # fmt: skip
