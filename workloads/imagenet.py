"""ImageNet networks with stored float weights: MobileNetV1 0.75 and Tiny Darknet, on 1000 labelled pictures.

The weights are npz files with Keras names and HWIO kernels, batch norm apart. Both networks give logits in
the order of ImageNet's class ids 0..999.
"""

import csv
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from workloads.base import Samples, Source, Workload
from workloads.datasets import EncodedPictures, data_folder, tar_members
from workloads.weights import load_into, read_arrays

SIDE = 224
CLASSES = 1000
BN_EPS = 1e-3  # Keras' default, and what the stored layer lists say
LEAK = 0.1  # darknet's leaky ReLU

# Howard et al., "MobileNets", arXiv 1704.04861, table 1: channels of the 1x1 layers at width 1, and the stride
# of the depthwise layer before each
MOBILENET_LAYERS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip

# the network file tiny.cfg of darknet: (channels, kernel), "M" for a 2x2 max pool of stride 2
DARKNET_LAYERS: tuple[tuple[int, int] | str, ...] = (
    (16, 3), "M", (32, 3), "M", (16, 1), (128, 3), (16, 1), (128, 3), "M", (32, 1), (256, 3), (32, 1), (256, 3), "M",
    (64, 1), (512, 3), (64, 1), (512, 3), (128, 1),
)  # fmt: skip


class SameConv(nn.Sequential):
    """A 3x3 convolution padded as Keras' SAME does, then batch norm and ReLU6.

    At stride 2 and even sizes SAME needs one more row and column, and puts them below and to the right.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int = 1) -> None:
        pad: tuple[nn.Module, ...] = (nn.ZeroPad2d((0, 1, 0, 1)),) if stride == 2 else ()
        conv = nn.Conv2d(c_in, c_out, 3, stride, 0 if pad else 1, groups=groups, bias=False)
        super().__init__(*pad, conv, nn.BatchNorm2d(c_out, eps=BN_EPS), nn.ReLU6())


class MobileNetV1(nn.Module):
    """MobileNet: [B, 3, 224, 224] in -1..1 -> logits [B, 1000]."""

    def __init__(self, width: float) -> None:
        super().__init__()
        channels = int(32 * width)
        layers: list[nn.Module] = [SameConv(3, channels, 2)]
        for wide, stride in MOBILENET_LAYERS:
            c_out = int(wide * width)
            layers.append(SameConv(channels, channels, stride, groups=channels))
            pointwise = nn.Conv2d(channels, c_out, 1, bias=False)
            layers.append(nn.Sequential(pointwise, nn.BatchNorm2d(c_out, eps=BN_EPS), nn.ReLU6()))
            channels = c_out
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.linear(self.flatten(self.pool(self.features(x))))


class TinyDarknet(nn.Module):
    """Tiny Darknet: [B, 3, 224, 224] in 0..1 -> logits [B, 1000]; the last 1x1 layer comes before the pooling."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        layers: list[nn.Module] = []
        for layer in DARKNET_LAYERS:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(2))
                continue
            c_out, kernel = layer
            conv = nn.Conv2d(channels, c_out, kernel, padding=kernel // 2, bias=False)
            layers.append(nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=BN_EPS), nn.LeakyReLU(LEAK)))
            channels = c_out
        self.features = nn.Sequential(*layers)
        self.classify = nn.Conv2d(channels, CLASSES, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.flatten(self.pool(self.classify(self.features(x))))


def mobilenet_names() -> Iterator[str]:
    """Yield the Keras names of MobileNet's convolutions, in order."""
    yield "conv1"
    for i in range(1, len(MOBILENET_LAYERS) + 1):
        yield from (f"conv_dw_{i}", f"conv_pw_{i}")
    yield "conv_preds"


def keras_state(net: nn.Module, arrays: dict[str, np.ndarray], names: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Rename Keras arrays to the parameters of ``net`` and turn kernels from HWIO to OIHW.

    Parameters
    ----------
    net
        The network; its convolutions and linear layers come in the order of ``names``.
    arrays
        Arrays by Keras name.
    names
        (convolution, its batch norm or "") in network order.

    Returns
    -------
    state
        Tensors by torch name, as far as ``arrays`` has them.
    """
    weighted = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = iter([n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)])
    state: dict[str, np.ndarray | None] = {}
    for (torch_name, module), (conv, norm) in zip(weighted, names, strict=True):
        depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
        kernel = arrays.get(f"{conv}.depthwise_kernel" if depthwise else f"{conv}.kernel")
        if kernel is not None and kernel.ndim == 4:
            # a depthwise kernel is [H, W, C, 1]: its channels are the outputs
            kernel = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            kernel = kernel[:, :, 0, 0] if isinstance(module, nn.Linear) else kernel
        state[f"{torch_name}.weight"] = kernel
        if norm:
            torch_norm = next(norms)
            for ours, theirs in (
                ("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
                ("running_var", "moving_variance"),
            ):  # fmt: skip
                state[f"{torch_norm}.{ours}"] = arrays.get(f"{norm}.{theirs}")
        else:
            state[f"{torch_name}.bias"] = arrays.get(f"{conv}.bias")
    return {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in state.items() if a is not None}


def read_class_order(path: Path) -> np.ndarray:
    """Return the ImageNet class of every output, a permutation of 0..999.

    Raises
    ------
    ValueError
        If the file is missing or holds anything else.
    """
    try:
        order = np.array(json.loads(path.read_text(encoding="utf-8")))
        whole = order.dtype.kind == "i" and order.shape == (CLASSES,) and set(order.tolist()) == set(range(CLASSES))
    except (OSError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"class order {path} must exist and list the classes 0..999 once each; fetch it again")
    return order


def picture_samples(folder: Path) -> Samples:
    """Return the 1000 pictures of the NIPS 2017 development set with their ImageNet class ids.

    Stored inputs are uint8 [B, 224, 224, 3], decoded when asked for; each network prepares them its own way.
    """
    path = folder / "nips2017_224.tar"
    encoded: dict[str, bytes] = {}
    labels: list[tuple[str, int]] = []
    for name, content in tar_members(path):
        short = name.rsplit("/", 1)[-1]
        if short.endswith(".jpg"):
            encoded[short] = content
        elif short == "labels.csv":
            labels = _labels(content, path)
    absent = [name for name, _ in labels if name not in encoded]
    if not labels or absent:
        raise ValueError(f"archive {path} must hold labels.csv and every picture it names; fetch it again")
    names = tuple(name for name, _ in labels)
    pictures = EncodedPictures(contents=tuple(encoded[n] for n in names), names=names, side=SIDE)
    return Samples(x=pictures, y=np.array([label for _, label in labels], dtype=np.int64))


def _labels(content: bytes, path: Path) -> list[tuple[str, int]]:
    """Return (file, class id) rows of labels.csv."""
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
        labels = [(row["file"], int(row["imagenet_id"])) for row in rows]
        inside = all(0 <= label < CLASSES for _, label in labels)
    except (ValueError, KeyError, TypeError, csv.Error):
        inside = False
    if not inside:
        raise ValueError(f"labels.csv in {path} must have columns file and imagenet_id (0..999); fetch it again")
    return labels


def _to_sign(raw: np.ndarray) -> np.ndarray:
    """Turn uint8 [B, H, W, 3] into float32 [B, 3, H, W] in -1..1."""
    return (raw.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(0, 3, 1, 2)


def _to_unit(raw: np.ndarray) -> np.ndarray:
    """Turn uint8 [B, H, W, 3] into float32 [B, 3, H, W] in 0..1."""
    return (raw.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)


def _samples(source: Source, *, signed: bool) -> Samples:
    stored = picture_samples(data_folder(source.data, "imagenet", "the ImageNet pictures"))
    return Samples(x=stored.x, y=stored.y, prepare=_to_sign if signed else _to_unit)


def _mobilenet(source: Source) -> nn.Module:
    folder = None if source.weights else data_folder(source.data, "imagenet", "mobilenet-v1-075")
    path = source.weights or Path(folder or "") / "mobilenet_v1_075_224.npz"
    net = MobileNetV1(0.75)
    names = [(name, "" if name == "conv_preds" else f"{name}_bn") for name in mobilenet_names()]
    return load_into(net, keras_state(net, read_arrays(path), names), path)


def _darknet(source: Source) -> nn.Module:
    folder = data_folder(source.data, "imagenet", "tiny-darknet")
    path = source.weights or folder / "tiny_darknet.npz"
    net = TinyDarknet()
    convs = sum(not isinstance(layer, str) for layer in DARKNET_LAYERS)
    names = [(f"conv2d_{i}", f"batch_normalization_{i}") for i in range(1, convs + 1)]
    state = keras_state(net, read_arrays(path), [*names, (f"conv2d_{convs + 1}", "")])
    # stored output i is class order[i]; put the outputs into ImageNet's order
    position = np.argsort(read_class_order(folder / "tiny_darknet.class_order.json"))
    for name in ("classify.weight", "classify.bias"):
        if name in state and len(state[name]) == CLASSES:
            state[name] = state[name][position]
    return load_into(net, state, path)


IMAGENET_WORKLOADS = (
    Workload(
        name="mobilenet-v1-075",
        description="MobileNetV1, width 0.75, 224x224, on 1000 ImageNet-labelled pictures",
        origin="weights: Google, Apache-2.0; pictures: NIPS 2017 development set, CC-BY 2.0",
        metric="top1",
        input_shape=(3, SIDE, SIDE),
        model=_mobilenet,
        data=partial(_samples, signed=True),
    ),
    Workload(
        name="tiny-darknet",
        description="Tiny Darknet (leaky ReLU), 224x224, on 1000 ImageNet-labelled pictures",
        origin="weights: darknet, YOLO licence; pictures: NIPS 2017 development set, CC-BY 2.0",
        metric="top1",
        input_shape=(3, SIDE, SIDE),
        model=_darknet,
        data=partial(_samples, signed=False),
    ),
)
