"""Why two routes to a layer's integers differ: the place, the sums that led there, and what would explain them.

The sums are those of the Program at hand, fold by fold of the array, in Python integers. What explains a difference is
looked for among all samples and pixels of the channel: one number that, were it another one, would give every value of
the route that is not the Program's (`reports.witness_cause`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.arith import Accumulation
from accelsim.config import Accelerator
from accelsim.execute import accumulations, layer_groups, may_overflow
from accelsim.program import Conv, MatMul, Op, Program, Requantize
from reports.naive import Sum
from reports.witness_cause import Column, causes

Array = NDArray[Any]
Place = tuple[int, ...]

SHOWN_FOLDS = 9
"""Of a layer with more folds, the first three, those that explain the difference, and the last are shown."""

MOST_CAUSES = 3
"""More than so many explanations are counted, not named."""

UNBOUNDED = Accumulation(psum_bits=64, acc_bits=64)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One op's output by two routes, on operands that agreed.

    Parameters
    ----------
    program, op
        Our Program, and the op whose output differs.
    values
        Codes ``[batch, *shape]`` by Program tensor: what the op read, and what the layer before it read, as far as
        they are known.
    ours, theirs
        The op's output ``[batch, *shape]``.
    names
        What the two routes are called.
    rules
        How the layer's products are added up, by op name; without bounds and in one fold where a layer has none.
    offset
        Added to sample numbers.
    """

    program: Program
    op: Op
    values: Mapping[str, Array]
    ours: Array
    theirs: Array
    names: tuple[str, str] = ("ours", "theirs")
    rules: Mapping[str, Accumulation]
    offset: int = 0

    @property
    def layer(self) -> Conv | MatMul | None:
        """The op that added the products up: this one, or the one whose sums this one requantizes."""
        if isinstance(self.op, Conv | MatMul):
            return self.op
        if not isinstance(self.op, Requantize):
            return None
        makers = [op for op in self.program.ops if op.output == self.op.inputs[0]]
        return makers[0] if makers and isinstance(makers[0], Conv | MatMul) else None


def folded(program: Program, accelerator: Accelerator | None) -> dict[str, Accumulation]:
    """Return how sums without bounds are cut into the folds of an accelerator, by op name."""
    rules = {} if accelerator is None else accumulations(program, accelerator)
    return {name: replace(rule, psum_bits=64, acc_bits=64) for name, rule in rules.items()}


def difference_text(found: Comparison) -> str:
    """Return the first difference in one line: layer, sample, pixel, channel, the two values and their sums.

    Empty where both routes agree.
    """
    ours, theirs = found.ours.astype(np.int64), found.theirs.astype(np.int64)
    different = np.argwhere(ours != theirs)
    if not len(different):
        return ""
    place = tuple(int(i) for i in different[0])
    layer = found.layer
    of_layer = f" of layer {layer.name!r}" if layer is not None and layer is not found.op else ""
    pixel = f", pixel {list(place[1:-1])}" if len(place) > 2 else ""
    us, them = found.names
    gives = "" if found.op.output.startswith(found.op.name) else f" giving {found.op.output!r}"
    text = (
        f"{found.op.kind} {found.op.name!r}{gives}{of_layer}: sample {place[0] + found.offset}{pixel}, "
        f"channel {place[-1]}: {us} {ours[place]}, {them} {theirs[place]} ({len(different)} of {ours.size} differ)"
    )
    known = layer is not None and all(name in found.values for name in layer.inputs)
    return "; ".join([text, *(_layer_texts(found, layer, place) if known and layer else _operand_texts(found, place))])


def _operand_texts(found: Comparison, place: Place) -> list[str]:
    """Return the codes that an op without products read at the place, where it reads one of each."""
    read = []
    for name in found.op.inputs:
        source = found.values.get(name)
        if source is not None and source.ndim == len(place):
            inner = tuple(min(i, n - 1) for i, n in zip(place, source.shape, strict=True))
            if all(i < n or n == 1 for i, n in zip(place, source.shape, strict=True)):
                read.append(f"{name!r} {int(source[inner])}")
    rule = getattr(found.op, "rule", "")
    return ([f"from {', '.join(read)}"] if read else []) + ([f"rule {rule}"] if rule else [])


# --- layers ----------------------------------------------------------------------------------------------------------


def _layer_texts(found: Comparison, layer: Conv | MatMul, place: Place) -> list[str]:
    rules = found.rules.get(layer.name, UNBOUNDED)
    column, row, other = _column(found, layer, place)
    x, w = column.rows[row].tolist(), column.weights.tolist()
    bounded = bool(may_overflow(replace(found.program, ops=(layer,)), {layer.name: rules}))
    explained = [] if bounded else causes(column)
    fold_k = rules.fold_k or len(x)
    named = explained if len(explained) <= MOST_CAUSES else []
    folds = [cause.k // fold_k for cause in named if cause.k is not None]
    texts = [_fold_text(x, w, column.bias, rules, folds), _product_text(layer, x, w, fold_k)]
    if isinstance(found.op, Requantize):
        texts.append(_requantize_text(found.op, column, row, place[-1]))
    if bounded:
        texts.append("sums may overflow here, so that the cause is not looked for")
    elif len(explained) > len(named):
        texts.append(f"any one of {len(explained)} numbers would explain channel {place[-1]}; compare more samples")
    for cause in named:
        where = "" if cause.k is None else f" at {_k_text(layer, cause.k, fold_k)}"
        texts.append(f"explained by the {cause.what}{where} {cause.amount} in {other}")
    return texts


def _column(found: Comparison, layer: Conv | MatMul, place: Place) -> tuple[Column, int, str]:
    """Return one output channel of a layer with all its rows, which row is that of the place, and the other route."""
    groups = layer_groups(layer, [found.values[name] for name in layer.inputs])
    shape, batch = found.program.tensors[layer.output].shape, len(found.ours)
    if isinstance(layer, Conv):
        group, n = divmod(place[-1], groups[0][1].shape[1])
        row = int(np.ravel_multi_index(place[:-1], (batch, *shape[:-1])))
        ours, theirs = (array[..., place[-1]].reshape(-1) for array in (found.ours, found.theirs))
    else:
        group, n = int(np.ravel_multi_index(place[:-2], (batch, *shape[:-2]))), place[-1]
        row = place[-2]
        ours, theirs = (array[place[:-2]][:, n] for array in (found.ours, found.theirs))
    rows, columns, bias = groups[group]
    column = Column(
        rows=rows.astype(np.int64),
        weights=columns[:, n].astype(np.int64),
        bias=int(bias[n]),
        zero_point=found.program.tensors[layer.inputs[0]].zero_point if isinstance(layer, Conv) else 0,
        other=theirs.astype(np.int64),
        requantize=found.op if isinstance(found.op, Requantize) else None,
        channel=place[-1],
        fixed=isinstance(layer, Conv),
    )
    if np.array_equal(column.computed, theirs):  # the Program is theirs: ours is what has to be explained
        return replace(column, other=ours.astype(np.int64)), row, found.names[0]
    return column, row, found.names[1]


def _fold_text(x: list[int], w: list[int], bias: int, rules: Accumulation, wanted: list[int]) -> str:
    """Return the accumulator after the bias and after every fold; where registers overflowed, that is said."""
    total = Sum(rules.acc_bits, rules.acc_overflow)
    total.add(bias)
    fold_k = rules.fold_k or len(x)
    parts = []
    for start in range(0, len(x), fold_k):
        end, before = min(start + fold_k, len(x)), total.events
        if rules.fold_k is None:
            held = total
            added = -total.value
        else:
            held, added = Sum(rules.psum_bits, rules.psum_overflow), 0
        for k in range(start, end, rules.products_per_hop):
            held.add(sum(x[i] * w[i] for i in range(k, min(k + rules.products_per_hop, end))))
        added += held.value
        if held is not total:
            total.add(held.value)
            before -= held.events
        overflow = " with overflow" * (total.events > before)
        parts.append(f"fold {start // fold_k} (k {start}..{end - 1}) {added:+} gives {total.value}{overflow}")
    if len(parts) > SHOWN_FOLDS:
        shown = sorted({0, 1, 2, *wanted, len(parts) - 1})
        parts = [*(parts[i] for i in shown[:-1]), f"{len(parts) - len(shown)} folds left out", parts[-1]]
    return f"sum {total.value} = bias {bias}, " + ", ".join(parts)


def _product_text(layer: Conv | MatMul, x: list[int], w: list[int], fold_k: int) -> str:
    products = [a * b for a, b in zip(x, w, strict=True)]
    up, down = [p for p in products if p > 0], [p for p in products if p < 0]
    top = max(range(len(products)), key=lambda k: abs(products[k]))
    return (
        f"{len(products)} products: {len(up)} positive {sum(up):+}, {len(down)} negative {sum(down):+}, largest "
        f"{x[top]} × {w[top]} = {products[top]} at {_k_text(layer, top, fold_k)}"
    )


def _k_text(layer: Conv | MatMul, k: int, fold_k: int) -> str:
    """Return a place along k in words."""
    fold = f"fold {k // fold_k}"
    if not isinstance(layer, Conv) or layer.weight.shape[1] * layer.weight.shape[2] == 1:
        return f"k {k} ({fold})"
    _, _, width, channels = layer.weight.shape
    tap, channel = divmod(k, channels)
    return f"k {k} (kernel {list(divmod(tap, width))}, channel {channel}, {fold})"


def _requantize_text(op: Requantize, column: Column, row: int, channel: int) -> str:
    multiplier = float(op.multiplier[channel if op.multiplier.size > 1 else 0])
    total = int(column.sums[row]) - op.zero_in
    low, high = column.needed(row)
    needed = f"{low if low is not None else 'less'}..{high if high is not None else 'more'}"
    return (
        f"times {multiplier:.9g} is {total * multiplier:.9g}, zero point {op.zero_out}, rule {op.rule}; "
        f"the other value needs a sum of {needed}"
    )
