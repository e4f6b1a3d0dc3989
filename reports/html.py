"""Reports as one self-contained HTML file: inline style, inline SVG, no script, nothing fetched from anywhere.

The page carries a content security policy that forbids everything else: a browser refuses external references.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from reports import compare, view
from reports.summary import Record, metric_name
from reports.units import grouped


def render_report(records: Sequence[Record], title: str | None = None) -> str:
    """Return a page about one run, or about several side by side.

    Parameters
    ----------
    records
        As ``accelsim run --json`` or ``accelsim cost --json`` writes them.
    title
        Heading of the page; made from the runs where ``None``.

    Raises
    ------
    ValueError
        If there is no record.
    """
    if not records:
        raise ValueError("render_report needs at least one run (got none)")
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context: dict[str, Any] = {
        "style": environment.loader.get_source(environment, "style.css")[0] if environment.loader else "",
        "title": title or _title(records),
        "subtitle": _subtitle(records),
        "runs": [_run(record) for record in records],
        "comparison": _comparison(records) if len(records) > 1 else None,
        "sources": view.sources_of(records),
        "status": view.STATUS,
        "band": records[0]["band"],
        "deviations": view.DEVIATIONS,
    }
    return environment.get_template("page.html.j2").render(context)


def _title(records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(record["network"] for record in records))
    return ", ".join(names)


def _subtitle(records: Sequence[Record]) -> str:
    first = records[0]
    if len(records) == 1:
        return f"{first['recipe']} on {first['accelerator']}"
    recipes, machines = ({record[key] for record in records} for key in ("recipe", "accelerator"))
    return f"{len(recipes)} recipes on {len(machines)} accelerators"


def _run(record: Record) -> Mapping[str, Any]:
    executed = "accuracy" in record
    return {
        "name": f"{record['recipe']} on {record['accelerator']}",
        "tiles": view.tiles(record),
        "breakdowns": view.breakdowns(record),
        "accuracy": view.accuracy_figure([record], [record["recipe"]]) if executed else None,
        "accuracy_sentence": view.accuracy_sentence(record) if executed else "",
        "metric": metric_name(record["accuracy"]["metric"]) if executed else "",
        "bit_exact": record.get("bit_exact"),
        "bit_exact_images": record.get("bit_exact_images", 0),
        "bit_exact_tensors": record.get("bit_exact_tensors", 0),
        "bit_exact_difference": record.get("bit_exact_difference", ""),
        "executed": executed,
        "layers": view.layer_rows(record),
        "layers_figure": view.layers_figure(record),
        "causes": compare.legend([record], "cycles"),
        "overflow": view.overflow_maps(record),
        "advice": view.advice_rows(record),
        "machine": view.machine_rows(record),
        "setting": view.setting_rows(record),
        "notes": record["notes"],
    }


def _comparison(records: Sequence[Record]) -> Mapping[str, Any] | None:
    if any("accuracy" not in record for record in records):
        return None
    first = records[0]
    recipes = list({record["recipe"]: record for record in reversed(records)}.values())[::-1]
    mine = [record for record in records if record["accelerator"] == first["accelerator"]]
    differing = [
        recipe["recipe"]
        for recipe in recipes
        if len({r["accuracy"]["integer"] for r in records if r["recipe"] == recipe["recipe"]}) > 1
    ]
    return {
        "rows": compare.comparison_rows(records),
        "accuracy": view.accuracy_figure(mine, [record["recipe"] for record in mine]),
        "accuracy_on": first["accelerator"],
        "differing": differing,
        "metric": metric_name(first["accuracy"]["metric"]),
        "images": grouped(first["images"]),
        "scatters": compare.energy_scatters(records),
        "energy": compare.energy_bars(records),
        "energy_legend": compare.legend(records, "energy_pj"),
        "cycles": compare.cycle_bars(records),
        "cycles_legend": compare.legend(records, "cycles"),
        "area": compare.area_bars(records),
        "area_legend": compare.legend(records, "area_um2"),
    }
