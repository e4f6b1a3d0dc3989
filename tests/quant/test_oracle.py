"""The torch oracle against hand-computed cases and Python integers."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from programs import (
    BUILDERS,
    conv_program,
    matmul_program,
    one_op_programs,
    programs,
    random_inputs,
    seeded_program,
)

from accelsim.check import infer_shape
from accelsim.program import (
    OPS,
    Add,
    AvgPool,
    Clamp,
    Concat,
    Constant,
    Conv,
    Duplicate,
    Gather,
    MatMul,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    Program,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Table,
    Tensor,
    Transpose,
)
from accelsim.runtime_rules import SOFTMAX_RULES
from quant import oracle, oracle_ops

SEEDS = st.integers(0, 2**31 - 1)


def ints(*values: Any) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def run_op(kind: type[Op], *inputs: Any, declared: tuple[int, int] = (-(2**40), 2**40), **own: Any) -> Any:
    """Run one op on one sample, given without its batch axis; return its output likewise."""
    arrays = [np.asarray(x, dtype=np.int64) for x in inputs]
    names = tuple(f"x{i}" for i in range(len(arrays)))
    op = kind(name="op", inputs=names, output="y", **own)
    shapes = {n: a.shape for n, a in zip(names, arrays, strict=True)} | {
        "y": infer_shape(op, [a.shape for a in arrays])
    }
    tensors = {n: Tensor(name=n, shape=s, bits=64, signed=True, low=-(2**62), high=2**62) for n, s in shapes.items()}
    tensors["y"] = replace(tensors["y"], low=declared[0], high=declared[1])
    program = Program(name="p", tensors=tensors, inputs=names, outputs=("y",), ops=(op,))
    return oracle.run(program, {n: a[None] for n, a in zip(names, arrays, strict=True)}).values["y"][0].tolist()


# --- every op, by hand -----------------------------------------------------------------------------------------------


def test_a_linear_layer_is_a_one_by_one_convolution() -> None:
    program = conv_program(ints(1, 2, 3, -1, 0, 1).reshape(2, 1, 1, 3), ints(10, -10), (3,))
    y = oracle.run(program, ints([[1, 2, 3], [4, 5, 6]]).reshape(2, 3)).values["y"]
    assert y.tolist() == [[24, -8], [42, -8]]


def test_a_convolution_reads_the_pad_value_outside_the_map() -> None:
    program = conv_program(
        np.ones((1, 2, 2, 1), np.int64), ints(0), (2, 2, 1), padding=(1, 1, 0, 0), pad_value=100, stride=(1, 1)
    )
    y = oracle.run(program, ints(1, 2, 3, 4).reshape(1, 2, 2, 1)).values["y"]
    assert y[0, :, :, 0].tolist() == [[301, 203], [204, 10]]


def test_a_grouped_convolution_sees_its_group_of_channels_only() -> None:
    program = conv_program(ints(1, 1, 10, 10).reshape(2, 1, 1, 2), ints(0, 0), (4,), groups=2)
    assert oracle.run(program, ints([1, 2, 3, 4])).values["y"].tolist() == [[3, 70]]


def test_stride_and_dilation_pick_the_right_steps_of_a_sequence() -> None:
    program = conv_program(ints(1, 10).reshape(1, 1, 2, 1), ints(0), (7, 1), stride=(1, 2), dilation=(1, 3))
    y = oracle.run(program, ints(1, 2, 3, 4, 5, 6, 7).reshape(1, 7, 1)).values["y"]
    assert y[0, :, 0].tolist() == [41, 63]


def test_matmul_takes_zero_points_off_both_operands() -> None:
    program = matmul_program(((1, 2), (2, 2)), zero_points=(1, -1))
    y = oracle.run(program, {"x0": ints([[3, 4]])[None, 0], "x1": ints([[1, 2], [3, 4]])[None, 0]}).values["y"]
    assert y.tolist() == [[[2 * 2 + 3 * 4, 2 * 3 + 3 * 5]]]


def test_matmul_shares_a_head_among_consecutive_heads() -> None:
    program = matmul_program(((4, 1, 1), (2, 1, 1)), transpose=True)
    y = oracle.run(program, {"x0": ints(1, 2, 3, 4).reshape(1, 4, 1, 1), "x1": ints(10, 100).reshape(1, 2, 1, 1)})
    assert y.values["y"].ravel().tolist() == [10, 20, 300, 400]


def test_requantize_takes_multipliers_per_channel_and_clamps_last() -> None:
    y = run_op(
        Requantize,
        [[5, 5], [-9, 100]],
        multiplier=np.array([0.5, 0.25]),
        low=-4,
        high=9,
        zero_in=-1,
        zero_out=1,
    )
    assert y == [[4, 3], [-3, 9]]


def test_add_rounds_once_in_float32_and_subtracts_by_sign() -> None:
    own = {"multipliers": (0.5, 0.5), "zero_points": (1, 0), "zero_out": 10, "low": 0, "high": 12}
    assert run_op(Add, [2, 4, 7], [0, 2, 9], **own) == [10, 12, 12]
    assert run_op(Add, [2, 4, 7], [0, 2, 9], signs=(1, -1), **own) == [10, 10, 8]


def test_add_sums_float32_products_and_not_exact_ones() -> None:
    x, factors = np.arange(-3000, 3000), (0.1, 0.4)
    parts = [x.astype(np.float32) * np.float32(m) for m in factors]
    expected = np.rint(parts[0] + parts[1]).astype(int).tolist()
    own = {"multipliers": factors, "zero_points": (0, 0), "zero_out": 0, "low": -9999, "high": 9999}
    assert run_op(Add, x, x, **own) == expected
    assert expected != np.rint(x * 0.1 + x * 0.4).astype(int).tolist()


def test_add_and_mul_broadcast_over_axes_of_length_one() -> None:
    own = {"multipliers": (1.0, 1.0), "zero_points": (0, 0), "zero_out": 0, "low": -99, "high": 99}
    assert run_op(Add, [[1, 2], [3, 4]], [[10, 20]], **own) == [[11, 22], [13, 24]]
    assert run_op(Mul, [[1, 2], [3, 4]], [[5], [7]], zero_points=(1, 2)) == [[0, 3], [10, 15]]


def test_duplicate_halves_with_floor_and_ceiling() -> None:
    own = {"source": ints(0, 1, 1, 0), "offset": ints(0, 0, 1, 1), "shift": ints(0, 1, 1, 2), "low": -3, "high": 3}
    assert run_op(Duplicate, [5, -5], **own) == [3, -3, -2, 1]


def test_clamp_keeps_what_is_inside() -> None:
    assert run_op(Clamp, [-9, 0, 9], low=-1, high=6) == [-1, 0, 6]


def test_padding_never_wins_max_pool() -> None:
    own = {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 1, 0, 0)}
    assert run_op(MaxPool, [[[-5], [-6]], [[-7], [-8]], [[-1], [-2]]], **own) == [[[-5]], [[-1]]]


def test_avg_pool_counts_padding_or_not() -> None:
    own = {"kernel": (1, 2), "stride": (1, 1), "padding": (0, 1, 0, 0), "multiplier": 1.0, "zero_in": 2, "zero_out": 7}
    clamp = {"low": 0, "high": 255}
    x = [[12], [32]]
    assert run_op(AvgPool, x, **own, **clamp) == [[12], [27]]
    assert run_op(AvgPool, x, count_padding=False, **own, **clamp) == [[17], [27]]


def test_avg_pool_divides_its_multiplier_in_float64_first() -> None:
    totals, multiplier = np.arange(2**24 - 3000, 2**24 - 2000), 0.7
    own = {"kernel": (1, 3), "stride": (1, 1), "zero_in": 0, "zero_out": 0, "low": -(2**31), "high": 2**31}
    expected = np.rint(totals.astype(np.float32) * np.float32(multiplier / 3)).astype(int).tolist()
    x = np.stack([totals, np.zeros_like(totals), np.zeros_like(totals)])
    assert run_op(AvgPool, x, multiplier=multiplier, **own) == [expected]
    late = np.rint(totals.astype(np.float32) * np.float32(multiplier) / np.float32(3)).astype(int).tolist()
    assert expected != late


def test_table_looks_codes_up_from_its_low_code() -> None:
    assert run_op(Table, [-2, 0, 1], entries=ints(7, 8, 9, -10), low_code=-2) == [7, 9, -10]


def test_codes_move_without_change() -> None:
    x = [[1, 2, 3], [4, 5, 6]]
    assert run_op(Concat, x, [[7], [8]], axis=1) == [[1, 2, 3, 7], [4, 5, 6, 8]]
    assert run_op(Reshape, x, shape=(3, 2)) == [[1, 2], [3, 4], [5, 6]]
    assert run_op(Transpose, x, axes=(1, 0)) == [[1, 4], [2, 5], [3, 6]]
    assert run_op(Slice, x, start=(1, 0), stop=(2, 3), step=(1, 2)) == [[4, 6]]
    assert run_op(Pad, [[1], [2]], widths=((0, 1), (1, 0)), value=9) == [[9, 1], [9, 2], [9, 9]]
    assert run_op(Gather, [1, 0], rows=ints([1, 2], [3, 4]), storage_bits=4) == [[3, 4], [1, 2]]


def test_softmax_rounds_half_up_and_never_reaches_one() -> None:
    own = {"exponentials": ints(8, 3, 1), "out_bits": 4}
    assert run_op(Softmax, [5, 4, 0], **own) == [(128 + 6) // 12, (48 + 6) // 12, (16 + 6) // 12]
    assert run_op(Softmax, [5], **own) == [15]


def test_causal_softmax_ignores_the_future_even_in_its_maximum() -> None:
    own = {"exponentials": ints(4, 2, 1), "out_bits": 4, "causal": True}
    first, second = run_op(Softmax, [[0, 1, 99], [0, 0, 99]], **own)
    assert first == [(32 + 3) // 6, (64 + 3) // 6, 0]
    assert second == [(16 + 3) // 6, (16 + 3) // 6, (64 + 3) // 6]


def test_norm_centres_scales_and_rounds_half_up() -> None:
    # n = 2, x = (1, 4): u = (-3, 3), Q = 18, R = isqrt(18 // 2 + 0) = 3, t = ±1 · 2**2
    own = {"gain": ints(3, 5), "bias": ints(100, -100), "gain_bits": 4, "fraction_bits": 2, "root_shift": 0}
    assert run_op(Norm, [1, 4], zero_in=0, epsilon=0, center=True, **own) == [100 - 12, -100 + 20]
    # without centring: u = (2, 8), Q = 68, R = isqrt(34 + 2) = 6, t = floor((16 + 6) / 12), floor((64 + 6) / 12)
    assert run_op(Norm, [1, 4], zero_in=0, epsilon=2, center=False, **own) == [100 + 3, -100 + 25]


def test_norm_of_a_constant_row_is_its_bias() -> None:
    own = {"gain": ints(3, 5), "bias": ints(7, 8), "gain_bits": 4, "fraction_bits": 9, "root_shift": 3}
    assert run_op(Norm, [6, 6], zero_in=1, epsilon=0, center=True, **own) == [7, 8]


# --- the same by Python integers -------------------------------------------------------------------------------------


def python_norm(x: list[int], op: Norm) -> list[int]:
    n = len(x)
    v = [a - op.zero_in for a in x]
    u = [n * a - (sum(v) if op.center else 0) for a in v]
    root = math.isqrt(sum(a * a for a in u) * 4**op.root_shift // n + op.epsilon)
    scale = 2 ** (op.fraction_bits + op.root_shift)
    t = [math.floor(Fraction(a * scale, root) + Fraction(1, 2)) if root else 0 for a in u]
    return [a * int(g) + int(b) for a, g, b in zip(t, op.gain, op.bias, strict=True)]


@given(program=one_op_programs("norm"), seed=SEEDS)
def test_norm_equals_python_integers(program: Program, seed: int) -> None:
    (x,) = random_inputs(program, 2, seed).values()
    y = oracle.run(program, x).values[program.outputs[0]]
    rows = [python_norm(row.tolist(), program.ops[0]) for row in x.reshape(-1, x.shape[-1])]
    assert y.reshape(-1, x.shape[-1]).tolist() == rows


@pytest.mark.parametrize("magnitude", [2**20, 2**31, 2**45])
def test_norm_of_wide_codes_falls_back_on_python_integers(magnitude: int, rng: np.random.Generator) -> None:
    x = rng.integers(-magnitude, magnitude, 17)
    own = {"gain": rng.integers(-7, 8, 17), "bias": rng.integers(-99, 99, 17), "gain_bits": 4}
    rest = {"zero_in": 3, "epsilon": 5, "fraction_bits": 14, "root_shift": 9, "center": True}
    op = Norm(name="n", inputs=("x",), output="y", **own, **rest)
    assert run_op(Norm, x, **own, **rest) == python_norm(x.tolist(), op)


def python_softmax(x: list[int], table: list[int], out_bits: int, visible: list[bool]) -> list[int]:
    largest = max((a for a, seen in zip(x, visible, strict=True) if seen), default=0)
    e = [table[min(largest - a, len(table) - 1)] if seen else 0 for a, seen in zip(x, visible, strict=True)]
    return [min((a * 2**out_bits + sum(e) // 2) // max(sum(e), 1), 2**out_bits - 1) for a in e]


@given(program=one_op_programs("softmax"), seed=SEEDS)
def test_softmax_equals_python_integers(program: Program, seed: int) -> None:
    (x,) = random_inputs(program, 2, seed).values()
    op = program.ops[0]
    assert isinstance(op, Softmax)
    y = oracle.run(program, x).values[op.output]
    if op.rule != "integer":
        table = op.exponentials.tolist()
        for row, found in zip(x.reshape(-1, x.shape[-1]).tolist(), y.reshape(-1, x.shape[-1]).tolist(), strict=True):
            powers = [table[min(max(row) - a, len(table) - 1)] for a in row]
            assert found == [code + op.zero_out for code in SOFTMAX_RULES[op.rule].scalar(powers, op.out_bits)]
        return
    height, width = (x.shape[-2] if x.ndim > 2 else 1), x.shape[-1]
    mask = np.broadcast_to(np.ones(1, dtype=np.int64) if op.mask is None else op.mask, x.shape).reshape(-1, width)
    for index, row in enumerate(x.reshape(-1, width).tolist()):
        count = index % height + width - height + 1 if op.causal else width
        visible = [bool(mask[index, i]) and i < count for i in range(width)]
        assert y.reshape(-1, width)[index].tolist() == python_softmax(
            row, op.exponentials.tolist(), op.out_bits, visible
        )


def test_softmax_of_wide_exponentials_falls_back_on_python_integers() -> None:
    table = ints(2**40, 2**39 + 1, 12345)
    y = run_op(Softmax, [3, 2, 1, 3], exponentials=table, out_bits=30)
    assert y == python_softmax([3, 2, 1, 3], table.tolist(), 30, [True] * 4)


# --- running ---------------------------------------------------------------------------------------------------------


@given(program=programs(), seed=SEEDS)
def test_programs_run_within_the_ranges_they_declare(program: Program, seed: int) -> None:
    run = oracle.run(program, random_inputs(program, 2, seed), keep=set(program.tensors))
    assert set(run.values) == set(program.tensors)
    for name, value in run.values.items():
        tensor = program.tensors[name]
        assert value.dtype == np.int64
        assert value.shape == (2, *tensor.shape)
        assert value.min() >= tensor.low
        assert value.max() <= tensor.high


@pytest.mark.parametrize("seed", range(2 * len(BUILDERS)))
def test_samples_of_a_batch_do_not_mix(seed: int) -> None:
    program = seeded_program(seed)
    inputs = random_inputs(program, 3, seed)
    together = oracle.run(program, inputs).values
    for i in range(3):
        alone = oracle.run(program, {name: x[i : i + 1] for name, x in inputs.items()}).values
        assert all(np.array_equal(together[name][i], alone[name][0]) for name in program.outputs)


def test_only_outputs_and_kept_tensors_are_returned() -> None:
    program = seeded_program(3)
    inputs = random_inputs(program, 1, 0)
    assert set(oracle.run(program, inputs).values) == set(program.outputs)
    first = program.ops[0].output
    assert set(oracle.run(program, inputs, keep={first, program.inputs[0]}).values) == {
        *program.outputs,
        first,
        program.inputs[0],
    }


def test_wrong_inputs_are_named() -> None:
    program = conv_program(np.ones((1, 1, 1, 2), np.int64), ints(0), (2,))
    with pytest.raises(ValueError, match=r"input 'x' must be \[batch, 2\]"):
        oracle.run(program, ints([1, 2, 3]))
    with pytest.raises(ValueError, match=r"within -128\.\.127 \(got 1\.\.128\)"):
        oracle.run(program, ints([1, 128]))
    with pytest.raises(ValueError, match="must be integers"):
        oracle.run(program, np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"named x \(got z\)"):
        oracle.run(program, {"z": ints([1, 2])})
    with pytest.raises(ValueError, match="keep names 'q'"):
        oracle.run(program, ints([1, 2]), keep={"q"})
    with pytest.raises(ValueError, match="shapes only"):
        oracle.run(program.without_values(), ints([1, 2]))


def test_codes_beyond_the_declared_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"op 'op' gives 6\.\.6, beyond the 0\.\.5"):
        run_op(Mul, [2], [3], declared=(0, 5))


def test_every_kind_of_op_has_an_executor() -> None:
    assert set(OPS.values()) == {*oracle_ops.OPS, Constant, Conv, MatMul}
