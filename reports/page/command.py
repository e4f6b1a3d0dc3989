"""The command ``accelsim report``: the page of a store, of runs, or of two sides compared."""

import argparse
import json
from pathlib import Path
from typing import Any

SQLITE = b"SQLite format 3\x00"


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add what a report takes."""
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="STORE|JSON",
        help="stores of `accelsim sweep`, or records of `accelsim run --json` and `accelsim cost --json`",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained page")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="write every figure of a sweep as SVG and PNG")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="digests of points, conditions such as weight_bits=4,ocs=0.05, or two of the stores",
    )


def report(args: argparse.Namespace) -> dict[str, Any]:
    """Write what is asked for and return what was written.

    Raises
    ------
    ValueError
        For files that are neither stores nor records, both together, and nothing to write.
    """
    if args.html is None and args.figures is None:
        raise ValueError("report: --html FILE or --figures DIR must be given; it says what to write")
    stores = [is_store(path) for path in args.sources]
    if all(stores):
        return _sweep_report(args)
    if any(stores):
        raise ValueError("report: stores and JSON records must be reported apart; give one kind")
    if args.compare or args.figures:
        raise ValueError("report: --compare and --figures must be given with stores; records side by side need neither")
    return _run_report(args)


def is_store(path: Path) -> bool:
    """Return whether a file is a SQLite database."""
    if not path.is_file():
        raise ValueError(f"report: {path} does not exist; give a store of `accelsim sweep` or a record of `run --json`")
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _run_report(args: argparse.Namespace) -> dict[str, Any]:
    from accelsim.store import write_atomically
    from reports.html import render_report

    records = [_record(path) for path in args.sources]
    write_atomically(args.html, render_report(records).encode())
    return {"html": str(args.html), "records": len(records)}


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"report: {path} is neither a store nor JSON ({error}); give what `--json` wrote") from None
    if not isinstance(record, dict) or not {"network", "energy_pj", "layers", "sources"} <= set(record):
        raise ValueError(f"report: {path} is no record of `accelsim run --json` or `accelsim cost --json`; give one")
    return record


def _sweep_report(args: argparse.Namespace) -> dict[str, Any]:
    from accelsim.store import write_atomically
    from reports.page.designs import load
    from reports.page.render import render_page

    loaded = load(args.sources)
    page = render_page(loaded, _comparison(args, loaded))
    written: dict[str, Any] = {"points": loaded.points, "figures": []}
    if args.html is not None:
        write_atomically(args.html, page.html.encode())
        written["html"] = str(args.html)
    if args.figures is not None:
        from reports.plots import write_figures

        written["figures"] = write_figures({figure.name: figure.chart for figure in page.figures}, args.figures)
    return written


def _comparison(args: argparse.Namespace, loaded: Any) -> Any:
    from reports.page.designs import load
    from reports.page.versus import compare_designs, compare_stores

    if args.compare is None:
        return None
    first, second = args.compare
    files = [Path(text).is_file() for text in (first, second)]
    if all(files):
        return compare_stores(load([Path(first)]), load([Path(second)]))
    if any(files):
        raise ValueError(f"--compare: A and B must both be stores or both choose designs (got {first} and {second})")
    return compare_designs(loaded, first, second)


def report_text(record: dict[str, Any]) -> str:
    """Return what was written, in words."""
    lines = [f"wrote {record['html']}"] if "html" in record else []
    if record.get("figures"):
        folder = Path(record["figures"][0]).parent
        lines.append(f"wrote {len(record['figures'])} figures to {folder}")
    return "\n".join(lines)
