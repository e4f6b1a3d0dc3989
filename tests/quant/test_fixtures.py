"""Every method on numbers small enough to be worked out by hand: selection order, split values, thresholds, factors."""

import math
from typing import Any

import numpy as np
import pytest
from equalize_nets import BY_HAND, ONE_SIDED, SEEN, context
from float_nets import conv_graph, graph_of, linear_graph, linear_node
from numpy.typing import NDArray

from accelsim import reference
from quant.bias_correction import correct_biases
from quant.clip import Aciq, ClipInput, Kl, Mse, Percentile
from quant.equalize_cross import CrossLayer
from quant.equalize_meller import OneStep, TwoStep
from quant.graph import Graph, Node
from quant.lower import Quantized
from quant.lower_linear import CORRECTION, quantize_weights
from quant.lower_split import branch_weights
from quant.ocs import SplitOutliers, SplitRecord, expand, select_splits
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.smoothquant import SmoothQuant
from quant.splitquant import PARTS, SplitQuant, boundaries

Array = NDArray[Any]

WEIGHT = np.array([[8, 1, -6], [2, -3, 6]], dtype=np.float32)
"""Maxima 8, 3, 6: splits go to channels 0 (4, 4), 2 (3, 3), then to the first of the two halves of width 4."""


def layer_of(graph: Graph) -> Node:
    return graph.node("layer")


def quantized(graph: Graph, x: Array, *transforms: Any, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(first_last="same", transforms=transforms, **options))


def alpha_of(rule: Any, values: list[float], bits: int, top: float = 0.0, unsigned: bool = False) -> float:
    """Threshold of one row; `top` in place of its maximum shows what the rule finds before that limits it."""
    row = np.array([values], dtype=np.float64)
    return float(rule(ClipInput(row, np.array([top or np.abs(row).max()]), bits, unsigned))[0])


# --- channel splitting of weights ------------------------------------------------------------------------------------


def test_greedy_order_and_halves() -> None:
    splits = select_splits(WEIGHT, 3)
    assert [split.index for split in splits] == [0, 2, 0]
    assert SplitRecord(3, splits).source == (0, 1, 2, 0, 2, 0)
    assert expand(WEIGHT, SplitRecord(3, splits)).tolist() == [[2, 1, -3, 4, -3, 2], [0.5, -3, 3, 1, 3, 0.5]]


def test_quantization_aware_and_naive_codes() -> None:
    """4 bits, largest half 4: a step of 4/7. Unsplit 8, 1, -6 are 14, 1.75, -10.5 steps: 14, 2, -10 half up."""
    for naive, wanted in (
        (False, [[3, 2, -5, 7, -5, 4], [1, -5, 5, 2, 6, 1]]),
        (True, [[4, 2, -5, 7, -5, 4], [1, -5, 5, 2, 5, 1]]),
    ):
        node = layer_of(SplitOutliers(splits=(("layer", 3),), naive=naive)(linear_graph(WEIGHT)))
        found = quantize_weights(node, Recipe(weight_bits=4), 4)
        assert (found.codes.tolist(), found.alpha, found.clamped) == (wanted, 4.0, 0)


def test_selective_halves_and_codes() -> None:
    """Threshold 0.5·8: only the 8 is halved; 2 stays whole in the first copy. The step is 6/7, 8 is 9.33 steps."""
    node = layer_of(SplitOutliers(splits=(("layer", 1),), threshold_ratio=0.5)(linear_graph(WEIGHT)))
    assert node.params["weight"].tolist() == [[4, 1, -6, 4], [2, -3, 6, 0]]
    found = quantize_weights(node, Recipe(weight_bits=4), 4)
    assert found.codes.tolist() == [[4, 1, -7, 5], [2, -3, 7, 0]]  # 2, -3 are 2.33, -3.5 steps: 2, -3 half up


def test_clipped_pieces_on_the_papers_and_on_the_released_grid() -> None:
    """Alpha is the 50th percentile of 8, 1, 6, 2, 3, 6, which is 6 above: 4 after the split holds it; then 3."""
    node = layer_of(SplitOutliers(splits=(("layer", 1),))(linear_graph(-WEIGHT)))

    def codes(percent: float, **options: Any) -> tuple[float, list[list[int]]]:
        found = quantize_weights(node, Recipe(weight_clip=Percentile(percent), **options), 4)
        return found.alpha, found.codes.tolist()

    # Expanded [-4, -1, 6, -4], [-1, 3, -6, -1]; unsplit magnitudes 1 2 3 6 6 8.
    assert codes(50)[0] == 6
    # Alpha 3: steps of 3/7. -8 is -18.67 steps: -19, split into -10 and -9; -2 is -4.67: -5, split into -3 and -2.
    assert codes(40) == (3, [[-7, -2, 7, -7], [-3, 7, -7, -2]])
    assert codes(40, wide_clamp=True) == (3, [[-8, -2, 7, -8], [-3, 7, -8, -2]])
    # On the expanded values 1 1 1 3 4 4 6 6 the 40th percentile is 3 as well, the 60th 4.
    assert codes(60, clip_expanded=True)[0] == 4


# --- channel splitting of activations --------------------------------------------------------------------------------


def test_static_and_oracle_choice_and_halved_codes() -> None:
    """400 values below 1 and, in channel 2, three of 5 and more: they alone are extreme; channel 0 has the widest."""
    x = np.tile(np.array([0.5, 0.25, 0.5, 0.25], dtype=np.float32), (100, 1))
    x[:3, 2] = (5, 6, 7)
    x[9, 0] = 8.0
    identity = linear_graph(np.eye(4, dtype=np.float32))
    static, oracle = (SplitActivations(ratio=0.25, oracle=o)(identity, context(x)) for o in (False, True))
    assert static.node("layer.halves").attrs["src"] == (0, 1, 2, 3, 2)
    assert oracle.node("layer.halves").attrs["src"] == (0, 1, 2, 3, 0)
    # The oracle leaves 7 as the maximum; on 3 unsigned bits a code is a unit, 8 is fed as 4 and 4, 5 as it is.
    found = quantized(identity, x, SplitActivations(ratio=0.25, oracle=True), act_bits=3)
    values = reference.run(found.program, found.encode(np.array([[8, 1, 5, 0], [7, 0, 7, 0]]))).values
    assert values["layer.halves"].tolist() == [[4, 1, 5, 0, 4], [3, 0, 7, 0, 4]]


# --- thresholds ------------------------------------------------------------------------------------------------------


def test_mse_threshold() -> None:
    """2 bits, codes -1..1: with ten 1s and a 3 any alpha a in (1, 2] errs by 10·(a - 1)² + (3 - a)², least at 13/11."""
    assert alpha_of(Mse(candidates=300), [1.0] * 10 + [3.0], 2) == pytest.approx(1.18)
    assert alpha_of(Mse(candidates=3), [1.0] * 10 + [3.0], 2) == pytest.approx(1.0)  # of 1, 2, 3: errors 4, 11, 10


def test_percentile_threshold() -> None:
    values = [-5.0, 1.0, 2.0, -3.0, 4.0]
    wanted = {1: 2.0, 25: 2.0, 26: 3.0, 75: 4.0, 76: 5.0, 100: 5.0}
    assert {p: alpha_of(Percentile(p), values, 4) for p in wanted} == wanted


def test_aciq_thresholds_of_the_three_tables() -> None:
    """-1, 1, -3, 3: mean 0, b = 2, sigma = root 5, range 6; of 1 and 3 the mean is 2, b and sigma are 1."""
    root = math.sqrt(5)
    from_range = 6 * 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(4))
    wanted = {
        ("optimal", "laplace", False): 4.8199 * 2, ("optimal", "gauss", False): 2.4739 * root,
        ("published", "laplace", False): 5.03 * 2, ("published", "gauss", False): 2.55 * root,
        ("ocs-paper", "laplace", False): 4.00378631 * 2, ("ocs-paper", "gauss", False): 2.19227856 * from_range,
        ("optimal", "laplace", True): 6.0980 * 2, ("optimal", "gauss", True): 2.8987 * root,
        ("published", "laplace", True): 2 + 6.2, ("published", "gauss", True): 2 + 2.93,
        ("ocs-paper", "laplace", True): 4.00378631 * 1,
    }  # fmt: skip
    for (table, prior, unsigned), alpha in wanted.items():
        values = [1.0, 3.0] if unsigned else [-1.0, 1.0, -3.0, 3.0]
        rule = Aciq(table, prior)  # type: ignore[arg-type]
        assert alpha_of(rule, values, 4, top=1e6, unsigned=unsigned) == pytest.approx(alpha, rel=1e-6), (table, prior)
        assert alpha_of(rule, values, 4, unsigned=unsigned) == pytest.approx(min(alpha, 3.0), rel=1e-6)


def test_divergence_threshold() -> None:
    """Five bins of 0.4, counts 1 4 0 8 0, 2 bits. All: 4 and 8 share code 0, KL = 0.0523 less 1/26 by chance.

    Within one bin of the middle: 5/13 against 4/12 and 8/13 against 8/12, KL = 0.0058. So alpha = 1.5 bins of 0.4.
    """
    values = [-0.8] + [-0.4] * 4 + [0.4] * 8
    assert alpha_of(Kl(bins=5), values, 2, top=1.0) == pytest.approx(0.6)
    assert alpha_of(Kl(bins=5), [-0.8] + [-0.4] * 8 + [0.4] * 8 + [0.8], 2, top=1.0) == pytest.approx(1.0)


# --- clusters --------------------------------------------------------------------------------------------------------


def test_clusters_scales_and_codes() -> None:
    """Centres -6, 0.1, 5: boundaries -2.95 and 2.55. 4 bits: affine steps of a fifteenth of each part's range."""
    weight = np.array([[-6.5, 0.2, 5.0], [-5.5, 0.0, 5.0]], dtype=np.float32)
    assert boundaries(weight) == pytest.approx((-2.95, 2.55))
    lower, middle, upper = (SplitQuant()(linear_graph(weight)).node(f"layer.{part}") for part in PARTS)
    found = [branch_weights(node, Recipe(), 4) for node in (lower, middle, upper)]
    assert [f.grid.one_scale for f in found] == pytest.approx([6.5 / 15, 0.2 / 15, 5 / 15])
    assert [f.codes.tolist() for f in found] == [[[-15, 0, 0], [-13, 0, 0]], [[0, 15, 0], [0, 0, 0]],
                                                 [[0, 0, 15], [0, 0, 15]]]  # fmt: skip
    halves = [branch_weights(SplitQuant(scales="symmetric")(linear_graph(weight)).node(f"layer.{part}"), Recipe(), 4)
              for part in PARTS]  # fmt: skip
    assert [f.grid.one_scale for f in halves] == pytest.approx([6.5 / 7, 0.2 / 7, 5 / 7])


def test_clusters_of_a_convolution_are_per_filter() -> None:
    weight = np.array([[0, 1, 9], [0, 10, 90]], dtype=np.float32).reshape(2, 3, 1, 1)
    middle = SplitQuant()(conv_graph(weight)).node("layer.middle").params["weight"]
    assert middle.reshape(2, 3).tolist() == [[0, 1, 0], [0, 10, 0]]


# --- factors ---------------------------------------------------------------------------------------------------------


def test_factors_of_equalization() -> None:
    """Widths 8, 2, 0.1, read by 1, 2, 4.

    One-step: 1, 4 and 80 held at 16. Two-step, m = 1/4, 1/2, 1: K' = 2, so 1/4, 1, 20 held at 16. As released, with one
    reader m = 1: one-step. Cross-layer: all ranges meet at the root of the product.
    """
    for transform, x, wanted in (
        (OneStep(), SEEN, [1, 4, 16]),
        (OneStep(cap=3), SEEN, [1, 3, 3]),
        (TwoStep(), ONE_SIDED, [0.25, 1, 16]),
        (TwoStep(released=True), ONE_SIDED, [1, 4, 16]),
        (CrossLayer(), SEEN, [math.sqrt(1 / 8), 1, math.sqrt(40)]),
    ):
        equal = transform(BY_HAND, context(x))  # type: ignore[operator]
        assert np.allclose(equal.node("one").params["weight"].ravel(), np.array([8, 2, 0.1]) * wanted), transform
        assert np.allclose(equal.node("two").params["weight"].ravel(), np.array([1, 2, 4]) / wanted), transform


def test_factors_of_smoothing() -> None:
    """X = 8 and 0.5, W = 2 and 4: s = 8^a / 2^(1-a) and 0.5^a / 4^(1-a)."""
    gains = {"weight": np.array([8.0, 0.5]), "bias": np.zeros(2)}
    graph = graph_of(
        (2,), Node("norm", "layer_norm", ("x",), {"eps": 1e-12, "ndim": 1}, gains),
        linear_node("one", "norm", np.array([[1, 4], [2, 0.1]])),
    )  # fmt: skip
    x = np.array([[3.0, 1.0], [1.0, 3.0]], dtype=np.float32)
    for alpha, s in ((0.5, [2.0, math.sqrt(0.125)]), (0.75, [8**0.75 / 2**0.25, 0.5**0.75 / 4**0.25])):
        smooth = SmoothQuant(alpha=alpha)(graph, context(x))
        assert np.allclose(smooth.node("norm").params["weight"], np.array([8, 0.5]) / s, rtol=1e-5)
        assert np.allclose(smooth.node("one").params["weight"], np.array([[1, 4], [2, 0.1]]) * s, rtol=1e-5)


def test_corrections_of_biases() -> None:
    """2 bits: 0.25 rounds to 0, 0.75 to 1; the mean input is (2, 4), so 0.25·4 and -0.25·2 - 0.25·4 are missing."""
    graph = linear_graph(np.array([[1.0, 0.25], [0.75, -0.25]]), np.array([1.0, 1.0]))
    x = np.array([[1.0, 4.0], [3.0, 4.0]], dtype=np.float32)
    corrected = correct_biases(graph, [x], Recipe(weight_bits=2, first_last="same"))
    assert layer_of(corrected).notes[CORRECTION].tolist() == [1.0, -1.5]
