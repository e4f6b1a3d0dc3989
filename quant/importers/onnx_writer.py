"""The writer of a Program from a quantized ONNX file: how ops and tensors are appended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import bits_for, code_range
from accelsim.program import Constant, Op, Program, Requantize, Reshape, Table, Tensor, Transpose
from quant.importers.onnx_model import OnnxModel, require
from quant.importers.onnx_rescale import is_rescaled, rescaled
from quant.importers.onnx_rules import dequantize
from quant.importers.onnx_values import (
    CODE_DTYPES,
    Codes,
    Curve,
    Given,
    Grid,
    Held,
    Port,
    Real,
    Scaled,
    Waiting,
    Weights,
    map_layout,
)
from quant.importers.onnx_walk import Shape, Walk, axis_of

Array = NDArray[Any]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Runtime:
    """Whose float steps between integers a file is read by.

    Parameters
    ----------
    name
        Of the runtime, for remarks.
    quantize
        ``(values, scale, zero point, low, high) -> codes``.
    multiplier
        ``(scales of sums, scale of the grid) -> multipliers``.
    finish
        By operator: how a waiting one is written, as ``(writer, value, grid, name) -> Codes``.
    doubt
        ``(writer, value, grid) -> text``: why codes may differ from the runtime's; empty if never.
    """

    name: str
    quantize: Callable[[Array, float, int, int, int], Ints]
    multiplier: Callable[[NDArray[np.float32], float], NDArray[np.float64]]
    finish: "Mapping[str, Callable[[Writer, Waiting, Grid, str], Codes]]"
    doubt: "Callable[[Writer, Scaled | Waiting, Grid], str]"


@dataclass(eq=False)
class Parts:
    """What of the Program is written so far."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    inexact: set[str] = field(default_factory=set)
    midway: set[str] = field(default_factory=set)


class Writer(Walk[Held]):
    """The Program as far as it is written."""

    def __init__(self, model: OnnxModel, runtime: Runtime) -> None:
        super().__init__(model)
        self.runtime = runtime
        self.parts = Parts()
        self.named: dict[str, Codes] = {}
        for i, item in enumerate(model.inputs):
            shape = self.sample_shape(i)
            if item.dtype in CODE_DTYPES:
                bits, signed = CODE_DTYPES[item.dtype]
                codes = self.declare_input(item.name, shape, Grid(1.0, 0, bits, signed, *code_range(bits, signed)))
                self.parts.inputs.append(Port(item.name, codes.name, codes.layout, None, 0))
                self.values[item.name] = codes
            else:
                self.values[item.name] = Given(i, shape)

    # --- tensors ---------------------------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape:
        """Return the shape of a tensor of the file, batch included."""
        return (self.batch, *self.sample_of(self.values[name]))

    def sample_of(self, value: Held) -> Shape:
        """Return the shape of one sample in the file's order of axes."""
        if isinstance(value, Given):
            return value.shape
        if isinstance(value, Curve):
            return self.sample_of(value.source)
        if isinstance(value, Real):
            return self.sample_of(value.codes)
        if isinstance(value, Codes | Scaled):
            shape = self.parts.tensors[value.name].shape
            return tuple(shape[value.layout.index(axis)] for axis in range(len(shape)))
        if isinstance(value, Waiting):
            return self._waiting_shape(value)
        raise ValueError("asks for the shape of a float step before it is quantized; export with fixed shapes")

    def _waiting_shape(self, value: Waiting) -> Shape:
        shapes = [self.sample_of(held) for held in value.operands if isinstance(held, Real)]
        if value.node.op == "Concat" and len(shapes) == len(value.operands):
            axis = axis_of(value.node.attrs["axis"], len(shapes[0]) + 1)
            return tuple(sum(s[i] for s in shapes) if i == axis else d for i, d in enumerate(shapes[0]))
        if value.node.op == "GlobalAveragePool":
            return (shapes[0][0], *(1 for _ in shapes[0][1:]))
        known = value.node.op in ("Add", "Sub", "Mul", "Sum", "Softmax")
        require(known and bool(shapes), f"asks for the shape of {value.node} before its result is quantized")
        return tuple(np.broadcast_shapes(*shapes))

    def tensor(self, value: Codes | Scaled) -> Tensor:
        """Return the Program tensor of a value."""
        return self.parts.tensors[value.name]

    def declare_input(self, name: str, shape: Shape, grid: Grid) -> Codes:
        """Declare a Program input, maps channels last."""
        layout = map_layout(len(shape)) if len(shape) in (2, 3) else tuple(range(len(shape)))
        self.codes_tensor(name, tuple(shape[axis] for axis in layout), grid)
        return Codes(name, layout, grid.scale, grid.zero)

    def codes_tensor(self, name: str, shape: Shape, grid: Grid) -> Tensor:
        """Declare a tensor of codes."""
        tensor = Tensor(
            name=name,
            shape=shape,
            bits=grid.bits,
            signed=grid.signed,
            low=grid.low,
            high=grid.high,
            scale=grid.scale,
            zero_point=grid.zero,
        )
        return self._declare(tensor)

    def _declare(self, tensor: Tensor) -> Tensor:
        require(tensor.name not in self.parts.tensors, f"tensor {tensor.name!r} is written twice")
        self.parts.tensors[tensor.name] = tensor
        return tensor

    def sums_tensor(self, name: str, shape: Shape, bound: int, scale: Array | None = None) -> Tensor:
        """Declare a tensor of exact sums up to a magnitude."""
        reach = max(1, int(bound))
        bits = bits_for(-reach, reach)
        require(bits <= 62, f"sums of {bits} bits are too wide")
        if bits > 32:
            self.remark(name, f"{name!r} can reach {bits} bits, where int32 sums would wrap")
        real = None if scale is None else float(scale[0]) if scale.size == 1 else tuple(float(s) for s in scale)
        tensor = Tensor(
            name=name, shape=shape, bits=bits, signed=True, low=-reach, high=reach, scale=real, kind="accumulator"
        )
        return self._declare(tensor)

    def emit(self, kind: type[Op], inputs: tuple[str, ...], output: str, **own: Any) -> str:
        """Append an op, which bears its output's name; return that."""
        self.parts.ops.append(kind(name=own.pop("name", output), inputs=inputs, output=output, **own))
        return output

    def remark(self, name: str, text: str) -> None:
        """Note that a tensor's integers may differ from the runtime's, and why."""
        if text not in self.parts.remarks:
            self.parts.remarks.append(text)
        self.parts.inexact.add(name)

    def free(self, name: str) -> str:
        """Return a tensor name that is not taken."""
        tries = (name if i == 0 else f"{name}.{i}" for i in range(len(self.parts.tensors) + 2))
        return next(found for found in tries if found not in self.parts.tensors)

    # --- moving codes ----------------------------------------------------------------------------------------------

    def in_layout(self, codes: Codes, layout: tuple[int, ...]) -> Codes:
        """Return codes with their axes in another order, transposing where that moves anything."""
        if codes.layout == layout:
            return codes
        source = self.tensor(codes)
        axes = tuple(codes.layout.index(axis) for axis in layout)
        shape = tuple(source.shape[axis] for axis in axes)
        name = f"{codes.name}.as{''.join(map(str, axes))}"  # the same codes may be read in other orders too
        if name not in self.parts.tensors:
            self._declare(replace(source, name=name, shape=shape))
            moved = [axis for axis in axes if source.shape[axis] > 1]
            if moved == sorted(moved):
                self.emit(Reshape, (codes.name,), name, shape=shape)
            else:
                self.emit(Transpose, (codes.name,), name, axes=axes)
        return replace(codes, name=name, layout=layout)

    def plain(self, codes: Codes) -> Codes:
        """Return codes with their axes in the file's order."""
        return self.in_layout(codes, tuple(sorted(codes.layout)))

    def as_map(self, codes: Codes) -> Codes:
        """Return codes of a map ``[channels, …]`` with channels last."""
        return self.in_layout(codes, map_layout(len(codes.layout)))

    def like(self, codes: Codes, name: str, shape: Shape) -> Tensor:
        """Declare a tensor on the grid of another."""
        return self._declare(replace(self.tensor(codes), name=name, shape=shape))

    def stored(self, weights: Weights, name: str, rank: int) -> Codes:
        """Write stored codes as a tensor that is the same for every sample."""
        values = weights.values
        require(weights.scale.size == 1, f"{name!r} is a constant with {weights.scale.size} scales; one is known")
        require(values.ndim <= rank or values.shape[0] == 1, f"{name!r} differs from sample to sample")
        flat = values.reshape(values.shape[max(0, values.ndim - rank) :])
        flat = flat.reshape((1,) * (rank - flat.ndim) + flat.shape)
        name = self.free(name)
        grid = Grid(
            float(weights.scale[0]),
            int(weights.zero.ravel()[0]),
            weights.bits,
            weights.signed,
            int(flat.min()),
            int(flat.max()),
        )
        self.codes_tensor(name, flat.shape, grid)
        self.emit(Constant, (), name, values=flat.astype(np.int64))
        return Codes(name, tuple(range(rank)), grid.scale, grid.zero)

    # --- onto a grid -----------------------------------------------------------------------------------------------

    def curve(self, source: Real, function: Callable[[Array], Array] | None, grid: Grid, name: str) -> Codes:
        """Write a function of codes, or nothing but another grid, as a table; codes already on it pass.

        What only brings codes of more than 8 bits onto another grid, clipped or not, is a requantization instead.
        """
        tensor = self.tensor(source.codes)
        codes = np.arange(tensor.low, tensor.high + 1)
        real = dequantize(codes, source.scale, source.zero)
        values = real if function is None else function(real)
        entries = self.runtime.quantize(values, grid.scale, grid.zero, grid.low, grid.high)
        if (
            function is None
            and np.array_equal(entries, codes)
            and (tensor.bits, tensor.signed)
            == (
                grid.bits,
                grid.signed,
            )
        ):
            return replace(source.codes, scale=grid.scale, zero=grid.zero)
        self.codes_tensor(name, tensor.shape, grid)
        if tensor.bits > 8 and self._rescaled(source, entries, grid, name, function is None):
            return Codes(name, source.codes.layout, grid.scale, grid.zero)
        self.emit(Table, (source.codes.name,), name, entries=entries, low_code=tensor.low)
        return Codes(name, source.codes.layout, grid.scale, grid.zero)

    def _rescaled(self, source: Real, entries: Ints, grid: Grid, name: str, identity: bool) -> bool:
        """Write a table of many entries as a requantization and tell so, if it is one but for values near ties."""
        tensor, ratio = self.tensor(source.codes), source.scale / grid.scale
        if ratio >= 2.0**31:
            return False
        low, high = (grid.low, grid.high) if identity else (int(entries.min()), int(entries.max()))
        found = rescaled(tensor, (source.zero, grid.zero), ratio, (low, high))
        if not identity and not is_rescaled(entries, found):
            return False
        if not np.array_equal(found, entries):
            self.remark(name, f"{name!r} is scaled in two steps in {self.runtime.name}; here by the scales' ratio")
        numbers = {"low": low, "high": high, "zero_in": source.zero, "zero_out": grid.zero}
        self.emit(Requantize, (source.codes.name,), name, multiplier=np.array([ratio]), **numbers)
        return True

    def clipped(self, grid: Grid, low: float, high: float) -> Grid:
        """Return a grid with the codes alone that values clipped to a range have: quantizing keeps order."""
        ends = self.runtime.quantize(np.array([low, high], np.float32), grid.scale, grid.zero, grid.low, grid.high)
        return replace(grid, low=int(ends[0]), high=int(ends[1]))

    def requantized(
        self, sums: Scaled, multiplier: NDArray[np.float64], grid: Grid, name: str, low: float, high: float
    ) -> Codes:
        """Bring exact sums onto a grid by rule ``float32_rne``, or ``fbgemm`` where a float bias is left to it."""
        narrow = self.clipped(grid, low, high)
        self.codes_tensor(name, self.tensor(sums).shape, narrow)
        bias = None if sums.bias is None else np.asarray(sums.bias / sums.scale, dtype=np.float64)
        require(bool(np.all(multiplier >= 0)), f"{name!r} has negative scales")
        if bias is not None:
            multiplier, bias = (np.atleast_1d(part) for part in np.broadcast_arrays(multiplier, bias))
        self.emit(
            Requantize,
            (sums.name,),
            name,
            multiplier=np.array(multiplier),
            low=narrow.low,
            high=narrow.high,
            rule="float32_rne" if bias is None else "fbgemm",
            zero_out=grid.zero,
            float_bias=None if bias is None else np.array(bias),
        )
        return Codes(name, sums.layout, grid.scale, grid.zero)

    def program(self, outputs: list[Port]) -> Program:
        """Return the finished Program."""
        return Program(
            name=self.model.name.removesuffix(".onnx"),
            tensors=self.parts.tensors,
            inputs=tuple(port.tensor for port in self.parts.inputs),
            outputs=tuple(dict.fromkeys(port.tensor for port in outputs)),
            ops=tuple(self.parts.ops),
        )
