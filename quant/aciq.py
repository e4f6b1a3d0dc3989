"""ACIQ: the threshold that is best for a bell-shaped tensor, from one number that describes its width.

Banner et al., "ACIQ: Analytical Clipping for Integer Quantization of neural networks" (arXiv:1810.05723): the tensor is
taken for a sample of a Gaussian or Laplace density; the threshold of least expected squared error is then a multiple,
fixed for each width, of the standard deviation or of the mean absolute deviation b.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quant.clip_rule import ClipInput, Reals, squared_error

GAUSS_OPTIMAL = (
    1.2240, 1.9523, 2.4739, 2.8987, 3.2701, 3.6075, 3.9205, 4.2147, 4.4934, 4.7589, 5.0130, 5.2570, 5.4920, 5.7188,
    5.9382, 6.1509,
)  # fmt: skip
LAPLACE_OPTIMAL = (
    2.0000, 3.4864, 4.8199, 6.0980, 7.3586, 8.6178, 9.8827, 11.1555, 12.4370, 13.7266, 15.0236, 16.3271, 17.6365,
    18.9510, 20.2701, 21.5932,
)  # fmt: skip
"""Multipliers of the grid with codes -n..n, n = 2**(bits-1) - 1, for 2..17 bits: where the expected squared error of
rounding and clipping on exactly this grid is least (computed; the tests compute it anew). The grid 0..2**bits - 1 of a
tensor that is never negative has the n of one bit more, hence the last entry."""

GAUSS_PUBLISHED = (1.71, 2.15, 2.55, 2.93, 3.28, 3.61, 3.92, 4.2)
LAPLACE_PUBLISHED = (2.83, 3.89, 5.03, 6.2, 7.41, 8.64, 9.89, 11.16)
"""Multipliers in the ACIQ authors' code (github.com/submission2019/cnn-quantization, int_quantizer.py) for 2..9 bits;
the last is their 8-bit entry for tensors that are never negative, which take the entry of one bit more."""

GAUSS_OCS = (1.47818312, 1.80489289, 2.19227856, 2.57733584, 2.94451183, 3.29076248, 3.61691335)
LAPLACE_OCS = (2.33152939, 3.04528770, 4.00378631, 5.08252088, 6.23211675, 7.42700429, 8.65265030)
"""Multipliers in the OCS authors' code (github.com/cornell-zhang/dnn-quant-ocs, clip.py) for 2..8 bits, which clip
harder than is best from 4 bits on."""

RANGE_TO_SIGMA = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4)))
"""The OCS authors' estimate: sigma = (max - min) · this / sqrt(2 ln N)."""

Table = Literal["optimal", "published", "ocs-paper"]
Prior = Literal["auto", "gauss", "laplace"]


@dataclass(frozen=True)
class Aciq:
    """Alpha is a multiple of the tensor's spread, at most its maximum.

    Parameters
    ----------
    table
        ``optimal`` for this package's grids; ``published`` from the ACIQ authors' code; ``ocs-paper``, the
        multipliers and the range-based sigma of the OCS authors' code, which knows no one-sided grid.
    prior
        ``gauss`` or ``laplace``; ``auto`` takes whichever threshold has the smaller squared error on the values.

    Notes
    -----
    Spread is measured about the mean and the mean's magnitude added, the form of ``|mean| + alpha`` for grids that are
    symmetric about zero (``ocs-paper`` does not add it). On unsigned grids ``optimal`` takes the values above zero for
    one half of a density that is symmetric about zero: b is their mean, sigma their root mean square.
    """

    table: Table = "optimal"
    prior: Prior = "auto"

    def __post_init__(self) -> None:
        """Refuse tables and priors that do not exist."""
        if self.table not in TABLES:
            raise ValueError(f"aciq table must be one of {', '.join(TABLES)} (got {self.table!r}); optimal is usual")
        if self.prior not in ("auto", "gauss", "laplace"):
            raise ValueError(f"aciq prior must be auto, gauss or laplace (got {self.prior!r}); auto is usual")

    @property
    def name(self) -> str:
        """Return the rule's key, e.g. ``aciq``, ``aciq-published`` or ``aciq-laplace``."""
        parts = ["aciq", "" if self.table == "optimal" else self.table, "" if self.prior == "auto" else self.prior]
        return "-".join(part for part in parts if part)

    @property
    def source(self) -> str:
        """Return the papers."""
        return "Banner et al., arXiv:1810.05723" + (
            "; multipliers of Zhao et al., ICML 2019" if self.table == "ocs-paper" else ""
        )

    def __call__(self, data: ClipInput) -> Reals:
        """Return each row's threshold.

        Raises
        ------
        ValueError
            For a width that the table has no entry for.
        """
        gauss, laplace = (np.minimum(alpha, data.absmax) for alpha in self._thresholds(data))
        if self.prior != "auto":
            return gauss if self.prior == "gauss" else laplace
        return np.where(squared_error(data, gauss) < squared_error(data, laplace), gauss, laplace)

    def _thresholds(self, data: ClipInput) -> tuple[Reals, Reals]:
        gauss, laplace = TABLES[self.table]
        entry = data.bits - 2 + (1 if data.unsigned and self.table != "ocs-paper" else 0)
        if entry >= len(gauss):
            raise ValueError(
                f"aciq table {self.table!r} must have the width (got {data.bits} bits, it ends at "
                f"{len(gauss) + 1 - (entry - data.bits + 2)}); use table optimal"
            )
        values = data.values.astype(np.float64)
        if data.unsigned and self.table == "optimal":
            count = np.maximum(1, np.count_nonzero(values > 0, axis=1))
            sigma = np.sqrt((values * values).sum(axis=1) / count)
            offset, b = np.zeros(1), values.sum(axis=1) / count
        else:
            mean = values.mean(axis=1)
            offset = np.zeros(1) if self.table == "ocs-paper" else np.abs(mean)
            b = np.abs(values - mean[:, None]).mean(axis=1)
            sigma = _sigma_from_range(values) if self.table == "ocs-paper" else values.std(axis=1)
        alphas = [_positive(offset + m * width, data) for m, width in ((gauss[entry], sigma), (laplace[entry], b))]
        return alphas[0], alphas[1]


def _sigma_from_range(values: Reals) -> Reals:
    spread = values.max(axis=1) - values.min(axis=1)
    return np.asarray(spread * RANGE_TO_SIGMA / math.sqrt(2 * math.log(max(2, values.shape[1]))))


def _positive(alpha: Reals, data: ClipInput) -> Reals:
    """Return the maximum where a constant row has no spread and so no threshold of its own."""
    return np.where(alpha > 0, alpha, data.absmax)


TABLES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "optimal": (GAUSS_OPTIMAL, LAPLACE_OPTIMAL),
    "published": (GAUSS_PUBLISHED, LAPLACE_PUBLISHED),
    "ocs-paper": (GAUSS_OCS, LAPLACE_OCS),
}
"""(Gauss, Laplace) multipliers by table, from 2 bits on."""
