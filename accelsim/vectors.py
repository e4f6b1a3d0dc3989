"""Golden vectors: what enters an array in each cycle and what must leave it, for people who build the hardware.

`export_vectors` takes a layer of a Program, steps the array of an accelerator through it and writes operands, skewed
input streams, control bits, sums at the bottom edge, what the accumulators take, and the outputs: as one ``.npz`` and
as ``.memh`` for ``$readmemh``, with a README that explains every file.

Line t of a stream is cycle t: what the wires carry just before the clock edge that ends it, see
`accelsim.stepper.base`.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import IntArray
from accelsim.config import Accelerator
from accelsim.dataflow import DATAFLOWS, Dataflow, Job, Operands, make_job
from accelsim.execute import accumulations, execute, layer_groups, operand_bits
from accelsim.program import Conv, MatMul, Program
from accelsim.register import array_shape
from accelsim.stepper import Cycle, trace
from accelsim.store import write_atomically
from accelsim.vectors_readme import readme

MAX_CYCLES = 1 << 18
"""Longest run that is exported: at 32 columns of 32 bits its sums are 67 MB of text."""

LINES_AT_A_TIME = 1 << 12
"""Lines turned into hexadecimal together, so that the bits of all of them need not fit in memory."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Lines of equal fields.

    Parameters
    ----------
    values
        Integers ``[lines, fields]``, or 1-D for one field a line.
    bits
        Width of a field, two's complement where negative.
    meaning
        One line for the README.
    """

    values: IntArray
    bits: int
    meaning: str

    @property
    def fields(self) -> int:
        """Fields of a line."""
        return int(np.prod(self.values.shape[1:], dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of one GEMM.

    Parameters
    ----------
    dataflow, job
        What was run.
    signed
        Whether (activations, weights) are two's complement.
    cycles
        Array cycles; the per-cycle streams have one line more.
    operands, per_cycle, results
        Streams by name: matrices before the run, wires during it, outputs after it.
    """

    dataflow: Dataflow
    job: Job
    signed: tuple[bool, bool]
    cycles: int
    operands: dict[str, Stream]
    per_cycle: dict[str, Stream]
    results: dict[str, Stream]

    @property
    def streams(self) -> dict[str, Stream]:
        """All of them."""
        return {**self.operands, **self.per_cycle, **self.results}

    @property
    def parameters(self) -> dict[str, int]:
        """Names and values as in ``parameters.vh`` and in the Verilog arrays of this project's tests."""
        job = self.job
        rules, rule = job.accumulation, {"wrap": 0, "error": 0, "saturate": 1}
        return {
            "INPUTS_STAY": int(self.dataflow.stationary == "input"),
            "ROWS": job.array.rows,
            "COLS": job.array.cols,
            "LANES": job.array.products_per_pe,
            "DEPTH": job.array.pipeline_depth,
            "BANKS": job.banks,
            "ACT_BITS": job.operands.act_bits,
            "ACT_SIGNED": int(self.signed[0]),
            "WEIGHT_BITS": job.operands.weight_bits,
            "WEIGHT_SIGNED": int(self.signed[1]),
            "PSUM_BITS": rules.psum_bits,
            "PSUM_SATURATE": rule[rules.psum_overflow],
            "ACC_BITS": rules.acc_bits,
            "ACC_SATURATE": rule[rules.acc_overflow],
            "CYCLES": self.cycles,
        }


def export_vectors(
    program: Program,
    codes: Mapping[str, NDArray[Any]],
    layer: str,
    accelerator: Accelerator,
    out_dir: str | Path,
    *,
    mode: str | None = None,
    group: int = 0,
) -> Vectors:
    """Write the golden vectors of one layer.

    Parameters
    ----------
    program
        A checked Program with values.
    codes
        Integer codes ``[batch, *shape]`` by input name; the layer's product has m = batch · pixels rows.
    layer
        Name of a convolution, linear layer or product of activations.
    accelerator
        Whose array it is.
    out_dir
        Folder, made if need be; files of the same names are replaced.
    mode
        ``isolated`` or ``overlapped``; the accelerator's own where ``None``.
    group
        Which of a grouped layer's products (a batched matrix product's, in batch order).

    Raises
    ------
    ValueError
        If there is no such layer or group, or the run is longer than `MAX_CYCLES`.
    """
    dataflow, job, signed = layer_job(program, codes, layer, accelerator, mode=mode, group=group)
    cycles = dataflow.cycles(job.operands.gemm, job.array, job.mode, job.stream_tile)
    if cycles > MAX_CYCLES:
        raise ValueError(
            f"export_vectors: layer {layer!r} takes {cycles} cycles, more than {MAX_CYCLES}; give fewer samples"
        )
    vectors = gemm_vectors(dataflow, job, signed)
    write_vectors(vectors, out_dir, f"layer {layer}, product {group}, of network {program.name}")
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
    products = {op.name: op for op in program.ops if isinstance(op, Conv | MatMul)}
    if layer not in products:
        raise ValueError(f"layer {layer!r} is no product on the array; give one of {_few(products)}")
    op = products[layer]
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
        mode or accelerator.timing_mode,
    )
    return dataflow, job, _signed(program, op)


def gemm_vectors(
    dataflow: Dataflow, job: Job, signed: tuple[bool, bool] | None = None, *, registers: bool = False
) -> Vectors:
    """Return the vectors of one GEMM.

    Parameters
    ----------
    dataflow, job
        As `accelsim.stepper.trace`.
    signed
        Whether (activations, weights) are two's complement; ``None``: unless a value needs all bits unsigned.
    registers
        Whether to keep every PE's registers and overflows of every cycle, too.
    """
    operands, gemm = job.operands, job.operands.gemm
    if signed is None:
        widths = (operands.a, operands.act_bits), (operands.w, operands.weight_bits)
        act_signed, weight_signed = (int(values.max()) < 1 << (bits - 1) for values, bits in widths)
        signed = act_signed, weight_signed
    bias = np.zeros(gemm.n, dtype=np.int64) if operands.bias is None else operands.bias
    per_cycle = _record(dataflow, job, _edges(dataflow, job) + (_registers(dataflow, job) if registers else []))
    resident = dataflow.stationary == "output"
    names = ("bottom_valid", "output", "bottom") if resident else ("total_final", "output", "total")
    final, place, total = (per_cycle[name].values for name in names)
    outputs, done = np.zeros(gemm.m * gemm.n, dtype=np.int64), final.astype(np.bool_) & (place >= 0)
    outputs[place[done]] = total[done]
    result = outputs.reshape(gemm.m, gemm.n)
    return Vectors(
        dataflow=dataflow,
        job=job,
        signed=signed,
        cycles=len(place) - 1,
        operands={
            "a": Stream(operands.a, operands.act_bits, "activations, one row of a[m, k] a line"),
            "w": Stream(operands.w, operands.weight_bits, "weights, one row of w[k, n] a line"),
            "initial": Stream(bias, 64, "bias of output column n, before it is brought into range"),
        },
        per_cycle=per_cycle,
        results={"outputs": Stream(result, job.accumulation.acc_bits, "one row of the result[m, n] a line")},
    )


def write_vectors(vectors: Vectors, out_dir: str | Path, title: str = "one matrix product") -> None:
    """Write vectors as ``vectors.npz``, ``*.memh``, ``parameters.vh`` and ``README.md``; `title` names them there."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    job = vectors.job
    folds = vectors.dataflow.folds(job.operands.gemm, job.array, job.stream_tile)
    arrays: dict[str, Any] = {name: stream.values for name, stream in vectors.streams.items()}
    arrays |= {f"fold_{name}": folds[name] for name in folds.dtype.names or ()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(folder / "vectors.npz", buffer.getvalue())
    for name, stream in vectors.streams.items():
        write_atomically(folder / f"{name}.memh", memh(stream).encode())
    lines = (f"localparam {name} = {value};\n" for name, value in vectors.parameters.items())
    write_atomically(folder / "parameters.vh", "".join(lines).encode())
    write_atomically(folder / "README.md", readme(vectors, title).encode())


def memh(stream: Stream) -> str:
    """Return a stream as text for ``$readmemh``: one word a line, field 0 in its lowest bits."""
    flat = stream.values.reshape(len(stream.values), -1)
    digits = -(-flat.shape[1] * stream.bits // 4)
    lines = []
    for start in range(0, len(flat), LINES_AT_A_TIME):
        words = flat[start : start + LINES_AT_A_TIME].astype(np.int64).view(np.uint64)
        bits = (words[:, :, None] >> np.arange(stream.bits, dtype=np.uint64)) & np.uint64(1)
        packed = np.packbits(bits.reshape(len(words), -1).astype(np.uint8), axis=1, bitorder="little")
        lines += [line[::-1].tobytes().hex()[-digits:] + "\n" for line in packed]
    return "".join(lines)


@dataclass(frozen=True)
class _Tap:
    """A wire or register to record: name of the stream, what to read, width of a field."""

    name: str
    read: Callable[[Cycle], NDArray[Any]]
    bits: int
    meaning: str


def _record(dataflow: Dataflow, job: Job, taps: list[_Tap]) -> dict[str, Stream]:
    """Step the array and keep what the taps read, each in the narrowest type that holds it."""
    lines = dataflow.cycles(job.operands.gemm, job.array, job.mode, job.stream_tile) + 1
    kept: list[NDArray[Any]] = []
    seen = 0
    for cycle in trace(dataflow, job):
        read = [tap.read(cycle).ravel() for tap in taps]
        if not kept:
            kept = [np.empty((lines, len(part)), _dtype(tap.bits)) for part, tap in zip(read, taps, strict=True)]
        for array, part in zip(kept, read, strict=True):
            array[cycle.index] = part
        seen += 1
    assert seen == lines, "the trace took other cycles than the closed form says"
    return {tap.name: Stream(array, tap.bits, tap.meaning) for tap, array in zip(taps, kept, strict=True)}


def _dtype(bits: int) -> type[np.signedinteger[Any]]:
    """Return a type for fields of a width; of operands, which may be unsigned, none is as wide as 32 bits."""
    return np.int8 if bits < 8 else np.int16 if bits < 16 else np.int32 if bits <= 32 else np.int64


def _tap(name: str, bits: int, meaning: str, field: str = "") -> _Tap:
    return _Tap(name, attrgetter(field or name), bits, meaning)


def _edges(dataflow: Dataflow, job: Job) -> list[_Tap]:
    """Return the wires at the edges."""
    operands, rules = job.operands, job.accumulation
    resident, swapped = dataflow.stationary == "output", dataflow.stationary == "input"
    moves, comes = ("weights", "activations") if swapped else ("activations", "weights")
    left, top = operands.act_bits, operands.weight_bits
    if swapped:
        left, top = top, left
    way = "moving down" if resident else "on their way down to the PEs that keep them"
    shared = [
        _tap("left", left, f"{moves} entering at the left, by row, skewed"),
        _tap("top", top, f"{comes} {way}, by column, skewed"),
        *(_control(name, rules.acc_bits) for name in CONTROL[dataflow.stationary]),
        _tap("bottom", rules.acc_bits if resident else rules.psum_bits, "what the bottom row puts out, by column"),
        _tap("bottom_valid", 1, "whether it is a sum, by column"),
        _tap("output", 32, "its place m * N + n in the result, all ones for none, by column"),
    ]
    memory = [
        _tap("total", rules.acc_bits, "what the accumulator memory takes, 0 for nothing, by column"),
        _tap("total_final", 1, "whether that is the output, by column"),
        _tap("total_overflow", 1, "whether that addition overflowed, by column", "total_overflows"),
        _tap("total_bias_overflow", 1, "whether the bias that it starts from did, by column", "total_bias_overflows"),
    ]
    return shared if resident else shared + memory


def _control(name: str, acc_bits: int) -> _Tap:
    return _Tap(name, lambda cycle: cycle.control[name], acc_bits if name == "bias" else 1, MEANING[name])


def _registers(dataflow: Dataflow, job: Job) -> list[_Tap]:
    """Return the registers of all PEs: by row, column and product lane, copies of a register outermost."""
    operands, rules = job.operands, job.accumulation
    return [
        _tap("activations", operands.act_bits, "activation registers"),
        _tap("weights", operands.weight_bits, "weight registers"),
        _tap("sums", rules.acc_bits if dataflow.stationary == "output" else rules.psum_bits, "sum registers"),
        _tap("overflow", 1, "additions that overflow at the end of the cycle", "overflows"),
        _tap("bias_overflow_by_pe", 1, "PEs that take a bias out of range", "bias_overflows"),
    ]


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


MEANING = {
    "select": "stationary register that multiplies, by row, skewed",
    "shift": "whether stationary registers take from above, by row",
    "load_bank": "which of them do",
    "first": "whether a fold's first product arrives, which is added to the bias, by row, skewed",
    "bank": "sum register that adds, by row, skewed",
    "drain": "whether sum registers take from above, by row",
    "drain_bank": "which of them do, and which one the bottom row puts out",
    "bias": "wire down the column, the bias brought into range, by column, skewed",
    "bias_overflow": "whether that bias was out of range, by column, skewed",
}
"""What the control bits at the edges mean."""

STILL_CONTROL = ("select", "shift", "load_bank")
CONTROL = {
    "weight": STILL_CONTROL,
    "input": STILL_CONTROL,
    "output": ("first", "bank", "drain", "drain_bank", "bias", "bias_overflow"),
}
"""The control bits of an array, by what stays in it."""
