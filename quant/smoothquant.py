"""SmoothQuant (Xiao, Lin, Seznec, Wu, Demouth, Han, ICML 2023, arXiv:2211.10438, eq. 4): move the difficulty of wide
activation channels into the weights that read them.

Input channel j of a layer is divided by ``s_j = max|X_j|**alpha / max|W_j|**(1 - alpha)``, its weights are multiplied
by s_j. The division is folded into whatever writes the channel: the gain of a layer or RMS norm, an embedding, or a
layer's weights, through activations that hand positive factors on. Where nothing can take it up (behind GELU, say) the
layer is left as it is and a note says why.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quant.equalize_graph import Groups, find_groups
from quant.equalize_meller import check_relu6
from quant.equalize_scale import Factors, layers_of, rescale, tensor_ranges
from quant.graph import Graph
from quant.observe import Stats
from quant.remarks import SMOOTHING
from quant.transform import Context

_SMOOTHED = ("conv", "linear", "lstm")


def smoothing(graph: Graph, groups: Groups, stats: Stats, alpha: float) -> Factors:
    """Return ``1 / s`` for every group; layers that read the same channel share it, as they share X.

    A channel that is zero, in activations or in all the weights that read it, keeps factor 1.
    """
    ones = np.ones(groups.count)
    wide, heavy = np.zeros(groups.count), np.zeros(groups.count)
    layers = layers_of(graph, groups)
    for node in graph.nodes:
        if node.op not in _SMOOTHED or node.name not in groups.columns:
            continue
        ranges = tensor_ranges(groups, stats, ones, node.inputs[0])
        if ranges is not None:
            np.maximum.at(wide, *ranges)
        np.maximum.at(heavy, layers[node.name].columns, layers[node.name].column_ranges(ones))
    chosen = groups.free & (wide > 0) & (heavy > 0)
    factors: Factors = np.ones(groups.count)
    factors[chosen] = heavy[chosen] ** (1 - alpha) / wide[chosen] ** alpha
    return factors


def skipped(graph: Graph) -> Mapping[str, str]:
    """Return the layers that SmoothQuant left alone, and why."""
    return {node.name: str(node.notes[SMOOTHING]) for node in graph.nodes if SMOOTHING in node.notes}


def _reason(groups: Groups, columns: np.ndarray) -> str | None:
    held = [groups.held[int(g)] for g in np.unique(columns) if int(g) in groups.held]
    return None if len(held) < np.unique(columns).size else f"no layer before it can take the factors up: {held[0]}"


@dataclass(frozen=True, kw_only=True)
class SmoothQuant:
    """Transform: divide wide activation channels and multiply the weights that read them.

    Parameters
    ----------
    alpha
        How much of the difficulty moves into the weights, within 0..1.
    relu6
        ``caps``: scale ReLU6 limits per channel, which is exact; ``skip``: do not scale through ReLU6.
    """

    alpha: float = 0.5
    relu6: str = "caps"

    name: ClassVar[str] = "smoothquant"
    what: ClassVar[str] = "divide wide activation channels and multiply the weights that read them"
    source: ClassVar[str] = "Xiao et al., ICML 2023, arXiv:2211.10438, eq. 4"
    needs_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        check_relu6(self.name, self.relu6)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"smoothquant alpha must be within 0..1 (got {self.alpha}); 0.5 is usual")

    @property
    def label(self) -> str:
        """Short description."""
        return f"SmoothQuant {self.alpha:g}"

    def __call__(self, graph: Graph, context: Context) -> Graph:
        """Return the graph with its activations smoothed; `skipped` tells which layers were left alone.

        Raises
        ------
        ValueError
            Without calibration samples, and where channels have been split already.
        """
        groups = find_groups(graph, caps=self.relu6 == "caps", gains=True)
        scaled = rescale(graph, groups, smoothing(graph, groups, context.stats(graph, self.name), self.alpha))
        nodes = []
        for node in scaled.nodes:
            reason = _reason(groups, groups.columns[node.name]) if node.op in _SMOOTHED else None
            nodes.append(node if reason is None else node.with_notes(**{SMOOTHING: reason}))
        return dataclasses.replace(scaled, nodes=tuple(nodes))
