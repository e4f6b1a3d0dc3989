"""The page of the study: tables, figures, and what follows from them."""

from collections.abc import Iterator, Mapping
from typing import Any

from reports.charts import Lines, Mark, Scale, Series
from reports.draw import Chart
from reports.studies.common import DEVIATIONS, markdown_table, percent

Row = Mapping[str, Any]
FLOWS = {"ws": "weight-stationary", "os": "output-stationary", "is": "input-stationary"}


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    setting = results["setting"]
    proof = "every one" if setting["bit_exact"] else "not all"
    return "\n".join(
        [
            "# How narrow may the sums be?",
            "",
            "Adders and accumulator registers are much of a narrow PE. What is lost when they are narrower than the "
            "largest sum depends on the order of additions (the array's folds and dataflow), on what happens at the "
            "edge (saturate or wrap), and on the operands: splitting halves magnitudes and adds terms. All of it is "
            "executed here, register by register's rule, and counted.",
            "",
            "    python -m reports.studies.accumulators --data DIR",
            "",
            f"{setting['executed']} executions ({proof} bit-exact against torch on {setting['bit_exact_images']} "
            f"images each), {_images(results)}. Activations of 8 bits, first and last layer 8-bit weights.",
            "",
            "![Accuracy against the width of the sums](saturate.png)",
            "",
            "![The same, wrapping](wrap.png)",
            "",
            "## Findings",
            "",
            *[f"* {line}" for line in findings(results)],
            "",
            "## Narrowest sums",
            "",
            f"*kept*: the narrowest width at which accuracy is not decidedly behind 24 bits ({DEVIATIONS} paired "
            "standard errors), all wider ones included. *clean*: the narrowest at which no output of any image "
            "differed from the unbounded sum. A `≤` marks the narrowest width that was measured.",
            "",
            *_narrowest(results),
            "",
            "## Accuracy",
            "",
            "Top-1 in percent, and in brackets the outputs that differed from the unbounded sum, all images together.",
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
    "One network, trained without any thought of narrow sums; networks trained for them keep much narrower ones.",
    "Sums are ordered as these arrays order them; another number of rows cuts the products into other folds.",
    "Accumulators have one width in all layers; the first layer or the widest may need a bit more than the rest.",
    "A few hundred images: losses under about two points are undecided and count as kept.",
)


def _images(results: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name}: {item['images']} images, float {percent(item['float'])} %"
        for name, item in results["setting"]["networks"].items()
    )


def machine_words(row: Row) -> str:
    """Return a machine in words."""
    where = "" if row["dataflow"] == "os" else f", {row['rows']} rows"
    narrow = "accumulators" if row["dataflow"] == "os" else "hops" if row["narrow"] == "hops" else "hops and sums"
    return f"{FLOWS[row['dataflow']]}{where}, {narrow}"


def _narrowest(results: Mapping[str, Any]) -> list[str]:
    recipes = list(dict.fromkeys(row["recipe"] for row in results["narrowest"]))
    rows = []
    for key in dict.fromkeys((machine_words(r), r["rule"]) for r in results["narrowest"]):
        cells = []
        for recipe in recipes:
            found = next(
                r for r in results["narrowest"] if (machine_words(r), r["rule"], r["recipe"]) == (*key, recipe)
            )
            cells.append(f"{_bits(found, 'kept')} / {_bits(found, 'clean')}")
        rows.append((*key, *cells))
    return markdown_table(("machine", "rule", *(f"{r}: kept / clean" for r in recipes)), rows, left=2)


def _bits(found: Row, name: str) -> str:
    bits = found[name]
    return "none" if bits is None else f"≤{bits}" if bits == found["measured"] else str(bits)


def _table(results: Mapping[str, Any]) -> list[str]:
    recipes = list(dict.fromkeys(row["recipe"] for row in results["rows"]))
    cells = {(machine_words(r), r["rule"], r["bits"], r["recipe"]): r for r in results["rows"]}
    rows = []
    for machine, rule, bits in dict.fromkeys(key[:3] for key in cells):
        found = [cells[machine, rule, bits, recipe] for recipe in recipes]
        rows.append(
            (machine, rule, str(bits), *(f"{percent(r['accuracy'])} ({r['overflowed_outputs']:,})" for r in found))
        )
    return markdown_table(("machine", "rule", "bits", *recipes), rows, left=2)


def findings(results: Mapping[str, Any]) -> list[str]:
    """Return what follows from the tables, in plain words."""
    return [*_rules(results), *_flows(results), *_splitting(results)]


def _pairs(results: Mapping[str, Any], name: str, first: Any, second: Any, figure: str) -> Iterator[int]:
    """Yield the bits that the first needs more than the second, all else equal; where neither is known, nothing."""
    others = [n for n in ("network", "dataflow", "rows", "narrow", "rule", "recipe") if n != name]
    for row in results["narrowest"]:
        if row[name] != first:
            continue
        for other in results["narrowest"]:
            alike = other[name] == second and all(row[n] == other[n] for n in others)
            if alike and row[figure] is not None and other[figure] is not None:
                yield row[figure] - other[figure]


def _rules(results: Mapping[str, Any]) -> Iterator[str]:
    more = list(_pairs(results, "rule", "wrap", "saturate", "kept"))
    if more:
        yield (
            f"Wrapping needs {min(more)} to {max(more)} bits more than saturating to keep its accuracy, on the same "
            f"machine with the same recipe ({len(more)} pairs, mean {sum(more) / len(more):.1f})."
        )
    below = [(row["clean"] - row["kept"]) for row in results["narrowest"]
             if row["rule"] == "saturate" and row["clean"] is not None and row["kept"] is not None]  # fmt: skip
    if below:
        yield (
            f"Saturating sums may be {min(below)} to {max(below)} bits narrower than those that nothing ever leaves "
            f"(mean {sum(below) / len(below):.1f})."
        )


def _flows(results: Mapping[str, Any]) -> Iterator[str]:
    kept: dict[str, list[int]] = {}
    for row in results["narrowest"]:
        if row["rule"] == "saturate" and row["kept"] is not None:
            kept.setdefault(machine_words(row), []).append(row["kept"])
    parts = [f"{machine} {min(bits)}–{max(bits)}" for machine, bits in kept.items()]
    yield f"Narrowest saturating sums that keep the accuracy, over the recipes, in bits: {'; '.join(parts)}."


def _splitting(results: Mapping[str, Any]) -> Iterator[str]:
    recipes = list(dict.fromkeys(row["recipe"] for row in results["narrowest"]))
    for recipe in recipes:
        split = next((other for other in recipes if other != recipe and other.startswith(f"{recipe} + OCS")), None)
        if split is None:
            continue
        for figure, words in (("kept", "to keep its accuracy"), ("clean", "for no overflow at all")):
            more = list(_pairs(results, "recipe", split, recipe, figure))
            if more:
                yield f"{split}, against {recipe}, needs {_range(more)} {words} ({len(more)} pairs)."
    yield (
        "Unsplit and split networks have other scales, so equal sums stand for other numbers: what splitting does to "
        "a sum's magnitude shows in the bits above, not in the formula."
    )


def _range(more: list[int]) -> str:
    low, high = min(more), max(more)
    if low == high == 0:
        return "neither more nor fewer bits"
    words = f"{low:+d} bits" if low == high else f"{low:+d} to {high:+d} bits"
    return words.replace("-", "−").replace("+0 ", "0 ")


def charts(results: Mapping[str, Any]) -> dict[str, Chart]:
    """Return the study's figures by file name."""
    return {rule: _lines(results, rule) for rule in ("saturate", "wrap")}


def _lines(results: Mapping[str, Any], rule: str) -> Chart:
    rows = [row for row in results["rows"] if row["rule"] == rule and row["narrow"] == "both"]
    series = []
    for place, key in enumerate(dict.fromkeys((r["dataflow"], r["rows"], r["recipe"]) for r in rows)):
        mine = sorted((r for r in rows if (r["dataflow"], r["rows"], r["recipe"]) == key), key=lambda r: r["bits"])
        marks = tuple(Mark(r["bits"], 100 * r["accuracy"]) for r in mine)
        name = f"{key[0].upper()}{'' if key[0] == 'os' else f' {key[1]}'}, {key[2]}"
        style = "dashed" if "OCS" in key[2] else "line"
        series.append(Series(name, style, marks, place % 7 + 1))
    return Lines(
        f"Top-1 by width of hops and accumulators, {rule}",
        Scale("bits"),
        Scale("top-1, %", lambda value: f"{value:.0f}"),
        tuple(series),
    )
