"""The study's page: what the searches find of the front that is known, and what follows from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.search.record import design_text
from reports.studies.common import DEVIATIONS, markdown_table, minus, percent

Row = Mapping[str, Any]

NAMES = {
    "random": "random, without repetition",
    "nsga2": "NSGA-II",
    "nsga2, start, neighbours": "NSGA-II + start + neighbours",
    "tpe": "TPE",
    "tpe, start": "TPE + start",
    "tpe, start, neighbours": "TPE + start + neighbours (default)",
}
DEFAULT, CHANCE = "tpe, start, neighbours", "random"

LIMITS = (
    "One small network and one small space, so that all of it can be measured: with more axes a smaller share of the "
    "space is seen, and neither these shares nor the order of the samplers carry over by themselves.",
    "The front is that of the measured figures. Drops of a few samples are within their standard errors, so that which "
    "designs are on it would change with other samples; the searches are compared on finding this one.",
    "Costs come from one technology at one node.",
    "Which sampler is the default, and how a search starts and takes neighbours, was settled while looking at this "
    "very space: it shows them at their best.",
)


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    setting = results["setting"]
    axes = "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in setting["axes"].items())
    return "\n".join(
        [
            "# A search against the whole front",
            "",
            f"{results['designs']} designs of the built-in network ({axes}), all of them measured: "
            f"{setting['programs']} Programs executed on {setting['images']} samples, {setting['bit_exact']} of them "
            f"bit-exact against the torch oracle on {setting['bit_exact_images']} samples each. The front by "
            f"{', '.join(setting['objectives'])} has {results['whole']['front']} points. Searches then look for it, "
            f"{results['seeds']} seeds of each kind.",
            "",
            f"    {setting['command']}",
            "",
            "*Start*: the search begins with designs along the greedy path of the layers' measured sensitivities "
            f"({results['whole']['start_designs']}; {results['budget']['start_designs']} that close in on the budget "
            "where there is one). "
            "*Neighbours*: every second proposal is one choice from a design of the "
            "front. Random search repeats nothing, which is the best that chance can do. Means over seeds ± one "
            "standard error, in percent; the hypervolume is that of the whole front, up to a point "
            "one percent of each range beyond the worst.",
            "",
            "## The whole front",
            "",
            *_table(results["whole"]["rows"], least=False),
            "",
            f"## Within {percent(setting['max_accuracy_drop'])} points of accuracy",
            "",
            f"{results['budget']['allowed']} designs keep the budget, {results['budget']['front']} of them make up its "
            f"front. *{setting['objectives'][1].capitalize()} missed*: of the best design found, over the least there "
            "is.",
            "",
            *_table(results["budget"]["rows"], least=True),
            "",
            "## Findings",
            "",
            *[f"* {line}" for line in findings(results)],
            "",
            "## What this does not show",
            "",
            *[f"* {line}" for line in LIMITS],
            "",
            "## The front",
            "",
            *_front(results),
            "",
        ]
    )


def _table(rows: Sequence[Row], *, least: bool) -> list[str]:
    header = ["search", "of the space", "designs", "hypervolume", "points found", *["missed"] * least]
    cells = []
    for row in rows:
        values = [_with_error(row, name) for name in ("hypervolume", "found", *["least_missed"] * least)]
        cells.append([NAMES[row["way"]], f"{percent(row['share'], 0)} %", str(row["designs"]), *values])
    return markdown_table(header, cells)


def _with_error(row: Row, name: str) -> str:
    return f"{percent(row[name])} ± {percent(row[f'{name}_standard_error'])}"


def findings(results: Mapping[str, Any]) -> list[str]:
    """Return what the tables say."""
    lines = []
    for part, words in (("whole", "The whole front"), ("budget", "Within the budget")):
        rows = results[part]["rows"]
        for share in dict.fromkeys(row["share"] for row in rows):
            lines.append(f"**{words}, {percent(share, 0)} % of the space**: {_against_chance(rows, share)}.")
    lines.append(_added(results))
    return lines


def _at(rows: Sequence[Row], way: str, share: float) -> Row:
    return next(row for row in rows if row["way"] == way and row["share"] == share)


def _against_chance(rows: Sequence[Row], share: float) -> str:
    ours, chance = _at(rows, DEFAULT, share), _at(rows, CHANCE, share)
    return "; ".join(
        f"{percent(ours[name])} % of the {words} against {percent(chance[name])} % by chance "
        f"({_verdict(ours, chance, name)})"
        for name, words in (("hypervolume", "hypervolume"), ("found", "points"))
    )


def _verdict(ours: Row, theirs: Row, name: str) -> str:
    """Tell who is ahead beyond the standard error of the difference of the two means, which have seeds of their own."""
    gap = ours[name] - theirs[name]
    error = (ours[f"{name}_standard_error"] ** 2 + theirs[f"{name}_standard_error"] ** 2) ** 0.5
    if abs(gap) <= DEVIATIONS * error:
        return "undecided"
    return "ahead" if gap > 0 else "behind"


def _added(results: Mapping[str, Any]) -> str:
    """Say what the start and the neighbours add to the sampler, where the whole front is looked for."""
    rows = results["whole"]["rows"]
    shares = sorted({row["share"] for row in rows})
    words = []
    for name, more, less in (("the start", "tpe, start", "tpe"), ("neighbours besides", DEFAULT, "tpe, start")):
        gained = []
        for share in shares:
            ours, theirs = _at(rows, more, share), _at(rows, less, share)
            gap = minus(f"{100 * (ours['found'] - theirs['found']):+.1f}")
            gained.append(f"{gap} ({_verdict(ours, theirs, 'found')}) at {percent(share, 0)} %")
        words.append(f"{name}: {', '.join(gained)}")
    return f"Points of the whole front, in percent of it, added to TPE by {'; by '.join(words)}."


def _front(results: Mapping[str, Any]) -> list[str]:
    names = results["setting"]["objectives"]
    units = {"accuracy": ("drop in points", 100.0), "energy": ("energy, µJ", 1e-6), "latency": ("latency, µs", 1e6)}
    header = ["design", *(units.get(name, (name, 1.0))[0] for name in names)]
    cells = [
        [f"`{design_text(row['design'])}`"]
        + [minus(f"{row['losses'][name] * units.get(name, ('', 1.0))[1]:.2f}") for name in names]
        for row in results["front"]
    ]
    return markdown_table(header, cells)
