"""Small random valid Programs, by seed or as hypothesis strategies.

`one_op(kind, source)` gives a Program of a single op, `chain(source, length)` one of several ops of any kind, each
reading the result of the one before (and, where it takes two operands, an earlier tensor or a fresh input). Every
Program has passed `accelsim.check`.
"""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from program_builder import Builder, Drawn, Seeded, Shape, Source, codes
from program_ops import BUILDERS, applicable

from accelsim.arith import Accumulation, bits_for
from accelsim.check import check, infer_shape
from accelsim.program import Conv, MatMul, Op, Program, Tensor, conv_bound

# --- programs --------------------------------------------------------------------------------------------------------


def _first_input(b: Builder, kind: str | None) -> Tensor:
    rank = b.integer(2 if kind == "matmul" else 1, 4 if kind in ("matmul", "softmax", "transpose", "slice") else 3)
    shape = tuple(b.integer(1, 5) for _ in range(rank))
    return b.input(shape, signed=False if kind == "gather" else None)


def one_op(kind: str, source: Source) -> Program:
    """Return a Program of one op of a kind."""
    b = Builder(source)
    BUILDERS[kind](b, _first_input(b, kind))
    return b.program(f"one {kind}")


def chain(source: Source, length: int, first: str | None = None) -> Program:
    """Return a Program of `length` ops in a row, the first of a given kind."""
    b = Builder(source)
    x = _first_input(b, first)
    for step in range(length):
        kind = first if first and step == 0 else b.pick(applicable(x))
        x = BUILDERS[kind](b, x)
    return b.program(f"chain of {length}")


def seeded_program(seed: int, length: int = 6) -> Program:
    """Return the chain of a seed; successive seeds begin with successive kinds of op."""
    return chain(Seeded(seed), length, first=list(BUILDERS)[seed % len(BUILDERS)])


def random_inputs(program: Program, batch: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Return codes for every input of a Program, the ends of their ranges among them."""
    rng = np.random.default_rng(seed)
    tensors = {name: program.tensors[name] for name in program.inputs}
    return {name: codes(rng, (batch, *t.shape), t.low, t.high) for name, t in tensors.items()}


def conv_program(
    weight: NDArray[np.int64],
    bias: NDArray[np.int64],
    shape: Shape,
    low: int = -128,
    high: int = 127,
    **geometry: Any,
) -> Program:
    """Return a Program of one given convolution: input ``x``, op ``layer``, output ``y``."""
    signed = low < 0
    x = Tensor(name="x", shape=shape, bits=bits_for(low, high) - (not signed), signed=signed, low=low, high=high)
    magnitude = max(x.magnitude, abs(geometry.get("pad_value", 0)) if any(geometry.get("padding", ())) else 0)
    bound = conv_bound(weight, bias, magnitude)
    bits = max(2, bits_for(int(weight.min()), int(weight.max())))
    op = Conv(
        name="layer", inputs=("x",), output="y", weight=weight, bias=bias, weight_bits=bits, storage_bits=bits,
        bound=bound, **geometry,
    )  # fmt: skip
    return _layer_program(op, (x,), max(1, int(bound.max())))


def matmul_program(
    shapes: tuple[Shape, Shape],
    zero_points: tuple[int, int] = (0, 0),
    transpose: bool = False,
    low: int = -128,
    high: int = 127,
) -> Program:
    """Return a Program of one given matrix product: inputs ``x0`` and ``x1``, op ``layer``, output ``y``."""
    bits, signed = bits_for(low, high) - (low >= 0), low < 0
    x = tuple(
        Tensor(name=f"x{i}", shape=shape, bits=bits, signed=signed, low=low, high=high)
        for i, shape in enumerate(shapes)
    )
    reach = [max(abs(low - z), abs(high - z)) for z in zero_points]
    bound = shapes[0][-1] * reach[0] * reach[1]
    op = MatMul(
        name="layer", inputs=("x0", "x1"), output="y", zero_points=zero_points, transpose=transpose, bound=bound
    )  # fmt: skip
    return _layer_program(op, x, bound)


def _layer_program(op: Op, inputs: tuple[Tensor, ...], reach: int) -> Program:
    y = Tensor(
        name="y",
        shape=infer_shape(op, [x.shape for x in inputs]),
        bits=bits_for(-reach, reach),
        signed=True,
        low=-reach,
        high=reach,
        kind="accumulator",
    )
    names = tuple(x.name for x in inputs)
    made = Program(name="layer", tensors={t.name: t for t in (*inputs, y)}, inputs=names, outputs=("y",), ops=(op,))
    check(made)
    return made


# --- strategies ------------------------------------------------------------------------------------------------------


@st.composite
def one_op_programs(draw: Any, kind: str) -> Program:
    """Programs of one op of a kind."""
    return one_op(kind, Drawn(draw))


@st.composite
def programs(draw: Any, max_ops: int = 6, first: str | None = None) -> Program:
    """Programs of 1 to `max_ops` ops of all kinds, the first of a given kind."""
    return chain(Drawn(draw), draw(st.integers(1, max_ops)), first)


@st.composite
def accumulations(draw: Any, rules: tuple[str, ...] = ("wrap", "saturate")) -> Accumulation:
    """Accumulators narrow enough for small Programs to overflow, with and without folds."""
    hop = draw(st.integers(1, 4))
    return Accumulation(
        fold_k=draw(st.none() | st.integers(1, 6).map(lambda rows: rows * hop)),
        products_per_hop=hop,
        psum_bits=draw(st.integers(2, 20)),
        psum_overflow=draw(st.sampled_from(rules)),
        acc_bits=draw(st.integers(2, 24)),
        acc_overflow=draw(st.sampled_from(rules)),
    )
