"""Register-level engine of the output-stationary array.

Contract. ``x[row, (t, lane)]`` enters at the left and moves right, ``w[(t, lane), column]`` enters at the top and moves
down, both skewed; sums stay in the PEs. In every cycle PE (r, c), with registers for either moving operand and one or
two (ping-pong) sums,

* multiplies what arrives from the left with what arrives from above;
* at the clock edge passes both on, and its sum takes rule(sum + product). At a fold's first product the PE takes the
  bias, which a wire down the column carries, in place of the sum.

Element t of a fold that starts in cycle s is at PE (r, c) in cycle s + t + r + c. A MAC of depth d adds the product
d - 1 cycles later. Column c drains from cycle s + T + rows - 1 + c + d - 1 on: in step j (0 .. rows - 1) its bottom PE
puts out the sum of row rows - 1 - j, and the rows below j take from above. Fold f uses sum register f mod banks.

``isolated`` has one sum per PE: the next fold starts when the last sum has left. ``overlapped`` has two: the next fold
starts when the last element is in and the bias wires and drain chains, busy for `rows` cycles, are free.

Time. What a PE does, the PEs to its right and below do one cycle later, on the same operands. So a *step* is one clock
edge of every PE, PE (r, c) in cycle step + r + c (its adder d - 1 later still): in a step an element of every row meets
one of every column, and the sum register of PE (r, c) takes in step n what it holds in cycle n + r + c + d. The drain
comes behind the last of these cycles, and ends before the bank's next fold comes. No cycle is computed but the last:
steps end with the last element, and its sum leaves after the skew, the adder and the drain.

Sums are clocked one by one, in `lanes.stayed`. Registers that only shift are kept as what went into them: in step t row
r's activation registers take ``x[r, t]`` and column c's weight registers ``w[t, c]``; row r's sum registers hold, after
drain step j < r, the sum of row r - 1 - j. What an operand does to the moving registers is counted once for all that it
passes.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.dataflow.jit import compiled, distance, flips, zeros_in
from accelsim.dataflow.lanes import CHAINS, LANES, stayed, stayed_one

TALLY = (
    "activation_toggles",
    "weight_toggles",
    "sum_toggles",
    "macs",
    "zero_activation",
    "zero_weight",
    "zero_either",
    "activation_writes",
    "weight_writes",
    "sum_writes",
    "activation_reads",
    "weight_reads",
    "output_writes",
)
_X_TOGGLES, _W_TOGGLES, _SUM_TOGGLES, _MACS = 0, 1, 2, 3
_ZERO_X, _ZERO_W, _ZERO_EITHER, _X_WRITES, _W_WRITES, _SUM_WRITES = 4, 5, 6, 7, 8, 9
_X_READS, _W_READS, _OUTPUT_WRITES = 10, 11, 12

_STEP, _BEGUN = range(2)
STATE_SIZE = 2
"""state[.] = step, folds begun."""

_X, _LENGTH, _ROWS, _COLUMNS, _W, _BIAS, _M0, _N0 = range(8)
"""folds[f, .] = place of its activations, steps, rows and columns in use, places of its weights and biases, and its
first row and column of the outputs."""


PART = 1 << 16
"""Elements whose toggles are summed up in 32 bits."""


class Planes(NamedTuple):
    """The sum registers, flat, rows of `pitch` columns."""

    sums: NDArray[Any]  # [banks * rows + 1, pitch]: the registers by bank, what the bias wires carry
    events: NDArray[Any]  # as sums: overflows of the fold
    mask: NDArray[Any]  # [pitch], of the sums' type: the bits of a register


class Edge(NamedTuple):
    """What the registers that shift are counted by."""

    moving_x: NDArray[Any]  # [rows, lanes]: what entered last, that is column 0's activation registers
    moving_w: NDArray[Any]  # [lanes, pitch]: likewise row 0's weight registers
    zeros: NDArray[Any]  # [k]: zeros among a fold's activations


class Shape(NamedTuple):
    """Sizes and the rule; `half` is half of the sums' range."""

    rows: int
    cols: int
    lanes: int
    depth: int
    banks: int
    pitch: int
    x_pitch: int
    k: int
    rule: int
    half: int
    mask_x: int
    mask_w: int
    activity: bool


class Operands(NamedTuple):
    """Operands, zeros up to whole folds, flat."""

    x: NDArray[Any]  # [m, x pitch]
    w: NDArray[Any]  # [tile, (t, lane), pitch]


class Memory(NamedTuple):
    """What sums start with, by column, in range and flat; outputs and their overflow map, padded to whole folds."""

    bias: NDArray[Any]  # [tile, pitch]
    outputs: NDArray[Any]  # [m, n]
    events: NDArray[Any]  # [m, n]


@compiled
def _control(state, started, folds, shape):
    """Start a fold where it may start in this step; started[f] = step in which fold f began."""
    begun = state[_BEGUN]
    if begun == folds.shape[0]:
        return
    free = begun == 0
    if begun:
        since, length = state[_STEP] - started[begun - 1], folds[begun - 1, _LENGTH]
        if shape.banks == 2:
            free = since >= length and since >= shape.rows
        else:
            free = since > length - 1 + shape.rows - 1 + shape.depth - 1 + shape.rows + shape.cols - 1
    if free:
        started[begun] = state[_STEP]
        state[_BEGUN] += 1


@compiled
def _follow(moving, values, at, lanes, steps, mask):
    """The registers of one row take the row's elements one after another; return the bits changed in one column."""
    total, last = np.int64(0), at + (steps - 1) * lanes
    for i in range(lanes):
        total += flips(moving[i], values[at + i], mask)
        moving[i] = values[last + i]
    for start in range(at, last, PART):
        end = min(last, start + PART)
        total += distance(values[start:end], values[start + lanes : end + lanes], mask)
    return total


@compiled
def _watch(edge, shape, data, fold, tally):
    """Count what the elements of a fold do to the moving registers and the multipliers."""
    lanes, rows_used, cols_used, size = shape.lanes, fold[_ROWS], fold[_COLUMNS], shape.lanes * shape.pitch
    mask_x, mask_w, zeros = np.int32(shape.mask_x), np.int32(shape.mask_w), edge.zeros
    zero_x, zero_w, both = np.int64(0), np.int64(0), np.int64(0)
    zeros[:] = 0
    for r in range(shape.rows):
        line, moving = fold[_X] + r * shape.x_pitch, edge.moving_x[r * lanes : (r + 1) * lanes]
        tally[_X_TOGGLES] += _follow(moving, data.x, line, lanes, fold[_LENGTH], mask_x) * shape.cols
        if r < rows_used:
            values = data.x[line : line + shape.k]
            for k in range(shape.k):
                zeros[k] = np.int32(zeros[k] + np.int32(values[k] == 0))
    held = edge.moving_w
    for t in range(fold[_LENGTH]):
        entered = data.w[fold[_W] + t * size : fold[_W] + (t + 1) * size]
        tally[_W_TOGGLES] += distance(held, entered, mask_w) * shape.rows
        held = entered
    for i in range(size):
        edge.moving_w[i] = held[i]
    for k in range(shape.k):
        line = fold[_W] + k * shape.pitch
        none = zeros_in(data.w[line : line + cols_used])
        zero_x += zeros[k]
        zero_w += none
        both += np.int64(zeros[k]) * np.int64(none)
    tally[_MACS] += rows_used * cols_used * shape.k
    tally[_ZERO_X] += zero_x * cols_used
    tally[_ZERO_W] += zero_w * rows_used
    tally[_ZERO_EITHER] += zero_x * cols_used + zero_w * rows_used - both
    tally[_X_READS] += rows_used * shape.k
    tally[_W_READS] += cols_used * shape.k
    tally[_X_WRITES] += rows_used * shape.k * shape.cols
    tally[_W_WRITES] += cols_used * shape.k * shape.rows
    tally[_SUM_WRITES] += rows_used * cols_used * fold[_LENGTH]


@compiled
def _rest(edge, shape, tally):
    """Zeros enter in place of elements."""
    for i in range(edge.moving_x.size):
        tally[_X_TOGGLES] += flips(edge.moving_x[i], np.int32(0), np.int32(shape.mask_x)) * shape.cols
        edge.moving_x[i] = 0
    for i in range(edge.moving_w.size):
        tally[_W_TOGGLES] += flips(edge.moving_w[i], np.int32(0), np.int32(shape.mask_w)) * shape.rows
        edge.moving_w[i] = 0


@compiled
def run(edge, shape, data, folds, state, started, tally):
    """Step the controller and all registers but the sums to the end of the last fold; return the cycles stepped.

    folds, state and started as above, zero at reset and, with edge and tally, updated in place. The sums are stepped by
    `add_up`: no control depends on them.
    """
    resting, entering = True, 0
    while state[_BEGUN] < folds.shape[0] or entering:
        _control(state, started, folds, shape)
        f = state[_BEGUN] - 1
        if started[f] == state[_STEP]:
            entering, resting = folds[f, _LENGTH], False
            if shape.activity:
                _watch(edge, shape, data, folds[f], tally)
        elif entering == 0 and not resting:
            _rest(edge, shape, tally)
            resting = True
        state[_STEP] += 1
        entering = max(0, entering - 1)
    _rest(edge, shape, tally)
    return state[_STEP] + (shape.rows - 1) + (shape.cols - 1) + (shape.depth - 1) + shape.rows


@compiled
def _accumulate(variant, planes, shape, data, memory, fold, bank):
    """All PEs add the products of a fold, `CHAINS` rows of them at a time; return the toggles."""
    lanes, pitch, x_pitch, toggles, r = shape.lanes, shape.pitch, shape.x_pitch, 0, 0
    sums, events, x, w, mask, half = planes.sums, planes.events, data.x, data.w, planes.mask, shape.half
    wires = shape.banks * shape.rows * pitch
    for c in range(pitch):
        sums[wires + c] = memory.bias[fold[_BIAS] + c]
    while r < shape.rows:
        line, count = fold[_X] + r * x_pitch, CHAINS if r + CHAINS <= shape.rows else 1
        for c in range(0, pitch, LANES):
            place = (bank * shape.rows + r) * pitch + c
            walk = (fold[_LENGTH], lanes, line, lanes, x_pitch, fold[_W] + c, pitch, wires + c, place, place, c)
            if count == 1:
                toggles += stayed_one(variant, sums, events, w, x, walk, mask, half)
            else:
                toggles += stayed(variant, sums, events, w, x, walk, mask, half)
        r += count
    return toggles


@compiled
def _drain(planes, shape, memory, fold, bank, tally):
    """The bottom PEs put the sums out, from the last row's on, the PEs above pass them down."""
    rows, pitch, sums, first = shape.rows, shape.pitch, planes.sums, bank * shape.rows * shape.pitch
    for r in range(rows):
        for c in range(shape.cols):
            memory.outputs[fold[_M0] + r, fold[_N0] + c] = sums[first + r * pitch + c]
    if shape.rule:
        for r in range(rows):
            for c in range(shape.cols):
                memory.events[fold[_M0] + r, fold[_N0] + c] = planes.events[first + r * pitch + c]
    for r in range(1, rows):
        passed = np.int32(0)  # row r's sum gives way to row r - 1's here and in all rows below
        for c in range(pitch):
            place = first + r * pitch + c
            passed = np.int32(passed + np.int32(flips(sums[place], sums[place - pitch], planes.mask[c])))
        tally[_SUM_TOGGLES] += np.int64(passed) * (rows - r)
        tally[_SUM_WRITES] += (rows - r) * fold[_COLUMNS] if r <= fold[_ROWS] else 0
    tally[_OUTPUT_WRITES] += fold[_ROWS] * fold[_COLUMNS]
    for r in range(1, rows):
        for c in range(pitch):
            sums[first + r * pitch + c] = sums[first + c]


@compiled
def add_up(variant, planes, shape, data, memory, folds, tally):
    """Step all sum registers through the folds and their drains."""
    for f in range(folds.shape[0]):
        bank = f % shape.banks
        tally[_SUM_TOGGLES] += _accumulate(variant, planes, shape, data, memory, folds[f], bank)
        _drain(planes, shape, memory, folds[f], bank, tally)
