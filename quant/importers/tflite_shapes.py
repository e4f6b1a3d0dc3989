"""Integers that a TensorFlow Lite file computes of shapes alone: what converters write where the batch was left open.

They are computed once, at import, and stand where stored integers would; no Program op comes of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.tflite_reader import FileOperator
from quant.importers.tflite_slices import strided_limits
from quant.importers.tflite_writer import INDEX_TYPES, Writer

Numbers = NDArray[Any]


def computes_integers(writer: Writer, op: FileOperator) -> bool:
    """Tell whether all outputs of an operator are integers of shapes."""
    return bool(op.outputs) and all(writer.model.tensors[i].dtype in INDEX_TYPES for i in op.outputs)


def fold(writer: Writer, op: FileOperator) -> None:
    """Compute an operator on integers now.

    Raises
    ------
    ValueError
        If it is none of `FOLDS`, or its inputs are not known before a run.
    """
    if op.kind not in FOLDS:
        raise writer.fail(op, f"computes integers; read on integers are {', '.join(FOLDS)}")
    y = writer.output(op)
    if y.index in writer.numbers or y.data is not None:
        raise writer.fail(op, f"computes {y} twice; the file is damaged")
    value = np.asarray(FOLDS[op.kind](writer, op))
    if value.shape != y.shape:
        raise writer.fail(op, f"gives integers of shape {list(value.shape)}, but {y} is declared")
    writer.numbers[y.index] = value


def _value(writer: Writer, op: FileOperator, slot: int) -> Numbers:
    return writer.constant(op, slot, INDEX_TYPES)[1]


def _shape(writer: Writer, op: FileOperator) -> Numbers:
    return np.array(writer.file_tensor(op, 0).shape, dtype=np.int64)


def _strided_slice(writer: Writer, op: FileOperator) -> Numbers:
    x = _value(writer, op, 0)
    limits, kept = strided_limits(writer, op, x.shape)
    cut = x[tuple(slice(a, None if b < 0 else b, s) for a, b, s in limits)]
    return cut.reshape([1 if axis is None else cut.shape[axis] for axis in kept])


def _pack(writer: Writer, op: FileOperator) -> Numbers:
    parts = [_value(writer, op, slot) for slot in range(len(op.inputs))]
    if len({part.shape for part in parts}) != 1 or op.options["axis"] != 0:
        raise writer.fail(op, "packs integers of several shapes, or not along axis 0")
    return np.stack(parts)


def _concatenation(writer: Writer, op: FileOperator) -> Numbers:
    parts = [_value(writer, op, slot) for slot in range(len(op.inputs))]
    if any(part.ndim != 1 for part in parts) or not parts:
        raise writer.fail(op, "joins integers that are no lists")
    return np.concatenate(parts)


def _same(writer: Writer, op: FileOperator) -> Numbers:
    x, y = _value(writer, op, 0), writer.output(op)
    if x.size != int(np.prod(y.shape)):
        raise writer.fail(op, f"brings {x.size} integers into {list(y.shape)}")
    return x.reshape(y.shape)


def _product(writer: Writer, op: FileOperator) -> Numbers:
    x, y = _value(writer, op, 0).astype(np.int64), _value(writer, op, 1).astype(np.int64)
    if x.shape != y.shape and 1 not in (x.size, y.size):
        raise writer.fail(op, f"multiplies integers of shapes {list(x.shape)} and {list(y.shape)}")
    if x.size * y.size and float(np.abs(x).max()) * float(np.abs(y).max()) >= 2.0**31:
        raise writer.fail(op, "multiplies integers beyond 32 bits; the file is damaged")
    return x * y


FOLDS: dict[str, Callable[[Writer, FileOperator], Numbers]] = {
    "cast": _same,
    "concatenation": _concatenation,
    "expand_dims": _same,
    "mul": _product,
    "pack": _pack,
    "reshape": _same,
    "shape": _shape,
    "squeeze": _same,
    "strided_slice": _strided_slice,
}
