"""The study's page: the tables, and what follows from them."""

from collections.abc import Mapping
from typing import Any

from quant.recipes import WEIGHT_BITS
from reports.studies.common import DEVIATIONS, Difference, markdown_table, minus, percent
from reports.studies.lstm_words.study import SUM_BITS
from reports.studies.transformers.findings import (
    BERT_FINDINGS,
    FLOAT,
    LLAMA_FINDINGS,
    Part,
    cell_of,
    compared,
    judge_all,
)
from reports.studies.transformers.published import INT2_GAINS
from reports.studies.transformers.study import (
    ACT_BITS,
    BERT_BITS,
    BERTS,
    DRAWN,
    FORMS,
    INNER_BITS,
    METHODS,
    STORIES,
    Place,
)

LIMITS = (
    "BERT-Tiny is trained by our script from nothing, on words instead of word pieces; the paper's two models are "
    "pre-trained ones tuned on the same tasks. Of the paper's figures only the gains at 2 bits were at hand, and not "
    "which of the two models has which.",
    "The paper keeps activations in floats, and the granularity of its scales was not at hand; here a layer has one "
    "scale, a branch of SplitQuant one scale, and activations are integers of 16 bits.",
    "The sample text has five stories. A standard error from five differences is itself uncertain, so no finding is "
    "judged on them; the text drawn from the model is judged instead, on which the float network is right by "
    "construction and any change costs perplexity.",
    "A language model of 260 thousand parameters has few outliers; what large ones show of SmoothQuant is not to be "
    "expected of it.",
)


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    setting, tasks = results["setting"], results["tasks"]
    lines = [
        "# SplitQuant, OCS, clipping and SmoothQuant on transformers",
        "",
        "Whole transformers executed on integers: embeddings, attention with integer softmax, layer and RMS norms, "
        "tables for GELU, SiLU and tanh.",
        "",
        f"    {setting['command']}",
        "",
        f"± is one standard error, of paired samples for differences; ✓ marks what is decidedly better, ✗ what is "
        f"decidedly worse, that is, by more than {DEVIATIONS} standard errors. All else is undecided.",
        "",
    ]
    berts = [name for name in BERTS if name in tasks]
    if berts:
        lines += ["## SplitQuant on BERT-Tiny", "", _bert_setting(), ""]
    for name in berts:
        lines += _bert(name, tasks[name], setting)
    if DRAWN in tasks:
        lines += _llama(tasks, setting)
    return "\n".join([*lines, "## What this does not show", "", *[f"* {line}" for line in LIMITS], ""])


def _bert_setting() -> str:
    gains = " and ".join(f"{100 * gain:.1f}" for gain in INT2_GAINS)
    return (
        f"Song and Lin, arXiv:2501.12428: all weights of 2, 4 and 8 bits, one scale a layer (a branch), symmetric or "
        f"affine; activations 16 bits in place of floats, sums {SUM_BITS} bits. The paper reports gains of {gains} "
        f"points at 2 bits on its two models. *unsplit affine* is the same network with one affine scale a layer."
    )


def _proof(part: Part) -> str:
    cells = part["cells"]
    exact = sum(cell["bit_exact"] for cell in cells)
    overflowed = sum(cell["overflowed_outputs"] for cell in cells)
    samples, batches = cells[0]["bit_exact_samples"], cells[0]["bit_exact_batches"]
    return (
        f"{exact} of {len(cells)} Programs bit-exact against the torch oracle on {samples} samples in {batches} "
        f"batches each, {overflowed} sums left their registers"
    )


def _bert(name: str, part: Part, setting: Mapping[str, Any]) -> list[str]:
    real = part["float"]
    rows = []
    for bits in BERT_BITS:
        cells = [str(bits), *(_percent_cell(part, Place(bits, form)) for form in FORMS)]
        for scales in ("symmetric", "affine"):
            gain = compared(part, Place(bits, f"SplitQuant {scales}"), f"unsplit {scales}")
            cells.append(gain.text() + _mark(gain))
        rows.append(cells)
    header = ["W bits", *FORMS, "gain, symmetric", "gain, affine"]
    return [
        f"### {name}",
        "",
        f"{part['samples']} texts evaluated, {part['calibration_samples']} others calibrated on (seed "
        f"{setting['seed']}). Top-1 in percent, behind it the difference from the float network "
        f"({percent(real['accuracy'])} ± {percent(real['standard_error'])}). {_proof(part)}.",
        "",
        *markdown_table(header, rows, left=0),
        "",
        *[f"* {judged.text(100, 1)}" for judged in judge_all(part, BERT_FINDINGS)],
        "",
    ]


def _percent_cell(part: Part, place: Place) -> str:
    found = compared(part, place, FLOAT)
    return f"{percent(cell_of(part, place)['accuracy'])} ({found.text()})"


def _llama(tasks: Mapping[str, Part], setting: Mapping[str, Any]) -> list[str]:
    lines = [
        "## A small Llama: stories260K",
        "",
        f"Weights of 8 to 3 bits, one symmetric scale a layer, the last linear layer 8 bits and not split; activations "
        f"{ACT_BITS} bits, symmetric, one scale a tensor, and {INNER_BITS} bits where the vector unit alone reads them "
        f"(residual stream, inputs of norms, softmax and SiLU). Both texts run on the same Programs, calibrated on "
        f"sequences drawn from the float model. Perplexity, less is better; behind it the difference from the column "
        f"*none*, there from the float network.",
        "",
    ]
    for name, what in ((DRAWN, "text drawn from the float model, seeded"), (STORIES, "the sample text")):
        part = tasks[name]
        real = part["float"]
        rows = [[str(bits), *(_cell(part, Place(bits, column)) for column in METHODS)] for bits in WEIGHT_BITS]
        lines += [
            f"### {name}: {what}",
            "",
            f"{part['samples']} sequences with {part['labels']} labels, {part['calibration_samples']} others "
            f"calibrated on (seed {setting['seed']}). Float: {real['accuracy']:.3f} ± {real['standard_error']:.3f}. "
            f"{_proof(part)}.",
            "",
            *markdown_table(["W bits", *METHODS], rows, left=0),
            "",
        ]
    return [*lines, *[f"* {judged.text(1, 3)}" for judged in judge_all(tasks[DRAWN], LLAMA_FINDINGS)], ""]


def _cell(part: Part, place: Place) -> str:
    plain = place.column == "none"
    found = compared(part, place, FLOAT if plain else "none")
    mark = "" if plain else _mark(found)
    return minus(f"{cell_of(part, place)['accuracy']:.3f} ({found.text(1, 3)}){mark}")


def _mark(found: Difference) -> str:
    return " ✓" if found.ahead else " ✗" if found.behind else ""
