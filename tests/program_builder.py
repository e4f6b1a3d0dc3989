"""A `Builder` collects the tensors and ops of a random Program; a `Source` makes its choices.

Sources are `Seeded` or, in a strategy, hypothesis (`Drawn`), which can then shrink the choices.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsim.arith import bits_for, code_range
from accelsim.check import check, infer_shape
from accelsim.program import Op, Program, Tensor

Shape = tuple[int, ...]


# --- where choices come from -----------------------------------------------------------------------------------------


class Source(Protocol):
    """Gives integers in a range, both ends included."""

    def integer(self, low: int, high: int) -> int: ...


class Seeded:
    """Choices from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high, endpoint=True))


class Drawn:
    """Choices of hypothesis."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(st.integers(low, high)))


# --- building --------------------------------------------------------------------------------------------------------


class Builder:
    """Collects tensors and ops; draws from a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tensors: dict[str, Tensor] = {}
        self.inputs: list[str] = []
        self.ops: list[Op] = []

    def integer(self, low: int, high: int) -> int:
        return self.source.integer(low, high)

    def maybe(self) -> bool:
        return bool(self.integer(0, 1))

    def pick(self, choices: Any) -> Any:
        choices = list(choices)
        return choices[self.integer(0, len(choices) - 1)]

    def values(self, shape: Shape, low: int, high: int) -> NDArray[np.int64]:
        rng = np.random.default_rng(self.integer(0, 2**31 - 1))
        return codes(rng, shape, low, high)

    def input(self, shape: Shape, bits: int | None = None, signed: bool | None = None) -> Tensor:
        bits = self.integer(2, 9) if bits is None else bits
        signed = self.maybe() if signed is None else signed
        low, high = code_range(bits, signed)
        tensor = Tensor(
            name=f"in{len(self.inputs)}",
            shape=shape,
            bits=bits,
            signed=signed,
            low=low,
            high=high,
            scale=0.5,
            zero_point=self.integer(low, high) if self.maybe() else 0,
        )
        self.tensors[tensor.name] = tensor
        self.inputs.append(tensor.name)
        return tensor

    def emit(
        self, op: type[Op], inputs: list[Tensor], codes: tuple[int, int], kind: str = "code", **own: Any
    ) -> Tensor:
        """Append an op whose output lies within `codes`, both ends included."""
        low, high = codes
        name = f"{op.kind}{len(self.ops)}"
        made = op(name=name, inputs=tuple(t.name for t in inputs), output=f"{name}:out", **own)
        shape = infer_shape(made, [t.shape for t in inputs])
        signed = low < 0
        tensor = Tensor(
            name=made.output,
            shape=shape,
            bits=max(1, bits_for(low, high) - (not signed)),
            signed=signed,
            low=low,
            high=high,
            kind=kind,
        )
        self.tensors[tensor.name] = tensor
        self.ops.append(made)
        return tensor

    def program(self, name: str, outputs: tuple[str, ...] | None = None) -> Program:
        """Return the checked Program; by default its outputs are all tensors that no op reads."""
        read = {i for op in self.ops for i in op.inputs}
        made = Program(
            name=name,
            tensors=dict(self.tensors),
            inputs=tuple(self.inputs),
            outputs=outputs or tuple(op.output for op in self.ops if op.output not in read),
            ops=tuple(self.ops),
        )
        check(made)
        return made

    def operand(self, shape: Shape) -> Tensor:
        """Return an earlier narrow tensor of a shape, or a fresh input."""
        same = [t for t in self.tensors.values() if t.shape == shape and t.magnitude < 2**16]
        return self.pick(same) if same and self.maybe() else self.input(shape)

    def grid(self) -> tuple[int, int, int]:
        """Return zero point and clamp of a random output grid."""
        low, high = code_range(self.integer(2, 12), self.maybe())
        zero = self.integer(low, high) if self.maybe() else 0
        return (zero, zero, high) if self.maybe() and low <= zero < high else (zero, low, high)

    def zero_point(self, x: Tensor) -> int:
        return self.integer(x.low, x.high) if x.magnitude < 2**16 and self.maybe() else 0


def codes(rng: np.random.Generator, shape: Shape, low: int, high: int) -> NDArray[np.int64]:
    """Return random integers of a range, a quarter of them at its ends, where arithmetic breaks."""
    values = rng.integers(low, high, size=shape, endpoint=True, dtype=np.int64)
    extreme = rng.random(shape)
    values = np.where(extreme < 0.125, low, values)
    return np.where(extreme > 0.875, high, values)
