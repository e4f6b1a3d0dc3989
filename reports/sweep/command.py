"""The commands ``accelsim sweep``, ``merge`` and ``export``."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add what a sweep takes."""
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="networks, recipes, machines and technologies")
    parser.add_argument("--store", type=Path, required=True, metavar="FILE", help="kept here; run again to go on")
    group = parser.add_argument_group("work")
    group.add_argument("--workers", type=int, metavar="N", help="local processes (default: one per core)")
    group.add_argument("--scheduler", metavar="ADDRESS", help="work on a Dask cluster instead (extra `dist`)")
    group.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="do only the I-th of N parts")


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Add what a merge takes."""
    parser.add_argument("stores", type=Path, nargs="+", metavar="STORE", help="stores to take points from")
    parser.add_argument("--store", type=Path, required=True, metavar="FILE", help="store that takes them; made if new")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add what an export takes."""
    parser.add_argument("source", type=Path, metavar="STORE", help="store to read")
    parser.add_argument("file", type=Path, metavar="FILE", help="table to write: .csv, .jsonl or .parquet")


def _shard(text: str) -> tuple[int, int]:
    place, _, count = text.partition("/")
    try:
        return int(place), int(count)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must look like 2/8 (got {text!r})") from None


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Run a sweep and return its summary."""
    import os

    from reports import options
    from reports.sweep.study import read_study
    from reports.sweep.sweep import How, run_sweep

    if args.workers is not None and args.scheduler is not None:
        raise ValueError(f"--workers must be given without --scheduler (got {args.workers}); the cluster has its own")
    study = read_study(args.study, options.task_options(args, ""))
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    with cluster(args.scheduler) as (executor, threads):
        how = How(workers=threads or workers, executor=executor, shard=args.shard, threads=1 if executor else None)
        summary = run_sweep(study, args.store, how)
    return {
        "study": study.name,
        "store": str(args.store),
        "points": summary.points,
        "measured": summary.measured,
        "kept": summary.kept,
        "refused": summary.refused,
        "failures": list(summary.failures),
    }


def merge(args: argparse.Namespace) -> dict[str, Any]:
    """Merge stores and return how many points came from each."""
    from reports.sweep.store import Store

    missing = [str(path) for path in args.stores if not path.is_file()]
    if missing:
        raise ValueError(f"merge: {', '.join(missing)} must exist; give stores of `accelsim sweep`")
    for path in args.stores:  # all are looked at before any is taken
        with Store(path):
            pass
    with Store(args.store, create=True) as store:
        taken = {str(path): store.merge(path) for path in args.stores}
        return {"store": str(args.store), "points": store.count(), "taken": taken}


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Export a store and return what was written."""
    from reports.sweep.export import export_store
    from reports.sweep.store import Store

    with Store(args.source) as store:
        return {"file": str(args.file), "points": export_store(store, args.file)}


def sweep_text(record: dict[str, Any]) -> str:
    """Return a sweep's summary in words."""
    lines = [
        f"{record['study']}: {record['points']} points, {record['measured']} measured now, {record['kept']} from "
        f"{record['store']}"
    ]
    if record["refused"]:
        lines.append(f"{record['refused']} points cannot be built or priced; the store says why (status refused)")
    lines += [f"failed: {failure}" for failure in record["failures"]]
    return "\n".join(lines)


def merge_text(record: dict[str, Any]) -> str:
    """Return a merge's summary in words."""
    lines = [f"{path}: {count} new points" for path, count in record["taken"].items()]
    return "\n".join([*lines, f"{record['store']}: {record['points']} points"])


@contextmanager
def cluster(address: str | None) -> Iterator[tuple["Executor | None", int]]:
    """Open a Dask cluster as an executor with its number of threads; nothing where no address is given."""
    if address is None:
        yield None, 0
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"--scheduler needs Dask ({error}); install accelsim[dist]") from None
    try:
        client = Client(address, timeout=30)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise ValueError(f"the Dask scheduler at {address} has no workers; start some with `dask worker {address}`")
        yield client.get_executor(pure=False), threads
