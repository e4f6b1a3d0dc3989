"""Regenerate the study: ``python -m reports.studies.qa_split --data DIR``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelsim.config import load_accelerator
from accelsim.store import write_atomically
from reports.progress import progress
from reports.studies.common import Bench, Kept, kept_setting, measure_all
from reports.studies.qa_split.page import render
from reports.studies.qa_split.study import recipes, results
from reports.task import TaskOptions, load_task

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    parser = argparse.ArgumentParser(prog="python -m reports.studies.qa_split", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of real weights and images")
    parser.add_argument("--network", default="cifar10-resnet20")
    parser.add_argument("--images", type=int, default=9000, help="images to evaluate (9000)")
    parser.add_argument("--calib", type=int, default=512, help="images to calibrate on (512)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accelerator", default="edge-32x32")
    parser.add_argument("--bit-exact-images", type=int, default=8, help="proved per Program (8)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kept", type=Path, default=Path("build/qa_split"), metavar="DIR",
                        help="measurements are kept here; run again to go on")  # fmt: skip
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where the files go (this package)")
    args = parser.parse_args(argv)
    try:
        found = run_study(args)
    except (ValueError, OSError) as error:
        print(f"qa_split: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomically(args.out / "README.md", render(found).encode())
    print(render(found))
    return 0


def run_study(args: argparse.Namespace) -> dict[str, Any]:
    """Return the results with their setting."""
    task = load_task(
        TaskOptions(network=args.network, data=args.data, images=args.images, calib=args.calib, seed=args.seed)
    )
    accelerator = load_accelerator(args.accelerator)
    exact = min(args.bit_exact_images, len(task.evaluated))
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
