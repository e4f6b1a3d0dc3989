"""Programs on disk: one ``.npz`` file, a JSON structure beside plain arrays. Loading never executes anything."""

import dataclasses
import io
import json
import os
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.check import check
from accelsim.program import NUMERICS_VERSION, OPS, Blank, Program, Tensor, to_plain

FORMAT = "accelsim-program-1"
MAX_BYTES = 4 << 30
"""Largest sum of array sizes that a file may claim; a small file that claims more is refused before memory is taken."""


def save_program(program: Program, path: str | Path) -> None:
    """Write a Program; the file appears whole or not at all."""
    structure, arrays = to_plain(program)
    header = np.frombuffer(json.dumps({"format": FORMAT, "program": structure}).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    named: dict[str, Any] = {f"a.{name}": array for name, array in arrays.items()}
    np.savez_compressed(buffer, header=header, **named)
    write_atomically(Path(path), buffer.getvalue())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, so that a reader sees the old or the new, never half.

    Raises
    ------
    OSError
        If the folder cannot be written to; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_program(path: str | Path) -> Program:
    """Read and check a Program.

    Raises
    ------
    ValueError
        If the file is truncated, of another format, claims absurd sizes or holds an invalid Program.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(info.file_size for info in archive.infolist())
        if claimed > MAX_BYTES:
            raise ValueError(f"claims {claimed} bytes of arrays, more than the {MAX_BYTES} allowed")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
        if header.get("format") != FORMAT:
            raise ValueError(f"has format {header.get('format')!r}, not {FORMAT!r}")
        program = _decode(header["program"], arrays)
    except FileNotFoundError:
        raise
        check(program)
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is no readable accelsim Program: {text}; write it anew with save_program") from error
    return program


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _decode(structure: dict[str, Any], arrays: dict[str, Any]) -> Program:
    def value(item: Any) -> Any:
        if isinstance(item, dict):
            return arrays[f"a.{item['array']}"] if "array" in item else Blank(_tuples(item["blank"]))
        return _tuples(item)

    if structure["numerics_version"] != NUMERICS_VERSION:
        raise ValueError(
            f"has numerics version {structure['numerics_version']}, "
            f"this package has {NUMERICS_VERSION}; lower the network again"
        )
    tensors = [Tensor(**{k: _tuples(v) for k, v in item.items()}) for item in structure["tensors"]]
    ops = []
    for item in structure["ops"]:
        kind = OPS[item["kind"]]
        fields = {f.name: value(item[f.name]) for f in dataclasses.fields(kind) if f.name in item}
        ops.append(kind(**fields))
    return Program(
        name=structure["name"],
        tensors={tensor.name: tensor for tensor in tensors},
        inputs=_tuples(structure["inputs"]),
        outputs=_tuples(structure["outputs"]),
        ops=tuple(ops),
        numerics_version=structure["numerics_version"],
    )
