"""Which channels of a float graph must be scaled by one factor so that its function stays.

Every place of every tensor bears a label. Operations that hand positive factors on (ReLU, pooling, reshaping, adding,
joining ...) hand labels on, joining those that must be equal; a layer with weights ends the labels that it reads and
begins new ones, since its weights can take up both factors; everything else (sigmoid, softmax, norms, products, network
inputs and outputs) holds its labels at factor 1. What is joined is a group.

Labels are kept compact: an axis along which all places agree has length 1. Zero padding agrees with anything, so the
padded channels of a ResNet's parameter-free shortcut bear labels of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.graph import Graph, Node, channel_axes
from quant.remarks import REMARKS
from quant.tied import TIED

Labels = NDArray[np.int64]

CAPPED = ("relu6", "clamp", "clamp_channels")
"""Activations with fixed limits: scaled by scaling the limits, which then differ from channel to channel."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of a graph.

    Parameters
    ----------
    count
        Number of groups. Group 0 is no channel's: it stands for "factor 1".
    tensors
        Tensor name to its groups, int64 of the tensor's rank, compact.
    rows, columns
        Layer name to the group of every output and every input channel.
    held
        Groups that must keep factor 1, and why.
    caps
        Names of activations whose limits scale with their groups, and their channel axis.
    """

    count: int
    tensors: Mapping[str, Labels]
    rows: Mapping[str, Labels]
    columns: Mapping[str, Labels]
    held: Mapping[int, str]
    caps: Mapping[str, int]

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """Which groups may have a factor other than 1, bool ``[count]``."""
        free = np.ones(self.count, dtype=bool)
        free[[0, *self.held]] = False
        return free

    def along(self, tensor: str, axis: int, length: int) -> Labels | None:
        """Return the groups along one axis of a tensor, or ``None`` where they differ along another as well."""
        labels = self.tensors[tensor]
        if any(n > 1 for i, n in enumerate(labels.shape) if i != axis):
            return None
        return np.broadcast_to(labels.reshape(-1), (length,))


class Finder:
    """Labels of the tensors seen so far; lives only inside `find_groups`."""

    def __init__(self, graph: Graph, *, caps: bool, gains: bool) -> None:
        self.graph, self.scale_caps, self.gains = graph, caps, gains
        self.axes = channel_axes(graph)
        self.parents: list[int] = []
        self.reasons: dict[int, str] = {}
        self.rows: dict[str, Labels] = {}
        self.columns: dict[str, Labels] = {}
        self.caps: dict[str, int] = {}

    def fresh(self, count: int) -> Labels:
        """Return new labels."""
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def root(self, label: int) -> int:
        """Return the label that stands for all those joined with this one."""
        while self.parents[label] != label:
            self.parents[label] = label = self.parents[self.parents[label]]
        return label

    def join(self, first: Labels, second: Labels) -> None:
        """Require equal factors, place by place; shapes broadcast."""
        if first is second:
            return
        one, two = np.broadcast_arrays(first, second)
        for a, b in np.unique(np.stack([one.ravel(), two.ravel()], axis=1), axis=0):
            low, high = sorted((self.root(int(a)), self.root(int(b))))
            if low == high:
                continue
            self.parents[high] = low
            if high in self.reasons:
                self.reasons.setdefault(low, self.reasons[high])

    def hold(self, labels: Labels, reason: str) -> None:
        """Require factor 1."""
        for label in np.unique(labels):
            self.reasons.setdefault(self.root(int(label)), reason)

    def is_held(self, labels: Labels) -> bool:
        """Tell whether all labels are held already."""
        return all(self.root(int(label)) in self.reasons for label in np.unique(labels))

    def fixed(self, node: Node, reason: str | None = None) -> Labels:
        """Return the labels of an output whose factor is 1."""
        label = self.fresh(1)
        self.hold(label, reason or f"it comes out of {node.op} {node.name}")
        return label.reshape((1,) * len(self.graph.shapes[node.name]))

    def one_along(self, labels: Labels, axes: Sequence[int]) -> Labels:
        """Return the labels with equal factors required along some axes, which get length 1."""
        for axis in axes:
            if labels.shape[axis] > 1:
                first = labels.take([0], axis)
                self.join(labels, first)
                labels = first
        return labels

    def line(self, labels: Labels, axis: int, length: int) -> Labels:
        """Return one label per place along an axis, requiring equal factors along the others."""
        axis %= labels.ndim
        rest = [i for i in range(labels.ndim) if i != axis]
        return np.broadcast_to(self.one_along(labels, rest).reshape(-1), (length,))

    def placed(self, line: Labels, axis: int, rank: int) -> Labels:
        """Shape one label per channel to lie along an axis."""
        axis %= rank
        return line.reshape([-1 if i == axis else 1 for i in range(rank)])

    def groups(self, labels: Mapping[str, Labels]) -> Groups:
        """Return what was found, with groups numbered from 1 in order of first appearance."""
        roots = np.array([self.root(label) for label in range(len(self.parents))], dtype=np.int64)
        found, numbers = np.unique(roots, return_inverse=True)
        number = numbers.astype(np.int64) + 1
        return Groups(
            count=len(found) + 1,
            tensors={name: number[label] for name, label in labels.items()},
            rows={name: number[label] for name, label in self.rows.items()},
            columns={name: number[label] for name, label in self.columns.items()},
            held={int(number[root]): reason for root, reason in self.reasons.items() if self.parents[root] == root},
            caps=dict(self.caps),
        )


def find_groups(graph: Graph, *, caps: bool = True, gains: bool = False) -> Groups:
    """Return the groups of channels that must share a factor.

    Parameters
    ----------
    graph
        Batch norms folded; a batch norm that is left holds what it reads.
    caps
        Scale ReLU6 and clamps by scaling their limits per channel (exact); ``False`` never scales through them.
    gains
        Let the gains of layer norm and RMS norm, and embeddings, take up factors as a layer's weights do.

    Raises
    ------
    ValueError
        Where channels have been split already, whose record the lowering needs unscaled.
    """
    for node in graph.nodes:
        if set(node.notes) - {TIED, *REMARKS}:
            raise ValueError(
                f"transforms must scale channels before they split them (got {node.name} split already); "
                "put equalization and smoothquant first in the recipe"
            )
    finder = Finder(graph, caps=caps, gains=gains)
    labels: dict[str, Labels] = {}
    for item in graph.inputs:
        labels[item.name] = finder.fresh(1).reshape((1,) * max(1, len(item.shape)))
        finder.hold(labels[item.name], "it is the network's input")
    for node in graph.nodes:
        rule = RULES.get(node.op, _held)
        labels[node.name] = rule(finder, node, [labels[name] for name in node.inputs])
    for name in graph.outputs:
        finder.hold(labels[name], "it is the network's output")
    return finder.groups(labels)


# --- rules: from the labels read to the labels of the output ---------------------------------------------------------


def _held(f: Finder, node: Node, x: list[Labels]) -> Labels:
    for labels in x:
        f.hold(labels, f"it is read by {node.op} {node.name}")
    return f.fixed(node)


def _passed(f: Finder, node: Node, x: list[Labels]) -> Labels:
    return x[0]


def _capped(f: Finder, node: Node, x: list[Labels]) -> Labels:
    endless = node.op == "clamp" and not np.isfinite([node.attrs["lo"], node.attrs["hi"]]).all()
    if endless or not f.scale_caps:
        return _held(f, node, x)
    axis, shape = f.axes[node.name], f.graph.shapes[node.name]
    f.caps[node.name] = axis
    return f.placed(f.line(x[0], axis, shape[axis]), axis, len(shape))


def _layer(f: Finder, node: Node, x: list[Labels]) -> Labels:
    axis = 0 if node.op == "conv" else -1
    before, after = f.graph.shapes[node.inputs[0]], f.graph.shapes[node.name]
    f.columns[node.name] = f.line(x[0], axis, before[axis])
    f.rows[node.name] = f.fresh(after[axis])
    return f.placed(f.rows[node.name], axis, len(after))


def _affine(f: Finder, node: Node, x: list[Labels]) -> Labels:
    if all(value.size == 1 for value in node.params.values()):
        return x[0] if not node.params.get("bias", np.zeros(1)).any() else _held(f, node, x)
    axis, shape = node.attrs["axis"], f.graph.shapes[node.name]
    f.columns[node.name] = f.line(x[0], axis, shape[axis])
    f.rows[node.name] = f.fresh(shape[axis])
    return f.placed(f.rows[node.name], axis, len(shape))


def _gain(f: Finder, node: Node, x: list[Labels]) -> Labels:
    for labels in x:
        f.hold(labels, f"it is read by {node.op} {node.name}")
    if not f.gains or node.attrs.get("ndim", 1) != 1:
        return f.fixed(node)
    shape = f.graph.shapes[node.name]
    f.rows[node.name] = f.fresh(shape[-1])
    return f.placed(f.rows[node.name], -1, len(shape))


def _lstm(f: Finder, node: Node, x: list[Labels]) -> Labels:
    f.columns[node.name] = f.line(x[0], -1, f.graph.shapes[node.inputs[0]][-1])
    return f.fixed(node)


def _added(f: Finder, node: Node, x: list[Labels]) -> Labels:
    f.join(x[0], x[1])
    return np.broadcast_arrays(*x)[0]


def _mul(f: Finder, node: Node, x: list[Labels]) -> Labels:
    """A gate of factor 1 (squeeze-excite) hands the other operand's factor on; else both are held."""
    for gate, value in ((x[1], x[0]), (x[0], x[1])):
        if f.is_held(gate):
            return np.broadcast_arrays(value, gate)[0]
    return _held(f, node, x)


def _pooled(f: Finder, node: Node, x: list[Labels]) -> Labels:
    return f.one_along(x[0], range(1, x[0].ndim))


def _mean(f: Finder, node: Node, x: list[Labels]) -> Labels:
    return f.one_along(x[0], node.attrs["axes"])


def _compact(labels: Labels) -> Labels:
    for axis in range(labels.ndim):
        first = labels.take([0], axis)
        if labels.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, labels.shape), labels):
            labels = first
    return labels


def _reshaped(f: Finder, node: Node, x: list[Labels]) -> Labels:
    full = np.broadcast_to(x[0], f.graph.shapes[node.inputs[0]])
    return _compact(full.reshape(f.graph.shapes[node.name]))


def _permuted(f: Finder, node: Node, x: list[Labels]) -> Labels:
    return x[0].transpose(node.attrs["order"])


def _sliced(f: Finder, node: Node, x: list[Labels]) -> Labels:
    a = node.attrs
    cut = zip(a["start"], a["stop"], a["step"], x[0].shape, strict=True)
    return x[0][tuple(slice(None) if n == 1 else slice(lo, hi, step) for lo, hi, step, n in cut)]


def _padded(f: Finder, node: Node, x: list[Labels]) -> Labels:
    if node.attrs["value"] != 0:
        return _held(f, node, x)
    labels = x[0]
    for axis, (before, after) in enumerate(zip(node.attrs["before"], node.attrs["after"], strict=True)):
        if labels.shape[axis] == 1:
            continue  # zeros agree with the one label along this axis
        ends = []
        for count in (before, after):
            shape = (*labels.shape[:axis], count, *labels.shape[axis + 1 :])
            ends.append(np.broadcast_to(f.placed(f.fresh(count), axis, labels.ndim), shape))
        labels = np.concatenate([ends[0], labels, ends[1]], axis)
    return labels


def _joined(f: Finder, node: Node, x: list[Labels]) -> Labels:
    axis = node.attrs["axis"]
    rest = np.broadcast_shapes(*(labels.take([0], axis).shape for labels in x))
    parts = []
    for name, labels in zip(node.inputs, x, strict=True):
        length = f.graph.shapes[name][axis]
        parts.append(np.broadcast_to(labels, (*rest[:axis], length, *rest[axis + 1 :])))
    return np.concatenate(parts, axis)


def _duplicated(f: Finder, node: Node, x: list[Labels]) -> Labels:
    axis = node.attrs["axis"]
    return x[0] if x[0].shape[axis] == 1 else x[0].take(node.attrs["src"], axis)


def _attention(f: Finder, node: Node, x: list[Labels]) -> Labels:
    """Attention is linear in its values, whose factors per head and feature it hands on."""
    for labels in x[:2]:
        f.hold(labels, f"it is read by attention {node.name}")
    values = f.one_along(x[2], (1,))
    if values.shape[0] == 1:
        return values
    runs = f.graph.shapes[node.inputs[0]][0] // f.graph.shapes[node.inputs[2]][0]
    return values.repeat(runs, 0)


RULES: dict[str, Callable[[Finder, Node, list[Labels]], Any]] = {
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "neg", "abs"), _passed),
    **dict.fromkeys(CAPPED, _capped),
    **dict.fromkeys(("conv", "linear"), _layer),
    **dict.fromkeys(("scale", "affine"), _affine),
    **dict.fromkeys(("layer_norm", "rms_norm", "embedding"), _gain),
    "lstm": _lstm,
    "add": _added,
    "sub": _added,
    "mul": _mul,
    "max_pool": _pooled,
    "avg_pool": _pooled,
    "mean": _mean,
    "flatten": _reshaped,
    "reshape": _reshaped,
    "permute": _permuted,
    "slice": _sliced,
    "pad": _padded,
    "concat": _joined,
    "duplicate": _duplicated,
    "attention": _attention,
}
"""What is not here (and not linear up to a positive factor) holds its inputs: sigmoid, tanh, GELU, SiLU, h-swish ..."""
