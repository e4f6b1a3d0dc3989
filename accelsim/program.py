"""The integer Program: what integers a network computes, and nothing about hardware.

A Program is an immutable list of ops in execution order over named tensors. Shapes leave the batch out; at execution
every array is ``[batch, *shape]`` with channels last. Reading ``x`` for the codes of an op's first input (``x0, x1``
for several) and ``z`` for zero points, the op table is:

==============  ======================================================================================================
op              output
==============  ======================================================================================================
``conv``        accumulator[.., o] = bias[o] + Σ over (kh, kw, c) of weight[o, kh, kw, c] · x[window, group(o), c],
                c fastest; where the window leaves the map, x is `pad_value`. Inputs of rank 1 and 2 are maps of height
                (and width) one: a linear layer is a 1×1 convolution.
``matmul``      accumulator[.., i, j] = Σ_k (x0[.., i, k] - z0) · (x1[.., k, j] - z1); x1 is read as [.., j, k] where
                `transpose`; where x1 has fewer heads than x0, head h reads x1's head h // (heads0 / heads1)
``requantize``  clamp(rule(x - zero_in, multiplier, float_bias) + zero_out, low, high), multiplier per last axis or one
``add``         clamp(rint(float32(x0 - z0)·m0 + float32(x1 - z1)·m1) + zero_out): float32 products, one float32 sum,
                ties to even; `signs` may subtract. Operands are codes or accumulators. Or by another `rule` of
                `accelsim.runtime_rules.ADD_RULES`
``mul``         (x0 - z0) · (x1 - z1), broadcast over axes of length one: an accumulator
``duplicate``   y[.., i] = clamp((x[.., source[i]] + offset[i]) >> shift[i], low, high)
``clamp``       min(max(x, low), high); the limits are one number each, or one per channel (last axis)
``max_pool``    maximum over each window, padding ignored
``avg_pool``    clamp(rint(float32(Σ window (x - zero_in)) · float32(multiplier / count)) + zero_out); count is the
                window's area, or, without `count_padding`, the part of it inside the map. Or by another `rule` of
                `accelsim.runtime_rules.MEAN_RULES`
``table``       entries[x - low_code], one output code per input code
``concat``      x0, x1, … joined along `axis`
``reshape``     the same codes in another shape
``transpose``   axes permuted (batch apart)
``slice``       x[start:stop:step] per axis
``pad``         `value` around the map, (before, after) per axis
``gather``      rows of a table of codes chosen by index: an embedding
``constant``    stored codes, the same for every sample; it reads nothing
``softmax``     integer softmax over the last axis by a table of exponentials, see `Softmax`
``norm``        integer layer norm or RMS norm over the last axis, see `Norm`
==============  ======================================================================================================

`check` enforces the table. Weights are stored as the operands that the array multiplies (code minus zero point).
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import IntArray, code_range

NUMERICS_VERSION = 1
"""Raised whenever the meaning of an existing op changes; part of every digest."""


@dataclass(frozen=True)
class Blank:
    """An array of which only the shape is kept: the weights of a Program without values."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


Values = IntArray | Blank


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One named tensor of codes.

    Parameters
    ----------
    name
        Unique within the Program.
    shape
        Without the batch, channels last.
    bits, signed
        The width it is stored and fed at.
    low, high
        Smallest and largest code that can occur; the full range of the width where not given.
    scale, zero_point
        Real value = scale · (code - zero_point); the scale is one number, one per channel, or ``None`` for indices.
    kind
        ``code`` for a value on a grid, ``accumulator`` for an exact sum, ``index`` for token numbers.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    signed: bool
    low: int
    high: int
    scale: float | tuple[float, ...] | None = None
    zero_point: int = 0
    kind: str = "code"

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def magnitude(self) -> int:
        """Largest absolute code."""
        return max(abs(self.low), abs(self.high))


def code_tensor(
    name: str,
    shape: tuple[int, ...],
    bits: int,
    signed: bool,
    scale: float | tuple[float, ...] | None = None,
    zero_point: int = 0,
) -> Tensor:
    """Return a tensor that may hold every code of its width."""
    low, high = code_range(bits, signed)
    return Tensor(
        name=name, shape=shape, bits=bits, signed=signed, low=low, high=high, scale=scale, zero_point=zero_point
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Op:
    """One step of a Program.

    Parameters
    ----------
    name
        Unique; the layer's name in the network where it has one.
    inputs, output
        Tensor names.
    shares
        Name of an earlier op with the very same parameters, which memory holds once: what a later step of an unrolled
        recurrent layer does is what the first one did, on other tensors. Empty for an op with its own.
    """

    kind: ClassVar[str] = ""

    name: str
    inputs: tuple[str, ...]
    output: str
    shares: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(Op):
    """Convolution or linear layer, giving exact accumulators.

    Parameters
    ----------
    weight
        Operands ``[out, kh, kw, channels / groups]``.
    bias
        ``[out]``, in units of the accumulator; the input's zero point is folded in.
    weight_bits
        Width of the operand that enters a PE; `storage_bits` is what memory holds (narrower where a weight zero point
        was taken off).
    bound
        ``Σ|weight| · max|x| + |bias|`` per output channel: no sum of any part in any order exceeds it.
    stride, dilation
        (rows, columns).
    padding
        (top, left, bottom, right).
    pad_value
        Code read outside the map: the input's zero point.
    """

    kind: ClassVar[str] = "conv"

    weight: Values
    bias: Values
    weight_bits: int
    storage_bits: int
    bound: Values
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMul(Op):
    """Batched product of two activations, giving exact accumulators; zero points are taken off both operands."""

    kind: ClassVar[str] = "matmul"

    zero_points: tuple[int, int] = (0, 0)
    transpose: bool = False
    bound: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Requantize(Op):
    """Bring accumulators, or codes of another grid, onto a grid by a named rule (`accelsim.arith.REQUANT_RULES`).

    Parameters
    ----------
    multiplier
        float64 ``[channels]`` or ``[1]``.
    zero_in, zero_out
        Zero points of input and output.
    low, high
        The clamp, which is also the ReLU where one follows.
    float_bias
        float64 like `multiplier`, for the rules that add the bias themselves.
    """

    kind: ClassVar[str] = "requantize"

    multiplier: NDArray[np.float64]
    low: int
    high: int
    rule: str = "float32_rne"
    zero_in: int = 0
    zero_out: int = 0
    float_bias: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Op):
    """Sum of two codes on their own grids; `signs` of -1 subtracts. Broadcasts over axes of length one.

    Parameters
    ----------
    multipliers
        Input scale ÷ output scale, or what the rule takes.
    rule
        Of `accelsim.runtime_rules.ADD_RULES`.
    multiplier_out
        For rules that scale the sum (``gemmlowp_double``, ``float32_scaled``); for ``float32_fma`` the offset.
    """

    kind: ClassVar[str] = "add"

    multipliers: tuple[float, float]
    zero_points: tuple[int, int]
    zero_out: int
    low: int
    high: int
    signs: tuple[int, int] = (1, 1)
    rule: str = "float32"
    multiplier_out: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Mul(Op):
    """Product of two codes, zero points taken off: an accumulator. Broadcasts over axes of length one."""

    kind: ClassVar[str] = "mul"

    zero_points: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicate(Op):
    """Channel duplication: a gather over the last axis, each entry halved `shift` times.

    Parameters
    ----------
    source
        Input channel of every output channel, int64 ``[expanded]``; the original channels come first.
    offset, shift
        int64 ``[expanded]``: output code is ``(x + offset) >> shift``; zero for a plain copy.
    low, high
        Clamp of every output code.
    """

    kind: ClassVar[str] = "duplicate"

    source: IntArray
    offset: IntArray
    shift: IntArray
    low: int
    high: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Clamp(Op):
    """Clamp of codes on one grid: ReLU, ReLU6.

    Parameters
    ----------
    low, high
        For all channels, or int64 ``[channels]``: the caps of an equalized ReLU6.
    """

    kind: ClassVar[str] = "clamp"

    low: int | IntArray
    high: int | IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool(Op):
    """Maximum over windows; padding never wins."""

    kind: ClassVar[str] = "max_pool"

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool(Op):
    """Mean over windows, requantized in the same step, by a `rule` of `accelsim.runtime_rules.MEAN_RULES`.

    Rule ``float32_window`` (`accelsim.float_steps.float32_window_means`) takes the input's scale as `multiplier` and
    the output's as `divisor`; no other rule divides.
    """

    kind: ClassVar[str] = "avg_pool"

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_padding: bool = True
    multiplier: float
    zero_in: int
    zero_out: int
    low: int
    high: int
    rule: str = "float32_rne"
    divisor: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Table(Op):
    """Unary function by look-up; `entries` has one code per input code from `low_code` on."""

    kind: ClassVar[str] = "table"

    entries: IntArray
    low_code: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Op):
    """Join along an axis (batch apart); all inputs are on the output's grid."""

    kind: ClassVar[str] = "concat"

    axis: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Op):
    """The same codes, row-major, in another shape."""

    kind: ClassVar[str] = "reshape"

    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Transpose(Op):
    """Permute axes, batch apart."""

    kind: ClassVar[str] = "transpose"

    axes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice(Op):
    """``x[start:stop:step]`` per axis, batch apart; 0 <= start < stop <= length, step >= 1."""

    kind: ClassVar[str] = "slice"

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pad(Op):
    """Constant border: `widths` is (before, after) per axis, batch apart."""

    kind: ClassVar[str] = "pad"

    widths: tuple[tuple[int, int], ...]
    value: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Gather(Op):
    """Embedding: row x of `rows` for every index x."""

    kind: ClassVar[str] = "gather"

    rows: Values
    storage_bits: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant(Op):
    """Stored codes ``[*shape]`` (no batch) as a tensor: learned positions, rotary angles, a class token."""

    kind: ClassVar[str] = "constant"

    values: Values


@dataclass(frozen=True, kw_only=True, eq=False)
class Softmax(Op):
    """Integer softmax over the last axis.

    With d = max(x) - x over the valid entries: e = exponentials[min(d, len - 1)], S = Σ e, and the output is
    min((e · 2**out_bits + S // 2) // S, 2**out_bits - 1), all integers. Entries that `causal` hides (column greater
    than row + columns - rows) or that have 0 in `mask` are not valid and count as e = 0; a row without valid entries
    gives zeros. Another `rule` of `accelsim.runtime_rules.SOFTMAX_RULES` takes its own exponentials, sums and divides
    in its own way, and knows no hidden entries. `zero_out` is added to every output.

    Parameters
    ----------
    exponentials
        Non-increasing non-negative integers; entry d is round(exp(-d · scale) · 2**exp_bits). For rule ``gemmlowp``
        Q0.31 integers, for ``float32`` float32 numbers.
    out_bits
        The output has scale 2**-out_bits; it is unsigned where `zero_out` is zero.
    mask
        Zeros and ones that broadcast against the input's shape (equal rank, batch apart).
    """

    kind: ClassVar[str] = "softmax"

    exponentials: NDArray[Any]
    out_bits: int
    causal: bool = False
    mask: IntArray | None = None
    rule: str = "integer"
    zero_out: int = 0

    @property
    def entry_bits(self) -> int:
        """Width of an exponential: a float32's significand, or what the largest one needs."""
        return 24 if self.rule == "float32" else max(1, int(self.exponentials.max()).bit_length())


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm(Op):
    """Integer layer norm (`center`) or RMS norm over the last axis of length n.

    With v = x - zero_in: centred codes u = n·v - Σv where `center`, else u = n·v; Q = Σ u²; the root
    R = isqrt(Q·4**root_shift // n + epsilon) (integer square root) and the normalized value
    t = floor((2·u·2**(fraction_bits + root_shift) + R) / (2·R)), the quotient u·2**(fraction_bits + root_shift) / R
    rounded half up,
    with t = 0 where R = 0. The output is an accumulator: t · gain[c] + bias[c].

    Parameters
    ----------
    gain, bias
        int64 ``[n]``; gain is a code of `gain_bits`, bias in units of the accumulator.
    epsilon
        The norm's epsilon in the units of Q·4**root_shift / n, rounded half up.
    fraction_bits, root_shift
        Fraction bits of t and of the square root.
    """

    kind: ClassVar[str] = "norm"

    gain: IntArray
    bias: IntArray
    gain_bits: int
    zero_in: int
    epsilon: int
    fraction_bits: int
    root_shift: int
    center: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """An integer network.

    Parameters
    ----------
    name
        Of the network.
    tensors
        Every tensor by name.
    inputs, outputs
        Tensor names; outputs may be accumulators.
    ops
        In execution order; every input of an op is a Program input or an earlier op's output.
    """

    name: str
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    numerics_version: int = field(default=NUMERICS_VERSION)

    def __iter__(self) -> Iterator[Op]:
        """Iterate over the ops in execution order."""
        return iter(self.ops)

    @property
    def has_values(self) -> bool:
        """Whether weights are present, so that the Program can be executed and not only priced."""
        return not any(isinstance(value, Blank) for op in self.ops for _, value in op_fields(op))

    def op(self, name: str) -> Op:
        """Return an op by name.

        Raises
        ------
        ValueError
            If there is none; the message lists the names there are.
        """
        for op in self.ops:
            if op.name == name:
                return op
        known = ", ".join(op.name for op in self.ops if op.kind in ("conv", "matmul"))
        raise ValueError(f"Program {self.name!r} has no op {name!r}; its layers are {known}")

    def consumers(self) -> dict[str, list[Op]]:
        """Map every tensor name to the ops that read it."""
        readers: dict[str, list[Op]] = {name: [] for name in self.tensors}
        for op in self.ops:
            for name in op.inputs:
                readers[name].append(op)
        return readers

    def without_values(self) -> "Program":
        """Return the Program's shapes and widths alone, for cost-only work."""
        return dataclasses.replace(self, ops=tuple(_blank_op(op) for op in self.ops))

    def digest(self) -> str:
        """Return a hexadecimal SHA-256 over everything that decides the Program's integers and shapes."""
        hasher = hashlib.sha256()
        structure, arrays = to_plain(self)
        hasher.update(json.dumps(structure, sort_keys=True, separators=(",", ":")).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            hasher.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
            hasher.update(array.tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True)
class Gemm:
    """The matrix product that a layer is to the array, for one sample: groups × [m, k] · [k, n]."""

    m: int
    k: int
    n: int
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return self.m * self.k * self.n * self.groups


def gemm_view(program: Program, op: Op) -> Gemm | None:
    """Return the matrix product of an op, or ``None`` where it has none.

    A convolution has m = output pixels, k = kh·kw·channels per group, n = output channels per group.
    """
    shape = program.tensors[op.output].shape
    if isinstance(op, Conv):
        out, kh, kw, channels = op.weight.shape
        return Gemm(int(np.prod(shape[:-1], dtype=np.int64)), kh * kw * channels, out // op.groups, op.groups)
    if isinstance(op, MatMul):
        k = program.tensors[op.inputs[0]].shape[-1]
        return Gemm(shape[-2], k, shape[-1], int(np.prod(shape[:-2], dtype=np.int64)))
    return None


BOUND_AT_ONCE = 1 << 20
"""Weights of which `conv_bound` holds wide copies at a time."""


def conv_bound(weight: IntArray, bias: IntArray, magnitude: int) -> NDArray[np.int64]:
    """Return ``Σ|w| · max|x| + |bias|`` per output channel, int64 ``[out]``.

    Parameters
    ----------
    weight
        ``[out, kh, kw, channels / groups]``.
    bias
        ``[out]``.
    magnitude
        Largest absolute code of the input, padding included.
    """
    rows = weight.reshape(weight.shape[0], -1)
    parts = np.array_split(rows, 1 + rows.size // BOUND_AT_ONCE)
    total = np.concatenate([np.abs(part.astype(np.int64)).sum(axis=1) for part in parts])
    return total * np.int64(magnitude) + np.abs(bias.astype(np.int64))


def op_fields(op: Op) -> list[tuple[str, Any]]:
    """Return an op's own (name, value) pairs, in order of declaration."""
    return [(f.name, getattr(op, f.name)) for f in dataclasses.fields(op)]


def norm_reach(length: int, fraction_bits: int, epsilon: int) -> int:
    """Return a bound on the normalized value |t| of `Norm` over `length` values.

    With X = Q·4**root_shift // n + epsilon and R = isqrt(X) >= 1, X + 1 <= (R + 1)², so |u|·2**root_shift <= √n·(R + 1)
    and |t| <= √n·2**fraction_bits·(1 + 1/R) + 1/2, where R >= isqrt(epsilon).
    """
    root = max(1, math.isqrt(epsilon))
    return ((math.isqrt(length) + 1) * (root + 1) << fraction_bits) // root + 1


_BLANKED = ("weight", "bias", "bound", "rows", "values")


def _blank_op(op: Op) -> Op:
    blanks: dict[str, Any] = {
        name: Blank(tuple(value.shape))
        for name, value in op_fields(op)
        if name in _BLANKED and isinstance(op, Conv | Gather | Constant) and isinstance(value, np.ndarray)
    }
    return dataclasses.replace(op, **blanks) if blanks else op


def to_plain(program: Program) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Split a Program into a JSON-able structure and its arrays by name; shared parameters are one array."""
    arrays: dict[str, NDArray[Any]] = {}
    place = {op.name: i for i, op in enumerate(program.ops)}

    def encode(path: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[path] = value
            return {"array": path}
        return {"blank": list(value.shape)} if isinstance(value, Blank) else value

    ops = [
        {"kind": op.kind}
        | {name: encode(f"{place[op.shares or op.name]}.{name}", value) for name, value in op_fields(op)}
        for op in program.ops
    ]
    structure = {
        "name": program.name,
        "numerics_version": program.numerics_version,
        "inputs": program.inputs,
        "outputs": program.outputs,
        "tensors": [dataclasses.asdict(tensor) for tensor in program.tensors.values()],
        "ops": ops,
    }
    return structure, arrays


OPS: dict[str, type[Op]] = {
    op.kind: op
    for op in (
        Conv, MatMul, Requantize, Add, Mul, Duplicate, Clamp, MaxPool, AvgPool, Table, Concat,
        Reshape, Transpose, Slice, Pad, Gather, Constant, Softmax, Norm,
    )
}  # fmt: skip
