"""Machines of equal silicon: narrower PEs buy more of them."""

from accelsim.config import Accelerator
from accelsim.cost import Machine as Priced
from accelsim.cost import area_um2
from accelsim.execute import operand_bits
from accelsim.pe import built_widths
from accelsim.program import Conv, MatMul, Program
from accelsim.technology import Technology
from reports.sweep.study import Machine, changed


def equal_area(machine: Machine, program: Program, prices: Technology) -> Accelerator:
    """Return the accelerator, its columns as many as fit the area of its array at `Machine.equal_area_bits`.

    Rows stay: they decide folds along k, and so what a split channel costs. At least one column is left.
    """
    accelerator = machine.accelerator
    if machine.equal_area_bits is None:
        return accelerator
    widths = [operand_bits(program, op) for op in program.ops if isinstance(op, Conv | MatMul)]
    widest = (max((w for w, _ in widths), default=2), max((a for _, a in widths), default=2))
    reference = (machine.equal_area_bits, machine.equal_area_bits)
    ratio = _array_um2(accelerator, reference, prices) / _array_um2(accelerator, widest, prices)
    cols = max(1, int(accelerator.array.cols * ratio + 1e-9))
    return changed(accelerator, {"array.cols": cols}) if cols != accelerator.array.cols else accelerator


def _array_um2(accelerator: Accelerator, widths: tuple[int, int], prices: Technology) -> float:
    built = built_widths(accelerator, *widths)
    return area_um2(Priced(accelerator, prices, built, 8))["pe"]
