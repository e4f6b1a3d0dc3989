"""Toggles and zero operands: closed form from the streams, the register engine, and counts by hand."""

import numpy as np
import pytest
from gemm_jobs import WIDE, accumulation, jobs
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.dataflow import DATAFLOWS, ArrayShape, Job, Operands, make_job


@pytest.mark.parametrize("name", DATAFLOWS)
@settings(max_examples=60)
@given(data=st.data())
def test_streams_and_registers_agree_at_every_width(name: str, data: st.DataObject) -> None:
    """Operands to 16 bits, sums to 44 bits, arrays below, at and above whole vectors of columns."""
    job = data.draw(jobs(name, rules=("wrap", "saturate"), widest=16, columns=WIDE))
    run = DATAFLOWS[name].register(job, True)
    assert run.toggles == DATAFLOWS[name].toggles(job)


@pytest.mark.parametrize("name", DATAFLOWS)
@settings(max_examples=30)
@given(data=st.data())
def test_zero_operands_are_those_of_the_triple_loop(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name))
    a, w = job.operands.a.tolist(), job.operands.w.tolist()
    by_a = by_w = either = 0
    for row in a:
        for k, x in enumerate(row):
            for y in w[k]:
                by_a += x == 0
                by_w += y == 0
                either += x == 0 or y == 0
    seen = DATAFLOWS[name].register(job, True).toggles
    assert seen is not None
    assert (seen.zero_activation_macs, seen.zero_weight_macs, seen.zero_macs) == (by_a, by_w, either)


def job_of(name: str, a: list[list[int]], w: list[list[int]], shape: ArrayShape, bits: int = 8) -> Job:
    operands = Operands(np.array(a), np.array(w), None, 4, 4)
    return make_job(DATAFLOWS[name], operands, shape, accumulation(DATAFLOWS[name], shape, bits, bits))


def test_one_pe_by_hand() -> None:
    """One PE, weight 3, activations 1 and 2.

    WS: the weight register takes 3 (2 bits); the activation register 1 (1) and 2 (2); the sum 3 (2) and 6 (0b011 to
    0b110: 2): the run ends before a zero follows. OS, one sum for k = 2 with weights 3 and 3: the registers end with
    zeros: activations 1 + 2 + 1, weights 2 + 0 + 2; the sum takes 3 (2), then 9 (0b0011 to 0b1001: 2).
    """
    ws = DATAFLOWS["ws"].register(job_of("ws", [[1], [2]], [[3]], ArrayShape(1, 1)), True).toggles
    assert ws is not None
    assert (ws.weight_register_toggles, ws.activation_register_toggles, ws.psum_register_toggles) == (2, 3, 4)
    out = DATAFLOWS["os"].register(job_of("os", [[1, 2]], [[3], [3]], ArrayShape(1, 1)), True).toggles
    assert out is not None
    assert (out.weight_register_toggles, out.activation_register_toggles, out.psum_register_toggles) == (4, 4, 4)


def test_negative_numbers_toggle_as_many_sign_bits_as_the_sum_has() -> None:
    for bits in (8, 32, 33, 40):
        job = job_of("ws", [[1]], [[-1]], ArrayShape(1, 1), bits)
        assert DATAFLOWS["ws"].toggles(job).psum_register_toggles == bits
        seen = DATAFLOWS["ws"].register(job, True).toggles
        assert seen is not None
        assert seen.psum_register_toggles == bits


@pytest.mark.parametrize("name", DATAFLOWS)
@pytest.mark.parametrize("quiet", ["a", "w"])
def test_an_operand_of_zeros_leaves_its_registers_and_all_sums_still(name: str, quiet: str) -> None:
    rng = np.random.default_rng(5)
    a, w = rng.integers(1, 8, (9, 11)), rng.integers(1, 8, (11, 5))
    a, w = (a * 0, w) if quiet == "a" else (a, w * 0)
    job = job_of(name, a.tolist(), w.tolist(), ArrayShape(3, 4))
    seen = DATAFLOWS[name].register(job, True).toggles
    assert seen is not None
    still = seen.activation_register_toggles if quiet == "a" else seen.weight_register_toggles
    moving = seen.weight_register_toggles if quiet == "a" else seen.activation_register_toggles
    assert still == 0
    assert seen.psum_register_toggles == 0
    assert moving > 0
    assert seen.zero_macs == 9 * 11 * 5


@pytest.mark.parametrize("name", DATAFLOWS)
@settings(max_examples=20)
@given(data=st.data())
def test_counting_changes_nothing_else(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name, columns=WIDE))
    watched, unwatched = (DATAFLOWS[name].register(job, counting) for counting in (True, False))
    assert unwatched.toggles is None
    assert watched.cycles == unwatched.cycles
    for field in ("outputs", "hop_events", "accumulator_events"):
        np.testing.assert_array_equal(getattr(watched, field), getattr(unwatched, field))
