"""What ``make demo`` runs: a trained network, with and without outlier channel splitting, on three accelerators.

Every row is executed bit-accurately under its accelerator's own accumulators, proved equal to the torch oracle, and
priced. ``python -m reports.demo [--html FILE] [--json FILE]``.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelsim.config import load_accelerator
from accelsim.store import write_atomically
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.html import render_report
from reports.run import Engine, Machinery, RunOptions, run_task
from reports.summary import Record, metric_text
from reports.task import TaskOptions, load_task
from reports.terminal import format_table, plain
from reports.units import duration, energy, grouped, percent, points, storage

NETWORK = "digits"
ACCELERATORS = ("edge-32x32", "gemmini-16x16", "tpu-v1-256x256")
RECIPES = (
    Recipe(weight_bits=8, act_bits=8),
    Recipe(weight_bits=4, act_bits=8),
    Recipe(weight_bits=4, act_bits=8, transforms=(SplitOutliers(ratio=0.02),)),
    Recipe(weight_bits=4, act_bits=8, transforms=(SplitOutliers(ratio=0.05),)),
)
BIT_EXACT_IMAGES = 64


def run_demo(network: str = NETWORK, accelerators: Sequence[str] = ACCELERATORS) -> list[dict[str, Any]]:
    """Return the record of every recipe on every accelerator, accelerator by accelerator."""
    asked = TaskOptions(network=network)
    task = load_task(asked)
    programs = [quantize_network(task.graph, task.calibration, recipe) for recipe in RECIPES]
    records = []
    for name in accelerators:
        for recipe, quantized in zip(RECIPES, programs, strict=True):
            options = RunOptions(
                task=asked,
                recipe=recipe,
                machinery=Machinery(accelerator=load_accelerator(name)),
                engine=Engine(threads=os.cpu_count() or 1, bit_exact_images=BIT_EXACT_IMAGES),
            )
            records.append(run_task(task, options, quantized).to_json())
    return records


def demo_table(records: Sequence[Record]) -> str:
    """Return the table for the terminal."""
    rows, last = [], ""
    for record in records:
        accuracy = record["accuracy"]
        rows.append(
            (
                record["accelerator"] if record["accelerator"] != last else "",
                record["recipe"],
                f"{metric_text(accuracy['metric'], accuracy['integer'])} ± {100 * accuracy['standard_error']:.2f}",
                points(accuracy["difference"]),
                grouped(record["cycles"]),
                duration(record["seconds"]),
                energy(record["energy_pj"]["total"]),
                storage(record["weight_bytes"]),
                storage(record["dram_bytes"]),
                percent(record["utilization"]),
                f"yes ({record['bit_exact_images']})" if record["bit_exact"] else "NO",
            )
        )
        last = record["accelerator"]
    headers = ("accelerator", "recipe", "top-1", "vs float", "cycles", "time", "energy", "weights", "DRAM", "util",
               "bit-exact")  # fmt: skip
    return format_table(headers, rows, left=(0, 1))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, print its table and write its page."""
    parser = argparse.ArgumentParser(description="The demo: digits in 8 and 4 bits, with and without OCS.")
    parser.add_argument("--html", type=Path, default=Path("build/demo.html"), help="report to write (build/demo.html)")
    parser.add_argument("--json", type=Path, help="records to write")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    records = run_demo()
    table = demo_table(records)
    args.html.parent.mkdir(parents=True, exist_ok=True)
    page = render_report(records, title="Digits in 8 and 4 bits, with and without outlier channel splitting")
    write_atomically(args.html, page.encode())
    if args.json is not None:
        write_atomically(args.json, json.dumps(records, indent=1, ensure_ascii=False).encode())
    first = records[0]
    closing = (
        f"{grouped(first['images'])} test images, float {metric_text('top1', first['accuracy']['float'])}. Every "
        f"integer of {BIT_EXACT_IMAGES} images was compared with the torch oracle's.\n"
        f"Prices: {first['technology']}; {first['band']}.\n"
        f"Report: {args.html}  ({time.perf_counter() - start:.1f} s)"
    )
    print(plain(f"{table}\n\n{closing}", sys.stdout.encoding or "ascii"))
    return 0 if all(record["bit_exact"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
