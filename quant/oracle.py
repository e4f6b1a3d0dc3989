"""The second opinion: an integer executor of Programs in torch, written from the Program's documentation alone.

It shares with the package's own executors the Program and the description of the accumulator, and no arithmetic. Equal
integers from both are what `bit_exact` means.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.arith import Accumulation
from accelsim.program import Constant, Conv, MatMul, Op, Program
from quant.oracle_ops import OPS, stored
from quant.oracle_sums import Sums, convolve, multiply


@dataclass
class OracleRun:
    """What one execution gave.

    Parameters
    ----------
    values
        int64 ``[batch, *shape]`` of every output and kept tensor.
    overflow_events
        Of every conv and matmul that obeyed an accumulator: additions (bias loads, hops, folds) out of range, int64 of
        the op's output shape, summed over the batch. Empty with unbounded sums.
    overflowed_outputs
        Of the same ops: accumulators, over the whole batch, that differ from the unbounded sum of the same operands.
    """

    values: dict[str, NDArray[np.int64]]
    overflow_events: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    overflowed_outputs: dict[str, int] = field(default_factory=dict)


def run(
    program: Program,
    inputs: Mapping[str, NDArray[np.integer]] | NDArray[np.integer],
    accumulation: Accumulation | None = None,
    keep: set[str] | None = None,
) -> OracleRun:
    """Execute a Program.

    Parameters
    ----------
    program
        With values, and valid by `accelsim.check`.
    inputs
        Integers ``[batch, *shape]`` by input name; an array alone where the Program has one input.
    accumulation
        The accumulator that conv and matmul obey; ``None`` for unbounded sums.
    keep
        Names of tensors to return besides the outputs. All others are freed after their last reader.

    Raises
    ------
    ValueError
        If inputs are missing, of wrong shape, type or range; if the Program has no values; if an op leaves the range
        that its output declares.
    OverflowError
        Under an overflow rule ``error``, naming op, batch index, pixel, channel, k or fold, value and width.
    """
    kept = set(program.outputs) | (keep or set())
    for name in sorted(kept - set(program.tensors)):
        raise ValueError(f"oracle.run: keep names {name!r}, which is no tensor of {program.name!r}; give tensor names")
    if not program.has_values:
        raise ValueError(f"oracle.run: Program {program.name!r} has shapes only; execute the one with values")
    live = _input_tensors(program, inputs)
    batch = live[program.inputs[0]].shape[0]
    result = OracleRun({})
    last_reader = {name: index for index, op in enumerate(program.ops) for name in op.inputs}
    for name in [name for name in live if name in kept]:
        result.values[name] = live[name].numpy()
    for index, op in enumerate(program.ops):
        operands = [live[name] for name in op.inputs]
        value = stored(op, batch) if isinstance(op, Constant) else _execute(op, operands, accumulation, result)
        _check_range(program, op, value)
        if op.output in kept:
            result.values[op.output] = value.numpy()
        live[op.output] = value
        for name in {*op.inputs, op.output}:
            if last_reader.get(name, index) <= index:
                del live[name]
    return result


def _input_tensors(
    program: Program, inputs: Mapping[str, NDArray[np.integer]] | NDArray[np.integer]
) -> dict[str, torch.Tensor]:
    if not isinstance(inputs, Mapping):
        if len(program.inputs) != 1:
            raise ValueError(
                f"oracle.run: Program {program.name!r} has inputs {', '.join(program.inputs)}; give a mapping by name"
            )
        inputs = {program.inputs[0]: inputs}
    if set(inputs) != set(program.inputs):
        raise ValueError(
            f"oracle.run: inputs must be named {', '.join(sorted(program.inputs))} (got {', '.join(sorted(inputs))})"
        )
    batches = {np.shape(array)[:1] for array in inputs.values()}
    tensors = {}
    for name in program.inputs:
        tensor, array = program.tensors[name], np.asarray(inputs[name])
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"oracle.run: input {name!r} must be integers (got {array.dtype}); give codes")
        if array.shape[1:] != tensor.shape or array.ndim == 0 or array.shape[0] == 0 or len(batches) != 1:
            raise ValueError(
                f"oracle.run: input {name!r} must be [batch, {', '.join(map(str, tensor.shape))}] with one batch >= 1 "
                f"for all inputs (got {list(array.shape)})"
            )
        if int(array.min()) < tensor.low or int(array.max()) > tensor.high:
            raise ValueError(
                f"oracle.run: input {name!r} must be within {tensor.low}..{tensor.high} "
                f"(got {int(array.min())}..{int(array.max())}); quantize it on the input's grid"
            )
        tensors[name] = torch.from_numpy(array.astype(np.int64))
    return tensors


def _execute(
    op: Op, operands: list[torch.Tensor], accumulation: Accumulation | None, result: OracleRun
) -> torch.Tensor:
    if isinstance(op, Conv):
        sums: Sums = convolve(op, operands[0], accumulation)
    elif isinstance(op, MatMul):
        sums = multiply(op, operands[0], operands[1], accumulation)
    else:
        return OPS[type(op)](op, operands)
    if sums.events is not None:
        result.overflow_events[op.name] = sums.events.sum(dim=0).numpy()
        result.overflowed_outputs[op.name] = sums.differing
    return sums.values


def _check_range(program: Program, op: Op, value: torch.Tensor) -> None:
    declared = program.tensors[op.output]
    if tuple(value.shape[1:]) != declared.shape:
        raise ValueError(
            f"oracle.run: op {op.name!r} gives shape {tuple(value.shape[1:])}, {op.output!r} declares {declared.shape}"
        )
    low, high = (int(v) for v in torch.aminmax(value))
    if low < declared.low or high > declared.high:
        raise ValueError(
            f"oracle.run: op {op.name!r} gives {low}..{high}, beyond the {declared.low}..{declared.high} that "
            f"{op.output!r} declares; lower the Program anew"
        )
