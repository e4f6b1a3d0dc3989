"""Lowering of convolutions and linear layers: weights onto their grid, splits replayed on integers, bias folded."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES, half_up
from accelsim.program import Conv, conv_bound
from quant.build import MAP_LAYOUT, Builder, LayerInfo, Value
from quant.clip import ClipInput
from quant.graph import Graph, Node
from quant.grid import Grid, quantize, symmetric
from quant.ocs import SplitRecord, expand_codes, merge
from quant.ocs_activation import ACT_SPLITS
from quant.recipe import Recipe
from quant.remarks import remark

CORRECTION = "bias_correction"
"""Key of the note with what lowering adds to a layer's bias (`quant.bias_correction`)."""


BIAS_BITS, UNSEEN_BITS = 30, 16
"""Width that a bias gets whose layer's products are less than 2**-16 of it (`beside_bias`)."""


@dataclass(frozen=True, eq=False)
class IntWeights:
    """A layer's integer weights in the float graph's layout, and their grid.

    Parameters
    ----------
    codes
        The operands: codes with the grid's zero point taken off.
    grid
        Per tensor, or per output channel.
    alpha, clamped
        Largest threshold, and how many weights the grid's ends cut.
    """

    codes: NDArray[np.int64]
    grid: Grid
    alpha: float
    clamped: int

    @property
    def operand_bits(self) -> int:
        """Width of an operand: one bit more than a code's where there is a zero point to take off."""
        return self.grid.bits + (0 if self.grid.signed else 1)


def _rows(weight: NDArray[np.float32], per_channel: bool) -> NDArray[np.float32]:
    return weight.reshape(weight.shape[0] if per_channel else 1, -1)


def weight_grid(weight: NDArray[np.float32], base: NDArray[np.float32], recipe: Recipe, bits: int) -> Grid:
    """Choose the grid of a layer's weights.

    Parameters
    ----------
    weight
        As the layer has them, expanded where it was split.
    base
        Unsplit; the clip rule looks at these (OCS paper's released procedure), or at `weight` if the recipe says so.
    recipe, bits
        Clip rule and granularity; the layer's own width.
    """
    values = _rows(weight if recipe.clip_expanded else base, recipe.per_channel)
    widest = np.abs(_rows(weight, recipe.per_channel)).max(axis=1).astype(np.float64)
    alpha = recipe.weight_clip(ClipInput(values, np.abs(values).max(axis=1).astype(np.float64), bits))
    return symmetric(np.minimum(alpha, widest), bits, wide=recipe.wide_clamp)


def quantize_weights(node: Node, recipe: Recipe, bits: int) -> IntWeights:
    """Put a layer's weights on integers: unsplit integers are split along the recorded tree, then clamped."""
    weight = node.params["weight"]
    record: SplitRecord | None = node.notes.get("ocs")
    base = weight if record is None else merge(weight, record)
    grid = weight_grid(weight, base, recipe, bits)
    if recipe.rule == "pot_shift":
        grid = Grid(bits, True, 2.0 ** np.ceil(np.log2(grid.scale)), grid.zero_point, grid.low, grid.high)
    if record is None or record.naive:
        free = quantize(weight, grid, clamp=False)
    else:
        free = expand_codes(quantize(base, grid, clamp=False), base, record)
    codes = np.clip(free, grid.low, grid.high)
    return IntWeights(codes, grid, float((grid.scale * grid.high).max()), int((codes != free).sum()))


def layer_bias(node: Node) -> NDArray[np.float64]:
    """Return a layer's real bias with the correction that is noted for it, float64 ``[out]``."""
    zeros = np.zeros(node.params["weight"].shape[0])
    return np.asarray(node.params.get("bias", zeros).astype(np.float64) + node.notes.get(CORRECTION, zeros))


def beside_bias(found: IntWeights, bias: NDArray[np.float64], unit: float, magnitude: int) -> IntWeights:
    """Return weights whose step leaves the bias a number of accumulator steps that a register holds.

    In a layer that has died (of weights or inputs near 1e-30, say) the bias would be so many steps that no integer
    holds them. Where no sum of products reaches 2**-`UNSEEN_BITS` of the bias, the step is coarsened by a power of two
    until the bias takes `BIAS_BITS` bits; what is lost is below that share of the bias.

    Parameters
    ----------
    found
        The weights.
    bias
        Real, ``[out]``.
    unit, magnitude
        Step and largest code of the input.
    """
    rows = np.abs(found.codes).reshape(len(found.codes), -1).sum(axis=1) * float(magnitude)
    steps = np.abs(bias) / (found.grid.scale * unit)
    if found.grid.scale.size == 1:
        rows, steps = rows.max(keepdims=True), steps.max(keepdims=True)
    unseen = (steps > 2.0**BIAS_BITS) & (rows < steps * 2.0**-UNSEEN_BITS)
    if not unseen.any():
        return found
    factor = np.where(unseen, 2.0 ** np.ceil(np.log2(np.maximum(steps, 1.0)) - BIAS_BITS), 1.0)
    codes = half_up(found.codes / factor.reshape(-1, *[1] * (found.codes.ndim - 1))).astype(np.int64)
    return replace(found, codes=codes, grid=replace(found.grid, scale=found.grid.scale * factor))


def channels_last(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bring weights ``[out, in]``, ``[out, in, k]`` or ``[out, in, kh, kw]`` into ``[out, kh, kw, in]``."""
    shape = codes.shape
    spatial = (1,) * (4 - codes.ndim) + shape[2:]
    return np.ascontiguousarray(codes.reshape(*shape[:2], *spatial).transpose(0, 2, 3, 1))


def lower_product(builder: Builder, node: Node) -> None:
    """Lower a convolution or linear layer with the activation that follows it."""
    bits, _ = builder.recipe.bits_of(node.name, builder.protected)
    found = quantize_weights(node, builder.recipe, bits)
    floats = REQUANT_RULES[builder.recipe.rule].float_bias and node.name not in builder.graph.outputs
    sums = emit_sums(builder, node, found, float_bias=floats)
    record = node.notes.get("ocs")
    splits = len(record.splits) if record else 0
    halved = node.notes.get(ACT_SPLITS, 0)
    act_bits = builder.value(node.inputs[0]).on.bits
    info = LayerInfo(node.name, bits, act_bits, splits, found.alpha, found.clamped, halved, remark=remark(node))
    builder.layers.append(info)
    finish_sums(builder, node, sums)


@dataclass(frozen=True, eq=False)
class Sums:
    """Accumulators waiting for their grid: tensor name, real unit, layout, and the bias that the rule adds."""

    name: str
    scale: NDArray[np.float64]
    layout: tuple[int, ...]
    float_bias: NDArray[np.float64] | None = None


def emit_sums(builder: Builder, node: Node, found: IntWeights, *, float_bias: bool = False) -> Sums:
    """Write a layer's products and sums; their grid is still to come.

    Parameters
    ----------
    builder, node
        Where, and which layer.
    found
        Its weights.
    float_bias
        Leave the bias to the requantization rule.
    """
    source = _operand(builder, node)
    found = beside_bias(found, layer_bias(node), source.on.one_scale, builder.tensors[source.name].magnitude)
    scale = found.grid.scale * source.on.one_scale
    weight = channels_last(found.codes)
    out = weight.shape[0]
    real_bias = layer_bias(node) / scale
    folded = -source.on.one_zero_point * weight.reshape(out, -1).sum(axis=1)
    bias = folded if float_bias else folded + half_up(real_bias).astype(np.int64)

    geometry = _geometry(node)
    tensor = builder.tensors[source.name]
    magnitude = max(tensor.magnitude, abs(source.on.one_zero_point) if any(geometry["padding"]) else 0)
    bound = conv_bound(weight, bias, magnitude)
    layout = MAP_LAYOUT if len(builder.graph.shapes[node.name]) == 3 and node.op == "conv" else source.layout
    acc = builder.accumulator(f"{node.name}.acc", _shape(builder, node), max(1, int(bound.max())), scale)
    narrow = np.min_scalar_type(-(2 ** (found.operand_bits - 1)))
    builder.emit_shared(
        node.name,
        Conv(
            name=node.name,
            inputs=(source.name,),
            output=acc.name,
            weight=weight.astype(narrow),
            bias=bias,
            weight_bits=found.operand_bits,
            storage_bits=found.grid.bits,
            bound=bound,
            groups=node.attrs.get("groups", 1),
            pad_value=source.on.one_zero_point,
            **geometry,  # type: ignore[arg-type]
        ),
    )
    return Sums(acc.name, scale, layout, real_bias if float_bias else None)


def finish_sums(builder: Builder, node: Node, sums: Sums) -> None:
    """Requantize a layer's sums onto the grid of its output, or of the ReLU-like activation that alone reads it.

    A network output that nothing reads stays an exact sum.
    """
    graph = builder.graph
    if node.name in graph.outputs and not graph.consumers(node.name):
        builder.set(node, sums.name, None, sums.layout)
        return
    target, limits = fused_activation(builder, node)
    grid = output_grid(builder, target)
    low, high = clamp_codes(grid, limits)
    acc = builder.tensors[sums.name]
    options = {} if sums.float_bias is None else {"float_bias": sums.float_bias}
    name = builder.requantize_sums(acc, sums.scale, target.name, grid, low=low, high=high, **options)
    builder.set(target, name, grid, sums.layout)


def output_grid(builder: Builder, node: Node) -> Grid:
    """Return the grid of an op's output; where only a clamp per channel reads it, the grid of the clamped tensor."""
    reader = builder.graph.sole_consumer(node.name)
    return builder.act_grid(reader.name if reader is not None and reader.op == "clamp_channels" else node.name)


def fused_activation(builder: Builder, node: Node) -> tuple[Node, tuple[float, float]]:
    """Return the node whose tensor a layer writes, and its real limits: a following ReLU or clamp is part of it."""
    reader = builder.graph.sole_consumer(node.name)
    if reader is not None and reader.op in ACTIVATION_LIMITS:
        return reader, activation_limits(reader)
    return node, (-np.inf, np.inf)


ACTIVATION_LIMITS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "clamp": None}


def activation_limits(node: Node) -> tuple[float, float]:
    """Return the real (low, high) of a ReLU-like node."""
    fixed = ACTIVATION_LIMITS[node.op]
    return fixed if fixed is not None else (float(node.attrs["lo"]), float(node.attrs["hi"]))


def clamp_codes(grid: Grid, limits: tuple[float, float]) -> tuple[int, int]:
    """Return the codes nearest to real limits, within the grid."""
    codes = [grid.low, grid.high]
    for end, limit in enumerate(limits):
        if np.isfinite(limit):
            codes[end] = int(quantize(np.array([limit]), grid)[0])
    return codes[0], codes[1]


def _operand(builder: Builder, node: Node) -> Value:
    """Return the input with channels last."""
    value = builder.value(node.inputs[0])
    if node.op == "linear":
        return builder.plain(value)
    rank = len(value.layout)
    return builder.in_layout(value, MAP_LAYOUT if rank == 3 else (*range(1, rank), 0))


def _shape(builder: Builder, node: Node) -> tuple[int, ...]:
    shape = builder.graph.shapes[node.name]
    return (*shape[1:], shape[0]) if node.op == "conv" else shape


def _geometry(node: Node) -> dict[str, tuple[int, ...]]:
    """Return stride, padding and dilation in two dimensions; a 1-d convolution runs along columns."""
    if node.op == "linear":
        return {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    attrs = node.attrs
    if len(attrs["stride"]) == 1:
        left, right = attrs["padding"]
        return {
            "stride": (1, *attrs["stride"]),
            "padding": (0, left, 0, right),
            "dilation": (1, *attrs["dilation"]),
        }
    return {name: tuple(attrs[name]) for name in ("stride", "padding", "dilation")}


def float_layers(graph: Graph) -> list[Node]:
    """Return the layers that this file lowers, in order."""
    return [node for node in graph.nodes if node.op in ("conv", "linear")]
