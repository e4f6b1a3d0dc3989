"""Regenerate the study: ``python -m reports.studies.qa_split --data DIR``."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from accelsim.config import load_accelerator
from reports.progress import progress
from reports.studies.command import regenerate, study_parser
from reports.studies.common import Bench, Kept, kept_setting, measure_all
from reports.studies.qa_split.page import render
from reports.studies.qa_split.study import recipes, results
from reports.task import TaskOptions, load_task


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    parser = study_parser("qa_split", proved=8)
    parser.add_argument("--network", default="cifar10-resnet20")
    parser.add_argument("--images", type=int, default=9000, help="images to evaluate (9000)")
    parser.add_argument("--calib", type=int, default=512, help="images to calibrate on (512)")
    return regenerate(parser, argv, run_study, render)


def run_study(args: argparse.Namespace) -> dict[str, Any]:
    """Return the results with their setting."""
    task = load_task(
        TaskOptions(network=args.network, data=args.data, images=args.images, calib=args.calib, seed=args.seed)
    )
    accelerator = load_accelerator(args.accelerator)
    exact = min(args.exact, len(task.evaluated))
    bench = Bench(task=task, accelerator=accelerator, threads=args.threads, exact_samples=exact)
    kept = Kept(args.kept, kept_setting(bench, args.seed))
    with progress("Programs", len(recipes()), "Program") as advance:
        measured = measure_all(bench, recipes(), kept, advance)
    setting = {
        "command": f"python -m reports.studies.qa_split --data DIR --images {args.images} --calib {args.calib} "
        f"--seed {args.seed} --accelerator {args.accelerator}",
        "network": args.network,
        "images": len(task.evaluated),
        "calibration_images": len(task.calibrated),
        "seed": args.seed,
        "accelerator": args.accelerator,
        "bit_exact_images": exact,
    }
    return {"setting": setting} | results(task, measured)


if __name__ == "__main__":
    sys.exit(main())
