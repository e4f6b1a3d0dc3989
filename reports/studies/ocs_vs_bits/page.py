"""The page of the study: tables, figures, and what follows from them."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from reports.charts import Lines, Mark, Scale, Series
from reports.draw import Chart
from reports.studies.common import DEVIATIONS, markdown_table, minus, percent
from reports.studies.ocs_vs_bits.study import FIGURES, MACHINE

BAND = 0.15
"""Energies of neighbouring widths are told apart beyond this ratio; cycles and bytes are exact."""

WORDS = {
    "cycles": "cycles",
    "energy_pj": "energy",
    "energy_delay_pj_s": "energy × delay",
    "dram_bytes": "DRAM bytes",
    "weight_bytes": "weight bytes",
    "area_um2": "area",
}
PRICED = ("energy_pj", "energy_delay_pj_s", "area_um2")
KINDS = (("native", None), ("native", 8), ("composable", None), ("bit_serial", None), ("fixed", None))
SHOWN_MACHINE = {"array.dataflow": "ws", "array.rows": 64, "dram.bandwidth_gb_per_s": 8.5}


def kind_words(pe: str, area: int | None) -> str:
    """Return what a PE type is called on the page."""
    return f"{pe.replace('_', '-')}, equal area" if area else pe.replace("_", "-")


def verdict(figure: str, ratio: float) -> str:
    """Return whether a ratio of split over next width is cheaper, dearer or neither, within the figure's band."""
    band = BAND if figure in PRICED else 0.0
    if abs(ratio - 1) <= band:
        return "undecided" if band else "equal"
    return "cheaper" if ratio < 1 else "dearer"


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    networks = results["setting"]["networks"]
    return "\n".join(
        [
            "# Is W(b) with outlier channel splitting cheaper than W(b+1)?",
            "",
            "A split channel costs rows, weights and cycles; a bit more costs wider multipliers and more bytes. Both "
            "buy accuracy. Here both are measured on the same integers: which expansion makes a width as accurate as "
            "the next one, and whether that is then the cheaper of the two.",
            "",
            "    python -m reports.studies.ocs_vs_bits --data DIR",
            "",
            *_setting(results),
            "",
            "Accuracy against energy on the 64×64 weight-stationary array of native PEs, clipping nothing; intervals "
            f"are {DEVIATIONS} standard errors of the accuracy itself, differences on the same images are told apart "
            "more finely.",
            "",
            *[f"![{network}: accuracy against energy](pareto_{network}.png)\n" for network in networks],
            "Accuracy against the expansion:",
            "",
            *[f"![{network}: accuracy against expansion](expansion_{network}.png)\n" for network in networks],
            "## Findings",
            "",
            *[f"* {line}" for line in findings(results)],
            "",
            "## Which expansion reaches the next width",
            "",
            f"Smallest measured expansion at which W(b) + OCS is not decidedly behind W(b+1) unsplit: the difference "
            f"on the same images is within {DEVIATIONS} standard errors, or ahead. *0*: unsplit W(b) already is not. "
            "*none*: no expansion up to 0.2 is. *–*: W(b+1) keeps less than a quarter of the float "
            "accuracy. In brackets the difference to W(b+1) there ± one standard error, in "
            f"points. {_images(networks)}",
            "",
            *_match_table(results),
            "",
            "## What it costs there",
            "",
            "Cost of that split design over W(b+1) unsplit on the 64×64 weight-stationary array with 8.5 GB/s, where "
            "splitting is what closes the gap. Below 1 splitting is cheaper. Cycles and bytes are exact for the "
            f"machine described; energies of neighbouring widths are undecided within {BAND:.0%}, marked ~.",
            "",
            *_cost_table(results),
            "",
            "## Break-even expansion",
            "",
            "Up to which expansion W(b) + OCS costs no more than W(b+1), over all networks, widths 3 to 7, dataflows "
            "and arrays of 16, 64 and 128 rows: the median, and in brackets the quarter and three-quarter points. Only "
            f"expansions of {', '.join(f'{r:g}' for r in results['setting']['ratios'][1:])} were priced, so the true "
            "figure lies between the one given and the next. *never*: even unsplit W(b) costs more.",
            "",
            *_even_table(results),
            "",
            "![Share of cases in which W(b) + OCS costs no more than W(b+1), by expansion](break_even.png)",
            "",
            "## What this does not show",
            "",
            *[f"* {line}" for line in LIMITS],
            "",
        ]
    )


LIMITS = (
    "Native PEs are built for one width, so first and last layers are narrowed like all others, which costs accuracy "
    "that a machine with a few wide multipliers would keep.",
    "Networks at hand are small; the ImageNet ones see a few hundred pictures, whose standard errors of one to three "
    "points hide differences that matter. *Not decidedly behind* is no proof of equality.",
    "Expansions are of channels per layer, alike in all layers; a search over layers can do better.",
    "Clock and voltage stay as they are: a narrower PE could be clocked faster, which is not counted.",
    "Area is of arrays, buffers and lanes by their formulas; placement, wiring and pads are not in it.",
    "Memories read duplicated channels twice and store them once; weights of duplicates are stored.",
)


def _setting(results: Mapping[str, Any]) -> list[str]:
    setting = results["setting"]
    proof = "every one" if setting["bit_exact"] else "not all"
    return [
        f"{setting['executed']} Programs executed in integers ({proof} bit-exact against torch on "
        f"{setting['bit_exact_images']} images each), {setting['priced']} designs priced (nangate45, 45 nm).",
    ]


def _images(networks: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {item['images']} images, float {percent(item['float'])} ± {percent(item['float_standard_error'])} %"
        for name, item in networks.items()
    ]
    return "; ".join(parts) + "."


# --- tables ----------------------------------------------------------------------------------------------------------


def _match_table(results: Mapping[str, Any]) -> list[str]:
    bits = sorted({row["bits"] for row in results["matched"]})
    rows = []
    for network, clip in _pairs(results):
        cells = [_match_cell(results, network, clip, b) for b in bits]
        rows.append((network, "max" if clip is None else clip, *cells))
    return markdown_table(("network", "clip", *(f"W{b} → W{b + 1}" for b in bits)), rows, left=2)


def _pairs(results: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    return list(dict.fromkeys((row["network"], row["clip"]) for row in results["matched"]))


def _match_cell(results: Mapping[str, Any], network: str, clip: str | None, bits: int) -> str:
    same = [row for row in results["matched"] if (row["network"], row["clip"], row["bits"]) == (network, clip, bits)]
    if not same:
        return "–"
    found = same[0]
    if found["ocs"] is None:
        return "none"
    row = next(
        row
        for row in results["accuracy"]
        if (row["network"], row["clip"], row["bits"], row["ocs"]) == (network, clip, bits, found["ocs"])
    )
    ahead = minus(f"{100 * row['minus_next']:+.1f}")
    return f"{found['ocs']:g} ({ahead} ± {percent(row['minus_next_error'])})"


def _cost_table(results: Mapping[str, Any]) -> list[str]:
    shown = ("cycles", "energy_pj", "energy_delay_pj_s", "dram_bytes", "area_um2")
    rows = []
    for case in results["matched"]:
        for pe, area in KINDS:
            found = [cost for cost in case["costs"] if _is(cost, {**SHOWN_MACHINE, "pe.type": pe}, area)]
            for cost in found:
                over = dict(zip(FIGURES, cost[len(MACHINE) :], strict=True))
                cells = [f"{over[n]:.2f}{'~' if verdict(n, over[n]) == 'undecided' else ''}" for n in shown]
                clip = "" if case["clip"] is None else f" + {case['clip']}"
                name = f"W{case['bits']} + OCS {case['ocs']:g}{clip}"
                rows.append((case["network"], name, kind_words(pe, area), *cells))
    if not rows:
        return ["No expansion closes a gap here."]
    return markdown_table(("network", "design", "PE", *(WORDS[n] for n in shown)), rows, left=3)


def _is(cost: Sequence[Any], machine: Mapping[str, Any], area: int | None) -> bool:
    seen = dict(zip(MACHINE, cost, strict=False))
    return all(seen[name] == value for name, value in machine.items()) and seen["equal_area_bits"] == area


def _even_table(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for pe, area in KINDS:
        for gbps in _bandwidths(results):
            cells = [_quartiles(list(_evens(results, pe, area, gbps, figure))) for figure in FIGURES]
            rows.append((kind_words(pe, area), f"{gbps:g}", *cells))
    return markdown_table(("PE", "GB/s", *(WORDS[figure] for figure in FIGURES)), rows, left=1)


def _bandwidths(results: Mapping[str, Any]) -> list[float]:
    place = results["break_even"]["columns"].index("dram.bandwidth_gb_per_s")
    return sorted({row[place] for row in results["break_even"]["rows"]})


def _evens(
    results: Mapping[str, Any], pe: str, area: int | None, gbps: float | None, figure: str
) -> Iterator[float | None]:
    """Yield the break-even expansions of one figure on all machines of a kind."""
    columns = results["break_even"]["columns"]
    for row in results["break_even"]["rows"]:
        seen = dict(zip(columns, row, strict=True))
        alike = (seen["pe.type"], seen["equal_area_bits"]) == (pe, area)
        if alike and gbps in (None, seen["dram.bandwidth_gb_per_s"]):
            yield seen[figure]


def _quartiles(values: list[float | None]) -> str:
    order = sorted(-1.0 if value is None else value for value in values)
    low, middle, high = (order[int(q * (len(order) - 1))] for q in (0.25, 0.5, 0.75))
    words = ["never" if value < 0 else f"{value:g}" for value in (low, middle, high)]
    return words[1] if len(set(words)) == 1 else f"{words[1]} ({words[0]}–{words[2]})"


# --- findings --------------------------------------------------------------------------------------------------------


def findings(results: Mapping[str, Any]) -> list[str]:
    """Return what follows from the tables, in plain words."""
    return [*_reach(results), *_cheaper(results), *_break(results)]


def _reach(results: Mapping[str, Any]) -> Iterator[str]:
    cases = results["matched"]
    already = [case for case in cases if case["ocs"] == 0.0]
    closed = [case for case in cases if case["ocs"]]
    never = [case for case in cases if case["ocs"] is None]
    yield (
        f"Of {len(cases)} steps from W(b) to W(b+1) (network, clip rule, width), {len(already)} need nothing: unsplit "
        f"W(b) is not decidedly behind. Splitting closes {len(closed)} of the other {len(cases) - len(already)} with "
        f"an expansion of at most 0.2, and leaves {len(never)} open."
    )
    for clip, words in ((None, "without clipping"), ("mse", "with MSE clipping")):
        mine = [case for case in cases if case["clip"] == clip]
        need = [case for case in mine if case["ocs"] != 0.0]
        done = [case["ocs"] for case in need if case["ocs"]]
        if need:
            size = f", at a median expansion of {median(done):g}" if done else ""
            yield f"{words.capitalize()}: {len(done)} of {len(need)} gaps are closed{size}."


def _cheaper(results: Mapping[str, Any]) -> Iterator[str]:
    for pe, area in KINDS:
        counts = {figure: {"cheaper": 0, "dearer": 0, "other": 0} for figure in ("cycles", "energy_pj", "dram_bytes")}
        total = 0
        for case in results["matched"]:
            for cost in case["costs"]:
                seen = dict(zip((*MACHINE, *FIGURES), cost, strict=True))
                if (seen["pe.type"], seen["equal_area_bits"]) != (pe, area):
                    continue
                total += 1
                for figure, count in counts.items():
                    word = verdict(figure, seen[figure])
                    count[word if word in count else "other"] += 1
        if total:
            parts = [
                f"{WORDS[figure]} cheaper in {percent(count['cheaper'] / total, 0)} %, dearer in "
                f"{percent(count['dearer'] / total, 0)} %, {'equal' if figure not in PRICED else 'undecided'} in "
                f"{percent(count['other'] / total, 0)} %"
                for figure, count in counts.items()
            ]
            yield f"Where splitting closes the gap, on {kind_words(pe, area)} PEs ({total} cases): {'; '.join(parts)}."


def _break(results: Mapping[str, Any]) -> Iterator[str]:
    for figure in ("cycles", "energy_pj"):
        parts = []
        for pe, area in KINDS:
            values = list(_evens(results, pe, area, None, figure))
            if values:
                parts.append(f"{kind_words(pe, area)} {_quartiles(values)}")
        yield f"Break-even expansion in {WORDS[figure]}, median (quartiles): {'; '.join(parts)}."


# --- figures ---------------------------------------------------------------------------------------------------------


def charts(results: Mapping[str, Any]) -> dict[str, Chart]:
    """Return the study's figures by file name."""
    networks = results["setting"]["networks"]
    found: dict[str, Chart] = {f"pareto_{network}": _pareto(results, network) for network in networks}
    found |= {f"expansion_{network}": _expansion(results, network) for network in networks}
    return found | {"break_even": _shares(results)}


def _pareto(results: Mapping[str, Any], network: str) -> Chart:
    """Accuracy against energy: widths unsplit, and with channels split."""
    energy = {
        (row["bits"], row["ocs"]): row["energy_pj"] / 1e6 for row in results["shown"] if row["network"] == network
    }
    rows = [
        row
        for row in results["accuracy"]
        if row["network"] == network and row["clip"] is None and (row["bits"], row["ocs"]) in energy
    ]
    rows.sort(key=lambda row: (row["bits"], row["ocs"]))

    def marks(chosen: list[Mapping[str, Any]], labelled: bool) -> tuple[Mark, ...]:
        return tuple(
            Mark(
                energy[row["bits"], row["ocs"]],
                100 * row["accuracy"],
                f"W{row['bits']}, r = {row['ocs']:g}",
                f"W{row['bits']}" if labelled else "",
                100 * DEVIATIONS * row["standard_error"] if labelled else 0.0,
            )
            for row in chosen
        )

    plain = [row for row in rows if not row["ocs"]]
    series = [Series("one width, unsplit", "line", marks(plain, False), 1), Series("", "dots", marks(plain, True), 1)]
    for place, bits in enumerate(sorted({row["bits"] for row in rows})):
        split = [row for row in rows if row["bits"] == bits and row["ocs"]]
        name = "the same width, channels split" if not place else ""
        series.append(Series(name, "rings", marks(split, False), 2))
    return Lines(
        f"{network}: accuracy against energy",
        Scale("energy per sample, µJ", lambda value: f"{value:g}"),
        Scale("top-1, %", lambda value: f"{value:.0f}"),
        tuple(series),
    )


def _expansion(results: Mapping[str, Any], network: str) -> Chart:
    """Accuracy against expansion, by width."""
    series = []
    rows = [row for row in results["accuracy"] if row["network"] == network and row["clip"] is None]
    for place, bits in enumerate(sorted({row["bits"] for row in rows})):
        marks = tuple(
            Mark(row["ocs"], 100 * row["accuracy"], reach=100 * DEVIATIONS * row["standard_error"])
            for row in sorted(rows, key=lambda row: row["ocs"])
            if row["bits"] == bits
        )
        series += [Series(f"W{bits}", "line", marks, place % 7 + 1), Series("", "dots", marks, place % 7 + 1)]
    return Lines(
        f"{network}: top-1 by expansion, no clipping",
        Scale("expansion ratio r"),
        Scale("top-1, %", lambda value: f"{value:.0f}"),
        tuple(series),
    )


def _shares(results: Mapping[str, Any]) -> Chart:
    """Share of cases whose energy is no more than that of the next width, by expansion and PE type."""
    ratios = results["setting"]["ratios"]
    series = []
    for place, (pe, area) in enumerate(KINDS):
        values = list(_evens(results, pe, area, None, "energy_pj"))
        if not values:
            continue
        marks = tuple(
            Mark(ratio, 100 * sum(v is not None and v >= ratio for v in values) / len(values)) for ratio in ratios
        )
        series += [Series(kind_words(pe, area), "line", marks, place + 1), Series("", "dots", marks, place + 1)]
    return Lines(
        "Energy of W(b) + OCS at most that of W(b+1)",
        Scale("expansion ratio r"),
        Scale("share of cases, %", lambda value: f"{value:.0f}"),
        tuple(series),
    )
