"""Ranges and samples of every tensor of a float network over calibration data.

Contract: pure functions; the network is run once over the batches, in order, and nothing is kept elsewhere. Minima and
maxima are exact. Values are all of them where they number at most `samples`, else one from each of `samples` equal
strata of the tensor's values in order, at a seeded uniform place (tensors of equal size share the places), so the
sample is uniform and independent of how the data is cut into batches.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from quant.graph import Graph, channel_axes
from quant.run import MOST_VALUES, Arrays, as_inputs, batched, fitting, load_params, run

SAMPLES = 2**20
"""Values kept per tensor by default: 4 MB, enough for a 99.99th percentile from about a hundred values."""

Batches = Iterable[Arrays | tuple[Arrays, ...]]


@dataclass(frozen=True, eq=False)
class TensorStats:
    """What was seen of one tensor.

    Parameters
    ----------
    axis
        Axis of the channels, batch excluded (see `quant.graph.channel_axes`).
    channel_min, channel_max
        Float32 [channels].
    count
        Number of values seen.
    values
        Float32, all values (`exact`) or the sample.
    """

    axis: int
    channel_min: np.ndarray
    channel_max: np.ndarray
    count: int
    values: np.ndarray
    exact: bool

    @property
    def min(self) -> float:
        """Smallest value seen."""
        return float(self.channel_min.min())

    @property
    def max(self) -> float:
        """Largest value seen."""
        return float(self.channel_max.max())

    @property
    def absmax(self) -> float:
        """Largest magnitude seen."""
        return max(abs(self.min), abs(self.max))

    @property
    def channel_absmax(self) -> np.ndarray:
        """Largest magnitude seen in each channel, float32 [channels]."""
        return np.maximum(np.abs(self.channel_min), np.abs(self.channel_max))


Stats = Mapping[str, TensorStats]


class _Gatherer:
    """Ranges and sampled values of the tensors of one observation; lives only inside `observe`."""

    def __init__(self, graph: Graph, wanted: Collection[str] | None, total: int, samples: int, seed: int) -> None:
        self.axes, self.wanted, self.samples, self.seed = channel_axes(graph), wanted, samples, seed
        self.totals = {name: 1 if name in fixed_tensors(graph) else total for name in graph.shapes}
        self.total, self.done = total, 0
        self.lows: dict[str, Tensor] = {}
        self.highs: dict[str, Tensor] = {}
        self.values: dict[str, np.ndarray] = {}
        self.sizes: dict[str, int] = {}
        self.places: dict[int, np.ndarray] = {}

    def __call__(self, name: str, value: Tensor) -> None:
        """Take in one tensor of one batch."""
        if (self.wanted is not None and name not in self.wanted) or value.dtype != torch.float32:
            return
        total = self.totals.get(name, self.total)
        if total == 1 and name in self.sizes:
            return
        low, high = channel_range(value, self.axis(name, value))
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise ValueError(
                f"activations of {name} must be finite (got NaN or infinity); check the input data and the weights"
            )
        self.lows[name] = torch.minimum(self.lows[name], low) if name in self.lows else low
        self.highs[name] = torch.maximum(self.highs[name], high) if name in self.highs else high
        self.sizes[name] = per_sample = value[0].numel()
        if name not in self.values:
            self.values[name] = np.empty(min(per_sample * total, self.samples), np.float32)
        self.fill(self.values[name], value.reshape(-1).numpy(), self.done * per_sample, per_sample * total)

    def fill(self, kept: np.ndarray, flat: np.ndarray, first: int, count: int) -> None:
        """Put what is to be kept of one batch in its place; `first` is the batch's place among all `count` values."""
        if count <= self.samples:
            kept[first : first + len(flat)] = flat
            return
        places = self.chosen(count)
        a, b = np.searchsorted(places, (first, first + len(flat)))
        flat.take(places[a:b] - first, out=kept[a:b], mode="clip")  # in range anyway; "raise" would copy

    def axis(self, name: str, value: Tensor) -> int:
        """Return the channels' axis: LSTM parts have them last, attention parts (heads) first."""
        if ":" in name:
            return 0 if value.ndim == 4 else value.ndim - 2
        return self.axes[name]

    def chosen(self, count: int) -> np.ndarray:
        """Return the sorted places of the sample among `count` values, one in each of as many strata."""
        if count not in self.places:
            rng = np.random.default_rng((self.seed, count))
            strata = np.arange(self.samples) + rng.random(self.samples)
            self.places[count] = np.minimum(np.floor(strata * (count / self.samples)).astype(np.int64), count - 1)
        return self.places[count]

    def result(self, name: str) -> TensorStats:
        """Return what was gathered about one tensor."""
        count = self.sizes[name] * self.totals.get(name, self.total)
        axis = self.axes.get(name, 0 if name.endswith((":scores", ":probs")) else 1)
        low, high = self.lows[name].numpy(), self.highs[name].numpy()
        return TensorStats(axis, low, high, count, self.values[name], exact=count <= self.samples)


def channel_range(value: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return minimum and maximum per channel of a batch-first tensor; `axis` excludes the batch."""
    if value.ndim == 1:
        return value.amin().reshape(1), value.amax().reshape(1)
    dims = [d for d in range(value.ndim) if d != axis + 1]
    return value.amin(dims), value.amax(dims)


def fixed_tensors(graph: Graph) -> frozenset[str]:
    """Return the tensors that depend on no input; they have one sample whatever the batch."""
    moving = {item.name for item in graph.inputs}
    for node in graph.nodes:
        if moving.intersection(node.inputs):
            moving.add(node.name)
    return frozenset(graph.shapes) - moving


def _as_list(graph: Graph, batches: Batches) -> tuple[list[dict[str, Tensor]], int]:
    """Return the batches as checked inputs and the number of samples in all."""
    if isinstance(batches, np.ndarray | Tensor):
        raise ValueError("observe: batches must be a list of arrays (got one array); cut it, e.g. [x[:128], x[128:]]")
    size = fitting(graph, MOST_VALUES)
    listed = [part for batch in batches for part in _cut(as_inputs(graph, batch), size)]
    total = sum(len(batch[graph.inputs[0].name]) for batch in listed)
    if total == 0:
        raise ValueError(f"{graph.name}: calibration samples must be >= 1 (got 0); give at least one batch")
    return listed, total


def _cut(batch: dict[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    """Cut a batch where it has more than `size` samples."""
    names = list(batch)
    parts = batched(tuple(batch.values()), size)
    return [{name: torch.as_tensor(x) for name, x in zip(names, part, strict=True)} for part in parts]


def observe(
    graph: Graph, batches: Batches, seed: int, samples: int = SAMPLES, names: Collection[str] | None = None
) -> Stats:
    """Run calibration data through the network and describe its tensors.

    Parameters
    ----------
    graph
        Float network.
    batches
        Arrays [samples, ...], or a tuple of arrays for networks of several inputs. They are held in memory.
    seed
        Decides which values are sampled.
    samples
        Most values kept for one tensor.
    names
        Tensors to describe (``node:part`` too, see `quant.run.PARTS`); default all. Index inputs never are.

    Returns
    -------
    Stats
        Read-only mapping from tensor name to `TensorStats`.

    Raises
    ------
    ValueError
        On no samples, shapes that do not fit, and activations that are NaN or infinite (naming the layer).
    """
    listed, total = _as_list(graph, batches)
    gatherer = _Gatherer(graph, names, total, samples, seed)
    params = load_params(graph)
    for batch in listed:
        run(graph, batch, observer=gatherer, params=params)
        gatherer.done += len(batch[graph.inputs[0].name])
    return MappingProxyType({name: gatherer.result(name) for name in gatherer.sizes})


def count_above(graph: Graph, batches: Batches, thresholds: Mapping[str, float]) -> Mapping[str, np.ndarray]:
    """Count, per channel, the values whose magnitude is above a tensor's threshold.

    Parameters
    ----------
    graph, batches
        As for `observe`.
    thresholds
        Tensor name to threshold; only these tensors are counted.

    Returns
    -------
    Mapping
        Tensor name to int64 [channels], channels along `channel_axes(graph)[name]`.
    """
    listed, _ = _as_list(graph, batches)
    axes, params, fixed = channel_axes(graph), load_params(graph), fixed_tensors(graph)
    unknown = sorted(set(thresholds) - set(graph.shapes))
    if unknown:
        raise ValueError(f"{graph.name}: thresholds must name tensors of the graph (got {unknown}); see Graph.shapes")
    counts: dict[str, np.ndarray] = {}

    def count(name: str, value: Tensor) -> None:
        if name not in thresholds or (name in fixed and name in counts):
            return
        above = value.abs() > thresholds[name]
        dims = [d for d in range(value.ndim) if d != axes[name] + 1] if value.ndim > 1 else [0]
        found = np.atleast_1d(above.sum(dims).numpy().astype(np.int64))
        counts[name] = counts[name] + found if name in counts else found

    for batch in listed:
        run(graph, batch, observer=count, params=params)
    return MappingProxyType(counts)
