"""Regenerate the study: ``python -m reports.studies.transformers --data DIR``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelsim.config import Accelerator, load_accelerator
from accelsim.store import write_atomically
from reports.progress import progress
from reports.studies.common import Bench, Kept, kept_setting
from reports.studies.lstm_words.study import machine
from reports.studies.transformers.page import render
from reports.studies.transformers.study import (
    BERT_CALIB,
    BERT_SAMPLES,
    BERTS,
    DRAWN,
    DRAWN_WINDOWS,
    LLAMA_CALIB,
    STORIES,
    bert_places,
    llama_places,
    run_bert,
    run_llama,
)
from reports.task import Task, TaskOptions, load_task

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    names = [*BERTS, STORIES]
    parser = argparse.ArgumentParser(prog="python -m reports.studies.transformers", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of real weights and texts")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "accelsim", metavar="DIR",
                        help="where BERT-Tiny is kept, which is trained on first use")  # fmt: skip
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument("--samples", type=int, help="samples to evaluate of each network (default: as committed)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accelerator", default="edge-32x32")
    parser.add_argument("--bit-exact-samples", type=int, default=2, help="proved per Program, in two batches (2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kept", type=Path, default=Path("build/transformers"), metavar="DIR",
                        help="measurements are kept here; run again to go on")  # fmt: skip
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where the files go (this package)")
    args = parser.parse_args(argv)
    try:
        found = run_study(args)
    except (ValueError, OSError) as error:
        print(f"transformers: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    write_atomically(args.out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomically(args.out / "README.md", render(found).encode())
    return 0


def run_study(args: argparse.Namespace) -> dict[str, Any]:
    """Return the results with their setting."""
    command = f"python -m reports.studies.transformers --data DIR --seed {args.seed} --accelerator {args.accelerator}"
    if args.networks != [*BERTS, STORIES]:
        command += f" --networks {' '.join(args.networks)}"
    tasks: dict[str, Any] = {}
    for name in args.networks:
        tasks |= _llama(args) if name == STORIES else {name: _bert(name, args)}
    return {"setting": {"command": command, "seed": args.seed, "accelerator": args.accelerator}, "tasks": tasks}


def _bert(name: str, args: argparse.Namespace) -> dict[str, Any]:
    bench = _bench(_task(name, args, args.samples or BERT_SAMPLES, BERT_CALIB), machine(args.accelerator), args)
    with progress(name, len(bert_places()), "Program") as advance:
        return run_bert(bench, _kept(bench, args), advance)


def _llama(args: argparse.Namespace) -> dict[str, Any]:
    drawn = _task(DRAWN, args, args.samples or DRAWN_WINDOWS, LLAMA_CALIB)
    stories = _task(STORIES, args, args.samples, LLAMA_CALIB)
    bench = _bench(drawn, load_accelerator(args.accelerator), args)
    with progress(STORIES, len(llama_places()), "Program") as advance:
        return run_llama(bench, stories, _kept(bench, args), advance)


def _task(name: str, args: argparse.Namespace, samples: int | None, calib: int) -> Task:
    options = TaskOptions(
        network=name, data=args.data, images=samples, calib=calib, seed=args.seed, cache=args.cache
    )  # fmt: skip
    return load_task(options)


def _bench(task: Task, accelerator: Accelerator, args: argparse.Namespace) -> Bench:
    return Bench(task=task, accelerator=accelerator, threads=args.threads, exact_samples=args.bit_exact_samples)


def _kept(bench: Bench, args: argparse.Namespace) -> Kept:
    # the float figure stands for the weights, some of which are trained here
    setting = kept_setting(bench, args.seed) | {"float": bench.task.metric.value(bench.task.float_tallies)}
    return Kept(args.kept, setting)


if __name__ == "__main__":
    sys.exit(main())
