"""Sources of a user's own price tables, kept in the store: the file may be gone when a report is made of it."""

from collections.abc import Iterable

from reports.prices import sources_of
from reports.sweep.store import Store
from reports.sweep.study import Point

PRICES = "prices"
"""Kind of the records: by what the points call their technology."""


def keep_sources(store: Store, points: Iterable[Point]) -> None:
    """Write the sources of all price tables among the points that a user brought."""
    for prices, point in {point.prices: point for point in points if point.prices.table}.items():
        try:
            found = sources_of(prices, point.machine.accelerator)
        except ValueError:  # the points will be refused for it
            continue
        store.keep(PRICES, prices.label(), {"sources": found})
