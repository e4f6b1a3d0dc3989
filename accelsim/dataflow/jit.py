"""What all kernels are compiled with, and how they count toggled bits.

``compiled`` is njit with a disk cache and without numba's run-time: kernels allocate nothing and keep no references,
and counting references to arrays cost more than a cycle of a small array.

numba promotes int32 xor int32 to int64, whose sign bits would be counted too, and knows no population count; so this
is one LLVM instruction on the lanes' own type. Kernels in other files inline it, and numba's disk cache does not notice
edits here: clear the caches (`__pycache__`) after changing this file.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any

import numpy as np
from numba import config, njit, types
from numba.extending import intrinsic

compiled: Any = njit(cache=True, _nrt=False)  # type: ignore[call-overload]
"""Decorator of kernels that allocate nothing."""


@intrinsic
def _flips(_typing: Any, old: Any, new: Any, mask: Any) -> Any:
    if not (isinstance(old, types.Integer) and old == new == mask):
        return None

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(builder.and_(builder.xor(args[0], args[1]), args[2]))

    return old(old, new, mask), codegen


def _flips_in_python(old: Any, new: Any, mask: Any) -> int:
    return ((int(old) ^ int(new)) & int(mask) & ((1 << 8 * mask.itemsize) - 1)).bit_count()


flips = _flips_in_python if config.DISABLE_JIT else _flips  # type: ignore[attr-defined]
"""``flips(old, new, mask)``: bits in which two integers of one width differ, under a mask of that width."""


@compiled
def distance(old, new, mask):
    """Return in how many bits two lines of integers of 32 bits differ, under a mask; at most 2^26 integers.

    Kernels hand in slices: LLVM cannot vectorise ``values[at + i]``, whose index numba lets count from the end.
    """
    ones = np.int32(0)
    for i in range(new.size):
        ones = np.int32(ones + np.int32(flips(old[i], new[i], mask)))
    return ones


@compiled
def zeros_in(values):
    """Return how many of a line of integers are zero."""
    zeros = np.int32(0)
    for i in range(values.size):
        zeros = np.int32(zeros + np.int32(values[i] == 0))
    return zeros
