"""Integer layer norm and RMS norm: off by what their widths say from the norm of the dequantized input."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered import WIDTHS, Array, assert_within, ended, quantized, real, run_alike, step

from accelsim.program import Norm, Tensor
from quant.graph import Graph, Node
from quant.grid import Grid, symmetric
from quant.lower import Quantized
from quant.lower_norm import norm_widths

OPS = ("layer_norm", "rms_norm")
EPS = 1e-5


def norm_graph(op: str, shape: tuple[int, ...], weight: Array | None = None, bias: Array | None = None) -> Graph:
    params = {key: value for key, value in (("weight", weight), ("bias", bias)) if value is not None}
    return ended([shape], Node("norm", op, ("x0",), {"eps": EPS, "ndim": 1}, params))


def normalized(op: str, x: Array) -> Array:
    """Return the norm without gain and bias in float64."""
    centred = x - x.mean(-1, keepdims=True) if op == "layer_norm" else x
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS))


def assert_accurate(found: Quantized, codes: dict[str, Array], op: str, gain: Array, bias: Array) -> None:
    """Hold a norm to the bound of `quant.lower_norm`, and its output to half a step more."""
    norm = found.program.op("norm")
    assert isinstance(norm, Norm)
    x = real(found, codes, "x0")
    want = normalized(op, x)
    values = codes["x0"].astype(object) - norm.zero_in
    n = values.shape[-1]
    centred = n * values - (values.sum(-1, keepdims=True) if norm.center else 0)
    root = np.vectorize(math.isqrt, otypes=[float])(
        (centred**2).sum(-1, keepdims=True) * 4**norm.root_shift // n + norm.epsilon
    )
    # the epsilon is rounded to an integer too: half of one, relative to twice the root squared
    off = 2.0 ** -(norm.fraction_bits + 1) + np.abs(want) * (1 / np.maximum(root, 1) + 0.25 / np.maximum(root, 1) ** 2)
    gain_step = float(np.abs(gain).max()) / (2 ** (norm.gain_bits - 1) - 1)
    unit = step(found, "norm.acc")
    bound = off * (np.abs(gain) + gain_step / 2) + np.abs(want) * gain_step / 2 + unit / 2
    error = np.abs(real(found, codes, "norm.acc") - (want * gain + bias))
    assert (error <= bound * (1 + 1e-6) + 1e-9).all()
    assert_within(found, codes, "norm", want * gain + bias, 0.5 + bound / step(found, "norm") + 1e-3)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("n", [2, 3, 64, 300])
@pytest.mark.parametrize("op", OPS)
def test_error_bound(op: str, n: int, bits: int, rng: np.random.Generator):
    x = (rng.standard_t(3, (2, 4, n)) + 0.5).astype(np.float32)
    gain, bias = rng.normal(1, 0.4, n).astype(np.float32), rng.normal(0, 0.5, n).astype(np.float32)
    bias = np.zeros_like(bias) if op == "rms_norm" else bias
    found = quantized(norm_graph(op, (4, n), gain, bias if op == "layer_norm" else None), x, act_bits=bits)
    assert_accurate(found, run_alike(found, x), op, gain, bias)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(OPS), st.integers(2, 16), st.floats(-3, 3))
def test_error_bound_of_any_width_and_size(seed: int, op: str, bits: int, size: float):
    rng = np.random.default_rng(seed)
    x = (10**size * rng.normal(size=(1, 3, 9))).astype(np.float32)
    found = quantized(norm_graph(op, (3, 9)), x, act_bits=bits)
    assert_accurate(found, run_alike(found, x), op, np.ones(9), np.zeros(9))


@pytest.mark.parametrize("bits", WIDTHS)
def test_constant_rows_give_the_bias(bits: int, rng: np.random.Generator):
    x = np.repeat(rng.normal(size=(2, 5, 1)).astype(np.float32), 6, axis=2)
    bias = rng.normal(size=6).astype(np.float32)
    found = quantized(norm_graph("layer_norm", (5, 6), np.ones(6, dtype=np.float32), bias), x, act_bits=bits)
    codes = run_alike(found, x)
    want = np.broadcast_to(bias, (2, 5, 6)).astype(np.float64)
    assert_within(found, codes, "norm", want, 0.5 + step(found, "norm.acc") / step(found, "norm"))
    assert not codes["norm.acc"].reshape(-1, 6).std(axis=0).any()


@pytest.mark.parametrize("op", OPS)
def test_rows_of_one_element_and_of_zeros(op: str, rng: np.random.Generator):
    one = np.array([[[3.0], [-2.0], [0.0]]], dtype=np.float32)
    codes = run_alike(found := quantized(norm_graph(op, (3, 1)), one), one)
    want = np.zeros((1, 3, 1)) if op == "layer_norm" else np.sign(one).astype(np.float64)
    assert_within(found, codes, "norm", want, 1.0)
    zeros = np.zeros((1, 2, 4), dtype=np.float32)
    found = quantized(norm_graph(op, (2, 4)), zeros)
    assert not run_alike(found, zeros)["norm"].any()


@pytest.mark.parametrize("op", OPS)
def test_saturated_rows_stay_bounded(op: str):
    """One element holds all of the row: its normalized value is the largest there is, about the root of n."""
    n = 50
    x = np.zeros((1, 2, n), dtype=np.float32)
    x[0, 0, 7], x[0, 1, 7] = 1e6, -1e6
    for bits in WIDTHS:
        found = quantized(norm_graph(op, (2, n)), x, act_bits=bits)
        codes = run_alike(found, x)
        assert_accurate(found, codes, op, np.ones(n), np.zeros(n))
        assert np.abs(real(found, codes, "norm")).max() == pytest.approx(math.sqrt(n), rel=0.1)


def test_norms_over_two_axes_are_one_flat_norm(rng: np.random.Generator):
    x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    gain = rng.normal(1, 0.2, (4, 5)).astype(np.float32)
    two = Node("norm", "layer_norm", ("x0",), {"eps": EPS, "ndim": 2}, {"weight": gain})
    one = norm_graph("layer_norm", (3, 20), gain.reshape(-1))
    whole = run_alike(first := quantized(ended([(3, 4, 5)], two), x), x)
    flat = run_alike(second := quantized(one, x.reshape(2, 3, 20)), x.reshape(2, 3, 20))
    outputs = first.decode(whole)[0], second.decode(flat)[0]
    np.testing.assert_array_equal(outputs[0].reshape(2, 3, 20), outputs[1])


def source(n: int, bits: int) -> tuple[Tensor, Grid]:
    grid = symmetric(1.0, bits)
    return Tensor(name="x", shape=(n,), bits=bits, signed=True, low=grid.low, high=grid.high), grid


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("n", "bits"), [(1, 2), (768, 8), (768, 12), (4096, 12), (2048, 16), (65536, 8)])
def test_widths_fit_into_63_bits_and_spend_what_is_left_on_the_root(n: int, bits: int, center: bool):
    tensor, grid = source(n, bits)
    found = norm_widths(tensor, grid, EPS, center, 12)
    widest = (tensor.high - tensor.low) if center else tensor.high
    codes = np.array([tensor.low, tensor.high] * (n // 2) + [tensor.high] * (n % 2), dtype=object)
    u = n * codes - (codes.sum() if center else 0)
    total = int((u**2).sum()) * 4**found.root_shift
    assert total < 2**63
    assert int(np.abs(u).max()) << found.fraction_bits + found.root_shift + 1 < 2**63
    assert 0 <= found.root_shift <= 8
    assert widest > 0


def test_a_norm_that_leaves_63_bits_is_one_clear_line():
    tensor, grid = source(2**20, 16)
    with pytest.raises(ValueError, match="leaves 63 bits; give it fewer bits") as error:
        norm_widths(tensor, grid, EPS, True, 12)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["single_away", "gemmlowp_double", "pot_shift"])
def test_sums_stay_within_32_bits_where_the_rule_holds_32(rule: str, rng: np.random.Generator):
    x = rng.normal(size=(2, 3, 200)).astype(np.float32)
    options: dict[str, Any] = {"rule": rule, "act_bits": 16}
    found = quantized(norm_graph("layer_norm", (3, 200), (50 * np.ones(200)).astype(np.float32)), x, **options)
    run_alike(found, x)
    assert found.program.tensors["norm.acc"].high < 2**31
