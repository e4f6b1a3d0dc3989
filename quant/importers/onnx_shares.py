"""The integer softmax of our exporter, known by its operators, and means as float32 sums of whole numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import AvgPool, Softmax
from quant.importers.onnx_geometry import Window, window
from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_sums import pair, sides
from quant.importers.onnx_values import Codes, Grid, Real
from quant.importers.onnx_writer import Writer

Array = NDArray[Any]


# --- softmax ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """A step of an integer softmax of codes; the last one tells whether all of them are there."""

    codes: Codes


class _Behind:
    """Goes back from a node along the inputs, refusing every operator but the one that must be there."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.made = {name: node for node in writer.model.nodes for name in node.outputs}

    def __call__(self, node: OnnxNode, place: int, op: str) -> OnnxNode:
        found = self.made.get(node.inputs[place])
        require(found is not None and found.op == op, f"is no integer softmax: {op} must give {node.inputs[place]!r}")
        assert found is not None
        return found

    def is_op(self, node: OnnxNode, place: int, op: str) -> bool:
        """Tell whether an input comes from an operator."""
        found = self.made.get(node.inputs[place])
        return found is not None and found.op == op

    def number(self, node: OnnxNode, place: int) -> int:
        """Return a constant input of one whole number."""
        value = self.writer.constant(node, place)
        require(value.size == 1, f"is no integer softmax: {node} has {value.size} numbers as input {place}")
        return int(value.item())


def read_softmax(writer: Writer, node: OnnxNode, codes: Codes, grid: tuple[int, bool]) -> Codes:
    """Write the softmax that ends in a Cast, if its operators are those of `accelsim.program.Softmax`.

    Parameters
    ----------
    writer, node
        The Cast.
    codes
        What it is a softmax of.
    grid
        Width and signedness of the Cast's type.

    Raises
    ------
    ValueError
        At the first operator or number that differs.
    """
    behind, last, zero = _Behind(writer), node, 0
    if behind.is_op(last, 0, "Add"):
        last = behind(last, 0, "Add")
        zero = behind.number(last, 1)
    limit = behind(last, 0, "Min")
    share = behind(limit, 0, "Div")
    raised, bound = behind(share, 0, "Add"), behind(share, 1, "Max")
    product, half = behind(raised, 0, "Mul"), behind(raised, 1, "Div")
    total = behind(half, 0, "ReduceSum")
    out_bits = behind.number(product, 1).bit_length() - 1
    powers = product.inputs[0]
    table = behind(product, 0, "Where") if behind.is_op(product, 0, "Where") else product
    gather = behind(table, 1 if table.op == "Where" else 0, "Gather")
    nearest = behind(gather, 1, "Min")
    distance = behind(nearest, 0, "Sub")
    largest = behind(distance, 0, "ReduceMax")
    entries = writer.constant(gather, 0).astype(np.int64)
    mask = writer.constant(table, 0) if table.op == "Where" else None
    tensor = writer.tensor(codes)
    rules = {
        "the total": total.inputs[0] == powers and bound.inputs[0] == half.inputs[0] == total.outputs[0],
        "the numbers": (behind.number(product, 1), behind.number(half, 1), behind.number(bound, 1),
                        behind.number(limit, 1), behind.number(nearest, 1))
        == (2**out_bits, 2, 1, 2**out_bits - 1, entries.size - 1),
        "the axes": list(writer.constant(total, 1).ravel()) == [-1] == list(largest.attrs.get("axes", ())),
        "the largest": largest.inputs[0] == distance.inputs[1],
    }  # fmt: skip
    if mask is not None:
        seen = behind(largest, 0, "Where")
        rules["the mask"] = np.array_equal(writer.constant(seen, 0), mask) and behind.number(table, 2) == 0
        rules["what the mask hides"] = behind.number(seen, 2) < tensor.low and mask.shape[0] == 1
    broken = [what for what, holds in rules.items() if not holds]
    require(not broken, f"is no integer softmax: {', '.join(broken)} differ")
    source = writer.plain(codes)
    rows = Grid(2.0**-out_bits, zero, *grid, zero, 2**out_bits - 1 + zero)
    writer.codes_tensor(node.outputs[0], writer.tensor(source).shape, rows)
    hidden = None if mask is None else mask[0].astype(np.int64)
    writer.emit(
        Softmax,
        (source.name,),
        node.outputs[0],
        exponentials=entries,
        out_bits=out_bits,
        mask=hidden,
        zero_out=zero,
    )
    return Codes(node.outputs[0], source.layout, rows.scale, zero)


# --- means -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Summed:
    """Float32 sums of windows of whole numbers; `factor` is what they are multiplied by, one or ``[rows, columns]``."""

    source: Real
    found: Window
    factor: Array | None = None


def sum_window(writer: Writer, node: OnnxNode, source: Real) -> Summed | None:
    """Return a convolution with ones for every channel alone, or a sum over a whole map, as window sums."""
    sizes = writer.sample_of(source.codes)[1:]
    if node.op == "ReduceSum":
        axes = [int(a) for a in writer.constant(node, 1).ravel()]
        whole = axes == list(range(2, 2 + len(sizes))) and node.attrs.get("keepdims", 1) == 1
        require(whole and source.scale == 1.0, f"sums over axes {axes}; those of a whole map of codes are known")
        zeros = (0,) * len(sizes)
        return Summed(source, Window(sizes, (1,) * len(sizes), (1,) * len(sizes), zeros, zeros))
    weight = writer.constants.get(node.inputs[1])
    if weight is None or source.scale != 1.0 or len(node.inputs) > 2 or not np.all(weight == 1):
        return None
    alone = weight.shape[:2] == (writer.sample_of(source.codes)[0], 1) and node.attrs.get("group", 1) == len(weight)
    found = window(node, sizes, weight.shape[2:])
    return Summed(source, found) if alone and set(found.dilation) == {1} else None


def put_mean(writer: Writer, value: Summed, grid: Grid, name: str) -> Codes:
    """Write window sums times a factor as a mean by rule ``float32_rne``."""
    require(value.factor is not None, "rounds window sums that nothing scales")
    found, held = value.found, value.source
    source = writer.as_map(held.codes)
    sizes = writer.sample_of(held.codes)[1:]
    counts, pixels = _counts(found, sizes)
    factor = np.asarray(value.factor, np.float64)
    even = factor.size == 1
    multiplier = float(factor.item()) * int(np.prod(found.kernel)) if even else _common(factor, counts)
    writer.codes_tensor(name, (*pixels, writer.sample_of(held.codes)[0]), grid)
    writer.emit(
        AvgPool,
        (source.name,),
        name,
        kernel=pair(found.kernel, 1),
        stride=pair(found.stride, 1),
        padding=sides(found.before, found.after),
        count_padding=even,
        multiplier=multiplier,
        zero_in=held.zero,
        zero_out=grid.zero,
        low=grid.low,
        high=grid.high,
    )
    return Codes(name, source.layout, grid.scale, grid.zero)


def _counts(found: Window, sizes: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """Return how many places within the map every window holds, and the number of windows along each axis."""
    along = []
    for n, k, s, b, a in zip(sizes, found.kernel, found.stride, found.before, found.after, strict=True):
        inside = np.pad(np.ones(n, np.int64), (b, a))
        along.append([int(inside[i : i + k].sum()) for i in range(0, n + b + a - k + 1, s)])
    counts = np.array(along[0]) if len(along) == 1 else np.multiply.outer(np.array(along[0]), np.array(along[1]))
    return counts, tuple(len(part) for part in along)


def _common(factor: Array, counts: Array) -> float:
    """Return a multiplier whose float32 quotients by the counts are the factors."""
    wanted = np.broadcast_to(factor, counts.shape).astype(np.float32)
    below, above = (np.nextafter(wanted, np.float32(end)).astype(np.float64) for end in (-np.inf, np.inf))
    middle = wanted.astype(np.float64)
    low, high = float(((below + middle) / 2 * counts).max()), float(((above + middle) / 2 * counts).min())
    found = (low + high) / 2
    fits = low <= high and np.array_equal((found / counts).astype(np.float32), wanted)
    require(fits, "scales window sums by factors that are no one number divided by the windows' places")
    return found
