"""The array level: one GEMM on a systolic array, register by register or in closed form.

========================  ============================================================================================
`run_gemm`                one GEMM through every register: outputs, cycles, overflow maps, toggles
`DATAFLOWS`               ``ws | os | is``: fold order, cycles, counts, toggles in closed form, register engine
`ArrayShape`, `Gemm`      rows, columns, products per PE, MAC depth; m, k, n
`Operands`                values, bias and operand widths
========================  ============================================================================================
"""

from accelsim.dataflow.base import (
    FOLD_DTYPE,
    MODES,
    ArrayShape,
    Counts,
    Dataflow,
    Gemm,
    Job,
    Operands,
    RegisterRun,
    Toggles,
)
from accelsim.dataflow.is_ import IS
from accelsim.dataflow.os import OS
from accelsim.dataflow.run import GemmRun, make_job, run_gemm
from accelsim.dataflow.ws import WS

__all__ = [
    "DATAFLOWS",
    "FOLD_DTYPE",
    "MODES",
    "ArrayShape",
    "Counts",
    "Dataflow",
    "Gemm",
    "GemmRun",
    "Job",
    "Operands",
    "RegisterRun",
    "Toggles",
    "make_job",
    "run_gemm",
]

DATAFLOWS = {"ws": WS, "os": OS, "is": IS}
