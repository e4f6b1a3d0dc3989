"""A small sweep of digits for the page, and designs made up for its arithmetic."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up_stores import MadeUp

from reports.page.designs import Loaded, load
from reports.sweep.study import Study, build_study
from reports.sweep.sweep import How, run_sweep
from reports.task import TaskOptions

STUDY = {
    "name": "page",
    "networks": [{"name": "digits", "images": 64, "calib": 32}],
    "recipes": [{"weight_bits": [3, 4], "ocs": [None, 0.05]}, {"weight_bits": 4, "ocs": "fill"}],
    "accelerators": [
        {"base": "edge-32x32", "array.rows, array.cols": [[32, 32], [20, 16]], "accumulator.psum_bits": 14},
        {"base": "edge-32x32", "array.dataflow": "os"},
        {"base": "edge-32x32", "pe.weight_bits": 2},
    ],
    "technologies": ["google", "nangate45"],
    "timing": ["isolated", "overlapped"],
    "bit_exact_images": 1,
}


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "page.db"
    summary = run_sweep(build_study(STUDY, TaskOptions(network="")), path, How(threads=1))
    assert summary.measured == summary.points
    return path


@pytest.fixture(scope="session")
def loaded(swept: Path) -> Loaded:
    return load([swept])


@pytest.fixture(scope="session")
def study_of_page() -> Study:
    """A study of one point."""
    one = {"recipes": [{"weight_bits": 4}], "accelerators": ["edge-32x32"], "technologies": ["google"], "timing": None}
    networks = [{"name": "digits", "images": 24, "calib": 32}]
    return build_study(STUDY | one | {"networks": networks}, TaskOptions(network=""))


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[..., MadeUp]:
    return lambda name="made.db": MadeUp(tmp_path / name)


@pytest.fixture(scope="session")
def random_right() -> Callable[[int, float], np.ndarray]:
    """Return which of 100 samples a network with some accuracy gets right, by seed."""

    def right(seed: int, share: float) -> np.ndarray:
        return np.random.default_rng(seed).random(100) < share

    return right
