"""What stays on chip between layers.

Outputs stay in the activation buffer when they fit beside everything still needed, and the next layer's working set
still fits (an eighth of the buffer is enough for what merely passes through). Otherwise they go to DRAM and every
reader fetches them. Where not one fold of a layer fits beside what is kept, the largest of that goes to DRAM as well. A
network input that several layers read, or one whose channels are copied, is kept where it fits; one that a single layer
reads passes through in tiles. Parameters are fetched for every batch. Those that several layers share (`Op.shares`: the
steps of a recurrent layer) are pinned in half of the weight buffer as far as they fit, the most used first, and fetched
once; others are fetched by every layer that uses them. Copies of duplicated channels (``copy_pass``) stay where their
source does and they fit; the producer writes them, so that only a network input is fetched for it.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.codes import BY_OUTPUTS, MachineCodes, ceil_div
from accelsim.layers import MATMUL, VECTOR, LayerTable


def pin(table: LayerTable, plan: NDArray[Any], codes: MachineCodes, pinned: NDArray[np.int64] | None) -> MachineCodes:
    """Decide which shared parameters stay in the weight buffer (or take over `pinned`); return what room is left."""
    owners = table.layers["owner"]
    own = owners == np.arange(len(owners))
    plan["stored_bytes"][~own] = 0
    if own.all():
        return codes
    used = 0
    if pinned is None:
        uses = np.bincount(owners, minlength=len(owners))
        pinned = np.zeros(len(owners), dtype=np.int64)
        for owner in sorted(np.flatnonzero(uses > 1).tolist(), key=lambda place: -uses[place]):
            size = int(plan["weight_bytes"][owner])
            if used + size <= codes.weight.whole // 2:
                pinned[owners == owner] = 1
                used += size
    plan["pinned"] = pinned
    plan["fetch_weights"] = np.where(own & (pinned == 1), plan["weight_bytes"], 0)
    plan["weight_bytes"][pinned == 1] = 0
    room = (codes.weight.whole - used) // (2 if codes.weight.double else 1)
    return codes._replace(weight=codes.weight._replace(room=room))


@njit(cache=True)
def keep(
    layers: Any,
    tensors: Any,
    reads: NDArray[np.int64],
    sizes: NDArray[np.int64],
    copies: NDArray[np.int64],
    kept: NDArray[np.int64],
    room: int,
) -> None:
    """Decide which tensors stay on chip, in order of execution."""
    reserve = room // 8
    readers = np.zeros(tensors.size, dtype=np.int64)
    for item in range(reads.size):
        readers[reads[item]] += 1
    for at in range(layers.size):
        layer = layers[at]
        for item in range(layer.reads_from, layer.reads_to):
            source = reads[item]
            again = tensors[source].made_by < 0 and (readers[source] > 1 or copies[at] > 0) and not kept[source]
            if again and live_bytes(tensors, sizes, kept, at) + sizes[source] + reserve <= room:
                kept[source] = 1
        made = layer.output
        if tensors[made].last_read <= at:
            continue
        passing = 0
        for item in range(layer.reads_from, layer.reads_to):
            if not kept[reads[item]]:
                passing = reserve
        now = live_bytes(tensors, sizes, kept, at) + sizes[made] + passing
        kept[made] = 1
        if at + 1 < layers.size:
            following = layers[at + 1]
            after = live_bytes(tensors, sizes, kept, at + 1) + min(sizes[following.output], reserve)
            for item in range(following.reads_from, following.reads_to):
                if not kept[reads[item]]:
                    after += min(sizes[reads[item]], reserve)
        else:
            after = 0
        kept[made] = int(now <= room and after <= room)


def release(table: LayerTable, sizes: NDArray[np.int64], kept: NDArray[np.int64], fits: NDArray[Any]) -> bool:
    """Send the largest tensor on chip beside each layer that does not fit to DRAM; return whether there was any."""
    tensors, found = table.tensors, False
    for at in np.flatnonzero(fits == 0):
        live = (tensors["made_by"] < at) & (at <= tensors["last_read"])
        live[table.layers["output"][at]] = True
        live &= kept == 1
        if live.any():
            kept[np.argmax(np.where(live, sizes, -1))] = 0
            found = True
    return found


@njit(cache=True)
def live_bytes(tensors: Any, sizes: NDArray[np.int64], kept: NDArray[np.int64], at: int) -> int:
    """Return the bytes of kept tensors that exist before layer `at` runs and that it or a later one reads."""
    total = 0
    for item in range(tensors.size):
        if kept[item] and tensors[item].made_by < at <= tensors[item].last_read:
            total += sizes[item]
    return total


@njit(cache=True)
def place(
    layers: Any,
    tensors: Any,
    reads: NDArray[np.int64],
    sizes: NDArray[np.int64],
    kept: NDArray[np.int64],
    codes: MachineCodes,
    plan: Any,
) -> None:
    """Write into the plan what is on chip when a layer runs, and what room is left."""
    fetched = np.zeros(tensors.size, dtype=np.int64)
    for at in range(layers.size):
        layer, row = layers[at], plan[at]
        row.act_kept = kept[reads[layer.reads_from]] if layer.kind != VECTOR else 1
        row.second_kept = kept[reads[layer.reads_to - 1]] if layer.kind == MATMUL else 1
        row.output_kept = kept[layer.output]
        row.store_output = int(tensors[layer.output].output or not kept[layer.output])
        passing = 0
        for item in range(layer.reads_from, layer.reads_to):
            source = reads[item]
            if kept[source]:
                if tensors[source].made_by < 0 and not fetched[source]:
                    row.fetch_first += sizes[source]
                    fetched[source] = 1
            elif layer.kind == VECTOR:
                passing += sizes[source]
        if layer.kind == VECTOR:
            if codes.split == BY_OUTPUTS:
                passing = ceil_div(passing, codes.cores)
            row.vector_bytes = passing
        live = live_bytes(tensors, sizes, kept, at)
        if row.output_kept:
            live += sizes[layer.output]
        if row.copy_bytes > 0:
            source = reads[layer.reads_from]
            live += _place_copies(
                row, codes.act.room * 7 // 8 - live, sizes[source] if tensors[source].made_by < 0 else 0
            )
        row.free_bytes = max(0, codes.act.room - live)


@njit(cache=True)
def _place_copies(row: Any, room: int, given: int) -> int:
    """Keep a layer's copies on chip where they fit, else send them through DRAM; return the bytes they keep.

    `given` is the size of a source that is a network input, which must be read for its copies.
    """
    row.copies_kept = int(row.act_kept and row.copy_bytes <= room)
    if row.copies_kept:
        return int(row.copy_bytes)
    if row.act_kept:
        row.act_kept, row.act_bytes = 0, row.copy_bytes
    else:
        row.act_bytes += row.copy_bytes
        row.fetch_first += given
    return 0
