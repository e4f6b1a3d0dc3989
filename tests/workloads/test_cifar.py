"""The CIFAR-10 networks reach their published accuracy, and CIFAR-10 is found in every usual form."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from workloads import METRICS, WORKLOADS, split
from workloads.cifar import CHECKPOINTS, CIFAR_WORKLOADS, ShortcutA, lossless_samples, normalised
from workloads.evaluate import evaluate

LOSSLESS = {"cifar10-resnet20": 0.904, "cifar10-resnet32": 0.948, "cifar10-resnet56": 0.916}
JPEG = {"cifar10-resnet20": 0.810, "cifar10-resnet32": 0.826, "cifar10-resnet56": 0.832}


@pytest.mark.parametrize("name", LOSSLESS)
def test_accuracy_on_the_lossless_images_is_the_known_one(name: str, data_dir: Path):
    tallies = evaluate(WORKLOADS[name].build(data_dir), lossless_samples(data_dir / "cifar10"), METRICS["top1"])
    assert METRICS["top1"].value(tallies) == pytest.approx(LOSSLESS[name], abs=0.0041)  # one of 249


@pytest.mark.slow
@pytest.mark.parametrize("name", JPEG)
def test_accuracy_on_the_jpeg_images_is_the_known_one(name: str, data_dir: Path):
    workload = WORKLOADS[name]
    tallies = evaluate(workload.build(data_dir), workload.samples(data_dir), METRICS["top1"])
    assert len(tallies) == 10_000
    assert METRICS["top1"].value(tallies) == pytest.approx(JPEG[name], abs=0.002)


@pytest.mark.parametrize("strict", [True, False])
def test_resnet20_exports_whole(strict: bool, data_dir: Path):
    net = WORKLOADS["cifar10-resnet20"].build(data_dir)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(net, (x,), strict=strict).module()
    assert torch.equal(exported(x), net(x))


def test_the_folder_may_be_the_cifar_folder_itself(data_dir: Path):
    workload = WORKLOADS["cifar10-resnet20"]
    inner = workload.build(data_dir / "cifar10")
    assert torch.equal(inner.linear.weight, workload.build(data_dir).linear.weight)
    samples = workload.samples(data_dir / "cifar10")
    np.testing.assert_array_equal(np.bincount(samples.y), [1000] * 10)


def test_a_truncated_checkpoint_is_one_line(data_dir: Path, tmp_path: Path):
    name = CHECKPOINTS[20]
    (tmp_path / name).write_bytes((data_dir / "cifar10" / name).read_bytes()[:500_000])
    with pytest.raises(ValueError, match="truncated") as error:
        WORKLOADS["cifar10-resnet20"].build(tmp_path)
    assert "\n" not in str(error.value)


def test_another_networks_checkpoint_is_refused(data_dir: Path, tmp_path: Path):
    shutil.copy(data_dir / "cifar10" / CHECKPOINTS[32], tmp_path / CHECKPOINTS[20])
    with pytest.raises(ValueError, match=r"unknown layer1\.3"):
        WORKLOADS["cifar10-resnet20"].build(tmp_path)


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("version", ["bin", "py"])
def test_batches_are_found_and_the_training_batches_serve_calibration(
    version: str, inner: bool, tmp_path: Path, rng: np.random.Generator, cifar_files: SimpleNamespace
):
    folder = tmp_path / f"cifar-10-batches-{version}" if inner else tmp_path
    folder.mkdir(exist_ok=True)
    written = {}
    for name in ("data_batch_2", "test_batch", "data_batch_1"):
        written[name] = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 4)
        if version == "bin":
            cifar_files.binary(folder / f"{name}.bin", *written[name])
        else:
            cifar_files.python(folder / name, cifar_files.batch(*written[name], key=str.encode), python2=True)
    samples = CIFAR_WORKLOADS[0].samples(tmp_path)
    order = ("test_batch", "data_batch_1", "data_batch_2")
    np.testing.assert_array_equal(samples.y, np.concatenate([written[n][1] for n in order]))
    expected = normalised(np.concatenate([written[n][0] for n in order]))
    np.testing.assert_array_equal(samples.batch(np.arange(12)), expected)
    calib, evaluated = split(samples, None, 5, seed=0)
    assert calib.min() >= 4
    np.testing.assert_array_equal(evaluated, np.arange(4))


def test_normalised_inputs_are_what_the_checkpoints_were_trained_on():
    raw = np.full((1, 32, 32, 3), 255, dtype=np.uint8)
    raw[0, 0, 0] = (0, 51, 102)
    x = normalised(raw)
    assert x.dtype == np.float32
    assert x.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(
        x[0, :, 0, 0], [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.4 - 0.406) / 0.225], rtol=1e-5
    )
    np.testing.assert_allclose(x[0, 0, 1, 1], (1 - 0.485) / 0.229, rtol=1e-6)


def test_the_shortcut_takes_every_second_pixel_and_centres_the_channels():
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    y = ShortcutA(2)(x)
    assert y.shape == (1, 4, 2, 2)
    assert torch.equal(y[0, 1], torch.tensor([[0.0, 2.0], [8.0, 10.0]]))
    assert y[0, 0].abs().max() == y[0, 3].abs().max() == 0
