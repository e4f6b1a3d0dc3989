"""One small random Program for every kind of op, with inputs at the ends of their ranges among them."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES, bits_for, code_range
from accelsim.check import check, infer_shape
from accelsim.program import (
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
    Op,
    Pad,
    Program,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Table,
    Tensor,
    Transpose,
    conv_bound,
)
from accelsim.runtime_rules import ADD_RULES, MEAN_RULES, SOFTMAX_RULES

Rng = np.random.Generator
Ends = tuple[int, int]


def sample_program(kind: str, rng: Rng) -> Program:
    """Return a random checked Program of one op of a kind."""
    program = SAMPLES[kind](rng)
    check(program)
    return program


def sample_inputs(program: Program, batch: int, rng: Rng) -> dict[str, NDArray[np.int64]]:
    """Return random codes for every input of a Program, a quarter of them at the ends of the range."""
    return {
        name: _codes(rng, (batch, *program.tensors[name].shape), program.tensors[name].low, program.tensors[name].high)
        for name in program.inputs
    }


def _codes(rng: Rng, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.int64]:
    values = rng.integers(low, high, size=shape, endpoint=True, dtype=np.int64)
    place = rng.random(shape)
    return np.where(place < 0.125, low, np.where(place > 0.875, high, values))


def _tensor(rng: Rng, name: str, shape: tuple[int, ...], signed: bool | None = None) -> Tensor:
    bits = int(rng.integers(2, 9))
    is_signed = bool(rng.integers(2)) if signed is None else signed
    low, high = code_range(bits, is_signed)
    return Tensor(name=name, shape=shape, bits=bits, signed=is_signed, low=low, high=high, scale=1.0)


def _map(rng: Rng) -> Tensor:
    shape = (int(rng.integers(3, 7)), int(rng.integers(3, 7)), int(rng.integers(1, 7)))
    return _tensor(rng, "x", shape)


def _one(op: type[Op], inputs: tuple[Tensor, ...], ends: Ends, kind: str = "code", **own: Any) -> Program:
    """Return the Program of one op whose output stays within `ends`."""
    made = op(name=op.kind, inputs=tuple(t.name for t in inputs), output="y", **own)
    low, high = ends
    bits = max(1, bits_for(low, high) - (low >= 0))
    shape = infer_shape(made, [t.shape for t in inputs])
    scale = 1.0 if kind == "code" else None
    y = Tensor(name="y", shape=shape, bits=bits, signed=low < 0, low=low, high=high, kind=kind, scale=scale)
    tensors = {t.name: t for t in (*inputs, y)}
    names = tuple(t.name for t in inputs)
    return Program(name=f"one {op.kind}", tensors=tensors, inputs=names, outputs=("y",), ops=(made,))


def _output_grid(rng: Rng) -> dict[str, Any]:
    low, high = code_range(int(rng.integers(2, 13)), bool(rng.integers(2)))
    return {"zero_out": int(rng.integers(low, high, endpoint=True)), "low": low, "high": high}


def _same(op: type[Op]) -> Callable[..., Program]:
    """Return a maker of ops that move codes about and leave their range alone."""

    def make(rng: Rng, own: Callable[[Rng, Tensor], dict[str, Any]]) -> Program:
        x = _map(rng)
        return _one(op, (x,), (x.low, x.high), x.kind, **own(rng, x))

    return make


def _conv(rng: Rng) -> Program:
    x = _map(rng)
    channels, bits, pad = x.shape[2], int(rng.integers(2, 9)), int(rng.integers(x.low, x.high, endpoint=True))
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    shape = (groups * int(rng.integers(1, 4)), *rng.integers(1, 4, size=2).tolist(), channels // groups)
    weight = _codes(rng, shape, *code_range(bits, signed=True))
    bias = _codes(rng, shape[:1], -(2**12), 2**12)
    bound = conv_bound(weight, bias, max(x.magnitude, abs(pad)))
    reach = int(bound.max())
    wide = [2 * side - 1 <= length and bool(rng.integers(2)) for side, length in zip(shape[1:3], x.shape, strict=False)]
    return _one(
        Conv, (x,), (-reach, reach), "accumulator", weight=weight, bias=bias, weight_bits=bits, storage_bits=bits,
        bound=bound, groups=groups, dilation=tuple(1 + far for far in wide),
        stride=tuple(rng.integers(1, 3, size=2).tolist()),
        padding=tuple(int(rng.integers(0, shape[1 + i % 2])) for i in range(4)), pad_value=pad,
    )  # fmt: skip


def _matmul(rng: Rng) -> Program:
    heads, rows, inner, columns = (int(n) for n in rng.integers(1, 6, size=4))
    transpose = bool(rng.integers(2))
    x = _tensor(rng, "x0", (2 * heads, rows, inner))
    y = _tensor(rng, "x1", (heads, columns, inner) if transpose else (heads, inner, columns))
    zeros = tuple(int(rng.integers(t.low, t.high, endpoint=True)) for t in (x, y))
    bound = inner * math.prod(max(abs(t.low - z), abs(t.high - z)) for t, z in zip((x, y), zeros, strict=True))
    bound = max(bound, 1)
    return _one(
        MatMul, (x, y), (-bound, bound), "accumulator", zero_points=zeros, transpose=transpose, bound=bound
    )  # fmt: skip


def _requantize(rng: Rng) -> Program:
    rule = str(rng.choice(list(REQUANT_RULES)))
    grid, channels, reach = _output_grid(rng), int(rng.integers(1, 6)), 1 << int(rng.integers(4, 25))
    codes = bool(rng.integers(2))  # of another grid, with a zero point, rather than sums
    x = Tensor(
        name="x", shape=(5, channels), bits=bits_for(-reach, reach), signed=True, low=-reach, high=reach,
        kind="code" if codes else "accumulator", scale=1.0 if codes else None,
    )  # fmt: skip
    grid["zero_in"] = int(rng.integers(-reach, reach, endpoint=True)) if codes else 0
    channels = channels if rng.integers(2) else 1
    factor: NDArray[Any] = (grid["high"] - grid["low"]) / reach * 2.0 ** rng.uniform(-3, 3, channels)
    if rule == "pot_shift" or rng.integers(2):
        factor = 2.0 ** np.round(np.log2(factor))  # so that ties occur
    bias = np.round(rng.normal(0, reach / 4, channels), 1) if REQUANT_RULES[rule].float_bias else None
    return _one(Requantize, (x,), (grid["low"], grid["high"]), multiplier=factor, rule=rule, float_bias=bias, **grid)


def _add(rng: Rng) -> Program:
    x = _map(rng)
    y, grid = _tensor(rng, "x1", x.shape), _output_grid(rng)
    zeros = tuple(int(rng.integers(-3, 4)) for _ in range(2))
    multipliers = tuple(float(2.0 ** rng.integers(-3, 3) * rng.choice([1.0, rng.uniform(0.5, 1)])) for _ in range(2))
    signs = (1, int(rng.choice([1, -1])))
    rule = str(rng.choice(list(ADD_RULES)))
    out = 2.0**-20 if rule == "gemmlowp_double" else 1.0
    return _one(
        Add, (x, y), (grid["low"], grid["high"]), multipliers=multipliers, zero_points=zeros, signs=signs, rule=rule,
        multiplier_out=out, **grid,
    )  # fmt: skip


def _mul(rng: Rng) -> Program:
    x = _map(rng)
    y = _tensor(rng, "x1", tuple(int(rng.choice([1, n])) for n in x.shape))
    zeros = tuple(int(rng.integers(t.low, t.high, endpoint=True)) for t in (x, y))
    ends = [(t.low - z, t.high - z) for t, z in zip((x, y), zeros, strict=True)]
    products = [p * q for p in ends[0] for q in ends[1]]
    return _one(Mul, (x, y), (min(products), max(products)), "accumulator", zero_points=zeros)


def _duplicate(rng: Rng) -> Program:
    x = _map(rng)
    channels, extra = x.shape[2], int(rng.integers(1, 4))
    source = np.concatenate([np.arange(channels), rng.integers(0, channels, extra)]).astype(np.int64)
    shift = rng.integers(0, 3, channels + extra)
    offset = np.where(shift > 0, rng.integers(0, 2, channels + extra), 0)
    return _one(
        Duplicate, (x,), (x.low, x.high), source=source, offset=offset, shift=shift, low=x.low, high=x.high
    )  # fmt: skip


def _avg_pool(rng: Rng) -> Program:
    x, grid = _map(rng), _output_grid(rng)
    zero_in = int(rng.integers(x.low, x.high, endpoint=True))
    rule = str(rng.choice(list(MEAN_RULES)))
    padding = (0, 0, 0, 0) if rule in REQUANT_RULES and rule != "float32_rne" else (1, 1, 0, 1)
    multiplier = 1.0 if rule == "divide_away" else float(rng.integers(1, 3000) / 1000)
    return _one(
        AvgPool, (x,), (grid["low"], grid["high"]), kernel=(2, 3), stride=(1, 2), padding=padding, rule=rule,
        count_padding=bool(rng.integers(2)), multiplier=multiplier, zero_in=zero_in, **grid,
    )  # fmt: skip


def _table(rng: Rng) -> Program:
    x = _map(rng)
    low, high = code_range(int(rng.integers(2, 17)), bool(rng.integers(2)))
    return _one(Table, (x,), (low, high), entries=_codes(rng, (x.high - x.low + 1,), low, high), low_code=x.low)


def _concat(rng: Rng) -> Program:
    x = _map(rng)
    y = _tensor(rng, "x1", (*x.shape[:2], int(rng.integers(1, 4))))
    return _one(Concat, (x, y), (min(x.low, y.low), max(x.high, y.high)), axis=2)


def _gather(rng: Rng) -> Program:
    x = _tensor(rng, "x", (int(rng.integers(1, 6)),), signed=False)
    bits = int(rng.integers(2, 9))
    ends = code_range(bits, bool(rng.integers(2)))
    return _one(Gather, (x,), ends, rows=_codes(rng, (x.high + 1, 5), *ends), storage_bits=bits)


def _constant(rng: Rng) -> Program:
    x = _map(rng)  # nothing reads it: it tells how many samples there are
    ends = code_range(int(rng.integers(2, 9)), bool(rng.integers(2)))
    program = _one(Constant, (), ends, values=_codes(rng, (3, 4), *ends))
    return replace(program, tensors={**program.tensors, x.name: x}, inputs=(x.name,))


def _softmax(rng: Rng) -> Program:
    length, exp_bits, out_bits = (int(rng.integers(*ends)) for ends in ((1, 60), (4, 17), (3, 17)))
    rows = int(rng.integers(1, 6))
    x = _tensor(rng, "x", (2, rows, rows + int(rng.integers(4))))
    decay = np.exp(-np.arange(length) / rng.integers(1, 20))
    table = np.floor(decay * 2**exp_bits + 0.5).astype(np.int64)
    rule = str(rng.choice(list(SOFTMAX_RULES)))
    if rule != "integer":
        table = decay.astype(np.float32) if rule == "float32" else (decay * (2**31 - 1)).astype(np.int64)
        zero = int(rng.integers(-(2**out_bits), 1))
        ends = (zero, zero + 2**out_bits - 1)
        return _one(Softmax, (x,), ends, exponentials=table, out_bits=out_bits, rule=rule, zero_out=zero)
    causal, masked = bool(rng.integers(2)), bool(rng.integers(2))
    mask = rng.integers(0, 2, x.shape) if masked else None
    return _one(
        Softmax, (x,), (0, 2**out_bits - 1), exponentials=table, out_bits=out_bits, causal=causal, mask=mask
    )  # fmt: skip


def _norm(rng: Rng) -> Program:
    n, fraction_bits, gain_bits = (int(rng.integers(*ends)) for ends in ((1, 20), (2, 11), (2, 9)))
    x = _tensor(rng, "x", (3, n))
    gain, bias = _codes(rng, (n,), *code_range(gain_bits, signed=True)), _codes(rng, (n,), -(2**12), 2**12)
    # |u| / sqrt(Q / n) is at most sqrt(n), and the floors in the root at most double it
    reach = (2 * math.isqrt(n) + 3 << fraction_bits) * int(np.abs(gain).max()) + int(np.abs(bias).max())
    return _one(
        Norm, (x,), (-reach, reach), "accumulator", gain=gain, bias=bias, gain_bits=gain_bits,
        zero_in=int(rng.integers(x.low, x.high, endpoint=True)), epsilon=int(rng.integers(0, 40)),
        fraction_bits=fraction_bits, root_shift=int(rng.integers(0, 7)), center=bool(rng.integers(2)),
    )  # fmt: skip


def _cut(rng: Rng, x: Tensor) -> dict[str, Any]:
    start = tuple(int(rng.integers(n)) for n in x.shape)
    stop = tuple(int(rng.integers(s + 1, n, endpoint=True)) for s, n in zip(start, x.shape, strict=True))
    return {"start": start, "stop": stop, "step": tuple(rng.integers(1, 4, size=3).tolist())}


def _border(rng: Rng, x: Tensor) -> dict[str, Any]:
    widths = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, size=(3, 2)))
    return {"widths": widths, "value": int(rng.integers(x.low, x.high, endpoint=True))}


def _ends(rng: Rng, x: Tensor) -> dict[str, Any]:
    """Return limits for all channels, or for each."""
    if rng.integers(2):
        low, high = np.sort(rng.integers(x.low, x.high, size=(2, x.shape[-1]), endpoint=True), axis=0)
        return {"low": low, "high": high}
    low, high = sorted(int(v) for v in rng.integers(x.low, x.high, size=2, endpoint=True))
    return {"low": low, "high": high}


SAMPLES: dict[str, Callable[[Rng], Program]] = {
    "conv": _conv,
    "matmul": _matmul,
    "requantize": _requantize,
    "add": _add,
    "mul": _mul,
    "duplicate": _duplicate,
    "clamp": lambda rng: _same(Clamp)(rng, _ends),
    "max_pool": lambda rng: _same(MaxPool)(
        rng, lambda rng, x: {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 0, 0, 1), "dilation": (1, 1)}
    ),
    "avg_pool": _avg_pool,
    "table": _table,
    "concat": _concat,
    "reshape": lambda rng: _same(Reshape)(rng, lambda rng, x: {"shape": (x.shape[0], x.shape[1] * x.shape[2])}),
    "transpose": lambda rng: _same(Transpose)(rng, lambda rng, x: {"axes": tuple(rng.permutation(3).tolist())}),
    "slice": lambda rng: _same(Slice)(rng, _cut),
    "pad": lambda rng: _same(Pad)(rng, _border),
    "gather": _gather,
    "constant": _constant,
    "softmax": _softmax,
    "norm": _norm,
}
