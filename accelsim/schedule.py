"""Schedule of a network on one core: what stays on chip, and how each layer is cut into tiles.

`accelsim.residency` says what stays on chip, `accelsim.tiling` how a layer is cut.

Assumption (A): tensors lie in memory in lines (rows of a map, vectors of a sequence), each rounded up to a word of the
activation buffer; a layer's weights in lines of one filter or of one k, whichever packs tighter, rounded up to a word
of the weight buffer; biases at the accumulator's width, scales as 32-bit words.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim import residency, tiling
from accelsim.codes import BY_OUTPUTS, WS, MachineCodes, ceil_div, rounded_bits, stored_bits
from accelsim.layers import CONV, MATMUL, VECTOR, LayerTable
from accelsim.timing import packed_groups

PLAN_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            # the product as one core runs it, the batch in it; cores at work; samples in the map
            "kind", "m", "k", "n", "groups", "active", "images",
            # PE: products and cycles of an operation; widths in memory
            "products", "steps", "weight_bits", "act_bits",
            # parameters in bytes: stored, used, passing through in tiles; whether pinned, and what that fetches
            "stored_bytes", "param_bytes", "weight_bytes", "pinned", "fetch_weights",
            # bytes: first and second operand, result, copies of duplicated channels, a vector op's inputs
            "act_bytes", "second_bytes", "output_bytes", "copy_bytes", "vector_bytes",
            # elements beside the product
            "requantized", "lane_cycles", "copies", "halved", "biases", "broadcast_bits",
            # what is on chip, what is stored although kept, what is left for tiles
            "act_kept", "second_kept", "output_kept", "copies_kept", "fetch_first", "store_output", "free_bytes",
            # tiles
            "tile_m", "tile_k", "tile_n", "tile_groups", "order", "trips_m", "trips_k", "trips_n", "trips_g",
            "stream_tile", "streams_m", "pack", "units", "again_w", "again_a", "spilled", "pass_bytes", "fits",
        )
    ]
)  # fmt: skip
"""One layer's share on one core; see `accelsim.tiling` for the tiles."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """What stays on chip and how layers are cut, on the core that does most.

    Parameters
    ----------
    plan
        dtype `PLAN_DTYPE`, one row a layer.
    kept
        Which tensors stay on chip.
    sizes
        Bytes of every tensor.
    samples
        Carried through the network together.
    """

    plan: NDArray[Any]
    kept: NDArray[np.int64]
    sizes: NDArray[np.int64]
    samples: int


def make_schedule(
    table: LayerTable, codes: MachineCodes, pe_work: NDArray[np.int64], samples: int, fixed: Schedule | None = None
) -> Schedule:
    """Schedule a network.

    Parameters
    ----------
    table
        Its layers.
    codes
        The machine.
    pe_work
        int64 ``[layers, 2]``: products and cycles of a PE operation.
    samples
        Carried through the network together.
    fixed
        A schedule whose residency and tiles are taken over instead of chosen.

    Raises
    ------
    ValueError
        Naming the layers of which not even the smallest tile fits the buffers.
    """
    sizes = np.empty(len(table.tensors), dtype=np.int64)
    kept = None if fixed is None else fixed.kept
    while True:
        plan = describe(table, codes, pe_work, samples, sizes)
        left = residency.pin(table, plan, codes, None if fixed is None else fixed.plan["pinned"])
        if kept is None:
            kept = np.zeros(len(table.tensors), dtype=np.int64)
            residency.keep(table.layers, table.tensors, table.reads, sizes, plan["copy_bytes"], kept, left.act.room)
        residency.place(table.layers, table.tensors, table.reads, sizes, kept, left, plan)
        if fixed is None:
            _cut(table.layers, plan, left, tiling.PLACES)
        else:
            take_tiles(table, fixed.plan, plan, left)
        if plan["fits"].all():
            return Schedule(plan, kept, sizes, samples)
        if fixed is not None or not residency.release(table, sizes, kept, plan["fits"]):
            raise ValueError(_too_small(table, plan, left))


def share_schedule(
    table: LayerTable, codes: MachineCodes, pe_work: NDArray[np.int64], samples: int, main: Schedule
) -> Schedule:
    """Return the schedule of the core with the smallest share, tiles and residency as on the others."""
    sizes = np.empty(len(table.tensors), dtype=np.int64)
    plan = describe(table, codes, pe_work, samples, sizes, last=True)
    residency.pin(table, plan, codes, main.plan["pinned"])
    residency.place(table.layers, table.tensors, table.reads, sizes, main.kept, codes, plan)
    take_tiles(table, main.plan, plan, codes)
    return Schedule(plan, main.kept, sizes, samples)


def take_tiles(table: LayerTable, source: NDArray[Any], target: NDArray[Any], codes: MachineCodes) -> None:
    """Cut layers as those of another plan, which are as large or larger; note which still fit."""
    for name in _TILE_FIELDS:
        target[name] = source[name]
    _cut_alike(table.layers, target, codes, tiling.PLACES)


_TILE_FIELDS = ("tile_m", "tile_k", "tile_n", "tile_groups", "order", "stream_tile", "streams_m", "pack", "trips_m")


def describe(
    table: LayerTable,
    codes: MachineCodes,
    pe_work: NDArray[np.int64],
    samples: int,
    sizes: NDArray[np.int64],
    last: bool = False,
) -> NDArray[Any]:
    """Return the plan of one core with sizes only, and fill in tensor sizes.

    `last` is the core with the smallest share, else the one with the largest.
    """
    plan = np.zeros(len(table), dtype=PLAN_DTYPE)
    _describe(table.layers, table.tensors, table.reads, codes, pe_work, (samples, last), sizes, plan)
    return plan


def _too_small(table: LayerTable, plan: NDArray[Any], codes: MachineCodes) -> str:
    places = np.flatnonzero(plan["fits"] == 0)
    names = ", ".join(table.names[place] for place in places[:4]) + (", …" if len(places) > 4 else "")
    return (
        f"simulate: not one fold of {names} fits the buffers (tiles may fill {codes.weight.room} bytes of weight_sram, "
        f"{codes.sums.room} of accumulator_sram and {int(plan['free_bytes'][places].min())} left free in "
        "activation_sram); enlarge them or shrink the array"
    )


# --- sizes -----------------------------------------------------------------------------------------------------------


@njit(cache=True)
def share_of(count: int, cores: int, last: bool) -> tuple[int, int]:
    """Return one core's share of `count` equal parts, and how many cores have any."""
    if count == 0:
        return 0, 1
    share = ceil_div(count, cores)
    active = ceil_div(count, share)
    return (count - share * (active - 1) if last else share), active


@njit(cache=True)
def _describe(
    layers: Any,
    tensors: Any,
    reads: NDArray[np.int64],
    codes: MachineCodes,
    pe_work: NDArray[np.int64],
    share: tuple[int, bool],
    sizes: NDArray[np.int64],
    plan: Any,
) -> None:
    samples, last = share
    for place in range(tensors.size):
        tensor = tensors[place]
        bits = stored_bits(codes.sum_bits if tensor.sum else tensor.bits, codes.storage)
        sizes[place] = samples * rounded_bits(tensor.rows, tensor.row_elements, bits, codes.act.word) // 8
    for place in range(layers.size):
        layer, row = layers[place], plan[place]
        row.kind, row.active, row.images = layer.kind, 1, samples
        row.products, row.steps = pe_work[place, 0], pe_work[place, 1]
        row.weight_bits = stored_bits(layer.weight_stored, codes.storage)
        row.act_bits = stored_bits(layer.act_stored, codes.storage)
        _share_product(layer, row, codes, samples, last)
        _share_rest(layer, row, codes, samples, last)
        _share_bytes(layer, row, codes, reads, sizes)


@njit(cache=True)
def _share_product(layer: Any, row: Any, codes: MachineCodes, samples: int, last: bool) -> None:
    row.m, row.k, row.n, row.groups = layer.m, layer.k, layer.n, layer.groups
    if layer.kind == CONV:
        row.m *= samples
    elif layer.kind == MATMUL:
        row.groups *= samples
    if codes.split == BY_OUTPUTS and layer.kind != VECTOR:
        if row.groups >= codes.cores:
            row.groups, row.active = share_of(row.groups, codes.cores, last)
        else:
            row.n, row.active = share_of(row.n, codes.cores, last)


@njit(cache=True)
def _share_rest(layer: Any, row: Any, codes: MachineCodes, samples: int, last: bool) -> None:
    """Fill in elements of requantizer and vector unit."""
    row.requantized, row.lane_cycles = layer.requantized * samples, layer.lane_cycles * samples
    row.copies, row.halved, row.biases = layer.copies * samples, layer.halved * samples, layer.biases
    if not codes.copy_pass:
        row.copies = row.halved = 0
    if codes.split == BY_OUTPUTS:
        if layer.kind == VECTOR:
            row.active = codes.cores
            row.lane_cycles = share_of(row.lane_cycles, codes.cores, last)[0]
            row.requantized = share_of(row.requantized, codes.cores, last)[0]
        else:
            mine, all_outputs = row.n * row.groups, layer.n * layer.groups
            if layer.kind == MATMUL:
                all_outputs *= samples
            row.requantized = ceil_div(row.requantized * mine, all_outputs)
            row.biases = ceil_div(row.biases * mine, all_outputs)


@njit(cache=True)
def _share_bytes(layer: Any, row: Any, codes: MachineCodes, reads: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    bits = layer.biases * codes.sum_bits + layer.scale_bits + layer.table_bits + layer.gather_bits
    outputs = layer.n * layer.groups
    if layer.kind == CONV:
        by_filter = rounded_bits(outputs, layer.k, row.weight_bits, codes.weight.word)
        by_k = rounded_bits(layer.k, outputs, row.weight_bits, codes.weight.word)
        bits += min(by_filter, by_k)
    rows = rounded_bits(1, layer.row_elements, layer.row_bits, codes.weight.word) // 8
    row.weight_bytes = ceil_div(bits, 8) + layer.rows_read * row.images * rows
    row.stored_bytes = ceil_div(bits, 8) + layer.rows_stored * rows
    row.output_bytes = sizes[layer.output]
    copied = stored_bits(layer.copy_bits, codes.storage)
    row.copy_bytes = ceil_div(row.copies * copied, 8)
    if layer.kind == VECTOR:
        for item in range(layer.reads_from, layer.reads_to):
            row.vector_bytes += sizes[reads[item]]
    else:
        row.act_bytes = sizes[reads[layer.reads_from]]
    if layer.kind == MATMUL:
        row.second_bytes = sizes[reads[layer.reads_to - 1]]
    if codes.split == BY_OUTPUTS:
        if layer.kind == VECTOR:
            row.output_bytes = ceil_div(row.output_bytes, codes.cores)
            row.vector_bytes = ceil_div(row.vector_bytes, codes.cores)
        else:
            total = outputs * (row.images if layer.kind == MATMUL else 1)
            mine = row.n * row.groups
            row.weight_bytes = row.stored_bytes = ceil_div(row.weight_bytes * mine, total)
            row.output_bytes = ceil_div(row.output_bytes * mine, total)
            row.second_bytes = ceil_div(row.second_bytes * mine, total)
            if row.n == layer.n:
                row.act_bytes = ceil_div(row.act_bytes * mine, total)
    row.param_bytes = row.weight_bytes
    if codes.split == BY_OUTPUTS:
        row.broadcast_bits = 8 * row.output_bytes * (codes.cores - 1)


# --- tiles -----------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _cut(layers: Any, plan: Any, codes: MachineCodes, places: NDArray[np.int64]) -> None:
    for place in range(layers.size):
        layer, row = layers[place], plan[place]
        row.streams_m = int(codes.array.dataflow == WS)
        row.trips_g, row.tile_groups, row.again_w, row.again_a = 1, 1, 1, 1
        if layer.kind == VECTOR:
            _cut_vector(row, codes)
            continue
        row.pack = packed_groups(codes.array, row.m, row.k, row.n, row.groups, row.products)
        row.units = ceil_div(row.groups, row.pack)
        found = False
        for earlier in range(place):
            if _alike(layers[earlier], plan[earlier], layer, row):
                _copy_tiles(plan[earlier], row)
                found = True
                break
        if not found:
            row.fits = int(tiling.search(layer, row, codes, places))
            if row.fits and row.groups > 1:
                row.tile_groups = row.pack
                if row.trips_m == 1 and row.trips_k == 1 and row.trips_n == 1:
                    row.tile_groups = tiling.groups_together(layer, row, codes)
                row.trips_g = ceil_div(row.groups, row.tile_groups)


@njit(cache=True)
def _cut_alike(layers: Any, plan: Any, codes: MachineCodes, places: NDArray[np.int64]) -> None:
    """Derive from tile sizes and order what follows from them."""
    for place in range(layers.size):
        layer, row = layers[place], plan[place]
        row.trips_g, row.again_w, row.again_a, row.fits = 1, 1, 1, 1
        if layer.kind == VECTOR:
            row.trips_k = row.trips_n = 1
            continue
        row.units = ceil_div(row.groups, row.pack)
        row.tile_m, row.tile_k, row.tile_n = min(row.tile_m, row.m), min(row.tile_k, row.k), min(row.tile_n, row.n)
        row.trips_m, row.trips_k = ceil_div(row.m, row.tile_m), ceil_div(row.k, row.tile_k)
        row.trips_n, row.trips_g = ceil_div(row.n, row.tile_n), ceil_div(row.groups, row.tile_groups)
        sums = ceil_div(row.m * row.n * row.pack * codes.sum_bits, 8)
        row.pass_bytes = tiling.pass_bytes(layer, row, row.tile_m, row.tile_k)
        tiling.order_bytes(row, row.order, row.pass_bytes, sums, places)
        weights = tiling.weight_tile_bytes(row, row.tile_k, row.tile_n)
        staged = tiling.staged_bytes(layer, row, codes, row.tile_m, row.tile_k, row.tile_n)
        row.fits = int(weights <= codes.weight.room and staged <= row.free_bytes)


@njit(cache=True)
def _cut_vector(row: Any, codes: MachineCodes) -> None:
    passing = row.vector_bytes + (0 if row.output_kept else row.output_bytes)
    passing *= 2 if codes.act.double else 1
    row.trips_m = max(1, ceil_div(passing, max(1, row.free_bytes)))
    row.fits = 1
    row.trips_k = row.trips_n = row.tile_m = row.tile_k = row.tile_n = 1


@njit(cache=True)
def _alike(first: Any, one: Any, second: Any, other: Any) -> bool:
    """Tell whether two layers have the same tiles."""
    if one.m != other.m or one.k != other.k or one.n != other.n or one.groups != other.groups:
        return False
    if one.weight_bytes != other.weight_bytes or one.act_bytes != other.act_bytes or one.kind != other.kind:
        return False
    if one.act_kept != other.act_kept or one.output_kept != other.output_kept:
        return False
    if one.second_kept != other.second_kept or one.second_bytes != other.second_bytes:
        return False
    if one.output_bytes != other.output_bytes or one.products != other.products:
        return False
    if one.free_bytes != other.free_bytes and not (one.act_kept and one.output_kept and one.groups == 1):
        return False
    return bool(
        first.line_kernel == second.line_kernel
        and first.line_stride == second.line_stride
        and first.line_outputs == second.line_outputs
        and first.width == second.width
    )


@njit(cache=True)
def _copy_tiles(source: Any, target: Any) -> None:
    target.tile_m, target.tile_k, target.tile_n = source.tile_m, source.tile_k, source.tile_n
    target.tile_groups, target.order, target.stream_tile = source.tile_groups, source.order, source.stream_tile
    target.trips_m, target.trips_k, target.trips_n = source.trips_m, source.trips_k, source.trips_n
    target.trips_g, target.fits, target.spilled = source.trips_g, source.fits, source.spilled
    target.again_w, target.again_a, target.pass_bytes = source.again_w, source.again_a, source.pass_bytes
