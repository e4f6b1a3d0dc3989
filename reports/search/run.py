"""A whole search: a validated file in; every design in the store, and the record of what was found, out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.progress import hide_progress, progress
from reports.search.explore import Judged, explore, require_optuna
from reports.search.file import Search
from reports.search.lab import Lab
from reports.search.record import SEARCH
from reports.search.result import search_record
from reports.search.space import Design
from reports.sweep.own_prices import keep_sources
from reports.sweep.store import Store


@dataclass(frozen=True)
class Found:
    """The record of a search, and how many Programs this run of it executed."""

    record: dict[str, Any]
    executed: int


def run_search(search: Search, path: Path, threads: int = 1) -> Found:
    """Search, keep everything in a store, and go on where an earlier run with this store ended.

    Raises
    ------
    ValueError
        For stores that cannot be used, and where Optuna is not installed. A design that cannot be built or priced is no
        error: it is stored with the reason.
    """
    require_optuna()
    with Store(path, create=True) as store:
        lab = Lab(search, store, threads)
        keep_sources(store, search.space.machines.values())
        total = min(search.settings.trials, search.space.size)
        with progress(search.name, total, unit="design") as advance, hide_progress():
            trials = explore(
                search.space.axes,
                search.settings,
                len(search.objectives),
                _counted(lab.judge, advance),
                lab.start(),
            )
        record = search_record(search, lab, trials)
        store.keep(SEARCH, search.name, record)
    return Found(record, lab.executed)


def _counted(
    judge: Callable[[Design], Judged | None], advance: Callable[[int], None]
) -> Callable[[Design], Judged | None]:
    def judged(design: Design) -> Judged | None:
        found = judge(design)
        advance(1)
        return found

    return judged
