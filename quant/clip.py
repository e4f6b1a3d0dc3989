"""Clip thresholds: from values to the alpha beyond which a grid saturates.

A rule is a frozen value, called with rows of values (one row per tensor, or per channel) and giving one threshold a
row, never above the row's largest magnitude.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]


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
    absmax: NDArray[np.float64]
    bits: int
    unsigned: bool = False


class ClipRule(Protocol):
    """A way to choose thresholds."""

    name: ClassVar[str]
    source: ClassVar[str]

    def __call__(self, data: ClipInput) -> NDArray[np.float64]:
        """Return one threshold a row, within ``0 <= alpha <= absmax``."""
        ...


@dataclass(frozen=True)
class Max:
    """No clipping: alpha is the largest magnitude."""

    name: ClassVar[str] = "max"
    source: ClassVar[str] = "linear quantization without clipping"

    def __call__(self, data: ClipInput) -> NDArray[np.float64]:
        """Return the largest magnitudes."""
        return data.absmax.astype(np.float64)


@dataclass(frozen=True)
class Percentile:
    """Alpha is a percentile of the magnitudes: always an observed value; 100 is the maximum.

    Parameters
    ----------
    percent
        Within (0, 100].
    """

    percent: float = 99.99

    name: ClassVar[str] = "percentile"
    source: ClassVar[str] = "McKinstry et al., arXiv:1809.04191; interpolation rule 'higher'"

    def __post_init__(self) -> None:
        """Refuse percentages outside (0, 100]."""
        if not 0 < self.percent <= 100:
            raise ValueError(f"percentile must be within (0, 100] (got {self.percent}); 99.99 is usual")

    def __call__(self, data: ClipInput) -> NDArray[np.float64]:
        """Return the percentile of each row's magnitudes."""
        if self.percent == 100:
            return data.absmax.astype(np.float64)
        alpha = np.percentile(np.abs(data.values), self.percent, axis=1, method="higher")
        return np.minimum(alpha.astype(np.float64), data.absmax)


CLIPS: dict[str, Callable[[], ClipRule]] = {rule.name: rule for rule in (Max, Percentile)}
