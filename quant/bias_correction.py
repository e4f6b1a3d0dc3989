"""Bias correction: what rounding the weights adds to a layer's mean output is taken off its bias.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721, section 4.2),
in its empirical form: E[W x] - E[Q(W) x] = (W - Q(W)) E[x], with the mean input of calibration samples. The float graph
keeps its function: corrections are notes, which lowering adds to the biases.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from quant.graph import Graph, Node, layers
from quant.lower_linear import CORRECTION, quantize_weights
from quant.lower_split import branch_weights
from quant.observe import Batches
from quant.recipe import Recipe, protected_layers
from quant.run import FLOAT_OPS, as_inputs, load_params, run
from quant.splitquant import BRANCH
from quant.tied import tied_layers

LAYERS = ("conv", "linear")


def mean_tensors(graph: Graph, batches: Batches, names: set[str]) -> Mapping[str, NDArray[np.float64]]:
    """Return the mean over samples of tensors, float64 of their shapes.

    Raises
    ------
    ValueError
        Without samples.
    """
    sums: dict[str, torch.Tensor] = {}
    params, samples = load_params(graph), 0

    def add(name: str, value: torch.Tensor) -> None:
        if name in names:
            total = value.double().sum(0) * (count / len(value))  # constants have one sample whatever the batch
            sums[name] = sums[name] + total if name in sums else total

    for batch in batches:
        inputs = as_inputs(graph, batch)
        count = len(inputs[graph.inputs[0].name])
        samples += count
        run(graph, inputs, observer=add, params=params)
    if samples == 0:
        raise ValueError(f"{graph.name}: calibration samples must be >= 1 (got 0); give at least one batch")
    return {name: (total / samples).numpy() for name, total in sums.items()}


def correct_biases(graph: Graph, batches: Batches, recipe: Recipe) -> Graph:
    """Return the graph with a correction noted on every convolution and linear layer.

    Parameters
    ----------
    graph
        Ready to be lowered: batch norms folded, transforms applied.
    batches
        Calibration samples.
    recipe
        What the graph will be lowered with; it decides the rounded weights.
    """
    found = layers(graph, LAYERS)
    means = mean_tensors(graph, batches, {node.inputs[0] for node in found})
    protected = protected_layers(graph, recipe)
    corrected = {
        node.name: node.with_notes(**{CORRECTION: mean_error(node, means[node.inputs[0]], recipe, protected)})
        for node in found
    }
    for group in tied_layers(graph):  # one bias: the mean over all that read it
        mean = np.mean([corrected[node.name].notes[CORRECTION] for node in group], axis=0)
        corrected |= {node.name: node.with_notes(**{CORRECTION: mean}) for node in group}
    return dataclasses.replace(graph, nodes=tuple(corrected.get(node.name, node) for node in graph.nodes))


def mean_error(
    node: Node, mean_input: NDArray[np.float64], recipe: Recipe, protected: frozenset[str]
) -> NDArray[np.float64]:
    """Return, per output channel, how much rounding its weights lowers a layer's mean output, float64 ``[out]``.

    Exact also at the borders: the error weights are run over the mean input with the layer's own padding.
    """
    branch = node.notes.get(BRANCH)
    bits, _ = recipe.bits_of(node.name if branch is None else branch.layer, protected)
    rounded = quantize_weights(node, recipe, bits) if branch is None else branch_weights(node, recipe, bits)
    weight = node.params["weight"].astype(np.float64)
    error = weight - rounded.codes * rounded.grid.scale.reshape(-1, *[1] * (weight.ndim - 1))
    params = {"weight": torch.from_numpy(error)}
    with torch.inference_mode():
        out = FLOAT_OPS[node.op](node, params, [torch.from_numpy(mean_input)[None]], None)[0].numpy()
    axis = 0 if node.op == "conv" else out.ndim - 1
    return np.asarray(out.mean(axis=tuple(i for i in range(out.ndim) if i != axis)), dtype=np.float64)
