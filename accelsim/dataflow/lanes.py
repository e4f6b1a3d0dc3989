"""Sums on vector lanes: chains of adders, 16 columns at a time, under one rule, toggles counted on the way.

A *chain* is what happens to one sum from its start to its end. ``moved`` is for sums that hop from register to
register: hop i of every chain leaves the sum in register i, chain after chain. ``stayed`` is for sums that stay: chain
j lives in register j, which held something else before. Either does, for 16 columns and for j = 0 .. chains - 1,

    sum = sums[initial]
    for i in 0 .. hops - 1:
        product = Σ over lanes of xs[x + i * x hop + j * x chain + lane] * factors[factor + (i * lanes + lane) * pitch]
        sum = rule(sum + product), and one event more if it was out of range
    sums[result + j * pitch], events[result + j * pitch] = sum, events

``moved`` also leaves the last chain's sums in ``sums[register + i * pitch]``, ``stayed`` has result = register. All
arrays are flat; ``walk = (hops, lanes, x, x hop, x chain, factor, pitch, initial, register, result, column)`` with the
column added to factor, initial, register and result. Returned are the bits that registers change under
``mask[column : column + 16]``, 0 unless counted. Rules keep sums within -half .. half - 1.

Every sum of every hop is computed, in hop order; several chains at a time keep theirs in vector registers of the CPU.
LLVM does not find these loops by itself, so the vectors are spelt out; what they mean is `_in_python`, which runs where
the JIT is off. What rule acts and what is counted is a type, so that only what a job needs is compiled: a tuple as long
as `variant` says. numba's disk cache does not notice edits here: clear it (`__pycache__`) after changing this file.
"""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16
"""Columns per vector: int32 sums of 16 columns fill a 512-bit register, wider and narrower machines split or join."""

CHAINS = 8
"""Chains at a time: enough to hide the latency of multiplication, few enough for 32 vector registers."""

CACHE_LINE_BYTES = 64


def pitch(cols: int) -> int:
    """Return columns rounded up to whole vectors.

    >>> pitch(17)
    32
    """
    return -(-cols // LANES) * LANES


def aligned(count: int, dtype: type[np.integer[Any]]) -> NDArray[Any]:
    """Return zeros that start at a cache line, for whole-vector stores."""
    raw = np.zeros(count * np.dtype(dtype).itemsize + CACHE_LINE_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % CACHE_LINE_BYTES
    return raw[start : start + count * np.dtype(dtype).itemsize].view(dtype)


def variant(rule: int, counted: bool, plain: bool) -> tuple[int, ...]:
    """Return the tuple whose length tells what to compile: little for sums that are not plain.

    Parameters
    ----------
    rule, counted
        0 none, 1 wrap, 2 saturate; whether toggles count.
    plain
        Whether sums have 32 bits and hops one product. Others always count, and saturate where no rule acts: the range
        must then hold all sums.

    >>> len(variant(2, True, True)), len(variant(0, False, False))
    (6, 8)
    """
    return (0,) * (1 + rule + 3 * int(counted) if plain else 7 + int(rule != 1))


def _meaning(length: int) -> tuple[int, bool, bool]:
    """Return rule, counted and whether a hop may have several products."""
    return ((length - 1) % 3, length > 3, False) if length <= 6 else (length - 6, True, True)


def _in_python(stays: bool, chains: int) -> Callable[..., int]:
    """Return the meaning of a function in plain numpy."""

    def add(
        variant: Any, sums: Any, events: Any, factors: Any, xs: Any, walk: tuple[int, ...], mask: Any, half: int
    ) -> int:
        rule, counted, _ = _meaning(len(variant))
        hops, lanes, x, x_hop, x_chain, factor, step, initial, register, result, column = (int(i) for i in walk)
        toggles, bits = 0, mask[column : column + LANES]
        for j in range(chains):
            held, met = sums[initial : initial + LANES].copy(), np.zeros(LANES, dtype=events.dtype)
            for i in range(hops):
                exact = held.copy()
                for lane in range(lanes):
                    at = factor + (i * lanes + lane) * step
                    exact += int(xs[x + i * x_hop + j * x_chain + lane]) * factors[at : at + LANES].astype(sums.dtype)
                held = exact if rule == 0 else np.clip(exact, -half, half - 1)
                if rule == 1:
                    held = ((exact + half) & (2 * half - 1)) - half
                met += held != exact
                place = register + (j if stays else i) * step
                if counted:
                    changed = (sums[place : place + LANES] ^ held) & bits
                    toggles += int(np.bitwise_count(changed.view(f"u{changed.itemsize}")).sum())
                sums[place : place + LANES] = held
            place = result + j * step
            sums[place : place + LANES] = held
            if rule:
                events[place : place + LANES] = met
        return toggles

    return add


class _Vectors:
    """Writes instructions on vectors of one element type."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self._context, self._builder = context, builder
        self.type = ir.VectorType(context.get_value_type(element), LANES)

    def place(self, kind: Any, array: Any, index: Any) -> Any:
        """Return a pointer to 16 elements of an array."""
        data = self._context.make_array(kind)(self._context, self._builder, array).data
        vector = ir.VectorType(self._context.get_value_type(kind.dtype), LANES)
        return self._builder.bitcast(self._builder.gep(data, [index]), vector.as_pointer())

    def load(self, kind: Any, array: Any, index: Any) -> Any:
        """Load 16 elements and widen them."""
        value = self._builder.load(self.place(kind, array, index), align=kind.dtype.bitwidth // 8)
        return value if value.type == self.type else self._builder.sext(value, self.type)

    def store(self, value: Any, kind: Any, array: Any, index: Any) -> None:
        """Store 16 elements."""
        self._builder.store(value, self.place(kind, array, index), align=kind.dtype.bitwidth // 8)

    def broadcast(self, kind: Any, array: Any, index: Any) -> Any:
        """Load one element into all lanes."""
        data = self._context.make_array(kind)(self._context, self._builder, array).data
        return self.spread(self._builder.load(self._builder.gep(data, [index])))

    def spread(self, value: Any) -> Any:
        """Return a signed integer, cut or widened to the element type, in all lanes."""
        width, element = value.type.width, self.type.element
        if width != element.width:
            resize = self._builder.sext if width < element.width else self._builder.trunc
            value = resize(value, element)
        undefined, first = ir.Constant(self.type, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self._builder.shuffle_vector(self._builder.insert_element(undefined, value, first), undefined, lanes)

    def constant(self, value: int) -> Any:
        """Return a constant in all lanes."""
        return ir.Constant(self.type, [value] * LANES)

    def variable(self, value: Any) -> Any:
        """Return a place that holds a value, for LLVM to keep in a register."""
        place = cgutils.alloca_once(self._builder, self.type)
        self._builder.store(value, place)
        return place

    def obey(self, exact: Any, half: Any, rule: int) -> Any:
        """Bring sums into range."""
        if rule == 0:
            return exact
        builder, half = self._builder, self.spread(half)
        if rule == 1:
            ones = builder.sub(builder.add(half, half), self.constant(1))
            return builder.sub(builder.and_(builder.add(exact, half), ones), half)
        low, high = builder.neg(half), builder.sub(half, self.constant(1))
        held = builder.select(builder.icmp_signed(">", exact, high), high, exact)
        return builder.select(builder.icmp_signed("<", held, low), low, held)

    def flips(self, old: Any, new: Any, bits: Any) -> Any:
        """Return in how many bits lanes differ."""
        changed = self._builder.and_(self._builder.xor(old, new), bits)
        return self._builder.call(self._function(f"ctpop.v{LANES}i{self.type.element.width}", self.type), [changed])

    def total(self, vector: Any) -> Any:
        """Return the 64-bit sum of lanes that are not negative."""
        wide = ir.VectorType(ir.IntType(64), LANES)
        vector = vector if vector.type == wide else self._builder.zext(vector, wide)
        return self._builder.call(self._function(f"vector.reduce.add.v{LANES}i64", wide, wide.element), [vector])

    def _function(self, name: str, argument: Any, result: Any = None) -> Any:
        kind = ir.FunctionType(result or argument, [argument])
        return cgutils.get_or_insert_function(self._builder.module, kind, f"llvm.{name}")


def _products(builder: Any, vectors: _Vectors, operands: Any, places: Any, many: bool) -> list[Any]:
    """Return the chains' products of one hop, exact over all lanes.

    operands = (type of xs, xs, type of factors, factors); places = (place of the hop in xs by chain, in factors, lanes,
    pitch).
    """
    xs, xs_array, factors, factors_array = operands
    chains, factor, lanes, step = places
    if not many:
        shared = vectors.load(factors, factors_array, factor)
        return [builder.mul(vectors.broadcast(xs, xs_array, at), shared) for at in chains]
    totals = [vectors.variable(vectors.constant(0)) for _ in chains]
    with cgutils.for_range(builder, lanes) as lane:
        shared = vectors.load(factors, factors_array, builder.add(factor, builder.mul(lane.index, step)))
        for at, total in zip(chains, totals, strict=True):
            product = builder.mul(vectors.broadcast(xs, xs_array, builder.add(at, lane.index)), shared)
            builder.store(builder.add(builder.load(total), product), total)
    return [builder.load(total) for total in totals]


def _in_vectors(stays: bool, chains: int) -> Any:
    """Return a function as an intrinsic."""

    @intrinsic
    def add(
        _typing: Any, variant: Any, sums: Any, events: Any, factors: Any, xs: Any, walk: Any, mask: Any, half: Any
    ) -> Any:
        kinds = (variant, sums, events, factors, xs, walk, mask, half)

        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            vectors = _Vectors(context, builder, sums.dtype)
            return _write(builder, vectors, list(zip(kinds, args, strict=True)), stays, chains)

        return types.int64(*kinds), codegen

    return add


def _write(builder: Any, vectors: _Vectors, operands: list[tuple[Any, Any]], stays: bool, chains: int) -> Any:
    """Write a function; operands = (type, value) of its arguments."""
    (kind, _), sums, events, factors, xs, (_, walk), mask, (_, half) = operands
    rule, counted, many = _meaning(kind.count)
    hops, lanes, x, x_hop, x_chain, factor, step, initial, register, result, column = (
        builder.extract_value(walk, i) for i in range(11)
    )

    def at(start: Any, i: Any, by: Any) -> Any:
        return builder.add(start, builder.mul(i, by))

    numbers = [ir.Constant(ir.IntType(64), j) for j in range(chains)]
    nothing, bits = vectors.constant(0), vectors.load(*mask, column)
    held = [vectors.variable(vectors.load(*sums, initial)) for _ in numbers]
    met = [vectors.variable(nothing) for _ in numbers]
    before = [vectors.variable(vectors.load(*sums, at(register, j, step))) for j in numbers if stays]
    flipped = vectors.variable(nothing)
    with cgutils.for_range(builder, hops) as hop:
        entered, row = at(x, hop.index, x_hop), at(register, hop.index, step)
        places = [at(entered, j, x_chain) for j in numbers], at(factor, hop.index, builder.mul(lanes, step))
        products = _products(builder, vectors, (*xs, *factors), (*places, lanes, step), many)
        now = []
        for product, total, count in zip(products, held, met, strict=True):
            exact = builder.add(builder.load(total), product)
            now.append(vectors.obey(exact, half, rule))
            builder.store(now[-1], total)
            out = builder.zext(builder.icmp_signed("!=", now[-1], exact), vectors.type)
            builder.store(builder.add(builder.load(count), out), count)
        old = [builder.load(place) for place in before] or [vectors.load(*sums, row), *now[:-1]]
        for previous, new in zip(old, now, strict=True):
            builder.store(builder.add(builder.load(flipped), vectors.flips(previous, new, bits)), flipped)
        for place, new in zip(before, now, strict=False):
            builder.store(new, place)
        if not stays:
            vectors.store(now[-1], *sums, row)
    for j, total, count in zip(numbers, held, met, strict=True):
        vectors.store(builder.load(total), *sums, at(result, j, step))
        if rule:
            vectors.store(builder.load(count), *events, at(result, j, step))
    return vectors.total(builder.load(flipped)) if counted else ir.Constant(ir.IntType(64), 0)


_make = _in_python if config.DISABLE_JIT else _in_vectors  # type: ignore[attr-defined]

moved, moved_one = _make(False, CHAINS), _make(False, 1)
"""``moved(variant, sums, events, factors, xs, walk, mask, half)``: `CHAINS` chains, and one, of sums that hop."""

stayed, stayed_one = _make(True, CHAINS), _make(True, 1)
"""The same of sums that stay."""
