"""Runtimes' rules: array forms equal the scalar definitions, and these equal values worked out apart from them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.check import check
from accelsim.program import Add, AvgPool, Op, Program, Softmax, code_tensor
from accelsim.runtime_rules import ADD_RULES, MEAN_RULES, SOFTMAX_RULES, add_factors
from accelsim.vector import lane_work

CODES = st.lists(st.integers(-255, 255), min_size=1, max_size=20)
FACTORS = st.floats(2.0**-9, 2.0**7) | st.integers(-9, 7).map(lambda e: 2.0**e)


@pytest.mark.parametrize("rule", ADD_RULES)
@given(first=CODES, pair=st.tuples(FACTORS, FACTORS), sign=st.sampled_from([1, -1]), out=st.floats(2.0**-24, 2.0**-12))
def test_added_arrays_equal_added_integers(
    rule: str, first: list[int], pair: tuple[float, float], sign: int, out: float
) -> None:
    values = np.array(first, dtype=np.int64)
    found = ADD_RULES[rule].array((values, values[::-1]), pair, out, (1, sign))
    expected = [ADD_RULES[rule].scalar((a, b), pair, out, (1, sign)) for a, b in zip(first, first[::-1], strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize("rule", MEAN_RULES)
@given(
    totals=st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=20),
    counts=st.lists(st.integers(1, 400), min_size=20, max_size=20),
    multiplier=FACTORS,
    zeros=st.tuples(st.integers(-128, 255), st.integers(-128, 255)),
)
def test_arrays_of_means_equal_means_of_integers(
    rule: str, totals: list[int], counts: list[int], multiplier: float, zeros: tuple[int, int]
) -> None:
    pairs = list(zip(totals, counts, strict=False))
    found = MEAN_RULES[rule].array(*np.array(pairs, dtype=np.int64).T, multiplier, zeros)
    assert found.tolist() == [MEAN_RULES[rule].scalar(total, count, multiplier, zeros) for total, count in pairs]


@pytest.mark.parametrize("rule", SOFTMAX_RULES)
@given(distances=st.lists(st.integers(0, 255), max_size=30), decay=st.floats(1e-3, 3.0), bits=st.sampled_from([4, 8]))
def test_softmax_of_arrays_equals_that_of_numbers_and_is_near_the_real_one(
    rule: str, distances: list[int], decay: float, bits: int
) -> None:
    real = np.exp(-decay * np.array([0, *distances]))
    powers = real.astype(np.float32) if rule == "float32" else np.rint(real * (2**31 - 1)).astype(np.int64)
    found = SOFTMAX_RULES[rule].array(powers[None], bits)[0]
    assert found.tolist() == SOFTMAX_RULES[rule].scalar(powers.tolist(), bits)
    share = np.minimum(real / real.sum() * 2**bits, 2**bits - 1)
    assert np.abs(found - share).max() <= 0.51


def test_add_factors_keep_21_bits() -> None:
    assert add_factors((0.5, 0.25)) == (2**20, 2**19, 21)
    assert add_factors((1.5, 0.1)) == (3 * 2**19, round(float(np.float32(0.1)) * 2**20), 20)


def test_xnnpack_adds_exactly_and_rounds_half_up_once() -> None:
    rule = ADD_RULES["xnnpack"].scalar
    assert [rule((v, 0), (0.5, 0.5), 1.0, (1, 1)) for v in (-3, -1, 1, 3)] == [-1, 0, 1, 2]


def test_gemmlowp_rounds_the_sum_half_away() -> None:
    rule = ADD_RULES["gemmlowp_double"].scalar
    # operands on the output's grid times two: (v / 2) with ties away from zero
    assert [rule((v, 0), (0.5, 0.5), 2.0**-20, (1, 1)) for v in (-3, -1, 1, 3)] == [-2, -1, 1, 2]


def test_division_rounds_half_away_and_takes_no_zero_point_off() -> None:
    rule = MEAN_RULES["divide_away"].scalar
    assert [rule(total, 4, 1.0, (7, 0)) for total in (-6, -5, -2, 2, 5, 6)] == [-2, -1, -1, 1, 1, 2]


def test_the_shifted_mean_rounds_behind_the_zero_point() -> None:
    shifted, plain = (MEAN_RULES[name].scalar for name in ("float32_shifted", "float32_rne"))
    # 1/2 + 1 is a tie between 1 and 2, and 2 is even; the plain rule rounds 1/2 to 0 first
    assert (shifted(1, 2, 1.0, (0, 1)), plain(1, 2, 1.0, (0, 1))) == (2, 1)


@given(total=st.integers(-(2**15), 2**15), count=st.integers(1, 300), multiplier=st.floats(0.01, 2.0))
def test_the_reference_mean_is_within_a_unit_of_the_real_one(total: int, count: int, multiplier: float) -> None:
    real = Fraction(multiplier) * total / count
    assert abs(MEAN_RULES["gemmlowp_mean"].scalar(total, count, multiplier, (0, 5)) - 5 - real) <= Fraction(3, 4)


def lanes(op: type[Op], shapes: list[tuple[int, ...]], output: tuple[int, ...], **own: object) -> dict[str, int]:
    """Return the lane operations of one op on 8-bit codes, by action."""
    tensors = [code_tensor(f"x{i}", shape, 8, signed=True) for i, shape in enumerate(shapes)]
    tensors.append(code_tensor("y", output, 8, signed=True))
    names = tuple(tensor.name for tensor in tensors)
    made = op(name="op", inputs=names[:-1], output="y", **own)
    program = Program(
        name="p", tensors={t.name: t for t in tensors}, inputs=names[:-1], outputs=("y",), ops=(made,)
    )  # fmt: skip
    check(program)
    found: dict[str, int] = {}
    for event, count in lane_work(program, made).events:
        found[event.action] = found.get(event.action, 0) + count
    return found


GRID = {"zero_out": 0, "low": -128, "high": 127}


def test_lanes_do_what_the_rules_say() -> None:
    own = {"multipliers": (0.5, 0.5), "zero_points": (0, 0), **GRID}
    assert lanes(Add, [(10,), (10,)], (10,), **own)["multiply"] == 20
    assert lanes(Add, [(10,), (10,)], (10,), rule="gemmlowp_double", **own)["multiply"] == 30
    pool = {"kernel": (2, 2), "stride": (2, 2), "multiplier": 1.0, "zero_in": 0, **GRID}
    divided = lanes(AvgPool, [(4, 4, 3)], (2, 2, 3), rule="divide_away", **pool)
    assert (divided["div"], divided.get("multiply", 0), divided["add"]) == (12, 0, 48)
    table = np.array([1.0, 0.5, 0.0], dtype=np.float32)
    shares = lanes(Softmax, [(3, 7)], (3, 7), rule="float32", exponentials=table, out_bits=8, zero_out=-128)
    assert (shares["div"], shares["multiply"], shares["table"]) == (3, 21, 21)


@pytest.mark.parametrize(
    ("op", "own", "message"),
    [
        (Add, {"rule": "half", "multipliers": (1.0, 1.0), "zero_points": (0, 0)}, "names unknown rule 'half'"),
        (Add, {"rule": "xnnpack", "multipliers": (2e-4, 1e-4), "zero_points": (0, 0)}, "beyond rule xnnpack's range"),
        (Add, {"rule": "xnnpack", "multipliers": (1.0, 1.0), "zero_points": (1000, 0)}, "adds 8-bit codes"),
        (Add, {"rule": "float32", "multipliers": (1.0, float("inf")), "zero_points": (0, 0)}, "has multipliers"),
    ],
)
def test_rules_that_do_not_fit_an_add_are_refused(op: type[Op], own: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lanes(op, [(4,), (4,)], (4,), **own, **GRID)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"rule": "none"}, "names unknown rule 'none'"),
        ({"rule": "divide_away", "multiplier": 0.5}, "takes no multiplier"),
        ({"rule": "ruy_double_up", "padding": (1, 1, 1, 1)}, "of whole windows' sums"),
        ({"multiplier": -1.0}, "has multiplier -1.0"),
    ],
)
def test_rules_that_do_not_fit_a_mean_are_refused(own: dict[str, object], message: str) -> None:
    pool = {"kernel": (2, 2), "stride": (1, 1), "multiplier": 1.0, "zero_in": 0, **GRID} | own
    shape = (5, 5, 1) if "padding" in own else (3, 3, 1)
    with pytest.raises(ValueError, match=message):
        lanes(AvgPool, [(4, 4, 1)], shape, **pool)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"rule": "none", "exponentials": np.ones(2, np.float32)}, "names unknown rule"),
        ({"rule": "float32", "exponentials": np.ones(2, np.int64)}, "needs float32 exponentials that begin with 1.0"),
        ({"rule": "gemmlowp", "exponentials": np.ones(2, np.int64)}, "begin with 2147483647"),
        ({"rule": "float32", "exponentials": np.ones(2, np.float32), "causal": True}, "hides no entries"),
        ({"rule": "float32", "exponentials": np.ones(2, np.float32), "out_bits": 17}, "output bits|clamps to"),
    ],
)
def test_rules_that_do_not_fit_a_softmax_are_refused(own: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lanes(Softmax, [(4, 4)], (4, 4), **({"out_bits": 8, "zero_out": -128} | own))
