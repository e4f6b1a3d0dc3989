"""TensorFlow Lite files as plain values: tensors, operators and their options, read and checked without TensorFlow.

Field numbers follow the schema (`quant.importers.tflite_schema`). What a file claims is checked
against its size, so that reading needs no more memory than the file.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.flatbuffer import Buffer, Table
from quant.importers.tflite_schema import CUSTOM, DTYPES, OPERATORS, operator_name

IDENTIFIER = b"TFL3"
LARGEST_FILE = 2**31
LARGEST_RANK = 6
LARGEST_TENSOR = 2**31
"""Elements of one tensor."""

LONGEST_NAME = 60
"""Characters of a tensor's name that an error shows."""

KINDS_IN_ERROR = 12
"""Kinds of operators that an error lists."""


@dataclass(frozen=True, eq=False)
class FileTensor:
    """One tensor of a file.

    Parameters
    ----------
    index, name, shape, dtype
        As declared, batch included; -1 in the shape's signature is not told apart.
    data
        Its constant values, a view of the file; ``None`` for one that is computed.
    scales, zero_points
        float32 and int64, of one length; empty where it is not quantized.
    axis
        The axis that several scales belong to.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: NDArray[Any] | None
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int

    def __str__(self) -> str:
        """Name it in an error."""
        return f"tensor {self.index} {self.name[:LONGEST_NAME]!r} ({self.dtype} {list(self.shape)})"


@dataclass(frozen=True, eq=False)
class FileOperator:
    """One operator of a file: `inputs` and `outputs` are tensor numbers, -1 for an optional input left out."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name it in a Program."""
        return f"{self.kind}_{self.index}"


@dataclass(frozen=True, eq=False)
class FileModel:
    """What a file holds: its only subgraph."""

    name: str
    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: Path) -> FileModel:
    """Read a file.

    Raises
    ------
    ValueError
        If it is missing, no TensorFlow Lite file, truncated, inconsistent, or holds operators that `OPERATORS` lacks.
    """
    try:
        size = path.stat().st_size
        if size >= LARGEST_FILE:
            raise ValueError(f"{path}: {size} bytes are more than a TensorFlow Lite file holds ({LARGEST_FILE})")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give a .tflite file") from None
    return parse_tflite(data, path.name)


def parse_tflite(data: bytes, name: str) -> FileModel:
    """Read a file's bytes; `name` is what errors call it, see `read_tflite`."""
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ValueError(f"{name}: is no TensorFlow Lite file (bytes 4 to 7 are not {IDENTIFIER.decode()})")
    buffer = Buffer(data, name)
    model = buffer.root()
    version = int(model.scalar(0, "u32", 0))
    if version != 3:
        raise ValueError(f"{name}: has schema version {version}; version 3 is read")
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise ValueError(f"{name}: has {len(graphs)} subgraphs; networks of one are read")
    graph, blobs = graphs[0], model.tables(4)
    tensors = tuple(_tensor(buffer, table, i, blobs) for i, table in enumerate(graph.tables(0)))
    codes, listed = model.tables(1), graph.tables(3)
    _require_read(buffer, codes, listed)
    numbers = [_code(table) for table in codes]
    operators = tuple(_operator(buffer, table, i, numbers, len(tensors)) for i, table in enumerate(listed))
    ends = [
        _numbers(buffer, graph.vector(slot, "i32"), len(tensors), what) for slot, what in ((1, "input"), (2, "output"))
    ]
    if not ends[0] or not ends[1]:
        raise ValueError(
            f"{name}: has {len(ends[0])} inputs and {len(ends[1])} outputs; one of each is needed at least"
        )
    return FileModel(name, tensors, operators, ends[0], ends[1])


def _code(table: Table) -> int:
    """Return an operator's built-in code: old files have it in a byte, newer ones in a field of its own."""
    return max(int(table.scalar(0, "i8", 0)), int(table.scalar(3, "i32", 0)))


def _place(buffer: Buffer, table: Table, index: int, count: int) -> int:
    place = int(table.scalar(0, "u32", 0))
    if place >= count:
        raise buffer.fail(f"operator {index} names code {place} of {count}")
    return place


def _require_read(buffer: Buffer, codes: list[Table], operators: list[Table]) -> None:
    """Refuse a file's unknown operators all at once, each kind with how often it occurs."""
    unknown = {i: table for i, table in enumerate(codes) if _code(table) not in OPERATORS}
    if not unknown:
        return
    used = Counter(_place(buffer, table, i, len(codes)) for i, table in enumerate(operators))
    names = Counter[str]()
    for i, table in unknown.items():
        code = _code(table)
        names[f"custom {table.text(1)[:40]!r}" if code == CUSTOM else operator_name(code)] += used[i]
    if found := [f"{name} × {times}" for name, times in names.items() if times]:
        rest = len(found) - KINDS_IN_ERROR
        what = ", ".join(found[:KINDS_IN_ERROR]) + (f" and {rest} kinds more" if rest > 0 else "")
        raise ValueError(
            f"{buffer.name}: has operators that are not read: {what}; leave them out of the file, or export the float "
            f"network to ONNX and quantize it here"
        )


def _numbers(buffer: Buffer, values: NDArray[Any], count: int, what: str) -> tuple[int, ...]:
    numbers = tuple(int(v) for v in values)
    if any(not 0 <= n < count for n in numbers):
        raise buffer.fail(f"an {what} names a tensor outside 0..{count - 1}")
    return numbers


def _operator(buffer: Buffer, table: Table, index: int, codes: list[int], count: int) -> FileOperator:
    kind, options_type, fields = OPERATORS[codes[_place(buffer, table, index, len(codes))]]
    inputs = tuple(int(v) for v in table.vector(1, "i32"))
    if any(not -1 <= n < count for n in inputs):
        raise buffer.fail(f"an input of operator {index} names a tensor outside 0..{count - 1}")
    outputs = _numbers(buffer, table.vector(2, "i32"), count, f"output of operator {index}")
    options = table.table(4)
    given = int(table.scalar(3, "u8", 0))
    if options is None or not fields:
        return FileOperator(index, kind, inputs, outputs, {n: default for n, (_, _, default) in fields.items()})
    if given != options_type:
        raise buffer.fail(f"operator {index} ({kind}) has options of kind {given}, not {options_type}")
    read = {n: options.scalar(slot, form, default) for n, (slot, form, default) in fields.items()}
    return FileOperator(index, kind, inputs, outputs, read)


def _tensor(buffer: Buffer, table: Table, index: int, blobs: list[Table]) -> FileTensor:
    kind = int(table.scalar(1, "i8", 0))
    name, shape = table.text(3), tuple(int(n) for n in table.vector(0, "i32"))
    where = f"{buffer.name}: tensor {index} {name[:LONGEST_NAME]!r}"
    if len(shape) > LARGEST_RANK or any(n < 1 for n in shape) or math.prod(shape) > LARGEST_TENSOR:
        raise ValueError(
            f"{where} has shape {list(shape)[:8]}; up to {LARGEST_RANK} axes of 1 or more, 2**31 in all, are read"
        )
    if table.table(6) is not None:
        raise ValueError(f"{where} is sparse; store it densely")
    number = int(table.scalar(2, "u32", 0))
    if number >= max(len(blobs), 1):
        raise buffer.fail(f"tensor {index} names buffer {number} of {len(blobs)}")
    raw = _blob(buffer, blobs[number]) if number else None
    dtype = DTYPES.get(kind, f"type {kind}")
    data = None
    if raw is not None and raw.size:
        if kind not in DTYPES:
            raise ValueError(f"{where} holds constants of tensor type {kind}; read are {', '.join(DTYPES.values())}")
        element = np.dtype(dtype)
        if raw.size != element.itemsize * math.prod(shape):
            raise ValueError(f"{where} holds {raw.size} bytes for {dtype} {list(shape)}; the file is damaged")
        data = np.frombuffer(raw, dtype=element.newbyteorder("<")).reshape(shape)
    return FileTensor(index, name, shape, dtype, data, *_quantization(table.table(4), shape, where))


def _blob(buffer: Buffer, table: Table) -> NDArray[np.uint8]:
    """Return a buffer's bytes: inside its table, or, in files that may grow beyond 2 GiB, behind the model."""
    start = int(table.scalar(1, "u64", 0))
    return buffer.bytes_at(start, int(table.scalar(2, "u64", 0))) if start > 1 else table.vector(0, "u8")


def _quantization(
    table: Table | None, shape: tuple[int, ...], where: str
) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    none = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64), 0
    if table is None or not (scales := table.vector(2, "f32").astype(np.float32)).size:
        return none
    zeros, axis = table.vector(3, "i64").astype(np.int64), int(table.scalar(6, "i32", 0))
    zeros = np.zeros(scales.size, dtype=np.int64) if not zeros.size else zeros
    zeros = np.repeat(zeros, scales.size) if zeros.size == 1 else zeros
    if zeros.size != scales.size or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise ValueError(
            f"{where} has {scales.size} scales and {zeros.size} zero points; as many, positive and finite, are needed"
        )
    if np.abs(zeros.astype(np.float64)).max() >= 2**31:
        raise ValueError(f"{where} has a zero point beyond 32 bits; the file is damaged")
    if scales.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scales.size):
        raise ValueError(f"{where} has {scales.size} scales along axis {axis} of {list(shape)}; the file is damaged")
    return scales, zeros, axis
