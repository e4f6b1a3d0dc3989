"""The slow arrays, wire by wire: equal to the register engine, to PEs as objects, and to what their PEs must do."""

from itertools import pairwise

import naive_array
import numpy as np
import pytest
from gemm_jobs import jobs
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import brought_into_range

from accelsim.dataflow import DATAFLOWS, Job, Operands
from accelsim.stepper import Cycle, run_trace, trace
from accelsim.stepper.base import distance


@pytest.mark.parametrize("name", DATAFLOWS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_trace_adds_up_to_what_the_register_engine_saw(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name, rules=("wrap", "saturate")))
    seen, run = run_trace(DATAFLOWS[name], job), DATAFLOWS[name].register(job, True)
    assert run.toggles is not None
    np.testing.assert_array_equal(seen.outputs, run.outputs)
    np.testing.assert_array_equal(seen.hop_events, run.hop_events)
    np.testing.assert_array_equal(seen.accumulator_events, run.accumulator_events)
    assert seen.cycles == run.cycles
    assert seen.weight_register_toggles == run.toggles.weight_register_toggles
    assert seen.activation_register_toggles == run.toggles.activation_register_toggles
    assert seen.psum_register_toggles == run.toggles.psum_register_toggles


@pytest.mark.parametrize("name", DATAFLOWS)
@settings(max_examples=20)
@given(data=st.data())
def test_every_cycle_follows_from_the_one_before(name: str, data: st.DataObject) -> None:
    """Operands hop right (and under OS down), and sums take what their PE's adder gives, in Python integers."""
    job = data.draw(jobs(name))
    cycles = list(trace(DATAFLOWS[name], job))
    gemm = job.operands.gemm
    assert len(cycles) == DATAFLOWS[name].cycles(gemm, job.array, job.mode, job.stream_tile) + 1
    assert [cycle.index for cycle in cycles] == list(range(len(cycles)))
    for before, after in pairwise(cycles):
        right = "weights" if name == "is" else "activations"
        moved, took = getattr(before, right)[0], getattr(after, right)[0]
        np.testing.assert_array_equal(took[:, 0], before.left)
        np.testing.assert_array_equal(took[:, 1:], moved[:, :-1])
        if name == "os":
            np.testing.assert_array_equal(after.weights[0, 0], before.top)
            np.testing.assert_array_equal(after.weights[0, 1:], before.weights[0, :-1])
    if name != "os" and job.array.pipeline_depth == 1:
        for before, after in pairwise(cycles):
            _check_sums(job, before, after, name)


def _check_sums(job: Job, before: Cycle, after: Cycle, name: str) -> None:
    """Some stationary register of every PE explains the sum that it takes."""
    still, moving = (before.weights, after.activations[0]) if name == "ws" else (before.activations, after.weights[0])
    rules = job.accumulation
    for r, c in np.ndindex(before.sums.shape[1:]):
        above = int(before.sums[0, r - 1, c]) if r else 0
        products = [sum(int(x) * int(y) for x, y in zip(bank[r, c], moving[r, c], strict=True)) for bank in still]
        allowed = [brought_into_range(above + p, rules.psum_bits, rules.psum_overflow)[0] for p in products]
        assert int(after.sums[0, r, c]) in allowed


@pytest.mark.parametrize("name", DATAFLOWS)
@settings(max_examples=20)
@given(data=st.data())
def test_every_output_leaves_once_and_is_added_up_as_often_as_it_must(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name))
    gemm, array = job.operands.gemm, job.array
    added, left = np.zeros(gemm.m * gemm.n, dtype=int), np.zeros(gemm.m * gemm.n, dtype=int)
    for cycle in trace(DATAFLOWS[name], job):
        np.add.at(added, cycle.owners[cycle.owners >= 0], 1)
        np.add.at(left, cycle.output[cycle.total_final & (cycle.output >= 0)], 1)
    groups = -(-gemm.k // array.products_per_pe)
    expected = groups if name == "os" else array.rows * -(-groups // array.rows)
    assert (added == expected).all()
    assert (left == 1).all()


@settings(max_examples=15)
@given(data=st.data())
def test_the_last_cycle_is_idle(data: st.DataObject) -> None:
    job = data.draw(jobs("os"))
    last = list(trace(DATAFLOWS["os"], job))[-1]
    assert not last.bottom_valid.any()
    assert not last.activations.any()
    assert not last.weights.any()


@pytest.mark.parametrize("name", ["ws", "is"])
@settings(max_examples=15)
@given(data=st.data())
def test_registers_of_every_cycle_equal_pes_as_objects(name: str, data: st.DataObject) -> None:
    drawn = data.draw(jobs(name))
    operands = Operands(drawn.operands.a, drawn.operands.w, None, drawn.operands.act_bits, drawn.operands.weight_bits)
    job = Job(operands, drawn.array, drawn.accumulation, drawn.mode, drawn.stream_tile)
    history = naive_array.history(name, job)
    for cycle, pes in zip(trace(DATAFLOWS[name], job), history, strict=False):
        moving, still = (cycle.activations, cycle.weights) if name == "ws" else (cycle.weights, cycle.activations)
        for (r, c), held in pes.items():
            assert moving[0, r, c].tolist() == held.left
            assert still[:, r, c].tolist() == held.still
            assert cycle.sums[:, r, c].tolist() == held.sums
    assert len(history) == DATAFLOWS[name].cycles(operands.gemm, job.array, job.mode, job.stream_tile)


def test_distance_counts_bits_at_the_registers_width() -> None:
    before, after = np.array([0, -1, 5]), np.array([-1, 0, 5])
    assert distance(before, after, 4) == 8
    assert distance(before, after, 64) == 128
