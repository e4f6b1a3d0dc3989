"""The threshold of least squared error among evenly spaced candidates, found exactly and fast."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quant.clip_rule import ClipInput, Reals, squared_error

_FEW_LEVELS = 1 << 11
"""Up to so many levels a candidate's error comes from sums over bins; beyond, these would lose digits."""


@dataclass(frozen=True)
class Mse:
    """Alpha minimizes the squared error over `candidates` evenly spaced fractions of the maximum, 1 among them.

    The paper's search with two changes, which make "never worse than no clipping" true: the maximum itself is a
    candidate, and errors are those of the values, not of the centres of a histogram's bins. Of equal errors the
    largest threshold wins.

    Parameters
    ----------
    candidates
        Number of thresholds tried; 100 as in the OCS authors' code, which leaves the last out.
    """

    candidates: int = 100

    name: ClassVar[str] = "mse"
    source: ClassVar[str] = "Zhao et al., ICML 2019, eq. 9 (after Sung et al., arXiv:1511.06488)"

    def __post_init__(self) -> None:
        """Refuse a search without candidates."""
        if self.candidates < 1:
            raise ValueError(f"mse candidates must be >= 1 (got {self.candidates}); 100 is usual")

    def __call__(self, data: ClipInput) -> Reals:
        """Return the threshold of least error of each row."""
        best = np.array([self._best(data, row) for row in range(data.values.shape[0])])
        better = squared_error(data, best) < squared_error(data, data.absmax)
        return np.where(better, best, data.absmax)

    def _best(self, data: ClipInput, row: int) -> float:
        """Return one row's candidate of least error."""
        top, values = float(data.absmax[row]), data.values[row]
        if not values.any():
            return top
        search = _Search(values, data.levels)
        shares = np.arange(self.candidates, 0, -1) / self.candidates
        alphas = top * shares
        # What is cut off is a lower bound of the error, and it grows as alpha falls: few candidates survive it.
        limit = float(search.errors(alphas[:1])[0])
        alphas = alphas[: 1 + int(np.count_nonzero(search.cut(alphas[1:]) < limit))]
        return float(alphas[np.argmin(search.errors(alphas))])


class _Search:
    """Sorted magnitudes of one row with their running sums; gives the error of any threshold."""

    def __init__(self, values: np.ndarray, levels: int) -> None:
        self.sizes = np.sort(np.abs(values))
        wide = self.sizes.astype(np.float64)
        self.levels, self.n = levels, wide.size
        self.sums = np.concatenate([[0.0], np.cumsum(wide)])
        self.squares = np.concatenate([[0.0], np.cumsum(wide * wide)])

    def cut(self, alphas: Reals) -> Reals:
        """Return the squared error of the values beyond each threshold."""
        place = np.searchsorted(self.sizes, alphas)
        beyond = self.squares[-1] - self.squares[place]
        return beyond - 2 * alphas * (self.sums[-1] - self.sums[place]) + alphas * alphas * (self.n - place)

    def errors(self, alphas: Reals) -> Reals:
        """Return the squared error of each threshold."""
        if self.levels > min(_FEW_LEVELS, 16 * self.n):
            single = self.sizes.astype(np.float64)
            return np.array([_direct(single, alpha / self.levels, self.levels) for alpha in alphas])
        at_once = max(1, (1 << 20) // self.levels)
        parts = [self._by_bins(alphas[i : i + at_once]) for i in range(0, alphas.size, at_once)]
        return np.concatenate(parts)

    def _by_bins(self, alphas: Reals) -> Reals:
        """Sum over bins: those at least (j - 1/2) steps large get code j or more.

        With N_j of these and S_j their sum, Σ x·code = Σ_j S_j and Σ code² = Σ_j (2j - 1)·N_j.
        """
        steps = alphas / self.levels
        codes = np.arange(1, self.levels + 1)
        place = np.searchsorted(self.sizes, (codes - 0.5) * steps[:, None])
        products = (self.sums[-1] - self.sums[place]).sum(axis=1)
        coded = ((2 * codes - 1.0) * (self.n - place)).sum(axis=1)
        return self.squares[-1] - 2 * steps * products + steps * steps * coded


def _direct(sizes: Reals, step: float, levels: int) -> float:
    error = np.minimum(np.rint(sizes / step), levels) * step - sizes
    return float(error @ error)
