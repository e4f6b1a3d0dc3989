"""What a search found: the front, the best design within the budget, and which of it the samples leave undecided."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reports.search.explore import Trial
from reports.search.file import Search
from reports.search.front import non_dominated
from reports.search.lab import Lab
from reports.search.objectives import OBJECTIVES, accuracy_drop
from reports.search.record import design_text
from reports.search.space import Design
from reports.studies.common import DEVIATIONS, difference
from reports.sweep.store import DONE, Row
from workloads import METRICS

RECORD_VERSION = 1


def search_record(search: Search, lab: Lab, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return all of it as plain values, the front in order of the drop, then of the costs."""
    built = [trial for trial in trials if trial.judged is not None]
    rows = {trial.design: lab.rows[trial.design] for trial in trials}
    losses = np.array([trial.judged.losses for trial in built if trial.judged is not None])
    best = [trial.design for trial, keep in zip(built, non_dominated(losses), strict=True) if keep] if built else []
    front = sorted(_distinct(best, rows), key=lambda design: _sorted_by(search, rows[design]))
    against = _undecided(search, lab, front)
    entries = [_entry(search, design, rows[design]) | {"undecided_against": against[design]} for design in front]
    return {
        "record_version": RECORD_VERSION,
        "name": search.name,
        "description": search.description,
        "network": search.task.network,
        "network_digest": lab.network,
        "float": next((row.figures["float"] for row in rows.values() if row.status == DONE), None),
        "metric": next((row.figures["metric"] for row in rows.values() if row.status == DONE), None),
        "objectives": {name: OBJECTIVES[name].what for name in search.objectives},
        "budget": {OBJECTIVES[name].limit: most for name, most in search.budget.limits}
        | {"minimize": search.budget.minimize},
        "settings": vars(search.settings) | {"start": search.start.model_dump()},
        "axes": {axis.name: list(axis.choices) for axis in search.space.axes},
        "designs": search.space.size,
        "trials": [rows[trial.design].digest for trial in trials],
        "refused": len(trials) - len(built),
        "start_remark": lab.remark,
        "bit_exact_images": search.bit_exact_images,
        "front": entries,
        "best": _best(search, {trial.design: rows[trial.design] for trial in built}),
    }


def _distinct(designs: Iterable[Design], rows: Mapping[Design, Row]) -> list[Design]:
    """Leave out designs that are the same point by another name."""
    return list({rows[design].digest: design for design in reversed(list(designs))}.values())


def _sorted_by(search: Search, row: Row) -> tuple[float, ...]:
    return (accuracy_drop(row.figures), *(OBJECTIVES[name].loss(row.figures) for name in search.objectives))


def _entry(search: Search, design: Design, row: Row) -> dict[str, Any]:
    figures = row.figures
    return {
        "digest": row.digest,
        "design": search.space.chosen(design),
        "recipe": figures["recipe"],
        "accelerator": figures["accelerator"],
        "accuracy": figures["accuracy"],
        "standard_error": figures["standard_error"],
        "accuracy_drop": accuracy_drop(figures),
        "accuracy_drop_standard_error": figures["difference_standard_error"],
        "losses": {name: OBJECTIVES[name].loss(figures) for name in search.objectives},
        "weight_expansion": figures["weight_expansion"],
        "bit_exact": figures["bit_exact"],
        "bit_exact_images": figures["bit_exact_images"],
        "overflowed_outputs": figures["overflowed_outputs"],
        "budget": search.budget.verdict(figures),
    }


def _undecided(search: Search, lab: Lab, front: Sequence[Design]) -> dict[Design, str | None]:
    """Return for each design one that costs no more by any objective and is not decidedly less accurate, if there is.

    Decided is a difference of more than `DEVIATIONS` standard errors of paired samples.
    """
    if "accuracy" not in search.objectives:
        return dict.fromkeys(front)
    known = lab.store.accuracies(lab.network, tallies=True)
    costs = [name for name in search.objectives if name != "accuracy"]
    found: dict[Design, str | None] = dict.fromkeys(front)
    for design in front:
        ours = lab.rows[design]
        for other in reversed(front):  # the least accurate, and so cheapest, last: a near one is told first
            theirs = lab.rows[other]
            no_more = all(
                OBJECTIVES[name].loss(theirs.figures) <= OBJECTIVES[name].loss(ours.figures) for name in costs
            )
            if other == design or not no_more or accuracy_drop(theirs.figures) < accuracy_drop(ours.figures):
                continue
            first, second = (known[row.accuracy_key or ""].tallies for row in (ours, theirs))
            if not difference(METRICS[ours.figures["metric"]], first, second).ahead:
                found[design] = theirs.digest
                break
    return found


def _best(search: Search, rows: Mapping[Design, Row]) -> dict[str, Any]:
    """Return the design of least cost within the budget: as measured, decidedly within, and not decidedly beyond."""
    objective = OBJECTIVES[search.budget.minimize]
    verdicts = {design: search.budget.verdict(row.figures) for design, row in rows.items()}
    sets = {
        "measured": [design for design, row in rows.items() if search.budget.kept(row.figures)],
        "decided": [design for design, verdict in verdicts.items() if verdict == "within"],
        "possible": [design for design, verdict in verdicts.items() if verdict != "beyond"],
    }
    found: dict[str, Any] = {}
    for name, designs in sets.items():
        least = min(
            designs,
            key=lambda design: (objective.loss(rows[design].figures), accuracy_drop(rows[design].figures)),
            default=None,
        )
        found[name] = None if least is None else _entry(search, least, rows[least])
    return found


# --- text ------------------------------------------------------------------------------------------------------------


def search_summary(record: Mapping[str, Any], executed: int) -> str:
    """Return the record in text: counts, the front as a table, the best within the budget, what is undecided."""
    front = record["front"]
    lines = [
        f"{record['name']}: {len(record['trials'])} of {record['designs']} designs judged, {executed} Programs "
        f"executed now, {record['refused']} designs cannot be built",
        f"{record['network']}, float {_number(record['float'])} {record['metric']}; front of {len(front)} designs by "
        f"{', '.join(record['objectives'])}",
        "",
        *_table(record),
        "",
        *_best_lines(record),
    ]
    if record["start_remark"]:
        lines.append(record["start_remark"])
    open_ = [entry for entry in front if entry["undecided_against"]]
    if "accuracy" in record["objectives"]:
        lines.append(
            f"{len(open_)} of {len(front)} designs of the front are undecided (~): one that costs no more is less "
            f"accurate by fewer than {DEVIATIONS} paired standard errors"
        )
    if record["bit_exact_images"]:
        exact = sum(entry["bit_exact"] is True for entry in front)
        lines.append(
            f"{exact} of {len(front)} designs of the front bit-exact against the torch oracle on "
            f"{record['bit_exact_images']} samples each"
        )
    return "\n".join(lines)


def _table(record: Mapping[str, Any]) -> list[str]:
    names = [name for name in record["objectives"] if name != "accuracy"]
    units = [record["objectives"][name].split()[0] for name in names]
    header = ["", record["metric"] or "", "drop", *(f"{n} {u}" for n, u in zip(names, units, strict=True)), "budget"]
    cells = [[*header, "design"]]
    for entry in record["front"]:
        cells.append(
            [
                "~" if entry["undecided_against"] else "",
                _number(entry["accuracy"]),
                _drop(entry),
                *(f"{entry['losses'][name]:.4g}" for name in names),
                entry["budget"] if len(record["budget"]) > 1 else "-",
                design_text(entry["design"]),
            ]
        )
    wide = [max(len(row[place]) for row in cells) for place in range(len(header))]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, wide, strict=False)), row[-1]]).rstrip()
        for row in cells
    ]


def _best_lines(record: Mapping[str, Any]) -> list[str]:
    limits = {name: value for name, value in record["budget"].items() if name != "minimize"}
    least = record["budget"]["minimize"]
    within = ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "no limits"
    best, decided, possible = (record["best"][name] for name in ("measured", "decided", "possible"))
    if best is None:
        return [f"no design within the budget ({within}); widen it, or try more"]
    lines = [f"least {least} within the budget ({within}): {_told(best, least)}, {best['budget']}"]
    if best["budget"] == "undecided":
        lines.append(
            "least decidedly within it: " + ("none; take more images" if decided is None else _told(decided, least))
        )
    if possible is not None and possible["digest"] != best["digest"]:
        lines.append(f"least not decidedly beyond it: {_told(possible, least)}")
    return lines


def _told(entry: Mapping[str, Any], least: str) -> str:
    value = entry["losses"].get(least, entry["accuracy_drop"])
    return f"{least} {value:.4g}, drop {_drop(entry)}: {design_text(entry['design'])}"


def _drop(entry: Mapping[str, Any]) -> str:
    return f"{entry['accuracy_drop']:+.4f} ± {entry['accuracy_drop_standard_error']:.4f}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
