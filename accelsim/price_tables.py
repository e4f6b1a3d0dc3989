"""Prices of a simulation as Accelergy tables (ERT, ART), for tools that read those, and back.

    result = simulate(program, accelerator, prices)
    ert, art = price_tables(result, accelerator, prices)
    table = accelsim.technology.accelergy.parse(("ert", ert), ("art", art))
    table.price_pj("pe", "compute", (8, 8, 24))

Tables of other tools become a technology by `accelsim.technology.from_tables`, which takes their levels and keeps the
shape in the widths of one of ours; `accelsim.technology.accelergy.load` reads them from files.
"""

from accelsim.activity import Event
from accelsim.config import Accelerator
from accelsim.cost import Machine
from accelsim.pe import Widths
from accelsim.result import Result
from accelsim.technology import Technology
from accelsim.technology.accelergy import Bits, PriceKey, export_art, export_ert


def price_tables(result: Result, accelerator: Accelerator, prices: Technology, version: str = "0.4") -> tuple[str, str]:
    """Return an ERT and an ART of what a simulation counted.

    Parameters
    ----------
    result
        Of a simulation on `accelerator` with `prices`.
    accelerator, prices
        What it was simulated and priced with.
    version
        Of the tables, see `accelsim.technology.accelergy.VERSIONS`.

    Returns
    -------
    ert, art
        YAML. One action per event, its widths as the argument ``bits``; areas of one instance, PEs and lanes with their
        number as a range in the name. A SRAM is one instance for all its banks.
    """
    machine = Machine(accelerator, prices, _built(result), _output_bits(result))
    energies: dict[PriceKey, float] = {table_key(event): machine.price_pj(event) for event, _ in result.activity}
    counts = {
        "pe": accelerator.cores * accelerator.array.rows * accelerator.array.cols,
        "requantizer": accelerator.cores * accelerator.requantizer_lanes,
        "vector": accelerator.cores * accelerator.vector_lanes,
    } | dict.fromkeys(("activation_sram", "weight_sram", "accumulator_sram"), accelerator.cores)
    areas = {name: area / counts[name] for name, area in result.area_um2.items() if name in counts}
    return export_ert(energies, counts, version), export_art(areas, counts, version)


_ACTIONS = {("pe", "mac"): "compute", ("leakage", "cycle"): "leak"}


def table_key(event: Event) -> PriceKey:
    """Return the (component, action, bits) of an event in the tables, in Accelergy's words where it has one."""
    action = _ACTIONS.get((event.component, event.action), event.action)
    bits: Bits = event.bits if len(event.bits) > 1 else (event.bits[0] if event.bits else None)
    return event.component, action, bits


def _built(result: Result) -> Widths:
    """Return the widths of the PEs, which the event of an idle one carries."""
    return next(
        Widths(*event.bits) for event, _ in result.activity if (event.component, event.action) == ("pe", "idle")
    )


def _output_bits(result: Result) -> int:
    return max((event.bits[1] for event, _ in result.activity if event.component == "requantizer"), default=8)
