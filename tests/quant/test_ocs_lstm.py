"""Channel splitting of an LSTM's two matrices: entries of x and of h are duplicated, pieces sum to the unsplit."""

import numpy as np
from transform_nets import NETS, samples

from accelsim.config import load_accelerator
from accelsim.plan import fold_filling
from accelsim.program import Conv
from quant.ocs import SplitOutliers
from quant.ocs_lstm import product_name
from quant.pipeline import quantize_network
from quant.recipe import Recipe


def test_both_matrices_are_split_and_their_pieces_sum_to_the_unsplit_integers() -> None:
    rng = np.random.default_rng(3)
    graph = NETS["lstm"](rng)
    x = samples(graph, rng, 4)
    split = SplitOutliers(splits=(("lstm.fed", 2), ("lstm.back", 1)))
    found = quantize_network(graph, lambda: [x], Recipe(weight_bits=4, transforms=(split,), first_last="same"))
    infos = {info.name: info for info in found.layers}
    matrices = {"lstm.fed": (graph.node("lstm").params["weight_ih"], 2),
                "lstm.back": (graph.node("lstm").params["weight_hh"], 1)}  # fmt: skip
    for name, (weight, splits) in matrices.items():
        assert infos[name].splits == splits
        assert infos[name].alpha < np.abs(weight).max()
        ops = [op for op in found.program.ops if isinstance(op, Conv) and product_name(op.name) == name]
        source = found.graph.node("lstm").notes["ocs_input" if name == "lstm.fed" else "ocs_hidden"].source
        assert len(source) == weight.shape[1] + splits
        whole = np.floor(weight / (infos[name].alpha / 7) + 0.5).astype(np.int64)
        assert len(ops) == (1 if name == "lstm.fed" else 3)  # the first step's state is zero
        for op in ops:
            summed = np.zeros_like(whole)
            np.add.at(summed, (slice(None), list(source)), op.weight[:, 0, 0].astype(np.int64))
            assert np.array_equal(summed, whole)


def test_a_plan_that_fills_folds_splits_both_matrices() -> None:
    """It names the product of the first step that has one, whose matrix all steps share."""
    rng = np.random.default_rng(3)
    graph = NETS["lstm"](rng)
    x = samples(graph, rng, 4)
    plain = quantize_network(graph, lambda: [x], Recipe(first_last="same"))
    plan = dict(fold_filling(plain.program, load_accelerator("edge-32x32")).splits)
    assert set(plan) == {"first", "lstm.fed", "lstm.1.back", "last"}
    split = SplitOutliers(splits=tuple(plan.items()))
    found = quantize_network(graph, lambda: [x], Recipe(transforms=(split,), first_last="same"))
    assert {info.name: info.splits for info in found.layers} == {product_name(k): v for k, v in plan.items()}
