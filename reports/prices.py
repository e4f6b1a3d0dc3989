"""Which price table is asked for, as a value: name or a user's own tables, node, scaling."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelsim.config import Accelerator
from accelsim.technology import (
    NODE_RANGES_NM,
    TECHNOLOGIES,
    TableFile,
    Technology,
    read_tables,
    scaled,
    technology,
)

SCALINGS = ("google", "stillmaker")


@dataclass(frozen=True, kw_only=True)
class Prices:
    """A technology as a user names it.

    Parameters
    ----------
    name
        A key of `accelsim.technology.TECHNOLOGIES`, or that of the user's own tables.
    node_nm
        Node; the accelerator's where ``None``.
    scaling
        One of `SCALINGS`: moves the technology's own prices to the node by that published scaling.
    table
        A user's own tables, as a value: the file may change, or be on this computer only.
    """

    name: str = "google"
    node_nm: float | None = None
    scaling: Literal["google", "stillmaker"] | None = None
    table: TableFile | None = None

    @classmethod
    def named(cls, name: str, **others: Any) -> "Prices":
        """Return the prices that a user calls `name`: a technology's name, a file of tables, or a folder with some.

        Raises
        ------
        ValueError
            If it is none of them, or the tables cannot be used.
        """
        if name in TECHNOLOGIES:
            return cls(name=name, **others)
        if not os.path.exists(name):
            raise ValueError(
                f"technology: unknown name {name!r}; choose one of {', '.join(TECHNOLOGIES)}, or give a file or folder "
                "of Accelergy tables"
            )
        table = read_tables(Path(name))
        return cls(name=table.name, table=table, **others)

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
    low, high = prices.table.nodes_nm if prices.table else NODE_RANGES_NM.get(prices.name, (node, node))
    make = prices.table.at if prices.table else functools.partial(technology, prices.name)
    if prices.scaling is not None:
        return scaled(make(high), node, prices.scaling)
    if prices.node_nm is None and not low <= node <= high:
        raise ValueError(
            f"technology {prices.name} has prices for {low:g}..{high:g} nm only, {accelerator} is at {node:g} nm; give "
            f"--node {high:g} (node_nm in a study) to price it there, or --scaling to move it"
        )
    return make(node)


def sources_of(prices: Prices, accelerator: Accelerator) -> list[Mapping[str, str]]:
    """Return the sources of prices as plain values, for a store: a file of tables may be gone when it is reported."""
    found = prices.at(accelerator).sources
    return [{"status": one.status, "what": one.what, "citation": one.citation} for one in found]
