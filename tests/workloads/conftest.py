"""Writers of the CIFAR-10 formats, for the tests that read them."""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest


def write_binary(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    rows = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    path.write_bytes(np.concatenate([y.astype(np.uint8)[:, None], rows], axis=1).tobytes())
    return path


class Python2Pickler(pickle._Pickler):
    """Writes byte strings with the opcodes that Python 2 wrote its strings with."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012 (the base class has it so)

    def save_bytes(self, content: bytes) -> None:
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(content)

    dispatch[bytes] = save_bytes


def write_python(path: Path, stored: object, python2: bool) -> Path:
    with path.open("wb") as stream:
        (Python2Pickler if python2 else pickle._Pickler)(stream, protocol=2).dump(stored)
    return path


def python_batch(x: np.ndarray, y: np.ndarray, key: Callable[[str], object]) -> dict:
    rows = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return {key("data"): rows, key("labels"): y.tolist(), key("batch_label"): key("testing batch 1 of 1")}


@pytest.fixture(scope="session")
def cifar_files() -> SimpleNamespace:
    """Return the writers."""
    return SimpleNamespace(binary=write_binary, python=write_python, batch=python_batch)
