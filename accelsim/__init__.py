"""accelsim: bit-accurate execution, timing and pricing of integer networks on systolic arrays.

What there is, by what one does with it:

describe  `load_accelerator`, `Accelerator`, `technology`
hold      `Program`, `check`, `save_program`, `load_program`
execute   `execute`, `execute_register`, `Execution`
price     `simulate`, `Result`
"""

from accelsim.arith import Accumulation
from accelsim.check import check
from accelsim.config import Accelerator, load_accelerator
from accelsim.execute import Execution, accumulations, execute
from accelsim.program import Program
from accelsim.register import execute_register
from accelsim.simulate import Result, simulate
from accelsim.store import load_program, save_program
from accelsim.technology import technology

__all__ = [
    "Accelerator",
    "Accumulation",
    "Execution",
    "Program",
    "Result",
    "accumulations",
    "check",
    "execute",
    "execute_register",
    "load_accelerator",
    "load_program",
    "save_program",
    "simulate",
    "technology",
]
