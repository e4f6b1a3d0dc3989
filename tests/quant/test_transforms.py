"""Every listed transform, on every net of the zoo: the float function stays, the integers agree with the oracle."""

from typing import Any

import numpy as np
import pytest
from transform_nets import NETS, samples

from accelsim import reference
from quant import oracle
from quant.graph import Graph
from quant.lower import LOWER, Quantized
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import run
from quant.transform import Context, Transform
from quant.transforms import TRANSFORMS

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "one-step": ({}, {"pre_activation": False}, {"relu6": "skip"}),
    "two-step": ({}, {"released": True}),
    "cross-layer": ({}, {"sweeps": 1}),
    "smoothquant": ({"alpha": 0.5}, {"alpha": 0.8}),
    "act-ocs": ({"ratio": 0.3},),
    "ocs": ({"ratio": 0.3}, {"ratio": 0.3, "naive": True}, {"ratio": 0.5, "threshold_ratio": 0.5}),
    "splitquant": ({}, {"scales": "symmetric"}),
}
"""What each transform is tried with; one that is not here is tried with its defaults."""

DIFFERENT_INTEGERS = ({"ratio": 0.3, "naive": True}, {"scales": "symmetric"})
"""Options that the lowering treats by rules of their own; of all others the first are lowered."""

CASES = [
    pytest.param(name, options, id="-".join((name, *map(str, options.values()))))
    for name in TRANSFORMS
    for options in OPTIONS.get(name, ({},))
]


LOWERED = [case for case in CASES if case.values[1] in (OPTIONS.get(case.values[0], ({},))[0], *DIFFERENT_INTEGERS)]


def made(name: str, options: dict[str, Any]) -> Transform:
    return TRANSFORMS[name](**options)


def net(name: str) -> tuple[Graph, np.ndarray]:
    rng = np.random.default_rng(list(NETS).index(name))
    graph = NETS[name](rng)
    return graph, samples(graph, rng, 8)


def assert_close(first: dict[str, Any], second: dict[str, Any], tol: float = 1e-5) -> None:
    for name, value in first.items():
        wanted, got = value.numpy(), second[name].numpy()
        assert np.abs(wanted - got).max() <= tol * max(np.abs(wanted).max(), 1e-30), name


def assert_bit_exact(quantized: Quantized, x: np.ndarray) -> None:
    program, codes = quantized.program, quantized.encode(x)
    wanted = reference.run(program, codes).values
    got = oracle.run(program, codes, keep=set(program.tensors)).values
    for tensor in program.tensors:
        assert np.array_equal(wanted[tensor], got[tensor]), tensor


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("which", NETS)
def test_a_transform_keeps_the_float_function(which: str, name: str, options: dict[str, Any]) -> None:
    graph, x = net(which)
    changed = made(name, options)(graph, Context(calibration=lambda: [x])).check()
    assert changed.outputs == graph.outputs
    assert_close(run(graph, x), run(changed, x))


@pytest.mark.parametrize(("name", "options"), LOWERED)
@pytest.mark.parametrize("which", [n for n in NETS if all(node.op in LOWER for node in net(n)[0].nodes)])
def test_what_a_transform_gives_is_bit_exact_against_the_oracle(which: str, name: str, options: dict[str, Any]) -> None:
    graph, x = net(which)
    recipe = Recipe(weight_bits=5, act_bits=6, transforms=(made(name, options),), first_last="same")
    assert_bit_exact(quantize_network(graph, lambda: [x], recipe), x[:3])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_says_what_it_is(name: str) -> None:
    kind = TRANSFORMS[name]
    assert kind.name == name
    assert kind.what
    assert kind.source
    assert kind().label
    assert kind() == kind()
    assert "\n" not in kind.what + kind.source


@pytest.mark.parametrize("name", [n for n, kind in TRANSFORMS.items() if kind.needs_data])
def test_a_transform_that_needs_data_says_so_where_there_is_none(name: str) -> None:
    graph, _ = net("chain")
    options = OPTIONS.get(name, ({},))[0]
    with pytest.raises(ValueError, match=f"{name} looks at activations"):
        made(name, options)(graph, Context())


@pytest.mark.parametrize("name", [n for n, kind in TRANSFORMS.items() if not kind.needs_data])
def test_a_transform_that_needs_no_data_runs_without(name: str) -> None:
    graph, x = net("chain")
    assert_close(run(graph, x), run(made(name, OPTIONS.get(name, ({},))[0])(graph, Context()), x))


def test_transforms_compose_in_their_listed_order() -> None:
    graph, x = net("residual")
    context = Context(calibration=lambda: [x])
    changed = graph
    for name in ("two-step", "cross-layer", "smoothquant", "act-ocs", "ocs"):
        changed = made(name, OPTIONS[name][0])(changed, context)
    assert_close(run(graph, x), run(changed.check(), x))


@pytest.mark.parametrize("name", ["one-step", "two-step", "cross-layer", "smoothquant"])
@pytest.mark.parametrize("splitter", ["act-ocs", "ocs"])
def test_scaling_what_is_split_already_is_refused(name: str, splitter: str) -> None:
    graph, x = net("chain")
    context = Context(calibration=lambda: [x])
    split = made(splitter, {"ratio": 0.3})(graph, context)
    with pytest.raises(ValueError, match="scale channels before they split"):
        made(name, {})(split, context)
