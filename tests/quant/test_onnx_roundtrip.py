"""What we export comes back: importing the file gives a Program with the same integers, for both kinds of ends."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")

import torch
from onnx_nets import float_cnn
from program_builder import Seeded
from programs import one_op, random_inputs
from torch import nn

from accelsim.execute import execute
from accelsim.program import OPS, Program
from quant.build import Value
from quant.capture import capture
from quant.exporters.onnx_export import Ends, export_onnx
from quant.exporters.onnx_ops import WRITE
from quant.graph import Graph
from quant.importers.onnx_import import OnnxNetwork, import_onnx_bytes, in_file_order
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe

Array = NDArray[Any]
DRAWS = 40


def read_back(data: bytes) -> OnnxNetwork:
    found = import_onnx_bytes(data, "back")
    assert isinstance(found, OnnxNetwork)
    assert not found.remarks
    return found


def _exported(program: Program) -> bytes | None:
    """Return a Program as a file of codes, its axes as they are; ``None`` where ONNX has no integers for it."""
    values = [
        tuple(Value(name, None, tuple(range(len(program.tensors[name].shape)))) for name in names)
        for names in (program.inputs, program.outputs)
    ]
    try:
        return export_onnx(SimpleNamespace(program=program, inputs=values[0], outputs=values[1]), ends="codes")  # type: ignore[arg-type]
    except ValueError:
        return None


@pytest.mark.parametrize("kind", sorted(OPS))
def test_every_op_that_is_written_is_read(kind: str) -> None:
    written = 0
    for seed in range(DRAWS):
        program = one_op(kind, Seeded(seed))
        data = _exported(program)
        if data is None:
            continue
        written += 1
        back = read_back(data)
        codes = random_inputs(program, 3, seed)
        ours = execute(program, codes).outputs
        given = [codes[port.name.removeprefix("input.")] for port in back.inputs]
        again = execute(back.program, back.encode(*given)).outputs
        for name, port in zip(program.outputs, back.outputs, strict=True):
            np.testing.assert_array_equal(in_file_order(again[port.tensor], port.layout), ours[name], err_msg=str(seed))
    assert (written > 0) == (OPS[kind] in WRITE)


class Tokens(nn.Module):
    """Attention over embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.table(x)
        q, k, v = (layer(x).reshape(-1, 5, 2, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.relu(self.out(mixed.transpose(1, 2).reshape(-1, 5, 8)) + x)


def _network(kind: str) -> tuple[Graph, Array]:
    rng = np.random.default_rng(1)
    if kind == "tokens":
        torch.manual_seed(0)
        x = rng.integers(0, 11, (32, 5))
        return capture(Tokens().eval(), torch.zeros(2, 5, dtype=torch.int64), kind), x
    graph = import_onnx_bytes(float_cnn(2, kind))
    assert isinstance(graph, Graph)
    return graph, rng.normal(0, 1, (32, 3, 10, 10)).astype(np.float32)


RECIPES = {
    "plain": Recipe(first_last="same", inner_bits=8),
    "affine, per channel": Recipe(act_scheme="affine", per_channel=True, inner_bits=8),
    "expanded": Recipe(weight_bits=5, transforms=(SplitOutliers(ratio=0.1),), inner_bits=8),
    "split activations": Recipe(act_bits=7, transforms=(SplitActivations(ratio=0.1),), first_last="same", inner_bits=8),
}


@pytest.mark.parametrize("ends", ["real", "codes"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["residual", "mobile", "dense", "tokens"])
def test_networks_come_back_as_the_same_integers(kind: str, recipe: str, ends: Ends) -> None:
    graph, x = _network(kind)
    found = quantize_network(graph, lambda: [x], RECIPES[recipe])
    back = read_back(export_onnx(found, ends=ends))
    codes, first = found.encode(x), found.inputs[0]
    order = (0, *(first.layout.index(axis) + 1 for axis in range(len(first.layout))))
    given = x if ends == "real" else codes[first.name].transpose(order)
    again_codes = back.encode(given)
    np.testing.assert_array_equal(again_codes[back.inputs[0].tensor], codes[first.name])
    ours, again = execute(found.program, codes).outputs, execute(back.program, again_codes).outputs
    port, last = back.outputs[0], found.outputs[0]
    np.testing.assert_array_equal(
        in_file_order(again[port.tensor], port.layout), in_file_order(ours[last.name], last.layout)
    )
    if ends == "real":
        np.testing.assert_array_equal(back.decode(again)[0], found.decode(ours)[0])


def test_values_between_two_codes_go_where_our_own_encoder_puts_them() -> None:
    graph, x = _network("residual")
    found = quantize_network(graph, lambda: [x], RECIPES["plain"])
    back = read_back(export_onnx(found, ends="real"))
    grid = found.inputs[0].on
    ties = (np.arange(-400, 400, dtype=np.float64)[:300] + 0.5) * grid.one_scale
    near = np.concatenate([np.nextafter(ties.astype(np.float32), s) for s in (np.float32(-9), np.float32(9))])
    values = np.resize(np.concatenate([ties.astype(np.float32), near]), (4, 3, 10, 10))
    ours, theirs = found.encode(values), back.encode(values)
    np.testing.assert_array_equal(theirs[back.inputs[0].tensor], ours[found.inputs[0].name])
