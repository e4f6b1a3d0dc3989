"""Products of activations, stored numbers, embeddings, means: exact sums, rounded once."""

import numpy as np
import pytest
from lowered import WIDTHS, Array, assert_within, ended, graph_of, operand, quantized, real, run_alike, step

from accelsim.program import Mul, Requantize
from quant.graph import Node

ROUNDED = 0.5 + 0.01
"""Half a step, and what float32 adds to it in the requantization of sums below 2**24 (a 16-bit product has more)."""


def rows(rng: np.random.Generator, *shape: int) -> Array:
    x = rng.standard_t(4, (2, *shape)).astype(np.float32)
    x.reshape(2, -1)[0, :2] = (0.0, 30.0)
    return x


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_product_is_exact_until_its_one_rounding(bits: int, rng: np.random.Generator):
    x, y = rows(rng, 5, 6), rows(rng, 5, 6)
    found = quantized(ended([(5, 6), (5, 6)], Node("f", "mul", ("x0", "x1"))), x, y, act_bits=bits)
    codes = run_alike(found, x, y)
    assert_within(found, codes, "f", operand(found, codes, 0) * operand(found, codes, 1), ROUNDED)


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_squeeze_and_excite_broadcasts_one_factor_per_channel(scheme: str, rng: np.random.Generator):
    x, s = rows(rng, 4, 3, 3) + np.float32(0.5), rows(rng, 4, 1, 1)
    found = quantized(ended([(4, 3, 3), (4, 1, 1)], Node("f", "mul", ("x0", "x1"))), x, s, act_scheme=scheme)
    codes = run_alike(found, x, s)
    want = operand(found, codes, 0) * operand(found, codes, 1)
    assert_within(found, codes, "f", want.transpose(0, 2, 3, 1), ROUNDED)


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_tensor_times_itself(bits: int, rng: np.random.Generator):
    x = rows(rng, 7)
    found = quantized(ended([(7,)], Node("f", "square", ("x0",))), x, act_bits=bits)
    codes = run_alike(found, x)
    assert_within(found, codes, "f", real(found, codes, "x0") ** 2, ROUNDED)


@pytest.mark.parametrize("factor", [0.3, -0.3, -1.0, 17.0])
def test_one_factor_changes_the_scale_and_no_code(factor: float, rng: np.random.Generator):
    x = rows(rng, 7)
    scale = Node("f", "scale", ("x0",), {"axis": 0}, {"weight": np.array([factor], dtype=np.float32)})
    found = quantized(ended([(7,)], scale), x)
    codes = run_alike(found, x)
    np.testing.assert_array_equal(codes["f"], np.sign(factor) * codes["x0"])
    assert step(found, "f") == pytest.approx(abs(float(np.float32(factor))) * step(found, "x0"))
    assert not any(isinstance(op, Requantize) for op in found.program.ops)


def test_negation_is_exact(rng: np.random.Generator):
    x = rows(rng, 7)
    codes = run_alike(found := quantized(ended([(7,)], Node("f", "neg", ("x0",))), x), x)
    np.testing.assert_array_equal(real(found, codes, "f"), -real(found, codes, "x0"))


@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, 1), (0, 1, 1)])
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_factor_per_channel(signs: tuple[int, ...], bits: int, rng: np.random.Generator):
    x = rows(rng, 5, 3)
    weight = (np.array(signs) * (0.5, 1.25, 3.0)).astype(np.float32)
    scale = Node("f", "scale", ("x0",), {"axis": 1}, {"weight": weight})
    found = quantized(ended([(5, 3)], scale), x, act_bits=bits)
    codes = run_alike(found, x)
    stored = next((real(found, codes, op.inputs[1])[:1] for op in found.program.ops if isinstance(op, Mul)), weight)
    assert np.abs(stored - weight).max() <= 3.0 / 127 / 2 + 1e-6
    assert_within(found, codes, "f", real(found, codes, "x0") * stored, ROUNDED)


@pytest.mark.parametrize("weight", [(0.5, 1.25, 3.0), (2.0, 2.0, 2.0), (-1.5, -1.5, -1.5)])
def test_factor_and_offset_per_channel(weight: tuple[float, ...], rng: np.random.Generator):
    x = rows(rng, 5, 3)
    params = {"weight": np.array(weight, dtype=np.float32), "bias": np.array((0.5, -4.0, 0.0), dtype=np.float32)}
    found = quantized(ended([(5, 3)], Node("f", "affine", ("x0",), {"axis": 1}, params)), x)
    codes = run_alike(found, x)
    want = real(found, codes, "x0") * params["weight"] + params["bias"]
    # factors and offsets are stored with 8 bits, half a step off at most; one common factor is not rounded
    off = np.abs(real(found, codes, "x0")) * 3.0 / 127 / 2 * (len(set(weight)) > 1) + 4.0 / 127 / 2
    assert_within(found, codes, "f", want, ROUNDED + off / step(found, "f"))


@pytest.mark.parametrize("bits", WIDTHS)
def test_rotary_turns_halves_by_stored_angles(bits: int, rng: np.random.Generator):
    heads, time, size = 2, 5, 6
    x = rows(rng, heads, time, size)
    angle = np.arange(time)[:, None] * np.tile(50.0 ** (-np.arange(size // 2) / 3), 2)
    params = {"cos": np.cos(angle)[None].astype(np.float32), "sin": np.sin(angle)[None].astype(np.float32)}
    found = quantized(ended([(heads, time, size)], Node("f", "rotary", ("x0",), {}, params)), x, act_bits=bits)
    codes = run_alike(found, x)
    data = operand(found, codes, 0)
    crossed = np.concatenate([-data[..., size // 2 :], data[..., : size // 2]], axis=-1)
    want = data * params["cos"] + crossed * params["sin"]
    stored = 0.5 / (2 ** (max(bits, 8) - 1) - 1) * (1 + 1e-4)
    off = stored * (np.abs(data) + np.abs(crossed)) / step(found, "f")
    assert_within(found, codes, "f", want, ROUNDED + off)
    assert np.abs(codes["f"][:, :, 0] * step(found, "f") - data[:, :, 0]).max() <= (off.max() + 1) * step(found, "f")


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_matrix_product_of_activations_with_shared_heads(bits: int, rng: np.random.Generator):
    x, y = rows(rng, 3, 4, 5), rows(rng, 3, 5, 2)
    found = quantized(ended([(3, 4, 5), (3, 5, 2)], Node("f", "matmul", ("x0", "x1"))), x, y, act_bits=bits)
    codes = run_alike(found, x, y)
    assert_within(found, codes, "f", operand(found, codes, 0) @ operand(found, codes, 1), ROUNDED)


@pytest.mark.parametrize("bits", WIDTHS)
def test_an_embedding_is_its_rows_rounded_once(bits: int, rng: np.random.Generator):
    table = rng.normal(size=(9, 4)).astype(np.float32)
    from quant.graph import Graph, Input

    graph = Graph(
        "net", (Input("x0", (3,), "index"),), (Node("f", "embedding", ("x0",), {}, {"weight": table}),), ("f",)
    )
    ids = np.array([[0, 8, 4], [8, 8, 1]])
    found = quantized(graph.check(), ids, act_bits=bits)
    codes = run_alike(found, ids)
    assert_within(found, codes, "f", table[ids].astype(np.float64), 0.5)
    for wrong in (np.array([[0, 9, 1]]), np.array([[-1, 0, 0]]), np.array([[0.5, 1.0, 2.0]])):
        with pytest.raises(ValueError, match=r"whole numbers 0\.\.8"):
            found.encode(wrong)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_mean_is_rounded_once(axes: tuple[int, ...], bits: int, rng: np.random.Generator):
    x = rows(rng, 4, 6)
    found = quantized(graph_of([(4, 6)], Node("f", "mean", ("x0",), {"axes": axes})), x, act_bits=bits)
    codes = run_alike(found, x)
    want = real(found, codes, "x0").mean(axis=tuple(axis + 1 for axis in axes), keepdims=True)
    # the rule multiplies the sum by a float32 reciprocal
    assert_within(found, codes, "f", want, ROUNDED)


def test_equal_stored_tensors_are_stored_once(rng: np.random.Generator):
    x = rows(rng, 3, 4)
    value = rng.normal(size=(3, 4)).astype(np.float32)
    graph = graph_of(
        [(3, 4)],
        Node("one", "constant", (), {}, {"value": value}),
        Node("two", "constant", (), {}, {"value": value.copy()}),
        Node("a", "add", ("x0", "one")),
        Node("b", "add", ("a", "two")),
    )
    found = quantized(graph, x)
    run_alike(found, x)
    assert [op.name for op in found.program.ops if op.kind == "constant"] == ["one"]
