"""Cross-layer equalization (Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, arXiv:1906.04721, section 4.1).

A channel's weights in the layer that writes it, of range r1, and in those that read it, of range r2, are brought to the
same range ``sqrt(r1 r2)``. No data is needed. Pairs are visited until nothing moves; a depthwise layer between two
others is met as two pairs, whose fixed point is the triple's ``(r1 r2 r3)**(1/3)``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from quant.equalize_graph import Groups, find_groups
from quant.equalize_meller import check_relu6
from quant.equalize_scale import Block, Factors, Layer, blocks, layers_of, rescale
from quant.graph import Graph
from quant.transform import NO_CONTEXT, Context

DEAD = 1e-20
"""A channel narrower than this share of its layer's widest counts as zero: scaling it up would leave float32's range.

Channels far above that may be dead in effect, and must be scaled all the same: what reads them was trained against
nothing, may be wide, and would set the step of its whole layer.
"""


def pair_ranges(
    block: Block, layers: dict[str, Layer], factors: Factors
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return r1 and r2 of every group: its widest weight in the layers that write it, and in those that read it."""
    written, read = np.zeros(factors.size), np.zeros(factors.size)
    for name in block.producers:
        np.maximum.at(written, layers[name].rows, layers[name].row_ranges(factors))
    for name in block.consumers:
        np.maximum.at(read, layers[name].columns, layers[name].column_ranges(factors))
    return written, read


def _alive(found: tuple[Block, ...], layers: dict[str, Layer], count: int) -> NDArray[np.bool_]:
    """Tell which groups have weights on both sides that are not zero."""
    ones = np.ones(count)
    written, read = np.zeros(count), np.zeros(count)
    for block in found:
        for name in block.producers:
            widths = layers[name].row_ranges(ones)
            np.maximum.at(written, layers[name].rows, widths / max(float(widths.max(initial=0.0)), 1e-300))
        for name in block.consumers:
            widths = layers[name].column_ranges(ones)
            np.maximum.at(read, layers[name].columns, widths / max(float(widths.max(initial=0.0)), 1e-300))
    return (written > DEAD) & (read > DEAD)


def balance(graph: Graph, groups: Groups, tolerance: float, sweeps: int) -> Factors:
    """Return a factor for every group, such that r1 = r2 for all that are alive.

    Parameters
    ----------
    graph, groups
        A graph with batch norms folded, and its groups.
    tolerance
        Largest relative step of the last sweep.
    sweeps
        Most passes over all pairs; 1 is a single pass.
    """
    layers, found = layers_of(graph, groups), blocks(groups)
    alive = _alive(found, layers, groups.count)
    factors: Factors = np.ones(groups.count)
    for _ in range(sweeps):
        largest = 0.0
        for block in found:
            written, read = pair_ranges(block, layers, factors)
            chosen = block.groups[alive[block.groups]]
            step = np.sqrt(read[chosen] / written[chosen])
            if set(block.producers) & set(block.consumers):
                step = np.sqrt(step)  # a layer between channels of one block feels both ends: half the way each
            factors[chosen] *= step
            largest = max(largest, float(np.abs(step - 1).max(initial=0.0)))
        if largest < tolerance:
            break
    return factors


@dataclass(frozen=True, kw_only=True)
class CrossLayer:
    """Transform: bring each channel's weights to one range in the layers that write and read it.

    Parameters
    ----------
    tolerance
        Largest relative step of the last sweep.
    sweeps
        Most passes over all pairs.
    relu6
        ``caps``: scale ReLU6 limits per channel, which is exact; ``skip``: do not scale through ReLU6.
    """

    tolerance: float = 1e-4
    sweeps: int = 1000
    relu6: str = "caps"

    name: ClassVar[str] = "cross-layer"
    what: ClassVar[str] = "bring each channel's weights to one range in the layers that write and read it"
    source: ClassVar[str] = "Nagel et al., ICCV 2019, arXiv:1906.04721, section 4.1; to convergence"
    needs_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        check_relu6(self.name, self.relu6)
        if not 0 < self.tolerance < 1:
            raise ValueError(f"cross-layer tolerance must be within 0..1 (got {self.tolerance}); 1e-4 is usual")
        if self.sweeps < 1:
            raise ValueError(f"cross-layer sweeps must be >= 1 (got {self.sweeps}); 1 is a single pass")

    @property
    def label(self) -> str:
        """Short description."""
        return "equalize cross-layer"

    def __call__(self, graph: Graph, context: Context = NO_CONTEXT) -> Graph:
        """Return the graph with its channels equalized.

        Raises
        ------
        ValueError
            Where channels have been split already.
        """
        groups = find_groups(graph, caps=self.relu6 == "caps")
        return rescale(graph, groups, balance(graph, groups, self.tolerance, self.sweeps))
