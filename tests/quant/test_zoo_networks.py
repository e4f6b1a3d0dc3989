"""The papers' networks: captured, quantized by every method that applies, executed, equal to torch integer by integer.

Weights are random: these tests are about integers, not accuracy.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from zoo_nets import FULL, METHODS, REFUSED, SMALL, TRANSFORMED, UNTOUCHED, Net

from accelsim.config import load_accelerator
from accelsim.execute import accumulations, execute
from quant.capture import capture
from quant.fold import fold_batch_norm
from quant.graph import Graph
from quant.lower import Quantized
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import predict
from reports.witness import first_difference
from workloads.hub import transformers
from workloads.zoo import zoo_names

pytestmark = pytest.mark.skipif(not zoo_names(), reason="torchvision is not installed (extra vision)")

EDGE = load_accelerator("edge-32x32")
QUICK = ("eight bits", "clip mse", "ocs", "two-step, act-ocs, ocs")
AT_FULL_SIZE = ("ocs, per channel, kl", "one-step, ocs")
NEAR = 1e-3
"""Root mean square of the error at sixteen bits over that of the output."""

HUB = ("bert", "gpt2")

Captured = tuple[Graph, NDArray[Any]]


def has_transformers() -> bool:
    try:
        return bool(transformers())
    except ValueError:
        return False


def captured(net: Net) -> Captured:
    """Return a network with its batch norms folded, and samples."""
    samples = net.samples()
    return fold_batch_norm(capture(net.module(), torch.from_numpy(samples[:1]))), samples


@lru_cache(maxsize=1)
def small(name: str) -> Captured:
    return captured(SMALL[name]())


def check(found: Captured, recipe: Recipe) -> Quantized:
    """Quantize; torch must give the same integers in all tensors, and so must the engine when it keeps none."""
    graph, samples = found
    quantized = quantize_network(graph, lambda: [samples[2:]], recipe)  # not those that are run: some are clipped
    program = quantized.program
    codes = quantized.encode(samples[:2])
    run = execute(program, codes, EDGE, keep=[op.output for op in program.ops])
    assert first_difference(program, codes, run, accumulations(program, EDGE)) == ""
    again = execute(program, codes, EDGE, threads=2).outputs
    for name in program.outputs:
        assert np.array_equal(again[name], run.outputs[name])
        assert len(np.unique(run.outputs[name])) > 1
    return quantized


def check_method(name: str, method: str) -> None:
    """Check a network and a method; which transforms change nothing and which rules are refused is known."""
    found = small(name)
    if (name, method) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name, method]):
            check(found, METHODS[method])
        return
    quantized = check(found, METHODS[method])
    if method in TRANSFORMED and not METHODS[method].bias_correction:  # whose corrections are notes on nodes
        assert (quantized.graph.nodes == found[0].nodes) == ((name, method) in UNTOUCHED)


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_small_networks_are_bit_exact(name: str, method: str) -> None:
    check_method(name, method)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_networks_of_the_papers_are_bit_exact_by_every_method(name: str, method: str) -> None:
    check_method(name, method)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_at_sixteen_bits_networks_of_the_papers_compute_what_they_did(name: str) -> None:
    graph, samples = small(name)
    quantized = quantize_network(graph, lambda: [samples], METHODS["sixteen bits"])
    (got,) = quantized.decode(execute(quantized.program, quantized.encode(samples)).outputs)
    want = predict(graph, samples)
    assert np.sqrt(((got - want) ** 2).mean()) < NEAR * np.sqrt((want**2).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_networks_at_full_size_are_bit_exact(name: str) -> None:
    if name in HUB and not has_transformers():
        pytest.skip("transformers is not installed (extra nlp)")
    found = captured(FULL[name]())
    for method in AT_FULL_SIZE:
        check(found, METHODS[method])
