"""One clock edge of PEs on vector lanes: rows of adders, 16 columns at a time, one rule, toggles counted on the way.

``clock(rule, counted, sums, events, factors, xs, walk, column, mask, half)`` does, for one row of PEs after another,
the last in the direction in which sums move first, so that a register is read before it is replaced,

    sums[target : target + 16] = rule(sums[source : source + 16] + xs[x] * factors[factor : factor + 16])

and, where a rule acts, ``events[target] = events[source] + (the sum was out of range)`` likewise. All arrays are flat;
``walk = (rows, source, source step, target, target step, factor, factor step, x, x step)``, and `column` is added to
source, target and factor. It returns the bits that the targets change under ``mask[column : column + 16]``, 0 unless it
counts. A rule is 0 none, 1 wrap, 2 saturate, to the range -half .. half - 1.

LLVM does not vectorise such short rows by itself, so the vectors are spelt out; what they mean is `_in_python`, which
runs where the JIT is off. Kernels in other files inline these, and numba's disk cache does not notice edits here: clear
the caches (`__pycache__`) after changing this file.
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

from accelsim.dataflow.jit import compiled

LANES = 16
"""Columns per vector: int32 sums of 16 columns fill a 512-bit register, wider and narrower machines split or join."""

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


def _in_python(rule: int, counted: bool) -> Callable[..., int]:
    """Return the meaning of a clock function in plain numpy."""

    def clock(
        sums: Any, events: Any, factors: Any, xs: Any, walk: tuple[int, ...], column: int, mask: Any, half: int
    ) -> int:
        rows, source, source_step, target, target_step, factor, factor_step, x, x_step = (int(i) for i in walk)
        source, target, factor = source + column, target + column, factor + column
        toggles = 0
        for _ in range(rows):
            exact = sums[source : source + LANES] + int(xs[x]) * factors[factor : factor + LANES].astype(sums.dtype)
            if rule == 1:
                held = ((exact + half) & (2 * half - 1)) - half
            else:
                held = np.clip(exact, -half, half - 1) if rule == 2 else exact
            if rule:
                events[target : target + LANES] = events[source : source + LANES] + (held != exact)
            if counted:
                changed = (sums[target : target + LANES] ^ held) & mask[column : column + LANES]
                toggles += int(np.bitwise_count(changed.view(f"u{changed.itemsize}")).sum())
            sums[target : target + LANES] = held
            source, target, factor, x = source + source_step, target + target_step, factor + factor_step, x + x_step
        return toggles

    return clock


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

    def obey(self, exact: Any, half: Any, rule: int) -> Any:
        """Bring sums into range."""
        builder, half = self._builder, self.spread(half)
        if rule == 1:
            ones = builder.sub(builder.add(half, half), self.constant(1))
            return builder.sub(builder.and_(builder.add(exact, half), ones), half)
        low, high = builder.neg(half), builder.sub(half, self.constant(1))
        held = builder.select(builder.icmp_signed(">", exact, high), high, exact)
        return builder.select(builder.icmp_signed("<", held, low), low, held)


def _in_vectors(rule: int, counted: bool) -> Any:
    """Return a clock function as an intrinsic."""

    @intrinsic
    def clock(
        _typing: Any, sums: Any, events: Any, factors: Any, xs: Any, walk: Any, column: Any, mask: Any, half: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            vectors = _Vectors(context, builder, sums.dtype)
            rows, *starts_and_steps = (builder.extract_value(args[4], i) for i in range(9))
            starts = [builder.add(start, args[5]) for start in starts_and_steps[:6:2]] + [starts_and_steps[6]]
            places = [cgutils.alloca_once_value(builder, start) for start in starts]
            zero = vectors.constant(0)
            flipped = cgutils.alloca_once_value(builder, zero)
            bits = vectors.load(mask, args[6], args[5])
            with cgutils.for_range(builder, rows):
                source, target, factor, x = (builder.load(place) for place in places)
                multiplier = builder.load(builder.gep(context.make_array(xs)(context, builder, args[3]).data, [x]))
                product = builder.mul(vectors.spread(multiplier), vectors.load(factors, args[2], factor))
                exact = builder.add(vectors.load(sums, args[0], source), product)
                held = vectors.obey(exact, args[7], rule) if rule else exact
                if rule:
                    met = builder.zext(builder.icmp_signed("!=", held, exact), vectors.type)
                    met = builder.add(vectors.load(events, args[1], source), met)
                    builder.store(met, vectors.place(events, args[1], target), align=sums.dtype.bitwidth // 8)
                if counted:
                    changed = builder.and_(builder.xor(vectors.load(sums, args[0], target), held), bits)
                    builder.store(builder.add(builder.load(flipped), _called(builder, "ctpop", changed)), flipped)
                builder.store(held, vectors.place(sums, args[0], target), align=sums.dtype.bitwidth // 8)
                for place, step in zip(places, starts_and_steps[1::2], strict=True):
                    builder.store(builder.add(builder.load(place), step), place)
            if not counted:
                return ir.Constant(ir.IntType(64), 0)
            total = _called(builder, "vector.reduce.add", builder.load(flipped))
            return total if total.type.width == 64 else builder.sext(total, ir.IntType(64))

        return types.int64(sums, events, factors, xs, walk, column, mask, half), codegen

    return clock


def _called(builder: Any, name: str, vector: Any) -> Any:
    """Return LLVM's population count of each lane, or the sum of all lanes."""
    result = vector.type if name == "ctpop" else vector.type.element
    called = f"llvm.{name}.v{LANES}i{vector.type.element.width}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [vector.type]), called)
    return builder.call(function, [vector])


@intrinsic
def _copy(_typing: Any, source: Any, at: Any, target: Any, to: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        ends = ((source, args[0], args[1]), (target, args[2], args[3]))
        places = [builder.gep(context.make_array(kind)(context, builder, array).data, [i]) for kind, array, i in ends]
        cgutils.raw_memmove(builder, places[1], places[0], args[4], source.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(source, at, target, to, count), codegen


def _copy_in_python(source: Any, at: int, target: Any, to: int, count: int) -> None:
    target[to : to + count] = source[at : at + count].copy()


_without_jit = bool(config.DISABLE_JIT)  # type: ignore[attr-defined]

copy = _copy_in_python if _without_jit else _copy
"""``copy(source, at, target, to, count)``: elements of one flat array into another of the same type."""

CLOCKS = {
    (rule, counted): (_in_python if _without_jit else _in_vectors)(rule, counted)
    for rule in (0, 1, 2)
    for counted in (False, True)
}
"""Clock functions by rule and by whether they count toggles."""

_plain, _plain_counted = CLOCKS[0, False], CLOCKS[0, True]
_wrap, _wrap_counted = CLOCKS[1, False], CLOCKS[1, True]
_saturate, _saturate_counted = CLOCKS[2, False], CLOCKS[2, True]


@compiled
def clock(rule, counted, sums, events, factors, xs, walk, column, mask, half):  # noqa: PLR0913
    """One clock edge of rows of PEs; see the module."""
    if counted:
        if rule == 0:
            return _plain_counted(sums, events, factors, xs, walk, column, mask, half)
        if rule == 1:
            return _wrap_counted(sums, events, factors, xs, walk, column, mask, half)
        return _saturate_counted(sums, events, factors, xs, walk, column, mask, half)
    if rule == 0:
        return _plain(sums, events, factors, xs, walk, column, mask, half)
    if rule == 1:
        return _wrap(sums, events, factors, xs, walk, column, mask, half)
    return _saturate(sums, events, factors, xs, walk, column, mask, half)
