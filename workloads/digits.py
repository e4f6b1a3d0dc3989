"""The embedded default: a small residual network on scikit-learn's handwritten digits.

It has what the tool must handle (batch norm, strides, a projected and a plain residual add, depthwise and
1x1 layers, channel counts that fold on small arrays) and needs no files but the checkpoint beside it.
The checkpoint comes from ``python -m workloads.train_digits``.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from workloads.base import Samples, Source, Workload
from workloads.weights import load_into, read_state

CHECKPOINT = Path(__file__).parent / "checkpoints" / "digits.safetensors"

SIDE = 8
TEST_SAMPLES = 600
SPLIT_SEED = 1998  # of the test split; the training script must never see those samples


def conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a padded convolution without bias, and its batch norm."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(c_out)
    )


class Basic(nn.Module):
    """Two 3x3 convolutions and a residual add, projected by a 1x1 where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(c_in, c_out, 3, stride)
        self.relu1 = nn.ReLU()
        self.conv2 = conv_bn(c_out, c_out, 3)
        same = stride == 1 and c_in == c_out
        self.shortcut: nn.Module = nn.Identity() if same else conv_bn(c_in, c_out, 1, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, c_in, H, W] to [B, c_out, H/stride, W/stride]."""
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.shortcut(x))


class Separable(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolutions inside a residual add."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = conv_bn(channels, channels, 1)
        self.relu1 = nn.ReLU()
        self.depthwise = conv_bn(channels, channels, 3, groups=channels)
        self.relu2 = nn.ReLU()
        self.project = conv_bn(channels, channels, 1)
        self.relu3 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, channels, H, W] to the same shape."""
        inner = self.relu2(self.depthwise(self.relu1(self.expand(x))))
        return self.relu3(self.project(inner) + x)


class DigitsNet(nn.Module):
    """The network, 105 thousand parameters: [B, 1, 8, 8] in 0..1 -> logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(1, 32, 3)
        self.relu = nn.ReLU()
        self.block1 = Basic(32, 32, 1)
        self.block2 = Basic(32, 64, 2)
        self.down = conv_bn(64, 64, 3, stride=2, groups=64)
        self.down_relu = nn.ReLU()
        self.widen = conv_bn(64, 96, 1)
        self.widen_relu = nn.ReLU()
        self.block3 = Separable(96)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(96, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = self.block2(self.block1(self.relu(self.stem(x))))
        x = self.widen_relu(self.widen(self.down_relu(self.down(x))))
        return self.linear(self.flatten(self.pool(self.block3(x))))


def digits_samples() -> Samples:
    """Return the test split (600 samples), then the training split (1197) for calibration."""
    digits = load_digits()
    # pixels count 0..16 dots of a 4x4 block, so dividing by 16 loses nothing
    x = (digits.images.astype(np.float32) / np.float32(16))[:, None]
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    return Samples(x=x[order], y=digits.target[order].astype(np.int64), evaluable=TEST_SAMPLES)


def _samples(source: Source) -> Samples:
    return digits_samples()


def _model(source: Source) -> nn.Module:
    path = source.weights or CHECKPOINT
    return load_into(DigitsNet(), read_state(path), path)


DIGITS = Workload(
    name="digits",
    description="residual network with depthwise layers on 8x8 handwritten digits (embedded)",
    origin="trained by workloads.train_digits; images: UCI optical recognition of handwritten digits, CC-BY 4.0",
    metric="top1",
    input_shape=(1, SIDE, SIDE),
    model=_model,
    data=_samples,
    needs_data=False,
)
