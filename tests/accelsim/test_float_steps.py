"""Float32 steps to the bit: one rounding where one is promised, and sums in the order that is promised."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accelsim import reference
from accelsim.float_steps import float32_window_means, fused_multiply_add, fused_multiply_add_scalar
from accelsim.program import AvgPool, Program, Tensor
from quant import oracle

FLOATS = st.floats(-(2.0**20), 2.0**20, width=32) | st.integers(-300, 300).map(float)
TINY = st.floats(-(2.0**-40), 2.0**-40, width=32).filter(lambda v: v == 0 or abs(v) > 2.0**-60)


@given(a=FLOATS, b=FLOATS, c=FLOATS | TINY)
def test_multiply_and_add_round_once(a: float, b: float, c: float) -> None:
    found = float(fused_multiply_add(a, b, c))
    assert found == fused_multiply_add_scalar(a, b, c)
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    step = Fraction(float(np.spacing(np.float32(abs(found)))))
    assert abs(Fraction(found) - exact) <= step / 2


def test_a_sum_that_two_roundings_get_wrong() -> None:
    # 1 + 2**-24 is a tie in float32; a part of 2**-60 decides it, which float64 drops
    a, b, c = 1.0 + 2.0**-12, 1.0 - 2.0**-12, 2.0**-24 + 2.0**-24
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert float(fused_multiply_add(a, b, c)) == float(np.float32(float(exact)))
    tie = float(fused_multiply_add(1.0, 1.0 + 2.0**-23, 2.0**-24 + 2.0**-47))
    assert tie == 1 + 2.0**-22


@given(
    codes=st.lists(st.integers(0, 255), min_size=12, max_size=12),
    zeros=st.tuples(st.integers(0, 255), st.integers(0, 255)),
    scale=st.floats(2.0**-8, 2.0),
    divisor=st.floats(2.0**-8, 2.0),
    count_padding=st.booleans(),
)
def test_window_means_of_both_executors(
    codes: list[int], zeros: tuple[int, int], scale: float, divisor: float, count_padding: bool
) -> None:
    tensors = {
        "x": Tensor(name="x", shape=(3, 4, 1), bits=8, signed=False, low=0, high=255),
        "y": Tensor(name="y", shape=(3, 2, 1), bits=8, signed=False, low=0, high=255),
    }
    op = AvgPool(
        name="pool", inputs=("x",), output="y", kernel=(2, 3), stride=(1, 2), padding=(0, 1, 1, 1),
        count_padding=count_padding, multiplier=scale, divisor=divisor, zero_in=zeros[0], zero_out=zeros[1],
        low=0, high=255, rule="float32_window",
    )  # fmt: skip
    program = Program(name="p", tensors=tensors, inputs=("x",), outputs=("y",), ops=(op,))
    x = {"x": np.array(codes).reshape(1, 3, 4, 1)}
    np.testing.assert_array_equal(reference.run(program, x).values["y"], oracle.run(program, x).values["y"])


def test_window_means_add_in_float32_and_divide_twice() -> None:
    windows = np.array([3, 1, 1, 0]).reshape(1, 2, 2, 1)
    f = np.float32
    scaled = [f(v) * f(0.1) for v in (3, 1, 1, 0)]
    mean = (((scaled[0] + scaled[1]) + scaled[2]) + scaled[3]) / f(4) / f(0.05)
    assert float32_window_means(windows, np.array([[4]]), (0.1, 0.05), 7).item() == round(float(mean + f(7)))
