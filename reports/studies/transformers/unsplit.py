"""The unsplit network under affine weight scales, which recipes have for SplitQuant's branches only."""

from dataclasses import replace

import numpy as np

from quant.graph import Graph, Node
from quant.lower import Quantized, lower
from quant.pipeline import observe_for, prepare
from quant.recipe import Recipe
from quant.splitquant import BRANCH, PARTS, Branch, SplitQuant
from reports.task import Task


def joined(graph: Graph) -> Graph:
    """Return a graph that SplitQuant split with all weights of a layer in its middle branch, zeros in the others.

    Zeros add nothing to an integer sum, so the layer computes what one affine grid over its whole range gives.
    """
    return replace(graph, nodes=tuple(_joined(graph, node) for node in graph.nodes)).check()


def _joined(graph: Graph, node: Node) -> Node:
    branch: Branch | None = node.notes.get(BRANCH)
    if branch is None:
        return node
    middle = branch.part == "middle"
    found = [graph.node(f"{branch.layer}.{part}").params for part in PARTS]
    params = {
        key: np.asarray(np.sum([p[key] for p in found], axis=0), dtype=np.float32) * np.float32(middle)
        for key in node.params
    }
    members = node.params["weight"].size if middle else 0
    return node.with_params(**params).with_notes(**{BRANCH: replace(branch, members=members)})


def quantize_affine(task: Task, recipe: Recipe) -> Quantized:
    """Return the integers of a recipe without transforms, its weights on one affine grid a layer."""
    split = prepare(task.graph, replace(recipe, transforms=(SplitQuant(scales="affine"),)), task.calibration)
    graph = joined(split)
    return lower(graph, observe_for(graph, task.calibration), recipe)
