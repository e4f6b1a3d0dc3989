"""The functional engine equals the reference, bit for bit, with and without overflow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import conv_program, random_inputs, seeded_program

from accelsim import reference
from accelsim.arith import Accumulation
from accelsim.config import Accelerator, load_accelerator
from accelsim.execute import accumulations, execute, fold_bound, may_overflow
from accelsim.program import Conv, Program


def narrow(dataflow: str, psum_bits: int, bits: int, rule: str, rows: int = 4, pe: str = "fixed") -> Accelerator:
    """Return a small accelerator with narrow sums."""
    edge = load_accelerator("edge-32x32")
    plain = edge.model_dump()
    plain["array"] |= {"rows": rows, "cols": 4, "dataflow": dataflow}
    plain["accumulator"] = {"psum_bits": psum_bits, "bits": bits, "psum_overflow": rule, "overflow": rule}
    if pe == "composable":
        plain["pe"] = {"type": "composable", "weight_bits": 16, "act_bits": 16}
    return Accelerator(**plain)


def assert_equal_to_reference(program: Program, seed: int, accelerator: Accelerator | None) -> int:
    """Compare every tensor; return how many outputs overflowed."""
    inputs = random_inputs(program, 3, seed)
    rules = accumulations(program, accelerator) if accelerator else None
    expected = reference.run(program, inputs, rules)
    got = execute(program, inputs, accelerator, keep=program.tensors)
    for name in program.tensors:
        if name in expected.values:
            assert np.array_equal(got.outputs[name], expected.values[name]), name
    for name, found in expected.overflow.items():
        mine = got.overflow.get(name)
        assert found.differing == (mine.differing if mine else 0)
        assert np.array_equal(found.events, mine.events if mine else np.zeros_like(found.events))
    return got.overflowed_outputs


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_equal_the_reference_with_unbounded_sums(seed: int) -> None:
    assert_equal_to_reference(seeded_program(seed), seed, None)


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("pe", ["fixed", "composable"])
def test_random_programs_equal_the_reference_where_sums_overflow(rule: str, dataflow: str, pe: str) -> None:
    accelerator = narrow(dataflow, 9, 11, rule, pe=pe)
    overflowed = sum(assert_equal_to_reference(seeded_program(seed, length=4), seed, accelerator) for seed in range(36))
    assert overflowed > 0


@given(st.integers(0, 2**31), st.integers(4, 16), st.integers(4, 16), st.sampled_from(["wrap", "saturate"]))
def test_one_convolution_equals_the_reference_at_any_width(seed: int, psum: int, extra: int, rule: str) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 3))
    channels, out = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    weight = rng.integers(-7, 8, (out, *rng.integers(1, 4, 2), channels // groups))
    program = conv_program(
        weight,
        rng.integers(-50, 50, out),
        (5, 4, channels),
        padding=(1, 1, 1, 1),
        stride=(int(rng.integers(1, 3)), 1),
        groups=groups,
        pad_value=int(rng.integers(-3, 4)),
    )
    assert_equal_to_reference(program, seed, narrow("ws", psum, psum + extra, rule, rows=int(rng.integers(1, 9))))


def test_order_of_additions_decides_saturated_sums() -> None:
    weight = np.array([[[[100, 100, -100]]], [[[-100, 100, 100]]]])
    program = conv_program(weight, np.zeros(2, dtype=np.int64), (3,), low=0, high=1)
    inputs = {"x": np.ones((1, 3), dtype=np.int64)}
    held = execute(program, inputs, narrow("ws", 8, 16, "saturate", rows=8))
    assert held.outputs["y"].tolist() == [[27, 100]]  # 100 + 100 → 127, then - 100; the other order never overflows
    assert held.overflowed_outputs == 1
    assert held.overflow["layer"].events.tolist() == [1, 0]


def test_rule_error_names_layer_place_value_and_remedy() -> None:
    program = conv_program(np.full((1, 1, 1, 4), 100), np.zeros(1, dtype=np.int64), (4,), low=0, high=100)
    inputs = {"x": np.full((2, 4), 100)}
    for run in (
        lambda: execute(program, inputs, narrow("ws", 14, 16, "error")),
        lambda: reference.run(program, inputs, Accumulation(fold_k=4, psum_bits=14, psum_overflow="error")),
    ):
        with pytest.raises(OverflowError, match=r"layer 'layer': sum 10000 .* k 0 leaves 14 bits; widen"):
            run()


def test_micro_batches_and_threads_change_nothing(rng: np.random.Generator) -> None:
    program = conv_program(rng.integers(-127, 128, (32, 3, 3, 64)), rng.integers(-9, 9, 32), (40, 40, 64))
    inputs = {"x": rng.integers(-128, 128, (23, 40, 40, 64))}
    seen: list[int] = []
    one = execute(program, inputs, progress=seen.append)
    two = execute(program, inputs, threads=2)
    assert np.array_equal(one.outputs["y"], two.outputs["y"])
    assert sum(seen) == 23
    assert len(seen) > 1


def test_an_empty_batch_gives_empty_outputs() -> None:
    program = conv_program(np.ones((2, 1, 1, 3), dtype=np.int64), np.zeros(2, dtype=np.int64), (3,))
    assert execute(program, {"x": np.zeros((0, 3), dtype=np.int64)}).outputs["y"].shape == (0, 2)


def test_bad_inputs_are_refused_by_name() -> None:
    program = conv_program(np.ones((2, 1, 1, 3), dtype=np.int64), np.zeros(2, dtype=np.int64), (3,), low=0, high=15)
    for inputs, message in (
        ({}, "needs input 'x'"),
        ({"x": np.zeros((1, 4), dtype=np.int64)}, r"must be integers \[batch, 3\]"),
        ({"x": np.zeros((1, 3))}, "quantize the samples first"),
        ({"x": np.full((1, 3), 16)}, r"holds codes 0..15 \(got 16..16\)"),
    ):
        with pytest.raises(ValueError, match=message):
            execute(program, inputs)
    with pytest.raises(ValueError, match="priced, not executed"):
        execute(program.without_values(), {"x": np.zeros((1, 3), dtype=np.int64)})


def test_a_fold_bound_keeps_short_folds_on_the_fast_path(rng: np.random.Generator) -> None:
    program = conv_program(np.full((2, 1, 1, 64), 127), np.zeros(2, dtype=np.int64), (64,), low=0, high=255)
    op = program.ops[0]
    short, long = (accumulations(program, narrow("ws", 20, 32, "saturate", rows=rows)) for rows in (16, 64))
    assert isinstance(op, Conv)
    assert fold_bound(program, op, 16) == 16 * 127 * 255
    assert may_overflow(program, short) == {}
    assert list(may_overflow(program, long)) == ["layer"]
    assert_equal_to_reference(program, 0, narrow("ws", 20, 32, "saturate", rows=16))
