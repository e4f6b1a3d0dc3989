"""Timelines as Chrome trace events, which Perfetto and chrome://tracing open.

Format: "Trace Event Format" (Google, public document): complete events (``ph`` X) with time and duration in
microseconds, one process per core, one thread per unit.
"""

import json
from pathlib import Path
from typing import Any

from accelsim.result import Result
from accelsim.store import write_atomically

UNITS = ("dram", "array", "vector")
"""Threads of a core, in the order in which they are shown."""


def chrome_trace(result: Result) -> dict[str, Any]:
    """Return the timeline of a result of the event-driven memory model as a trace.

    Raises
    ------
    ValueError
        If the result has no timeline.
    """
    if not result.spans:
        raise ValueError("chrome_trace: the result has no timeline; simulate with memory='events'")
    micros = result.seconds * 1e6 / result.cycles
    names = [layer.name for layer in result.layers]
    events: list[dict[str, Any]] = []
    for core in sorted({span.core for span in result.spans}):
        events.append(_named("process_name", core, 0, f"core {core}"))
        events += [_named("thread_name", core, thread, unit) for thread, unit in enumerate(UNITS)]
    events += [
        {
            "name": names[span.layer] if span.what == "run" else f"{span.what}: {names[span.layer]}",
            "cat": span.unit if span.what == "run" else span.what,
            "ph": "X",
            "ts": span.start * micros,
            "dur": (span.end - span.start) * micros,
            "pid": span.core,
            "tid": UNITS.index(span.unit),
            "args": {"layer": span.layer, "start_cycle": span.start, "cycles": span.end - span.start},
        }
        for span in result.spans
    ]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"cycles": result.cycles, "timing_mode": result.timing_mode, "batch": result.batch},
    }


def write_chrome_trace(result: Result, path: Path) -> None:
    """Write a result's timeline as a JSON file; see `chrome_trace`."""
    write_atomically(path, json.dumps(chrome_trace(result), separators=(",", ":")).encode())


def _named(kind: str, core: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": core, "tid": thread, "args": {"name": name}}
