"""Image sets are read exactly, damage is one line, and a pickle can only give arrays of bytes."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

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

Files = SimpleNamespace
Images = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def images(rng: np.random.Generator) -> Images:
    return rng.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 7)


def test_the_binary_version_is_read_exactly(cifar_files: Files, images: Images, tmp_path: Path):
    x, y = read_cifar_binary(cifar_files.binary(tmp_path / "test_batch.bin", *images))
    np.testing.assert_array_equal(x, images[0])
    np.testing.assert_array_equal(y, images[1])


@pytest.mark.parametrize("python2", [False, True])
def test_the_python_version_is_read_exactly(cifar_files: Files, python2: bool, images: Images, tmp_path: Path):
    stored = cifar_files.batch(*images, key=str.encode if python2 else str)
    x, y = read_cifar_python(cifar_files.python(tmp_path / "test_batch", stored, python2))
    np.testing.assert_array_equal(x, images[0])
    np.testing.assert_array_equal(y, images[1])


def test_a_truncated_set_is_one_line(cifar_files: Files, images: Images, tmp_path: Path):
    binary = cifar_files.binary(tmp_path / "b.bin", *images)
    python = cifar_files.python(tmp_path / "b", cifar_files.batch(*images, key=str.encode), python2=True)
    for path, read in ((binary, read_cifar_binary), (python, read_cifar_python)):
        whole = path.read_bytes()
        for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"must be (a )?whole") as error:
                read(path)
            assert "\n" not in str(error.value)


class Run:
    """Unpickling an instance calls something."""

    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.mkdir, eval, np.load, np.ndarray.tofile, getattr, bytearray])
def test_a_batch_that_names_anything_else_is_refused_and_does_not_run(
    cifar_files: Files, call: Callable, tmp_path: Path
):
    trace = tmp_path / "ran"
    arguments = (f"__import__('os').mkdir({str(trace)!r})",) if call is eval else (str(trace),)
    path = cifar_files.python(tmp_path / "evil", {b"data": Run(call, *arguments), b"labels": [1]}, python2=False)
    with pytest.raises(ValueError, match="which is not an array"):
        read_cifar_python(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("stored", "rule"),
    [
        ({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, "other than bytes"),
        ({b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]}, r"uint8 \[N, 3072\]"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1, 2]}, "labels must be 2 integers"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, "must be in 0..9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]}, "must be in 0..9"),
        ({b"labels": [0, 1]}, "whole batch"),
        ([1, 2], "whole batch"),
        ({b"data": 3, b"labels": [1]}, "whole batch"),
    ],
)
def test_a_batch_of_something_else_is_refused(cifar_files: Files, stored: object, rule: str, tmp_path: Path):
    with pytest.raises(ValueError, match=rule):
        read_cifar_python(cifar_files.python(tmp_path / "b", stored, python2=False))


def test_damaged_pickles_raise_only_one_line(
    cifar_files: Files, images: Images, tmp_path: Path, rng: np.random.Generator
):
    path = cifar_files.python(tmp_path / "b", cifar_files.batch(*images, key=str.encode), python2=True)
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


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_class_ids_are_alphabetical_and_pictures_come_in_order(images: Images, tmp_path: Path):
    x = images[0]
    path = write_tar(
        tmp_path / "t.tar.xz",
        {"test/dog/1.png": encoded(x[0]), "test/cat/2.png": encoded(x[1]), "test/cat/1.png": encoded(x[2])},
    )
    found, labels = read_class_folders(path, 32)
    np.testing.assert_array_equal(found, x[[2, 1, 0]])
    np.testing.assert_array_equal(labels, [0, 0, 1])


def test_damaged_archives_and_pictures_are_one_line(images: Images, tmp_path: Path):
    path = write_tar(tmp_path / "t.tar.xz", {f"test/cat/{i}.png": encoded(p) for i, p in enumerate(images[0])})
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
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


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_cut_between_two_members_is_not_taken_for_whole(mode: str, tmp_path: Path, rng: np.random.Generator):
    members = {f"a/{i}": rng.bytes(3000) for i in range(5)}
    path = write_tar(tmp_path / "t.tar", members, mode)
    assert dict(tar_members(path)) == members
    whole = path.read_bytes()
    for length in range(0, 5 * (3072 + 512) if mode == "w" else len(whole), 128):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="must be whole"):
            list(tar_members(path))


def test_a_truncated_picture_is_one_line(images: Images):
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
