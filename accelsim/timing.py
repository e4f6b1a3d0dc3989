"""What one layer does on the array: folds, cycles and accesses in closed form, for all dataflows at once.

With S_R the dimension that lies along the rows, S_C the one along the columns and T the streamed one,

====  ==============  ====  ====  ==================
flow  S_R             S_C   T     held in the PE
====  ==============  ====  ====  ==================
ws    ceil(k / p)     n     m     weight
is    ceil(k / p)     m     n     activation
os    m               n     ceil(k / p)  sum
====  ==============  ====  ====  ==================

where p products share a PE and a cycle. A layer has ``ceil(S_R / R) * ceil(S_C / C) * chunks * groups`` folds. With c
cycles per operation (bit-serial PEs) and MAC depth d, mode ``isolated`` takes ``2R + C + cT - 2 + d - 1`` cycles a
fold, ``overlapped`` ``Σ max(cT, R) + 2R + C - 2 + d - 1`` where the last fold counts cT, and ``scalesim`` is SCALE-Sim
v2/v3's printed count (see `accelsim.dataflow`, which these forms equal). All folds of a layer, its groups included,
follow each other without a gap; layers do not overlap on the array.

The cycles of a layer split into ``busy`` (cT summed: operands stream), ``weight_load`` (the held operand is loaded
while nothing streams) and ``fill_drain`` (the skew fills or empties, sums are shifted out).

Grouped layers are ``serial`` (a group at a time) or ``packed``: groups that leave room lie side by side on the
diagonal, zeros between them, which changes neither sums nor their order.
"""

from typing import NamedTuple

from numba import njit

from accelsim.codes import IS, ISOLATED, OS, SCALESIM, WS, ArrayCodes, ceil_div


class Mapping(NamedTuple):
    """A product laid on the array.

    Dimensions along rows, columns and time; PE rows per group of k; folds along k, columns and stream chunks; length
    of full and last chunk; folds of groups; PE operations of one group.
    """

    row_size: int
    column_size: int
    length: int
    row_folds: int
    column_folds: int
    chunks: int
    chunk: int
    last_chunk: int
    group_folds: int
    operations: int


@njit(cache=True)
def packed_groups(array: ArrayCodes, m: int, k: int, n: int, groups: int, products: int) -> int:
    """Return how many groups share a fold."""
    if not array.packed or groups == 1:
        return 1
    depth = ceil_div(k, products)
    rows = m if array.dataflow == OS else depth
    cols = m if array.dataflow == IS else n
    return int(min(groups, max(1, min(array.rows // rows, array.cols // cols))))


@njit(cache=True)
def lay(
    array: ArrayCodes, size: tuple[int, int, int], groups: int, products: int, stream_tile: int, pack: int
) -> Mapping:
    """Lay a product of `size` m, k, n on the array, `pack` groups in a fold.

    `stream_tile` 0 streams all at once; ``os`` ignores it.
    """
    m, k, n = size
    depth = ceil_div(k, products)
    if array.dataflow == OS:
        row_size, column_size, length = m, n, depth
        stream_tile = 0
    elif array.dataflow == WS:
        row_size, column_size, length = depth, n, m
    else:
        row_size, column_size, length = depth, m, n
    chunk = length if stream_tile == 0 else min(stream_tile, length)
    chunks = ceil_div(length, chunk)
    return Mapping(
        row_size,
        column_size,
        length,
        ceil_div(row_size, array.rows),
        ceil_div(column_size, array.cols),
        chunks,
        chunk,
        length - (chunks - 1) * chunk,
        ceil_div(groups, pack),
        m * n * depth,
    )


@njit(cache=True)
def array_cycles(array: ArrayCodes, mapping: Mapping, cycles: int) -> tuple[int, int, int, int, int]:
    """Return (folds, all, busy, weight_load, fill_drain) cycles of a layer; see the module."""
    rows, extra = array.rows, array.depth - 1
    per_chunk = mapping.row_folds * mapping.column_folds * mapping.group_folds
    folds = per_chunk * mapping.chunks
    busy = per_chunk * mapping.length * cycles
    skew = array.rows + array.cols - 2
    if array.mode == SCALESIM:
        fixed = skew if array.dataflow == OS else skew + rows
        total = folds * fixed + per_chunk * mapping.length - mapping.group_folds
        busy = min(total, per_chunk * mapping.length)
        return folds, total, busy, 0, total - busy
    if array.mode == ISOLATED:
        load = 0 if array.dataflow == OS else folds * rows
        total = folds * (2 * rows + array.cols - 2 + extra) + busy
        return folds, total, busy, load, total - busy - load
    whole, rest = mapping.chunk * cycles, mapping.last_chunk * cycles
    exposed = per_chunk * ((mapping.chunks - 1) * max(0, rows - whole) + max(0, rows - rest)) - max(0, rows - rest)
    tail = skew + extra
    if array.dataflow == OS:
        return folds, busy + exposed + rows + tail, busy, 0, exposed + rows + tail
    return folds, busy + exposed + rows + tail, busy, rows + exposed, tail
