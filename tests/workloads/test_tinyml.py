"""MLPerf Tiny samples and scores."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from workloads.tinyml import TINY_TASKS, TinySamples, TinyTask, area_under_curve

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
    assert samples.y.dtype == np.int64


def test_windows_of_a_clip_overlap_and_keep_their_order(data_dir: Path) -> None:
    samples = TINY_TASKS["tiny-ad"].load(data_dir)
    with np.load(data_dir / "mlperf_tiny" / "ad01_83.npz") as stored:
        clip, step = stored["x"][1], int(stored["stride"])
    assert samples.group is not None
    count = int((samples.group == 0).sum())
    assert count == (len(clip) - 640) // step + 1
    np.testing.assert_array_equal(samples.batch(np.array([count + 2]))[0], clip[2 * step : 2 * step + 640])


def test_real_inputs_are_within_their_range(data_dir: Path) -> None:
    persons = TINY_TASKS["tiny-vww"].load(data_dir).batch(np.arange(20))
    assert 0 <= persons.min() < 0.05 < 0.95 < persons.max() <= 1
    pictures = TINY_TASKS["tiny-resnet8"].load(data_dir).batch(np.arange(20))
    assert 0 <= pictures.min() < 10 < 245 < pictures.max() <= 255


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, 60), [0, 1])
    scores = np.round(rng.normal(labels, 1.0), 1)  # ties among them
    assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_the_area_needs_both_labels() -> None:
    with pytest.raises(ValueError, match="needs samples of both labels"):
        area_under_curve(np.ones(3), np.zeros(3))


def task_of(metric: str) -> TinyTask:
    return TinyTask(
        name="t", description="", origin="", folder="none", model="t.tflite", metric=metric, samples=lambda folder: None
    )  # fmt: skip


def test_top1_counts_the_largest_output() -> None:
    samples = TinySamples(x=np.zeros((3, 1)), y=np.array([1, 0, 2]))
    outputs = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert task_of("top1").score(samples, np.arange(3), outputs) == pytest.approx(2 / 3)
    assert task_of("top1").score(samples, np.array([1]), outputs[1:2]) == 0


def test_anomalies_are_scored_by_the_mean_error_of_their_windows() -> None:
    samples = TinySamples(x=np.zeros((4, 2)), y=np.array([0, 1]), group=np.array([0, 0, 1, 1]))
    outputs = np.array([[1.0, 1], [3, 3], [2.4, 2.4], [2.4, 2.4]])  # errors 1 and 9, mean 5, against 5.76
    assert task_of("auc").score(samples, np.arange(4), outputs) == 1.0
    assert task_of("auc").score(samples, np.arange(4), outputs[[0, 1, 0, 0]]) == 0.0


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
