"""Readers of image sets: JPEG in tar archives and the CIFAR formats.

Every reader returns plain arrays, decodes in memory, executes nothing that a file says, and turns damage
into one ValueError in one line that names the file.
"""

import gzip
import io
import lzma
import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

# a member or a picture beyond these is damage or malice, not one of the sets read here
MAX_MEMBER_BYTES = 4 << 20
MAX_MEMBERS = 200_000

CIFAR_SIDE = 32
CIFAR_RECORD_BYTES = 1 + 3 * CIFAR_SIDE * CIFAR_SIDE


def data_folder(data: Path | None, marker: str, what: str) -> Path:
    """Return the folder that holds ``what``: ``data/marker`` if it exists, else ``data`` itself.

    Raises
    ------
    ValueError
        If no folder was given or it does not exist.
    """
    if data is None:
        raise ValueError(f"{what} needs a data folder (got none); give --data DIR with {marker}/ in it")
    if not data.is_dir():
        raise ValueError(f"data folder {data} must exist; give --data DIR with {marker}/ in it")
    inner = data / marker
    return inner if inner.is_dir() else data


def tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file in a tar archive (.tar, .tar.gz, .tar.xz), never unpacking to disk.

    Raises
    ------
    ValueError
        If the archive is missing, damaged, or holds absurdly large or many members.
    """
    if not path.is_file():
        raise ValueError(f"archive {path} must exist; give --data DIR with the folder that holds it")
    try:
        with _decompressed(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS or member.size > MAX_MEMBER_BYTES:
                    raise ValueError("too many or too large members")
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, content.read()
            _require_end(stream)
    except Exception as error:  # damaged bytes make tar, gzip and xz raise many things
        raise ValueError(f"archive {path} must be whole ({str(error)[:100]}); fetch it again") from None


def _decompressed(path: Path) -> IO[bytes]:
    """Open a tar archive for reading, through xz or gzip if its first bytes say so.

    A plain one must end with two blocks of zeros: tarfile takes one that breaks off between members for whole.
    """
    with path.open("rb") as stream:
        magic = stream.read(6)
        stream.seek(max(0, path.stat().st_size - 1024))
        ending = stream.read()
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(path)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path)  # type: ignore[return-value]
    if ending != bytes(1024):
        raise ValueError("it has no end")
    return path.open("rb")


def _require_end(stream: IO[bytes]) -> None:
    """Read the padding behind a tar's end, where a compressed stream checks itself; raise if it is anything else."""
    if stream.read(MAX_MEMBER_BYTES).strip(b"\0"):
        raise ValueError("something comes after its end")


def decode_jpeg(content: bytes, side: int, name: str) -> np.ndarray:
    """Return a square picture as uint8 [side, side, 3].

    Raises
    ------
    ValueError
        If the bytes are no whole picture of that size.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as picture:
            size = picture.size  # known before the pixels are decoded
            pixels = np.asarray(picture.convert("RGB")) if size == (side, side) else None
    except Exception as error:  # damaged bytes make the decoder raise many things
        raise ValueError(f"picture {name} must be a whole JPEG or PNG ({str(error)[:100]}); fetch it again") from None
    if pixels is None:
        raise ValueError(f"picture {name} must be {side} x {side} pixels (got {size[0]} x {size[1]}); resize it")
    return pixels


def read_class_folders(path: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a tar archive of ``set/class/name.jpg``; class ids are alphabetical.

    Returns
    -------
    x
        Uint8 [N, side, side, 3], in order of (class, name).
    y
        Int64 [N].
    """
    found = []
    for name, content in tar_members(path):
        parts = name.split("/")
        if len(parts) >= 2 and parts[-1].lower().endswith((".jpg", ".jpeg", ".png")):
            found.append((parts[-2], parts[-1], decode_jpeg(content, side, name)))
    if not found:
        raise ValueError(f"archive {path} must hold pictures as set/class/name.jpg (got none); check the file")
    found.sort(key=lambda item: item[:2])
    ids = {label: i for i, label in enumerate(sorted({label for label, _, _ in found}))}
    return np.stack([pixels for _, _, pixels in found]), np.array([ids[label] for label, _, _ in found])


def read_cifar_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of CIFAR-10's binary version: records of a label byte and 3072 bytes in C, H, W order.

    Returns
    -------
    x
        Uint8 [N, 32, 32, 3].
    y
        Int64 [N].
    """
    if not path.is_file():
        raise ValueError(f"CIFAR-10 file {path} must exist; give --data DIR with the whole set")
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % CIFAR_RECORD_BYTES:
        raise ValueError(
            f"CIFAR-10 file {path} must be whole records of {CIFAR_RECORD_BYTES} bytes "
            f"(got {len(content)} bytes); it is truncated or another format: fetch it again"
        )
    records = content.reshape(-1, CIFAR_RECORD_BYTES)
    return _cifar_images(records[:, 1:]), _cifar_labels(records[:, 0], path)


def read_cifar_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of CIFAR-10's python version through a pickle reader that can build arrays only.

    Returns
    -------
    x
        Uint8 [N, 32, 32, 3].
    y
        Int64 [N].
    """
    if not path.is_file():
        raise ValueError(f"CIFAR-10 file {path} must exist; give --data DIR with the whole set")
    try:
        with path.open("rb") as stream:
            # Python 2 wrote the released files, whose keys are byte strings
            stored: Any = {_key(k): v for k, v in _ArraysOnly(stream, encoding="bytes").load().items()}
        pixels, labels = stored["data"].value, np.asarray(stored["labels"])
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise ValueError(
            f"CIFAR-10 file {path} must be a whole batch of arrays ({str(error)[:100]}); fetch it again"
        ) from None
    if pixels.ndim != 2 or pixels.shape[1] != CIFAR_RECORD_BYTES - 1:
        raise ValueError(f"CIFAR-10 file {path}: data must be uint8 [N, 3072] (got {pixels.shape}); fetch it again")
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"CIFAR-10 file {path}: labels must be {len(pixels)} integers (got {labels.shape}); fetch it again"
        )
    return _cifar_images(pixels), _cifar_labels(labels, path)


class _DType:
    """What a pickle says of an array's element type; only its code is kept."""

    def __init__(self, code: object = None, *flags: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Take byte order and the like, which bytes do not have."""


class _Array:
    """What a pickle says of an array; numpy's own constructors, written in C, never see it."""

    def __init__(self, *arguments: object) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple[object, tuple[int, ...], object, object, bytes]) -> None:
        """Take version, shape, element type, order and content of an array of bytes."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType) or dtype.code not in ("u1", b"u1") or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array of something other than bytes")
        self.value = np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _ArraysOnly(pickle.Unpickler):
    """A pickle reader that knows arrays of bytes and plain Python values, and calls nothing that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for the names that numpy arrays pickle to; refuse everything else."""
        # numpy's old and new module names; and the codec that Python 3 writes bytes with in protocol 2
        stand_in = {
            ("numpy", "dtype"): _DType,
            ("numpy", "ndarray"): _Array,
            ("numpy.core.multiarray", "_reconstruct"): _Array,
            ("numpy._core.multiarray", "_reconstruct"): _Array,
            ("_codecs", "encode"): _latin1,
        }.get((module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not an array")
        return stand_in


def _key(name: object) -> object:
    """Return a byte string as text."""
    return name.decode("latin1") if isinstance(name, bytes) else name


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes of a text, for the one codec that pickles of bytes use."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for codec {encoding!r:.40}")
    return text.encode("latin1")


def _cifar_images(rows: np.ndarray) -> np.ndarray:
    """Return [N, 3072] rows in C, H, W order as uint8 [N, 32, 32, 3]."""
    return np.ascontiguousarray(rows.reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE).transpose(0, 2, 3, 1))


def _cifar_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    """Return labels as int64 after checking that they are class ids."""
    lowest, highest = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if lowest < 0 or highest > 9:
        raise ValueError(f"CIFAR-10 file {path}: labels must be in 0..9 (got {lowest}..{highest}); fetch it again")
    return labels.astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedPictures:
    """Pictures kept as JPEG in memory and decoded when asked for: uint8 [B, side, side, 3].

    Parameters
    ----------
    contents
        One encoded file per picture.
    names
        Their names, for messages.
    side
        Width and height in pixels.
    """

    contents: tuple[bytes, ...]
    names: tuple[str, ...]
    side: int

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.contents)

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """Return the pictures at ``indices``."""
        out = np.empty((len(indices), self.side, self.side, 3), dtype=np.uint8)
        for row, index in enumerate(indices):
            out[row] = decode_jpeg(self.contents[index], self.side, self.names[index])
        return out
