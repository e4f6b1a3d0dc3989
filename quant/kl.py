"""The threshold whose quantized histogram diverges least from the values' own (Kullback and Leibler).

TensorRT's idea (Migacz, "8-bit inference with TensorRT", GTC 2017), in two forms: one that groups bins as the grid
does, and one that repeats the MXNet code which the OCS authors used.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.clip_rule import ClipInput, Reals

EPSILON = 1e-4
"""Count given to a bin that must not be empty, as in MXNet's smoothing."""


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
        low = 0.0 if data.unsigned else -top
        counts = np.histogram(values, self.bins, (low, top))[0].astype(np.float64)
        half = self.bins if data.unsigned else self.bins // 2
        width = top / (half if data.unsigned else half + 0.5)
        middle = 0 if data.unsigned else half
        centres = (np.arange(counts.size) - middle + (0.5 if data.unsigned else 0.0)) * width
        best, chosen = np.inf, top
        for i in range(half, min(data.levels, half) - 1, -1):
            window = slice(0 if data.unsigned else middle - i, i if data.unsigned else middle + i + 1)
            alpha = top if i == half else (i if data.unsigned else i + 0.5) * width
            codes = np.rint(centres[window] * (data.levels / alpha)).astype(np.int64)
            found = _divergence(counts, window, codes)
            if found < best:
                best, chosen = found, alpha
        return chosen

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


def _divergence(counts: Reals, window: slice, codes: NDArray[np.int64]) -> float:
    """Return KL(p || q), less its expectation by chance, of one window whose bins have the given ascending codes.

    The likelihood ratio of N values in so many filled bins against their levels has, by Wilks's theorem, the mean of a
    chi-squared variable: 2N·KL is (filled bins - filled levels) on average where the levels are the truth.
    """
    inside = counts[window]
    if not inside.any():
        return float("inf")
    p = _with_outliers(counts, window.start, window.stop)
    groups = codes - codes[0]
    totals = np.bincount(groups, inside)
    filled = np.bincount(groups, inside > 0)
    q = np.where(inside > 0, (totals / np.maximum(filled, 1))[groups], EPSILON)
    held = p > 0
    by_chance = (np.count_nonzero(filled) - np.count_nonzero(inside)) / (2 * p.sum())
    p, q = p / p.sum(), q / q[held].sum()
    return float(np.sum(p[held] * np.log(p[held] / q[held])) + by_chance)


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
