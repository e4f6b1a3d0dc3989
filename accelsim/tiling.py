"""Tiles of one layer: the loop order and tile sizes with the least DRAM traffic that the buffers allow.

A layer is three loops over tiles of ``tile_m x tile_k x tile_n`` of its product, in any order. An operand is fetched
again in every turn of the loop that does not concern it, where that loop lies outside one that does. Partial sums stay
in the accumulator buffer where the loop over k is innermost; elsewhere they are written and read back at the
accumulator's width. What is kept on chip is never fetched.

What must fit: the weight tile its buffer (half of it where halves alternate); the tiles of activations that come from
or go to DRAM what is free in the activation buffer (twice where halves alternate); and the sums of one stream chunk,
or with several tiles along k of a whole tile, the accumulator buffer. Tiles are whole folds of the array, so cutting
adds no folds along rows and columns. Under ``os`` sums stay in the PEs, so k is cut only within a single fold.
In grouped layers the unit that is cut is one group, or one pack of groups that share a fold. Where sums do not fill the
accumulator buffer, a cut tile is whole stream chunks, each at least half of that buffer.

Ties go to fewer loads of the array, then to fewer tiles. Candidates are all splits into 1 to 8 parts and about every
fifth beyond. Layers of several units take as many whole units per tile as fit, or tile one unit after the other.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.codes import IS, OS, WS, MachineCodes, ceil_div

ORDERS = ("mnk", "mkn", "nmk", "nkm", "kmn", "knm")
"""Loop orders, outermost first."""

MAX_PARTS = 256
"""More than the numbers of parts that are tried along one loop, which grow by a fifth from 8 on."""

PLACES = np.array([[order.index(loop) for loop in "mkn"] for order in ORDERS], dtype=np.int64)
"""Place (0 outermost) of the loops over m, k and n in each order."""


@njit(cache=True)
def footprint(layer: Any, plan: Any, tile_m: int, tile_k: int) -> int:
    """Return the bytes of the first operand that one tile of one unit spans: whole lines of the map, with halo."""
    total = ceil_div(plan.act_bytes, plan.units)
    if tile_m >= plan.m and tile_k >= plan.k:
        return int(total)
    reach = layer.line_kernel
    share_top, share_bottom = 1, 1
    if tile_k < plan.k:
        per_line = ceil_div(plan.k, layer.kernel_lines)
        per_pixel = ceil_div(per_line, layer.kernel_pixels)
        kernel_lines = min(layer.kernel_lines, ceil_div(tile_k, per_line))
        reach = ceil_div(reach * kernel_lines, layer.kernel_lines)
        if tile_k < per_pixel:
            share_top, share_bottom = tile_k, per_pixel
    lines = max(1, layer.lines * plan.images)
    line = ceil_div(total, lines)
    if tile_m >= layer.line_outputs:
        wanted = ceil_div(tile_m, layer.line_outputs) * layer.line_stride + max(0, reach - layer.line_stride)
        size = min(wanted, lines) * line
    else:
        pixels = tile_m * layer.pixel_stride + max(0, layer.pixel_kernel - layer.pixel_stride)
        size = min(reach, lines) * ceil_div(line * min(pixels, layer.width), max(1, layer.width))
    return int(min(total, ceil_div(size * share_top, share_bottom)))


@njit(cache=True)
def pass_bytes(layer: Any, plan: Any, tile_m: int, tile_k: int) -> int:
    """Return what one pass over the first operand of one unit fetches, all tiles together."""
    trips_m, trips_k = ceil_div(plan.m, tile_m), ceil_div(plan.k, tile_k)
    last_m, last_k = plan.m - (trips_m - 1) * tile_m, plan.k - (trips_k - 1) * tile_k
    total = (trips_k - 1) * (
        (trips_m - 1) * footprint(layer, plan, tile_m, tile_k) + footprint(layer, plan, last_m, tile_k)
    )
    total += (trips_m - 1) * footprint(layer, plan, tile_m, last_k) + footprint(layer, plan, last_m, last_k)
    return int(max(total, ceil_div(plan.act_bytes, plan.units)))


@njit(cache=True)
def staged_bytes(layer: Any, plan: Any, codes: MachineCodes, tile_m: int, tile_k: int, tile_n: int) -> int:
    """Return what one tile takes in the activation buffer for operands and results that pass through it."""
    size = 0
    if not plan.act_kept:
        size += footprint(layer, plan, tile_m, tile_k)
    if not plan.output_kept:
        share = ceil_div(plan.output_bytes, plan.units)
        size += ceil_div(share * min(tile_m, plan.m), plan.m) * min(tile_n, plan.n) // max(1, plan.n) + 1
    return int(size * (2 if codes.act.double else 1))


@njit(cache=True)
def weight_tile_bytes(plan: Any, tile_k: int, tile_n: int) -> int:
    """Return the bytes of the second operand's tile of one unit."""
    whole = ceil_div(plan.weight_bytes + plan.second_bytes, plan.units)
    return int(ceil_div(whole * min(tile_k, plan.k), plan.k) * min(tile_n, plan.n) // max(1, plan.n)) + 1


@njit(cache=True)
def _next(parts: int, blocks: int) -> int:
    """Return the next number of parts to try; the last is one block each, after which comes more than `blocks`."""
    following = parts + 1 if parts < 8 else parts + max(1, parts // 5)
    return min(following, blocks) if parts < blocks else blocks + 1


@njit(cache=True)
def _largest_m(layer: Any, plan: Any, codes: MachineCodes, step: int, limit: int) -> int:
    """Return the largest tile of m, in whole `step` and at most `limit`, whose staged data fit; 0 if none does."""
    high = max(1, min(ceil_div(plan.m, step), limit // step))
    if staged_bytes(layer, plan, codes, high * step, plan.tile_k, plan.tile_n) > plan.free_bytes:
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            if staged_bytes(layer, plan, codes, middle * step, plan.tile_k, plan.tile_n) <= plan.free_bytes:
                low = middle
            else:
                high = middle
        high = low
    return int(min(high * step, plan.m))


@njit(cache=True)
def _whole_chunks(size: int, high: int, room: int) -> tuple[int, int]:
    """Return a tile from `size` to `high` of whole stream chunks, and the chunk: at most `room`, at least half of it.

    Zeros if there is none.
    """
    parts = ceil_div(size, room)
    chunk = ceil_div(size, parts)
    while 2 * chunk >= room or parts == 1:
        if chunk * parts <= high:
            return chunk * parts, chunk
        parts += 1
        chunk = ceil_div(size, parts)
    return 0, 0


@njit(cache=True)
def _equal_parts(whole: int, high: int, room: int) -> tuple[int, int]:
    """Return the tile of at most `high` that makes the fewest equal parts of whole chunks of `whole`, and the chunk."""
    parts = ceil_div(whole, high)
    while parts > 1:
        tile, chunk = _whole_chunks(ceil_div(whole, parts), high, room)
        if tile:
            return tile, chunk
        parts += 1
    return whole, ceil_div(whole, ceil_div(whole, room))


@njit(cache=True)
def _whole_lines(whole: int, high: int, room: int, line: int) -> tuple[int, int]:
    """Return a tile of at most `high` of whole output lines and whole chunks, and the chunk; zeros if there is none."""
    lines = high // line
    if lines == 0:
        return 0, 0
    tile = ceil_div(ceil_div(whole, line), ceil_div(whole, lines * line)) * line
    parts = ceil_div(tile, room)
    while 2 * (tile // parts) >= room or parts == 1:
        if tile % parts == 0:
            return tile, tile // parts
        parts += 1
    return 0, 0


@njit(cache=True)
def order_bytes(plan: Any, order: int, pass_a: int, sums: int, places: NDArray[np.int64]) -> int:
    """Return the DRAM bytes of one unit under a loop order, or -1 where the order cannot be run.

    `plan` holds the trips; `pass_a` is one pass over the first operand, `sums` the bytes of all partial sums.
    """
    at_m, at_k, at_n = places[order, 0], places[order, 1], places[order, 2]
    some_m, some_k, some_n = plan.trips_m > 1, plan.trips_k > 1, plan.trips_n > 1
    again_w = plan.trips_m if (some_k and at_k > at_m) or (some_n and at_n > at_m) else 1
    again_a = plan.trips_n if (some_m and at_m > at_n) or (some_k and at_k > at_n) else 1
    spilled = some_k and ((some_m and at_m > at_k) or (some_n and at_n > at_k))
    plan.again_w, plan.again_a, plan.spilled = again_w, again_a, int(spilled)
    total = ceil_div(plan.weight_bytes, plan.units) * again_w
    if not plan.second_kept:
        total += ceil_div(plan.second_bytes, plan.units) * again_w
    if not plan.act_kept:
        total += pass_a * again_a
    if spilled:
        total += 2 * (plan.trips_k - 1) * sums
    return int(total)


@njit(cache=True)
def search(layer: Any, plan: Any, codes: MachineCodes, places: NDArray[np.int64]) -> bool:
    """Choose tiles and order of a layer; return whether any fits."""
    flow = codes.array.dataflow
    step_m = codes.array.rows if flow == OS else (codes.array.cols if flow == IS else 1)
    step_n = 1 if flow == IS else codes.array.cols
    step_k = plan.k if flow == OS else codes.array.rows * plan.products
    sums = ceil_div(plan.m * plan.n * plan.pack * codes.sum_bits, 8)
    best = np.full(8, -1, dtype=np.int64)
    floor = ceil_div(plan.weight_bytes, plan.units)
    floor += 0 if plan.second_kept else ceil_div(plan.second_bytes, plan.units)
    floor += 0 if plan.act_kept else ceil_div(plan.act_bytes, plan.units)
    blocks_k, blocks_n = ceil_div(plan.k, step_k), ceil_div(plan.n, step_n)
    settled = np.zeros(MAX_PARTS, dtype=np.bool_)
    parts_k = 1
    while parts_k <= blocks_k and best[0] != floor:
        plan.tile_k = min(plan.k, ceil_div(blocks_k, parts_k) * step_k)
        plan.trips_k = ceil_div(plan.k, plan.tile_k)
        parts_n, place = 1, -1
        while parts_n <= blocks_n and not (best[0] == floor and best[4] == plan.m):
            plan.tile_n = min(plan.n, ceil_div(blocks_n, parts_n) * step_n)
            parts_n, place = _next(parts_n, blocks_n), place + 1
            if settled[place]:
                continue
            high = _fit(layer, plan, codes, step_m, step_n)
            if high:
                _try_tiles(layer, plan, codes, high, sums, places, best)
                # once all of m fits, finer cuts of k fetch and spill as much or more
                settled[place] = plan.trips_k > 1 and high >= plan.m
        parts_k = _next(parts_k, blocks_k)
    if flow == OS and best[0] < 0:
        _cut_depth(layer, plan, codes, sums, places, best)
    if best[0] < 0:
        return False
    _take(plan, best)
    plan.pass_bytes = pass_bytes(layer, plan, plan.tile_m, plan.tile_k)
    order_bytes(plan, plan.order, plan.pass_bytes, sums, places)
    return True


@njit(cache=True)
def sums_room(codes: MachineCodes) -> int:
    """Return the rows of sums, as wide as the array, that the accumulator buffer holds."""
    return int(codes.sums.room * 8 // (codes.array.cols * codes.sum_bits))


@njit(cache=True)
def _fit(layer: Any, plan: Any, codes: MachineCodes, step_m: int, step_n: int) -> int:
    """Return the largest tile of m for the tiles of k and n in `plan`, 0 if none fits; make n whole chunks (``is``)."""
    if codes.array.dataflow == IS:
        plan.stream_tile = plan.tile_n
        if plan.trips_k == 1:
            plan.tile_n, plan.stream_tile = _equal_parts(plan.n, plan.tile_n, sums_room(codes))
    if weight_tile_bytes(plan, plan.tile_k, plan.tile_n) > codes.weight.room:
        return 0
    limit = ceil_div(plan.m, step_m) * step_m
    if plan.trips_k > 1:
        limit = min(limit, codes.sums.room * 8 // (max(plan.tile_n, step_n) * codes.sum_bits))
        if limit < min(step_m, plan.m):
            return 0
    return _largest_m(layer, plan, codes, step_m, limit)


@njit(cache=True)
def _try_tiles(
    layer: Any, plan: Any, codes: MachineCodes, high: int, sums: int, places: NDArray[np.int64], best: NDArray[np.int64]
) -> None:
    """Try the tiles of m up to `high` that may be best: equal parts, whole lines of the map, as large as it goes."""
    if codes.array.dataflow != WS:
        step = codes.array.rows if codes.array.dataflow == OS else codes.array.cols
        parts = ceil_div(plan.m, high)
        plan.tile_m = plan.m if parts == 1 else ceil_div(ceil_div(plan.m, parts), step) * step
        if codes.array.dataflow == OS:
            plan.stream_tile = 0
        _try_orders(layer, plan, sums, places, best)
        return
    room = plan.m if plan.trips_k > 1 else sums_room(codes)
    plan.tile_m, plan.stream_tile = _equal_parts(plan.m, high, room)
    _try_orders(layer, plan, sums, places, best)
    if plan.tile_m < plan.m and layer.line_outputs > 1 and not plan.act_kept:
        plan.tile_m, plan.stream_tile = _whole_lines(plan.m, high, room, layer.line_outputs)
        if plan.tile_m:
            _try_orders(layer, plan, sums, places, best)
        plan.stream_tile = high // ceil_div(high, room)
        plan.tile_m = high - high % plan.stream_tile
        _try_orders(layer, plan, sums, places, best)


@njit(cache=True)
def _repeats(plan: Any, order: int) -> bool:
    """Tell whether an order is like an earlier one of `ORDERS`, because a loop in it has a single turn."""
    some_m, some_k, some_n = plan.trips_m > 1, plan.trips_k > 1, plan.trips_n > 1
    if some_m and some_k and some_n:
        return False
    if some_m and some_n:
        return order not in (0, 2)
    if some_k and some_n:
        return order not in (0, 1)
    if some_m and some_k:
        return order not in (0, 3)
    return bool(order != 0)


@njit(cache=True)
def _try_orders(layer: Any, plan: Any, sums: int, places: NDArray[np.int64], best: NDArray[np.int64]) -> None:
    """Keep the best order of the tiles in `plan` where it beats what `best` holds."""
    plan.trips_m, plan.trips_n = ceil_div(plan.m, plan.tile_m), ceil_div(plan.n, plan.tile_n)
    pass_a = 0 if plan.act_kept else pass_bytes(layer, plan, plan.tile_m, plan.tile_k)
    tiles = plan.trips_m * plan.trips_n * plan.trips_k
    loads = 0
    if plan.stream_tile > 0:
        streamed, tile = (plan.m, plan.tile_m) if plan.streams_m else (plan.n, plan.tile_n)
        whole, rest = streamed // tile, streamed % tile
        loads = whole * ceil_div(tile, plan.stream_tile) + ceil_div(rest, plan.stream_tile)
    for order in range(places.shape[0]):
        if plan.trips_k > 1 and plan.stream_tile == 0 and places[order, 1] != 2:
            continue
        if _repeats(plan, order):
            continue
        total = order_bytes(plan, order, pass_a, sums, places)
        better = best[0] < 0 or total < best[0]
        if total == best[0]:
            better = loads < best[1] or (loads == best[1] and tiles < best[2])
        if better:
            best[0], best[1], best[2], best[3] = total, loads, tiles, order
            best[4], best[5], best[6], best[7] = plan.tile_m, plan.tile_k, plan.tile_n, plan.stream_tile


@njit(cache=True)
def _cut_depth(
    layer: Any, plan: Any, codes: MachineCodes, sums: int, places: NDArray[np.int64], best: NDArray[np.int64]
) -> None:
    """Cut k under ``os``: one fold of outputs, as many k at a time as the buffers hold."""
    array = codes.array
    plan.tile_m, plan.tile_n, plan.stream_tile = min(array.rows, plan.m), min(array.cols, plan.n), 0
    parts, depth = 2, ceil_div(plan.k, plan.products)
    while parts <= depth:
        plan.tile_k = ceil_div(depth, parts) * plan.products
        plan.trips_k = ceil_div(plan.k, plan.tile_k)
        parts = _next(parts, depth)
        staged = staged_bytes(layer, plan, codes, plan.tile_m, plan.tile_k, plan.tile_n)
        if weight_tile_bytes(plan, plan.tile_k, plan.tile_n) <= codes.weight.room and staged <= plan.free_bytes:
            _try_orders(layer, plan, sums, places, best)
            return


@njit(cache=True)
def _take(plan: Any, best: NDArray[np.int64]) -> None:
    """Write the chosen tiles into `plan`."""
    plan.order, plan.tile_m, plan.tile_k, plan.tile_n = best[3], best[4], best[5], best[6]
    plan.stream_tile = best[7]
    plan.trips_m, plan.trips_k = ceil_div(plan.m, plan.tile_m), ceil_div(plan.k, plan.tile_k)
    plan.trips_n = ceil_div(plan.n, plan.tile_n)


@njit(cache=True)
def groups_together(layer: Any, plan: Any, codes: MachineCodes) -> int:
    """Return how many groups, each whole, one tile takes: as many packs as fit."""
    one_staged = max(1, staged_bytes(layer, plan, codes, plan.m, plan.k, plan.n))
    one_weight = max(1, weight_tile_bytes(plan, plan.k, plan.n))
    fit = max(1, min(plan.free_bytes // one_staged, codes.weight.room // one_weight))
    return int(min(plan.groups, fit * plan.pack))
