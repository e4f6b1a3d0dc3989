"""Ranges, overflow, shifts and requantization rules: scalar forms against Python integers, array forms against them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim import arith
from accelsim.arith import REQUANT_RULES, Accumulation, requantize, requantize_scalar

wide = st.integers(-(2**40), 2**40)
int32 = st.integers(-(2**31), 2**31 - 1)
multipliers = st.floats(1e-7, 4.0, allow_nan=False) | st.sampled_from([2.0**-s for s in range(12)])


def nearest(value: Fraction, ties: str) -> int:
    """Round a fraction to nearest by the definition of each tie rule."""
    floor = value.numerator // value.denominator
    rest = value - floor
    if rest != Fraction(1, 2):
        return floor + (rest > Fraction(1, 2))
    return {"up": floor + 1, "away": floor + (value > 0), "even": floor + floor % 2}[ties]


@pytest.mark.parametrize("bits", range(2, 9))
def test_wrap_and_saturate_are_right_for_every_value_near_a_width(bits: int) -> None:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = np.arange(3 * low, 3 * high)
    for value in values.tolist():
        wrapped = arith.wrap(value, bits)
        assert low <= wrapped <= high
        assert (wrapped - value) % 2**bits == 0
        assert arith.saturate(value, bits) == sorted((low, value, high))[1]
    assert arith.wrap_array(values, bits).tolist() == [arith.wrap(v, bits) for v in values.tolist()]
    assert arith.saturate_array(values, bits).tolist() == [arith.saturate(v, bits) for v in values.tolist()]


@given(st.integers(-(2**62), 2**62), st.integers(2, 64))
def test_array_overflow_equals_scalar_overflow_at_any_width(value: int, bits: int) -> None:
    one = np.array([value])
    assert arith.wrap_array(one, bits)[0] == arith.wrap(value, bits)
    assert arith.saturate_array(one, bits)[0] == arith.saturate(value, bits)


@given(st.integers(-(2**20), 2**20))
def test_bits_for_is_the_narrowest_width_that_holds_a_value(value: int) -> None:
    bits = arith.bits_for(min(value, 0), max(value, 0))
    assert arith.wrap(value, bits) == value
    assert bits == 1 or arith.wrap(value, bits - 1) != value


@given(wide, st.integers(0, 20))
def test_shifts_round_as_their_names_say(value: int, shift: int) -> None:
    exact = Fraction(value, 2**shift)
    assert arith.shift_half_up(value, shift) == nearest(exact, "up")
    assert arith.shift_half_away(value, shift) == nearest(exact, "away")


@given(st.integers(-(10**6), 10**6))
def test_half_up_rounds_quarters_and_their_neighbours_exactly(quarters: int) -> None:
    value = quarters / 4
    for x in (value, np.nextafter(value, -np.inf), np.nextafter(value, np.inf)):
        assert arith.half_up(np.array([x]))[0] == nearest(Fraction(float(x)), "up")


@pytest.mark.parametrize("rule", [name for name in REQUANT_RULES if name != "pot_shift"])
@given(acc=int32, multiplier=multipliers, bias=st.floats(-1e4, 1e4))
def test_array_form_equals_scalar_form(rule: str, acc: int, multiplier: float, bias: float) -> None:
    options = {"rule": rule, "zero_point": 3, "clamp": (-128, 127)}
    scalar = requantize_scalar(acc, multiplier, bias=bias, **options)  # type: ignore[arg-type]
    array = requantize(np.array([[acc]]), np.array([multiplier]), bias=np.array([bias]), **options)  # type: ignore[arg-type]
    assert array[0, 0] == scalar
    assert -128 <= scalar <= 127


@given(acc=int32, shift=st.integers(0, 20))
def test_shift_rule_is_a_half_up_shift_in_both_forms(acc: int, shift: int) -> None:
    expected = nearest(Fraction(acc, 2**shift), "up")
    clamp = (-(2**40), 2**40)
    assert requantize_scalar(acc, 2.0**-shift, rule="pot_shift", zero_point=0, clamp=clamp) == expected
    got = requantize(np.array([acc]), np.array([2.0**-shift]), rule="pot_shift", zero_point=0, clamp=clamp)
    assert got[0] == expected


@given(acc=st.integers(-(2**24), 2**24), multiplier=multipliers)
def test_float32_rule_rounds_the_float32_product_to_even(acc: int, multiplier: float) -> None:
    single = np.float32(multiplier)
    product = Fraction(float(np.float32(np.float64(acc) * np.float64(single))))  # a 24 × 24 bit product fits float64
    got = requantize_scalar(acc, multiplier, rule="float32_rne", zero_point=0, clamp=(-(2**40), 2**40))
    assert got == nearest(product, "even")


@given(acc=st.integers(-(2**30), 2**30), multiplier=st.floats(1e-6, 0.999))
def test_single_rounding_rules_round_the_exact_fixed_point_product(acc: int, multiplier: float) -> None:
    mantissa, exponent = arith.fixed_point(multiplier)
    exact = Fraction(acc * mantissa) * Fraction(2) ** (exponent - 31)
    clamp = (-(2**40), 2**40)
    for rule, ties in (("single_up", "up"), ("single_away", "away")):
        assert requantize_scalar(acc, multiplier, rule=rule, zero_point=0, clamp=clamp) == nearest(exact, ties)


def test_rules_differ_exactly_where_their_names_differ() -> None:
    clamp = (-128, 127)
    half = {r: requantize_scalar(-5, 0.5, rule=r, zero_point=0, clamp=clamp) for r in REQUANT_RULES}
    assert half["float32_rne"] == -2
    assert half["single_up"] == half["pot_shift"] == -2
    assert half["single_away"] == -3
    assert requantize_scalar(3, 0.5, rule="float32_rne", zero_point=0, clamp=clamp) == 2
    assert requantize_scalar(5, 0.5, rule="float32_rne", zero_point=0, clamp=clamp) == 2
    assert requantize_scalar(5, 0.5, rule="single_up", zero_point=0, clamp=clamp) == 3


def test_double_rounding_differs_from_single_rounding() -> None:
    # 2**-3 · 11 = 1.375 → doubling high keeps the half bit, the shift then rounds it a second time somewhere below.
    differing = [
        acc
        for acc in range(-4096, 4096)
        if requantize_scalar(acc, 0.0301, rule="gemmlowp_double", zero_point=0, clamp=(-999, 999))
        != requantize_scalar(acc, 0.0301, rule="single_away", zero_point=0, clamp=(-999, 999))
    ]
    assert differing


@given(st.floats(1e-9, 100.0))
def test_fixed_point_is_within_half_a_unit_of_the_multiplier(multiplier: float) -> None:
    mantissa, exponent = arith.fixed_point(multiplier)
    assert 2**30 <= mantissa < 2**31
    assert abs(mantissa * 2.0 ** (exponent - 31) - multiplier) <= 2.0 ** (exponent - 32)


def test_pot_shift_refuses_other_multipliers() -> None:
    with pytest.raises(ValueError, match="powers of two"):
        requantize_scalar(5, 0.3, rule="pot_shift", zero_point=0, clamp=(0, 1))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"psum_overflow": "clip"}, "psum_overflow"),
        ({"fold_k": 0}, "fold_k"),
        ({"fold_k": 6, "products_per_hop": 4}, "fold_k"),
        ({"acc_bits": 1}, "acc_bits"),
        ({"psum_bits": 65}, "psum_bits"),
    ],
)
def test_impossible_accumulations_are_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=f"Accumulation.{named}"):
        Accumulation(**fields)  # type: ignore[arg-type]


def test_overflow_is_excluded_up_to_the_narrowest_register_and_not_beyond() -> None:
    narrow = Accumulation(fold_k=16, psum_bits=16, acc_bits=24)
    assert narrow.excludes_overflow(2**15 - 1)
    assert not narrow.excludes_overflow(2**15)
    assert Accumulation(fold_k=None, psum_bits=8, acc_bits=24).excludes_overflow(2**23 - 1)
