"""Integer softmax and attention, each stage held to its bound against float64."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered import WIDTHS, Array, assert_within, ended, ends, graph_of, operand, quantized, real, run_alike

from accelsim.program import Softmax
from quant.graph import Graph, Node
from quant.lower import Quantized
from quant.lower_attention import exponentials

HEADS, TIME, KEYS, SIZE = 4, 6, 6, 8


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def assert_probabilities(found: Quantized, codes: dict[str, Array], name: str, scores: Array) -> None:
    """Hold probabilities to the bound of `quant.lower_attention`; `scores` are real, hidden ones minus infinity."""
    op = found.program.op(f"{name}.softmax")
    assert isinstance(op, Softmax)
    bits, columns = op.out_bits, scores.shape[-1]
    fraction = min(30, bits + 2 + max(1, math.ceil(math.log2(max(columns, 2)))))
    bound = 2.0**-bits * 0.75 + 2.0 ** -(fraction + 1)
    want = np.minimum(softmax(scores), 1 - 2.0**-bits)
    got = real(found, codes, name)
    assert np.abs(got - want).max() <= bound
    assert not got[np.isneginf(scores)].any()


# --- softmax ---------------------------------------------------------------------------------------------------------


def softmax_graph(shape: tuple[int, ...], axis: int) -> Graph:
    return graph_of([shape], Node("probs", "softmax", ("x0",), {"axis": axis}))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("columns", [1, 2, 7, 100])
def test_softmax_is_within_its_bound(columns: int, bits: int, rng: np.random.Generator):
    x = rng.normal(0, 3, (2, 5, columns)).astype(np.float32)
    x[0, 0], x[0, 1] = 1.5, 0.0  # all logits equal
    x[0, 2], x[0, 2, 0] = -20.0, 20.0  # one takes all
    found = quantized(softmax_graph((5, columns), 1), x, act_bits=bits)
    codes = run_alike(found, x)
    assert_probabilities(found, codes, "probs", real(found, codes, "x0"))
    assert codes["probs"].max() <= 2**bits - 1


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.integers(1, 40), st.floats(-2, 2))
def test_softmax_of_any_width_and_range(seed: int, bits: int, columns: int, size: float):
    x = (10**size * np.random.default_rng(seed).normal(size=(1, 3, columns))).astype(np.float32)
    found = quantized(softmax_graph((3, columns), 1), x, act_bits=bits)
    codes = run_alike(found, x)
    assert_probabilities(found, codes, "probs", real(found, codes, "x0"))


def test_softmax_along_another_axis_is_that_of_the_transposed(rng: np.random.Generator):
    x = rng.normal(size=(2, 4, 6)).astype(np.float32)
    first, second = quantized(softmax_graph((4, 6), 0), x), quantized(softmax_graph((6, 4), 1), x.transpose(0, 2, 1))
    one = first.decode(run_alike(first, x))[0]
    two = second.decode(run_alike(second, x.transpose(0, 2, 1)))[0]
    np.testing.assert_array_equal(one, two.transpose(0, 2, 1))


@pytest.mark.parametrize("scale", [1e-4, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("bits", WIDTHS)
def test_exponentials_are_rounded_once_and_end_where_they_are_zero(scale: float, bits: int):
    span = 3000
    table = exponentials(scale, 10, bits, span)
    fraction = bits + 2 + 4
    want = np.exp(-np.arange(span + 1) * scale) * 2.0**fraction
    assert np.abs(table - want[: table.size]).max() <= 0.5
    assert (np.diff(table) <= 0).all()
    assert table.size == span + 1 or (table[-1] == 0 and (want[table.size :] < 0.5).all())


# --- attention -------------------------------------------------------------------------------------------------------

MASKS: dict[str, tuple[bool, dict[str, Array]]] = {
    "all": (False, {}),
    "causal": (True, {}),
    "mask": (False, {"mask": (np.add.outer(np.arange(TIME), np.arange(KEYS)) % 3 > 0)[None].astype(np.float32)}),
    "one key": (False, {"mask": np.eye(TIME, KEYS, dtype=np.float32)[None]}),
    "bias": (False, {"bias": -0.3 * np.abs(np.subtract.outer(np.arange(TIME), np.arange(KEYS)))[None]}),
    "bias per head, causal": (True, {"bias": np.linspace(-1, 1, HEADS * KEYS).reshape(HEADS, 1, KEYS)}),
}


def attention_graph(kv_heads: int, causal: bool, params: dict[str, Array], keys: int = KEYS) -> Graph:
    attrs = {"causal": causal, "scale": 1 / math.sqrt(SIZE)}
    shapes = [(HEADS, TIME, SIZE), (kv_heads, keys, SIZE), (kv_heads, keys, SIZE)]
    return ended(shapes, Node("mix", "attention", ("x0", "x1", "x2"), attrs, params))


def operands(kv_heads: int, rng: np.random.Generator, keys: int = KEYS) -> list[Array]:
    shapes = [(2, HEADS, TIME, SIZE), (2, kv_heads, keys, SIZE), (2, kv_heads, keys, SIZE)]
    return [rng.normal(0, 1.5, shape).astype(np.float32) for shape in shapes]


def visible(causal: bool, params: dict[str, Array], keys: int = KEYS) -> Array:
    seen = np.broadcast_to(params.get("mask", np.ones((1, 1, 1))) > 0, (HEADS, TIME, keys))
    return seen & np.tri(TIME, keys, keys - TIME, dtype=bool) if causal else np.asarray(seen)


def assert_stages(found: Quantized, codes: dict[str, Array], causal: bool, params: dict[str, Array]) -> None:
    query, key, value = (operand(found, codes, place) for place in range(3))
    group = HEADS // key.shape[1]
    key, value = key.repeat(group, axis=1), value.repeat(group, axis=1)
    want = query @ key.transpose(0, 1, 3, 2) / math.sqrt(SIZE) + params.get("bias", np.zeros((1, 1, 1)))
    bias_step = float(np.abs(params["bias"]).max()) / 2**7 if "bias" in params else 0.0
    scores = real(found, codes, "mix.scores")
    seen = np.broadcast_to(visible(causal, params), want.shape)
    low, high = ends(found, "mix.scores")
    grid_step = (high - low) / (found.program.tensors["mix.scores"].high - found.program.tensors["mix.scores"].low)
    # float32 holds the multiplier and what it gives: a few in ten million of the largest score
    off = np.abs(scores - np.clip(want, low, high))
    assert (off <= grid_step * 0.5 + bias_step / 2 + 4e-7 * np.abs(want) + 1e-9).all()
    assert_probabilities(found, codes, "mix.probs", np.where(seen, scores, -np.inf))
    mixed = real(found, codes, "mix.probs") @ value
    assert_within(found, codes, "mix", mixed, 0.5 + 0.02)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("mask", sorted(MASKS))
def test_each_stage_is_within_its_bound(mask: str, bits: int, rng: np.random.Generator):
    causal, params = MASKS[mask]
    x = operands(HEADS, rng)
    found = quantized(attention_graph(HEADS, causal, params), *x, act_bits=bits)
    assert_stages(found, run_alike(found, *x), causal, params)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_are_repeated_ones(kv_heads: int, rng: np.random.Generator):
    x = operands(kv_heads, rng)
    found = quantized(attention_graph(kv_heads, True, {}), *x)
    codes = run_alike(found, *x)
    assert_stages(found, codes, True, {})
    repeated = [x[0], *(t.repeat(HEADS // kv_heads, axis=1) for t in x[1:])]
    other = quantized(attention_graph(HEADS, True, {}), *repeated)
    np.testing.assert_array_equal(run_alike(other, *repeated)["mix"], codes["mix"])


def test_a_query_that_sees_one_key_hands_its_value_on(rng: np.random.Generator):
    causal, params = MASKS["one key"]
    x = operands(HEADS, rng)
    found = quantized(attention_graph(HEADS, causal, params), *x)
    codes = run_alike(found, *x)
    assert (codes["mix.probs"][..., np.arange(TIME), np.arange(KEYS)] == 255).all()
    assert_within(found, codes, "mix", operand(found, codes, 2) * (255 / 256), 0.5 + 0.02)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e4])
def test_equal_tiny_and_huge_scores(size: float, rng: np.random.Generator):
    x = operands(HEADS, rng)
    x[0] = (x[0] * size).astype(np.float32)
    found = quantized(attention_graph(HEADS, False, {}), *x)
    codes = run_alike(found, *x)
    assert_stages(found, codes, False, {})
    if size == 0:
        assert len(np.unique(codes["mix.probs"])) == 1


@pytest.mark.parametrize("bits", [8, 16])
def test_against_the_float_network(bits: int, rng: np.random.Generator):
    x = operands(2, rng)
    found = quantized(attention_graph(2, True, {}), *x, act_bits=bits)
    group = [t.astype(np.float64) for t in (x[0], x[1].repeat(2, axis=1), x[2].repeat(2, axis=1))]
    scores = group[0] @ group[1].transpose(0, 1, 3, 2) / math.sqrt(SIZE)
    want = softmax(np.where(visible(True, {}), scores, -np.inf)) @ group[2]
    steps: Any = {8: 4.0, 16: 200.0}[bits]  # of the output; at 16 bits the probabilities' inputs decide
    assert_within(found, run_alike(found, *x), "mix", want, steps)
