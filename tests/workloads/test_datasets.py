"""Image sets are read exactly, damage is one line, and a pickle can only give arrays of bytes."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workloads.datasets import (
    decode_jpeg,
    read_cifar_binary,
    read_cifar_python,
    read_class_folders,
    tar_members,
)


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 7)


def write_binary(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    rows = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    path.write_bytes(np.concatenate([y.astype(np.uint8)[:, None], rows], axis=1).tobytes())
    return path


class Python2Pickler(pickle._Pickler):
    """Writes byte strings with the opcodes that Python 2 wrote its strings with."""

    dispatch = dict(pickle._Pickler.dispatch)

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


def test_the_binary_version_is_read_exactly(images: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    x, y = read_cifar_binary(write_binary(tmp_path / "test_batch.bin", *images))
    np.testing.assert_array_equal(x, images[0])
    np.testing.assert_array_equal(y, images[1])


@pytest.mark.parametrize("python2", [False, True])
def test_the_python_version_is_read_exactly(python2: bool, images: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    stored = python_batch(*images, key=str.encode if python2 else str)
    x, y = read_cifar_python(write_python(tmp_path / "test_batch", stored, python2))
    np.testing.assert_array_equal(x, images[0])
    np.testing.assert_array_equal(y, images[1])


def test_a_truncated_set_is_one_line(images: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    binary = write_binary(tmp_path / "b.bin", *images)
    python = write_python(tmp_path / "b", python_batch(*images, key=str.encode), python2=True)
    for path, read in ((binary, read_cifar_binary), (python, read_cifar_python)):
        whole = path.read_bytes()
        for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match="must be (a )?whole") as error:
                read(path)
            assert "\n" not in str(error.value)


class Run:
    """Unpickling an instance calls something."""

    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.mkdir, eval, np.load, np.ndarray.tofile, getattr, bytearray])
def test_a_batch_that_names_anything_else_is_refused_and_does_not_run(call: Callable, tmp_path: Path):
    trace = tmp_path / "ran"
    arguments = (f"__import__('os').mkdir({str(trace)!r})",) if call is eval else (str(trace),)
    path = write_python(tmp_path / "evil", {b"data": Run(call, *arguments), b"labels": [1]}, python2=False)
    with pytest.raises(ValueError, match="which is not an array"):
        read_cifar_python(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("stored", "rule"),
    [
        ({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, "other than bytes"),
        ({b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]}, r"uint8 \[N, 3072\]"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1, 2]}, "must have 2 labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, "must be in 0..9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]}, "must be in 0..9"),
        ({b"labels": [0, 1]}, "whole batch"),
        ([1, 2], "whole batch"),
        ({b"data": 3, b"labels": [1]}, "whole batch"),
    ],
)
def test_a_batch_of_something_else_is_refused(stored: object, rule: str, tmp_path: Path):
    with pytest.raises(ValueError, match=rule):
        read_cifar_python(write_python(tmp_path / "b", stored, python2=False))


def test_damaged_pickles_raise_only_one_line(
    images: tuple[np.ndarray, np.ndarray], tmp_path: Path, rng: np.random.Generator
):
    path = write_python(tmp_path / "b", python_batch(*images, key=str.encode), python2=True)
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    structure = np.r_[0:160, len(whole) - 80 : len(whole)]
    refused = []
    for _ in range(200):
        mutated = whole.copy()
        mutated[rng.choice(structure, 2)] = rng.integers(0, 256, 2)
        path.write_bytes(mutated.tobytes())
        try:
            read_cifar_python(path)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in line for line in refused)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_class_ids_are_alphabetical_and_pictures_come_in_order(images: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    x = images[0]
    path = write_tar(
        tmp_path / "t.tar.xz",
        {"test/dog/1.png": encoded(x[0]), "test/cat/2.png": encoded(x[1]), "test/cat/1.png": encoded(x[2])},
    )
    found, labels = read_class_folders(path, 32)
    np.testing.assert_array_equal(found, x[[2, 1, 0]])
    np.testing.assert_array_equal(labels, [0, 0, 1])


def test_damaged_archives_and_pictures_are_one_line(images: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    path = write_tar(tmp_path / "t.tar.xz", {f"test/cat/{i}.png": encoded(p) for i, p in enumerate(images[0])})
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="must be whole") as error:
            read_class_folders(path, 32)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="must exist"):
        read_class_folders(tmp_path / "absent.tar", 32)
    with pytest.raises(ValueError, match="got none"):
        read_class_folders(write_tar(path, {"test/readme": b"x"}), 32)
    with pytest.raises(ValueError, match=r"32 x 32 pixels \(got 16 x 16\)"):
        read_class_folders(write_tar(path, {"t/cat/1.png": encoded(images[0][0, :16, :16])}), 32)


def test_a_truncated_picture_is_one_line(images: tuple[np.ndarray, np.ndarray]):
    whole = encoded(images[0][0], "JPEG")
    for length in (0, 20, len(whole) // 2):
        with pytest.raises(ValueError, match="whole JPEG or PNG") as error:
            decode_jpeg(whole[:length], 32, "a.jpg")
        assert "\n" not in str(error.value)


def test_absurd_members_are_refused_unread(tmp_path: Path):
    path = tmp_path / "t.tar"
    info = tarfile.TarInfo("test/cat/1.jpg")
    info.size = 1 << 40
    path.write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(ValueError, match="too large"):
        list(tar_members(path))
