"""What a clip rule is, what it looks at, and the error that a threshold causes.

A rule is a frozen value, called with rows of values (one row per tensor, or per channel) and giving one threshold a
row, never above the row's largest magnitude and above zero wherever the row is not all zeros.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]
Reals = NDArray[np.float64]

_BLOCK = 1 << 20
"""Values whose errors are computed at once: bounds the memory of the temporaries."""


@dataclass(frozen=True, eq=False)
class ClipInput:
    """What a clip rule looks at.

    Parameters
    ----------
    values
        float ``[rows, n]``.
    absmax
        Largest magnitude of each row, exact even where `values` is a sample, float64 ``[rows]``.
    bits
        Of the grid.
    unsigned
        Whether the grid is ``[0, alpha]``, for values that are never negative.
    """

    values: Rows
    absmax: Reals
    bits: int
    unsigned: bool = False

    @property
    def levels(self) -> int:
        """Number of steps between zero and alpha: n = 2**(bits-1) - 1, or 2**bits - 1 on an unsigned grid."""
        return 2**self.bits - 1 if self.unsigned else 2 ** (self.bits - 1) - 1


class ClipRule(Protocol):
    """A way to choose thresholds."""

    @property
    def name(self) -> str:
        """Key in `quant.clip.CLIPS`."""
        ...

    @property
    def source(self) -> str:
        """Where the rule comes from."""
        ...

    def __call__(self, data: ClipInput) -> Reals:
        """Return one threshold a row, within ``0 <= alpha <= absmax``."""
        ...


def squared_error(data: ClipInput, alpha: Reals) -> Reals:
    """Return the summed squared error of rounding and clipping on the grid of threshold `alpha`, per row.

    Evaluated on the values themselves, in float64. A tie's error is the same whichever way it is rounded.

    Parameters
    ----------
    data
        Values and grid.
    alpha
        float64 ``[rows]``; zero stands for 1, as in `quant.grid`.
    """
    steps = np.where(alpha > 0, alpha, 1.0) / data.levels
    rows, n = data.values.shape
    total = np.zeros(rows)
    if n == 0:
        return total
    if n >= _BLOCK:
        for row in range(rows):
            for start in range(0, n, _BLOCK):
                total[row] += _errors(data, data.values[row : row + 1, start : start + _BLOCK], steps[row : row + 1])[0]
        return total
    together = max(1, _BLOCK // n)
    for first in range(0, rows, together):
        part = slice(first, first + together)
        total[part] = _errors(data, data.values[part], steps[part])
    return total


def _errors(data: ClipInput, values: Rows, steps: Reals) -> Reals:
    wide = values.astype(np.float64)
    codes = np.rint(wide / steps[:, None])
    np.clip(codes, 0 if data.unsigned else -data.levels, data.levels, out=codes)
    codes *= steps[:, None]
    wide -= codes
    return np.asarray(np.einsum("rn,rn->r", wide, wide))
