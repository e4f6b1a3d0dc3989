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

Time. All that a column does, the column to its right does one cycle later, on the same streamed operands. So a *step*
is one clock edge of every PE, column c in cycle step + c: a row of PEs is then a vector that shares one operand. After
the last sum of column 0 come cols - 1 steps in which the columns still running, one fewer each time, are counted.

Steps in which nothing begins or ends are run by `_stream_on`, all others by `_step`; both clock every sum.

Registers that only shift are kept as what went into them: ``edge`` has the operands that entered the rows' delay
lines, newest at row `place`, so that row r's moving registers take ``edge[place - r, r]``; ``chain`` has a fold's
stationary operands in the order in which they were shifted in, so that row r holds ``chain[j - r]`` after load step
j >= r. Sums are held and clocked, one by one. What an operand does to the moving registers and multipliers of its row
is counted when it enters: it passes all of them.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.dataflow.jit import compiled, flips
from accelsim.dataflow.lanes import LANES, clock, copy

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

_STEP, _LOADS, _STREAMS, _COLLECTED, _PLACE, _SHIFT_TOGGLES, _SHIFT_WRITES = range(7)
STATE_SIZE = 7
"""state[.] = step, folds begun to load and to stream, folds collected, newest row of the edge, and what one more step
of the load chains toggles and writes below their top row."""


class Planes(NamedTuple):
    """The array's registers, flat, rows of `pitch` columns."""

    sums: NDArray[Any]  # [1 + rows, pitch]: a row of zeros, then the sum registers
    events: NDArray[Any]  # overflows met by the sum beside it
    chain: NDArray[Any]  # [banks + 1, rows, lanes, pitch]: the folds' stationary operands, row rows - 1 first
    edge: NDArray[Any]  # [edge rows, edge pitch]
    moving: NDArray[Any]  # [2, edge pitch]: what entered last, that is column 0's moving registers; a row of zeros
    moving_mask: NDArray[Any]  # [edge pitch]: the bits of a moving register
    products: NDArray[Any]  # [1 + depth * rows, pitch]: a row of zeros, then by stage what the multipliers put out
    ones: NDArray[Any]  # [1]
    mask: NDArray[Any]  # [pitch], of the sums' type: the bits of a sum register in a column that is counted
    zeros: NDArray[Any]  # [banks + 1, rows, lanes]: zeros among a row's stationary operands in columns in use


class Shape(NamedTuple):
    """Sizes and rules; `sum_half`, `memory_half` are half of the ranges."""

    rows: int
    cols: int
    lanes: int
    depth: int
    banks: int
    pitch: int
    edge_pitch: int
    sum_rule: int
    sum_half: int
    memory_rule: int
    memory_half: int
    still_mask: int
    activity: bool


class Data(NamedTuple):
    """Operands padded with zeros to whole folds, and the accumulator memory with its overflow maps, all flat."""

    stream: NDArray[Any]  # [t, k]
    stream_pitch: int
    still: NDArray[Any]  # [column tile, k, pitch]
    still_depth: int
    memory: NDArray[Any]  # [column tile, t, pitch], holds the bias at the start
    hop_events: NDArray[Any]  # as memory
    memory_events: NDArray[Any]


def edge_rows(rows: int) -> int:
    """Return the rows of operands that the edge keeps: its history is moved to the front when it is full."""
    return 2 * rows + LANES


@compiled
def _control(state, started, folds, shape):
    """Start what may start in this step: started[0, f], started[1, f] = step in which fold f began to load, stream."""
    step, rows, loads, streams = state[_STEP], shape.rows, state[_LOADS], state[_STREAMS]
    edge_free = streams == 0 or step - started[1, streams - 1] >= folds[streams - 1, 1]
    if streams < loads and step - started[0, streams] >= rows and edge_free:
        started[1, streams] = step
        streams += 1
    free = streams == loads
    if free and shape.banks == 1 and loads > 0:
        last = started[1, loads - 1] + folds[loads - 1, 1] - 1 + rows - 1 + shape.depth - 1 + shape.cols - 1
        free = step > last
    if loads < folds.shape[0] and free:
        started[0, loads] = step
        loads += 1
    state[_LOADS], state[_STREAMS] = loads, streams


@compiled
def _enter(planes, data, folds, state, started, shape, tally):
    """Put what enters the rows' delay lines in this step on the edge: an element of the stream, or zeros."""
    edge, width, pitch = planes.edge, shape.rows * shape.lanes, shape.edge_pitch
    place, f = state[_PLACE] + 1, state[_STREAMS] - 1
    if place * pitch == edge.size:
        copy(edge, (place - shape.rows) * pitch, edge, 0, shape.rows * pitch)
        place = shape.rows
    state[_PLACE] = place
    age = state[_STEP] - started[1, f] if f >= 0 else 0
    if f >= 0 and age < folds[f, 1]:
        copy(data.stream, (folds[f, 0] + age) * data.stream_pitch + folds[f, 2], edge, place * pitch, width)
        if shape.activity:
            _watch(planes, folds, f, place * pitch, shape, tally)
    else:
        for i in range(width):
            edge[place * pitch + i] = 0
    if shape.activity:
        over = f == folds.shape[0] - 1 and age >= folds[f, 1]
        _watch_moving(planes, place * pitch, over, shape, tally)


@compiled
def _load(planes, data, folds, state, started, shape, tally):
    """One clock edge of the load chains: what enters at the top moves all that entered before one row down."""
    f = state[_LOADS] - 1
    if f < 0 or state[_STEP] - started[0, f] >= shape.rows:
        return
    step = state[_STEP] - started[0, f]
    region, r = f % (shape.banks + 1), shape.rows - 1 - step
    first = (region * shape.rows + step) * shape.lanes
    for lane in range(shape.lanes):
        k = folds[f, 4] // shape.cols * data.still_depth + folds[f, 2] + r * shape.lanes + lane
        copy(data.still, k * shape.pitch, planes.chain, (first + lane) * shape.pitch, shape.pitch)
    if shape.activity:
        _watch_load(planes, folds, f, step, state, shape, tally)


@compiled
def _watch_load(planes, folds, f, step, state, shape, tally):
    """Count what `_load` did: the row `step` took the first operand in place of an earlier fold's."""
    chain, size, lanes = planes.chain, shape.lanes * shape.pitch, shape.lanes
    regions, r, used = shape.banks + 1, shape.rows - 1 - step, folds[f, 5] - folds[f, 4]
    mask, first = np.int32(shape.still_mask), f % regions * shape.rows * size
    earlier = (f + 1) % regions * shape.rows * size + r * size
    if step == 0:
        state[_SHIFT_TOGGLES], state[_SHIFT_WRITES] = 0, 0
    top, below = np.int64(0), np.int64(0)
    for i in range(size):
        top += flips(chain[earlier + i], chain[first + i], mask)
    if step:
        entered = first + step * size
        for i in range(size):
            below += flips(chain[entered - size + i], chain[entered + i], mask)
    tally[_STILL_TOGGLES] += top
    state[_SHIFT_TOGGLES] += below
    for lane in range(lanes):
        entered, nothing = first + step * size + lane * shape.pitch, 0
        for c in range(used):
            nothing += 1 if chain[entered + c] == 0 else 0
        planes.zeros[(f % regions * shape.rows + r) * lanes + lane] = nothing
        if folds[f, 2] + r * lanes + lane < folds[f, 3]:
            tally[_STILL_READS] += used
            state[_SHIFT_WRITES] += used
    tally[_STILL_TOGGLES] += state[_SHIFT_TOGGLES]
    tally[_STILL_WRITES] += state[_SHIFT_WRITES]


@compiled
def _watch_moving(planes, at, over, shape, tally):
    """Count what the row `at` of the edge changes in the moving registers: of all columns, each in its cycle.

    The run ends with the last sum, before the last PE's registers have taken a zero that enters behind the last fold.
    """
    walk, toggles = (1, shape.edge_pitch, 0, 0, 0, at, 0, 0, 0), 0
    corner = shape.rows * shape.lanes - shape.lanes
    for i in range(corner, corner + shape.lanes if over and shape.depth == 1 else corner):
        tally[_MOVING_TOGGLES] -= flips(planes.moving[i], planes.edge[at + i], planes.moving_mask[i])
    for column in range(0, shape.edge_pitch, LANES):
        toggles += clock(
            0, True, planes.moving, planes.moving, planes.edge, planes.ones, walk, column, planes.moving_mask, 0
        )
    tally[_MOVING_TOGGLES] += toggles * shape.cols


@compiled
def _watch(planes, folds, f, at, shape, tally):
    """Count the MACs of the element in row `at` of the edge, all of which meet fold f's stationary operands."""
    region, used, width = f % (shape.banks + 1), folds[f, 5] - folds[f, 4], shape.rows * shape.lanes
    places, zeros, either, still = folds[f, 3] - folds[f, 2], 0, 0, 0
    for i in range(places):
        nothing = planes.zeros[region * width + i]
        still += nothing
        none = planes.edge[at + i] == 0
        zeros += 1 if none else 0
        either += used if none else nothing
    tally[_ZERO_STILL] += still
    tally[_ZERO_MOVING] += zeros * used
    tally[_ZERO_EITHER] += either
    tally[_MACS] += places * used
    tally[_MOVING_READS] += places
    tally[_MOVING_WRITES] += places * shape.cols
    tally[_SUM_WRITES] += shape.rows * used


@compiled
def _multiply(planes, low, high, region, state, shape):
    """The multipliers of the rows low .. high - 1 put the exact sum over their lanes into their first stage."""
    rows, lanes, pitch, last = shape.rows, shape.lanes, shape.pitch, high - 1
    target = (1 + state[_STEP] % shape.depth * rows + last) * pitch
    for lane in range(lanes):
        source, step = (target, -pitch) if lane else (0, 0)
        factor = ((region * rows + rows - 1 - last) * lanes + lane) * pitch
        x = (state[_PLACE] - last) * shape.edge_pitch + last * lanes + lane
        walk = (high - low, source, step, target, -pitch, factor, lanes * pitch, x, shape.edge_pitch - lanes)
        for column in range(0, pitch, LANES):
            clock(0, False, planes.products, planes.events, planes.chain, planes.edge, walk, column, planes.mask, 0)


@compiled
def _add(planes, walk, factors, xs, shape, tally):
    """One clock edge of the sums of some rows."""
    toggles = 0
    for column in range(0, shape.pitch, LANES):
        toggles += clock(
            shape.sum_rule,
            shape.activity,
            planes.sums,
            planes.events,
            factors,
            xs,
            walk,
            column,
            planes.mask,
            shape.sum_half,
        )
    tally[_SUM_TOGGLES] += toggles


@compiled
def _clock_rows(planes, low, high, region, state, shape, tally):
    """One clock edge of the sums of the rows low .. high - 1 of PEs with one product and one MAC stage."""
    pitch, count = shape.pitch, high - low
    x = (state[_PLACE] - high + 1) * shape.edge_pitch + high - 1
    factor = (region * shape.rows + shape.rows - high) * pitch
    walk = (count, (high - 1) * pitch, -pitch, high * pitch, -pitch, factor, pitch, x, shape.edge_pitch - 1)
    _add(planes, walk, planes.chain, planes.edge, shape, tally)


@compiled
def _clock(planes, state, started, shape, tally):
    """One clock edge of all sums. PEs have turned to the newest fold's bank in the rows that it has reached."""
    rows, pitch, f = shape.rows, shape.pitch, max(0, state[_STREAMS] - 1)
    reached = min(rows, state[_STEP] - started[1, f] + 1) if state[_STREAMS] else 0
    direct = shape.lanes == 1 and shape.depth == 1
    for part in range(2):
        low, high = (0, reached) if part else (reached, rows)
        region = (f if part else max(0, f - 1)) % (shape.banks + 1)
        if low == high:
            continue
        if direct:
            _clock_rows(planes, low, high, region, state, shape, tally)
        else:
            _multiply(planes, low, high, region, state, shape)
    if not direct:
        factor = (1 + (state[_STEP] + 1) % shape.depth * rows + rows - 1) * pitch
        walk = (rows, (rows - 1) * pitch, -pitch, rows * pitch, -pitch, factor, -pitch, 0, 0)
        _add(planes, walk, planes.products, planes.ones, shape, tally)


@compiled
def _collect(planes, data, folds, state, started, shape, tally):
    """The accumulator memory takes the sums that have reached the bottom row."""
    f = state[_COLLECTED]
    if f >= state[_STREAMS]:
        return
    age = state[_STEP] - started[1, f] - (shape.rows - 1) - (shape.depth - 1)
    if age < 0:
        return
    at, bottom, mask = (folds[f, 6] + age) * shape.pitch, shape.rows * shape.pitch, planes.mask
    walk = (1, at, 0, at, 0, bottom, 0, 0, 0)
    memory, events, half = data.memory, data.memory_events, shape.memory_half
    for column in range(0, shape.pitch, LANES):
        clock(shape.memory_rule, False, memory, events, planes.sums, planes.ones, walk, column, mask, half)
    if shape.sum_rule:
        for column in range(0, shape.pitch, LANES):
            clock(0, False, data.hop_events, data.hop_events, planes.events, planes.ones, walk, column, mask, half)
    tally[_MEMORY_WRITES] += folds[f, 5] - folds[f, 4]
    if age == folds[f, 1] - 1:
        state[_COLLECTED] += 1


@compiled
def _step(planes, shape, data, folds, state, started, tally):
    """One clock edge of every PE."""
    _enter(planes, data, folds, state, started, shape, tally)
    _clock(planes, state, started, shape, tally)
    _load(planes, data, folds, state, started, shape, tally)
    _collect(planes, data, folds, state, started, shape, tally)
    state[_STEP] += 1


@compiled
def _uneventful(folds, state, started, shape):
    """Return in how many steps from now on nothing happens but that a fold streams past one bank and is collected."""
    f, rows = state[_STREAMS] - 1, shape.rows
    if f < 0 or state[_COLLECTED] != f or shape.lanes > 1 or shape.depth > 1:
        return 0
    age = state[_STEP] - started[1, f]
    loading = state[_STEP] - started[0, state[_LOADS] - 1] < rows
    return 0 if loading or age < rows - 1 else folds[f, 1] - age


@compiled
def _stream_on(planes, shape, data, folds, state, started, tally, steps):
    """Clock every PE as often as `_uneventful` says."""
    region = (state[_STREAMS] - 1) % (shape.banks + 1)
    for _ in range(steps):
        _enter(planes, data, folds, state, started, shape, tally)
        _clock_rows(planes, 0, shape.rows, region, state, shape, tally)
        _collect(planes, data, folds, state, started, shape, tally)
        state[_STEP] += 1


@compiled
def run(planes, shape, data, folds, state, started, tally):
    """Step the array until the last sum of the last fold has been collected; return the cycles stepped.

    folds[f] = (first t, length, k0, k1, c0, c1, first memory row); state and started as above, zero at reset. Planes,
    memory, event maps and tally are updated in place.
    """
    state[_PLACE] = shape.rows - 1
    while state[_COLLECTED] < folds.shape[0]:
        _control(state, started, folds, shape)
        steps = _uneventful(folds, state, started, shape)
        if steps > 0:
            _stream_on(planes, shape, data, folds, state, started, tally, steps)
        else:
            _step(planes, shape, data, folds, state, started, tally)
    for width in range(shape.cols - 1, 0, -1):
        planes.mask[width] = 0
        _step(planes, shape, data, folds, state, started, tally)
    return state[_STEP]
