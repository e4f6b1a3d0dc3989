"""GEMMs on arrays for tests of the array level: one strategy for all dataflows, rules and ragged shapes."""

import numpy as np
from hypothesis import strategies as st

from accelsim.arith import Accumulation
from accelsim.dataflow import DATAFLOWS, ArrayShape, Dataflow, Job, Operands, make_job

MODES = ("isolated", "overlapped")
SIZE = st.integers(1, 7)
WIDE = st.sampled_from([1, 2, 3, 5, 15, 16, 17, 33])
"""Widths on both sides of the engine's vectors."""


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
def jobs(
    draw: st.DrawFn,
    name: str,
    rules: tuple[str, ...] = ("wrap", "saturate"),
    widest: int = 8,
    columns: st.SearchStrategy[int] = SIZE,
) -> Job:
    """A GEMM of any small shape and any widths of 2 bits and more on any small array."""
    dataflow = DATAFLOWS[name]
    array = ArrayShape(
        draw(SIZE), draw(columns), draw(st.sampled_from([1, 1, 2, 3, 4])), draw(st.sampled_from([1, 1, 2, 4]))
    )
    m, k, n = draw(columns), draw(st.integers(1, 20)), draw(columns)
    act_bits, weight_bits = draw(st.integers(2, widest)), draw(st.integers(2, widest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a_low = draw(st.sampled_from([0, -(2 ** (act_bits - 1))]))
    a = rng.integers(a_low, a_low + 2**act_bits, (m, k))
    w = rng.integers(-(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1), (k, n))
    a[rng.random(a.shape) < draw(st.sampled_from([0, 0.5]))] = 0
    bias = draw(st.sampled_from([None, rng.integers(-1000, 1000, n)]))
    top = 34 if widest <= 8 else 44
    accumulator = accumulation(
        dataflow, array, draw(st.integers(4, top)), draw(st.integers(4, top)), draw(st.sampled_from(rules))
    )
    tile = None if dataflow.stationary == "output" else draw(st.sampled_from([None, 1, 2, 3]))
    operands = Operands(a, w, bias, act_bits, weight_bits)
    return make_job(dataflow, operands, array, accumulator, draw(st.sampled_from(MODES)), tile)


def bias_of(job: Job) -> list[int]:
    bias = job.operands.bias
    return [0] * job.operands.gemm.n if bias is None else bias.tolist()
