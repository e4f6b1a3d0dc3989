"""Fixtures shared by all tests: seeded data, the folder of real data, hypothesis settings."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("accelsim", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("accelsim")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real weights and images; skip where it is absent."""
    folder = Path(os.environ.get("ACCELSIM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real weights and images are not at {folder}; set ACCELSIM_DATA to their folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(20190609)
