"""TensorFlow Lite RESIZE operators: nearest neighbours as copies, bilinear by powers of two as a depthwise layer.

Places are those of lite/kernels/internal/reference/resize_nearest_neighbor.h and resize_bilinear.h. Between pixels
whose distance a power of two divides, the kernels' weights (10 or 11 fraction bits) are exact, so that every output is
an exact sum of products, rounded once.
"""

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import bits_for
from accelsim.program import Conv, Requantize, Tensor, conv_bound
from quant.importers.tflite_moves import LONGEST_GATHER, Steps
from quant.importers.tflite_reader import FileOperator
from quant.importers.tflite_writer import Writer

LARGEST_FACTOR = 16

Ints = NDArray[np.int64]
f32 = np.float32


def _source(writer: Writer, op: FileOperator) -> tuple[Tensor, tuple[int, int]]:
    """Return the map and its new height and width."""
    y = writer.output(op)
    x, size = writer.same_grid(op, 0, y), writer.integers(op, 1)
    if len(x.shape) != 3 or len(size) != 2 or min(size) < 1 or y.shape[1:] != (*size, x.shape[-1]):
        raise writer.fail(op, f"resizes {list(x.shape)} to {size}, but its output is declared {list(y.shape)}")
    if op.options["align_corners"] and op.options["half_pixel"]:
        raise writer.fail(op, "aligns corners and takes half pixels; one of both at most")
    if max(size) > LONGEST_GATHER:
        raise writer.fail(op, f"resizes to {size}; up to {LONGEST_GATHER} pixels a side are read")
    return x, (size[0], size[1])


def nearest(length: int, size: int, align_corners: bool, half_pixel: bool) -> list[int]:
    """Return the input place of every output place along an axis, by the kernel's float32 steps."""
    aligned = align_corners and size > 1
    scale = f32(length - 1) / f32(size - 1) if aligned else f32(length) / f32(size)
    places = (np.arange(size).astype(f32) + f32(0.5 if half_pixel else 0)) * scale
    chosen = np.trunc(places + f32(0.5)) if align_corners else np.floor(places)
    return [int(v) for v in np.clip(chosen, 0, length - 1)]


def resize_nearest_neighbor(writer: Writer, op: FileOperator) -> None:
    """RESIZE_NEAREST_NEIGHBOR: rows and columns repeated or left out."""
    x, size = _source(writer, op)
    steps, flags = Steps(writer, op), (bool(op.options["align_corners"]), bool(op.options["half_pixel"]))
    for axis in (0, 1):
        x = steps.take(x, axis, nearest(x.shape[axis], size[axis], *flags))
    writer.give(op, x)


def phases(factor: int, half_pixel: bool) -> tuple[Ints, int]:
    """Return the weights ``[factor, taps]`` of an axis, in units of 1 / (2 · factor), and the first tap's offset."""
    first = -1 if half_pixel and factor > 1 else 0
    weights = np.zeros((factor, 1 if factor == 1 else 2 - first), dtype=np.int64)
    for phase in range(factor):
        place = 2 * phase + 1 - factor if half_pixel else 2 * phase  # distance in units of 1 / (2 · factor)
        below = place // (2 * factor)
        rest = place - below * 2 * factor
        weights[phase, below - first] += 2 * factor - rest
        if rest:
            weights[phase, below - first + 1] += rest
    return weights, first


def resize_bilinear(writer: Writer, op: FileOperator) -> None:
    """RESIZE_BILINEAR by powers of two: each output pixel of a block is one channel of a depthwise layer."""
    x, size = _source(writer, op)
    factors = [n // m for n, m in zip(size, x.shape, strict=False)]
    exact = all(
        m * f == n and 1 <= f <= LARGEST_FACTOR and f & (f - 1) == 0
        for m, f, n in zip(x.shape, factors, size, strict=False)
    )
    if op.options["align_corners"] or not exact:
        how = "corners aligned" if op.options["align_corners"] else "corners not aligned"
        raise writer.fail(
            op, f"resizes {list(x.shape[:2])} to {list(size)}, {how}; factors of 1, 2, 4, 8 and 16 without aligned "
            f"corners are read; resize by one of them, or by nearest neighbours"
        )  # fmt: skip
    steps, half = Steps(writer, op), bool(op.options["half_pixel"])
    kernels = [phases(f, half) for f in factors]
    for axis, (weights, first) in enumerate(kernels):
        n, taps = x.shape[axis], weights.shape[1]
        x = steps.take(x, axis, [min(max(i, 0), n - 1) for i in range(first, n + taps - 1 + first)])
    made = _sums(writer, op, x, [weights for weights, _ in kernels])
    h, w, c = made.shape[0], made.shape[1], x.shape[2]
    apart = steps.permute(steps.reshape(made, (h, w, c, *factors)), (0, 3, 1, 4, 2))
    writer.give(op, steps.reshape(apart, (*size, c)))


def _sums(writer: Writer, op: FileOperator, x: Tensor, kernels: list[Ints]) -> Tensor:
    """Emit the depthwise layer and its rounding; codes are weighed as they are, zero point included."""
    name, channels = op.label, x.shape[2]
    both = np.einsum("ai,bj->abij", *kernels)
    out, taps = both.shape[0] * both.shape[1], both.shape[2:]
    shared = int(np.gcd.reduce(both.ravel()))
    both, total = both // shared, int(both[0, 0].sum()) // shared
    weight = np.tile(both.reshape(out, *taps, 1), (channels, 1, 1, 1))
    bias = np.zeros(out * channels, dtype=np.int64)
    bound = conv_bound(weight, bias, x.magnitude)
    shape = (x.shape[0] - taps[0] + 1, x.shape[1] - taps[1] + 1, out * channels)
    scale = np.array([float(x.scale) / total])  # type: ignore[arg-type]
    sums = writer.accumulator(f"{name}.sum", shape, max(int(bound.max()), 1), scale)
    bits = max(2, bits_for(0, int(weight.max())))
    writer.emit(
        Conv(
            name=f"{name}.layer", inputs=(x.name,), output=sums.name, weight=weight, bias=bias, weight_bits=bits,
            storage_bits=bits, bound=bound, stride=(1, 1), padding=(0, 0, 0, 0), groups=channels,
        )
    )  # fmt: skip
    made = writer.add(Tensor(**{**vars(x), "name": f"{name}.mean", "shape": shape}))
    return writer.emit(
        Requantize(
            name=f"{name}.round", inputs=(sums.name,), output=made.name, multiplier=np.array([1 / total]),
            rule=writer.kernels.bilinear, low=x.low, high=x.high,
        )
    )  # fmt: skip
