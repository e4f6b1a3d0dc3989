"""What a reader of a result must know beside the figures: limits that are passed, widths rounded up, spills."""

import numpy as np

from accelsim.codes import BY_BATCH, BY_OUTPUTS, MachineCodes
from accelsim.cost import Machine
from accelsim.layers import LayerTable
from accelsim.passes import Work
from accelsim.technology import technology

TIMED = technology("nangate45", 45)
"""Times PEs where the technology that prices them does not."""

TIMED_PE = (8, 8, 32)
"""A PE that every technology prices: whether it is timed tells whether the technology times."""


def notes(table: LayerTable, machine: Machine, work: Work, codes: MachineCodes) -> tuple[str, ...]:
    """Return the notes of a simulation, each one sentence."""
    found = [
        _critical_path(machine),
        _zero_point_bit(table, machine),
        _bricks(table, machine),
        _spills(table, work),
        _passes(work),
        _cores(codes),
    ]
    return tuple(note for note in found if note)


def _critical_path(machine: Machine) -> str:
    """Compare the clock with the PE's delay, which depth divides at best evenly; bit-serial PEs have no data.

    A technology without timing is held against our synthesis at 45 nm: what is quick enough there is so at smaller
    nodes, what is not is certain at 45 nm alone.
    """
    accelerator, built, prices = machine.accelerator, machine.built, machine.technology
    if accelerator.pe.type == "bit_serial":
        return ""
    timed = prices if prices.pe_critical_path_ns(*TIMED_PE, accelerator.array.dataflow) is not None else TIMED
    narrow, wide = timed.operand_bits
    weight, act = (min(max(bits, narrow), wide) for bits in (built.weight, built.act))
    path = timed.pe_critical_path_ns(
        weight, act, min(max(built.total, 8), timed.psum_bits[1]), accelerator.array.dataflow
    )
    assert path is not None, f"notes: {timed.name} has timing"
    period, stage = 1000 / accelerator.clock_mhz, path / accelerator.array.pipeline_depth
    if stage <= period:
        return ""
    at_least = " at least" if accelerator.pe.type == "composable" else ""
    text = (
        f"the clock of {accelerator.clock_mhz:g} MHz ({period:.2f} ns) is beyond the PE's critical path of{at_least} "
        f"{path:.2f} ns in {accelerator.array.pipeline_depth} stage(s), {timed.name}"
    )
    if prices.node_nm < timed.node_nm:
        text += f" at {timed.node_nm:g} nm; {prices.name} has no timing at {prices.node_nm:g} nm"
    return text


def _zero_point_bit(table: LayerTable, machine: Machine) -> str:
    pe, built = machine.accelerator.pe, machine.built
    if pe.type == "native" or (built.weight <= pe.weight_bits and built.act <= pe.act_bits):
        return ""
    return (
        f"PEs of {pe.weight_bits}x{pe.act_bits} bits are priced as {built.weight}x{built.act}: codes less their zero "
        "points take one bit more"
    )


def _bricks(table: LayerTable, machine: Machine) -> str:
    """Name the layers that a composable PE runs at wider bricks than their operands."""
    pe = machine.accelerator.pe
    if pe.type != "composable":
        return ""
    steps = [pe.brick_bits << step for step in range(4)]
    odd = {pair for pair in table.pairs if pair[0] and not set(pair) <= set(steps)}
    names = [name for name, pair in zip(table.names, table.pair_of, strict=True) if table.pairs[pair] in odd]
    text = ""
    if names:
        text = f"{len(names)} layer(s) run at widths rounded up to bricks of {pe.brick_bits} bits, {names[0]} the first"
    if pe.brick_bits != 2:
        text += f"{'; ' if text else ''}bricks of {pe.brick_bits} bits are priced as bricks of 2, an upper bound"
    return text


def _spills(table: LayerTable, work: Work) -> str:
    places = np.flatnonzero(work.counts["psum_out"])
    if not places.size:
        return ""
    return f"{places.size} layer(s) write partial sums to DRAM and read them back, {table.names[places[0]]} the first"


def _passes(work: Work) -> str:
    if work.passes == 1:
        return ""
    return f"the batch goes through in {work.passes} passes of up to {work.first.samples} sample(s), for less traffic"


def _cores(codes: MachineCodes) -> str:
    if codes.split == BY_OUTPUTS:
        return f"{codes.cores} cores split the outputs of every layer and share the DRAM channel"
    if codes.split == BY_BATCH:
        return f"{codes.cores} cores split the batch and share the DRAM channel"
    return ""
