"""Accelergy energy and area reference tables (ERT, ART; versions 0.2 to 0.4): import and export as YAML.

An ERT gives pJ per action of a component, an ART um2 of one instance; ranges in a name (`system.PE[0..7].mac`) give the
number of instances. Version 0.2 has mappings where later ones have lists of names; both are read. Input is untrusted:
bounded size, depth and number of entries, plain values only, no merge keys, no key twice. What is dropped is said once
in `PriceTable.warnings`; nothing is printed.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from accelsim.plain_yaml import UniqueKeys

Bits = int | tuple[int, ...] | None
PriceKey = tuple[str, str, Bits]

VERSIONS = ("0.2", "0.3", "0.4")
MAX_BYTES = 4 * 2**20
MAX_DEPTH = 32
MAX_ENTRIES = 100_000

# Energies are per access of the full physical width, `leak` per cycle. A v0.3 table may list one action several times,
# by how many address and data lines toggle; the dearest counts, as Timeloop takes it.
KNOWN_ACTIONS = frozenset(
    ("read", "write", "update", "fill", "leak", "compute", "mac", "mac_random", "mac_reused", "mac_gated", "idle",
     "transfer_random")
)  # fmt: skip
# Names of one thing: a product of 0.4, of 0.3, of tables that we wrote before; a write of 0.4, 0.3, 0.2.
_ALIKE = (("compute", "mac_random", "mac"), ("write", "update", "fill"))
CYCLE = "global_cycle_seconds"

_RANGE = re.compile(r"\[(\d{1,9})\.\.(\d{1,9})\]")


@dataclass(frozen=True)
class PriceTable:
    """What an ERT, an ART or both say.

    Parameters
    ----------
    prices_pj : mapping of (component, action, bits) to float
        Energy per action; bits is None where the table does not say (all tables but our own). Names without ranges.
    areas_um2 : mapping of str to float
        Area of one instance.
    instances : mapping of str to int
        Number of instances by the ranges in the name.
    warnings : tuple of str
        What was dropped and why, each kind once.
    cycle_ns : float or None
        Cycle that `leak` is of, by the actions' argument `global_cycle_seconds`; None where they do not name one.
    """

    prices_pj: Mapping[PriceKey, float] = field(default_factory=lambda: MappingProxyType({}))
    areas_um2: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    instances: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()
    cycle_ns: float | None = None

    def price_pj(self, component: str, action: str, bits: Bits = None) -> float:
        """Return the energy of one action, in pJ; `compute` also finds `mac_random`, and `write` finds `update`.

        Raises
        ------
        ValueError
            If the table has no such entry; the message lists what the component has.
        """
        found = self.find_pj(component, action, bits)
        if found is not None:
            return found
        has = sorted(f"{a}{'' if b is None else f' {b} bits'}" for c, a, b in self.prices_pj if c == component)
        known = ", ".join(has) if has else f"no such component; it has {', '.join(self.components()) or 'none'}"
        raise ValueError(
            f"PriceTable.price_pj: no price for {component}.{action} at bits {bits} in the table ({known})"
        )

    def find_pj(self, component: str, action: str, bits: Bits = None) -> float | None:
        """Return the same, or `None` where the table has no such entry."""
        found = (self.prices_pj.get((component, name, bits)) for name in alike(action))
        return next((price for price in found if price is not None), None)

    def components(self) -> list[str]:
        """Return all component names, sorted."""
        return sorted({component for component, _, _ in self.prices_pj} | set(self.areas_um2))

    def total_area_um2(self) -> float:
        """Return the area of all instances of all components, in um2."""
        return sum(area * self.instances.get(name, 1) for name, area in self.areas_um2.items())


def alike(action: str) -> tuple[str, ...]:
    """Return the names that tables have for an action, itself first."""
    others = next((names for names in _ALIKE if action in names), ())
    return (action, *(name for name in others if name != action))


def load(*paths: Path | str) -> PriceTable:
    """Read ERT and ART files (in one or several) into one table.

    Raises
    ------
    ValueError
        If a file cannot be read, is too large, or is not such a table; names the file.
    """
    return parse(*((str(path), read_text(path)) for path in paths))


def read_text(path: Path | str) -> str:
    """Return a file's text.

    Raises
    ------
    ValueError
        If it cannot be read, is no text, or is too large.
    """
    if not Path(path).is_file():
        raise ValueError(f"accelergy.load: cannot read {path}: there is no such file; give an ERT or ART YAML file")
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError(
                f"accelergy.load: {path} must be at most {MAX_BYTES} bytes; give the ERT and ART files only"
            )
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"accelergy.load: cannot read {path} as text ({error}); give an ERT or ART YAML file"
        ) from error


def parse(*texts: tuple[str, str]) -> PriceTable:
    """Return the table in one or several (name, YAML text) pairs; the names serve error messages.

    Raises
    ------
    ValueError
        If a text is not valid YAML, holds neither ERT nor ART, or an entry breaks the format.
    """
    documents = [(name, plain_document(name, text)) for name, text in texts]
    for name, document in documents:
        if not {"ERT", "ART"} & set(document):
            raise ValueError(f"accelergy.parse: {name} must have a top-level key ERT or ART (has {_keys(document)})")
    return tables_of(documents)


def tables_of(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> PriceTable:
    """Return the table in one or several (name, document of `plain_document`); other keys are left alone.

    Raises
    ------
    ValueError
        If an entry breaks the format.
    """
    reader = _Reader()
    for name, document in documents:
        for key, read in (("ERT", reader.energy), ("ART", reader.area)):
            if key in document:
                read(f"{name}: {key}", document[key])
    return reader.table()


def export_ert(
    prices_pj: Mapping[PriceKey, float], instances: Mapping[str, int] | None = None, version: str = "0.4"
) -> str:
    """Return an ERT as YAML: one table per component, one action per (action, bits), bits as its argument.

    Parameters
    ----------
    prices_pj : mapping of (component, action, bits) to float
        Energies; bits an int, a tuple (operand, operand, sum) or None.
    instances : mapping of str to int, optional
        Where above 1, written as the range [1..n] in the name.
    version : str
        One of `VERSIONS`.
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for (component, action, bits), energy in sorted(prices_pj.items(), key=lambda item: (item[0][:2], str(item[0][2]))):
        _finite(f"export_ert: {component}.{action}", "energy", energy)
        arguments = {} if bits is None else {"bits": list(bits) if isinstance(bits, tuple) else int(bits)}
        tables.setdefault(component, []).append({"name": action, "arguments": arguments, "energy": float(energy)})
    rows = [{"name": _ranged(name, instances), "actions": actions} for name, actions in tables.items()]
    return _dump("ERT", rows, version)


def export_art(areas_um2: Mapping[str, float], instances: Mapping[str, int] | None = None, version: str = "0.4") -> str:
    """Return an ART as YAML: area of one instance per component, the number of instances as the range in its name."""
    for component, area in areas_um2.items():
        _finite(f"export_art: {component}", "area", area)
    rows = [{"name": _ranged(name, instances), "area": float(area)} for name, area in sorted(areas_um2.items())]
    return _dump("ART", rows, version)


def _dump(key: str, rows: list[dict[str, Any]], version: str) -> str:
    if version not in VERSIONS:
        raise ValueError(f"accelergy export: version must be one of {', '.join(VERSIONS)} (got {version!r})")
    return yaml.safe_dump({key: {"version": version, "tables": rows}}, sort_keys=False)


def _ranged(name: str, instances: Mapping[str, int] | None) -> str:
    count = (instances or {}).get(name, 1)
    return name if count == 1 else f"{name}[1..{count}]"


class _Reader:
    """Collects entries of several documents; lives for one `parse`."""

    def __init__(self) -> None:
        self.prices: dict[PriceKey, float] = {}
        self.areas: dict[str, float] = {}
        self.counts: dict[str, dict[str, int]] = {"actions": {}, "area": {}}
        self.warnings: dict[str, str] = {}
        self.cycles_ns: set[float] = set()
        self.entries = 0

    def table(self) -> PriceTable:
        return PriceTable(
            MappingProxyType(self.prices),
            MappingProxyType(self.areas),
            MappingProxyType(self._instances()),
            tuple(self.warnings.values()),
            min(self.cycles_ns) if len(self.cycles_ns) == 1 else None,
        )

    def _instances(self) -> dict[str, int]:
        """Return the number of instances by component; Accelergy 0.3 leaves ranges out of some names of an ART."""
        found = dict(self.counts["actions"])
        for component, count in self.counts["area"].items():
            other = found.setdefault(component, count)
            if other != count and 1 not in (other, count):
                raise ValueError(
                    f"accelergy.parse: {component} has {other} instances in the ERT and {count} in the ART"
                )
            if other != count:
                self.warnings.setdefault("ranges", f"{component} and the like: one table alone has a range; it counts")
                found[component] = max(other, count)
        return found

    def energy(self, where: str, body: Any) -> None:
        seen: set[str] = set()
        for component, row in self._rows(where, body, "actions"):
            at = f"{where} {component}"
            if component in seen:
                raise ValueError(f"accelergy.parse: {at} is listed twice; give each component one table")
            seen.add(component)
            for action in _entries(at, "actions", row.get("actions")):
                self._action(at, component, action)

    def area(self, where: str, body: Any) -> None:
        for component, row in self._rows(where, body, "area"):
            area = _finite(f"accelergy.parse: {where} {component}", "area", row.get("area"))
            if component in self.areas:
                raise ValueError(f"accelergy.parse: {where} {component} is listed twice; give each component one area")
            leaf = component.rsplit(".", 1)[-1].lower()
            if area == 1.0 and ("dummy" in leaf or leaf.startswith("inter_")):
                # Timeloop writes its implied networks with area 1.0; they are not hardware.
                self.warnings.setdefault("dummy", f"{component} and the like (dummy networks of area 1) dropped")
                continue
            self.areas[component] = area

    def _rows(self, where: str, body: Any, key: str) -> list[tuple[str, dict[str, Any]]]:
        """Return (component, its row); `key` is what rows of version 0.2, which are no lists, hold."""
        body = _mapping(where, body)
        version = str(body.get("version", "0.4"))
        if version not in VERSIONS:
            raise ValueError(
                f"accelergy.parse: {where}: version must be one of {', '.join(VERSIONS)} (got {version!r})"
            )
        rows = []
        counts = self.counts[key]
        for row in _entries(where, "tables", body.get("tables"), key):
            self._count(where)
            row = _mapping(f"{where} tables entry", row)
            component, count = split_name(where, row.get("name"))
            if counts.setdefault(component, count) != count:
                raise ValueError(f"accelergy.parse: {where} {component} has {count} and {counts[component]} instances")
            rows.append((component, row))
        return rows

    def _action(self, at: str, component: str, action: Any) -> None:
        self._count(at)
        action = _mapping(f"{at} actions entry", action)
        name = action.get("name")
        if not isinstance(name, str):
            raise ValueError(f"accelergy.parse: {at}: an action must have a name (got {_shown(name)})")
        energy = _finite(f"accelergy.parse: {at}.{name}", "energy", action.get("energy"))
        arguments = action["arguments"] if isinstance(action.get("arguments"), dict) else {}
        bits = _bits(f"{at}.{name}", arguments.get("bits"))
        if (cycle := arguments.get(CYCLE)) is not None:
            self.cycles_ns.add(1e9 * _finite(f"accelergy.parse: {at}.{name}", CYCLE, cycle))
        if bits is None and name not in KNOWN_ACTIONS:
            self.warnings.setdefault(f"action {name}", f"action {name!r} (first at {component}) is not known; ignored")
            return
        key = (component, name, bits)
        self.prices[key] = max(energy, self.prices.get(key, 0.0))

    def _count(self, where: str) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise ValueError(f"accelergy.parse: {where}: more than {MAX_ENTRIES} entries; give one design's tables")


class _Loader(UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader, in C where there is one."""


def plain_document(name: str, text: str) -> dict[str, Any]:
    """Return the top-level mapping of a YAML text, after a pass over its events that bounds size, depth and merge keys.

    Raises
    ------
    ValueError
        Naming the text by `name`, in one line.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"accelergy.parse: {name} must be at most {MAX_BYTES} characters (has {len(text)})")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels; no such table is")
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<":
                raise ValueError("uses a YAML merge key (<<); write the entries out")
        document = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        message = " ".join(str(error).split())[:400]
        raise ValueError(f"accelergy.parse: {name} is not valid YAML ({message})") from None
    return _mapping(name, document)


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"accelergy.parse: {where} must be a mapping (got {type(value).__name__})")
    return value


def _entries(where: str, key: str, value: Any, inner: str | None = None) -> Iterator[Any]:
    """Yield the entries of a list, or of a mapping by name as version 0.2 has them: rows, or actions of a row."""
    if isinstance(value, dict):
        for name, body in value.items():
            if inner is not None:
                yield {"name": name, inner: body}
            else:
                for one in body if isinstance(body, list) else [body]:
                    yield {**_mapping(f"{where} {_shown(name)}", one), "name": name}
        return
    if not isinstance(value, list):
        raise ValueError(f"accelergy.parse: {where} must have a list `{key}` (got {type(value).__name__})")
    yield from value


def _shown(value: Any) -> str:
    """Return a value for an error; what holds others by its type alone, for it may refer to itself without end."""
    return type(value).__name__ if isinstance(value, list | dict | tuple | set) else repr(value)[:40]


def _keys(document: dict[str, Any]) -> str:
    return ", ".join(str(key)[:40] for key in list(document)[:5]) or "nothing"


def _finite(where: str, what: str, value: Any) -> float:
    """Return a finite figure >= 0; YAML 1.1 reads 1e-3 as text, so numeric text counts."""
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{where}: {what} must be a finite number >= 0 (got {_shown(value)})")
    return number


def _bits(where: str, value: Any) -> Bits:
    if value is None:
        return None
    widths = value if isinstance(value, list) else [value]
    if not widths or not all(isinstance(w, int) and not isinstance(w, bool) and w > 0 for w in widths):
        raise ValueError(f"accelergy.parse: {where}: argument bits must be positive integers (got {_shown(value)})")
    return tuple(widths) if isinstance(value, list) else widths[0]


def split_name(where: str, name: Any) -> tuple[str, int]:
    """Return the name without ranges and the number of instances which the ranges mean."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"accelergy.parse: {where}: a table must have a name (got {_shown(name)})")
    count = 1
    for first, last in _RANGE.findall(name):
        if int(last) < int(first):
            raise ValueError(f"accelergy.parse: {where} {name}: range [{first}..{last}] is empty; write [first..last]")
        count *= int(last) - int(first) + 1
    return _RANGE.sub("", name), count
