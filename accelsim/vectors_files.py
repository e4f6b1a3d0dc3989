"""Golden vectors on disk: ``.memh`` text for ``$readmemh``, one ``.npz``, Verilog parameters and a README.

A folder of vectors appears whole or not at all: it is written under another name beside its place and then renamed.
"""

import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.vectors_readme import readme

if TYPE_CHECKING:
    from accelsim.vectors import Stream, Vectors

LINES_AT_A_TIME = 1 << 12
"""Lines turned into hexadecimal together, so that the bits of all of them need not fit in memory."""


def check_folder(out_dir: str | Path) -> None:
    """Refuse a place where no new folder can appear.

    Raises
    ------
    ValueError
        If it is a file, or a folder that is not empty.
    """
    folder = Path(out_dir)
    if folder.is_dir():
        if any(folder.iterdir()):
            raise ValueError(f"output folder {folder} is not empty; give a new or empty one, nothing is overwritten")
    elif folder.exists() or folder.is_symlink():
        raise ValueError(f"output folder {folder} is a file; give a new or empty folder")
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"output folder {folder} cannot be made in {there} ({error.strerror}); give one elsewhere"
        ) from None


def write_vectors(vectors: "Vectors", out_dir: str | Path, origin: str = "one matrix product") -> None:
    """Write ``vectors.npz``, ``*.memh``, ``parameters.vh`` and ``README.md``, all of them or none.

    Parameters
    ----------
    vectors
        What to write.
    out_dir
        A folder that is not there yet or is empty; missing parents are made.
    origin
        Whose vectors they are, for the README: a title, and any paragraphs after it.

    Raises
    ------
    ValueError
        If there is a file or a filled folder in that place.
    OSError
        If it cannot be written; nothing is left behind.
    """
    check_folder(out_dir)
    folder = Path(out_dir).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir()
        for name, stream in vectors.streams.items():
            (temporary / f"{name}.memh").write_text(memh(stream), encoding="ascii")
        (temporary / "vectors.npz").write_bytes(_npz(vectors))
        (temporary / "parameters.vh").write_text(_parameters(vectors.parameters), encoding="ascii")
        (temporary / "README.md").write_text(readme(vectors, origin), encoding="utf-8")
        os.replace(temporary, folder)  # takes the place of an empty folder, and fails on any other
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def memh(stream: "Stream") -> str:
    """Return a stream as text for ``$readmemh``: one word a line, field 0 in its lowest bits."""
    flat = stream.values.reshape(len(stream.values), -1)
    digits = -(-flat.shape[1] * stream.bits // 4)
    lines = []
    for start in range(0, len(flat), LINES_AT_A_TIME):
        words = flat[start : start + LINES_AT_A_TIME].astype(np.int64).view(np.uint64)
        bits = (words[:, :, None] >> np.arange(stream.bits, dtype=np.uint64)) & np.uint64(1)
        packed = np.packbits(bits.reshape(len(words), -1).astype(np.uint8), axis=1, bitorder="little")
        lines += [line[::-1].tobytes().hex()[-digits:] + "\n" for line in packed]
    return "".join(lines)


def _npz(vectors: "Vectors") -> bytes:
    job = vectors.job
    folds = vectors.dataflow.folds(job.operands.gemm, job.array, job.stream_tile)
    arrays: dict[str, Any] = {name: stream.values for name, stream in vectors.streams.items()}
    arrays |= {f"fold_{name}": folds[name] for name in folds.dtype.names or ()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _parameters(values: Mapping[str, int]) -> str:
    return "".join(f"localparam {name} = {value};\n" for name, value in values.items())
