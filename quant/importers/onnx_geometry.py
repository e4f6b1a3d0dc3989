"""The windows of ONNX convolutions and pools."""

from collections.abc import Sequence
from dataclasses import dataclass

from quant.importers.onnx_model import OnnxNode, require


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
