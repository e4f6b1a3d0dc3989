"""Networks whose operations are compositions: all engines agree on their integers, which are the network's numbers."""

import numpy as np
import pytest
import torch
from capture_nets import Fn, captured
from float_nets import assert_engines_agree
from torch import Tensor, nn

from accelsim import reference
from accelsim.program import Conv
from quant.capture import capture
from quant.graph import Graph
from quant.lower import Quantized
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import run

NAMES = (
    "transposed convolutions", "transposed convolution of time", "more functions", "resized", "pooled", "largest",
    "spelled out", "group norms", "norm by hand", "lengths", "windows", "gru",
)  # fmt: skip
WIDE = Recipe(weight_bits=16, act_bits=16, first_last="same")


def compare(graph: Graph, x: list[Tensor], recipe: Recipe, tolerance: float) -> Quantized:
    """Quantize, and compare with the float network by the root mean square."""
    samples = tuple(v.numpy() for v in x)
    found = quantize_network(graph, lambda: [samples], recipe)  # type: ignore[arg-type,list-item]
    outputs = found.decode(reference.run(found.program, found.encode(*samples)).values)
    wanted = run(graph, samples)
    for name, got in zip(graph.outputs, outputs, strict=True):
        want = wanted[name].numpy()
        assert np.sqrt(((got - want) ** 2).mean()) < tolerance * np.sqrt((want**2).mean())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_compositions_keep_their_numbers(name: str) -> None:
    _, graph, inputs = captured(name)
    torch.manual_seed(5)
    x = [f(3) for f in inputs]
    compare(graph, x, WIDE, 2e-3)
    found = compare(graph, x, Recipe(), 0.1)
    if len(x) == 1:
        assert_engines_agree(found, x[0].numpy())


def test_what_follows_a_transposed_convolution_is_folded_into_it() -> None:
    _, graph, inputs = captured("transposed convolutions")
    x = inputs[0](2).numpy()
    program = quantize_network(graph, lambda: [x], Recipe()).program
    layers = [op for op in program if isinstance(op, Conv)]
    assert [op.weight.shape for op in layers][1:3] == [(16, 2, 2, 6), (16, 3, 3, 2)]
    assert program.tensors["3"].low == 0  # the ReLU's codes, straight behind the sums


def test_one_tensor_read_in_two_layouts_is_moved_in_two_ways() -> None:
    def forward(self: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.l(x).view(-1, 4, 4, 4)  # type: ignore[operator]
        return y.transpose(1, 2).flatten(1), y.permute(0, 2, 3, 1).flatten(1), y.permute(0, 3, 1, 2).flatten(1)

    torch.manual_seed(0)
    module, x = Fn(forward, l=nn.Linear(8, 16)).eval(), torch.randn(3, 4, 8)
    compare(capture(module, x), [x], WIDE, 1e-3)
