"""Processing elements: how fast each type is, and its energy, area and leakage in a technology.

An *operation* of a PE is its work on one pair of operands from the streams: one product, or all products of a
composable PE. Timing uses `products` and `cycles`; energy and area are called by `accelsim.cost` alone.

Operands may be one bit wider than a PE's stated width: a code less its zero point is. Such a PE is built with that bit
(integer multipliers that take signed and unsigned codes have it anyway), it is priced at the wider width, and the
result says so.

Assumptions (A): a bit-serial PE passes operands and sums on as soon as the next PE can start, so its skew is one cycle
a hop like any other's; leakage of composable and bit-serial PEs follows their area.
"""

from collections.abc import Callable
from dataclasses import dataclass

from accelsim.config import Accelerator
from accelsim.technology import Technology

SLOT_BITS = 8
"""Width of the MAC that `Technology.serial_area_factor` and `serial_energy_factor` are relative to."""


@dataclass(frozen=True)
class Widths:
    """Widths of one PE, in bits: operands as built, and the sum it adds to (the accumulator's under ``os``)."""

    weight: int
    act: int
    total: int


@dataclass(frozen=True)
class PeType:
    """A kind of processing element.

    Parameters
    ----------
    name
        As in an accelerator's ``pe.type``.
    products
        ``(accelerator, weight_bits, act_bits)``: consecutive k multiplied per operation.
    cycles
        ``(accelerator, weight_bits, act_bits)``: cycles per operation.
    energy_pj
        ``(technology, accelerator, built, weight_bits, act_bits)``: pJ per operation on operands of these widths.
    area_um2, leakage_mw
        ``(technology, accelerator, built)`` of one PE.
    """

    name: str
    products: Callable[[Accelerator, int, int], int]
    cycles: Callable[[Accelerator, int, int], int]
    energy_pj: Callable[[Technology, Accelerator, Widths, int, int], float]
    area_um2: Callable[[Technology, Accelerator, Widths], float]
    leakage_mw: Callable[[Technology, Accelerator, Widths], float]


def pe_type(accelerator: Accelerator) -> PeType:
    """Return the type of an accelerator's PEs."""
    return PE_TYPES[accelerator.pe.type]


def sum_bits(accelerator: Accelerator) -> int:
    """Return the width of the sum in a PE: the moving partial sum, under ``os`` the accumulator itself."""
    return accelerator.accumulator.bits if accelerator.array.dataflow == "os" else accelerator.accumulator.psum_bits


def built_widths(accelerator: Accelerator, weight_bits: int, act_bits: int) -> Widths:
    """Return the widths that the PEs are built with for a network whose widest operands are given.

    ``native`` PEs are as wide as the network needs; all others as the accelerator says, plus the zero-point bit.
    """
    if accelerator.pe.type == "native":
        return Widths(weight_bits, act_bits, sum_bits(accelerator))
    return Widths(
        max(accelerator.pe.weight_bits, weight_bits), max(accelerator.pe.act_bits, act_bits), sum_bits(accelerator)
    )


def too_wide(accelerator: Accelerator, weight_bits: int, act_bits: int) -> str:
    """Tell why operands of these widths do not go through the PEs; empty where they do."""
    if accelerator.pe.type == "native":
        return ""
    for operand, bits, limit in (
        ("weight", weight_bits, accelerator.pe.weight_bits),
        ("activation", act_bits, accelerator.pe.act_bits),
    ):
        if bits > limit + 1:
            return f"{operand} operands of {bits} bits on PEs of {limit}"
    return ""


def serial_steps(accelerator: Accelerator, weight_bits: int, act_bits: int) -> int:
    """Return the cycles of one bit-serial MAC: the bits of the serial operand, or of both multiplied."""
    serial = accelerator.pe.serial
    return (1 if serial == "activation" else weight_bits) * (1 if serial == "weight" else act_bits)


def _one(accelerator: Accelerator, weight_bits: int, act_bits: int) -> int:
    return 1


def _bricks(accelerator: Accelerator, weight_bits: int, act_bits: int) -> int:
    return accelerator.products_per_pe(weight_bits, act_bits)


# --- fixed and native ------------------------------------------------------------------------------------------------


def _fixed_energy(tech: Technology, accelerator: Accelerator, built: Widths, weight_bits: int, act_bits: int) -> float:
    dataflow = accelerator.array.dataflow
    return tech.fixed_mac_pj(weight_bits, act_bits, built.total, built.weight, built.act, dataflow)


def _fixed_area(tech: Technology, accelerator: Accelerator, built: Widths) -> float:
    return tech.pe_area_um2(built.weight, built.act, built.total, accelerator.array.dataflow)


def _fixed_leakage(tech: Technology, accelerator: Accelerator, built: Widths) -> float:
    return tech.pe_leakage_mw(built.weight, built.act, built.total, accelerator.array.dataflow)


# --- composable ------------------------------------------------------------------------------------------------------


def _composable_energy(
    tech: Technology, accelerator: Accelerator, built: Widths, weight_bits: int, act_bits: int
) -> float:
    """Price one cycle of the fused PE: its bricks are busy at every width, so narrow products share the cycle."""
    widest = max(accelerator.pe.weight_bits, accelerator.pe.act_bits)
    full = tech.mac_pj(built.weight, built.act, built.total, accelerator.array.dataflow)
    return tech.composable_energy_factor(widest) * full


def _composable_area(tech: Technology, accelerator: Accelerator, built: Widths) -> float:
    widest = max(accelerator.pe.weight_bits, accelerator.pe.act_bits)
    return tech.composable_area_factor(widest) * _fixed_area(tech, accelerator, built)


def _composable_leakage(tech: Technology, accelerator: Accelerator, built: Widths) -> float:
    widest = max(accelerator.pe.weight_bits, accelerator.pe.act_bits)
    return tech.composable_area_factor(widest) * _fixed_leakage(tech, accelerator, built)


# --- bit-serial ------------------------------------------------------------------------------------------------------


def _serial_energy(tech: Technology, accelerator: Accelerator, built: Widths, weight_bits: int, act_bits: int) -> float:
    whole = tech.mac_pj(SLOT_BITS, SLOT_BITS, built.total, accelerator.array.dataflow)
    return tech.serial_energy_factor(weight_bits, act_bits) * whole


def _serial_area(tech: Technology, accelerator: Accelerator, built: Widths) -> float:
    """Return the PE's share of a slot that makes one 8 x 8 MAC a cycle, at least its own sum's adder and register.

    The operand that is not serial widens the PE in proportion (A).
    """
    slot = tech.serial_area_factor() * tech.pe_area_um2(SLOT_BITS, SLOT_BITS, built.total, accelerator.array.dataflow)
    parallel = {"weight": built.act, "activation": built.weight, "both": SLOT_BITS}[accelerator.pe.serial]
    share = slot / serial_steps(accelerator, SLOT_BITS, SLOT_BITS) * parallel / SLOT_BITS
    adder, register = tech.logic.adder_area_um2(built.total), tech.logic.register_area_um2(built.total)
    if adder is None or register is None:
        return share
    return max(share, tech.area_overhead * (adder + register))


def _serial_leakage(tech: Technology, accelerator: Accelerator, built: Widths) -> float:
    dataflow = accelerator.array.dataflow
    ratio = _serial_area(tech, accelerator, built) / tech.pe_area_um2(SLOT_BITS, SLOT_BITS, built.total, dataflow)
    return ratio * tech.pe_leakage_mw(SLOT_BITS, SLOT_BITS, built.total, dataflow)


PE_TYPES = {
    "fixed": PeType("fixed", _one, _one, _fixed_energy, _fixed_area, _fixed_leakage),
    "native": PeType("native", _one, _one, _fixed_energy, _fixed_area, _fixed_leakage),
    "composable": PeType("composable", _bricks, _one, _composable_energy, _composable_area, _composable_leakage),
    "bit_serial": PeType("bit_serial", _one, serial_steps, _serial_energy, _serial_area, _serial_leakage),
}
