"""Mixed precision by weight error: the bits that a width would spend, given to the layers that need them.

From the narrowest width on, the layer whose relative squared weight error shrinks most per stored bit gets one bit
more, until the weights fill as many bits as they would at one width throughout. No sample is looked at.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from quant.fold import fold_batch_norm
from quant.graph import Graph
from quant.grid import dequantize, quantize, symmetric
from quant.recipe import LayerBits, Recipe, protected_layers

NARROWEST, WIDEST = 2, 8


def mixed_recipe(graph: Graph, bits: int) -> Recipe:
    """Return a recipe whose weights take as much memory as `bits` throughout; first and last layer keep 8 bits."""
    folded = fold_batch_norm(graph)
    kept = protected_layers(folded, Recipe(weight_bits=bits))
    layers = [
        _Layer(node.name, np.asarray(node.params["weight"], dtype=np.float64))
        for node in folded.nodes
        if node.op in ("conv", "linear") and node.name not in kept
    ]
    widths = assign(layers, bits)
    return Recipe(
        name=f"mixed-{bits}",
        weight_bits=bits,
        layer_bits=tuple(LayerBits(pattern=name, weight_bits=width) for name, width in widths.items()),
    )


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer's name and weights."""

    name: str
    weight: np.ndarray

    def error(self, bits: int) -> float:
        """Return the squared weight error over the squared weights at a width, one scale per layer."""
        grid = symmetric(float(np.abs(self.weight).max()), bits)
        rounded = dequantize(quantize(self.weight, grid), grid)
        return float(((self.weight - rounded) ** 2).sum() / (self.weight**2).sum())

    def worth(self, bits: int) -> float:
        """Return how much error one more bit takes off, per weight that it widens."""
        return (self.error(bits) - self.error(bits + 1)) / self.weight.size


def assign(layers: list[_Layer], bits: int) -> dict[str, int]:
    """Return a width for every layer, their sum over all weights at most that of `bits` throughout."""
    widths = dict.fromkeys((layer.name for layer in layers), NARROWEST)
    left = sum(layer.weight.size for layer in layers) * (bits - NARROWEST)
    waiting = [(-layer.worth(NARROWEST), place) for place, layer in enumerate(layers)]
    heapq.heapify(waiting)
    while waiting:
        _, place = heapq.heappop(waiting)
        layer = layers[place]
        if layer.weight.size > left:
            continue
        left -= layer.weight.size
        widths[layer.name] += 1
        if widths[layer.name] < WIDEST:
            heapq.heappush(waiting, (-layer.worth(widths[layer.name]), place))
    return widths
