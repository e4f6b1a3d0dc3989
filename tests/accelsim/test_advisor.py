"""Accumulator advice against execution at the width advised and at one bit less."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machines import machine
from networks import mlp
from programs import conv_program, matmul_program, random_inputs

from accelsim import execute
from accelsim.advisor import advise, compared
from accelsim.arith import bits_for


def built(dataflow, rows, psum_bits, bits):
    return machine(
        array={"rows": rows, "cols": 4, "dataflow": dataflow},
        accumulator={"psum_bits": psum_bits, "bits": bits, "psum_overflow": "wrap", "overflow": "wrap"},
    )


@st.composite
def layers(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kernel, channels, out = draw(st.sampled_from((1, 3))), draw(st.integers(1, 12)), draw(st.integers(1, 5))
    weight = rng.integers(-100, 101, (out, kernel, kernel, channels))
    bias = rng.integers(-3000, 3001, out)
    program = conv_program(weight, bias, (4, 4, channels), padding=(kernel // 2,) * 4)
    return program, random_inputs(program, 2, draw(st.integers(0, 99)))


def events(program, inputs, accelerator):
    return sum(int(seen.events.sum()) for seen in execute(program, inputs, accelerator).overflow.values())


@settings(max_examples=40)
@given(layers(), st.sampled_from(("ws", "os", "is")), st.integers(1, 20))
def test_sums_fit_the_width_that_was_seen_and_not_one_bit_less(case, dataflow, rows):
    program, inputs = case
    (advice,) = advise(program, built(dataflow, rows, 64, 64), inputs)
    assume(advice.seen_acc_bits > 5)
    if dataflow == "os":
        assert advice.seen_psum_bits is None
        assert events(program, inputs, built(dataflow, rows, 4, advice.seen_acc_bits)) == 0
        assert events(program, inputs, built(dataflow, rows, 4, advice.seen_acc_bits - 1)) > 0
        return
    assume(advice.seen_psum_bits > 4)
    assert events(program, inputs, built(dataflow, rows, advice.seen_psum_bits, 64)) == 0
    assert events(program, inputs, built(dataflow, rows, advice.seen_psum_bits - 1, 64)) > 0
    if advice.seen_acc_bits > advice.seen_psum_bits:
        width = advice.seen_acc_bits
        assert events(program, inputs, built(dataflow, rows, advice.seen_psum_bits, width)) == 0
        assert events(program, inputs, built(dataflow, rows, advice.seen_psum_bits, width - 1)) > 0


@settings(max_examples=40)
@given(layers(), st.sampled_from(("ws", "os", "is")), st.integers(1, 20))
def test_the_proven_width_is_that_of_the_largest_sum_of_magnitudes(case, dataflow, rows):
    program, inputs = case
    (advice,) = advise(program, built(dataflow, rows, 64, 64), inputs)
    op = program.ops[0]
    reach = [int(row) * 128 for row in np.abs(op.weight).reshape(len(op.weight), -1).sum(axis=1)]
    bound = max(total + abs(int(bias)) for total, bias in zip(reach, op.bias, strict=True))
    assert advice.bound == bound
    assert advice.acc_bits == bits_for(-bound, bound) >= advice.seen_acc_bits
    if dataflow != "os":
        flat = np.abs(op.weight).reshape(len(op.weight), -1)
        largest = max(
            int(flat[row, start : start + rows].sum()) * 128
            for row in range(len(flat))
            for start in range(0, flat.shape[1], rows)
        )
        assert advice.psum_bits == bits_for(-largest, largest) >= advice.seen_psum_bits


def test_the_worst_input_reaches_the_proven_width():
    weight = -np.ones((1, 1, 1, 32), dtype=np.int64) * 127
    program = conv_program(weight, np.zeros(1, dtype=np.int64), (1, 1, 32))
    worst = {"x": np.full((1, 1, 1, 32), -128)}
    (advice,) = advise(program, built("os", 8, 64, 64), worst)
    assert advice.acc_bits == advice.seen_acc_bits == 20  # 32 · 127 · 128 = 520192


def test_products_of_two_activations_are_advised():
    program = matmul_program(((5, 9), (9, 4)))
    (advice,) = advise(program, built("ws", 4, 64, 64), random_inputs(program, 2, 1))
    assert (advice.k, advice.bound) == (9, 9 * 128 * 128)
    assert advice.psum_bits == bits_for(-4 * 128 * 128, 4 * 128 * 128)
    assert advice.seen_acc_bits <= advice.acc_bits


def test_splitting_a_channel_halves_magnitudes_and_keeps_the_bound():
    weight = np.array([[[[100, 7]]]])
    halves = np.array([[[[50, 7, 50]]]])
    bias = np.zeros(1, dtype=np.int64)
    before, after = (
        advise(conv_program(w, bias, (2, 2, w.shape[-1])), built("ws", 2, 64, 64)) for w in (weight, halves)
    )
    ((one, other),) = compared(before, after)
    assert (one.bound, other.bound) == (107 * 128, 107 * 128)
    assert one.acc_bits == other.acc_bits
    assert other.psum_bits < one.psum_bits  # the halves lie in two folds
    assert other.k == 3


def test_a_program_without_values_is_refused():
    with pytest.raises(ValueError, match="holds no weights; accumulator advice needs them"):
        advise(mlp(8, 8), machine())
