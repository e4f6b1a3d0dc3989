"""CIFAR-10 ResNets of 20, 32 and 56 layers, with the checkpoints of akamaster/pytorch_resnet_cifar10.

He et al., "Deep residual learning for image recognition", section 4.2: three stages of 16, 32 and 64
channels; the shortcut between stages takes every second pixel and pads the channels with zeros (option A).
"""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from workloads.base import Samples, Source, Workload
from workloads.datasets import (
    CIFAR_SIDE,
    data_folder,
    read_cifar_binary,
    read_cifar_python,
    read_class_folders,
)
from workloads.weights import load_into, read_arrays, read_state

# the normalisation the checkpoints were trained with (the usual ImageNet figures)
MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)
STD = np.array((0.229, 0.224, 0.225), dtype=np.float32)

# checkpoint file names as released; the hash is part of the name
CHECKPOINTS = {20: "resnet20-12fca82f.th", 32: "resnet32-d509ac18.th", 56: "resnet56-4bfd9763.th"}


class ShortcutA(nn.Module):
    """Every second pixel, and zeros for the channels that are new.

    [B, C, H, W] -> [B, channels, H/2, W/2].
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Subsample and pad, half of the zeros on either side."""
        half = self.added // 2
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.added - half))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a residual add."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity() if stride == 1 else ShortcutA(c_out - c_in)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, c_in, H, W] to [B, c_out, H/stride, W/stride]."""
        inner = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """A CIFAR-10 ResNet of 6 n + 2 layers: [B, 3, 32, 32] -> logits [B, 10]."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(c_in: int, c_out: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(c_in, c_out, stride)
        return nn.Sequential(first, *(BasicBlock(c_out, c_out, 1) for _ in range(blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))


def normalised(raw: np.ndarray) -> np.ndarray:
    """Turn uint8 [B, 32, 32, 3] into the network's float32 [B, 3, 32, 32]."""
    return ((raw.astype(np.float32) / np.float32(255) - MEAN) / STD).transpose(0, 3, 1, 2)


def cifar_samples(folder: Path) -> Samples:
    """Return the CIFAR-10 images in ``folder``, the first kind found of:

    the binary version (``cifar-10-batches-bin``) and the python version (``cifar-10-batches-py``), as
    folders below or as ``folder`` itself, with the training batches for calibration; all test images as
    JPEG (``test_jpeg.tar.xz``); 249 lossless test images (``lossless_249.npz``).

    Raises
    ------
    ValueError
        If none is there or the one found is damaged.
    """
    for read, name, suffix in (
        (read_cifar_binary, "cifar-10-batches-bin", ".bin"),
        (read_cifar_python, "cifar-10-batches-py", ""),
    ):
        for place in (folder / name, folder):
            if (place / f"test_batch{suffix}").is_file():
                return _batches(place, suffix, read)
    if (folder / "test_jpeg.tar.xz").is_file():
        return jpeg_samples(folder)
    if (folder / "lossless_249.npz").is_file():
        return lossless_samples(folder)
    raise ValueError(
        f"data folder {folder} must hold CIFAR-10 images (cifar-10-batches-bin/, cifar-10-batches-py/, "
        "test_jpeg.tar.xz or lossless_249.npz); give --data DIR with one of them"
    )


def jpeg_samples(folder: Path) -> Samples:
    """Return the 10,000 test images that went through JPEG (about 10 points below the lossless ones)."""
    path = folder / "test_jpeg.tar.xz"
    x, y = _decoded(path, path.stat().st_mtime_ns if path.is_file() else 0)
    return Samples(x=x, y=y, prepare=normalised)


def lossless_samples(folder: Path) -> Samples:
    """Return the 249 lossless test images that MLPerf Tiny ships."""
    path = folder / "lossless_249.npz"
    arrays = read_arrays(path)
    x, y = arrays.get("x"), arrays.get("y")
    if x is None or y is None or x.dtype != np.uint8 or x.shape[1:] != (CIFAR_SIDE, CIFAR_SIDE, 3):
        raise ValueError(f"array file {path} must hold x uint8 [N, 32, 32, 3] and y [N]; fetch it again")
    return Samples(x=x, y=y.astype(np.int64), prepare=normalised)


@lru_cache(maxsize=1)
def _decoded(path: Path, changed_ns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the decoded archive; the last one stays in memory, as three networks share it."""
    x, y = read_class_folders(path, CIFAR_SIDE)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def _batches(folder: Path, suffix: str, read: Callable[[Path], tuple[np.ndarray, np.ndarray]]) -> Samples:
    """Return the test batch, then those training batches that are there, for calibration."""
    names = [f"data_batch_{i}{suffix}" for i in range(1, 6)]
    paths = [folder / f"test_batch{suffix}", *(folder / n for n in names if (folder / n).is_file())]
    parts = [read(path) for path in paths]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Samples(x=x, y=y, prepare=normalised, evaluable=len(parts[0][1]))


def _samples(source: Source) -> Samples:
    return cifar_samples(data_folder(source.data, "cifar10", "CIFAR-10"))


def _model(source: Source, *, layers: int) -> nn.Module:
    path = source.weights
    if path is None:
        folder = data_folder(source.data, "cifar10", f"cifar10-resnet{layers}")
        path = folder / CHECKPOINTS[layers]
        if not path.is_file():
            raise ValueError(
                f"data folder {folder} must hold {CHECKPOINTS[layers]}; give --data DIR with it or --weights FILE"
            )
    return load_into(ResNet((layers - 2) // 6), read_state(path), path)


CIFAR_WORKLOADS = tuple(
    Workload(
        name=f"cifar10-resnet{layers}",
        description=f"ResNet-{layers} on CIFAR-10 (option A shortcuts)",
        origin="weights: akamaster/pytorch_resnet_cifar10, BSD-2-Clause; images: CIFAR-10, Krizhevsky 2009",
        metric="top1",
        input_shape=(3, CIFAR_SIDE, CIFAR_SIDE),
        model=partial(_model, layers=layers),
        data=_samples,
    )
    for layers in CHECKPOINTS
)
