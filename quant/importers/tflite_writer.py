"""Writes a Program while a TensorFlow Lite file's operators are walked: which tensor stands for which."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import bits_for, code_range, fixed_point
from accelsim.program import Concat, Constant, Op, Reshape, Slice, Tensor
from quant.importers.tflite_kernels import KernelSet, Segments
from quant.importers.tflite_reader import FileModel, FileOperator, FileTensor

CODE_TYPES = ("int8", "uint8")
INDEX_TYPES = ("int32", "int64")

_ACTIVATIONS: dict[int, tuple[float, float]] = {0: (-math.inf, math.inf), 1: (0, math.inf), 2: (-1, 1), 3: (0, 6)}
"""Real ends of the fused activations NONE, RELU, RELU_N1_TO_1 and RELU6."""


class Writer:
    """State of one import: the ops so far, and the Program tensor that stands for each tensor of the file."""

    def __init__(self, model: FileModel, kernels: KernelSet) -> None:
        self.model, self.kernels = model, kernels
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.known: dict[int, str] = {}
        self.real: dict[int, int] = {}
        """Float tensors that only stand for codes: by number, the tensor of codes behind them (-1: not told yet)."""
        self.numbers: dict[int, NDArray[Any]] = {}
        """Integers that operators compute of shapes alone, by number of their tensor."""
        self.remarks: list[str] = []
        """What the import could not follow to the bit, a line each."""
        self._counts = Counter(tensor.name for tensor in model.tensors)

    def fail(self, op: FileOperator, what: str) -> ValueError:
        """Return the error of an operator."""
        return ValueError(f"{self.model.name}: operator {op.index} ({op.kind}) {what}")

    def require_32_bits(self, op: FileOperator, reach: int, multiplier: float) -> None:
        """Refuse what the fixed-point kernels shift beyond 32 bits, where they wrap."""
        if reach * 2.0 ** max(fixed_point(multiplier)[1], 0) >= 2**31:
            raise self.fail(op, f"scales values of up to {reach} by {multiplier:g}, beyond the kernel's 32 bits")

    # --- tensors of the file -----------------------------------------------------------------------------------------

    def file_tensor(self, op: FileOperator, slot: int) -> FileTensor:
        """Return an input as the file declares it."""
        if slot >= len(op.inputs) or op.inputs[slot] < 0:
            raise self.fail(op, f"has no input {slot}")
        return self.model.tensors[op.inputs[slot]]

    def constant(self, op: FileOperator, slot: int, dtypes: tuple[str, ...]) -> tuple[FileTensor, NDArray[Any]]:
        """Return an input that must be stored in the file, and its values."""
        tensor = self.file_tensor(op, slot)
        data = self.numbers.get(tensor.index, tensor.data)
        if data is None or tensor.dtype not in dtypes:
            raise self.fail(op, f"needs {' or '.join(dtypes)} constants as input {slot}; {tensor} is not")
        return tensor, data

    def integers(self, op: FileOperator, slot: int) -> list[int]:
        """Return an input of stored integers (axes, sizes, places) as a list."""
        return [int(v) for v in self.constant(op, slot, INDEX_TYPES)[1].reshape(-1)]

    def output(self, op: FileOperator) -> FileTensor:
        """Return the only output as the file declares it."""
        if len(op.outputs) != 1:
            raise self.fail(op, f"has {len(op.outputs)} outputs; one is expected")
        return self.model.tensors[op.outputs[0]]

    def grid(self, op: FileOperator | None, tensor: FileTensor) -> tuple[np.float32, int]:
        """Return (scale, zero point) of a tensor of 8-bit codes."""
        where = self.model.name if op is None else f"{self.model.name}: operator {op.index} ({op.kind})"
        if tensor.dtype == "int16":
            raise ValueError(
                f"{where}: {tensor} holds 16-bit activations; quantize to int8 activations, or export the float "
                f"network to ONNX and quantize it here"
            )
        if tensor.dtype not in CODE_TYPES:
            raise ValueError(f"{where}: {tensor} holds no 8-bit codes; networks quantized to int8 or uint8 are read")
        if tensor.scales.size != 1:
            raise ValueError(f"{where}: {tensor} has {tensor.scales.size} scales; activations have one")
        low, high = code_range(8, tensor.dtype == "int8")
        zero = int(tensor.zero_points[0])
        if not low <= zero <= high:
            raise ValueError(f"{where}: {tensor} has zero point {zero} outside {low}..{high}")
        return tensor.scales[0], zero

    def limits(self, op: FileOperator, tensor: FileTensor) -> tuple[int, int]:
        """Return the codes that a fused activation clamps an output to."""
        kind = op.options.get("activation", 0)
        if kind not in _ACTIVATIONS:
            raise self.fail(op, f"has fused activation {kind}; read are none, RELU, RELU_N1_TO_1 and RELU6")
        return self.clamped(op, tensor, _ACTIVATIONS[kind])

    def clamped(self, op: FileOperator, tensor: FileTensor, ends: tuple[float, float]) -> tuple[int, int]:
        """Return the codes of an output that real ends, infinite where there is none, leave."""
        scale, zero = self.grid(op, tensor)
        low, high = code_range(8, tensor.dtype == "int8")
        codes = [end if math.isinf(end) else self.kernels.activation(np.float32(end) / scale, zero) for end in ends]
        first = min(max(low, codes[0]), high)
        return int(first), int(max(min(high, codes[1]), first))

    # --- tensors of the Program --------------------------------------------------------------------------------------

    def sample_shape(self, tensor: FileTensor, batch: int) -> tuple[int, ...]:
        """Return a tensor's shape without the batch, which must come first."""
        if len(tensor.shape) < 2 or tensor.shape[0] != batch:
            raise ValueError(
                f"{self.model.name}: {tensor} does not keep the batch of {batch} as its first axis; samples would mix"
            )
        return tensor.shape[1:]

    @property
    def batch(self) -> int:
        """Samples that the file's shapes are for."""
        shape = self.model.tensors[self.model.inputs[0]].shape
        return shape[0] if shape else 0

    def declare(self, op: FileOperator | None, tensor: FileTensor, ends: tuple[int, int] | None = None) -> Tensor:
        """Declare the Program tensor that stands for a tensor of the file; `ends` are the codes it can hold."""
        scale, zero = self.grid(op, tensor)
        if tensor.index in self.known:
            raise ValueError(f"{self.model.name}: {tensor} is computed twice; the graph has a cycle or is damaged")
        signed = tensor.dtype == "int8"
        low, high = code_range(8, signed) if ends is None else ends
        unique = tensor.name and self._counts[tensor.name] == 1 and tensor.name not in self.tensors
        name = tensor.name if unique else f"{tensor.name}#{tensor.index}"
        made = Tensor(
            name=name, shape=self.sample_shape(tensor, self.batch), bits=8, signed=signed, low=low, high=high,
            scale=float(scale), zero_point=zero,
        )  # fmt: skip
        self.known[tensor.index] = name
        return self.add(made)

    def add(self, tensor: Tensor) -> Tensor:
        """Declare a tensor that the file does not have."""
        self.tensors[tensor.name] = tensor
        return tensor

    def read(self, op: FileOperator, slot: int, broadcast: int = 0) -> Tensor:
        """Return an input of codes; a constant becomes an op that gives it.

        A constant has a first axis of length one in place of the batch, or fewer axes than `broadcast`: then none.
        """
        tensor = self.file_tensor(op, slot)
        if tensor.index in self.known:
            return self.tensors[self.known[tensor.index]]
        self.grid(op, tensor)
        if tensor.data is None:
            raise self.fail(op, f"reads {tensor} before it is computed; operators must come in order, without cycles")
        batched = tensor.shape[:1] == (1,) and len(tensor.shape) > 1
        if not batched and len(tensor.shape) >= broadcast:
            raise self.fail(op, f"reads constant {tensor}; constants with a first axis of length one are read")
        values = np.array(tensor.data[0] if batched else np.atleast_1d(tensor.data))
        made = replace(
            self.declare(op, replace(tensor, shape=(self.batch, *values.shape))),
            low=int(values.min()), high=int(values.max()),
        )  # fmt: skip
        self.add(made)
        self.ops.append(Constant(name=f"constant_{tensor.index}", inputs=(), output=made.name, values=values))
        return made

    def emit(self, op: Op) -> Tensor:
        """Append an op whose output is declared; return its output."""
        self.ops.append(op)
        return self.tensors[op.output]

    def same_grid(self, op: FileOperator, slot: int, tensor: FileTensor) -> Tensor:
        """Return an input of codes, required to be on the grid of an output."""
        x, source = self.file_tensor(op, slot), self.read(op, slot)
        if self.grid(op, x) != self.grid(op, tensor) or x.dtype != tensor.dtype:
            raise self.fail(
                op, f"brings {x} onto another grid, that of {tensor}; equal scales and zero points are read"
            )
        return source

    def give(self, op: FileOperator, made: Tensor, place: int = 0) -> Tensor:
        """Let a tensor be one of an operator's outputs, whose declared shape it must have."""
        y = self.model.tensors[op.outputs[place]]
        shape = self.sample_shape(y, self.batch)
        if shape != made.shape:
            raise self.fail(op, f"gives {list(made.shape)}, but its output is declared {list(shape)}")
        target = self.declare(op, y, (made.low, made.high))
        name = op.label + (f".{place}" if place else "")
        return self.emit(Reshape(name=name, inputs=(made.name,), output=target.name, shape=shape))

    def accumulator(self, name: str, shape: tuple[int, ...], bound: int, scales: NDArray[np.float64]) -> Tensor:
        """Declare a tensor of sums of magnitude up to `bound`."""
        scale = float(scales[0]) if scales.size == 1 else tuple(float(s) for s in scales)
        return self.add(
            Tensor(
                name=name, shape=shape, bits=bits_for(-bound, bound), signed=True, low=-bound, high=bound, scale=scale,
                kind="accumulator",
            )
        )  # fmt: skip

    # --- rules that differ along the channels ------------------------------------------------------------------------

    def by_segments(
        self, source: Tensor, target: Tensor, segments: Segments, make: Callable[[str, str, str, str, slice], Op]
    ) -> None:
        """Emit an op once per run of channels with a rule of its own, slicing and joining where there are several.

        Parameters
        ----------
        source, target
            Input and output, both declared.
        segments
            Rules along the last axis.
        make
            ``(name, input, output, rule, channels) -> Op``.
        """
        name = f"{target.name}.op"
        if len(segments) == 1:
            self.ops.append(make(name, source.name, target.name, segments[0][0], slice(None)))
            return
        parts, start = [], 0
        for rule, count in segments:
            run, label = slice(start, start + count), f"{target.name}.{start}"
            part = self._cut(source, run, f"{label}.in")
            done = self.add(replace(target, name=f"{label}.out", shape=(*target.shape[:-1], count)))
            self.ops.append(make(f"{name}.{start}", part.name, done.name, rule, run))
            parts.append(done.name)
            start += count
        axis = len(target.shape) - 1
        self.ops.append(Concat(name=f"{name}.join", inputs=tuple(parts), output=target.name, axis=axis))

    def by_elements(
        self,
        op: FileOperator,
        source: Tensor,
        target: Tensor,
        segments: Segments,
        make: Callable[[str, str, str, str, slice], Op],
    ) -> None:
        """Do as `by_segments` with rules along all elements of a sample, row-major."""
        if len(segments) == 1:
            self.by_segments(source, target, segments, make)
            return
        if self.batch > 1:
            raise self.fail(op, f"rounds in vectors that run across its batch of {self.batch}; store the file for one")
        scale = source.scale[0] if isinstance(source.scale, tuple) else source.scale
        flat = self.add(replace(source, name=f"{op.label}.flat", shape=(source.size,), scale=scale))
        self.emit(Reshape(name=f"{flat.name}.reshape", inputs=(source.name,), output=flat.name, shape=flat.shape))
        joined = self.add(replace(target, name=f"{op.label}.out", shape=flat.shape))
        self.by_segments(flat, joined, segments, make)
        self.emit(Reshape(name=f"{op.label}.shaped", inputs=(joined.name,), output=target.name, shape=target.shape))

    def _cut(self, source: Tensor, run: slice, name: str) -> Tensor:
        scale = source.scale[run] if isinstance(source.scale, tuple) else source.scale
        shape = (*source.shape[:-1], run.stop - run.start)
        self.add(replace(source, name=name, shape=shape, scale=scale))
        head = source.shape[:-1]
        return self.emit(
            Slice(
                name=f"{name}.slice", inputs=(source.name,), output=name, start=(0,) * len(head) + (run.start,),
                stop=(*head, run.stop), step=(1,) * len(source.shape),
            )
        )  # fmt: skip
