"""Area under the receiver operating characteristic, from how well a network reconstructs its input.

A group is what has a label (a clip of a machine's sound), its samples are windows of it; its score is the mean squared
reconstruction error over its windows, as MLPerf Tiny scores anomaly detection (Banbury et al., arXiv 2106.07597,
section 4). A row of labels is ``[label, group, target ...]``, float32; label 1 is an anomaly.
"""

import numpy as np


def reconstruction_tally(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (mean squared error, signed group) of every sample, float64 [B, 2].

    The signed group is the group's number counted from 1, negative for groups that are no anomaly.

    Parameters
    ----------
    outputs
        Reconstructions [B, ...].
    labels
        [B, 2 + features].

    Raises
    ------
    ValueError
        If the outputs are not as many values as the targets.
    """
    flat = outputs.reshape(len(outputs), -1)
    if flat.shape[1] != labels.shape[1] - 2:
        raise ValueError(
            f"metric auc compares outputs with what they reconstruct: {labels.shape[1] - 2} values (got "
            f"{flat.shape[1]}); give a network that reconstructs its input"
        )
    errors = ((labels[:, 2:].astype(np.float64) - flat) ** 2).mean(axis=1)
    signs = np.where(labels[:, 0] == 1, 1.0, -1.0)
    return np.stack([errors, signs * (labels[:, 1] + 1.0)], axis=1)


def group_scores(tallies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of positive groups and of negative ones, each in a fixed order of groups."""
    groups, place = np.unique(tallies[:, 1], return_inverse=True)
    scores = np.bincount(place, weights=tallies[:, 0]) / np.bincount(place)
    positive = groups > 0
    if positive.all() or not positive.any():
        raise ValueError("metric auc needs samples of both labels; evaluate more of them")
    return scores[positive], scores[~positive]


def placements(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the share of `others` that each score is above, ties counting half."""
    ordered = np.sort(others)
    sides = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return sides / (2 * len(ordered))


def area(tallies: np.ndarray) -> float:
    """Return the probability that a positive scores above a negative (Mann and Whitney's U over all pairs).

    Raises
    ------
    ValueError
        If all labels are the same.
    """
    return float(placements(*group_scores(tallies)).mean())


def area_terms(tallies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the area's structural components: one per positive group, and one per negative group.

    The area is the mean of either; its variance is the sum of the variances of both means. DeLong, DeLong and
    Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic curves",
    Biometrics 44(3), 1988, equations 4 to 6; their covariance of two networks on the same groups is that of the
    components, so differences of components give the paired error.
    """
    positive, negative = group_scores(tallies)
    return placements(positive, negative), 1 - placements(negative, positive)
