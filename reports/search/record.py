"""What a store keeps of a search, and how it is told."""

from collections.abc import Mapping
from typing import Any

SEARCH = "search"
"""Kind of the records of searches in a store, by the search's name."""


def design_text(design: Mapping[str, Any]) -> str:
    """Return a design in a line: the choices of all groups side by side, then the machine's."""
    words: dict[str, list[str]] = {}
    for name, value in design.items():
        what, _, group = name.partition(".")
        grouped = what in ("weight_bits", "act_bits", "ocs")
        words.setdefault(what if grouped and group else name, []).append(str(value))
    return " ".join(f"{name}={'/'.join(values)}" for name, values in words.items())
