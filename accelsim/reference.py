"""The definition: what a Program means, in plain numpy int64.

Slow on purpose. Every faster engine, the torch oracle and the RTL are right where they are equal to this, bit for bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import Accumulation, apply_overflow, requantize
from accelsim.check import as_map, window_count
from accelsim.float_steps import float32_window_means
from accelsim.program import (
    Add,
    AvgPool,
    Blank,
    Clamp,
    Concat,
    Constant,
    Conv,
    Duplicate,
    Gather,
    MatMul,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    Program,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Table,
    Transpose,
)
from accelsim.runtime_rules import ADD_RULES, MEAN_RULES, SOFTMAX_RULES

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class OverflowMap:
    """Where and how often an op's additions left their registers.

    Parameters
    ----------
    events
        Number of additions out of range, per output element (batch summed): int64 of the output's shape.
    differing
        Output elements, over the whole batch, that are not the unbounded sum.
    """

    events: Ints
    differing: int


@dataclass(frozen=True)
class ReferenceRun:
    """Every tensor of an execution, and the overflow of every op that added products up.

    Parameters
    ----------
    values
        int64 ``[batch, *shape]`` by tensor name.
    overflow
        By op name; present for ``conv`` and ``matmul`` when an accumulation was given.
    """

    values: dict[str, Ints]
    overflow: dict[str, OverflowMap]


def run(program: Program, inputs: Mapping[str, NDArray[Any]], accumulation: Accumulation | None = None) -> ReferenceRun:
    """Execute a Program.

    Parameters
    ----------
    program
        A checked Program with values.
    inputs
        Integer codes ``[batch, *shape]`` by input name.
    accumulation
        The machine's accumulators, one for all layers or by op name; unbounded sums where ``None``.

    Raises
    ------
    ValueError
        If an input is missing, of the wrong shape or outside its tensor's range.
    OverflowError
        Where the rule is ``error`` and a sum leaves its register.
    """
    values = {name: check_input(program, name, inputs) for name in program.inputs}
    overflow: dict[str, OverflowMap] = {}
    batch = values[program.inputs[0]].shape[0]
    for op in program.ops:
        operands = [values[name] for name in op.inputs]
        if isinstance(op, Constant):
            values[op.output] = constant_codes(op, batch)
        elif isinstance(op, Conv | MatMul):
            rule = accumulation.get(op.name) if isinstance(accumulation, Mapping) else accumulation
            rows, columns, bias = (
                _conv_operands(op, operands) if isinstance(op, Conv) else _matmul_operands(op, operands)
            )
            exact = np.einsum("gmk,gkn->gmn", rows, columns) + bias
            if rule is not None:
                held, events = accumulate(rows, columns, bias, rule, op.name)
                shaped = [_conv_result(program, op, part) for part in (events, held != exact)]
                overflow[op.name] = OverflowMap(shaped[0].sum(axis=0), int(shaped[1].sum()))
                exact = held
            values[op.output] = _conv_result(program, op, exact)
        else:
            values[op.output] = _RULES[type(op)](op, operands)
    return ReferenceRun(values, overflow)


def check_input(program: Program, name: str, inputs: Mapping[str, NDArray[Any]]) -> Ints:
    """Return one input as int64 after checking presence, shape and range."""
    if name not in inputs:
        raise ValueError(f"Program {program.name!r} needs input {name!r}; given are {', '.join(inputs) or 'none'}")
    tensor, codes = program.tensors[name], np.asarray(inputs[name])
    if codes.shape[1:] != tensor.shape or codes.dtype.kind not in "iu":
        raise ValueError(
            f"Program input {name!r} must be integers [batch, {', '.join(map(str, tensor.shape))}] "
            f"(got {codes.dtype} {codes.shape}); quantize the samples first"
        )
    if codes.size and not (tensor.low <= int(codes.min()) and int(codes.max()) <= tensor.high):
        raise ValueError(
            f"Program input {name!r} holds codes {tensor.low}..{tensor.high} (got {codes.min()}..{codes.max()})"
        )
    return codes.astype(np.int64)


def accumulate(rows: Ints, columns: Ints, bias: Ints, accumulation: Accumulation, name: str) -> tuple[Ints, Ints]:
    """Add products up in the machine's order with the machine's registers.

    Parameters
    ----------
    rows, columns
        Operands ``[groups, m, k]`` and ``[groups, k, n]``.
    bias
        Broadcasts against ``[groups, m, n]``.
    accumulation
        Order, widths and rules.
    name
        Of the layer, for the error.

    Returns
    -------
    sums, events
        int64 ``[groups, m, n]``: what the accumulator holds, and how many additions overflowed.
    """
    a = accumulation
    groups, m, k = rows.shape
    n = columns.shape[2]
    events = np.zeros((groups, m, n), dtype=np.int64)

    def hold(sums: Ints, bits: int, rule: Any, place: str) -> Ints:
        held, out = apply_overflow(sums, bits, rule)
        if rule == "error" and out.any():
            g, row, col = np.argwhere(out)[0]
            raise OverflowError(
                f"layer {name!r}: sum {sums[g, row, col]} at group {g}, row {row}, channel {col}, {place} leaves "
                f"{bits} bits; widen the register or set its overflow rule to wrap or saturate"
            )
        events[...] += out
        return held

    acc = hold(np.broadcast_to(bias, events.shape).astype(np.int64), a.acc_bits, a.acc_overflow, "bias")
    fold = k if a.fold_k is None else a.fold_k
    for start in range(0, k, fold):
        psum = np.zeros_like(acc)
        for hop in range(start, min(start + fold, k), a.products_per_hop):
            stop = min(hop + a.products_per_hop, start + fold, k)
            products = np.einsum("gmk,gkn->gmn", rows[:, :, hop:stop], columns[:, hop:stop])
            if a.fold_k is None:
                acc = hold(acc + products, a.acc_bits, a.acc_overflow, f"k {hop}")
            else:
                psum = hold(psum + products, a.psum_bits, a.psum_overflow, f"k {hop}")
        if a.fold_k is not None:
            acc = hold(acc + psum, a.acc_bits, a.acc_overflow, f"fold {start // fold}")
    return acc, events


def _windows(codes: Ints, kernel: Any, stride: Any, padding: Any, dilation: Any, fill: int) -> Ints:
    """Return windows ``[batch, out_h, out_w, kh, kw, channels]`` of a batch of maps, `fill` outside them."""
    batch, height, width, channels = codes.shape
    top, left, bottom, right = padding
    padded = np.full((batch, height + top + bottom, width + left + right, channels), fill, dtype=np.int64)
    padded[:, top : top + height, left : left + width] = codes
    out_h = window_count(height, kernel[0], stride[0], (top, bottom), dilation[0])
    out_w = window_count(width, kernel[1], stride[1], (left, right), dilation[1])
    result = np.empty((batch, out_h, out_w, kernel[0], kernel[1], channels), dtype=np.int64)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            y, x = i * dilation[0], j * dilation[1]
            result[:, :, :, i, j] = padded[
                :, y : y + stride[0] * (out_h - 1) + 1 : stride[0], x : x + stride[1] * (out_w - 1) + 1 : stride[1]
            ]
    return result


def _as_maps(codes: Ints) -> Ints:
    return codes.reshape(codes.shape[0], *as_map(codes.shape[1:]))


def _conv_operands(op: Conv, operands: list[Ints]) -> tuple[Ints, Ints, Ints]:
    if isinstance(op.weight, Blank) or isinstance(op.bias, Blank):
        raise ValueError(f"layer {op.name!r} has no weights; a Program without values can be priced, not executed")
    out, kh, kw, channels = op.weight.shape
    windows = _windows(_as_maps(operands[0]), (kh, kw), op.stride, op.padding, op.dilation, op.pad_value)
    pixels = windows.reshape(-1, kh, kw, op.groups, channels)
    rows = pixels.transpose(3, 0, 1, 2, 4).reshape(op.groups, -1, kh * kw * channels)
    columns = op.weight.astype(np.int64).reshape(op.groups, out // op.groups, -1).transpose(0, 2, 1)
    return rows, columns, op.bias.astype(np.int64).reshape(op.groups, 1, -1)


def _matmul_operands(op: MatMul, operands: list[Ints]) -> tuple[Ints, Ints, Ints]:
    first, second = operands[0] - op.zero_points[0], operands[1] - op.zero_points[1]
    if op.transpose:
        second = second.swapaxes(-1, -2)
    for axis in range(1, first.ndim - 2):
        second = second.repeat(first.shape[axis] // second.shape[axis], axis=axis)
    rows = first.reshape(-1, *first.shape[-2:])
    return rows, second.reshape(-1, *second.shape[-2:]), np.zeros((1, 1, 1), dtype=np.int64)


def _conv_result(program: Program, op: Op, sums: NDArray[Any]) -> Ints:
    """Bring ``[groups, m, n]`` back into ``[batch, *shape]``."""
    shape = program.tensors[op.output].shape
    ordered = sums if isinstance(op, MatMul) else sums.transpose(1, 0, 2)
    return ordered.reshape(-1, *shape).astype(np.int64)


def _requantize(op: Requantize, operands: list[Ints]) -> Ints:
    return requantize(
        operands[0] - op.zero_in,
        op.multiplier,
        rule=op.rule,
        zero_point=op.zero_out,
        clamp=(op.low, op.high),
        bias=op.float_bias,
    )


def _add(op: Add, operands: list[Ints]) -> Ints:
    values = (operands[0] - op.zero_points[0], operands[1] - op.zero_points[1])
    total = ADD_RULES[op.rule].array(values, op.multipliers, op.multiplier_out, op.signs)
    return np.clip(total, op.low - op.zero_out, op.high - op.zero_out) + op.zero_out


def _mul(op: Mul, operands: list[Ints]) -> Ints:
    return (operands[0] - op.zero_points[0]) * (operands[1] - op.zero_points[1])


def _duplicate(op: Duplicate, operands: list[Ints]) -> Ints:
    return np.clip((operands[0][..., op.source] + op.offset) >> op.shift, op.low, op.high)


def _max_pool(op: MaxPool, operands: list[Ints]) -> Ints:
    fill = int(np.iinfo(np.int64).min)
    windows = _windows(_as_maps(operands[0]), op.kernel, op.stride, op.padding, op.dilation, fill)
    return _drop_map(windows.max(axis=(3, 4)), operands[0])


def _drop_map(maps: Ints, like: Ints) -> Ints:
    """Undo `_as_maps`: drop the leading axes of length one that it put in."""
    return maps.reshape(maps.shape[0], *maps.shape[1 + 4 - like.ndim :])


def _avg_pool(op: AvgPool, operands: list[Ints]) -> Ints:
    centred = _as_maps(operands[0]) - op.zero_in
    windows = _windows(centred, op.kernel, op.stride, op.padding, (1, 1), 0)
    sums = windows.sum(axis=(3, 4))
    ones = np.ones((1, *centred.shape[1:3], 1), dtype=np.int64)
    counts = _windows(ones, op.kernel, op.stride, op.padding, (1, 1), int(op.count_padding)).sum(axis=(3, 4))
    counts = np.broadcast_to(counts, sums.shape)
    if op.rule == "float32_window":
        means = float32_window_means(windows, counts, (op.multiplier, op.divisor), op.zero_out)
    else:
        means = MEAN_RULES[op.rule].array(sums, counts, op.multiplier, (op.zero_in, op.zero_out))
    return _drop_map(np.clip(means, op.low, op.high), operands[0])


def _gather(op: Gather, operands: list[Ints]) -> Ints:
    if isinstance(op.rows, Blank):
        raise ValueError(f"layer {op.name!r} has no rows; a Program without values can be priced, not executed")
    return op.rows.astype(np.int64)[operands[0]]


def constant_codes(op: Constant, batch: int) -> Ints:
    """Return a constant's codes once per sample, ``[batch, *shape]``."""
    if isinstance(op.values, Blank):
        raise ValueError(f"layer {op.name!r} has no values; a Program without values can be priced, not executed")
    return np.repeat(op.values.astype(np.int64)[None], batch, axis=0)


def _slice(op: Slice, operands: list[Ints]) -> Ints:
    cut = tuple(slice(*limits) for limits in zip(op.start, op.stop, op.step, strict=True))
    return operands[0][(slice(None), *cut)]


def visible(op: Softmax, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which entries of an input of this shape (batch apart) a softmax sees."""
    seen = np.broadcast_to(np.True_ if op.mask is None else op.mask != 0, shape)
    if op.causal and len(shape) > 1:
        rows, columns = shape[-2:]
        seen = seen & ~(np.arange(columns)[None, :] > np.arange(rows)[:, None] + columns - rows)
    return seen


def _softmax(op: Softmax, operands: list[Ints]) -> Ints:
    codes = operands[0]
    valid = visible(op, codes.shape[1:])
    largest = np.where(valid, codes, np.iinfo(np.int64).min).max(axis=-1, keepdims=True)
    distance = np.clip(np.where(valid, largest - codes, 0), 0, op.exponentials.size - 1)
    powers = np.where(valid, op.exponentials[distance], 0).astype(op.exponentials.dtype)
    return SOFTMAX_RULES[op.rule].array(powers, op.out_bits) + op.zero_out


def _norm(op: Norm, operands: list[Ints]) -> Ints:
    codes = operands[0] - op.zero_in
    n = codes.shape[-1]
    centred = n * codes - (codes.sum(axis=-1, keepdims=True) if op.center else 0)
    power = (centred * centred).sum(axis=-1, keepdims=True)
    squares = power * 4**op.root_shift // n + op.epsilon
    root = np.array([math.isqrt(int(s)) for s in squares.ravel()], dtype=np.int64).reshape(squares.shape)
    scaled = 2 * centred * 2 ** (op.fraction_bits + op.root_shift) + root
    normalized = np.where(root > 0, scaled // np.maximum(2 * root, 1), 0)
    return normalized * op.gain.astype(np.int64) + op.bias.astype(np.int64)


def _pad(op: Pad, operands: list[Ints]) -> Ints:
    return np.pad(operands[0], ((0, 0), *op.widths), constant_values=op.value)


_RULES: dict[type[Op], Callable[[Any, list[Ints]], Ints]] = {
    Requantize: _requantize,
    Add: _add,
    Mul: _mul,
    Duplicate: _duplicate,
    Clamp: lambda op, operands: np.clip(operands[0], op.low, op.high),
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    Table: lambda op, operands: op.entries.astype(np.int64)[operands[0] - op.low_code],
    Concat: lambda op, operands: np.concatenate(operands, axis=op.axis + 1),
    Reshape: lambda op, operands: operands[0].reshape(-1, *op.shape),
    Transpose: lambda op, operands: operands[0].transpose(0, *(axis + 1 for axis in op.axes)),
    Slice: _slice,
    Pad: _pad,
    Gather: _gather,
    Softmax: _softmax,
    Norm: _norm,
}
