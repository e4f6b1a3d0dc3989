"""Layers by designs: utilization of the array, sums that left their registers, channels split."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from reports.charts import Heatmap
from reports.page.designs import Design, Network
from reports.page.fronts import Fronts
from reports.units import short

COLUMNS = 12


@dataclass(frozen=True, eq=False)
class Heat:
    """Maps over the same designs; `missing` says in words what there is nothing to show of."""

    designs: tuple[Design, ...]
    maps: tuple[Heatmap, ...]
    missing: tuple[str, ...]


def heat(network: Network, fronts: Sequence[Fronts]) -> Heat:
    """Return the maps of designs on the fronts, layers without products left out."""
    designs = pick(network, fronts)
    names = [
        name for name, macs in zip(designs[0].row.layers["name"], designs[0].row.layers["macs"], strict=True) if macs
    ]
    columns = tuple(str(place + 1) for place in range(len(designs)))
    maps, missing = [], []
    for key, words, nothing in (
        ("utilization", "utilization of the array, %", "no layer keeps the array busy"),
        ("overflowed_outputs", "outputs that overflowed", "no sum left its register in any of these designs"),
        ("splits", "channels added", "none of these designs splits channels"),
    ):
        tables = [dict(zip(d.row.layers["name"], d.row.layers[key], strict=True)) for d in designs]
        values = tuple(tuple(table.get(name) for table in tables) for name in names)
        most = max((value for row in values for value in row if value is not None), default=0)
        if not most:
            missing.append(f"{words.capitalize()}: {nothing}.")
            continue
        share = key == "utilization"
        maps.append(
            Heatmap(
                f"{network.name}: {words}",
                tuple(names),
                columns,
                values,
                (lambda value: f"{100 * value:.0f}") if share else short,
                1.0 if share else float(most),
                log=key == "overflowed_outputs",
            )
        )
    return Heat(tuple(designs), tuple(maps), tuple(missing))


def pick(network: Network, fronts: Sequence[Fronts]) -> list[Design]:
    """Return designs from the fronts of energy, latency and area in turn, then those with most overflow; each once."""
    queues = [one.front(cost) for cost in ("energy", "latency", "area") for one in fronts]
    overflowing = [d for d in network.designs if d.figures.get("overflowed_outputs")]
    split = [d for d in network.designs if any(d.row.layers["splits"])]
    queues.append(sorted(overflowing, key=lambda design: -design.figures["overflowed_outputs"]))
    queues.append(sorted(split, key=lambda design: -design.accuracy))
    found: dict[str, Design] = {}
    for turn in range(max(map(len, queues))):
        for queue in queues:
            if turn < len(queue) and len(found) < COLUMNS:
                found.setdefault(_looks(queue[turn]), queue[turn])
    return list(found.values()) or list(network.designs[:1])


def _looks(design: Design) -> str:
    layers = design.row.layers
    return json.dumps([layers["utilization"], layers["overflowed_outputs"], layers["splits"]])
