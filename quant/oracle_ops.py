"""Every op of a Program but the sums of products, in torch, written from the op table.

Arrays are int64 ``[batch, *shape]``, channels last. Where an intermediate could leave int64, Python integers take over.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from accelsim.program import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Constant,
    Duplicate,
    Gather,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Table,
    Transpose,
)
from quant.oracle_rules import requantize
from quant.oracle_runtime import ADDS, MEANS, runtime_softmax, window_means
from quant.oracle_sums import as_map, pad_map, window_taps

INT64_MIN = -(2**63)
INT64_SAFE = 2**62


def _int64(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values).astype(np.int64))


def _aligned(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    """Give both the same rank by axes of length one behind the batch, so that only they broadcast."""
    rank = max(x0.ndim, x1.ndim)
    first, second = (x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:]) for x in (x0, x1))
    return first, second


# --- element by element ----------------------------------------------------------------------------------------------


def _requantize(op: Requantize, inputs: list[Tensor]) -> Tensor:
    return requantize(
        inputs[0] - op.zero_in,
        op.multiplier,
        rule=op.rule,
        zero_out=op.zero_out,
        low=op.low,
        high=op.high,
        bias=op.float_bias,
    )


def _add(op: Add, inputs: list[Tensor]) -> Tensor:
    x0, x1 = (x - zero for x, zero in zip(_aligned(*inputs), op.zero_points, strict=True))
    return (ADDS[op.rule](op, x0, x1) + op.zero_out).clamp(op.low, op.high)


def _mul(op: Mul, inputs: list[Tensor]) -> Tensor:
    x0, x1 = _aligned(*inputs)
    return (x0 - op.zero_points[0]) * (x1 - op.zero_points[1])


def _duplicate(op: Duplicate, inputs: list[Tensor]) -> Tensor:
    copies = inputs[0].index_select(-1, _int64(op.source))
    return ((copies + _int64(op.offset)) >> _int64(op.shift)).clamp(op.low, op.high)


def _clamp(op: Clamp, inputs: list[Tensor]) -> Tensor:
    return inputs[0].clamp(_int64(op.low), _int64(op.high))


def _table(op: Table, inputs: list[Tensor]) -> Tensor:
    return _int64(op.entries)[inputs[0] - op.low_code]


def _gather(op: Gather, inputs: list[Tensor]) -> Tensor:
    return _int64(op.rows)[inputs[0]]


def stored(op: Constant, batch: int) -> Tensor:
    """Return a constant's codes, one copy a sample."""
    codes = _int64(op.values)
    return codes.expand(batch, *codes.shape).contiguous()


# --- windows ---------------------------------------------------------------------------------------------------------


def _from_map(pooled: Tensor, like: Tensor) -> Tensor:
    """Take off the axes that reading `like` as a map put in front."""
    return pooled.reshape(pooled.shape[0], *pooled.shape[5 - like.ndim :])


def _max_pool(op: MaxPool, inputs: list[Tensor]) -> Tensor:
    padded = pad_map(as_map(inputs[0]), op.padding, INT64_MIN)
    best: Tensor | None = None
    for tap in window_taps(padded, op.kernel, op.stride, op.dilation):
        best = tap.clone() if best is None else torch.maximum(best, tap)
    assert best is not None
    return _from_map(best, inputs[0])


def _window_sums(x: Tensor, op: AvgPool) -> Tensor:
    padded = pad_map(x, op.padding, 0)
    total: Tensor | None = None
    for tap in window_taps(padded, op.kernel, op.stride, (1, 1)):
        total = tap.clone() if total is None else total + tap
    assert total is not None
    return total


def _avg_pool(op: AvgPool, inputs: list[Tensor]) -> Tensor:
    centred = as_map(inputs[0]) - op.zero_in
    totals = _window_sums(centred, op)
    inside = _window_sums(torch.ones_like(centred[:1, :, :, :1]), op)
    counts = torch.full_like(inside, op.kernel[0] * op.kernel[1]) if op.count_padding else inside
    if int(counts.min()) == 0:
        raise ValueError(
            f"oracle: a window of avg_pool {op.name!r} lies outside the map; set count_padding or pad less"
        )
    if op.rule == "float32_window":
        taps = window_taps(pad_map(centred, op.padding, 0), op.kernel, op.stride, (1, 1))
        means = window_means(op, taps, counts)
    else:
        means = MEANS[op.rule](op, totals, counts)
    return _from_map(means.clamp(op.low, op.high), inputs[0])


# --- moving codes ----------------------------------------------------------------------------------------------------


def _concat(op: Concat, inputs: list[Tensor]) -> Tensor:
    return torch.cat(inputs, dim=op.axis + 1)


def _reshape(op: Reshape, inputs: list[Tensor]) -> Tensor:
    return inputs[0].reshape(inputs[0].shape[0], *op.shape)


def _transpose(op: Transpose, inputs: list[Tensor]) -> Tensor:
    return inputs[0].permute(0, *(axis + 1 for axis in op.axes)).contiguous()


def _slice(op: Slice, inputs: list[Tensor]) -> Tensor:
    cuts = tuple(slice(*bounds) for bounds in zip(op.start, op.stop, op.step, strict=True))
    return inputs[0][(slice(None), *cuts)].contiguous()


def _pad(op: Pad, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    shape = [n + before + after for n, (before, after) in zip(x.shape[1:], op.widths, strict=True)]
    padded = x.new_full((x.shape[0], *shape), op.value)
    inner = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape[1:], op.widths, strict=True))
    padded[(slice(None), *inner)] = x
    return padded


# --- over the last axis ----------------------------------------------------------------------------------------------


def _softmax(op: Softmax, inputs: list[Tensor]) -> Tensor:
    return runtime_softmax(op, inputs[0]) if op.rule != "integer" else _integer_softmax(op, inputs) + op.zero_out


def _integer_softmax(op: Softmax, inputs: list[Tensor]) -> Tensor:
    x, table = inputs[0], _int64(op.exponentials)
    columns, rows = x.shape[-1], x.shape[-2] if x.ndim > 2 else 1
    hidden = torch.zeros((rows, columns), dtype=torch.bool)
    if op.causal:
        hidden = torch.arange(columns)[None, :] > torch.arange(rows)[:, None] + columns - rows
    hidden = hidden if x.ndim > 2 else hidden[0]
    if op.mask is not None:
        hidden = hidden | (_int64(op.mask) == 0)
    largest = x.masked_fill(hidden, INT64_MIN).amax(dim=-1, keepdim=True)
    distance = (largest - x).masked_fill(hidden, 0).clamp(max=table.numel() - 1)
    powers = table[distance].masked_fill(hidden, 0)
    totals = powers.sum(dim=-1, keepdim=True)
    # a row that sees nothing has no sum: its entries stay zero
    safe = totals.clamp(min=1)
    top = 2**op.out_bits - 1
    if (int(table.max()) << op.out_bits) + int(totals.max()) < INT64_SAFE:
        return ((powers * 2**op.out_bits + safe // 2) // safe).clamp(max=top)
    wide, whole = powers.numpy().astype(object), safe.numpy().astype(object)
    return _int64(np.minimum((wide * 2**op.out_bits + whole // 2) // whole, top))


def _norm(op: Norm, inputs: list[Tensor]) -> Tensor:
    values = inputs[0] - op.zero_in
    n = values.shape[-1]
    u = n * values
    if op.center:
        u = u - values.sum(dim=-1, keepdim=True)
    flat = u.reshape(-1, n)
    largest = int(flat.abs().max())
    if largest * largest * n < INT64_SAFE:
        squares = (flat * flat).sum(dim=-1).tolist()
    else:
        squares = [sum(int(a) ** 2 for a in row) for row in flat.tolist()]
    roots = [math.isqrt((q << (2 * op.root_shift)) // n + op.epsilon) for q in squares]
    normalized = _divide_half_up(flat, roots, op.fraction_bits + op.root_shift).reshape(u.shape)
    reach = int(normalized.abs().max()) * int(np.abs(op.gain).max()) + int(np.abs(op.bias).max())
    if reach >= 2**63:
        raise ValueError(f"oracle: norm {op.name!r} can reach {reach}, beyond int64; use fewer fraction bits")
    return normalized * _int64(op.gain) + _int64(op.bias)


def _divide_half_up(u: Tensor, roots: list[int], shift: int) -> Tensor:
    """Return ``floor((2·u·2**shift + R) / (2·R))`` per row of u, zero where R is zero."""
    if (int(u.abs().max()) << (shift + 1)) + max(roots) < INT64_SAFE and max(roots) < INT64_SAFE // 2:
        root = torch.tensor(roots, dtype=torch.int64)[:, None]
        safe = root.clamp(min=1)
        quotient = torch.div(u * 2 ** (shift + 1) + safe, 2 * safe, rounding_mode="floor")
        return torch.where(root == 0, 0, quotient)
    rows = [
        [((a << (shift + 1)) + r) // (2 * r) if r else 0 for a in row] for row, r in zip(u.tolist(), roots, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.int64)


OPS: dict[type[Op], Callable[[Any, list[Tensor]], Tensor]] = {
    Requantize: _requantize,
    Add: _add,
    Mul: _mul,
    Duplicate: _duplicate,
    Clamp: _clamp,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    Table: _table,
    Concat: _concat,
    Reshape: _reshape,
    Transpose: _transpose,
    Slice: _slice,
    Pad: _pad,
    Gather: _gather,
    Softmax: _softmax,
    Norm: _norm,
}
