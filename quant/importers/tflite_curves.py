"""TensorFlow Lite's functions of one code as tables: what the kernel gives for each of the 256 codes.

The kernels' own tables (lite/kernels/internal/common.h, ``LUTPopulate``) take float32 steps: the code's real value, the
function, a product with the reciprocal of the output's scale, rounded. Here the function itself is the float32 nearest
to the real value; a C library's may be one unit in the last place away. HARD_SWISH, LEAKY_RELU, ABS and the RELUs that
change the grid are fixed-point; steps as in lite/kernels/internal/reference.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES, fixed_point, shift_half_away
from accelsim.program import Clamp, Table
from quant.importers.tflite_kernels import KernelSet
from quant.importers.tflite_reader import FileOperator
from quant.importers.tflite_writer import Writer

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
f32 = np.float32


@dataclass(frozen=True, kw_only=True)
class Grids:
    """What a table is computed from: all codes of the type, the grids (scale, zero point) and the options."""

    codes: Ints
    source: tuple[np.float32, int]
    target: tuple[np.float32, int]
    options: Mapping[str, Any]

    @property
    def centred(self) -> Ints:
        """Codes, zero point taken off."""
        return self.codes - self.source[1]

    @property
    def ratio(self) -> float:
        """Input scale ÷ output scale, one float32 quotient."""
        return float(self.source[0] / self.target[0])


def _away(values: Floats) -> Floats:
    return np.trunc(values + np.copysign(f32(0.5), values))


ROUNDINGS: dict[str, Callable[[Floats, int], NDArray[np.floating[Any]]]] = {
    "away": lambda values, zero: _away(values).astype(np.float64) + zero,
    "shifted_even": lambda values, zero: np.rint(values + f32(zero)),
}
"""From (real value ÷ scale, zero point) to codes: ties away from zero; to even, the zero point added before."""


def _near(function: Callable[[NDArray[np.float64]], NDArray[np.float64]], x: Floats) -> Floats:
    return function(x.astype(np.float64)).astype(f32)


def _logistic(x: Floats, options: Mapping[str, Any]) -> Floats:
    return f32(1) / (f32(1) + _near(np.exp, -x))


def _elu(x: Floats, options: Mapping[str, Any]) -> Floats:
    return np.where(x < 0, _near(np.expm1, np.minimum(x, f32(0))), x)


def _gelu(x: Floats, options: Mapping[str, Any]) -> Floats:
    if options["approximate"]:
        inner = f32(math.sqrt(2 / math.pi)) * (x + f32(0.044715) * x * x * x)
        return f32(0.5) * x * (f32(1) + _near(np.tanh, inner))
    tail = np.array([math.erfc(-float(v) * math.sqrt(0.5)) for v in x])
    return x * (0.5 * tail).astype(f32)


FUNCTIONS: dict[str, Callable[[Floats, Mapping[str, Any]], Floats]] = {
    "elu": _elu,
    "exp": lambda x, options: _near(np.exp, x),
    "gelu": _gelu,
    "logistic": _logistic,
    "tanh": lambda x, options: _near(np.tanh, x),
}


def _function(kind: str, grids: Grids, rounding: str) -> tuple[NDArray[np.floating[Any]], Ints]:
    """Return a function's codes, and the input codes where one unit in the last place of the function decides."""
    real = grids.source[0] * grids.centred.astype(f32)
    exact = FUNCTIONS[kind](real, grids.options)
    found, *near = (
        ROUNDINGS[rounding](values * (f32(1) / grids.target[0]), grids.target[1])
        for values in (exact, *(np.nextafter(exact, f32(end)) for end in (-np.inf, np.inf)))
    )
    ends = (grids.codes[0], grids.codes[-1])
    unsure = [np.clip(found, *ends) != np.clip(other, *ends) for other in near]
    exactly = (exact == 0) | ((exact == real) & (kind in ("elu", "gelu")))  # x itself: no function was rounded
    return found, grids.codes[(unsure[0] | unsure[1]) & ~exactly]


def _scaled(values: Ints, multiplier: float) -> Ints:
    """Return values times a multiplier of either sign by the kernels' doubling high multiply."""
    scale = REQUANT_RULES["gemmlowp_double"].scalar
    sign = -1 if multiplier < 0 else 1
    return np.array([scale(sign * int(v), abs(multiplier), 0.0) for v in values], dtype=np.int64)


# --- fixed point -----------------------------------------------------------------------------------------------------


FARTHEST_SHIFT = 14
"""Bits that 16-bit steps are shifted right at most."""


def _int16(value: int) -> int:
    return min(max(value, -(2**15)), 2**15 - 1)


def _high16(a: int, b: int, nudge: int) -> int:
    """Return 2·a·b / 2**16 of 16-bit numbers, cut towards zero after a nudge of that sign."""
    product = a * b
    product += nudge if product >= 0 else 1 - nudge if nudge else 0
    return _int16(abs(product) // 2**15 * (1 if product >= 0 else -1))


def _multiplier16(value: float) -> tuple[int, int]:
    mantissa, exponent = fixed_point(value)
    return min((mantissa + 2**15) >> 16, 2**15 - 1), exponent


def hard_swish_codes(grids: Grids) -> Ints:
    """Return x · relu6(x + 3) / 6 by 16-bit steps (reference/hard_swish.h).

    Raises
    ------
    ValueError
        If the output's scale is less than 1/128 of the input's, which the kernel refuses, or scales are too far apart.
    """
    fine = f32(1 / 128) * grids.source[0]
    out, out_exponent = _multiplier16(float(fine / grids.target[0]))
    gate, gate_exponent = _multiplier16(float(fine / (f32(3) / f32(32768))))
    if min(out_exponent, gate_exponent) < -FARTHEST_SHIFT:
        raise ValueError(f"has scales {grids.source[0]} and {grids.target[0]}, beyond the kernel's 16 bits")
    if out_exponent > 0:
        raise ValueError(f"scales its input by {128 * float(fine / grids.target[0]):g}; the kernels take up to 128")
    codes = []
    for value in grids.centred:
        wide = int(value) * 128
        ahead = _high16(wide, out, 2**14)
        share = _int16(wide << (gate_exponent - 1)) if gate_exponent > 0 else wide
        share = _high16(share, gate, 2**14)
        share = _int16(share << 1) if gate_exponent > 0 else shift_half_away(share, -gate_exponent)
        share = (share + 2**15) >> 1
        codes.append(shift_half_away(_high16(share, ahead, 0), -out_exponent) + grids.target[1])
    return np.array(codes, dtype=np.int64)


def _delegated_leaky(grids: Grids, slope: np.float32) -> bool:
    """Tell whether XNNPACK takes a LEAKY_RELU: both of its multipliers must fit 8 fraction bits."""
    return bool(2.0**-8 <= grids.ratio <= 2.0**7 and abs(slope) >= 2.0**-8 and -127.99609375 <= slope <= 2.0**7)


def leaky_relu_codes(grids: Grids, delegates: bool) -> Ints:
    """Return x or alpha · x: fixed point (reference/leaky_relu.h), or XNNPACK's multipliers of 8 fraction bits."""
    alpha, values = f32(grids.options["alpha"]), grids.centred
    slope = f32(grids.ratio) * alpha
    if delegates and _delegated_leaky(grids, slope):
        factors = [int(np.rint(f32(256) * f32(v))) for v in (slope, grids.ratio)]
        return ((values * np.where(values < 0, factors[0], factors[1]) + 128) >> 8) + grids.target[1]
    falling = float(grids.source[0] * alpha / grids.target[0])
    return np.where(values < 0, _scaled(values, falling), _scaled(values, grids.ratio)) + grids.target[1]


def prelu_codes(values: Ints, slope: int, multipliers: tuple[float, float]) -> Ints:
    """Return rising · x or falling · slope · x of centred codes (reference/prelu.h)."""
    return np.where(values >= 0, _scaled(values, multipliers[0]), _scaled(values * slope, multipliers[1]))


def _abs_codes(grids: Grids) -> Ints:
    return _scaled(np.abs(grids.centred), grids.ratio) + grids.target[1]


# --- operators -------------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[float, float]] = {
    "relu": (0, math.inf),
    "relu6": (0, 6),
    "relu_n1_to_1": (-1, 1),
    "relu_0_to_1": (0, 1),
}
"""Real ends of the activations that clamp."""

DELEGATED = ("elu", "logistic", "tanh")
"""Functions that XNNPACK takes."""

SIGNED = ("elu", "exp", "abs", "neg")
"""Kernels of int8 alone."""


def _grids(writer: Writer, op: FileOperator) -> Grids:
    x, y = writer.file_tensor(op, 0), writer.output(op)
    source, target = writer.grid(op, x), writer.grid(op, y)
    if x.dtype != y.dtype:
        raise writer.fail(op, f"turns {x.dtype} into {y.dtype}; the kernels take one type")
    if op.kind in SIGNED and x.dtype != "int8":
        raise writer.fail(op, f"takes {x.dtype} codes; the kernels take int8, convert the network to int8")
    low = -128 if x.dtype == "int8" else 0
    return Grids(codes=np.arange(low, low + 256), source=source, target=target, options=op.options)


def _require_kernel(writer: Writer, op: FileOperator, grids: Grids) -> None:
    """Refuse what LiteRT's kernels refuse."""
    kernels: KernelSet = writer.kernels
    if op.kind == "logistic" and not kernels.delegates:
        wanted = (f32(1 / 256), int(grids.codes[0]))
        if grids.target != wanted:
            raise writer.fail(
                op, f"gives scale {grids.target[0]} and zero point {grids.target[1]}; these kernels give 1/256 and "
                f"{wanted[1]}; import it with --kernels xnnpack"
            )  # fmt: skip
    if op.kind == "elu" and not kernels.elu:
        raise writer.fail(op, "has no reference kernel; import it with --kernels xnnpack or builtin")
    if op.kind == "leaky_relu" and not math.isfinite(op.options["alpha"]):
        raise writer.fail(op, f"has alpha {op.options['alpha']}; a finite number is needed")
    if op.kind in (*ENDS, "abs", "leaky_relu"):
        steepest = max(1.0, abs(float(op.options.get("alpha", 1.0))))
        writer.require_32_bits(op, 255, grids.ratio * steepest)
    if op.kind == "neg" and (grids.source != grids.target or grids.source[1] != 0):
        raise writer.fail(op, "negates codes as they are; equal scales and zero points of 0 are read")


def _codes(writer: Writer, op: FileOperator, grids: Grids) -> NDArray[Any]:
    if op.kind in ENDS:
        low, high = ENDS[op.kind]
        first, last = _away(np.array([low, high], dtype=f32) / grids.target[0]).astype(np.float64) + grids.target[1]
        return np.clip(_scaled(grids.centred, grids.ratio) + grids.target[1], first, last)
    if op.kind == "hard_swish":
        try:
            return hard_swish_codes(grids)
        except ValueError as error:
            raise writer.fail(op, str(error)) from None
    if op.kind == "leaky_relu":
        return leaky_relu_codes(grids, writer.kernels.delegates)
    if op.kind == "abs":
        return _abs_codes(grids)
    if op.kind == "neg":
        return np.where(grids.codes == -128, -128, -grids.codes)  # 8 bits hold no 128: the kernel wraps
    found, unsure = _function(op.kind, grids, _rounding(writer.kernels, op.kind))
    if unsure.size:
        writer.remarks.append(
            f"operator {op.index} ({op.kind}) rounds codes {unsure.tolist()[:4]} by the last bit of a float32 value: "
            f"LiteRT's C library decides there, the nearest float32 was taken"
        )
    return found


def _rounding(kernels: KernelSet, kind: str) -> str:
    """Return how a table is rounded: XNNPACK, where it takes the operator, adds the zero point before."""
    return kernels.elu if kind in DELEGATED and kernels.delegates else "away"


def curve(writer: Writer, op: FileOperator) -> None:
    """A function of one code: a table."""
    grids = _grids(writer, op)
    _require_kernel(writer, op, grids)
    x, low = writer.read(op, 0), int(grids.codes[0])
    exact = _codes(writer, op, grids)
    if np.isnan(exact).any():
        raise writer.fail(op, f"has scales {grids.source[0]} and {grids.target[0]} that leave codes undefined")
    emit_table(writer, op, x.name, np.clip(exact, low, low + 255).astype(np.int64), low)


def emit_table(writer: Writer, op: FileOperator, source: str, entries: Ints, low: int) -> None:
    """Emit the operator's only output as a table over all codes from `low` on."""
    target = writer.declare(op, writer.output(op), (int(entries.min()), int(entries.max())))
    if target.shape != writer.tensors[source].shape:
        raise writer.fail(op, f"gives {list(writer.tensors[source].shape)}, but its output is declared otherwise")
    name = op.label
    writer.emit(Table(name=name, inputs=(source,), output=target.name, entries=entries, low_code=low))


def relu(writer: Writer, op: FileOperator) -> None:
    """RELU and its kin: a clamp on one grid, else a table."""
    grids = _grids(writer, op)
    if grids.source != grids.target:
        curve(writer, op)
        return
    x, y = writer.read(op, 0), writer.output(op)
    ends = writer.clamped(op, y, ENDS[op.kind])
    target = writer.declare(op, y, ends)
    writer.emit(Clamp(name=op.label, inputs=(x.name,), output=target.name, low=target.low, high=target.high))
