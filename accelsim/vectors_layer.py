"""Golden vectors of a layer: which of its products, and which part of that product."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.dataflow import DATAFLOWS, Dataflow, Gemm, Job, Operands, make_job
from accelsim.execute import accumulations, execute, layer_groups, operand_bits
from accelsim.program import Conv, MatMul, Program
from accelsim.register import array_shape
from accelsim.vectors import Progress, Vectors, gemm_vectors, line_bits
from accelsim.vectors_files import check_folder, write_vectors

MAX_BYTES = 1 << 28
"""Most text of streams by cycle that is exported: some 300 000 cycles of a 32 × 32 array, 40 000 of a 256 × 256 one."""

ISOLATED, OVERLAPPED = "isolated", "overlapped"

Range = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """What to export of a network.

    The whole sum of an output is exported always: all of k, whichever fold is chosen.

    Parameters
    ----------
    layer
        Name of a convolution, linear layer or product of activations.
    group
        Which of a grouped layer's products (a batched matrix product's, in batch order).
    fold
        A fold of that product, counted from 0 in the order of execution: the outputs that it adds to, with all the
        folds that add to them. ``None`` for all outputs.
    first_row, rows
        Of what was chosen, how many rows of m to leave out and then to take; ``rows=None`` for all the rest.
    """

    layer: str
    group: int = 0
    fold: int | None = None
    first_row: int = 0
    rows: int | None = None


def export_vectors(
    program: Program,
    codes: Mapping[str, NDArray[Any]],
    part: Part,
    accelerator: Accelerator,
    out_dir: str | Path,
    *,
    mode: str | None = None,
    progress: Progress | None = None,
) -> Vectors:
    """Write the golden vectors of one layer, or of a part of it.

    Parameters
    ----------
    program
        A checked Program with values.
    codes
        Integer codes ``[batch, *shape]`` by input name; the layer's product has m = batch · pixels rows.
    part
        Layer, group, fold, rows.
    accelerator
        Whose array it is.
    out_dir
        A new or empty folder.
    mode
        ``isolated`` or ``overlapped``; the accelerator's own where ``None``.
    progress
        Called now and then.

    Raises
    ------
    ValueError
        If there is no such layer, group, fold or row, the text would be longer than `MAX_BYTES`, or the folder is not
        empty.
    """
    check_folder(out_dir)
    dataflow, job, signed = layer_job(program, codes, part.layer, accelerator, mode=mode, group=part.group)
    whole = job.operands.gemm
    job, m, n = cut(dataflow, job, part)
    cycles = dataflow.cycles(job.operands.gemm, job.array, job.mode, job.stream_tile)
    size = cycles * line_bits(dataflow, job) // 4
    if size > MAX_BYTES:
        raise ValueError(
            f"layer {part.layer!r} takes {cycles} cycles on this array, {size >> 20} MiB of text, more than "
            f"{MAX_BYTES >> 20}; give fewer rows (--rows), one fold (--fold) or fewer samples (--images)"
        )
    vectors = gemm_vectors(dataflow, job, signed, progress=progress)
    write_vectors(vectors, out_dir, _origin(program, part, whole, m, n))
    return vectors


def layer_job(
    program: Program,
    codes: Mapping[str, NDArray[Any]],
    layer: str,
    accelerator: Accelerator,
    *,
    mode: str | None = None,
    group: int = 0,
) -> tuple[Dataflow, Job, tuple[bool, bool]]:
    """Return one product of a layer as the array meets it: parameters and errors as `export_vectors`.

    Returns
    -------
    dataflow, job, signed
        The last says whether (activations, weights) are two's complement.
    """
    op = find_product(program, layer)
    values = execute(program, codes, accelerator, keep=op.inputs).outputs
    groups = layer_groups(op, [values[name] for name in op.inputs])
    if not 0 <= group < len(groups):
        raise ValueError(f"group must be within 0..{len(groups) - 1} of layer {layer!r} (got {group})")
    weight_bits, act_bits = operand_bits(program, op)
    dataflow = DATAFLOWS[accelerator.array.dataflow]
    job = make_job(
        dataflow,
        Operands(*groups[group], act_bits=act_bits, weight_bits=weight_bits),
        array_shape(accelerator, weight_bits, act_bits),
        accumulations(program, accelerator)[layer],
        array_mode(accelerator, mode),
    )
    return dataflow, job, _signed(program, op)


def array_mode(accelerator: Accelerator, mode: str | None) -> str:
    """Return the timing mode to step in, the accelerator's own where ``None``.

    Raises
    ------
    ValueError
        If the array cannot run in it.
    """
    if mode is None:
        return accelerator.timing_mode
    if mode not in (ISOLATED, OVERLAPPED):
        raise ValueError(f"timing mode to step in must be {ISOLATED} or {OVERLAPPED} (got {mode!r})")
    if mode == OVERLAPPED and accelerator.timing_mode != OVERLAPPED:
        raise ValueError(
            f"timing mode {OVERLAPPED} needs a double-buffered array, {accelerator.name}'s is not; use {ISOLATED}"
        )
    return mode


def find_product(program: Program, layer: str) -> Conv | MatMul:
    """Return a layer that the array computes.

    Raises
    ------
    ValueError
        If there is none of that name; close names are proposed.
    """
    products = {op.name: op for op in program.ops if isinstance(op, Conv | MatMul)}
    if layer in products:
        return products[layer]
    other = next((op.kind for op in program.ops if op.name == layer), None)
    problem = f"layer {layer!r} is no product on the array ({other})" if other else f"no layer is named {layer!r}"
    close = difflib.get_close_matches(layer, products, n=5, cutoff=0.4)
    remedy = f"did you mean {' or '.join(close)}?" if close else f"give one of {_few(products)}"
    raise ValueError(f"{problem} in network {program.name}; {remedy}")


def cut(dataflow: Dataflow, job: Job, part: Part) -> tuple[Job, Range, Range]:
    """Return the product of the chosen rows and columns, and where in the whole they are (m, n; half-open)."""
    operands = job.operands
    m, n = (0, operands.gemm.m), (0, operands.gemm.n)
    if part.fold is not None:
        folds = dataflow.folds(operands.gemm, job.array, job.stream_tile)
        if not 0 <= part.fold < len(folds):
            raise ValueError(f"fold must be within 0..{len(folds) - 1} of layer {part.layer!r} (got {part.fold})")
        fold = folds[part.fold]
        m, n = (int(fold["m0"]), int(fold["m1"])), (int(fold["n0"]), int(fold["n1"]))
    rows = m[1] - m[0]
    if not 0 <= part.first_row < rows:
        raise ValueError(f"first row must be within 0..{rows - 1} of layer {part.layer!r} (got {part.first_row})")
    if part.rows is not None and part.rows < 1:
        raise ValueError(f"rows must be >= 1 (got {part.rows}); leave it out to take all")
    first = m[0] + part.first_row
    m = first, m[1] if part.rows is None else min(m[1], first + part.rows)
    a, w = operands.a[m[0] : m[1]], operands.w[:, n[0] : n[1]]
    bias = None if operands.bias is None else operands.bias[n[0] : n[1]]
    return replace(job, operands=replace(operands, a=a, w=w, bias=bias)), m, n


def _origin(program: Program, part: Part, whole: Gemm, m: Range, n: Range) -> str:
    return (
        f"layer {part.layer} of network {program.name}\n\n"
        f"Product {part.group} of the layer is `[{whole.m}, {whole.k}] · [{whole.k}, {whole.n}]`; these are its rows "
        f"m = {m[0]} … {m[1] - 1} and columns n = {n[0]} … {n[1] - 1}, counted from 0 again below. Of a convolution, "
        "rows are output pixels (sample by sample, then y, then x), columns the product's output channels, and k runs "
        "over (kernel y, kernel x, input channel), channels fastest, duplicated channels behind the originals; what "
        "pads the map is among the activations, and what an activation's zero point adds is part of the bias."
    )


def _signed(program: Program, op: Conv | MatMul) -> tuple[bool, bool]:
    """Tell whether a layer's (activations, weights) are two's complement at the PE."""
    tensors = [program.tensors[name] for name in op.inputs]
    if isinstance(op, Conv):
        return tensors[0].signed, True
    first, second = (tensor.signed or zero != 0 for tensor, zero in zip(tensors, op.zero_points, strict=True))
    return first, second


def _few(names: Mapping[str, Any]) -> str:
    shown = list(names)[:8]
    return ", ".join(shown) + (f" … ({len(names)} in all)" if len(names) > len(shown) else "")
