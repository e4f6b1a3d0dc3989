"""Folding batch norms: the function stays, and no batch norm is left."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant.capture import capture
from quant.fold import fold_batch_norm
from quant.graph import Graph, Input, Node
from quant.run import run


class Dense(nn.Module):
    """Densenet's order: norm, ReLU, convolution; the features are joined, so their producers have two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm3, self.fc = nn.BatchNorm2d(10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm0(self.conv0(x)).relu()
        y = self.conv1(self.norm1(x).relu())
        y = self.conv2(self.norm2(y).relu())
        return self.fc(self.norm3(torch.cat((x, y), 1)).relu().mean((2, 3)))


class TwoReaders(nn.Module):
    """A norm before two convolutions that do not pad, and a layer with two readers before a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)
        self.left, self.right = nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 3, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = self.norm(y)
        return self.left(z) + self.right(z) + y[:, :4, 1:-1, 1:-1]


class Normalized(nn.Module):
    """Input normalization inside the network, in three steps."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x * 2 - torch.tensor([0.4, 0.5, 0.6, 0.7]).view(4, 1, 1)) / 0.25)


def sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


NETS = {
    "conv, norm": (lambda: sequence(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()), "conv relu"),
    "depthwise, norm": (lambda: sequence(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8, affine=False)), "conv"),
    "linear, norm": (lambda: sequence(nn.Flatten(), nn.Linear(144, 6), nn.BatchNorm1d(6)), "flatten linear"),
    "norm, conv": (lambda: sequence(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)), "conv"),
    "norm, grouped conv": (lambda: sequence(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2, bias=False)), "conv"),
    "norm, padding conv": (lambda: sequence(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1)), "affine conv"),
    "norm, norm": (lambda: sequence(nn.ReLU(), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU()), "relu*2 affine"),
    "densenet": (Dense, "conv*3 relu*4 affine*2 concat avg_pool flatten linear"),
    "two readers": (TwoReaders, "conv*3 slice add*2"),
    "normalized": (lambda: Normalized(0), "conv"),
    "normalized, padding": (lambda: Normalized(1), "affine conv"),
}


@pytest.mark.parametrize("name", NETS)
def test_folding_keeps_the_function_and_leaves_no_batch_norm(name: str) -> None:
    torch.manual_seed(1)
    make, wanted = NETS[name]
    module = make().eval()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(m.running_var, 0.3, 3)  # type: ignore[arg-type]
            if m.affine:
                nn.init.normal_(m.weight, 0, 1)  # negative factors too
                nn.init.normal_(m.bias)
    x = torch.randn(5, 4, 6, 6)
    graph = fold_batch_norm(capture(module, x))
    assert Counter(n.op for n in graph.nodes) == Counter(
        {op: int(n or 1) for op, _, n in (item.partition("*") for item in wanted.split())}
    )
    with torch.no_grad():
        want = module(x)
    got = run(graph, x)[graph.outputs[0]]
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_folding_twice_changes_nothing() -> None:
    once = fold_batch_norm(capture(Dense().eval(), torch.randn(1, 4, 6, 6)))
    twice = fold_batch_norm(once)
    assert [n.name for n in twice.nodes] == [n.name for n in once.nodes]
    assert all(
        np.array_equal(a.params[k], b.params[k]) for a, b in zip(once.nodes, twice.nodes, strict=True) for k in a.params
    )


def test_a_layer_that_is_also_an_output_is_not_folded_into() -> None:
    params = {
        key: np.full(4, value, np.float32) for key, value in (("weight", 2), ("bias", 1), ("mean", 3), ("var", 4))
    }
    attrs = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    conv = Node("c", "conv", ("x",), attrs, {"weight": np.ones((4, 4, 1, 1))})
    norm = Node("n", "batch_norm", ("c",), {"eps": 0.0}, params)
    graph = fold_batch_norm(Graph("g", (Input("x", (4, 2, 2)),), (conv, norm), ("c", "n")))
    found = run(graph, np.ones((1, 4, 2, 2), np.float32))
    assert float(found["c"].max()) == 4.0
    assert float(found["n"].max()) == 2.0  # 2 (4 - 3) / sqrt(4) + 1


def test_a_negative_variance_is_refused_by_name() -> None:
    module = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)).eval()
    graph = capture(module, torch.randn(1, 4, 3, 3))
    norm = graph.node("1")
    broken = Graph("g", graph.inputs, (graph.node("0"), norm.with_params(var=-np.ones(6))), ("1",))
    with pytest.raises(ValueError, match=r"1\.var must be >= 0 \(got -1\)"):
        fold_batch_norm(broken)
