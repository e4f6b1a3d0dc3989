"""The array level against triple loops, PEs stepped one by one, closed forms and published counts."""

import os
import subprocess
import sys
from dataclasses import asdict

import naive
import naive_array
import numpy as np
import pytest
from gemm_jobs import WIDE, accumulation, bias_of, jobs
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.arith import OVERFLOW_RULES, Accumulation
from accelsim.dataflow import DATAFLOWS, ArrayShape, Gemm, Job, Operands, make_job, run_gemm
from accelsim.dataflow.base import RULE_CODES, lane_dtype
from accelsim.dataflow.jit import compiled
from accelsim.dataflow.lanes import CHAINS, LANES, _in_python, moved, moved_one, stayed, stayed_one, variant


def stepped(name: str, job: Job) -> tuple[naive_array.Stepped, np.ndarray]:
    """Step PEs one by one; return what they saw and, with a bias of zero, the outputs [m, n]."""
    seen, gemm, flipped = naive_array.build(name, job).run(), job.operands.gemm, name == "is"
    outputs = [[seen.outputs[(n, m) if flipped else (m, n)] for n in range(gemm.n)] for m in range(gemm.m)]
    return seen, np.array(outputs)


@pytest.mark.parametrize("name", DATAFLOWS)
@given(data=st.data())
def test_registers_equal_triple_loops_in_outputs_and_overflow_maps(name: str, data: st.DataObject) -> None:
    job = data.draw(jobs(name, widest=data.draw(st.sampled_from([8, 16])), columns=WIDE))
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
        for rows, cols, products, depth, bits in (3, 2, 2, 2, 7), (2, 17, 1, 1, 6), (2, 3, 1, 1, 34), (4, 2, 1, 3, 20):
            array = ArrayShape(rows, cols, products, depth)
            fold_k = None if name == "os" else rows * products
            rules = Accumulation(
                fold_k=fold_k, products_per_hop=products, psum_bits=bits, acc_bits=bits + 2, acc_overflow="wrap"
            )
            operands = Operands(rng.integers(-8, 8, (4, 9)), rng.integers(-8, 8, (9, 3)), rng.integers(-9, 9, 3))
            job = make_job(dataflow, operands, array, rules, mode)
            run = dataflow.register(job, True)
            assert run.cycles == dataflow.cycles(operands.gemm, array, mode, None)
            assert run.toggles == dataflow.toggles(job)
            print(name, mode, array, run.outputs.tolist(), run.hop_events.tolist(), run.accumulator_events.tolist())
            print(run.toggles)
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
    assert len(printed[0].splitlines()) == 16 * len(DATAFLOWS)


def test_toggles_count_zero_operands_once() -> None:
    operands = Operands(np.array([[0, 1], [2, 0]]), np.array([[0], [3]]), None, 4, 4)
    for name, dataflow in DATAFLOWS.items():
        array = ArrayShape(2, 2)
        seen = asdict(dataflow.toggles(make_job(dataflow, operands, array, accumulation(dataflow, array))))
        assert [seen[f"zero_{which}macs"] for which in ("activation_", "weight_", "")] == [2, 2, 3], name


@compiled
def _moved(act, sums, events, factors, xs, walk, mask, half):
    return moved(act, sums, events, factors, xs, walk, mask, half)


@compiled
def _moved_one(act, sums, events, factors, xs, walk, mask, half):
    return moved_one(act, sums, events, factors, xs, walk, mask, half)


@compiled
def _stayed(act, sums, events, factors, xs, walk, mask, half):
    return stayed(act, sums, events, factors, xs, walk, mask, half)


@compiled
def _stayed_one(act, sums, events, factors, xs, walk, mask, half):
    return stayed_one(act, sums, events, factors, xs, walk, mask, half)


PLAIN = [(rule, counted, 1, np.int32) for rule in (0, 1, 2) for counted in (False, True)]


@pytest.mark.parametrize(
    ("rule", "counted", "lanes", "lane"),
    [*PLAIN, *((rule, True, lanes, lane) for rule in (1, 2) for lanes, lane in ((3, np.int32), (2, np.int64)))],
)
def test_vector_instructions_mean_what_plain_numpy_says(
    rule: int, counted: bool, lanes: int, lane: type[np.integer], rng: np.random.Generator
) -> None:
    hops, half = 5, 1 << 15
    size = (1 + hops + CHAINS) * 2 * LANES
    sums, events = rng.integers(-half, half, size).astype(lane), rng.integers(0, 3, size).astype(lane)
    factors = rng.integers(-128, 128, hops * lanes * 2 * LANES).astype(np.int32)
    xs = rng.integers(-128, 128, CHAINS * hops * lanes + 4).astype(np.int32)
    mask = np.full(2 * LANES, (1 << 16) - 1, dtype=lane)
    mask[LANES + 5 :] = 0
    for stays, chains, function in (
        (False, CHAINS, _moved),
        (False, 1, _moved_one),
        (True, CHAINS, _stayed),
        (True, 1, _stayed_one),
    ):
        register = 3 * LANES
        result = register if stays else register + hops * 2 * LANES
        walk = (hops, lanes, 4, lanes, hops * lanes, LANES, 2 * LANES, LANES, register, result, LANES)
        results = []
        for call in (function, _in_python(stays, chains)):
            held, met = sums.copy(), events.copy()
            toggles = call(variant(rule, counted, lanes == 1), held, met, factors, xs, walk, mask, half)
            results.append((toggles, held.tolist(), met.tolist()))
        assert results[0] == results[1]
        assert (results[0][0] > 0) == counted
        assert (results[0][2] != events.tolist()) == (rule > 0)


@pytest.mark.parametrize(
    ("bound", "bits", "exact", "lane"),
    [(2**31 - 1, 32, True, 32), (2**31, 32, True, 64), (2**31 - 1, 33, True, 64), (2**31 - 1, 33, False, 32)],
)
def test_narrow_lanes_only_where_every_exact_sum_fits(bound: int, bits: int, exact: bool, lane: int) -> None:
    assert np.dtype(lane_dtype(bound, bits, exact)).itemsize * 8 == lane
