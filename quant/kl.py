"""The threshold whose quantized histogram diverges least from the values' own (Kullback and Leibler).

TensorRT's idea (Migacz, "8-bit inference with TensorRT", GTC 2017), in two forms: one that groups bins as the grid
does, and one that repeats the MXNet code which the OCS authors used.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from quant.clip_rule import ClipInput, Reals

EPSILON = 1e-4
"""Count given to a bin that must not be empty, as in MXNet's smoothing."""

ROUNDING = 1e-12
"""Divergences this close count as equal: their terms are rounded."""


@dataclass(frozen=True)
class Kl:
    """Alpha minimizes the divergence between the histogram and its quantized form.

    For each threshold at a bin's outer edge: p is the histogram inside, with everything beyond added to its outermost
    bins; q is the histogram inside without what was beyond, each quantization level's count spread evenly over the
    level's bins that are not empty. Levels are those of the grid (a bin belongs to the code its centre rounds to), an
    empty bin of q counts `EPSILON`, exact zeros are left out, since every grid holds them, and of equal divergences the
    largest threshold wins. What N values diverge by mere chance, (filled bins - filled levels) / 2N, is taken off:
    without it a histogram of few values always prefers windows with one bin a level, and small layers lose their tails.

    Parameters
    ----------
    bins
        Of the histogram over ``[-max, max]``, odd; on unsigned grids over ``[0, max]``.
    mxnet_compat
        The MXNet procedure instead, with its quirks: levels are groups of bins counted from the left end, the rest in
        the last, whose final bin stays empty; both histograms are smoothed; zeros count; tensors that are never
        negative are treated as signed; of equal divergences the smallest threshold wins. Where its smoothing fails
        (there: an AssertionError) alpha is the maximum.
    """

    bins: int = 1001
    mxnet_compat: bool = False

    def __post_init__(self) -> None:
        """Refuse histograms without a middle bin."""
        if self.bins < 3 or self.bins % 2 == 0:
            raise ValueError(f"kl bins must be odd and >= 3 (got {self.bins}); 1001 is usual")

    @property
    def name(self) -> str:
        """Return the rule's key."""
        return "kl-mxnet" if self.mxnet_compat else "kl"

    @property
    def source(self) -> str:
        """Return where the idea and the form come from."""
        return "Migacz, GTC 2017" + ("; MXNet's code as adapted by Zhao et al., ICML 2019" * self.mxnet_compat)

    def __call__(self, data: ClipInput) -> Reals:
        """Return each row's threshold.

        Raises
        ------
        ValueError
            Where the MXNet form has fewer bins than levels.
        """
        search = self._mxnet if self.mxnet_compat else self._aligned
        tops = data.absmax.tolist()
        return np.array([search(data, row, top) if top > 0 else 0.0 for row, top in enumerate(tops)])

    def _aligned(self, data: ClipInput, row: int, top: float) -> float:
        values = data.values[row][data.values[row] != 0]
        counts = np.histogram(values, self.bins, (0.0 if data.unsigned else -top, top))[0].astype(np.float64)
        # The middle bin is centred on zero; a histogram from zero on starts half a bin late.
        middle, offset = (0, 0.5) if data.unsigned else (self.bins // 2, 0.0)
        widest = self.bins - middle - (0 if data.unsigned else 1)
        reaches = np.arange(widest, min(data.levels, widest) - 1, -1)
        found = _divergences(counts, reaches, middle, offset, data.levels)
        least = reaches[int(np.argmax(found <= found.min() + ROUNDING))]
        edge = least + 0.5 - offset
        return min(top, float(top * edge / (widest + 0.5 - offset)))

    def _mxnet(self, data: ClipInput, row: int, top: float) -> float:
        levels, middle = 2**data.bits - 1, self.bins // 2
        if levels > self.bins:
            raise ValueError(f"kl-mxnet must have bins >= levels (got {self.bins} and {levels}); use kl or fewer bits")
        counts, edges = np.histogram(data.values[row], self.bins, (-top, top))
        best, chosen = np.inf, float("nan")
        for i in range(levels // 2, middle + 1):
            start, stop = middle - i, middle + i + 1
            found = _mxnet_divergence(counts.astype(np.float64), start, stop, levels)
            if found is None:
                return top
            if found < best:
                best, chosen = found, float(edges[stop])
        return min(chosen, top) if np.isfinite(best) else top


def _with_outliers(counts: Reals, start: int, stop: int) -> Reals:
    inside = counts[start:stop].copy()
    inside[0] += counts[:start].sum()
    inside[-1] += counts[stop:].sum()
    return inside


@njit(cache=True, nogil=True)
def _divergences(counts: Reals, reaches: NDArray[np.int64], middle: int, offset: float, levels: int) -> Reals:
    """Return, for windows of `reaches` bins beside the middle one, KL(p || q) less its expectation by chance.

    The likelihood ratio of N values in so many filled bins against their levels has, by Wilks's theorem, the mean of a
    chi-squared variable: 2N·KL is (filled bins - filled levels) on average where the levels are the truth.
    """
    total = counts.sum()
    found = np.empty(reaches.size)
    for place in range(reaches.size):
        reach = reaches[place]
        start = middle - reach if middle else 0
        stop = middle + reach + (1 if middle else 0)
        inside = counts[start:stop].sum()
        if inside == 0:
            found[place] = np.inf
            continue
        left, right = counts[:start].sum(), counts[stop:].sum()
        added = EPSILON * ((counts[start] == 0 and left > 0) + (counts[stop - 1] == 0 and right > 0))
        step = (reach + 0.5 - offset) / levels
        divergence, excess = 0.0, 0
        first = start
        while first < stop:
            code = np.rint((first - middle + offset) / step)
            last, filled, weight = first, 0, 0.0
            while last < stop and np.rint((last - middle + offset) / step) == code:
                filled += counts[last] > 0
                weight += counts[last]
                last += 1
            excess += max(filled - 1, 0)
            for i in range(first, last):
                p = counts[i] + (left if i == start else 0.0) + (right if i == stop - 1 else 0.0)
                if p > 0:
                    q = weight / filled if counts[i] > 0 else EPSILON
                    divergence += p / total * np.log(p / total * (inside + added) / q)
            first = last
        found[place] = divergence - excess / (2 * total)
    return found


def _mxnet_divergence(counts: Reals, start: int, stop: int, levels: int) -> float | None:
    """Return the divergence of one window by MXNet's rules; infinite for an empty one, ``None`` where they fail."""
    inside = counts[start:stop]
    groups = np.minimum(np.arange(inside.size) // (inside.size // levels), levels - 1)
    spread = inside > 0
    spread[-1] = False  # MXNet's last group ends one bin early
    filled = np.bincount(groups, spread, levels)
    q = np.where(spread, (np.bincount(groups, inside, levels) / np.maximum(filled, 1))[groups], 0.0)
    p = _smooth(_with_outliers(counts, start, stop))
    if p is None:
        return None
    if not q.any():
        return float("inf")
    smoothed = _smooth(q)
    if smoothed is None:
        return None
    p, q = p / p.sum(), smoothed / smoothed.sum()
    return float(np.sum(p * np.log(p / q)))


def _smooth(counts: Reals) -> Reals | None:
    """Give every empty bin `EPSILON` and take as much off the others in all; ``None`` where nothing would be left."""
    empty = counts == 0
    share = EPSILON * np.count_nonzero(empty) / np.count_nonzero(~empty)
    smoothed = np.where(empty, EPSILON, counts - share)
    return None if share >= 1 or (smoothed <= 0).any() else smoothed
