"""Where streams and sums lie once skewed, as the edges of a stationary array see them.

Row r of the array sees element t of a fold r cycles after row 0, and column c puts out its sum c cycles after column
0. Laid out by cycle, what enters and what leaves in one cycle is one contiguous row. A stream is laid out k fold by
k fold, the accumulator memory column tile by column tile; within each, chunks of the stream follow one another.
"""

# mypy: disable-error-code="no-untyped-def"

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.dataflow.base import ArrayShape, ceil_div

BLOCK = 32
"""Elements skewed at a time, so that source and target rows stay in the first-level cache."""


@njit(cache=True)
def _skew_rows(values, skewed, chunks):
    """skewed[k fold, t + r, lane, r] = values[t, k], chunk by chunk: chunks[i] = (first t, length, first row)."""
    size, (count, _, lanes, rows) = values.shape[1], skewed.shape
    for i in range(chunks.shape[0]):
        first, length, place = chunks[i, 0], chunks[i, 1], chunks[i, 2]
        for block in range(0, length, BLOCK):
            for fold in range(count):
                for t in range(block, min(block + BLOCK, length)):
                    for lane in range(lanes):
                        k0 = fold * rows * lanes + lane
                        for r in range(min(rows, (size - k0 + lanes - 1) // lanes)):
                            skewed[fold, place + t + r, lane, r] = values[first + t, k0 + r * lanes]


@njit(cache=True)
def _gather_columns(skewed, values, chunks):
    """values[t, c] = skewed[column tile, t + c, c], chunk by chunk as `_skew_rows`."""
    count, _, cols = skewed.shape
    for i in range(chunks.shape[0]):
        first, length, place = chunks[i, 0], chunks[i, 1], chunks[i, 2]
        for block in range(0, length, BLOCK):
            for tile in range(count):
                for t in range(block, min(block + BLOCK, length)):
                    for c in range(min(cols, values.shape[1] - tile * cols)):
                        values[first + t, tile * cols + c] = skewed[tile, place + t + c, c]


@dataclass(frozen=True)
class Skew:
    """The skewed places of one GEMM's folds.

    Parameters
    ----------
    table
        int64 ``[folds, 7]``: first stream row, length, k0, k1, c0, c1, first memory row.
    total
        Elements in the stream.
    array
        The array.
    """

    table: NDArray[np.int64]
    total: int
    array: ArrayShape
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, table: NDArray[np.int64], total: int, array: ArrayShape) -> "Skew":
        """Place folds given as ``[folds, 6]``: t0, length, k0, k1, c0, c1."""
        starts, first = np.unique(table[:, 0], return_index=True)
        chunk = np.searchsorted(starts, table[:, 0])
        k_fold = table[:, 2] // (array.rows * array.products_per_pe)
        tile = table[:, 4] // array.cols
        placed = np.empty((len(table), 7), dtype=np.int64)
        placed[:, 1:6] = table[:, 1:]
        skew = cls(placed, total, array, starts, table[first, 1])
        placed[:, 0] = k_fold * skew._span(array.rows) + skew._chunks(array.rows)[chunk, 2]
        placed[:, 6] = tile * skew._span(array.cols) + skew._chunks(array.cols)[chunk, 2]
        return skew

    def stream(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Skew ``[t, k]`` by row into ``[u, lanes * rows]``, zeros around it."""
        rows, lanes = self.array.rows, self.array.products_per_pe
        k_folds, span = ceil_div(values.shape[1], rows * lanes), self._span(rows)
        skewed = aligned(k_folds * span * lanes * rows, np.int32).reshape(k_folds, span, lanes, rows)
        _skew_rows(values, skewed, self._chunks(rows))
        return skewed.reshape(-1, lanes * rows)

    def memory(self, initial: NDArray[Any], width: int, per_column: bool) -> NDArray[Any]:
        """Return the skewed memory ``[u, cols]`` holding an initial value per column ``[c]`` or per element ``[t]``."""
        cols, dtype = self.array.cols, initial.dtype
        tiles, span = ceil_div(width, cols), self._span(cols)
        memory = np.empty((tiles, span, cols), dtype=dtype)
        if per_column:
            padded = np.zeros(tiles * cols, dtype=dtype)
            padded[:width] = initial
            memory[:] = padded.reshape(tiles, 1, cols)
            return memory.reshape(-1, cols)
        memory[0] = 0
        for first, length, place in self._chunks(cols).tolist():
            for c in range(cols):
                memory[0, place + c : place + c + length, c] = initial[first : first + length]
        memory[1:] = memory[0]
        return memory.reshape(-1, cols)

    def gather(self, memory: NDArray[Any], width: int) -> NDArray[np.int64]:
        """Return a skewed memory's values ``[t, c]``."""
        cols = self.array.cols
        values = np.empty((self.total, width), dtype=np.int64)
        _gather_columns(memory.reshape(-1, self._span(cols), cols), values, self._chunks(cols))
        return values

    def _span(self, depth: int) -> int:
        """Rows that all chunks take up when skewed by 0 .. depth - 1."""
        return self.total + len(self.starts) * (depth - 1)

    def _chunks(self, depth: int) -> NDArray[np.int64]:
        places = self.starts + np.arange(len(self.starts)) * (depth - 1)
        return np.stack([self.starts, self.lengths, places], axis=1)


def aligned(count: int, dtype: type[np.integer[Any]]) -> NDArray[Any]:
    """Return zeros that start at a cache line, for whole-vector stores."""
    raw = np.zeros(count * np.dtype(dtype).itemsize + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * np.dtype(dtype).itemsize].view(dtype)


def double(side: int, hop: int, dtype: type[np.integer[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two sides of `side` elements, seen from what arrives and, `hop` elements on, from the registers."""
    lead = -hop % (64 // np.dtype(dtype).itemsize)
    memory = aligned(lead + 2 * side + hop, dtype)[lead:]
    return memory[: 2 * side].reshape(2, side), memory[hop : hop + 2 * side].reshape(2, side)
