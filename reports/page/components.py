"""Where energy and cycles go: energy by component against weight bits, cycles by cause from machine to machine."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from reports.charts import Bars
from reports.figures import Bar
from reports.page.designs import Design, Network, Setting
from reports.page.fronts import Fronts
from reports.page.recipes import is_layered
from reports.summary import cause_name, component_name, cycle_parts
from reports.units import energy, grouped

FAMILIES = 6
"""Groups of bars in a figure."""

BARS = 18
"""Bars in a figure of machines."""

WEIGHTS = "weight_bits"


@dataclass(frozen=True, eq=False)
class Parts:
    """A figure of parts with what it holds fixed, and its legend: (colour key, words)."""

    chart: Bars
    held: str
    legend: tuple[tuple[str, str], ...]


def energy_by_bits(network: Network, fronts: Sequence[Fronts]) -> Parts | None:
    """Return energy by component against weight bit width; `None` where no two designs differ in that alone.

    A family of designs differs in its weight bits alone. One is drawn for each technology and type of PE: the one with
    the most widths, without expansion where there is such a one.
    """
    chosen: dict[tuple[str, str], list[Design]] = {}
    mode = fronts[0].setting.timing_mode
    for setting in sorted({one.setting for one in fronts if one.setting.timing_mode == mode}):
        for family in _families(network.at(setting)):
            key = (setting.technology, str(family[0].figures["pe"]))
            if key not in chosen or _preference(family) > _preference(chosen[key]):
                chosen[key] = family
    families = [family for family in chosen.values() if len(family) > 1][:FAMILIES]
    if not families:
        return None
    bars = [
        Bar(f"{design.factors[WEIGHTS]} bits", _parts(design.figures["energy_pj"]), _family_name(design))
        for family in families
        for design in family
    ]
    title = f"{network.name}: energy per batch by component against weight bits"
    return Parts(
        Bars(title, tuple(bars), energy, component_name),
        "; ".join(dict.fromkeys(_held(network, family[0]) for family in families)),
        _legend(bars, component_name),
    )


def _families(designs: Sequence[Design]) -> list[list[Design]]:
    found: dict[str, list[Design]] = {}
    for design in designs:
        if isinstance(design.factors.get(WEIGHTS), int):
            rest = {name: value for name, value in design.factors.items() if name != WEIGHTS}
            found.setdefault(json.dumps(rest, sort_keys=True), []).append(design)
    return [sorted(family, key=lambda d: d.factors[WEIGHTS]) for family in found.values()]


def _preference(family: Sequence[Design]) -> tuple[int, int]:
    factors = family[0].factors
    return len(family), -sum(factors.get(name) not in (None, False, 0) for name in ("ocs", "act_ocs", "splitquant"))


def _family_name(design: Design) -> str:
    return f"{design.setting.name}, {design.figures['pe']} PEs"


def _held(network: Network, design: Design) -> str:
    """Return what is the same in a family though it varies in the study."""
    given = [
        f"{name} {design.factors.get(name)}"
        for name in network.varying
        if name not in (WEIGHTS, "technology", "timing", "pe.type") and design.factors.get(name) is not None
    ]
    return ", ".join(given) or "one machine and recipe"


def cycles_by_cause(network: Network, fronts: Sequence[Fronts]) -> Parts:
    """Return cycles by cause of the best design's recipe on every machine, under every timing mode."""
    best = fronts[0].best
    recipe = _recipe(best)
    technology = best.setting.technology
    mine = [d for d in network.designs if d.setting.technology == technology and _recipe(d) == recipe]
    mine = sorted(mine, key=lambda d: (d.setting != best.setting, d.setting, d.figures["cycles"], d.label))
    bars = _once(
        Bar(design.machine or str(design.figures["accelerator"]), cycle_parts(design.figures), _timing(design.setting))
        for design in mine
    )
    return Parts(
        Bars(f"{network.name}: cycles per batch by cause", tuple(bars), grouped, cause_name),
        str(best.figures["recipe"]),
        _legend(bars, cause_name),
    )


def _recipe(design: Design) -> str:
    """Return what of a design is its recipe: all that does not describe the machine or how it is looked at."""
    machine = ("accelerator", "technology", "timing", "batch", "equal_area_bits")
    kept = {
        name: value
        for name, value in design.factors.items()
        if ("." not in name or is_layered(name)) and name not in machine
    }
    return json.dumps(kept, sort_keys=True)


def front_energy(network: Network, fronts: Fronts) -> Parts:
    """Return energy by component of the designs on the front of energy."""
    bars = _once(Bar(design.label, _parts(design.figures["energy_pj"])) for design in fronts.leaders())
    which = "designs on the front" if network.executed else "designs of the least energy"
    title = f"{network.name}: energy per batch by component, {which}"
    return Parts(Bars(title, tuple(bars), energy, component_name), fronts.setting.name, _legend(bars, component_name))


def _timing(setting: Setting) -> str:
    return f"{setting.timing_mode}{f', batch {setting.batch}' if setting.batch > 1 else ''}"


def _once(bars: Iterable[Bar]) -> list[Bar]:
    """Put equal bars of a group into one, and return the first of them."""
    alike: dict[str, list[Bar]] = {}
    for bar in bars:
        alike.setdefault(json.dumps([bar.group, dict(bar.parts)]), []).append(bar)
    found = [
        replace(same[0], label=f"{same[0].label} (+{len(same) - 1} alike)") if len(same) > 1 else same[0]
        for same in alike.values()
    ]
    return found[:BARS]


def _parts(values: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if key != "total"}


def _legend(bars: Sequence[Bar], name: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
    keys = dict.fromkeys(key for bar in bars for key, value in bar.parts.items() if value)
    return tuple((key, name(key)) for key in keys)
