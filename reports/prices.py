"""Which price table is asked for, as a value: name, node, scaling."""

import functools
from dataclasses import dataclass
from typing import Literal

from accelsim.config import Accelerator
from accelsim.technology import NODE_RANGES_NM, Technology, scaled, technology

SCALINGS = ("google", "stillmaker")


@dataclass(frozen=True, kw_only=True)
class Prices:
    """A technology as a user names it.

    Parameters
    ----------
    name
        A key of `accelsim.technology.TECHNOLOGIES`.
    node_nm
        Node; the accelerator's where ``None``.
    scaling
        One of `SCALINGS`: moves the technology's own prices to the node by that published scaling.
    """

    name: str = "google"
    node_nm: float | None = None
    scaling: Literal["google", "stillmaker"] | None = None

    def at(self, accelerator: Accelerator) -> Technology:
        """Return the prices for an accelerator.

        Raises
        ------
        ValueError
            For an unknown technology, or one that has no prices at the node.
        """
        return _priced(self, accelerator.node_nm, accelerator.name)

    def label(self) -> str:
        """Return a short description."""
        parts = [self.name, f"{self.node_nm:g} nm" if self.node_nm else "", f"by {self.scaling}" * bool(self.scaling)]
        return " ".join(part for part in parts if part)


@functools.lru_cache(maxsize=256)
def _priced(prices: Prices, accelerator_nm: float, accelerator: str) -> Technology:
    node = accelerator_nm if prices.node_nm is None else prices.node_nm
    low, high = NODE_RANGES_NM.get(prices.name, (node, node))
    if prices.scaling is not None:
        return scaled(technology(prices.name, high), node, prices.scaling)
    if prices.node_nm is None and not low <= node <= high:
        raise ValueError(
            f"technology {prices.name} has prices for {low:g}..{high:g} nm only, {accelerator} is at {node:g} nm; give "
            f"--node {high:g} (node_nm in a study) to price it there, or --scaling to move it"
        )
    return technology(prices.name, node)
