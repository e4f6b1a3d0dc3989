"""The page of the study: tables, figures, and what follows from them."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from reports.charts import Lines, Mark, Scale, Series
from reports.draw import Chart
from reports.studies.common import DEVIATIONS, markdown_table, minus, percent

Row = Mapping[str, Any]
RATIOS = (0.01, 0.02, 0.05)


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    setting = results["setting"]
    proof = "every one" if setting["bit_exact"] else "not all"
    return "\n".join(
        [
            "# Splits that cost no fold",
            "",
            "A layer's products along k rarely fill the last fold of a weight-stationary array: the rows that are "
            "left idle take duplicated channels without one more array cycle. Under output-stationary dataflow k is "
            "time and nothing is idle. How much accuracy do these free splits buy, against expanding every layer by "
            "1, 2 or 5 %?",
            "",
            "    python -m reports.studies.free_splits --data DIR",
            "",
            f"{setting['executed']} Programs executed ({proof} bit-exact against torch on "
            f"{setting['bit_exact_images']} images each), {setting['points']} designs; weights and first and last "
            "layer at one width, native PEs, arrays of 64 to 256 rows and as many columns.",
            "",
            "![Accuracy gained and array cycles added](gain.png)",
            "",
            "## Findings",
            "",
            *[f"* {line}" for line in findings(results)],
            "",
            "## Accuracy",
            "",
            "Gain over the unsplit network in points of top-1, ± one paired standard error; bold where it is decided "
            f"({DEVIATIONS} of them). *channels*: duplicated, all layers together. *cycles*: array cycles over "
            "unsplit. Fixed expansions do not depend on the array, their cycles do.",
            "",
            *_table(results),
            "",
            "## What this does not show",
            "",
            *[f"* {line}" for line in LIMITS],
            "",
        ]
    )


LIMITS = (
    "Free is meant of array cycles: duplicated weights are stored, fetched and multiplied, and cost bytes and energy "
    "(the columns of results.json say how much).",
    "Which channels are worth a split is chosen as in the paper, by the largest weight; idle rows are filled with all "
    "the channels that fit, without asking whether each helps.",
    "Arrays of rows that divide the layers' k exactly have no room at all: the figures belong to these networks on "
    "these arrays.",
    "A few hundred to a thousand images: gains under two or three points stay undecided.",
)


def _table(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for key in dict.fromkeys((r["network"], r["clip"], r["bits"]) for r in results["rows"]):
        mine = [r for r in results["rows"] if (r["network"], r["clip"], r["bits"]) == key]
        plain = next(r for r in mine if r["ocs"] is None)
        sizes = sorted({r["rows"] for r in mine})
        fills = [next(r for r in mine if r["ocs"] == "fill" and r["rows"] == size) for size in sizes]
        fixed = [[r for r in mine if r["ocs"] == ratio] for ratio in RATIOS]
        name = f"W{key[2]}{'' if key[1] is None else f' + {key[1]}'}"
        cells = [f"{_gain(r)}, {r['splits']}" for r in fills]
        cells += [f"{_gain(same[0])}, {_cycles(same)}" for same in fixed]
        rows.append((key[0], name, percent(plain["accuracy"]), *cells))
    header = ["network", "", "unsplit, %"]
    header += [f"fill {size}: gain, channels" for size in _sizes(results)]
    header += [f"r {ratio:g}: gain, cycles" for ratio in RATIOS]
    return markdown_table(header, rows, left=2)


def _sizes(results: Mapping[str, Any]) -> list[int]:
    return sorted({row["rows"] for row in results["rows"]})


def _gain(row: Row) -> str:
    text = minus(f"{100 * row['gain']:+.1f}") + f" ± {percent(row['gain_error'])}"
    return f"**{text}**" if abs(row["gain"]) > DEVIATIONS * row["gain_error"] else text


def _cycles(rows: list[Row]) -> str:
    low, high = min(r["array_cycles"] for r in rows), max(r["array_cycles"] for r in rows)
    return f"×{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"×{low:.2f}–{high:.2f}"


def findings(results: Mapping[str, Any]) -> list[str]:
    """Return what follows from the table, in plain words."""
    fills = [row for row in results["rows"] if row["ocs"] == "fill"]
    keys = alive(results)
    rows = [row for row in fills if _case(row) in keys]
    dead = len({_case(row) for row in fills}) - len(keys)
    return [*_free(fills), *_gained(rows, dead), *_against(rows), *_costs(results)]


LEAST_SHARE = 0.25
"""Of the float network's accuracy, that some design must keep for a comparison to mean anything."""


def _case(row: Row) -> tuple[Any, ...]:
    return row["network"], row["clip"], row["bits"]


def alive(results: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """Return the cases (network, clip rule, width) in which some design keeps a share of the accuracy."""
    networks = results["setting"]["networks"]
    return {_case(row) for row in results["rows"] if row["accuracy"] >= LEAST_SHARE * networks[row["network"]]["float"]}


def _free(fills: list[Row]) -> Iterator[str]:
    dearer = [row for row in fills if row["array_cycles"] > 1]
    if dearer:
        yield f"In {len(dearer)} of {len(fills)} cases filling did cost array cycles."
    else:
        yield f"In all {len(fills)} cases filling idle rows left the array's cycles exactly as they were."
    empty = [row for row in fills if not row["splits"]]
    some = [row["splits"] for row in fills if row["splits"]]
    yield (
        f"Room differs widely: {len(empty)} cases have none, the others duplicate {min(some, default=0)} to "
        f"{max(some, default=0)} channels (median {median(some) if some else 0:g})."
    )


def _gained(fills: list[Row], dead: int) -> Iterator[str]:
    yield (
        f"In {dead} cases (network, clip rule, width) no design keeps a quarter of the float accuracy, so there is "
        "nothing to compare; what follows leaves them out."
    )
    for bits in sorted({row["bits"] for row in fills}):
        mine = [row for row in fills if row["bits"] == bits]
        ahead = [row for row in mine if row["gain"] > DEVIATIONS * row["gain_error"]]
        behind = [row for row in mine if -row["gain"] > DEVIATIONS * row["gain_error"]]
        yield (
            f"At {bits} bits free splits gain decidedly in {len(ahead)} of {len(mine)} cases (network, clip rule, "
            f"array), lose in {len(behind)}, and are undecided in {len(mine) - len(ahead) - len(behind)}; the median "
            f"gain is {_points(median(r['gain'] for r in mine))} points."
        )


def _against(fills: list[Row]) -> Iterator[str]:
    for ratio in RATIOS:
        pairs = [row[f"minus_{ratio:g}"] for row in fills]
        ahead = sum(value > DEVIATIONS * error for value, error in pairs)
        behind = sum(-value > DEVIATIONS * error for value, error in pairs)
        yield (
            f"Against expanding every layer by {percent(ratio, 0)} %: filling is decidedly better in {ahead} cases, "
            f"worse in {behind}, undecided in {len(pairs) - ahead - behind}."
        )


def _costs(results: Mapping[str, Any]) -> Iterator[str]:
    for ratio in RATIOS:
        over = [row["array_cycles"] for row in results["rows"] if row["ocs"] == ratio]
        yield (
            f"An expansion of {percent(ratio, 0)} % costs {percent(min(over) - 1)} to {percent(max(over) - 1)} % more "
            f"array cycles (median {percent(median(over) - 1)} %)."
        )
    fills = [row for row in results["rows"] if row["ocs"] == "fill"]
    yield (
        f"What filling costs besides: weight bytes ×{min(r['weight_bytes'] for r in fills):.2f} to "
        f"×{max(r['weight_bytes'] for r in fills):.2f}, energy ×{min(r['energy_pj'] for r in fills):.2f} to "
        f"×{max(r['energy_pj'] for r in fills):.2f}, cycles with memory ×{min(r['cycles'] for r in fills):.2f} to "
        f"×{max(r['cycles'] for r in fills):.2f}."
    )


def charts(results: Mapping[str, Any]) -> dict[str, Chart]:
    """Return the study's figures by file name."""
    series = []
    styles = {"fill": ("idle rows filled", "dots", 1)} | {
        ratio: (f"r = {ratio:g}", "rings", place + 2) for place, ratio in enumerate(RATIOS)
    }
    for ocs, (name, style, color) in styles.items():
        marks = tuple(
            Mark(100 * (row["array_cycles"] - 1), 100 * row["gain"], _title(row))
            for row in results["rows"]
            if row["ocs"] == ocs
        )
        series.append(Series(name, style, marks, color))
    return {
        "gain": Lines(
            "Accuracy gained and array cycles added, all networks, widths and arrays",
            Scale("array cycles added, %", lambda value: f"{value:g}"),
            Scale("gain in top-1, points", lambda value: f"{value:g}"),
            tuple(series),
        )
    }


def _title(row: Row) -> str:
    clip = "" if row["clip"] is None else f" + {row['clip']}"
    return f"{row['network']} W{row['bits']}{clip}, {row['rows']} rows"


def _points(share: float) -> str:
    return minus(f"{100 * share:+.1f}")
