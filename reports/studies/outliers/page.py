"""The page of the study: tables, figures, and what follows from them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.charts import Lines, Mark, Scale, Series
from reports.draw import Chart
from reports.studies.common import DEVIATIONS, markdown_table, minus, percent

Row = Mapping[str, Any]
BAND = 0.15
GOAL = 0.01
"""Loss against the float network that the cheapest design may have."""

LEAST_SHARE = 0.25
"""Of the float network's accuracy, that a remedy or plain rounding must keep for a comparison to mean anything."""


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    setting = results["setting"]
    proof = "every one" if setting["bit_exact"] else "not all"
    return "\n".join(
        [
            "# Remedies against outliers, side by side",
            "",
            "Clipping, splitting channels, splitting weights by clusters, equalizing, one scale per channel and mixed "
            "precision all fight the same outliers. Here each runs on the same images and the same array, so that "
            "what it gains and what it costs stand in one row.",
            "",
            "    python -m reports.studies.outliers --data DIR",
            "",
            f"{setting['executed']} Programs executed ({proof} bit-exact against torch on "
            f"{setting['bit_exact_images']} images each). Activations, first and last layer of 8 bits; composable PEs "
            "of 2-bit bricks, 64×64 weight-stationary, nangate45.",
            "",
            *[f"![{network}: accuracy against energy]({network}.png)\n" for network in _networks(results)],
            "## Findings",
            "",
            *[f"* {line}" for line in findings(results)],
            "",
            *[line for network in _networks(results) for line in _section(results, network)],
            "## What this does not show",
            "",
            *[f"* {line}" for line in LIMITS],
            "",
        ]
    )


LIMITS = (
    "No method is tuned: clip rules, expansions and equalizations have their papers' defaults.",
    "Mixed precision is assigned by weight error alone, to the memory of one width throughout; a search over accuracy "
    "(`accelsim search`) finds better ones.",
    "SplitQuant is run as published, in three dense layers; its clusters stored as codes would take fewer bytes.",
    "On composable PEs 5 and 6 bits take the time of 8, so their figures differ from 8 bits in bytes only; native PEs "
    "are in the study ocs_vs_bits.",
    "A few hundred to a thousand images per network: gains within their error are undecided, and say so.",
)


def _networks(results: Mapping[str, Any]) -> list[str]:
    return sorted({row["network"] for row in results["rows"]})


def _section(results: Mapping[str, Any], network: str) -> Iterator[str]:
    item = results["setting"]["networks"][network]
    rows = [row for row in results["rows"] if row["network"] == network]
    widths = sorted({row["bits"] for row in rows})
    yield f"## {network}"
    yield ""
    yield (
        f"{item['images']} images, float {percent(item['float'])} ± {percent(item['float_standard_error'])} %. Top-1 "
        "in percent, and in brackets the gain over plain rounding at that width, in points; bold where decided "
        f"({DEVIATIONS} paired standard errors). The last columns are costs at 4 bits over plain W4."
    )
    yield ""
    table = []
    for method in _methods(rows):
        mine = {row["bits"]: row for row in rows if row["method"] == method}
        cells = [_cell(mine[bits]) if bits in mine else "" for bits in widths]
        four = mine.get(4)
        names = ("cycles", "energy_pj", "weight_bytes")
        costs = [f"×{four[f'{name}_over_plain']:.2f}" if four else "" for name in names]
        table.append((method, *cells, *costs))
    header = ("remedy", *(f"W{bits}" for bits in widths), "cycles", "energy", "weight bytes")
    yield from markdown_table(header, table)
    yield ""


def _methods(rows: Sequence[Row]) -> list[str]:
    """Return all remedies, none first, then by name."""
    return sorted({row["method"] for row in rows}, key=lambda method: (method != "nothing", method.lower()))


def _cell(row: Row) -> str:
    value = percent(row["accuracy"])
    if row["method"] == "nothing":
        return value
    gain, error = row["gain"]
    text = f"{value} ({minus(f'{100 * gain:+.1f}')})"
    return f"**{text}**" if abs(gain) > DEVIATIONS * error else text


def findings(results: Mapping[str, Any]) -> list[str]:
    """Return what follows from the tables, in plain words."""
    return [*_helps(results), *_best(results), *_cheapest(results)]


def _helps(results: Mapping[str, Any]) -> Iterator[str]:
    """Say of each remedy how often it decidedly helps or hurts where there is something to lose."""
    yield (
        "Cases (network, width) where neither a remedy nor plain rounding keeps a quarter of the float accuracy are "
        "no comparison and are left out of the counts that follow."
    )
    networks = results["setting"]["networks"]
    for method in _methods(results["rows"])[1:]:
        mine = [
            row
            for row in results["rows"]
            if row["method"] == method
            and max(row["accuracy"], row["accuracy"] - row["gain"][0])
            >= LEAST_SHARE * networks[row["network"]]["float"]
        ]
        if not mine:
            continue
        better = sum(row["gain"][0] > DEVIATIONS * row["gain"][1] for row in mine)
        worse = sum(-row["gain"][0] > DEVIATIONS * row["gain"][1] for row in mine)
        energy = [row["energy_pj_over_plain"] for row in mine]
        weights = [row["weight_bytes_over_plain"] for row in mine]
        yield (
            f"{method[0].upper()}{method[1:]}: decidedly better than plain rounding in {better} of {len(mine)} cases "
            f"(network, width), worse in {worse}; energy ×{min(energy):.2f}–{max(energy):.2f}, weight bytes "
            f"×{min(weights):.2f}–{max(weights):.2f}."
        )


def _best(results: Mapping[str, Any]) -> Iterator[str]:
    for network in _networks(results):
        parts = []
        for bits in (3, 4, 5, 6):
            rows = [row for row in results["rows"] if (row["network"], row["bits"]) == (network, bits)]
            best = max(rows, key=lambda row: row["accuracy"])
            parts.append(f"W{bits} {best['method']} ({percent(best['accuracy'])} %)")
        yield f"{network}: highest accuracy at each width: {'; '.join(parts)}. Runners-up may be within the error."


def _cheapest(results: Mapping[str, Any]) -> Iterator[str]:
    """Name the design of least energy that is not decidedly more than the goal behind float."""
    for network in _networks(results):
        rows = [row for row in results["rows"] if row["network"] == network and row["difference"] + GOAL >= 0]
        if not rows:
            yield f"{network}: no design stays within {percent(GOAL, 0)} point of float."
            continue
        best = min(rows, key=lambda row: row["energy_pj_over_8bit"])
        least = best["energy_pj_over_8bit"]
        near = [row for row in rows if row is not best and row["energy_pj_over_8bit"] < (1 + BAND) * least]
        lost = minus(f"{100 * best['difference']:+.1f}") + f" ± {percent(best['difference_standard_error'])}"
        yield (
            f"{network}: least energy within {percent(GOAL, 0)} point of float: W{best['bits']}, {best['method']} "
            f"({lost} points, ×{least:.2f} of plain W8); {len(near)} others are within "
            f"{BAND:.0%} of its energy."
        )


FAMILIES = {
    "nothing": "plain rounding",
    "clip": "clipping",
    "OCS": "OCS",
    "SplitQuant": "SplitQuant",
    "mixed": "mixed precision",
    "per channel": "per channel",
}


def family(method: str) -> str:
    """Return which family of remedies a method belongs to; equalization where none is named."""
    return next((words for part, words in FAMILIES.items() if part in method), "equalization")


def charts(results: Mapping[str, Any]) -> dict[str, Chart]:
    """Return the study's figures by file name."""
    return {network: _scatter(results, network) for network in _networks(results)}


def _scatter(results: Mapping[str, Any], network: str) -> Chart:
    rows = [row for row in results["rows"] if row["network"] == network]
    series = []
    for place, name in enumerate((*FAMILIES.values(), "equalization")):
        marks = tuple(
            Mark(row["energy_pj_over_8bit"], 100 * row["accuracy"], f"W{row['bits']} {row['method']}")
            for row in rows
            if family(row["method"]) == name
        )
        series.append(Series(name, "dots" if name in ("plain rounding", "OCS") else "rings", marks, place + 1))
    return Lines(
        f"{network}: accuracy against energy, one array",
        Scale("energy over that of plain W8", lambda value: f"{value:g}"),
        Scale("top-1, %", lambda value: f"{value:.0f}"),
        tuple(one for one in series if one.marks),
    )
