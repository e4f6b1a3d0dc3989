"""Functions of one tensor as tables: half a step off what the function of the dequantized code is, at every width."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lowered import WIDTHS, Array, assert_within, graph_of, quantized, real, run_alike
from scipy import special

from accelsim.program import Table, Tensor
from quant.graph import Node
from quant.grid import symmetric
from quant.inner import TABLES
from quant.lower_tables import function_entries

FUNCTIONS: dict[str, tuple[Callable[[Array], Array], dict[str, Any]]] = {
    "sigmoid": (special.expit, {}),
    "tanh": (np.tanh, {}),
    "silu": (lambda x: x * special.expit(x), {}),
    "gelu": (lambda x: x * special.ndtr(x), {"approximate": "none"}),
    "exp": (np.exp, {}),
    "erf": (special.erf, {}),
    "hardswish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, {}),
    "hardsigmoid": (lambda x: np.clip(x + 3, 0, 6) / 6, {}),
    "softplus": (lambda x: np.logaddexp(0, x), {}),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), {}),
    "leaky_relu": (lambda x: np.where(x < 0, 0.1 * x, x), {"slope": 0.1}),
    "elu": (lambda x: np.where(x < 0, 0.7 * np.expm1(x), x), {"alpha": 0.7}),
    "abs": (np.abs, {}),
    "sin": (np.sin, {}),
    "cos": (np.cos, {}),
    "pow": (lambda x: x**3.0, {"exponent": 3.0}),
    "threshold": (lambda x: np.where(x > 0.3, x, -0.5), {"threshold": 0.3, "value": -0.5}),
}
POSITIVE: dict[str, Callable[[Array], Array]] = {
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
}
"""Functions that are asked for positive numbers only."""


def node(op: str) -> Node:
    return Node("f", op, ("x0",), FUNCTIONS.get(op, (None, {}))[1])


def test_every_table_is_tested():
    assert set(FUNCTIONS) | set(POSITIVE) == TABLES


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("op", sorted(FUNCTIONS))
def test_a_table_is_half_a_step_off_the_function_of_its_code(op: str, bits: int, rng: np.random.Generator):
    x = rng.normal(0, 2, (3, 5, 7)).astype(np.float32)
    x[0, 0, :4] = (0.0, 5.0, -5.0, 1e-8)
    found = quantized(graph_of([(5, 7)], node(op)), x, act_bits=bits)
    codes = run_alike(found, x)
    assert_within(found, codes, "f", FUNCTIONS[op][0](real(found, codes, "x0")), 0.5)
    table = found.program.op("f")
    assert isinstance(table, Table)
    tensor = found.program.tensors["x0"]
    assert len(table.entries) == tensor.high - tensor.low + 1


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("op", sorted(POSITIVE))
def test_functions_of_positive_numbers(op: str, bits: int, rng: np.random.Generator):
    x = rng.uniform(0.5, 4, (3, 20)).astype(np.float32)
    found = quantized(graph_of([(20,)], node(op)), x, act_bits=bits)
    codes = run_alike(found, x)
    assert_within(found, codes, "f", POSITIVE[op](real(found, codes, "x0")), 0.5)


@pytest.mark.parametrize("op", sorted(POSITIVE))
def test_where_a_function_is_undefined_stands_what_it_is_at_the_nearest_defined_code(op: str):
    graph = graph_of([(3,), (3,)], Node("sub", "sub", ("x0", "x1")), Node("f", op, ("sub",)))
    x, y = (np.array([row], dtype=np.float32) for row in ((1.0, 2.0, 4.0), (0.5, 0.5, 3.0)))
    found = quantized(graph, x, y)
    small, large = (np.array([row], dtype=np.float32) for row in ((0.5, 0.5, 1.0), (1.0, 2.0, 3.0)))
    below = run_alike(found, small, large)  # differences that calibration never saw: negative ones
    assert (below["sub"] < 0).all()
    tensor = found.program.tensors["f"]
    at_zero = {"log": tensor.low, "sqrt": 0, "rsqrt": tensor.high, "reciprocal": tensor.high}
    if op == "reciprocal":  # defined below zero
        assert (below["f"] < 0).all()
    else:
        assert (below["f"] == at_zero[op]).all()
    nothing = np.zeros((1, 3), dtype=np.float32)
    assert run_alike(found, nothing, nothing)["f"].tolist() == [[at_zero[op]] * 3]


@pytest.mark.parametrize("op", ["sigmoid", "tanh"])
def test_saturated_inputs_give_the_ends_and_spend_no_codes_beyond(op: str):
    x = np.array([[-1e4, -50.0, 0.0, 50.0, 1e4]], dtype=np.float32)
    linear = Node("scale", "scale", ("x0",), {"axis": 0}, {"weight": np.array([1.0, 0.5, 1, 1, 1], dtype=np.float32)})
    found = quantized(graph_of([(5,)], linear, Node("f", op, ("scale",))), x)
    codes = run_alike(found, x)
    tensor = found.program.tensors["f"]
    assert codes["f"][0, [0, 1]].tolist() == [tensor.low if op == "tanh" else 0] * 2
    assert codes["f"][0, [3, 4]].tolist() == [tensor.high] * 2
    reach = found.program.tensors["scale"].high * found.program.tensors["scale"].scale
    assert reach <= math.log(2) * 9 + 1e-9  # nothing is told apart further out, so the grid ends there


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_learned_slope_per_channel_is_two_products_rounded_once(bits: int, rng: np.random.Generator):
    x = rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
    slopes = np.array([0.0, 0.25, -0.5, 1.5], dtype=np.float32)
    prelu = Node("f", "prelu", ("x0",), {}, {"weight": slopes})
    found = quantized(graph_of([(4, 3, 3)], prelu), x, act_bits=bits)
    codes = run_alike(found, x)
    data = real(found, codes, "x0")  # [batch, height, width, channels]
    slope = real(found, codes, "f.slope")[:1].reshape(1, 1, 1, 4)
    # half a step of rounding; float32 products of the addition stay within a thousandth of a step
    assert_within(found, codes, "f", np.maximum(data, 0) + slope * np.minimum(data, 0), 0.5 + 0.01)
    assert np.abs(slope.ravel() - slopes).max() <= 0.5 * 1.5 / 127 + 1e-6


def test_a_table_of_more_than_16_bits_is_refused():
    wide = Tensor(name="x", shape=(1,), bits=17, signed=True, low=-(2**16) + 1, high=2**16 - 1)
    grid = symmetric(1.0, 16)
    with pytest.raises(ValueError, match="more than a table of 16 bits holds; give 'x' fewer bits"):
        function_entries(node("sigmoid"), grid, wide, grid)
