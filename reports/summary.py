"""What a run or a price looks like on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.terminal import format_pairs, format_table
from reports.units import area, duration, energy, grouped, percent, points, short, significant, storage

Record = Mapping[str, Any]

METRIC_NAMES = {
    "top1": "top-1 accuracy",
    "agreement": "agreement with float",
    "bits_per_char": "bits per character",
    "perplexity": "perplexity",
    "auc": "area under the ROC curve",
}

SHARES = ("top1", "agreement")
"""Metrics that are shares, shown in percent."""

COMPONENT_NAMES = {
    "pe": "PEs",
    "register": "edge registers",
    "activation_sram": "activation SRAM",
    "weight_sram": "weight SRAM",
    "accumulator_sram": "accumulator SRAM",
    "requantizer": "requantizer",
    "vector": "vector unit",
    "interconnect": "interconnect",
    "dram": "DRAM",
    "leakage": "leakage",
}

CAUSE_NAMES = {
    "busy": "operands stream",
    "fill_drain": "fill and drain",
    "weight_load": "held operand loads",
    "sram": "SRAM too narrow",
    "dram": "DRAM",
    "vector": "vector unit, requantizer",
    "duplicate": "channel copies",
}


def component_name(key: str) -> str:
    """Return a component's name in words."""
    return COMPONENT_NAMES.get(key, key.replace("_", " "))


def cause_name(key: str) -> str:
    """Return a stall cause in words."""
    return CAUSE_NAMES.get(key, key.replace("_", " "))


def metric_name(key: str) -> str:
    """Return a metric's name in words."""
    return METRIC_NAMES.get(key, key)


def metric_text(metric: str, value: float) -> str:
    """Return a metric's figure: percent for shares."""
    return percent(value, 2) if metric in SHARES else significant(value, 4)


def difference_text(metric: str, difference: float, error: float) -> str:
    """Return a difference of two figures of a metric with its standard error."""
    if metric in SHARES:
        return f"{points(difference)} ± {100 * error:.2f} points"
    return f"{difference:+.4f} ± {error:.4f}"


def cycle_parts(record: Record) -> dict[str, float]:
    """Return all cycles by cause, the streaming ones first."""
    return {"busy": record["busy_cycles"]} | dict(record["stall_cycles"])


def layer_bits(layer: Record) -> str:
    """Return a layer's operand widths, or nothing for one without a product."""
    return f"{layer['weight_bits']}×{layer['act_bits']}" if layer["m"] else ""


def run_summary(record: Record) -> str:
    """Return the terminal's view of a run."""
    accuracy = record["accuracy"]
    metric = accuracy["metric"]
    head = [
        ("network", f"{record['network']}, {record['recipe']}"),
        (metric_name(metric), f"{accuracy_text(accuracy)}, {images_text(record)}"),
        ("bit-exact", bit_exact_text(record)),
        ("overflowed outputs", grouped(record["overflowed_outputs"])),
    ]
    return "\n\n".join([format_pairs([*head, *_machine_pairs(record)]), layer_table(record, True), _closing(record)])


def images_text(record: Record) -> str:
    """Return how many samples were evaluated, and how many were calibrated on."""
    evaluated = f"{grouped(record['images'])} images"
    calibrated = record["calibration_images"]
    return f"{evaluated}, calibrated on {grouped(calibrated)} others" if calibrated else evaluated


def accuracy_text(accuracy: Record) -> str:
    """Return the integer figure, beside the float one where there is one."""
    metric = accuracy["metric"]
    integer = f"{metric_text(metric, accuracy['integer'])} in integers"
    if accuracy["float"] is None:
        return integer
    against = difference_text(metric, accuracy["difference"], accuracy["difference_standard_error"])
    return f"{integer}, {metric_text(metric, accuracy['float'])} in float, {against}"


def bit_exact_text(record: Record) -> str:
    """Return the proof in words."""
    if record["bit_exact"] is None:
        return "not checked"
    if record["bit_exact"]:
        return (
            f"yes: {record['bit_exact_tensors']} tensors of {record['bit_exact_images']} images equal to the torch "
            "oracle's"
        )
    return f"NO: {record['bit_exact_difference']}"


def cost_summary(record: Record) -> str:
    """Return the terminal's view of a price."""
    head = [("network", f"{record['network']}, {record['recipe']}")]
    elapsed = f"evaluated in {duration(record['elapsed_s'])}"
    pairs = [*head, *_machine_pairs(record)]
    return "\n\n".join([format_pairs(pairs), layer_table(record, False), _closing(record), elapsed])


def _machine_pairs(record: Record) -> list[tuple[str, str]]:
    seconds = record["seconds"]
    return [
        ("accelerator", f"{record['accelerator']}, timing {record['timing_mode']}, batch {record['batch']}"),
        (
            "prices",
            f"{record['technology']}, {record['node_nm']:g} nm",
        ),
        (
            "cycles",
            f"{grouped(record['cycles'])} ({duration(seconds)}): " + _parts(cycle_parts(record), grouped, cause_name),
        ),
        ("utilization", f"{percent(record['utilization'])} of the array's cycles, {grouped(record['folds'])} folds"),
        (
            "energy",
            f"{energy(record['energy_pj']['total'])}: " + _parts(record["energy_pj"], energy, component_name),
        ),
        *_toggle_pair(record),
        ("area", f"{area(record['area_um2']['total'])}: " + _parts(record["area_um2"], area, component_name)),
        ("weights", storage(record["weight_bytes"])),
        ("DRAM traffic", f"{storage(record['dram_bytes'])}: " + _parts(record["dram_traffic"], storage, str)),
    ]


def _toggle_pair(record: Record) -> list[tuple[str, str]]:
    """Return the PEs' energy by the bits that flipped, where it was asked for."""
    if "pe_toggle_energy_pj" not in record:
        return []
    found = record["pe_toggle_energy_pj"]
    at_price = energy(record["energy_pj"]["pe"] / record["batch"])
    text = f"{energy(found['total'])} an input on {found['samples']} of them, {at_price} by the price per MAC"
    return [("PEs by toggles", text)]


def _parts(parts: Mapping[str, float], text: Any, name: Any) -> str:
    """Return the parts of a total, largest first, those that are nothing left out."""
    listed = sorted((item for item in parts.items() if item[0] != "total" and item[1]), key=lambda item: -item[1])
    return ", ".join(f"{name(key)} {text(value)}" for key, value in listed) or "none"


def layer_table(record: Record, with_overflow: bool) -> str:
    """Return the table of layers."""
    headers = ["layer", "kind", "m", "k", "n", "groups", "bits", "splits", "folds", "cycles", "util", "energy"]
    rows = [_layer_cells(layer) for layer in record["layers"]]
    if with_overflow:
        headers.append("overflow")
        for row, layer in zip(rows, record["layers"], strict=True):
            row.append(overflow_text(layer))
    return format_table(headers, rows, left=(0, 1))


def _layer_cells(layer: Record) -> list[str]:
    product = bool(layer["m"])
    return [
        layer["name"],
        layer["kind"],
        *(str(layer[dim]) if product else "" for dim in ("m", "k", "n", "groups")),
        layer_bits(layer),
        str(layer["splits"] or ""),
        str(layer["folds"] or ""),
        grouped(layer["cycles"]),
        percent(layer["utilization"]) if product else "",
        energy(layer["energy_pj"]["total"]),
    ]


def overflow_text(layer: Record) -> str:
    """Return a layer's overflow: excluded by its bound, none seen, or how many additions and outputs."""
    if layer["overflow_excluded"] is None:
        return ""
    if layer["overflow_excluded"]:
        return "excluded"
    if not layer["overflow_events"]:
        return "none"
    return f"{short(layer['overflow_events'])} additions, {short(layer['overflowed_outputs'])} outputs"


def _closing(record: Record) -> str:
    lines: Sequence[str] = [f"note: {note}" for note in record["notes"]] + [f"figures hold within: {record['band']}"]
    return "\n".join(lines)
