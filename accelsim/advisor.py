"""Accumulator advice: the narrowest widths that no sum of a layer leaves, by proof and by data.

By proof: the magnitude of any partial sum in any order is at most ``Σ|w|·max|x|`` over the products in it (plus |bias|
in the accumulator), the ℓ1 bound that overflow-aware quantization uses (Colbert et al., "A2Q", ICCV 2023). A sum that
moves down the array holds the products of one fold; the accumulator holds all. By data: the extremes that the running
sums really reach on given inputs, in the array's order of additions; a network may leave them on other inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.arith import bits_for
from accelsim.config import Accelerator
from accelsim.execute import execute, layer_bound, layer_groups, operand_bits
from accelsim.program import Conv, MatMul, Program


@dataclass(frozen=True)
class Advice:
    """Widths of one layer, two's complement bits.

    Parameters
    ----------
    name, k
        Of the layer; products per output.
    weight_bits, act_bits
        Of its operands.
    bound
        Largest magnitude of the accumulator by the ℓ1 bound.
    psum_bits, acc_bits
        Safe by proof; `psum_bits` is ``None`` under ``os``, where no sum moves.
    seen_psum_bits, seen_acc_bits
        Enough for the inputs given; ``None`` without inputs.
    """

    name: str
    k: int
    weight_bits: int
    act_bits: int
    bound: int
    psum_bits: int | None
    acc_bits: int
    seen_psum_bits: int | None = None
    seen_acc_bits: int | None = None


def advise(
    program: Program, accelerator: Accelerator, inputs: Mapping[str, NDArray[Any]] | None = None
) -> tuple[Advice, ...]:
    """Return the narrowest safe widths of every layer.

    Parameters
    ----------
    program
        With values.
    accelerator
        Whose folds group the products.
    inputs
        Codes by input name, for widths by data; sums are not bounded while they are looked at.

    Raises
    ------
    ValueError
        If the Program has no values.
    """
    if not program.has_values:
        raise ValueError(f"Program {program.name!r} holds no weights; accumulator advice needs them")
    seen = _observe(program, accelerator, inputs) if inputs is not None else {}
    return tuple(
        _advice(program, op, accelerator, seen.get(op.name)) for op in program.ops if isinstance(op, Conv | MatMul)
    )


def compared(before: tuple[Advice, ...], after: tuple[Advice, ...]) -> tuple[tuple[Advice, Advice], ...]:
    """Return the advice of layers that both have, by name: a network without and with split channels."""
    found = {advice.name: advice for advice in after}
    return tuple((advice, found[advice.name]) for advice in before if advice.name in found)


def _advice(program: Program, op: Conv | MatMul, accelerator: Accelerator, seen: tuple[int, ...] | None) -> Advice:
    weight_bits, act_bits = operand_bits(program, op)
    rule = accelerator.accumulation(weight_bits, act_bits)
    bound = layer_bound(op)
    moving = None
    if rule.fold_k is not None:
        partial = _fold_bound(program, op, rule.fold_k)
        moving = bits_for(-partial, partial)
    return Advice(
        name=op.name,
        k=program.tensors[op.inputs[0]].shape[-1] if isinstance(op, MatMul) else int(np.prod(op.weight.shape[1:])),
        weight_bits=weight_bits,
        act_bits=act_bits,
        bound=bound,
        psum_bits=moving,
        acc_bits=bits_for(-bound, bound),
        seen_psum_bits=None if seen is None or moving is None else bits_for(seen[0], seen[1]),
        seen_acc_bits=None if seen is None else bits_for(seen[2], seen[3]),
    )


def _fold_bound(program: Program, op: Conv | MatMul, fold_k: int) -> int:
    """Return the ℓ1 bound of the products of any one fold."""
    source = program.tensors[op.inputs[0]]
    if isinstance(op, MatMul):
        reach = [
            max(abs(tensor.low - zero), abs(tensor.high - zero))
            for tensor, zero in zip((program.tensors[name] for name in op.inputs), op.zero_points, strict=True)
        ]
        return min(fold_k, source.shape[-1]) * reach[0] * reach[1]
    magnitude = max(source.magnitude, abs(op.pad_value) if any(op.padding) else 0)
    flat = np.abs(np.asarray(op.weight).astype(np.int64)).reshape(op.weight.shape[0], -1)
    padded = np.zeros((flat.shape[0], -(-flat.shape[1] // fold_k) * fold_k), dtype=np.int64)
    padded[:, : flat.shape[1]] = flat
    return int(padded.reshape(flat.shape[0], -1, fold_k).sum(axis=2).max()) * magnitude


def _observe(
    program: Program, accelerator: Accelerator, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, tuple[int, int, int, int]]:
    """Return (lowest, highest) moving and accumulated sums of each layer on some inputs."""
    products = [op for op in program.ops if isinstance(op, Conv | MatMul)]
    values = execute(program, inputs, keep=tuple(name for op in products for name in op.inputs)).outputs
    found = {}
    for op in products:
        rule = accelerator.accumulation(*operand_bits(program, op))
        extremes = np.zeros(4, dtype=np.int64)
        for rows, columns, bias in layer_groups(op, [values[name] for name in op.inputs]):
            wide = (rows.astype(np.int64), np.ascontiguousarray(columns.T, dtype=np.int64), bias.astype(np.int64))
            _running(*wide, rule.fold_k or 0, rule.products_per_hop, extremes)
        found[op.name] = (int(extremes[0]), int(extremes[1]), int(extremes[2]), int(extremes[3]))
    return found


@njit(cache=True)
def _running(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    bias: NDArray[np.int64],
    fold_k: int,
    hop: int,
    extremes: NDArray[np.int64],
) -> None:
    """Widen `extremes` (lowest and highest moving sum, lowest and highest accumulator) by all sums of a product.

    Shapes ``[m, k]``, ``[n, k]``, ``[n]``.
    """
    length = rows.shape[1]
    fold = fold_k if fold_k > 0 else hop
    for i in range(rows.shape[0]):
        for j in range(columns.shape[0]):
            total = bias[j]
            extremes[2], extremes[3] = min(extremes[2], total), max(extremes[3], total)
            for start in range(0, length, fold):
                moving = 0
                for at in range(start, min(start + fold, length), hop):
                    for k in range(at, min(at + hop, start + fold, length)):
                        moving += rows[i, k] * columns[j, k]
                    extremes[0], extremes[1] = min(extremes[0], moving), max(extremes[1], moving)
                total += moving
                extremes[2], extremes[3] = min(extremes[2], total), max(extremes[3], total)
