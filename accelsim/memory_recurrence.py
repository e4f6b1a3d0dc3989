"""The time of a tile table by a max-plus recurrence: what `accelsim.memory_events` gives for one core, without events.

Everything a tile waits for has a time, so the table is walked once, tile by tile. All decisions are maxima and sums,
and a run of equal tiles does the same at each; so once one tile has moved every time by the same amount, all further
ones do, and the rest of the run is added at once, exactly. The same goes for the steps within a tile.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.codes import MachineCodes
from accelsim.memory import DUPLICATION, ON_ARRAY

CAUSES = ("dram", "vector", "duplicate")
"""What the array waits for, besides itself; columns of the waits."""

DRAM, VECTOR_UNIT, COPIES = 0, 1, 2

# The state: times of the array, the vector unit now and one step before, the channel, and of the latest weights and
# activations to arrive.
_ARRAY, _VECTOR, _BEFORE, _CHANNEL, _WEIGHTS, _ACTS = range(6)
# Flags beside it: a block of weights, of activations is under way that no tile has used; a tile has run.
_WEIGHTS_AHEAD, _ACTS_AHEAD, _STARTED = range(3)


def solve(tiles: NDArray[Any], layers: int, codes: MachineCodes) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Return the time of a tile table.

    Parameters
    ----------
    tiles
        dtype `accelsim.memory.TILE_DTYPE`.
    layers
        Number of layers.
    codes
        The machine: buffers and latency.

    Returns
    -------
    cycles, waits, ends
        The end of the last store or result; int64 ``[layers, 3]`` cycles that the array waited, by `CAUSES`; when each
        layer had left the array and the vector unit.
    """
    waits = np.zeros((layers, len(CAUSES)), dtype=np.int64)
    ends = np.zeros(layers, dtype=np.int64)
    double = (codes.weight.double, codes.act.double, codes.sums.double)
    return int(_solve(tiles, double, codes.latency, waits, ends)), waits, ends


@njit(cache=True)
def _following(tiles: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, per row, cycles of the next row's load of weights (anywhere) and of activations (in the layer)."""
    weights = np.zeros(tiles.size, dtype=np.int64)
    acts = np.zeros(tiles.size, dtype=np.int64)
    next_weights = next_acts = 0
    for place in range(tiles.size - 1, -1, -1):
        weights[place], acts[place] = next_weights, next_acts
        if tiles[place].load_weights > 0:
            next_weights = tiles[place].load_weights
        if tiles[place].load_acts > 0:
            next_acts = tiles[place].load_acts
        if tiles[place].first:
            next_acts = 0
    return weights, acts


@njit(cache=True)
def _solve(
    tiles: Any, double: tuple[int, int, int], latency: int, waits: NDArray[np.int64], ends: NDArray[np.int64]
) -> int:
    next_weights, next_acts = _following(tiles)
    now, before = np.zeros(6, dtype=np.int64), np.zeros(6, dtype=np.int64)
    flags = np.zeros(3, dtype=np.bool_)
    seen = np.zeros(3, dtype=np.int64)
    pending = np.zeros(1, dtype=np.int64)
    for place in range(tiles.size):
        tile = tiles[place]
        wait = waits[tile.layer]
        done = 0
        while done < tile.repeat:
            before[:] = now
            seen[:] = wait
            more = done < tile.repeat - 1
            ahead_w = tile.load_weights if more and tile.load_weights > 0 else next_weights[place]
            ahead_a = tile.load_acts if more and tile.load_acts > 0 else next_acts[place]
            _tile(tile, double, latency, (ahead_w, ahead_a, pending[0]), flags, now, wait)
            pending[0] = tile.store
            done += 1
            if 1 < done < tile.repeat - 1 and _steady(tile, now, before):
                turns = tile.repeat - 1 - done
                moved = now[_ARRAY] - before[_ARRAY]
                for item in range(now.size):
                    if now[item] != before[item]:
                        now[item] += turns * moved
                for item in range(wait.size):
                    wait[item] += turns * (wait[item] - seen[item])
                done += turns
        ends[tile.layer] = max(now[_ARRAY], now[_VECTOR])
    closing = waits[tiles[tiles.size - 1].layer]
    closing[VECTOR_UNIT] += max(0, now[_VECTOR] - now[_ARRAY])
    final = max(now[_ARRAY], now[_VECTOR])
    stored = max(now[_CHANNEL], final) + pending[0] if pending[0] > 0 else now[_CHANNEL]
    closing[DRAM] += max(0, stored - final)
    return int(max(final, stored))


@njit(cache=True)
def _steady(tile: Any, now: NDArray[np.int64], before: NDArray[np.int64]) -> bool:
    """Tell whether all times moved alike in the last tile, those apart that such tiles neither change nor look at."""
    moved = now[_ARRAY] - before[_ARRAY]
    for item in range(now.size):
        if now[item] - before[item] == moved:
            continue
        if now[item] != before[item]:
            return False
        idle = (
            (item == _WEIGHTS and tile.load_weights == 0)
            or (item == _ACTS and tile.load_acts == 0)
            or (item == _CHANNEL and tile.load_weights + tile.load_acts + tile.store == 0)
            # A vector unit without work is looked at by steps and stores, which it then does not hold up.
            or (item in (_VECTOR, _BEFORE) and tile.vector + tile.vector_rest == 0 and now[_VECTOR] <= before[_ARRAY])
        )
        if not idle:
            return False
    return True


@njit(cache=True)
def _tile(
    tile: Any,
    double: tuple[int, int, int],
    latency: int,
    ahead: tuple[int, int, int],
    flags: NDArray[np.bool_],
    now: NDArray[np.int64],
    wait: NDArray[np.int64],
) -> None:
    """Advance all times by one tile.

    `double` tells whether weight, activation and accumulator buffer have two halves; `ahead` holds the cycles of the
    next blocks of weights and activations and of the store that is pending.
    """
    free = now[_ARRAY]
    barrier = max(free, now[_VECTOR]) if tile.first else free
    if ahead[2] > 0:
        now[_CHANNEL] = max(now[_CHANNEL], free, now[_VECTOR]) + ahead[2]
    if tile.load_acts > 0 and not flags[_ACTS_AHEAD]:
        now[_CHANNEL] = max(now[_CHANNEL], barrier) + tile.load_acts
        now[_ACTS] = now[_CHANNEL] + latency
    if tile.load_weights > 0 and not flags[_WEIGHTS_AHEAD]:
        now[_CHANNEL] = max(now[_CHANNEL], free) + tile.load_weights
        now[_WEIGHTS] = now[_CHANNEL] + latency
    ready = barrier
    if tile.load_acts > 0:
        ready = max(ready, now[_ACTS])
        flags[_ACTS_AHEAD] = False
    if tile.load_weights > 0:
        ready = max(ready, now[_WEIGHTS])
        flags[_WEIGHTS_AHEAD] = False
    if double[1] and ahead[1] > 0 and (tile.load_acts > 0 or tile.first):
        now[_CHANNEL] = max(now[_CHANNEL], free) + ahead[1]
        now[_ACTS] = now[_CHANNEL] + latency
        flags[_ACTS_AHEAD] = True
    if double[0] and ahead[0] > 0 and (tile.load_weights > 0 or not flags[_STARTED]):
        now[_CHANNEL] = max(now[_CHANNEL], free) + ahead[0]
        now[_WEIGHTS] = now[_CHANNEL] + latency
        flags[_WEIGHTS_AHEAD] = True
    flags[_STARTED] = True
    wait[VECTOR_UNIT] += barrier - free
    wait[DRAM] += ready - barrier
    if tile.kind == ON_ARRAY:
        _steps(tile, double[2], ready, now, wait)
        return
    end = max(ready, now[_VECTOR]) + tile.vector + tile.vector_rest
    wait[COPIES if tile.kind == DUPLICATION else VECTOR_UNIT] += end - ready
    now[_ARRAY] = now[_VECTOR] = now[_BEFORE] = end


@njit(cache=True)
def _steps(tile: Any, double: int, ready: int, now: NDArray[np.int64], wait: NDArray[np.int64]) -> None:
    """Run the steps of a tile: the array, and the requantizer behind it."""
    array, vector, earlier = ready, now[_VECTOR], now[_BEFORE]
    works = tile.vector + tile.vector_rest > 0
    step = 0
    while step < tile.steps:
        old_array, old_vector, old_earlier = array, vector, earlier
        gap = max(0, (earlier if double else vector) - array)
        array += gap + tile.array + (tile.array_rest if step == 0 else 0)
        wait[VECTOR_UNIT] += gap
        if works:
            earlier = vector
            vector = max(array, vector) + tile.vector + (tile.vector_rest if step == tile.steps - 1 else 0)
        step += 1
        moved = array - old_array
        if 1 < step < tile.steps - 1 and vector - old_vector == moved and earlier - old_earlier == moved:
            turns = tile.steps - 1 - step
            array, vector, earlier = array + turns * moved, vector + turns * moved, earlier + turns * moved
            wait[VECTOR_UNIT] += turns * gap
            step += turns
    now[_ARRAY], now[_VECTOR], now[_BEFORE] = array, vector, earlier
