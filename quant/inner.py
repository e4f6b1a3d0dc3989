"""Inner tensors: those that no matrix product reads, so that no PE has to be as wide as they are.

Residual streams, inputs of tables, softmaxes and norms, gates: only the vector unit sees them, and memory where they
do not fit beside it. A recipe may give them a width of their own (`Recipe.inner_bits`).
"""

import math
from dataclasses import dataclass

from quant.graph import Graph, Node
from quant.recipe import Recipe

LEAST_FUNCTION_BITS = 8
"""Narrowest input of a table, a softmax or a norm unless a recipe names the tensor: tables of up to 256 entries."""

PRODUCTS = frozenset({"conv", "linear", "matmul", "attention", "lstm"})
"""Operations whose inputs enter the array."""

PASSING = frozenset(
    {"reshape", "flatten", "permute", "slice", "pad", "duplicate", "max_pool", "relu", "relu6", "clamp",
     "clamp_channels"}
)  # fmt: skip
"""Operations that hand their input's codes on; so do `neg` and a `scale` by one number."""

TABLES = frozenset(
    {"sigmoid", "tanh", "silu", "hardswish", "hardsigmoid", "exp", "log", "abs", "erf", "sqrt", "rsqrt", "reciprocal",
     "softplus", "mish", "leaky_relu", "elu", "gelu", "sin", "cos", "pow", "threshold"}
)  # fmt: skip
"""Functions of one tensor that become tables."""

FUNCTIONS = TABLES | {"prelu", "softmax", "layer_norm", "rms_norm"}


@dataclass(frozen=True)
class Inner:
    """The inner tensors of a graph, and those of them that a function (`FUNCTIONS`) reads."""

    tensors: frozenset[str]
    functions: frozenset[str]

    def bits(self, recipe: Recipe, name: str, least: int = LEAST_FUNCTION_BITS) -> int:
        """Return the width of a tensor of codes.

        An entry of the recipe that matches its name decides; else, for an inner tensor, `Recipe.inner_bits`; else the
        width of activations, `least` at least where a function reads it. Parts of nodes (``node:part``) are inner.
        """
        function = name in self.functions or ":" in name
        default = recipe.act_bits
        if function:
            default = max(default, least)
        if recipe.inner_bits is not None and (function or name in self.tensors):
            default = recipe.inner_bits
        return recipe.act_bits_of(name, default)


def inner_tensors(graph: Graph) -> Inner:
    """Find the inner tensors of a graph: what reads them, through operations that only hand codes on, is no product."""
    entering: set[str] = set()
    functions: set[str] = set()
    for node in reversed(graph.nodes):
        for name in node.inputs:
            if node.op in PRODUCTS or (_passes(node) and node.name in entering):
                entering.add(name)
            if node.op in FUNCTIONS or (_passes(node) and node.name in functions):
                functions.add(name)
    names = frozenset(graph.shapes) - entering - frozenset(item.name for item in graph.inputs)
    return Inner(names, frozenset(functions) & names)


def _passes(node: Node) -> bool:
    return node.op in PASSING or node.op == "neg" or (node.op == "scale" and node.params["weight"].size == 1)


def saturation(node: Node, bits: int) -> float:
    """Return the magnitude of input beyond which a function's output of so many bits is the end of its grid.

    sigmoid(x) is within 2**-(bits + 1) of its end where x >= ln 2·(bits + 1), tanh(x) = 2·sigmoid(2x) - 1 at half of
    that; infinite for a function that does not saturate at both ends.
    """
    reach = math.log(2) * (bits + 1)
    return {"sigmoid": reach, "tanh": reach / 2, "hardsigmoid": 3.0}.get(node.op, math.inf)
