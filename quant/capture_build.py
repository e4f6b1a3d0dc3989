"""Assembling a float graph from torch operations: names, views made real, frames.

Contract: one `Builder` lives for one capture and is the only thing that changes during it. `emit` adds a node, `frame`
turns a view into a tensor with the batch first, so that an operation may work along its other dimensions, and `unframe`
gives the result the torch dimensions of the view again.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from quant.capture_axes import BATCH, Axis, Group, Value, broadcasts, size_of, stored
from quant.graph import OPS, Input, Node, Shape

_GLUE = frozenset({"reshape", "flatten", "permute", "slice", "pad", "duplicate", "concat", "constant"})

Slots = tuple[int | None, ...]
"""For each torch dimension: None, the batch alone; 0, no batch; n, the batch comes after n elements of outer axes."""


Args = Mapping[str, Any]
"""Arguments of a torch operation by schema name: `Value`s, constant tensors, plain values."""


class UnsupportedError(Exception):
    """An operation that the float graph cannot hold; the text is the reason."""


class Builder:
    """The graph under construction."""

    def __init__(self, inputs: Sequence[Input], modules: Mapping[str, torch.nn.Module], batch: int) -> None:
        self.batch = batch
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {item.name: item.shape for item in inputs}
        self.path = ""
        self.weight_name = ""
        self._leaves = {
            p for p, m in modules.items() if type(m).__module__.startswith("torch.nn.") and not list(m.children())
        }
        self._reserved = {p for p in modules if p}
        self._by_name: dict[str, Node] = {}
        self._made: dict[tuple[object, ...], str] = {}
        self._turned: dict[tuple[object, ...], tuple[np.ndarray, np.ndarray]] = {}

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Any] | None = None,
        params: Mapping[str, np.ndarray] | None = None,
        suffix: str = "",
    ) -> str:
        """Add a node and return its name; a shape that does not fit raises UnsupportedError."""
        node = Node(self._name(op, bool(params), suffix), op, tuple(inputs), attrs or {}, params or {}, self.path)
        try:
            shape = OPS[op].shape(node, tuple(self.shapes[name] for name in inputs))
        except ValueError as error:
            raise UnsupportedError(str(error)) from None
        self.nodes.append(node)
        self._by_name[node.name] = node
        self.shapes[node.name] = shape
        return node.name

    def _name(self, op: str, has_params: bool, suffix: str) -> str:
        dotted = f"{self.path}.{op}" if self.path else op
        if op in _GLUE:
            name, owns = dotted, False
        elif self.path in self._leaves:
            name, owns = self.path + suffix, True
        elif has_params and self.weight_name:
            name, owns = self.weight_name + suffix, True
        else:
            name, owns = dotted + suffix, False
        count, free = 0, name
        while free in self.shapes or (free in self._reserved and not (owns and free == name)):
            count += 1
            free = f"{name}_{count}"
        return free

    def node(self, name: str) -> Node | None:
        """Return the node that produces a tensor; None for an input."""
        return self._by_name.get(name)

    def constant(self, array: np.ndarray) -> str:
        """Add a constant, its batch axis left out."""
        key = ("constant", array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = self.emit("constant", (), {}, {"value": array})
        return self._made[key]

    def turned(self, matrix: Any) -> np.ndarray:
        """Return a constant matrix transposed; of one parameter it is one array (`quant.tied.mark_tied`)."""
        array = array_of(matrix, "weight")
        key = (array.__array_interface__["data"][0], array.shape, array.strides)
        return self._turned.setdefault(key, (array, array.T.copy()))[1]  # what is kept is not freed: keys stay unique

    def materialize(self, value: Value, groups: Sequence[Group]) -> str:
        """Return the tensor [batch, *groups] of a view, adding reshape, permute and duplicate where needed."""
        order = [axis for group in groups for axis in group]
        shape = tuple(size_of(group) for group in groups)
        key = (value.tensor, tuple(value.base), tuple(order), shape)
        if key not in self._made:
            self._made[key] = self._materialize(value, groups)
        return self._made[key]

    def _materialize(self, value: Value, groups: Sequence[Group]) -> str:
        """Split axes, permute, repeat, and join axes, in that order and as far as needed."""
        repeated = broadcasts(value)
        order = [axis for group in groups for axis in group]
        own = [axis for axis in order if axis not in repeated]
        if len(own) != len(value.base) or BATCH in own:
            raise UnsupportedError("the batch axis is not where this operation needs it")
        name = value.tensor
        if own != list(value.base):
            runs = [run for group in groups for run in _runs(value.base, [a for a in group if a not in repeated])]
            ranked = sorted(range(len(runs)), key=lambda i: value.base.index(runs[i][0]))
            name = self.reshape(name, [size_of(runs[i]) for i in ranked])
            name = self.emit("permute", (name,), {"order": tuple(ranked.index(i) for i in range(len(runs)))})
        if repeated:
            name = self.reshape(name, [1 if axis in repeated else axis.size for axis in order])
            for i, axis in enumerate(order):
                if axis in repeated:
                    name = self.emit("duplicate", (name,), {"axis": i, "src": (0,) * axis.size})
        return self.reshape(name, [size_of(group) for group in groups])

    def framed_constant(self, array: torch.Tensor, slots: Slots) -> np.ndarray:
        """Return a constant tensor without the batch, shaped to broadcast with a framed tensor.

        Raises
        ------
        UnsupportedError
            Where the constant differs from sample to sample.
        """
        array = array.reshape((1,) * (len(slots) - array.ndim) + tuple(array.shape)).detach()
        for dim in reversed(range(len(slots))):
            slot, size = slots[dim], array.shape[dim]
            if slot == 0 or (slot is not None and size == 1):
                continue
            if size != 1:
                array = array.unflatten(dim, (slot or 1, self.batch, -1))
                if not bool((array == array.narrow(dim + 1, 0, 1)).all()):
                    raise UnsupportedError("it uses constants that differ from sample to sample")
                array = array.select(dim + 1, 0).flatten(dim, dim + 1)
            if slot is None:
                array = array.squeeze(dim)
        return array.to(torch.float32).numpy()

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """Return the tensor in another shape; the same one where it has that shape already."""
        shape = tuple(shape)
        if shape == self.shapes[name]:
            return name
        if len(shape) == 1:
            return self.emit("flatten", (name,))
        return self.emit("reshape", (name,), {"shape": shape})

    def plain(self, value: Value, rank: int) -> str:
        """Return the tensor of a view whose first dimension is the batch alone and that has `rank` further ones."""
        if value.dims[:1] != ((BATCH,),):
            raise UnsupportedError("its first dimension is not the batch alone")
        if value.rank != rank + 1:
            raise UnsupportedError(f"it needs {rank + 1} dimensions with the batch, not {value.rank}")
        return self.materialize(value, value.dims[1:])

    def frame(self, value: Value) -> tuple[str, Slots]:
        """Return the tensor with the batch moved first, and where it was (see `Slots`)."""
        groups: list[Group] = []
        slots: list[int | None] = []
        for group in value.dims:
            if group == (BATCH,):
                slots.append(None)
                continue
            groups.append(tuple(axis for axis in group if axis is not BATCH))
            slots.append(size_of(group[: group.index(BATCH)]) if BATCH in group else 0)
        return self.materialize(value, groups), tuple(slots)

    def unframe(self, name: str, slots: Slots) -> Value:
        """Return the tensor as a view whose batch is where `slots` say."""
        base: list[Axis] = []
        dims: list[Group] = []
        sizes = iter(self.shapes[name])
        for slot in slots:
            if slot is None:
                dims.append((BATCH,))
                continue
            size = next(sizes)
            outer, inner = Axis(slot or 1), Axis(size // (slot or 1))
            parts = [axis for axis in (outer, inner) if axis.size != 1]
            base.extend(parts)
            middle = (BATCH,) if slot else ()
            dims.append((*(a for a in (outer,) if a in parts), *middle, *(a for a in (inner,) if a in parts)))
        return Value(name, tuple(base), tuple(dims))

    def unary(self, op: str, value: Value, attrs: Mapping[str, Any] | None = None) -> Value:
        """Return an element-wise function of a view; the view stays what it is."""
        return Value(self.emit(op, (value.tensor,), attrs), value.base, value.dims)

    def result(self, name: str) -> Value:
        """Return the plain view of a new tensor."""
        return stored(name, self.shapes[name])


def _runs(base: Group, order: Sequence[Axis]) -> list[list[Axis]]:
    """Cut `order` into runs of axes that follow each other in `base` too."""
    follows = dict(itertools.pairwise(base))
    runs: list[list[Axis]] = []
    for axis in order:
        if runs and follows.get(runs[-1][-1]) is axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def tensor_axis(slots: Slots, dim: int) -> int:
    """Return the axis (batch excluded) that torch dimension `dim` has in a framed tensor."""
    dim %= len(slots)
    if slots[dim] != 0:
        raise UnsupportedError("it works along the batch")
    return sum(slot is not None for slot in slots[:dim])


def value_of(x: Any) -> Value:
    """Return the argument if it is a tensor that depends on the network's input."""
    if not isinstance(x, Value):
        raise UnsupportedError("it reads a constant where the graph needs a computed tensor")
    return x


def array_of(x: Any, what: str) -> np.ndarray:
    """Return a constant argument as a float32 array."""
    if not isinstance(x, torch.Tensor):
        raise UnsupportedError(f"its {what} is computed, not constant")
    return x.detach().to(torch.float32).numpy()


def numbers(x: Any, count: int) -> tuple[int, ...]:
    """Return `count` integers from one integer or a list of one or `count`."""
    listed = [int(x)] if isinstance(x, int) else [int(n) for n in x]
    return tuple(listed * count if len(listed) == 1 else listed)


Handler = Callable[[Builder, Args], Any]
"""What turns one torch operation into nodes; returns a `Value` or a tuple of results."""
