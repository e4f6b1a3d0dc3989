"""A schedule as tiles: what the DRAM channel, the array and the vector unit do for each, in cycles.

One row of a tile table is one tile, or a run of equal ones. `accelsim.memory_events` plays the table as an
event-driven simulation, `accelsim.memory_recurrence` solves it; this is what they agree on:

* One DMA engine per core issues transfers in a fixed order on the DRAM channel, each as soon as the channel is free and
  what it depends on has happened. Read data can be used `latency` cycles after the transfer has ended.
* When the array has finished tile i - 1, the engine first stores the results of tile i - 1 (when they are there), then
  fetches what tile i needs and nobody has fetched, then what is needed next, where there is a second half to put it in:
  the next block of activations of this layer, if tile i begins a block of them or the layer; and the next block of
  weights, of this layer or of the next that has any, if tile i begins a block of them or the network.
* A layer begins when the layer before it has left the array and the vector unit. Its first activations from DRAM are
  fetched from then on, and after the stores of the layer before.
* A tile runs on the array in `steps` of equal length; the results of a step go through the requantizer while the array
  goes on. A step needs a free half of the accumulator buffer: one whose results have left.
* Tiles of the vector unit hold the array idle.

Kinds of rows: a product on the array, a vector op, and the writing of duplicated channels (``copy_pass``).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.codes import ISOLATED, OS, WS, MachineCodes, ceil_div, transfer_cycles
from accelsim.layers import VECTOR
from accelsim.tiling import footprint

ON_ARRAY, ON_VECTOR, DUPLICATION = 0, 1, 2

MAX_ROWS = 1 << 24
"""Most rows of a tile table: 2.4 GB reserved, of which a fraction is touched."""

TILE_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "layer", "kind", "repeat", "first",
            # DRAM cycles: a new block of weights, new activations (0: the block stays), results
            "load_weights", "load_acts", "store",
            # steps on the array, cycles of each and what the first takes more; requantizer: each, and the last more
            "steps", "array", "array_rest", "vector", "vector_rest",
            # of the array's cycles: folds, cycles that operands stream, and what narrow ports add
            "folds", "busy", "stretch",
        )
    ]
)  # fmt: skip
"""One tile, `repeat` times; the first of a layer is a row of its own."""


def tile_table(layers: NDArray[Any], plan: NDArray[Any], codes: MachineCodes, places: NDArray[np.int64]) -> Any:
    """Return the tiles of a schedule in order of execution, dtype `TILE_DTYPE`."""
    rows = _most_rows(plan)
    if rows > MAX_ROWS:
        raise ValueError(f"simulate: up to {rows} runs of tiles, at most {MAX_ROWS} are timed; enlarge the buffers")
    tiles = np.zeros(rows, dtype=TILE_DTYPE)
    used = _fill(layers, plan, codes, places, tiles)
    return tiles[:used]


def _most_rows(plan: NDArray[Any]) -> int:
    """Return a number of rows that is enough: the inner loop of a layer takes at most three."""
    trips = np.sort(np.stack([plan["trips_m"], plan["trips_k"], plan["trips_n"]]), axis=0)
    groups = np.where(plan["trips_m"] * plan["trips_k"] * plan["trips_n"] == 1, 3, plan["trips_g"])
    # Whatever the order, leaving out a loop leaves at most the two largest.
    return int((groups * trips[2] * trips[1] * 3 + 1).sum())


class Feeds(NamedTuple):
    """How fast the buffers feed the array in one layer.

    Cycles of an operation; bits that one streamed operand of every row needs of a buffer and what its port gives a
    cycle, for two buffers; cycles in which a fold's held operands are loaded.
    """

    steps: int
    need: int
    port: int
    other_need: int
    other_port: int
    load: int


@njit(cache=True)
def feeds(row: Any, codes: MachineCodes) -> Feeds:
    """Return how fast the buffers feed the array; loaders smooth what a fold takes over the fold."""
    array, lanes = codes.array, row.products
    depth = ceil_div(row.k, lanes) * row.pack
    if array.dataflow == OS:
        act = min(array.rows, row.m * row.pack) * lanes * row.act_bits
        weight = min(array.cols, row.n * row.pack) * lanes * row.weight_bits
        return Feeds(row.steps, act, codes.act.port, weight, codes.weight.port, array.rows)
    rows = min(array.rows, depth)
    cols = min(array.cols, (row.n if array.dataflow == WS else row.m) * row.pack)
    sums = cols * codes.sum_bits
    acts, weights = lanes * row.act_bits, lanes * row.weight_bits
    if array.dataflow == WS:
        load = ceil_div(rows * cols * weights, codes.weight.port)
        return Feeds(row.steps, rows * acts, codes.act.port, sums, codes.sums.port, max(array.rows, load))
    load = ceil_div(rows * cols * acts, codes.act.port)
    return Feeds(row.steps, rows * weights, codes.weight.port, sums, codes.sums.port, max(array.rows, load))


@njit(cache=True)
def unhindered(feed: Feeds, rows: int) -> Feeds:
    """Return the feeds of buffers with wide ports."""
    return Feeds(feed.steps, 0, 1, 0, 1, rows)


@njit(cache=True)
def stream_cycles(length: int, feed: Feeds) -> int:
    """Return the cycles in which `length` operands stream."""
    first, second = ceil_div(length * feed.need, feed.port), ceil_div(length * feed.other_need, feed.other_port)
    return max(length * feed.steps, first, second)


@njit(cache=True)
def fold_cycles(codes: MachineCodes, length: int, feed: Feeds) -> int:
    """Return what a fold of `length` streamed operands adds to a running array."""
    array = codes.array
    if array.mode == ISOLATED:
        return feed.load + array.rows + array.cols - 2 + array.depth - 1 + stream_cycles(length, feed)
    return max(stream_cycles(length, feed), feed.load)


@njit(cache=True)
def edge_cycles(codes: MachineCodes, length: int, feed: Feeds) -> tuple[int, int]:
    """Return what the first and the last fold of a layer take more, the last streaming `length`."""
    array = codes.array
    if array.mode == ISOLATED:
        return 0, 0
    slack = max(0, feed.load - stream_cycles(length, feed))
    tail = array.rows + array.cols - 2 + array.depth - 1 - slack
    return (0, array.rows + tail) if array.dataflow == OS else (feed.load, tail)


class TileFolds(NamedTuple):
    """Folds of a tile: all, those per stream chunk, chunks, length of a chunk and of the last, steps with results."""

    all: int
    each: int
    chunks: int
    chunk: int
    last: int
    steps: int


@njit(cache=True)
def tile_folds(row: Any, codes: MachineCodes, m: int, k: int, n: int, groups: int) -> TileFolds:
    """Lay a tile on the array."""
    array = codes.array
    depth = ceil_div(k, row.products)
    packs = ceil_div(groups, row.pack)
    if array.dataflow == OS:
        folds = packs * (1 if row.pack > 1 else ceil_div(m, array.rows) * ceil_div(n, array.cols))
        return TileFolds(folds, folds, 1, depth, depth, folds)
    length, cols = (m, n) if array.dataflow == WS else (n, m)
    column_folds = packs * ceil_div(cols, array.cols)
    each = column_folds * ceil_div(depth, array.rows)
    chunks = ceil_div(length, row.stream_tile)
    last = length - (chunks - 1) * row.stream_tile
    return TileFolds(each * chunks, each, chunks, row.stream_tile, last, column_folds * chunks)


@njit(cache=True)
def _tile_array(row: Any, folds: TileFolds, codes: MachineCodes, feed: Feeds, at: tuple[bool, bool, bool]) -> int:
    """Return the array cycles of a tile; `at` tells whether it is a layer's first and last, and the last along k."""
    first, last, ends = at
    length = folds.last
    if codes.array.dataflow == OS and row.trips_k > 1:
        # A part of one fold: sums stay, the array holds still between parts, and they leave it once.
        cycles, length = stream_cycles(folds.last, feed), ceil_div(row.k, row.products)
        if ends:
            cycles += fold_cycles(codes, length, feed) - stream_cycles(length, feed)
    else:
        cycles = (folds.chunks - 1) * fold_cycles(codes, folds.chunk, feed)
        cycles = folds.each * (cycles + fold_cycles(codes, folds.last, feed))
    head, tail = edge_cycles(codes, length, feed)
    return cycles + (head if first else 0) + (tail if last else 0)


@njit(cache=True)
def _share(whole: int, part: float) -> int:
    return int(np.ceil(whole * part - 1e-6))


@njit(cache=True)
def _fill_tile(
    layer: Any,
    row: Any,
    codes: MachineCodes,
    sizes: tuple[int, int, int, int],
    at: tuple[bool, bool, bool, bool],
    fresh: tuple[bool, bool],
    tile: Any,
) -> None:
    """Fill in one tile of a product.

    `sizes` are its m, k, n and groups; `at` tells whether it is the layer's first and last tile, and the first and last
    along k; `fresh` whether its block of weights and of activations is a new one.
    """
    m, k, n, groups = sizes
    first, last, starts, ends = at
    part = (m / row.m) * (n / row.n) * (groups / row.groups)
    weights = (k / row.k) * (n / row.n) * (groups / row.groups)
    folds = tile_folds(row, codes, m, k, n, groups)
    feed = feeds(row, codes)
    edges = (first, last, ends)
    cycles = _tile_array(row, folds, codes, feed, edges)
    tile.stretch = cycles - _tile_array(row, folds, codes, unhindered(feed, codes.array.rows), edges)
    tile.folds = folds.all if ends or codes.array.dataflow != OS else 0
    tile.busy = folds.each * ((folds.chunks - 1) * folds.chunk + folds.last) * row.steps
    tile.steps = folds.steps if ends else 1
    tile.array, tile.array_rest = cycles // tile.steps, cycles % tile.steps
    if ends:
        elements = ceil_div(_share(row.requantized, part), codes.requantizer_lanes)
        tile.vector, tile.vector_rest = elements // tile.steps, elements % tile.steps
    params = row.fetch_weights if first else 0
    if fresh[0]:
        params += _share(row.weight_bytes, weights)
    tile.load_weights = transfer_cycles(params, codes.bytes_per_cycle)
    acts = row.fetch_first if first and row.copies == 0 else 0
    if fresh[1] and not row.act_kept:
        acts += _share(footprint(layer, row, m, k), groups / row.pack)
    if fresh[0] and not row.second_kept:
        acts += _share(row.second_bytes, weights)
    sums = ceil_div(m * n * groups * codes.sum_bits, 8)
    stored = _share(row.output_bytes, part) if ends and row.store_output else 0
    if row.spilled:
        acts += 0 if starts else sums
        stored += 0 if ends else sums
    tile.load_acts = transfer_cycles(acts, codes.bytes_per_cycle)
    tile.store = transfer_cycles(stored, codes.bytes_per_cycle)


@njit(cache=True)
def _fill(layers: Any, plan: Any, codes: MachineCodes, places: NDArray[np.int64], tiles: Any) -> int:
    """Write all tiles; return how many rows they take."""
    used = 0
    for place in range(layers.size):
        layer, row = layers[place], plan[place]
        if row.copies > 0:
            tile = tiles[used]
            tile.layer, tile.kind, tile.repeat, tile.first, tile.steps = place, DUPLICATION, 1, 1, 1
            tile.vector = ceil_div(row.copies, codes.vector_lanes)
            tile.load_acts = transfer_cycles(row.fetch_first, codes.bytes_per_cycle)
            if not row.copies_kept:
                tile.store = transfer_cycles(row.copy_bytes, codes.bytes_per_cycle)
            used += 1
        start = used
        if layer.kind == VECTOR:
            used = _fill_vector(row, codes, tiles, used)
        elif row.trips_m * row.trips_k * row.trips_n == 1:
            used = _fill_groups(layer, row, codes, tiles, used)
        else:
            for group in range(row.trips_g):
                used = _fill_loops(layer, row, codes, places, group, tiles, used)
        for item in range(start, used):
            tiles[item].layer = place
    return used


@njit(cache=True)
def _fill_vector(row: Any, codes: MachineCodes, tiles: Any, used: int) -> int:
    """Write a vector op: equal tiles, the rest in the last."""
    cycles = max(ceil_div(row.lane_cycles, codes.vector_lanes), ceil_div(row.requantized, codes.requantizer_lanes))
    count = row.trips_m
    stored = row.output_bytes if row.store_output else 0
    loaded = row.vector_bytes
    for part in range(2):
        many = count - 1 if part == 0 else 1
        if many == 0:
            continue
        tile = tiles[used]
        used += 1
        tile.kind, tile.repeat, tile.first, tile.steps = ON_VECTOR, many, int(part == 0 or count == 1), 1
        rest = part == 1
        tile.vector = cycles // count + (cycles % count if rest else 0)
        acts = loaded // count + (loaded % count if rest else 0)
        weights = row.weight_bytes + row.fetch_weights if tile.first else 0
        if tile.first:
            acts += row.fetch_first
        tile.load_weights = transfer_cycles(weights, codes.bytes_per_cycle)
        tile.load_acts = transfer_cycles(acts, codes.bytes_per_cycle)
        tile.store = transfer_cycles(stored // count + (stored % count if rest else 0), codes.bytes_per_cycle)
        if tile.first and many > 1:
            # The first tile alone fetches what is fetched once.
            tile.repeat = 1
            following = tiles[used]
            used += 1
            following.kind, following.repeat, following.steps = ON_VECTOR, many - 1, 1
            following.vector, following.store = tile.vector, tile.store
            following.load_acts = transfer_cycles(loaded // count, codes.bytes_per_cycle)
    return used


@njit(cache=True)
def _fill_groups(layer: Any, row: Any, codes: MachineCodes, tiles: Any, used: int) -> int:
    """Write a layer whose tiles are whole groups: first, equal ones between, last."""
    trips = row.trips_g
    for part in range(3):
        many = (1, trips - 2, 1)[part]
        if (part > 0 and trips == 1) or many <= 0:
            continue
        first, last = part == 0, part == 2 or trips == 1
        groups = row.groups - (trips - 1) * row.tile_groups if last else row.tile_groups
        tile = tiles[used]
        used += 1
        tile.kind, tile.repeat, tile.first = ON_ARRAY, many, int(first)
        sizes = (row.m, row.k, row.n, groups)
        whole = trips >= 1  # a variable, so that one compiled form of `_fill_tile` serves all calls
        _fill_tile(layer, row, codes, sizes, (first, last, whole, whole), (whole, whole), tile)
    return used


@njit(cache=True)
def _fill_loops(
    layer: Any, row: Any, codes: MachineCodes, places: NDArray[np.int64], group: int, tiles: Any, used: int
) -> int:
    """Write one group's three loops; the inner loop takes up to three rows."""
    whole = (row.m, row.k, row.n)
    size = (row.tile_m, row.tile_k, row.tile_n)
    trips = (row.trips_m, row.trips_k, row.trips_n)
    loops = _nest(places, row.order, trips)
    index = np.zeros(3, dtype=np.int64)
    before = np.full(3, -1, dtype=np.int64)
    many = trips[loops[2]]
    for outer in range(trips[loops[0]]):
        for middle in range(trips[loops[1]]):
            inner = 0
            while inner < many:
                index[loops[0]], index[loops[1]], index[loops[2]] = outer, middle, inner
                run = many - 2 if inner == 1 and many > 2 else 1
                tile = tiles[used]
                used += 1
                end_m, end_k, end_n = index[0] == trips[0] - 1, index[1] == trips[1] - 1, index[2] == trips[2] - 1
                if run > 1:
                    end_m, end_k, end_n = (
                        end_m and loops[2] != 0,
                        end_k and loops[2] != 1,
                        end_n and loops[2] != 2,
                    )
                first = group == 0 and index[0] == 0 and index[1] == 0 and index[2] == 0
                last = group == row.trips_g - 1 and end_m and end_k and end_n
                sizes = (
                    whole[0] - (trips[0] - 1) * size[0] if end_m else size[0],
                    whole[1] - (trips[1] - 1) * size[1] if end_k else size[1],
                    whole[2] - (trips[2] - 1) * size[2] if end_n else size[2],
                    min(row.tile_groups, row.groups - group * row.tile_groups),
                )
                fresh = (
                    index[1] != before[1] or index[2] != before[2],
                    index[0] != before[0] or index[1] != before[1],
                )
                tile.kind, tile.repeat, tile.first = ON_ARRAY, run, int(first)
                _fill_tile(layer, row, codes, sizes, (first, last, index[1] == 0, end_k), fresh, tile)
                inner += run
                before[0], before[1], before[2] = index[0], index[1], index[2]
                if run > 1:
                    before[loops[2]] = inner - 1
    return used


@njit(cache=True)
def _nest(places: NDArray[np.int64], order: int, trips: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the loops (0 m, 1 k, 2 n), outermost first; loops of one turn go outside, where they do no harm."""
    nest = np.empty(3, dtype=np.int64)
    at = 0
    for single in (True, False):
        for place in range(3):
            for loop in range(3):
                if places[order, loop] == place and (trips[loop] == 1) == single:
                    nest[at] = loop
                    at += 1
    return nest[0], nest[1], nest[2]
