"""Where a sweep's units are worked on: in this process, or in some of its own that the keyboard does not reach."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from tqdm import tqdm

from reports.progress import hide_progress


@contextmanager
def executor_of(given: Executor | None, workers: int) -> Iterator[Executor]:
    """Return the user's executor, this process for one worker, or processes that end with the sweep.

    Parameters
    ----------
    given
        Works on the units in place of local processes.
    workers
        How many processes.
    """
    if given is not None:
        yield given
        return
    if workers == 1:
        yield Here()
        return
    pool = ProcessPoolExecutor(workers, mp_context=_Unheard(), initializer=_start)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):  # an interrupted sweep waits for nobody
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def quietly(work: Callable[..., Any], *args: Any) -> Any:
    """Call a function without progress bars of its own."""
    with hide_progress():
        return work(*args)


class _Deaf(SpawnProcess):
    """A process that never hears the keyboard, not even while it starts: it inherits what its parent blocks."""

    def start(self) -> None:
        """Start the process."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)  # what came meanwhile is heard now


class _Unheard(SpawnContext):
    """Makes such processes."""

    Process = _Deaf


def _start() -> None:
    """Prepare a worker: it ends when whoever started it says so, or is gone; not by the keyboard."""
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a worker that is ended leaves behind
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


class Here(Executor):
    """Works in this process, when asked."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Return a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
