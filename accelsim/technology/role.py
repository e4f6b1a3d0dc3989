"""Which component of a price table plays which part."""

from dataclasses import dataclass
from typing import Literal

RoleName = Literal["mac", "register", "sram", "dram"]
ROLES: tuple[RoleName, ...] = ("mac", "register", "sram", "dram")

WIDTHS: dict[str, tuple[str, ...]] = {
    "mac": ("weight", "activation", "partial sum"),
    "register": ("register",),
    "sram": ("one physical word",),
    "dram": ("one access",),
}
"""What the widths of a role are of, in bits."""


def widths_in_words(role: str) -> str:
    """Return how many widths a role has and of what."""
    *first, last = WIDTHS[role]
    return f"{len(WIDTHS[role])} widths, of {', '.join(first)} and {last}" if first else f"1 width, of {last}"


@dataclass(frozen=True)
class Role:
    """Which component of the table plays a part, and the widths that its prices are for.

    Parameters
    ----------
    component : str
        Name in the table, with its ranges or without.
    bits : tuple of int
        mac: (weight, activation, partial sum); sram: (bits of one physical word,); register: (bits,); dram: (bits of
        one access,).
    capacity_bytes : float
        sram only: one bank, which an access goes to.
    banks : int
        sram only: banks that the component's area and leakage are of.
    """

    component: str
    bits: tuple[int, ...]
    capacity_bytes: float = 0.0
    banks: int = 1
