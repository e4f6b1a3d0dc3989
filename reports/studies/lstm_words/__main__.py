"""Regenerate the study: ``python -m reports.studies.lstm_words --data DIR``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelsim.store import write_atomically
from reports.progress import progress
from reports.studies.common import Bench, Kept, kept_setting
from reports.studies.lstm_words.page import render
from reports.studies.lstm_words.study import NETWORKS, Network, cells, machine, run_network
from reports.task import TaskOptions, load_task

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    names = [network.name for network in NETWORKS]
    parser = argparse.ArgumentParser(prog="python -m reports.studies.lstm_words", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of real weights and texts")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "accelsim", metavar="DIR",
                        help="where the word LSTM is kept, which is trained on first use")  # fmt: skip
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument(
        "--windows", type=int, help="windows of text to evaluate of each network (default: as committed)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accelerator", default="edge-32x32")
    parser.add_argument("--bit-exact-windows", type=int, default=2, help="proved per Program, in two batches (2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kept", type=Path, default=Path("build/lstm_words"), metavar="DIR",
                        help="measurements are kept here; run again to go on")  # fmt: skip
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where the files go (this package)")
    args = parser.parse_args(argv)
    try:
        found = run_study(args)
    except (ValueError, OSError) as error:
        print(f"lstm_words: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    write_atomically(args.out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomically(args.out / "README.md", render(found).encode())
    return 0


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
        exact_samples=args.bit_exact_windows,
    )
    # the float figure stands for the weights, some of which are trained here
    setting = kept_setting(bench, args.seed) | {"float": task.metric.value(task.float_tallies)}
    with progress(network.name, len(cells()), "cell") as advance:
        return run_network(bench, Kept(args.kept, setting), advance)


if __name__ == "__main__":
    sys.exit(main())
