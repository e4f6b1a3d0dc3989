"""Timelines of a simulated batch as a file: ``--trace``."""

from typing import TYPE_CHECKING

from accelsim.program import Program
from accelsim.simulate import simulate
from accelsim.trace import write_chrome_trace

if TYPE_CHECKING:  # a run imports this module
    from reports.run import Machinery


def write_timeline(program: Program, machinery: "Machinery") -> None:
    """Play one pass of a batch event by event and write it as Chrome trace JSON; nothing where no file is asked for.

    Raises
    ------
    ValueError
        In a timing mode that knows no memory and so no timeline.
    """
    if machinery.trace is None:
        return
    if machinery.timing_mode == "scalesim":
        raise ValueError("--trace: timing mode scalesim is a formula without a timeline; use isolated or overlapped")
    result = simulate(
        program,
        machinery.accelerator,
        machinery.technology,
        batch=machinery.batch,
        timing_mode=machinery.timing_mode,
        memory="events",
    )
    write_chrome_trace(result, machinery.trace)
