"""Bias correction: the mean output of rounded weights is that of the real ones."""

from typing import Any

import numpy as np
import pytest
from float_nets import assert_engines_agree, conv_graph, linear_graph, outputs_of, residual_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim import reference
from quant.bias_correction import correct_biases, mean_error, mean_tensors
from quant.graph import Graph
from quant.lower import Quantized
from quant.lower_linear import CORRECTION, layer_bias
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.splitquant import SplitQuant

Array = NDArray[Any]


def quantized(graph: Graph, x: Array, *transforms: Any, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms, **options))


def mean_miss(graph: Graph, x: Array, *transforms: Any, **options: Any) -> Array:
    """Mean difference of integer and float output per channel, relative to the mean output's size."""
    found = quantized(graph, x, *transforms, **options)
    real = found.decode(reference.run(found.program, found.encode(x)).values)[0]
    want = outputs_of(graph, x)
    axes = tuple(i for i in range(want.ndim) if i != 1)
    return np.abs((real - want).mean(axis=axes)) / np.abs(want.mean(axis=axes)).max()


def test_the_correction_of_a_small_layer_is_as_computed_by_hand() -> None:
    # 2 bits, largest weight 1: codes -1, 0, 1. 0.25 rounds to 0 and 0.75 to 1; the mean input is (2, 4).
    graph = linear_graph(np.array([[1.0, 0.25], [0.75, -0.25]]), np.array([1.0, 1.0]))
    x = np.array([[1.0, 4.0], [3.0, 4.0]], dtype=np.float32)
    corrected = correct_biases(graph, [x], Recipe(weight_bits=2, first_last="same"))
    node = corrected.node("layer")
    assert node.notes[CORRECTION].tolist() == [0.25 * 4, -0.25 * 2 - 0.25 * 4]
    assert layer_bias(node).tolist() == [2.0, -0.5]
    assert np.array_equal(outputs_of(corrected, x), outputs_of(graph, x))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.booleans(), st.sampled_from([(1, 0), (1, 1), (2, 1)]))
def test_rounded_weights_keep_a_convolutions_mean_output(
    seed: int, bits: int, per_channel: bool, geometry: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    stride, padding = geometry
    weight = rng.standard_t(3, (3, 4, 3, 3)).astype(np.float32)
    graph = conv_graph(weight, rng.normal(size=3).astype(np.float32), stride=stride, padding=padding)
    x = np.abs(rng.normal(1, 1, size=(16, 4, 5, 5))).astype(np.float32)
    options = {"weight_bits": bits, "per_channel": per_channel, "act_bits": 12}
    assert mean_miss(graph, x, bias_correction=True, **options).max() < 0.01
    if bits == 2:
        assert mean_miss(graph, x, **options).max() > 0.01


@pytest.mark.parametrize(
    "transforms",
    [(SplitOutliers(ratio=0.3),), (SplitOutliers(ratio=0.3, naive=True),), (SplitActivations(ratio=0.3),),
     (SplitQuant(),), (SplitQuant(scales="symmetric"),)],
    ids=lambda t: t[0].label,
)  # fmt: skip
def test_it_corrects_split_layers_too(transforms: Any, rng: np.random.Generator) -> None:
    graph = linear_graph(rng.standard_t(3, (5, 12)).astype(np.float32), rng.normal(size=5).astype(np.float32))
    x = np.abs(rng.normal(1, 1, size=(64, 12))).astype(np.float32)
    options = {"weight_bits": 3, "act_bits": 12}
    before = mean_miss(graph, x, *transforms, **options).max()
    after = mean_miss(graph, x, *transforms, bias_correction=True, **options).max()
    assert after < 0.01 < before


@pytest.mark.parametrize("options", [{}, {"rule": "fbgemm"}, {"act_scheme": "affine"}], ids=str)
@pytest.mark.parametrize("transforms", [(), (SplitQuant(),)])
def test_corrected_networks_run_alike_on_every_engine(options: Any, transforms: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    found = quantized(residual_graph(rng), x, *transforms, weight_bits=3, bias_correction=True, **options)
    assert_engines_agree(found, x)


def test_means_are_over_all_samples_however_they_are_batched(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(10, 3, 6, 6)).astype(np.float32)
    whole = mean_tensors(graph, [x], {"x", "relu1"})
    parts = mean_tensors(graph, [x[:3], x[3:]], {"x", "relu1"})
    assert np.allclose(whole["x"], x.mean(axis=0), atol=1e-6)
    assert all(np.allclose(whole[name], parts[name], atol=1e-6) for name in whole)


def test_weights_that_are_on_the_grid_need_no_correction() -> None:
    graph = linear_graph(np.array([[7.0, -3.0], [0.0, 5.0]]))
    error = mean_error(graph.node("layer"), np.array([3.0, 4.0]), Recipe(weight_bits=4), frozenset())
    assert np.abs(error).max() < 1e-12


def test_no_samples_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"calibration samples must be >= 1 \(got 0\)"):
        mean_tensors(residual_graph(rng), [], {"x"})


def test_the_recipe_says_so() -> None:
    assert Recipe(weight_bits=4, bias_correction=True).label() == "W4A8 + bias correction"
