"""Both ways to store a layer that SplitQuant split, and what each costs."""

from typing import Any

import numpy as np
from float_nets import linear_graph, residual_graph

from accelsim.check import check
from accelsim.config import load_accelerator
from accelsim.program import Conv
from accelsim.simulate import simulate
from quant.lower import Quantized
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from quant.splitquant import SplitQuant, stored_bits
from quant.splitquant_storage import as_stored


def quantized(storage: Any, bits: int = 4, scales: Any = "affine") -> Quantized:
    rng = np.random.default_rng(1)
    graph, x = residual_graph(rng, channels=16), rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    split = SplitQuant(storage=storage, scales=scales)
    return quantize_network(graph, lambda: [x], Recipe(weight_bits=bits, transforms=(split,)))


def test_the_integers_do_not_depend_on_the_storage() -> None:
    dense, coded = quantized("dense"), quantized("coded")
    assert dense.program.digest() == coded.program.digest()
    assert as_stored(dense) is dense.program
    assert dense.recipe.label() != coded.recipe.label()
    assert recipe_from_yaml(recipe_to_yaml(coded.recipe)) == coded.recipe


def test_networks_without_split_layers_are_stored_as_they_are() -> None:
    graph, x = linear_graph(np.eye(3, dtype=np.float32)), np.ones((2, 3), dtype=np.float32)
    plain = quantize_network(graph, lambda: [x], Recipe(transforms=(SplitQuant(storage="coded"),)))
    assert as_stored(plain) is plain.program  # its one layer is the last, which is not split by default


def test_coded_weights_are_one_matrix_that_three_passes_read() -> None:
    for scales in ("affine", "symmetric"):
        found = quantized("coded", scales=scales)
        program = as_stored(found)
        check(program)
        parts = [program.op(f"one.{part}") for part in ("lower", "middle", "upper")]
        assert all(isinstance(op, Conv) and op.storage_bits == 4 + 2 for op in parts)
        assert [op.shares for op in parts] == ["", "one.lower", "one.lower"]
        assert [op.storage_bits for op in program.ops if isinstance(op, Conv) and op.name == "first"] == [8]


def test_what_is_stored_and_moved_is_priced_in_both_forms() -> None:
    """Stored: bits + 2 a weight against 3·bits, rows rounded up to words; the array's work is the same."""
    machine = load_accelerator("edge-32x32")
    for bits in (2, 4):
        dense, coded = (simulate(as_stored(quantized(form, bits)), machine).to_json() for form in ("dense", "coded"))
        by_layer = [
            {name: sum(layer["weight_bytes"] for layer in record["layers"] if layer["name"].startswith(name))
             for name in ("one", "two")}
            for record in (dense, coded)
        ]  # fmt: skip
        members = [1000, 800, 504]  # of 16 by 16 by 9 weights
        wanted = stored_bits(members, bits, "coded") / stored_bits(members, bits)
        for name in ("one", "two"):
            assert abs(by_layer[1][name] / by_layer[0][name] - wanted) < 0.25
        assert coded["weight_bytes"] < dense["weight_bytes"]
        assert coded["dram_bytes"] < dense["dram_bytes"]
        assert coded["array_cycles"] == dense["array_cycles"]
        assert coded["energy_pj"]["pe"] == dense["energy_pj"]["pe"]
