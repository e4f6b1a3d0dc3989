"""The MLPerf Tiny networks and MobileNetV2 as TensorFlow Lite files, with their samples, as plain values.

MLPerf Tiny: Banbury et al., "MLPerf Tiny Benchmark", arXiv 2106.07597; files of mlcommons/tiny (Apache-2.0). Samples
are what a network takes: integers where they are codes already, floats where they are real values.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from workloads.base import Samples, Source, Workload
from workloads.datasets import data_folder
from workloads.imagenet import picture_samples
from workloads.weights import read_arrays

AD_FRAMES = 640
"""Features of one window of the anomaly detector: 5 frames of 128 mel bands."""


@dataclass(frozen=True, kw_only=True)
class TinyTask:
    """A file with its samples and its score.

    Parameters
    ----------
    name, description, origin
        What it is, and where from, with the licence.
    folder, model
        Below the data folder: its folder, and the quantized file in it.
    metric
        A key of `workloads.metrics.METRICS`.
    input_shape
        Of one sample.
    samples
        Gives the samples, from the folder.
    """

    name: str
    description: str
    origin: str
    folder: str
    model: str
    metric: str
    input_shape: tuple[int, ...]
    samples: Callable[[Path], Samples] = field(repr=False)

    def model_path(self, data: Path | None) -> Path:
        """Return the file.

        Raises
        ------
        ValueError
            If there is no data folder, or the file is not in it.
        """
        path = data_folder(data, self.folder, self.name) / self.model
        if not path.is_file():
            raise ValueError(f"network file {path} must exist; give --data DIR with {self.folder}/{self.model} in it")
        return path

    def load(self, data: Path | None) -> Samples:
        """Return the samples.

        Raises
        ------
        ValueError
            If a file is missing, damaged, or holds arrays of other shapes.
        """
        return self.samples(data_folder(data, self.folder, self.name))

    def workload(self) -> Workload:
        """Return what the file is judged by; it came as integers, so there is no module to build."""

        def no_module(source: Source) -> NoReturn:
            raise ValueError(f"{self.name} came as integers (got no torch module); run it as it is")

        return Workload(
            name=self.name,
            description=self.description,
            origin=self.origin,
            metric=self.metric,
            input_shape=self.input_shape,
            model=no_module,
            data=lambda source: self.load(source.data),
        )


def _arrays(folder: Path, name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return a file's arrays, x of `shape` per sample and as many labels."""
    path = folder / name
    found = read_arrays(path)
    x, y = found.get("x"), found.get("y")
    if x is None or y is None or x.shape[1:] != shape or y.shape != x.shape[:1]:
        raise ValueError(f"array file {path} must hold x [N, {', '.join(map(str, shape))}] and y [N]; fetch it again")
    return found | {"y": y.astype(np.int64)}


def _pictures(folder: Path) -> Samples:
    found = _arrays(folder, "ic01.npz", (32, 32, 3))
    return Samples(x=found["x"].astype(np.float32), y=found["y"])


def _keywords(folder: Path) -> Samples:
    found = _arrays(folder, "kws01.npz", (49, 10))
    return Samples(x=found["x"].astype(np.int8)[..., None], y=found["y"])


def _persons(folder: Path) -> Samples:
    found = _arrays(folder, "vww01_300.npz", (96, 96, 3))
    return Samples(x=found["x"].astype(np.float32) / np.float32(255), y=found["y"])


def _machines(folder: Path) -> Samples:
    """Cut clips of log-mel frames into overlapping windows."""
    found = _arrays(folder, "ad01_83.npz", (25600,))
    clips, step = found["x"].astype(np.float32), int(found.get("stride", 0))
    if int(found.get("window", 0)) != AD_FRAMES or step < 1:
        raise ValueError(f"array file {folder / 'ad01_83.npz'} must have window {AD_FRAMES} and a stride of 1 or more")
    windows = np.lib.stride_tricks.sliding_window_view(clips, AD_FRAMES, axis=1)[:, ::step]
    count = windows.shape[1]
    rows = np.empty((len(clips), count, 2 + AD_FRAMES), dtype=np.float32)  # as `workloads.roc` takes them
    rows[:, :, 0], rows[:, :, 1] = found["y"][:, None], np.arange(len(clips))[:, None]
    rows[:, :, 2:] = windows
    labels = rows.reshape(-1, 2 + AD_FRAMES)
    return Samples(x=labels[:, 2:], y=labels)


def _imagenet(folder: Path) -> Samples:
    """Pictures as the uint8 codes that the file takes; its class 0 is the background."""
    stored = picture_samples(folder)
    return Samples(x=stored.x, y=stored.y + 1)


_TINY = "mlcommons/tiny, Apache-2.0; samples: "

TINY_TASKS: dict[str, TinyTask] = {
    task.name: task
    for task in (
        TinyTask(
            name="tiny-resnet8",
            description="ResNet-8 int8, CIFAR-10 image classification",
            origin=f"{_TINY}eembc/energyrunner",
            folder="mlperf_tiny",
            model="pretrainedResnet_quant.tflite",
            metric="top1",
            input_shape=(32, 32, 3),
            samples=_pictures,
        ),
        TinyTask(
            name="tiny-kws",
            description="DS-CNN int8, keyword spotting",
            origin=f"{_TINY}Speech Commands v2, CC-BY 4.0",
            folder="mlperf_tiny",
            model="kws_ref_model.tflite",
            metric="top1",
            input_shape=(49, 10, 1),
            samples=_keywords,
        ),
        TinyTask(
            name="tiny-vww",
            description="MobileNetV1 0.25 int8, visual wake words",
            origin=f"{_TINY}COCO 2014",
            folder="mlperf_tiny",
            model="vww_96_int8.tflite",
            metric="top1",
            input_shape=(96, 96, 3),
            samples=_persons,
        ),
        TinyTask(
            name="tiny-ad",
            description="autoencoder int8, anomaly detection",
            origin=f"{_TINY}ToyADMOS",
            folder="mlperf_tiny",
            model="ad01_int8.tflite",
            metric="auc",
            input_shape=(AD_FRAMES,),
            samples=_machines,
        ),
        TinyTask(
            name="mobilenet-v2-ptq",
            description="MobileNetV2 int8, post-training quantized, 224x224, on 1000 ImageNet-labelled pictures",
            origin="google-coral/test_data, Apache-2.0; pictures: NIPS 2017 development set, CC-BY 2.0",
            folder="imagenet",
            model="mobilenet_v2_1.0_224_ptq.tflite",
            metric="top1",
            input_shape=(224, 224, 3),
            samples=_imagenet,
        ),
    )
}
"""By name; what runs the files is up to the caller."""
