"""Calibrated and evaluated samples never meet, and a split says what it gives."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import METRICS, WORKLOADS, Samples, split


def plain(n: int, evaluable: int | None = None) -> Samples:
    return Samples(x=np.arange(n, dtype=np.float32)[:, None], y=np.arange(n), evaluable=evaluable)


@given(st.integers(2, 60), st.integers(1, 80), st.integers(1, 59), st.integers(0, 3))
def test_without_a_calibration_set_the_calibrated_samples_are_left_out(n: int, images: int, calib: int, seed: int):
    calib = min(calib, max(1, n * 2 // 3))
    calib_idx, eval_idx = split(plain(n), images, calib, seed)
    assert len(calib_idx) == calib
    assert len(eval_idx) == min(images, n - calib)
    assert not set(calib_idx) & set(eval_idx)
    assert len(set(calib_idx)) == calib
    assert set(calib_idx) | set(eval_idx) <= set(range(n))
    assert (np.diff(eval_idx) > 0).all()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40), st.integers(1, 40))
def test_a_separate_calibration_set_is_used_and_all_others_may_be_evaluated(
    evaluable: int, spare: int, images: int, calib: int
):
    calib_idx, eval_idx = split(plain(evaluable + spare, evaluable), images, calib, seed=1)
    assert calib_idx.min() >= evaluable
    assert eval_idx.max() < evaluable
    assert len(calib_idx) == min(calib, spare)
    assert len(eval_idx) == min(images, evaluable)


def test_a_set_whose_samples_may_all_be_evaluated_has_no_calibration_set():
    calib_idx, eval_idx = split(plain(10, evaluable=10), None, 4, seed=0)
    assert sorted([*calib_idx, *eval_idx]) == list(range(10))


def test_the_seed_decides_the_split_and_the_number_of_images_leaves_calibration_alone():
    first = split(plain(100), 10, 20, seed=7)
    again = split(plain(100), 10, 20, seed=7)
    more = split(plain(100), 50, 20, seed=7)
    other = split(plain(100), 10, 20, seed=8)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[0], more[0])
    assert set(first[1]) <= set(more[1])
    assert set(first[0]) != set(other[0])


@pytest.mark.parametrize(("count", "calibrated"), [(10, 6), (2, 1), (200, 133), (700, 466), (1000, 512)])
def test_at_most_two_thirds_are_calibrated_on(count: int, calibrated: int):
    parts = split(plain(count), None, 512, seed=0)
    assert [len(part) for part in parts] == [calibrated, count - calibrated]
    assert len(np.unique(np.concatenate(parts))) == count


def test_one_sample_cannot_serve_both():
    with pytest.raises(ValueError, match=r"two or more.*got 1"):
        split(plain(1), None, 1, seed=0)


def test_none_evaluates_everything_that_remains():
    assert len(split(plain(100), None, 30, seed=0)[1]) == 70


@pytest.mark.parametrize(
    ("images", "calib", "rule"),
    [
        (0, 5, "images must be >= 1"),
        (-3, 5, "images must be >= 1"),
        (5, 0, "calib must be >= 1"),
    ],
)
def test_a_split_that_cannot_be_is_one_line(images: int, calib: int, rule: str):
    with pytest.raises(ValueError, match=rule) as error:
        split(plain(10), images, calib, seed=0)
    assert "\n" not in str(error.value)


def test_a_batch_is_prepared_contiguous_and_in_the_order_asked_for():
    samples = Samples(x=np.arange(24).reshape(4, 2, 3), y=np.arange(4), prepare=lambda raw: raw.transpose(0, 2, 1) * 2)
    batch = samples.batch(np.array([3, 0]))
    assert batch.flags.c_contiguous
    assert batch.shape == (2, 3, 2)
    np.testing.assert_array_equal(batch[1], np.arange(6).reshape(2, 3).T * 2)
    np.testing.assert_array_equal(samples.labels(np.array([3, 0])), [3, 0])


def test_samples_and_labels_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        Samples(x=np.zeros((3, 1)), y=np.zeros(2))
    with pytest.raises(ValueError, match="evaluable must be in"):
        plain(3, evaluable=4)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_is_listed_under_its_name_with_a_known_metric(name: str):
    workload = WORKLOADS[name]
    assert workload.name == name
    assert workload.metric in METRICS
    assert workload.description
    assert workload.origin
    assert min(workload.input_shape) >= 1


@pytest.mark.parametrize("name", [n for n, w in WORKLOADS.items() if w.needs_data])
def test_without_its_data_folder_a_workload_says_so_in_one_line(name: str, tmp_path: Path):
    workload = WORKLOADS[name]
    for data in (None, tmp_path / "absent", tmp_path):
        for act in (workload.build, workload.samples):
            with pytest.raises(ValueError, match=r"(must (exist|hold)|needs a data folder).*; give|fetch") as error:
                act(data)
            assert "\n" not in str(error.value)
