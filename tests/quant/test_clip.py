"""Clip rules: thresholds of small tensors by hand, and what holds for every rule."""

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import lambertw

from quant import aciq
from quant.clip import CLIPS, Aciq, ClipInput, Kl, Max, Mse, Percentile
from quant.clip_rule import squared_error
from quant.grid import dequantize, quantize, symmetric, unsigned

Array = NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)
BITS = st.integers(2, 8)
RULES = [pytest.param(rule, id=name) for name, rule in CLIPS.items()]


def given_values(values: Any, bits: int = 4, positive: bool = False) -> ClipInput:
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return ClipInput(rows, np.abs(rows).max(axis=1), bits, positive)


def sample(seed: int, size: int = 300, positive: bool = False) -> Array:
    """Values of one of several shapes: bell, heavy tails, few different values, sparse."""
    rng = np.random.default_rng(seed)
    values = [
        rng.normal(size=size),
        rng.laplace(size=size),
        rng.standard_t(2, size=size),
        rng.integers(-3, 4, size).astype(float),
        rng.normal(size=size) * (rng.random(size) < 0.1),
        rng.normal(3, 1, size=size),
    ][seed % 6] * 10.0 ** rng.integers(-3, 4)
    return np.abs(values) if positive else values


def brute_error(data: ClipInput, alpha: float) -> float:
    """Squared error of the real quantizer."""
    grid = unsigned(alpha, data.bits) if data.unsigned else symmetric(alpha, data.bits)
    return float(((dequantize(quantize(data.values, grid), grid) - data.values) ** 2).sum())


# --- what holds for every rule ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=30)
@given(SEEDS, BITS, st.booleans())
def test_thresholds_are_above_zero_and_at_most_the_maximum(rule: Any, seed: int, bits: int, positive: bool) -> None:
    data = given_values(sample(seed, positive=positive), bits, positive)
    (alpha,) = rule()(data)
    assert 0 < alpha <= data.absmax[0]


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=20)
@given(SEEDS, BITS, st.integers(-6, 6))
def test_thresholds_scale_with_the_values_and_ignore_their_sign(rule: Any, seed: int, bits: int, power: int) -> None:
    values = sample(seed)
    assume(np.unique(values).size > 20)  # values on the edges of a histogram's bins fall to the right of them
    alpha = rule()(given_values(values, bits))
    assert np.array_equal(rule()(given_values(values * 2.0**power, bits)), alpha * 2.0**power)
    if rule().name != "kl-mxnet":  # MXNet counts its levels from the left end
        assert np.allclose(rule()(given_values(-values, bits)), alpha, rtol=1e-9)
    if rule in (Max, Percentile):
        assert np.allclose(rule()(given_values(values * 3.3, bits)), alpha * 3.3, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=10)
@given(SEEDS, st.booleans())
def test_a_threshold_per_channel_is_the_threshold_of_the_row_alone(rule: Any, seed: int, positive: bool) -> None:
    rows = np.stack([sample(seed + i, 60, positive) for i in range(3)] + [np.zeros(60)])
    together = rule()(given_values(rows, 4, positive))
    alone = [rule()(given_values(row, 4, positive))[0] for row in rows]
    assert np.allclose(together, alone, rtol=1e-12)
    assert together[3] == 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "values",
    [[0.0], [0.0] * 7, [2.5], [2.5] * 9, [0.0, 0.0, 3.0], [1e-30, 1e-30], [1.0, 1.0, 1.0, 1.0, 100.0]],
    ids=str,
)
def test_zeros_constants_and_single_values_have_finite_scales(rule: Any, values: list[float]) -> None:
    for bits, positive, sign in ((2, False, 1), (4, False, -1), (8, False, 1), (2, True, 1), (8, True, 1)):
        data = given_values(np.array(values) * sign, bits, positive)
        alpha = rule()(data)
        grid = unsigned(alpha, bits) if positive else symmetric(alpha, bits)
        assert np.isfinite(alpha).all()
        assert (grid.scale > 0).all()
        assert np.isfinite(grid.scale).all()
        if len(set(values)) == 1:
            assert alpha[0] == data.absmax[0]


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_known_by_their_names_and_sources(rule: Any) -> None:
    assert CLIPS[rule().name] is rule
    assert rule().source
    assert rule() == rule()


@pytest.mark.parametrize("rule", [Max, Percentile, Mse, Aciq, Kl])
@pytest.mark.parametrize("bits", [10, 16])
def test_the_main_rules_take_every_width(rule: Any, bits: int) -> None:
    for positive in (False, True):
        data = given_values(sample(1, 4000, positive), bits, positive)
        assert 0 < rule()(data)[0] <= data.absmax[0]


@given(SEEDS, BITS, st.booleans(), st.floats(0.01, 1))
def test_the_squared_error_is_that_of_the_quantizer(seed: int, bits: int, positive: bool, share: float) -> None:
    data = given_values(sample(seed, positive=positive), bits, positive)
    alpha = share * data.absmax
    assert squared_error(data, alpha)[0] == pytest.approx(brute_error(data, alpha[0]), rel=1e-9)


def test_errors_of_large_tensors_are_summed_in_blocks(rng: np.random.Generator) -> None:
    data = given_values(rng.normal(size=(2, 1_300_000)), 4)
    whole = [squared_error(given_values(row, 4), np.array([2.0]))[0] for row in data.values]
    assert np.allclose(squared_error(data, np.array([2.0, 2.0])), whole, rtol=1e-12)
    assert whole[0] == pytest.approx(brute_error(given_values(data.values[0], 4), 2.0), rel=1e-9)


# --- percentile ------------------------------------------------------------------------------------------------------


def test_a_percentile_is_an_observed_magnitude() -> None:
    values = [-10.0, 1.0, 2.0, 3.0, -4.0]
    assert Percentile(100)(given_values(values)).tolist() == [10]
    assert Percentile(75)(given_values(values)).tolist() == [4]
    assert Percentile(74)(given_values(values)).tolist() == [4]
    assert Percentile(76)(given_values(values)).tolist() == [10]
    assert Percentile(1)(given_values(values)).tolist() == [2]


@given(SEEDS, st.lists(st.floats(0.1, 100), min_size=2, max_size=6))
def test_percentiles_never_fall_as_the_percentage_grows(seed: int, percents: list[float]) -> None:
    data = given_values(sample(seed))
    alphas = [Percentile(p)(data)[0] for p in sorted(percents)]
    assert alphas == sorted(alphas)
    assert Percentile(100)(data)[0] == Max()(data)[0]


def test_a_percentile_among_zeros_is_the_smallest_magnitude_above_zero() -> None:
    assert Percentile(50)(given_values([0.0, 0.0, 0.0, 5.0, -2.0])).tolist() == [2]


def test_the_maximum_counts_where_only_a_sample_of_the_values_is_given() -> None:
    data = ClipInput(np.array([[1.0, -2.0]]), np.array([9.0]), 4)
    assert Max()(data).tolist() == [9]
    assert Percentile(100)(data).tolist() == [9]


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1])
def test_percentages_outside_0_to_100_are_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percentile must be within"):
        Percentile(percent)


# --- mse -------------------------------------------------------------------------------------------------------------


def test_the_least_squared_error_of_a_small_tensor_is_as_computed_by_hand() -> None:
    # 2 bits: codes -1, 0, 1. Without clipping 1 rounds to 0 (three errors of 1); alpha = 1 costs (5 - 1)² = 16; in
    # between alpha = a < 2 rounds 1 to a: 3 (a - 1)² + (5 - a)², least at a = 2 were it not for the rounding to 0.
    data = given_values([1.0, -1.0, 1.0, 5.0], 2)
    assert Mse(candidates=5)(data).tolist() == [5]
    # Many ones against one 5: 20 errors of 1 without clipping, 16 with alpha = 1.
    assert Mse(candidates=5)(given_values([1.0] * 20 + [5.0], 2)).tolist() == [1]


def test_clipping_by_squared_error_leaves_minus_one_zero_one_alone() -> None:
    for bits in (2, 3, 8):
        assert Mse()(given_values([-1.0, 0.0, 1.0], bits)).tolist() == [1]


@given(SEEDS, BITS, st.booleans(), st.sampled_from([1, 7, 100]))
def test_the_search_finds_the_least_error_of_all_candidates(
    seed: int, bits: int, positive: bool, candidates: int
) -> None:
    data = given_values(sample(seed, positive=positive), bits, positive)
    (alpha,) = Mse(candidates)(data)
    errors = [brute_error(data, data.absmax[0] * i / candidates) for i in range(1, candidates + 1)]
    tiny = 1e-12 * float((data.values**2).sum())
    assert brute_error(data, alpha) <= min(errors) * (1 + 1e-9) + tiny
    assert np.isclose(alpha / data.absmax[0] * candidates, round(alpha / data.absmax[0] * candidates))


@given(SEEDS, st.integers(2, 16), st.booleans())
def test_clipping_by_squared_error_is_never_worse_than_not_clipping(seed: int, bits: int, positive: bool) -> None:
    data = given_values(sample(seed, 3000 if bits > 10 else 300, positive), bits, positive)
    (alpha,) = Mse()(data)
    assert brute_error(data, alpha) <= brute_error(data, data.absmax[0])


@pytest.mark.parametrize(("bits", "share"), [(4, 0.57), (8, 0.94)])
def test_the_threshold_of_a_gaussian_is_where_the_ocs_authors_code_finds_it(
    bits: int, share: float, rng: np.random.Generator
) -> None:
    # alpha / max of 50 thousand samples, which the maximum's own luck moves by a tenth or so.
    data = given_values(rng.normal(size=50_000), bits)
    assert Mse()(data)[0] / data.absmax[0] == pytest.approx(share, rel=0.1)


# --- aciq ------------------------------------------------------------------------------------------------------------


def expected_error(alpha: float, levels: int, prior: str) -> float:
    """Expected squared error of rounding to `levels` steps a side and clipping, by numeric integration."""
    points, weights = np.polynomial.legendre.leggauss(8)
    step = alpha / levels
    edges = np.concatenate([[0], (np.arange(levels) + 0.5) * step, [alpha], alpha + np.arange(1, 101) * 0.3])
    centres = np.minimum(np.arange(edges.size - 1), levels) * step
    low, high = edges[:-1, None], edges[1:, None]
    x = (low + high) / 2 + (high - low) / 2 * points
    density = np.sqrt(2 / np.pi) * np.exp(-x * x / 2) if prior == "gauss" else np.exp(-x)
    return float(((x - centres[:, None]) ** 2 * density * weights * (high - low) / 2).sum())


@pytest.mark.parametrize(("prior", "column"), [("gauss", aciq.GAUSS_OPTIMAL), ("laplace", aciq.LAPLACE_OPTIMAL)])
def test_multipliers_have_the_least_expected_error_on_the_grid(prior: str, column: tuple[float, ...]) -> None:
    for bits, multiplier in enumerate(column, start=2):
        levels = 2 ** (bits - 1) - 1
        here = expected_error(multiplier, levels, prior)
        for off in (-0.01, 0.01):
            assert here < expected_error(multiplier + off, levels, prior), (bits, multiplier)


def test_published_laplace_multipliers_solve_their_authors_equation() -> None:
    for bits, multiplier in enumerate(aciq.LAPLACE_PUBLISHED, start=2):
        assert multiplier == pytest.approx(float(lambertw(3 * 4**bits).real), abs=0.012)


def test_multipliers_of_the_ocs_paper_clip_harder_than_is_best() -> None:
    for mine, theirs in ((aciq.GAUSS_OPTIMAL, aciq.GAUSS_OCS), (aciq.LAPLACE_OPTIMAL, aciq.LAPLACE_OCS)):
        assert all(theirs[bits - 2] < 0.93 * mine[bits - 2] for bits in range(4, 9))


def test_a_small_tensor_is_clipped_at_the_multiple_computed_by_hand() -> None:
    data = given_values([-1.0, 1.0, -3.0, 3.0, 100.0, -100.0], 4)
    b, sigma = 208 / 6, math.sqrt(20020 / 6)
    assert Aciq(prior="laplace")(data).tolist() == pytest.approx([100.0])  # 4.8199 b is beyond the maximum
    assert Aciq(prior="gauss")(data).tolist() == pytest.approx([100.0])
    small = ClipInput(data.values, np.array([1000.0]), 4)
    assert Aciq(prior="laplace")(small).tolist() == pytest.approx([4.8199 * b])
    assert Aciq(prior="gauss")(small).tolist() == pytest.approx([2.4739 * sigma])
    assert Aciq("published", "laplace")(small).tolist() == pytest.approx([5.03 * b])
    assert Aciq("ocs-paper", "laplace")(small).tolist() == pytest.approx([4.00378631 * b])
    ranged = 200 * 0.5402 / math.sqrt(2 * math.log(6))
    assert Aciq("ocs-paper", "gauss")(small).tolist() == pytest.approx([2.19227856 * ranged], rel=1e-4)


def test_a_mean_off_zero_moves_the_threshold_outwards() -> None:
    data = ClipInput(np.array([[4.0, 6.0, 5.0, 5.0]]), np.array([100.0]), 3)
    assert Aciq("published", "laplace")(data).tolist() == pytest.approx([5 + 3.89 * 0.5])


def test_never_negative_tensors_take_the_entry_of_one_bit_more() -> None:
    values = np.array([[0.0, 0.0, 0.0, 1.0, 3.0]])
    data = ClipInput(values, np.array([100.0]), 4, unsigned=True)
    assert Aciq(prior="laplace")(data).tolist() == pytest.approx([6.0980 * 2])
    assert Aciq(prior="gauss")(data).tolist() == pytest.approx([2.8987 * math.sqrt(5)])
    assert Aciq("published", "laplace")(data).tolist() == pytest.approx([0.8 + 6.2 * np.abs(values - 0.8).mean()])


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("density", ["normal", "laplace"])
def test_on_its_own_densities_aciq_is_close_to_the_search(
    bits: int, positive: bool, density: str, rng: np.random.Generator
) -> None:
    values = getattr(rng, density)(size=200_000)
    data = given_values(np.maximum(values, 0) if positive else values, bits, positive)
    assert squared_error(data, Aciq()(data))[0] <= 1.02 * squared_error(data, Mse()(data))[0]
    assert squared_error(data, Aciq()(data))[0] <= squared_error(data, Aciq("ocs-paper")(data))[0]


def test_the_smaller_error_decides_between_the_densities(rng: np.random.Generator) -> None:
    for density in ("normal", "laplace"):
        data = given_values(getattr(rng, density)(size=100_000), 4)
        right = Aciq(prior="gauss" if density == "normal" else "laplace")
        assert Aciq()(data) == right(data)


def test_tables_that_do_not_know_a_width_say_so() -> None:
    with pytest.raises(ValueError, match=r"aciq table 'ocs-paper' must have the width \(got 9 bits, it ends at 8\)"):
        Aciq("ocs-paper")(given_values([1.0, 2.0], 9))
    with pytest.raises(ValueError, match="it ends at 8"):
        Aciq("published")(given_values([1.0, 2.0], 9, positive=True))
    with pytest.raises(ValueError, match="aciq table must be one of optimal, published, ocs-paper"):
        Aciq("best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="aciq prior must be"):
        Aciq(prior="uniform")  # type: ignore[arg-type]


# --- kl --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@settings(max_examples=20)
@given(SEEDS)
def test_values_on_the_grid_of_the_full_range_are_not_clipped(bits: int, seed: int) -> None:
    levels = 2 ** (bits - 1) - 1
    codes = np.repeat(np.arange(-levels, levels + 1), np.random.default_rng(seed).integers(1, 50, 2 * levels + 1))
    assert Kl()(given_values(codes * 0.37, bits))[0] == pytest.approx(levels * 0.37)


def test_values_on_the_unsigned_grid_of_the_full_range_are_not_clipped(rng: np.random.Generator) -> None:
    codes = np.repeat(np.arange(16), rng.integers(1, 50, 16))
    assert Kl()(given_values(codes * 0.5, 4, positive=True)).tolist() == [7.5]


def test_a_far_outlier_is_clipped(rng: np.random.Generator) -> None:
    values = np.append(rng.normal(size=100_000), 50.0)
    for rule in (Kl(), Kl(mxnet_compat=True)):
        assert rule(given_values(values, 4))[0] < 6


def test_chance_does_not_clip_small_layers(rng: np.random.Generator) -> None:
    # At 8 bits clipping 2304 values of a Laplace density gains nothing (squared error: 0.99 of the maximum); a
    # histogram this sparse diverges by chance from its own levels, most in wide windows: 0.78 if that is not taken off.
    rows = rng.laplace(size=(8, 2304))
    data = ClipInput(rows, np.abs(rows).max(axis=1), 8)
    assert np.mean(Kl()(data) / data.absmax) > 0.9


def test_zeros_do_not_count(rng: np.random.Generator) -> None:
    values = np.maximum(rng.normal(size=20_000), 0)
    data = given_values(values, 4, positive=True)
    assert Kl()(data) == Kl()(given_values(values[values > 0], 4, positive=True))


def aligned_threshold(values: Array, levels: int, bins: int, positive: bool) -> float:
    """Repeat the rule with the grid's levels, window by window, from its words."""
    top, values = float(np.abs(values).max()), values[values != 0]
    counts, edges = np.histogram(values, bins, (0 if positive else -top, top))
    centres = (edges[:-1] + edges[1:]) / 2
    found = []
    for drop in range(bins):
        inside = counts[: bins - drop] if positive else counts[drop : bins - drop]
        if inside.size < (levels if positive else 2 * levels + 1) or not inside.any():
            break
        alpha = float(edges[bins - drop])
        middles = centres[: bins - drop] if positive else centres[drop : bins - drop]
        codes = np.rint(middles * levels / alpha)
        p, q = inside.astype(float), np.zeros(inside.size)
        p[-1] += counts[bins - drop :].sum()
        p[0] += 0 if positive else counts[:drop].sum()
        spare = 0
        for code in np.unique(codes):
            members = (codes == code) & (inside > 0)
            q[members] = inside[members].sum() / max(1, members.sum())
            spare += max(0, int(members.sum()) - 1)
        q[(q == 0) & (p > 0)] = 1e-4
        terms = [a / p.sum() * math.log(a / p.sum() / (b / q.sum())) for a, b in zip(p, q, strict=True) if a > 0]
        found.append((sum(terms) - spare / (2 * p.sum()), alpha))
    return min(found, key=lambda pair: pair[0])[1] if found else top


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_aligned_form_is_what_its_words_say(bits: int, positive: bool, seed: int) -> None:
    data = given_values(sample(seed, 700, positive), bits, positive)
    expected = aligned_threshold(data.values[0], data.levels, 101, positive)
    assert Kl(bins=101)(data)[0] == pytest.approx(expected, rel=1e-9)


def mxnet_threshold(values: Array, levels: int, bins: int) -> float:
    """Repeat the MXNet procedure with plain loops over bins, in Python numbers."""
    top = float(np.abs(values).max())
    counts, edges = np.histogram(values, bins, (-top, top))
    found: list[tuple[float, float]] = []
    for i in range(levels // 2, bins // 2 + 1):
        first, last = bins // 2 - i, bins // 2 + i
        inside = [int(c) for c in counts[first : last + 1]]
        p = [float(c) for c in inside]
        p[0] += float(counts[:first].sum())
        p[-1] += float(counts[last + 1 :].sum())
        group = len(inside) // levels
        q = [0.0] * len(inside)
        for j in range(levels):
            members = range(j * group, (j + 1) * group if j < levels - 1 else len(inside))
            total = sum(inside[m] for m in members)
            spread = [m for m in members if j < levels - 1 or m < len(inside) - 1]
            filled = sum(inside[m] > 0 for m in spread)
            for m in spread:
                q[m] = total / filled if inside[m] else 0.0
        smooth = []
        for hist in (p, q):
            empty = sum(h == 0 for h in hist)
            if empty == len(hist):
                break
            share = 1e-4 * empty / (len(hist) - empty)
            smooth.append([1e-4 if h == 0 else h - share for h in hist])
        if len(smooth) < 2:
            found.append((math.inf, float(edges[last + 1])))
            continue
        if min(min(smooth[0]), min(smooth[1])) <= 0:
            return top
        totals = [sum(h) for h in smooth]
        terms = [a / totals[0] * math.log(a / totals[0] / (b / totals[1])) for a, b in zip(*smooth, strict=True)]
        found.append((sum(terms), float(edges[last + 1])))
    return min(found, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_the_mxnet_form_repeats_its_procedure(bits: int, seed: int) -> None:
    values = sample(seed, 2000)
    rule = Kl(bins=101, mxnet_compat=True)
    expected = min(mxnet_threshold(values, 2**bits - 1, 101), float(np.abs(values).max()))
    assert rule(given_values(values, bits))[0] == pytest.approx(expected, rel=1e-12)


def test_histograms_that_cannot_serve_are_refused() -> None:
    with pytest.raises(ValueError, match="kl bins must be odd"):
        Kl(bins=1000)
    with pytest.raises(ValueError, match=r"kl-mxnet must have bins >= levels \(got 1001 and 1023\)"):
        Kl(mxnet_compat=True)(given_values([1.0, 2.0], 10))


# --- speed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Max, Percentile, Mse, Aciq, Kl])
def test_a_layer_of_two_million_weights_takes_less_than_a_second(rule: Any, rng: np.random.Generator) -> None:
    values = rng.laplace(size=(1, 2_400_000)).astype(np.float32)
    data = ClipInput(values, np.abs(values).max(axis=1).astype(np.float64), 4)
    start = time.process_time()
    rule()(data)
    assert time.process_time() - start < 1
