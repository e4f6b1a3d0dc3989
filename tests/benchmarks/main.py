"""Run the benchmarks: ``python -m tests.benchmarks.main [NAME ...] [--json FILE]``.

Each ``bench_*.py`` has ``run()``, which gives rows {name, value, unit, baseline_name, baseline, ratio}, the baseline
measured in the same run. Ratios are what to look at; nothing here passes or fails.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from accelsim.store import write_atomically


def main() -> None:
    """Run the named benchmarks, or all."""
    names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default all")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"unknown benchmarks {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    rows: list[dict[str, Any]] = []
    for name in options.names or names:
        module = importlib.import_module(f"tests.benchmarks.bench_{name}")
        for row in module.run():
            rows.append(row)
            ratio = f"{row['ratio']:8.3g} × {row['baseline_name']} ({row['baseline']:.4g})" if row["ratio"] else ""
            sys.stdout.write(f"{row['name']:<58} {row['value']:10.4g} {row['unit']:<16} {ratio}\n")
            sys.stdout.flush()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, json.dumps(rows, indent=2).encode())


if __name__ == "__main__":
    main()
