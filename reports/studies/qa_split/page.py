"""The study's page: the table beside the paper's, and what follows from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.studies.common import DEVIATIONS, percent

Row = Mapping[str, Any]


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    setting = results["setting"]
    rows = results["rows"]
    return "\n".join(
        [
            "# Quantization-aware against naive splitting",
            "",
            "Table 1 of the OCS paper (Zhao et al., ICML 2019, arXiv:1901.09504), regenerated in integers: ResNet-20 "
            "on CIFAR-10, weights of 6 to 3 bits, activations of 8, channels split by the expansion ratio r.",
            "",
            f"    {setting['command']}",
            "",
            f"{setting['images']} images evaluated, {setting['calibration_images']} others calibrated on (seed "
            f"{setting['seed']}). Top-1 in percent. ± is one standard error, of paired samples for *QA − naive*. "
            f"*Ahead* where the difference is beyond {DEVIATIONS} of them. Executed on the integers of "
            f"{setting['accelerator']}, {_proof(results)}.",
            "",
            *_table(rows),
            "",
            "Unsplit, on the same images:",
            "",
            *_unsplit(results),
            "",
            "## Findings",
            "",
            *[f"* {line}" for line in findings(results)],
            "",
            "## What this does not show",
            "",
            *[f"* {line}" for line in LIMITS],
            "",
        ]
    )


LIMITS = (
    "The images are the test set after JPEG compression, which costs the float network about ten points against the "
    "paper's images: accuracies are to be compared as drops, not as levels.",
    "The first convolution and the classifier have 8-bit weights here; the authors' code leaves both in float. "
    "Activations have static 8-bit grids, unsigned after ReLU; theirs are signed and take the output scale from each "
    "batch.",
    "Another trained ResNet-20: widths at which accuracy breaks depend on the weights' outliers.",
    "The paper states no standard errors and no number of runs, so its own differences of a few tenths decide nothing.",
)


def _proof(results: Mapping[str, Any]) -> str:
    programs = [results["unsplit"][bits] for bits in results["unsplit"]]
    programs += [row[how] for row in results["rows"] for how in ("qa", "naive")]
    exact = sum(program["bit_exact"] for program in programs)
    overflowed = sum(program["overflowed_outputs"] for program in programs)
    return (
        f"{exact} of {len(programs)} Programs bit-exact against the torch oracle on "
        f"{results['setting']['bit_exact_images']} images each, {overflowed} sums left their registers"
    )


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| W bits | r | QA | naive | QA − naive | ahead | paper QA | paper naive | paper QA − naive |",
        "|--:|--:|--:|--:|--:|:--|--:|--:|--:|",
    ]
    for row in rows:
        cells = (
            str(row["weight_bits"]),
            f"{row['ratio']:g}",
            f"{percent(row['qa']['accuracy'])} ± {percent(row['qa']['standard_error'])}",
            f"{percent(row['naive']['accuracy'])} ± {percent(row['naive']['standard_error'])}",
            f"{100 * row['qa_minus_naive']:+.2f} ± {100 * row['qa_minus_naive_standard_error']:.2f}",
            row["verdict"],
            percent(row["published_qa"]),
            percent(row["published_naive"]),
            f"{100 * (row['published_qa'] - row['published_naive']):+.1f}",
        )
        lines.append("| " + " | ".join(cells).replace("-", "−") + " |")
    return lines


def _unsplit(results: Mapping[str, Any]) -> list[str]:
    lines = ["| weights | top-1 | minus float |", "|:--|--:|--:|"]
    real = results["float"]
    lines.append(f"| float | {percent(real['accuracy'])} ± {percent(real['standard_error'])} | |")
    for bits, item in results["unsplit"].items():
        drop = f"{100 * item['minus_float']:+.2f} ± {100 * item['minus_float_standard_error']:.2f}".replace("-", "−")
        lines.append(f"| {bits} bits | {percent(item['accuracy'])} ± {percent(item['standard_error'])} | {drop} |")
    return lines


def findings(results: Mapping[str, Any]) -> list[str]:
    """Return what the table says, width by width, and against the paper's claim."""
    rows = results["rows"]
    lines = []
    for bits in dict.fromkeys(row["weight_bits"] for row in rows):
        mine = [row for row in rows if row["weight_bits"] == bits]
        ahead = {who: [row for row in mine if row["verdict"] == who] for who in ("QA", "naive", "undecided")}
        words = "; ".join(f"{_name(who)} at r = {_ratios(found)}" for who, found in ahead.items() if found)
        lines.append(f"**{bits} bits**: {words}.")
    lines.append(_claim(rows))
    lines.append(_gain(rows))
    return lines


def _ratios(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['ratio']:g}" for row in rows)


def _name(who: str) -> str:
    return "undecided" if who == "undecided" else f"{who} ahead"


def _claim(rows: Sequence[Row]) -> str:
    """Judge the paper's claim: QA is ahead at 4 and 3 bits with larger r, and it does not matter above."""
    narrow = [row for row in rows if row["weight_bits"] <= 4 and row["ratio"] >= 0.1]
    wide = [row for row in rows if row["weight_bits"] >= 5]
    held = all(row["verdict"] == "QA" for row in narrow)
    lost = any(row["verdict"] == "naive" for row in narrow)
    state = "held" if held else "not held" if lost else "undecided in part"
    decided = [row for row in wide if row["verdict"] != "undecided"]
    above = "no difference is decided" if not decided else f"{len(decided)} of {len(wide)} differences are decided"
    return f"The paper's claim that QA is ahead at 4 and 3 bits with r ≥ 0.1: **{state}**. At 6 and 5 bits {above}."


def _gain(rows: Sequence[Row]) -> str:
    best = max(rows, key=lambda row: row["qa_minus_unsplit"])
    gain = f"{100 * best['qa_minus_unsplit']:+.1f} ± {100 * best['qa_minus_unsplit_standard_error']:.1f}"
    return (
        f"The largest gain of QA splitting over no splitting is {gain} points, at {best['weight_bits']} bits and "
        f"r = {best['ratio']:g}."
    )
