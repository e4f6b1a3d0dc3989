"""Layers of the same parameters: stored once, the same integers in every step, the network's numbers."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from float_nets import assert_engines_agree
from torch import Tensor, nn

from accelsim import reference
from accelsim.check import check
from accelsim.config import load_accelerator
from accelsim.layers import SCALE_BITS
from accelsim.program import Conv, Duplicate, Table
from accelsim.result import Result
from accelsim.simulate import simulate
from quant.capture import capture
from quant.lower import Quantized
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import LayerBits, Recipe
from quant.run import run
from quant.splitquant import SplitQuant
from quant.splitquant_storage import as_stored
from quant.transform import Transform
from quant.transforms import TRANSFORMS

EDGE = load_accelerator("edge-32x32")
INPUTS, HIDDEN, STEPS = 32, 32, 4  # rows as wide as a word of the weight buffer
ALIKE = Recipe(first_last="same")


class Recurrent(nn.Module):
    """A recurrent layer and a classifier of its last state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.end = layer, nn.Linear(HIDDEN, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.layer(x)[0][:, -1])


class Cells(nn.Module):
    """A cell called once a step; the last state is the result, so that the last layer is a step's."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(len(x), HIDDEN)
        for step in range(x.shape[1]):
            hidden = self.cell(x[:, step], hidden)
        return hidden


class Fn(nn.Module):
    """A function of modules."""

    def __init__(self, function: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


LAYERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "gru": (lambda: Recurrent(nn.GRU(INPUTS, HIDDEN, batch_first=True)), 3),
    "tanh": (lambda: Recurrent(nn.RNN(INPUTS, HIDDEN, batch_first=True)), 1),
    "relu": (lambda: Recurrent(nn.RNN(INPUTS, HIDDEN, batch_first=True, nonlinearity="relu")), 1),
    "gru cell": (lambda: Cells(nn.GRUCell(INPUTS, HIDDEN)), 3),
    "rnn cell": (lambda: Cells(nn.RNNCell(INPUTS, HIDDEN)), 1),
}


def quantized(net: nn.Module, x: Tensor, recipe: Recipe = ALIKE) -> Quantized:
    found = quantize_network(capture(net.eval(), x[:1]), lambda: [x.numpy()], recipe)
    assert_engines_agree(found, x[:2].numpy())
    return found


def recurrent(name: str, recipe: Recipe = ALIKE, steps: int = STEPS) -> Quantized:
    torch.manual_seed(3)
    return quantized(LAYERS[name][0](), torch.randn(6, steps, INPUTS), recipe)


def stored(found: Quantized) -> list[Conv]:
    return [op for op in found.program.ops if isinstance(op, Conv) and not op.shares]


def later(found: Quantized) -> list[Conv]:
    return [op for op in found.program.ops if isinstance(op, Conv) and op.shares]


def priced(found: Quantized) -> Result:
    return simulate(as_stored(found), EDGE)


@pytest.mark.parametrize("name", LAYERS)
def test_steps_store_their_weights_once(name: str) -> None:
    found, gates = recurrent(name), LAYERS[name][1]
    steps = [op for op in stored(found) if op.name != "end"]
    weights = gates * HIDDEN * (INPUTS + HIDDEN)
    assert sum(op.weight.size for op in steps) == weights
    assert len(later(found)) == (STEPS - 2) + (STEPS - 1) * ("cell" in name)  # the first state is zero
    rows = [layer for layer in priced(found).layers if isinstance(found.program.op(layer.name), Conv)]
    biases, scales = 2 * gates * HIDDEN * EDGE.accumulator.bits // 8, 2 * 3 * SCALE_BITS // 8
    assert sum(row.weight_bytes for row in rows if row.name != "end") == weights + biases + scales


@pytest.mark.parametrize("name", ["gru", "rnn cell"])
def test_more_steps_cost_time_and_energy_and_no_parameters(name: str) -> None:
    few, many = (priced(recurrent(name, steps=steps)) for steps in (3, 6))
    assert few.weight_bytes == many.weight_bytes
    assert few.cycles < many.cycles
    assert few.energy_pj["total"] < many.energy_pj["total"]


def test_steps_share_tables() -> None:
    tables = [op for op in recurrent("gru").program.ops if isinstance(op, Table)]
    assert len(tables) == 3 * STEPS
    assert sum(not op.shares for op in tables) == 3 + 3  # the first step multiplies no state and goes another way


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gru", {"transforms": (SplitOutliers(ratio=0.1),)}),
        ("tanh", {"transforms": (SplitOutliers(ratio=0.1, naive=True),), "weight_bits": 5, "act_bits": 6}),
        ("tanh", {"transforms": (SplitQuant(),)}),
        ("tanh", {"transforms": (SplitOutliers(ratio=0.1), SplitQuant(storage="coded")), "weight_bits": 4}),
        ("gru", {"per_channel": True, "bias_correction": True, "weight_bits": 4}),
        ("tanh", {"act_scheme": "affine"}),
        ("relu", {"rule": "pot_shift"}),
        ("rnn cell", {"first_last": "8bit", "weight_bits": 3}),
    ],
)
def test_methods_do_the_same_to_all_steps(name: str, change: dict[str, Any]) -> None:
    transforms: tuple[Transform, ...] = change.get("transforms", ())
    found = recurrent(name, replace(ALIKE, **change))
    parts = 3 if any(isinstance(one, SplitQuant) for one in transforms) else 1
    matrices = 2 if "cell" in name else 3
    assert len(stored(found)) == matrices * parts
    check(as_stored(found))
    copies = [op for op in found.program.ops if isinstance(op, Duplicate)]
    if any(isinstance(one, SplitOutliers) for one in transforms):
        assert {len(op.source) for op in copies} == {INPUTS + 4}
        assert len({op.source.tobytes() for op in copies}) == matrices
    ops = {op.name: op for op in found.program.ops}
    rows = [layer for layer in priced(found).layers if isinstance(ops[layer.name], Conv)]
    assert sum(row.weight_bytes > 0 for row in rows) == matrices * (1 if "coded" in found.label else parts)


def test_a_plan_that_names_one_step_splits_all() -> None:
    first = stored(recurrent("gru"))[1].name
    found = recurrent("gru", replace(ALIKE, transforms=(SplitOutliers(splits=((first, 2),)),)))
    assert [op.weight.shape[-1] for op in stored(found)] == [INPUTS, HIDDEN + 2, HIDDEN]
    assert [op.shares for op in later(found)] == [first] * (STEPS - 2)


@pytest.mark.parametrize(
    "change",
    [
        {"transforms": (SplitActivations(ratio=0.2),)},
        {"layer_bits": (LayerBits("layer_23", weight_bits=5),)},
    ],
)
def test_steps_that_come_out_different_store_their_own(change: dict[str, Any]) -> None:
    found = recurrent("gru", replace(ALIKE, **change))
    assert len(stored(found)) > 3
    assert all(np.array_equal(op.weight, found.program.op(op.shares).weight) for op in later(found))


def _twice(self: Any, x: Tensor) -> Tensor:
    return self.end(torch.relu(self.one(torch.relu(self.one(x)))))


def _matrix(self: Any, x: Tensor) -> Tensor:
    return self.end(torch.relu(torch.relu(x @ self.one) @ self.one))


def _other_size(self: Any, x: Tensor) -> Tensor:
    return self.end(torch.relu(self.one(x))).mean(1) + self.end(torch.relu(self.one(x[:, 0])))


def _scaled(self: Any, x: Tensor) -> Tensor:
    return self.end(torch.relu(3 * self.one(torch.relu(self.one(x)))))


CALLS: dict[str, tuple[Callable[[Any, Tensor], Tensor], tuple[int, ...], int, int]] = {
    "twice": (_twice, (INPUTS,), 2, 1),
    "a matrix": (_matrix, (INPUTS,), 2, 1),
    "of other sizes": (_other_size, (3, INPUTS), 2, 2),
    "scaled after one": (_scaled, (INPUTS,), 2, 1),
}
"""Function, shape of the input, matrices stored, layers that share one."""


@pytest.mark.parametrize("name", CALLS)
def test_modules_called_twice(name: str) -> None:
    torch.manual_seed(1)
    function, shape, owned, sharing = CALLS[name]
    one = nn.Parameter(torch.randn(INPUTS, INPUTS)) if name == "a matrix" else nn.Linear(INPUTS, INPUTS)
    found = quantized(Fn(function, one=one, end=nn.Linear(INPUTS, 4)), torch.randn(32, *shape))
    assert (len(stored(found)), len(later(found))) == (owned, sharing)


@pytest.mark.parametrize("name", ["one-step", "two-step", "cross-layer", "smoothquant"])
def test_scaled_channels_keep_the_function(name: str) -> None:
    """Calls whose weights are scaled differently are layers of their own."""
    torch.manual_seed(1)
    net, x = Fn(_twice, one=nn.Linear(INPUTS, INPUTS), end=nn.Linear(INPUTS, 4)), torch.randn(32, INPUTS)
    wide = replace(ALIKE, weight_bits=12, act_bits=12, transforms=(TRANSFORMS[name](),))
    found = quantize_network(capture(net.eval(), x[:1]), lambda: [x.numpy()], wide)
    got = found.decode(reference.run(found.program, found.encode(x.numpy())).values)[0]
    np.testing.assert_allclose(got, net(x).detach().numpy(), atol=0.02)


def test_convolutions_of_maps_of_several_sizes_are_stored_once() -> None:
    def heads(self: Any, x: Tensor) -> Tensor:
        near, far = (self.head(torch.relu(self.tower(y))) for y in (x, nn.functional.avg_pool2d(x, 2)))
        return torch.cat((near.flatten(1), far.flatten(1)), 1)

    torch.manual_seed(2)
    net = Fn(heads, tower=nn.Conv2d(4, 6, 3, padding=1), head=nn.Conv2d(6, 2, 1))
    found = quantized(net, torch.randn(4, 4, 8, 8))
    assert [op.name for op in stored(found)] == ["tower", "head"]
    assert [op.shares for op in later(found)] == ["tower", "head"]
    assert priced(found).layers[-1].weight_bytes == 0


def test_equal_copies_are_layers_of_their_own() -> None:
    torch.manual_seed(1)
    one = nn.Linear(INPUTS, INPUTS)
    net = Fn(lambda s, x: s.two(torch.relu(s.one(x))), one=one, two=copy.deepcopy(one))
    found = quantized(net, torch.randn(8, INPUTS))
    assert not later(found)


@pytest.mark.parametrize("name", ["gru", "relu"])
def test_at_sixteen_bits_steps_on_one_grid_compute_what_they_did(name: str) -> None:
    torch.manual_seed(3)
    net, x = LAYERS[name][0]().eval(), torch.randn(6, STEPS, INPUTS)
    found = quantize_network(capture(net, x[:1]), lambda: [x.numpy()], replace(ALIKE, weight_bits=16, act_bits=16))
    values = reference.run(found.program, found.encode(x.numpy())).values  # sums wider than machines have
    got, want = found.decode(values)[0], run(found.graph, x)[found.graph.outputs[0]].numpy()
    assert np.sqrt(((got - want) ** 2).mean()) < 2e-3 * np.sqrt((want**2).mean())


def test_onnx_nodes_that_read_one_initializer_and_files_that_are_written() -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
    from onnx_nets import model_bytes

    from quant.exporters.onnx_export import export_onnx
    from quant.importers.onnx_import import import_onnx_bytes

    rng, nodes = np.random.default_rng(0), onnx.helper.make_node
    weight, bias = rng.normal(size=(6, 6)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    layers = [
        nodes("Gemm", ["x", "w", "b"], ["a"], transB=1), nodes("Relu", ["a"], ["r"]),
        nodes("Gemm", ["r", "w", "b"], ["c"], transB=1), nodes("Gemm", ["c", "v"], ["y"]),
    ]  # fmt: skip
    graph: Any = import_onnx_bytes(
        model_bytes(layers, {"x": (6,)}, ["y"], {"w": weight, "b": bias, "v": weight[:, :4]}), "net"
    )
    x = rng.normal(size=(8, 6)).astype(np.float32)
    found = quantize_network(graph, lambda: [x], ALIKE)
    assert_engines_agree(found, x)
    assert [op.shares for op in found.program.ops if isinstance(op, Conv)] == ["", "a", ""]
    file = onnx.ModelProto.FromString(export_onnx(found))
    assert [tuple(array.dims) for array in file.graph.initializer].count((6, 6)) == 1
