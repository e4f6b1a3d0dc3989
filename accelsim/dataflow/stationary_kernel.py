"""Register-level engine of the arrays that hold an operand still: weight- and input-stationary.

Contract. ``stream[t, k]`` enters at the left, k over rows; ``still[k, c]`` stays in the PEs, k over rows, c over
columns; sums move down. WS streams activations past weights, IS streams weights past activations: one engine. In every
cycle PE (r, c), with registers ``moving``, ``sum`` and one or two (ping-pong) ``still``,

* multiplies the operand arriving from the left (column 0: from the edge) with its selected ``still`` register;
* at the clock edge ``moving`` takes the arriving operand and ``sum`` takes rule(sum of the PE above + product), row 0
  adding to zero. The accumulator memory under row rows - 1 adds what leaves the column, in fold order.

Element t of a fold that starts streaming in cycle s is at PE (r, c) in cycle s + t + r + c: rows are fed skewed, zeros
enter where there is no data. Stationary operands shift in from the top, that of row rows - 1 first, one per cycle,
column c delayed by c cycles; in load step j (0 .. rows - 1) the rows 0 .. j shift, so that a row takes nothing but its
own operand and those of the rows below it. Idle rows and columns are loaded with zeros. Fold f uses bank f mod banks;
PE (r, c) selects it from cycle s + r + c on.

``isolated`` has one bank: fold f + 1 loads when the last sum of fold f has been collected. ``overlapped`` has two:
fold f + 1 loads from the cycle in which fold f starts to stream, and streams once loaded and fold f's last element is
in. The controller decides this cycle by cycle; no cycle is computed.

Planes are flat, ordered (column, product lane, row): a hop to the right is a copy between aligned columns, a hop down
is an offset of one, so both vectorise, and what enters in a cycle is contiguous (written element by element it would
stall the vector loads that follow). Two sets of planes alternate, as the two sides of the clock edge.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.dataflow.jit import compiled, flips

TALLY = (
    "stationary_toggles",
    "moving_toggles",
    "sum_toggles",
    "macs",
    "zero_moving",
    "zero_stationary",
    "zero_either",
    "moving_writes",
    "sum_writes",
    "stationary_writes",
    "moving_reads",
    "stationary_reads",
    "memory_writes",
)
_STILL_TOGGLES, _MOVING_TOGGLES, _SUM_TOGGLES = 0, 1, 2
_MACS, _ZERO_MOVING, _ZERO_STILL, _ZERO_EITHER = 3, 4, 5, 6
_MOVING_WRITES, _SUM_WRITES, _STILL_WRITES = 7, 8, 9
_MOVING_READS, _STILL_READS, _MEMORY_WRITES = 10, 11, 12


class Planes(NamedTuple):
    """The array's registers. The first index of a double plane is the side of the clock edge: cycle mod 2 holds.

    `*_in[side]` is what arrives at each PE, `*_reg[side]` what its register holds: two views of one memory, shifted by
    the hop.
    """

    moving_in: NDArray[Any]  # [2, (cols + 1) * lanes * rows]
    moving_reg: NDArray[Any]
    valid_in: NDArray[Any]  # 3 beside an element of a stream, else 0; only where activity is counted
    valid_reg: NDArray[Any]
    sum_in: NDArray[Any]  # [2, >= cols * rows]
    sum_reg: NDArray[Any]
    event_in: NDArray[Any]  # overflows met by the sum beside it
    event_reg: NDArray[Any]
    banks: NDArray[Any]  # [banks, cols, lanes, rows]
    selected: NDArray[Any]  # [cols, lanes, rows], the output of the bank multiplexer
    useful: NDArray[Any]  # [cols, lanes, rows]: bit 0 row and lane hold an element, bit 1 column in use
    inner: NDArray[Any]  # [cols * rows]: 0 in row 0, which adds to zero, else -1
    products: NDArray[Any]  # [depth, cols * rows]: index 0 the multiplier's output, then its pipeline registers
    moving_cells: NDArray[Any]  # the same memory: moving_in as [2, cols + 1, lanes, rows]
    sum_cells: NDArray[Any]  # sum_reg as [2, cols, rows]
    event_cells: NDArray[Any]
    product_cells: NDArray[Any]  # [depth, cols, rows]
    flat_selected: NDArray[Any]
    flat_useful: NDArray[Any]
    scratch: NDArray[Any]  # [rows + 1]
    sum_mask: NDArray[Any]  # [1], of the sums' type: the bits of a sum register


class Shape(NamedTuple):
    """Sizes and rules."""

    rows: int
    cols: int
    lanes: int
    depth: int
    banks: int
    sum_bits: int
    sum_rule: int
    memory_bits: int
    memory_rule: int
    stream_mask: int
    still_mask: int
    sum_mask: int
    activity: bool


class Data(NamedTuple):
    """Operands padded with zeros to whole folds, and the accumulator memory with its overflow maps.

    The stream and the memory lie skewed, as the edges of the array see them: fold after fold, in stream row u the
    element u - r for row r, in memory row u the sum of element u - c for column c.
    """

    stream: NDArray[Any]  # [u, lanes * rows]
    still: NDArray[Any]  # [k, c]
    memory: NDArray[Any]  # [u, cols], holds the bias at the start
    hop_events: NDArray[Any]  # [u, cols]
    memory_events: NDArray[Any]  # [u, cols]


@compiled
def _multiply_add(moving_in, moving_reg, still, sum_in, sum_reg, inner, side):
    """One clock edge of all PEs with one product and one MAC stage: multiply, add, hop down, hop right."""
    for i in range(still.size):
        x = moving_in[side, i]
        moving_reg[1 - side, i] = x
        sum_reg[1 - side, i] = (sum_in[side, i] & inner[i]) + x * still[i]


@compiled
def _multiply(moving, still, products, side):
    """Product registers shift, then every multiplier puts out the exact sum over its lanes.

    moving[2, > cols, lanes, rows], still[cols, lanes, rows], products[depth, cols, rows].
    """
    cols, lanes, rows = still.shape
    for stage in range(products.shape[0] - 1, 0, -1):
        for c in range(cols):
            for r in range(rows):
                products[stage, c, r] = products[stage - 1, c, r]
    for c in range(cols):
        for r in range(rows):
            products[0, c, r] = moving[side, c, 0, r] * still[c, 0, r]
        for lane in range(1, lanes):
            for r in range(rows):
                products[0, c, r] += moving[side, c, lane, r] * still[c, lane, r]


@compiled
def _hop(moving_in, moving_reg, still, side):
    """One clock edge of the moving registers."""
    for i in range(still.size):
        moving_reg[1 - side, i] = moving_in[side, i]


@compiled
def _add(products, sum_in, sum_reg, inner, side):
    """One clock edge of the sum registers, given the products that have reached the adders: the last stage's."""
    last = products.shape[0] - 1
    for i in range(inner.size):
        sum_reg[1 - side, i] = (sum_in[side, i] & inner[i]) + products[last, i]


@compiled
def _obey(planes, shape, side):
    """Bring the new sums into range; overflows are counted along with the sum that they befell."""
    sum_reg, event_in, event_reg, inner = planes.sum_reg, planes.event_in, planes.event_reg, planes.inner
    half = np.int64(1) << (shape.sum_bits - 1)
    if shape.sum_rule == 1:
        for i in range(inner.size):
            s = sum_reg[1 - side, i]
            sum_reg[1 - side, i] = ((s + half) & (half + half - 1)) - half
            event_reg[1 - side, i] = (event_in[side, i] & inner[i]) + (1 if sum_reg[1 - side, i] != s else 0)
    else:
        for i in range(inner.size):
            s = sum_reg[1 - side, i]
            sum_reg[1 - side, i] = min(max(s, -half), half - 1)
            event_reg[1 - side, i] = (event_in[side, i] & inner[i]) + (1 if sum_reg[1 - side, i] != s else 0)


@compiled
def _sum_toggles(sum_reg, mask, size):
    """Bits in which the sum registers differ across the clock edge."""
    total = np.int32(0)
    for i in range(size):
        total = np.int32(total + np.int32(flips(sum_reg[0, i], sum_reg[1, i], mask[0])))
    return np.int64(total)


@compiled
def _watch(planes, mask, tally, side):
    """Count what the coming clock edge does to the moving registers and the MACs; move the valid bits along."""
    moving_in, moving_reg, still, useful = planes.moving_in, planes.moving_reg, planes.flat_selected, planes.flat_useful
    valid_in, valid_reg, lane_mask = planes.valid_in, planes.valid_reg, np.int32(mask)
    toggles, macs, writes, columns = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    zero_x, zero_w, zero_xw = np.int32(0), np.int32(0), np.int32(0)
    for i in range(still.size):
        valid = valid_in[side, i]
        valid_reg[1 - side, i] = valid
        flags = np.int32(valid & useful[i])
        toggles = np.int32(toggles + flips(moving_reg[side, i], moving_in[side, i], lane_mask))
        mac = np.int32(1) if flags == 3 else np.int32(0)
        x = mac if moving_in[side, i] == 0 else np.int32(0)
        w = mac if still[i] == 0 else np.int32(0)
        macs = np.int32(macs + mac)
        zero_x = np.int32(zero_x + x)
        zero_w = np.int32(zero_w + w)
        zero_xw = np.int32(zero_xw + np.int32(x | w))
        writes = np.int32(writes + np.int32(flags & 1))
        columns = np.int32(columns + np.int32(flags >> 1))
    tally[_MOVING_TOGGLES] += toggles
    tally[_MACS] += macs
    tally[_ZERO_MOVING] += zero_x
    tally[_ZERO_STILL] += zero_w
    tally[_ZERO_EITHER] += zero_xw
    tally[_MOVING_WRITES] += writes
    tally[_SUM_WRITES] += columns


@compiled
def _feed(moving_in, stream, row, side):
    """Present a row of the skewed stream at column 0: zeros beside its fold leave another fold's elements alone."""
    for i in range(stream.shape[1]):
        moving_in[side, i] |= stream[row, i]


@compiled
def _feed_valid(valid_in, shape, folds, f, age, tally, side):
    """Send valid bits along with a fold's elements, and count the elements read."""
    length, k0, k1, rows, lanes = folds[f, 1], folds[f, 2], folds[f, 3], shape.rows, shape.lanes
    for r in range(max(0, age - length + 1), min(rows, age + 1)):
        for lane in range(lanes):
            valid_in[side, lane * rows + r] = 3
            tally[_MOVING_READS] += 1 if k0 + r * lanes + lane < k1 else 0


@compiled
def _watch_cycle(planes, shape, data, folds, state, started, tally):
    """Count what the coming clock edge does, and send valid bits along with the stream."""
    cycle, side = state[0], state[0] & 1
    for i in range(shape.lanes * shape.rows):
        planes.valid_in[side, i] = 0
    for f in range(state[5], state[2]):
        _feed_valid(planes.valid_in, shape, folds, f, cycle - started[1, f], tally, side)
    _watch(planes, shape.stream_mask, tally, side)
    for f in range(state[3], state[1]):
        _watch_load(planes.banks, data.still, folds, f, cycle - started[0, f], shape.still_mask, tally)


@compiled
def _select(banks, selected, useful, folds, f, age):
    """Turn the PEs of one anti-diagonal, r + c = age, to the bank of fold f. useful has no columns unless watched."""
    k0, k1, c0, c1 = folds[f, 2], folds[f, 3], folds[f, 4], folds[f, 5]
    count, cols, lanes, rows = banks.shape
    for c in range(max(0, age - rows + 1), min(cols, age + 1)):
        r = age - c
        for lane in range(lanes):
            selected[c, lane, r] = banks[f % count, c, lane, r]
            if useful.shape[0]:
                useful[c, lane, r] = (1 if k0 + r * lanes + lane < k1 else 0) + (2 if c0 + c < c1 else 0)


@compiled
def _load(banks, scratch, still, folds, f, age):
    """One clock edge of the load chains: column c is at step age - c, its rows 0 .. step take from above."""
    k0, c0 = folds[f, 2], folds[f, 4]
    count, cols, lanes, rows = banks.shape
    bank = f % count
    for c in range(max(0, age - rows + 1), min(cols, age + 1)):
        step = age - c
        for lane in range(lanes):
            scratch[0] = still[k0 + (rows - 1 - step) * lanes + lane, c0 + c]
            for r in range(rows):
                scratch[r + 1] = banks[bank, c, lane, r]
            for r in range(rows):
                banks[bank, c, lane, r] = scratch[r] if r <= step else scratch[r + 1]


@compiled
def _watch_load(banks, still, folds, f, age, mask, tally):
    """Count what `_load` is about to do."""
    k0, k1, c0, c1 = folds[f, 2], folds[f, 3], folds[f, 4], folds[f, 5]
    count, cols, lanes, rows = banks.shape
    bank = f % count
    for c in range(max(0, age - rows + 1), min(cols, age + 1)):
        first = rows - 1 - (age - c)
        for lane in range(lanes):
            coming = still[k0 + first * lanes + lane, c0 + c]
            toggles = np.int64(flips(banks[bank, c, lane, 0], coming, np.int32(mask)))
            for r in range(1, age - c + 1):
                toggles += flips(banks[bank, c, lane, r], banks[bank, c, lane, r - 1], np.int32(mask))
            tally[_STILL_TOGGLES] += toggles
            if c0 + c < c1:
                tally[_STILL_READS] += 1 if k0 + first * lanes + lane < k1 else 0
                tally[_STILL_WRITES] += max(0, (k1 - k0 - lane + lanes - 1) // lanes - first)


@compiled
def _read_bottom(cells, memory, row, first, last, side):
    """Add to a memory row what the bottom row's registers hold in columns first .. last - 1. cells[2, cols, rows]."""
    r = cells.shape[2] - 1
    for c in range(max(0, first), last):
        memory[row, c] += cells[side, c, r]


@compiled
def _obey_memory(memory, events, row, first, last, bits, rule):
    """Bring what the memory has just added up into range."""
    half = np.int64(1) << (bits - 1)
    for c in range(max(0, first), last):
        total = memory[row, c]
        held = min(max(total, -half), half - 1)
        if held != total:
            events[row, c] += 1
            memory[row, c] = held if rule == 2 else ((total + half) & (half + half - 1)) - half


@compiled
def _collect(planes, data, folds, state, started, shape, cycle):
    """The accumulator memory takes what reached the bottom row at the end of `cycle`; return the sums it took.

    Called a cycle later: reading registers just written would wait for them.
    """
    taken = 0
    side = 1 - cycle & 1
    for f in range(state[7], state[2]):
        age = cycle - started[1, f] - (shape.rows - 1) - (shape.depth - 1)
        row, first, last = folds[f, 6] + age, age - folds[f, 1] + 1, min(shape.cols, age + 1)
        _read_bottom(planes.sum_cells, data.memory, row, first, last, side)
        if shape.sum_rule:
            _read_bottom(planes.event_cells, data.hop_events, row, first, last, side)
        if shape.memory_rule:
            _obey_memory(data.memory, data.memory_events, row, first, last, shape.memory_bits, shape.memory_rule)
        taken += max(0, min(last, folds[f, 5] - folds[f, 4]) - max(0, first))
        if age == folds[f, 1] + shape.cols - 2:
            state[7] += 1
    return taken


@compiled
def _control(state, started, folds, shape):
    """Start what may start in this cycle, and pass over what has ended.

    state = [cycle, folds begun to load, folds begun to stream, then the first fold still loading, turning PEs to its
    bank, feeding, summing, being collected]; started[0, f], started[1, f] = cycle in which fold f began to load, to
    stream.
    """
    cycle, rows, cols = state[0], shape.rows, shape.cols
    loads, streams = state[1], state[2]
    edge_free = streams == 0 or cycle - started[1, streams - 1] >= folds[streams - 1, 1]
    if streams < loads and cycle - started[0, streams] >= rows and edge_free:
        started[1, streams] = cycle
        streams += 1
    free = streams == loads if shape.banks == 2 else state[6] == loads
    if loads < folds.shape[0] and free:
        started[0, loads] = cycle
        loads += 1
    state[1], state[2] = loads, streams
    if state[3] < loads and cycle - started[0, state[3]] > rows + cols - 2:
        state[3] += 1
    if state[4] < streams and cycle - started[1, state[4]] > rows + cols - 2:
        state[4] += 1
    if state[5] < streams and cycle - started[1, state[5]] > folds[state[5], 1] + rows - 2:
        state[5] += 1


@compiled
def _step(planes, shape, side):
    """One clock edge of all moving and sum registers."""
    if shape.lanes == 1 and shape.depth == 1:
        _multiply_add(
            planes.moving_in, planes.moving_reg, planes.flat_selected, planes.sum_in, planes.sum_reg, planes.inner, side
        )
    else:
        _multiply(planes.moving_cells, planes.selected, planes.product_cells, side)
        _hop(planes.moving_in, planes.moving_reg, planes.flat_selected, side)
        _add(planes.products, planes.sum_in, planes.sum_reg, planes.inner, side)
    if shape.sum_rule:
        _obey(planes, shape, side)


@compiled
def run(planes, shape, data, folds, state, started, tally):
    """Step the array until the last sum of the last fold has been collected; return the cycles stepped.

    folds[f] = (first stream row, length, k0, k1, c0, c1, first memory row); for state and started see `_control`.
    Planes, memory, event maps and tally are updated in place.
    """
    lag = shape.rows - 1 + shape.depth - 1
    while state[6] < folds.shape[0]:
        cycle = state[0]
        side = cycle & 1
        _control(state, started, folds, shape)
        for i in range(shape.lanes * shape.rows):
            planes.moving_in[side, i] = 0
        for f in range(state[5], state[2]):
            _feed(planes.moving_in, data.stream, folds[f, 0] + cycle - started[1, f], side)
        for f in range(state[4], state[2]):
            _select(planes.banks, planes.selected, planes.useful, folds, f, cycle - started[1, f])
        if shape.activity:
            _watch_cycle(planes, shape, data, folds, state, started, tally)
        _step(planes, shape, side)
        if shape.activity:
            tally[_SUM_TOGGLES] += _sum_toggles(planes.sum_reg, planes.sum_mask, planes.inner.size)
        for f in range(state[3], state[1]):
            _load(planes.banks, planes.scratch, data.still, folds, f, cycle - started[0, f])
        tally[_MEMORY_WRITES] += _collect(planes, data, folds, state, started, shape, cycle - 1)
        if state[6] < state[2] and cycle - started[1, state[6]] == folds[state[6], 1] + shape.cols - 2 + lag:
            state[6] += 1
        state[0] = cycle + 1
    tally[_MEMORY_WRITES] += _collect(planes, data, folds, state, started, shape, state[0] - 1)
    return state[0]
