"""The command of a study: what all of them take, and how their files are written."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelsim.store import write_atomically

FOLDER = Path(__file__).parent

Run = Callable[[argparse.Namespace], dict[str, Any]]
Render = Callable[[Mapping[str, Any]], str]


def study_parser(name: str, *, samples: str = "images", proved: int | None = None) -> argparse.ArgumentParser:
    """Return a parser with the options of every study.

    Parameters
    ----------
    name
        Of the study's package in `reports.studies`.
    samples
        What its networks are judged on.
    proved
        Of them, proved per Program where not asked for otherwise; ``None`` where that depends on the network.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m reports.studies.{name}", description=f"Regenerate the study {name}."
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of real weights and samples")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of samples (0)")
    parser.add_argument("--accelerator", default="edge-32x32", help="whose accumulators add up (edge-32x32)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the engine (all cores)")
    parser.add_argument(
        f"--bit-exact-{samples}", dest="exact", type=int, default=proved, metavar="N",
        help=f"{samples} proved per Program, in two batches ({'as committed' if proved is None else proved})",
    )  # fmt: skip
    parser.add_argument(
        "--kept", type=Path, default=Path("build") / name, metavar="DIR",
        help="measurements are kept here; run again to go on",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=FOLDER / name, metavar="DIR", help="where the files go (the study's package)"
    )
    return parser


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add where networks are kept that are trained on first use."""
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "accelsim", metavar="DIR",
        help="where networks trained on first use are kept",
    )  # fmt: skip


def regenerate(parser: argparse.ArgumentParser, argv: Sequence[str] | None, run: Run, render: Render) -> int:
    """Run a study, write ``results.json`` and ``README.md`` and return the exit status.

    Bad input is one line on standard error and status 2; files appear whole or not at all.
    """
    args = parser.parse_args(argv)
    try:
        found = run(args)
        args.out.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
        write_atomically(args.out / "README.md", render(found).encode())
    except (ValueError, OSError) as error:
        print(f"{parser.prog.rsplit('.', 1)[-1]}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
