"""Timelines as Chrome trace JSON: the keys that viewers need, and times that are those of the model."""

import json
from itertools import pairwise

import pytest
from machines import machine
from networks import mlp, mobilenet

from accelsim import simulate
from accelsim.trace import UNITS, chrome_trace, write_chrome_trace


@pytest.mark.parametrize("cores", [1, 2])
def test_a_timeline_is_trace_events_of_the_whole_time(cores, tmp_path):
    result = simulate(mobilenet(), machine(cores=cores), memory="events")
    path = tmp_path / "trace.json"
    write_chrome_trace(result, path)
    trace = json.loads(path.read_text(encoding="utf-8"))
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    named = [event for event in trace["traceEvents"] if event["ph"] == "M"]
    assert len(events) + len(named) == len(trace["traceEvents"])
    assert {event["pid"] for event in events} == set(range(cores))
    assert {event["tid"] for event in events} == set(range(len(UNITS)))
    assert {(event["pid"], event["args"]["name"]) for event in named if event["name"] == "thread_name"} == {
        (core, unit) for core in range(cores) for unit in UNITS
    }
    assert all(isinstance(event["name"], str) and event["dur"] > 0 and event["ts"] >= 0 for event in events)
    end = max(event["ts"] + event["dur"] for event in events)
    assert end == pytest.approx(result.seconds * 1e6)
    for core in range(cores):  # a unit does one thing at a time
        for unit in range(len(UNITS)):
            mine = sorted((e["ts"], e["dur"]) for e in events if (e["pid"], e["tid"]) == (core, unit))
            for (start, length), (following, _) in pairwise(mine):
                assert start + length <= following * (1 + 1e-12)


def test_the_channel_carries_one_transfer_at_a_time_and_all_of_them():
    result = simulate(mlp(300, 200, 100, rows=4), machine(cores=2), memory="events")
    moved = sorted((span.start, span.end) for span in result.spans if span.unit == "dram")
    assert all(end <= start for (_, end), (start, _) in pairwise(moved))
    one = simulate(mlp(300, 200, 100, rows=4), machine(), memory="events")
    cycles = sum(span.end - span.start for span in one.spans if span.unit == "dram")
    rate = 4e3 * 0.75 / 500
    assert one.dram_bytes / rate <= cycles <= one.dram_bytes / rate + sum(s.unit == "dram" for s in one.spans)


def test_the_array_is_running_or_waiting_for_a_cause_all_the_time():
    result = simulate(mobilenet(), machine(), memory="events")
    spans = sorted((span.start, span.end, span.what) for span in result.spans if span.unit == "array")
    assert spans[0][0] == 0
    assert all(end == start for (_, end, _), (start, _, _) in pairwise(spans))
    waited = sum(end - start for start, end, what in spans if what == "wait for dram")
    last_store = result.cycles - spans[-1][1]
    assert waited + last_store == result.stall_cycles["dram"]


def test_a_result_without_a_timeline_says_how_to_get_one():
    with pytest.raises(ValueError, match="simulate with memory='events'"):
        chrome_trace(simulate(mlp(8, 8), machine()))
