"""The area under the curve is scikit-learn's; its errors are what fresh samples and the literature's formulas say."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from workloads import METRICS
from workloads.roc import reconstruction_tally

AUC = METRICS["auc"]


def tallies(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return tallies of groups of one sample each."""
    return np.stack([scores, np.where(labels == 1, 1, -1) * np.arange(1.0, len(labels) + 1)], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, 60), [0, 1])
    scores = np.round(rng.normal(labels, 1.0), 1)  # ties among them
    assert AUC.value(tallies(scores, labels)) == pytest.approx(roc_auc_score(labels, scores))


def test_groups_are_scored_by_the_mean_error_of_their_samples() -> None:
    labels = np.array([[0, 7, 0, 0], [0, 7, 0, 0], [1, 3, 0, 0], [1, 3, 0, 0]], dtype=np.float32)
    outputs = np.array([[1.0, 1], [3, 3], [2.4, 2.4], [2.4, 2.4]])  # errors 1 and 9, mean 5, against 5.76
    found = AUC.tally(outputs, labels)
    np.testing.assert_allclose(found, [[1, -8], [9, -8], [5.76, 4], [5.76, 4]])
    assert AUC.value(found) == 1.0
    assert AUC.value(AUC.tally(outputs[[0, 1, 0, 0]], labels)) == 0.0


def naive_error(scores: np.ndarray, labels: np.ndarray, others: np.ndarray) -> float:
    """Return DeLong's error of the difference of two areas, by loops over all pairs."""

    def wins(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    variance = 0.0
    for mine, rest, flip in ((positive, negative, False), (negative, positive, True)):
        parts = []
        for i in mine:
            difference = 0.0
            for values, sign in ((scores, 1), (others, -1)):
                for j in rest:
                    pair = (values[j], values[i]) if flip else (values[i], values[j])
                    difference += sign * wins(*pair) / len(rest)
            parts.append(difference)
        mean = sum(parts) / len(parts)
        variance += sum((part - mean) ** 2 for part in parts) / (len(parts) - 1) / len(parts)
    return float(variance**0.5)


def test_errors_are_delong_s() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    ours = np.round(rng.normal(labels, 1.0), 1)
    theirs = np.round(ours + rng.normal(0, 0.4, 40), 1)
    paired = AUC.paired_error(tallies(ours, labels), tallies(theirs, labels))
    assert paired == pytest.approx(naive_error(ours, labels, theirs))
    assert AUC.standard_error(tallies(ours, labels)) == pytest.approx(naive_error(ours, labels, np.zeros(40)))


def test_the_error_predicts_the_spread_over_fresh_samples() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(120) % 3 == 0

    def draw() -> np.ndarray:
        return tallies(rng.normal(1.2 * labels, 1.0), labels)

    spread = np.std([AUC.value(draw()) for _ in range(500)])
    assert np.mean([AUC.standard_error(draw()) for _ in range(50)]) == pytest.approx(spread, rel=0.12)


def test_the_area_needs_both_labels_and_a_reconstruction() -> None:
    with pytest.raises(ValueError, match="needs samples of both labels"):
        AUC.value(tallies(np.ones(3), np.zeros(3)))
    with pytest.raises(ValueError, match=r"640 values \(got 10\)"):
        reconstruction_tally(np.zeros((2, 10)), np.zeros((2, 642), np.float32))
