"""Tensors that no matrix product reads, and the widths that recipes give them."""

import math

import numpy as np
import pytest
from capture_nets import captured
from float_nets import linear_node
from lowered import graph_of
from scipy import special

from quant.graph import Graph, Node
from quant.inner import Inner, inner_tensors, saturation
from quant.recipe import LayerBits, Recipe


def block() -> Graph:
    weight = np.eye(4, dtype=np.float32)
    return graph_of(
        [(3, 4)],
        Node("norm", "layer_norm", ("x0",), {"eps": 1e-5, "ndim": 1}),
        linear_node("up", "norm", weight),
        Node("turned", "permute", ("up",), {"order": (1, 0)}),
        Node("gelu", "gelu", ("turned",), {"approximate": "none"}),
        Node("back", "permute", ("gelu",), {"order": (1, 0)}),
        linear_node("down", "back", weight),
        Node("add", "add", ("x0", "down")),
    )


def test_inner_are_those_that_reach_no_product_even_through_ops_that_hand_codes_on():
    found = inner_tensors(block())
    assert found.tensors == {"up", "turned", "down", "add"}  # inputs of the network apart
    assert found.functions == {"up", "turned"}


def test_in_a_language_model_the_residual_stream_and_the_tables_inputs_are_inner():
    graph = captured("llama")[1]
    found = inner_tensors(graph)
    entering = {name for node in graph.nodes if node.op in ("linear", "attention") for name in node.inputs}
    assert not found.tensors & entering
    silu = next(node for node in graph.nodes if node.op == "silu")
    assert set(silu.inputs) <= found.functions <= found.tensors


@pytest.mark.parametrize(
    ("recipe", "name", "bits"),
    [
        (Recipe(act_bits=4), "other", 4),
        (Recipe(act_bits=4), "stream", 4),
        (Recipe(act_bits=4), "read", 8),  # a function's input keeps 8 bits
        (Recipe(act_bits=10), "read", 10),
        (Recipe(act_bits=4), "layer:part", 8),
        (Recipe(act_bits=4, inner_bits=12), "other", 4),
        (Recipe(act_bits=4, inner_bits=12), "stream", 12),
        (Recipe(act_bits=4, inner_bits=6), "read", 6),
        (Recipe(act_bits=4, inner_bits=6), "layer:part", 6),
        (Recipe(act_bits=4, inner_bits=12, layer_bits=(LayerBits("str*", act_bits=9),)), "stream", 9),
    ],
)
def test_widths(recipe: Recipe, name: str, bits: int):
    inner = Inner(frozenset({"stream", "read"}), frozenset({"read"}))
    assert inner.bits(recipe, name) == bits


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
def test_beyond_saturation_a_function_is_within_half_a_step_of_its_end(bits: int):
    reach = {op: saturation(Node("f", op, ("x",)), bits) for op in ("sigmoid", "tanh", "hardsigmoid", "gelu")}
    assert 1 - special.expit(reach["sigmoid"]) <= 2.0 ** -(bits + 1)
    assert 1 - math.tanh(reach["tanh"]) <= 2 * 2.0 ** -(bits + 1)  # tanh's grid has steps twice as wide
    assert reach["hardsigmoid"] == 3.0
    assert reach["gelu"] == math.inf
