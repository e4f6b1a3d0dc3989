"""Several runs side by side: one table, and the figures that a choice is made from."""

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from reports import figures
from reports.figures import Bar, Point
from reports.summary import SHARES, Record, cause_name, component_name, cycle_parts, metric_name, metric_text
from reports.units import area, duration, energy, energy_tick, grouped, percent, points, storage
from reports.view import DEVIATIONS, FULL, NARROW, WIDE, drawn


def comparison_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the rows of the comparison table, formatted; bars are relative within an accelerator."""
    rows = []
    for record in records:
        peers = [other for other in records if other["accelerator"] == record["accelerator"]]
        accuracy = record["accuracy"]
        most = max(other["energy_pj"]["total"] for other in peers)
        longest = max(other["cycles"] for other in peers)
        rows.append(
            {
                "accelerator": record["accelerator"],
                "recipe": record["recipe"],
                "accuracy": metric_text(accuracy["metric"], accuracy["integer"]),
                "error": _error_text(record),
                "difference": _difference_text(record),
                "cycles": grouped(record["cycles"]),
                "cycles_bar": Markup(figures.mini_bar(record["cycles"] / longest, "busy")),
                "seconds": duration(record["seconds"]),
                "energy": energy(record["energy_pj"]["total"]),
                "energy_bar": Markup(figures.mini_bar(record["energy_pj"]["total"] / most, "weight_sram")),
                "weights": storage(record["weight_bytes"]),
                "dram": storage(record["dram_bytes"]),
                "utilization": percent(record["utilization"]),
                "folds": grouped(record["folds"]),
                "bit_exact": record["bit_exact"],
                "bit_exact_images": record["bit_exact_images"],
                "overflow": grouped(record["overflowed_outputs"]),
            }
        )
    return rows


def _error_text(record: Record) -> str:
    accuracy = record["accuracy"]
    scale = 100 if accuracy["metric"] in SHARES else 1
    return f"± {scale * accuracy['standard_error']:.2f}"


def _difference_text(record: Record) -> str:
    accuracy = record["accuracy"]
    if accuracy["difference"] is None:
        return ""
    return points(accuracy["difference"]) if accuracy["metric"] in SHARES else f"{accuracy['difference']:+.4f}"


def accelerators_of(records: Sequence[Record]) -> list[str]:
    """Return the accelerators in the order of their first run."""
    return list(dict.fromkeys(record["accelerator"] for record in records))


def energy_scatters(records: Sequence[Record]) -> list[tuple[str, Markup]]:
    """Return accuracy over energy, one figure per accelerator, all on their own energy axis."""
    found = []
    for accelerator in accelerators_of(records):
        mine = [record for record in records if record["accelerator"] == accelerator]
        metric = mine[0]["accuracy"]["metric"]
        dots = [
            Point(
                record["recipe"],
                record["accuracy"]["integer"],
                record["accuracy"]["standard_error"],
                record["energy_pj"]["total"],
            )
            for record in mine
        ]
        found.append((accelerator, drawn(_scatter(accelerator, dots, metric), WIDE, NARROW)))
    return found


def _scatter(accelerator: str, dots: Sequence[Point], metric: str) -> Callable[[float], str]:
    def make(width: float) -> str:
        return figures.scatter(
            f"{metric_name(metric)} over energy on {accelerator}",
            dots,
            (width, 300.0 if width > NARROW else 270.0),
            (energy_tick, lambda v: f"{100 * v:.4g} %" if metric in SHARES else f"{v:.4g}"),
            ("energy per batch", metric_name(metric)),
            DEVIATIONS,
        )

    return make


def energy_bars(records: Sequence[Record]) -> Markup:
    """Return energy by component of every run."""
    bars = [_bar(record, record["energy_pj"]) for record in records]
    return drawn(
        lambda width: figures.stacked_bars("Energy of every run by component", bars, width, energy, component_name),
        FULL,
        WIDE,
        NARROW,
    )


def cycle_bars(records: Sequence[Record]) -> Markup:
    """Return cycles by cause of every run."""
    bars = [_bar(record, cycle_parts(record)) for record in records]
    return drawn(
        lambda width: figures.stacked_bars("Cycles of every run by cause", bars, width, grouped, cause_name),
        FULL,
        WIDE,
        NARROW,
    )


def area_bars(records: Sequence[Record]) -> Markup:
    """Return area by component of every accelerator."""
    firsts = {record["accelerator"]: record for record in reversed(records)}
    bars = [
        Bar(f"{name}, {firsts[name]['node_nm']:g} nm", _parts(firsts[name]["area_um2"]))
        for name in accelerators_of(records)
    ]
    return drawn(
        lambda width: figures.stacked_bars("Area of every accelerator by component", bars, width, area, component_name),
        FULL,
        WIDE,
        NARROW,
    )


def _bar(record: Record, parts: Any) -> Bar:
    return Bar(record["recipe"], _parts(parts), record["accelerator"])


def _parts(parts: Any) -> dict[str, float]:
    return {key: value for key, value in parts.items() if key != "total"}


def legend(records: Sequence[Record], key: str) -> list[tuple[str, str]]:
    """Return (colour key, words) of every part that occurs in any run."""
    if key == "cycles":
        return [
            (part, cause_name(part)) for part in cycle_parts(records[0]) if any(cycle_parts(r)[part] for r in records)
        ]
    parts = dict.fromkeys(part for r in records for part in r[key] if part != "total")
    return [(part, component_name(part)) for part in parts if any(r[key].get(part) for r in records)]
