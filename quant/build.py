"""The writer of Programs: collects ops and tensors while a float graph is lowered."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES, bits_for
from accelsim.program import Clamp, Op, Program, Requantize, Reshape, Tensor, Transpose
from quant.clip import ClipInput
from quant.graph import Graph, Node
from quant.grid import Grid, affine, symmetric, unsigned
from quant.inner import LEAST_FUNCTION_BITS, inner_tensors, saturation
from quant.lower_tied import alike, peers, sharing, together
from quant.observe import Stats
from quant.recipe import Recipe
from quant.wide import WideChain, wide_tensors

MAP_LAYOUT = (1, 2, 0)
"""A map [channels, height, width] of the float graph is [height, width, channels] in a Program."""


@dataclass(frozen=True)
class Value:
    """A tensor of the Program that stands for a tensor of the float graph.

    Parameters
    ----------
    name
        Tensor name in the Program.
    grid
        Its grid; ``None`` for indices.
    layout
        Program axis i is the float graph's axis ``layout[i]``.
    """

    name: str
    grid: Grid | None
    layout: tuple[int, ...]

    @property
    def on(self) -> Grid:
        """The grid of a value that has one."""
        assert self.grid is not None, f"{self.name} holds indices"
        return self.grid


@dataclass(frozen=True)
class LayerInfo:
    """What quantization did to one layer, for reports.

    Parameters
    ----------
    name
        Of the layer.
    weight_bits, act_bits
        Widths of its operands.
    splits
        Duplicated channels.
    alpha
        Weight threshold (the largest where there is one per channel).
    clamped
        Integer weights that the grid's ends cut.
    act_splits
        Channels of the input that are fed as halves.
    part_of, members
        Of a SplitQuant branch: the layer it is part of, and how many weights it holds (the others are zeros; see
        `quant.splitquant.stored_bits`).
    remark
        What a transform left aside, and why (`quant.remarks`).
    """

    name: str
    weight_bits: int
    act_bits: int
    splits: int
    alpha: float
    clamped: int
    act_splits: int = 0
    part_of: str = ""
    members: int = 0
    remark: str = ""


class Builder:
    """State of one lowering: what has been written, and the value of every float tensor so far."""

    def __init__(self, graph: Graph, stats: Stats, recipe: Recipe, protected: frozenset[str]) -> None:
        steps = alike(graph)
        self.steps = {name: group[0] for group in steps for name in group}
        self.peers = peers(graph, steps)
        self.graph, self.stats, self.recipe, self.protected = graph, together(stats, self.peers), recipe, protected
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.values: dict[str, Value] = {}
        self.moves: dict[str, tuple[int, ...]] = {}
        self.layers: list[LayerInfo] = []
        self.never_negative = nonnegative(graph, stats)
        self.wide = wide_tensors(graph)
        self.inner = inner_tensors(graph)
        self.constants: dict[tuple[Any, ...], str] = {}
        self.owners: dict[str, list[Op]] = {}
        self.current = ""

    # --- grids -------------------------------------------------------------------------------------------------------

    def act_grid(self, name: str, bits: int | None = None) -> Grid:
        """Choose the grid of a float tensor from what was observed of it.

        Where a layer halves channels of the tensor, the halves decide the scale and the grid has extra bits
        (`quant.wide`).
        """
        if bits is None:
            bits = self.bits(name)
        chain = self.wide.chains.get(name)
        return self._observed_grid(name, bits) if chain is None or chain.fixed else self.wide_grid(chain, bits)

    def wide_grid(self, chain: WideChain, bits: int) -> Grid:
        """Choose the grid of a tensor that halves are cut from: they decide the scale, and it has extra bits."""
        grids = [self._observed_grid(halved, bits) for halved in chain.halved]
        chain.narrow = max(grids, key=lambda grid: grid.one_scale)
        return chain.wide()

    def bits(self, name: str, least: int = LEAST_FUNCTION_BITS) -> int:
        """Return the width of a float tensor's codes; `least` is the least by default where a function reads it."""
        return self.inner.bits(self.recipe, name, least)

    def limit(self, name: str) -> float:
        """Return the magnitude beyond which nothing that reads a tensor tells values apart."""
        names = self.peers.get(name, (name,))
        if not set(names).isdisjoint(self.graph.outputs):
            return np.inf
        readers = [reader for one in names for reader in self.graph.consumers(one)]
        return max((saturation(reader, self.bits(reader.name)) for reader in readers), default=np.inf)

    def _observed_grid(self, name: str, bits: int) -> Grid:
        if name not in self.stats:
            raise ValueError(f"activations of {name!r} were not observed; calibrate on the graph that is lowered")
        seen = self.stats[name]
        positive = self.never_negative.issuperset(self.peers.get(name, (name,)))
        if not positive and self.recipe.act_scheme == "affine":
            low, high = self.clipped_ends(name, bits)
            return affine(low, high, bits)
        data = ClipInput(seen.values.reshape(1, -1), np.array([seen.absmax]), bits, positive)
        alpha = np.minimum(self.recipe.act_clip(data), self.limit(name))
        grid = unsigned(alpha, bits) if positive else symmetric(alpha, bits)
        return self.rounded_scale(grid)

    def clipped_ends(self, name: str, bits: int) -> tuple[float, float]:
        """Return the observed range with both ends within the clip rule's threshold."""
        seen = self.stats[name]
        alpha = float(self.recipe.act_clip(ClipInput(seen.values.reshape(1, -1), np.array([seen.absmax]), bits))[0])
        alpha = min(alpha, self.limit(name))
        return max(seen.min, -alpha), min(seen.max, alpha)

    def rounded_scale(self, grid: Grid) -> Grid:
        """Round scales up to powers of two where the requantization rule is a shift."""
        if self.recipe.rule != "pot_shift":
            return grid
        return replace(grid, scale=2.0 ** np.ceil(np.log2(grid.scale)))

    # --- writing -----------------------------------------------------------------------------------------------------

    def shape(self, name: str, layout: tuple[int, ...]) -> tuple[int, ...]:
        """Return the Program shape of a float tensor in a layout."""
        shape = self.graph.shapes[name]
        return tuple(shape[axis] for axis in layout)

    def code_tensor(
        self, name: str, shape: tuple[int, ...], grid: Grid, low: int | None = None, high: int | None = None
    ) -> Tensor:
        """Declare a tensor of codes on a grid."""
        tensor = Tensor(
            name=name,
            shape=shape,
            bits=grid.bits,
            signed=grid.signed,
            low=grid.low if low is None else low,
            high=grid.high if high is None else high,
            scale=grid.one_scale,
            zero_point=grid.one_zero_point,
        )
        self.tensors[name] = tensor
        return tensor

    def accumulator(self, name: str, shape: tuple[int, ...], bound: int, scale: NDArray[np.float64]) -> Tensor:
        """Declare a tensor of exact sums of magnitude up to `bound`; `scale` has one entry, or one per channel."""
        real = float(scale[0]) if scale.size == 1 else tuple(float(s) for s in scale)
        bits = bits_for(-bound, bound)
        if bits > 62:
            raise ValueError(f"layer {name!r} can reach sums of {bits} bits; narrow its weights or activations")
        tensor = Tensor(
            name=name, shape=shape, bits=bits, signed=True, low=-bound, high=bound, scale=real, kind="accumulator"
        )
        self.tensors[name] = tensor
        return tensor

    def emit(self, op: Op) -> str:
        """Append an op whose output tensor is declared; return the tensor's name."""
        assert op.output in self.tensors, op.output
        self.ops.append(op)
        return op.output

    def emit_shared(self, node: str, op: Op) -> str:
        """Append an op of a node; it shares parameters with that of a node that does the same (`quant.lower_tied`)."""
        key = self.steps.get(node, "")
        return self.emit(sharing(op, self.owners.setdefault(key, [])) if key else op)

    def set(self, node: Node | str, name: str, grid: Grid | None, layout: tuple[int, ...]) -> None:
        """Record which Program tensor stands for a float tensor."""
        self.values[node if isinstance(node, str) else node.name] = Value(name, grid, layout)

    def value(self, name: str) -> Value:
        """Return the value of a float tensor as the node being lowered (`current`) reads it.

        Codes with extra bits (`quant.wide`) are clamped for all but the nodes that hand them on or halve them.
        """
        value, chain = self.values[name], self.wide.chains.get(name)
        if chain is None or chain.narrow is None or self.current in self.wide.readers:
            return value
        source, narrow = self.tensors[value.name], chain.narrow
        other_grid = (value.on.one_scale, value.on.one_zero_point) != (narrow.one_scale, narrow.one_zero_point)
        if other_grid or (narrow.low <= source.low and source.high <= narrow.high):
            return value
        clamped = f"{value.name}.clamped"
        if clamped not in self.tensors:
            low, high = max(source.low, narrow.low), min(source.high, narrow.high)
            self.tensors[clamped] = replace(
                source, name=clamped, bits=narrow.bits, signed=narrow.signed, low=low, high=high
            )
            self.emit(Clamp(name=f"{clamped}.clamp", inputs=(value.name,), output=clamped, low=low, high=high))
        return Value(clamped, narrow, value.layout)

    def requantize_sums(self, acc: Tensor, scale: NDArray[np.float64], name: str, grid: Grid, **options: Any) -> str:
        """Bring accumulators of real unit `scale` onto a grid as tensor `name`; options: low, high, float_bias."""
        low, high = options.pop("low", grid.low), options.pop("high", grid.high)
        self.code_tensor(name, acc.shape, grid, low, high)
        return self.emit_shared(
            name,
            Requantize(
                name=f"{name}.requantize",
                inputs=(acc.name,),
                output=name,
                multiplier=np.asarray(scale / grid.one_scale, dtype=np.float64),
                low=low,
                high=high,
                rule=self.recipe.rule,
                zero_out=grid.one_zero_point,
                **options,
            ),
        )

    def no_bias(self) -> dict[str, Any]:
        """Return the option for sums without a bias that the recipe's rule needs, if any."""
        return {"float_bias": np.zeros(1)} if REQUANT_RULES[self.recipe.rule].float_bias else {}

    def in_layout(self, value: Value, layout: tuple[int, ...]) -> Value:
        """Return a value with its axes in another order, transposing where needed."""
        if value.layout == layout:
            return value
        axes = tuple(value.layout.index(axis) for axis in layout)
        source = self.tensors[value.name]
        name = f"{value.name}.as{''.join(map(str, layout))}"
        if self.moves.setdefault(name, axes) != axes:  # one tensor, read in two layouts, moves in two ways
            name = f"{name}.by{''.join(map(str, axes))}"
        if name not in self.tensors:
            self.tensors[name] = replace(source, name=name, shape=tuple(source.shape[axis] for axis in axes))
            self.emit(Transpose(name=f"{name}.transpose", inputs=(value.name,), output=name, axes=axes))
        return Value(name, value.grid, layout)

    def plain(self, value: Value) -> Value:
        """Return a value with its axes in the float graph's order."""
        return self.in_layout(value, tuple(sorted(value.layout)))

    def reshaped(self, source: str, name: str, shape: tuple[int, ...], scale: float | None = None) -> str:
        """Write a tensor's codes in another shape, or under another scale, as a tensor of its own; return its name."""
        tensor = self.tensors[source]
        self.tensors[name] = replace(tensor, name=name, shape=shape, scale=tensor.scale if scale is None else scale)
        return self.emit(Reshape(name=name, inputs=(source,), output=name, shape=shape))

    def on_grid(self, value: Value, grid: Grid, name: str) -> Value:
        """Return a value on another grid, requantizing where it is not on it; a name is of one value and grid."""
        have = value.on
        same = have.one_scale == grid.one_scale and have.one_zero_point == grid.one_zero_point
        source = self.tensors[value.name]
        if same and grid.low <= source.low and source.high <= grid.high and have.bits <= grid.bits:
            return value
        if name in self.tensors:  # for a reader before
            return Value(name, grid, value.layout)
        self.code_tensor(name, source.shape, grid)
        self.emit(
            Requantize(
                name=f"{name}.requantize",
                inputs=(value.name,),
                output=name,
                multiplier=have.scale / grid.one_scale,
                low=grid.low,
                high=grid.high,
                rule="float32_rne",
                zero_in=have.one_zero_point,
                zero_out=grid.one_zero_point,
            )
        )
        return Value(name, grid, value.layout)

    def program(self) -> Program:
        """Return the finished Program."""
        return Program(
            name=self.graph.name,
            tensors=self.tensors,
            inputs=tuple(self.values[item.name].name for item in self.graph.inputs),
            outputs=tuple(self.values[name].name for name in self.graph.outputs),
            ops=tuple(self.ops),
        )


_POSITIVE = frozenset(
    {"relu", "relu6", "sigmoid", "softmax", "square", "abs", "exp", "hardsigmoid", "softplus", "sqrt"}
)
_PASSING = frozenset(
    {
        "max_pool",
        "avg_pool",
        "mean",
        "reshape",
        "flatten",
        "permute",
        "slice",
        "concat",
        "add",
        "mul",
        "duplicate",
        "pad",
    }
)


def nonnegative(graph: Graph, stats: Stats) -> frozenset[str]:
    """Return the tensors that can never be negative: after ReLU and its like, and what passes that on.

    A network input counts where no calibration sample was negative.
    """
    found = {item.name for item in graph.inputs if item.name in stats and stats[item.name].min >= 0}
    for node in graph.nodes:
        passing = node.op in _PASSING and all(name in found for name in node.inputs) and node.attrs.get("value", 0) >= 0
        bounded = (node.op == "clamp" and node.attrs["lo"] >= 0) or (
            node.op == "clamp_channels" and float(node.params["lo"].min()) >= 0
        )
        if node.op in _POSITIVE or passing or bounded:
            found.add(node.name)
    return frozenset(found)
