"""Float runs: memory, inputs, observers, inner tensors, and operations against torch's own."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from quant.graph import OPS, UNARY, Graph, Input, Node
from quant.run import FLOAT_OPS, PARTS, batched, load_params, predict, run


def chain(length: int) -> Graph:
    nodes = [Node(f"n{i}", "relu", (f"n{i - 1}" if i else "x",)) for i in range(length)]
    return Graph("chain", (Input("x", (3,)),), tuple(nodes), (nodes[-1].name,))


def one(op: str, shapes: list[tuple[int, ...]], attrs: dict[str, object], **params: np.ndarray) -> Graph:
    inputs = tuple(Input(f"x{i}", shape) for i, shape in enumerate(shapes))
    return Graph(op, inputs, (Node("y", op, tuple(i.name for i in inputs), attrs, params),), ("y",)).check()


def test_an_intermediate_is_dropped_once_its_last_reader_has_run() -> None:
    graph, refs, alive = chain(6), [], []

    def watch(name: str, value: torch.Tensor) -> None:
        gc.collect()
        alive.append(sum(ref() is not None for ref in refs))
        refs.append(weakref.ref(value))

    run(graph, np.ones((2, 3), np.float32), observer=watch)
    assert max(alive) <= 2


def test_kept_tensors_and_outputs_are_returned_and_nothing_else() -> None:
    x = np.array([[-1.0, 0.0, 2.0]], np.float32)
    found = run(chain(4), x, keep=("x", "n1"))
    assert set(found) == {"x", "n1", "n3"}
    assert found["n1"].tolist() == [[0.0, 0.0, 2.0]]
    with pytest.raises(ValueError, match=r"keep must name tensors of the graph \(got \['zz'\]\)"):
        run(chain(2), x, keep=("zz",))


def test_the_observer_sees_every_tensor_in_order() -> None:
    seen: list[str] = []
    run(chain(3), np.ones((1, 3), np.float32), observer=lambda name, value: seen.append(name))
    assert seen == ["x", "n0", "n1", "n2"]


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.ones((0, 3), np.float32), "samples must be >= 1"),
        (np.ones((2, 4), np.float32), r"shape must be \[samples, 3\] \(got \(2, 4\)\)"),
        (np.ones(3, np.float32), r"shape must be \[samples, 3\]"),
        ([np.ones((2, 3)), np.ones((2, 3))], r"inputs must be \['x'\] \(got 2 arrays\)"),
        ({"y": np.ones((2, 3))}, r"inputs must be \['x'\] \(got 0 arrays\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        run(chain(1), x)  # type: ignore[arg-type]


def test_inputs_of_different_lengths_are_refused() -> None:
    graph = one("add", [(3,), (3,)], {})
    with pytest.raises(ValueError, match=r"alike \(got \[1, 2\]\)"):
        run(graph, [np.ones((1, 3)), np.ones((2, 3))])


def test_predict_does_not_depend_on_the_batch_size(rng: np.random.Generator) -> None:
    graph = one("linear", [(5,)], {}, weight=rng.normal(size=(3, 5)), bias=rng.normal(size=3))
    x = rng.normal(size=(11, 5)).astype(np.float32)
    assert np.array_equal(predict(graph, x, 4), predict(graph, x, 4))
    assert np.allclose(predict(graph, x, 1), predict(graph, x, 100), rtol=1e-6)
    assert [len(part[0]) for part in batched(x, 4)] == [4, 4, 3]
    with pytest.raises(ValueError, match="samples must be >= 1"):
        predict(graph, x[:0])


def test_batches_are_cut_where_their_largest_tensor_would_be_too_large(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, x = chain(3), rng.normal(size=(7, 3)).astype(np.float32)
    whole, seen, honest = predict(graph, x), [], batched
    monkeypatch.setattr("quant.run.MOST_VALUES", 3 * 2 + 1)
    monkeypatch.setattr("quant.run.batched", lambda x, size: seen.append(size) or honest(x, size))
    assert np.array_equal(predict(graph, x), whole)
    assert seen == [2]
    monkeypatch.setattr("quant.run.MOST_VALUES", 2)
    with pytest.raises(
        ValueError, match=r"chain\.x: a tensor must have at most 2 values a sample \(got 3, shape \[3\]"
    ):
        predict(graph, x)


def test_parameters_loaded_once_may_serve_many_runs(rng: np.random.Generator) -> None:
    graph = one("linear", [(5,)], {}, weight=rng.normal(size=(3, 5)))
    x = rng.normal(size=(2, 5)).astype(np.float32)
    assert torch.equal(run(graph, x, params=load_params(graph))["y"], run(graph, x)["y"])


@given(st.data())
def test_pads_that_differ_at_the_two_ends_equal_explicit_padding(data: st.DataObject) -> None:
    pads = tuple(data.draw(st.lists(st.integers(0, 2), min_size=4, max_size=4)))
    flat = (pads[1], pads[3], pads[0], pads[2])
    x, weight = torch.randn(2, 4, 5, 6), torch.randn(6, 2, 3, 2)
    attrs = {"stride": (2, 1), "padding": pads, "dilation": (1, 2), "groups": 2}
    found = run(one("conv", [(4, 5, 6)], attrs, weight=weight.numpy()), x)["y"]
    assert torch.allclose(found, F.conv2d(F.pad(x, flat), weight, None, (2, 1), 0, (1, 2), 2), atol=1e-5)
    pool = {"kernel": (3, 3), "stride": (2, 2), "padding": pads, "ceil_mode": False}
    found = run(one("max_pool", [(4, 5, 6)], {**pool, "dilation": (1, 1)}), x)["y"]
    assert torch.equal(found, F.max_pool2d(F.pad(x, flat, value=-torch.inf), 3, 2))
    for inside in (False, True):
        found = run(one("avg_pool", [(4, 5, 6)], {**pool, "count_include_pad": inside}), x)["y"]
        sums = F.avg_pool2d(F.pad(x, flat), 3, 2) * 9
        counts = 9.0 if inside else F.avg_pool2d(F.pad(torch.ones_like(x), flat), 3, 2) * 9
        assert torch.allclose(found, sums / counts, atol=1e-6)


def test_an_lstm_equals_torch_from_a_given_state(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    cell = torch.nn.LSTM(4, 3, batch_first=True)
    weights = [p.detach().numpy() for p in cell.parameters()]
    h0, c0 = rng.normal(size=(2, 3)).astype(np.float32)
    params = {"weight_ih": weights[0], "weight_hh": weights[1], "bias": weights[2] + weights[3], "h0": h0, "c0": c0}
    graph = one("lstm", [(6, 4)], {"hidden": 3}, **params)
    x = torch.randn(5, 6, 4)
    state = tuple(torch.tensor(v).expand(1, 5, 3).contiguous() for v in (h0, c0))
    with torch.no_grad():
        wanted, (_, cells) = cell(x, state)
    found = run(graph, x, keep=("y:cell", "y:gates"))
    assert torch.allclose(found["y"], wanted, atol=1e-6)
    assert torch.allclose(found["y:cell"][:, -1], cells[0], atol=1e-6)
    i, f, g, o = found["y:gates"].chunk(4, 2)
    before = found["y:cell"][:, :-1]
    assert torch.allclose(
        f.sigmoid()[:, 1:] * before + (i.sigmoid() * g.tanh())[:, 1:], found["y:cell"][:, 1:], atol=1e-6
    )
    assert torch.allclose(o.sigmoid() * found["y:cell"].tanh(), found["y"], atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_torch_with_shared_heads_and_its_parts_are_seen(causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    graph = one("attention", [(4, 5, 8), (2, 5, 8), (2, 5, 8)], {"causal": causal, "scale": 0.2})
    found = run(graph, [q, k, v], keep=("y:scores", "y:probs"))
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.2, enable_gqa=True)
    assert torch.allclose(found["y"], wanted, atol=1e-6)
    assert torch.allclose(found["y:probs"].sum(-1), torch.ones(2, 4, 5), atol=1e-6)
    assert torch.isfinite(found["y:scores"]).all()
    assert bool((found["y:probs"].triu(1) == 0).all()) is causal


def test_parts_are_named_for_operations_that_exist() -> None:
    assert set(PARTS) <= set(OPS)


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_tensor_are_element_wise(op: str) -> None:
    values: dict[str, object] = {"lo": -0.5, "hi": 0.5, "slope": 0.1, "alpha": 1.0, "approximate": "none"}
    values |= {"exponent": 1.5, "threshold": 0.7, "value": 0.2}
    node = Node("y", op, ("x",), {key: values[key] for key in UNARY[op]})
    x = torch.linspace(0.1, 3, 24).reshape(2, 3, 4)
    whole = FLOAT_OPS[op](node, {}, [x], None)
    each = torch.stack([FLOAT_OPS[op](node, {}, [v], None) for v in x.flatten()])
    assert whole.shape == x.shape
    assert torch.allclose(whole.flatten(), each, atol=1e-6)
