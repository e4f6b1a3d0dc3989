"""Activation splitting that knows its batch: the upper bound of the OCS paper (section 5.3, table 4), an experiment.

Not for deployment and not to be priced: channels, activation grids and so the Program are made anew for every batch.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from numpy.typing import NDArray

from quant.graph import Graph
from quant.lower import Quantized
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe


def quantize_per_batch(
    graph: Graph, batches: Iterable[NDArray[Any]], recipe: Recipe, ratio: float
) -> Iterator[tuple[Quantized, NDArray[Any]]]:
    """Yield one Program per batch, calibrated on the batch itself, with its widest channels halved.

    Parameters
    ----------
    graph
        As captured.
    batches
        What is evaluated; the paper varies their size from 1 to 128.
    recipe
        Everything else. Its own transforms come first, weight splitting apart, which comes last.
    ratio
        Expansion ratio of the activations; 0 gives the grids of the batch without splits, to compare with.

    Yields
    ------
    Quantized, batch
    """
    split = SplitActivations(ratio=ratio, oracle=True)
    before = tuple(t for t in recipe.transforms if t.name != "ocs")
    after = tuple(t for t in recipe.transforms if t.name == "ocs")
    dynamic = dataclasses.replace(recipe, transforms=(*before, split, *after))
    for batch in batches:
        yield quantize_network(graph, lambda one=batch: [one], dynamic), batch  # type: ignore[misc]
