"""TensorFlow Lite networks of 8-bit codes as Programs, under the rules of one of LiteRT's kernel sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.check import check
from accelsim.program import Program
from quant.importers.tflite_kernels import kernel_set
from quant.importers.tflite_ops import OPERATORS
from quant.importers.tflite_reader import FileModel, FileOperator, parse_tflite, read_tflite
from quant.importers.tflite_shapes import computes_integers, fold
from quant.importers.tflite_writer import Writer


@dataclass(frozen=True, kw_only=True)
class Port:
    """One input or output of a file.

    Parameters
    ----------
    index
        Tensor number in the file.
    tensor
        The Program tensor that holds its codes.
    shape
        Of one sample.
    dtype
        As the file declares it: ``int8``, ``uint8``, or ``float32`` where the file converts codes itself.
    scale, zero_point
        Real value = scale · (code - zero_point).
    """

    index: int
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TfliteNetwork:
    """An imported file.

    Parameters
    ----------
    program
        Checked, with values.
    kernels
        The kernel set whose rules it has.
    inputs, outputs
        The file's own, in its order; they are the Program's too.
    tensors
        Program tensor by number of the file's tensor, for every tensor of codes.
    remarks
        Where the Program may differ from the kernels, a line each.
    """

    program: Program
    kernels: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tensors: Mapping[int, str]
    remarks: tuple[str, ...] = ()

    def encode(self, samples: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return codes by Program input for samples of a network of one input.

        Parameters
        ----------
        samples
            ``[batch, *shape]``: integers are codes already, floats are real values and are brought onto the input's
            grid, float32 quotient rounded half away from zero, as LiteRT's reference QUANTIZE does.

        Raises
        ------
        ValueError
            If the network has several inputs, or the samples are of another shape.
        """
        if len(self.inputs) != 1:
            raise ValueError(f"network {self.program.name!r} has {len(self.inputs)} inputs; give codes by name")
        port = self.inputs[0]
        if samples.shape[1:] != port.shape:
            raise ValueError(
                f"network {self.program.name!r} takes samples of shape {port.shape} (got {samples.shape[1:]})"
            )
        if samples.dtype.kind in "iu":
            return {port.tensor: samples}
        tensor = self.program.tensors[port.tensor]
        real = samples.astype(np.float32) / np.float32(port.scale)
        rounded = np.trunc(real + np.copysign(np.float32(0.5), real)).astype(np.float64) + port.zero_point
        return {port.tensor: np.clip(rounded, tensor.low, tensor.high).astype(np.int16)}

    def decode(self, codes: NDArray[Any], output: int = 0) -> NDArray[np.float64]:
        """Return the real values of an output's codes."""
        port = self.outputs[output]
        return port.scale * (codes.astype(np.float64) - port.zero_point)


def import_tflite(path: Path | str, kernels: str = "xnnpack") -> TfliteNetwork:
    """Read a file into a Program.

    Parameters
    ----------
    path
        A ``.tflite`` file of int8 or uint8 codes; float32 at its ends is allowed. It is parsed, never executed.
    kernels
        A key of `quant.importers.tflite_kernels.KERNELS`: whose integers the Program computes.

    Returns
    -------
    TfliteNetwork

    Raises
    ------
    ValueError
        If the file cannot be read, is damaged, or holds what no Program op stands for; one line naming the operator.
    """
    return convert(read_tflite(Path(path)), kernels)


def import_tflite_bytes(data: bytes, name: str, kernels: str = "xnnpack") -> TfliteNetwork:
    """Read a file's bytes, see `import_tflite`; `name` is what errors call it."""
    return convert(parse_tflite(data, name), kernels)


def convert(model: FileModel, kernels: str) -> TfliteNetwork:
    """Return the network of a parsed file, see `import_tflite`."""
    writer = Writer(model, kernel_set(kernels))
    if writer.batch < 1:
        raise ValueError(f"{model.name}: its input has no batch axis")
    for index in dict.fromkeys(model.inputs):
        tensor = model.tensors[index]
        if tensor.dtype == "float32":
            writer.real[index] = -1
        else:
            writer.declare(None, tensor)
    with np.errstate(all="ignore"):  # scales so far apart give infinities, which every op's rule refuses
        for op in model.operators:
            _convert_operator(writer, op)
    inputs, outputs = _ports(writer, model.inputs), _ports(writer, model.outputs)
    program = Program(
        name=model.name.removesuffix(".tflite"),
        tensors=writer.tensors,
        inputs=tuple(dict.fromkeys(port.tensor for port in inputs)),
        outputs=tuple(dict.fromkeys(port.tensor for port in outputs)),
        ops=tuple(writer.ops),
    )
    check(program)
    return TfliteNetwork(
        program=program, kernels=kernels, inputs=inputs, outputs=outputs, tensors=writer.known,
        remarks=tuple(writer.remarks),
    )  # fmt: skip


def _convert_operator(writer: Writer, op: FileOperator) -> None:
    try:
        if computes_integers(writer, op):
            fold(writer, op)
            return
        if op.kind not in OPERATORS:
            raise writer.fail(op, "gives integers of shapes alone; its output is declared otherwise")
        OPERATORS[op.kind](writer, op)
    except OverflowError:
        raise writer.fail(op, "has scales too far apart to be represented; the file is damaged") from None


def _ports(writer: Writer, indices: tuple[int, ...]) -> tuple[Port, ...]:
    ports = []
    for index in indices:
        tensor = writer.model.tensors[index]
        codes = writer.model.tensors[writer.real[index]] if writer.real.get(index, -1) >= 0 else tensor
        if codes.index not in writer.known:
            what = "float32 that no QUANTIZE reads" if tensor.dtype == "float32" else "never computed"
            raise ValueError(f"{writer.model.name}: {tensor} is {what}; networks quantized to int8 or uint8 are read")
        scale, zero = writer.grid(None, codes)
        shape = writer.sample_shape(tensor, writer.batch)
        name = writer.known[codes.index]
        ports.append(
            Port(index=index, tensor=name, shape=shape, dtype=tensor.dtype, scale=float(scale), zero_point=zero)
        )
    return tuple(ports)
