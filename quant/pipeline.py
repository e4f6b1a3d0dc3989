"""From a captured network to its integers: fold, transform, calibrate, lower."""

from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import NDArray

from quant.bias_correction import correct_biases
from quant.fold import fold_batch_norm
from quant.graph import Graph
from quant.lower import Quantized, lower
from quant.observe import Stats, observe
from quant.recipe import Recipe, protected_layers
from quant.transform import Context

Batches = Callable[[], Iterable[NDArray[Any]]]


def prepare(graph: Graph, recipe: Recipe, calibration: Batches | None = None, *, seed: int = 0) -> Graph:
    """Fold batch norms and apply the recipe's transforms; the float function is unchanged.

    Raises
    ------
    ValueError
        Where a transform looks at activations and no calibration samples are given.
    """
    folded = fold_batch_norm(graph)
    context = Context(protected=protected_layers(folded, recipe), calibration=calibration, seed=seed)
    for transform in recipe.transforms:
        folded = transform(folded, context)
    return folded.check()


def quantize_network(graph: Graph, calibration: Batches, recipe: Recipe, *, seed: int = 0) -> Quantized:
    """Quantize a captured network.

    Parameters
    ----------
    graph
        As captured.
    calibration
        Gives the calibration batches anew at each call.
    recipe
        What to do.
    seed
        Of the sample of values that clip rules look at.

    Raises
    ------
    ValueError
        For a network, recipe or calibration set that cannot be quantized.
    """
    ready = prepare(graph, recipe, calibration, seed=seed)
    stats = observe_for(ready, calibration, seed)
    if recipe.bias_correction:  # notes, which leave the float function and what was observed as they are
        ready = correct_biases(ready, calibration(), recipe)
    return lower(ready, stats, recipe)


def observe_for(graph: Graph, calibration: Batches, seed: int = 0) -> Stats:
    """Observe every tensor of a graph over the calibration batches."""
    return observe(graph, calibration(), seed=seed)
