"""A small study, swept once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps import study_of

from reports.sweep.sweep import How, run_sweep


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study, swept in this process; not to be written to."""
    path = tmp_path_factory.mktemp("sweep") / "small.db"
    summary = run_sweep(study_of(), path, How(workers=1))
    assert summary.failures == ()
    assert summary.measured == 16
    return path


@pytest.fixture
def copied(small_store: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies of the small study's store, to be spoilt."""

    def copy(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(small_store.read_bytes())
        return path

    return copy
