"""Grids: ends, zero, rounding."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.arith import half_up
from quant.grid import affine, check_bits, dequantize, quantize, symmetric, unsigned

BITS = st.integers(2, 16)
VALUES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20).map(np.array)


def half_even(values: np.ndarray) -> np.ndarray:
    return np.rint(values)


def half_away(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.floor(np.abs(values) + 0.5)


DENSE = np.concatenate([np.arange(-64, 65) / 4, np.random.default_rng(1).uniform(-40, 40, 20_000)])
"""Every quarter from -16 to 16, all ties of halves and of wholes among them, and random values."""


def test_a_symmetric_grid_of_4_bits_has_codes_minus_7_to_7() -> None:
    grid = symmetric(3.5, 4)
    assert (grid.low, grid.high, grid.one_scale, grid.one_zero_point) == (-7, 7, 0.5, 0)
    assert quantize(np.array([-9.0, -3.5, -0.25, -0.26, 0.0, 0.25, 0.24, 3.4, 9.0]), grid).tolist() == [
        -7, -7, 0, -1, 0, 1, 0, 7, 7,
    ]  # fmt: skip


def test_the_wide_clamp_reaches_one_code_lower() -> None:
    grid = symmetric(3.5, 4, wide=True)
    assert quantize(np.array([-9.0, 9.0]), grid).tolist() == [-8, 7]
    assert grid.one_scale == 0.5


def test_an_unsigned_grid_of_3_bits_uses_all_8_codes() -> None:
    grid = unsigned(7.0, 3)
    assert quantize(np.array([-1.0, 0.0, 0.5, 6.4, 6.5, 99.0]), grid).tolist() == [0, 0, 1, 6, 7, 7]


def test_an_affine_grid_holds_zero_exactly() -> None:
    grid = affine(-1.0, 3.0, 2)
    assert grid.one_scale == pytest.approx(4 / 3)
    assert grid.one_zero_point == 1
    assert quantize(np.array([-1.0, 0.0, 1.4, 3.0]), grid).tolist() == [0, 1, 2, 3]


@given(st.floats(-50, 50), st.floats(-50, 50), BITS, st.booleans())
def test_zero_is_a_grid_point_of_every_affine_grid(first: float, second: float, bits: int, signed: bool) -> None:
    grid = affine(min(first, second), max(first, second), bits, signed=signed)
    codes = quantize(np.zeros(3), grid)
    assert np.all(codes == grid.zero_point)
    assert np.all(dequantize(codes, grid) == 0)
    assert grid.low <= grid.one_zero_point <= grid.high


@given(VALUES, BITS)
def test_values_within_the_threshold_are_at_most_half_a_step_off(values: np.ndarray, bits: int) -> None:
    grids = [symmetric(np.abs(values).max(), bits), affine(values.min(), values.max(), bits)]
    # Rounding the zero point moves an affine grid's ends by up to half a step.
    for grid, slack in zip(grids, (0.5, 1.0), strict=True):
        error = np.abs(dequantize(quantize(values, grid), grid) - values)
        assert error.max() <= slack * grid.one_scale * (1 + 1e-9)


@given(st.integers(1, 4), BITS, st.integers(0, 2**32 - 1))
def test_a_grid_per_channel_is_a_grid_per_row(channels: int, bits: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, channels, 2))
    alphas = np.abs(values).max(axis=(0, 2))
    together = quantize(values, symmetric(alphas, bits), axis=1)
    for channel in range(channels):
        alone = quantize(values[:, channel], symmetric(alphas[channel], bits))
        assert np.array_equal(together[:, channel], alone)


def test_rounding_is_floor_of_x_plus_one_half() -> None:
    ties = np.arange(-9, 10) / 2
    assert half_up(ties).tolist() == [math.floor(t + 0.5) for t in ties]
    assert quantize(np.array([-1.5, -0.5, 0.5, 1.5]), symmetric(7.0, 4)).tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize("bits", [2, 5, 16])
def test_a_tensor_of_zeros_has_a_finite_scale(bits: int) -> None:
    zeros = np.zeros((2, 3))
    for grid in (symmetric(0.0, bits), unsigned(0.0, bits), affine(0.0, 0.0, bits), symmetric(np.zeros(2), bits)):
        assert np.isfinite(grid.scale).all()
        assert (grid.scale > 0).all()
        assert (dequantize(quantize(zeros, grid), grid) == 0).all()


@pytest.mark.parametrize("bits", [1, 0, 17, -3])
def test_widths_outside_2_to_16_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=r"weight_bits must be within 2\.\.16 bits \(got .*\); choose"):
        check_bits(bits, "weight_bits")
    with pytest.raises(ValueError, match="grid must be within"):
        symmetric(1.0, bits)


# --- quantization-aware splitting on the real line, and the rounding it takes -----------------------------------------


def test_quantization_aware_halves_sum_to_the_whole_under_half_up() -> None:
    low, high = (DENSE - 0.5) / 2, (DENSE + 0.5) / 2
    whole = half_up(DENSE)
    assert np.array_equal(half_up(low) + half_up(high), whole)
    assert np.array_equal(half_up(low), np.floor(whole / 2))
    assert np.array_equal(half_up(high), np.ceil(whole / 2))


def test_quantization_aware_halves_sum_to_the_whole_under_half_away_from_zero() -> None:
    assert np.array_equal(half_away((DENSE - 0.5) / 2) + half_away((DENSE + 0.5) / 2), half_away(DENSE))


def test_half_to_even_breaks_quantization_aware_splitting_at_three_halves_and_five_halves() -> None:
    broken = half_even((DENSE - 0.5) / 2) + half_even((DENSE + 0.5) / 2) != half_even(DENSE)
    assert set(np.abs(DENSE[broken]) % 4) == {1.5, 2.5}
    assert broken[DENSE == 1.5].all()
    assert broken[DENSE == -2.5].all()


def test_quantization_aware_halves_are_half_a_step_off_at_most_and_naive_ones_a_whole_step() -> None:
    aware = half_up((DENSE - 0.5) / 2) + half_up((DENSE + 0.5) / 2)
    naive = 2 * half_up(DENSE / 2)
    assert np.abs(aware - DENSE).max() == 0.5
    assert np.abs(naive - DENSE).max() == 1.0
    assert np.abs(naive - DENSE)[DENSE == 3].tolist() == [1.0]
    assert np.mean(naive[129:] != half_up(DENSE[129:])) == pytest.approx(0.5, abs=0.02)
