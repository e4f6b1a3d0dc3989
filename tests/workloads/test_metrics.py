"""The figures and their standard errors are what their definitions say."""

import math

import numpy as np
import pytest

from workloads import IGNORED, METRICS


def test_top1_is_the_share_of_right_answers():
    outputs = np.array([[0.0, 1.0], [3.0, 2.0], [1.0, 1.0], [0.0, 5.0]])
    tallies = METRICS["top1"].tally(outputs, np.array([1, 1, 0, 1]))
    assert METRICS["top1"].value(tallies) == 0.75
    assert METRICS["top1"].standard_error(tallies) == pytest.approx(math.sqrt(0.75 * 0.25 / 3))


def test_perplexity_and_bits_average_over_the_labels_that_count(rng: np.random.Generator):
    outputs = rng.normal(size=(3, 5, 7)).astype(np.float32)
    labels = rng.integers(0, 7, size=(3, 5))
    labels[0, :4] = IGNORED
    losses = []
    for b in range(3):
        for t in range(5):
            if labels[b, t] != IGNORED:
                row = [math.exp(float(v)) for v in outputs[b, t]]
                losses.append(-math.log(row[labels[b, t]] / sum(row)))
    mean = sum(losses) / len(losses)
    assert METRICS["perplexity"].value(METRICS["perplexity"].tally(outputs, labels)) == pytest.approx(math.exp(mean))
    bits = METRICS["bits_per_char"]
    assert bits.value(bits.tally(outputs, labels)) == pytest.approx(mean / math.log(2))


def test_large_logits_do_not_overflow():
    tallies = METRICS["perplexity"].tally(np.array([[[1e4, -1e4]]]), np.array([[0]]))
    assert METRICS["perplexity"].value(tallies) == pytest.approx(1.0)


def tallies_of(name: str, noise: np.ndarray) -> np.ndarray:
    """Return tallies of 400 samples, the same but for noise in their first column."""
    drawn = np.random.default_rng(5)
    first, positive = drawn.uniform(0, 1, 400), np.arange(400) % 3 == 0
    if name == "auc":
        return np.stack([first + 0.5 * positive + noise, np.where(positive, 1, -1) * np.arange(1.0, 401.0)], axis=1)
    return np.stack([first + noise, np.ones(400)], axis=1)


@pytest.mark.parametrize("name", METRICS)
def test_a_paired_error_is_zero_against_itself_and_smaller_than_an_unpaired_one(name: str, rng: np.random.Generator):
    metric = METRICS[name]
    tallies, near = tallies_of(name, np.zeros(400)), tallies_of(name, rng.normal(0, 0.01, 400))
    assert metric.paired_error(tallies, tallies) == 0
    assert 0 < metric.paired_error(tallies, near) < metric.standard_error(tallies)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"auc"}))
def test_one_sample_has_no_error(name: str):
    assert METRICS[name].standard_error(tallies_of(name, np.zeros(400))[:1]) == 0


def test_a_standard_error_predicts_the_spread_over_fresh_samples(rng: np.random.Generator):
    metric = METRICS["perplexity"]

    def draw() -> np.ndarray:
        counts = rng.integers(1, 9, 200).astype(np.float64)
        return np.stack([counts * rng.uniform(0, 2, 200), counts], axis=1)

    spread = np.std([metric.value(draw()) for _ in range(400)])
    assert metric.standard_error(draw()) == pytest.approx(spread, rel=0.25)


def test_tallies_that_count_nothing_are_refused():
    with pytest.raises(ValueError, match="must count something"):
        METRICS["perplexity"].value(np.zeros((2, 2)))
