"""What a search may change of a network: its layers, the tensors they give, and groups of them."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quant.graph import Graph
from quant.inner import inner_tensors
from quant.ocs import splittable
from quant.ocs_lstm import lstm_matrices

WEIGHTED = ("conv", "linear", "lstm")


@dataclass(frozen=True)
class Layer:
    """A layer whose widths and splits may be chosen.

    Parameters
    ----------
    name
        Of its node.
    tensors
        Those that its width of activations is for: what it gives, and what is made of that before the next layer, but
        not the inputs of functions, whose tables have widths of their own (`quant.inner`).
    products
        (name, input channels) of its weight matrices whose input channels can be split.
    """

    name: str
    tensors: tuple[str, ...]
    products: tuple[tuple[str, int], ...]


def find_layers(graph: Graph, protected: frozenset[str]) -> tuple[Layer, ...]:
    """Return the layers of a folded graph in order, protected ones left out."""
    names = [node.name for node in graph.nodes if node.op in WEIGHTED]
    place = {name: number for number, name in enumerate(names)}
    owner: dict[str, str] = {}
    for node in graph.nodes:
        owners = [node.name] if node.name in place else [owner[name] for name in node.inputs if name in owner]
        if owners:
            owner[node.name] = max(owners, key=place.__getitem__)
    functions = inner_tensors(graph).functions
    found = []
    for node in graph.nodes:
        if node.name not in place or node.name in protected:
            continue
        tensors = tuple(name for name, of in owner.items() if of == node.name and name not in functions)
        if node.op == "lstm":
            products = tuple((name, weight.shape[1]) for name, weight in lstm_matrices(node).values())
        else:
            products = ((node.name, node.params["weight"].shape[1]),) if splittable(node) else ()
        found.append(Layer(node.name, tensors, products))
    return tuple(found)


def group_layers(
    layers: Sequence[Layer], given: Mapping[str, Sequence[str]], problems: list[str]
) -> dict[str, tuple[Layer, ...]]:
    """Return the layers of each group, having noted what is wrong.

    Parameters
    ----------
    layers
        All that may be changed.
    given
        Shell patterns of layer names by group; where there are none, every layer is a group of its own.
    problems
        Taken down here: patterns that match no layer, layers in two groups.
    """
    if not given:
        return {layer.name: (layer,) for layer in layers}
    groups: dict[str, tuple[Layer, ...]] = {}
    taken: dict[str, str] = {}
    for group, patterns in given.items():
        mine: list[Layer] = []
        for pattern in patterns:
            matching = [layer for layer in layers if fnmatch.fnmatchcase(layer.name, pattern)]
            if not matching:
                problems.append(
                    f"groups.{group}: {pattern!r} matches no layer that may be changed; "
                    f"there are {', '.join(layer.name for layer in layers)}"
                )
            mine += [layer for layer in matching if layer not in mine]
        problems += [
            f"groups.{group}: layer {layer.name!r} is in group {taken[layer.name]!r} already"
            for layer in mine
            if layer.name in taken
        ]
        taken |= {layer.name: group for layer in mine}
        groups[group] = tuple(mine)
    return groups
