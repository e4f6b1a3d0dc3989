"""From the records of runs to what a page shows: words, figures, rows. No HTML but the figures' SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from reports import figures
from reports.figures import Bar, Point
from reports.summary import (
    SHARES,
    Record,
    bit_exact_text,
    cause_name,
    component_name,
    cycle_parts,
    difference_text,
    layer_bits,
    metric_name,
    metric_text,
    overflow_text,
)
from reports.units import area, capacity, duration, energy, grouped, percent, short, storage

FULL, WIDE, NARROW = 1030, 484, 340
"""Widths that figures are drawn at: a whole page, half a page or a tablet, a phone. The style sheet shows one."""

DEVIATIONS = 1.96

TIMING = {
    "isolated": "a fold starts when the last result of the one before has left the array",
    "overlapped": "the next fold's operand is loaded while the array computes (double-buffered PEs)",
    "scalesim": "SCALE-Sim's printed count, a formula for comparison: no drain, no memory",
}

STATUS = {
    "V": "read in the primary source",
    "S": "quoted in a secondary source",
    "R": "recalled, not re-read",
    "D": "derived or computed here",
    "A": "assumption",
}


@dataclass(frozen=True)
class Tile:
    """A headline figure: what, how much, and a line below."""

    name: str
    value: str
    detail: str
    state: str = ""


@dataclass(frozen=True)
class Share:
    """A row of a legend: colour key, words, value, share of the total."""

    key: str
    name: str
    value: str
    share: str


@dataclass(frozen=True)
class Breakdown:
    """A total by parts: a figure, and the legend that is also its table."""

    title: str
    total: str
    figure: Markup
    shares: tuple[Share, ...]
    note: str = ""


def drawn(make: Callable[[float], str], *widths: float) -> Markup:
    """Draw a figure at several widths; the style sheet shows the one that fits."""
    classes = {FULL: "full", WIDE: "wide", NARROW: "narrow"}
    shown = " ".join(f"has-{classes[int(width)]}" for width in widths)
    parts = (f'<div class="at-{classes[int(width)]}">{make(width)}</div>' for width in widths)
    return Markup(f'<div class="drawn {shown}">{"".join(parts)}</div>')


def breakdown(
    title: str,
    parts: Mapping[str, float],
    text: Callable[[float], str],
    name: Callable[[str], str],
    note: str = "",
) -> Breakdown:
    """Return a total by parts; parts that are zero are left out."""
    listed = [(key, value) for key, value in parts.items() if key != "total" and value]
    kept = dict(sorted(listed, key=lambda item: -item[1]))
    total = sum(kept.values())
    bar = Bar("", kept)

    def figure(width: float) -> str:
        return figures.stacked_bars(title, [bar], width, text, name)

    shares = tuple(Share(key, name(key), text(value), percent(value / total)) for key, value in kept.items())
    return Breakdown(title, text(total), drawn(figure, WIDE, NARROW), shares, note)


def breakdowns(record: Record) -> list[Breakdown]:
    """Return where cycles, energy, area and traffic go."""
    accelerator = record["accelerator_description"]
    found = [
        breakdown(
            "Cycles by cause",
            cycle_parts(record),
            grouped,
            cause_name,
            f"{duration(record['seconds'])} at {accelerator['clock_mhz']:g} MHz; the array alone takes "
            f"{grouped(record['array_cycles'])} cycles.",
        ),
        breakdown(
            "Energy by component",
            record["energy_pj"],
            energy,
            component_name,
            f"For one batch of {record['batch']}; known within {band_text(record['energy_pj']['total'], energy)}.",
        ),
        breakdown(
            "Area by component",
            record["area_um2"],
            area,
            component_name,
            f"At {record['node_nm']:g} nm, DRAM apart; known within {band_text(record['area_um2']['total'], area)}.",
        ),
    ]
    traffic = breakdown(
        "DRAM traffic",
        record["dram_traffic"],
        storage,
        lambda key: {"ifmap": "layer inputs", "ofmap": "layer outputs", "psum": "partial sums"}.get(key, key),
        "Weights are read once per batch; maps stay on chip where they fit.",
    )
    return [*found, traffic] if traffic.shares else found


def band_text(figure: float, text: Callable[[float], str]) -> str:
    """Return the band of an absolute figure: half to twice."""
    return f"{text(figure / 2)} to {text(2 * figure)}"


def _samples_text(record: Record) -> str:
    accuracy = record["accuracy"]
    if accuracy["float"] is None:
        return f"on {grouped(record['images'])} samples"
    real = metric_text(accuracy["metric"], accuracy["float"])
    return f"float {real} on the same {grouped(record['images'])} samples"


def tiles(record: Record) -> list[Tile]:
    """Return the headline of a run."""
    found = []
    if "accuracy" in record:
        accuracy = record["accuracy"]
        metric = accuracy["metric"]
        found = [
            Tile(
                metric_name(metric),
                metric_text(metric, accuracy["integer"]),
                _samples_text(record),
            ),
            Tile(
                "Bit-exact",
                {True: "yes", False: "no", None: "not checked"}[record["bit_exact"]],
                bit_exact_text(record).removeprefix("yes: "),
                {True: "good", False: "bad", None: ""}[record["bit_exact"]],
            ),
        ]
    clock = record["accelerator_description"]["clock_mhz"]
    found += [
        Tile("Cycles", grouped(record["cycles"]), f"{duration(record['seconds'])} at {clock:g} MHz"),
        Tile("Energy", energy(record["energy_pj"]["total"]), f"per batch of {record['batch']}, ×/÷ 2"),
        Tile("Area", area(record["area_um2"]["total"]), f"{record['node_nm']:g} nm, ×/÷ 2"),
        Tile("Utilization", percent(record["utilization"]), f"{grouped(record['folds'])} folds"),
        Tile("Weights", storage(record["weight_bytes"]), f"{storage(record['dram_bytes'])} of DRAM traffic"),
    ]
    if "overflowed_outputs" in record:
        count = record["overflowed_outputs"]
        found.append(Tile("Overflowed outputs", grouped(count), "sums that left their registers", "bad" * bool(count)))
    return found


def accuracy_figure(records: Sequence[Record], labels: Sequence[str]) -> Markup:
    """Return the float network and one or several integer ones with their intervals."""
    first = records[0]["accuracy"]
    metric = first["metric"]
    points = []
    if first["float"] is not None:
        points.append(Point("float", first["float"], first["float_standard_error"], key="float"))
    points += [
        Point(label, r["accuracy"]["integer"], r["accuracy"]["standard_error"])
        for r, label in zip(records, labels, strict=True)
    ]

    def figure(width: float) -> str:
        title = f"{metric_name(metric)}, float and integer"
        limits = (0.0, 1.0) if metric in SHARES else (-math.inf, math.inf)
        return figures.intervals(title, points, width, lambda v: _axis_text(metric, v), DEVIATIONS, limits)

    return drawn(figure, WIDE, NARROW)


def _axis_text(metric: str, value: float) -> str:
    return f"{100 * value:.4g} %" if metric in SHARES else f"{value:.4g}"


def accuracy_sentence(record: Record) -> str:
    """Return what the figures say about integer against float."""
    a = record["accuracy"]
    if a["float"] is None:
        return "The network came as integers; there is no float network to compare with."
    difference = difference_text(a["metric"], a["difference"], a["difference_standard_error"])
    reach = DEVIATIONS * a["difference_standard_error"]
    verdict = "within noise" if abs(a["difference"]) <= reach else "beyond noise"
    return f"Integer minus float, paired on the same samples: {difference} ({verdict})."


def layers_figure(record: Record) -> Markup:
    """Return every layer's cycles by cause."""
    bars = [Bar(layer["name"], cycle_parts(layer)) for layer in record["layers"] if layer["cycles"]]

    def figure(width: float) -> str:
        return figures.stacked_bars("Cycles of every layer by cause", bars, width, grouped, cause_name)

    return drawn(figure, FULL, WIDE, NARROW)


def layer_rows(record: Record) -> list[dict[str, Any]]:
    """Return the rows of the layer table, formatted."""
    longest = max((layer["cycles"] for layer in record["layers"]), default=1) or 1
    most = max((layer["energy_pj"]["total"] for layer in record["layers"]), default=1.0) or 1.0
    return [_layer_row(layer, longest, most) for layer in record["layers"]]


def _layer_row(layer: Record, longest: float, most: float) -> dict[str, Any]:
    product = bool(layer["m"])
    total = layer["energy_pj"]["total"]
    row: dict[str, Any] = {
        "name": layer["name"],
        "kind": layer["kind"],
        "product": product,
        "m": grouped(layer["m"]),
        "k": grouped(layer["k"]),
        "n": grouped(layer["n"]),
        "groups": layer["groups"],
        "bits": layer_bits(layer),
        "splits": layer["splits"] or "",
        "folds": grouped(layer["folds"]) if product else "",
        "cycles": grouped(layer["cycles"]),
        "cycles_bar": Markup(figures.mini_bar(layer["cycles"] / longest, "busy")),
        "utilization": percent(layer["utilization"]) if product else "",
        "utilization_bar": Markup(figures.mini_bar(layer["utilization"], "vector")) if product else "",
        "energy": energy(total),
        "energy_bar": Markup(figures.mini_bar(total / most, "weight_sram")),
        "weights": storage(layer["weight_bytes"]) if layer["weight_bytes"] else "",
        "overflow": "",
        "overflowed": False,
    }
    if "overflow_excluded" in layer:
        row |= {"overflow": overflow_text(layer), "overflowed": bool(layer["overflow_events"])}
    return row


def overflow_maps(record: Record) -> list[dict[str, Any]]:
    """Return one strip of channels per layer whose sums left their registers."""
    maps = []
    for layer in record["layers"]:
        channels = {int(c): count for c, count in layer.get("overflow_channels", {}).items()}
        if channels:
            length = layer["n"] * layer["groups"]
            title = f"{layer['name']}: overflow by output channel"
            maps.append(
                {
                    "name": layer["name"],
                    "events": short(layer["overflow_events"]),
                    "outputs": short(layer["overflowed_outputs"]),
                    "channels": f"{len(channels)} of {length}",
                    "figure": drawn(_strip(title, channels, length), WIDE, NARROW),
                }
            )
    return maps


def advice_rows(record: Record) -> list[dict[str, Any]]:
    """Return the narrowest safe register widths of every layer, by proof and by what samples reached."""
    rows = []
    for layer in record["layers"]:
        found = layer.get("accumulator_advice")
        if found:
            widths = {key: "" if value is None else value for key, value in found.items()}
            rows.append({"name": layer["name"], **widths, "bound": grouped(found["bound"])})
    return rows


def _strip(title: str, channels: Mapping[int, int], length: int) -> Callable[[float], str]:
    return lambda width: figures.strip(title, channels, length, width)


def machine_rows(record: Record) -> list[tuple[str, str]]:
    """Return the accelerator's description as it was simulated."""
    d = record["accelerator_description"]
    array, pe, sums, dram = d["array"], d["pe"], d["accumulator"], d["dram"]
    buffers = ", ".join(
        f"{name} {capacity(d[f'{name}_sram']['bytes'])} ({d[f'{name}_sram']['word_bits']} bits wide)"
        for name in ("activation", "weight", "accumulator")
    )
    rows = [
        ("Array", f"{array['rows']} × {array['cols']}, {array['dataflow']}, "
                  f"{'double' if array['double_buffered'] else 'single'}-buffered"),
        ("PE", f"{pe['type']}, {pe['weight_bits']} × {pe['act_bits']} bits"),
        ("Partial sums", f"{sums['psum_bits']} bits, {sums['psum_overflow']}"),
        ("Accumulators", f"{sums['bits']} bits, {sums['overflow']}"),
        ("Buffers", buffers),
        ("DRAM", f"{dram['type']}, {dram['bandwidth_gb_per_s']:g} GB/s × {dram['page_efficiency']:g}, "
                 f"{dram['latency_ns']:g} ns"),
        ("Lanes", f"{d['vector_lanes']} vector, {d['requantizer_lanes']} requantizer"),
        ("Storage", f"{d['storage']}, duplicated channels {d['duplication']}"),
        ("Clock, cores", f"{d['clock_mhz']:g} MHz, {d['cores']}"),
    ]  # fmt: skip
    return [("Description", d["description"]), *rows] if d["description"] else rows


def setting_rows(record: Record) -> list[tuple[str, str]]:
    """Return what identifies the run."""
    rows = [
        ("Network", record["network"]),
        ("Recipe", record["recipe"]),
        ("Timing mode", f"{record['timing_mode']}: {TIMING.get(record['timing_mode'], '')}"),
        ("Prices", f"{record['technology']} at {record['node_nm']:g} nm"),
    ]
    if "images" in record:
        rows += [
            ("Samples", f"{grouped(record['images'])} evaluated, {grouped(record['calibration_images'])} others "
                        f"calibrated on, seed {record['seed']}"),
            ("Engine", record["engine"]),
            ("Weights and data", record["origin"]),
            ("Program digest", record["program_digest"]),
        ]  # fmt: skip
    return rows


def sources_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return every price's source once, by technology and node."""
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for record in records:
        key = (record["technology"], record["node_nm"])
        groups.setdefault(key, {"name": f"{key[0]}, {key[1]:g} nm", "rows": record["sources"]})
    merged: list[dict[str, Any]] = []
    for group in groups.values():
        same = next((m for m in merged if m["rows"] == group["rows"]), None)
        if same:
            same["name"] += f"; {group['name']}"
        else:
            merged.append(dict(group))
    return merged
