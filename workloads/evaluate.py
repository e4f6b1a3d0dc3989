"""A float network's outputs on samples, batch by batch."""

import numpy as np
import torch
from torch import nn

from workloads.base import Samples
from workloads.metrics import Metric


def evaluate(
    net: nn.Module, samples: Samples, metric: Metric, indices: np.ndarray | None = None, batch: int = 50
) -> np.ndarray:
    """Run a network in float.

    Parameters
    ----------
    net
        A module in eval mode.
    samples
        Its inputs and labels.
    metric
        What to tally.
    indices
        Samples to run; None for all that may be evaluated.
    batch
        Samples at a time.

    Returns
    -------
    tallies
        float64 [N, 2], for ``metric.value`` and ``metric.standard_error``.
    """
    if indices is None:
        indices = np.arange(len(samples) if samples.evaluable is None else samples.evaluable)
    parts = []
    with torch.inference_mode():
        for at in range(0, len(indices), batch):
            chosen = indices[at : at + batch]
            outputs = net(torch.from_numpy(samples.batch(chosen))).numpy()
            parts.append(metric.tally(outputs, samples.labels(chosen)))
    return np.concatenate(parts)
