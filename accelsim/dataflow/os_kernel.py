"""Register-level engine of the output-stationary array.

Contract. ``lines_x[u, lane, row]`` enters at the left and moves right, ``lines_w[u, lane, column]`` enters at the top
and moves down, both skewed; sums stay in the PEs. In every cycle PE (r, c), with registers for either moving operand
and one or two (ping-pong) sums,

* multiplies what arrives from the left with what arrives from above;
* at the clock edge passes both on, and its sum takes rule(sum + product). At a fold's first product the PE takes the
  bias, which a wire down the column carries, in place of the sum.

Element t of a fold that starts in cycle s is at PE (r, c) in cycle s + t + r + c. A MAC of depth d adds the product
d - 1 cycles later. Column c drains from cycle s + T + rows - 1 + c + d - 1 on: in step j (0 .. rows - 1) its bottom PE
puts out the sum of row rows - 1 - j, and the rows below j take from above. PE (r, c) turns to its other sum register,
if it has one, when its fold has ended, in cycle s + T + r + c + d - 1.

``isolated`` has one sum per PE: the next fold starts when the last sum has left. ``overlapped`` has two: the next fold
starts when the last element is in and the bias wires and drain chains, busy for `rows` cycles, are free.

Planes are flat, ordered (column, product lane, row), two sets for the two sides of the clock edge. What enters at the
top is written well before it is read: the moving registers step before the sums do, which lets the sums hide the wait.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.dataflow.jit import compiled, flips

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


class Planes(NamedTuple):
    """The array's registers; `*_in[side]` is what arrives at each PE, `*_reg[side]` what its register holds."""

    x_in: NDArray[Any]  # [2, (cols + 1) * lanes * rows]
    x_reg: NDArray[Any]
    w_in: NDArray[Any]  # [2, (cols + 1) * lanes * rows]
    w_reg: NDArray[Any]
    x_valid_in: NDArray[Any]  # beside an element: 1, and 2 in lane 0; only where activity is counted
    x_valid_reg: NDArray[Any]
    w_valid_in: NDArray[Any]
    w_valid_reg: NDArray[Any]
    x_cells: NDArray[Any]  # x_in and w_in as [2, cols + 1, lanes, rows]
    w_cells: NDArray[Any]
    sums: NDArray[Any]  # [cols, rows], the sum registers that add
    flat_sums: NDArray[Any]
    idle: NDArray[Any]  # [cols, rows], the ones that drain; the same where there is one per PE
    events: NDArray[Any]  # [cols, rows], overflows of the fold so far
    products: NDArray[Any]  # [depth, cols, rows]: index 0 the multiplier's output, then its pipeline registers
    before: NDArray[Any]  # [cols, rows], what a sum register held when a bias took its place
    last: NDArray[Any]  # [cols * lanes], what the bottom row's weight registers hold
    valid_last: NDArray[Any]
    scratch: NDArray[Any]  # [rows + 1]
    sum_mask: NDArray[Any]  # [1], of the sums' type


class Shape(NamedTuple):
    """Sizes and rules."""

    rows: int
    cols: int
    lanes: int
    depth: int
    banks: int
    bits: int
    rule: int
    x_mask: int
    w_mask: int
    activity: bool


class Data(NamedTuple):
    """Skewed operands, biases brought into range, outputs and their overflow map, all padded to whole folds."""

    lines_x: NDArray[Any]  # [u, lanes, rows]
    lines_w: NDArray[Any]  # [u, lanes, cols]
    valid_x: NDArray[Any]  # as lines_x; only where activity is counted
    valid_w: NDArray[Any]
    bias: NDArray[Any]  # [n]
    outputs: NDArray[Any]  # [m, n]
    events: NDArray[Any]  # [m, n]


@compiled
def _move(x_in, x_reg, side, size):
    """One clock edge of a plane of moving registers."""
    for i in range(size):
        x_reg[1 - side, i] = x_in[side, i]


@compiled
def _multiply_add(x_in, w_in, sums, side):
    """One clock edge of the sums of PEs with one product and one MAC stage. sums is flat."""
    for i in range(sums.size):
        sums[i] += x_in[side, i] * w_in[side, i]


@compiled
def _multiply(x, w, products, side):
    """Product registers shift, then every multiplier puts out the sum over its lanes. x[2, > cols, lanes, rows]."""
    cols, rows, lanes = products.shape[1], products.shape[2], x.shape[2]
    for stage in range(products.shape[0] - 1, 0, -1):
        for c in range(cols):
            for r in range(rows):
                products[stage, c, r] = products[stage - 1, c, r]
    for c in range(cols):
        for r in range(rows):
            products[0, c, r] = x[side, c, 0, r] * w[side, c, 0, r]
        for lane in range(1, lanes):
            for r in range(rows):
                products[0, c, r] += x[side, c, lane, r] * w[side, c, lane, r]


@compiled
def _add(planes, shape):
    """One clock edge of all sums, by rule; products[depth - 1] is at the adders."""
    sums, events, stage = planes.sums, planes.events, shape.depth - 1
    half = np.int64(1) << (shape.bits - 1)
    for c in range(shape.cols):
        for r in range(shape.rows):
            sums[c, r] += planes.products[stage, c, r]
            if shape.rule:
                s = sums[c, r]
                sums[c, r] = (
                    ((s + half) & (half + half - 1)) - half if shape.rule == 1 else min(max(s, -half), half - 1)
                )
                events[c, r] += 1 if sums[c, r] != s else 0


@compiled
def _add_watched(planes, shape):
    """As `_add`; return the toggles of the sum registers."""
    sums, mask = planes.sums, planes.sum_mask
    half = np.int64(1) << (shape.bits - 1)
    total = 0
    for c in range(shape.cols):
        ones = np.int32(0)
        for r in range(shape.rows):
            planes.scratch[r] = sums[c, r]
            sums[c, r] += planes.products[shape.depth - 1, c, r]
            if shape.rule:
                s = sums[c, r]
                sums[c, r] = (
                    ((s + half) & (half + half - 1)) - half if shape.rule == 1 else min(max(s, -half), half - 1)
                )
                planes.events[c, r] += 1 if sums[c, r] != s else 0
        for r in range(shape.rows):
            ones = np.int32(ones + np.int32(flips(planes.scratch[r], sums[c, r], mask[0])))
        total += ones
    return total


@compiled
def _plane_toggles(x_in, x_reg, mask, size, side):
    """Bits that a plane of moving registers is about to change."""
    total = np.int32(0)
    for i in range(size):
        total = np.int32(total + flips(x_reg[side, i], x_in[side, i], np.int32(mask)))
    return np.int64(total)


@compiled
def _watch(planes, size, tally, side):
    """Count useful MACs, zero operands and register writes of one cycle; move the valid bits along."""
    macs, firsts, zero_x, zero_w, zero_xw = np.int32(0), np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    x_writes, w_writes = np.int32(0), np.int32(0)
    x_valid, w_valid, x_in, w_in = planes.x_valid_in, planes.w_valid_in, planes.x_in, planes.w_in
    for i in range(size):
        planes.x_valid_reg[1 - side, i] = x_valid[side, i]
        planes.w_valid_reg[1 - side, i] = w_valid[side, i]
        flags = np.int32(x_valid[side, i] & w_valid[side, i])
        mac = np.int32(flags & 1)
        x = mac if x_in[side, i] == 0 else np.int32(0)
        w = mac if w_in[side, i] == 0 else np.int32(0)
        macs = np.int32(macs + mac)
        firsts = np.int32(firsts + np.int32(flags >> 1))
        zero_x = np.int32(zero_x + x)
        zero_w = np.int32(zero_w + w)
        zero_xw = np.int32(zero_xw + np.int32(x | w))
        x_writes = np.int32(x_writes + np.int32(x_valid[side, i] & 1))
        w_writes = np.int32(w_writes + np.int32(w_valid[side, i] & 1))
    tally[_MACS] += macs
    tally[_SUM_WRITES] += firsts
    tally[_ZERO_X] += zero_x
    tally[_ZERO_W] += zero_w
    tally[_ZERO_EITHER] += zero_xw
    tally[_X_WRITES] += x_writes
    tally[_W_WRITES] += w_writes


@compiled
def _watch_bottom(planes, rows, tally, mask, side):
    """Correct the weight toggles for the bottom row, whose registers the next column's top entry had replaced."""
    for i in range(planes.last.size):
        coming = planes.w_in[side, (i + 1) * rows - 1]
        replaced = planes.w_reg[side, (i + 1) * rows - 1]
        tally[_W_TOGGLES] += flips(planes.last[i], coming, np.int32(mask))
        tally[_W_TOGGLES] -= flips(replaced, coming, np.int32(mask))


@compiled
def _clear_edges(x_in, w_in, w_reg, last, rows, side):
    """Let zeros enter at the left and top of one side, after noting what the bottom row's weight registers hold."""
    for i in range(x_in.shape[1] - last.shape[0] * rows):
        x_in[side, i] = 0
    for i in range(last.shape[0]):
        last[i] = w_reg[side, (i + 1) * rows - 1]
    for i in range(last.shape[0]):
        w_in[side, i * rows] = 0


@compiled
def _feed(x_in, w_in, lines_x, lines_w, row_x, row_w, side):
    """Present skewed rows at left and top; zeros beside a fold leave another fold's elements alone."""
    lanes, rows, cols = lines_x.shape[1], lines_x.shape[2], lines_w.shape[2]
    for lane in range(lanes):
        for r in range(rows):
            x_in[side, lane * rows + r] |= lines_x[row_x, lane, r]
    for c in range(cols):
        for lane in range(lanes):
            w_in[side, (c * lanes + lane) * rows] |= lines_w[row_w, lane, c]


@compiled
def _enter(planes, shape, data, folds, state, started, tally):
    """Present what enters in cycle state[0]."""
    side = state[0] & 1
    _clear_edges(planes.x_in, planes.w_in, planes.w_reg, planes.last, shape.rows, side)
    if shape.activity:
        _clear_edges(planes.x_valid_in, planes.w_valid_in, planes.w_valid_reg, planes.valid_last, shape.rows, side)
    for f in range(state[2], state[1]):
        row_x, row_w = folds[f, 0] + state[0] - started[f], folds[f, 6] + state[0] - started[f]
        _feed(planes.x_in, planes.w_in, data.lines_x, data.lines_w, row_x, row_w, side)
        if shape.activity:
            _feed(planes.x_valid_in, planes.w_valid_in, data.valid_x, data.valid_w, row_x, row_w, side)
            tally[_X_READS] += _elements(data.valid_x, row_x)
            tally[_W_READS] += _elements(data.valid_w, row_w)


@compiled
def _elements(valid, row):
    """Elements in a skewed row."""
    count = 0
    for lane in range(valid.shape[1]):
        for i in range(valid.shape[2]):
            count += valid[row, lane, i] & 1
    return count


@compiled
def _begin(planes, shape, bias, folds, f, age):
    """On the anti-diagonal r + c = age the fold's first product arrives: the bias takes the sum's place."""
    for c in range(max(0, age - shape.rows + 1), min(shape.cols, age + 1)):
        r = age - c
        planes.before[c, r] = planes.sums[c, r]
        planes.sums[c, r] = bias[folds[f, 4] + c]
        planes.events[c, r] = 0


@compiled
def _watch_begin(planes, shape, bias, folds, f, age):
    """Toggles that `_add_watched` missed on that anti-diagonal: it took the bias for what the register held."""
    toggles = 0
    for c in range(max(0, age - shape.rows + 1), min(shape.cols, age + 1)):
        r = age - c
        planes.scratch[0] = bias[folds[f, 4] + c]
        toggles += flips(planes.before[c, r], planes.sums[c, r], planes.sum_mask[0])
        toggles -= flips(planes.scratch[0], planes.sums[c, r], planes.sum_mask[0])
    return toggles


@compiled
def _end(planes, shape, data, folds, f, age):
    """On the anti-diagonal r + c = age the fold has ended: PEs turn to their other sum, overflows are noted."""
    for c in range(max(0, age - shape.rows + 1), min(shape.cols, age + 1)):
        r = age - c
        data.events[folds[f, 2] + r, folds[f, 4] + c] += planes.events[c, r]
        if shape.banks == 2:
            planes.sums[c, r], planes.idle[c, r] = planes.idle[c, r], planes.sums[c, r]


@compiled
def _drain(planes, shape, data, folds, f, age, tally):
    """Column c is at drain step age - c: its bottom PE puts a sum out, the rows below the step take from above."""
    idle, rows = planes.idle, shape.rows
    m_used, n_used = folds[f, 3] - folds[f, 2], folds[f, 5] - folds[f, 4]
    for c in range(max(0, age - rows + 1), min(shape.cols, age + 1)):
        step = age - c
        data.outputs[folds[f, 2] + rows - 1 - step, folds[f, 4] + c] = idle[c, rows - 1]
        for r in range(rows):
            planes.scratch[r + 1] = idle[c, r]
        for r in range(rows):
            idle[c, r] = planes.scratch[r] if r > step else planes.scratch[r + 1]
        if shape.activity:
            for r in range(step + 1, rows):
                tally[_SUM_TOGGLES] += flips(planes.scratch[r + 1], idle[c, r], planes.sum_mask[0])
            if c < n_used:
                tally[_SUM_WRITES] += max(0, min(rows - 1 - step, m_used))
                tally[_OUTPUT_WRITES] += 1 if rows - 1 - step < m_used else 0


@compiled
def _advance_sums(planes, shape, data, folds, state, started, tally, cycle):
    """One clock edge of all sums at the end of `cycle`, the drain chains apart."""
    side, lag = cycle & 1, shape.depth - 1
    for f in range(state[3], state[1]):
        _begin(planes, shape, data.bias, folds, f, cycle - started[f] - lag)
    plain = shape.lanes == 1 and shape.depth == 1 and not shape.rule and not shape.activity
    if plain:
        _multiply_add(planes.x_in, planes.w_in, planes.flat_sums, side)
    else:
        _multiply(planes.x_cells, planes.w_cells, planes.products, side)
    if shape.activity:
        tally[_SUM_TOGGLES] += _add_watched(planes, shape)
        for f in range(state[3], state[1]):
            tally[_SUM_TOGGLES] += _watch_begin(planes, shape, data.bias, folds, f, cycle - started[f] - lag)
    elif not plain:
        _add(planes, shape)
    if state[3] < state[1] and cycle - started[state[3]] - lag == shape.rows + shape.cols - 2:
        state[3] += 1


@compiled
def _control(state, started, folds, shape):
    """Start a fold where it may start in cycle state[0].

    state = [cycle, folds begun, then the first fold still entering, beginning, ending, draining]; started[f] = cycle in
    which fold f began.
    """
    cycle, begun = state[0], state[1]
    if begun == folds.shape[0]:
        return
    if begun == 0 or (shape.banks == 1 and state[5] == begun):
        free = True
    else:
        since = cycle - started[begun - 1]
        free = shape.banks == 2 and since >= folds[begun - 1, 1] and since >= shape.rows
    if free:
        started[begun] = cycle
        state[1] += 1


@compiled
def run(planes, shape, data, folds, state, started, tally):
    """Step the array until the last sum of the last fold has left; return the cycles stepped.

    folds[f] = (first row of lines_x, length, m0, m1, n0, n1, first row of lines_w); for state and started see
    `_control`. Planes, outputs, event map and tally are updated in place.
    """
    rows, cols, lag = shape.rows, shape.cols, shape.depth - 1
    x_in, x_reg, w_in, w_reg = planes.x_in, planes.x_reg, planes.w_in, planes.w_reg
    size = cols * shape.lanes * rows
    _control(state, started, folds, shape)
    _enter(planes, shape, data, folds, state, started, tally)
    while state[5] < folds.shape[0]:
        cycle = state[0]
        side = cycle & 1
        for f in range(state[4], state[1]):
            _end(planes, shape, data, folds, f, cycle - started[f] - folds[f, 1] - lag)
        if shape.activity:
            tally[_X_TOGGLES] += _plane_toggles(x_in, x_reg, shape.x_mask, size, side)
            tally[_W_TOGGLES] += _plane_toggles(w_in, w_reg, shape.w_mask, size, side)
            _watch_bottom(planes, rows, tally, shape.w_mask, side)
            _watch(planes, size, tally, side)
        _move(x_in, x_reg, side, size)
        _move(w_in, w_reg, side, size)
        for f in range(state[5], state[1]):
            age = cycle - started[f] - folds[f, 1] - (rows - 1) - lag
            _drain(planes, shape, data, folds, f, age, tally)
            state[5] += 1 if age == rows + cols - 2 else 0
        if state[4] < state[1] and cycle - started[state[4]] - folds[state[4], 1] - lag == rows + cols - 2:
            state[4] += 1
        if state[2] < state[1] and cycle - started[state[2]] == folds[state[2], 1] + max(rows, cols) - 2:
            state[2] += 1
        state[0] = cycle + 1
        _control(state, started, folds, shape)
        _enter(planes, shape, data, folds, state, started, tally)
        _advance_sums(planes, shape, data, folds, state, started, tally, cycle)
    return state[0]
