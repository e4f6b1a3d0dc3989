"""Execution of a Program on an accelerator's integers.

Two engines give the same integers. ``functional`` runs whole networks fast: where a layer's bound excludes overflow in
the accelerator's registers any exact product serves, elsewhere a kernel keeps the machine's order of additions.
``register`` steps every PE register of the array, cycle by cycle.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import functional, kernels
from accelsim.arith import Accumulation, signed_range
from accelsim.config import Accelerator
from accelsim.int_gemm import limit_threads, use_one_thread
from accelsim.memo import per_op
from accelsim.program import Constant, Conv, MatMul, Op, Program, Requantize, Tensor
from accelsim.reference import OverflowMap, accumulate, check_input, constant_codes

Array = NDArray[Any]
Progress = Callable[[int], None]
Products = Callable[[Conv | MatMul, list[Array], Tensor], tuple[Array, OverflowMap | None]]
"""How an engine adds a layer's products up: accumulators, and the overflow where it was looked for."""

CHUNK_BYTES = 1 << 22
"""Working set that a micro-batch aims at: it should stay in a core's cache."""

OP_BYTES = 1 << 16
"""Bytes that are worked through in about the time that starting an op takes."""


@dataclass(frozen=True)
class Execution:
    """What an execution gave.

    Parameters
    ----------
    outputs
        Codes or accumulators ``[batch, *shape]`` by tensor name: the Program's outputs and whatever was kept.
    overflow
        By op name, for every op that adds products up and whose bound does not exclude overflow.
    """

    outputs: dict[str, Array]
    overflow: dict[str, OverflowMap] = field(default_factory=dict)

    @property
    def overflowed_outputs(self) -> int:
        """Accumulators that are not the unbounded sum, over all layers and samples."""
        return sum(item.differing for item in self.overflow.values())


def accumulations(program: Program, accelerator: Accelerator) -> dict[str, Accumulation]:
    """Return how the accelerator adds up each op's products, by op name."""
    return {
        op.name: accelerator.accumulation(*operand_bits(program, op))
        for op in program.ops
        if isinstance(op, Conv | MatMul)
    }


def operand_bits(program: Program, op: Op) -> tuple[int, int]:
    """Return the (weight, activation) widths that a layer's operands enter a PE at."""
    first = _operand_width(program.tensors[op.inputs[0]], 0)
    if isinstance(op, Conv):
        return op.weight_bits, first
    assert isinstance(op, MatMul)
    widths = [_operand_width(program.tensors[n], z) for n, z in zip(op.inputs, op.zero_points, strict=True)]
    return widths[1], widths[0]


def _operand_width(tensor: Tensor, zero_point: int) -> int:
    """Width of a code, one bit more where a zero point is taken off it on the way into the PE."""
    return tensor.bits + (1 if zero_point else 0)


def execute(
    program: Program,
    inputs: Mapping[str, Array],
    accelerator: Accelerator | None = None,
    *,
    keep: Iterable[str] = (),
    threads: int = 1,
    progress: Progress | None = None,
) -> Execution:
    """Run a Program with the functional engine.

    Parameters
    ----------
    program
        A checked Program with values.
    inputs
        Integer codes ``[batch, *shape]`` by input name.
    accelerator
        Whose accumulators add the products up; unbounded sums where ``None``.
    keep
        Tensors to return beside the outputs.
    threads
        Micro-batches in flight.
    progress
        Called with the number of samples done.

    Returns
    -------
    Execution

    Raises
    ------
    ValueError
        If the Program has no values, or an input is missing, misshapen or out of range.
    OverflowError
        Where an overflow rule is ``error`` and a sum leaves its register.
    """
    if not program.has_values:
        raise ValueError(f"Program {program.name!r} holds no weights; it can be priced, not executed")
    codes = input_codes(program, inputs)
    rules = may_overflow(program, accumulations(program, accelerator)) if accelerator is not None else {}
    wanted = tuple(dict.fromkeys((*program.outputs, *keep)))
    batch = next(iter(codes.values())).shape[0]
    size = micro_batch(program)
    parts = [slice(start, min(start + size, batch)) for start in range(0, batch, size)]

    def products(op: Conv | MatMul, operands: list[Array], output: Tensor) -> tuple[Array, OverflowMap | None]:
        return _products(op, operands, output, rules.get(op.name))

    def run_part(part: slice) -> Execution:
        result = run_ops(program, {name: array[part] for name, array in codes.items()}, wanted, products, fused)
        if progress is not None:
            progress(part.stop - part.start)
        return result

    fused = _fused(program, frozenset(rules), wanted)
    with limit_threads():
        if threads > 1 and len(parts) > 1:
            with ThreadPoolExecutor(threads, initializer=use_one_thread) as pool:
                results = list(pool.map(run_part, parts))
        else:
            results = [run_part(part) for part in parts]
    return _join(program, results, wanted)


def micro_batch(program: Program) -> int:
    """Return how many samples to carry through the network together.

    As many as keep the widest layer in cache, but more where there are so many small ops that starting them would take
    longer than their work.
    """
    widest, total = 1, 1
    for op in program.ops:
        names = (op.output,) if op.kind == "slice" else (*op.inputs, op.output)
        sizes = [program.tensors[name].size * ((program.tensors[name].bits + 7) // 8) for name in names]
        if isinstance(op, Conv):
            pixels = program.tensors[op.output].size // op.weight.shape[0]
            sizes.append(pixels * int(np.prod(op.weight.shape[1:])) * op.groups)
        widest, total = max(widest, sum(sizes)), total + sum(sizes)
    return max(1, min(256, max(CHUNK_BYTES // widest, len(program.ops) * OP_BYTES // total)))


def input_codes(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return checked inputs in their narrowest storage types."""
    return {
        name: check_input(program, name, inputs).astype(functional.storage_dtype(program.tensors[name]))
        for name in program.inputs
    }


def _fused(program: Program, ordered: frozenset[str], wanted: tuple[str, ...]) -> dict[str, Requantize]:
    """Return the requantizations that may run in one pass with the layer they alone read, by the layer's name."""
    readers = program.consumers()
    found: dict[str, Requantize] = {}
    for op in program.ops:
        if not isinstance(op, Conv) or len(readers[op.output]) != 1 or op.output in wanted:
            continue
        reader = readers[op.output][0]
        if op.name not in ordered and isinstance(reader, Requantize) and functional.fusible(reader):
            found[op.name] = reader
    return found


def run_ops(
    program: Program,
    values: dict[str, Array],
    wanted: tuple[str, ...],
    products: Products,
    fused: Mapping[str, Requantize] = MappingProxyType({}),
) -> Execution:
    """Run all ops on one batch, giving up every tensor after its last reader unless it is wanted.

    `fused` names layers that run together with their requantization.
    """
    merged = {op.name for op in fused.values()}
    overflow: dict[str, OverflowMap] = {}
    last_use = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
    batch = values[program.inputs[0]].shape[0]
    for i, op in enumerate(program.ops):
        if op.name in merged:
            continue
        operands = [values[name] for name in op.inputs]
        output = program.tensors[op.output]
        if op.name in fused:
            reader = fused[op.name]
            assert isinstance(op, Conv)
            tensors = (output, program.tensors[reader.output])
            values[reader.output] = functional.conv_requantized(op, reader, operands[0], tensors)
        elif isinstance(op, Constant):
            values[op.output] = constant_codes(op, batch).astype(functional.storage_dtype(output))
        elif isinstance(op, Conv | MatMul):
            values[op.output], found = products(op, operands, output)
            if found is not None:
                overflow[op.name] = found
        else:
            values[op.output] = functional.apply(op, operands, output)
        for name in op.inputs:
            if last_use[name] == i and name not in wanted:
                values.pop(name, None)
    return Execution({name: values[name] for name in wanted}, overflow)


def layer_bound(op: Conv | MatMul) -> int:
    """Return the magnitude that no sum of a layer exceeds."""
    return op.bound if isinstance(op, MatMul) else int(np.max(op.bound))  # type: ignore[arg-type]


def fold_bound(program: Program, op: Conv | MatMul, fold_k: int) -> int:
    """Return the magnitude that no sum of up to `fold_k` consecutive products of a layer exceeds."""
    tensors = [program.tensors[name] for name in op.inputs]
    if isinstance(op, MatMul):
        reach = [max(abs(t.low - z), abs(t.high - z)) for t, z in zip(tensors, op.zero_points, strict=True)]
        return min(fold_k, tensors[0].shape[-1]) * reach[0] * reach[1]
    return _widest_fold(op, fold_k) * max(tensors[0].magnitude, abs(op.pad_value) if any(op.padding) else 0)


@per_op
def _widest_fold(op: Conv, fold_k: int) -> int:
    """Return the largest sum of magnitudes of `fold_k` consecutive weights of an output channel."""
    rows = np.abs(np.asarray(op.weight).astype(np.int64)).reshape(op.weight.shape[0], -1)
    return int(np.add.reduceat(rows, np.arange(0, rows.shape[1], fold_k), axis=1).max())


def may_overflow(program: Program, rules: Mapping[str, Accumulation]) -> dict[str, Accumulation]:
    """Return the rules of those layers whose weights and widths do not exclude overflow."""
    found = {}
    for op in program.ops:
        if isinstance(op, Conv | MatMul) and op.name in rules:
            rule = rules[op.name]
            folded = None if rule.fold_k is None else fold_bound(program, op, rule.fold_k)
            if not rule.excludes_overflow(layer_bound(op), folded):
                found[op.name] = rule
    return found


def _products(
    op: Conv | MatMul, operands: list[Array], output: Tensor, rule: Accumulation | None
) -> tuple[Array, OverflowMap | None]:
    """Return a layer's accumulators; with a rule, in the machine's order and with its overflow."""
    exact = (
        functional.conv(op, operands[0], output) if isinstance(op, Conv) else functional.matmul(op, operands, output)
    )
    if rule is None:
        return exact, None
    groups = layer_groups(op, operands)
    held, events = [], []
    for rows, columns, bias in groups:
        sums, count = _ordered(rows, columns, bias, rule, op.name)
        held.append(sums)
        events.append(count)
    axis = 1 if isinstance(op, Conv) else 0
    acc = np.concatenate(held, axis=axis).reshape(-1, *output.shape)
    out = np.concatenate(events, axis=axis).reshape(-1, *output.shape).sum(axis=0)
    return acc.astype(functional.storage_dtype(output)), OverflowMap(out, int((acc != exact).sum()))


def layer_groups(op: Conv | MatMul, operands: list[Array]) -> list[tuple[Array, Array, NDArray[np.int64]]]:
    """Return (rows ``[m, k]``, columns ``[k, n]``, bias ``[n]``) of every matrix product of a layer."""
    if isinstance(op, MatMul):
        rows, columns = functional.matmul_operands(op, operands)
        return [(r, c, np.zeros(c.shape[1], dtype=np.int64)) for r, c in zip(rows, columns, strict=True)]
    biases = np.asarray(op.bias).astype(np.int64).reshape(op.groups, -1)
    return [
        (rows, np.ascontiguousarray(columns), bias)
        for (rows, columns), bias in zip(functional.group_operands(op, operands[0]), biases, strict=True)
    ]


def _ordered(
    rows: Array, columns: Array, bias: NDArray[np.int64], rule: Accumulation, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    shape = (columns.shape[1], rows.shape[0])
    acc, events = np.empty(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    resident = rule.fold_k is None
    accumulator = (*signed_range(min(rule.acc_bits, 62)), rule.acc_overflow == "saturate")
    moving = (*signed_range(min(rule.psum_bits, 62)), rule.psum_overflow == "saturate")
    registers = (accumulator if resident else moving, accumulator)
    order = (rows.shape[1] if rule.fold_k is None else rule.fold_k, rule.products_per_hop, resident)
    operands = (np.ascontiguousarray(rows.T), columns, bias)
    lane = _lane(rows, columns, registers[0][1], rule.products_per_hop)
    kernels.ordered_sums(lane, operands, order, registers, (acc, events))
    acc, events = np.ascontiguousarray(acc.T), np.ascontiguousarray(events.T)
    if "error" in (rule.psum_overflow, rule.acc_overflow) and events.any():
        row = int(np.argwhere(events)[0][0])
        wide = [array.astype(np.int64)[None] for array in (rows[row : row + 1], columns)]
        accumulate(wide[0], wide[1], bias, rule, name)
    return acc, events


def _lane(rows: Array, columns: Array, psum_high: int, products: int) -> type[np.signedinteger[Any]]:
    """Return the narrower integer type that holds a partial sum plus all products of one hop."""
    widest = [max(abs(int(part.min(initial=0))), abs(int(part.max(initial=0)))) for part in (rows, columns)]
    return np.int32 if psum_high + 1 + products * widest[0] * widest[1] < 2**31 else np.int64


def _join(program: Program, parts: list[Execution], wanted: tuple[str, ...]) -> Execution:
    if not parts:
        empty = {name: np.empty((0, *program.tensors[name].shape), dtype=np.int64) for name in wanted}
        return Execution(empty)
    outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in wanted}
    overflow = {
        name: OverflowMap(
            sum((part.overflow[name].events for part in parts[1:]), parts[0].overflow[name].events),
            sum(part.overflow[name].differing for part in parts),
        )
        for name in parts[0].overflow
    }
    return Execution(outputs, overflow)
