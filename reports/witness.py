"""Bit-exactness: the same integers from an engine of the simulator and from the torch oracle, tensor by tensor.

The oracle is fed with its own values, op by op, under the accumulation that the accelerator gives each op. The first
tensor that differs is named, with the place, the two values and the sums that led there (`reports.witness_sums`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import Accumulation
from accelsim.config import Accelerator
from accelsim.execute import Execution, accumulations
from accelsim.program import Op, Program
from quant import oracle
from reports.progress import progress
from reports.task import Evaluation, Integers, Task, run_engine
from reports.witness_sums import Comparison, difference_text

Codes = Mapping[str, NDArray[Any]]

IMAGES_AT_ONCE = 8
"""All tensors of so many samples are held at once."""


class NoWitness(ValueError):
    """A runtime that cannot be asked: it is not installed, or has no form for the network; the reason in one line."""


@dataclass(frozen=True)
class Witness:
    """What the comparison found.

    Parameters
    ----------
    images
        Samples compared.
    tensors
        Tensors compared per sample, all ops' outputs.
    difference
        The first difference in one line; empty where there is none.
    """

    images: int
    tensors: int
    difference: str = ""

    @property
    def bit_exact(self) -> bool:
        """Whether every integer was equal, of at least one sample."""
        return self.images > 0 and not self.difference


def check_bit_exact(
    task: Task,
    quantized: Integers,
    accelerator: Accelerator,
    evaluation: Evaluation,
    *,
    images: int,
    engine: str = "functional",
    at_once: int = IMAGES_AT_ONCE,
) -> Witness:
    """Compare an engine with the oracle on the first evaluated samples.

    The codes compared are all tensors of the Program, the overflow events of every op, and the very output codes that
    the accuracy was counted on.

    Parameters
    ----------
    task, quantized, accelerator, engine
        What was run, and how.
    evaluation
        Made with ``first >= images``.
    images
        Samples to compare, at most the evaluated ones.
    at_once
        Samples per batch.
    """
    program = quantized.program
    rules = accumulations(program, accelerator)
    tensors = [op.output for op in program.ops]
    count = min(images, len(task.evaluated))
    with progress("bit-exactness", count) as advance:
        for start in range(0, count, at_once):
            part = slice(start, min(start + at_once, count))
            x = task.samples.batch(task.evaluated[part])
            run = run_engine(quantized, x, accelerator, engine=engine, keep=tensors)
            seen = {name: codes[part] for name, codes in evaluation.first_outputs.items()}
            difference = _outputs_differ(seen, run.outputs, start) or first_difference(
                program, quantized.encode(x), run, rules, start
            )
            if difference:
                return Witness(part.stop, len(tensors), difference)
            advance(part.stop - part.start)
    return Witness(count, len(tensors))


def first_difference(
    program: Program, codes: Codes, run: Execution, rules: Mapping[str, Accumulation], offset: int = 0
) -> str:
    """Return the first difference between an execution that kept all tensors and the oracle, or an empty text.

    Parameters
    ----------
    program, codes
        What was executed, on which inputs.
    run
        The execution that is examined.
    rules
        Accumulation by op name; ops without one add without bounds.
    offset
        Added to sample numbers in the message.
    """
    values: dict[str, NDArray[Any]] = dict(codes)
    last_reader = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
    for index, op in enumerate(program.ops):
        alone = one_op(program, op)
        operands = {name: values[name] if name in values else codes[name] for name in alone.inputs}
        theirs = oracle.run(alone, operands, rules.get(op.name))
        values[op.output] = theirs.values[op.output]
        both = Comparison(
            program=program, op=op, values=values, ours=run.outputs[op.output], theirs=theirs.values[op.output],
            names=("engine", "oracle"), rules=rules, offset=offset,
        )  # fmt: skip
        found = difference_text(both) or _events_differ(op, run, theirs)
        if found:
            return found
        for name in {*op.inputs, op.output}:
            if last_reader.get(name, index) <= index:
                values.pop(name, None)
    return ""


def one_op(program: Program, op: Op) -> Program:
    """Return the Program of one op of a Program; where the op reads nothing, an input tells the number of samples."""
    inputs = tuple(dict.fromkeys(op.inputs)) or program.inputs[:1]
    return replace(
        program,
        tensors={name: program.tensors[name] for name in (*inputs, op.output)},
        inputs=inputs,
        outputs=(op.output,),
        ops=(op,),
    )


def _events_differ(op: Op, run: Execution, theirs: oracle.OracleRun) -> str:
    """Compare overflow: an op that the engine did not watch must have none."""
    events = theirs.overflow_events.get(op.name)
    if events is None:
        return ""
    ours = run.overflow.get(op.name)
    counted = 0 if ours is None else int(ours.events.sum())
    same = counted == int(events.sum()) and (ours is None or np.array_equal(ours.events, events))
    if same and (0 if ours is None else ours.differing) == theirs.overflowed_outputs[op.name]:
        return ""
    return f"{op.kind} {op.name!r}: overflow events differ: engine {counted}, oracle {int(events.sum())}"


def _outputs_differ(seen: Codes, again: Codes, offset: int) -> str:
    for name, codes in seen.items():
        different = np.argwhere(codes != again[name])
        if len(different):
            return f"output {name!r} of sample {int(different[0][0]) + offset} changes with the batch it is in"
    return ""
