"""The embedded network is accurate, small, exportable, and shows what 4-bit weights cost."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from workloads import METRICS, WORKLOADS
from workloads.digits import CHECKPOINT, TEST_SAMPLES, digits_samples
from workloads.train_digits import accuracy, train

DIGITS = WORKLOADS["digits"]


def folded(net: nn.Module) -> nn.Module:
    """Return the network with its batch norms folded into the convolutions before them."""
    net = copy.deepcopy(net)
    for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        block[0] = torch.nn.utils.fuse_conv_bn_eval(block[0], block[1])
        block[1] = nn.Identity()
    return net


def with_rounded_weights(net: nn.Module, bits: int) -> nn.Module:
    """Return the network with inner weights on a symmetric per-tensor grid scaled to the maximum."""
    net = copy.deepcopy(net)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        width = 8 if layer in (layers[0], layers[-1]) else bits
        scale = (2 ** (width - 1) - 1) / layer.weight.abs().max()
        layer.weight.data = torch.floor(layer.weight * scale + 0.5) / scale
    return net


def test_float_accuracy_is_98_percent_or_more():
    assert accuracy(DIGITS.build()) >= 0.98


def test_the_checkpoint_is_small():
    assert CHECKPOINT.stat().st_size < 500_000


def test_every_image_of_the_set_is_there_once_and_the_test_split_is_600():
    samples = digits_samples()
    assert len(samples) == 1797
    assert samples.evaluable == TEST_SAMPLES == 600
    batch = samples.batch(np.arange(len(samples)))
    assert batch.dtype == np.float32
    assert batch.shape == (1797, 1, 8, 8)
    assert (batch.min(), batch.max()) == (0, 1)
    np.testing.assert_array_equal(np.bincount(samples.y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])


def test_four_bit_weights_lose_what_eight_bit_weights_do_not():
    net = folded(DIGITS.build())
    exact = accuracy(net)
    assert accuracy(with_rounded_weights(net, 8)) >= exact - 0.005
    assert accuracy(with_rounded_weights(net, 4)) <= exact - 0.05


@pytest.mark.parametrize("strict", [True, False])
def test_it_exports_whole(strict: bool):
    net = DIGITS.build()
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    x = torch.rand(2, *DIGITS.input_shape)
    exported = torch.export.export(net, (x,), strict=strict).module()
    assert torch.equal(exported(x), net(x))


def test_another_checkpoint_can_be_given(tmp_path):
    net = DIGITS.build()
    net.linear.bias.data.add_(1)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    again = DIGITS.build(weights=tmp_path / "w.pt")
    assert torch.equal(again.linear.bias, net.linear.bias)


@pytest.mark.slow
def test_training_again_gives_as_good_a_network_and_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    net = train()
    assert torch.equal(before, torch.get_rng_state())
    samples, metric = digits_samples(), METRICS["top1"]
    test = np.arange(TEST_SAMPLES)
    with torch.inference_mode():
        tallies = metric.tally(net(torch.from_numpy(samples.batch(test))).numpy(), samples.labels(test))
    assert metric.value(tallies) >= 0.98
