"""Regenerate the study from the other studies' results: ``python -m reports.studies.paper_tables``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.plots import write_figures
from reports.studies.command import FOLDER, regenerate
from reports.studies.paper_tables.charts import charts
from reports.studies.paper_tables.page import render
from reports.studies.paper_tables.study import collect


def main(argv: Sequence[str] | None = None) -> int:
    """Read the studies' results and write this one's files."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.studies.paper_tables", description="Regenerate the study paper_tables."
    )
    parser.add_argument(
        "--studies", type=Path, default=FOLDER, metavar="DIR", help="folder of the studies' results (the committed)"
    )
    parser.add_argument(
        "--out", type=Path, default=FOLDER / "paper_tables", metavar="DIR", help="where the files go (the package)"
    )
    return regenerate(parser, argv, run, render)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return the results; write the figures."""
    found = collect(args.studies)
    write_figures(charts(found), args.out)
    return found


if __name__ == "__main__":
    sys.exit(main())
