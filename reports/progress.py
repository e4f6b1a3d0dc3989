"""Progress bars on standard error, only where somebody watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

Advance = Callable[[int], None]

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


def _bar(what: str, total: float, **style: Any) -> Any:
    return tqdm(
        total=total,
        desc=what,
        leave=False,
        file=sys.stderr,
        disable=_hidden.get() or not sys.stderr.isatty(),
        dynamic_ncols=True,
        **style,
    )


@contextmanager
def hide_progress() -> Iterator[None]:
    """Show no bars inside the block: whoever asked for the work shows one of its own."""
    before = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(before)


@contextmanager
def progress(what: str, total: int, unit: str = "image") -> Iterator[Advance]:
    """Show a bar for `total` units of work while the block runs; the block calls the function it is given.

    Nothing is written where standard error is no terminal, and nothing is left behind at the end.
    """
    with _bar(what, total, unit=unit) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


@contextmanager
def progress_share(what: str) -> Iterator[Callable[[float], None]]:
    """Show a bar for work that reports the share that is done; it appears with the first report."""
    bars: list[Any] = []

    def report(share: float) -> None:
        if not bars:
            bars.append(_bar(what, 1.0, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"))
        bars[0].update(share - bars[0].n)

    try:
        yield report
    finally:
        for bar in bars:
            bar.close()
