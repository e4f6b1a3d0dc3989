"""A user's own price tables as a technology: a file, or the folder that Accelergy wrote.

A folder holds an ERT, an ART if there is one, and the flattened architecture, which says the widths. A file says
the rest itself:

    name: mine
    base: google                      # whose shape in the widths; levels are the tables'
    node_nm: 45                       # of the tables
    tables: [ERT.yaml, ART.yaml]      # beside this file; or ERT: and ART: in this one
    roles:
      mac: {component: chip.PE.mac, bits: [8, 8, 24]}          # weight, activation, partial sum
      sram: {component: chip.buffer, bits: 64, capacity_bytes: 65536, banks: 2}    # a word, and one bank
      dram: {component: chip.dram, bits: 64}

What is read is kept as a small value with a digest of all contents, so that it means the same wherever it goes.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelsim.technology.accelergy import PriceKey, PriceTable, plain_document, read_text, split_name, tables_of
from accelsim.technology.architecture import Part, node_of, parts_of, roles_of
from accelsim.technology.base import Technology
from accelsim.technology.imported import from_tables
from accelsim.technology.imported_sources import listed, without_role
from accelsim.technology.registry import NODE_RANGES_NM, TECHNOLOGIES, technology
from accelsim.technology.role import ROLES, WIDTHS, Role, widths_in_words
from accelsim.technology.source import Source

DIGITS = 8
"""Hexadecimal digits of the contents' digest in a technology's name."""

OURS = ("name", "base", "node_nm", "tables", "roles", "fill")
THEIRS = ("ERT", "ART", "architecture", "ERT_summary", "ART_summary")
NEEDED = ("mac", "sram", "dram")
ROLE_FIELDS = ("component", "bits", "capacity_bytes", "banks")

MAX_FILES = 16

_IN_FOLDER = re.compile(r"(?:.*[._-])?(ERT|ART|flattened_architecture)\.ya?ml")
_EXAMPLE = "roles: {mac: {component: NAME, bits: [8, 8, 24]}, sram: {component: NAME, bits: 64, capacity_bytes: 65536}}"


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Price tables with what a technology needs of them.

    Parameters
    ----------
    origin
        What was read, for errors and sources.
    name
        With the first digits of the digest.
    digest
        SHA-256 of all contents that were read.
    base
        Technology that gives the shape in the widths.
    node_nm
        Of the tables; ``None`` where they do not say.
    roles, prices, areas_um2
        Components by role, and their entries of the tables.
    remarks
        What was dropped from the tables.
    fill
        Whether roles that are missing keep the base's prices.
    cycle_ns
        Cycle that the tables' leakage is of; ``None`` where they do not name one.
    """

    origin: str = field(compare=False)
    name: str
    digest: str = field(repr=False)
    base: str
    node_nm: float | None
    roles: tuple[tuple[str, Role], ...]
    prices: tuple[tuple[PriceKey, float], ...] = field(repr=False)
    areas_um2: tuple[tuple[str, float], ...] = field(repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)
    fill: bool = False
    cycle_ns: float | None = None

    @property
    def nodes_nm(self) -> tuple[float, float]:
        """Nodes (smallest, largest) that it has prices for."""
        return NODE_RANGES_NM[self.base] if self.node_nm is None else (self.node_nm, self.node_nm)

    def at(self, node_nm: float) -> Technology:
        """Return the technology at a node, with the base at the nearest that it has.

        Raises
        ------
        ValueError
            If the tables are of another node, or the roles do not fit the tables.
        """
        if self.node_nm is not None and node_nm != self.node_nm:
            raise ValueError(f"{self.origin} has prices for {self.node_nm:g} nm only (got {node_nm:g}); scale them")
        table = PriceTable(dict(self.prices), dict(self.areas_um2), cycle_ns=self.cycle_ns)
        low, high = NODE_RANGES_NM[self.base]
        nearest = min(max(node_nm, low), high)
        try:
            made = from_tables(table, technology(self.base, nearest), dict(self.roles), self.name, self.fill)
        except ValueError as error:
            raise ValueError(f"{self.origin}: {error}") from None
        own, *others = made.sources
        moved = f"{self.base} has no {node_nm:g} nm, so it is taken at the nearest that it has, {nearest:g} nm"
        what = "; ".join((own.what, *([moved] if nearest != node_nm else []), *self.remarks))
        source = Source(f"{own.citation} of {self.name} (sha256 {self.digest[:16]})", what, own.status)
        return replace(made, node_nm=node_nm, sources=(source, *others))


def read_tables(path: Path) -> TableFile:
    """Read a file or folder; see the module's text.

    Raises
    ------
    ValueError
        In one line: the file, the component or action, the rule, and what to do.
    """
    where = f"technology {path}"
    files = _files(where, path)
    texts = [(file.name, read_text(file)) for file in files]
    documents = [(name, plain_document(f"{where}: {name}", text)) for name, text in texts]
    ours = {} if path.is_dir() else _ours(where, documents[0][1])
    for other in ours.get("tables", []):
        file = path.parent / other
        texts.append((other, read_text(file)))
        documents.append((other, plain_document(f"{where}: {other}", texts[-1][1])))
    for name, document in documents:
        if unknown := sorted(set(map(str, document)) - {*THEIRS, *(OURS if name == path.name else ())}):
            raise ValueError(f"{where}: {name}: unknown key {unknown[0][:40]!r}; known are {', '.join(OURS + THEIRS)}")
    table = tables_of((f"{where}: {name}", document) for name, document in documents)
    parts = [
        part
        for name, document in documents
        if "architecture" in document
        for part in parts_of(f"{where}: {name}", document["architecture"])
    ]
    digest = hashlib.sha256("\0".join(text for _, text in texts).encode()).hexdigest()
    return _checked(_table_file(where, path, ours, table, parts, digest))


def _table_file(
    where: str, path: Path, ours: Mapping[str, Any], table: PriceTable, parts: list[Part], digest: str
) -> TableFile:
    roles = (roles_of(where, parts, table) if parts else {}) | {
        name: _role(where, name, given) for name, given in ours.get("roles", {}).items()
    }
    _check_roles(where, roles, table, bool(ours.get("fill")), bool(parts))
    mine = {role.component for role in roles.values()}
    stem = str(ours.get("name") or (path.resolve().name if path.is_dir() else path.stem))
    node = ours.get("node_nm", node_of(parts, roles["mac"].component) if "mac" in roles else None)
    return TableFile(
        origin=where,
        name=f"{re.sub(r'[^A-Za-z0-9_.+-]+', '-', stem)[:60]}@{digest[:DIGITS]}",
        digest=digest,
        base=ours.get("base", "google"),
        node_nm=None if node is None else float(node),
        roles=tuple(sorted(roles.items())),
        prices=tuple((key, price) for key, price in table.prices_pj.items() if key[0] in mine),
        areas_um2=tuple((name, area) for name, area in table.areas_um2.items() if name in mine),
        remarks=(*without_role(table, roles.values()), *table.warnings),
        fill=bool(ours.get("fill")),
        cycle_ns=table.cycle_ns,
    )


def _checked(file: TableFile) -> TableFile:
    """Return the file, made a technology once, so that what is wrong with it is said when it is read."""
    file.at(file.nodes_nm[1])
    return file


# --- what is there ---------------------------------------------------------------------------------------------------


def _files(where: str, path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        match = _IN_FOLDER.fullmatch(file.name)
        if match is None or not file.is_file():
            continue
        if match[1] in found:
            raise ValueError(
                f"{where}: the folder must hold one {match[1]} (has {found[match[1]].name} and {file.name}); write a "
                "file with tables: and roles:"
            )
        found[match[1]] = file
    if "ERT" not in found:
        raise ValueError(f"{where}: the folder must hold Accelergy's ERT.yaml; run accelergy, or give a file")
    return list(found.values())


def _ours(where: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file says beside the tables."""
    ours = {key: document[key] for key in OURS if key in document}
    tables, roles, node = ours.get("tables", []), ours.get("roles", {}), ours.get("node_nm", 45)
    if not isinstance(tables, list) or len(tables) > MAX_FILES or not all(isinstance(name, str) for name in tables):
        raise ValueError(
            f"{where}: tables must be a list of at most {MAX_FILES} file names; write [ERT.yaml, ART.yaml]"
        )
    if not isinstance(roles, dict) or not set(roles) <= set(ROLES):
        raise ValueError(f"{where}: roles must be a mapping of {', '.join(ROLES)}; write {_EXAMPLE}")
    if not isinstance(node, int | float) or isinstance(node, bool) or not 0 < node < 1000:
        raise ValueError(f"{where}: node_nm must be a number of nanometres (got {_shown(node)}); write node_nm: 45")
    if ours.get("base", "google") not in list(TECHNOLOGIES):
        raise ValueError(f"{where}: base must be one of {', '.join(TECHNOLOGIES)} (got {_shown(ours['base'])})")
    for key, kind in (("name", str), ("fill", bool)):
        if not isinstance(ours.get(key, kind()), kind):
            raise ValueError(f"{where}: {key} must be a {kind.__name__} (got {_shown(ours[key])}); write it so")
    return ours


def _role(where: str, name: str, given: Any) -> Role:
    if not isinstance(given, dict) or not isinstance(given.get("component"), str) or "bits" not in given:
        raise ValueError(f"{where}: role {name} must have component and bits; write {_EXAMPLE}")
    if unknown := sorted(set(map(str, given)) - set(ROLE_FIELDS)):
        raise ValueError(f"{where}: role {name}: unknown key {unknown[0][:40]!r}; known are {', '.join(ROLE_FIELDS)}")
    bits = given["bits"] if isinstance(given["bits"], list) else [given["bits"]]
    for key, values in (("bits", bits), ("capacity_bytes", [given.get("capacity_bytes", 1)]),
                        ("banks", [given.get("banks", 1)])):  # fmt: skip
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 2**40 for v in values):
            raise ValueError(
                f"{where}: role {name}: {key} must be whole numbers > 0 (got {_shown(given[key])}); write {_EXAMPLE}"
            )
    if len(bits) != len(WIDTHS[name]):
        raise ValueError(
            f"{where}: role {name}: bits must be {widths_in_words(name)} (got {bits[:8]}); write {_EXAMPLE}"
        )
    component, _ = split_name(f"{where}: role {name}", given["component"])
    return Role(component, tuple(bits), float(given.get("capacity_bytes", 0)), given.get("banks", 1))


def _check_roles(where: str, roles: Mapping[str, Role], table: PriceTable, fill: bool, described: bool) -> None:
    components = table.components()
    missing = [name for name in NEEDED if name not in roles]
    if missing and not fill:
        why = (
            "the architecture has not exactly one component of a kind"
            if described
            else "tables do not say widths: give the folder with Accelergy's flattened_architecture.yaml"
        )
        raise ValueError(
            f"{where}: roles must say which component is {_words(missing)} and how wide ({why}, or write {_EXAMPLE}; "
            f"components: {listed(components) or 'none'})"
        )
    for name, role in roles.items():
        if role.component not in components:
            raise ValueError(
                f"{where}: role {name}: component {role.component[:60]!r} is not in the tables; they have "
                f"{listed(components) or 'none'}"
            )


def _words(names: Sequence[str]) -> str:
    return " and ".join(names)


def _shown(value: Any) -> str:
    return type(value).__name__ if isinstance(value, list | dict) else repr(value)[:40]
