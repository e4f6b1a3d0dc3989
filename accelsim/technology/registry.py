"""The technologies by name. A new one is a file with a factory, and its line here."""

from collections.abc import Callable

from accelsim.technology.base import Technology
from accelsim.technology.bitfusion45 import bitfusion45
from accelsim.technology.google import google
from accelsim.technology.nangate45 import nangate45


def technology(name: str, node_nm: float) -> Technology:
    """Return the technology called `name` at a node.

    Raises
    ------
    ValueError
        For an unknown name, or a node outside the technology's range.
    """
    factory = TECHNOLOGIES.get(name)
    if factory is None:
        raise ValueError(f"technology: unknown name {name!r}; choose one of {', '.join(TECHNOLOGIES)}")
    return factory(node_nm)


TECHNOLOGIES: dict[str, Callable[[float], Technology]] = {
    "google": google,
    "bitfusion45": bitfusion45,
    "nangate45": nangate45,
}

# Nodes (smallest, largest) that each factory accepts.
NODE_RANGES_NM: dict[str, tuple[float, float]] = {
    "google": (7.0, 45.0),
    "bitfusion45": (45.0, 45.0),
    "nangate45": (45.0, 45.0),
}
