"""Study: quantization-aware against naive splitting, the table of the OCS paper's section 3.3 on our own integers.

    python -m reports.studies.qa_split --data DIR [--network cifar10-resnet20] [--images 9000] [--out FOLDER]

Every cell is the accuracy of an integer Program under the accelerator's accumulators, activations at 8 bits, first and
last layers at 8 bits. Quantization-aware and naive splits are compared on the same images, so their difference carries
a paired standard error; a difference within two of them is called undecided.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accelsim.config import load_accelerator
from accelsim.store import write_atomically
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.task import Evaluation, Task, TaskOptions, evaluate, load_task

BITS = (6, 5, 4, 3)
RATIOS = (0.01, 0.05, 0.1, 0.2)

# Zhao et al., ICML 2019, table 1: ResNet-20 on CIFAR-10, top-1 in percent, (quantization-aware, naive).
PAPER: dict[tuple[int, float], tuple[float, float]] = {
    (6, 0.01): (92.0, 91.9), (6, 0.05): (91.9, 92.0), (6, 0.1): (92.1, 91.9), (6, 0.2): (92.0, 92.0),
    (5, 0.01): (91.6, 91.4), (5, 0.05): (91.7, 91.6), (5, 0.1): (92.0, 91.8), (5, 0.2): (91.7, 91.8),
    (4, 0.01): (88.0, 88.3), (4, 0.05): (88.2, 88.3), (4, 0.1): (88.7, 86.8), (4, 0.2): (89.1, 86.8),
    (3, 0.01): (49.9, 44.5), (3, 0.05): (58.3, 44.8), (3, 0.1): (62.7, 44.6), (3, 0.2): (76.5, 52.8),
}  # fmt: skip

DECIDED = 2.0
"""Standard errors beyond which a difference counts as decided."""


def measure(task: Task, weight_bits: int, splitting: SplitOutliers | None, threads: int) -> Evaluation:
    """Quantize and execute the network once."""
    recipe = Recipe(weight_bits=weight_bits, transforms=(splitting,) if splitting else ())
    quantized = quantize_network(task.graph, task.calibration, recipe)
    return evaluate(task, quantized, load_accelerator("edge-32x32"), threads=threads)


def cells(task: Task, threads: int) -> Iterator[dict[str, Any]]:
    """Yield one record per (bits, ratio), and one per width without splitting (ratio 0)."""
    metric = task.metric
    for bits in BITS:
        plain = measure(task, bits, None, threads)
        yield {"weight_bits": bits, "ratio": 0.0, "accuracy": metric.value(plain.tallies),
               "standard_error": metric.standard_error(plain.tallies)}  # fmt: skip
        for ratio in RATIOS:
            aware = measure(task, bits, SplitOutliers(ratio=ratio), threads).tallies
            naive = measure(task, bits, SplitOutliers(ratio=ratio, naive=True), threads).tallies
            paper = PAPER[bits, ratio]
            yield {
                "weight_bits": bits,
                "ratio": ratio,
                "aware": metric.value(aware),
                "naive": metric.value(naive),
                "standard_error": metric.standard_error(aware),
                "difference": metric.value(aware) - metric.value(naive),
                "paired_error": metric.paired_error(aware, naive),
                "paper_aware": paper[0] / 100,
                "paper_naive": paper[1] / 100,
            }


def verdict(difference: float, error: float) -> str:
    """Say which split is ahead, if that is decided."""
    if abs(difference) <= DECIDED * error:
        return "undecided"
    return "aware ahead" if difference > 0 else "naive ahead"


def markdown(record: dict[str, Any]) -> str:
    """Return the table beside the paper's."""
    lines = [
        f"# Quantization-aware against naive splitting: {record['network']}",
        "",
        f"Top-1 in percent on {record['images']} images (float {record['float'] * 100:.2f} ± "
        f"{record['float_error'] * 100:.2f}), calibrated on {record['calibrated']} others; activations 8 bits, first "
        "and last layers 8 bits. Ours are integers executed on edge-32x32; ± is one standard error, of the difference "
        "paired over images. The paper's network has another training and the original test images (where pictures are "
        "recompressed, as a JPEG set is, levels fall by some ten points), so compare differences, not levels.",
        "",
        "| W bits | r | aware | naive | difference | verdict | paper: aware | naive | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in record["cells"]:
        if cell["ratio"] == 0:
            lines.append(
                f"| {cell['weight_bits']} | 0 | {_percent(cell['accuracy'], cell['standard_error'])} | | | | | | |"
            )
            continue
        aware, naive = cell["paper_aware"] * 100, cell["paper_naive"] * 100
        lines.append(
            f"| {cell['weight_bits']} | {cell['ratio']:g} | {_percent(cell['aware'], cell['standard_error'])} | "
            f"{cell['naive'] * 100:.2f} | {cell['difference'] * 100:+.2f} ± {cell['paired_error'] * 100:.2f} | "
            f"{verdict(cell['difference'], cell['paired_error'])} | {aware:.1f} | {naive:.1f} | {aware - naive:+.1f} |"
        )
    return "\n".join([*lines, "", f"Regenerate: `{record['command']}`", ""])


def _percent(value: float, error: float) -> str:
    return f"{value * 100:.2f} ± {error * 100:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(prog="python -m reports.studies.qa_split", description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="cifar10-resnet20")
    parser.add_argument("--data", type=Path, help="folder of real weights and images")
    parser.add_argument("--images", type=int, default=9000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the table")
    options = parser.parse_args(argv)
    task = load_task(TaskOptions(network=options.network, data=options.data, images=options.images))
    record: dict[str, Any] = {
        "network": options.network,
        "images": len(task.evaluated),
        "calibrated": len(task.calibrated),
        "float": task.metric.value(task.float_tallies),
        "float_error": task.metric.standard_error(task.float_tallies),
        "command": "python -m reports.studies.qa_split --data DIR "
        f"--network {options.network} --images {options.images}",
        "cells": list(cells(task, options.threads)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    text = markdown(record)
    write_atomically(options.out / "qa_split.json", (json.dumps(record, indent=2) + "\n").encode())
    write_atomically(options.out / "qa_split.md", text.encode())
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
