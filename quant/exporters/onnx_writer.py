"""The writer of an ONNX file from a Program: names, orders of axes, and constants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Program, Tensor

Array = NDArray[Any]

OPSET = 17
FILE_VERSION = 9
MAX_CODE_BITS = 8


def require(holds: bool, message: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not holds:
        raise ValueError(message)


@dataclass(frozen=True)
class Held:
    """A tensor of the file: its axis i (batch left out) is the Program tensor's axis ``order[i]``."""

    name: str
    order: tuple[int, ...]


def channels_first(rank: int) -> tuple[int, ...]:
    """Return the order of axes of a map whose channels come first."""
    return (rank - 1, *range(rank - 1))


def dtype_of(tensor: Tensor) -> str:
    """Return the element type that holds a tensor's codes in the file.

    Raises
    ------
    ValueError
        If the tensor is of codes wider than 8 bits, which ONNX's integer operators do not take.
    """
    if tensor.kind == "index":
        return "int64"
    if tensor.kind == "accumulator":
        return "int32" if tensor.bits <= 32 else "int64"
    require(
        tensor.bits <= MAX_CODE_BITS,
        f"tensor {tensor.name!r} has {tensor.bits}-bit codes; ONNX multiplies integers of 8 bits and fewer: "
        "quantize activations to 8 bits, or verify against the torch oracle",
    )
    return "int8" if tensor.signed else "uint8"


class Writer:
    """The file as far as it is written; `held` maps Program tensors to the file's."""

    def __init__(self, program: Program) -> None:
        from onnx import helper, numpy_helper

        self.helper, self.numpy_helper = helper, numpy_helper
        self.program = program
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.held: dict[str, Held] = {}
        self.moved: dict[tuple[str, tuple[int, ...]], str] = {}
        self.batch_of = ""

    def tensor(self, name: str) -> Tensor:
        """Return a Program tensor."""
        return self.program.tensors[name]

    def constant(self, value: Any, dtype: str, hint: str = "c") -> str:
        """Return the name of an initializer; equal ones are held once."""
        array = np.asarray(value, dtype=dtype)
        small = array.size <= 64
        key = f"{dtype}:{array.shape}:{array.tobytes().hex()}" if small else f"large:{len(self.constants)}"
        found = self.constants.get(key)
        if found is None:
            name = f"{hint}.{len(self.constants)}"
            found = self.constants[key] = self.numpy_helper.from_array(array, name)
        return str(found.name)

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attrs: Any) -> str:
        """Append an operator; return its output's name."""
        name = output or f"{op.lower()}.{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, list(inputs), [name], name=f"{name}/{op}", **attrs))
        return name

    def cast(self, name: str, dtype: str, output: str = "") -> str:
        """Convert a tensor's elements."""
        kind = self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", [name], output, to=kind)

    def keep(self, name: str, file_name: str, order: tuple[int, ...]) -> None:
        """Note which tensor of the file stands for a Program tensor."""
        self.held[name] = Held(file_name, order)

    def at(self, name: str, order: tuple[int, ...]) -> str:
        """Return a Program tensor with its axes in an order, transposing where that moves anything."""
        held = self.held[name]
        if held.order == order:
            return held.name
        key = (name, order)
        if key not in self.moved:
            shape = self.tensor(name).shape
            moves = [axis for axis in held.order if shape[axis] > 1] != [axis for axis in order if shape[axis] > 1]
            if moves:
                perm = [0, *(held.order.index(axis) + 1 for axis in order)]
                self.moved[key] = self.node("Transpose", [held.name], perm=perm)
            else:
                target = self.constant([-1, *(shape[axis] for axis in order)], "int64", "shape")
                self.moved[key] = self.node("Reshape", [held.name, target])
        return self.moved[key]

    def plain(self, name: str) -> str:
        """Return a Program tensor with its axes in the Program's order."""
        return self.at(name, tuple(range(len(self.tensor(name).shape))))

    def as_map(self, name: str) -> str:
        """Return a Program tensor with its channels first."""
        return self.at(name, channels_first(len(self.tensor(name).shape)))

    def along(self, numbers: Array, order: tuple[int, ...], axis: int) -> Array:
        """Shape numbers per index of a Program axis so that they broadcast in the file."""
        if numbers.size == 1:
            return numbers.reshape(())
        return numbers.reshape([-1 if a == axis else 1 for a in order])

    def unit(self, name: str) -> float:
        """Return a tensor's scale rounded to a power of two: the unit that its real values have in the file.

        ONNX Runtime's multiplier is float32(float32(s_x · s_w) / s_y); only with powers of two for the activations
        can every multiplier be had exactly.
        """
        scale = self.tensor(name).scale
        if not isinstance(scale, float) or scale <= 0:
            return 1.0
        return float(2.0 ** np.clip(np.round(np.log2(scale)), -60, 60))

    def clipped(self, name: str, tensor: Tensor, low: int, high: int, output: str = "") -> str:
        """Clamp codes where their type does not do so already."""
        dtype = dtype_of(tensor)
        limits = np.iinfo(dtype)
        if low <= limits.min and high >= limits.max:
            return self.node("Identity", [name], output) if output else name
        ends = [self.constant(v, dtype, "limit") for v in (max(low, limits.min), min(high, limits.max))]
        return self.node("Clip", [name, *ends], output)

    def rounded(self, real: str, tensor: Tensor, zero: int, low: int, high: int, output: str) -> str:
        """Round real values half to even, clamp them, and turn them into codes."""
        whole = self.node("Round", [real])
        ends = [self.constant(v - zero, "float32", "limit") for v in (low, high)]
        whole = self.node("Clip", [whole, *ends])
        if zero:
            whole = self.node("Add", [whole, self.constant(zero, "float32", "zero")])
        return self.cast(whole, dtype_of(tensor), output)

    def quantize(self, real: str, tensor: Tensor, unit: float, zero: int, limits: tuple[int, int], output: str) -> str:
        """Write a QuantizeLinear and the clamp behind it."""
        dtype = dtype_of(tensor)
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        require(
            low <= zero <= high, f"tensor {tensor.name!r} has zero point {zero}, outside {dtype}; ONNX holds it there"
        )
        parts = [real, self.constant(unit, "float32", "scale"), self.constant(zero, dtype, "zero")]
        narrow = limits[0] > low or limits[1] < high
        codes = self.node("QuantizeLinear", parts, f"{output}.free" if narrow else output)
        return self.clipped(codes, tensor, *limits, output) if narrow else codes

    def dequantize(self, codes: str, dtype: str, unit: Any, zero: int, axis: int | None = None) -> str:
        """Write a DequantizeLinear."""
        parts = [
            codes,
            self.constant(unit, "float32", "scale"),
            self.constant(np.full(np.shape(unit), zero), dtype, "zero"),
        ]
        attrs: dict[str, Any] = {} if axis is None or np.ndim(unit) == 0 else {"axis": axis}
        return self.node("DequantizeLinear", parts, **attrs)
