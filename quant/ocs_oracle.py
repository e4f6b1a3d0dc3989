"""Activation splitting that knows its batch: the upper bound of the OCS paper (section 5.3, table 4), an experiment.

Not for deployment: channels, activation grids and so the Program are made anew for every batch. Recipes that say so
(``act-ocs`` with ``oracle``) are exempt from cost: `check_priceable` refuses them.
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
    graph: Graph, batches: Iterable[NDArray[Any]], recipe: Recipe, ratio: float | None = None
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
        Expansion ratio of the activations; 0 gives the grids of the batch without splits, to compare with. Without
        one, the recipe's own transforms are applied as they are.

    Yields
    ------
    Quantized, batch
    """
    dynamic = recipe
    if ratio is not None:
        before = tuple(t for t in recipe.transforms if t.name != "ocs")
        after = tuple(t for t in recipe.transforms if t.name == "ocs")
        split = SplitActivations(ratio=ratio, oracle=True)
        dynamic = dataclasses.replace(recipe, transforms=(*before, split, *after))
    for batch in batches:
        yield quantize_network(graph, lambda one=batch: [one], dynamic), batch  # type: ignore[misc]


def check_priceable(recipe: Recipe) -> Recipe:
    """Return a recipe whose Program can be deployed, and so priced.

    Raises
    ------
    ValueError
        If it is an experiment.
    """
    if any(isinstance(t, SplitActivations) and t.oracle for t in recipe.transforms):
        raise ValueError(
            f"recipe {recipe.name} is an experiment (got {recipe.label()}): its Program knows the batch that it runs, "
            "so it has no price; use act-ocs without oracle"
        )
    return recipe
