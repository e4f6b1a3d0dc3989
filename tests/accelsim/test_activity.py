"""Counts of events: a mapping that adds up."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.activity import Activity, Event, merged

EVENTS = st.builds(
    Event, st.sampled_from(["pe", "dram", "vector"]), st.sampled_from(["read", "write"]), st.tuples(st.integers(1, 3))
)
COUNTS = st.dictionaries(EVENTS, st.integers(0, 10**18))


@given(st.lists(COUNTS, max_size=4))
def test_activities_add_up_as_counters_do(parts: list[dict[Event, int]]) -> None:
    expected: Counter[Event] = Counter()
    for part in parts:
        expected.update(part)
    total = merged(map(Activity, parts))
    assert {event: total[event] for event in expected} == dict(expected)
    assert dict(total) == {event: expected[event] for event in expected}
    one_by_one = Activity()
    for part in parts:
        one_by_one = one_by_one + Activity(part)
    assert dict(one_by_one) == dict(total)


@given(COUNTS)
def test_counts_of_a_component_are_those_of_its_actions(counts: dict[Event, int]) -> None:
    activity = Activity(counts)
    for component in ("pe", "dram", "vector", "none"):
        assert activity.of(component) == sum(activity.of(component, action) for action in ("read", "write"))
        assert activity.of(component) == sum(count for event, count in counts.items() if event.component == component)


def test_what_never_happened_counts_zero_and_changes_nothing() -> None:
    activity = Activity({Event("dram", "read", (1,)): 2})
    assert activity[Event("dram", "write", (1,))] == 0
    assert dict(activity) == {Event("dram", "read", (1,)): 2}


def test_events_print_as_errors_name_them() -> None:
    assert str(Event("pe", "mac", (8, 4, 32))) == "pe.mac[8x4x32]"
    assert str(Event("leakage", "cycle")) == "leakage.cycle"


def test_nothing_is_counted_less_than_never() -> None:
    with pytest.raises(AssertionError, match=r"dram\.read\[1\] counted -1 times"):
        Activity({Event("dram", "read", (1,)): -1})
