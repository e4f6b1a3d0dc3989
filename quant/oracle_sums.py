"""Sums of products in torch: convolutions and matrix products, unbounded or through an accumulator of finite width.

Both ops become groups of matrix products ``[groups, m, k] · [groups, k, n] + bias[groups, n]`` with k in the order
(kh, kw, c), c fastest. Unbounded sums use float64 where the operands prove every partial sum below 2**53, int64
otherwise. Where a register can overflow, the additions are made one hop at a time, in order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accelsim.arith import Accumulation
from accelsim.program import Conv, MatMul

FLOAT64_EXACT = 2**53
"""Integers up to this magnitude are exact in float64, whatever the order of the additions."""

WINDOW_BUDGET = 2**22
"""Elements of gathered windows at a time: 32 MB of int64."""

BLOCK_BUDGET = 2**16
"""Accumulators that are stepped through k at a time, so that they stay in the cache."""

Place = Callable[[int, int, int], str]
"""Names the output element (group, row, column) of a matrix product."""


@dataclass
class Sums:
    """Accumulators of one op; `events` and `differing` tell what a register of finite width did to them."""

    values: Tensor
    events: Tensor | None = None
    differing: int = 0


@dataclass(frozen=True)
class Register:
    """A two's complement register and what it does with a value out of its range."""

    what: str
    bits: int
    rule: str

    def take(self, exact: Tensor, events: Tensor, when: str, place: Place) -> Tensor:
        """Bring exact values into the register, adding to `events` where they do not fit.

        Raises
        ------
        OverflowError
            Under the rule ``error``, naming the first element that does not fit.
        """
        low, high = -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        smallest, largest = (int(v) for v in torch.aminmax(exact))
        if smallest >= low and largest <= high:
            return exact
        outside = (exact < low) | (exact > high)
        if self.rule == "error":
            group, row, column = (int(i) for i in torch.nonzero(outside)[0])
            value = int(exact[group, row, column])
            raise OverflowError(
                f"{place(group, row, column)}: the {self.what} reaches {value} {when}, beyond {self.bits} bits "
                f"({low}..{high}); widen it or let it wrap or saturate"
            )
        events += outside
        if self.rule == "saturate":
            return exact.clamp(low, high)
        return ((exact - low) & (2**self.bits - 1)) + low


# --- matrix products -------------------------------------------------------------------------------------------------


def reach(left: Tensor, right: Tensor, bias: Tensor) -> Tensor:
    """Return a bound on every partial sum's magnitude in any order, int64 ``[groups, n]``.

    Raises
    ------
    ValueError
        If it is no int64 with a bit to spare.
    """
    largest = max(abs(int(v)) for v in torch.aminmax(left))
    rough = right.abs().to(torch.float64).sum(dim=1) * largest + bias.abs().to(torch.float64)
    if float(rough.max()) >= 2.0**61:
        raise ValueError(f"oracle: sums can reach {float(rough.max()):.3g}, beyond int64; narrow the operands")
    return right.abs().sum(dim=1) * largest + bias.abs()


def exact_sums(left: Tensor, right: Tensor, bias: Tensor, largest: int) -> Tensor:
    """Return unbounded sums ``left · right + bias``, int64 ``[groups, m, n]``.

    Parameters
    ----------
    left, right, bias
        int64 ``[groups, m, k]``, ``[groups, k, n]`` and ``[groups, n]``.
    largest
        What no partial sum exceeds.
    """
    if largest < FLOAT64_EXACT:
        products = torch.bmm(left.to(torch.float64), right.to(torch.float64)).to(torch.int64)
    else:
        products = torch.bmm(left, right)
    return products + bias[:, None, :]


def ordered_sums(
    left: Tensor, right: Tensor, bias: Tensor, accumulation: Accumulation, place: Place
) -> tuple[Tensor, Tensor]:
    """Return what the accumulators hold after every addition in order, and how many overflowed, ``[groups, m, n]``.

    Raises
    ------
    OverflowError
        Under a rule ``error``, at the earliest such addition of a block of rows.
    """
    groups, rows, _ = left.shape
    columns = right.shape[2]
    block = max(1, BLOCK_BUDGET // (groups * columns))
    held, events = [], []
    for start in range(0, rows, block):

        def shifted(group: int, row: int, column: int, start: int = start) -> str:
            return place(group, row + start, column)

        part = _step_through_k(left[:, start : start + block], right, bias, accumulation, shifted)
        held.append(part[0])
        events.append(part[1])
    return torch.cat(held, dim=1), torch.cat(events, dim=1)


def _step_through_k(
    left: Tensor, right: Tensor, bias: Tensor, accumulation: Accumulation, place: Place
) -> tuple[Tensor, Tensor]:
    depth, hop = left.shape[2], accumulation.products_per_hop
    fold = depth if accumulation.fold_k is None else accumulation.fold_k
    memory = Register("accumulator", accumulation.acc_bits, accumulation.acc_overflow)
    column = Register("partial sum", accumulation.psum_bits, accumulation.psum_overflow)
    shape = (left.shape[0], left.shape[1], right.shape[2])
    events = torch.zeros(shape, dtype=torch.int64)
    total = memory.take(bias[:, None, :].expand(shape).contiguous(), events, "on loading the bias", place)
    for number, start in enumerate(range(0, depth, fold)):
        stop = min(start + fold, depth)
        moving = torch.zeros(shape, dtype=torch.int64)
        for k in range(start, stop, hop):
            end = min(k + hop, stop)
            products = _products(left, right, k, end)
            if accumulation.fold_k is None:
                total = memory.take(total + products, events, f"at k={k}..{end - 1}", place)
            else:
                moving = column.take(moving + products, events, f"at k={k}..{end - 1} in fold {number}", place)
        if accumulation.fold_k is not None:
            total = memory.take(total + moving, events, f"on adding fold {number} (k={start}..{stop - 1})", place)
    return total, events


def _products(left: Tensor, right: Tensor, start: int, stop: int) -> Tensor:
    if stop - start == 1:
        return left[:, :, start, None] * right[:, None, start, :]
    return torch.bmm(left[:, :, start:stop], right[:, start:stop])


def sum_products(left: Tensor, right: Tensor, bias: Tensor, accumulation: Accumulation | None, place: Place) -> Sums:
    """Return the accumulators of groups of matrix products, ``[groups, m, n]``.

    Only the groups and columns whose operands do not exclude overflow are stepped through in order.

    Parameters
    ----------
    left, right, bias
        int64 ``[groups, m, k]``, ``[groups, k, n]`` and ``[groups, n]``.
    accumulation
        The accumulator, or ``None`` for unbounded sums.
    place
        Names an output element for the rule ``error``.
    """
    bound = reach(left, right, bias)
    exact = exact_sums(left, right, bias, int(bound.max()))
    if accumulation is None:
        return Sums(exact)
    events = torch.zeros_like(exact)
    widths = [accumulation.acc_bits] if accumulation.fold_k is None else [accumulation.psum_bits, accumulation.acc_bits]
    risky = bound > 2 ** (min(widths) - 1) - 1
    groups, columns = torch.nonzero(risky.any(dim=1))[:, 0], torch.nonzero(risky.any(dim=0))[:, 0]
    if groups.numel() == 0:
        return Sums(exact, events)

    def original(group: int, row: int, column: int) -> str:
        return place(int(groups[group]), row, int(columns[column]))

    chosen = groups[:, None, None], torch.arange(left.shape[1])[None, :, None], columns[None, None, :]
    held, overflowed = ordered_sums(
        left[groups], right[groups][:, :, columns], bias[groups][:, columns], accumulation, original
    )
    differing = int((held != exact[chosen]).sum())
    exact[chosen], events[chosen] = held, overflowed
    return Sums(exact, events, differing)


# --- windows ---------------------------------------------------------------------------------------------------------


def as_map(x: Tensor) -> Tensor:
    """Read ``[batch, C]`` and ``[batch, T, C]`` as maps ``[batch, H, W, C]`` of height (and width) one."""
    return x.reshape(x.shape[0], *(1,) * (4 - x.ndim), *x.shape[1:])


def pad_map(x: Tensor, padding: tuple[int, int, int, int], value: int) -> Tensor:
    """Surround maps ``[batch, H, W, C]`` with `value`; padding is (top, left, bottom, right)."""
    if not any(padding):
        return x
    top, left, bottom, right = padding
    batch, height, width, channels = x.shape
    padded = x.new_full((batch, height + top + bottom, width + left + right, channels), value)
    padded[:, top : top + height, left : left + width] = x
    return padded


def window_taps(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[Tensor]:
    """Yield, for every position (kh, kw) of a window, what all windows see there: views ``[batch, OH, OW, C]``."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    counts = [(n - span) // s + 1 for n, span, s in zip(x.shape[1:3], spans, stride, strict=True)]
    reach = [(count - 1) * s + 1 for count, s in zip(counts, stride, strict=True)]
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            yield x[:, top : top + reach[0] : stride[0], left : left + reach[1] : stride[1]]


# --- ops -------------------------------------------------------------------------------------------------------------


def convolve(op: Conv, x: Tensor, accumulation: Accumulation | None) -> Sums:
    """Return the accumulators ``[batch, *output shape]`` of a convolution or linear layer.

    Parameters
    ----------
    op
        With values.
    x
        Codes ``[batch, *shape]`` of rank 1 to 3, channels last.
    accumulation
        The accumulator, or ``None`` for unbounded sums.
    """
    weight = torch.from_numpy(np.asarray(op.weight).astype(np.int64))
    out, kh, kw = (int(length) for length in weight.shape[:3])
    right = weight.reshape(op.groups, out // op.groups, -1).transpose(1, 2).contiguous()
    bias = torch.from_numpy(np.asarray(op.bias).astype(np.int64)).reshape(op.groups, -1)
    padded = pad_map(as_map(x), op.padding, op.pad_value)
    batch, height, width, channels = padded.shape
    span = op.dilation[0] * (kh - 1) + 1
    rows = (height - span) // op.stride[0] + 1
    cols = (width - op.dilation[1] * (kw - 1) - 1) // op.stride[1] + 1
    values = torch.empty((batch, rows, cols, out), dtype=torch.int64)
    events = None if accumulation is None else torch.empty_like(values)
    differing = 0
    row_elements = cols * kh * kw * channels
    images = max(1, WINDOW_BUDGET // (rows * row_elements))
    band = rows if images > 1 else max(1, WINDOW_BUDGET // row_elements)
    for first in range(0, batch, images):
        for top in range(0, rows, band):
            bottom = min(top + band, rows)
            strip = padded[first : first + images, top * op.stride[0] : (bottom - 1) * op.stride[0] + span]
            part = _convolve_strip(op, strip, (right, bias), accumulation, (first, top))
            values[first : first + images, top:bottom] = part.values
            if events is not None and part.events is not None:
                events[first : first + images, top:bottom] = part.events
            differing += part.differing
    return _reshaped(Sums(values, events, differing), (batch, *(rows, cols)[4 - x.ndim :], out))


def _reshaped(sums: Sums, shape: tuple[int, ...]) -> Sums:
    events = None if sums.events is None else sums.events.reshape(shape)
    return Sums(sums.values.reshape(shape), events, sums.differing)


def _channels_last(sums: Tensor, pixels: tuple[int, int, int]) -> Tensor:
    """Bring ``[groups, pixels, n]`` to ``[batch, rows, cols, groups · n]``."""
    groups, _, n = sums.shape
    return sums.reshape(groups, *pixels, n).permute(1, 2, 3, 0, 4).reshape(*pixels, groups * n)


def _convolve_strip(
    op: Conv,
    strip: Tensor,
    weights: tuple[Tensor, Tensor],
    accumulation: Accumulation | None,
    origin: tuple[int, int],
) -> Sums:
    right, bias = weights
    kernel = (op.weight.shape[1], op.weight.shape[2])
    taps = torch.stack(list(window_taps(strip, kernel, op.stride, op.dilation)), dim=3)
    batch, rows, cols, area, channels = taps.shape
    grouped = taps.reshape(batch * rows * cols, area, op.groups, channels // op.groups)
    left = grouped.permute(2, 0, 1, 3).reshape(op.groups, batch * rows * cols, -1)

    def place(group: int, row: int, column: int) -> str:
        image, pixel = divmod(row, rows * cols)
        y, x = divmod(pixel, cols)
        return (
            f"op {op.name!r}, batch index {origin[0] + image}, pixel ({origin[1] + y}, {x}), "
            f"channel {group * right.shape[2] + column}"
        )

    sums = sum_products(left, right, bias, accumulation, place)
    pixels = (batch, rows, cols)
    events = None if sums.events is None else _channels_last(sums.events, pixels)
    return Sums(_channels_last(sums.values, pixels), events, sums.differing)


def multiply(op: MatMul, x0: Tensor, x1: Tensor, accumulation: Accumulation | None) -> Sums:
    """Return the accumulators ``[batch, *heads of x0, i, j]`` of a batched product of two activations.

    Parameters
    ----------
    op
        The product.
    x0, x1
        Codes ``[batch, *heads, i, k]`` and ``[batch, *heads, k, j]`` (``[.., j, k]`` where `transpose`).
    accumulation
        The accumulator, or ``None`` for unbounded sums.
    """
    first, second = x0 - op.zero_points[0], x1 - op.zero_points[1]
    if op.transpose:
        second = second.transpose(-1, -2)
    for axis in range(1, first.ndim - 2):
        second = second.repeat_interleave(first.shape[axis] // second.shape[axis], dim=axis)
    heads, (m, k), n = first.shape[:-2], first.shape[-2:], second.shape[-1]
    left, right = first.reshape(-1, m, k), second.reshape(-1, k, n)

    def place(group: int, row: int, column: int) -> str:
        batch, *head = np.unravel_index(group, heads)
        where = f"head {', '.join(str(int(h)) for h in head)}, " if head else ""
        return f"op {op.name!r}, batch index {int(batch)}, {where}pixel ({row},), channel {column}"

    sums = sum_products(left, right, torch.zeros((left.shape[0], n), dtype=torch.int64), accumulation, place)
    return _reshaped(sums, (*heads, m, n))
