"""Exact integer matrix products at the speed of the machine underneath.

Three engines, the fastest that is proved exact for the operands at hand: ``torch._int_mm`` for 8-bit operands where a
self-test with saturating corner values passes (x86 CPUs without VNNI return wrong sums), float32 BLAS in chunks of k
whose sums stay below 2**24, and int64. This is the one file of the package that imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

FLOAT32_EXACT = 2**24
"""Largest magnitude up to which every integer is a float32 (IEEE 754 binary32 has a 24-bit significand)."""

FLOAT64_EXACT = 2**53
"""The same for float64."""


@lru_cache(maxsize=2)
def int_mm_is_exact(unsigned: bool) -> bool:
    """Tell whether ``torch._int_mm`` gives exact sums on this CPU, by corner values that make inexact kernels saturate.

    Parameters
    ----------
    unsigned
        Whether the first operand is uint8 rather than int8.
    """
    low, high = (0, 255) if unsigned else (-128, 127)
    pattern = np.array([high, high, low, low, high, 1, low, 127], dtype=np.int64)
    kind = np.uint8 if unsigned else np.int8
    rng = np.random.default_rng(0)
    for k in (1, 7, 64, 577):
        first = np.vstack(
            [np.resize(pattern, k), np.full(k, high), np.full(k, low), rng.integers(low, high + 1, (30, k))]
        )
        second = np.vstack(
            [np.full(k, 127), np.full(k, -128), np.resize(pattern - low - 128, k), rng.integers(-128, 128, (14, k))]
        ).T
        try:
            product = torch._int_mm(
                torch.from_numpy(first.astype(kind)), torch.from_numpy(np.ascontiguousarray(second.astype(np.int8)))
            ).numpy()
        except RuntimeError:
            return False
        if not np.array_equal(product, first @ second.astype(np.int8).astype(np.int64)):
            return False
    return True


def int_matmul(first: NDArray[Any], second: NDArray[Any], bound: int) -> NDArray[Any]:
    """Return ``first @ second`` exactly.

    Parameters
    ----------
    first, second
        Integer arrays ``[m, k]`` and ``[k, n]``.
    bound
        No partial sum of any part of k, in any order, exceeds this magnitude.

    Returns
    -------
    int32 ``[m, n]`` where `bound` fits in 31 bits, else int64.
    """
    bytes_wide = bound < 2**31 and second.dtype == np.int8 and first.dtype in (np.int8, np.uint8)
    if bytes_wide and int_mm_is_exact(first.dtype == np.uint8):
        return torch._int_mm(_strided(first), _strided(second)).numpy()
    kind = np.int32 if bound < 2**31 else np.int64
    if bound < FLOAT64_EXACT:
        return _float_matmul(first, second, kind)
    return np.matmul(first.astype(np.int64), second.astype(np.int64))


def _strided(matrix: NDArray[Any]) -> torch.Tensor:
    """Hand a matrix to torch with its strides spelled out: row-major, or column-major as a transposed view.

    Along an axis of length one numpy keeps any stride, and ``torch._int_mm`` 2.13 reads a ``[1, n]`` operand with
    strides (1, 1) as if it were transposed: its result is then uninitialised memory.
    """
    if matrix.flags.c_contiguous and 1 not in matrix.shape:
        return torch.from_numpy(matrix)
    if matrix.flags.f_contiguous and 1 not in matrix.shape:
        return torch.from_numpy(matrix.T).t()
    return torch.from_numpy(np.array(matrix, order="C", copy=True).ravel()).reshape(matrix.shape)


def _float_matmul(first: NDArray[Any], second: NDArray[Any], kind: type) -> NDArray[Any]:
    """Multiply by BLAS: float32 over chunks of k that are exact whatever the order of additions, else float64."""
    k = first.shape[1]
    largest = _magnitude(first) * _magnitude(second)
    chunk = FLOAT32_EXACT // largest if largest else k
    if chunk < min(k, 64):
        return np.matmul(first.astype(np.float64), second.astype(np.float64)).astype(kind)
    narrow, columns = first.astype(np.float32), second.astype(np.float32)
    if chunk >= k:
        return np.matmul(narrow, columns).astype(kind)
    total: NDArray[Any] = np.zeros((first.shape[0], second.shape[1]), dtype=kind)
    for start in range(0, k, chunk):
        total += np.matmul(narrow[:, start : start + chunk], columns[start : start + chunk]).astype(kind)
    return total


def _magnitude(values: NDArray[Any]) -> int:
    return max(abs(int(values.min(initial=0))), abs(int(values.max(initial=0))))


@contextmanager
def limit_threads() -> Iterator[None]:
    """Keep torch to one thread in the calling thread while micro-batches run in parallel themselves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def use_one_thread() -> None:
    """Keep torch to one thread in the calling thread, for a worker's whole life."""
    torch.set_num_threads(1)
