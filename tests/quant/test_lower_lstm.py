"""An LSTM on integers: every step held to a bound against float64, its products shared, its splits exact."""

from typing import Any

import numpy as np
import pytest
from lowered import WIDTHS, Array, ended, quantized, real, run_alike, step
from scipy.special import expit

from accelsim.arith import half_up
from accelsim.program import Conv, Table
from quant.graph import Graph, Node
from quant.lower import Quantized
from quant.ocs import SplitOutliers

STEPS, INPUTS, CELLS = 5, 6, 4


def lstm_graph(rng: np.random.Generator, states: bool = False, size: float = 0.7, steps: int = STEPS) -> Graph:
    def draw(*shape: int) -> Array:
        return (size * rng.standard_t(4, shape)).astype(np.float32)

    params = {"weight_ih": draw(4 * CELLS, INPUTS), "weight_hh": draw(4 * CELLS, CELLS), "bias": draw(4 * CELLS)}
    if states:
        params |= {"h0": np.tanh(draw(CELLS)), "c0": draw(CELLS)}
    return ended([(steps, INPUTS)], Node("cell", "lstm", ("x0",), {"hidden": CELLS}, params))


def values(found: Quantized, codes: dict[str, Array], part: str, at: int) -> Array:
    """Return a step's tensor as real values [batch, width]."""
    return real(found, codes, f"cell.{at}.{part}")[:, 0]


def steps_of(found: Quantized, *parts: str) -> list[float]:
    return [step(found, f"cell.1.{part}") for part in parts]


def assert_steps(found: Quantized, codes: dict[str, Array], graph: Graph) -> None:
    """Hold each step to what one float64 step gives from the same state, weights and inputs as the integers have.

    Rounding: sums and gates half a step each; gates' functions half a step of theirs and, beyond the gates' grid,
    another; the derivative of sigmoid is 1/4 at most, that of tanh 1.
    """
    params = graph.node("cell").params
    fed, back = (found.program.op(name) for name in ("cell.fed", "cell.1.back"))
    assert isinstance(fed, Conv)
    assert isinstance(back, Conv)
    info = {layer.name: layer for layer in found.layers}
    weights = [op.weight[:, 0, 0] * info[f"cell.{role}"].alpha / 127 for op, role in ((fed, "fed"), (back, "back"))]
    x = real(found, codes, "x0")
    bias = fed.bias * info["cell.fed"].alpha / 127 * step(found, "x0")
    sums, gates = step(found, "cell.fed.sum"), step(found, "cell.1.gates")
    unit, signed, cell, turn, hidden = steps_of(found, "i", "g", "cell", "turn", "hidden")
    gate = sums + gates / 2
    sigmoid_off, tanh_off = gate / 4 + unit, gate + signed
    h = np.broadcast_to(params.get("h0", np.zeros(CELLS)), (len(x), CELLS))
    c = np.broadcast_to(params.get("c0", np.zeros(CELLS)), (len(x), CELLS))
    if "h0" in params:
        h, c = (real(found, codes, f"cell.{name}")[:, 0] for name in ("h0", "c0"))
    for at in range(STEPS):
        i, f, g, o = np.split(x[:, at] @ weights[0].T + bias + h @ weights[1].T, 4, axis=1)
        i, f, o, g = expit(i), expit(f), expit(o), np.tanh(g)
        want = f * c + i * g
        bound = sigmoid_off * (np.abs(c) + np.abs(g)) + tanh_off * i + sigmoid_off * tanh_off + cell / 2
        got = values(found, codes, "cell", at)
        low, high = (end * cell for end in (-(2**15 - 1), 2**15 - 1))
        assert (np.abs(got - np.clip(want, low, high)) <= bound * 1.001 + 1e-6).all()
        turned = np.tanh(got)
        want = o * turned
        bound = sigmoid_off * np.abs(turned) + (turn / 2 + signed) * (o + sigmoid_off) + hidden / 2
        tensor = found.program.tensors[f"cell.{at}.hidden"]
        want = np.clip(want, tensor.low * hidden, tensor.high * hidden)
        h, c = values(found, codes, "hidden", at), got
        assert (np.abs(h - want) <= bound * 1.001 + 1e-6).all()


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_step_is_within_its_bound(bits: int, states: bool, rng: np.random.Generator):
    graph = lstm_graph(rng, states)
    x = rng.normal(size=(3, STEPS, INPUTS)).astype(np.float32)
    found = quantized(graph, x, act_bits=bits)
    codes = run_alike(found, x)
    assert_steps(found, codes, graph)
    out = np.stack([values(found, codes, "hidden", at) for at in range(STEPS)], axis=1)
    np.testing.assert_array_equal(real(found, codes, "cell"), out)


@pytest.mark.parametrize("kind", ["zeros", "constant", "saturated"])
def test_extreme_inputs(kind: str, rng: np.random.Generator):
    graph = lstm_graph(rng)
    x = {
        "zeros": np.zeros((2, STEPS, INPUTS)),
        "constant": np.full((2, STEPS, INPUTS), 0.3),
        "saturated": 1e3 * np.sign(rng.normal(size=(2, STEPS, INPUTS))),
    }[kind].astype(np.float32)
    found = quantized(graph, x)
    assert_steps(found, run_alike(found, x), graph)


@pytest.mark.parametrize(("bits", "most"), [(4, 2.0), (8, 6.0), (16, 700.0)])
def test_whole_sequences_against_the_float_network(bits: int, most: float, rng: np.random.Generator):
    """The bound is in steps of the hidden state; at 16 bits the 8-bit weights' rounding is what is left."""
    from quant.run import run

    graph = lstm_graph(rng, size=0.4)
    x = rng.normal(size=(4, STEPS, INPUTS)).astype(np.float32)
    found = quantized(graph, x, act_bits=bits)
    off = found.decode(run_alike(found, x))[0] - run(graph, x)["end"].numpy()
    assert np.abs(off).max() <= most * step(found, "cell")


def test_steps_share_weights_and_tables(rng: np.random.Generator):
    x = rng.normal(size=(2, STEPS, INPUTS)).astype(np.float32)
    program = quantized(lstm_graph(rng), x).program
    products = [op for op in program.ops if isinstance(op, Conv)]
    assert [op.name for op in products] == ["cell.fed", *(f"cell.{at}.back" for at in range(1, STEPS))]
    assert [op.shares for op in products] == ["", "", *["cell.1.back"] * (STEPS - 2)]
    tables = [op for op in program.ops if isinstance(op, Table)]
    assert len(tables) == 5 * STEPS
    assert sum(not op.shares for op in tables) == 3  # sigmoid, tanh, and tanh of the cell


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("ratio", [0.2, 1.0])
def test_split_matrices_add_up_to_the_unsplit_integers(bits: int, ratio: float, rng: np.random.Generator):
    graph = lstm_graph(rng)
    x = rng.normal(size=(2, STEPS, INPUTS)).astype(np.float32)
    found = quantized(graph, x, weight_bits=bits, transforms=(SplitOutliers(ratio=ratio),))
    codes = run_alike(found, x)
    info: dict[str, Any] = {layer.name: layer for layer in found.layers}
    for role, name, parameter in (("fed", "cell.fed", "weight_ih"), ("back", "cell.1.back", "weight_hh")):
        layer, op = info[f"cell.{role}"], found.program.op(name)
        assert isinstance(op, Conv)
        weight = graph.node("cell").params[parameter]
        assert layer.splits == int(np.ceil(ratio * weight.shape[1]))
        source = found.program.op(f"{name}.duplicate").source
        merged = np.zeros(weight.shape, dtype=np.int64)
        np.add.at(merged.T, source, op.weight[:, 0, 0].T)
        np.testing.assert_array_equal(merged, half_up(weight / (layer.alpha / (2 ** (bits - 1) - 1))).astype(np.int64))
        assert layer.alpha < np.abs(weight).max()
    copies = codes["cell.1.back.duplicate"]
    np.testing.assert_array_equal(copies, codes["cell.0.hidden"][..., found.program.op("cell.1.back.duplicate").source])


@pytest.mark.parametrize("rule", ["fbgemm", "pot_shift", "gemmlowp_double"])
def test_other_requantization_rules(rule: str, rng: np.random.Generator):
    x = rng.normal(size=(2, STEPS, INPUTS)).astype(np.float32)
    run_alike(quantized(lstm_graph(rng), x, rule=rule), x)


def test_one_step(rng: np.random.Generator):
    x = rng.normal(size=(2, 1, INPUTS)).astype(np.float32)
    found = quantized(lstm_graph(rng, steps=1), x)
    run_alike(found, x)
    assert not any(op.name.endswith("back") for op in found.program.ops)  # nothing to multiply with yet
