"""Operands as the edges of an array read them: int32, laid out once per GEMM, zeros around them."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.arith import IntArray
from accelsim.dataflow.lanes import LANES, aligned, pitch

BLOCK = 64
"""Elements of k that a transposition takes at a time: their lines of a tile stay in the first-level cache."""


@njit(cache=True)
def _pieces(values, tiles, width):
    """tiles[tile, line, i] = values[line, tile * width + i]; return the largest magnitude."""
    low, high = np.int64(0), np.int64(0)
    for line in range(values.shape[0]):
        for tile in range(tiles.shape[0]):
            first = tile * width
            piece, source = tiles[tile, line], values[line, first : first + width]
            for i in range(source.size):
                value = np.int64(source[i])
                piece[i] = value
                low, high = min(low, value), max(high, value)
    return max(-low, high)


@njit(cache=True)
def _turned(values, tiles, width):
    """tiles[tile, k, i] = values[tile * width + i, k]; return the largest magnitude."""
    low, high = np.int64(0), np.int64(0)
    block = np.zeros((width, BLOCK), dtype=np.int32)
    for tile in range(tiles.shape[0]):
        lines, turned = values[tile * width : (tile + 1) * width], tiles[tile]
        for k0 in range(0, values.shape[1], BLOCK):
            count = min(BLOCK, values.shape[1] - k0)
            for i in range(lines.shape[0]):
                part, source = block[i], lines[i, k0 : k0 + count]
                for k in range(count):
                    value = np.int64(source[k])
                    part[k] = value
                    low, high = min(low, value), max(high, value)
            for k in range(count):
                line = turned[k0 + k]
                for i in range(lines.shape[0]):
                    line[i] = block[i, k]
    return max(-low, high)


@njit(cache=True)
def _largest_sums(tiles, fold_k, sums, totals):
    """Return the largest sum of magnitudes over a fold and over all k, of all columns."""
    fold, total = np.int64(0), np.int64(0)
    for tile in range(tiles.shape[0]):
        totals[:] = 0
        for k0 in range(0, tiles.shape[1], fold_k):
            sums[:] = 0
            for k in range(k0, min(k0 + fold_k, tiles.shape[1])):
                for c in range(sums.size):
                    sums[c] += abs(np.int64(tiles[tile, k, c]))
            for c in range(sums.size):
                fold = max(fold, sums[c])
                totals[c] += sums[c]
        for c in range(sums.size):
            total = max(total, totals[c])
    return fold, total


def by_columns(values: IntArray, cols: int, depth: int) -> tuple[NDArray[np.int32], int]:
    """Return ``[k, n]`` as ``[tile, depth, pitch]``: tiles of `cols` columns; and the largest magnitude."""
    tiles = _empty(-(-values.shape[1] // cols), depth, pitch(cols))
    return tiles, int(_pieces(np.ascontiguousarray(values), tiles, cols))


def by_rows(values: IntArray, rows: int, depth: int) -> tuple[NDArray[np.int32], int]:
    """Return ``[m, k]`` as ``[tile, depth, pitch]``: tiles of `rows` rows, turned; and the largest magnitude."""
    tiles = _empty(-(-values.shape[0] // rows), depth, pitch(rows))
    return tiles, int(_turned(np.ascontiguousarray(values), tiles, rows))


def lines(values: IntArray, count: int, width: int) -> tuple[NDArray[np.int32], int]:
    """Return ``[m, k]`` as ``[count, pitch]``, the pitch at least `width`; and the largest magnitude.

    The pitch is an odd number of vectors, so that neighbouring lines do not share the sets of a cache.
    """
    result = _empty(1, count, pitch(width) | LANES)
    return result[0], int(_pieces(np.ascontiguousarray(values), result, result.shape[2]))


def largest_sums(tiles: NDArray[np.int32], fold_k: int) -> tuple[int, int]:
    """Return the largest sum of magnitudes over any column's fold of k, and over any column."""
    sums = np.zeros((2, tiles.shape[2]), dtype=np.int64)
    fold, total = _largest_sums(tiles, fold_k, sums[0], sums[1])
    return int(fold), int(total)


def _empty(*shape: int) -> NDArray[np.int32]:
    return aligned(int(np.prod(shape)), np.int32).reshape(shape)
