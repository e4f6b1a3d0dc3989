"""The array level against triple loops, PEs stepped one by one, closed forms and published counts."""

import os
import subprocess
import sys
from dataclasses import asdict

import naive
import naive_array
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.arith import OVERFLOW_RULES, Accumulation
from accelsim.dataflow import DATAFLOWS, ArrayShape, Dataflow, Gemm, Job, Operands, make_job, run_gemm
from accelsim.dataflow.base import RULE_CODES

MODES = ("isolated", "overlapped")
SIZE = st.integers(1, 7)


def accumulation(
    dataflow: Dataflow, array: ArrayShape, psum_bits: int = 32, acc_bits: int = 32, rule: str = "saturate"
) -> Accumulation:
    return Accumulation(
        fold_k=None if dataflow.stationary == "output" else array.rows * array.products_per_pe,
        products_per_hop=array.products_per_pe,
        psum_bits=psum_bits,
        psum_overflow=rule,
        acc_bits=acc_bits,
        acc_overflow=rule,
    )


@st.composite
def jobs(draw: st.DrawFn, name: str, rules: tuple[str, ...] = ("wrap", "saturate")) -> Job:
    """A GEMM of any small shape and any widths from 2 to 8 bits on any small array."""
    dataflow = DATAFLOWS[name]
    array = ArrayShape(
        draw(SIZE), draw(SIZE), draw(st.sampled_from([1, 1, 2, 3, 4])), draw(st.sampled_from([1, 1, 2, 4]))
    )
    m, k, n = draw(SIZE), draw(st.integers(1, 20)), draw(SIZE)
    act_bits, weight_bits = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a_low = draw(st.sampled_from([0, -(2 ** (act_bits - 1))]))
    a = rng.integers(a_low, a_low + 2**act_bits, (m, k))
    w = rng.integers(-(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1), (k, n))
    a[rng.random(a.shape) < draw(st.sampled_from([0, 0.5]))] = 0
    bias = draw(st.sampled_from([None, rng.integers(-1000, 1000, n)]))
    accumulator = accumulation(
        dataflow, array, draw(st.integers(4, 34)), draw(st.integers(4, 34)), draw(st.sampled_from(rules))
    )
    tile = None if dataflow.stationary == "output" else draw(st.sampled_from([None, 1, 2, 3]))
    operands = Operands(a, w, bias, act_bits, weight_bits)
    return make_job(dataflow, operands, array, accumulator, draw(st.sampled_from(MODES)), tile)


def bias_of(job: Job) -> list[int]:
    bias = job.operands.bias
    return [0] * job.operands.gemm.n if bias is None else bias.tolist()


def stepped(name: str, job: Job) -> tuple[naive_array.Stepped, np.ndarray]:
    """Step PEs one by one; return what they saw and, with a bias of zero, the outputs [m, n]."""
    a, w = job.operands.a.tolist(), job.operands.w.tolist()
    array, rules, gemm = job.array, job.accumulation, job.operands.gemm
    act, weight = job.operands.act_bits, job.operands.weight_bits
    last = rules.acc_bits if name == "os" else rules.psum_bits
    bits = (weight, act, last) if name == "is" else (act, weight, last)
    machine = naive_array.Machine(array.rows, array.cols, array.products_per_pe, array.pipeline_depth, job.banks, bits)
    if name == "os":
        seen = naive_array.OutputStationary(a, w, bias_of(job), machine, rules).run()
    else:
        stream, still = (
            (a, w)
            if name == "ws"
            else ([list(x) for x in zip(*w, strict=True)], [list(x) for x in zip(*a, strict=True)])
        )
        seen = naive_array.Stationary(stream, still, job.stream_tile or len(stream), machine, rules).run()
    flipped = name == "is"
    outputs = [[seen.outputs[(n, m) if flipped else (m, n)] for n in range(gemm.n)] for m in range(gemm.m)]
    return seen, np.array(outputs)


@pytest.mark.parametrize("name", DATAFLOWS)
@given(data=st.data())
def test_registers_equal_triple_loops_in_outputs_and_overflow_maps(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name))
    run = DATAFLOWS[name].register(job, False)
    outputs, hops, accumulators = naive.gemm(
        job.operands.a.tolist(), job.operands.w.tolist(), bias_of(job), job.accumulation
    )
    np.testing.assert_array_equal(run.outputs, outputs)
    np.testing.assert_array_equal(run.hop_events, hops)
    np.testing.assert_array_equal(run.accumulator_events, accumulators)


@pytest.mark.parametrize("name", DATAFLOWS)
@given(data=st.data())
def test_closed_forms_equal_what_the_registers_counted(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name))
    dataflow, gemm = DATAFLOWS[name], job.operands.gemm
    run = dataflow.register(job, True)
    assert run.cycles == dataflow.cycles(gemm, job.array, job.mode, job.stream_tile)
    assert run.toggles == dataflow.toggles(job)
    assert run.counts == dataflow.counts(gemm, job.array, job.stream_tile)
    assert run.counts.macs == gemm.m * gemm.k * gemm.n
    np.testing.assert_array_equal(run.outputs, dataflow.register(job, False).outputs)


@pytest.mark.parametrize("name", DATAFLOWS)
@settings(max_examples=25)
@given(data=st.data())
def test_registers_equal_pes_stepped_one_by_one(name: str, data: st.DataObject) -> None:
    drawn = data.draw(jobs(name))
    operands = Operands(drawn.operands.a, drawn.operands.w, None, drawn.operands.act_bits, drawn.operands.weight_bits)
    job = Job(operands, drawn.array, drawn.accumulation, drawn.mode, drawn.stream_tile)
    run = DATAFLOWS[name].register(job, True)
    seen, outputs = stepped(name, job)
    left, other = run.toggles.activation_register_toggles, run.toggles.weight_register_toggles
    if name == "is":
        left, other = other, left
    np.testing.assert_array_equal(run.outputs, outputs)
    assert run.cycles == seen.cycles
    assert (left, other) == (seen.left_toggles, seen.other_toggles)
    assert run.toggles.psum_register_toggles == seen.sum_toggles


@pytest.mark.parametrize("name", DATAFLOWS)
@given(data=st.data())
def test_folds_cover_every_product_once_and_add_k_in_order(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name))
    gemm = job.operands.gemm
    done = np.zeros((gemm.m, gemm.k, gemm.n), dtype=int)
    reached = np.zeros((gemm.m, gemm.n), dtype=int)
    for fold in DATAFLOWS[name].folds(gemm, job.array, job.stream_tile):
        m, k, n = (slice(fold[f"{axis}0"], fold[f"{axis}1"]) for axis in "mkn")
        done[m, k, n] += 1
        assert (reached[m, n] == fold["k0"]).all()
        reached[m, n] = fold["k1"]
        assert 1 <= fold["rows_used"] <= job.array.rows
        assert 1 <= fold["cols_used"] <= job.array.cols
    assert (done == 1).all()


@pytest.mark.parametrize("name", DATAFLOWS)
@given(data=st.data())
def test_rule_error_names_the_first_overflow_and_otherwise_changes_nothing(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name, rules=("error",)))
    outputs, hops, accumulators = naive.gemm(
        job.operands.a.tolist(), job.operands.w.tolist(), bias_of(job), job.accumulation
    )
    events = np.array(hops) + np.array(accumulators)

    def run() -> np.ndarray:
        return run_gemm(
            DATAFLOWS[name], job.operands, job.array, job.accumulation, job.mode, stream_tile=job.stream_tile
        ).outputs

    if events.any():
        m, n = np.argwhere(events)[0]
        with pytest.raises(OverflowError, match=rf"output \(m={m}, n={n}\): .* leaves "):
            run()
    else:
        np.testing.assert_array_equal(run(), outputs)


# SCALE-Sim v2 and v3, run on these shapes: rows, cols, m, n, k -> printed "Total Cycles" of os, ws, is.
SCALESIM = [
    ((4, 4, 4, 4, 4), (9, 13, 13)),
    ((8, 4, 8, 4, 5), (14, 25, 43)),
    ((4, 8, 4, 8, 5), (14, 35, 43)),
    ((8, 8, 8, 8, 20), (33, 89, 89)),
    ((8, 8, 20, 20, 20), (305, 377, 377)),
    ((16, 8, 33, 17, 50), (647, 851, 1099)),
]


@pytest.mark.parametrize(("shape", "printed"), SCALESIM)
def test_scalesim_mode_prints_what_scale_sim_prints(shape: tuple[int, ...], printed: tuple[int, ...]) -> None:
    rows, cols, m, n, k = shape
    counted = [
        DATAFLOWS[name].cycles(Gemm(m, k, n), ArrayShape(rows, cols), "scalesim", None) for name in ("os", "ws", "is")
    ]
    assert tuple(counted) == printed


@pytest.mark.parametrize("name", DATAFLOWS)
def test_one_full_fold_takes_what_the_paper_derives(name: str) -> None:
    assert DATAFLOWS[name].cycles(Gemm(4, 4, 4), ArrayShape(4, 4), "isolated", None) == 4 * 4 - 2


def test_output_writes_are_one_per_output_where_scale_sim_counts_544() -> None:
    counts = DATAFLOWS["os"].counts(Gemm(20, 20, 20), ArrayShape(8, 8), None)
    assert counts.accumulator_writes == 400


@pytest.mark.parametrize("name", DATAFLOWS)
def test_the_last_fold_of_k_decides_how_often_the_accumulator_is_read(name: str) -> None:
    counts = DATAFLOWS[name].counts(Gemm(5, 17, 6), ArrayShape(8, 4), None)
    folds = 1 if name == "os" else 3
    assert (counts.accumulator_writes, counts.accumulator_reads) == (30 * folds, 30 * (folds - 1))


def test_accumulators_wider_than_32_bits_and_operands_of_16_keep_exact_sums() -> None:
    a, w = np.full((3, 40), -(2**15)), np.full((40, 3), -(2**15))
    for name, dataflow in DATAFLOWS.items():
        array = ArrayShape(4, 4)
        run = run_gemm(
            dataflow, Operands(a, w, None, 16, 16), array, accumulation(dataflow, array, 40, 48), toggles=True
        )
        assert (run.outputs == 40 * 2**30).all(), name
        assert not run.overflowed.any()


def test_wrap_and_saturate_differ_where_sums_overflow_and_the_map_says_where() -> None:
    a, w = np.array([[100, 100, -100], [1, 1, 1]]), np.array([[1], [1], [1]])
    expected = {"wrap": [100, 3], "saturate": [27, 3]}
    for rule, outputs in expected.items():
        array = ArrayShape(3, 1)
        run = run_gemm(DATAFLOWS["ws"], Operands(a, w), array, accumulation(DATAFLOWS["ws"], array, 8, 32, rule))
        assert run.outputs[:, 0].tolist() == outputs
        assert run.overflowed[:, 0].tolist() == [True, False]


def test_bad_calls_are_refused_with_rule_value_and_remedy() -> None:
    ws, array = DATAFLOWS["ws"], ArrayShape(2, 2)
    operands = Operands(np.ones((2, 3), int), np.ones((3, 2), int))
    good = accumulation(ws, array)
    with pytest.raises(ValueError, match=r"ArrayShape\.rows must be >= 1"):
        ArrayShape(0, 4)
    with pytest.raises(ValueError, match="must share k"):
        Operands(np.ones((2, 3), int), np.ones((4, 2), int))
    with pytest.raises(ValueError, match="too narrow"):
        Operands(np.full((1, 1), 300), np.ones((1, 1), int))
    with pytest.raises(ValueError, match="mode must be one of"):
        run_gemm(ws, operands, array, good, "fast")
    with pytest.raises(ValueError, match="formula"):
        run_gemm(ws, operands, array, good, "scalesim")
    with pytest.raises(ValueError, match="fold_k=2"):
        run_gemm(ws, operands, array, Accumulation(fold_k=4))
    with pytest.raises(ValueError, match="stream_tile must be >= 1"):
        run_gemm(ws, operands, array, good, stream_tile=0)
    with pytest.raises(ValueError, match="stream_tile must be None"):
        run_gemm(DATAFLOWS["os"], operands, array, Accumulation(), stream_tile=2)


def test_every_overflow_rule_is_a_kernel_rule() -> None:
    assert set(RULE_CODES) == {"none", *OVERFLOW_RULES}


WITHOUT_JIT = """
import numpy as np
from accelsim.arith import Accumulation
from accelsim.dataflow import DATAFLOWS, ArrayShape, Operands, make_job
rng = np.random.default_rng(1)
for name, dataflow in DATAFLOWS.items():
    for mode in ("isolated", "overlapped"):
        array = ArrayShape(3, 2, 2, 2)
        rules = Accumulation(
            fold_k=None if name == "os" else 6, products_per_hop=2, psum_bits=7, acc_bits=9, acc_overflow="wrap"
        )
        operands = Operands(rng.integers(-8, 8, (4, 9)), rng.integers(-8, 8, (9, 3)), rng.integers(-9, 9, 3))
        job = make_job(dataflow, operands, array, rules, mode)
        run = dataflow.register(job, True)
        assert run.cycles == dataflow.cycles(operands.gemm, array, mode, None)
        assert run.toggles == dataflow.toggles(job)
        print(name, mode, run.outputs.tolist(), run.hop_events.tolist(), run.accumulator_events.tolist(), run.toggles)
"""


def test_kernels_mean_the_same_with_the_jit_off() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", WITHOUT_JIT],
            env={**os.environ, "NUMBA_DISABLE_JIT": off},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for off in ("1", "0")
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == 2 * len(DATAFLOWS)


def test_toggles_count_zero_operands_once() -> None:
    operands = Operands(np.array([[0, 1], [2, 0]]), np.array([[0], [3]]), None, 4, 4)
    for name, dataflow in DATAFLOWS.items():
        array = ArrayShape(2, 2)
        seen = asdict(dataflow.toggles(make_job(dataflow, operands, array, accumulation(dataflow, array))))
        assert [seen[f"zero_{which}macs"] for which in ("activation_", "weight_", "")] == [2, 2, 3], name
