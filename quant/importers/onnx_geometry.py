"""The windows of ONNX convolutions and pools, and the places that a Resize reads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_walk import Walk


@dataclass(frozen=True)
class Window:
    """Geometry along the spatial axes, one entry for each: padding is `before` and `after`."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def window(node: OnnxNode, sizes: Sequence[int], kernel: Sequence[int]) -> Window:
    """Return an operator's window.

    Parameters
    ----------
    node
        With the attributes kernel_shape, strides, dilations, pads and auto_pad of ONNX.
    sizes
        Of the input's spatial axes.
    kernel
        Of the weights, or as declared.

    Raises
    ------
    ValueError
        If the attributes do not fit each other, or there are more than two spatial axes.
    """
    rank = len(sizes)
    shape = tuple(int(k) for k in kernel)
    require(
        rank in (1, 2) and len(shape) == rank, f"has a {len(shape)}-d window on {rank} spatial axes; 1 and 2 are known"
    )
    declared = tuple(node.attrs.get("kernel_shape", shape))
    require(declared == shape, f"declares the kernel {declared} and has {shape}")
    stride = tuple(node.attrs.get("strides", (1,) * rank))
    dilation = tuple(node.attrs.get("dilations", (1,) * rank))
    pads = tuple(node.attrs.get("pads", (0,) * 2 * rank))
    fits = len(stride) == len(dilation) == rank and len(pads) == 2 * rank
    require(
        fits and min(*shape, *stride, *dilation) >= 1 and min(pads) >= 0,
        f"has kernel {shape}, strides {stride}, dilations {dilation}, pads {pads} on {rank} spatial axes",
    )
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(sizes, shape, stride, dilation, lower=auto == "SAME_LOWER")
    else:
        require(auto in ("NOTSET", "VALID"), f"pads by {auto}")
        pads = (0,) * 2 * rank if auto == "VALID" else pads
    return Window(shape, stride, dilation, tuple(pads[:rank]), tuple(pads[rank:]))


def _same(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], lower: bool
) -> tuple[int, ...]:
    """Return pads for which an axis gives ceil(size / stride) windows; the odd one goes behind, or in front."""
    totals = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    before = [(t + int(lower)) // 2 for t in totals]
    return (*before, *(t - b for t, b in zip(totals, before, strict=True)))


def transposed_window(
    node: OnnxNode, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """Return a ConvTranspose's stride, dilation, pads in front, output sizes and groups.

    Raises
    ------
    ValueError
        If the attributes do not fit each other, or there are more than two spatial axes.
    """
    rank = len(sizes)
    require(rank in (1, 2) and len(kernel) == rank, f"has {rank} spatial axes; 1 and 2 are known")
    stride, dilation = (tuple(node.attrs.get(key, (1,) * rank)) for key in ("strides", "dilations"))
    extra = tuple(node.attrs.get("output_padding", (0,) * rank))
    pads = tuple(node.attrs.get("pads", (0,) * 2 * rank))
    fits = len(stride) == len(dilation) == len(extra) == rank and len(pads) == 2 * rank
    require(fits and min(*stride, *dilation) >= 1 and min(*pads, *extra) >= 0, f"has strides {stride}, pads {pads}")
    full = [
        (n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in zip(sizes, stride, dilation, kernel, extra, strict=True)
    ]
    auto = node.attrs.get("auto_pad", "NOTSET")
    wanted = node.attrs.get("output_shape")
    if wanted is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
        outs = tuple(wanted)[-rank:] if wanted is not None else tuple(n * s for n, s in zip(sizes, stride, strict=True))
        total = [max(0, f - o) for f, o in zip(full, outs, strict=True)]
        before = tuple((t + 1) // 2 if auto == "SAME_LOWER" else t // 2 for t in total)
    else:
        require(auto in ("NOTSET", "VALID"), f"pads by {auto}")
        before = tuple(pads[:rank]) if auto == "NOTSET" else (0,) * rank
        after = tuple(pads[rank:]) if auto == "NOTSET" else (0,) * rank
        outs = tuple(f - b - a for f, b, a in zip(full, before, after, strict=True))
    return stride, dilation, before, tuple(int(o) for o in outs), int(node.attrs.get("group", 1))


def resize_places(walk: Walk[Any], node: OnnxNode, shape: tuple[int, ...]) -> list[NDArray[Any] | None]:
    """Return, for each axis (batch included), where every output of a Resize reads; ``None`` where nothing changes.

    Places are whole for nearest, else real, possibly beyond the ends.
    """
    roi, scales, sizes = (None, 1, None) if node.op == "Upsample" else (1, 2, 3)
    require(not node.attrs.get("antialias", 0), "resizes with antialias")
    require(node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch", "keeps the aspect ratio")
    axes = node.attrs.get("axes", tuple(range(len(shape))))
    outs, factors = list(shape), [1.0] * len(shape)
    given = walk.optional(node, sizes) if sizes is not None else None
    if given is not None and given.size:
        for axis, size in zip(axes, given.ravel(), strict=True):
            outs[axis], factors[axis] = int(size), int(size) / shape[axis]
    else:
        numbers = node.attrs["scales"] if "scales" in node.attrs else walk.constant(node, scales).ravel()
        for axis, factor in zip(axes, numbers, strict=True):
            outs[axis], factors[axis] = math.floor(shape[axis] * float(factor)), float(factor)
    way = node.attrs.get("coordinate_transformation_mode", "asymmetric" if roi is None else "half_pixel")
    found: list[NDArray[Any] | None] = []
    for size, out, factor in zip(shape, outs, factors, strict=True):
        places = _places(way, size, out, factor)
        if node.attrs.get("mode", "nearest") == "nearest":
            places = np.clip(
                _nearest(places, node.attrs.get("nearest_mode", "floor" if roi is None else "")), 0, size - 1
            )
        found.append(None if out == size and np.array_equal(places, np.arange(size)) else places)
    return found


def _places(way: str, size: int, out: int, factor: float) -> NDArray[np.float64]:
    """Return the input's coordinate of every output along an axis (ONNX, Resize)."""
    i = np.arange(out, dtype=np.float64)
    if way == "asymmetric":
        return i / factor
    if way == "align_corners":
        return i * ((size - 1) / (out - 1)) if out > 1 else np.zeros(1)
    if way == "half_pixel" or (way == "pytorch_half_pixel" and out > 1):
        return (i + 0.5) / factor - 0.5
    if way == "half_pixel_symmetric":
        return size / 2 * (1 - out / (factor * size)) + (i + 0.5) / factor - 0.5
    require(way == "pytorch_half_pixel", f"places pixels by {way}")
    return np.zeros(1)


def _nearest(places: NDArray[np.float64], mode: str) -> NDArray[np.float64]:
    places = np.round(places, 9)  # a quotient that is whole but for rounding counts as whole
    if mode == "floor":
        return np.floor(places)
    if mode == "ceil":
        return np.ceil(places)
    require(mode in ("", "round_prefer_floor", "round_prefer_ceil"), f"rounds places by {mode}")
    return np.floor(places + 0.5) if mode == "round_prefer_ceil" else np.ceil(places - 0.5)
