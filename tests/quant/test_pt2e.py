"""Networks that torch quantized: our integers against torch running the very module, element by element."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pt2e_nets import OPS, Layer, Net, Steps, grid
from torch import Tensor, nn

from accelsim import reference
from accelsim.execute import execute
from accelsim.program import Add, AvgPool, Conv
from quant import oracle
from quant.importers.pt2e import TorchNetwork, import_pt2e, import_pt2e_module, quantize
from quant.importers.pt2e_model import is_quantized_module
from reports.witness_torch import compare_torch

SHAPE = (3, 10, 10)
SAMPLES = 48


def samples(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1.2, (SAMPLES, *shape)).astype(np.float32)


def imported(module: nn.Module, *shape: int) -> TorchNetwork:
    return import_pt2e_module(module.eval(), torch.zeros(2, *shape), "net")


def assert_exact(network: TorchNetwork, x: NDArray[np.float32]) -> None:
    """Compare every quantized tensor with torch's, and our three executors with each other."""
    assert not network.remarks
    theirs = network.torch_codes(x)
    codes = network.encode(x)
    ours = reference.run(network.program, codes).values
    assert len(theirs) >= 2
    for name, found in theirs.items():
        np.testing.assert_array_equal(ours[name], found, err_msg=name)
    every = {op.output for op in network.program.ops}
    few = {name: array[:4] for name, array in codes.items()}
    fast, slow = execute(network.program, few, keep=every).outputs, oracle.run(network.program, few, keep=every).values
    for name in every:
        np.testing.assert_array_equal(fast[name], ours[name][:4], err_msg=name)
        np.testing.assert_array_equal(slow[name], ours[name][:4], err_msg=name)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_powers_of_two_are_exact_everywhere(dtype: torch.dtype, per_channel: bool) -> None:
    network = imported(Net(3, dtype=dtype, per_channel=per_channel, dyadic=True), *SHAPE)
    assert_exact(network, samples(1, *SHAPE))
    kinds = [type(op) for op in network.program.ops]
    assert (kinds.count(Conv), kinds.count(Add), kinds.count(AvgPool)) == (4, 1, 2)


@pytest.mark.parametrize("join", ["codes", "sums"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_any_scales_differ_only_where_torch_rounds_float_sums(dtype: torch.dtype, per_channel: bool, join: str) -> None:
    network = imported(Net(5, dtype=dtype, per_channel=per_channel, join=join), *SHAPE)
    found = compare_torch(network, samples(2, *SHAPE))
    assert found.bit_exact, found.difference
    assert found.tensors >= 6
    off = sum(count for count, _ in found.tolerated.values())
    assert all(most == 1 for _, most in found.tolerated.values())
    assert off <= 2e-4 * found.values
    # what torch does not round in an order of its own must be equal: the add, the pool of maxima, all moves
    exact = [op for op in network.program.ops if op.output not in network.inexact]
    assert any(isinstance(op, Add) for op in exact) == (join == "codes")


def test_a_float_output_is_read_back_with_its_bias() -> None:
    net = Net(7)
    network, x = imported(net, *SHAPE), samples(3, *SHAPE)
    ours = network.decode(execute(network.program, network.encode(x)).outputs)[0]
    with torch.no_grad():
        theirs = net(torch.from_numpy(x)).numpy()
    assert np.abs(theirs).max() > 0.5
    step = network.outputs[0].scale
    assert step is not None
    assert np.abs(ours - theirs).max() <= 40 * float(step.max())  # a flipped code in front moves a sum by a weight


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": nn.functional.silu, "gelu": nn.functional.gelu,
    "hardswish": nn.functional.hardswish, "leaky": lambda x: nn.functional.leaky_relu(x, 0.1), "elu": nn.functional.elu,
    "relu6": nn.functional.relu6, "clamp": lambda x: torch.clamp(x, -0.5, 0.75), "half": lambda x: x * 0.5 + 1,
    "from one": lambda x: 1 - x, "chain": lambda x: torch.sigmoid(torch.relu(x)),
    "max": lambda x: nn.functional.max_pool2d(x, 3, 2, 1), "view": lambda x: x.view(x.shape[0], 2, -1),
    "permute": lambda x: x.permute(0, 2, 3, 1), "cat": lambda x: torch.cat([x, grid(x, 0.04, 3, torch.int8)], 1),
    "slice": lambda x: x[:, 1:, ::2], "split": lambda x: torch.cat(torch.split(x, [1, 3], 1)[::-1], 1),
    "pad": lambda x: nn.functional.pad(x, (1, 2, 0, 1)), "squeeze": lambda x: x.unsqueeze(2).squeeze(2),
    "residual": lambda x: x + grid(torch.relu(x), 0.02, -4, torch.int8),
    "difference": lambda x: x - grid(torch.relu(x), 0.02, -4, torch.int8),
    "row": lambda x: x + grid(x[:, :, :1], 0.02, -4, torch.int8),
    "flat": lambda x: torch.flatten(x, 1), "transpose": lambda x: x.transpose(1, 2).contiguous(),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_steps_without_sums_are_exact(name: str) -> None:
    assert_exact(imported(Steps(STEPS[name]), 4, 6, 5), samples(4, 4, 6, 5))


ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "mul": lambda x: x * grid(torch.sigmoid(x), 1 / 256, -128, torch.int8),
    "mean": lambda x: x.mean((2, 3), keepdim=True), "avg": lambda x: nn.functional.avg_pool2d(x, 2),
    "global": lambda x: nn.functional.adaptive_avg_pool2d(x, 1), "softmax": lambda x: torch.softmax(4 * x, -1),
    "square": lambda x: x[..., :5, :].transpose(2, 3) @ x[..., :5, :] / 8,
    "matmul": lambda x: x @ grid(x * 0.5, 0.02, 3, torch.int8).transpose(2, 3),
    "float between": lambda x: nn.functional.avg_pool2d(x + torch.relu(x), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDED)
def test_steps_with_float_sums_are_remarked_upon_and_close(name: str) -> None:
    network = imported(Steps(ROUNDED[name]), 4, 6, 5)
    assert network.remarks
    found = compare_torch(network, samples(6, 4, 6, 5))
    assert found.bit_exact, found.difference
    assert all(most == 1 for _, most in found.tolerated.values())
    assert sum(count for count, _ in found.tolerated.values()) <= 2e-3 * found.values


def test_16_bit_activations() -> None:
    network = imported(Steps(lambda x: nn.functional.max_pool2d(torch.tanh(x), 2), torch.int16), 4, 6, 5)
    assert_exact(network, samples(4, 4, 6, 5))


def test_tokens_go_through_linear_layers_with_their_axes() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(0)
            self.one, self.two = (
                Layer(rng, (n, m), per_channel=True, dyadic=True, input_scale=0.03125) for n, m in ((12, 6), (6, 12))
            )

        def forward(self, x: Tensor) -> Tensor:
            x = grid(x, 0.03125, 9)
            y = grid(nn.functional.gelu(grid(self.one(x), 0.03125, 128)), 0.03125, 20)
            return grid(x + grid(self.two(y), 0.03125, 100), 0.0625, 128)

    assert_exact(imported(Block(), 5, 6), samples(8, 5, 6))


def test_weights_may_be_quantized_in_the_graph_and_convolutions_padded_by_name() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3) / 5)

        def forward(self, x: Tensor) -> Tensor:
            scales, zeros = torch.full((4,), 2.0**-6), torch.zeros(4, dtype=torch.int64)
            parts = (scales, zeros, 0, -127, 127, torch.int8)
            weight = OPS.dequantize_per_channel(OPS.quantize_per_channel(self.weight, *parts), *parts)
            return grid(nn.functional.conv2d(grid(x, 2.0**-5, 100), weight, padding="same"), 2.0**-4, 128)

    network = imported(Late(), *SHAPE)
    assert_exact(network, samples(8, *SHAPE))


def test_values_go_onto_grids_as_torch_puts_them() -> None:
    rng = np.random.default_rng(0)
    for scale, zero in ((0.1, 3), (0.02713, 0), (3.3e-4, -100), (7.0, 17)):
        x = np.concatenate([rng.normal(0, 40 * scale, 20000), (np.arange(-300, 300) + 0.5) * scale]).astype(np.float32)
        theirs = OPS.quantize_per_tensor(torch.from_numpy(x), scale, zero, -128, 127, torch.int8).numpy()
        np.testing.assert_array_equal(quantize(x, scale, zero, -128, 127), theirs)


def test_saved_programs_are_read_back_for_any_batch(tmp_path: Path) -> None:
    net, x = Net(9).eval(), samples(5, *SHAPE)
    batch = torch.export.Dim("batch")
    torch.export.save(
        torch.export.export(net, (torch.zeros(2, *SHAPE),), dynamic_shapes=({0: batch},)), tmp_path / "net.pt2"
    )
    network = import_pt2e(torch.export.load(tmp_path / "net.pt2"), "net")
    other = imported(net, *SHAPE)
    assert network.program.digest() == other.program.digest()
    np.testing.assert_array_equal(*(list(n.torch_codes(x).values())[-1] for n in (network, other)))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_float_module_is_none() -> None:
    assert not is_quantized_module(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="holds no quantize and dequantize pairs"):
        imported(nn.Linear(3, 3), 3)


def _dynamic(x: Tensor) -> Tensor:
    scale, zero = OPS.choose_qparams.tensor(x, -128, 127, 1e-6, torch.int8)
    return OPS.quantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8).to(torch.float32)


def _channels(x: Tensor) -> Tensor:
    parts = (torch.ones(4), torch.zeros(4, dtype=torch.int64), 1, -128, 127, torch.int8)
    return OPS.dequantize_per_channel(OPS.quantize_per_channel(x, *parts), *parts)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "unknown ops": (lambda x: torch.cumsum(x, 1).sin(), r"no integer form for cumsum \(1x\), sin \(1x\); known are"),
    "scales that are computed": (_dynamic, "quantize the network statically"),
    "a grid per channel": (_channels, "quantize per tensor"),
    "weights in float": (lambda x: nn.functional.conv2d(x, torch.ones(2, 4, 3, 3)), "conv2d.* not quantized"),
    "a transposed one": (lambda x: nn.functional.conv_transpose2d(x, torch.ones(4, 2, 3, 3)), "conv_transpose2d"),
    "the batch merged": (lambda x: x.reshape(-1, 5), "mixes the batch|batch is not first"),
    "the batch moved": (lambda x: x.transpose(0, 1), "batch"),
    "a function of sums": (lambda x: torch.sigmoid(x.transpose(2, 3) @ x), "quantize them first"),
    "a division": (lambda x: x / grid(x.abs() + 1, 0.1, 0, torch.int8), "multiply by the reciprocal"),
    "few places": (lambda x: nn.functional.adaptive_avg_pool2d(x, 3), "pool by a fixed window"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_integers_is_refused_in_one_line(name: str) -> None:
    step, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        imported(Steps(step), 4, 6, 5)
    assert "\n" not in str(caught.value)


# --- torchao ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_torchaos_quantizers_leave() -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    from torchao.testing.pt2e import _xnnpack_quantizer as xnn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.norm, self.pool, self.last = nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.norm(self.a(x)))
            x = nn.functional.max_pool2d(torch.relu(self.b(x) + x), 2)
            return self.last(torch.flatten(self.pool(x), 1))

    x = samples(1, *SHAPE)
    for quantizer in (
        x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config()),
        xnn.XNNPACKQuantizer().set_global(xnn.get_symmetric_quantization_config(is_per_channel=True)),
    ):
        torch.manual_seed(0)
        example = torch.from_numpy(x)
        shapes = ({0: torch.export.Dim("batch")},)
        prepared = prepare_pt2e(
            torch.export.export(Block().eval(), (example,), dynamic_shapes=shapes).module(), quantizer
        )
        prepared(example)
        converted = convert_pt2e(prepared)
        assert is_quantized_module(converted)
        found = compare_torch(import_pt2e_module(converted, example), x)
        assert found.bit_exact, found.difference
        assert sum(count for count, _ in found.tolerated.values()) <= 2e-4 * found.values
    assert "torchao" in sys.modules
