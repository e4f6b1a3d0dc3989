"""Topology files of SCALE-Sim: a CSV of layer shapes, without weights, read into plain values.

A file is a header and one row per layer, either of convolutions

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,

or of matrix products

    Layer, M, N, K,

Which of the two it is follows from the header where that names its columns, else from the number of columns. The
meaning of a row is SCALE-Sim's (v2, ``topology_utils.py``): inputs are padded beforehand, windows follow each other
until the map is covered (``ceil((height - filter + stride) / stride)`` lines, of which the last may leave it; `notes`
say so), and ``DP`` in a layer's name means depthwise: every channel by itself with `filters` filters. Reading is
lenient: the trailing comma, header, blank lines, comments behind ``#``, byte-order mark, quotes, spaces and a second
stride may be there or not. What a row says and this reader does not keep (sparsity) is named in `notes`.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_BYTES = 1 << 20
MAX_LAYERS = 4096
MAX_SIZE = 1 << 22
MAX_MACS = 1 << 44
MAX_ELEMENTS = 1 << 36
MAX_NAME = 256
"""Largest file, number of layers, dimension, products, values and name of a layer: beyond every network there is."""

CONV_FIELDS = ("height", "width", "kernel height", "kernel width", "channels", "filters", "stride")
GEMM_FIELDS = ("m", "n", "k")

DEPTHWISE_MARK = "DP"

_SPARSITY = re.compile(r"(\d{1,4})\s*:\s*(\d{1,4})")
_WHOLE = re.compile(r"[+-]?\d{1,18}(?:\.0*)?")


@dataclass(frozen=True)
class ConvShape:
    """A convolution of a map ``[height, width, channels]`` with its padding.

    Parameters
    ----------
    name
        Unique within its topology.
    height, width, channels
        Of the input.
    kernel, stride
        (rows, columns).
    filters
        Output channels per group.
    groups
        1, or `channels` where depthwise.
    """

    name: str
    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    filters: int
    groups: int = 1

    @property
    def outputs(self) -> tuple[int, int]:
        """Lines and columns of the output: windows until the map is covered."""
        return (
            -(-(self.height - self.kernel[0]) // self.stride[0]) + 1,
            -(-(self.width - self.kernel[1]) // self.stride[1]) + 1,
        )

    @property
    def leaves(self) -> bool:
        """Whether the last windows leave the map."""
        sizes = (self.height, self.width)
        return any((size - k) % s for size, k, s in zip(sizes, self.kernel, self.stride, strict=True))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        lines, columns = self.outputs
        window = self.kernel[0] * self.kernel[1] * self.channels // self.groups
        return lines * columns * window * self.filters * self.groups


@dataclass(frozen=True)
class GemmShape:
    """A matrix product ``[m, k] · [k, n]``, the second operand being weights."""

    name: str
    m: int
    n: int
    k: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return self.m * self.n * self.k


Shape = ConvShape | GemmShape


@dataclass(frozen=True)
class Topology:
    """The layers of a file.

    Parameters
    ----------
    name
        Of the file, without its ending.
    layers
        In order; which layer feeds which the format does not say.
    notes
        What was read otherwise than written, one sentence each.
    """

    name: str
    layers: tuple[Shape, ...]
    notes: tuple[str, ...] = ()


def read_topology(path: Path | str) -> Topology:
    """Read a topology file.

    Raises
    ------
    ValueError
        If the file cannot be read as one, naming file, line, field, rule and remedy.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"topology {path} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"topology {path} is larger than {MAX_FILE_BYTES} bytes; a network is a page of rows")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"topology {path} is no UTF-8 text (byte {error.start}); save it as CSV") from None
    return parse_topology(text, str(path), path.stem)


def parse_topology(text: str, origin: str, name: str = "topology") -> Topology:
    """Read a topology from text; `origin` names it in errors. See `read_topology`."""
    rows = list(_rows(text, origin))
    if not rows:
        raise ValueError(f"topology {origin} is empty; give a header and one row per layer")
    first, header = rows[0], None
    if not _is_layer(first[1]):
        header, rows = first[1], rows[1:]
    if not rows:
        raise ValueError(f"topology {origin} has a header but no layers; add one row per layer")
    if len(rows) > MAX_LAYERS:
        raise ValueError(f"topology {origin} has {len(rows)} layers, at most {MAX_LAYERS} are read; split the file")
    reader = _Reader(origin, header, _columns_of(origin, header, rows))
    layers = tuple(reader.shape(line, cells) for line, cells in rows)
    return Topology(name, layers, (*reader.notes, *_leaving(layers)))


def _leaving(layers: tuple[Shape, ...]) -> list[str]:
    """Note the layers whose last windows leave the map, which a convolution without padding would not count."""
    names = [shape.name for shape in layers if isinstance(shape, ConvShape) and shape.leaves]
    if not names:
        return []
    return [f"{len(names)} layer(s) have windows that leave the map, counted as SCALE-Sim does, {names[0]} the first"]


def _rows(text: str, origin: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of rows that hold something; comments and trailing empty cells are gone."""
    if "\0" in text:
        raise ValueError(f"topology {origin} holds null bytes, so it is no text; save it as CSV in UTF-8")
    for number, raw in enumerate(text.splitlines(), start=1):
        try:
            cells = next(csv.reader([raw.split("#", 1)[0]], skipinitialspace=True), [])
        except csv.Error as error:
            raise ValueError(f"topology {origin} line {number} is no CSV: {error}") from None
        cells = [cell.strip() for cell in cells]
        while cells and not cells[-1]:
            cells.pop()
        if cells and len(cells[0]) > MAX_NAME:
            raise ValueError(f"topology {origin} line {number} has a name of {len(cells[0])} characters; shorten it")
        if cells:
            yield number, cells


def _is_layer(cells: list[str]) -> bool:
    """Tell a layer from a header: what follows its name begins with a number."""
    return len(cells) > 1 and any(character.isdigit() for character in cells[1])


def _columns_of(origin: str, header: list[str] | None, rows: list[tuple[int, list[str]]]) -> tuple[str, ...]:
    """Return the columns that the file has, in its own order."""
    if header is not None:
        names = [cell.lower() for cell in header[1:4]]
        if sorted(names) == sorted(GEMM_FIELDS):
            return tuple(names)
        if any("ifmap" in cell.lower() or "filter" in cell.lower() for cell in header):
            return CONV_FIELDS
    counts = {len(cells) - 1 for _, cells in rows}
    if max(counts) <= len(GEMM_FIELDS) + 1:
        return GEMM_FIELDS
    if min(counts) >= len(CONV_FIELDS):
        return CONV_FIELDS
    number, cells = next(row for row in rows if len(row[1]) - 1 < len(CONV_FIELDS))
    raise ValueError(
        f"topology {origin} line {number}: {len(cells)} columns, where a convolution has {len(CONV_FIELDS) + 1} (name, "
        f"{', '.join(CONV_FIELDS)}) and a matrix product {len(GEMM_FIELDS) + 1} (name, {', '.join(GEMM_FIELDS)}); "
        "complete the row"
    )


class _Reader:
    """Turns rows into shapes; keeps the names given so far and what there is to note."""

    def __init__(self, origin: str, header: list[str] | None, columns: tuple[str, ...]) -> None:
        self.origin, self.columns = origin, columns
        self.sparsity_named = header is not None and any("spars" in cell.lower() for cell in header)
        self.names: set[str] = set()
        self.notes: dict[str, None] = {}
        if header is None:
            self.notes["the file has no header; its first row was read as a layer"] = None

    def shape(self, line: int, cells: list[str]) -> Shape:
        """Return one row's layer."""
        where = f"topology {self.origin} line {line}"
        if not cells[0]:
            raise ValueError(f"{where}: the layer has no name; put one in the first column")
        values, rest = cells[1 : 1 + len(self.columns)], cells[1 + len(self.columns) :]
        if len(values) < len(self.columns):
            raise ValueError(
                f"{where}: {cells[0]} has {len(values)} of {len(self.columns)} numbers ({', '.join(self.columns)}); "
                "complete the row"
            )
        sizes = dict(
            zip(self.columns, (_size(where, *item) for item in zip(self.columns, values, strict=True)), strict=True)
        )
        name = self._unique(cells[0])
        if self.columns is CONV_FIELDS:
            shape: Shape = self._conv(where, name, sizes, rest)
        else:
            self._ignored(where, name, rest)
            shape = GemmShape(name, sizes["m"], sizes["n"], sizes["k"])
        return _bounded(where, shape)

    def _conv(self, where: str, name: str, sizes: dict[str, int], rest: list[str]) -> ConvShape:
        stride = sizes["stride"]
        across = stride
        if rest and not self.sparsity_named and _WHOLE.fullmatch(rest[0]):
            across, rest = _size(where, "second stride", rest[0]), rest[1:]
        self._ignored(where, name, rest)
        kernel = (sizes["kernel height"], sizes["kernel width"])
        for axis, window in zip(("height", "width"), kernel, strict=True):
            if window > sizes[axis]:
                raise ValueError(
                    f"{where}: {name} has a kernel {axis} of {window} on a map of {axis} {sizes[axis]}; give the map "
                    "with its padding"
                )
        depthwise = DEPTHWISE_MARK in name and sizes["channels"] > 1
        if depthwise and sizes["filters"] > 1:
            self.notes[
                f"{name} is depthwise with {sizes['filters']} filters for every channel, as SCALE-Sim reads it"
            ] = None
        return ConvShape(
            name,
            sizes["height"],
            sizes["width"],
            sizes["channels"],
            kernel,
            (stride, across),
            sizes["filters"],
            sizes["channels"] if depthwise else 1,
        )

    def _ignored(self, where: str, name: str, rest: list[str]) -> None:
        """Note what is not kept; refuse what has no meaning."""
        for cell in rest:
            ratio = _SPARSITY.fullmatch(cell)
            if ratio is not None and 0 < int(ratio[1]) < int(ratio[2]):
                self.notes["structured sparsity (N:M) is priced dense"] = None
            elif cell and ratio is None and not (self.sparsity_named and _WHOLE.fullmatch(cell)):
                raise ValueError(f"{where}: {name} has a column too many ({cell[:40]!r}); remove it")

    def _unique(self, name: str) -> str:
        name = "".join(character if character.isprintable() else " " for character in name)[:120]
        found, number = name, 2
        while found in self.names:
            found, number = f"{name} ({number})", number + 1
        self.names.add(found)
        return found


def _size(where: str, field: str, text: str) -> int:
    """Read a dimension."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{where}: {field} must be a whole number (got {text[:40]!r}); correct the row")
    value = int(text.split(".")[0])
    if not 1 <= value <= MAX_SIZE:
        raise ValueError(f"{where}: {field} must be in 1..{MAX_SIZE} (got {value}); correct the row")
    return value


def _bounded(where: str, shape: Shape) -> Shape:
    """Refuse layers that no machine computes."""
    if isinstance(shape, ConvShape):
        lines, columns = shape.outputs
        weights = shape.kernel[0] * shape.kernel[1] * (shape.channels // shape.groups) * shape.filters * shape.groups
        values = (shape.height * shape.width * shape.channels, weights, lines * columns * shape.filters * shape.groups)
    else:
        values = (shape.m * shape.k, shape.k * shape.n, shape.m * shape.n)
    for what, number in zip(("input", "weights", "output"), values, strict=True):
        if number > MAX_ELEMENTS:
            raise ValueError(
                f"{where}: the {what} of {shape.name} has {number} values, at most {MAX_ELEMENTS} are taken; check the "
                "row"
            )
    if shape.macs > MAX_MACS:
        raise ValueError(
            f"{where}: {shape.name} has {shape.macs} products, at most {MAX_MACS} are taken; check the row"
        )
    return shape
