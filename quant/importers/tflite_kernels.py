"""LiteRT's kernel sets: which rule each of its kernels rounds by, found by running them (LiteRT 2.3.0, x86-64).

Built-in kernels work on vectors of channels and finish the rest one by one; the two parts round differently, so a
rule is a list of (rule, channels). XNNPACK leaves some operators to the built-in kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Segments = tuple[tuple[str, int], ...]
"""Rules of consecutive runs of channels, (rule, number of channels) each."""


def _all(rule: str) -> Callable[[int], Segments]:
    return lambda channels: ((rule, channels),)


def _vectors(lanes: int) -> Callable[[int], Segments]:
    """Return the rule of kernels whose vectors round ties up, and whose loop over the rest rounds them away."""

    def segments(channels: int) -> Segments:
        whole = channels - channels % lanes
        parts = (("ruy_double_up", whole), ("gemmlowp_double", channels - whole))
        return tuple((rule, count) for rule, count in parts if count)

    return segments


@dataclass(frozen=True, kw_only=True)
class KernelSet:
    """The rules of one way to run a file.

    Parameters
    ----------
    doc
        What it is in LiteRT.
    conv, fully_connected
        Requantization rule of CONV_2D and FULLY_CONNECTED.
    depthwise, depthwise_uint8
        Of DEPTHWISE_CONV_2D, by number of output channels. The XNNPACK delegate takes uint8 weights only where their
        quantized axis is 0; others fall to the built-in kernel.
    requantize
        Of QUANTIZE from one 8-bit type to another, by number of elements.
    add
        A key of `accelsim.runtime_rules.ADD_RULES`.
    map_mean, mean
        Of MEAN, keys of `MEAN_RULES`: over height and width of a map with `keep_dims`, by number of channels, and of
        every other.
    softmax
        A key of `SOFTMAX_RULES`.
    mul
        Requantization rule of MUL.
    transpose_conv, transpose_conv_uint8
        Of TRANSPOSE_CONV of int8, by number of output channels, and of uint8, by number of elements.
    bilinear
        Requantization rule of RESIZE_BILINEAR of int8 codes.
    elu
        How ELU rounds: a key of `quant.importers.tflite_curves.ROUNDINGS`; empty where the kernel set has none.
    delegates
        Whether XNNPACK takes what it can: QUANTIZE within one type, LEAKY_RELU, LOGISTIC onto any grid.
    fallback
        The kernel set that takes what this one leaves, its own name where it takes all.
    activation
        Rounds the real end of a fused activation onto the output's grid: (real end ÷ scale, zero point) -> code.
    """

    doc: str
    conv: str
    fully_connected: str
    depthwise: Callable[[int], Segments]
    depthwise_uint8: Callable[[int], Segments]
    requantize: Callable[[int], Segments]
    add: str
    map_mean: Callable[[int], Segments]
    mean: str
    softmax: str
    mul: str
    transpose_conv: Callable[[int], Segments]
    transpose_conv_uint8: Callable[[int], Segments]
    bilinear: str
    elu: str
    delegates: bool
    fallback: str
    activation: Callable[[np.float32, int], int]


def _away(value: np.float32, zero_point: int) -> int:
    return int(np.trunc(value + np.copysign(np.float32(0.5), value))) + zero_point


def _shifted_even(value: np.float32, zero_point: int) -> int:
    return int(np.rint(value + np.float32(zero_point)))


KERNELS: dict[str, KernelSet] = {
    "xnnpack": KernelSet(
        doc="the default: XNNPACK delegate, built-in kernels for what it does not take",
        conv="float32_rne",
        fully_connected="float32_rne",
        depthwise=_all("float32_rne"),
        depthwise_uint8=_all("float32_rne"),
        requantize=_vectors(16),
        add="xnnpack",
        map_mean=_all("float32_shifted"),
        mean="float32_shifted",
        softmax="float32",
        mul="float32_rne",
        transpose_conv=_all("float32_rne"),
        transpose_conv_uint8=_all("float32_rne"),
        bilinear="single_up",
        elu="shifted_even",
        delegates=True,
        fallback="builtin",
        activation=_shifted_even,
    ),
    "builtin": KernelSet(
        doc="built-in kernels (ruy), BUILTIN_WITHOUT_DEFAULT_DELEGATES",
        conv="ruy_double_up",
        fully_connected="ruy_double_up",
        depthwise=_vectors(8),
        depthwise_uint8=_all("gemmlowp_double"),
        requantize=_vectors(16),
        add="gemmlowp_double",
        map_mean=_vectors(16),
        mean="gemmlowp_mean",
        softmax="float32",
        mul="gemmlowp_double",
        transpose_conv=_vectors(8),
        transpose_conv_uint8=_vectors(16),
        bilinear="single_away",
        elu="away",
        delegates=False,
        fallback="builtin",
        activation=_away,
    ),
    "reference": KernelSet(
        doc="reference kernels, BUILTIN_REF",
        conv="gemmlowp_double",
        fully_connected="single_away",
        depthwise=_all("gemmlowp_double"),
        depthwise_uint8=_all("gemmlowp_double"),
        requantize=_all("gemmlowp_double"),
        add="gemmlowp_double",
        map_mean=_all("gemmlowp_mean"),
        mean="gemmlowp_mean",
        softmax="gemmlowp",
        mul="gemmlowp_double",
        transpose_conv=_all("gemmlowp_double"),
        transpose_conv_uint8=_all("gemmlowp_double"),
        bilinear="single_away",
        elu="",
        delegates=False,
        fallback="reference",
        activation=_away,
    ),
}


def kernel_set(name: str) -> KernelSet:
    """Return a kernel set by name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.
    """
    if name not in KERNELS:
        raise ValueError(f"kernels must be one of {', '.join(KERNELS)} (got {name!r})")
    return KERNELS[name]
