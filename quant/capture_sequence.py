"""Capture of recurrent layers, attention and matrix products of two activations.

Contract: handlers as `quant.capture_ops` describes. An LSTM becomes one node per layer and direction. Key and value
heads that are repeated for attention are not copied; the attention operation knows that they serve several query heads.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from quant import capture_axes as ax
from quant.capture_axes import Value
from quant.capture_build import (
    Args,
    Builder,
    Handler,
    Slots,
    UnsupportedError,
    array_of,
    tensor_axis,
    value_of,
)
from quant.capture_math import MASKED
from quant.capture_views import Stack
from quant.graph import Shape


class Missing:
    """A result that the graph does not have; whoever reads it is reported."""


def _lstm(b: Builder, a: Args) -> tuple[Any, ...]:
    name, slots = b.frame(value_of(a["input"]))
    time = 1 if a["batch_first"] else 0
    if tensor_axis(slots, time) != 0 or len(slots) != 3 or slots[1 - time] is not None:
        raise UnsupportedError("its input is not batched")
    count, ways = int(a["num_layers"]), 2 if a["bidirectional"] else 1
    step = 4 if a["has_biases"] else 2
    params = [array_of(p, "weight") for p in a["params"]]
    if len(params) != count * ways * step:
        raise UnsupportedError("it projects its state")
    finals: list[Value] = []
    for layer in range(count):
        outs = []
        for way in range(ways):
            run = layer * ways + way
            suffix = (f".l{layer}" if count > 1 else "") + (".reverse" if way else "")
            given = {**_lstm_params(params[run * step : (run + 1) * step]), **_states(b, a["hx"], run)}
            out = _one_way(b, name, given, suffix if count * ways > 1 else "", reverse=bool(way))
            outs.append(out)
            finals.append(_final(b, out, 0 if way else b.shapes[out][0] - 1))
        name = outs[0] if ways == 1 else b.emit("concat", outs, {"axis": 1})
    return b.unframe(name, slots), Stack(tuple(finals)), Missing()


def _lstm_params(params: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    named = {"weight_ih": params[0], "weight_hh": params[1]}
    return {**named, "bias": params[2] + params[3]} if len(params) == 4 else named


def _states(b: Builder, hx: Sequence[Any], run: int) -> dict[str, np.ndarray]:
    """Return the initial states of one layer and direction as parameters, left out where they are zero."""
    out = {}
    for key, state in zip(("h0", "c0"), hx, strict=True):
        if not isinstance(state, torch.Tensor):
            raise UnsupportedError("its initial state is computed, not constant")
        vector = b.framed_constant(state[run], (None, 0))
        if vector.any():
            out[key] = vector
    return out


def _one_way(b: Builder, name: str, params: dict[str, np.ndarray], suffix: str, reverse: bool) -> str:
    """Add one LSTM; in reverse, its input and output are turned around in time."""
    turned = {"axis": 0, "src": tuple(range(b.shapes[name][0] - 1, -1, -1))}
    if reverse:
        name = b.emit("duplicate", (name,), turned)
    name = b.emit("lstm", (name,), {"hidden": params["weight_hh"].shape[1]}, params, suffix)
    return b.emit("duplicate", (name,), turned) if reverse else name


def _final(b: Builder, name: str, time: int) -> Value:
    """Return the state at one time as a view [batch, hidden]."""
    hidden = b.shapes[name][1]
    attrs = {"start": (time, 0), "stop": (time + 1, hidden), "step": (1, 1)}
    out = b.result(b.emit("slice", (name,), attrs))
    return ax.squeezed(out, [1])


def _attention(b: Builder, a: Args) -> Value:
    if float(a.get("dropout_p") or 0.0) > 0:
        raise UnsupportedError("it drops attention at random")
    q, k, v = (value_of(a[key]) for key in ("query", "key", "value"))
    k, v = _ungrouped(k, v)
    (name, slots), (keys, key_slots), (values, value_slots) = (b.frame(x) for x in (q, k, v))
    if len(b.shapes[name]) == 2:
        name, keys, values = (b.reshape(x, (1, *b.shapes[x])) for x in (name, keys, values))
    lead = b.shapes[name][:-2]
    alike = slots[:-2] == key_slots[:-2] == value_slots[:-2] and len(lead) == len(b.shapes[keys]) - 2
    if not alike or (len(lead) > 1 and not lead == b.shapes[keys][:-2] == b.shapes[values][:-2]):
        raise UnsupportedError("its operands are not [batch, heads, time, features] alike")
    if len(lead) > 1:  # windows beside the batch: one more kind of heads
        name, keys, values = (b.reshape(x, (math.prod(lead), *b.shapes[x][-2:])) for x in (name, keys, values))
    heads, time, features = b.shapes[name]
    scale = 1 / math.sqrt(features) if a.get("scale") is None else float(a["scale"])
    shape = (heads, time, b.shapes[keys][1])
    mask = _mask_array(b, a.get("attn_mask"), slots, lead)
    causal, params = mask_params(mask, shape, bool(a.get("is_causal")))
    out = b.emit("attention", (name, keys, values), {"causal": causal, "scale": scale}, params)
    if len(lead) > 1:
        out = b.reshape(out, (*lead, *b.shapes[out][1:]))
    if len(slots) == 3 and slots[0] is None:
        out = b.reshape(out, b.shapes[out][1:])
    return b.unframe(out, slots)


def _ungrouped(k: Value, v: Value) -> tuple[Value, Value]:
    """Undo the repetition of key and value heads along dimension 1, where both are repeated alike and in runs."""
    tails = []
    for x in (k, v):
        group = x.dims[1] if x.rank == 4 else ()
        tails.append(group[-1:] if group and group[-1] in ax.broadcasts(x) else ())
    if not tails[0] or not tails[1] or tails[0][0].size != tails[1][0].size:
        return k, v
    return ax.without(k, tails[0]), ax.without(v, tails[1])


def _mask_array(b: Builder, mask: Any, slots: Slots, lead: Shape) -> np.ndarray | None:
    """Return a constant mask as additive scores [heads or 1, T or 1, S or 1]; `lead` are the axes heads are made of."""
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor):
        raise UnsupportedError("its mask is computed, not constant")
    if mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, -math.inf)
    array = b.framed_constant(mask.to(torch.float32), slots)
    if len(lead) > 1 and any(size > 1 for size in array.shape[:-2]):
        array = np.broadcast_to(array, (*lead, *array.shape[-2:])).reshape(math.prod(lead), *array.shape[-2:])
    return array.reshape((1,) * (3 - array.ndim) + array.shape)


def mask_params(
    scores: np.ndarray | None, shape: tuple[int, int, int], causal: bool
) -> tuple[bool, dict[str, np.ndarray]]:
    """Return whether attention is causal, and mask and bias, for additive mask scores.

    Parameters
    ----------
    scores
        Additive, broadcastable to `shape`; entries at or below `MASKED` hide a key.
    shape
        Heads, queries, keys.
    causal
        Whether attention is causal besides.
    """
    if scores is None:
        return causal, {}
    hidden = scores <= MASKED
    if np.broadcast_to(hidden, shape).all(axis=2).any():
        raise UnsupportedError("its mask hides all keys from a query")
    params: dict[str, np.ndarray] = {}
    later = ~np.tril(np.ones(shape[1:], dtype=bool))
    if later.any() and np.array_equal(np.broadcast_to(hidden, shape), np.broadcast_to(later, shape)):
        causal = True
    elif hidden.any():
        params["mask"] = (~hidden).astype(np.float32)
    bias = np.where(hidden, 0.0, scores)
    if bias.any():
        params["bias"] = bias
    return causal, params


def _matmul(b: Builder, a: Args) -> Value:
    x, y = a["self"], a["mat2"] if "mat2" in a else a["other"]
    if isinstance(x, Value) and not isinstance(y, Value) and y.ndim > 1 and y.numel() == y.shape[-1] * y.shape[-2]:
        name, slots = b.frame(x)
        tensor_axis(slots, -1)
        weight = b.turned(y.reshape(y.shape[-2:]))
        return b.unframe(b.emit("linear", (name,), {}, {"weight": weight}), slots)
    if isinstance(x, Value) != isinstance(y, Value):
        return _with_matrices(b, x, y)
    x, y = value_of(x), value_of(y)
    rank = max(x.rank, y.rank)
    x, y = (dataclasses.replace(v, dims=((),) * (rank - v.rank) + v.dims) for v in (x, y))
    (name, slots), (other, other_slots) = b.frame(x), b.frame(y)
    if slots != other_slots:
        raise UnsupportedError("its operands have the batch in different places")
    tensor_axis(slots, -1)
    tensor_axis(slots, -2)
    return b.unframe(b.emit("matmul", (name, other)), slots)


def _with_matrices(b: Builder, x: Any, y: Any) -> Value:
    """Return a product with constant matrices, one for each head, on either side."""
    computed, constant = (x, y) if isinstance(x, Value) else (y, x)
    if constant.ndim != computed.rank or computed.rank < 3:
        raise UnsupportedError(f"its constant operand has {constant.ndim} dimensions")
    name, slots = b.frame(computed)
    tensor_axis(slots, -1)
    tensor_axis(slots, -2)
    stored = b.constant(b.framed_constant(constant, slots))
    return b.unframe(b.emit("matmul", (name, stored) if computed is x else (stored, name)), slots)


def _addmm(b: Builder, a: Args) -> Value:
    if a["beta"] != 1 or a["alpha"] != 1:
        raise UnsupportedError("its beta or alpha is not 1")
    params = {"weight": b.turned(a["mat2"]), "bias": array_of(a["self"], "bias")}
    name, slots = b.frame(value_of(a["mat1"]))
    tensor_axis(slots, -1)
    return b.unframe(b.emit("linear", (name,), {}, params), slots)


SEQUENCES: dict[str, Handler] = {
    "lstm": _lstm,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("matmul", "bmm", "mm"), _matmul),
    "addmm": _addmm,
}
