"""What there is, with where it comes from: networks, accelerators, methods, technologies, recipes."""

import dataclasses
import textwrap
from collections.abc import Callable
from typing import Any

from accelsim.arith import REQUANT_RULES
from accelsim.config import load_accelerator, preset_names
from accelsim.technology import NODE_RANGES_NM, TECHNOLOGIES, describe, technology
from quant.clip import CLIPS, ClipRule
from quant.recipes import OPTIONS, RECIPES, describe_recipe
from quant.transforms import TRANSFORMS
from reports.terminal import format_table
from reports.units import capacity
from workloads import METRICS, WORKLOADS
from workloads.tinyml import TINY_TASKS
from workloads.zoo import zoo_names, zoo_workload

Row = dict[str, Any]

TEXT_WIDTH = 100


def list_networks() -> list[Row]:
    """Return one row per network: with weights of their own, quantized files with samples, torchvision's."""
    kinds = (
        ("trained", WORKLOADS.values()),
        ("quantized", [task.workload() for task in TINY_TASKS.values()]),
        ("torchvision", map(zoo_workload, zoo_names())),
    )
    return [
        {
            "name": w.name,
            "kind": kind,
            "description": w.description,
            "metric": w.metric,
            "higher_is_better": METRICS[w.metric].higher_is_better,
            "input_shape": list(w.input_shape),
            "needs_data": w.needs_data,
            "trained_on_first_use": w.needs_cache,
            "source": w.origin,
        }
        for kind, workloads in kinds
        for w in workloads
    ]


def list_accelerators() -> list[Row]:
    """Return one row per preset, the whole description included."""
    presets = [load_accelerator(name) for name in preset_names()]
    return [{"name": a.name, "source": a.description, "description": a.model_dump(mode="json")} for a in presets]


def list_technologies() -> list[Row]:
    """Return one row per technology with all its citations, at its largest node."""
    rows = []
    for name in TECHNOLOGIES:
        low, high = NODE_RANGES_NM[name]
        prices = technology(name, high)
        rows.append(
            {
                "name": name,
                "node_nm": [low, high],
                "mac_contents": prices.mac_contents,
                "operand_bits": list(prices.operand_bits),
                "psum_bits": list(prices.psum_bits),
                "sources": [row for row in describe(prices) if row["citation"]],
            }
        )
    return rows


def list_methods() -> list[Row]:
    """Return one row per transform, clip rule and requantization rule."""
    rows = [{"kind": "transform", "name": t.name, "what": t.what, "source": t.source} for t in TRANSFORMS.values()]
    rows += [
        {"kind": "clip rule", "name": name, "what": _clip_summary(rule()), "source": rule().source}
        for name, rule in CLIPS.items()
    ]
    rows += [{"kind": "option", "name": name, "what": what, "source": source} for name, what, source in OPTIONS]
    rows += [
        {"kind": "requantization rule", "name": rule.name, "what": rule.doc, "source": ""}
        for rule in REQUANT_RULES.values()
    ]
    return rows


def _clip_summary(rule: ClipRule) -> str:
    """Return what a rule does, and the options that make it another one than its class's plain rule."""
    plain = type(rule)()
    options = [
        f"{item.name} {value}"
        for item in dataclasses.fields(type(rule))  # type: ignore[arg-type]  # every rule is one
        if (value := getattr(rule, item.name)) != getattr(plain, item.name)
    ]
    return f"{_summary(rule)} ({', '.join(options).replace('_', ' ')})" if options else _summary(rule)


def list_recipes() -> list[Row]:
    """Return one row per named recipe."""
    return [{"name": name, "what": describe_recipe(name), "label": RECIPES[name].label()} for name in RECIPES]


def _summary(documented: object) -> str:
    return (type(documented).__doc__ or "").strip().splitlines()[0]


# --- on the terminal -------------------------------------------------------------------------------------------------


def format_listing(what: str, rows: list[Row]) -> str:
    """Return a listing for the terminal."""
    return _FORMATS[what](rows)


def _entries(rows: list[tuple[str, list[str]]]) -> str:
    """Return names with wrapped paragraphs below."""
    lines = []
    for head, paragraphs in rows:
        lines.append(head)
        for paragraph in paragraphs:
            lines += textwrap.wrap(paragraph, TEXT_WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _format_networks(rows: list[Row]) -> str:
    entries = []
    for row in rows:
        if row["kind"] == "torchvision":
            continue
        needs = "needs --data" if row["needs_data"] else "embedded"
        needs += ", trained on first use" * row["trained_on_first_use"]
        needs += ", quantized already" * (row["kind"] == "quantized")
        entries.append((f"{row['name']}  [{row['metric']}; {needs}]", [row["description"], row["source"]]))
    zoo = [row for row in rows if row["kind"] == "torchvision"]
    if zoo:
        names = ", ".join(row["name"] for row in zoo)
        head = f"{len(zoo)} networks of torchvision  [{zoo[0]['metric']}; need --data, an ImageNet folder]"
        entries.append((head, [names, zoo[0]["source"]]))
    else:
        entries.append(("networks of torchvision  [not installed]", ["install accelsim[vision] for them"]))
    return _entries(entries)


def _format_accelerators(rows: list[Row]) -> str:
    cells = []
    for row in rows:
        d = row["description"]
        array, sums, dram = d["array"], d["accumulator"], d["dram"]
        cells.append(
            (
                row["name"],
                f"{array['rows']}×{array['cols']} {array['dataflow']}",
                f"{d['pe']['type']} {d['pe']['weight_bits']}×{d['pe']['act_bits']}",
                f"{sums['psum_bits']} {sums['psum_overflow']}",
                f"{sums['bits']} {sums['overflow']}",
                "/".join(capacity(d[f"{b}_sram"]["bytes"]) for b in ("activation", "weight", "accumulator")),
                f"{dram['type']} {dram['bandwidth_gb_per_s']:g} GB/s",
                f"{d['clock_mhz']:g} MHz",
                f"{d['node_nm']:g} nm",
            )
        )
    headers = ("name", "array", "PE", "psum", "accumulator", "SRAM act/weight/acc", "DRAM", "clock", "node")
    table = format_table(headers, cells, left=(0, 1, 2, 3, 4, 5, 6))
    return table + "\n\n" + _entries([(row["name"], [row["source"]]) for row in rows])


def _format_technologies(rows: list[Row]) -> str:
    entries = []
    for row in rows:
        low, high = row["node_nm"]
        node = f"{low:g} nm" if low == high else f"{low:g}..{high:g} nm"
        head = f"{row['name']}  [{node}; operands {row['operand_bits'][0]}..{row['operand_bits'][1]} bits]"
        sources = [f"[{s['status']}] {s['citation']}: {s['what']}" for s in row["sources"]]
        entries.append((head, [f"a MAC holds: {row['mac_contents']}", *sources]))
    legend = "V read in the primary source, S quoted in a secondary one, R recalled, D derived here, A assumption"
    return _entries(entries) + "\n\n" + legend


def _format_methods(rows: list[Row]) -> str:
    entries: list[tuple[str, list[str]]] = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        entries.append((f"{kind}s", []))
        for row in rows:
            if row["kind"] == kind:
                texts = [row["what"], f"source: {row['source']}" if row["source"] else ""]
                entries.append((f"  {row['name']}", [text for text in texts if text]))
    return _entries(entries)


def _format_recipes(rows: list[Row]) -> str:
    width = max(len(row["name"]) for row in rows)
    return "\n".join(f"{row['name'].ljust(width)}  {row['what']}" for row in rows)


LISTINGS: dict[str, Callable[[], list[Row]]] = {
    "networks": list_networks,
    "accelerators": list_accelerators,
    "methods": list_methods,
    "technologies": list_technologies,
    "recipes": list_recipes,
}

_FORMATS: dict[str, Callable[[list[Row]], str]] = {
    "networks": _format_networks,
    "accelerators": _format_accelerators,
    "methods": _format_methods,
    "technologies": _format_technologies,
    "recipes": _format_recipes,
}
