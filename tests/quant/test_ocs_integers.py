"""Split layers as integers: the expanded layer's accumulators are the unsplit layer's, on every machine."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from float_nets import conv_graph, linear_graph, residual_graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim import reference
from accelsim.arith import Accumulation, bits_for, half_up
from accelsim.check import check
from accelsim.config import Accelerator, load_accelerator
from accelsim.execute import execute
from accelsim.program import Conv, Duplicate, Program, conv_bound, gemm_view
from quant import oracle
from quant.clip import Percentile
from quant.graph import Graph
from quant.lower import Quantized
from quant.lower_linear import channels_last
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe

Array = NDArray[Any]

WIDE = [
    None,
    Accumulation(fold_k=8, psum_bits=40, acc_bits=40),
    Accumulation(fold_k=12, products_per_hop=4, psum_bits=40, acc_bits=40, psum_overflow="wrap", acc_overflow="wrap"),
    Accumulation(fold_k=None, products_per_hop=2, acc_bits=40, acc_overflow="error"),
]
"""Weight- or input-stationary folds of two depths, output-stationary, and no machine at all."""


def quantized(graph: Graph, x: Array, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", **options))


def merged(program: Program, layer: str) -> Program:
    """Return the Program with one layer's duplicated channels added back together: the unsplit integer layer."""
    conv = program.op(layer)
    assert isinstance(conv, Conv)
    copy = next(op for op in program.ops if op.output == conv.inputs[0])
    assert isinstance(copy, Duplicate)
    channels = program.tensors[copy.inputs[0]].shape[-1]
    weight = np.zeros((*conv.weight.shape[:3], channels), dtype=np.int64)
    np.add.at(weight, (..., copy.source), conv.weight)
    bits = max(conv.weight_bits, bits_for(int(weight.min()), int(weight.max())))
    bound = conv_bound(weight, conv.bias, program.tensors[copy.inputs[0]].magnitude)
    plain = dataclasses.replace(
        conv, inputs=copy.inputs, weight=weight, weight_bits=bits, storage_bits=bits, bound=bound
    )
    ops = tuple(plain if op is conv else op for op in program.ops if op is not copy)
    unsplit = dataclasses.replace(program, ops=ops)
    check(unsplit)
    return unsplit


def unclamped(found: Quantized, layer: str, unsplit: Graph) -> Array:
    """Return the layer's unsplit float weights as unbounded integers on the split layer's grid."""
    scale = found.layers[[info.name for info in found.layers].index(layer)].alpha / 7
    return half_up(unsplit.node(layer).params["weight"] / scale).astype(np.int64)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 1.0]), st.integers(1, 2), st.integers(0, 1))
def test_the_expanded_accumulator_is_the_unsplit_one_for_every_accumulation(
    seed: int, ratio: float, stride: int, padding: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(3, (3, 4, 3, 3)).astype(np.float32)
    graph = conv_graph(weight, rng.normal(size=3).astype(np.float32), stride=stride, padding=padding)
    x = rng.normal(size=(2, 4, 5, 5)).astype(np.float32)
    found = quantized(graph, x, weight_bits=4, transforms=(SplitOutliers(ratio=ratio),))
    unsplit = merged(found.program, "layer")
    assert np.array_equal(unsplit.op("layer").weight, channels_last(unclamped(found, "layer", graph)))
    codes = found.encode(x)
    for accumulation in WIDE:
        one = reference.run(found.program, codes, accumulation)
        two = reference.run(unsplit, codes, accumulation)
        assert np.array_equal(one.values["layer.acc"], two.values["layer.acc"])
        assert not any(overflow.differing for overflow in one.overflow.values())


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from([20.0, 50.0]))
def test_clamped_pieces_add_up_to_the_unsplit_layer_of_their_sums(seed: int, bits: int, percent: float) -> None:
    rng = np.random.default_rng(seed)
    graph = linear_graph(rng.standard_t(3, (4, 9)).astype(np.float32), rng.normal(size=4).astype(np.float32))
    x = rng.normal(size=(3, 9)).astype(np.float32)
    clip = {"weight_clip": Percentile(percent), "transforms": (SplitOutliers(ratio=0.3),)}
    found = quantized(graph, x, weight_bits=bits, **clip)
    assume(found.layers[0].clamped > 0)
    codes = found.encode(x)
    one, two = (reference.run(p, codes).values["layer.acc"] for p in (found.program, merged(found.program, "layer")))
    assert np.array_equal(one, two)


def machines() -> list[Accelerator]:
    """Return the presets' arrays under each dataflow."""
    base = load_accelerator("edge-32x32")
    flows = ("ws", "os", "is")
    return [base.model_copy(update={"array": base.array.model_copy(update={"dataflow": flow})}) for flow in flows]


@pytest.mark.parametrize("naive", [False, True])
def test_split_networks_are_alike_in_reference_oracle_and_functional_engine_under_every_dataflow(
    naive: bool, rng: np.random.Generator
) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    found = quantized(graph, x, weight_bits=4, transforms=(SplitOutliers(ratio=0.5, naive=naive),))
    codes = found.encode(x)
    expected = reference.run(found.program, codes).values
    kept = set(found.program.tensors)
    assert all(np.array_equal(v, expected[k]) for k, v in oracle.run(found.program, codes, keep=kept).values.items())
    for machine in machines():
        result = execute(found.program, codes, machine, keep=kept)
        assert result.overflowed_outputs == 0
        assert all(np.array_equal(v, expected[k]) for k, v in result.outputs.items())


def test_the_gemm_of_a_split_layer_grows_along_k_alone(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(2, 3, 6, 6)).astype(np.float32)
    plain = quantized(graph, x).program
    split = quantized(graph, x, transforms=(SplitOutliers(ratio=0.5),)).program
    for layer, splits in (("first", 2), ("one", 3), ("two", 3), ("last", 3)):
        before, after = gemm_view(plain, plain.op(layer)), gemm_view(split, split.op(layer))
        assert before is not None
        assert after is not None
        taps = 1 if layer == "last" else 9
        assert after == dataclasses.replace(before, k=before.k + splits * taps)
        assert after.macs == after.m * after.n * after.k


def test_splits_do_not_multiply_the_bias(rng: np.random.Generator) -> None:
    weight, bias = rng.normal(size=(3, 5)).astype(np.float32), np.array([0.5, -2.0, 0.0], dtype=np.float32)
    x = rng.normal(size=(8, 5)).astype(np.float32)
    for ratio in (0.0, 0.2, 1.0):
        found = quantized(linear_graph(weight, bias), x, transforms=(SplitOutliers(ratio=ratio),))
        layer = found.program.op("layer")
        assert isinstance(layer, Conv)
        scale = found.layers[0].alpha / 127 * float(np.abs(x).max()) / 127
        assert found.program.tensors["layer.acc"].scale == pytest.approx(scale)
        assert np.array_equal(layer.bias, half_up(bias / scale).astype(np.int64))
        real = found.decode(reference.run(found.program, found.encode(x)).values)[0]
        assert np.abs(real - (x @ weight.T + bias)).max() < 0.1


def test_with_every_knob_neutral_the_plain_quantizer_remains(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    x = rng.normal(size=(2, 3, 6, 6)).astype(np.float32)
    plain = quantized(graph, x).program.digest()
    neutral = {"weight_clip": Percentile(100), "act_clip": Percentile(100), "clip_expanded": True}
    assert quantized(graph, x, transforms=(SplitOutliers(ratio=0.0),), **neutral).program.digest() == plain
    assert quantized(graph, x, transforms=(SplitOutliers(ratio=0.5),)).program.digest() != plain


@pytest.mark.parametrize("weight", [np.zeros((2, 3)), np.full((2, 3), 0.5), np.ones((2, 1))])
@pytest.mark.parametrize("bias", [None, np.array([0.25, -1.0], dtype=np.float32)])
def test_layers_of_zeros_constants_and_one_channel_become_finite_integers(weight: Array, bias: Array | None) -> None:
    graph = linear_graph(weight.astype(np.float32), bias)
    for x in (np.zeros((2, weight.shape[1])), np.ones((2, weight.shape[1]))):
        found = quantized(graph, x.astype(np.float32), transforms=(SplitOutliers(ratio=0.5),))
        real = found.decode(reference.run(found.program, found.encode(x)).values)[0]
        want = x @ weight.T + (0 if bias is None else bias)
        assert np.isfinite(real).all()
        assert np.abs(real - want).max() <= 0.02
