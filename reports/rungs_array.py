"""Rungs 1 to 4 of the ladder: integer arithmetic, products in the PEs, the array's sums, its cycles and counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

from accelsim import arith, reference
from accelsim.arith import REQUANT_RULES, Accumulation, Overflow
from accelsim.dataflow import DATAFLOWS, ArrayShape, Dataflow, Operands, make_job, run_gemm
from reports import naive
from reports.checks import Checks

Ints = NDArray[np.int64]

WIDEST = 8
"""Rungs 1 and 2 are exhaustive up to this width."""

# m, k, n of the sampled products: ones, exact fits, one too many and one too few for the arrays below
SHAPES = ((1, 1, 1), (5, 3, 2), (4, 8, 4), (7, 9, 5), (3, 23, 11), (13, 17, 6), (2, 40, 9))
ARRAYS = (ArrayShape(4, 4), ArrayShape(3, 5, products_per_pe=2, pipeline_depth=2), ArrayShape(8, 2, products_per_pe=4))
# partial-sum and accumulator widths: never in the way, in the way of the accumulator, of both
WIDTHS = ((32, 32), (20, 14), (11, 12))


def check_arithmetic(seed: int) -> Checks:
    """Rung 1: array forms against Python integers, every value that 8 bits and a carry can hold."""
    checks = Checks(covered=["wrap, saturate, both rounding shifts", f"{len(REQUANT_RULES)} requantization rules"])
    values = np.arange(-512, 512, dtype=np.int64)
    listed = values.tolist()
    for bits in range(2, WIDEST + 1):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        wrapped, clamped = [(v - low) % 2**bits + low for v in listed], [min(max(v, low), high) for v in listed]
        checks.equal(arith.wrap_array(values, bits), wrapped, f"wrap to {bits} bits")
        checks.equal([arith.wrap(v, bits) for v in listed], wrapped, f"scalar wrap to {bits} bits")
        checks.equal(arith.saturate_array(values, bits), clamped, f"saturate to {bits} bits")
        checks.equal([arith.saturate(v, bits) for v in listed], clamped, f"scalar saturate to {bits} bits")
    for shift in range(WIDEST + 1):
        exact = [Fraction(v, 2**shift) for v in listed]
        up = [floor(x + Fraction(1, 2)) for x in exact]
        away = [floor(x + Fraction(1, 2)) if x >= 0 else -floor(-x + Fraction(1, 2)) for x in exact]
        checks.equal([arith.shift_half_up(v, shift) for v in listed], up, f"shift half up by {shift}")
        checks.equal([arith.shift_half_away(v, shift) for v in listed], away, f"shift half away by {shift}")
    checks.equal(arith.half_up(values / 4), [floor(Fraction(v, 4) + Fraction(1, 2)) for v in listed], "half up")
    _check_rules(checks, seed)
    return checks


def _check_rules(checks: Checks, seed: int) -> None:
    """Compare every requantization rule's array form with its definition on Python integers."""
    rng = np.random.default_rng(seed)
    small, wide = np.arange(-512, 512, dtype=np.int64), rng.integers(-(2**31), 2**31, 2000)
    for rule in REQUANT_RULES.values():
        for acc, reach in ((small, 512), (wide, 2**31)):
            for factor in (*(2.0**-s for s in range(5)), *rng.uniform(0.01, 1, 4)):
                multiplier = 2.0 ** np.round(np.log2(factor * 127 / reach))
                if rule.name != "pot_shift":
                    multiplier *= rng.choice([1.0, factor])
                bias = round(float(rng.normal(0, reach / 4)), 1) if rule.float_bias else 0.0
                ours = rule.array(acc, np.array([multiplier]), np.array([bias]))
                theirs = [rule.scalar(int(v), float(multiplier), bias) for v in acc.tolist()]
                checks.equal(ours, theirs, f"rule {rule.name}, multiplier {multiplier}")


def check_products(seed: int) -> Checks:
    """Rung 2: every product of two codes of 2 to 8 bits, formed by the PEs of every dataflow."""
    checks = Checks(covered=[f"{name}: all pairs of codes, 2–{WIDEST} bits, signed and unsigned" for name in DATAFLOWS])
    for dataflow in DATAFLOWS.values():
        for weight_bits in range(2, WIDEST + 1):
            for act_bits in range(2, WIDEST + 1):
                for signed in (True, False):
                    _check_outer_product(checks, dataflow, (weight_bits, act_bits), signed)
        for lanes in (2, 4, 16):
            _check_lanes(checks, dataflow, lanes, seed)
    return checks


def _check_outer_product(checks: Checks, dataflow: Dataflow, bits: tuple[int, int], signed: bool) -> None:
    w = np.arange(*_half_open(bits[0], True), dtype=np.int64)[None]
    a = np.arange(*_half_open(bits[1], signed), dtype=np.int64)[:, None]
    array = ArrayShape(16, 16)
    operands = Operands(a, w, act_bits=bits[1], weight_bits=bits[0])
    run = run_gemm(dataflow, operands, array, _rules(dataflow, array, (32, 32), "error"))
    exact = [[x * y for y in w[0].tolist()] for x in a[:, 0].tolist()]
    checks.equal(run.outputs, exact, f"{dataflow.name}: products of {bits[0]} and {bits[1]} bits")


def _check_lanes(checks: Checks, dataflow: Dataflow, lanes: int, seed: int) -> None:
    """Check PEs that multiply several consecutive k in a cycle."""
    rng = np.random.default_rng([seed, lanes])
    array = ArrayShape(4, 8, products_per_pe=lanes)
    a, w = rng.integers(-8, 8, (64, 3 * lanes + 1)), rng.integers(-8, 8, (3 * lanes + 1, 16))
    operands = Operands(a, w, act_bits=4, weight_bits=4)
    run = run_gemm(dataflow, operands, array, _rules(dataflow, array, (32, 32), "error"))
    checks.equal(run.outputs, a @ w, f"{dataflow.name}: {lanes} products a cycle")


def _half_open(bits: int, signed: bool) -> tuple[int, int]:
    low, high = arith.code_range(bits, signed)
    return low, high + 1


def _rules(dataflow: Dataflow, array: ArrayShape, widths: tuple[int, int], rule: Overflow) -> Accumulation:
    return Accumulation(
        fold_k=None if dataflow.stationary == "output" else array.rows * array.products_per_pe,
        products_per_hop=array.products_per_pe,
        psum_bits=widths[0],
        psum_overflow=rule,
        acc_bits=widths[1],
        acc_overflow=rule,
    )


@dataclass(frozen=True)
class Case:
    """One product on one array."""

    dataflow: Dataflow
    array: ArrayShape
    operands: Operands
    rules: Accumulation
    mode: str

    def __str__(self) -> str:
        """Name the case so that it can be made again."""
        gemm, array = self.operands.gemm, self.array
        return (
            f"{self.dataflow.name} {self.mode} m,k,n={gemm.m},{gemm.k},{gemm.n} on {array.rows}x{array.cols} with "
            f"{array.products_per_pe} products, depth {array.pipeline_depth}, psum {self.rules.psum_bits}, accumulator "
            f"{self.rules.acc_bits} bits, {self.rules.acc_overflow}"
        )


def cases(seed: int, overflow_rules: tuple[Overflow, ...]) -> Iterator[Case]:
    """Yield ragged shapes on small arrays, every dataflow, mode, width and rule, with seeded random operands."""
    for place, (m, k, n) in enumerate(SHAPES):
        rng = np.random.default_rng([seed, place])
        weight_bits, act_bits = (int(b) for b in rng.integers(2, 9, 2))
        signed = bool(rng.integers(2))
        w = rng.integers(*_half_open(weight_bits, True), (k, n))
        a = rng.integers(*_half_open(act_bits, signed), (m, k))
        operands = Operands(a, w, rng.integers(-200, 200, n), act_bits=act_bits, weight_bits=weight_bits)
        for dataflow in DATAFLOWS.values():
            for array in ARRAYS:
                for widths in WIDTHS:
                    for rule in overflow_rules:
                        for mode in ("isolated", "overlapped"):
                            yield Case(dataflow, array, operands, _rules(dataflow, array, widths, rule), mode)


def check_sums(seed: int) -> Checks:
    """Rung 3: register engine = loops over Python integers = reference, outputs and overflow."""
    checks = Checks(covered=[", ".join(DATAFLOWS), f"{len(SHAPES)} ragged shapes", "wrap, saturate, error"])
    for case in cases(seed, ("wrap", "saturate")):
        a, w, bias = case.operands.a, case.operands.w, case.operands.bias
        assert bias is not None
        run = run_gemm(case.dataflow, case.operands, case.array, case.rules, case.mode)
        outputs, events = naive.gemm(a.tolist(), w.tolist(), bias.tolist(), case.rules)
        sums, counted = reference.accumulate(
            a.astype(np.int64)[None], w.astype(np.int64)[None], bias.astype(np.int64), case.rules, "case"
        )
        checks.equal(run.outputs, outputs, f"{case}: register and naive outputs")
        checks.equal(sums[0], outputs, f"{case}: reference and naive outputs")
        checks.equal(run.hop_events + run.accumulator_events, events, f"{case}: register and naive overflow")
        checks.equal(counted[0], events, f"{case}: reference and naive overflow")
    for case in cases(seed, ("error",)):
        _check_error(checks, case)
    return checks


def _check_error(checks: Checks, case: Case) -> None:
    """Rule ``error`` must raise exactly where the sums leave their registers."""
    a, w, bias = case.operands.a, case.operands.w, case.operands.bias
    assert bias is not None
    _, events = naive.gemm(a.tolist(), w.tolist(), bias.tolist(), case.rules)
    try:
        run_gemm(case.dataflow, case.operands, case.array, case.rules, case.mode)
        raised = False
    except OverflowError:
        raised = True
    checks.expect(raised == bool(np.sum(events)), f"{case}: rule error raised={raised}")


def check_closed_forms(seed: int) -> Checks:
    """Rung 4: cycles, register and memory accesses and toggles in closed form = counted in the registers."""
    checks = Checks(covered=["cycles", "register and buffer accesses", "toggles", "isolated and overlapped"])
    for case in cases(seed, ("wrap", "saturate")):
        job = make_job(case.dataflow, case.operands, case.array, case.rules, case.mode)
        run = case.dataflow.register(job, True)
        gemm = case.operands.gemm
        checks.expect(
            run.cycles == case.dataflow.cycles(gemm, case.array, case.mode, None),
            f"{case}: {run.cycles} cycles stepped, closed form differs",
        )
        checks.expect(run.counts == case.dataflow.counts(gemm, case.array, None), f"{case}: accesses differ")
        checks.expect(run.toggles == case.dataflow.toggles(job), f"{case}: toggles differ")
    return checks
