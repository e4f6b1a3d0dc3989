"""Clip thresholds: from values to the alpha beyond which a grid saturates. The rules that there are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quant.aciq import Aciq
from quant.clip_rule import ClipInput, ClipRule, Reals
from quant.kl import Kl
from quant.mse import Mse

__all__ = ["CLIPS", "Aciq", "ClipInput", "ClipRule", "Kl", "Max", "Mse", "Percentile"]


@dataclass(frozen=True)
class Max:
    """No clipping: alpha is the largest magnitude."""

    name: ClassVar[str] = "max"
    source: ClassVar[str] = "linear quantization without clipping"

    def __call__(self, data: ClipInput) -> Reals:
        """Return the largest magnitudes."""
        return data.absmax.astype(np.float64)


@dataclass(frozen=True)
class Percentile:
    """Alpha is a percentile of the magnitudes: always an observed value; 100 is the maximum.

    Where the percentile is zero (sparse values) alpha is the smallest magnitude above zero.

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

    def __call__(self, data: ClipInput) -> Reals:
        """Return the percentile of each row's magnitudes."""
        if self.percent == 100:
            return data.absmax.astype(np.float64)
        sizes = np.abs(data.values)
        alpha = np.percentile(sizes, self.percent, axis=1, method="higher").astype(np.float64)
        for row in np.flatnonzero(alpha == 0):
            alpha[row] = np.min(sizes[row], where=sizes[row] > 0, initial=data.absmax[row])
        return np.minimum(alpha, data.absmax)


CLIPS: dict[str, Callable[[], ClipRule]] = {
    "max": Max,
    "percentile": Percentile,
    "mse": Mse,
    "aciq": Aciq,
    "aciq-gauss": lambda: Aciq(prior="gauss"),
    "aciq-laplace": lambda: Aciq(prior="laplace"),
    "aciq-published": lambda: Aciq("published"),
    "aciq-ocs-paper": lambda: Aciq("ocs-paper"),
    "kl": Kl,
    "kl-mxnet": lambda: Kl(mxnet_compat=True),
}
"""Rules by name."""
