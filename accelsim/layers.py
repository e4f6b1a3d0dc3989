"""A Program as a table of layers: the numbers that scheduling, counting and pricing need, taken out once.

One row is one layer: a convolution or matrix product with the duplicate in front of it and the requantize behind it
that belong to it, or one other op (with its requantize, where its sums have one). Everything is for one sample; the
batch comes in when the table is scheduled. The table does not depend on the accelerator, so a sweep makes it once.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from accelsim.activity import Event
from accelsim.execute import operand_bits
from accelsim.program import (
    Constant,
    Conv,
    Duplicate,
    Gather,
    MatMul,
    Norm,
    Op,
    Program,
    Requantize,
    Softmax,
    Table,
    gemm_view,
)
from accelsim.vector import Work, lane_work

CONV, MATMUL, VECTOR = 0, 1, 2

LAYER_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            # the product: kind, m k n groups, widths at the PE, widths in memory, channels added in front
            "kind", "m", "k", "n", "groups", "weight_bits", "act_bits", "weight_stored", "act_stored", "splits",
            # duplicated elements (copy_pass) and how many of them are halved; bits of the gather list
            "copies", "halved", "copy_bits", "gather_bits",
            # requantized elements, their width and the multiplier's; lane-cycles of the vector unit
            "requantized", "requantized_bits", "multiplier_bits", "lane_cycles",
            # parameters beside the weights: biases (accumulator width), bits of scales, tables, norms
            "biases", "scale_bits", "table_bits",
            # embedding: rows stored and read, elements of a row, stored width
            "rows_stored", "rows_read", "row_elements", "row_bits",
            # the input as lines: lines of `width` pixels of `channels`; kernel and stride along and across lines
            "lines", "width", "channels", "line_kernel", "line_stride", "pixel_kernel", "pixel_stride", "line_outputs",
            "kernel_lines", "kernel_pixels",
            # tensors: output, range of `reads`
            "output", "reads_from", "reads_to",
            # layer that stores the parameters: itself, or the first step of an unrolled recurrent layer
            "owner",
        )
    ]
)  # fmt: skip
"""Columns of a layer; zero where they mean nothing."""

TENSOR_DTYPE = np.dtype(
    [(name, np.int64) for name in ("elements", "rows", "row_elements", "bits", "sum", "made_by", "last_read", "output")]
)
"""Columns of a tensor that memory holds: its lines of values, width, whether it holds sums (at the accumulator's
width), the layer that makes it (-1: a network input), the last that reads it, whether it is a network output."""

SCALE_BITS = 32
"""A requantization multiplier as stored: float32, or the fixed-point forms of the named rules."""

FIXED_POINT_RULES = ("gemmlowp_double", "ruy_double_up", "single_away", "single_up")


@dataclass(frozen=True, eq=False)
class LayerTable:
    """A Program's layers and tensors as structured arrays.

    Parameters
    ----------
    names, kinds
        Per layer; kind is the op's.
    layers
        dtype `LAYER_DTYPE`.
    tensors
        dtype `TENSOR_DTYPE`.
    reads
        Tensor indices that layers read, layer i's in ``reads[reads_from:reads_to]``, the first operand first.
    events
        Distinct lane operations of the network.
    lane_counts
        int64 ``[layers, events]``: how often each layer does each.
    sequences
        Op names of each layer, in order of execution.
    pairs, pair_of
        Distinct (weight, activation) operand widths at the PE, and which of them each layer has.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    layers: NDArray[Any]
    tensors: NDArray[Any]
    reads: NDArray[np.int64]
    events: tuple[Event, ...]
    lane_counts: NDArray[np.int64]
    sequences: tuple[tuple[str, ...], ...]
    pairs: tuple[tuple[int, int], ...]
    pair_of: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.names)

    @property
    def products(self) -> NDArray[np.bool_]:
        """Which layers use the array."""
        return np.asarray(self.layers["kind"] != VECTOR)


# A cache, not state: a table is a pure function of its Program, which is immutable, and goes when the Program goes.
_KNOWN: WeakKeyDictionary[Program, LayerTable] = WeakKeyDictionary()


def layer_table(program: Program) -> LayerTable:
    """Return a Program's table of layers; made at the first call, kept as long as the Program lives.

    Raises
    ------
    ValueError
        If the Program has no ops.
    """
    found = _KNOWN.get(program)
    if found is None:
        found = _Extraction(program).table()
        _KNOWN[program] = found
    return found


@dataclass
class _Group:
    """The ops of one layer."""

    op: Op
    before: Duplicate | None = None
    after: Requantize | None = None

    @property
    def output(self) -> str:
        return self.after.output if self.after is not None else self.op.output

    @property
    def inputs(self) -> tuple[str, ...]:
        first = self.before.inputs if self.before is not None else self.op.inputs[:1]
        return first + self.op.inputs[1:]


class _Extraction:
    """Collects rows while walking a Program once."""

    def __init__(self, program: Program) -> None:
        if not program.ops:
            raise ValueError(f"Program {program.name!r} has no ops; there is nothing to simulate")
        self.program = program
        self.readers = program.consumers()
        self.alias: dict[str, str] = {}
        self.groups = self._group()
        self.index: dict[str, int] = {}
        self.events: dict[Event, int] = {}

    def table(self) -> LayerTable:
        """Return the finished table."""
        layers = np.zeros(len(self.groups), dtype=LAYER_DTYPE)
        works, reads = [], []
        places = {group.op.name: place for place, group in enumerate(self.groups)}
        for place, group in enumerate(self.groups):
            layers[place]["owner"] = places.get(group.op.shares, place)
            inputs = [self._tensor(name) for name in group.inputs]
            reads.append(list(dict.fromkeys(inputs)) if group.op.kind != "matmul" else inputs)
            works.append(lane_work(self.program, group.op))
            self._describe(layers[place], group)
            layers[place]["output"] = self._tensor(group.output)
            layers[place]["lane_cycles"] = works[-1].lane_cycles
        ends = np.cumsum([len(item) for item in reads])
        layers["reads_to"] = ends
        layers["reads_from"] = np.concatenate([[0], ends[:-1]])
        widths = [(int(row["weight_bits"]), int(row["act_bits"])) for row in layers]
        pairs = tuple(dict.fromkeys(widths))
        return LayerTable(
            names=tuple(group.op.name for group in self.groups),
            kinds=tuple(group.op.kind for group in self.groups),
            layers=layers,
            tensors=self._tensors(reads),
            reads=np.array([name for item in reads for name in item], dtype=np.int64),
            events=tuple(self.events) if self._count(works) else (),
            lane_counts=self._matrix(works),
            sequences=tuple(
                tuple(op.name for op in (group.before, group.op, group.after) if op is not None)
                for group in self.groups
            ),
            pairs=pairs,
            pair_of=np.array([pairs.index(pair) for pair in widths], dtype=np.int64),
        )

    # --- layers ------------------------------------------------------------------------------------------------------

    def _group(self) -> list[_Group]:
        """Join ops into layers; a reshape is no layer but another name of its input."""
        taken: set[str] = set()
        groups = []
        makers = {op.output: op for op in self.program.ops}
        for op in self.program.ops:
            if op.name in taken:
                continue
            if op.kind == "reshape":
                self.alias[op.output] = op.inputs[0]
                continue
            if isinstance(op, Duplicate) and self._belongs_behind(op):
                continue
            before = makers.get(op.inputs[0]) if isinstance(op, Conv) else None
            before = before if isinstance(before, Duplicate) and self._belongs_behind(before) else None
            after = self._requantize_of(op)
            taken.update(part.name for part in (before, after) if part is not None)
            groups.append(_Group(op, before, after))
        return groups

    def _belongs_behind(self, op: Duplicate) -> bool:
        readers = self.readers[op.output]
        return len(readers) == 1 and isinstance(readers[0], Conv) and op.output not in self.program.outputs

    def _requantize_of(self, op: Op) -> Requantize | None:
        readers = self.readers[op.output]
        sums = self.program.tensors[op.output].kind == "accumulator"
        if sums and len(readers) == 1 and isinstance(readers[0], Requantize) and op.output not in self.program.outputs:
            return readers[0]
        return None

    def _describe(self, row: Any, group: _Group) -> None:
        op = group.op
        row["kind"] = {"conv": CONV, "matmul": MATMUL}.get(op.kind, VECTOR)
        view = gemm_view(self.program, op)
        if view is not None:
            row["m"], row["k"], row["n"], row["groups"] = view.m, view.k, view.n, view.groups
            row["weight_bits"], row["act_bits"] = operand_bits(self.program, op)
            row["act_stored"] = self.program.tensors[group.inputs[0]].bits
        self._describe_input(row, group)
        self._describe_requantize(row, group)
        self._describe_parameters(row, op)
        if group.before is not None:
            self._describe_duplicate(row, group.before)

    def _describe_input(self, row: Any, group: _Group) -> None:
        """Tell the first operand's lines. A map is lines of pixels; a sequence has one pixel a line."""
        op = group.op
        shape = self.program.tensors[group.inputs[0]].shape if group.inputs else ()
        for name in ("line_kernel", "line_stride", "pixel_kernel", "pixel_stride", "kernel_lines", "kernel_pixels"):
            row[name] = 1
        if isinstance(op, Conv):
            height, width, channels = (1,) * (3 - len(shape)) + shape
            reach = [(size - 1) * step + 1 for size, step in zip(op.weight.shape[1:3], op.dilation, strict=True)]
            kernel, strides = list(op.weight.shape[1:3]), list(op.stride)
            outputs = self.program.tensors[op.output].shape
            out_width = outputs[-2] if len(outputs) >= 2 else 1
            if height == 1:
                height, width, out_width = width, 1, 1
                reach, strides, kernel = [reach[1], 1], [strides[1], 1], [kernel[1], 1]
            row["lines"], row["width"], row["channels"] = height, width, channels
            row["line_kernel"], row["pixel_kernel"] = reach
            row["line_stride"], row["pixel_stride"] = strides
            row["kernel_lines"], row["kernel_pixels"] = kernel
            row["line_outputs"] = out_width
            row["weight_stored"] = op.storage_bits
        elif isinstance(op, MatMul):
            row["lines"], row["width"], row["channels"], row["line_outputs"] = shape[-2], 1, shape[-1], 1
            row["weight_stored"] = self.program.tensors[op.inputs[1]].bits

    def _describe_requantize(self, row: Any, group: _Group) -> None:
        requantize = group.after if group.after is not None else group.op
        if isinstance(requantize, Requantize):
            output = self.program.tensors[requantize.output]
            row["requantized"], row["requantized_bits"] = output.size, output.bits
            row["multiplier_bits"] = 32 if requantize.rule in FIXED_POINT_RULES else 24
            words = requantize.multiplier.size
            if requantize.float_bias is not None:
                words += requantize.float_bias.size
            row["scale_bits"] = (words + 2) * SCALE_BITS  # two zero points beside the multipliers

    def _describe_parameters(self, row: Any, op: Op) -> None:
        if isinstance(op, Conv):
            row["biases"] = op.bias.size
        elif isinstance(op, Table):
            row["table_bits"] = op.entries.size * self.program.tensors[op.output].bits
        elif isinstance(op, Softmax):
            row["table_bits"] = op.exponentials.size * (SCALE_BITS if op.rule == "float32" else op.entry_bits)
            row["table_bits"] += 0 if op.mask is None else op.mask.size
        elif isinstance(op, Constant):
            row["table_bits"] = op.values.size * self.program.tensors[op.output].bits
        elif isinstance(op, Norm):
            row["biases"] = op.bias.size
            row["table_bits"] = op.gain.size * op.gain_bits
        elif isinstance(op, Gather):
            row["rows_stored"], row["row_bits"] = op.rows.shape[0], op.storage_bits
            row["row_elements"] = int(np.prod(op.rows.shape[1:], dtype=np.int64))
            row["rows_read"] = self.program.tensors[op.inputs[0]].size

    def _describe_duplicate(self, row: Any, op: Duplicate) -> None:
        source, output = self.program.tensors[op.inputs[0]], self.program.tensors[op.output]
        pixels, channels = source.size // source.shape[-1], source.shape[-1]
        halved = int((op.shift > 0).sum())
        first = op.shift[:channels]
        copied = op.source.size - channels + int((first > 0).sum())
        row["splits"] = op.source.size - channels
        row["copies"], row["halved"], row["copy_bits"] = pixels * copied, pixels * halved, output.bits
        index = max(1, (channels - 1).bit_length())
        # Per added channel its source; where any is halved, per channel one bit of offset and the shift.
        shifts = 1 + max(1, int(op.shift.max()).bit_length()) if halved else 0
        row["gather_bits"] = (op.source.size - channels) * index + op.source.size * shifts

    # --- tensors -----------------------------------------------------------------------------------------------------

    def _tensor(self, name: str) -> int:
        while name in self.alias:
            name = self.alias[name]
        return self.index.setdefault(name, len(self.index))

    def _tensors(self, reads: list[list[int]]) -> NDArray[Any]:
        outputs = {self._tensor(name) for name in self.program.outputs}
        made = {self._tensor(group.output): place for place, group in enumerate(self.groups)}
        last = {name: layer for layer, item in enumerate(reads) for name in item}
        rows = np.zeros(len(self.index), dtype=TENSOR_DTYPE)
        for name, place in self.index.items():
            tensor, row = self.program.tensors[name], rows[place]
            line = int(np.prod(tensor.shape[-2:] if len(tensor.shape) >= 3 else tensor.shape[-1:], dtype=np.int64))
            row["elements"], row["row_elements"], row["rows"] = tensor.size, line, tensor.size // line
            row["bits"], row["sum"] = tensor.bits, tensor.kind == "accumulator"
            row["made_by"] = made.get(place, -1)
            row["last_read"] = last.get(place, row["made_by"])
            row["output"] = place in outputs
        return rows

    # --- lane work ---------------------------------------------------------------------------------------------------

    def _count(self, works: list[Work]) -> bool:
        for work in works:
            for event, _ in work.events:
                self.events.setdefault(event, len(self.events))
        return True

    def _matrix(self, works: list[Work]) -> NDArray[np.int64]:
        self._count(works)
        matrix = np.zeros((len(works), len(self.events)), dtype=np.int64)
        for place, work in enumerate(works):
            for event, count in work.events:
                matrix[place, self.events[event]] += count
        return matrix
