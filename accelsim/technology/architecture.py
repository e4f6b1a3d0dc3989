"""What Accelergy's flattened architecture says of its components: which is MAC, SRAM and DRAM, and how wide.

Accelergy writes `flattened_architecture.yaml` beside its ERT and ART (versions 0.3 and 0.4; attributes as in
`timeloop-accelergy-exercises`): a list `architecture.local` of name, class and attributes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelsim.technology.accelergy import PriceTable, split_name
from accelsim.technology.role import Role

_NODE = re.compile(r"(\d{1,3}(?:\.\d+)?) ?nm")


@dataclass(frozen=True)
class Part:
    """A component of an architecture: its name without ranges, its classes in lower case, its attributes."""

    name: str
    kind: str
    attributes: Mapping[str, Any]


def parts_of(where: str, body: Any) -> list[Part]:
    """Return the components of a flattened architecture.

    Raises
    ------
    ValueError
        If `body` is no such thing; names it by `where`.
    """
    local = body.get("local") if isinstance(body, dict) else None
    if not isinstance(local, list):
        raise ValueError(
            f"{where}: architecture must have a list `local`; give Accelergy's flattened_architecture.yaml"
        )
    found = []
    for entry in local:
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: architecture.local must hold mappings (got {type(entry).__name__})")
        name, _ = split_name(f"{where}: architecture", entry.get("name"))
        attributes = entry.get("attributes")
        kinds = [entry[key] for key in ("class", "subclass") if isinstance(entry.get(key), str)]
        found.append(Part(name, " ".join(kinds).lower(), attributes if isinstance(attributes, dict) else {}))
    return found


def roles_of(where: str, parts: list[Part], table: PriceTable) -> dict[str, Role]:
    """Return the roles that an architecture leaves no doubt about.

    The MAC is the one component with an action `compute` (`mac_random` in 0.3), the DRAM the one of class DRAM, the
    SRAM the largest of the classes with SRAM in their name. Registers follow the MAC's level.

    Raises
    ------
    ValueError
        If a role's component lacks the attributes that say its widths.
    """
    macs = [part for part in parts if table.find_pj(part.name, "compute") is not None and "fp" not in part.kind]
    drams = [part for part in parts if "dram" in part.kind]
    srams = [part for part in parts if "sram" in part.kind]
    found: dict[str, Role] = {}
    if len(macs) == 1:
        mac = macs[0]
        operand = _whole(where, mac, "multiplier_width", "datawidth")
        found["mac"] = Role(mac.name, (operand, operand, _whole(where, mac, "adder_width", "datawidth")))
    if len(drams) == 1:
        found["dram"] = Role(drams[0].name, (_whole(where, drams[0], "width"),))
    if srams:
        sram = max(srams, key=lambda part: _bits(where, part))
        banks = _whole(where, sram, "n_banks") if "n_banks" in sram.attributes else 1
        word = _whole(where, sram, "width", "memory_width")
        found["sram"] = Role(sram.name, (word,), _bits(where, sram) / 8 / banks, banks)
    return found


def node_of(parts: list[Part], component: str) -> float | None:
    """Return the node that a component's attribute `technology` names in nm; `None` where it does not."""
    named = next((part.attributes.get("technology") for part in parts if part.name == component), None)
    match = _NODE.fullmatch(named) if isinstance(named, str) else None
    return float(match[1]) if match else None


def _bits(where: str, part: Part) -> int:
    return _whole(where, part, "width", "memory_width") * _whole(where, part, "depth", "memory_depth")


def _whole(where: str, part: Part, *names: str) -> int:
    value = next((part.attributes[name] for name in names if name in part.attributes), None)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**40:
        shown = type(value).__name__ if isinstance(value, list | dict) else repr(value)[:40]
        raise ValueError(
            f"{where}: {part.name}: attribute {' or '.join(names)} must be a whole number > 0 (got {shown}); write it "
            "there, or say roles in a file"
        )
    return value
