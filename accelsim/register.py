"""The register engine on whole networks: every matrix product stepped through the array, cycle by cycle.

Same integers as the functional engine and the reference, and cycles, overflow maps and toggles as the registers saw
them. Slow: meant for small networks, few samples, and for proving the closed forms.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from accelsim import functional
from accelsim.config import Accelerator
from accelsim.dataflow import DATAFLOWS, ArrayShape, GemmRun, Operands, Toggles, run_gemm
from accelsim.execute import (
    Array,
    Execution,
    accumulations,
    execute,
    input_codes,
    layer_groups,
    operand_bits,
    run_ops,
)
from accelsim.program import Conv, MatMul, Program, Tensor
from accelsim.reference import OverflowMap


@dataclass(frozen=True)
class RegisterExecution(Execution):
    """An execution with what the array did, layer by layer.

    Parameters
    ----------
    runs
        By op name, one `GemmRun` per group, in order; the whole batch is one product of m = batch · pixels.
    """

    runs: Mapping[str, tuple[GemmRun, ...]] = None  # type: ignore[assignment]

    def cycles(self, name: str) -> int:
        """Array cycles of a layer."""
        return sum(run.cycles for run in self.runs[name])

    @property
    def array_cycles(self) -> int:
        """Array cycles of all layers."""
        return sum(self.cycles(name) for name in self.runs)

    def toggles(self, name: str) -> Toggles | None:
        """Register toggles of a layer, where they were asked for."""
        found = [run.toggles for run in self.runs[name] if run.toggles is not None]
        fields = Toggles.__dataclass_fields__
        return Toggles(**{f: sum(getattr(item, f) for item in found) for f in fields}) if found else None


def array_shape(accelerator: Accelerator, weight_bits: int, act_bits: int) -> ArrayShape:
    """Return the array as a layer of these operand widths sees it."""
    array = accelerator.array
    return ArrayShape(
        array.rows,
        array.cols,
        products_per_pe=accelerator.products_per_pe(weight_bits, act_bits),
        pipeline_depth=array.pipeline_depth,
    )


def execute_register(
    program: Program,
    inputs: Mapping[str, Array],
    accelerator: Accelerator,
    *,
    mode: str | None = None,
    toggles: bool = False,
    keep: Iterable[str] = (),
) -> RegisterExecution:
    """Run a Program with every product stepped through the array's registers.

    Parameters
    ----------
    program, inputs, accelerator, keep
        As `accelsim.execute.execute`.
    mode
        ``isolated`` or ``overlapped``; the accelerator's own where ``None``.
    toggles
        Whether to count data-dependent activity.

    Raises
    ------
    ValueError
        As `accelsim.execute.execute`.
    OverflowError
        Where an overflow rule is ``error`` and a sum leaves its register.
    """
    wanted = tuple(dict.fromkeys((*program.outputs, *keep)))
    rules = accumulations(program, accelerator)
    runs: dict[str, tuple[GemmRun, ...]] = {}

    def products(op: Conv | MatMul, operands: list[Array], output: Tensor) -> tuple[Array, OverflowMap | None]:
        weight_bits, act_bits = operand_bits(program, op)
        shape = array_shape(accelerator, weight_bits, act_bits)
        found = []
        for rows, columns, bias in layer_groups(op, operands):
            values = Operands(rows, columns, bias, act_bits=act_bits, weight_bits=weight_bits)
            try:
                found.append(
                    run_gemm(
                        DATAFLOWS[accelerator.array.dataflow],
                        values,
                        shape,
                        rules[op.name],
                        mode or accelerator.timing_mode,
                        toggles=toggles,
                    )
                )
            except OverflowError as error:
                raise OverflowError(f"layer {op.name!r}: {error}") from None
        runs[op.name] = tuple(found)
        axis = 1 if isinstance(op, Conv) else 0
        sums = np.concatenate([run.outputs for run in found], axis=axis).reshape(-1, *output.shape)
        events = np.concatenate([run.hop_events + run.accumulator_events for run in found], axis=axis)
        events = events.reshape(-1, *output.shape).sum(axis=0)
        if not events.any():
            return sums.astype(functional.storage_dtype(output)), None
        exact = (
            functional.conv(op, operands[0], output)
            if isinstance(op, Conv)
            else functional.matmul(op, operands, output)
        )
        return sums.astype(functional.storage_dtype(output)), OverflowMap(events, int((sums != exact).sum()))

    result = run_ops(program, input_codes(program, inputs), wanted, products)
    return RegisterExecution(result.outputs, result.overflow, runs)


ENGINES = {"functional": execute, "register": execute_register}
