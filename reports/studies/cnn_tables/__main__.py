"""Regenerate the study: ``python -m reports.studies.cnn_tables --data DIR``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelsim.config import load_accelerator
from accelsim.store import write_atomically
from reports.progress import progress
from reports.studies.cnn_tables.page import render
from reports.studies.cnn_tables.study import NETWORKS, Network, run_network, total
from reports.studies.common import Bench, Kept, kept_setting
from reports.task import TaskOptions, load_task

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    names = [network.name for network in NETWORKS]
    parser = argparse.ArgumentParser(prog="python -m reports.studies.cnn_tables", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of real weights and images")
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument("--images", type=int, help="images to evaluate of each network (default: as committed)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accelerator", default="edge-32x32")
    parser.add_argument("--bit-exact-images", type=int, help="proved per Program, in two batches (as committed)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kept", type=Path, default=Path("build/cnn_tables"), metavar="DIR",
                        help="measurements are kept here; run again to go on")  # fmt: skip
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where the files go (this package)")
    args = parser.parse_args(argv)
    try:
        found = run_study(args)
    except (ValueError, OSError) as error:
        print(f"cnn_tables: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomically(args.out / "README.md", render(found).encode())
    return 0


def run_study(args: argparse.Namespace) -> dict[str, Any]:
    """Return the results with their setting."""
    chosen = [network for network in NETWORKS if network.name in args.networks]
    if args.images is not None:
        chosen = [replace(network, images=args.images) for network in chosen]
    command = f"python -m reports.studies.cnn_tables --data DIR --seed {args.seed} --accelerator {args.accelerator}"
    return {
        "setting": {"command": command, "seed": args.seed, "accelerator": args.accelerator},
        "networks": {network.name: measure_network(network, args) for network in chosen},
    }


def measure_network(network: Network, args: argparse.Namespace) -> dict[str, Any]:
    """Return one network's part of the results."""
    task = load_task(
        TaskOptions(network=network.name, data=args.data, images=network.images, calib=network.calib, seed=args.seed)
    )
    bench = Bench(
        task=task,
        accelerator=load_accelerator(args.accelerator),
        threads=args.threads,
        exact_samples=args.bit_exact_images or network.exact,
    )
    kept = Kept(args.kept, kept_setting(bench, args.seed))
    with progress(network.name, total(network), "cell") as advance:
        return run_network(network, bench, kept, advance)


if __name__ == "__main__":
    sys.exit(main())
