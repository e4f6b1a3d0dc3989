"""The staircase: what added channels cost in folds and array cycles, and which of them cost nothing.

The curves are exact: the closed form of the array at every number of channels that a ratio can ask for. It is used for
a layer where it gives the stored folds and array cycles of every design on that machine, and left out otherwise.
"""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from quant.ocs import split_count
from reports.charts import Mark, Scale, Stair, Staircase
from reports.page.designs import Design, Network, Setting
from reports.page.machines import closed_form, layer_rows
from reports.units import grouped, significant

MACHINES = 6
LAYERS = 4
RATIO = 0.1
"""Ratio up to which curves run, where the study does not go beyond."""

CHANNELS = 0.25
"""Share of a layer's channels up to which its own curve runs."""

MOST_TILES = 64
"""Stream tiles that are tried for a layer."""


@dataclass(frozen=True, eq=False)
class LayerStairs:
    """One layer on one machine.

    Parameters
    ----------
    name, channels, window
        Of the layer: its input channels before any split, and products that each adds to k.
    outputs, values
        Values of the weight per product along k, and all of them before any split.
    split
        Whether any design splits it.
    at
        (folds, array cycles) by number of added channels; `None` where the closed form does not give what is stored.
    """

    name: str
    channels: int
    window: int
    outputs: int
    values: int
    split: bool
    at: Callable[[int], tuple[int, int]] | None


@dataclass(frozen=True, eq=False)
class MachineStairs:
    """One machine with its layers and the designs on it, all of the same widths."""

    name: str
    layers: tuple[LayerStairs, ...]
    designs: tuple[Design, ...]

    @property
    def exact(self) -> bool:
        """Whether the closed form holds for every layer."""
        return all(layer.at is not None for layer in self.layers)


def machines(network: Network, setting: Setting) -> list[MachineStairs]:
    """Return the machines of a setting on which channels were split, those with most different splits first."""
    groups: dict[str, dict[str, list[Design]]] = {}
    for design in network.at(setting):
        machine = json.dumps(design.figures["accelerator_description"], sort_keys=True)
        bits = json.dumps([design.row.layers["weight_bits"], design.row.layers["act_bits"], design.row.layers["name"]])
        groups.setdefault(machine, {}).setdefault(bits, []).append(design)
    found: list[tuple[int, MachineStairs]] = []
    for by_bits in groups.values():
        designs = max(by_bits.values(), key=_variety)
        if _variety(designs) > 1:
            found.append((_variety(designs), MachineStairs(_array_name(designs[0]), _layers(designs), tuple(designs))))
    found.sort(key=lambda item: -item[0])
    by_name: dict[str, MachineStairs] = {}
    for _, stairs in found:  # the array decides, so one machine stands for all with the same array
        by_name.setdefault(stairs.name, stairs)
    return [by_name[name] for name in sorted(by_name)][:MACHINES]


def _variety(designs: Sequence[Design]) -> int:
    return len({json.dumps(design.row.layers["splits"]) for design in designs})


def _array_name(design: Design) -> str:
    figures = design.figures
    cores = figures["accelerator_description"]["cores"]
    return f"{figures['dataflow']} {figures['rows']}×{figures['cols']}{f', {cores} cores' if cores > 1 else ''}"


def _layers(designs: Sequence[Design]) -> tuple[LayerStairs, ...]:
    rows = [layer_rows(design) for design in designs]
    return tuple(_layer(designs, same) for same in zip(*rows, strict=True) if same[0]["macs"])


def _layer(designs: Sequence[Design], rows: Sequence[Mapping[str, Any]]) -> LayerStairs:
    first = rows[0]
    window = int(first["window"])
    plain = int(first["k"]) - int(first["splits"]) * window
    consistent = all(int(row["k"]) - int(row["splits"]) * window == plain for row in rows)
    return LayerStairs(
        name=str(first["name"]),
        channels=plain // window * first["groups"] if window else 0,
        window=window,
        outputs=int(first["n"]),
        values=plain * int(first["n"]) * int(first["groups"]) if window else 0,
        split=any(row["splits"] for row in rows),
        at=_form(designs[0], rows, (plain, window)) if consistent else None,
    )


def _form(
    design: Design, rows: Sequence[Mapping[str, Any]], depth: tuple[int, int]
) -> Callable[[int], tuple[int, int]] | None:
    """Return the closed form of a layer, in the stream tile that gives what is stored of every design."""
    stored = {(int(row["k"]), int(row["folds"]), int(row["array_cycles"])) for row in rows}
    first = rows[0]
    for tile in _tiles(design, first):
        if all(closed_form(design, first, k, tile) == (folds, cycles) for k, folds, cycles in stored):
            return functools.cache(_split_form(design, first, depth, tile))
    return None


def _split_form(
    design: Design, row: Mapping[str, Any], depth: tuple[int, int], tile: int
) -> Callable[[int], tuple[int, int]]:
    plain, window = depth
    return lambda splits: closed_form(design, row, plain + splits * window, tile)


def _tiles(design: Design, row: Mapping[str, Any]) -> list[int]:
    """Return stream tiles that make as many chunks as the stored folds show; 0 for one chunk."""
    whole, _ = closed_form(design, row, int(row["k"]))
    if not row["folds"] or row["folds"] % whole:
        return []
    chunks = row["folds"] // whole
    if chunks == 1:
        return [0]
    length = (row["n"] if row["kind"] != "conv" else row["m"]) * design.setting.batch
    if design.figures["dataflow"] == "is":
        length = row["n"]
    low, high = -(-length // chunks), (length - 1) // (chunks - 1)
    return list(range(low, high + 1))[:MOST_TILES]


# --- charts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkStairs:
    """Figures of the whole network, words about layers that the closed form leaves out, and free designs."""

    folds: Staircase
    cycles: Staircase
    notes: tuple[str, ...]


def network_stairs(network: Network, stairs: Sequence[MachineStairs]) -> NetworkStairs:
    """Return folds and array cycles of the network against the weights added."""
    notes = []
    charts = []
    for place, what in ((0, "folds"), (1, "array cycles")):
        found = [_network_stair(machine, place) for machine in stairs]
        charts.append(
            Staircase(
                f"{network.name}: {what} against expansion",
                Scale("weights added", lambda share: f"{significant(100 * share)} %"),
                Scale(f"{what}, relative to no expansion", lambda ratio: f"{ratio:.4g}"),
                tuple(found),
            )
        )
    for machine in stairs:
        left = [layer.name for layer in machine.layers if layer.at is None]
        if left:
            notes.append(
                f"{machine.name}: no curve, as the closed form for one core and equal chunks does not give the stored "
                f"figures of {', '.join(left[:3])}{f' and {len(left) - 3} more' if len(left) > 3 else ''}"
            )
        elif not _by_ratio(machine):
            notes.append(f"{machine.name}: no curve, as its designs are not split by one ratio for all layers")
    return NetworkStairs(charts[0], charts[1], tuple(notes))


def _network_stair(machine: MachineStairs, place: int) -> Stair:
    key = ("folds", "array_cycles")[place]
    unsplit = _unsplit(machine, place)
    marks: dict[tuple[float, float], Mark] = {}
    for design in machine.designs:
        x, y = float(design.figures["weight_expansion"]) - 1, design.figures[key] / unsplit
        title = f"{design.label}: {grouped(design.figures[key])} {key.replace('_', ' ')}"
        marks.setdefault((round(x, 9), y), Mark(x, y, title))
    points = _curve(machine, place, unsplit) if machine.exact and _by_ratio(machine) else []
    measured = tuple(marks[at] for at in sorted(marks))
    if not points:
        return Stair(machine.name, tuple(m.x for m in measured[:1]), tuple(m.y for m in measured[:1]), measured)
    return Stair(machine.name, tuple(x for x, _ in points), tuple(y for _, y in points), measured)


def _unsplit(machine: MachineStairs, place: int) -> float:
    """Return the cost without any split: by the closed form, or of the least split design."""
    if machine.exact:
        return sum(layer.at(0)[place] for layer in machine.layers if layer.at is not None)
    least = min(machine.designs, key=lambda design: design.figures["weight_expansion"])
    return float(least.figures[("folds", "array_cycles")[place]])


def _by_ratio(machine: MachineStairs) -> bool:
    """Return whether splits and weights of every design with a ratio are those that the rule gives."""
    asked = [d for d in machine.designs if isinstance(d.factors.get("ocs"), int | float)]
    return bool(asked) and all(_follows(machine, design) for design in asked)


def _follows(machine: MachineStairs, design: Design) -> bool:
    splits = _splits_at(machine, design.factors["ocs"])
    stored = float(design.figures["weight_expansion"]) - 1
    return splits == _splits(design) and math.isclose(_added(machine, splits), stored, abs_tol=1e-9)


def _added(machine: MachineStairs, splits: Sequence[int]) -> float:
    """Return the weights that splits add, over those of the network."""
    pairs = zip(splits, machine.layers, strict=True)
    return sum(count * layer.window * layer.outputs for count, layer in pairs) / sum(la.values for la in machine.layers)


def _splits(design: Design) -> list[int]:
    return [row["splits"] for row in layer_rows(design) if row["macs"]]


def _splits_at(machine: MachineStairs, ratio: float) -> list[int]:
    return [split_count(ratio, layer.channels) if layer.split else 0 for layer in machine.layers]


def _curve(machine: MachineStairs, place: int, unsplit: float) -> list[tuple[float, float]]:
    """Return (weights added, relative cost) at every ratio where a channel more is split somewhere."""
    asked = [float(d.factors["ocs"]) for d in machine.designs if isinstance(d.factors.get("ocs"), int | float)]
    end = Fraction(str(max(RATIO, *asked)))
    steps = {Fraction(0)} | {
        Fraction(count, layer.channels)
        for layer in machine.layers
        if layer.split
        for count in range(1, int(end * layer.channels) + 1)
    }
    found = []
    for ratio in sorted(steps):
        splits = [-(-ratio.numerator * la.channels // ratio.denominator) if la.split else 0 for la in machine.layers]
        cost = sum(la.at(count)[place] for count, la in zip(splits, machine.layers, strict=True) if la.at is not None)
        found.append((_added(machine, splits), cost / unsplit))
    return found


def layer_stairs(network: Network, stairs: Sequence[MachineStairs]) -> list[Staircase]:
    """Return array cycles of the heaviest kinds of layers against their channels added."""
    chosen: dict[tuple[int, int], str] = {}
    weight: dict[str, float] = {}
    for machine in stairs:
        for layer in machine.layers:
            if layer.at is not None and layer.split:
                weight[layer.name] = max(weight.get(layer.name, 0), layer.values)
                chosen.setdefault((layer.window, layer.channels), layer.name)
    names = sorted(chosen.values(), key=lambda name: -weight[name])
    windows = {name: window for (window, _), name in chosen.items()}
    first = list(dict.fromkeys(next(n for n in names if windows[n] == w) for w in dict.fromkeys(windows.values())))
    picked = [*first, *(name for name in names if name not in first)][:LAYERS]
    return [_layer_chart(network, name, stairs) for name in picked]


def _whole(count: float) -> str:
    return f"{count:.0f}" if count == round(count) else ""


def _layer_chart(network: Network, name: str, machines_: Sequence[MachineStairs]) -> Staircase:
    found = []
    about = ""
    for machine in machines_:
        layer = next((one for one in machine.layers if one.name == name), None)
        if layer is None or layer.at is None:
            continue
        about = f"{layer.channels} channels, {layer.window} product{'s' * (layer.window > 1)} each"
        most = max(2, round(CHANNELS * layer.channels))
        plain = layer.at(0)[1]
        x = tuple(float(count) for count in range(most + 1))
        y = tuple(layer.at(count)[1] / plain for count in range(most + 1))
        place = list(machine.designs[0].row.layers["name"]).index(name)
        counts = sorted({design.row.layers["splits"][place] for design in machine.designs})
        marks = tuple(
            Mark(count, layer.at(count)[1] / plain, f"{machine.name}, {count} channels: {layer.at(count)[0]} folds")
            for count in counts
            if count <= most
        )
        found.append(Stair(machine.name, x, y, marks))
    return Staircase(
        f"{network.name}, {name} ({about})",
        Scale("channels added", _whole),
        Scale("array cycles, relative", lambda ratio: f"{ratio:.4g}"),
        tuple(found),
    )
