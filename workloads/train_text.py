"""Train a text network: ``python -m workloads.train_text NAME --data DIR --cache DIR [--seed S]``.

It does what building such a network for the first time does, and prints how far it is.
"""

import argparse
import sys
from pathlib import Path

from workloads import WORKLOADS


def main(arguments: list[str] | None = None) -> int:
    """Train one network into a folder; return the exit status."""
    names = [w.name for w in WORKLOADS.values() if w.needs_cache]
    parser = argparse.ArgumentParser(prog="workloads.train_text", description="train a text network")
    parser.add_argument("name", choices=names)
    parser.add_argument("--data", type=Path, required=True, help="folder with text/ in it")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    def show(share: float) -> None:
        print(f"\r{args.name}: {share:6.1%}", end="", file=sys.stderr, flush=True)

    try:
        WORKLOADS[args.name].build(args.data, args.seed, args.cache, progress=show)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
