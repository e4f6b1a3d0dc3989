"""The package's definition of a Program against the torch oracle: two readings of one specification."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import BUILDERS, accumulations, one_op_programs, programs, random_inputs, seeded_program

from accelsim import reference
from accelsim.arith import Accumulation
from accelsim.program import Program
from quant import oracle

SEEDS = st.integers(0, 2**31 - 1)


def assert_equal(program: Program, seed: int, accumulation: Accumulation | None = None) -> None:
    """Compare every tensor and every count of overflow."""
    inputs = random_inputs(program, 2, seed)
    theirs = reference.run(program, inputs, accumulation)
    ours = oracle.run(program, inputs, accumulation, keep=set(program.tensors))
    for name in program.tensors:
        np.testing.assert_array_equal(theirs.values[name], ours.values[name], err_msg=name)
    for name, events in ours.overflow_events.items():
        np.testing.assert_array_equal(theirs.overflow[name].events, events, err_msg=name)
        assert theirs.overflow[name].differing == ours.overflowed_outputs[name]


@pytest.mark.parametrize("kind", list(BUILDERS))
@given(data=st.data(), seed=SEEDS)
def test_every_op_gives_the_oracles_integers(kind: str, data: st.DataObject, seed: int) -> None:
    assert_equal(data.draw(one_op_programs(kind)), seed)


@given(program=programs(max_ops=8), seed=SEEDS)
def test_chains_of_ops_give_the_oracles_integers(program: Program, seed: int) -> None:
    assert_equal(program, seed)


@pytest.mark.parametrize("kind", ["conv", "matmul"])
@given(data=st.data(), accumulation=accumulations(), seed=SEEDS)
def test_every_accumulator_overflows_as_the_oracles_does(
    kind: str, data: st.DataObject, accumulation: Accumulation, seed: int
) -> None:
    assert_equal(data.draw(one_op_programs(kind)), seed, accumulation)


@given(program=programs(max_ops=8), accumulation=accumulations(), seed=SEEDS)
def test_chains_of_ops_agree_through_narrow_accumulators(
    program: Program, accumulation: Accumulation, seed: int
) -> None:
    assert_equal(program, seed, accumulation)


@pytest.mark.parametrize("kind", ["conv", "matmul"])
@given(data=st.data(), accumulation=accumulations(rules=("error",)), seed=SEEDS)
def test_the_rule_error_strikes_both_or_neither(
    kind: str, data: st.DataObject, accumulation: Accumulation, seed: int
) -> None:
    program = data.draw(one_op_programs(kind))
    inputs = random_inputs(program, 2, seed)
    try:
        ours = oracle.run(program, inputs, accumulation)
    except OverflowError:
        with pytest.raises(OverflowError):
            reference.run(program, inputs, accumulation)
    else:
        theirs = reference.run(program, inputs, accumulation)
        for name in program.outputs:
            np.testing.assert_array_equal(theirs.values[name], ours.values[name], err_msg=name)


@pytest.mark.parametrize("seed", range(10 * len(BUILDERS)))
def test_seeded_chains_give_the_oracles_integers(seed: int) -> None:
    assert_equal(seeded_program(seed, length=1 + seed // len(BUILDERS)), seed)
