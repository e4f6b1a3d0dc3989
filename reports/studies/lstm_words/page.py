"""The study's page: each network's table beside the paper's, and what follows from it."""

from collections.abc import Mapping
from typing import Any

from reports.studies.common import DEVIATIONS, Difference, markdown_table, minus
from reports.studies.lstm_words.findings import Part, cell_of, compared, judge_all
from reports.studies.lstm_words.published import BITS, CLIPS, FLOAT, RATIOS, published
from reports.studies.lstm_words.study import SUM_BITS, WIDER, Cell

METRICS = {"bits_per_char": ("bits per character", 3), "perplexity": ("perplexity", 1)}
"""What a metric is called, and the digits it is shown with."""

ABOUT = {
    "char-lstm": (
        "Two layers of 128 cells that predict the next of 108 characters of English prose (ml5js/ml5-data-and-models). "
        "The state starts at zero in each window of 150 characters, of which the last 100 count."
    ),
    "wikitext2-lstm": (
        "The paper's form, two layers of 650 cells and an embedding of 650, but **trained by our script on the "
        "validation part of WikiText-2** (214 thousand words, three passes; the training part is not at hand) and "
        "**evaluated on the test part**. It knows the 13,777 words of what it was trained on; others count as unknown. "
        "The state starts at zero in each window of 70 words, of which the last 35 count. Its perplexity is therefore "
        "not to be compared with the paper's, only what quantization does to it."
    ),
}

LIMITS = (
    f"The paper quantizes weights alone. Here activations, gates and cells have 16 bits in place of floats and sums "
    f"{SUM_BITS} bits, so that the network runs on integers throughout; the row of "
    f"{WIDER[0]}-bit weights shows what that costs.",
    "The last linear layer keeps 8-bit weights and is not split, the default policy of this project; the paper does "
    "not say which layers it left out. Embeddings have 16 bits.",
    "The paper states no standard errors; its own differences of a few tenths of perplexity may be chance.",
)


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    lines = [
        "# Outlier channel splitting on recurrent networks",
        "",
        "Table 6 of the OCS paper (Zhao et al., ICML 2019, arXiv:1901.09504) in the same shape, executed on integers: "
        "weights of 6 and 5 bits, expansion ratio r, clip rule.",
        "",
        f"    {results['setting']['command']}",
        "",
        f"Weights have one symmetric scale a matrix, activations 16 bits. Less is better. Behind each figure stands "
        f"its difference from the unsplit, unclipped network of the same width (from the float network where it is "
        f"that one itself) ± one paired standard error; ✓ marks what is decidedly better, ✗ what is decidedly worse, "
        f"that is, by more than {DEVIATIONS} standard errors. All else is undecided.",
        "",
    ]
    for name, part in results["networks"].items():
        lines += _network(name, part, results["setting"])
    return "\n".join([*lines, "## What this does not show", "", *[f"* {line}" for line in LIMITS], ""])


def _network(name: str, part: Part, setting: Mapping[str, Any]) -> list[str]:
    what, digits = METRICS[part["metric"]]
    real = part["float"]
    return [
        f"## {name}",
        "",
        ABOUT[name],
        "",
        f"{part['windows']} windows with {part['labels']} labels evaluated, {part['calibration_windows']} others "
        f"calibrated on (seed {setting['seed']}). Float: {real['accuracy']:.{digits}f} ± "
        f"{real['standard_error']:.{digits}f} {what}. {_proof(part)}, on {setting['accelerator']}.",
        "",
        *_table(part, digits),
        "",
        "Findings of the paper:",
        "",
        *[f"* {judged.text()}" for judged in judge_all(part)],
        "",
    ]


def _proof(part: Part) -> str:
    cells = part["cells"]
    exact = sum(cell["bit_exact"] for cell in cells)
    overflowed = sum(cell["overflowed_outputs"] for cell in cells)
    samples, batches = cells[0]["bit_exact_samples"], cells[0]["bit_exact_batches"]
    return (
        f"{exact} of {len(cells)} Programs bit-exact against the torch oracle on {samples} windows in {batches} "
        f"batches each, {overflowed} sums left their registers"
    )


def _table(part: Part, digits: int) -> list[str]:
    names = ("none", "MSE", "ACIQ", "KL")
    theirs = part["metric"] == "perplexity"
    header = ["W bits", "r", "weights stored", *names, *(f"paper {name}" for name in names if theirs)]
    rows = []
    for bits in WIDER:
        cells = [str(bits), "0", "1.000", _cell(part, Cell(bits, 0.0, "none"), digits)]
        rows.append(cells + [""] * (len(header) - len(cells)))
    for bits in BITS:
        for ratio in RATIOS:
            row = [Cell(bits, ratio, clip) for clip in CLIPS]
            grown = cell_of(part, row[0])["weight_expansion"]
            cells = [str(bits), f"{ratio:g}", f"{grown:.3f}", *(_cell(part, cell, digits) for cell in row)]
            rows.append(cells + [f"{published(bits, ratio, clip):.1f}" for clip in CLIPS if theirs])
    lines = markdown_table(header, rows, left=0)
    return [*lines, "", f"The paper's float network: {FLOAT}."] if theirs else lines


def _cell(part: Part, cell: Cell, digits: int) -> str:
    plain = Cell(cell.bits, 0.0, "none")
    found = compared(part, cell, None if cell == plain else plain)
    mark = "" if cell == plain else _mark(found)
    return minus(f"{cell_of(part, cell)['accuracy']:.{digits}f} ({found.text(1, digits)}){mark}")


def _mark(found: Difference) -> str:
    return " ✓" if found.ahead else " ✗" if found.behind else ""
