"""Equalization by weight factorization: formulas by hand, and what it promises."""

from typing import Any

import numpy as np
import pytest
from equalize_nets import BY_HAND, ONE_SIDED, SEEN, Array, context, factors_of, widths
from float_nets import assert_same_function, graph_of, linear_node
from hypothesis import given
from hypothesis import strategies as st
from transform_nets import NETS, linear, op, samples

from quant.equalize_meller import CAP, OneStep, TwoStep
from quant.observe import observe

SEEDS = st.integers(0, 2**32 - 1)


def near(value: Array, wanted: float) -> Array:
    return np.asarray(value >= wanted * (1 - 1e-4))


def test_one_step_by_hand() -> None:
    """K/K = 1, 4, 80; A/a likewise, at most 16; A/p likewise: c = 1, 4, 16."""
    equal = OneStep()(BY_HAND, context(SEEN))
    assert np.allclose(equal.node("one").params["weight"], [[8], [8], [1.6]])
    assert np.allclose(equal.node("two").params["weight"], [[1, 0.5, 0.25]])


def test_one_step_keeps_to_the_pre_activations() -> None:
    """With x up to 1 and down to -4, p = 32, 8, 0.4 against A = 8: the limits are 1, 1 and 20."""
    low = np.array([[1.0], [-4.0]], dtype=np.float32)
    equal = OneStep()(BY_HAND, context(low))
    assert np.allclose(equal.node("one").params["weight"].ravel(), [8, 2, 1.6])
    free = OneStep(pre_activation=False)(BY_HAND, context(low))
    assert np.allclose(free.node("one").params["weight"].ravel(), [8, 8, 1.6])


def test_the_cap_is_an_option() -> None:
    equal = OneStep(cap=2)(BY_HAND, context(SEEN))
    assert np.allclose(equal.node("one").params["weight"].ravel(), [8, 4, 0.2])


def test_two_step_by_hand() -> None:
    """m = 1/4, 2/4, 1: K' = A' = max(2, 1, 0.1) = 2, so c = 1/4, 1 and 20, capped to 16."""
    equal = TwoStep()(BY_HAND, context(ONE_SIDED))
    assert np.allclose(equal.node("one").params["weight"].ravel(), [2, 2, 1.6])
    assert np.allclose(equal.node("two").params["weight"].ravel(), [4, 2, 0.25])


def test_two_step_as_released_does_nothing_more_where_there_is_one_reader() -> None:
    for x in (SEEN, ONE_SIDED):
        one, two = OneStep()(BY_HAND, context(x)), TwoStep(released=True)(BY_HAND, context(x))
        for name in ("one", "two"):
            assert np.array_equal(one.node(name).params["weight"], two.node(name).params["weight"])


def test_two_step_as_released_attenuates_where_there_are_two_readers() -> None:
    graph = graph_of(
        (1,),
        *BY_HAND.nodes,
        linear_node("three", "relu", np.array([[1, 4, 2]], dtype=np.float32)),
        op("sum", "add", "two", "three"),
    )
    for released in (False, True):
        equal = TwoStep(released=released)(graph, context(ONE_SIDED))
        # m = 1/4, 1, 1: K' = A' = max(2, 2, 0.1) = 2
        assert np.allclose(equal.node("one").params["weight"].ravel(), [2, 2, 1.6])


def test_slack_counts_every_reader() -> None:
    graph = graph_of(
        (1,),
        *BY_HAND.nodes,
        linear_node("three", "relu", np.array([[3, 1, 1]], dtype=np.float32)),
        op("sum", "add", "two", "three"),
    )
    equal = TwoStep()(graph, context(ONE_SIDED))
    # "three" leans on channel 0 with its widest weight: m = 1, 1/2, 1 and nothing is attenuated
    assert np.allclose(equal.node("one").params["weight"].ravel(), [8, 8, 1.6])


@given(SEEDS)
def test_one_step_amplifies_only_and_until_a_limit_is_tight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = NETS["chain"](rng)
    x = samples(graph, rng, 4)
    equal = OneStep()(graph, context(x))
    before, after = observe(graph, [x], 0), observe(equal, [x], 0)
    for layer, act in (("first", "relu0"), ("second", "relu1"), ("third", "relu2")):
        c = factors_of(graph, equal, layer)
        assert (c >= 1 - 1e-6).all()
        assert (c <= CAP * (1 + 1e-6)).all()
        kernel = widths(equal, layer)
        assert after[act].absmax <= before[act].absmax * (1 + 1e-5)
        seen = after[act].channel_absmax
        low = np.maximum(-after[layer].channel_min, 0)
        tight = (
            near(kernel, kernel.max())
            | near(seen, seen.max())
            | (low >= seen.max() * (1 - 1e-4))
            | near(c, CAP)
            | (before[act].channel_absmax == 0)
        )
        assert tight.all()
    for name in ("first", "second", "third", "last"):
        assert widths(equal, name).max() <= widths(graph, name).max() * (1 + 1e-6)


@given(SEEDS)
def test_two_steps_attenuate_no_further_than_the_readers_slack(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = NETS["mlp"](rng)
    x = samples(graph, rng, 16)
    equal = TwoStep(pre_activation=False)(graph, context(x))
    for layer, reader in (("first", "second"), ("second", "last")):
        c = factors_of(graph, equal, layer)
        # "second" is read here as it was when "first" had been dealt with: its columns only
        share = widths(graph, reader, 1) / widths(graph, reader, 1).max()
        assert (c >= share * (1 - 1e-5)).all()
        assert (c <= CAP * (1 + 1e-5)).all()
    assert widths(equal, "last").max() <= widths(graph, "last").max() * (1 + 1e-5)


def test_branches_of_a_concat_are_lifted_to_its_widest() -> None:
    rng = np.random.default_rng(4)
    nodes = (
        linear_node("small", "x", 0.3 * rng.normal(size=(3, 4)).astype(np.float32)),
        op("relu0", "relu", "small"),
        linear_node("large", "x", rng.normal(size=(3, 4)).astype(np.float32)),
        op("relu1", "relu", "large"),
        op("joined", "concat", "relu0", "relu1", axis=0),
        linear(rng, "last", "joined", 3, 6),
    )
    graph = graph_of((4,), *nodes)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    equal = OneStep()(graph, context(x))
    seen = observe(equal, [x], 0)
    assert seen["relu0"].absmax == pytest.approx(seen["relu1"].absmax, rel=1e-5)
    assert seen["joined"].absmax == pytest.approx(observe(graph, [x], 0)["joined"].absmax, rel=1e-5)
    assert_same_function(graph, equal, x)


@pytest.mark.parametrize("transform", [OneStep(), TwoStep()], ids=lambda t: t.name)
def test_layers_of_one_addition_stay_within_their_widest(transform: Any) -> None:
    rng = np.random.default_rng(8)
    graph = NETS["residual"](rng)
    x = samples(graph, rng, 6)
    equal = transform(graph, context(x))
    c = [factors_of(graph, equal, name) for name in ("stem", "a.two", "b.two")]
    assert np.allclose(c[0], c[1], rtol=1e-5)
    assert np.allclose(c[0], c[2], rtol=1e-5)
    assert not np.allclose(c[0], 1)
    for name in ("a.relu2", "b.relu2", "relu"):
        assert observe(equal, [x], 0)[name].absmax <= observe(graph, [x], 0)[name].absmax * (1 + 1e-5)
