"""Lowering of layers that SplitQuant made the sum of three.

The rule: each branch has its own weight scale, hence its own unit of accumulation. Its accumulators are requantized to
one common scale, which is the output's step divided by 2**f, and the three are added as integers, exactly; the sum is
requantized to the output's grid. f is 8, or the most that keeps the sum of the branches' bounds below 2**23, so that
float32 products and sums of the op `add` are exact. Each branch so errs by half a common step, together by less than
2**-7 of an output step where f is 8. Nothing is clamped on the way.
"""

from dataclasses import replace

import numpy as np

from accelsim.arith import REQUANT_RULES, bits_for, half_up
from accelsim.program import Add, Requantize, Tensor
from quant.build import Builder, LayerInfo
from quant.clip import ClipInput
from quant.graph import Node
from quant.grid import Grid, affine, quantize, symmetric
from quant.lower_linear import (
    IntWeights,
    Sums,
    clamp_codes,
    emit_sums,
    fused_activation,
    layer_bias,
    output_grid,
)
from quant.ocs_activation import ACT_SPLITS
from quant.recipe import Recipe
from quant.remarks import remark
from quant.splitquant import BRANCH, Branch

MAX_FRACTION_BITS = 8
MAX_SUM = 1 << 23


def lower_branch(builder: Builder, node: Node) -> None:
    """Leave a branch to the addition that ends its layer, where the common scale is known."""
    builder.set(node, node.name, None, ())


def lower_branch_sum(builder: Builder, node: Node) -> None:
    """Lower a whole split layer at its last addition."""
    partial = _before(builder, node, 0)
    if BRANCH in partial.notes:
        return lower_branch(builder, node)
    branches = [_before(builder, partial, 0), _before(builder, partial, 1), _before(builder, node, 1)]
    target, limits = fused_activation(builder, node)
    ends_here = node.name in builder.graph.outputs and not builder.graph.consumers(node.name)
    out = None if ends_here else output_grid(builder, target)
    weights = _quantized(builder, branches)
    reaches = [_reach(builder, branch, found) for branch, found in zip(branches, weights, strict=True)]
    common = _common_step(sum(reaches), None if out is None else out.one_scale)
    names = []
    for branch, found, reach in zip(branches, weights, reaches, strict=True):
        sums = emit_sums(builder, branch, found)
        names.append(_onto(builder, f"{branch.name}.common", sums, reach, common))
        if len(names) == 2:
            names = [_added(builder, f"{node.name}.partial" if branch is branches[1] else f"{node.name}.sum", names)]
    if out is None:
        builder.set(node, names[0], None, sums.layout)
        return None
    low, high = clamp_codes(out, limits)
    options = {"float_bias": np.zeros(1)} if REQUANT_RULES[builder.recipe.rule].float_bias else {}
    whole, step = builder.tensors[names[0]], np.array([common])
    name = builder.requantize_sums(whole, step, target.name, out, low=low, high=high, **options)
    builder.set(target, name, out, sums.layout)
    return None


def _before(builder: Builder, node: Node, place: int) -> Node:
    return builder.graph.node(node.inputs[place])


def _quantized(builder: Builder, branches: list[Node]) -> list[IntWeights]:
    """Return the branches' integers, having noted what was done to each."""
    layer = branches[0].notes[BRANCH].layer
    bits, _ = builder.recipe.bits_of(layer, builder.protected)
    weights = [branch_weights(branch, builder.recipe, bits) for branch in branches]
    act_bits = builder.value(branches[0].inputs[0]).on.bits
    for node, found in zip(branches, weights, strict=True):
        branch: Branch = node.notes[BRANCH]
        info = LayerInfo(node.name, bits, act_bits, branch.splits, found.alpha, found.clamped)
        halved = node.notes.get(ACT_SPLITS, 0)
        builder.layers.append(
            replace(info, act_splits=halved, part_of=layer, members=branch.members, remark=remark(node))
        )
    return _without_coarse_units(weights)


def _without_coarse_units(weights: list[IntWeights]) -> list[IntWeights]:
    """Give rows of zeros, which any scale serves, the finest scale of the other branches, for the sake of the bias."""
    rows = weights[0].grid.scale.size
    empty = np.array([~found.codes.reshape(rows, -1).any(axis=1) for found in weights])
    scales = np.array([found.grid.scale for found in weights])
    finest = np.where(empty, np.inf, scales).min(axis=0)
    filled = np.where(empty & np.isfinite(finest), finest, scales)
    return [replace(found, grid=replace(found.grid, scale=scale)) for found, scale in zip(weights, filled, strict=True)]


def branch_weights(node: Node, recipe: Recipe, bits: int) -> IntWeights:
    """Put one branch's weights on integers; zero is exact."""
    weight = node.params["weight"]
    rows = weight.reshape(weight.shape[0] if recipe.per_channel else 1, -1)
    widest = np.abs(rows).max(axis=1).astype(np.float64)
    alpha = np.minimum(recipe.weight_clip(ClipInput(rows, widest, bits)), widest)
    if node.notes[BRANCH].scales == "symmetric":
        grid = symmetric(alpha, bits, wide=recipe.wide_clamp)
    else:
        low, high = (end.astype(np.float64) for end in (rows.min(axis=1), rows.max(axis=1)))
        grid = affine(np.maximum(low, -alpha), np.minimum(high, alpha), bits)
    if recipe.rule == "pot_shift":
        grid = _power_of_two(grid)
    free = quantize(weight, grid, clamp=False)
    codes = np.clip(free, grid.low, grid.high)
    zero = grid.zero_point.reshape(-1, *[1] * (weight.ndim - 1))
    return IntWeights(codes - zero, grid, float(alpha.max()) or 1.0, int((codes != free).sum()))


def _power_of_two(grid: Grid) -> Grid:
    """Round scales up to powers of two, with the zero point for the range that was there."""
    scale = 2.0 ** np.ceil(np.log2(grid.scale))
    zero = half_up(grid.low + (grid.zero_point - grid.low) * grid.scale / scale).astype(np.int64)
    return Grid(grid.bits, grid.signed, scale, zero if not grid.signed else grid.zero_point, grid.low, grid.high)


def _common_step(reach: float, out_step: float | None) -> float:
    """Return the common scale: a binary fraction of the output's step, or of the largest sum where there is no grid."""
    if out_step is None:
        return float(2.0 ** np.ceil(np.log2(2 * reach / MAX_SUM)))
    room = int(np.floor(np.log2((MAX_SUM - 16) * out_step / reach)))
    return out_step * 2.0 ** -min(MAX_FRACTION_BITS, room)


def _reach(builder: Builder, branch: Node, found: IntWeights) -> float:
    """Return the real magnitude that no accumulator of a branch exceeds."""
    source = builder.value(branch.inputs[0])
    tensor, zero = builder.tensors[source.name], source.on.one_zero_point
    magnitude = max(abs(tensor.low - zero), abs(tensor.high - zero))
    step = np.broadcast_to(found.grid.scale * source.on.one_scale, found.codes.shape[:1])
    total = np.abs(found.codes).reshape(len(found.codes), -1).sum(axis=1) * magnitude * step
    # One step more, as the bias is rounded to the accumulator's unit.
    return float((total + step + np.abs(layer_bias(branch))).max())


def _onto(builder: Builder, name: str, sums: Sums, reach: float, common: float) -> str:
    """Requantize a branch's accumulators onto the common scale, wide enough that nothing is clamped."""
    high = int(np.ceil(reach / common * (1 + 1e-6))) + 1
    acc = builder.tensors[sums.name]
    builder.tensors[name] = _wide(name, acc.shape, high, common)
    return builder.emit(
        Requantize(
            name=f"{name}.requantize",
            inputs=(acc.name,),
            output=name,
            multiplier=np.asarray(sums.scale / common, dtype=np.float64),
            low=-high,
            high=high,
            rule="pot_shift" if builder.recipe.rule == "pot_shift" else "float32_rne",
        )
    )


def _added(builder: Builder, name: str, terms: list[str]) -> str:
    """Add two tensors on the common scale, exactly."""
    first, second = (builder.tensors[term] for term in terms)
    high = first.high + second.high
    assert high <= MAX_SUM, f"{name} adds up to {high}, beyond what float32 holds exactly"
    assert isinstance(first.scale, float)
    builder.tensors[name] = _wide(name, first.shape, high, first.scale)
    return builder.emit(
        Add(
            name=f"{name}.add",
            inputs=(first.name, second.name),
            output=name,
            multipliers=(1.0, 1.0),
            zero_points=(0, 0),
            zero_out=0,
            low=-high,
            high=high,
        )
    )


def _wide(name: str, shape: tuple[int, ...], high: int, step: float) -> Tensor:
    bits = bits_for(-high, high)
    return Tensor(name=name, shape=shape, bits=bits, signed=True, low=-high, high=high, scale=step, kind="accumulator")
