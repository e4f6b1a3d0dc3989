"""The study's page: a table for each question and network, and what follows from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.studies.cnn_tables.findings import CLIPS, FINDINGS, best_clip, compared, judge_all
from reports.studies.common import DEVIATIONS, Difference, markdown_table, minus, percent

Part = Mapping[str, Any]
Cells = dict[tuple[str, int, str], Mapping[str, Any]]

SPLITS = ("ocs 0.01", "ocs 0.02", "ocs 0.05")
COMBINED = tuple(f"{name} + clip" for name in SPLITS)

TITLES = {
    "weights": "Weights, one scale per layer; activations 8 bits",
    "weights-per-channel": "Weights, one scale per output channel; activations 8 bits",
    "activations": "Activations; weights 8 bits",
    "same": "Weights, first and last layers as the rest; activations 8 bits",
    "qa": "Weights split quantization-aware and naively; activations 8 bits",
}


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    setting, networks = results["setting"], results["networks"]
    lines = [
        "# Clipping and outlier channel splitting on convolutional networks",
        "",
        "The shape of Tables 1 to 4 of the OCS paper (Zhao et al., ICML 2019, arXiv:1901.09504), on networks of which "
        "we have trained weights and images, executed in integers.",
        "",
        f"    {setting['command']}",
        "",
        "Top-1 in percent, in brackets the difference to the float network on the same images ± its paired standard "
        f"error. A difference within {DEVIATIONS} of its errors is called undecided; nothing is corrected for the "
        "number of comparisons. *OCS + clip* uses the clip rule that is best without OCS at the same width, chosen on "
        "the evaluated images, which favours clipping and the combination alike; a *clip* is one of the three rules, "
        "never no clip, which the paper's best clip may be (see paper_tables). First convolution and last linear "
        "layer keep 8-bit weights and are not split, except in the tables that say otherwise. "
        f"Accumulators of {setting['accelerator']}.",
        "",
        "## Findings of the paper",
        "",
        *_verdicts(networks),
        "",
    ]
    for name, part in networks.items():
        lines += _network(name, part)
    return "\n".join([*lines, "## What this does not show", "", *[f"* {line}" for line in LIMITS], ""])


LIMITS = (
    "The networks are not those of the paper's Tables 2 and 3, and the images are fewer: where an error is as large "
    "as the difference, nothing is claimed.",
    "The CIFAR-10 images went through JPEG compression, which costs the float networks about ten points; the "
    "ImageNet-labelled pictures are a thousand, those that calibrate left out. Compare drops, not levels.",
    "Activations have static grids here, unsigned after ReLU; the authors' code takes the scale of each layer's "
    "output from the batch and always signs. The ACIQ column is the exact optimum, not the paper's harder constants.",
    "The oracle is an experiment: its Programs are made anew for each batch, calibrated on the batch itself, and have "
    "no cost. *oracle 0* is the same without splits: the part of its gain that knowing the ranges alone gives.",
)


def _verdicts(networks: Mapping[str, Part]) -> list[str]:
    judged = {name: judge_all(part) for name, part in networks.items()}
    rows = []
    for place, finding in enumerate(FINDINGS):
        rows.append((finding.says, *(judged[name][place].verdict for name in networks)))
    return markdown_table(("finding", *networks), rows, left=1 + len(networks))


def _network(name: str, part: Part) -> list[str]:
    cells: Cells = {(c["table"], c["bits"], c["column"]): c for c in part["cells"]}
    exact = sum(c["bit_exact"] for c in part["cells"])
    overflowed = sum(c["overflowed_outputs"] for c in part["cells"])
    proof = sorted({(c["bit_exact_samples"], c["bit_exact_batches"]) for c in part["cells"]})
    each = ", ".join(f"{samples} images in {batches} batches" for samples, batches in proof)
    lines = [
        f"## {name}",
        "",
        f"Float {percent(part['float']['accuracy'])} ± {percent(part['float']['standard_error'])} on {part['images']} "
        f"images; {part['calibration_images']} others calibrated on. {exact} of {len(part['cells'])} cells bit-exact "
        f"against the torch oracle ({each}); {overflowed} sums left their registers.",
        "",
    ]
    if part["per_channel"]:
        lines += ["With one scale per layer little is left to compare here, so weights have one scale per output "
                  "channel in every table but the first.", ""]  # fmt: skip
    for table in TITLES:
        if any(key[0] == table for key in cells):
            lines += _table(cells, table)
    lines += ["### Differences", "", *_differences(part, cells), ""]
    return [*lines, "### Findings on this network", "", *[f"* {item.text()}" for item in judge_all(part)], ""]


def _table(cells: Cells, table: str) -> list[str]:
    columns = list(dict.fromkeys(column for t, _, column in cells if t == table))
    ordered = sorted(columns, key=_place)
    bits = list(dict.fromkeys(b for t, b, _ in cells if t == table))
    lines = ["", f"### {TITLES[table]}", ""]
    for part in (ordered[:10], ordered[10:]):
        if part:
            rows = [[str(b), *(_cell(cells.get((table, b, column))) for column in part)] for b in bits]
            lines += [*markdown_table(("bits", *part), rows, left=0), ""]
    return lines


def _place(column: str) -> int:
    order = ("none", *CLIPS, *SPLITS, *COMBINED)
    return order.index(column) if column in order else len(order)


def _cell(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return ""
    against = Difference(item["minus_float"], item["minus_float_standard_error"])
    return f"{percent(item['accuracy'])} ({against.text()})"


def _differences(part: Part, cells: Cells) -> list[str]:
    accuracy = {key: item["accuracy"] for key, item in cells.items()}
    lines = ["Points, ± one paired standard error; the best clip of the row is named.", ""]
    for table in ("weights", "weights-per-channel", "activations"):
        bits = list(dict.fromkeys(b for t, b, _ in cells if t == table))
        firsts = (
            [c for c in (*SPLITS, *COMBINED, "oracle 0", "oracle 0.02") if (table, bits[0], c) in cells] if bits else []
        )
        rows = []
        for b in bits:
            best = best_clip(accuracy, table, b)
            against: Sequence[Difference] = [compared(part, table, b, first, best) for first in (*firsts,)]
            clip = compared(part, table, b, best, "none")
            rows.append([str(b), best, clip.text(), *(item.text() for item in against)])
        if rows:
            header = ("bits", "best clip", "clip − none", *(f"{first} − best clip" for first in firsts))
            lines += [f"{TITLES[table]}:", "", *markdown_table(header, rows, left=0), ""]
    return [minus(line) if line.startswith("| 0") else line for line in lines]
