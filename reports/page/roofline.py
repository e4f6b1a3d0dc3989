"""Rooflines: how near designs, and the layers of one design, come to what PEs and DRAM allow.

With T_c the cycles that all products would take if every PE were busy in every cycle (at each layer's own widths) and
T_m those that the DRAM channel moves the traffic in, no design ends before max(T_c, T_m). Designs on different machines
are drawn under one roof by taking both in shares: T_c / T_m along, T_c / cycles upward, the roof min(1, T_c / T_m).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.charts import Lines, Mark, Scale, Series
from reports.page.designs import Design, Network
from reports.page.fronts import Fronts
from reports.page.machines import Peaks, layer_rows, peaks
from reports.units import significant

FORMULA_ONLY = "scalesim"
"""A timing mode without memory, to which no roof of memory applies."""

KINDS = 7
"""Groups of designs that are told apart by colour."""


@dataclass(frozen=True)
class Roof:
    """A design or layer under its roof: share of DRAM time that computing would take, share of the PEs' peak."""

    balance: float
    reached: float


def design_roof(design: Design) -> Roof | None:
    """Return where a design lies; `None` where it moves nothing over DRAM or its timing knows no memory."""
    if design.setting.timing_mode == FORMULA_ONLY or not design.figures["dram_bytes"]:
        return None
    limits = peaks(design)
    compute = sum(
        one["macs"] / limits.macs_per_cycle(one["weight_bits"], one["act_bits"])
        for one in layer_rows(design)
        if one["macs"]
    )
    memory = design.figures["dram_bytes"] / limits.bytes_per_cycle
    return Roof(compute / memory, compute / design.figures["cycles"])


def designs_chart(network: Network, fronts: Sequence[Fronts]) -> Lines | None:
    """Return all designs of the main technology under the common roof, by array."""
    technology = fronts[0].setting.technology
    groups: dict[str, list[Mark]] = {}
    for design in network.designs:
        roof = design_roof(design) if design.setting.technology == technology else None
        if roof is not None and roof.reached > 0:
            figures = design.figures
            kind = f"{figures['dataflow']} {figures['rows']}×{figures['cols']}"
            title = f"{design.label}: {significant(100 * roof.reached)} % of the PEs' peak"
            groups.setdefault(kind, []).append(Mark(roof.balance, roof.reached, title))
    if not groups:
        return None
    shown = sorted(groups, key=lambda kind: -len(groups[kind]))[:KINDS]
    marks = [mark for kind in shown for mark in groups[kind]]
    few = len(marks) <= 400
    series = [
        Series(kind, "rings" if few else "faint", tuple(groups[kind]), place + 1)
        for place, kind in enumerate(sorted(shown))
    ]
    low = min(mark.x for mark in marks) / 1.3
    high = max(1.6, max(mark.x for mark in marks) * 1.3)
    return Lines(
        f"{network.name}: designs under their roofs",
        Scale("compute time / DRAM time", significant, log=True),
        Scale("share of the PEs' peak reached", lambda share: f"{significant(100 * share)} %", log=True),
        (Series("roof: DRAM, then PEs", "line", _roof(low, high), 8), *series),
    )


def _roof(low: float, high: float) -> tuple[Mark, ...]:
    return tuple(Mark(x, min(1.0, x)) for x in sorted({low, *([1.0] if low < 1 < high else []), high}))


def layers_chart(network: Network, design: Design) -> Lines | None:
    """Return the layers of one design under its machine's roofs: products per byte and per cycle."""
    if design.setting.timing_mode == FORMULA_ONLY:
        return None
    limits = peaks(design)
    found = [one for one in layer_rows(design) if one["macs"] and one["cycles"] and one["dram_bytes"]]
    if not found:
        return None
    widths = sorted({(one["weight_bits"], one["act_bits"]) for one in found})
    marks = {
        pair: tuple(
            Mark(one["macs"] / one["dram_bytes"], one["macs"] / one["cycles"], _layer_title(one))
            for one in found
            if (one["weight_bits"], one["act_bits"]) == pair
        )
        for pair in widths
    }
    xs = [mark.x for group in marks.values() for mark in group]
    roofs = _machine_roofs(limits, widths, (min(xs) / 1.3, max(xs) * 1.3))
    dots = tuple(Series(f"layers, {w}×{a} bits", "dots", marks[w, a], i + 1) for i, (w, a) in enumerate(widths))
    return Lines(
        f"{network.name}: layers under the roofs of their machine",
        Scale("products per byte of DRAM traffic", significant, log=True),
        Scale("products per cycle", significant, log=True),
        (*roofs, *dots),
    )


def _layer_title(one: dict[str, object]) -> str:
    return f"{one['name']}: {one['macs']} products, {one['cycles']} cycles, {one['dram_bytes']} bytes"


def _machine_roofs(limits: Peaks, widths: Sequence[tuple[int, int]], ends: tuple[float, float]) -> list[Series]:
    """Return one roof for each peak, the widths that share it named."""
    by_peak: dict[float, list[str]] = {}
    for pair in widths:
        by_peak.setdefault(limits.macs_per_cycle(*pair), []).append(f"{pair[0]}×{pair[1]}")
    low, high = ends
    found = []
    for peak, names in by_peak.items():
        ridge = peak / limits.bytes_per_cycle
        xs = sorted({low, high, *([ridge] if low < ridge < high else [])})
        marks = tuple(Mark(x, min(peak, x * limits.bytes_per_cycle)) for x in xs)
        words = f" at {', '.join(names)} bits" if len(by_peak) > 1 else ""
        found.append(Series(f"roof{words}: {significant(peak)} products a cycle", "line", marks, 8))
    return found
