"""The ladder: it passes on what is right, and fails on what is wrong."""

import numpy as np
import pytest

from accelsim import arith
from accelsim.program import OPS
from reports import naive, rungs_array, rungs_network, verify
from reports.checks import Checks
from reports.op_samples import SAMPLES, sample_inputs, sample_program


def test_every_kind_of_op_has_a_sample():
    assert set(SAMPLES) == set(OPS)


@pytest.mark.parametrize("kind", list(SAMPLES))
def test_samples_depend_on_their_seed_alone(kind):
    first, again = (sample_program(kind, np.random.default_rng(3)) for _ in range(2))
    assert first.digest() == again.digest()
    codes = sample_inputs(first, 2, np.random.default_rng(4))
    assert {name: array.shape[0] for name, array in codes.items()} == dict.fromkeys(first.inputs, 2)


@pytest.mark.parametrize("rung", [r for r in verify.RUNGS if not r.on_networks], ids=lambda r: f"{r.number} {r.name}")
def test_rungs_without_networks_pass(rung):
    checks = rung.run(verify.Setting(tasks=(), seed=1))
    if checks.skipped:
        pytest.skip(checks.skipped[0])
    assert checks.failures == []
    assert checks.compared > 600


@pytest.mark.slow
@pytest.mark.parametrize("rung", [r for r in verify.RUNGS if r.on_networks], ids=lambda r: f"{r.number} {r.name}")
def test_rungs_on_networks_pass(rung, digits):
    (outcome,) = verify.run_ladder(verify.Setting(tasks=(digits,)), [rung])
    assert outcome.passed, outcome.checks.failures


def test_wrong_arithmetic_fails_the_first_rung(monkeypatch):
    right = arith.wrap_array
    monkeypatch.setattr(arith, "wrap_array", lambda values, bits: right(values, bits) + (bits == 7) * (values == 300))
    checks = rungs_array.check_arithmetic(0)
    assert checks.failed == 1
    assert "wrap to 7 bits" in checks.failures[0]


def test_a_wrong_register_engine_fails_the_third_rung(monkeypatch):
    right = rungs_array.run_gemm

    def wrong(*arguments, **options):
        run = right(*arguments, **options)
        run.outputs[-1, -1] += 1
        return run

    monkeypatch.setattr(rungs_array, "run_gemm", wrong)
    checks = rungs_array.check_sums(0)
    assert checks.failed > 0
    assert "register and naive outputs" in checks.failures[0]


def test_wrong_cycles_fail_the_fourth_rung(monkeypatch):
    from dataclasses import replace

    from accelsim.dataflow import DATAFLOWS

    ws = DATAFLOWS["ws"]
    wrong = replace(ws, cycles=lambda *arguments: ws.cycles(*arguments) + 1)
    monkeypatch.setitem(rungs_array.DATAFLOWS, "ws", wrong)
    checks = rungs_array.check_closed_forms(0)
    assert "closed form differs" in checks.failures[0]


def test_a_wrong_engine_fails_the_sixth_rung(monkeypatch):
    right = rungs_network.execute

    def wrong(program, codes, *arguments, **options):
        run = right(program, codes, *arguments, **options)
        return run if program.ops[0].kind != "add" else type(run)({n: a + 1 for n, a in run.outputs.items()})

    monkeypatch.setattr(rungs_network, "execute", wrong)
    checks = rungs_network.check_oracle_ops(0)
    assert checks.failed == rungs_network.PROGRAMS_PER_OP
    assert "add" in checks.failures[0]


def test_nothing_compared_is_no_pass():
    rung = verify.Rung(1, "idle", "compares nothing", lambda setting: Checks())
    (outcome,) = verify.run_ladder(verify.Setting(tasks=()), [rung])
    assert not outcome.passed
    assert "FAIL" in verify.format_outcome(outcome)


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
def test_naive_loops_add_in_the_order_of_the_machine(rule):
    rules = arith.Accumulation(
        fold_k=2, products_per_hop=1, psum_bits=5, psum_overflow=rule, acc_bits=6, acc_overflow=rule
    )
    # by hand: bias 3; fold 1: 0+10=10, 10+10=20 leaves 5 bits (-16..15); fold 2: 0-3, -3-3=-6
    outputs, events = naive.gemm([[1, 1, 1, 1]], [[10], [10], [-3], [-3]], [3], rules)
    held = 15 if rule == "saturate" else -12
    assert outputs == [[3 + held - 6]]
    assert events == [[1]]
