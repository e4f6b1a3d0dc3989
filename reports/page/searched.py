"""What a page says of a search: what was chosen among, how the walk converged, and the front that it found.

All of it is worked out from the record that the search keeps in its store, and the points of that store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.charts import Lines, Mark, Scale, Series
from reports.page.decide import COSTS
from reports.page.designs import Design, Loaded
from reports.search.front import hypervolume, non_dominated
from reports.search.objectives import OBJECTIVES, Budget
from reports.search.record import design_text
from reports.summary import difference_text, metric_name, metric_text
from reports.units import grouped, percent, significant

ROWS = 80
"""Designs of a front in the table."""

CHECKS = 40
"""Volumes that are computed along a walk."""

MARGIN = 0.05
"""Share of an objective's span that the reference point lies beyond the worst design."""

_COST_OF = {"energy_delay": "edp", "weight_bytes": "weights"}


@dataclass(frozen=True, eq=False)
class Searched:
    """A search of a page.

    Parameters
    ----------
    name, tiles, facts
        Its name, figures in short, and what was searched.
    charts
        By file name: convergence, and the least cost within the budget.
    columns, rows, left_out
        Of the front's table, and designs that it leaves out.
    notes
        Remarks below.
    """

    name: str
    tiles: list[dict[str, str]]
    facts: list[tuple[str, str]]
    charts: dict[str, Lines]
    columns: list[str]
    rows: list[list[str]]
    left_out: int
    notes: list[str]


def searches(loaded: Loaded) -> list[Searched]:
    """Return the searches of stores whose designs the stores still have."""
    by_digest = {design.row.digest: design for network in loaded.networks for design in network.designs}
    return [_searched(record, by_digest) for record in loaded.searches]


def _searched(record: Mapping[str, Any], designs: Mapping[str, Design]) -> Searched:
    walk = [designs.get(digest) for digest in record["trials"]]
    charts = {"convergence": _convergence(record, walk), "budget": _least(record, walk)}
    front = record["front"]
    return Searched(
        name=record["name"],
        tiles=_tiles(record),
        facts=_facts(record),
        charts={name: chart for name, chart in charts.items() if chart is not None},
        columns=_columns(record),
        rows=[_row(record, entry, designs.get(entry["digest"])) for entry in front[:ROWS]],
        left_out=max(0, len(front) - ROWS),
        notes=[record["start_remark"]] if record["start_remark"] else [],
    )


# --- words -----------------------------------------------------------------------------------------------------------


def _tiles(record: Mapping[str, Any]) -> list[dict[str, str]]:
    least = record["budget"]["minimize"]
    best = record["best"]["measured"]
    undecided = sum(entry["undecided_against"] is not None for entry in record["front"])
    return [
        {"name": "Designs judged", "value": grouped(len(record["trials"])),
            "detail": f"of {grouped(record['designs'])}; {grouped(record['refused'])} cannot be built"},
        {"name": "On the front", "value": grouped(len(record["front"])),
            "detail": f"by {', '.join(record['objectives'])}; {undecided} undecided against a cheaper one"},
        {"name": f"Least {least.replace('_', '-')}", "value": "none" if best is None else _loss(record, best, least),
            "detail": "no design is within the budget" if best is None
            else f"{best['budget']} the budget: {design_text(best['design'])}"},
        {"name": "Its accuracy", "value": "–" if best is None else _metric(record, best["accuracy"]),
            "detail": "" if best is None or record["float"] is None else f"float {_metric(record, record['float'])}"},
    ]  # fmt: skip


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings = record["settings"]
    limits = [f"{name} {value:g}" for name, value in record["budget"].items() if name != "minimize"]
    start = settings.get("start") or {}
    return [
        ("Network", str(record["network"])),
        *((f"Choices of {name}", ", ".join(map(_choice, choices))) for name, choices in record["axes"].items()),
        ("Objectives", "; ".join(f"{name}: {what}" for name, what in record["objectives"].items())),
        ("Budget", f"{', '.join(limits) or 'no limits'}; least {record['budget']['minimize']}"),
        ("Walk", f"{settings['sampler']}, population {settings['population']}, seed {settings['seed']}, at most "
            f"{grouped(settings['trials'])} designs"
            + (f", begun with {start['designs']} along the greedy path" if start.get("designs") else "")),
    ]  # fmt: skip


def _choice(value: Any) -> str:
    return "–" if value is None else str(value)


def _columns(record: Mapping[str, Any]) -> list[str]:
    costs = [_cost_name(name) for name in record["objectives"] if name != "accuracy"]
    return ["Design", metric_name(record["metric"] or "metric"), "against float", *costs, "budget", "undecided against"]


def _row(record: Mapping[str, Any], entry: Mapping[str, Any], design: Design | None) -> list[str]:
    higher = design is None or design.figures.get("higher_is_better", True)
    difference = (-entry["accuracy_drop"] if higher else entry["accuracy_drop"]) + 0.0  # no minus zero
    against = difference_text(record["metric"] or "", difference, entry["accuracy_drop_standard_error"])
    costs = [_loss(record, entry, name) for name in record["objectives"] if name != "accuracy"]
    limited = len(record["budget"]) > 1
    return [
        design_text(entry["design"]),
        _metric(record, entry["accuracy"]),
        against,
        *costs,
        entry["budget"] if limited else "–",
        (entry["undecided_against"] or "–")[:8],
    ]


def _metric(record: Mapping[str, Any], value: float | None) -> str:
    return "–" if value is None else metric_text(record["metric"] or "", value)


def _cost_name(name: str) -> str:
    return COSTS[_COST_OF.get(name, name)].name


def _loss(record: Mapping[str, Any], entry: Mapping[str, Any], name: str) -> str:
    if name == "accuracy":
        return difference_text(record["metric"] or "", entry["accuracy_drop"], entry["accuracy_drop_standard_error"])
    if name not in entry["losses"]:
        return "–"
    return COSTS[_COST_OF.get(name, name)].text(entry["losses"][name])


# --- convergence -----------------------------------------------------------------------------------------------------


def volumes(losses: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return (designs judged, share of the volume that they dominate) wherever a design joined the front.

    Of the box between the best of every objective and the worst of all designs with a margin of `MARGIN` of the span;
    objectives that do not vary are left out. Where the front changes more than `CHECKS` times some are left out.

    Parameters
    ----------
    losses
        ``[designs, objectives]`` in the order of the walk, less is better; rows of NaN cannot be built.
    """
    built = losses[~np.isnan(losses).any(axis=1)]
    if not len(built):
        return []
    span = built.max(axis=0) - built.min(axis=0)
    varying = span > 0
    if not varying.any():
        return [(1, 1.0)]
    scaled = (losses[:, varying] - built.min(axis=0)[varying]) / span[varying]
    front = np.empty((0, int(varying.sum())))
    steps: list[tuple[int, NDArray[np.float64]]] = []
    for place, row in enumerate(scaled):
        if np.isnan(row).any() or np.any(np.all(front <= row, axis=1)):
            continue
        front = np.vstack([front, row])
        front = front[non_dominated(front)]
        steps.append((place + 1, front))
    kept = {round(i * (len(steps) - 1) / max(1, CHECKS - 1)) for i in range(CHECKS)}
    edge = np.full(front.shape[1], 1 + MARGIN)
    whole = float(np.prod(edge))
    return [(count, hypervolume(at, edge) / whole) for i, (count, at) in enumerate(steps) if i in kept]


def _convergence(record: Mapping[str, Any], walk: Sequence[Design | None]) -> Lines | None:
    names = list(record["objectives"])
    nothing = [float("nan")] * len(names)
    losses = np.array([nothing if d is None else [OBJECTIVES[n].loss(d.figures) for n in names] for d in walk])
    found = volumes(losses.reshape(-1, len(names)))
    if len(found) < 2:
        return None
    marks = [Mark(count, share, f"{count} designs: {percent(share)}") for count, share in found]
    ends = (*marks, Mark(len(walk), found[-1][1]))
    return Lines(
        f"{record['name']}: volume dominated against designs judged",
        Scale("designs judged", lambda count: f"{count:g}"),
        Scale("share of the box between best and worst", lambda share: f"{100 * share:.4g} %", most=1.0),
        (Series("", "steps", ends, 1), Series("", "dots", tuple(marks), 1)),
    )


def _least(record: Mapping[str, Any], walk: Sequence[Design | None]) -> Lines | None:
    """Return the least cost within the budget so far, along the walk."""
    least = record["budget"]["minimize"]
    if least == "accuracy":
        return None
    names = {objective.limit: name for name, objective in OBJECTIVES.items()}
    limits = tuple((names[key], float(value)) for key, value in record["budget"].items() if key in names)
    budget = Budget(limits=limits, minimize=least)
    cost = COSTS[_COST_OF.get(least, least)]
    marks: list[Mark] = []
    for place, design in enumerate(walk):
        if design is None or not budget.kept(design.figures):
            continue
        value = OBJECTIVES[least].loss(design.figures)
        if not marks or value < marks[-1].y:
            marks.append(Mark(place + 1, value, f"{design.label}: {cost.text(value)}"))
    if len(marks) < 2:
        return None
    ends = (*marks, Mark(len(walk), marks[-1].y))
    within = ", ".join(f"{key} {significant(value)}" for key, value in record["budget"].items() if key != "minimize")
    return Lines(
        f"{record['name']}: least {cost.name} within the budget ({within or 'no limits'})",
        Scale("designs judged", lambda count: f"{count:g}"),
        cost.scale,
        (Series("", "steps", ends, 3), Series("", "dots", tuple(marks), 3)),
    )
