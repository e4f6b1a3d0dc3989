"""How much memory an execution takes at most, measured in a process of its own."""

import resource
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from accelsim.config import load_accelerator
from accelsim.execute import execute
from accelsim.program import Program

STATUS = Path("/proc/self/status")


def resident_bytes(which: str) -> int:
    """Return this process's resident memory: `VmRSS` now, or `VmHWM`, the most so far.

    Where the system has no such file, the most so far stands for both.
    """
    if not STATUS.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next(int(words[1]) * 1024 for words in lines if words[0] == f"{which}:")


def _measured(program: Program, codes: Mapping[str, NDArray[Any]], threads: int) -> tuple[int, int]:
    before = resident_bytes("VmRSS")
    execute(program, codes, load_accelerator("edge-32x32"), threads=threads)
    return before, resident_bytes("VmHWM")


def peak_bytes(program: Program, codes: Mapping[str, NDArray[Any]], threads: int) -> tuple[int, int]:
    """Return resident bytes in front of an execution, Program and inputs loaded, and the most up to its end.

    The process is new, so neither what made the Program nor what ran before counts.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, program, codes, threads).result()
