"""One GEMM on one array: the call that the rest of the package makes.

`run_gemm` checks the call, steps the register engine of a dataflow, turns overflow under rule ``error`` into a clear
exception, and returns what happened.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import Accumulation, signed_range
from accelsim.dataflow.base import ArrayShape, Counts, Dataflow, Job, Operands, RegisterRun, Toggles, check_mode


@dataclass(frozen=True)
class GemmRun:
    """What one GEMM did on the array.

    Parameters
    ----------
    outputs
        int64 ``[m, n]``, the accumulators at the end.
    cycles
        Array cycles of the mode, as stepped.
    folds
        Fold table in the order of execution, dtype `FOLD_DTYPE`.
    hop_events, accumulator_events
        int64 ``[m, n]``: additions that overflowed while the sum moved, and in the accumulator (bias load included).
        Under OS there are no hops.
    counts
        Register and memory accesses, closed form.
    toggles
        Data-dependent activity as counted in the registers; ``None`` unless asked for.
    """

    outputs: NDArray[np.int64]
    cycles: int
    folds: NDArray[Any]
    hop_events: NDArray[np.int64]
    accumulator_events: NDArray[np.int64]
    counts: Counts
    toggles: Toggles | None = None

    @property
    def overflowed(self) -> NDArray[np.bool_]:
        """Outputs that met an overflow anywhere, ``[m, n]``."""
        return (self.hop_events > 0) | (self.accumulator_events > 0)


def run_gemm(
    dataflow: Dataflow,
    operands: Operands,
    array: ArrayShape,
    accumulation: Accumulation,
    mode: str = "isolated",
    *,
    toggles: bool = False,
    stream_tile: int | None = None,
) -> GemmRun:
    """Run one GEMM through every register of the array.

    Parameters
    ----------
    dataflow
        A value of `DATAFLOWS`.
    operands
        ``a[m, k]``, ``w[k, n]``, ``bias[n]`` and their widths.
    array
        Rows, columns, products per PE, MAC pipeline depth.
    accumulation
        Widths and rules; its `fold_k` must be the array's (``None`` under OS).
    mode
        ``isolated`` or ``overlapped``; ``scalesim`` is a formula, see `Dataflow.cycles`.
    toggles
        Whether to count data-dependent activity on the way.
    stream_tile
        Largest number of streamed elements per fold, ``None`` for all (WS, IS).

    Raises
    ------
    ValueError
        If the parts of the call contradict each other.
    OverflowError
        If a sum overflows a register whose rule is ``error``: names the first such output in (m, n) order, and the
        first addition in its own order.
    """
    job = make_job(dataflow, operands, array, accumulation, mode, stream_tile)
    run = dataflow.register(job, toggles)
    _raise_errors(dataflow, job, run)
    return GemmRun(
        outputs=run.outputs,
        cycles=run.cycles,
        folds=dataflow.folds(operands.gemm, array, stream_tile),
        hop_events=run.hop_events,
        accumulator_events=run.accumulator_events,
        counts=dataflow.counts(operands.gemm, array, stream_tile),
        toggles=run.toggles,
    )


def make_job(
    dataflow: Dataflow,
    operands: Operands,
    array: ArrayShape,
    accumulation: Accumulation,
    mode: str = "isolated",
    stream_tile: int | None = None,
) -> Job:
    """Check the parts of a call against each other.

    Raises
    ------
    ValueError
        If the mode cannot run, or `accumulation` describes another array.
    """
    check_mode(mode)
    if mode == "scalesim":
        raise ValueError("run_gemm: mode 'scalesim' is a formula and cannot run; use isolated or overlapped")
    fold_k = None if dataflow.stationary == "output" else array.rows * array.products_per_pe
    if (accumulation.fold_k, accumulation.products_per_hop) != (fold_k, array.products_per_pe):
        raise ValueError(
            f"run_gemm: Accumulation must have fold_k={fold_k} and products_per_hop={array.products_per_pe} on this "
            f"array (got {accumulation.fold_k} and {accumulation.products_per_hop}); derive it from the array"
        )
    return Job(operands, array, accumulation, mode, stream_tile)


def _raise_errors(dataflow: Dataflow, job: Job, run: RegisterRun) -> None:
    rules = job.accumulation
    fatal = np.zeros(run.outputs.shape, dtype=np.bool_)
    if rules.fold_k is not None and rules.psum_overflow == "error":
        fatal |= run.hop_events > 0
    if rules.acc_overflow == "error":
        fatal |= run.accumulator_events > 0
    if fatal.any():
        m, n = (int(index) for index in np.argwhere(fatal)[0])
        raise OverflowError(f"{dataflow.name} array: output (m={m}, n={n}): {_first_overflow(job, m, n)}")


def _first_overflow(job: Job, m: int, n: int) -> str:
    """Replay one output in exact integers and describe its first overflow under a rule ``error``."""
    rules = job.accumulation
    a, w = job.operands.a[m].tolist(), job.operands.w[:, n].tolist()
    bias = 0 if job.operands.bias is None else int(job.operands.bias[n])
    step = rules.products_per_hop
    fold_k = rules.fold_k or step
    psum = (rules.psum_bits, rules.psum_overflow, "psum")
    memory = (rules.acc_bits, rules.acc_overflow, "acc")
    total, text = _obey(bias, memory, "loading the bias")
    for fold, k0 in enumerate(range(0, len(a), fold_k)):
        if text:
            return text
        moving = 0
        for row, k in enumerate(range(k0, min(k0 + fold_k, len(a)), step)):
            product = sum(x * y for x, y in zip(a[k : k + step], w[k : k + step], strict=True))
            place = f"fold {fold} row {row} (k={k}), {moving} + {product}"
            moving, text = (moving + product, "") if rules.fold_k is None else _obey(moving + product, psum, place)
            if text:
                return text
        place = f"k={k0}" if rules.fold_k is None else f"fold {fold} in the accumulator memory"
        total, text = _obey(total + moving, memory, f"{place}, {total} + {moving}")
    if not text:
        raise AssertionError("the register engine saw an overflow that exact integers do not show")
    return text


def _obey(total: int, rule: tuple[int, str, str], place: str) -> tuple[int, str]:
    bits, overflow, name = rule
    low, high = signed_range(bits)
    if low <= total <= high:
        return total, ""
    if overflow == "error":
        return total, (
            f"{place} = {total} leaves {low}..{high} of {name}_bits={bits}; widen it or let it wrap or saturate"
        )
    held = min(max(total, low), high) if overflow == "saturate" else (total - low) % (1 << bits) + low
    return held, ""
