"""Capture: the graph computes what the module computes, under the module's names, or says what it cannot hold."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from capture_nets import NETS, Fn, captured
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from quant.capture import capture
from quant.graph import OPS
from quant.run import run


@pytest.mark.parametrize("name", NETS)
def test_the_graph_equals_the_module_at_any_batch_size(name: str) -> None:
    module, graph, inputs = captured(name)
    for batch in (1, 5):
        x = [f(batch) for f in inputs]
        with torch.no_grad():
            wanted = torch.utils._pytree.tree_leaves(module(*x))
        found = run(graph, x)
        assert len(graph.outputs) == len(wanted)
        for out, want in zip(graph.outputs, wanted, strict=True):
            assert found[out].shape == want.shape
            assert (found[out] - want).abs().max() <= 1e-5 * max(1.0, want.abs().max())


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net[2]])
def test_the_graph_has_the_operations_expected_and_no_others(name: str) -> None:
    _, graph, _ = captured(name)
    wanted = Counter({op: int(n or 1) for op, _, n in (item.partition("*") for item in NETS[name][2].split())})
    assert Counter(node.op for node in graph.nodes) == wanted


def test_every_operation_of_the_table_is_captured_by_some_network() -> None:
    seen = {node.op for name in NETS for node in captured(name)[1].nodes}
    made_by_transforms = {"clamp_channels"}
    assert set(OPS) - made_by_transforms - seen == set()


def test_layers_bear_the_paths_of_their_modules() -> None:
    _, graph, _ = captured("resnet")
    assert [n.name for n in graph.nodes if n.op in ("conv", "linear")] == [
        "stem", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2", "fc",
    ]  # fmt: skip
    assert graph.node("layer1.1.add").layer == "layer1.1"
    assert graph.node("layer1.0.act").op == "relu"
    _, graph, _ = captured("mha")
    assert [n.name for n in graph.nodes if n.params] == ["mha.in_proj", "mha.out_proj"]
    _, graph, _ = captured("lstm")
    assert [n.name for n in graph.nodes if n.op == "lstm"] == ["lstm.l0", "lstm.l1"]


def test_a_causal_mask_is_recognized_and_key_heads_are_not_copied() -> None:
    for name in ("mha", "eager attention", "llama"):
        _, graph, _ = captured(name)
        (attention,) = (n for n in graph.nodes if n.op == "attention")
        assert attention.attrs["causal"]
        assert not attention.params
    assert [graph.shapes[name][0] for name in attention.inputs] == [4, 2, 2]


def test_mask_and_bias_are_kept_apart() -> None:
    _, graph, _ = captured("mask and bias")
    (attention,) = (n for n in graph.nodes if n.op == "attention")
    assert attention.params["mask"].shape[1:] == (6, 6)
    assert attention.params["bias"].min() == -2.0


def in_place_on_a_layer(self: nn.Module, x: Tensor) -> Tensor:
    y = self.conv(x)  # type: ignore[operator]
    z = y + 1
    F.relu_(y)
    return y + x + z


def in_place_on_a_view(self: nn.Module, x: Tensor) -> Tensor:
    y = self.conv(x)  # type: ignore[operator]
    y.flatten(1).relu_()
    return y + x


def in_place_on_what_a_view_reads(self: nn.Module, x: Tensor) -> Tensor:
    y = self.conv(x)  # type: ignore[operator]
    z = y.flatten(2)
    y.mul_(2).clamp_(min=-1)
    return y + z.view_as(y) + x


def in_place_on_a_copy(self: nn.Module, x: Tensor) -> Tensor:
    y = self.conv(x)  # type: ignore[operator]
    y.clone().relu_()
    return y + x


@pytest.mark.parametrize(
    ("forward", "ops"),
    [
        (in_place_on_a_layer, "conv affine relu add add"),
        (in_place_on_a_view, "conv relu add"),
        (in_place_on_what_a_view_reads, "conv scale clamp add add"),
        (in_place_on_a_copy, "conv add"),
    ],
)
def test_an_in_place_function_changes_what_later_readers_see(forward: Callable[..., Tensor], ops: str) -> None:
    graph = capture(Fn(forward, conv=nn.Conv2d(4, 4, 1)).eval(), torch.randn(2, 4, 3, 3))
    assert Counter(node.op for node in graph.nodes if node.op not in ("flatten", "reshape")) == Counter(ops.split())


def test_a_parameter_is_not_changed_by_in_place_arithmetic_on_it() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return x + self.conv.bias.detach().clone().mul_(2)  # type: ignore[union-attr,operator]

    module = Fn(forward, conv=nn.Conv2d(4, 4, 1)).eval()
    before = module.conv.bias.detach().clone()  # type: ignore[union-attr,operator]
    capture(module, torch.randn(2, 4))
    assert torch.equal(module.conv.bias, before)  # type: ignore[arg-type]


def test_the_module_is_left_as_it_was() -> None:
    module = NETS["lstm"][0]().eval()
    before = {name: (id(p), p.detach().clone()) for name, p in module.named_parameters()}
    capture(module, torch.randint(0, 9, (2, 7)))
    after = dict(module.named_parameters())
    assert {name: id(p) for name, p in after.items()} == {name: old for name, (old, _) in before.items()}
    assert all(torch.equal(after[name], value) for name, (_, value) in before.items())
    assert isinstance(module.lstm.weight_ih_l0, nn.Parameter)  # type: ignore[union-attr]


def test_inputs_may_be_given_by_name_and_as_arrays() -> None:
    module = Fn(lambda self, x, y: x * y).eval()
    arrays = {"x": np.ones((2, 3), np.float32), "y": np.full((2, 3), 2, np.float32)}
    graph = capture(Named(module).eval(), arrays)
    assert [item.name for item in graph.inputs] == ["x", "y"]
    assert run(graph, arrays)[graph.outputs[0]].tolist() == [[2.0] * 3] * 2


class Named(nn.Module):
    """Gives names to the inputs of another module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inner(x, y)


def test_all_unsupported_operations_are_reported_at_once_with_modules_and_counts() -> None:
    module = nn.Sequential(
        nn.Conv2d(4, 4, 1), Fn(lambda s, x: x.cumsum(2)), nn.LocalResponseNorm(2), nn.LocalResponseNorm(3)
    ).eval()
    with pytest.raises(ValueError, match="supported") as caught:
        capture(module, torch.randn(1, 4, 6, 6), "net")
    message = str(caught.value)
    assert "cumsum (1x in 1)" in message
    assert "avg_pool3d" not in message  # reads a broken result: reported once its input can be had
    both = Fn(
        lambda s, x: (s.a(x), s.b(x), s.c(x)), a=Fn(lambda s, x: x.cumsum(2)),
        b=nn.LocalResponseNorm(2), c=nn.LocalResponseNorm(3),
    )  # fmt: skip
    with pytest.raises(ValueError, match="net: ") as caught:
        capture(both.eval(), torch.randn(1, 4, 6, 6), "net")
    assert "cumsum (1x in a)" in str(caught.value)
    assert "avg_pool3d (2x in b, c)" in str(caught.value)
    assert "\n" not in str(caught.value)


BAD: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "training mode": (lambda: nn.Sequential(nn.Linear(3, 3)).train(), torch.randn(1, 3), r"call \.eval\(\)"),
    "double precision": (lambda: nn.Linear(3, 3).double(), torch.randn(1, 3).double(), "float64"),
    "batch mixed in": (lambda: Fn(lambda s, x: x.reshape(-1, 2) + x.sum()), torch.randn(4, 6), "batch"),
    "mean over the batch": (lambda: Fn(lambda s, x: x - x.mean(0)), torch.randn(4, 6), "along the batch"),
    "no batch axis": (lambda: nn.Identity(), torch.tensor(1.0), "batch axis"),
    "places of maxima": (lambda: Fn(lambda s, x: x.max(1)[1] + 0.5), torch.randn(2, 4), "places of maxima"),
    "mask from ids": (
        lambda: Fn(lambda s, x: s.e(x.ne(0).long()), e=nn.Embedding(9, 4)),
        torch.ones(2, 4).long(),
        "position_ids",
    ),
    "cell state": (
        lambda: Fn(lambda s, x: s.l(x)[1][1] + 1, l=nn.LSTM(3, 3)),
        torch.randn(2, 4, 3),
        "batch|cell state",
    ),
    "branch on data": (lambda: Fn(lambda s, x: x if x.sum() > 0 else -x), torch.randn(2, 4), "able to trace"),
    "constant output": (lambda: Fn(lambda s, x: torch.ones(3)), torch.randn(2, 4), "does not depend on the input"),
    "not a number": (lambda: Fn(lambda s, x: x.log()), -torch.ones(2, 4), "must be finite"),
    "integer arithmetic": (lambda: Fn(lambda s, x: s.e(x + 1), e=nn.Embedding(9, 4)), torch.ones(2, 4).long(), "int64"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_captured_is_refused_in_one_clear_line(name: str) -> None:
    make, example, text = BAD[name]
    module = make()
    if name != "training mode":
        module.eval()
    with pytest.raises(ValueError, match=text) as caught:
        capture(module, example, "net")
    assert str(caught.value).startswith("net: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_with_layer_and_parameter(value: float) -> None:
    module = NETS["resnet"][0]().eval()
    with torch.no_grad():
        module.layer1[1].conv2.weight[0, 0, 0, :2] = value  # type: ignore[index,union-attr]
    with pytest.raises(ValueError, match=r"layer1\.1\.conv2\.weight must be finite \(got 2 NaN or infinite"):
        capture(module, torch.randn(1, 3, 8, 8))


def turned_otherwise(self: nn.Module, x: Tensor) -> Tensor:
    y = x.unflatten(2, (2, 4)).transpose(1, 2)
    return y * torch.linspace(0, 1, 24).view(6, 4) + torch.cat((-y[..., :2], y[..., 2:]), -1) * torch.arange(4.0)


NEAR_MISSES: dict[str, tuple[Callable[..., Tensor], str]] = {
    "quick gelu": (lambda s, x: x * torch.sigmoid(1.702 * x), "gelu silu"),
    "shifted silu": (lambda s, x: x * torch.sigmoid(x + 0.01), "silu"),
    "product with another": (lambda s, x: x.tanh() * torch.sigmoid(x), "silu"),
    "norm over time": (lambda s, x: x * (x.pow(2).mean(1, keepdim=True) + 1e-5).rsqrt(), "rms_norm"),
    "another's mean": (lambda s, x: x * (x.tanh().pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt(), "rms_norm"),
    "softmax over queries": (lambda s, x: (x @ x.mT).softmax(1) @ x, "attention"),
    "turned otherwise": (turned_otherwise, "rotary"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_only_resembles_a_pattern_is_left_as_it_is(name: str) -> None:
    function, wrong = NEAR_MISSES[name]
    graph = capture(Fn(function).eval(), torch.randn(3, 6, 8))
    assert {node.op for node in graph.nodes}.isdisjoint(wrong.split())


@settings(max_examples=20)
@given(st.data())
def test_any_chain_of_views_keeps_values_where_torch_has_them(data: st.DataObject) -> None:
    """Random permutations and regroupings, batch included, undone at the end by moving the batch to the front."""
    orders = [data.draw(st.permutations(range(4))) for _ in range(3)]
    cut = data.draw(st.sampled_from([(2, 6), (4, 3), (12, 1), (3, 4)]))

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        y = x.view(-1, *cut, 5).permute(*orders[0])
        y = torch.relu(y).permute(*orders[1]).unsqueeze(2)
        y = y.transpose(0, 3) * 2
        y = y.squeeze(2).permute(*orders[2])
        return y.movedim(next(i for i, n in enumerate(y.shape) if n not in (*cut, 5)), 0) + 1

    x = torch.randn(7, 12, 5)
    graph = capture(Fn(forward).eval(), x)
    assert torch.equal(run(graph, x)[graph.outputs[0]], forward(nn.Module(), x))
