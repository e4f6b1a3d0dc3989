"""Register-level engine of the arrays that hold an operand still: weight- and input-stationary.

Contract. ``stream[t, k]`` enters at the left, k over rows; ``still[k, c]`` stays in the PEs, k over rows, c over
columns; sums move down. WS streams activations past weights, IS streams weights past activations: one engine. In every
cycle PE (r, c), with registers ``moving``, ``sum`` and one or two (ping-pong) ``still``,

* multiplies the operand arriving from the left (column 0: from the edge) with its selected ``still`` register;
* at the clock edge ``moving`` takes the arriving operand and ``sum`` takes rule(sum of the PE above + product), row 0
  adding to zero. The accumulator memory under row rows - 1 adds what leaves the column, in fold order.

Element t of a fold that starts streaming in cycle s is at PE (r, c) in cycle s + t + r + c: rows are fed skewed, zeros
enter where there is no data. A MAC of depth d puts its sum out d - 1 cycles later. Stationary operands shift in from
the top, that of row rows - 1 first, one per cycle, column c delayed by c cycles; in load step j (0 .. rows - 1) the
rows 0 .. j shift, so that a row takes nothing but its own operand and those of the rows below it. Idle rows and columns
are loaded with zeros. Fold f uses bank f mod banks; PE (r, c) selects it from cycle s + r + c on.

``isolated`` has one bank: fold f + 1 loads when the last sum of fold f has been collected. ``overlapped`` has two:
fold f + 1 loads from the cycle in which fold f starts to stream, and streams once loaded and fold f's last element is
in. The controller decides this step by step; no cycle is computed.

Time. What a PE does, the PE to its right does one cycle later on the same streamed operand, and the PE below one cycle
later on the sum that it gets. So a *step* is one clock edge of every PE, PE (r, c) in cycle step + r + c (its adder
d - 1 later still): in a step one element passes all rows, and the sum register of PE (r, c) takes in step n what it
holds in cycle n + r + c + d. Banks are turned and loaded behind the last and before the first of these cycles. After
the last element comes one step of zeros, which all PEs but the last, whose sum ends the run, live to see.

Sums are clocked one by one, in `lanes.moved`. Registers that only shift are kept as what went into them: row r's moving
registers take ``stream[t, r]`` in step t; its stationary register holds, after load step j >= r, the fold's operand of
row rows - 1 - j + r. What an operand does to the moving registers and multipliers of its row is counted once for all.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.dataflow.jit import compiled, distance, flips, zeros_in
from accelsim.dataflow.lanes import CHAINS, LANES, moved, moved_one

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

_STEP, _LOADS, _STREAMS, _SHIFT_TOGGLES, _SHIFT_WRITES = range(5)
STATE_SIZE = 5
"""state[.] = step, folds begun to load and to stream, and what one more step of the load chains toggles and writes
below their top row."""


_X, _LENGTH, _OPERANDS, _COLUMNS, _STILL, _MEMORY = range(6)
"""folds[f, .] = place of its first element in the stream, elements, operands of k and columns in use, place of its
operands in `still`, place of its first sum in the memory."""


class Planes(NamedTuple):
    """The sum registers, flat, rows of `pitch` columns."""

    sums: NDArray[Any]  # [1 + rows + CHAINS, pitch]: a row of zeros, the registers, the last sums that left
    events: NDArray[Any]  # as sums: overflows met by the sums that left
    mask: NDArray[Any]  # [pitch], of the sums' type: the bits of a register


class Edge(NamedTuple):
    """What the registers that shift are counted by."""

    moving: NDArray[Any]  # [rows, lanes]: what entered last, that is column 0's moving registers
    zeros: NDArray[Any]  # [rows, lanes]: zeros among a row's stationary operands in columns in use


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
    moving_mask: int
    activity: bool


class Operands(NamedTuple):
    """Operands padded with zeros to whole folds, flat."""

    stream: NDArray[Any]  # [k fold, t, edge pitch]
    still: NDArray[Any]  # [column tile, k, pitch]


class Memory(NamedTuple):
    """The accumulator memory with its overflow maps, flat."""

    sums: NDArray[Any]  # [column tile, t, pitch], holds the bias at the start
    hop_events: NDArray[Any]  # as sums
    events: NDArray[Any]


@compiled
def _control(state, started, folds, shape):
    """Start what may start in this step: started[0, f], started[1, f] = step in which fold f began to load, stream."""
    step, rows, loads, streams = state[_STEP], shape.rows, state[_LOADS], state[_STREAMS]
    edge_free = streams == 0 or step - started[1, streams - 1] >= folds[streams - 1, _LENGTH]
    if streams < loads and step - started[0, streams] >= rows and edge_free:
        started[1, streams] = step
        streams += 1
    free = streams == loads
    if free and shape.banks == 1 and loads > 0:
        last = started[1, loads - 1] + folds[loads - 1, _LENGTH] - 1 + rows - 1 + shape.depth - 1 + shape.cols - 1
        free = step > last
    if loads < folds.shape[0] and free:
        started[0, loads] = step
        loads += 1
    state[_LOADS], state[_STREAMS] = loads, streams


@compiled
def _load(still, folds, state, started, shape, tally):
    """One clock edge of the load chains: count what it does.

    What enters at the top moves all that entered before one row down; row `step` takes the first operand, that of the
    last row, in place of what the fold before left in this bank.
    """
    f = state[_LOADS] - 1
    if f < 0 or state[_STEP] - started[0, f] >= shape.rows:
        return
    step, size, mask = state[_STEP] - started[0, f], shape.lanes * shape.pitch, np.int32(shape.still_mask)
    first, entered = folds[f, _STILL] + (shape.rows - 1) * size, folds[f, _STILL] + (shape.rows - 1 - step) * size
    nothing = np.int32(0)
    top, below = nothing, nothing
    if f < shape.banks:
        for value in still[first : first + size]:
            top = np.int32(top + np.int32(flips(nothing, value, mask)))
    else:
        held = folds[f - shape.banks, _STILL] + step * size
        top = distance(still[held : held + size], still[first : first + size], mask)
    if step == 0:
        state[_SHIFT_TOGGLES], state[_SHIFT_WRITES] = 0, 0
    else:
        below = distance(still[entered : entered + size], still[entered + size : entered + 2 * size], mask)
    state[_SHIFT_TOGGLES] += below
    operands = (
        min(shape.lanes, max(0, folds[f, _OPERANDS] - (shape.rows - 1 - step) * shape.lanes)) * folds[f, _COLUMNS]
    )
    tally[_STILL_READS] += operands
    state[_SHIFT_WRITES] += operands
    tally[_STILL_TOGGLES] += top + state[_SHIFT_TOGGLES]
    tally[_STILL_WRITES] += state[_SHIFT_WRITES]


@compiled
def _watch(edge, shape, data, fold, tally):
    """Count what the elements of a fold do to the moving registers and multipliers of all columns."""
    length, places, used, width = fold[_LENGTH], fold[_OPERANDS], fold[_COLUMNS], edge.moving.size
    mask, toggles, nothing, zeros, both = np.int32(shape.moving_mask), 0, np.int64(0), np.int64(0), np.int64(0)
    for i in range(places):
        place = fold[_STILL] + i * shape.pitch
        edge.zeros[i] = zeros_in(data.still[place : place + used])
        nothing += edge.zeros[i]
    held = edge.moving
    for t in range(length):
        at, found, met = fold[_X] + t * shape.edge_pitch, np.int32(0), np.int32(0)
        entered = data.stream[at : at + width]
        toggles += distance(held, entered, mask)
        held = entered
        for i in range(places):
            none = np.int32(entered[i] == 0)
            found = np.int32(found + none)
            met = np.int32(met + np.int32(none * edge.zeros[i]))
        zeros += found
        both += met
    for i in range(width):
        edge.moving[i] = held[i]
    tally[_MOVING_TOGGLES] += toggles * shape.cols
    tally[_ZERO_STILL] += nothing * length
    tally[_ZERO_MOVING] += zeros * used
    tally[_ZERO_EITHER] += zeros * used + nothing * length - both
    tally[_MACS] += places * used * length
    tally[_MOVING_READS] += places * length
    tally[_MOVING_WRITES] += places * length * shape.cols
    tally[_SUM_WRITES] += shape.rows * used * length
    tally[_MEMORY_WRITES] += used * length


@compiled
def _rest(edge, shape, tally):
    """Zeros enter in place of elements: all moving registers take zero."""
    for i in range(edge.moving.size):
        tally[_MOVING_TOGGLES] += flips(edge.moving[i], np.int32(0), np.int32(shape.moving_mask)) * shape.cols
        edge.moving[i] = 0


@compiled
def run(edge, shape, data, folds, state, started, tally):
    """Step the controller and all registers but the sums to the end of the last fold; return the cycles stepped.

    folds and state as above; started[0, f], started[1, f] = step in which fold f began to load and to stream. All start
    at zero and, with edge and tally, are updated in place. The sums, on which no control depends, are stepped by
    `add_up`.
    """
    resting, entering = True, 0
    while state[_STREAMS] < folds.shape[0] or entering:
        _control(state, started, folds, shape)
        f = state[_STREAMS] - 1
        if f >= 0 and started[1, f] == state[_STEP]:
            entering, resting = folds[f, _LENGTH], False
            if shape.activity:
                _watch(edge, shape, data, folds[f], tally)
        elif entering == 0 and not resting:
            _rest(edge, shape, tally)
            resting = True
        if shape.activity:
            _load(data.still, folds, state, started, shape, tally)
        state[_STEP] += 1
        entering = max(0, entering - 1)
    size = edge.moving.size
    for i in range(size - shape.lanes if shape.depth == 1 else size, size):
        tally[_MOVING_TOGGLES] -= flips(edge.moving[i], np.int32(0), np.int32(shape.moving_mask))
    _rest(edge, shape, tally)
    return state[_STEP] + (shape.rows - 1) + (shape.cols - 1) + (shape.depth - 1)


@compiled
def _collect(planes, memory, at, count, shape):
    """The accumulator memory takes the sums that have left the bottom row."""
    first, size, half = (1 + shape.rows) * shape.pitch, count * shape.pitch, shape.memory_half
    left, held = planes.sums[first : first + size], memory.sums[at : at + size]
    if shape.memory_rule == 0:
        for i in range(size):
            held[i] += left[i]
    else:
        events = memory.events[at : at + size]
        for i in range(size):
            exact = np.int64(held[i]) + np.int64(left[i])
            total = min(max(exact, -half), half - 1)
            if shape.memory_rule == 1:
                total = ((exact + half) & (half + half - 1)) - half
            held[i] = total
            events[i] += 1 if total != exact else 0
    if shape.sum_rule:
        met, events = planes.events[first : first + size], memory.hop_events[at : at + size]
        for i in range(size):
            events[i] += met[i]


@compiled
def _stream(variant, planes, shape, data, memory, fold):
    """The elements of a fold pass all rows, `CHAINS` of them at a time; return the sum registers' toggles."""
    rows, lanes, pitch, edge_pitch, half = shape.rows, shape.lanes, shape.pitch, shape.edge_pitch, shape.sum_half
    sums, events, mask, toggles, t = planes.sums, planes.events, planes.mask, 0, 0
    while t < fold[_LENGTH]:
        x, count = fold[_X] + t * edge_pitch, CHAINS if t + CHAINS <= fold[_LENGTH] else 1
        for c in range(0, pitch, LANES):
            below = c + pitch
            walk = (rows, lanes, x, lanes, edge_pitch, fold[_STILL] + c, pitch, c, below, below + rows * pitch, c)
            if count == 1:
                toggles += moved_one(variant, sums, events, data.still, data.stream, walk, mask, half)
            else:
                toggles += moved(variant, sums, events, data.still, data.stream, walk, mask, half)
        _collect(planes, memory, fold[_MEMORY] + t * pitch, count, shape)
        t += count
    return toggles


@compiled
def _clear(planes, shape):
    """All sum registers take zero; return their toggles."""
    sums, pitch, toggles = planes.sums, shape.pitch, 0
    for r in range(1, 1 + shape.rows):
        for c in range(pitch):
            toggles += flips(sums[r * pitch + c], sums[c], planes.mask[c])
            sums[r * pitch + c] = 0
    return toggles


@compiled
def add_up(variant, planes, shape, data, memory, folds, started, tally):
    """Step all sum registers and the accumulator memory through the folds; started as `run` left it.

    Zeros enter where a fold does not follow at once, and after the last; the last PE does not live to see that one.
    """
    toggles, last = 0, shape.rows * shape.pitch + shape.cols - 1
    for f in range(folds.shape[0]):
        if f and started[1, f] > started[1, f - 1] + folds[f - 1, _LENGTH]:
            toggles += _clear(planes, shape)
        toggles += _stream(variant, planes, shape, data, memory, folds[f])
    toggles -= flips(planes.sums[last], planes.sums[0], planes.mask[0])
    tally[_SUM_TOGGLES] += toggles + _clear(planes, shape)
