"""Numbers a network is judged by, from its outputs and the labels.

Every metric tallies each sample (a total, and the count it is a total of), takes the ratio of the sums, and
applies a monotone function. So tallies of batches are concatenated, and standard errors come from how the
tallies differ from sample to sample (tokens of one text are not independent, samples are).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workloads.base import IGNORED


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name
        Key in results.
    higher_is_better
        Direction.
    tally
        (outputs [B, classes] or [B, T, classes], labels [B] or [B, T]) -> float64 [B, 2]: total and count of
        each sample.
    finish
        The figure, from the ratio of all totals to all counts.
    slope
        Derivative of ``finish``, which carries a standard error of the ratio over to the figure.
    """

    name: str
    higher_is_better: bool
    tally: Callable[[np.ndarray, np.ndarray], np.ndarray]
    finish: Callable[[float], float]
    slope: Callable[[float], float]

    def value(self, tallies: np.ndarray) -> float:
        """Return the figure for the tallies [N, 2] of all samples."""
        return self.finish(_ratio(tallies))

    def standard_error(self, tallies: np.ndarray) -> float:
        """Return the standard error of the figure (0.0 for a single sample)."""
        return _error(self._influence(tallies))

    def paired_error(self, tallies: np.ndarray, others: np.ndarray) -> float:
        """Return the standard error of the difference of two networks' figures on the same samples."""
        return _error(self._influence(tallies) - self._influence(others))

    def _influence(self, tallies: np.ndarray) -> np.ndarray:
        """Return what each sample moves the figure by, to first order (a ratio estimator's residuals) [N]."""
        ratio = _ratio(tallies)
        residuals = (tallies[:, 0] - ratio * tallies[:, 1]) / float(np.mean(tallies[:, 1]))
        return self.slope(ratio) * residuals


def _ratio(tallies: np.ndarray) -> float:
    """Return the sum of totals over the sum of counts."""
    total, count = np.sum(tallies, axis=0)
    if not count > 0:
        raise ValueError("Metric tallies must count something (got no counted labels); evaluate more samples")
    return float(total / count)


def _error(influence: np.ndarray) -> float:
    """Return the standard error of a mean of independent terms."""
    return 0.0 if len(influence) < 2 else float(np.std(influence, ddof=1)) / math.sqrt(len(influence))


def _correct(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tally right answers: the largest output (the first of equals) is the label's."""
    right = (np.argmax(outputs, axis=-1) == labels).astype(np.float64)
    return np.stack([right, np.ones_like(right)], axis=1)


def _agreement(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tally answers equal to the labels, at every position where there are several."""
    same = (np.argmax(outputs, axis=-1) == labels).astype(np.float64).reshape(len(labels), -1)
    return np.stack([same.sum(axis=1), np.full(len(same), float(same.shape[1]))], axis=1)


def _negative_log_likelihood(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tally -ln softmax(outputs)[label] over the positions that count."""
    logits = outputs.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits).sum(axis=-1))
    counted = labels != IGNORED
    picked = np.take_along_axis(logits, np.where(counted, labels, 0)[..., None], axis=-1)[..., 0]
    losses = np.where(counted, log_sum - picked, 0.0)
    axes = tuple(range(1, labels.ndim))
    return np.stack([losses.sum(axis=axes), counted.sum(axis=axes).astype(np.float64)], axis=1)


def _same(mean: float) -> float:
    return mean


def _one(mean: float) -> float:
    return 1.0


def _bits(mean: float) -> float:
    return mean / math.log(2)


def _per_bit(mean: float) -> float:
    return 1 / math.log(2)


METRICS = {
    m.name: m
    for m in (
        Metric(name="top1", higher_is_better=True, tally=_correct, finish=_same, slope=_one),
        Metric(name="agreement", higher_is_better=True, tally=_agreement, finish=_same, slope=_one),
        Metric(
            name="bits_per_char",
            higher_is_better=False,
            tally=_negative_log_likelihood,
            finish=_bits,
            slope=_per_bit,
        ),
        Metric(
            name="perplexity",
            higher_is_better=False,
            tally=_negative_log_likelihood,
            finish=math.exp,
            slope=math.exp,
        ),
    )
}
