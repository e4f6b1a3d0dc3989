"""Numbers a network is judged by, from its outputs and the labels.

Every metric tallies each sample in two numbers; tallies of batches are concatenated. Most tally a total and the
count it is a total of, take the ratio of the sums, and apply a monotone function; the area under a curve ranks all
samples. Standard errors come from how the terms of a figure differ from sample to sample (tokens of one text are not
independent, samples are).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workloads.base import IGNORED
from workloads.roc import area, area_terms, reconstruction_tally


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
        (outputs [B, classes] or [B, T, classes], labels [B] or [B, T]) -> float64 [B, 2], two numbers of each sample.
    value
        The figure, from the tallies [N, 2] of all samples.
    terms
        What independent samples move the figure by, to first order, from the same tallies: one array for each kind of
        sample that is averaged apart.
    """

    name: str
    higher_is_better: bool
    tally: Callable[[np.ndarray, np.ndarray], np.ndarray]
    value: Callable[[np.ndarray], float]
    terms: Callable[[np.ndarray], tuple[np.ndarray, ...]]

    def standard_error(self, tallies: np.ndarray) -> float:
        """Return the standard error of the figure (0.0 for a single sample)."""
        return _error(self.terms(tallies))

    def paired_error(self, tallies: np.ndarray, others: np.ndarray) -> float:
        """Return the standard error of the difference of two networks' figures on the same samples."""
        pairs = zip(self.terms(tallies), self.terms(others), strict=True)
        return _error(tuple(ours - theirs for ours, theirs in pairs))


def _ratio_metric(
    name: str,
    higher_is_better: bool,
    tally: Callable[[np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[float], float],
    slope: Callable[[float], float],
) -> Metric:
    """Return a function of the ratio of all totals to all counts; `slope` is its derivative."""

    def value(tallies: np.ndarray) -> float:
        return finish(_ratio(tallies))

    def terms(tallies: np.ndarray) -> tuple[np.ndarray, ...]:
        ratio = _ratio(tallies)  # a ratio estimator's residuals
        residuals = (tallies[:, 0] - ratio * tallies[:, 1]) / float(np.mean(tallies[:, 1]))
        return (slope(ratio) * residuals,)

    return Metric(name=name, higher_is_better=higher_is_better, tally=tally, value=value, terms=terms)


def _ratio(tallies: np.ndarray) -> float:
    """Return the sum of totals over the sum of counts."""
    total, count = np.sum(tallies, axis=0)
    if not count > 0:
        raise ValueError("Metric tallies must count something (got no counted labels); evaluate more samples")
    return float(total / count)


def _error(terms: tuple[np.ndarray, ...]) -> float:
    """Return the standard error of a sum of means of independent terms."""
    return math.sqrt(sum(float(np.var(part, ddof=1)) / len(part) for part in terms if len(part) > 1))


def _within(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels, all of which are class ids; ValueError otherwise."""
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"labels y must be within 0..{classes - 1}, the network's classes (got {labels.min()}..{labels.max()}); "
            "give class ids as the network counts them"
        )
    return labels


def _correct(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tally right answers: the largest output (the first of equals) is the label's."""
    right = (np.argmax(outputs, axis=-1) == _within(labels, outputs.shape[-1])).astype(np.float64)
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
    picked = np.take_along_axis(logits, _within(np.where(counted, labels, 0), logits.shape[-1])[..., None], axis=-1)[
        ..., 0
    ]
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
        _ratio_metric("top1", True, _correct, _same, _one),
        _ratio_metric("agreement", True, _agreement, _same, _one),
        _ratio_metric("bits_per_char", False, _negative_log_likelihood, _bits, _per_bit),
        _ratio_metric("perplexity", False, _negative_log_likelihood, math.exp, math.exp),
        Metric(name="auc", higher_is_better=True, tally=reconstruction_tally, value=area, terms=area_terms),
    )
}
