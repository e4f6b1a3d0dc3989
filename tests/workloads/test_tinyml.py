"""MLPerf Tiny files, samples and labels."""

from pathlib import Path

import numpy as np
import pytest

from workloads import METRICS
from workloads.tinyml import TINY_TASKS

SHAPES = {
    "tiny-resnet8": (200, (32, 32, 3), np.float32),
    "tiny-kws": (994, (49, 10, 1), np.int8),
    "tiny-vww": (300, (96, 96, 3), np.float32),
    "tiny-ad": (83 * 196, (640,), np.float32),
    "mobilenet-v2-ptq": (1000, (224, 224, 3), np.uint8),
}


@pytest.mark.parametrize("name", TINY_TASKS)
def test_samples_have_the_shape_that_the_file_takes(name: str, data_dir: Path) -> None:
    task = TINY_TASKS[name]
    samples = task.load(data_dir)
    count, shape, kind = SHAPES[name]
    x = samples.batch(np.array([0, len(samples) - 1]))
    assert (len(samples), x.shape, x.dtype) == (count, (2, *shape), kind)
    assert task.model_path(data_dir).is_file()
    assert samples.labels(np.arange(2)).dtype == (np.float32 if task.metric == "auc" else np.int64)
    assert task.input_shape == shape


def test_windows_of_a_clip_overlap_and_keep_their_order(data_dir: Path) -> None:
    samples = TINY_TASKS["tiny-ad"].load(data_dir)
    with np.load(data_dir / "mlperf_tiny" / "ad01_83.npz") as stored:
        clip, step = stored["x"][1], int(stored["stride"])
    labels = samples.labels(np.arange(len(samples)))
    count = int((labels[:, 1] == 0).sum())
    assert count == (len(clip) - 640) // step + 1
    np.testing.assert_array_equal(samples.batch(np.array([count + 2]))[0], clip[2 * step : 2 * step + 640])
    np.testing.assert_array_equal(samples.labels(np.array([count + 2]))[0, 1:], [1, *clip[2 * step : 2 * step + 640]])


def test_real_inputs_are_within_their_range(data_dir: Path) -> None:
    persons = TINY_TASKS["tiny-vww"].load(data_dir).batch(np.arange(20))
    assert 0 <= persons.min() < 0.05 < 0.95 < persons.max() <= 1
    pictures = TINY_TASKS["tiny-resnet8"].load(data_dir).batch(np.arange(20))
    assert 0 <= pictures.min() < 10 < 245 < pictures.max() <= 255


@pytest.mark.parametrize("name", TINY_TASKS)
def test_each_is_a_workload_without_a_module(name: str, data_dir: Path) -> None:
    workload = TINY_TASKS[name].workload()
    assert workload.metric in METRICS
    assert workload.samples(data_dir).batch(np.arange(1)).shape[1:] == workload.input_shape
    with pytest.raises(ValueError, match=f"{name} came as integers"):
        workload.build(data_dir)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a data folder"):
        TINY_TASKS["tiny-kws"].load(None)
    with pytest.raises(ValueError, match=r"kws01\.npz must exist"):
        TINY_TASKS["tiny-kws"].load(tmp_path)
    with pytest.raises(ValueError, match=r"kws_ref_model\.tflite must exist"):
        TINY_TASKS["tiny-kws"].model_path(tmp_path)
    np.savez(tmp_path / "kws01.npz", x=np.zeros((2, 49, 9), np.int8), y=np.zeros(2))
    with pytest.raises(ValueError, match=r"must hold x \[N, 49, 10\]"):
        TINY_TASKS["tiny-kws"].load(tmp_path)
