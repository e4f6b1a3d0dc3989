"""Regenerate the study: ``python -m reports.studies.lstm_words --data DIR``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.progress import progress
from reports.studies.command import add_cache, regenerate, study_parser
from reports.studies.common import Bench, Kept, kept_setting
from reports.studies.lstm_words.page import render
from reports.studies.lstm_words.study import NETWORKS, Network, cells, machine, run_network
from reports.task import TaskOptions, load_task


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    names = [network.name for network in NETWORKS]
    parser = study_parser("lstm_words", samples="windows", proved=2)
    add_cache(parser)
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument(
        "--windows", type=int, help="windows of text to evaluate of each network (default: as committed)"
    )
    return regenerate(parser, argv, run_study, render)


def run_study(args: argparse.Namespace) -> dict[str, Any]:
    """Return the results with their setting."""
    chosen = [network for network in NETWORKS if network.name in args.networks]
    if args.windows is not None:
        chosen = [replace(network, windows=args.windows) for network in chosen]
    command = f"python -m reports.studies.lstm_words --data DIR --seed {args.seed} --accelerator {args.accelerator}"
    if len(chosen) < len(NETWORKS):
        command += f" --networks {' '.join(network.name for network in chosen)}"
    return {
        "setting": {"command": command, "seed": args.seed, "accelerator": machine(args.accelerator).name},
        "networks": {network.name: measure_network(network, args) for network in chosen},
    }


def measure_network(network: Network, args: argparse.Namespace) -> dict[str, Any]:
    """Return one network's part of the results."""
    options = TaskOptions(
        network=network.name, data=args.data, images=network.windows, calib=network.calib, seed=args.seed,
        cache=args.cache,
    )  # fmt: skip
    task = load_task(options)
    bench = Bench(
        task=task,
        accelerator=machine(args.accelerator),
        threads=args.threads,
        exact_samples=args.exact,
    )
    # the float figure stands for the weights, some of which are trained here
    setting = kept_setting(bench, args.seed) | {"float": task.metric.value(task.float_tallies)}
    with progress(network.name, len(cells()), "cell") as advance:
        return run_network(bench, Kept(args.kept, setting), advance)


if __name__ == "__main__":
    sys.exit(main())
