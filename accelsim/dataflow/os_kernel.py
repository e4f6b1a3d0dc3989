"""Register-level engine of the output-stationary array.

Contract. ``lines_x[tile, t, (row, lane)]`` enters at the left and moves right, ``lines_w[tile, t, (lane, column)]``
enters at the top and moves down, both skewed; sums stay in the PEs. In every cycle PE (r, c), with registers for either
moving operand and one or two (ping-pong) sums,

* multiplies what arrives from the left with what arrives from above;
* at the clock edge passes both on, and its sum takes rule(sum + product). At a fold's first product the PE takes the
  bias, which a wire down the column carries, in place of the sum.

Element t of a fold that starts in cycle s is at PE (r, c) in cycle s + t + r + c. A MAC of depth d adds the product
d - 1 cycles later. Column c drains from cycle s + T + rows - 1 + c + d - 1 on: in step j (0 .. rows - 1) its bottom PE
puts out the sum of row rows - 1 - j, and the rows below j take from above. Fold f uses sum register f mod banks.

``isolated`` has one sum per PE: the next fold starts when the last sum has left. ``overlapped`` has two: the next fold
starts when the last element is in and the bias wires and drain chains, busy for `rows` cycles, are free.

Time. All that a column does, the column to its right does one cycle later, on the same activations. So a *step* is one
clock edge of every PE, column c in cycle step + c: a row of PEs is then a vector that shares one activation. In the
cols - 1 cycles after the last step columns finish one by one, and no register changes.

The moving registers are kept as what entered: ``edge_x`` and ``edge_w`` have it newest at row `place`, so that row r's
registers take ``edge_x[place - r, r]`` and ``edge_w[place - r]``. Sums are held and clocked, one by one; a PE between
two folds adds zero, which is left out. What an operand does to the moving registers is counted when it enters: it
passes all of its row or column.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

from numpy.typing import NDArray

from accelsim.dataflow.jit import compiled
from accelsim.dataflow.lanes import LANES, clock, copy

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

_STEP, _BEGUN, _ADDING, _DRAINING, _PLACE = range(5)
STATE_SIZE = 5
"""state[.] = step, folds begun, then the first fold still adding and draining, and the newest row of the edges."""


class Planes(NamedTuple):
    """The array's registers, flat, rows of `pitch` columns."""

    sums: NDArray[Any]  # [banks * rows + 2, pitch]: the sum registers by bank, what the bias wires carry, zeros
    events: NDArray[Any]  # as sums: overflows of the fold so far
    edge_x: NDArray[Any]  # [edge rows, x pitch]
    edge_w: NDArray[Any]  # [edge rows, lanes, pitch]
    moving_x: NDArray[Any]  # [2, x pitch]: what entered last; a row of zeros
    moving_w: NDArray[Any]  # [2, lanes, pitch]
    products: NDArray[Any]  # [1 + depth * rows, pitch]: a row of zeros, then by stage what the multipliers put out
    ones: NDArray[Any]  # [1]
    mask: NDArray[Any]  # [pitch], of the sums' type: the bits of a sum register
    mask_x: NDArray[Any]  # [x pitch]
    mask_w: NDArray[Any]  # [lanes * pitch]


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
    activity: bool


class Data(NamedTuple):
    """Operands and biases, zeros up to whole folds, all flat; outputs and their overflow map, padded to whole folds."""

    lines_x: NDArray[Any]  # [tile, t, x pitch]
    lines_w: NDArray[Any]  # [tile, t, lanes, pitch]
    bias: NDArray[Any]  # [tile, pitch], in range
    outputs: NDArray[Any]  # [m, n]
    events: NDArray[Any]  # [m, n]


def edge_rows(rows: int) -> int:
    """Return the rows of operands that the edges keep: their history is moved to the front when they are full."""
    return 2 * rows + LANES


@compiled
def _control(state, started, folds, shape):
    """Start a fold where it may start in this step; started[f] = step in which fold f began."""
    begun = state[_BEGUN]
    if begun == folds.shape[0]:
        return
    free = begun == 0
    if begun:
        since, length = state[_STEP] - started[begun - 1], folds[begun - 1, 1]
        if shape.banks == 2:
            free = since >= length and since >= shape.rows
        else:
            free = since > length - 1 + shape.rows - 1 + shape.depth - 1 + shape.rows + shape.cols - 1
    if free:
        started[begun] = state[_STEP]
        state[_BEGUN] += 1


@compiled
def _enter(planes, data, folds, state, started, shape, tally):
    """Put what enters at the left and the top in this step on the edges: an element of a fold, or zeros."""
    rows, size, x_pitch = shape.rows, shape.lanes * shape.pitch, shape.x_pitch
    place, f = state[_PLACE] + 1, state[_BEGUN] - 1
    if place * size == planes.edge_w.size:
        copy(planes.edge_x, (place - rows) * x_pitch, planes.edge_x, 0, rows * x_pitch)
        copy(planes.edge_w, (place - rows) * size, planes.edge_w, 0, rows * size)
        place = rows
    state[_PLACE] = place
    t = state[_STEP] - started[f]
    if t < folds[f, 1]:
        copy(data.lines_x, (folds[f, 0] + t) * x_pitch, planes.edge_x, place * x_pitch, x_pitch)
        copy(data.lines_w, (folds[f, 6] + t) * size, planes.edge_w, place * size, size)
        if shape.activity:
            _watch(planes, folds, f, t, state, shape, tally)
    else:
        for i in range(x_pitch):
            planes.edge_x[place * x_pitch + i] = 0
        for i in range(size):
            planes.edge_w[place * size + i] = 0
    if shape.activity:
        moved = _moved(planes.moving_x, planes.edge_x, place * x_pitch, x_pitch, planes.ones, planes.mask_x)
        tally[_X_TOGGLES] += moved * shape.cols
        moved = _moved(planes.moving_w, planes.edge_w, place * size, size, planes.ones, planes.mask_w)
        tally[_W_TOGGLES] += moved * rows


@compiled
def _moved(moving, edge, at, size, ones, mask):
    """Take what has entered; return the bits that it changes."""
    toggles, walk = 0, (1, size, 0, 0, 0, at, 0, 0, 0)
    for column in range(0, size, LANES):
        toggles += clock(0, True, moving, moving, edge, ones, walk, column, mask, 0)
    return toggles


@compiled
def _watch(planes, folds, f, t, state, shape, tally):
    """Count the MACs of the fold's elements of place t, which meet each other in all rows and columns."""
    rows_used, cols_used = folds[f, 3] - folds[f, 2], folds[f, 5] - folds[f, 4]
    for lane in range(min(shape.lanes, shape.k - t * shape.lanes)):
        x, w, zero_x, zero_w = state[_PLACE] * shape.x_pitch + lane, state[_PLACE] * shape.lanes + lane, 0, 0
        for r in range(rows_used):
            zero_x += 1 if planes.edge_x[x + r * shape.lanes] == 0 else 0
        for c in range(cols_used):
            zero_w += 1 if planes.edge_w[w * shape.pitch + c] == 0 else 0
        tally[_MACS] += rows_used * cols_used
        tally[_ZERO_X] += zero_x * cols_used
        tally[_ZERO_W] += zero_w * rows_used
        tally[_ZERO_EITHER] += zero_x * cols_used + zero_w * rows_used - zero_x * zero_w
        tally[_X_READS] += rows_used
        tally[_W_READS] += cols_used
        tally[_X_WRITES] += rows_used * shape.cols
        tally[_W_WRITES] += cols_used * shape.rows
    tally[_SUM_WRITES] += rows_used * cols_used


@compiled
def _multiply(planes, state, shape):
    """All multipliers put the exact sum over their lanes into their first stage."""
    rows, lanes, pitch, last = shape.rows, shape.lanes, shape.pitch, shape.rows - 1
    target = (1 + state[_STEP] % shape.depth * rows + last) * pitch
    for lane in range(lanes):
        source, step = (target, -pitch) if lane else (0, 0)
        factor = ((state[_PLACE] - last) * lanes + lane) * pitch
        x = (state[_PLACE] - last) * shape.x_pitch + last * lanes + lane
        walk = (rows, source, step, target, -pitch, factor, lanes * pitch, x, shape.x_pitch - lanes)
        for column in range(0, pitch, LANES):
            clock(0, False, planes.products, planes.events, planes.edge_w, planes.edge_x, walk, column, planes.mask, 0)


@compiled
def _add(planes, part, origin, bank, state, shape, tally):
    """One clock edge of the sums of a part of the rows, low .. high - 1; origin = (source, source step)."""
    low, high = part
    source, step = origin
    pitch, last, toggles, half = shape.pitch, high - 1, 0, shape.half
    target = (bank * shape.rows + last) * pitch
    rule, watched, sums, events, mask = shape.rule, shape.activity, planes.sums, planes.events, planes.mask
    if shape.lanes == 1 and shape.depth == 1:
        x = (state[_PLACE] - last) * shape.x_pitch + last
        factor = (state[_PLACE] - last) * pitch
        walk = (high - low, source, step, target, -pitch, factor, pitch, x, shape.x_pitch - 1)
        for column in range(0, pitch, LANES):
            toggles += clock(rule, watched, sums, events, planes.edge_w, planes.edge_x, walk, column, mask, half)
    else:
        factor = (1 + (state[_STEP] + 1) % shape.depth * shape.rows + last) * pitch
        walk = (high - low, source, step, target, -pitch, factor, -pitch, 0, 0)
        for column in range(0, pitch, LANES):
            toggles += clock(rule, watched, sums, events, planes.products, planes.ones, walk, column, mask, half)
    tally[_SUM_TOGGLES] += toggles


@compiled
def _accumulate(planes, data, folds, f, state, started, shape, tally):
    """One clock edge of the sums of fold f: a row that its first element has reached starts from the bias."""
    rows, pitch, bank = shape.rows, shape.pitch, f % shape.banks
    age = state[_STEP] - started[f] - (shape.depth - 1)
    low, high = max(0, age - folds[f, 1] + 1), min(rows, age)
    wires = shape.banks * rows * pitch
    if age == 0:
        copy(data.bias, folds[f, 4] // shape.cols * pitch, planes.sums, wires, pitch)
    if low < high:
        _add(planes, (low, high), ((bank * rows + high - 1) * pitch, -pitch), bank, state, shape, tally)
    if 0 <= age < rows:
        _add(planes, (age, age + 1), (wires, 0), bank, state, shape, tally)
    if shape.rule and age >= folds[f, 1] - 1:
        for c in range(shape.cols):
            data.events[folds[f, 2] + low, folds[f, 4] + c] += planes.events[(bank * rows + low) * pitch + c]
    if age == folds[f, 1] - 1 + rows - 1:
        state[_ADDING] += 1


@compiled
def _drain(planes, data, folds, f, state, started, shape, tally):
    """The bottom PEs put a sum out, the rows below the drain step take from above."""
    rows, pitch, bank = shape.rows, shape.pitch, f % shape.banks
    step = state[_STEP] - started[f] - (folds[f, 1] + rows - 1 + shape.depth - 1)
    if step < 0:
        return
    bottom, zeros, toggles = (bank * rows + rows - 1) * pitch, (shape.banks * rows + 1) * pitch, 0
    for c in range(shape.cols):
        data.outputs[folds[f, 2] + rows - 1 - step, folds[f, 4] + c] = planes.sums[bottom + c]
    walk = (rows - 1 - step, zeros, 0, bottom, -pitch, bottom - pitch, -pitch, 0, 0)
    for column in range(0, pitch, LANES):
        sums, events, ones, mask = planes.sums, planes.events, planes.ones, planes.mask
        toggles += clock(0, shape.activity, sums, events, sums, ones, walk, column, mask, 0)
    tally[_SUM_TOGGLES] += toggles
    rows_used, cols_used = folds[f, 3] - folds[f, 2], folds[f, 5] - folds[f, 4]
    tally[_SUM_WRITES] += max(0, min(rows - 1 - step, rows_used)) * cols_used
    tally[_OUTPUT_WRITES] += cols_used if rows - 1 - step < rows_used else 0
    if step == rows - 1:
        state[_DRAINING] += 1


@compiled
def _step(planes, shape, data, folds, state, started, tally):
    """One clock edge of every PE."""
    _enter(planes, data, folds, state, started, shape, tally)
    if shape.lanes > 1 or shape.depth > 1:
        _multiply(planes, state, shape)
    for f in range(state[_ADDING], state[_BEGUN]):
        _accumulate(planes, data, folds, f, state, started, shape, tally)
    for f in range(state[_DRAINING], state[_ADDING]):
        _drain(planes, data, folds, f, state, started, shape, tally)
    state[_STEP] += 1


@compiled
def _uneventful(folds, state, started, shape):
    """Return in how many steps from now on nothing happens but that all PEs add one product of one fold."""
    f, direct = state[_BEGUN] - 1, shape.lanes == 1 and shape.depth == 1
    age = state[_STEP] - started[f]
    alone = direct and state[_ADDING] == f and state[_DRAINING] == f and age >= shape.rows
    return folds[f, 1] - 1 - age if alone else 0


@compiled
def _add_on(planes, shape, data, folds, state, started, tally, steps):
    """Clock every PE as often as `_uneventful` says."""
    f = state[_BEGUN] - 1
    bank = f % shape.banks
    source = (bank * shape.rows + shape.rows - 1) * shape.pitch
    for _ in range(steps):
        _enter(planes, data, folds, state, started, shape, tally)
        _add(planes, (0, shape.rows), (source, -shape.pitch), bank, state, shape, tally)
        state[_STEP] += 1


@compiled
def run(planes, shape, data, folds, state, started, tally):
    """Step the array until the last sum of the last fold has left; return the cycles stepped.

    folds[f] = (first row of lines_x, length, m0, m1, n0, n1, first row of lines_w); state and started as above, zero at
    reset. Planes, outputs, event map and tally are updated in place.
    """
    state[_PLACE] = shape.rows - 1
    while state[_DRAINING] < folds.shape[0]:
        _control(state, started, folds, shape)
        steps = _uneventful(folds, state, started, shape)
        if steps > 0:
            _add_on(planes, shape, data, folds, state, started, tally, steps)
        else:
            _step(planes, shape, data, folds, state, started, tally)
    return state[_STEP] + shape.cols - 1
