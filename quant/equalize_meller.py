"""Equalization by inversely proportional weight factorization (Meller, Finkelstein, Almog, Grobman, "Same, Same But
Different: Recovering Neural Network Quantization Error Through Weight Factorization", ICML 2019, arXiv:1902.01917).

Where one scale serves a layer, its widest channel sets the step of all. Channels that are narrower than the widest, in
kernel and in activation, are multiplied by a factor, and the weights that read them are divided by it.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from quant.equalize_graph import CAPPED, Groups, find_groups
from quant.equalize_scale import Block, Factors, blocks, layers_of, rescale, tensor_ranges
from quant.graph import Graph
from quant.observe import Stats
from quant.transform import Context

CAP = 16.0
"""Largest amplification (the authors' released code)."""

_ACTIVATIONS = frozenset({"relu", "leaky_relu", "prelu", *CAPPED})
_TRANSPARENT = frozenset({"avg_pool", "max_pool", "mean", "flatten", "reshape", "permute", "slice", "pad", "duplicate"})
"""Operations whose results set no limit, as in the authors' code: what they read has set it."""


@dataclass(frozen=True)
class Rules:
    """Options of one pass.

    Parameters
    ----------
    two_step
        Attenuate dominant channels whose readers have slack, which lets all others be amplified more.
    cap
        Largest amplification, and largest common factor of a branch before a concat.
    pre_activation
        Keep amplified pre-activations within the activation's range as well.
    released
        As the released code does: no attenuation where a channel has exactly one reader.
    """

    two_step: bool
    cap: float
    pre_activation: bool
    released: bool


class _Pass:
    """One forward pass over the blocks; lives only inside `factorize`."""

    def __init__(self, graph: Graph, groups: Groups, stats: Stats, rules: Rules) -> None:
        self.graph, self.groups, self.stats, self.rules = graph, groups, stats, rules
        self.layers = layers_of(graph, groups)
        self.factors: Factors = np.ones(groups.count)
        readers = ((name, graph.sole_consumer(name)) for name in graph.shapes)
        self.activation_after = {
            name: reader.name for name, reader in readers if reader is not None and reader.op in _ACTIVATIONS
        }

    def slack(self, block: Block) -> NDArray[np.float64]:
        """Return m: over the readers of a group, its largest share of a reader's widest weight, within (0, 1]."""
        slack = np.ones(self.groups.count)
        if not self.rules.two_step:
            return slack
        share, readers = np.zeros(self.groups.count), np.zeros(self.groups.count, dtype=np.int64)
        for name in block.consumers:
            layer = self.layers[name]
            widths = layer.column_ranges(self.factors)
            np.maximum.at(share, layer.columns, widths / max(float(widths.max(initial=0.0)), 1e-30))
            readers[np.unique(layer.columns)] += 1
        used = (share > 0) & (readers != 1 if self.rules.released else readers > 0)
        chosen = np.intersect1d(block.groups, np.flatnonzero(used))
        slack[chosen] = share[chosen]
        return slack

    def bounds(self, block: Block) -> tuple[Factors, NDArray[np.bool_]]:
        """Return every group's smallest limit, and which are alive: neither kernel nor activation is all zero."""
        bound, slack = np.full(self.groups.count, self.rules.cap), self.slack(block)
        kernel, seen = np.zeros(self.groups.count), np.full(self.groups.count, -1.0)

        def limit(labels: NDArray[np.int64], widths: NDArray[np.float64], widest: NDArray[np.float64]) -> None:
            top, some = float((widths * slack[labels]).max(initial=0.0)), widths > 0
            np.minimum.at(bound, labels[some], top / widths[some])
            np.maximum.at(widest, labels, widths)

        for name in block.producers:
            limit(self.layers[name].rows, self.layers[name].row_ranges(self.factors), kernel)
        for name in block.tensors:
            producer = self.graph.producer(name)
            if name in self.activation_after:
                self.limit_before(name, bound, slack)
            elif (producer is None or producer.op not in _TRANSPARENT) and (ranges := self.ranges(name)) is not None:
                limit(*ranges, seen)
        return bound, (kernel > 0) & (seen != 0)

    def limit_before(self, name: str, bound: NDArray[np.float64], slack: NDArray[np.float64]) -> None:
        """Lower the bounds to what the pre-activations leave: ``max(A / p, 1)``, A of the activation that follows."""
        before, after = self.ranges(name), self.ranges(self.activation_after[name])
        if not self.rules.pre_activation or before is None or after is None:
            return
        top = float((after[1] * slack[after[0]]).max(initial=0.0))
        below = np.maximum(-self.stats[name].channel_min.astype(np.float64), 0.0) * self.factors[before[0]]
        some = below > 0
        np.minimum.at(bound, before[0][some], np.maximum(top / below[some], 1.0))

    def ranges(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return groups and magnitudes of a tensor's channels under the factors so far."""
        return tensor_ranges(self.groups, self.stats, self.factors, name)

    def lift(self, block: Block) -> float:
        """Return the common factor that brings a layer's channels up to the widest beside them in a concat."""
        if len(block.producers) != 1 or not np.isin(self.layers[block.producers[0]].rows, block.groups).all():
            return 1.0
        lifts = []
        for name in block.tensors:
            ranges = self.ranges(name)
            inside = None if ranges is None else np.isin(ranges[0], block.groups)
            if ranges is None or inside is None or inside.all():
                continue
            own = float(ranges[1][inside].max(initial=0.0))
            lifts.append(float(ranges[1].max()) / own if own > 0 else 1.0)
        return min([*lifts, self.rules.cap]) if lifts else 1.0

    def run(self) -> Factors:
        """Go through the blocks in order."""
        for block in blocks(self.groups):
            bound, alive = self.bounds(block)
            chosen = block.groups[alive[block.groups]]
            self.factors[chosen] *= bound[chosen]
            self.factors[chosen] *= self.lift(block)
        return self.factors


def factorize(graph: Graph, groups: Groups, stats: Stats, rules: Rules) -> Factors:
    """Return a factor for every group.

    With K the kernel's and A the activation's widest channel, a channel of widths K_i, a_i and most negative
    pre-activation -p_i gets ``min(K / K_i, A / a_i, cap, max(A / p_i, 1))``; in the two-step form K and A are the
    largest K_i m_i and a_i m_i. Where several layers write a channel (residual adds), the smallest limit counts.

    Parameters
    ----------
    graph, groups
        A graph with batch norms folded, and its groups.
    stats
        Observed on this graph.
    rules
        Options.
    """
    return _Pass(graph, groups, stats, rules).run()


@dataclass(frozen=True, kw_only=True)
class _Factorize:
    """What both forms share: options, and the pass over the graph; they differ in their `rules`."""

    cap: float = CAP
    pre_activation: bool = True
    relu6: str = "caps"

    name: ClassVar[str]
    needs_data: ClassVar[bool] = True
    two_step: ClassVar[bool]

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        check_relu6(self.name, self.relu6)
        if not (np.isfinite(self.cap) and self.cap >= 1):
            raise ValueError(f"{self.name} cap must be >= 1 and finite (got {self.cap}); the authors use 16")

    @property
    def rules(self) -> Rules:
        """Return the options of the pass."""
        return Rules(self.two_step, self.cap, self.pre_activation, released=False)

    def __call__(self, graph: Graph, context: Context) -> Graph:
        """Return the graph with its channels equalized.

        Raises
        ------
        ValueError
            Without calibration samples, and where channels have been split already.
        """
        groups = find_groups(graph, caps=self.relu6 == "caps")
        return rescale(graph, groups, factorize(graph, groups, context.stats(graph, self.name), self.rules))


@dataclass(frozen=True, kw_only=True)
class OneStep(_Factorize):
    """Transform: amplify the narrow channels of every layer up to its widest.

    Parameters
    ----------
    cap
        Largest amplification, and largest common factor of a branch before a concat.
    pre_activation
        Keep amplified pre-activations within the activation's range as well.
    relu6
        ``caps``: scale ReLU6 limits per channel, which is exact; ``skip``: do not scale through ReLU6.
    """

    name: ClassVar[str] = "one-step"
    what: ClassVar[str] = "amplify narrow channels up to the layer's widest, by kernel and activation range"
    source: ClassVar[str] = "Meller et al., ICML 2019, arXiv:1902.01917, one-step"
    two_step: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """Short description."""
        return "equalize one-step"


@dataclass(frozen=True, kw_only=True)
class TwoStep(_Factorize):
    """Transform: attenuate dominant channels whose readers have slack, then amplify the others.

    Parameters
    ----------
    cap, pre_activation, relu6
        As for `OneStep`.
    released
        As the released code does: attenuate only channels with more than one reader.
    """

    released: bool = False

    name: ClassVar[str] = "two-step"
    what: ClassVar[str] = "attenuate dominant channels whose readers have slack, then amplify the narrow ones"
    source: ClassVar[str] = "Meller et al., ICML 2019, arXiv:1902.01917, two-step; slack over all consumers"
    two_step: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """Short description."""
        return f"equalize two-step{' (released)' if self.released else ''}"

    @property
    def rules(self) -> Rules:
        """Return the options of the pass."""
        return replace(super().rules, released=self.released)


def check_relu6(name: str, relu6: str) -> None:
    """Refuse an unknown treatment of ReLU6."""
    if relu6 not in ("caps", "skip"):
        raise ValueError(f"{name} relu6 must be caps or skip (got {relu6!r}); caps is exact")
