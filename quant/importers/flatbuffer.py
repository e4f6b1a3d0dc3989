"""A FlatBuffers reader that trusts nothing: every offset and length is checked against the file before it is used.

The layout is that of the FlatBuffers internals document (flatbuffers.dev/internals): a table begins with the distance
back to its vtable, which holds the place of every field; strings, vectors and tables are reached through unsigned
offsets relative to where they are written. Nothing is executed or copied; data are views of the file.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FORMATS = {"bool": "<?", "i8": "<b", "u8": "<B", "u16": "<H", "i32": "<i", "u32": "<I", "u64": "<Q", "f32": "<f"}
_ELEMENTS: dict[str, np.dtype[Any]] = {
    "u8": np.dtype("u1"),
    "i32": np.dtype("<i4"),
    "i64": np.dtype("<i8"),
    "f32": np.dtype("<f4"),
}

VISITS_PER_BYTE = 16
"""Vector elements read per byte of file: beyond it vectors overlap so often that reading would not end in time."""


class Buffer:
    """The bytes of a file, and how much of them was asked for."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        self.visits = 0

    def fail(self, what: str) -> ValueError:
        """Return the error of a damaged file."""
        return ValueError(f"{self.name}: {what}; the file is truncated or damaged")

    def scalar(self, place: int, kind: str) -> Any:
        """Return the scalar at a byte position."""
        form = _FORMATS[kind]
        if not 0 <= place <= len(self.data) - struct.calcsize(form):
            raise self.fail(f"a value at byte {place} lies outside its {len(self.data)} bytes")
        return struct.unpack_from(form, self.data, place)[0]

    def visit(self, elements: int) -> None:
        """Count elements of vectors; overlapping vectors must not make the work quadratic."""
        self.visits += elements
        if self.visits > VISITS_PER_BYTE * (len(self.data) + 256):
            raise self.fail(f"its vectors overlap and hold more than {VISITS_PER_BYTE} elements per byte")

    def follow(self, place: int) -> int:
        """Return where the offset at a position points to."""
        return place + int(self.scalar(place, "u32"))

    def root(self) -> "Table":
        """Return the file's root table."""
        return Table(self, self.follow(0))

    def bytes_at(self, start: int, size: int) -> NDArray[np.uint8]:
        """Return a view of bytes."""
        if not (0 <= start <= len(self.data) and 0 <= size <= len(self.data) - start):
            raise self.fail(f"{size} bytes at {start} lie outside its {len(self.data)} bytes")
        return np.frombuffer(self.data, dtype=np.uint8, count=size, offset=start)


class Table:
    """One table: fields by number, in the order in which the schema declares them."""

    def __init__(self, buffer: Buffer, place: int) -> None:
        self.buffer, self.place = buffer, place
        self.vtable = place - int(buffer.scalar(place, "i32"))
        self.size = int(buffer.scalar(self.vtable, "u16"))

    def _field(self, number: int) -> int:
        """Return the position of a field, 0 where the table does not have it."""
        entry = 4 + 2 * number
        if entry + 2 > self.size:
            return 0
        offset = int(self.buffer.scalar(self.vtable + entry, "u16"))
        return self.place + offset if offset else 0

    def scalar(self, number: int, kind: str, default: Any) -> Any:
        """Return a scalar field."""
        place = self._field(number)
        return self.buffer.scalar(place, kind) if place else default

    def table(self, number: int) -> "Table | None":
        """Return a table field."""
        place = self._field(number)
        return Table(self.buffer, self.buffer.follow(place)) if place else None

    def _vector(self, number: int, width: int) -> tuple[int, int]:
        """Return (first element, count) of a vector field."""
        place = self._field(number)
        if not place:
            return 0, 0
        start = self.buffer.follow(place)
        count = int(self.buffer.scalar(start, "u32"))
        if count * width > len(self.buffer.data) - start - 4:
            raise self.buffer.fail(f"a vector at byte {start} claims {count} elements of {width} bytes")
        return start + 4, count

    def vector(self, number: int, kind: str) -> NDArray[Any]:
        """Return a vector of scalars, empty where the table does not have it; a view of the file."""
        element = _ELEMENTS[kind]
        start, count = self._vector(number, element.itemsize)
        self.buffer.visit(count)
        return np.frombuffer(self.buffer.data, dtype=element, count=count, offset=start)

    def tables(self, number: int) -> list["Table"]:
        """Return a vector of tables."""
        start, count = self._vector(number, 4)
        self.buffer.visit(count)
        return [Table(self.buffer, self.buffer.follow(start + 4 * i)) for i in range(count)]

    def text(self, number: int) -> str:
        """Return a string, undecodable bytes replaced."""
        return self.vector(number, "u8").tobytes().decode("utf-8", errors="replace")
