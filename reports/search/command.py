"""The command ``accelsim search``."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes besides its output."""
    parser.add_argument("search", type=Path, metavar="SEARCH.yaml", help="what to choose among, and by what")
    parser.add_argument("--store", type=Path, required=True, metavar="FILE", help="goes on with what it has")
    parser.add_argument("--trials", type=int, metavar="N", help="designs to judge, in place of the file's")
    parser.add_argument("--seed", type=int, metavar="S", help="of the search, in place of the file's")
    parser.add_argument("--threads", type=int, metavar="N", help="of the engine (default: all cores)")
    parser.add_argument("--trust", action="store_true", help="load a .pt2 network, which can execute what is in it")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"real weights and samples (default: ${options.DATA_VARIABLE})"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where networks trained on first use are kept (~/.cache/accelsim)"
    )


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str, bool]:
    """Run the search; return its record, its summary, and whether no design of the front differs from the oracle.

    Raises
    ------
    ValueError
        For a file, a store or numbers that cannot be used.
    """
    from reports.search.file import read_search
    from reports.search.result import search_summary
    from reports.search.run import run_search
    from reports.task import TaskOptions

    for name, least in (("trials", 1), ("seed", 0), ("threads", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} must be >= {least} (got {value})")
    base = TaskOptions(
        network="",
        data=options.data_folder(args),
        trust=args.trust,
        cache=args.cache or Path.home() / ".cache" / "accelsim",
    )
    search = read_search(args.search, base)
    given = {name: value for name in ("trials", "seed") if (value := getattr(args, name)) is not None}
    search = replace(search, settings=replace(search.settings, **given))
    found = run_search(search, args.store, args.threads or os.cpu_count() or 1)
    sound = all(entry["bit_exact"] is not False for entry in found.record["front"])
    return found.record, search_summary(found.record, found.executed), sound
