"""Operations that the float graph has no name for, as compositions of those it has.

Contract: torch-free; importers and capture give a `Composer`, which adds nodes to the graph that they write. A function
returns the name of its result. Shapes and axes leave the batch out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.graph_ops import Shape, need

Array = NDArray[Any]
Emit = Callable[[str, Sequence[str], Mapping[str, Any], Mapping[str, Array]], str]


@dataclass(frozen=True, eq=False)
class Composer:
    """How to add a node (operation, inputs, attributes, parameters), and the shapes of what is there."""

    emit: Emit
    shapes: Mapping[str, Shape]

    def unary(self, op: str, x: str, **attrs: Any) -> str:
        """Add an element-wise function."""
        return self.emit(op, (x,), attrs, {})

    def scale(self, x: str, factors: Array | float, axis: int = 0) -> str:
        """Multiply by one number, or by one per index of an axis."""
        weight = np.atleast_1d(np.asarray(factors, dtype=np.float32))
        return self.emit("scale", (x,), {"axis": axis}, {"weight": weight})

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Return the tensor in another shape; the same one where it has that shape already."""
        return x if tuple(shape) == self.shapes[x] else self.emit("reshape", (x,), {"shape": tuple(shape)}, {})

    def permute(self, x: str, order: Sequence[int]) -> str:
        """Return the tensor with its axes in another order."""
        return x if list(order) == sorted(order) else self.emit("permute", (x,), {"order": tuple(order)}, {})

    def part(self, x: str, starts: Sequence[int], stops: Sequence[int]) -> str:
        """Return the part from starts to stops, one for each axis."""
        if not any(starts) and tuple(stops) == self.shapes[x]:
            return x
        attrs = {"start": tuple(starts), "stop": tuple(stops), "step": (1,) * len(starts)}
        return self.emit("slice", (x,), attrs, {})

    def gather(self, x: str, axis: int, src: Sequence[int]) -> str:
        """Return elements src[0], src[1], ... along an axis."""
        indices = tuple(int(i) for i in src)
        if indices == tuple(range(self.shapes[x][axis])):
            return x
        return self.emit("duplicate", (x,), {"axis": axis, "src": indices}, {})

    def pool(self, op: str, x: str, kernel: Sequence[int], stride: Sequence[int]) -> str:
        """Pool over windows without padding."""
        if math.prod(kernel) == math.prod(stride) == 1:
            return x
        attrs: dict[str, Any] = {"kernel": tuple(kernel), "stride": tuple(stride), "ceil_mode": False}
        attrs |= {"padding": (0,) * 2 * len(kernel)}
        attrs |= {"dilation": (1,) * len(kernel)} if op == "max_pool" else {"count_include_pad": True}
        return self.emit(op, (x,), attrs, {})


# --- transposed convolution ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transposed:
    """Geometry of a transposed convolution, one entry for each spatial axis; `size` is the output's."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    size: tuple[int, ...]
    groups: int


@dataclass(frozen=True, eq=False)
class SubPixel:
    """A transposed convolution as a convolution: kernel ``[phases · outputs, inputs / groups, *taps]``, pads, cut."""

    kernel: Array
    before: tuple[int, ...]
    after: tuple[int, ...]
    cut: tuple[int, ...]


def sub_pixel(weight: Array, sizes: Sequence[int], geometry: Transposed) -> SubPixel:
    """Return the convolution whose outputs are the pixels of each phase of a transposed one.

    Every output pixel of one phase (its place modulo the stride) is a convolution of its own (Shi et al.,
    arXiv:1609.07009): no zeros are multiplied where the stride divides the kernel. The weights are laid out as torch
    and ONNX have them: ``[inputs, outputs / groups, *kernel]``.
    """
    nd, groups, strides = weight.ndim - 2, geometry.groups, geometry.stride
    need(nd in (1, 2), "a transposed convolution must be 1-d or 2-d", f"{nd}-d", "reshape the maps")
    taps = _spread(weight, geometry.dilation)
    counts = tuple(-(-k // s) for k, s in zip(taps.shape[2:], strides, strict=True))
    room = [(0, s * t - k) for s, t, k in zip(strides, counts, taps.shape[2:], strict=True)]
    taps = np.pad(taps, [(0, 0), (0, 0), *room])
    inputs, outputs = taps.shape[0] // groups, taps.shape[1]
    split = taps.reshape(groups, inputs, outputs, *(n for t, s in zip(counts, strides, strict=True) for n in (t, s)))
    steps, phases = [3 + 2 * i for i in range(nd)], [4 + 2 * i for i in range(nd)]
    split = np.flip(split, tuple(steps)).transpose(0, 2, *phases, 1, *steps)
    kernel = np.ascontiguousarray(split.reshape(groups * outputs * math.prod(strides), inputs, *counts))
    return SubPixel(kernel, *_blocks(sizes, counts, geometry))


def conv_transpose(c: Composer, x: str, weight: Array, bias: Array | None, geometry: Transposed) -> str:
    """Write a transposed convolution as a convolution and a shuffle of its outputs into pixels, see `sub_pixel`."""
    nd, strides = weight.ndim - 2, geometry.stride
    layout = sub_pixel(weight, c.shapes[x][1:], geometry)
    params = {"weight": layout.kernel}
    if bias is not None:
        params["bias"] = np.repeat(bias, math.prod(strides))
    padding = (*layout.before, *layout.after)
    attrs = {"stride": (1,) * nd, "dilation": (1,) * nd, "groups": geometry.groups, "padding": padding}
    shuffled = shuffle(c, c.emit("conv", (x,), attrs, params), strides)
    stops = tuple(a + n for a, n in zip(layout.cut, geometry.size, strict=True))
    return c.part(shuffled, (0, *layout.cut), (c.shapes[shuffled][0], *stops))


def _spread(weight: Array, dilation: tuple[int, ...]) -> Array:
    """Return the kernel with the zeros of its dilation."""
    sizes = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    full = np.zeros((*weight.shape[:2], *sizes), dtype=weight.dtype)
    full[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = weight
    return full


def _blocks(
    sizes: Sequence[int], counts: tuple[int, ...], geometry: Transposed
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the padding in front and behind, and the first pixel to keep, so that few blocks are computed in vain."""
    found = []
    for n, taps, s, p, out in zip(sizes, counts, geometry.stride, geometry.before, geometry.size, strict=True):
        need(out >= 1, "a transposed convolution must have outputs", out, "use a larger input")
        first = min(p // s, taps - 1)
        before = taps - 1 - first
        wanted = -(-(p + out) // s) - first
        found.append((before, max(0, wanted - (n + before - taps + 1)), p - first * s))
    return tuple(part[0] for part in found), tuple(part[1] for part in found), tuple(part[2] for part in found)


def shuffle(c: Composer, x: str, factors: Sequence[int]) -> str:
    """Write a pixel shuffle: channels [C · Π factors] become pixels, the factor of the first axis outermost."""
    if math.prod(factors) == 1:
        return x
    channels, *sizes = c.shapes[x]
    count, nd = channels // math.prod(factors), len(factors)
    wide = c.reshape(x, (count, *factors, *sizes))
    order = (0, *(n for i in range(nd) for n in (1 + nd + i, 1 + i)))
    pixels = [s * f for s, f in zip(sizes, factors, strict=True)]
    return c.reshape(c.permute(wide, order), (count, *pixels))


# --- resizing --------------------------------------------------------------------------------------------------------


def weighted(c: Composer, x: str, axis: int, sources: Array, weights: Array) -> str:
    """Write Σ_k weights[k, i] · x[sources[k, i]] along an axis: gathers times constants, added."""
    total = ""
    for src, factor in zip(sources, np.asarray(weights, dtype=np.float32), strict=True):
        if not factor.any():
            continue
        taken = c.gather(x, axis, src)
        if not (factor == 1).all():
            taken = c.scale(taken, factor, axis)
        total = c.emit("add", (total, taken), {}, {}) if total else taken
    return total


CUBIC = -0.75
"""Coefficient of the cubic kernel in torch and, by default, in ONNX."""


def interpolated(c: Composer, x: str, axis: int, places: Array, cubic: float | None = None) -> str:
    """Write linear (or cubic, with the kernel's coefficient) interpolation at real places along an axis.

    Places beyond the ends read the end.
    """
    size = c.shapes[x][axis]
    whole = np.floor(places).astype(np.int64)
    rest = (places - whole).astype(np.float64)
    if cubic is None:
        offsets, weights = np.array([0, 1]), np.stack([1 - rest, rest])
    else:
        offsets = np.array([-1, 0, 1, 2])
        weights = np.stack([_cubic(np.abs(rest - k), cubic) for k in offsets])
    sources = np.clip(whole[None] + offsets[:, None], 0, size - 1)
    if cubic is None:  # behind the last element both taps are the same
        weights = np.where(sources[:1] == sources[1:], [[1.0], [0.0]], weights)
    return weighted(c, x, axis, sources, weights)


def _cubic(distance: Array, a: float) -> Array:
    """Return the weight of a tap by its distance (Keys 1981, eq. 4)."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def adaptive_pool(c: Composer, op: str, x: str, wanted: Sequence[int]) -> str:
    """Write a pooling to fixed sizes: one pooling where the windows are alike, else one axis after the other."""
    sizes = c.shapes[x][1:]
    if all(size % out == 0 for size, out in zip(sizes, wanted, strict=True)):
        kernel = tuple(size // out for size, out in zip(sizes, wanted, strict=True))
        return c.pool(op, x, kernel, kernel)
    for i, out in enumerate(wanted):
        x = _adaptive_axis(c, op, x, i, out)
    return x


def _adaptive_axis(c: Composer, op: str, x: str, place: int, out: int) -> str:
    """Pool axis `place` of the map: a pooling for each length of window that occurs, then the windows in order."""
    sizes = c.shapes[x][1:]
    size = sizes[place]
    starts = [i * size // out for i in range(out)]
    lengths = [-(-(i + 1) * size // out) - start for i, start in enumerate(starts)]
    along = [1] * len(sizes)
    if size % out == 0:
        along[place] = size // out
        return c.pool(op, x, along, along)
    parts, offset, first = [], 0, {}
    for length in sorted(set(lengths)):
        along[place] = length
        parts.append(c.pool(op, x, along, (1,) * len(sizes)))
        first[length], offset = offset, offset + size - length + 1
    joined = parts[0] if len(parts) == 1 else c.emit("concat", parts, {"axis": place + 1}, {})
    return c.gather(joined, place + 1, [first[n] + s for n, s in zip(lengths, starts, strict=True)])


# --- maxima, norms ---------------------------------------------------------------------------------------------------


def maximum_along(c: Composer, x: str, axes: Sequence[int]) -> str:
    """Write the maximum over axes, which stay as size 1, as poolings."""
    shape = c.shapes[x]
    for axis in sorted(axes):
        size = shape[axis]
        if size == 1:
            continue
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        pooled = c.pool("max_pool", c.reshape(x, (outer, size, inner)), (size, 1), (size, 1))
        shape = (*shape[:axis], 1, *shape[axis + 1 :])
        x = c.reshape(pooled, shape)
    return x


def maximum_of(c: Composer, x: str, y: str) -> str:
    """Write the larger of two tensors of one shape: the maximum over both, laid on each other."""
    shape = c.shapes[x]
    need(shape == c.shapes[y], "tensors must have one shape for their maximum", f"{shape} and {c.shapes[y]}", "expand")
    pair = [c.reshape(name, (1, 1, math.prod(shape))) for name in (x, y)]
    joined = c.emit("concat", pair, {"axis": 1}, {})
    return c.reshape(c.pool("max_pool", joined, (2, 1), (2, 1)), shape)


def minimum_of(c: Composer, x: str, y: str) -> str:
    """Write the smaller of two tensors of one shape."""
    return c.unary("neg", maximum_of(c, c.unary("neg", x), c.unary("neg", y)))


def log_softmax(c: Composer, x: str, axis: int) -> str:
    """Write x - max - log Σ exp(x - max): the sum's logarithm, not that of each small share."""
    below = c.emit("sub", (x, maximum_along(c, x, (axis,))), {}, {})
    mean = c.emit("mean", (c.unary("exp", below),), {"axes": (axis,)}, {})
    return c.emit("sub", (below, c.unary("log", c.scale(mean, float(c.shapes[x][axis])))), {}, {})


def group_norm(c: Composer, x: str, groups: int, weight: Array | None, bias: Array | None, eps: float) -> str:
    """Write a normalization over groups of channels, each with all of its pixels, as a layer norm of long rows."""
    channels, *sizes = c.shapes[x]
    need(channels % groups == 0, f"{channels} channels must divide by the groups", groups, "fix the norm")
    pixels = math.prod(sizes)
    rows = c.reshape(x, (groups, channels // groups * pixels))
    params = {}
    inside = groups == 1 and weight is not None  # then factors are the same for every row
    if inside:
        given = {"weight": weight, "bias": bias}
        params = {key: np.repeat(value, pixels) for key, value in given.items() if value is not None}
    normal = c.reshape(c.emit("layer_norm", (rows,), {"eps": eps, "ndim": 1}, params), (channels, *sizes))
    if inside or (weight is None and bias is None):
        return normal
    factors = np.ones(channels, np.float32) if weight is None else weight
    offsets = np.zeros(channels, np.float32) if bias is None else bias
    return c.emit("affine", (normal,), {"axis": 0}, {"weight": factors, "bias": offsets})
