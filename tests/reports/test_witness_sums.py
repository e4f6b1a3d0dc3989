"""A wrong number in one route is named: where it shows first, its sums fold by fold, and which number it is."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from corrupt import convolutions, exchanged, with_bias, with_weight
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim import reference
from accelsim.arith import REQUANT_RULES, Accumulation
from accelsim.config import load_accelerator
from accelsim.execute import accumulations, execute
from accelsim.program import Add, Conv, Program, Requantize, code_tensor
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.task import Task
from reports.witness import first_difference
from reports.witness_cause import Column, causes
from reports.witness_sums import Comparison, difference_text, folded

EDGE = load_accelerator("edge-32x32")


def one_conv(rng: np.random.Generator, groups: int = 1, rule: str = "float32_rne") -> Program:
    """Return a 3×3 convolution of 6 channels to 4 and its requantization."""
    weight = rng.integers(-90, 91, (4, 3, 3, 6 // groups))
    bias = rng.integers(-500, 501, 4)
    x = code_tensor("x", (5, 5, 6), 8, False, 0.1, 3)
    acc = replace(code_tensor("acc", (5, 5, 4), 32, True), kind="accumulator")
    conv = Conv(
        name="layer", inputs=("x",), output="acc", weight=weight, bias=bias, weight_bits=8, storage_bits=8,
        bound=np.abs(weight).sum((1, 2, 3)) * 255 + np.abs(bias), padding=(1, 1, 1, 1), groups=groups, pad_value=3,
    )  # fmt: skip
    scale = np.array([1 / 128.0, 1 / 300.0, 1 / 200.0, 1 / 97.0])
    step = Requantize(
        name="step", inputs=("acc",), output="y", multiplier=scale, low=-128, high=127, rule=rule, zero_out=-5
    )
    tensors = {"x": x, "acc": acc, "y": code_tensor("y", (5, 5, 4), 8, True, 1.0, -5)}
    return Program(name="one", tensors=tensors, inputs=("x",), outputs=("y",), ops=(conv, step))


def compared(right: Program, wrong: Program, x: np.ndarray, name: str) -> str:
    """Compare tensor `name` of a wrong Program (ours) with the right one's (theirs)."""
    ours, theirs = (reference.run(program, {"x": x}).values for program in (wrong, right))
    op = next(op for op in wrong.ops if op.output == name)
    return difference_text(
        Comparison(
            program=wrong, op=op, values={"x": x} | ours, ours=ours[name], theirs=theirs[name],
            rules=folded(wrong, EDGE), offset=40,
        )
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["acc", "y"])
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_weight_is_named_with_its_fold(seed: int, name: str, groups: int) -> None:
    rng = np.random.default_rng(seed)
    right = one_conv(rng, groups)
    x = rng.integers(0, 256, (12, 5, 5, 6))
    place = (int(rng.integers(4)), int(rng.integers(3)), int(rng.integers(3)), int(rng.integers(6 // groups)))
    text = compared(right, with_weight(right, convolutions(right)[0], place, 70), x, name)
    k = (place[1] * 3 + place[2]) * (6 // groups) + place[3]
    said = re.search(r"explained by the weight at k (\d+) \(kernel (.*), channel (\d+), fold (\d+)\)", text)
    assert said is not None, text
    assert said.groups() == (str(k), f"[{place[1]}, {place[2]}]", str(place[3]), str(k // 32))
    assert "less in theirs" in text
    assert f"channel {place[0]}: ours" in text
    if name == "acc":
        assert "being 70 less" in text


@pytest.mark.parametrize("name", ["acc", "y"])
def test_a_wrong_bias_is_named(name: str) -> None:
    rng = np.random.default_rng(7)
    right = one_conv(rng)
    text = compared(right, with_bias(right, convolutions(right)[0], 2, 333), rng.integers(0, 256, (12, 5, 5, 6)), name)
    assert "channel 2: ours" in text
    assert re.search(r"explained by the bias being [\d.]+ less in theirs$", text)
    if name == "acc":
        assert "explained by the bias being 333 less" in text


def test_a_wrong_multiplier_is_named() -> None:
    rng = np.random.default_rng(8)
    right = one_conv(rng)
    step = right.ops[1]
    assert isinstance(step, Requantize)
    wrong = replace(right, ops=(right.ops[0], replace(step, multiplier=step.multiplier * [1, 1, 1, 1.4])))
    text = compared(right, wrong, rng.integers(0, 256, (12, 5, 5, 6)), "y")
    said = re.search(r"channel 3: .*explained by the multiplier being (.*)\.\.(.*) in theirs$", text)
    assert said is not None, text
    assert float(said[1]) <= 1 / 97 * (1 + 1e-4)
    assert float(said[2]) >= 1 / 97 * (1 - 1e-4)


def test_the_sums_are_those_of_the_folds() -> None:
    """Place, values and sums against plain loops."""
    rng = np.random.default_rng(9)
    right = one_conv(rng)
    layer = convolutions(right)[0]
    wrong = with_weight(right, layer, (1, 1, 1, 0), 50)
    x = rng.integers(0, 256, (3, 5, 5, 6))
    x[0, 0] = 0  # the first pixels hide the weight
    text = compared(right, wrong, x, "acc")
    sample, row, col, channel, ours, theirs = map(
        int, re.search(r"sample (\d+), pixel \[(\d), (\d)\], channel (\d): ours (\S+), theirs (\S+) ", text).groups()
    )  # type: ignore[union-attr]
    assert (sample, row, channel) == (40, 1, 1)
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)), constant_values=3)
    window = padded[row : row + 3, col : col + 3].reshape(-1)
    weight = convolutions(wrong)[0].weight[1].reshape(-1)
    products = (window * weight).tolist()
    assert ours == sum(products) + int(layer.bias[1])
    assert theirs == ours - 50 * int(x[0, row, col, 0])
    folds = [(int(added), int(total)) for added, total in re.findall(r"fold \d \(k \S+\) (\S+) gives (-?\d+)", text)]
    assert [added for added, _ in folds] == [sum(products[:32]), sum(products[32:])]
    assert folds[-1][1] == ours
    assert f"{sum(p > 0 for p in products)} positive {sum(p for p in products if p > 0):+}" in text


def test_long_sums_are_shortened_but_keep_the_fold_of_the_cause() -> None:
    rng = np.random.default_rng(10)
    weight = rng.integers(-90, 91, (2, 1, 1, 500))
    conv = Conv(
        name="fc", inputs=("x",), output="acc", weight=weight, bias=np.zeros(2, np.int64), weight_bits=8,
        storage_bits=8, bound=np.abs(weight).sum((1, 2, 3)) * 255,
    )  # fmt: skip
    acc = replace(code_tensor("acc", (2,), 32, True), kind="accumulator")
    tensors = {"x": code_tensor("x", (500,), 8, False), "acc": acc}
    right = Program(name="fc", tensors=tensors, inputs=("x",), outputs=("acc",), ops=(conv,))
    text = compared(right, with_weight(right, conv, (1, 0, 0, 300), -3), rng.integers(1, 256, (6, 500)), "acc")
    assert "explained by the weight at k 300 (fold 9) being 3 more in theirs" in text
    assert "fold 9 (k 288..319)" in text
    assert "fold 15 (k 480..499)" in text
    assert "fold 5 " not in text
    assert "11 folds left out" in text
    assert "pixel" not in text


def test_too_few_samples_do_not_name_one_of_many() -> None:
    rng = np.random.default_rng(11)
    right = one_conv(rng)
    x = rng.integers(1, 2, (1, 5, 5, 6))  # all the same: every weight of a channel would do
    text = compared(right, with_bias(right, convolutions(right)[0], 0, 4), x, "acc")
    assert "explained" not in text or "numbers would explain" in text or "bias" in text


def test_two_wrong_numbers_are_not_explained_by_one() -> None:
    rng = np.random.default_rng(12)
    right = one_conv(rng)
    wrong = with_weight(right, convolutions(right)[0], (1, 0, 0, 0), 50)
    wrong = with_weight(wrong, convolutions(wrong)[0], (1, 2, 2, 5), 31)
    assert "explain" not in compared(right, wrong, rng.integers(0, 256, (12, 5, 5, 6)), "acc")


def test_ops_without_products_tell_what_they_read() -> None:
    tensors = {name: code_tensor(name, (3,), 8, True, 1.0) for name in ("x", "b", "y")}
    add = Add(
        name="add",
        inputs=("x", "b"),
        output="y",
        multipliers=(1.0, 1.0),
        zero_points=(0, 0),
        zero_out=0,
        low=-128,
        high=127,
    )
    program = Program(name="sum", tensors=tensors, inputs=("x", "b"), outputs=("y",), ops=(add,))
    values = {"x": np.array([[1, 2, 3]]), "b": np.array([[10, 20, 30]])}
    text = difference_text(
        Comparison(
            program=program, op=add, values=values, ours=np.array([[11, 22, 33]]), theirs=np.array([[11, 23, 33]]),
            rules={},
        )
    )  # fmt: skip
    assert text.startswith(
        "add 'add' giving 'y': sample 0, channel 1: ours 22, theirs 23 (1 of 3 differ); from 'x' 2, 'b' 20"
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_intervals_are_those_of_the_rule(data: Any) -> None:
    """The sums that give a code, found by halving, are those that the rule gives it for: the ends, and one beyond."""
    rule = data.draw(st.sampled_from([name for name, rule in REQUANT_RULES.items() if name != "pot_shift"]))
    multiplier = data.draw(st.floats(0.002, 0.9))
    code = data.draw(st.integers(-120, 120))
    float_bias = np.array([data.draw(st.integers(-50, 50)) + 0.25]) if REQUANT_RULES[rule].float_bias else None
    step = Requantize(
        name="s", inputs=("a",), output="y", multiplier=np.array([multiplier]), low=-128, high=127, rule=rule,
        zero_out=7, zero_in=3, float_bias=float_bias,
    )  # fmt: skip
    column = Column(
        rows=np.zeros((1, 1), np.int64), weights=np.zeros(1, np.int64), bias=0, zero_point=0,
        other=np.array([code]), requantize=step, channel=0, fixed=True,
    )  # fmt: skip
    low, high = column.needed(0)
    assert low is not None
    assert high is not None
    found = column._codes(np.array([low - 1, low, high, high + 1]))
    if low <= high:
        assert found[0] < code == found[1] == found[2] < found[3]
    else:  # a steep rule leaves this code out
        assert not (column._codes(np.arange(low - 3, low + 4)) == code).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(-6, 6).filter(bool))
def test_the_true_cause_is_always_among_those_named(seed: int, more: int) -> None:
    rng = np.random.default_rng(seed)
    m, k = int(rng.integers(1, 9)), int(rng.integers(1, 12))
    rows, weights, bias = rng.integers(-9, 10, (m, k)), rng.integers(-9, 10, k), int(rng.integers(-50, 50))
    culprit = int(rng.integers(k))
    rows[0, culprit] = 5  # so that it shows
    theirs = rows @ weights + bias + more * rows[:, culprit]
    column = Column(
        rows=rows, weights=weights, bias=bias, zero_point=0, other=theirs,
        requantize=None, channel=0, fixed=True,
    )  # fmt: skip
    amounts = {cause.k: cause.amount for cause in causes(column)}
    assert amounts[culprit] == f"being {abs(more)} {'more' if more > 0 else 'less'}"


# --- against the torch oracle ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(digits: Task) -> tuple[Program, dict[str, np.ndarray]]:
    quantized = quantize_network(digits.graph, digits.calibration, Recipe())
    return quantized.program, quantized.encode(digits.samples.batch(digits.evaluated[:6]))


@pytest.mark.parametrize("number", [0, 1, 2, -1])
def test_the_oracle_names_a_wrong_weight_of_the_engine(program: tuple[Program, Any], number: int) -> None:
    right, codes = program
    layer = convolutions(right)[number]
    reads = reference.run(right, codes).values[layer.inputs[0]]
    channel = int(np.argmax(reads.reshape(-1, reads.shape[-1]).sum(0)))  # one that is not always zero
    place = (1, layer.weight.shape[1] // 2, layer.weight.shape[2] // 2, channel)
    wrong = with_weight(right, layer, place, 9)
    run = execute(wrong, codes, keep=[op.output for op in wrong.ops])
    text = first_difference(right, codes, run, folded(right, EDGE))
    assert f"conv {layer.name!r}: sample " in text
    assert "channel 1: engine " in text
    k = int(np.ravel_multi_index(place[1:], layer.weight.shape[1:]))
    assert re.search(rf"explained by the weight at k {k} \(.*fold {k // 32}\) being 9 more in engine", text), text


def test_the_oracle_names_a_wrong_bias_under_an_accelerator(program: tuple[Program, Any]) -> None:
    right, codes = program
    layer = convolutions(right)[1]
    wrong = with_bias(right, layer, 3, 77)
    run = execute(wrong, codes, EDGE, keep=[op.output for op in wrong.ops])
    text = first_difference(right, codes, run, accumulations(right, EDGE))
    assert f"conv {layer.name!r}: sample 0, pixel [0, 0], channel 3: engine " in text
    assert "explained by the bias being 77 more in engine" in text


def test_sums_that_overflow_are_told_as_the_machine_adds(program: tuple[Program, Any]) -> None:
    right, codes = program
    layer = convolutions(right)[1]
    narrow = {layer.name: Accumulation(fold_k=32, psum_bits=12, acc_bits=13)}
    run = execute(right, codes, keep=[op.output for op in right.ops])  # an engine that forgets the registers
    text = first_difference(right, codes, run, narrow)
    assert f"conv {layer.name!r}" in text
    assert "with overflow" in text
    assert "sums may overflow here" in text
    oracle = re.search(r"oracle (-?\d+) ", text)
    assert oracle is not None
    assert f"sum {oracle[1]} = bias" in text


def test_exchanged_keeps_all_else(program: tuple[Program, Any]) -> None:
    right, _ = program
    same = exchanged(right, right.ops[0], right.ops[0])
    assert [op.name for op in same.ops] == [op.name for op in right.ops]
