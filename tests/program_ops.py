"""One random op of every kind: `BUILDERS` maps a kind to a function that appends such an op to a `Builder`.

Every tensor declares a range that its codes never leave.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from program_builder import Builder

from accelsim.arith import REQUANT_RULES, code_range
from accelsim.check import as_map
from accelsim.program import (
    OPS,
    Add,
    AvgPool,
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
    Pad,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Table,
    Tensor,
    Transpose,
    conv_bound,
)
from accelsim.runtime_rules import ADD_RULES, MEAN_RULES

LARGEST = 400
"""Elements of a sample beyond which no op that makes tensors grow is chosen."""


# --- ops: each appends one op that reads x, and returns its output ---------------------------------------------------


def _windows(b: Builder, x: Tensor, dilated: bool) -> dict[str, Any]:
    """Kernel, stride, padding and dilation that fit a map, every window reaching into it."""
    height, width, _ = as_map(x.shape)
    axes = []
    for length, present in ((height, len(x.shape) > 2), (width, len(x.shape) > 1)):
        k = b.integer(1, 3) if present else 1
        d = b.integer(1, 2) if dilated and present else 1
        before, after = (b.integer(0, k - 1), b.integer(0, k - 1)) if k > 1 and b.maybe() else (0, 0)
        if not _windows_reach_map(length, k, d, before, after):
            k, d, before, after = 1, 1, 0, 0
        axes.append((k, b.integer(1, 3) if present else 1, d, before, after))
    kernel, stride, dilation, before, after = zip(*axes, strict=True)
    return {"kernel": kernel, "stride": stride, "padding": (*before, *after), "dilation": dilation}


def _windows_reach_map(length: int, kernel: int, dilation: int, before: int, after: int) -> bool:
    starts = range(-before, length + after - dilation * (kernel - 1))
    inside = [any(0 <= start + dilation * tap < length for tap in range(kernel)) for start in starts]
    return bool(inside) and all(inside)


def conv(b: Builder, x: Tensor) -> Tensor:
    window = _windows(b, x, dilated=True)
    kernel = window.pop("kernel")
    channels = x.shape[-1]
    groups = b.pick(g for g in range(1, channels + 1) if channels % g == 0)
    out = groups * b.integer(1, 3)
    bits = b.integer(2, 9)
    weight = b.values((out, *kernel, channels // groups), *code_range(bits, signed=True))
    bias = b.values((out,), -x.magnitude << b.integer(0, 8), x.magnitude << b.integer(0, 8))
    pad_value = b.integer(x.low, x.high) if x.kind == "code" else 0
    magnitude = max(x.magnitude, abs(pad_value) if any(window["padding"]) else 0)
    bound = conv_bound(weight, bias, magnitude)
    reach = max(int(bound.max()), 1)
    return b.emit(
        Conv,
        [x],
        (-reach, reach),
        "accumulator",
        weight=weight,
        bias=bias,
        weight_bits=bits,
        storage_bits=b.integer(2, bits),
        bound=bound,
        groups=groups,
        pad_value=pad_value,
        **window,
    )


def matmul(b: Builder, x: Tensor) -> Tensor:
    heads = tuple(b.pick(d for d in range(1, h + 1) if h % d == 0) for h in x.shape[:-2])
    transpose = b.maybe()
    inner, columns = x.shape[-1], b.integer(1, 4)
    y = b.operand((*heads, columns, inner) if transpose else (*heads, inner, columns))
    zeros = (b.zero_point(x), b.zero_point(y))
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip((x, y), zeros, strict=True)]
    bound = inner * reach[0] * reach[1]
    return b.emit(
        MatMul, [x, y], (-bound, bound), "accumulator", zero_points=zeros, transpose=transpose, bound=bound
    )  # fmt: skip


def requantize(b: Builder, x: Tensor) -> Tensor:
    zero_in = b.zero_point(x)
    zero_out, low, high = b.grid()
    narrow = x.magnitude + abs(zero_in) < 2**31
    rule = b.pick(REQUANT_RULES) if narrow else b.pick(("float32_rne", "fbgemm"))
    channels = x.shape[-1] if b.maybe() else 1
    rng = np.random.default_rng(b.integer(0, 2**31 - 1))
    factor = (high - low) / (x.magnitude + 1) * 2.0 ** rng.uniform(-3, 3, channels)
    if rule == "pot_shift" or b.maybe():
        factor = 2.0 ** np.round(np.log2(factor))  # ties abound
    elif b.integer(0, 7) == 0:
        factor = np.where(np.arange(channels) == 0, 0.0, factor)
    biases = np.round(rng.normal(0, x.magnitude / 4 + 1, channels), 1)
    return b.emit(
        Requantize,
        [x],
        (low, high),
        multiplier=factor,
        low=low,
        high=high,
        rule=rule,
        zero_in=zero_in,
        zero_out=zero_out,
        float_bias=biases if REQUANT_RULES[rule].float_bias else None,
    )


def _broadcast_operand(b: Builder, x: Tensor) -> Tensor:
    return b.operand(tuple(1 if b.integer(0, 3) == 0 else n for n in x.shape))


def add(b: Builder, x: Tensor) -> Tensor:
    y = _broadcast_operand(b, x)
    zero_out, low, high = b.grid()
    exponents = [(high - low).bit_length() - t.magnitude.bit_length() - b.integer(0, 3) for t in (x, y)]
    fractions = [1.0 if b.maybe() else b.integer(2**23, 2**25) / 2**24 for _ in (x, y)]
    multipliers = tuple(f * 2.0**e for f, e in zip(fractions, exponents, strict=True))
    narrow = max(x.magnitude, y.magnitude) < 2**9 and 2.0**-10 <= max(multipliers) < 2.0**8
    rule = b.pick(ADD_RULES) if narrow else "float32"
    return b.emit(
        Add,
        [x, y] if b.maybe() else [y, x],
        (low, high),
        multipliers=multipliers,
        rule=rule,
        multiplier_out=2.0 ** b.integer(-22, -19) * (1.0 if b.maybe() else 0.8) if rule == "gemmlowp_double" else 1.0,
        zero_points=(b.integer(-3, 3), b.integer(-3, 3)),
        zero_out=zero_out,
        low=low,
        high=high,
        signs=(b.pick((1, 1, -1)), b.pick((1, 1, -1))),
    )


def mul(b: Builder, x: Tensor) -> Tensor:
    y = _broadcast_operand(b, x)
    zeros = (b.zero_point(x), b.zero_point(y))
    ends = [(t.low - z, t.high - z) for t, z in zip((x, y), zeros, strict=True)]
    products = [p * q for p in ends[0] for q in ends[1]]
    return b.emit(Mul, [x, y], (min(products), max(products)), "accumulator", zero_points=zeros)


def duplicate(b: Builder, x: Tensor) -> Tensor:
    channels, extra = x.shape[-1], b.integer(0, 3)
    source = np.concatenate([np.arange(channels), b.values((extra,), 0, channels - 1)]).astype(np.int64)
    shift = b.values((channels + extra,), 0, 2)
    offset = np.where(shift > 0, b.values((channels + extra,), 0, 1), 0)
    low, high = (x.low, x.high) if b.maybe() else (x.low // 2, max(x.high // 2, x.low // 2))
    return b.emit(Duplicate, [x], (low, high), source=source, offset=offset, shift=shift, low=low, high=high)


def clamp(b: Builder, x: Tensor) -> Tensor:
    low = b.integer(x.low, x.high)
    high = b.integer(low, x.high)
    if b.maybe():
        return b.emit(Clamp, [x], (low, high), x.kind, low=low, high=high)
    caps = b.values((x.shape[-1],), low, high).astype(np.int64)
    return b.emit(Clamp, [x], (low, high), x.kind, low=low, high=caps)


def max_pool(b: Builder, x: Tensor) -> Tensor:
    return b.emit(MaxPool, [x], (x.low, x.high), x.kind, **_windows(b, x, dilated=True))


def avg_pool(b: Builder, x: Tensor) -> Tensor:
    window = _windows(b, x, dilated=False)
    window.pop("dilation")
    zero_out, low, high = b.grid()
    zero_in = b.zero_point(x)
    multiplier = 2.0 ** b.integer(-3, 2) if b.maybe() else b.integer(1, 3000) / 1000
    narrow = 9 * (x.magnitude + abs(zero_in)) < 2**31
    rule = b.pick(MEAN_RULES) if narrow else "float32_rne"
    if rule in REQUANT_RULES and any(window["padding"]):
        rule = "float32_rne"
    return b.emit(
        AvgPool,
        [x],
        (low, high),
        count_padding=b.maybe(),
        multiplier=1.0 if rule == "divide_away" else multiplier,
        rule=rule,
        zero_in=zero_in,
        zero_out=zero_out,
        low=low,
        high=high,
        **window,
    )


def table(b: Builder, x: Tensor) -> Tensor:
    low, high = code_range(b.integer(2, 16), b.maybe())
    low_code = x.low - b.integer(0, 2)
    entries = b.values((x.high - low_code + 1 + b.integer(0, 2),), low, high)
    return b.emit(Table, [x], (low, high), entries=entries, low_code=low_code)


def concat(b: Builder, x: Tensor) -> Tensor:
    axis = b.integer(0, len(x.shape) - 1)
    others = []
    for _ in range(b.integer(0, 2)):
        shape = list(x.shape)
        shape[axis] = b.integer(1, 3)
        others.append(b.operand(tuple(shape)))
    joined = [*others, x]
    return b.emit(Concat, joined, (min(t.low for t in joined), max(t.high for t in joined)), axis=axis)


def reshape(b: Builder, x: Tensor) -> Tensor:
    left, shape = x.size, []
    for _ in range(b.integer(0, 2)):
        shape.append(b.pick(d for d in range(1, left + 1) if left % d == 0))
        left //= shape[-1]
    return b.emit(Reshape, [x], (x.low, x.high), x.kind, shape=(*shape, left))


def transpose(b: Builder, x: Tensor) -> Tensor:
    left = list(range(len(x.shape)))
    axes = [left.pop(b.integer(0, len(left) - 1)) for _ in x.shape]
    return b.emit(Transpose, [x], (x.low, x.high), x.kind, axes=tuple(axes))


def cut(b: Builder, x: Tensor) -> Tensor:
    start = tuple(b.integer(0, n - 1) for n in x.shape)
    stop = tuple(b.integer(s + 1, n) for s, n in zip(start, x.shape, strict=True))
    step = tuple(b.integer(1, 3) for _ in x.shape)
    return b.emit(Slice, [x], (x.low, x.high), x.kind, start=start, stop=stop, step=step)


def pad(b: Builder, x: Tensor) -> Tensor:
    widths = tuple((b.integer(0, 2), b.integer(0, 1)) for _ in x.shape)
    return b.emit(Pad, [x], (x.low, x.high), x.kind, widths=widths, value=b.integer(x.low, x.high))


def gather(b: Builder, x: Tensor) -> Tensor:
    bits = b.integer(2, 8)
    low, high = code_range(bits, b.maybe())
    rows = b.values((x.high + 1, b.integer(1, 4)), low, high)
    return b.emit(Gather, [x], (low, high), rows=rows, storage_bits=bits)


def constant(b: Builder, x: Tensor) -> Tensor:
    low, high = code_range(b.integer(2, 8), b.maybe())
    return b.emit(Constant, [], (low, high), values=b.values(x.shape, low, high))


def runtime_softmax(b: Builder, x: Tensor) -> Tensor:
    decay = np.exp(-np.arange(b.integer(1, 60)) / b.integer(1, 20))
    rule, out_bits = b.pick(("gemmlowp", "float32")), b.integer(3, 12)
    exponentials = decay.astype(np.float32) if rule == "float32" else (decay * (2**31 - 1)).astype(np.int64)
    zero = b.integer(-(2**out_bits), 0)
    ends = (zero, zero + 2**out_bits - 1)
    return b.emit(Softmax, [x], ends, exponentials=exponentials, out_bits=out_bits, rule=rule, zero_out=zero)


def softmax(b: Builder, x: Tensor) -> Tensor:
    if b.integer(0, 2) == 0:
        return runtime_softmax(b, x)
    length, exp_bits, out_bits = b.integer(1, 60), b.integer(4, 16), b.integer(3, 16)
    exponentials = np.floor(np.exp(-np.arange(length) / b.integer(1, 20)) * 2**exp_bits + 0.5).astype(np.int64)
    causal = len(x.shape) > 1 and x.shape[-1] >= x.shape[-2] and b.maybe()
    mask = b.values(tuple(n if b.maybe() else 1 for n in x.shape), 0, 1) if b.maybe() else None
    return b.emit(
        Softmax, [x], (0, 2**out_bits - 1), exponentials=exponentials, out_bits=out_bits, causal=causal, mask=mask
    )  # fmt: skip


def norm(b: Builder, x: Tensor) -> Tensor:
    n, fraction_bits = x.shape[-1], b.integer(2, 10)
    gain_bits = b.integer(2, 8)
    gain = b.values((n,), *code_range(gain_bits, signed=True))
    bias = b.values((n,), -(2**12), 2**12)
    # |u| / sqrt(Q / n) is at most sqrt(n), and the floors in the root at most double it
    reach = (2 * math.isqrt(n) + 3 << fraction_bits) * int(np.abs(gain).max()) + int(np.abs(bias).max())
    return b.emit(
        Norm,
        [x],
        (-reach, reach),
        "accumulator",
        gain=gain,
        bias=bias,
        gain_bits=gain_bits,
        zero_in=b.zero_point(x),
        epsilon=b.integer(0, 40) if b.maybe() else 0,
        fraction_bits=fraction_bits,
        root_shift=b.integer(0, 6),
        center=b.maybe(),
    )


BUILDERS: dict[str, Callable[[Builder, Tensor], Tensor]] = {
    "conv": conv, "matmul": matmul, "requantize": requantize, "add": add, "mul": mul, "duplicate": duplicate,
    "clamp": clamp, "max_pool": max_pool, "avg_pool": avg_pool, "table": table, "concat": concat, "reshape": reshape,
    "transpose": transpose, "slice": cut, "pad": pad, "gather": gather, "constant": constant,
    "softmax": softmax, "norm": norm,
}  # fmt: skip

assert set(BUILDERS) == set(OPS), "every op kind needs a builder"


def applicable(x: Tensor) -> list[str]:
    """Return the kinds of op that may read a tensor; wide or large ones admit fewer."""
    rank, kinds = len(x.shape), ["requantize", "clamp", "reshape", "transpose", "slice"]
    if rank <= 3:
        kinds += ["max_pool"]
    if x.magnitude < 2**16:
        kinds += ["add", "mul", "softmax", "norm"]
        kinds += ["conv", "avg_pool"] if rank <= 3 else []
        kinds += ["matmul"] if rank >= 2 else []
    if x.high - x.low < 2**10:
        kinds += ["table"]
    if x.size <= LARGEST:
        kinds += ["duplicate", "concat", "pad", "constant"]
        kinds += ["gather"] if x.low >= 0 and x.high < 2**9 and rank < 4 else []
    return kinds
