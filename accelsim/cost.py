"""Prices of what was counted: the only place that knows joules and square micrometres.

`energy_pj` prices an `Activity`, `area_um2` an accelerator. A price that a technology does not have is an error that
names the event and how often it happened.

Assumptions (A): lanes of the vector unit and the requantizer leak as an 8×8 PE does per area; logic and SRAM leak in
every cycle, stalls included, and nothing is power-gated; a lane holds one table of 256 bytes; chip-to-chip area of
wires, clock and control is what the technology's own overheads stand for; a hop to the next core is one core's edge
long.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from accelsim.activity import Activity, Event
from accelsim.config import Accelerator, Sram
from accelsim.pe import Widths, pe_type
from accelsim.technology import Technology

TABLE_BYTES = 256
"""A lane's table: 256 entries of a byte."""

MAX_WORD_BITS = 4096
"""A wider word lies in several arrays side by side."""

LANE_PE = (8, 8, 24)
"""Weight, activation and sum of the PE whose leakage per area lanes have."""

COMPONENTS = (
    "pe",
    "register",
    "activation_sram",
    "weight_sram",
    "accumulator_sram",
    "requantizer",
    "vector",
    "interconnect",
    "dram",
    "leakage",
)
"""Components of energy, in the order of reports."""


@dataclass(frozen=True)
class Machine:
    """An accelerator with its PEs sized and its prices chosen.

    Parameters
    ----------
    accelerator, technology
        What is priced, and by which table.
    built
        Widths of the PEs.
    output_bits
        Widest code that the requantizer gives.
    known
        Prices looked up so far.
    """

    accelerator: Accelerator
    technology: Technology
    built: Widths
    output_bits: int = 8
    known: dict[Event, float] = field(default_factory=dict, repr=False, compare=False)

    def price_pj(self, event: Event) -> float:
        """Return the energy of one event, in pJ.

        Raises
        ------
        ValueError
            If the technology has no such price.
        """
        price = self.known.get(event)
        if price is None:
            price = self.known[event] = PRICES[event.component](self, event)
        return price


def energy_pj(activity: Activity, machine: Machine) -> dict[str, float]:
    """Return energy by component and ``total``, in pJ.

    Raises
    ------
    ValueError
        Naming the event, its count and the technology, where a price is missing.
    """
    energy = dict.fromkeys(COMPONENTS, 0.0)
    for event, count in activity:
        if count:
            price = price_pj(machine, event, count)
            energy[event.component] += count * price
    return energy | {"total": sum(energy.values())}


def price_pj(machine: Machine, event: Event, count: int) -> float:
    """Return the price of an event that happened `count` times; see `energy_pj`."""
    if event.component not in PRICES:
        raise ValueError(f"cost: no price for {event} (counted {count} times); known are {', '.join(PRICES)}")
    try:
        return machine.price_pj(event)
    except ValueError as error:
        raise ValueError(f"cost: no price for {event} (counted {count} times): {error}") from None


# --- prices by component ---------------------------------------------------------------------------------------------


def _pe(machine: Machine, event: Event) -> float:
    accelerator, technology = machine.accelerator, machine.technology
    if event.action == "idle":
        built = machine.built
        return technology.mac_idle_pj(built.weight, built.act, built.total, accelerator.array.dataflow)
    weight_bits, act_bits = event.bits[:2]
    return pe_type(accelerator).energy_pj(technology, accelerator, machine.built, weight_bits, act_bits)


def _register(machine: Machine, event: Event) -> float:
    return machine.technology.register_pj(event.bits[0])


def _sram(machine: Machine, event: Event) -> float:
    sram: Sram = getattr(machine.accelerator, event.component)
    read = event.action == "read"
    price = machine.technology.sram_read_pj if read else machine.technology.sram_write_pj
    parts = -(-sram.word_bits // MAX_WORD_BITS)
    return parts * price(sram.bytes / sram.banks / parts, -(-sram.word_bits // parts))


def _sram_area(technology: Technology, sram: Sram) -> float:
    return sram.banks * technology.sram_area_um2(sram.bytes / sram.banks, min(sram.word_bits, MAX_WORD_BITS))


def _requantizer(machine: Machine, event: Event) -> float:
    acc_bits, out_bits, multiplier_bits = event.bits
    return machine.technology.requantize_pj(min(acc_bits, 64), min(out_bits, 64), multiplier_bits)


def _vector(machine: Machine, event: Event) -> float:
    technology, bits = machine.technology, event.bits
    if event.action == "multiply":
        return technology.multiply_pj(*bits) + technology.register_pj(sum(bits))
    return technology.vector_op_pj(event.action, bits[0])


def _dram(machine: Machine, event: Event) -> float:
    return machine.technology.dram_pj_per_bit(machine.accelerator.dram.type)


def _interconnect(machine: Machine, event: Event) -> float:
    edge_mm = math.sqrt(area_um2(machine)["total"] / machine.accelerator.cores) / 1000
    return machine.technology.wire_pj_per_bit_mm() * edge_mm


def _leakage(machine: Machine, event: Event) -> float:
    return leakage_mw(machine) * 1000 / machine.accelerator.clock_mhz  # mW · ns = pJ


PRICES: dict[str, Callable[[Machine, Event], float]] = {
    "pe": _pe,
    "register": _register,
    "activation_sram": _sram,
    "weight_sram": _sram,
    "accumulator_sram": _sram,
    "requantizer": _requantizer,
    "vector": _vector,
    "interconnect": _interconnect,
    "dram": _dram,
    "leakage": _leakage,
}
"""How one event of a component is priced."""


# --- area and leakage ------------------------------------------------------------------------------------------------


def area_um2(machine: Machine) -> dict[str, float]:
    """Return area by component and ``total``, all cores together, in um2. DRAM and pads are not on the chip."""
    accelerator, technology = machine.accelerator, machine.technology
    pes = accelerator.array.rows * accelerator.array.cols
    parts = {"pe": pes * pe_type(accelerator).area_um2(technology, accelerator, machine.built)}
    for name in ("activation_sram", "weight_sram", "accumulator_sram"):
        parts[name] = _sram_area(technology, getattr(accelerator, name))
    parts |= _lane_areas(machine)
    parts = {name: accelerator.cores * area for name, area in parts.items()}
    return parts | {"total": sum(parts.values())}


def _lane_areas(machine: Machine) -> dict[str, float]:
    accelerator, technology = machine.accelerator, machine.technology
    requantizer = technology.requantizer_area_um2(accelerator.accumulator.bits, machine.output_bits)
    lane = technology.vector_lane_area_um2(accelerator.vector_bits) + technology.sram_area_um2(TABLE_BYTES, 8)
    return {
        "requantizer": accelerator.requantizer_lanes * requantizer,
        "vector": accelerator.vector_lanes * lane,
    }


def leakage_mw(machine: Machine) -> float:
    """Return the leakage of the whole chip, in mW; see the module for what follows the area."""
    accelerator, technology = machine.accelerator, machine.technology
    pe = pe_type(accelerator)
    one = pe.leakage_mw(technology, accelerator, machine.built)
    flow = accelerator.array.dataflow
    density = technology.pe_leakage_mw(*LANE_PE, flow) / technology.pe_area_um2(*LANE_PE, flow)
    pes = accelerator.array.rows * accelerator.array.cols
    srams = (accelerator.activation_sram, accelerator.weight_sram, accelerator.accumulator_sram)
    memory = sum(sram.banks * technology.sram_leakage_mw(sram.bytes / sram.banks) for sram in srams)
    return accelerator.cores * (pes * one + density * sum(_lane_areas(machine).values()) + memory)
