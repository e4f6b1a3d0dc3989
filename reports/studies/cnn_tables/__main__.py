"""Regenerate the study: ``python -m reports.studies.cnn_tables --data DIR``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accelsim.config import load_accelerator
from reports.progress import progress
from reports.studies.cnn_tables.page import render
from reports.studies.cnn_tables.study import NETWORKS, Network, run_network, total
from reports.studies.command import regenerate, study_parser
from reports.studies.common import Bench, Kept, kept_setting
from reports.task import TaskOptions, load_task


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    names = [network.name for network in NETWORKS]
    parser = study_parser("cnn_tables")
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument("--images", type=int, help="images to evaluate of each network (default: as committed)")
    return regenerate(parser, argv, run_study, render)


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
        exact_samples=args.exact or network.exact,
    )
    kept = Kept(args.kept, kept_setting(bench, args.seed))
    with progress(network.name, total(network), "cell") as advance:
        return run_network(network, bench, kept, advance)


if __name__ == "__main__":
    sys.exit(main())
