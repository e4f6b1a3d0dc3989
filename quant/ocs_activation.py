"""Outlier channel splitting of activations (Zhao et al., ICML 2019, eq. 4 and section 5.3).

Graph in, graph out. A channel of a layer's input is fed twice, halved, and its weights are duplicated unchanged: the
float function is unchanged, the range of the activations shrinks. On integers the halves are ``floor(q / 2)`` and
``ceil(q / 2)`` of the unclamped code q, so nothing is lost by halving; the producer keeps the extra bit (`quant.wide`).
Channels are chosen before the fact, from calibration data, or for an experiment from the very batch that is run.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quant.graph import Graph, Node, replace_node
from quant.observe import Stats, count_above, observe
from quant.ocs import split_count, splittable, unsplittable
from quant.remarks import UNSPLIT
from quant.transform import NO_CONTEXT, Context
from quant.wide import HALVES

EXTREME_PERCENT = 99.0
"""Magnitudes above this percentile of a tensor are counted as extreme (OCS paper, section 5.3)."""

ACT_SPLITS = "act_splits"
"""Key of the note on a layer that says how many channels of its input are halved."""


@dataclass(frozen=True)
class HalvesRecord:
    """All splits of one layer's input, in order: each halves a channel (of the channels so far) and appends a half."""

    channels: int
    splits: tuple[int, ...]

    def _pieces(self) -> list[tuple[int, int, int]]:
        """Return (source, offset, shift) of every expanded channel: its code is (q + offset) >> shift.

        Halving ``(q + o) >> s`` gives ``(q + o) >> s + 1`` and ``(q + o + 2**s) >> s + 1``.
        """
        pieces = [(channel, 0, 0) for channel in range(self.channels)]
        for index in self.splits:
            source, offset, shift = pieces[index]
            pieces[index] = (source, offset, shift + 1)
            pieces.append((source, offset + 2**shift, shift + 1))
        return pieces

    @property
    def source(self) -> tuple[int, ...]:
        """Original channel of every expanded channel; the originals come first."""
        return tuple(piece[0] for piece in self._pieces())

    @property
    def offset(self) -> tuple[int, ...]:
        """What is added to a code (zero point taken off) before it is shifted, per expanded channel."""
        return tuple(piece[1] for piece in self._pieces())

    @property
    def shift(self) -> tuple[int, ...]:
        """How often each expanded channel is halved."""
        return tuple(piece[2] for piece in self._pieces())

    @property
    def depth(self) -> int:
        """Most halvings of one channel."""
        return max(self.shift, default=0)

    @property
    def weight(self) -> NDArray[np.float32]:
        """Float factor of every expanded channel, float32 ``[expanded]``."""
        return (2.0 ** -np.array(self.shift)).astype(np.float32)


def most_extreme(counts: NDArray[np.int64], count: int) -> HalvesRecord:
    """Split the `count` channels with the most extreme values, each once; of equal counts the lowest index wins."""
    order = np.argsort(-counts, kind="stable")
    return HalvesRecord(counts.size, tuple(int(channel) for channel in order[:count]))


def widest(channel_max: NDArray[np.floating], count: int) -> HalvesRecord:
    """Split greedily the channel of the largest magnitude, halves being candidates again.

    No choice of `count` splits leaves a smaller maximum. Of equal maxima the lowest index wins.
    """
    queue = [(-float(value), index) for index, value in enumerate(channel_max)]
    heapq.heapify(queue)
    splits: list[int] = []
    for done in range(count):
        largest, index = heapq.heappop(queue)
        splits.append(index)
        heapq.heappush(queue, (largest / 2, index))
        heapq.heappush(queue, (largest / 2, channel_max.size + done))
    return HalvesRecord(channel_max.size, tuple(splits))


@dataclass(frozen=True, kw_only=True)
class SplitActivations:
    """Transform: halve outlier channels of the inputs of convolutions and linear layers.

    Comes before weight splitting where both are wanted.

    Parameters
    ----------
    ratio
        Expansion ratio r; each layer gets ``ceil(r · channels)`` splits.
    oracle
        Choose the widest channels of the calibration samples themselves (each as often as it takes) instead of those
        with the most extreme values: the paper's upper bound, for which these samples are the batch that is run
        (`quant.ocs_oracle`).
    """

    name: ClassVar[str] = "act-ocs"
    what: ClassVar[str] = "duplicate the input channels with the most extreme activations and halve these"
    source: ClassVar[str] = "Zhao et al., ICML 2019, arXiv:1901.09504, eq. 4 and section 5.3"
    needs_data: ClassVar[bool] = True

    ratio: float = 0.0
    oracle: bool = False

    def __post_init__(self) -> None:
        """Refuse ratios that mean nothing."""
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"act-ocs ratio must be within 0..1 (got {self.ratio}); 0.01 to 0.05 is usual")

    @property
    def label(self) -> str:
        """Return a short description, e.g. ``act OCS 0.02``."""
        return f"act OCS {self.ratio:g}{' oracle' if self.oracle else ''}"

    def __call__(self, graph: Graph, context: Context = NO_CONTEXT) -> Graph:
        """Return the graph with outlier channels of activations split, protected layers apart.

        Raises
        ------
        ValueError
            Without calibration samples, or where a layer's weights are split already.
        """
        if self.ratio == 0:
            return graph
        graph = _with_remarks(graph, context.protected)
        chosen = [node for node in graph.nodes if splittable(node) and node.name not in context.protected]
        if not chosen:
            return graph
        for node in chosen:
            if "ocs" in node.notes or ACT_SPLITS in node.notes:
                raise ValueError(f"act-ocs: layer {node.name!r} is split already; list act-ocs once and before ocs")
        records = self._records(graph, {node.inputs[0] for node in chosen}, context)
        for node in chosen:
            record = records[node.inputs[0]]
            if record.channels != node.params["weight"].shape[1]:
                raise ValueError(
                    f"act-ocs: {node.inputs[0]!r} is read along two axes ({record.channels} channels for others, "
                    f"{node.params['weight'].shape[1]} for {node.name!r}); leave that layer out by --first-last or name"
                )
            graph = _split(graph, node, record)
        return graph

    def _records(self, graph: Graph, tensors: set[str], context: Context) -> dict[str, HalvesRecord]:
        stats = observe(graph, context.batches(self.name), context.seed, names=tensors)
        if self.oracle:
            return {name: self._choose(widest, stats[name].channel_absmax) for name in stats}
        counts = count_above(graph, context.batches(self.name), extreme_thresholds(stats))
        return {name: self._choose(most_extreme, counts[name]) for name in counts}

    def _choose(self, rule: Callable[[NDArray[Any], int], HalvesRecord], channels: NDArray[Any]) -> HalvesRecord:
        return rule(channels, split_count(self.ratio, channels.size))


def _with_remarks(graph: Graph, protected: frozenset[str]) -> Graph:
    """Say of grouped convolutions why they are left as they are."""
    for node in graph.nodes:
        if node.op == "conv" and node.name not in protected and (reason := unsplittable(node)):
            graph = replace_node(graph, node.name, node.with_notes(**{UNSPLIT: reason}))
    return graph


def extreme_thresholds(stats: Stats, percent: float = EXTREME_PERCENT) -> dict[str, float]:
    """Return, for every tensor, the magnitude beyond which its values are extreme."""
    return {name: float(np.percentile(np.abs(seen.values), percent)) for name, seen in stats.items()}


def _split(graph: Graph, node: Node, record: HalvesRecord) -> Graph:
    axis = 0 if node.op == "conv" else len(graph.shapes[node.inputs[0]]) - 1
    copy = Node(
        f"{node.name}.halves",
        "duplicate",
        (node.inputs[0],),
        {"axis": axis, "src": record.source},
        {"weight": record.weight},
        layer=node.layer,
        notes={HALVES: record},
    )
    weight = node.params["weight"][:, list(record.source)]
    wider = node.with_params(weight=weight).with_inputs(copy.name).with_notes(**{ACT_SPLITS: len(record.splits)})
    return replace_node(graph, node.name, copy, wider, result=node.name)
