"""How far a price may be off: DESIGN section 4, stated with every figure.

Ratios between two widths of one technology hold to 5 % where the widths differ by a factor of two or more, and to 15 %
between neighbouring widths (a single netlist carries structural noise of that size). Absolute figures of four
independent sources at one node differ by 2x to 4x, so an absolute figure is known within a factor of two, up or down.
"""

from dataclasses import dataclass

ABSOLUTE_FACTOR = 2.0
FAR_RATIO_SHARE = 0.05
NEAR_RATIO_SHARE = 0.15
FAR_WIDTH_FACTOR = 2.0


@dataclass(frozen=True)
class Band:
    """An interval low..high around a figure, in the figure's unit."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def absolute_band(figure: float) -> Band:
    """Return the band of an absolute figure (pJ, um2, mW, ns): half to twice."""
    return Band(figure / ABSOLUTE_FACTOR, figure * ABSOLUTE_FACTOR)


def ratio_share(bits: float, other_bits: float) -> float:
    """Return the relative half-width of the band of a ratio of prices at two widths.

    Equal widths fall under the smaller share: the same price stands on both sides, and what remains is the mix of
    components.

    Raises
    ------
    ValueError
        If a width is not positive.
    """
    if not (bits > 0 and other_bits > 0):
        raise ValueError(f"ratio_share: widths must be > 0 (got {bits}, {other_bits}); give the bits of both designs")
    factor = max(bits, other_bits) / min(bits, other_bits)
    return FAR_RATIO_SHARE if factor == 1 or factor >= FAR_WIDTH_FACTOR else NEAR_RATIO_SHARE


def ratio_band(ratio: float, bits: float, other_bits: float) -> Band:
    """Return the band of a ratio of two prices of one technology, at `bits` over at `other_bits`."""
    share = ratio_share(bits, other_bits)
    return Band(ratio * (1 - share), ratio * (1 + share))
