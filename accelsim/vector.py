"""The vector unit: what the ops beside the array cost in lane operations and cycles.

Everything that is neither a matrix product nor a requantization runs here, element by element. A lane holds one
multiplier, adder, comparator, shifter and mover, one port to a table, and one iterative divider; they form a pipeline,
so an element keeps a lane for as many cycles as its busiest unit needs. Divisions and square roots make one and two
result bits per cycle and are not pipelined (A).

Assumptions (A), in the sense of `accelsim.technology.source`: windows of a pool are read once (line buffers); a pool's
border is counted as full windows; float32 steps that a rule prescribes are priced by their 24-bit significands;
reshape is free, while concat, slice, pad and transpose move every element they give.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from accelsim.activity import Event
from accelsim.program import (
    Add,
    AvgPool,
    Clamp,
    Constant,
    Conv,
    Duplicate,
    MatMul,
    MaxPool,
    Mul,
    Norm,
    Op,
    Program,
    Requantize,
    Softmax,
    Table,
    Tensor,
)

SIGNIFICAND_BITS = 24
"""Of a float32 multiplier."""

FACTOR_BITS = {"xnnpack": 21, "gemmlowp_double": 32, "ruy_double_up": 32, "gemmlowp_mean": 32}
"""Of the multipliers of runtimes' rules (`accelsim.runtime_rules`) that are integers; the others are float32."""

MAX_LANE_BITS = 64
"""Widest operation of a lane; wider intermediate values are priced at this width."""

MAX_TABLE_BITS = 16
"""Widest index of a table."""

# Unit that an action occupies; actions of one unit follow each other, those of several overlap.
_UNITS = {
    "add": "adder",
    "max": "comparator",
    "multiply": "multiplier",
    "shift": "shifter",
    "copy": "mover",
    "table": "port",
    "div": "divider",
    "sqrt": "divider",
}


@dataclass(frozen=True)
class Work:
    """Lane operations of one op on one sample.

    Parameters
    ----------
    events
        (event, count) pairs, component ``vector``.
    lane_cycles
        Cycles of one lane that did it all; divide by the lanes.
    """

    events: tuple[tuple[Event, int], ...] = ()
    lane_cycles: int = 0


Step = tuple[str, tuple[int, ...]]


def lane_work(program: Program, op: Op) -> Work:
    """Return what an op does on the vector unit, for one sample.

    Convolutions and matrix products do nothing there; a requantization has its own lanes and is counted as
    ``requantizer.requantize`` by the caller.
    """
    inputs = [program.tensors[name] for name in op.inputs]
    rule = RULES.get(type(op), _moved)
    return rule(op, inputs, program.tensors[op.output])


def duplicate_work(bits: int, elements: int, shifted: int) -> Work:
    """Return the lane work of writing `elements` copies, of which `shifted` are halved on the way."""
    return _both(_each(elements, [("copy", (bits,))]), _each(shifted, [("shift", (bits,))]))


def _each(elements: int, steps: Iterable[Step]) -> Work:
    """Return the work of doing `steps` to each of `elements`."""
    steps = [(action, tuple(min(width, MAX_LANE_BITS) for width in widths)) for action, widths in steps]
    if elements == 0 or not steps:
        return Work()
    counts: dict[Event, int] = {}
    busy: dict[str, int] = {}
    for action, widths in steps:
        event = Event("vector", action, widths)
        counts[event] = counts.get(event, 0) + elements
        cycles = {"div": widths[0], "sqrt": -(-widths[0] // 2)}.get(action, 1)
        busy[_UNITS[action]] = busy.get(_UNITS[action], 0) + cycles
    return Work(tuple(counts.items()), elements * max(busy.values()))


def _both(first: Work, second: Work) -> Work:
    return Work(first.events + second.events, first.lane_cycles + second.lane_cycles)


def _operand(tensor: Tensor, zero_point: int) -> int:
    return tensor.bits + (1 if zero_point else 0)


def _nothing(op: Any, inputs: list[Tensor], output: Tensor) -> Work:
    return Work()


def _moved(op: Op, inputs: list[Tensor], output: Tensor) -> Work:
    return Work() if op.kind == "reshape" else _each(output.size, [("copy", (output.bits,))])


def _add(op: Add, inputs: list[Tensor], output: Tensor) -> Work:
    factor = FACTOR_BITS.get(op.rule, SIGNIFICAND_BITS)
    scaled: list[Step] = [
        ("multiply", (_operand(tensor, zero), factor)) for tensor, zero in zip(inputs, op.zero_points, strict=True)
    ]
    if op.rule == "gemmlowp_double":
        scaled.append(("multiply", (factor, factor)))  # the sum is scaled once more
    return _each(output.size, [*scaled, *[("add", (factor,))] * 2, *_clamped(output)])


def _mul(op: Mul, inputs: list[Tensor], output: Tensor) -> Work:
    widths = tuple(_operand(tensor, zero) for tensor, zero in zip(inputs, op.zero_points, strict=True))
    return _each(output.size, [("multiply", widths)])


def _clamped(output: Tensor) -> list[Step]:
    return [("max", (output.bits,))] * 2


def _clamp(op: Clamp, inputs: list[Tensor], output: Tensor) -> Work:
    return _each(output.size, _clamped(output))


def _max_pool(op: MaxPool, inputs: list[Tensor], output: Tensor) -> Work:
    comparisons = op.kernel[0] * op.kernel[1] - 1
    steps: list[Step] = [("max", (output.bits,))] * comparisons or [("copy", (output.bits,))]
    return _each(output.size, steps)


def _avg_pool(op: AvgPool, inputs: list[Tensor], output: Tensor) -> Work:
    area = op.kernel[0] * op.kernel[1]
    wide = inputs[0].bits + math.ceil(math.log2(area)) if area > 1 else inputs[0].bits
    sums: list[Step] = [("add", (wide,))] * area
    factor = FACTOR_BITS.get(op.rule, SIGNIFICAND_BITS)
    scaled: Step = ("div", (wide,)) if op.rule == "divide_away" else ("multiply", (wide, factor))
    return _each(output.size, [*sums, scaled, *_clamped(output)])


def _table(op: Table, inputs: list[Tensor], output: Tensor) -> Work:
    return _each(output.size, [("table", (min(inputs[0].bits, MAX_TABLE_BITS),))])


def _duplicate(op: Duplicate, inputs: list[Tensor], output: Tensor) -> Work:
    pixels = output.size // output.shape[-1]
    return duplicate_work(output.bits, output.size, pixels * int((op.shift > 0).sum()))


def _softmax(op: Softmax, inputs: list[Tensor], output: Tensor) -> Work:
    exponential = op.entry_bits
    index = max(1, int(op.exponentials.size - 1).bit_length())
    total = exponential + max(1, inputs[0].shape[-1] - 1).bit_length()
    dividend = exponential + op.out_bits
    if op.rule != "integer":
        return _runtime_softmax(op, inputs[0], output, (exponential, index, total))
    return _each(
        output.size,
        [
            ("max", (inputs[0].bits,)),
            ("add", (inputs[0].bits + 1,)),
            ("max", (index,)),
            ("table", (min(index, MAX_TABLE_BITS),)),
            ("add", (total,)),
            ("shift", (dividend,)),
            ("add", (dividend,)),
            ("div", (dividend,)),
            ("max", (op.out_bits,)),
        ],
    )


def _runtime_softmax(op: Softmax, source: Tensor, output: Tensor, widths: tuple[int, int, int]) -> Work:
    """Return the work of a softmax that inverts each row's sum once and multiplies by it."""
    exponential, index, total = widths
    steps: list[Step] = [
        ("max", (source.bits,)),
        ("add", (source.bits + 1,)),
        ("table", (min(index, MAX_TABLE_BITS),)),
        ("add", (exponential if op.rule == "float32" else total,)),
        ("multiply", (exponential, exponential)),
        ("max", (op.out_bits,)),
    ]
    inverses = _each(output.size // output.shape[-1], [("div", (exponential,))])
    return _both(_each(output.size, steps), inverses)


def _norm(op: Norm, inputs: list[Tensor], output: Tensor) -> Work:
    length = inputs[0].shape[-1]
    count = max(1, length.bit_length())
    value = _operand(inputs[0], op.zero_in)
    centred = value + count
    steps: list[Step] = [
        ("multiply", (centred, centred)),
        ("add", (2 * centred + count,)),
        ("div", (centred + op.fraction_bits + op.root_shift + 1,)),
        ("multiply", (op.fraction_bits + count, op.gain_bits)),
        ("add", (output.bits,)),
    ]
    scaled: list[Step] = [("multiply", (value, count))]
    mean: list[Step] = [("add", (centred,)), ("add", (centred,))] if op.center else []
    roots = _each(output.size // length, [("sqrt", (2 * centred + count + 2 * op.root_shift,))])
    return _both(_each(output.size, [*scaled, *mean, *steps]), roots)


RULES: dict[type[Op], Callable[[Any, list[Tensor], Tensor], Work]] = {
    Add: _add,
    AvgPool: _avg_pool,
    Clamp: _clamp,
    Constant: _nothing,
    Conv: _nothing,
    Duplicate: _duplicate,
    MatMul: _nothing,
    MaxPool: _max_pool,
    Mul: _mul,
    Norm: _norm,
    Requantize: _nothing,
    Softmax: _softmax,
    Table: _table,
}
"""Lane work by op; an op without an entry moves every element it gives, reshape apart."""
