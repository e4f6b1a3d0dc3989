"""The oracle's sums of products, bounded and not, against Python loops and torch's own convolution."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from programs import accumulations, conv_program, matmul_program, one_op_programs, random_inputs

from accelsim.arith import Accumulation
from accelsim.program import Conv, MatMul, Program
from quant import oracle, oracle_sums

SEEDS = st.integers(0, 2**31 - 1)


def ints(*values: Any) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def python_register(value: int, bits: int, rule: str) -> tuple[int, int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if low <= value <= high:
        return value, 0
    return (min(max(value, low), high) if rule == "saturate" else (value - low) % 2**bits + low), 1


def python_accumulate(products: list[int], bias: int, acc: Accumulation) -> tuple[int, int]:
    """One accumulator, one addition after the other; returns what it holds and how many additions overflowed."""
    total, events = python_register(bias, acc.acc_bits, acc.acc_overflow)
    fold = acc.fold_k or len(products)
    for start in range(0, len(products), fold):
        part, moving = products[start : start + fold], 0
        for k in range(0, len(part), acc.products_per_hop):
            hop = sum(part[k : k + acc.products_per_hop])
            if acc.fold_k is None:
                total, event = python_register(total + hop, acc.acc_bits, acc.acc_overflow)
            else:
                moving, event = python_register(moving + hop, acc.psum_bits, acc.psum_overflow)
            events += event
        if acc.fold_k is not None:
            total, event = python_register(total + moving, acc.acc_bits, acc.acc_overflow)
            events += event
    return total, events


def conv_products(op: Conv, x: NDArray[np.int64], pixel: tuple[int, int], out: int) -> list[int]:
    """The products of one output of one sample [H, W, C] in the order (kh, kw, c)."""
    count, kh, kw, channels = op.weight.shape
    first = out // (count // op.groups) * channels
    products = []
    for i, j, c in product(range(kh), range(kw), range(channels)):
        row = pixel[0] * op.stride[0] - op.padding[0] + i * op.dilation[0]
        col = pixel[1] * op.stride[1] - op.padding[1] + j * op.dilation[1]
        inside = 0 <= row < x.shape[0] and 0 <= col < x.shape[1]
        products.append(int(op.weight[out, i, j, c]) * (int(x[row, col, first + c]) if inside else op.pad_value))
    return products


def python_conv(op: Conv, x: NDArray[np.int64], shape: tuple[int, ...], acc: Accumulation) -> tuple[Any, Any, int]:
    maps = x.reshape(x.shape[0], *(1,) * (4 - x.ndim), *x.shape[1:])
    pixels = (1,) * (3 - len(shape)) + shape
    values, events = np.zeros((len(x), *pixels), np.int64), np.zeros((len(x), *pixels), np.int64)
    differing = 0
    for index in np.ndindex(values.shape):
        products = conv_products(op, maps[index[0]], (index[1], index[2]), index[3])
        bias = int(op.bias[index[3]])
        values[index], events[index] = python_accumulate(products, bias, acc)
        differing += int(values[index] != sum(products) + bias)
    return values.reshape(len(x), *shape), events.sum(axis=0).reshape(shape), differing


@given(program=one_op_programs("conv"), accumulation=accumulations(), seed=SEEDS)
def test_convolution_in_order_equals_python_loops(program: Program, accumulation: Accumulation, seed: int) -> None:
    (x,) = random_inputs(program, 2, seed).values()
    op = program.ops[0]
    assert isinstance(op, Conv)
    run = oracle.run(program, x, accumulation)
    values, events, differing = python_conv(op, x, program.tensors[op.output].shape, accumulation)
    assert np.array_equal(run.values[op.output], values)
    assert np.array_equal(run.overflow_events[op.name], events)
    assert run.overflowed_outputs == {op.name: differing}


@given(program=one_op_programs("matmul"), accumulation=accumulations(), seed=SEEDS)
def test_matmul_in_order_equals_python_loops(program: Program, accumulation: Accumulation, seed: int) -> None:
    op = program.ops[0]
    assert isinstance(op, MatMul)
    inputs = random_inputs(program, 2, seed)
    run = oracle.run(program, inputs, accumulation)
    x0, x1 = (inputs[name] - zero for name, zero in zip(op.inputs, op.zero_points, strict=True))
    x1 = np.swapaxes(x1, -1, -2) if op.transpose else x1
    ratio = [a // b for a, b in zip(x0.shape[1:-2], x1.shape[1:-2], strict=True)]
    got, events, differing = run.values[op.output], np.zeros(run.values[op.output].shape, np.int64), 0
    for index in np.ndindex(got.shape):
        head = tuple(h // r for h, r in zip(index[1:-2], ratio, strict=True))
        products = [int(a) * int(b) for a, b in zip(x0[index[:-1]], x1[(index[0], *head)][:, index[-1]], strict=True)]
        value, events[index] = python_accumulate(products, 0, accumulation)
        differing += value != sum(products)
        assert got[index] == value
    assert np.array_equal(run.overflow_events[op.name], events.sum(axis=0))
    assert run.overflowed_outputs == {op.name: differing}


@given(program=one_op_programs("conv"), seed=SEEDS)
def test_unbounded_convolution_equals_torch_conv2d(program: Program, seed: int) -> None:
    (x,) = random_inputs(program, 3, seed).values()
    op = program.ops[0]
    assert isinstance(op, Conv)
    maps = torch.from_numpy(x.reshape(3, *(1,) * (4 - x.ndim), *x.shape[1:])).permute(0, 3, 1, 2)
    top, left, bottom, right = op.padding
    padded = F.pad(maps, (left, right, top, bottom), value=op.pad_value)
    weight = torch.from_numpy(op.weight).permute(0, 3, 1, 2)
    y = F.conv2d(padded, weight, torch.from_numpy(op.bias), op.stride, 0, op.dilation, op.groups)
    run = oracle.run(program, x)
    assert np.array_equal(run.values[op.output], y.permute(0, 2, 3, 1).numpy().reshape(run.values[op.output].shape))
    assert run.overflow_events == {}
    assert run.overflowed_outputs == {}


@given(seed=SEEDS, fold=st.none() | st.integers(1, 9))
def test_ordered_sums_in_wide_registers_are_the_exact_sums(seed: int, fold: int | None) -> None:
    rng = np.random.default_rng(seed)
    left, right = (torch.from_numpy(rng.integers(-99, 99, shape)) for shape in ((2, 5, 7), (2, 7, 3)))
    bias = torch.from_numpy(rng.integers(-99, 99, (2, 3)))
    accumulation = Accumulation(fold_k=fold, psum_bits=40, acc_bits=40)
    held, events = oracle_sums.ordered_sums(left, right, bias, accumulation, lambda g, r, c: "")
    assert torch.equal(held, oracle_sums.exact_sums(left, right, bias, 2**20))
    assert not events.any()


def test_sums_beyond_float64_are_exact_in_int64() -> None:
    weight = np.array([2**17 - 1, 1]).reshape(1, 1, 1, 2)
    program = conv_program(weight, ints(0), (2,), low=-(2**43), high=2**43)
    y = oracle.run(program, ints([2**43, 1])).values["y"]
    assert y.tolist() == [[(2**17 - 1) * 2**43 + 1]]


def test_strips_and_blocks_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    weight, bias = rng.integers(-7, 8, (4, 3, 3, 2)), rng.integers(-9, 9, 4)
    program = conv_program(weight, bias, (9, 8, 2), padding=(1, 0, 1, 2), stride=(2, 1), pad_value=5)
    x = random_inputs(program, 3, 1)
    accumulation = Accumulation(fold_k=4, psum_bits=9, acc_bits=10, psum_overflow="wrap")
    whole = oracle.run(program, x, accumulation)
    for budget in (2, 8 * 18 * 3, 2 * 5 * 8 * 18):
        monkeypatch.setattr(oracle_sums, "WINDOW_BUDGET", budget)
        monkeypatch.setattr(oracle_sums, "BLOCK_BUDGET", budget)
        parts = oracle.run(program, x, accumulation)
        assert np.array_equal(whole.values["y"], parts.values["y"])
        assert np.array_equal(whole.overflow_events["layer"], parts.overflow_events["layer"])
        assert whole.overflowed_outputs == parts.overflowed_outputs
    assert whole.overflowed_outputs["layer"] > 0


def test_only_what_can_overflow_is_stepped_through() -> None:
    weight = ints(100, 100, 1, 1).reshape(2, 1, 1, 2)
    program = conv_program(weight, ints(0, 0), (2,))
    run = oracle.run(program, ints([100, 100], [100, -100]), Accumulation(acc_bits=16, acc_overflow="wrap"))
    assert run.values["y"].tolist() == [[20000, 200], [0, 0]]
    assert run.overflow_events["layer"].tolist() == [0, 0]
    run = oracle.run(program, ints([127, 127], [127, -127]), Accumulation(acc_bits=14, acc_overflow="wrap"))
    assert run.values["y"].tolist() == [[25400 - 2**15, 254], [0, 0]]
    assert run.overflow_events["layer"].tolist() == [4, 0]
    assert run.overflowed_outputs == {"layer": 1}


def test_bias_enters_the_accumulator_by_its_rule() -> None:
    program = conv_program(ints(-1).reshape(1, 1, 1, 1), ints(300), (1,))
    for rule, expected in (("saturate", 126), ("wrap", 43)):
        run = oracle.run(program, ints([1]), Accumulation(acc_bits=8, acc_overflow=rule))
        assert run.values["y"].tolist() == [[expected]]
        assert run.overflow_events["layer"].tolist() == [1]


# --- the rule "error" ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 24, 2**20])
def test_an_overflowing_hop_is_named(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle_sums, "WINDOW_BUDGET", budget)
    monkeypatch.setattr(oracle_sums, "BLOCK_BUDGET", budget)
    weight = np.ones((3, 1, 2, 2), np.int64) * ints(0, 0, 1).reshape(3, 1, 1, 1)
    program = conv_program(weight, ints(0, 0, 0), (2, 3, 2))
    x = np.zeros((2, 2, 3, 2), np.int64)
    x[1, 1, 2] = 100
    accumulation = Accumulation(fold_k=2, psum_bits=8, psum_overflow="error", acc_bits=32)
    message = (
        r"op 'layer', batch index 1, pixel \(1, 1\), channel 2: the partial sum reaches 200 at k=3\.\.3 in fold 1, "
        r"beyond 8 bits \(-128\.\.127\)"
    )
    with pytest.raises(OverflowError, match=message):
        oracle.run(program, x, accumulation)


@pytest.mark.parametrize(
    ("accumulation", "bias", "message"),
    [
        (Accumulation(acc_bits=8, acc_overflow="error"), 128, "the accumulator reaches 128 on loading the bias"),
        (Accumulation(acc_bits=8, acc_overflow="error"), 0, r"the accumulator reaches 150 at k=2\.\.2, beyond 8 bits"),
        (Accumulation(products_per_hop=3, acc_bits=8, acc_overflow="error"), 0, r"reaches 150 at k=0\.\.2, beyond"),
        (Accumulation(products_per_hop=3, acc_bits=8, acc_overflow="error"), -30, r"reaches 170 at k=3\.\.3, beyond"),
        (
            Accumulation(fold_k=2, acc_bits=8, acc_overflow="error"),
            0,
            r"the accumulator reaches 200 on adding fold 1 \(k=2\.\.3\)",
        ),
    ],
)
def test_an_overflowing_accumulator_is_named(accumulation: Accumulation, bias: int, message: str) -> None:
    program = conv_program(np.full((1, 1, 1, 4), 50), ints(bias), (4,))
    with pytest.raises(OverflowError, match=message):
        oracle.run(program, ints([1, 1, 1, 1]), accumulation)


def test_an_overflowing_product_names_its_head() -> None:
    program = matmul_program(((2, 1, 1), (1, 1, 1)))
    x = {"x0": ints(1, 100).reshape(1, 2, 1, 1), "x1": ints(2).reshape(1, 1, 1, 1)}
    with pytest.raises(
        OverflowError, match=r"batch index 0, head 1, pixel \(0,\), channel 0: the accumulator reaches 200"
    ):
        oracle.run(program, x, Accumulation(acc_bits=8, acc_overflow="error"))
