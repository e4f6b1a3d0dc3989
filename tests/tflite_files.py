"""Writes small TensorFlow Lite files for tests: just enough of FlatBuffers, parents before children.

Field numbers follow the schema (tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SCALARS = {"i8": "<b", "u8": "<B", "bool": "<?", "i32": "<i", "u32": "<I", "f32": "<f"}
TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}
CODES = {
    "add": 0, "average_pool_2d": 1, "concatenation": 2, "conv_2d": 3, "depthwise_conv_2d": 4, "depth_to_space": 5,
    "dequantize": 6, "floor": 8, "fully_connected": 9, "logistic": 14, "max_pool_2d": 17, "mul": 18, "relu": 19,
    "relu_n1_to_1": 20, "relu6": 21, "reshape": 22, "resize_bilinear": 23, "softmax": 25, "space_to_depth": 26,
    "tanh": 28, "pad": 34, "gather": 36, "transpose": 39, "mean": 40, "sub": 41, "squeeze": 43, "strided_slice": 45,
    "exp": 47, "split": 49, "cast": 53, "prelu": 54, "maximum": 55, "minimum": 57, "neg": 59, "padv2": 60, "slice": 65,
    "transpose_conv": 67, "tile": 69, "expand_dims": 70, "log": 73, "sum": 74, "rsqrt": 76, "shape": 77,
    "reduce_max": 82, "pack": 83, "unpack": 88, "reduce_min": 89, "resize_nearest_neighbor": 97, "leaky_relu": 98,
    "squared_difference": 99, "mirror_pad": 100, "abs": 101, "split_v": 102, "reverse_v2": 105, "elu": 111,
    "quantize": 114, "hard_swish": 117, "batch_matmul": 126, "gelu": 150, "relu_0_to_1": 152,
}  # fmt: skip
VERSIONS = {
    "conv_2d": 3, "depthwise_conv_2d": 3, "fully_connected": 4, "reshape": 1, "transpose_conv": 3, "hard_swish": 1,
    "elu": 1, "neg": 1, "relu_n1_to_1": 1, "relu_0_to_1": 1, "floor": 1, "shape": 1, "cast": 1, "prelu": 1,
    "depth_to_space": 1, "squeeze": 1, "expand_dims": 1,
}  # fmt: skip
WINDOW = {"padding": 0, "stride_w": 1, "stride_h": 2}
POOL = (5, WINDOW | {"filter_w": 3, "filter_h": 4, "activation": 5})
REDUCER = (27, {"keep_dims": 0})
OPTIONS: dict[str, tuple[int, dict[str, int]]] = {
    "add": (11, {"activation": 0}),
    "average_pool_2d": POOL,
    "batch_matmul": (101, {"adj_x": 0, "adj_y": 1}),
    "cast": (37, {"from": 0, "to": 1}),
    "concatenation": (10, {"axis": 0, "activation": 1}),
    "conv_2d": (1, WINDOW | {"activation": 3, "dilation_w": 4, "dilation_h": 5}),
    "depth_to_space": (94, {"block": 0}),
    "depthwise_conv_2d": (2, WINDOW | {"multiplier": 3, "activation": 4, "dilation_w": 5, "dilation_h": 6}),
    "fully_connected": (8, {"activation": 0, "keep_num_dims": 2}),
    "gather": (23, {"axis": 0, "batch_dims": 1}),
    "gelu": (116, {"approximate": 0}),
    "leaky_relu": (75, {"alpha": 0}),
    "max_pool_2d": POOL,
    "mean": REDUCER,
    "mirror_pad": (77, {"mode": 0}),
    "mul": (21, {"activation": 0}),
    "pack": (59, {"count": 0, "axis": 1}),
    "reduce_max": REDUCER,
    "reduce_min": REDUCER,
    "resize_bilinear": (15, {"align_corners": 2, "half_pixel": 3}),
    "resize_nearest_neighbor": (74, {"align_corners": 0, "half_pixel": 1}),
    "shape": (55, {"to": 0}),
    "softmax": (9, {"beta": 0}),
    "space_to_depth": (19, {"block": 0}),
    "split": (35, {"count": 0}),
    "split_v": (79, {"count": 0}),
    "strided_slice": (32, {"begin": 0, "end": 1, "ellipsis": 2, "new_axis": 3, "shrink": 4, "offset": 5}),
    "sub": (28, {"activation": 0}),
    "sum": REDUCER,
    "transpose_conv": (49, WINDOW | {"activation": 3}),
    "unpack": (64, {"count": 0, "axis": 1}),
}
KINDS = {
    "padding": "i8", "activation": "i8", "keep_num_dims": "bool", "keep_dims": "bool", "beta": "f32", "alpha": "f32",
    "approximate": "bool", "adj_x": "bool", "adj_y": "bool", "from": "i8", "to": "i8", "mode": "i8",
    "align_corners": "bool", "half_pixel": "bool", "offset": "bool",
}  # fmt: skip


@dataclass
class Table:
    """Fields by number: (scalar type, value), or something below that is written behind the table."""

    fields: dict[int, Any] = field(default_factory=dict)


@dataclass
class Vector:
    """Scalars as bytes, with their count and alignment."""

    data: bytes
    count: int
    align: int = 4


def numbers(values: Sequence[Any], dtype: str) -> Vector:
    array = np.asarray(values, dtype=dtype)
    return Vector(array.tobytes(), array.size, max(4, array.itemsize))


def text(value: str) -> Vector:
    return Vector(value.encode() + b"\0", len(value.encode()))


class _Out:
    def __init__(self) -> None:
        self.data = bytearray(struct.pack("<I4s", 0, b"TFL3"))
        self.written: dict[int, int] = {}

    def align(self, size: int, behind: int = 0) -> None:
        while (len(self.data) + behind) % size:
            self.data.append(0)

    def link(self, place: int, item: Any) -> None:
        """Write an item and let the offset at a place point to it."""
        target = self.written.get(id(item), 0)  # an item in a list twice is written once
        if target <= place:
            target = self.written[id(item)] = self.write(item)
        struct.pack_into("<I", self.data, place, target - place)

    def write(self, item: Any) -> int:
        if isinstance(item, Vector):
            self.align(item.align, behind=4)
            start = len(self.data)
            self.data += struct.pack("<I", item.count) + item.data
            return start
        if isinstance(item, list):
            self.align(4)
            start = len(self.data)
            self.data += struct.pack("<I", len(item)) + bytes(4 * len(item))
            for i, entry in enumerate(item):
                self.link(start + 4 + 4 * i, entry)
            return start
        slots = max(item.fields, default=-1) + 1
        places = {slot: 4 + 4 * i for i, slot in enumerate(item.fields)}
        self.align(4)
        self.align(4, behind=4 + 2 * slots)
        vtable = len(self.data)
        offsets = [places.get(slot, 0) for slot in range(slots)]
        self.data += struct.pack(f"<HH{slots}H", 4 + 2 * slots, 4 + 4 * len(places), *offsets)
        start = len(self.data)
        self.data += struct.pack("<i", start - vtable) + bytes(4 * len(places))
        for slot, value in item.fields.items():
            if isinstance(value, tuple):
                struct.pack_into(SCALARS[value[0]], self.data, start + places[slot], value[1])
            else:
                self.link(start + places[slot], value)
        return start


@dataclass
class T:
    """A tensor: shape, type, scale (or scales along `axis`), zero point, constant data."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: Any = 1.0
    zero: Any = 0
    data: Any = None
    axis: int = 0
    name: str | None = None


@dataclass
class O:  # noqa: E742 (an operator; the tests name hundreds)
    """An operator: kind, input and output tensor numbers, options."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


def _operator(op: O, place: int) -> Table:
    fields: dict[int, Any] = {
        0: ("u32", place),
        1: numbers(op.inputs, "<i4"),
        2: numbers(op.outputs, "<i4"),
    }
    if op.kind in OPTIONS:
        kind, slots = OPTIONS[op.kind]
        fields[3] = ("u8", kind)
        fields[4] = Table({slots[n]: (KINDS.get(n, "i32"), v) for n, v in op.options.items()})
    return Table(fields)


def _tensor(tensor: T, index: int, blobs: list[Table]) -> Table:
    fields: dict[int, Any] = {0: numbers(tensor.shape, "<i4"), 1: ("i8", TYPES[tensor.dtype])}
    fields[2] = ("u32", 0)
    if tensor.data is not None:
        raw = np.asarray(tensor.data, dtype=tensor.dtype).tobytes()
        fields[2] = ("u32", len(blobs))
        blobs.append(Table({0: Vector(raw, len(raw), 16)}))
    fields[3] = text(f"t{index}" if tensor.name is None else tensor.name)
    if tensor.scale is not None and tensor.dtype != "float32":
        scales = np.atleast_1d(np.asarray(tensor.scale, dtype=np.float32))
        zeros = np.broadcast_to(np.asarray(tensor.zero, dtype=np.int64), scales.shape)
        fields[4] = Table({2: numbers(scales, "<f4"), 3: numbers(zeros, "<i8"), 6: ("i32", tensor.axis)})
    return Table(fields)


def tflite(tensors: Sequence[T], ops: Sequence[O], inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    """Return a file of one graph."""
    kinds = list(dict.fromkeys(op.kind for op in ops))
    blobs = [Table()]
    graph = Table({
        0: [_tensor(tensor, i, blobs) for i, tensor in enumerate(tensors)],
        1: numbers(inputs, "<i4"),
        2: numbers(outputs, "<i4"),
        3: [_operator(op, kinds.index(op.kind)) for op in ops],
        4: text("main"),
    })  # fmt: skip
    codes = [
        Table({0: ("i8", min(CODES[k], 127)), 2: ("i32", VERSIONS.get(k, 2)), 3: ("i32", CODES[k])}) for k in kinds
    ]
    root = Table({0: ("u32", 3), 1: codes, 2: [graph], 3: text("test"), 4: blobs})
    out = _Out()
    out.link(0, root)
    return bytes(out.data)
