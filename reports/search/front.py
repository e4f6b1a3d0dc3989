"""Pareto fronts: which losses no other ones beat, and how much of the space they beat."""

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]


def non_dominated(losses: Losses) -> NDArray[np.bool_]:
    """Tell which rows no other row dominates: nowhere larger, somewhere smaller.

    Parameters
    ----------
    losses
        ``[designs, objectives]``, less is better. Rows that are equal do not dominate each other.
    """
    kept = np.ones(len(losses), dtype=bool)
    for place, row in enumerate(losses):
        others = losses[kept]
        kept[place] = not np.any(np.all(others <= row, axis=1) & np.any(others < row, axis=1))
    return kept


def hypervolume(losses: Losses, reference: Losses) -> float:
    """Return the volume that designs dominate, as far as a reference point.

    Exact, by slicing along the last objective (While et al., "A faster algorithm for calculating hypervolume", IEEE
    Trans. Evolutionary Computation 10(1), 2006, section III). Designs beyond the reference count for nothing.

    Parameters
    ----------
    losses
        ``[designs, objectives]``, less is better.
    reference
        ``[objectives]``, worse than every design that is to count.
    """
    inside = losses[np.all(losses < reference, axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    edges = np.append(inside[:, -1], reference[-1])
    if inside.shape[1] == 2:
        return float(np.diff(edges) @ (reference[0] - np.minimum.accumulate(inside[:, 0])))
    total = 0.0
    for place in range(len(inside)):
        thickness = edges[place + 1] - edges[place]
        if thickness > 0:
            below = inside[: place + 1, :-1]
            total += thickness * hypervolume(below[non_dominated(below)], reference[:-1])
    return float(total)
