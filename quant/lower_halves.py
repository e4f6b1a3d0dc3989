"""Lowering of channel duplication: plain copies, and copies that halve a channel's codes."""

import numpy as np

from accelsim.program import Duplicate
from quant.build import Builder, Value
from quant.graph import Node
from quant.lower_plain import lower_duplicate as lower_copies
from quant.wide import HALVES, WideChain


def lower_duplicate(builder: Builder, node: Node) -> None:
    """Lower a `duplicate`: a gather of codes, halved where its note says so.

    Raises
    ------
    ValueError
        For factors that no note explains.
    """
    if HALVES in node.notes:
        _lower_halves(builder, node)
    elif "weight" in node.params and (node.params["weight"] != 1).any():
        raise ValueError(f"layer {node.name!r}: duplicate with factors has an integer form only as halves")
    else:
        lower_copies(builder, node)


def _lower_halves(builder: Builder, node: Node) -> None:
    """Halve wide codes: floor and ceil for one split, clamped to the narrow grid.

    A code is zero point plus value; halving the value alone adds ``(2**shift - 1) · zero point`` before the shift.
    """
    record = node.notes[HALVES]
    value = _wide_value(builder, node)
    axis = node.attrs["axis"]
    if value.layout[-1] != axis:
        value = builder.in_layout(value, (*(a for a in sorted(value.layout) if a != axis), axis))
    narrow = _chain(builder, node).narrow
    assert narrow is not None
    shift = np.array(record.shift, dtype=np.int64)
    offset = np.array(record.offset, dtype=np.int64) + (2**shift - 1) * narrow.one_zero_point
    builder.code_tensor(node.name, builder.shape(node.name, value.layout), narrow)
    builder.emit(
        Duplicate(
            name=node.name,
            inputs=(value.name,),
            output=node.name,
            source=np.array(record.source, dtype=np.int64),
            offset=offset,
            shift=shift,
            low=narrow.low,
            high=narrow.high,
        )
    )
    builder.set(node, node.name, narrow, value.layout)


def _chain(builder: Builder, node: Node) -> WideChain:
    return builder.wide.chains[node.inputs[0]]


def _wide_value(builder: Builder, node: Node) -> Value:
    """Return the input on the wide grid; a producer whose grid is fixed by its function is requantized onto it."""
    value = builder.value(node.inputs[0])
    chain = _chain(builder, node)
    wide = builder.wide_grid(chain, builder.bits(chain.root)) if chain.narrow is None else chain.wide()
    return builder.on_grid(value, wide, f"{node.inputs[0]}.wide")
