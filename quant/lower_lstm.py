"""Lowering of an LSTM layer: one product for the inputs of all steps, then the steps, one after the other.

With x the input, h the hidden state, c the cell, and Q_g rounding onto grid g:

    fed[t]     = Q_sum(W_ih x[t] + b)            one matrix product for all t
    back[t]    = Q_sum(W_hh h[t-1])              one matrix product a step
    a[t]       = Q_gates(fed[t] + back[t])       gates before their functions
    i, f, o, g = tables of sigmoid and tanh      from and to codes of the gates' width
    c[t]       = Q_cell(f c[t-1] + i g)          exact products, rounded once
    h[t]       = Q_h(o tanh(Q_turn(c[t])))       exact product, rounded once

Widths: sums and the cell 16 bits, gates and what follows from them 12 bits or the activations' width if that is more
(a recipe names them ``node:fed``, ``node:cell``, ``node:gates``); h, which enters the array, the activations' width.
The gates' grid and the turn's end where the tables saturate. All steps share what the first one stores (`Op.shares`).
Where the initial state is zero the first step makes no products with it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES, half_up
from accelsim.program import Concat, conv_bound
from quant.build import Builder, LayerInfo
from quant.graph import Node
from quant.grid import Grid, symmetric, unsigned
from quant.inner import saturation
from quant.lower_constant import constant
from quant.lower_linear import beside_bias, channels_last, quantize_weights
from quant.lstm_steps import Grids, Matrix, Steps
from quant.ocs import SplitRecord, expand
from quant.ocs_lstm import HIDDEN_SPLITS, INPUT_SPLITS
from quant.remarks import remark

GATE_BITS, CELL_BITS, SUM_BITS = 12, 16, 16

_MATRICES = {"fed": ("weight_ih", "bias", INPUT_SPLITS), "back": ("weight_hh", "", HIDDEN_SPLITS)}
"""Parameter, bias and note of the splits of each product."""


def lower_lstm(builder: Builder, node: Node) -> None:
    """Lower one layer in one direction."""
    grids = _grids(builder, node)
    source = builder.plain(builder.value(node.inputs[0]))
    fed_by = weight_matrix(builder, node, "fed", source.on, builder.tensors[source.name].magnitude)
    back = weight_matrix(builder, node, "back", grids.hidden, max(-grids.hidden.low, grids.hidden.high))
    steps = Steps(builder, node, grids, back)
    fed = steps.product(fed_by, source, "fed", None)
    hidden, cell = (
        constant(builder, f"{node.name}.{key}", node.params[key][None], (0, 1), grid) if key in node.params else None
        for key, grid in (("h0", grids.hidden), ("c0", grids.cell))
    )
    outputs = []
    for step in range(builder.graph.shapes[node.name][0]):
        hidden, cell = steps.write(step, fed, hidden, cell)
        outputs.append(hidden.name)
    builder.code_tensor(node.name, builder.graph.shapes[node.name], grids.hidden)
    builder.emit(Concat(name=node.name, inputs=tuple(outputs), output=node.name, axis=0))
    builder.set(node, node.name, grids.hidden, (0, 1))


def _grids(builder: Builder, node: Node) -> Grids:
    name, rounded, recipe = node.name, builder.rounded_scale, builder.recipe
    bits = builder.bits(f"{name}:gates", GATE_BITS)
    ends = {op: saturation(Node(op, op), bits) for op in ("sigmoid", "tanh")}
    gates, cell, fed = (builder.stats[f"{name}:{part}"].absmax for part in ("gates", "cell", "fed"))
    return Grids(
        # what the hidden state adds is gates minus fed, so both parts lie within the sum of the two ranges
        sum=rounded(symmetric(gates + fed, recipe.act_bits_of(f"{name}:fed", SUM_BITS))),
        gates=rounded(symmetric(min(gates, ends["sigmoid"]), bits)),
        unit=rounded(unsigned(1.0, bits)),
        signed=rounded(symmetric(1.0, bits)),
        cell=rounded(symmetric(cell, recipe.act_bits_of(f"{name}:cell", CELL_BITS))),
        turn=rounded(symmetric(min(cell, ends["tanh"]), bits)),
        hidden=builder.act_grid(name),
    )


def weight_matrix(builder: Builder, node: Node, role: str, grid: Grid, magnitude: int) -> Matrix:
    """Put one of the two weight matrices on integers, for inputs on a grid with codes up to a magnitude."""
    parameter, bias_name, note = _MATRICES[role]
    record: SplitRecord | None = node.notes.get(note)
    weight = node.params[parameter] if record is None else expand(node.params[parameter], record)
    notes: dict[str, Any] = {} if record is None else {"ocs": record}
    bits, _ = builder.recipe.bits_of(node.name, builder.protected)
    found = quantize_weights(Node(node.name, "linear", (), {}, {"weight": weight}, notes=notes), builder.recipe, bits)
    zero: NDArray[np.float64] = np.zeros(len(found.codes))
    bias_real = node.params.get(bias_name, zero).astype(np.float64)
    found = beside_bias(found, bias_real, grid.one_scale, magnitude)
    scale = found.grid.scale * grid.one_scale
    rows = channels_last(found.codes)
    real = bias_real / scale
    folded = -grid.one_zero_point * rows.reshape(len(rows), -1).sum(axis=1)
    floats = REQUANT_RULES[builder.recipe.rule].float_bias
    bias = folded if floats else folded + half_up(real).astype(np.int64)
    splits = 0 if record is None else len(record.splits)
    info = LayerInfo(f"{node.name}.{role}", bits, grid.bits, splits, found.alpha, found.clamped, remark=remark(node))
    builder.layers.append(info)
    return Matrix(
        weight=rows.astype(np.min_scalar_type(-(2 ** (found.operand_bits - 1)))),
        bias=bias,
        bound=conv_bound(rows, bias, magnitude),
        operand_bits=found.operand_bits,
        storage_bits=found.grid.bits,
        scale=scale,
        source=None if record is None else np.array(record.source, dtype=np.int64),
        float_bias=real if floats else None,
    )
