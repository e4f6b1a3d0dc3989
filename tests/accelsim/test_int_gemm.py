"""Exact integer products: equal to int64 at every width, corner values and depth, whatever engine serves them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim import int_gemm
from accelsim.int_gemm import int_matmul

KINDS = [np.uint8, np.int8, np.int16, np.int32]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", [np.int8, np.int16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (17, 300, 9), (5, 4700, 3)])
@pytest.mark.parametrize("corner", [True, False])
def test_products_equal_int64(
    first: type, second: type, shape: tuple[int, int, int], corner: bool, rng: np.random.Generator
) -> None:
    m, k, n = shape
    a_range, b_range = (np.iinfo(t) if np.iinfo(t).bits < 32 else np.iinfo(np.int16) for t in (first, second))
    if corner:
        a = rng.choice([a_range.min, a_range.max], (m, k)).astype(first)
        b = rng.choice([b_range.min, b_range.max], (k, n)).astype(second)
    else:
        a = rng.integers(a_range.min, a_range.max + 1, (m, k)).astype(first)
        b = rng.integers(b_range.min, b_range.max + 1, (k, n)).astype(second)
    exact = a.astype(np.int64) @ b.astype(np.int64)
    bound = int((np.abs(a.astype(np.int64)).max() * np.abs(b.astype(np.int64)).sum(axis=0)).max())
    got = int_matmul(a, b, bound)
    assert np.array_equal(got, exact)
    assert got.dtype == (np.int32 if bound < 2**31 else np.int64)


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_float_path_is_exact_where_it_is_chosen(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.choice([-128, 127], (2, k)).astype(np.int8), rng.choice([-128, 127], (k, 2)).astype(np.int8)
    assert np.array_equal(int_gemm._float_matmul(a, b, np.int32), a.astype(np.int64) @ b.astype(np.int64))


def test_engine_falls_back_where_the_self_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int_gemm, "int_mm_is_exact", lambda unsigned: False)
    monkeypatch.setattr(int_gemm.torch, "_int_mm", lambda *_: pytest.fail("an inexact engine was used"))
    a, b = np.full((2, 4608), 127, dtype=np.int8), np.full((4608, 3), 127, dtype=np.int8)
    assert np.array_equal(int_matmul(a, b, 127 * 127 * 4608), a.astype(np.int64) @ b.astype(np.int64))


def test_self_test_refuses_an_engine_that_saturates_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    def pairwise_int16(a: "int_gemm.torch.Tensor", b: "int_gemm.torch.Tensor") -> "int_gemm.torch.Tensor":
        first, second = a.numpy().astype(np.int64), b.numpy().astype(np.int64)
        k = first.shape[1] // 2 * 2
        pairs = first[:, None, :k] * second.T[None, :, :k]
        sums = pairs.reshape(*pairs.shape[:2], -1, 2).sum(-1).clip(-(2**15), 2**15 - 1).sum(-1)
        rest = first[:, k:] @ second[k:]
        return int_gemm.torch.from_numpy((sums + rest).astype(np.int32))

    monkeypatch.setattr(int_gemm.torch, "_int_mm", pairwise_int16)
    int_gemm.int_mm_is_exact.cache_clear()
    try:
        assert not int_gemm.int_mm_is_exact(True)
        assert not int_gemm.int_mm_is_exact(False)
    finally:
        int_gemm.int_mm_is_exact.cache_clear()


@pytest.mark.parametrize("shape", [(2, 1, 2), (1, 1, 3), (1, 5, 4), (4, 5, 1), (1, 1, 1)])
def test_axes_of_length_one_with_any_stride_are_multiplied_right(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a = np.arange(m * k, dtype=np.uint8).reshape(k, m).T
    b = np.ascontiguousarray(np.arange(1, k * n + 1, dtype=np.int8).reshape(n, k).T)
    for _ in range(20):
        assert np.array_equal(int_matmul(a, b, 2**20), a.astype(np.int64) @ b.astype(np.int64))
