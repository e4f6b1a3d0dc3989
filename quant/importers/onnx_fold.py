"""Arithmetic of an ONNX file on its own constants: shapes and weights that exporters leave to be worked out.

Only what a file needs before it can be read is here, in numpy, each result bounded in size.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.onnx_model import OnnxNode, require

Array = NDArray[Any]

MAX_CONSTANT = 2**27
"""Elements that a worked-out constant may have."""

MAX_WORKED_OUT_BYTES = 2**30
"""Bytes of all worked-out constants together, or four times what the file holds where that is more."""

_CAST = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float32, 11: np.float32,
}  # fmt: skip


def fold(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array | None:
    """Return the value of an operator whose inputs are all constants, or ``None`` if it is not one of those folded.

    Raises
    ------
    ValueError
        If the constants do not fit the operator, or the result would be too large.
    """
    rule = FOLDS.get(node.op)
    if rule is None:
        return None
    try:
        return rule(node, inputs, opset)
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError, AttributeError) as error:
        raise ValueError(f"{node} cannot be worked out: {str(error).splitlines()[0]}") from None


def _bounded(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(d) for d in np.asarray(shape).ravel())
    count = math.prod(sizes)
    require(
        len(sizes) <= 16 and min(sizes, default=0) >= 0 and count <= MAX_CONSTANT,
        f"shape {list(sizes)} is out of bounds",
    )
    return sizes


def _constant(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    for key, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in node.attrs:
            return np.asarray(node.attrs[key], dtype=dtype)
    raise ValueError("its value is of no kind that is read")


def axes_of(node: OnnxNode, inputs: list[Array | None], place: int = 1) -> tuple[int, ...] | None:
    """Return an operator's axes, which older files have as an attribute and newer ones as an input."""
    if "axes" in node.attrs:
        return tuple(node.attrs["axes"])
    given = inputs[place] if len(inputs) > place else None
    return None if given is None else tuple(int(a) for a in given.ravel())


def _unsqueeze(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    return np.expand_dims(_array(inputs[0]), axes_of(node, inputs) or ())


def _squeeze(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    return np.squeeze(_array(inputs[0]), axes_of(node, inputs))


def _array(value: Array | None) -> Array:
    require(value is not None, "an input is missing")
    assert value is not None
    return value


def _expand(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    source = _array(inputs[0])
    return np.broadcast_to(source, np.broadcast_shapes(source.shape, _bounded(inputs[1]))).copy()


def _constant_of_shape(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    value = np.asarray(node.attrs.get("value", np.zeros(1, np.float32))).ravel()
    return np.full(_bounded(inputs[0]), value[0])


def _range(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    start, limit, step = (_array(value).item() for value in inputs)
    _bounded([max(0, math.ceil((limit - start) / step))])
    return np.arange(start, limit, step).astype(_array(inputs[0]).dtype)


def reshape_target(target: Array, shape: tuple[int, ...], allow_zero: bool = False) -> tuple[int, ...]:
    """Return the shape that Reshape gives: 0 copies an axis, -1 takes what is left."""
    sizes = [int(d) for d in target.ravel()]
    sizes = [shape[i] if d == 0 and not allow_zero else d for i, d in enumerate(sizes)]
    require(sizes.count(-1) <= 1 and min(sizes, default=1) >= -1, f"shape {sizes} is none")
    if -1 in sizes:
        rest = math.prod(d for d in sizes if d != -1)
        require(rest > 0 and math.prod(shape) % rest == 0, f"shape {shape} cannot become {sizes}")
        sizes[sizes.index(-1)] = math.prod(shape) // rest
    require(math.prod(sizes) == math.prod(shape), f"shape {shape} cannot become {sizes}")
    return tuple(sizes)


def slice_limits(node: OnnxNode, inputs: list[Array | None], shape: tuple[int, ...]) -> list[slice]:
    """Return an ONNX Slice as one numpy slice per axis."""
    if "starts" in node.attrs:
        starts, ends = node.attrs["starts"], node.attrs["ends"]
        axes, steps = node.attrs.get("axes"), None
    else:
        rest = [None if value is None else [int(v) for v in value.ravel()] for value in inputs[1:]]
        starts, ends, axes, steps = (*rest, None, None)[:4]
    require(starts is not None and ends is not None, "start and end are missing")
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut = [slice(None)] * len(shape)
    for axis, start, stop, step in zip(axes, starts, ends, steps, strict=True):
        require(-len(shape) <= axis < len(shape) and step != 0, f"axis {axis} or step {step} is none of its input")
        cut[axis] = slice(start, None if step < 0 and stop < -shape[axis] else stop, step)
    return cut


def _slice(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    source = _array(inputs[0])
    return source[tuple(slice_limits(node, inputs, source.shape))]


def _gather(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    source, index = _array(inputs[0]), _array(inputs[1])
    axis = node.attrs.get("axis", 0)
    _bounded([source.size // max(1, source.shape[axis]) * max(1, index.size)])
    return np.take(source, index, axis=axis)


def _divide(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    first, second = _array(inputs[0]), _array(inputs[1])
    if first.dtype.kind in "iu":
        return np.asarray(np.trunc(first / second), dtype=first.dtype)
    return np.asarray(first / second)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[OnnxNode, list[Array | None], int], Array]:
    def rule(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
        first, second = _array(inputs[0]), _array(inputs[1])
        _bounded(np.broadcast_shapes(first.shape, second.shape))
        return np.asarray(function(first, second))

    return rule


def _transpose(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    return _array(inputs[0]).transpose(node.attrs.get("perm"))


def _concat(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    parts = [_array(value) for value in inputs]
    _bounded([sum(part.size for part in parts)])
    return np.concatenate(parts, axis=node.attrs.get("axis", 0))


def _reduce_product(node: OnnxNode, inputs: list[Array | None], opset: int) -> Array:
    return np.asarray(
        np.prod(_array(inputs[0]), axis=axes_of(node, inputs), keepdims=bool(node.attrs.get("keepdims", 1)))
    )


FOLDS: Mapping[str, Callable[[OnnxNode, list[Array | None], int], Array]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda node, inputs, opset: _array(inputs[0]),
    "Cast": lambda node, inputs, opset: _array(inputs[0]).astype(_CAST[node.attrs["to"]]),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": lambda node, inputs, opset: _array(inputs[0]).reshape(
        reshape_target(_array(inputs[1]), _array(inputs[0]).shape, bool(node.attrs.get("allowzero", 0)))
    ),
    "Flatten": lambda node, inputs, opset: _array(inputs[0]).reshape(
        math.prod(_array(inputs[0]).shape[: node.attrs.get("axis", 1)]), -1
    ),
    "Transpose": _transpose,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Expand": _expand,
    "Range": _range,
    "ReduceProd": _reduce_product,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _divide,
    "Pow": _binary(np.power),
    "Mod": _binary(np.mod),
    "Min": _binary(np.minimum),
    "Max": _binary(np.maximum),
    "Greater": _binary(np.greater),
    "Less": _binary(np.less),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Not": lambda node, inputs, opset: np.logical_not(_array(inputs[0])),
    "Ceil": lambda node, inputs, opset: np.ceil(_array(inputs[0])),
    "Abs": lambda node, inputs, opset: np.abs(_array(inputs[0])),
    "Equal": _binary(np.equal),
    "Sqrt": lambda node, inputs, opset: np.sqrt(_array(inputs[0])),
    "Neg": lambda node, inputs, opset: -_array(inputs[0]),
    "Reciprocal": lambda node, inputs, opset: np.reciprocal(_array(inputs[0])),
    "Floor": lambda node, inputs, opset: np.floor(_array(inputs[0])),
    "Where": lambda node, inputs, opset: np.where(_array(inputs[0]), _array(inputs[1]), _array(inputs[2])),
}
