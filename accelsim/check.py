"""The rules of the op table: what a valid Program is.

`check` runs after every lowering and import; engines trust what has passed it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from accelsim.arith import REQUANT_RULES, bits_for, pot_exponent
from accelsim.program import (
    OPS,
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
    Tensor,
    Transpose,
    conv_bound,
    norm_reach,
    op_fields,
)
from accelsim.runtime_rules import ADD_RULES, GEMMLOWP_SUM_BITS, MEAN_RULES, SOFTMAX_RULES

Shape = tuple[int, ...]


def check(program: Program) -> None:
    """Raise where a Program breaks its op table.

    Raises
    ------
    ValueError
        Naming the op, the rule and the values.
    """
    known = set(program.inputs)
    produced: set[str] = set()
    earlier: dict[str, Op] = {}
    for name in (*program.inputs, *program.outputs):
        _require(name in program.tensors, f"Program {program.name!r}", f"has no tensor {name!r} for an input or output")
    for tensor in program.tensors.values():
        _check_tensor(tensor)
    for op in program.ops:
        where = f"Program op {op.name!r} ({op.kind})"
        _require(op.kind in OPS, where, "is of no known kind")
        _require(op.name not in earlier, where, "has a name that an earlier op has")
        for name in op.inputs:
            _require(name in known, where, f"reads {name!r} before it is computed")
        _require(op.output in program.tensors, where, f"writes unknown tensor {op.output!r}")
        _require(
            op.output not in produced and op.output not in program.inputs, where, f"writes {op.output!r} a second time"
        )
        _check_op(program, op, where)
        if op.shares:
            _require(op.shares in earlier, where, f"shares the parameters of {op.shares!r}, which is no earlier op")
            _check_shares(op, earlier[op.shares], where)
        if type(op) in _OP_CHECKS and not (op.shares and _alike(program, op, earlier[op.shares])):
            inputs = [program.tensors[name] for name in op.inputs]
            _OP_CHECKS[type(op)](op, inputs, program.tensors[op.output], where)
        known.add(op.output)
        produced.add(op.output)
        earlier[op.name] = op
    for name in program.outputs:
        _require(name in known, f"Program {program.name!r}", f"never computes its output {name!r}")


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise ValueError(f"{where} {message}")


def _check_tensor(tensor: Tensor) -> None:
    where = f"Program tensor {tensor.name!r}"
    _require(
        len(tensor.shape) >= 1 and all(d >= 1 for d in tensor.shape),
        where,
        f"has shape {tensor.shape}; every axis must be >= 1",
    )
    _require(1 <= tensor.bits <= 64, where, f"has {tensor.bits} bits; 1..64 are allowed")
    _require(tensor.kind in ("code", "accumulator", "index"), where, f"is of unknown kind {tensor.kind!r}")
    _require(tensor.low <= tensor.high, where, f"has an empty range {tensor.low}..{tensor.high}")
    fits = bits_for(tensor.low, tensor.high) - (0 if tensor.signed else 1) <= tensor.bits
    _require(
        fits and (tensor.signed or tensor.low >= 0),
        where,
        f"has codes {tensor.low}..{tensor.high} that {tensor.bits} bits do not hold",
    )


def _check_op(program: Program, op: Op, where: str) -> None:
    inputs = [program.tensors[name] for name in op.inputs]
    output = program.tensors[op.output]
    arity = _ARITY.get(op.kind, 1)
    _require(
        len(inputs) == arity or (op.kind == "concat" and len(inputs) >= 1),
        where,
        f"takes {arity} inputs (got {len(inputs)})",
    )
    expected = infer_shape(op, [tensor.shape for tensor in inputs], where)
    _require(expected == output.shape, where, f"gives shape {expected}, but {output.name!r} is declared {output.shape}")


_ARITY = {"matmul": 2, "add": 2, "mul": 2, "constant": 0}


def _check_shares(op: Op, owner: Op, where: str) -> None:
    """Require the owner's parameters."""
    own = ("name", "inputs", "output", "shares")
    same = type(op) is type(owner) and all(
        _equal(value, getattr(owner, name)) for name, value in op_fields(op) if name not in own
    )
    _require(same and not owner.shares, where, f"has other parameters than {owner.name!r}, whose it shares")


def _alike(program: Program, op: Op, owner: Op) -> bool:
    """Tell whether two ops of the same parameters have the same shapes and ranges, so that the rules hold for both."""
    pairs = zip((*op.inputs, op.output), (*owner.inputs, owner.output), strict=True)
    return all(_limits(program.tensors[a]) == _limits(program.tensors[b]) for a, b in pairs)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first is second or bool(np.array_equal(first, second))
    return bool(type(first) is type(second) and first == second)


def _limits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.bits, tensor.signed, tensor.low, tensor.high


def _check_conv(op: Conv, inputs: list[Tensor], output: Tensor, where: str) -> None:
    out = op.weight.shape[0]
    _require(out % op.groups == 0, where, f"has {out} output channels, no multiple of groups={op.groups}")
    _require(op.bias.shape == (out,) and op.bound.shape == (out,), where, f"needs bias and bound of shape ({out},)")
    _require(
        2 <= op.storage_bits <= 18 and 2 <= op.weight_bits <= 18,
        where,
        f"has {op.weight_bits}-bit operands stored in {op.storage_bits} bits",
    )
    if isinstance(op.weight, Blank) or isinstance(op.bias, Blank) or isinstance(op.bound, Blank):
        return
    low, high = int(op.weight.min()), int(op.weight.max())
    _require(
        bits_for(low, high) <= op.weight_bits,
        where,
        f"has weights {low}..{high} that {op.weight_bits} bits do not hold",
    )
    magnitude = max(inputs[0].magnitude, abs(op.pad_value) if any(op.padding) else 0)
    _require(
        bool(np.array_equal(op.bound, conv_bound(op.weight, op.bias, magnitude))),
        where,
        "has a bound that is not Σ|w|·max|x| + |bias|",
    )
    _require(
        int(op.bound.max()) <= output.magnitude, where, f"can reach ±{int(op.bound.max())}, beyond its output's range"
    )


def _check_requantize(op: Requantize, inputs: list[Tensor], output: Tensor, where: str) -> None:
    _require(op.rule in REQUANT_RULES, where, f"names unknown rule {op.rule!r}; known are {', '.join(REQUANT_RULES)}")
    channels = output.shape[-1]
    _require(
        op.multiplier.shape in ((1,), (channels,)),
        where,
        f"has {op.multiplier.shape} multipliers for {channels} channels",
    )
    _require(
        bool(np.all(np.isfinite(op.multiplier)) and np.all(op.multiplier >= 0)),
        where,
        "has a multiplier that is negative or not finite",
    )
    _require(bool(np.all(op.multiplier < 2.0**31)), where, "has a multiplier of 2**31 or more; sums would be scaled up")
    if op.rule == "pot_shift":
        for multiplier in op.multiplier.tolist():
            _require(-31 < pot_exponent(multiplier) <= 62, where, f"shifts out of range (multiplier {multiplier})")
    needs_bias = REQUANT_RULES[op.rule].float_bias
    _require(
        needs_bias == (op.float_bias is not None),
        where,
        f"with rule {op.rule} {'needs' if needs_bias else 'takes no'} float bias",
    )
    if op.rule not in ("float32_rne", "fbgemm"):
        _require(
            max(abs(inputs[0].low - op.zero_in), abs(inputs[0].high - op.zero_in)) < 2**31,
            where,
            f"uses rule {op.rule}, which holds sums in 32 bits; {inputs[0].name!r} can reach {inputs[0].magnitude}",
        )
    _check_clamp(op.low, op.high, output, where)


def _check_clamp(low: int, high: int, output: Tensor, where: str) -> None:
    _require(
        output.low <= low <= high <= output.high,
        where,
        f"clamps to {low}..{high}, outside its output's {output.low}..{output.high}",
    )


def _check_channel_clamp(op: Clamp, inputs: list[Tensor], output: Tensor, where: str) -> None:
    low, high = np.asarray(op.low), np.asarray(op.high)
    for limits in (low, high):
        _require(
            limits.shape in ((), output.shape[-1:]),
            where,
            f"has {limits.shape} limits for {output.shape[-1]} channels",
        )
    _require(bool(np.all(low <= high)), where, "has a channel whose lower limit is above its upper one")
    _check_clamp(int(low.min()), int(high.max()), output, where)


def _check_duplicate(op: Duplicate, inputs: list[Tensor], output: Tensor, where: str) -> None:
    channels = inputs[0].shape[-1]
    _require(
        op.source.shape == op.offset.shape == op.shift.shape and op.source.ndim == 1,
        where,
        "needs source, offset and shift of one length",
    )
    _require(
        int(op.source.min()) >= 0 and int(op.source.max()) < channels,
        where,
        f"reads a channel outside 0..{channels - 1}",
    )
    _require(int(op.shift.min()) >= 0 and int(op.offset.min()) >= 0, where, "has a negative shift or offset")
    _check_clamp(op.low, op.high, output, where)


def _check_table(op: Table, inputs: list[Tensor], output: Tensor, where: str) -> None:
    covered = op.low_code <= inputs[0].low and inputs[0].high < op.low_code + op.entries.size
    _require(
        covered,
        where,
        f"has {op.entries.size} entries from {op.low_code} on, but codes run {inputs[0].low}..{inputs[0].high}",
    )
    _check_clamp(int(op.entries.min()), int(op.entries.max()), output, where)


def _check_rule(op: Add | AvgPool | Softmax, rules: Mapping[str, object], where: str) -> None:
    _require(op.rule in rules, where, f"names unknown rule {op.rule!r}; known are {', '.join(rules)}")


def _check_add(op: Add, inputs: list[Tensor], output: Tensor, where: str) -> None:
    _check_rule(op, ADD_RULES, where)
    factors = (*op.multipliers, abs(op.multiplier_out) if op.rule == "float32_fma" else op.multiplier_out)
    _require(all(0 <= m < 2.0**31 for m in factors), where, f"has multipliers {factors}; 0..2**31 are allowed")
    if op.rule == "xnnpack":
        largest = max(op.multipliers)
        _require(2.0**-11 <= largest < 2.0**9, where, f"has multipliers {op.multipliers} beyond rule xnnpack's range")
    if op.rule != "float32":
        reach = max(max(abs(t.low - z), abs(t.high - z)) for t, z in zip(inputs, op.zero_points, strict=True))
        _require(reach < 2**10, where, f"uses rule {op.rule}, which adds 8-bit codes; an input can reach {reach}")
    _check_clamp(op.low, op.high, output, where)


def _check_same_grid(op: Op, inputs: list[Tensor], output: Tensor, where: str) -> None:
    for tensor in inputs:
        _require(
            output.low <= tensor.low and tensor.high <= output.high,
            where,
            f"passes {tensor.low}..{tensor.high} of {tensor.name!r} into a narrower output",
        )


def _check_pool(op: MaxPool | AvgPool, inputs: list[Tensor], output: Tensor, where: str) -> None:
    dilation = op.dilation if isinstance(op, MaxPool) else (1, 1)
    reach = [d * (k - 1) + 1 for k, d in zip(op.kernel, dilation, strict=True)] * 2
    inside = all(pad < extent for pad, extent in zip(op.padding, reach, strict=True))
    _require(inside, where, f"has padding {op.padding} that holds whole {op.kernel} windows")
    if isinstance(op, MaxPool):
        _check_same_grid(op, inputs, output, where)
    else:
        if op.rule != "float32_window":
            _check_mean_rule(op, inputs[0], where)
        _require(0 < op.divisor < 2.0**31, where, f"has divisor {op.divisor}; above 0 and below 2**31 is allowed")
        _check_clamp(op.low, op.high, output, where)


def _check_mean_rule(op: AvgPool, source: Tensor, where: str) -> None:
    _check_rule(op, MEAN_RULES, where)
    _require(0 <= op.multiplier < 2.0**31, where, f"has multiplier {op.multiplier}; 0..2**31 is allowed")
    if op.rule == "divide_away":
        _require(op.multiplier == 1.0, where, f"uses rule divide_away, which takes no multiplier (got {op.multiplier})")
    if op.rule in REQUANT_RULES and op.rule != "float32_rne":
        _require(not any(op.padding), where, f"uses rule {op.rule} of whole windows' sums; its padding is {op.padding}")
    if op.rule not in ("float32_rne", "float32_shifted"):
        reach = op.kernel[0] * op.kernel[1] * max(abs(source.low - op.zero_in), abs(source.high - op.zero_in))
        _require(reach < 2**31, where, f"uses rule {op.rule}, which holds sums in 32 bits; they can reach {reach}")


def _check_pad(op: Pad, inputs: list[Tensor], output: Tensor, where: str) -> None:
    _check_same_grid(op, inputs, output, where)
    _check_clamp(op.value, op.value, output, where)


def _check_mul(op: Mul, inputs: list[Tensor], output: Tensor, where: str) -> None:
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip(inputs, op.zero_points, strict=True)]
    _require(
        reach[0] * reach[1] <= output.magnitude, where, f"can reach ±{reach[0] * reach[1]}, beyond its output's range"
    )


def _check_gather(op: Gather, inputs: list[Tensor], output: Tensor, where: str) -> None:
    rows = op.rows.shape[0]
    in_table = inputs[0].low >= 0 and inputs[0].high < rows
    _require(in_table, where, f"has {rows} rows for indices {inputs[0].low}..{inputs[0].high}")
    if not isinstance(op.rows, Blank):
        _check_clamp(int(op.rows.min()), int(op.rows.max()), output, where)


def _check_constant(op: Constant, inputs: list[Tensor], output: Tensor, where: str) -> None:
    if not isinstance(op.values, Blank):
        _check_clamp(int(op.values.min()), int(op.values.max()), output, where)


def _check_transpose(op: Transpose, inputs: list[Tensor], output: Tensor, where: str) -> None:
    _require(sorted(op.axes) == list(range(len(op.axes))), where, f"has axes {op.axes}, no permutation")
    _check_same_grid(op, inputs, output, where)


def _check_softmax(op: Softmax, inputs: list[Tensor], output: Tensor, where: str) -> None:
    _check_rule(op, SOFTMAX_RULES, where)
    _check_clamp(op.zero_out, 2**op.out_bits - 1 + op.zero_out, output, where)
    if op.rule != "integer":
        _check_runtime_softmax(op, inputs[0], where)
        return
    entries = op.exponentials
    ordered = bool(np.all(np.diff(entries) <= 0)) and int(entries[0]) > 0 and int(entries[-1]) >= 0
    _require(ordered, where, "needs a non-increasing table of non-negative exponentials")
    largest = (int(entries[0]) << op.out_bits) + inputs[0].shape[-1] * int(entries[0])
    _require(largest < 2**62, where, f"reaches {largest} before it divides; use narrower exponentials")
    if op.mask is not None:
        shape = inputs[0].shape
        fits = op.mask.ndim == len(shape) and all(m in (1, n) for m, n in zip(op.mask.shape, shape, strict=True))
        _require(fits, where, f"has a mask {op.mask.shape} for an input of shape {shape}")
        _require(bool(np.isin(op.mask, (0, 1)).all()), where, "needs a mask of zeros and ones")


def _check_runtime_softmax(op: Softmax, source: Tensor, where: str) -> None:
    _require(not op.causal and op.mask is None, where, f"uses rule {op.rule}, which hides no entries")
    _require(1 <= op.out_bits <= 16, where, f"has {op.out_bits} output bits; rule {op.rule} gives 1..16")
    kind, one = (np.dtype(np.float32), 1.0) if op.rule == "float32" else (np.dtype(np.int64), 2**31 - 1)
    within = bool(np.all((op.exponentials >= 0) & (op.exponentials <= one))) and op.exponentials[0] == one
    _require(
        op.exponentials.dtype == kind and within, where, f"needs {kind} exponentials that begin with {one} and are >= 0"
    )
    if op.rule == "gemmlowp":
        columns = source.shape[-1]
        _require(
            columns < 2**GEMMLOWP_SUM_BITS, where, f"adds {columns} exponentials; rule gemmlowp holds fewer than 4096"
        )


def _check_norm(op: Norm, inputs: list[Tensor], output: Tensor, where: str) -> None:
    n, (low, high) = inputs[0].shape[-1], (inputs[0].low - op.zero_in, inputs[0].high - op.zero_in)
    _require(min(op.epsilon, op.fraction_bits, op.root_shift) >= 0, where, "needs epsilon and shifts of 0 or more")
    # Σ(v - mean)² is at most n/4 times the squared range; Q is n² times that, or n² times Σv² where nothing is centred
    widest = max(abs(low), abs(high))
    power = n**3 * (high - low) ** 2 // 4 if op.center else n**3 * widest**2
    deviation = n * ((high - low) if op.center else widest)
    root = math.isqrt((power << 2 * op.root_shift) // n + op.epsilon)
    for what, value in (
        ("sum of squares", (power << 2 * op.root_shift) + op.epsilon),
        ("dividend", (deviation << op.fraction_bits + op.root_shift + 1) + root),
        ("divisor", 2 * root),
    ):
        _require(value < 2**63, where, f"has a {what} of up to {value}, beyond 63 bits; lower root_shift or the width")
    reach = norm_reach(n, op.fraction_bits, op.epsilon) * int(np.abs(op.gain).max()) + int(np.abs(op.bias).max())
    _require(reach <= output.magnitude, where, f"can reach ±{reach}, beyond its output's range")
    bits = bits_for(int(op.gain.min()), int(op.gain.max()))
    _require(bits <= op.gain_bits, where, f"has gains of {bits} bits, declared {op.gain_bits}")


def _check_matmul(op: MatMul, inputs: list[Tensor], output: Tensor, where: str) -> None:
    reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip(inputs, op.zero_points, strict=True)]
    bound = inputs[0].shape[-1] * reach[0] * reach[1]
    _require(op.bound == bound, where, f"has bound {op.bound}, not k·max|x0|·max|x1| = {bound}")
    _require(bound <= output.magnitude, where, f"can reach ±{bound}, beyond its output's range")


_OP_CHECKS: dict[type[Op], Callable[[Any, list[Tensor], Tensor, str], None]] = {
    Conv: _check_conv,
    MatMul: _check_matmul,
    Requantize: _check_requantize,
    Add: _check_add,
    AvgPool: _check_pool,
    Clamp: _check_channel_clamp,
    Duplicate: _check_duplicate,
    Table: _check_table,
    MaxPool: _check_pool,
    Pad: _check_pad,
    Mul: _check_mul,
    Gather: _check_gather,
    Constant: _check_constant,
    Norm: _check_norm,
    Concat: _check_same_grid,
    Reshape: _check_same_grid,
    Transpose: _check_transpose,
    Slice: _check_same_grid,
    Softmax: _check_softmax,
}


# --- shapes ----------------------------------------------------------------------------------------------------------


def as_map(shape: Shape) -> Shape:
    """Read a shape of rank 1..3 as a map [height, width, channels] by putting axes of length one in front."""
    return (1,) * (3 - len(shape)) + shape


def window_count(length: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int) -> int:
    """Return how many windows fit along an axis."""
    return (length + pads[0] + pads[1] - dilation * (kernel - 1) - 1) // stride + 1


def _pooled(shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, where: str) -> tuple[int, ...]:
    """Return the output's pixels; an axis that a shape of lower rank does not have must keep its length of one."""
    height, width, _ = as_map(shape)
    top, left, bottom, right = padding
    pixels = (
        window_count(height, kernel[0], stride[0], (top, bottom), dilation[0]),
        window_count(width, kernel[1], stride[1], (left, right), dilation[1]),
    )
    _require(min(pixels) >= 1, where, f"has a window {tuple(kernel)} larger than its padded input {shape}")
    invented = 3 - len(shape)
    _require(all(n == 1 for n in pixels[:invented]), where, f"makes {pixels} windows of an input of shape {shape}")
    return pixels[invented:]


def _conv_shape(op: Conv, shapes: list[Shape], where: str) -> Shape:
    _require(
        len(op.weight.shape) == 4, where, f"has a weight of shape {op.weight.shape}; [out, kh, kw, channels] is needed"
    )
    out, kh, kw, channels = op.weight.shape
    shape = shapes[0]
    _require(len(shape) <= 3, where, f"takes maps of rank 1 to 3 (got {shape})")
    _require(
        shape[-1] == channels * op.groups,
        where,
        f"has weights for {channels} × {op.groups} groups of channels, its input has {shape[-1]}",
    )
    return (*_pooled(shape, (kh, kw), op.stride, op.padding, op.dilation, where), out)


def _pool_shape(op: MaxPool | AvgPool, shapes: list[Shape], where: str) -> Shape:
    dilation = op.dilation if isinstance(op, MaxPool) else (1, 1)
    return (*_pooled(shapes[0], op.kernel, op.stride, op.padding, dilation, where), shapes[0][-1])


def _matmul_shape(op: MatMul, shapes: list[Shape], where: str) -> Shape:
    first, second = shapes
    _require(
        len(first) == len(second) >= 2, where, f"multiplies {first} by {second}; equal ranks of 2 or more are needed"
    )
    inner, columns = (second[-1], second[-2]) if op.transpose else (second[-2], second[-1])
    _require(first[-1] == inner, where, f"multiplies {first} by {second}")
    heads = (first[:-2], second[:-2])
    grouped = len(heads[0]) == len(heads[1]) and all(a % b == 0 for a, b in zip(*heads, strict=True))
    _require(grouped, where, f"has heads {heads[1]} that do not divide {heads[0]}")
    return (*first[:-1], columns)


def _broadcast_shape(op: Op, shapes: list[Shape], where: str) -> Shape:
    _require(len(shapes[0]) == len(shapes[1]), where, f"takes operands of equal rank (got {shapes[0]} and {shapes[1]})")
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise ValueError(f"{where} cannot broadcast {shapes[0]} with {shapes[1]}") from None


def _concat_shape(op: Concat, shapes: list[Shape], where: str) -> Shape:
    first = list(shapes[0])
    for shape in shapes[1:]:
        same = len(shape) == len(first) and all(
            a == b for i, (a, b) in enumerate(zip(shape, first, strict=False)) if i != op.axis
        )
        _require(same, where, f"cannot join {tuple(first)} and {shape} along axis {op.axis}")
    first[op.axis] = sum(shape[op.axis] for shape in shapes)
    return tuple(first)


def _reshape_shape(op: Reshape, shapes: list[Shape], where: str) -> Shape:
    same = np.prod(op.shape, dtype=np.int64) == np.prod(shapes[0], dtype=np.int64)
    _require(bool(same), where, f"cannot bring {shapes[0]} into {op.shape}")
    return op.shape


def _slice_shape(op: Slice, shapes: list[Shape], where: str) -> Shape:
    limits = zip(op.start, op.stop, op.step, shapes[0], strict=True)
    ok = all(0 <= start < stop <= length and step >= 1 for start, stop, step, length in limits)
    _require(ok, where, f"slices {op.start}:{op.stop}:{op.step} out of {shapes[0]}")
    return tuple(-(-(stop - start) // step) for start, stop, step in zip(op.start, op.stop, op.step, strict=True))


_SHAPES: dict[type[Op], Callable[[Any, list[Shape], str], Shape]] = {
    Conv: _conv_shape,
    MatMul: _matmul_shape,
    MaxPool: _pool_shape,
    AvgPool: _pool_shape,
    Add: _broadcast_shape,
    Mul: _broadcast_shape,
    Duplicate: lambda op, shapes, _: (*shapes[0][:-1], op.source.size),
    Concat: _concat_shape,
    Reshape: _reshape_shape,
    Transpose: lambda op, shapes, _: tuple(shapes[0][axis] for axis in op.axes),
    Slice: _slice_shape,
    Pad: lambda op, shapes, _: tuple(n + a + b for n, (a, b) in zip(shapes[0], op.widths, strict=True)),
    Gather: lambda op, shapes, _: (*shapes[0], op.rows.shape[-1]),
    Constant: lambda op, shapes, _: tuple(op.values.shape),
}


def infer_shape(op: Op, shapes: list[Shape], where: str = "Program") -> Shape:
    """Return the shape of an op's output from its inputs' shapes, batch apart.

    Raises
    ------
    ValueError
        Where the shapes do not fit the op.
    """
    rule = _SHAPES.get(type(op))
    if rule is not None:
        return rule(op, shapes, where)
    if isinstance(op, Norm):
        _require(
            op.gain.shape == op.bias.shape == (shapes[0][-1],), where, f"needs gain and bias of length {shapes[0][-1]}"
        )
    return shapes[0]
