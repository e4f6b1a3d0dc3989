"""Observation: exact ranges, samples that do not depend on the batches, errors that name the layer."""

import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant.capture import capture
from quant.graph import Graph, Input, Node
from quant.observe import count_above, fixed_tensors, observe
from quant.run import run


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    return capture(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.LeakyReLU(), nn.Flatten(), nn.Linear(320, 4)).eval(),
                   torch.randn(1, 3, 8, 8), "small")  # fmt: skip


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def test_small_tensors_are_kept_whole_and_in_order(graph: Graph) -> None:
    x = images(7)
    stats = observe(graph, [x[:4], x[4:]], seed=1)
    assert set(stats) == set(graph.shapes)
    for name, value in run(graph, x, keep=tuple(graph.shapes)).items():
        found, values = stats[name], value.numpy()
        axes = tuple(i for i in range(values.ndim) if i != found.axis + 1)
        assert found.exact
        assert found.count == values.size
        assert np.allclose(found.values, values.reshape(-1), atol=1e-5)
        assert np.allclose(found.channel_min, values.min(axes), atol=1e-5)
        assert np.allclose(found.channel_max, values.max(axes), atol=1e-5)
        assert found.absmax == max(abs(found.min), abs(found.max)) == found.channel_absmax.max()


def test_ranges_are_exact_where_values_are_sampled(graph: Graph) -> None:
    x = images(9)
    x[5, 2, 3, 4] = 1000.0
    stats = observe(graph, [x], seed=1, samples=50)["input"]
    assert not stats.exact
    assert stats.values.shape == (50,)
    assert (stats.max, stats.count) == (1000.0, x.size)
    assert np.isin(stats.values, x).all()


def test_batches_that_would_not_fit_in_memory_are_cut_and_nothing_changes(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, sizes = images(7), []
    whole, above = observe(graph, [x], seed=1), count_above(graph, [x], {"input": 1.0})
    monkeypatch.setattr("quant.run.MOST_VALUES", 2 * 5 * 8 * 8)
    monkeypatch.setattr(
        "quant.observe.run", lambda g, part, **more: sizes.append(len(part["input"])) or run(g, part, **more)
    )
    cut = observe(graph, [x], seed=1)
    assert sizes == [2, 2, 2, 1]
    assert all(np.allclose(whole[name].values, cut[name].values, atol=1e-5) for name in whole)
    assert np.array_equal(above["input"], count_above(graph, [x], {"input": 1.0})["input"])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 400), st.integers(0, 3))
def test_the_sample_does_not_depend_on_the_batches(sizes: list[int], samples: int, seed: int) -> None:
    graph = Graph("g", (Input("x", (2, 9)),), (Node("y", "relu", ("x",)),), ("y",))
    x = np.random.default_rng(seed).normal(size=(sum(sizes), 2, 9)).astype(np.float32)
    edges = np.cumsum([0, *sizes])
    cut = observe(graph, [x[a:b] for a, b in itertools.pairwise(edges)], seed, samples)
    whole = observe(graph, [x], seed, samples)
    for name in ("x", "y"):
        assert np.array_equal(cut[name].values, whole[name].values)
        assert len(cut[name].values) == min(samples, x.size)
        assert cut[name].min == whole[name].min


def test_every_value_is_sampled_equally_often() -> None:
    graph = Graph("g", (Input("x", (10,)),), (Node("y", "relu", ("x",)),), ("y",))
    x = np.arange(40, dtype=np.float32).reshape(4, 10)
    drawn = [observe(graph, [x], seed, samples=7, names=("x",))["x"].values for seed in range(600)]
    counts = np.bincount(np.concatenate(drawn).astype(int), minlength=40)
    # 600 * 7 / 40 = 105 draws of each are expected, with a standard deviation of 9.3.
    assert counts.min() > 105 - 47
    assert counts.max() < 105 + 47


def test_the_seed_decides_the_sample(graph: Graph) -> None:
    x = images(9)
    first, again, other = (observe(graph, [x], seed, 50)["input"].values for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_the_tensors_named_are_described(graph: Graph) -> None:
    assert set(observe(graph, [images(2)], 0, names=("0", "3"))) == {"0", "3"}


def test_constants_count_once_and_inner_tensors_are_described() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    nodes = (
        Node("c", "constant", (), {}, {"value": np.ones((4, 3))}), Node("n", "neg", ("c",)),
        Node("a", "add", ("x", "n")),
        Node("l", "lstm", ("a",), {"hidden": 2}, {"weight_ih": weight, "weight_hh": weight[:, :2]}),
    )  # fmt: skip
    graph = Graph("g", (Input("x", (4, 3)),), nodes, ("l",)).check()
    assert fixed_tensors(graph) == {"c", "n"}
    stats = observe(graph, [np.zeros((2, 4, 3)), np.ones((3, 4, 3))], 0)
    assert (stats["c"].count, stats["n"].count, stats["a"].count) == (12, 12, 60)
    assert stats["l:gates"].channel_max.shape == (8,)
    assert stats["l:cell"].count == 5 * 4 * 2


def test_index_inputs_are_not_described() -> None:
    nodes = (Node("e", "embedding", ("ids",), {}, {"weight": np.eye(5)}),)
    graph = Graph("g", (Input("ids", (4,), "index"),), nodes, ("e",))
    assert set(observe(graph, [np.zeros((2, 4), np.int64)], 0)) == {"e"}


@pytest.mark.parametrize("batches", [[], [np.zeros((0, 3, 8, 8), np.float32)]])
def test_no_samples_are_refused(graph: Graph, batches: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"small: (calibration )?samples must be >= 1"):
        observe(graph, batches, 0)


def test_one_array_in_place_of_batches_is_refused(graph: Graph) -> None:
    with pytest.raises(ValueError, match="batches must be a list of arrays"):
        observe(graph, images(3), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_refused_by_name(graph: Graph, value: float) -> None:
    x = images(3)
    x[1, 1, 2, 3] = value
    with pytest.raises(ValueError, match=r"activations of input must be finite"):
        observe(graph, [x], 0)
    with pytest.raises(ValueError, match=r"activations of 0 must be finite"):
        observe(graph, [x], 0, names=("0", "1"))


def test_constant_activations_have_a_range_of_one_value(graph: Graph) -> None:
    stats = observe(graph, [np.full((3, 3, 8, 8), 2.5, np.float32)], 0)["input"]
    assert (stats.min, stats.max) == (2.5, 2.5)


def test_counts_above_a_threshold_are_by_channel_and_magnitude(graph: Graph) -> None:
    x = images(6)
    found = count_above(graph, [x[:4], x[4:]], {"input": 1.5, "3": 0.0})
    assert found["input"].tolist() == (np.abs(x) > 1.5).sum((0, 2, 3)).tolist()
    assert found["3"].tolist() == [6] * 4
    assert count_above(graph, [x[::-1].copy()], {"input": 1.5})["input"].tolist() == found["input"].tolist()
    with pytest.raises(ValueError, match="must name tensors"):
        count_above(graph, [x], {"nothing": 1.0})


def test_the_99th_percentile_leaves_one_percent_above(graph: Graph) -> None:
    x = images(50)
    threshold = float(np.percentile(np.abs(observe(graph, [x], 0)["0"].values), 99))
    assert count_above(graph, [x], {"0": threshold})["0"].sum() == pytest.approx(0.01 * 50 * 5 * 64, rel=0.02)


def test_observing_costs_little_beside_running(graph: Graph) -> None:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(8):
        layers += [nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    net = capture(nn.Sequential(*layers).eval(), torch.randn(1, 3, 32, 32))
    x = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    run(net, x)
    start = time.process_time()
    run(net, x)
    middle = time.process_time()
    observe(net, [x], 0)
    assert time.process_time() - middle < 6 * (middle - start) + 0.5
