"""Functions of many codes that are no more than another grid, clipped or not: one requantization instead of a table."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import REQUANT_RULES
from accelsim.program import Requantize, Table, Tensor

Array = NDArray[Any]
Ints = NDArray[np.int64]

NEAR_TIES = 0.01
"""Share of codes that may come out one apart where a function is written as a requantization; it is remarked upon."""


def rescaled(tensor: Tensor, zeros: tuple[int, int], ratio: float, limits: tuple[int, int]) -> Ints:
    """Return what rule ``float32_rne`` makes of every code of a tensor.

    Parameters
    ----------
    tensor
        Whose codes.
    zeros, limits
        Zero points of the codes and of the result, and the result's least and largest code.
    ratio
        Scale of the codes over that of the result.
    """
    operands = np.arange(tensor.low, tensor.high + 1) - zeros[0]
    found = REQUANT_RULES["float32_rne"].array(operands, np.array([ratio]), np.zeros(1))
    return np.asarray(np.clip(found + zeros[1], *limits), dtype=np.int64)


def is_rescaled(entries: Ints, found: Ints) -> bool:
    """Tell whether a table is one requantization, but for a few values near ties."""
    apart = np.abs(found - entries)
    return bool(apart.max() <= 1 and (apart > 0).mean() <= NEAR_TIES)


def entries_of(op: object, tensor: Tensor) -> tuple[Ints, int] | None:
    """Return what an op makes of every code of its only input, and the first of these codes; ``None`` if no function.

    Parameters
    ----------
    op
        A Table, or a Requantize of one multiplier.
    tensor
        Its input.
    """
    if isinstance(op, Table):
        return np.asarray(op.entries, np.int64), op.low_code
    if not isinstance(op, Requantize) or tensor.kind != "code" or op.multiplier.size > 1 or op.rule != "float32_rne":
        return None
    found = rescaled(tensor, (op.zero_in, op.zero_out), float(op.multiplier[0]), (op.low, op.high))
    return found, tensor.low
