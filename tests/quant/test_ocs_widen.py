"""Duplicating channels in the producer: where it is possible, and that it gives the gathered layer's integers."""

from typing import Any

import numpy as np
import pytest
from float_nets import assert_same_function, conv_node, graph_of, linear_node, residual_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim import reference
from accelsim.program import Conv, Duplicate
from quant.graph import Graph, Node
from quant.lower import Quantized
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.ocs_widen import find_producer
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.transform import Context

Array = NDArray[Any]
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0,) * 4, "dilation": (1, 1), "ceil_mode": False}
AVERAGE = {"kernel": (2, 2), "stride": (2, 2), "padding": (0,) * 4, "ceil_mode": False, "count_include_pad": True}


def widened(graph: Graph, ratio: float = 0.5) -> Graph:
    return SplitOutliers(ratio=ratio, form="widen")(graph, Context(protected=frozenset({"first"})))


def quantized(graph: Graph, x: Array, **options: Any) -> Quantized:
    return quantize_network(graph, lambda: [x], Recipe(weight_bits=4, **options))


def chain(rng: np.random.Generator, *between: Node) -> Graph:
    """Return a convolution, the nodes, a convolution of what they give, and a linear layer on all."""
    weight = [rng.standard_t(3, (4, c, 3, 3)).astype(np.float32) for c in (3, 4)]
    last = between[-1].name if between else "first"
    return graph_of(
        (3, 8, 8),
        conv_node("first", "x", weight[0], rng.normal(size=4), padding=1),
        *between,
        conv_node("second", last, weight[1], padding=1),
        Node("flat", "flatten", ("second",)),
        linear_node("last", "flat", rng.normal(size=(2, 4 * np.prod(8 if last == "relu" else 4) ** 2))),
    )


def middle(rng: np.random.Generator) -> list[Node]:
    """Return nodes through which channels can be widened, depthwise convolution included."""
    return [
        Node("relu", "relu", ("first",)),
        Node("affine", "affine", ("relu",), {"axis": 0}, {"weight": rng.uniform(1, 2, 4), "bias": rng.normal(size=4)}),
        conv_node("depth", "affine", rng.normal(size=(4, 1, 3, 3)), rng.normal(size=4), groups=4, padding=1),
        Node("prelu", "prelu", ("depth",), {}, {"weight": rng.uniform(0.1, 0.3, 4)}),
        Node("average", "avg_pool", ("prelu",), AVERAGE),
        Node("six", "relu6", ("average",)),
    ]


def test_producer_and_all_between_are_widened_without_a_copy(rng: np.random.Generator) -> None:
    graph = chain(rng, *middle(rng))
    split = widened(graph)
    assert not [n for n in split.nodes if n.op == "duplicate" and n.name == "second.duplicate"]
    for name, size in (("first", 6), ("affine", 6), ("depth", 6), ("six", 6), ("second", 6)):
        assert split.shapes[name][0] == (size if name != "second" else 4 + 0)
    assert split.node("depth").attrs["groups"] == 6
    assert split.node("second").params["weight"].shape == (4, 6, 3, 3)
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    assert_same_function(graph, split, x)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 1.0]), st.booleans(), st.booleans())
def test_widened_and_gathered_layers_have_the_same_integers(
    seed: int, ratio: float, naive: bool, per_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    graph = chain(rng, Node("relu", "relu", ("first",)))
    x = rng.normal(size=(4, 3, 8, 8)).astype(np.float32)
    outputs, sources = [], []
    for form in ("gather", "widen"):
        split = SplitOutliers(ratio=ratio, naive=naive, form=form)  # type: ignore[arg-type]
        found = quantized(graph, x, transforms=(split,), per_channel=per_channel)
        values = reference.run(found.program, found.encode(x)).values
        outputs.append(values["second.acc"])
        sources.append([op for op in found.program.ops if isinstance(op, Duplicate)])
        second = found.program.op("second")
        assert isinstance(second, Conv)
        assert second.weight.shape[-1] == 4 + int(np.ceil(ratio * 4))
    assert np.array_equal(*outputs)
    assert [len(ops) for ops in sources] == [1, 0]


def test_a_splitting_network_widens_where_it_can_and_gathers_elsewhere(rng: np.random.Generator) -> None:
    graph = residual_graph(rng)
    split = widened(graph)
    assert_same_function(graph, split, rng.normal(size=(3, 3, 6, 6)).astype(np.float32))
    reasons = {n.name: n.notes.get("ocs_gathered") for n in split.nodes if "ocs" in n.notes}
    assert reasons == {"one": "relu0 has other readers", "two": None, "last": "add comes from add"}
    assert [n.name for n in split.nodes if n.op == "duplicate"] == ["one.duplicate", "last.duplicate"]
    assert split.node("one").params["weight"].shape == (9, 9, 3, 3)
    x = rng.normal(size=(4, 3, 6, 6)).astype(np.float32)
    form = quantized(graph, x, transforms=(SplitOutliers(ratio=0.5, form="widen"),))
    gather = quantized(graph, x, transforms=(SplitOutliers(ratio=0.5),))
    real = [q.decode(reference.run(q.program, q.encode(x)).values)[0] for q in (form, gather)]
    assert np.allclose(*real, atol=0.3 * np.abs(real[0]).max())


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        ([Node("soft", "softmax", ("first",), {"axis": 0}), Node("pool", "max_pool", ("soft",), POOL)],
         "soft comes from softmax"),
        ([Node("pool", "max_pool", ("first",), POOL), Node("twice", "add", ("pool", "pool"))],
         "twice comes from add"),
        ([Node("pool", "max_pool", ("first",), POOL), Node("turn", "permute", ("pool",), {"order": (0, 2, 1)})],
         "turn comes from permute"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_what_mixes_channels_stands_in_the_way(between: list[Node], reason: str, rng: np.random.Generator) -> None:
    graph = chain(rng, *between)
    assert find_producer(graph, graph.node("second")).reason == reason
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    assert_same_function(graph, widened(graph), x)


def test_grouped_producers_and_network_inputs_stand_in_the_way(rng: np.random.Generator) -> None:
    graph = graph_of(
        (4, 6, 6),
        conv_node("first", "x", rng.normal(size=(4, 2, 3, 3)), groups=2),
        conv_node("second", "first", rng.normal(size=(4, 4, 3, 3))),
    )
    assert find_producer(graph, graph.node("second")).reason == "first comes from conv"
    assert find_producer(graph, graph.node("first")).reason == "x is an input of the network"


def test_linear_layers_widen_linear_layers_and_vectors_of_pixels(rng: np.random.Generator) -> None:
    graph = graph_of(
        (5, 6),
        linear_node("first", "x", rng.normal(size=(8, 6)), rng.normal(size=8)),
        Node("gelu", "gelu", ("first",), {"approximate": "none"}),
        linear_node("second", "gelu", rng.normal(size=(3, 8))),
    )
    split = widened(graph)
    assert not [n for n in split.nodes if n.op == "duplicate"]
    assert_same_function(graph, split, rng.normal(size=(2, 5, 6)).astype(np.float32))
    pixels = graph_of(
        (3, 4, 4),
        conv_node("first", "x", rng.normal(size=(6, 3, 3, 3))),
        Node("mean", "mean", ("first",), {"axes": (1, 2)}),
        Node("flat", "flatten", ("mean",)),
        linear_node("second", "flat", rng.normal(size=(3, 6))),
    )
    split = widened(pixels)
    assert not [n for n in split.nodes if n.op == "duplicate"]
    assert_same_function(pixels, split, rng.normal(size=(2, 3, 4, 4)).astype(np.float32))
    flat = chain(rng, Node("relu", "relu", ("first",)))
    assert find_producer(flat, flat.node("last")).reason == "flat comes from flatten"


def test_halved_activations_are_not_widened(rng: np.random.Generator) -> None:
    graph = chain(rng, Node("relu", "relu", ("first",)))
    x = rng.normal(size=(4, 3, 8, 8)).astype(np.float32)
    both = (SplitActivations(ratio=0.3), SplitOutliers(ratio=0.3, form="widen"))
    found = quantized(graph, x, transforms=both)
    assert found.graph.node("second").notes["ocs_gathered"] == "second.halves comes from duplicate"


def test_unknown_forms_and_second_splits_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="ocs form must be gather or widen"):
        SplitOutliers(ratio=0.1, form="copy")  # type: ignore[arg-type]
    graph = residual_graph(rng)
    with pytest.raises(ValueError, match="ocs: layer 'first' is split already; list ocs once, with a larger ratio"):
        SplitOutliers(ratio=0.1)(SplitOutliers(ratio=0.1)(graph))
