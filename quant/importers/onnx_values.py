"""What stands for a tensor of a quantized ONNX file while a Program is written: codes, sums, real values that wait."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.onnx_model import OnnxNode
from quant.importers.onnx_walk import Shape

Array = NDArray[Any]
Ints = NDArray[np.int64]

CODE_DTYPES = {"uint8": (8, False), "int8": (8, True), "uint16": (16, False), "int16": (16, True)}


@dataclass(frozen=True)
class Given:
    """A real network input that no QuantizeLinear has met yet."""

    index: int
    shape: Shape


@dataclass(frozen=True)
class Codes:
    """Integers on a grid: Program tensor, and `layout`: Program axis i is the file's axis ``layout[i]``.

    `scale` and `zero` are those of the operator that wrote them; ``None`` where only a reader knows them.
    """

    name: str
    layout: tuple[int, ...]
    scale: float | None = None
    zero: int = 0


@dataclass(frozen=True)
class Real:
    """Float32 values scale · (code - zero), kept as codes."""

    codes: Codes
    scale: float
    zero: int


@dataclass(frozen=True, eq=False)
class Weights:
    """Stored codes; zero points and scales have one entry, or one for each index of `axis` of the values."""

    values: Ints
    scale: NDArray[np.float32]
    zero: Ints
    axis: int
    bits: int
    signed: bool

    @property
    def operands(self) -> Ints:
        """Codes with their zero points taken off."""
        return self.values - self.along(self.zero)

    @property
    def operand_bits(self) -> int:
        """Width of an operand: a bit more than a code's where there is a zero point to take off."""
        return self.bits + (0 if self.signed and not self.zero.any() else 1)

    def along(self, numbers: Array) -> Array:
        """Shape per-channel numbers so that they broadcast against the values."""
        if numbers.size == 1:
            return numbers.reshape(())
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        return numbers.reshape(shape)

    def real(self) -> NDArray[np.float32]:
        """Return the float32 values."""
        return np.asarray(self.operands.astype(np.float32) * self.along(self.scale), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Float32 values of exact sums: clip(sum · scale + bias), scale and bias one or per channel (last Program axis)."""

    name: str
    layout: tuple[int, ...]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None
    low: float = -np.inf
    high: float = np.inf
    steps: int = 0


@dataclass(frozen=True, eq=False)
class Curve:
    """A function of one code, float32 step by step."""

    source: Real
    function: Callable[[Array], Array]
    exact: bool


@dataclass(frozen=True, eq=False)
class Waiting:
    """A float operator that becomes integers once it is known what grid its result goes to; then it is clipped."""

    node: OnnxNode
    operands: tuple[Any, ...]
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True, eq=False)
class Moved:
    """A real value that is moved, or pooled by maxima, before it is quantized.

    Quantizing keeps order and works element by element, so that codes can be moved in place of real values.
    """

    value: "Given | Scaled | Curve | Waiting"
    moves: tuple[tuple[OnnxNode, Callable[..., Codes]], ...]


Held = Given | Codes | Real | Weights | Scaled | Curve | Waiting | Moved


@dataclass(frozen=True)
class Grid:
    """What a QuantizeLinear, or the like, puts its result on."""

    scale: float
    zero: int
    bits: int
    signed: bool
    low: int
    high: int


@dataclass(frozen=True)
class Port:
    """One input or output of the file, and the Program tensor that holds its codes.

    Parameters
    ----------
    name
        In the file.
    tensor
        In the Program.
    layout
        Program axis i is the file's axis ``layout[i]``, batch left out.
    scale, zero_point
        Real value = scale · (code - zero_point), float32; ``None`` where the file itself speaks of codes.
    half_up
        Of an input: whether it goes onto its grid half up in double precision, not by the runtime's rule.
    """

    name: str
    tensor: str
    layout: tuple[int, ...]
    scale: NDArray[Any] | None
    zero_point: int
    half_up: bool = False


def map_layout(rank: int) -> tuple[int, ...]:
    """Return the channels-last layout of a map ``[channels, …]`` of `rank` axes."""
    return (*range(1, rank), 0)
