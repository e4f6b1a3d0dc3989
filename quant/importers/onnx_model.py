"""Reading an ONNX file into plain values, without trusting it.

Nothing in the file is executed, and nothing is allocated that the file does not hold: a tensor's claimed shape must fit
the bytes that are there, outside data must lie in the model's own folder, and nodes must be free of cycles.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_FILE_BYTES = 2**31
"""Protocol buffers hold no more."""

MAX_NODES = 100_000
MAX_ELEMENTS = 2**31
"""Elements of one tensor of one sample; more is taken for damage."""

MAX_RANK = 16

_DTYPES: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""TensorProto.DataType of onnx.proto to numpy, where the values are stored one after the other."""

_PACKED = {21: False, 22: True}
"""4-bit types, two to a byte, low half first: whether they are signed."""

_FIELDS = {
    "float32": "float_data", "float64": "double_data", "int64": "int64_data", "uint32": "uint64_data",
    "uint64": "uint64_data",
}  # fmt: skip


@dataclass(frozen=True)
class OnnxNode:
    """One operator: domain and type, tensor names (empty where an optional input is left out), plain attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]

    def __str__(self) -> str:
        """Return how messages call the node."""
        return f"{self.op} {self.name or self.outputs[0]!r}"


@dataclass(frozen=True)
class OnnxInput:
    """A tensor that the network is given: name, dtype, and shape with the batch, ``None`` where it is not fixed."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxModel:
    """What an ONNX file holds.

    Parameters
    ----------
    name
        Of the file.
    inputs, outputs
        What is given, and the names of what is wanted.
    nodes
        Each behind those it reads from. Operators of other domains than ai.onnx are written ``domain::type``.
    constants
        Initializers by name.
    opset
        Of the operators of ai.onnx.
    widths
        Bits of the initializers of 4-bit types, by name.
    doubles
        Initializers of float64 as they are; among the constants they are float32.
    """

    name: str
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    opset: int
    widths: Mapping[str, int] = field(default_factory=dict)
    doubles: Mapping[str, Array] = field(default_factory=dict)


def require(holds: bool, message: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not holds:
        raise ValueError(message)


def load_onnx(path: str | os.PathLike[str]) -> OnnxModel:
    """Read an ONNX file.

    Raises
    ------
    ValueError
        If the file is missing, too large, damaged, cyclic, or reaches outside its folder.
    """
    file = Path(path)
    require(file.is_file(), f"{file}: no such file; give the path of an .onnx file")
    size = file.stat().st_size
    require(size < MAX_FILE_BYTES, f"{file.name} has {size} bytes; an ONNX file holds fewer than {MAX_FILE_BYTES}")
    return read_onnx(file.read_bytes(), file.name, file.parent)


def read_onnx(data: bytes, name: str = "model", folder: Path | None = None) -> OnnxModel:
    """Read an ONNX file's bytes; `folder` is where outside data may lie (nowhere if ``None``)."""
    proto = _parse(data, name)
    graph = proto.graph
    require(len(graph.node) > 0, f"{name} holds no operators; it is no ONNX network, or damaged")
    require(len(graph.node) <= MAX_NODES, f"{name} has {len(graph.node)} operators; at most {MAX_NODES} are read")
    require(not graph.sparse_initializer, f"{name} has sparse weights, which are not read; store them dense")
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        require(_text(tensor.name, name) not in constants, f"{name}: weight {tensor.name!r} is there twice")
        constants[tensor.name] = read_tensor(tensor, f"{name}: weight {tensor.name!r}", folder)
    inputs = tuple(_input(item, name) for item in graph.input if item.name not in constants)
    nodes = tuple(_node(node, name, folder) for node in graph.node)
    known = {*constants, *(item.name for item in inputs)}
    ordered = _in_order(nodes, known, name)
    outputs = tuple(_text(item.name, name) for item in graph.output)
    produced = known.union(*(node.outputs for node in nodes))
    for output in outputs:
        require(output in produced, f"{name}: no operator gives the output {output!r}")
    require(bool(inputs) and bool(outputs), f"{name} needs inputs and outputs (has {len(inputs)} and {len(outputs)})")
    opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)
    widths = {tensor.name: 4 for tensor in graph.initializer if tensor.data_type in _PACKED}
    doubles = {
        tensor.name: np.frombuffer(tensor.raw_data, "<f8").reshape(constants[tensor.name].shape)
        for tensor in graph.initializer
        if _DTYPES.get(tensor.data_type) == "float64" and tensor.raw_data
    }
    return OnnxModel(name, inputs, outputs, ordered, constants, int(opset), widths, doubles)


def _text(value: Any, where: str) -> str:
    """Return a name of the file; one that is no UTF-8 arrives as bytes."""
    require(isinstance(value, str), f"{where}: a name is no UTF-8 text; the file is damaged")
    return str(value)


def _parse(data: bytes, name: str) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ValueError("reading ONNX files needs the package onnx; install accelsim[onnx]") from None
    try:
        return onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name} is no ONNX file, or damaged ({reason})") from None


# --- tensors ---------------------------------------------------------------------------------------------------------


def read_tensor(proto: Any, where: str, folder: Path | None = None) -> Array:
    """Return the values of a TensorProto after holding its claims against the bytes that are there.

    Raises
    ------
    ValueError
        If shape, type and bytes do not fit together.
    """
    shape = tuple(int(d) for d in proto.dims)
    require(len(shape) <= MAX_RANK and all(d >= 0 for d in shape), f"{where} has shape {list(shape[:MAX_RANK])}")
    count = math.prod(shape)
    require(count <= MAX_ELEMENTS, f"{where} claims {count} elements; at most {MAX_ELEMENTS} are read")
    kind = int(proto.data_type)
    require(kind in _DTYPES or kind in _PACKED or kind == 16, f"{where} is of type {kind}, which is not read")
    packed = kind in _PACKED
    dtype = "uint8" if packed else "uint16" if kind == 16 else _DTYPES[kind]
    stored = (count + 1) // 2 if packed else count
    values = _stored_values(proto, np.dtype(dtype), stored, where, folder)
    if packed:
        halves = np.stack([values & 15, values >> 4], axis=-1).reshape(-1)[:count].astype(np.int8)
        values = np.where(halves > 7, halves - 16, halves).astype(np.int8) if _PACKED[kind] else halves.astype(np.uint8)
    elif kind == 16:  # bfloat16: the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif dtype in ("float16", "float64"):
        values = values.astype(np.float32)
    return values.reshape(shape)


def _stored_values(proto: Any, dtype: np.dtype[Any], count: int, where: str, folder: Path | None) -> Array:
    if int(proto.data_location) == 1:
        raw = _outside(proto, count * dtype.itemsize, where, folder)
    elif proto.raw_data:
        raw = proto.raw_data
    else:
        field = _FIELDS.get(dtype.name, "int32_data")
        values = getattr(proto, field)
        require(len(values) == count, f"{where} claims {count} values and holds {len(values)}")
        wide = np.asarray(values, dtype={"int32_data": np.int64}.get(field))
        if dtype.name == "float16":
            return wide.astype(np.uint16).view(np.float16)
        if field == "int32_data" and dtype.kind != "b" and wide.size:
            limits = np.iinfo(dtype)
            fits = limits.min <= int(wide.min()) and int(wide.max()) <= limits.max
            require(fits, f"{where} holds values beyond {dtype.name}")
        return wide.astype(dtype)
    require(
        len(raw) == count * dtype.itemsize, f"{where} claims {count * dtype.itemsize} bytes and holds {len(raw)} bytes"
    )
    values = np.frombuffer(raw, dtype=dtype.newbyteorder("<") if dtype.kind != "b" else np.uint8)
    return values.astype(dtype, copy=False)


def _outside(proto: Any, size: int, where: str, folder: Path | None) -> bytes:
    """Read a tensor's bytes from a file in the model's folder."""
    entries = {_text(item.key, where): _text(item.value, where) for item in proto.external_data}
    location = entries.get("location", "")
    require(folder is not None, f"{where} lies in another file, {location!r}; give the path of the .onnx file")
    assert folder is not None
    base = folder.resolve()
    plain = bool(location) and "\0" not in location and not Path(location).is_absolute() and "\\" not in location
    require(
        plain and ".." not in Path(location).parts, f"{where} lies outside the model's folder ({location!r}); refused"
    )
    file = (base / location).resolve()
    require(file.is_relative_to(base), f"{where} lies outside the model's folder ({location!r}); refused")
    require(file.is_file(), f"{where} needs {location!r} beside the model, which is not there")
    numbers = [entries.get("offset", "0"), entries.get("length", str(size))]
    require(all(n.isdecimal() and len(n) < 20 for n in numbers), f"{where} has a bad offset or length {numbers}")
    offset, length = (int(n) for n in numbers)
    held = file.stat().st_size
    require(
        length == size and offset + length <= held, f"{where} needs {size} bytes at {offset}; {location!r} has {held}"
    )
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


# --- structure -------------------------------------------------------------------------------------------------------


def _input(item: Any, where: str) -> OnnxInput:
    tensor = item.type.tensor_type
    dtype = _DTYPES.get(int(tensor.elem_type))
    require(dtype is not None, f"{where}: input {item.name!r} is no tensor of numbers")
    require(tensor.HasField("shape"), f"{where}: input {item.name!r} has no shape; export the model with one")
    shape = tuple(int(d.dim_value) if d.HasField("dim_value") else None for d in tensor.shape.dim)
    require(1 <= len(shape) <= MAX_RANK, f"{where}: input {item.name!r} has shape {shape}; a batch axis is needed")
    sizes = [d for d in shape if d is not None]
    require(
        all(d >= 1 for d in sizes) and math.prod(sizes) <= MAX_ELEMENTS,
        f"{where}: input {item.name!r} has the shape {list(shape)}; 1..{MAX_ELEMENTS} elements are read",
    )
    return OnnxInput(_text(item.name, where), str(dtype), shape)


def _node(proto: Any, where: str, folder: Path | None) -> OnnxNode:
    kind, domain, label = (_text(value, where) for value in (proto.op_type, proto.domain, proto.name))
    op = kind if domain in ("", "ai.onnx") else f"{domain}::{kind}"
    require(len(proto.output) >= 1, f"{where}: {op} {label!r} gives nothing")
    attrs = {_text(item.name, where): _attribute(item, f"{where}: {op} {label!r}", folder) for item in proto.attribute}
    inputs, outputs = (tuple(_text(value, where) for value in names) for names in (proto.input, proto.output))
    return OnnxNode(label, op, inputs, outputs, attrs)


def _attribute(item: Any, where: str, folder: Path | None) -> Any:
    kind = int(item.type)
    if kind == 1:
        return float(item.f)
    if kind == 2:
        return int(item.i)
    if kind == 3:
        return item.s.decode("utf-8", "replace")
    if kind == 4:
        return read_tensor(item.t, f"{where} {item.name}", folder)
    if kind == 6:
        return tuple(float(v) for v in item.floats)
    if kind == 7:
        return tuple(int(v) for v in item.ints)
    if kind == 8:
        return tuple(v.decode("utf-8", "replace") for v in item.strings)
    raise ValueError(f"{where}: attribute {item.name!r} of type {kind} (a sub-graph or the like) is not read")


def _in_order(nodes: tuple[OnnxNode, ...], known: Iterable[str], where: str) -> tuple[OnnxNode, ...]:
    """Return the nodes sorted so that each comes behind those it reads from.

    Raises
    ------
    ValueError
        On a tensor that is written twice, one that nothing gives, or a cycle.
    """
    given = set(known)
    writer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            require(name not in writer and name not in given, f"{where}: tensor {name!r} is written twice")
            writer[name] = index
    waits = []
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        sources = set()
        for name in filter(None, node.inputs):
            require(name in given or name in writer, f"{where}: {node} reads {name!r}, which nothing gives")
            if name in writer:
                sources.add(writer[name])
        waits.append(len(sources))
        for source in sources:
            readers.setdefault(source, []).append(index)
    ready = [index for index, count in enumerate(waits) if count == 0]
    order: list[int] = []
    for index in ready:  # grows while it is read
        order.append(index)
        for reader in readers.get(index, ()):
            waits[reader] -= 1
            if waits[reader] == 0:
                ready.append(reader)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, waits, strict=True) if count > 0)
        raise ValueError(f"{where}: operators read each other in a cycle ({stuck} is on it or behind it)")
    in_file = list(range(len(nodes)))
    place = {index: i for i, index in enumerate(order)}
    sorted_already = all(
        writer[name] < index for index, node in enumerate(nodes) for name in node.inputs if name in writer
    )
    return nodes if sorted_already else tuple(nodes[i] for i in sorted(in_file, key=place.__getitem__))
