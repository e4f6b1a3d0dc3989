"""Which single number, were it another one, would turn a channel's values as computed into those of another route.

Sums are linear in a bias and in every weight, and rules of requantization are monotone, so each candidate has an
interval of amounts that explain each pixel; the candidate stands where the intervals of all pixels intersect.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import requantize
from accelsim.program import Requantize

Ints = NDArray[np.int64]

FAR = 1 << 40
"""Beyond every sum of 32 bits: the end of an interval that has none."""

REACH = (-(1 << 31), (1 << 31) - 1)
"""Sums that runtimes hold in 32 bits."""

MOST_ROWS = 4096
"""Rows looked at; those that differ come first."""


@dataclass(frozen=True)
class Cause:
    """A number that explains a channel: what it is, where along k, and what it would be on the other route."""

    what: str
    amount: str
    k: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One output channel of a layer over all samples and pixels.

    Parameters
    ----------
    rows, weights, bias
        Operands ``[m, k]``, ``[k]`` and the number that sums start at.
    zero_point
        Of the operands in the rows: another weight would have changed the bias that it is folded into.
    other
        Sums ``[m]`` of the other route, or codes behind `requantize`.
    requantize
        What made codes of the sums; ``None`` where the sums are compared.
    channel
        Its number.
    fixed
        Whether the weights are parameters (else both operands are activations, which agreed).
    """

    rows: Ints
    weights: Ints
    bias: int
    zero_point: int
    other: Ints
    requantize: Requantize | None
    channel: int
    fixed: bool

    @cached_property
    def sums(self) -> Ints:
        """Exact sums ``[m]``."""
        return self.rows @ self.weights + self.bias

    @cached_property
    def computed(self) -> Ints:
        """Sums, or codes behind the requantization ``[m]``."""
        return self.sums if self.requantize is None else self._codes(self.sums)

    @property
    def multiplier(self) -> NDArray[np.float64]:
        """Of the requantization, ``[1]``."""
        assert self.requantize is not None
        factor = self.requantize.multiplier
        return factor[self.channel : self.channel + 1] if factor.size > 1 else factor

    @cached_property
    def interval(self) -> tuple[Ints, Ints]:
        """Least and largest sum ``[m]`` that gives the other route's value; ``±FAR`` where a clamp sets no end."""
        op = self.requantize
        if op is None:
            return self.other, self.other
        codes, place = np.unique(self.other, return_inverse=True)
        least, past = self._first_at_least(codes), self._first_at_least(codes + 1)
        least = np.where(codes <= op.low, -FAR, least)
        most = np.where(codes >= op.high, FAR, past - 1)
        return least[place], most[place]

    def _first_at_least(self, codes: Ints) -> Ints:
        """Return the least sum whose code is no less than each of `codes` (their rule is monotone)."""
        low, high = np.full(codes.shape, REACH[0]), np.full(codes.shape, REACH[1])
        while (low < high).any():
            middle = (low + high) >> 1
            reached = self._codes(middle) >= codes
            low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
        return low

    def _codes(self, sums: Ints) -> Ints:
        op = self.requantize
        assert op is not None
        bias = op.float_bias
        one = None if bias is None else bias[self.channel : self.channel + 1] if bias.size > 1 else bias
        return requantize(
            (sums - op.zero_in)[:, None], self.multiplier, rule=op.rule, zero_point=op.zero_out,
            clamp=(op.low, op.high), bias=one,
        )[:, 0]  # fmt: skip

    def needed(self, row: int) -> tuple[int | None, int | None]:
        """Return the ends of one row's interval; ``None`` where it has none."""
        low, high = (int(end[row]) for end in self.interval)
        return None if low == -FAR else low, None if high == FAR else high


def causes(column: Column) -> list[Cause]:
    """Return every single number that explains all values of a channel: bias, weights, multiplier."""
    if not column.fixed:
        return []
    order = np.argsort(column.computed == column.other, kind="stable")[:MOST_ROWS]
    low, high = ((end - column.sums)[order] for end in column.interval)
    found = []
    least, most = int(low.max()), int(high.min())
    if least <= most:
        found.append(Cause("bias", _amount(least, most)))
    seen: set[int] = set()
    for zero_point in dict.fromkeys((0, column.zero_point)):
        for k, least, most in _weights(column.rows[order] - zero_point, low, high):
            if k not in seen:
                seen.add(k)
                found.append(Cause("weight", _amount(least, most), k))
    if column.requantize is not None:
        found += _multiplier(column, order)
    return found


def _amount(least: int, most: int) -> str:
    """Return by how much a number is larger or smaller in words."""
    if least == most:
        return f"being {abs(least)} {'more' if least > 0 else 'less'}"
    ends = (least, most) if least > 0 else (-most, -least)
    return f"being {ends[0]}..{ends[1] if ends[1] < FAR // 2 else ''} {'more' if least > 0 else 'less'}"


def _weights(rows: Ints, low: Ints, high: Ints) -> list[tuple[int, int, int]]:
    """Return (k, least, most) of every weight that explains all rows by a change between least and most."""
    least, most = np.full(rows.shape[1], -FAR), np.full(rows.shape[1], FAR)
    for x, first, last in zip(rows, low, high, strict=True):
        up, down = x > 0, x < 0
        divisor = np.where(x == 0, 1, x)
        # x · d in first..last: ends divided by x, turned round where x is negative
        ends = (
            np.where(down, -((-last) // divisor), -((-first) // divisor)),
            np.where(down, first // divisor, last // divisor),
        )
        least = np.where(up | down, np.maximum(least, ends[0]), least)
        most = np.where(up | down, np.minimum(most, ends[1]), most)
        if first > 0 or last < 0:  # nothing that is multiplied by zero explains it
            most = np.where(x == 0, least - 1, most)
    return [(int(k), int(least[k]), int(most[k])) for k in np.flatnonzero(least <= most)]


def _multiplier(column: Column, order: NDArray[np.intp]) -> list[Cause]:
    """Return the multiplier that explains all rows, if one does, to the width that rounding leaves it."""
    op = column.requantize
    assert op is not None
    total, code = (column.sums - op.zero_in)[order].astype(np.float64), column.other[order]
    real = (code - op.zero_out).astype(np.float64)
    low, high = np.where(code <= op.low, -np.inf, real - 0.5), np.where(code >= op.high, np.inf, real + 0.5)
    if ((total == 0) & ((low > 0) | (high < 0))).any() or op.float_bias is not None:
        return []
    some = total != 0
    ends = np.stack([low[some] / total[some], high[some] / total[some]])
    least, most = float(ends.min(axis=0).max(initial=-np.inf)), float(ends.max(axis=0).min(initial=np.inf))
    if not least <= most or most <= 0:
        return []
    return [Cause("multiplier", f"being {max(least, 0):.6g}..{most:.6g}")]
