"""The oracle's requantization rules against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant import oracle_rules


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def half_even(value: np.float32) -> int:
    return round(Fraction(float(value)))


def mantissa_exponent(multiplier: float) -> tuple[int, int]:
    """Exponent such that the multiplier is below 2**exponent and at least half of that; mantissa in units of 2**-31."""
    if multiplier == 0:
        return 0, 0
    exact, exponent = Fraction(multiplier), 0
    while exact >= 1:
        exact, exponent = exact / 2, exponent + 1
    while exact < Fraction(1, 2):
        exact, exponent = exact * 2, exponent - 1
    mantissa = half_up(exact * 2**31)
    if mantissa == 2**31:
        mantissa, exponent = 2**30, exponent + 1
    return (0, 0) if exponent < -31 else (mantissa, exponent)


def by_fractions(rule: str, acc: int, multiplier: float, bias: float) -> int:
    """The rules, once more, on exact fractions and single float32 operations."""
    f32 = np.float32
    if rule == "float32_rne":
        return half_even(f32(acc) * f32(multiplier))
    if rule == "fbgemm":
        return half_even((f32(acc) + f32(bias)) * f32(multiplier))
    if rule == "pot_shift":
        return half_up(acc * Fraction(multiplier))
    mantissa, exponent = mantissa_exponent(multiplier)
    nearest = half_away if rule in ("gemmlowp_double", "single_away") else half_up
    if rule in ("single_away", "single_up"):
        return nearest(Fraction(acc * mantissa) * Fraction(2) ** (exponent - 31))
    shifted = min(max(acc * 2 ** max(exponent, 0), -(2**31)), 2**31 - 1)
    return nearest(Fraction(half_up(Fraction(shifted * mantissa, 2**31))) / 2 ** max(-exponent, 0))


ACCUMULATORS = st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300)
MULTIPLIERS = (
    st.floats(2.0**-36, 2.0**6)
    | st.integers(-34, 6).map(lambda e: 2.0**e)
    | st.integers(1, 255).map(lambda n: n / 256)
    | st.just(0.0)
    | st.just(1.0 - 2.0**-40)
)


@pytest.mark.parametrize("rule", list(oracle_rules.RULES))
@given(
    accs=st.lists(ACCUMULATORS, min_size=3, max_size=3),
    multipliers=st.lists(MULTIPLIERS, min_size=3, max_size=3),
    zero=st.integers(-128, 127),
)
def test_rules_equal_their_definition_on_fractions(
    rule: str, accs: list[int], multipliers: list[float], zero: int
) -> None:
    if rule == "pot_shift":
        multipliers = [2.0 ** math.frexp(m)[1] if m else 1.0 for m in multipliers]
    biases = np.array([0.3, -17.5, 1e6])
    for clamp in ((-128, 127), (-(2**40), 2**40)):
        got = oracle_rules.requantize(
            torch.tensor(accs),
            np.array(multipliers),
            rule=rule,
            zero_out=zero,
            low=clamp[0],
            high=clamp[1],
            bias=biases,
        )
        exact = [by_fractions(rule, a, m, b) + zero for a, m, b in zip(accs, multipliers, biases, strict=True)]
        assert got.tolist() == [min(max(value, clamp[0]), clamp[1]) for value in exact]


@pytest.mark.parametrize("rule", ["single_up", "single_away", "gemmlowp_double", "ruy_double_up", "pot_shift"])
@pytest.mark.parametrize("exponent", [-1000, -70, -62, -33, -32, -31, -30, 30, 31, 32, 33, 70])
def test_extreme_multipliers_saturate_or_vanish(rule: str, exponent: int) -> None:
    accs = [0, 1, -1, 2**31 - 1, -(2**31), 2**30, -(2**30)]
    got = oracle_rules.requantize(
        torch.tensor(accs)[:, None], np.array([2.0**exponent]), rule=rule, zero_out=0, low=-(2**15), high=2**15 - 1
    )
    exact = [by_fractions(rule, a, 2.0**exponent, 0.0) for a in accs]
    assert got[:, 0].tolist() == [min(max(value, -(2**15)), 2**15 - 1) for value in exact]


@pytest.mark.parametrize("rule", ["single_up", "gemmlowp_double", "ruy_double_up"])
@pytest.mark.parametrize("power", [0, -20, -31, -32])
def test_a_mantissa_that_rounds_up_to_a_whole_moves_to_the_next_exponent(rule: str, power: int) -> None:
    accs, multiplier = [2**31 - 1, 2**30 + 5, 7, -(2**30) - 5, -(2**31)], 2.0**power * (1 - 2.0**-40)
    own = {"zero_out": 0, "low": -(2**40), "high": 2**40}
    got = oracle_rules.requantize(torch.tensor(accs)[:, None], np.array([multiplier]), rule=rule, **own)
    assert got[:, 0].tolist() == [by_fractions(rule, a, multiplier, 0.0) for a in accs]


def test_ties_tell_the_rules_apart() -> None:
    def all_of(rule: str) -> list[int]:
        x = torch.tensor([-5, -3, -1, 1, 3, 5])
        return oracle_rules.requantize(x, np.array([0.5]), rule=rule, zero_out=0, low=-9, high=9).tolist()

    assert all_of("float32_rne") == [-2, -2, 0, 0, 2, 2]
    assert all_of("single_away") == [-3, -2, -1, 1, 2, 3]
    assert all_of("single_up") == [-2, -1, 0, 1, 2, 3]
    assert all_of("pot_shift") == [-2, -1, 0, 1, 2, 3]


def test_torch_rounds_integers_to_float32_once(rng: np.random.Generator) -> None:
    wide = np.concatenate([rng.integers(-(2**b), 2**b, 4096) for b in (24, 25, 31, 40, 53, 62)])
    assert np.array_equal(torch.from_numpy(wide).to(torch.float32).numpy(), wide.astype(np.float32))


def test_rules_refuse_what_they_cannot_take() -> None:
    own = {"zero_out": 0, "low": 0, "high": 1}
    with pytest.raises(ValueError, match="powers of two"):
        oracle_rules.requantize(torch.tensor([1]), np.array([0.3]), rule="pot_shift", **own)
    with pytest.raises(ValueError, match="float bias"):
        oracle_rules.requantize(torch.tensor([1]), np.array([0.3]), rule="fbgemm", **own)
    with pytest.raises(ValueError, match="32 bits"):
        oracle_rules.requantize(torch.tensor([2**32]), np.array([0.3]), rule="single_up", **own)
    with pytest.raises(ValueError, match="known are float32_rne"):
        oracle_rules.requantize(torch.tensor([1]), np.array([0.3]), rule="nearest", **own)
