"""Outlier channel splitting of weights (Zhao et al., "Improving Neural Network Quantization without Retraining using
Outlier Channel Splitting", ICML 2019).

Graph in, graph out. An input channel that holds the widest weights is duplicated and its weights are halved: the float
function is unchanged, the layer's range shrinks. The splits are recorded in the layer's notes, so that lowering can
replay them on integers, where halves are ``q >> 1`` and ``q - (q >> 1)``: the integer form of the paper's
quantization-aware split (eq. 6-8).
"""

import heapq
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from quant.graph import Graph, Node, replace_node
from quant.ocs_lstm import lstm_matrices, product_name
from quant.ocs_widen import find_producer, widen
from quant.remarks import GATHERED, UNSPLIT
from quant.tied import with_tied
from quant.transform import NO_CONTEXT, Context


@dataclass(frozen=True)
class Split:
    """One split: channel `index` (of the channels so far) is halved, its second half is appended as a new channel.

    Weights of magnitude `threshold` or less stay whole in the first copy and are zero in the second; 0 halves all.
    """

    index: int
    threshold: float = 0.0


@dataclass(frozen=True)
class SplitRecord:
    """All splits of one layer, in order; `naive` quantizes the float halves instead of splitting the integer."""

    channels: int
    splits: tuple[Split, ...]
    naive: bool = False

    @property
    def source(self) -> tuple[int, ...]:
        """Original channel of every expanded channel; the originals come first."""
        source = list(range(self.channels))
        for split in self.splits:
            source.append(source[split.index])
        return tuple(source)


def split_count(ratio: float, channels: int) -> int:
    """Return ``ceil(ratio · channels)``: how many channels an expansion ratio adds (OCS paper, section 3.4).

    The ratio counts as the decimal it is written as: 0.07 of 100 channels is 7, not 8.
    """
    return math.ceil(Fraction(str(float(ratio))) * channels)


def _halve(channel: NDArray[Any], threshold: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Halve a channel's weights naively, ``(w/2, w/2)``; those within the threshold stay in the first half."""
    halved = np.abs(channel.astype(np.float64)) > threshold
    return np.where(halved, channel / 2, channel), np.where(halved, channel / 2, 0.0)


def select_splits(weight: NDArray[Any], count: int, threshold_ratio: float = 0.0) -> tuple[Split, ...]:
    """Choose splits greedily: always the channel with the largest magnitude, halves being candidates again.

    Parameters
    ----------
    weight
        float, input channels on axis 1: ``[out, in]`` or ``[out, in, kh, kw]``.
    count
        Number of splits.
    threshold_ratio
        Selective splitting: weights up to this share of the channel's maximum are left whole.

    Returns
    -------
    tuple of Split
        Equal maxima: the lowest index wins.
    """
    columns = np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1).astype(np.float64)
    channels = list(columns)
    queue = [(-float(np.abs(column).max(initial=0.0)), index) for index, column in enumerate(channels)]
    heapq.heapify(queue)
    splits = []
    for _ in range(count):
        largest, index = heapq.heappop(queue)
        split = Split(index, threshold_ratio * -largest)
        first, second = _halve(channels[index], split.threshold)
        channels[index] = first
        channels.append(second)
        for place in (index, len(channels) - 1):
            heapq.heappush(queue, (-float(np.abs(channels[place]).max(initial=0.0)), place))
        splits.append(split)
    return tuple(splits)


def expand(weight: NDArray[Any], record: SplitRecord) -> NDArray[Any]:
    """Replay a record on float weights (input channels on axis 1), halving naively; the function is unchanged."""
    channels = list(np.moveaxis(weight, 1, 0))
    for split in record.splits:
        first, second = _halve(channels[split.index], split.threshold)
        channels[split.index] = first.astype(weight.dtype)
        channels.append(second.astype(weight.dtype))
    return np.moveaxis(np.stack(channels), 0, 1)


def merge(weight: NDArray[Any], record: SplitRecord) -> NDArray[Any]:
    """Undo `expand`, the last split first: the sum of two halves is exact, the sum of three quarters need not be."""
    channels = list(np.moveaxis(weight, 1, 0))
    for split in reversed(record.splits):
        second = channels.pop()
        channels[split.index] = channels[split.index] + second
    return np.moveaxis(np.stack(channels), 0, 1)


def expand_codes(codes: NDArray[np.int64], weight: NDArray[Any], record: SplitRecord) -> NDArray[np.int64]:
    """Replay a record on unclamped integer weights: ``q >> 1`` stays, ``q - (q >> 1)`` is appended.

    Parameters
    ----------
    codes
        ``[out, in, ...]``, the unsplit integers.
    weight
        The unsplit float weights, which decide where selective splits leave a value whole.
    record
        The splits.

    Returns
    -------
    int64 ``[out, expanded, ...]``; the copies of a channel sum to its unsplit integers, bit for bit.
    """
    pieces = list(np.moveaxis(codes, 1, 0))
    floats = list(np.moveaxis(weight.astype(np.float64), 1, 0))
    for split in record.splits:
        piece, value = pieces[split.index], floats[split.index]
        low = np.where(np.abs(value) > split.threshold, piece >> 1, piece)
        pieces[split.index] = low
        pieces.append(piece - low)
        floats[split.index], second = _halve(value, split.threshold)
        floats.append(second)
    return np.moveaxis(np.stack(pieces), 0, 1)


@dataclass(frozen=True, kw_only=True)
class SplitOutliers:
    """Transform: split outlier input channels of convolutions and linear layers.

    Parameters
    ----------
    ratio
        Expansion ratio r; each layer gets ``ceil(r · channels)`` splits.
    splits
        Splits per layer by name instead (a plan for one array); layers it does not name are not split.
    naive
        Quantize the halves of the float weights instead of splitting the integers.
    threshold_ratio
        Selective splitting, see `select_splits`; 0 halves every weight, as the authors' code does.
    form
        ``gather``: the layer gets its own copies of its input's channels. ``widen``: the layer before computes them
        twice where the graph allows it (`quant.ocs_widen`); elsewhere they are gathered, and a remark says why.

    Notes
    -----
    Grouped and depthwise convolutions are left as they are, with a remark (`quant.remarks`); those between a producer
    and a widened layer are widened with it. A plan that names one of them is refused.
    """

    ratio: float = 0.0
    splits: tuple[tuple[str, int], ...] = ()
    naive: bool = False
    threshold_ratio: float = 0.0
    form: Literal["gather", "widen"] = "gather"

    name: ClassVar[str] = "ocs"
    what: ClassVar[str] = "duplicate the input channels with the widest weights and halve their weights"
    source: ClassVar[str] = "Zhao et al., ICML 2019, arXiv:1901.09504, section 3"
    needs_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse ratios that mean nothing."""
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ocs ratio must be within 0..1 (got {self.ratio}); 0.01 to 0.05 is usual")
        if not 0 <= self.threshold_ratio < 1:
            raise ValueError(
                f"ocs threshold_ratio must be within 0..1 (got {self.threshold_ratio}); 0 halves every weight"
            )
        if self.form not in ("gather", "widen"):
            raise ValueError(f"ocs form must be gather or widen (got {self.form!r}); gather is usual")

    @property
    def label(self) -> str:
        """Return a short description, e.g. ``OCS 0.02 naive``; of a plan its channels."""
        budget = f"{sum(count for _, count in self.splits)} channels" if self.splits else f"{self.ratio:g}"
        selective = f" above {self.threshold_ratio:g} max" if self.threshold_ratio else ""
        return f"OCS {budget}{selective}{' naive' * self.naive}{' widened' * (self.form == 'widen')}"

    def __call__(self, graph: Graph, context: Context = NO_CONTEXT) -> Graph:
        """Return the graph with outlier channels split, protected layers apart.

        Raises
        ------
        ValueError
            Where a layer is split already, and where the plan names what is no layer of the network or cannot be split.
        """
        planned = replace(self, splits=self._plan(graph))
        for node in graph.nodes:
            if node.name in context.protected:
                continue
            if node.op == "lstm":
                graph = planned._split_lstm(graph, node)
            elif node.op in ("conv", "linear"):
                graph = planned._split_layer(graph, node)
        return graph

    def _plan(self, graph: Graph) -> tuple[tuple[str, int], ...]:
        """Return the plan by the names of products, which must be those of the network."""
        names = [node.name for node in graph.nodes if node.op in ("conv", "linear")]
        names += [name for node in graph.nodes if node.op == "lstm" for name, _ in lstm_matrices(node).values()]
        plan = tuple((name if name in names else product_name(name), count) for name, count in self.splits)
        for name, count in plan:
            if name not in names:
                raise ValueError(
                    f"ocs splits must name layers of {graph.name} (got {name!r}); it has {', '.join(names)}"
                )
            if count < 0:
                raise ValueError(f"ocs splits of {name!r} must be >= 0 (got {count}); 0 leaves the layer as it is")
        tied = {(other, count) for name, count in plan for other in with_tied(graph, [name]) - dict(plan).keys()}
        return (*plan, *sorted(tied))

    def _split_layer(self, graph: Graph, node: Node) -> Graph:
        """Split a convolution or linear layer, or leave it with a remark."""
        count, reason = self._count(node.name, node.params["weight"]), unsplittable(node)
        if not count:
            return graph
        if reason and self.splits:
            raise ValueError(f"ocs cannot split layer {node.name!r} (got {count} splits): {reason}; leave it out")
        if reason:
            return replace_node(graph, node.name, node.with_notes(**{UNSPLIT: reason}))
        if "ocs" in node.notes:
            raise ValueError(f"ocs: layer {node.name!r} is split already; list ocs once, with a larger ratio")
        return self._split(graph, node, count)

    def _count(self, layer: str, weight: NDArray[Any]) -> int:
        return dict(self.splits).get(layer, 0) if self.splits else split_count(self.ratio, weight.shape[1])

    def _record(self, weight: NDArray[Any], count: int) -> SplitRecord:
        return SplitRecord(weight.shape[1], select_splits(weight, count, self.threshold_ratio), self.naive)

    def _split_lstm(self, graph: Graph, node: Node) -> Graph:
        """Note the splits of both matrices; x and h are duplicated by lowering (`quant.ocs_lstm`)."""
        records = {}
        for note, (name, weight) in lstm_matrices(node).items():
            count = self._count(name, weight)
            if count and note in node.notes:
                raise ValueError(f"ocs: layer {name!r} is split already; list ocs once, with a larger ratio")
            if count:
                records[note] = self._record(weight, count)
        return replace_node(graph, node.name, node.with_notes(**records)) if records else graph

    def _split(self, graph: Graph, node: Node, count: int) -> Graph:
        weight = node.params["weight"]
        record = self._record(weight, count)
        wider = node.with_params(weight=expand(weight, record)).with_notes(ocs=record)
        if self.form == "widen":
            found = find_producer(graph, node)
            if not found.reason:
                return widen(replace_node(graph, node.name, wider, result=node.name), found, record.source)
            wider = wider.with_notes(**{GATHERED: found.reason})
        axis = 0 if node.op == "conv" else len(graph.shapes[node.inputs[0]]) - 1
        copy = Node(
            f"{node.name}.duplicate",
            "duplicate",
            (node.inputs[0],),
            {"axis": axis, "src": record.source},
            layer=node.layer,
        )
        return replace_node(graph, node.name, copy, wider.with_inputs(copy.name), result=node.name)


def splittable(node: Node) -> bool:
    """Tell whether a node is a layer whose input channels can be split alone."""
    return node.op in ("conv", "linear") and not unsplittable(node)


def unsplittable(node: Node) -> str:
    """Return why the input channels of a convolution or linear layer cannot be split alone; empty where they can."""
    groups = node.attrs.get("groups", 1)
    if groups == 1:
        return ""
    if node.params["weight"].shape[1] == 1:
        return f"depthwise ({groups} groups), where a second copy of a channel is a second output"
    return f"grouped ({groups} groups), where a copy of a channel falls into another group"
