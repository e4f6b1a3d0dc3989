"""Regenerate the study: ``python -m reports.studies.transformers --data DIR``."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from accelsim.config import Accelerator, load_accelerator
from reports.progress import progress
from reports.studies.command import add_cache, regenerate, study_parser
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write its files."""
    names = [*BERTS, STORIES]
    parser = study_parser("transformers", samples="samples", proved=2)
    add_cache(parser)
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument("--samples", type=int, help="samples to evaluate of each network (default: as committed)")
    return regenerate(parser, argv, run_study, render)


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
    return Bench(task=task, accelerator=accelerator, threads=args.threads, exact_samples=args.exact)


def _kept(bench: Bench, args: argparse.Namespace) -> Kept:
    # the float figure stands for the weights, some of which are trained here
    setting = kept_setting(bench, args.seed) | {"float": bench.task.metric.value(bench.task.float_tallies)}
    return Kept(args.kept, setting)


if __name__ == "__main__":
    sys.exit(main())
