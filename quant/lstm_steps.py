"""The unrolled steps of an LSTM layer as ops of a Program (what they compute: `quant.lower_lstm`)."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import Conv, Duplicate, Op, Requantize, Slice, Table, Tensor
from quant.build import Builder, Value
from quant.graph import Node
from quant.grid import Grid
from quant.lower_mul import add_onto, exact_value, multiply
from quant.lower_tables import function_entries

GATES = (("i", "sigmoid"), ("f", "sigmoid"), ("g", "tanh"), ("o", "sigmoid"))
"""Gates in the order of the rows of the weights, with their functions."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """One of the two weight matrices in integers.

    Parameters
    ----------
    weight, bias, bound
        Operands ``[4h, 1, 1, channels]``, biases in units of the sums, and bounds, as `accelsim.program.Conv` has them.
    operand_bits, storage_bits
        Widths of the weights.
    scale
        Unit of the sums.
    source
        Input channel of every column, where channels are duplicated.
    float_bias
        For rules that add it.
    """

    weight: NDArray[Any]
    bias: NDArray[np.int64]
    bound: NDArray[np.int64]
    operand_bits: int
    storage_bits: int
    scale: NDArray[np.float64]
    source: NDArray[np.int64] | None
    float_bias: NDArray[np.float64] | None


@dataclass(frozen=True)
class Grids:
    """Grids of one layer: `unit` after sigmoids, `signed` after tanh, `turn` of the cell in front of its tanh."""

    sum: Grid
    gates: Grid
    unit: Grid
    signed: Grid
    cell: Grid
    turn: Grid
    hidden: Grid


class Steps:
    """Writer of a layer's steps; lives for one lowering."""

    def __init__(self, builder: Builder, node: Node, grids: Grids, back: Matrix) -> None:
        self.builder, self.name, self.size = builder, node.name, node.attrs["hidden"]
        self.grids, self.back = grids, back
        self.first: dict[str, Op] = {}
        self.tables = {
            "sigmoid": _entries("sigmoid", grids.gates, grids.unit),
            "tanh": _entries("tanh", grids.gates, grids.signed),
            "turned": _entries("tanh", grids.turn, grids.signed),
        }

    def write(self, step: int, fed: Value, hidden: Value | None, cell: Value | None) -> tuple[Value, Value]:
        """Write one step; return the new hidden state and cell. ``None`` stands for zeros."""
        grids = self.grids
        part = self._slice(fed, f"{step}.fed", (step, 0), (step + 1, 4 * self.size))
        if hidden is None:
            gates = self._onto(part, f"{step}.gates", "first gates", grids.gates)
        else:
            gates = self._sum(f"{step}.gates", part, self.product(self.back, hidden, "back", step), grids.gates)
        i, f, g, o = (self._gate(step, gates, place) for place in range(len(GATES)))
        added = self._times(f"{step}.added", i, g)
        if cell is None:
            cell = self._onto(added, f"{step}.cell", "first cell", grids.cell)
        else:
            cell = self._sum(f"{step}.cell", self._times(f"{step}.kept", f, cell), added, grids.cell)
        turn = self._onto(cell, f"{step}.turn", "turn", grids.turn)
        turned = self._table(turn, f"{step}.turned", "turned", grids.signed)
        return self._onto(self._times(f"{step}.out", o, turned), f"{step}.hidden", "hidden", grids.hidden), cell

    def product(self, matrix: Matrix, source: Value, role: str, step: int | None) -> Value:
        """Multiply by a weight matrix and bring the sums onto their grid."""
        name = role if step is None else f"{step}.{role}"
        if matrix.source is not None:
            source = self._duplicated(matrix.source, source, name, role)
        shape = (*self.builder.tensors[source.name].shape[:-1], matrix.bias.size)
        bound = max(1, int(matrix.bound.max()))
        acc = self.builder.accumulator(f"{self.name}.{name}.acc", shape, bound, matrix.scale)
        self._emit(
            Conv,
            name,
            role,
            (source.name, acc.name),
            weight=matrix.weight,
            bias=matrix.bias,
            bound=matrix.bound,
            weight_bits=matrix.operand_bits,
            storage_bits=matrix.storage_bits,
        )
        sums = exact_value(self.builder, acc.name, (0, 1))
        return self._onto(sums, f"{name}.sum", f"{role}.sum", self.grids.sum, matrix.float_bias)

    # --- single ops --------------------------------------------------------------------------------------------------

    def _emit(self, kind: type[Op], name: str, role: str, ends: tuple[str, str], **own: Any) -> None:
        """Write an op that stores parameters, from one tensor to another; later ops of a role share the first's."""
        first = self.first.get(role)
        if first is not None:
            own = {field: getattr(first, field) for field in own} | {"shares": first.name}
        op = kind(name=f"{self.name}.{name}", inputs=ends[:1], output=ends[1], **own)
        self.first.setdefault(role, op)
        self.builder.emit(op)

    def _codes(self, name: str, shape: tuple[int, ...], grid: Grid) -> Value:
        return Value(self.builder.code_tensor(f"{self.name}.{name}", shape, grid).name, grid, (0, 1))

    def _shape(self, value: Value) -> tuple[int, ...]:
        return self.builder.tensors[value.name].shape

    def _slice(self, value: Value, name: str, start: tuple[int, int], stop: tuple[int, int]) -> Value:
        out = self._codes(name, (stop[0] - start[0], stop[1] - start[1]), value.on)
        full = f"{self.name}.{name}"
        self.builder.emit(
            Slice(name=full, inputs=(value.name,), output=out.name, start=start, stop=stop, step=(1, 1))
        )  # fmt: skip
        return out

    def _gate(self, step: int, gates: Value, place: int) -> Value:
        gate, function = GATES[place]
        part = self._slice(gates, f"{step}.{gate}.in", (0, place * self.size), (1, (place + 1) * self.size))
        grid = self.grids.unit if function == "sigmoid" else self.grids.signed
        return self._table(part, f"{step}.{gate}", function, grid)

    def _table(self, value: Value, name: str, function: str, grid: Grid) -> Value:
        out = self._codes(name, self._shape(value), grid)
        self._emit(
            Table, name, function, (value.name, out.name), entries=self.tables[function], low_code=value.on.low
        )  # fmt: skip
        return out

    def _onto(
        self, value: Value, name: str, role: str, grid: Grid, float_bias: NDArray[np.float64] | None = None
    ) -> Value:
        """Requantize: sums by the recipe's rule, codes by float32."""
        out = self._codes(name, self._shape(value), grid)
        sums = self.builder.tensors[value.name].kind == "accumulator"
        own: dict[str, Any] = self.builder.no_bias() if sums else {}
        if float_bias is not None:
            own["float_bias"] = float_bias
        self._emit(
            Requantize,
            name,
            role,
            (value.name, out.name),
            multiplier=value.on.scale / grid.one_scale,
            low=grid.low,
            high=grid.high,
            rule=self.builder.recipe.rule if sums else "float32_rne",
            zero_in=value.on.one_zero_point,
            zero_out=grid.one_zero_point,
            **own,
        )
        return out

    def _times(self, name: str, first: Value, second: Value) -> Value:
        acc = multiply(self.builder, f"{self.name}.{name}", first, second)
        return exact_value(self.builder, acc.name, (0, 1))

    def _sum(self, name: str, first: Value, second: Value, grid: Grid) -> Value:
        add_onto(self.builder, f"{self.name}.{name}", (first, second), grid)
        return Value(f"{self.name}.{name}", grid, (0, 1))

    def _duplicated(self, channels: NDArray[np.int64], value: Value, name: str, role: str) -> Value:
        tensor = self.builder.tensors[value.name]
        copy = replace(tensor, name=f"{self.name}.{name}.duplicate", shape=(*tensor.shape[:-1], channels.size))
        self.builder.tensors[copy.name] = copy
        none = np.zeros_like(channels)
        own = {"source": channels, "offset": none, "shift": none, "low": tensor.low, "high": tensor.high}
        self._emit(Duplicate, f"{name}.duplicate", f"{role}.duplicate", (value.name, copy.name), **own)
        return Value(copy.name, value.grid, value.layout)


def _entries(function: str, grid: Grid, out: Grid) -> NDArray[np.int64]:
    codes = Tensor(name=function, shape=(1,), bits=grid.bits, signed=grid.signed, low=grid.low, high=grid.high)
    return function_entries(Node(function, function), grid, codes, out)
