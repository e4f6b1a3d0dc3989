"""Operands as the edges of an array read them: int32, tile by tile, zeros around them, each line of PEs contiguous."""

# mypy: disable-error-code="no-untyped-def"

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.arith import IntArray
from accelsim.dataflow.lanes import aligned, pitch


@njit(cache=True)
def _columns(values, tiles, cols):
    """tiles[tile, k, c] = values[k, tile * cols + c]."""
    for tile in range(tiles.shape[0]):
        first, used = tile * cols, min(cols, values.shape[1] - tile * cols)
        for k in range(values.shape[0]):
            for c in range(used):
                tiles[tile, k, c] = values[k, first + c]


@njit(cache=True)
def _rows(values, tiles, rows, lanes):
    """tiles[tile, k / lanes, r * lanes + k mod lanes] = values[tile * rows + r, k]."""
    for tile in range(tiles.shape[0]):
        lines = values[tile * rows : (tile + 1) * rows]
        for k in range(lines.shape[1]):
            line, lane = tiles[tile, k // lanes], k % lanes
            for r in range(lines.shape[0]):
                line[r * lanes + lane] = lines[r, k]


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


def by_columns(values: IntArray, cols: int, depth: int) -> NDArray[np.int32]:
    """Return ``[k, n]`` as ``[tile, depth, pitch]``: tiles of `cols` columns, k rounded up to `depth`."""
    tiles = _empty(-(-values.shape[1] // cols), depth, pitch(cols))
    _columns(values, tiles, cols)
    return tiles


def by_rows(values: IntArray, rows: int, depth: int, lanes: int = 1) -> NDArray[np.int32]:
    """Return ``[m, k]`` as ``[tile, depth / lanes, pitch]``: tiles of `rows` rows, a row's lanes side by side."""
    tiles = _empty(-(-values.shape[0] // rows), depth // lanes, pitch(rows * lanes))
    _rows(values, tiles, rows, lanes)
    return tiles


def largest_sums(tiles: NDArray[np.int32], fold_k: int) -> tuple[int, int]:
    """Return the largest sum of magnitudes over any column's fold of k, and over any column."""
    sums = np.zeros((2, tiles.shape[2]), dtype=np.int64)
    fold, total = _largest_sums(tiles, fold_k, sums[0], sums[1])
    return int(fold), int(total)


def largest(values: NDArray[Any]) -> int:
    """Return the largest magnitude."""
    return max(-int(values.min()), int(values.max()))


def _empty(*shape: int) -> NDArray[np.int32]:
    return aligned(int(np.prod(shape)), np.int32).reshape(shape)
