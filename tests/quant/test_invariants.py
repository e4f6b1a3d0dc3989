"""What every method promises, as 21 + 13 numbered statements; here the first 21, on splitting and clipping.

Each is shown by a route of its own: plain loops, torch in float64, integers worked out by hand.
"""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from float_nets import conv_graph, linear_graph, residual_graph
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import lambertw

from accelsim import reference
from accelsim.arith import half_up
from accelsim.config import load_accelerator
from accelsim.register import execute_register
from quant import aciq
from quant.clip import CLIPS, Aciq, ClipInput, Kl, Max, Mse, Percentile
from quant.clip_rule import squared_error
from quant.graph import Graph
from quant.grid import dequantize, quantize, symmetric
from quant.lower import Quantized
from quant.lower_linear import quantize_weights
from quant.observe import count_above, observe
from quant.ocs import Split, SplitOutliers, SplitRecord, expand, expand_codes, select_splits, split_count
from quant.ocs_activation import SplitActivations, extreme_thresholds
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.transform import Context

Array = NDArray[Any]
SEEDS = range(5)
RULES = {name: make() for name, make in CLIPS.items()}


def heavy(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_t(3, shape).astype(np.float32)


def tree_of(seed: int, channels: int, splits: int = 5) -> SplitRecord:
    """Any split tree, not only a greedy one."""
    rng = np.random.default_rng(seed)
    return SplitRecord(channels, tuple(Split(int(rng.integers(channels + done))) for done in range(splits)))


def split_of(weight: Array, ratio: float, **options: Any) -> Graph:
    return SplitOutliers(ratio=ratio, **options)(linear_graph(weight))


def quantized(graph: Graph, x: Array, *transforms: Any, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms, **options))


def given_values(values: Any, bits: int = 4, unsigned: bool = False) -> ClipInput:
    row = np.asarray(values, dtype=np.float64).reshape(1, -1)
    return ClipInput(row, np.abs(row).max(axis=1), bits, unsigned)


def alpha_of(rule: Any, values: Any, bits: int = 4) -> float:
    return float(rule(given_values(values, bits))[0])


def channel_max(weight: Array) -> Array:
    return np.abs(weight).reshape(weight.shape[0], weight.shape[1], -1).max(axis=(0, 2))


def test_01_an_expanded_layer_on_gathered_input_is_the_original_layer() -> None:
    """Linear, and convolution with stride, padding and dilation, for any split tree."""
    for seed, (stride, padding, dilation) in enumerate([(1, 0, 1), (2, 1, 1), (1, 2, 2), (2, 0, 2)]):
        weight, record = torch.from_numpy(heavy(seed, 3, 4, 3, 3)).double(), tree_of(seed, 4)
        wide = torch.from_numpy(expand(weight.numpy(), record))
        x = torch.from_numpy(heavy(seed + 9, 2, 4, 7, 7)).double()
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        gathered = torch.conv2d(x[:, list(record.source)], wide, None, **geometry)  # type: ignore[call-overload]
        assert torch.allclose(gathered, torch.conv2d(x, weight, None, **geometry), rtol=1e-12, atol=1e-12)  # type: ignore[call-overload]
        flat, matrix = x[:, :, 0, 0], weight[:, :, 0, 0]
        there = flat[:, list(record.source)] @ torch.from_numpy(expand(matrix.numpy(), record)).T
        assert torch.allclose(there, flat @ matrix.T, rtol=1e-12, atol=1e-12)


def test_02_no_splits_are_no_change() -> None:
    """r = 0 returns identical weights, the identity as gather list, and no node more."""
    graph = residual_graph(np.random.default_rng(0))
    assert SplitOutliers(ratio=0.0)(graph).nodes == graph.nodes
    assert SplitRecord(7, ()).source == tuple(range(7))
    assert select_splits(heavy(0, 3, 7), 0) == ()


@pytest.mark.parametrize("ratio", ["0.01", "0.02", "0.05", "0.07", "0.2", "1"])
def test_03_added_channels_are_counted(ratio: str) -> None:
    """Exactly ceil(r·C) channels more; the gather list has C + ceil(r·C) entries, all below C."""
    for channels in (1, 2, 3, 64, 100):
        wanted = -(-(Fraction(ratio) * channels).numerator // (Fraction(ratio) * channels).denominator)
        assert split_count(float(ratio), channels) == wanted
        source = split_of(heavy(1, 2, channels), float(ratio)).node("layer.duplicate").attrs["src"]
        assert len(source) == channels + wanted
        assert set(source) == set(range(channels))


def test_04_expanded_columns_sum_to_the_original() -> None:
    """Bit for bit where halving is exact; quantization-aware float halves within rounding."""
    for seed in SEEDS:
        weight = np.random.default_rng(seed).integers(-999, 999, (3, 5)).astype(np.float32)
        record = tree_of(seed, 5)
        merged = np.zeros_like(weight)
        np.add.at(merged, (slice(None), list(record.source)), expand(weight, record))
        assert np.array_equal(merged, weight)
        step = np.float32(0.37)
        low, high = (weight - step / 2) / 2, (weight + step / 2) / 2
        assert np.abs(low + high - weight).max() <= np.spacing(np.float32(999))


def test_05_no_split_widens_the_range() -> None:
    """The maximum never grows; it falls where one channel alone attained it."""
    for seed in SEEDS:
        weight = heavy(seed, 4, 6)
        splits = select_splits(weight, 8)
        tops = [channel_max(expand(weight, SplitRecord(6, splits[:done]))) for done in range(9)]
        for before, after in itertools.pairwise(tops):
            assert after.max() <= before.max()
            assert after.max() < before.max() or (before == before.max()).sum() > 1


def test_06_the_widest_channel_is_split() -> None:
    """At every step the split channel attains the maximum of all channels so far."""
    for seed in SEEDS:
        weight = heavy(seed, 4, 6, 3, 3)
        channels = [weight[:, c].astype(np.float64) for c in range(6)]
        for split in select_splits(weight, 9):
            tops = [float(np.abs(channel).max()) for channel in channels]
            assert tops[split.index] == max(tops)
            channels[split.index] = channels[split.index] / 2
            channels.append(channels[split.index])


DENSE = np.arange(-400, 401) / 16
"""Every sixteenth from -25 to 25, all ties of a split among them; exact in binary."""


def test_07_quantization_aware_halves_sum_to_the_whole() -> None:
    """Q(x1) + Q(x2) = Q(x), and they are floor(q / 2) and ceil(q / 2)."""
    q, low, high = half_up(DENSE), half_up((DENSE - 0.5) / 2), half_up((DENSE + 0.5) / 2)
    assert np.array_equal(low + high, q)
    assert np.array_equal(low, np.floor(q / 2))
    assert np.array_equal(high, np.ceil(q / 2))
    pieces = expand_codes(q.astype(np.int64)[:, None], DENSE[:, None] + 100, SplitRecord(1, (Split(0),)))
    assert np.array_equal(pieces, np.stack([low, high], axis=1))


def test_08_rounding_half_to_even_breaks_it() -> None:
    """Just at x = 1.5 and 2.5 (mod 4); rounding half away from zero is as good as half up."""
    wrong = np.rint((DENSE - 0.5) / 2) + np.rint((DENSE + 0.5) / 2) != np.rint(DENSE)
    assert set(DENSE[wrong] % 4) == {1.5, 2.5}
    assert wrong[np.isin(DENSE % 4, (1.5, 2.5))].all()

    def away(x: Array) -> Array:
        return np.sign(x) * np.floor(np.abs(x) + 0.5)

    assert np.array_equal(away((DENSE - 0.5) / 2) + away((DENSE + 0.5) / 2), away(DENSE))


def trees(depth: int) -> list[Any]:
    """Every binary tree up to a depth: ``None`` is a leaf, a pair a split."""
    smaller = trees(depth - 1) if depth else []
    return [None, *itertools.product(smaller, smaller)]


def rounded_leaves(tree: Any, x: Array) -> Array:
    if tree is None:
        return half_up(x)
    return rounded_leaves(tree[0], (x - 0.5) / 2) + rounded_leaves(tree[1], (x + 0.5) / 2)


def test_09_any_tree_of_splits_keeps_the_integer_sum() -> None:
    """All 677 binary trees of depth 4 and less."""
    found = trees(4)
    assert len(found) == 677
    for tree in found:
        assert np.array_equal(rounded_leaves(tree, DENSE[::7]), half_up(DENSE[::7]))


def test_10_quantization_aware_pieces_err_by_half_a_step_and_naive_ones_by_one() -> None:
    """The naive bound is attained, at x = 3."""
    aware = half_up((DENSE - 0.5) / 2) + half_up((DENSE + 0.5) / 2) - DENSE
    naive = 2 * half_up(DENSE / 2) - DENSE
    assert np.abs(aware).max() == 0.5
    assert np.abs(naive).max() == 1.0
    assert naive[DENSE == 3.0].tolist() == [1.0]


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_11_one_split_holds_integers_up_to_twice_the_largest_code(bits: int) -> None:
    """[-2n, 2n] exactly, 2n + 1 not: real weights through the quantizer, alpha held at n steps."""
    n = 2 ** (bits - 1) - 1
    for value, held in ((2 * n, True), (-2 * n, True), (2 * n + 1, False), (-2 * n - 1, False)):
        node = split_of(np.array([[value, n, n, n]], dtype=np.float32), 0.25).node("layer")
        found = quantize_weights(node, Recipe(weight_bits=bits, weight_clip=Percentile(50)), bits)
        assert found.alpha == n
        assert (found.codes[0, [0, 4]].sum() == value) == held


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_12_the_expanded_accumulator_is_the_unsplit_one(dataflow: str) -> None:
    """Stepped through the registers of each dataflow: bit for bit the sums of the unclamped unsplit integers."""
    base = load_accelerator("edge-32x32")
    array = base.array.model_copy(update={"rows": 5, "cols": 3, "dataflow": dataflow})
    weight, x = heavy(3, 4, 7), heavy(4, 6, 7)
    found = quantized(linear_graph(weight), x, SplitOutliers(ratio=0.4), weight_bits=4)
    codes = found.encode(x)
    run = execute_register(found.program, codes, base.model_copy(update={"array": array}), keep={"layer.acc"})
    whole = np.floor(weight / (found.layers[0].alpha / 7) + 0.5).astype(np.int64)
    assert np.abs(whole).max() > 7
    assert np.array_equal(run.outputs["layer.acc"], codes["x"] @ whole.T)
    assert run.overflowed_outputs == 0


def test_13_splitting_at_max_scale_is_never_worse_than_its_bound() -> None:
    """The step never grows, and no weight errs by more than half of it."""
    for seed in SEEDS:
        weight = heavy(seed, 6, 9)
        plain = quantize_weights(linear_graph(weight).node("layer"), Recipe(), 4)
        for ratio in (0.1, 0.5, 1.0):
            node = split_of(weight, ratio).node("layer")
            found = quantize_weights(node, Recipe(), 4)
            real = np.zeros(weight.shape)
            np.add.at(real, (slice(None), list(node.notes["ocs"].source)), dequantize(found.codes, found.grid))
            assert found.grid.one_scale <= plain.grid.one_scale
            assert ((real - weight) ** 2).mean() <= found.grid.one_scale**2 / 4


def test_14_halved_activations_give_the_unsplit_accumulator() -> None:
    """floor and ceil halves with duplicated weights; what is not negative stays so."""
    weight, x = heavy(5, 3, 4), np.abs(heavy(6, 8, 4))
    found = quantized(linear_graph(weight), x, SplitActivations(ratio=0.5), act_bits=5)
    codes = found.encode(x)
    values = reference.run(found.program, codes).values
    layer = found.program.op("layer")
    assert np.array_equal(values["layer.acc"], codes["x"] @ layer.weight[:, 0, 0, :4].astype(np.int64).T)
    source = list(found.graph.node("layer.halves").attrs["src"])
    assert len(source) == 6
    for halved in {c for c in source if source.count(c) == 2}:
        first, second = (values["layer.halves"][:, i] for i, c in enumerate(source) if c == halved)
        assert np.array_equal(first, codes["x"][:, halved] // 2)
        assert np.array_equal(second, -(-codes["x"][:, halved] // 2))
    assert values["layer.halves"].min() >= 0


def test_15_static_selection_counts_one_value_in_a_hundred() -> None:
    """And permuting the images does not change the choice."""
    graph, x = residual_graph(np.random.default_rng(1)), heavy(7, 64, 3, 6, 6)
    stats = observe(graph, [x], 0, names={"relu0"})
    counts = count_above(graph, [x], extreme_thresholds(stats))["relu0"]
    assert counts.sum() / stats["relu0"].count == pytest.approx(0.01, rel=0.02)
    orders = [x, x[np.random.default_rng(2).permutation(64)]]
    splits = [SplitActivations(ratio=0.3)(graph, Context(calibration=lambda y=y: [y])) for y in orders]  # type: ignore[misc]
    assert splits[0].node("one.halves").attrs["src"] == splits[1].node("one.halves").attrs["src"]
    assert splits[0].node("one.halves").attrs["src"][6:] == tuple(np.argsort(-counts, kind="stable")[:2])


def test_16_the_oracle_leaves_no_larger_maximum_than_the_static_choice() -> None:
    """With the same ratio, on the batch that the oracle knows."""
    graph, profile = linear_graph(np.eye(6, dtype=np.float32)), heavy(8, 200, 6)
    for seed in SEEDS:
        batch = heavy(seed + 20, 4, 6)
        tops = []
        for oracle, seen in ((True, batch), (False, profile)):
            split = SplitActivations(ratio=0.5, oracle=oracle)(graph, Context(calibration=lambda y=seen: [y]))  # type: ignore[misc]
            copy = split.node("layer.halves")
            tops.append(np.abs(batch[:, list(copy.attrs["src"])] * copy.params["weight"]).max())
        assert tops[0] <= tops[1]


def test_17_clipping_by_squared_error_is_never_worse_than_not_clipping() -> None:
    """Since the maximum is a candidate; without it {-1, 0, 1} would be clipped at a loss."""
    for seed, bits in itertools.product(SEEDS, (2, 4, 8)):
        data = given_values(heavy(seed, 500), bits)
        assert squared_error(data, Mse()(data))[0] <= squared_error(data, data.absmax)[0]
    three = given_values([-1, 0, 1])
    assert Mse()(three).tolist() == [1.0]
    assert squared_error(three, np.ones(1))[0] == 0
    assert all(squared_error(three, np.array([k / 100]))[0] > 0 for k in range(1, 100))


@pytest.mark.parametrize("name", RULES)
def test_18_thresholds_scale_with_the_values_and_ignore_their_sign(name: str) -> None:
    """alpha(c·x) = c·alpha(x) for c > 0; alpha(-x) = alpha(x) for symmetric rules."""
    for seed in SEEDS:
        values = heavy(seed, 700).astype(np.float64)
        alpha = alpha_of(RULES[name], values)
        assert alpha > 0
        for factor in (0.25, 8.0, 3.7):
            assert alpha_of(RULES[name], factor * values) == pytest.approx(factor * alpha, rel=1e-9)
        if name != "kl-mxnet":  # which groups bins from the left end
            assert alpha_of(RULES[name], -values) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_19_thresholds_are_above_zero_and_at_most_the_maximum(name: str) -> None:
    """Also where the rule's own formula goes beyond; percentile 100 is the maximum, and percentiles never fall."""
    for values in (heavy(1, 300), [0, 0, 5], [1e-30, -1e-30], [-3], np.repeat([1.0, -1.0], 50)):
        assert 0 < alpha_of(RULES[name], values) <= np.abs(values).max()
    values = heavy(2, 300)
    assert alpha_of(Percentile(100), values) == alpha_of(Max(), values) == np.abs(values).max()
    by_percent = [alpha_of(Percentile(p), values) for p in (1, 20, 50, 90, 99, 99.9, 100)]
    assert by_percent == sorted(by_percent)


def expected_error(alpha: float, levels: int, prior: str) -> float:
    """Mean squared error of one half of a unit density on a symmetric grid, level by level."""

    def density(x: float) -> float:
        return float(np.exp(-x) if prior == "laplace" else np.sqrt(2 / np.pi) * np.exp(-x * x / 2))

    step, total = alpha / levels, 0.0
    edges = [0.0, *((np.arange(levels) + 0.5) * step), 60.0]
    for code, (low, high) in enumerate(itertools.pairwise(edges)):
        total += quad(lambda x, c=code: (x - c * step) ** 2 * density(x), low, high, limit=200)[0]
    return total


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_20_aciq_multipliers_are_the_optima_of_their_error_models(bits: int) -> None:
    """To 1e-2: of the symmetric grid by default; Laplace's published ones solve a·exp(a) = 3·4^M."""
    n = 2 ** (bits - 1) - 1
    for prior, table in (("gauss", aciq.GAUSS_OPTIMAL), ("laplace", aciq.LAPLACE_OPTIMAL)):
        here = expected_error(table[bits - 2], n, prior)
        assert all(here < expected_error(table[bits - 2] + off, n, prior) for off in (-0.01, 0.01))
    assert aciq.LAPLACE_PUBLISHED[bits - 2] == pytest.approx(float(lambertw(3 * 4**bits).real), abs=0.012)
    values = heavy(3, 999)
    b = np.abs(values - values.mean(dtype=np.float64)).mean(dtype=np.float64)
    wanted = abs(values.mean(dtype=np.float64)) + b * aciq.LAPLACE_OPTIMAL[bits - 2]
    assert alpha_of(Aciq(prior="laplace"), values, bits) == pytest.approx(min(wanted, np.abs(values).max()))


def test_21_divergence_keeps_the_range_of_values_on_its_own_grid() -> None:
    """Values on as many equally spaced points as there are codes; constants and zeros do not crash."""
    for bits in (2, 3, 4, 6):
        n = 2 ** (bits - 1) - 1
        on_grid = np.repeat(np.arange(-n, n + 1), np.random.default_rng(bits).integers(20, 60, 2 * n + 1)) / n
        assert alpha_of(Kl(), on_grid, bits) == pytest.approx(1.0)
        assert np.array_equal(quantize(on_grid, symmetric(1.0, bits)), np.rint(on_grid * n))
    for rule in (Kl(), Kl(mxnet_compat=True)):
        assert alpha_of(rule, np.full(50, -0.3)) == pytest.approx(0.3)
        assert alpha_of(rule, np.zeros(50)) == 0


def test_the_numbers_run_from_1_to_21() -> None:
    """No statement is left out."""
    named = [name for name in globals() if name.startswith("test_") and name[5:7].isdigit()]
    assert [int(name[5:7]) for name in named] == list(range(1, 22))


def test_a_convolution_is_expanded_as_a_matrix_is() -> None:
    """The numbered statements on matrices hold for convolutions: taps are columns of one channel."""
    weight = heavy(9, 3, 4, 2, 2)
    assert select_splits(weight, 5) == select_splits(weight.transpose(0, 2, 3, 1).reshape(12, 4), 5)
    node = SplitOutliers(ratio=0.5)(conv_graph(weight)).node("layer")
    assert node.params["weight"].shape == (3, 6, 2, 2)
