"""Energy of the PEs from the bits that flip in their registers, on given inputs: an alternative to a price per MAC.

The stream through every register is known without stepping cycles (`Dataflow.toggles`, equal to the register engine's
count); a technology with a toggle model prices the flips and the clock (`Technology.toggle_pj`). It stands in place of
the events ``pe.mac`` and ``pe.idle`` of `accelsim.simulate`; all else is priced as there.

The model's flips of the held operand are those that its multiplier sees while operands stream: from one fold to the
next. Flips of an operand on its way down to its PE, before anything streams or in the shadow register, cost the clock
alone (A). Further assumptions (A): layers run one group after the other with streams uncut; a flip of a sum register is
a flip at the sum input that it feeds (the last row's leave the array and are charged alike).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.dataflow import DATAFLOWS, ArrayShape, Operands
from accelsim.dataflow.run import make_job
from accelsim.execute import accumulations, execute, layer_groups, operand_bits
from accelsim.pe import Widths, built_widths
from accelsim.program import Conv, MatMul, Program
from accelsim.technology import Technology, Toggles


@dataclass(frozen=True)
class ToggleEnergy:
    """PE energy of one layer on the given inputs.

    Parameters
    ----------
    name
        Of the layer.
    toggles
        Flips by kind of register, and clocked PE cycles.
    energy_pj
        Of all inputs together.
    """

    name: str
    toggles: Toggles
    energy_pj: float


def toggle_energy(
    program: Program, inputs: Mapping[str, NDArray[Any]], accelerator: Accelerator, technology: Technology
) -> tuple[ToggleEnergy, ...]:
    """Return the PE energy of every matrix product on some inputs.

    Parameters
    ----------
    program
        With values.
    inputs
        Codes by input name.
    accelerator
        With PEs of type ``fixed`` or ``native``.
    technology
        One with a toggle model: ``nangate45``, ``ws`` and ``is``.

    Raises
    ------
    ValueError
        If the PEs make several products or take several cycles, the technology has no toggle model for the dataflow, or
        the Program has no values.
    """
    if accelerator.pe.type not in ("fixed", "native"):
        raise ValueError(
            f"toggle_energy: the toggle model is of PEs with one product a cycle, {accelerator.name}'s are "
            f"{accelerator.pe.type}; use pe.type fixed or native"
        )
    products = [op for op in program.ops if isinstance(op, Conv | MatMul)]
    pairs = [operand_bits(program, op) for op in products]
    built = built_widths(accelerator, max(pair[0] for pair in pairs), max(pair[1] for pair in pairs))
    _price(Toggles(1, 0, 0, 0), built, accelerator, technology)  # refuse what has no price before any counting
    rules = accumulations(program, accelerator)
    values = execute(program, inputs, accelerator, keep=tuple(name for op in products for name in op.inputs)).outputs
    found = []
    for op in products:
        flips = Toggles(pe_cycles=0, held=0, streamed=0, psum_in=0)
        for rows, columns, bias in layer_groups(op, [values[name] for name in op.inputs]):
            operands = Operands(rows, columns, bias, act_bits=built.act, weight_bits=built.weight)
            flips = _added(flips, _count(operands, accelerator, rules[op.name]))
        found.append(ToggleEnergy(op.name, flips, _price(flips, built, accelerator, technology)))
    return tuple(found)


def _count(operands: Operands, accelerator: Accelerator, rule: Any) -> Toggles:
    array = accelerator.array
    flow, shape = DATAFLOWS[array.dataflow], ArrayShape(array.rows, array.cols, pipeline_depth=array.pipeline_depth)
    seen = flow.toggles(make_job(flow, operands, shape, rule, accelerator.timing_mode, None))
    cycles = flow.cycles(operands.gemm, shape, accelerator.timing_mode, None)
    streamed = seen.weight_register_toggles if array.dataflow == "is" else seen.activation_register_toggles
    folds = flow.folds(operands.gemm, shape, None)
    held = _held_flips(operands, folds, array.dataflow, (array.rows, array.cols))
    return Toggles(cycles * array.rows * array.cols, held, streamed, seen.psum_register_toggles)


def _held_flips(operands: Operands, folds: NDArray[Any], dataflow: str, size: tuple[int, int]) -> int:
    """Return the bits in which the operands that PEs hold differ from fold to fold, reset and idle PEs being zero."""
    if dataflow == "is":
        values, bits, columns = operands.a.T, operands.act_bits, ("m0", "m1")
    else:
        values, bits, columns = operands.w, operands.weight_bits, ("n0", "n1")
    before, flips = np.zeros(size, dtype=np.int64), 0
    for fold in folds:
        block = values[fold["k0"] : fold["k1"], fold[columns[0]] : fold[columns[1]]]
        now = np.zeros(size, dtype=np.int64)
        now[: block.shape[0], : block.shape[1]] = block
        flips += int(np.bitwise_count((now ^ before) & ((1 << bits) - 1)).sum())
        before = now
    return flips


def _added(one: Toggles, other: Toggles) -> Toggles:
    return Toggles(
        one.pe_cycles + other.pe_cycles,
        one.held + other.held,
        one.streamed + other.streamed,
        one.psum_in + other.psum_in,
    )


def _price(flips: Toggles, built: Widths, accelerator: Accelerator, technology: Technology) -> float:
    return technology.toggle_pj(built.weight, built.act, built.total, flips, accelerator.array.dataflow)
