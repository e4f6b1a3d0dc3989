"""Conditions against a plain evaluation, and what is no condition."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import study_of

from reports.sweep.conditions import check_condition, matches

BITS, RATIOS, SIZES, FLOWS = [2, 4, 8], [None, 0.02, "fill"], [16, 32], ["ws", "os"]

values = st.one_of(
    st.none(), st.booleans(), st.integers(0, 9), st.sampled_from([0.02, 0.5, 4.0]), st.sampled_from("ab")
)
signs = st.sampled_from(["<", "<=", ">", ">=", "!="])


def plainly(asked: object, value: object) -> bool:
    """Evaluate one condition the long way."""
    if isinstance(asked, list):
        return any(plainly(item, value) for item in asked)
    if isinstance(asked, tuple):
        sign, number = asked
        if sign == "!=":
            return isinstance(value, bool) or value != number
        if value is None or isinstance(value, bool | str):
            return False
        return {"<": value < number, "<=": value <= number, ">": value > number, ">=": value >= number}[sign]
    if isinstance(asked, bool) or isinstance(value, bool):
        return asked is value
    return asked == value


def written(asked: object) -> object:
    if isinstance(asked, list):
        return [written(item) for item in asked]
    return f"{asked[0]} {asked[1]}" if isinstance(asked, tuple) else asked


asked = st.one_of(values, st.tuples(signs, st.integers(0, 9)))


@given(
    st.dictionaries(st.sampled_from("xyz"), st.one_of(asked, st.lists(asked, min_size=1, max_size=3)), min_size=1),
    st.dictionaries(st.sampled_from("xyz"), values),
)
def test_conditions_mean_what_they_say(condition, factors):
    expected = all(plainly(item, factors.get(name)) for name, item in condition.items())
    assert matches({name: written(item) for name, item in condition.items()}, factors) == expected
    assert check_condition({name: written(item) for name, item in condition.items()}, "xyz") == []


skips = st.fixed_dictionaries(
    {},
    optional={
        "weight_bits": st.sampled_from([2, [4, 8], "< 4", ">= 8", "!= 4"]),
        "ocs": st.sampled_from([None, "fill", [0.02, "fill"], "> 0.01", "!= null"]),
        "array.rows": st.sampled_from([16, "> 16", [16, 32]]),
        "array.dataflow": st.sampled_from(["os", ["ws", "os"], "!= ws"]),
    },
).filter(bool)
HOLDS = {
    ("weight_bits", "< 4"): lambda v: v < 4,
    ("weight_bits", ">= 8"): lambda v: v >= 8,
    ("weight_bits", "!= 4"): lambda v: v != 4,
    ("ocs", "> 0.01"): lambda v: v == 0.02,
    ("ocs", "!= null"): lambda v: v is not None,
    ("array.rows", "> 16"): lambda v: v > 16,
    ("array.dataflow", "!= ws"): lambda v: v != "ws",
}


@settings(max_examples=15)
@given(st.lists(skips, max_size=3))
def test_a_study_is_the_grid_without_what_is_skipped(skip):
    def left(design: dict[str, object]) -> bool:
        return not any(all(holds(name, item, design[name]) for name, item in entry.items()) for entry in skip)

    def holds(name: str, item: object, value: object) -> bool:
        if (name, str(item)) in HOLDS:
            return bool(HOLDS[name, str(item)](value))
        return value in item if isinstance(item, list) else value == item

    names = ("weight_bits", "ocs", "array.rows", "array.dataflow")
    grid = [dict(zip(names, values, strict=True)) for values in itertools.product(BITS, RATIOS, SIZES, FLOWS)]
    expected = [design for design in grid if left(design)]
    plain = {
        "recipes": [{"weight_bits": BITS, "ocs": RATIOS}],
        "accelerators": [{"base": "edge-32x32", "array.rows": SIZES, "array.dataflow": FLOWS}],
        "skip": skip,
    }
    if not expected:
        with pytest.raises(ValueError, match="no points left"):
            study_of(**plain)
        return
    found = [{name: point.factors[name] for name in names} for point in study_of(**plain).points]
    assert found == expected


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({}, "empty condition"),
        ({"width": 3}, "no factor 'width'"),
        ({"x": "< many"}, "compared with a number"),
        ({"x": [3, "> few"]}, "compared with a number"),
        ({"x": "== 3"}, "'== 3'"),
        ({"x": "=< 3"}, "'=< 3'"),
        ({"x": "<"}, "'<'"),
        ({"x": {"y": 1}}, "a value, or a list of values"),
        ({"x": [[1]]}, "a value, or a list of values"),
        ({"x": []}, "at least one"),
    ],
)
def test_what_is_no_condition_is_refused(condition, words):
    assert any(words in problem for problem in check_condition(condition, "xyz"))


def test_not_equal_takes_what_yaml_writes():
    assert not matches({"x": "!= true"}, {"x": True})
    assert not matches({"x": "!= null"}, {"x": None})
    assert matches({"x": "!= null"}, {"x": False})
    assert matches({"x": "!= ~"}, {"x": 0})
    assert not matches({"x": "!= 0.5"}, {"x": 0.5})
