"""What an imported technology says of itself: what the tables gave, what stays the base's, what was not used."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from accelsim.technology.accelergy import CYCLE, PriceTable, alike
from accelsim.technology.base import Technology
from accelsim.technology.role import Role
from accelsim.technology.source import Source

SHOWN = 12
"""Names that a line lists."""

# How the levels that a table can give are called.
LEVELS = {
    "mac": "mac",
    "mac area": "area of PEs",
    "mac leakage": "leakage of PEs",
    "register": "register",
    "sram": "sram",
    "sram area": "area of SRAM",
    "sram leakage": "leakage of SRAM",
    "dram": "dram",
}

# Actions that are priced, by role. Of the register's and the DRAM's leakage the model has no place.
_USED = {"mac": ("compute", "leak"), "register": ("write",), "sram": ("read", "write", "leak"), "dram": ("read",)}


def leak_mw(table: PriceTable, role: Role | None) -> float:
    """Return the leakage power of a role's component; 0 where the table does not tell it."""
    if role is None or not table.cycle_ns:
        return 0.0
    return (table.find_pj(role.component, "leak") or 0.0) / table.cycle_ns


def given_levels(table: PriceTable, roles: Mapping[str, Role]) -> frozenset[str]:
    """Return which levels the tables give: roles, and "mac area", "mac leakage", "sram area", "sram leakage"."""
    areas = {f"{name} area" for name in ("mac", "sram") if name in roles and _area(table, roles[name]) > 0}
    leaks = {f"{name} leakage" for name in ("mac", "sram") if leak_mw(table, roles.get(name)) > 0}
    return frozenset(roles) | areas | leaks


def imported_sources(table: PriceTable, base: Technology, roles: Mapping[str, Role]) -> tuple[Source, ...]:
    """Return the sources of `base` with the tables' levels: what those replace is not listed as if it counted."""
    given = given_levels(table, roles)
    kept = [words for level, words in LEVELS.items() if level not in given | {"register" if "mac" in given else ""}]
    at = f"{base.name} at {base.node_nm:g} nm"
    levels = ", ".join(words for level, words in LEVELS.items() if level in given)
    parts = [f"levels of {levels}; shape in the widths of {at}"]
    if "mac" in given:
        parts.append(f"adders, multipliers{' and registers' * ('register' not in given)} follow the MAC's level")
    if kept:
        parts.append(f"not in the tables, so of {at}: {', '.join(kept)}")
    parts += [*_leaks(table, base, roles), *_actions(table, roles), *without_role(table, roles.values())]
    own = Source("imported ERT/ART", "; ".join(parts), "D")
    return (own, *(left for source in base.sources if (left := _what_is_left(source, given)) is not None))


def without_role(table: PriceTable, roles: Collection[Role]) -> list[str]:
    """Return a line on the components that have no role, if there are any."""
    mine = {role.component for role in roles}
    others = [name for name in table.components() if name not in mine]
    return [f"without a role, so not used: {listed(others)}"] if others else []


def listed(names: Sequence[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _leaks(table: PriceTable, base: Technology, roles: Mapping[str, Role]) -> list[str]:
    """Return why the leakage of components with a role is not used, where it is not."""
    found: dict[str, list[str]] = {}
    for name, role in roles.items():
        energy = table.find_pj(role.component, "leak")
        if energy is None or (name not in ("mac", "sram") and energy == 0):
            continue
        if name not in ("mac", "sram"):
            found.setdefault("only PEs and SRAM have leakage of their own", []).append(role.component)
        elif energy == 0:
            found.setdefault(f"it is 0; leakage stays {base.name}'s", []).append(role.component)
        elif not table.cycle_ns:
            why = f"the tables name no one {CYCLE} that it is of; leakage stays {base.name}'s"
            found.setdefault(why, []).append(role.component)
    return [f"leak of {listed(sorted(names))}: not used, {why}" for why, names in found.items()]


def _actions(table: PriceTable, roles: Mapping[str, Role]) -> list[str]:
    """Return a line on the other actions of components with a role which no price is made of."""
    used: dict[str, set[str]] = {}
    for name, role in roles.items():
        used.setdefault(role.component, {"leak"}).update(other for one in _USED[name] for other in alike(one))
    others = {f"{component}.{action}" for component, action, _ in table.prices_pj
              if component in used and action not in used[component]}  # fmt: skip
    return [f"actions not used: {listed(sorted(others))}"] if others else []


def _area(table: PriceTable, role: Role) -> float:
    return table.areas_um2.get(role.component, 0.0)


def _what_is_left(source: Source, given: frozenset[str]) -> Source | None:
    """Return a source of the base with what it still sets, or `None` where the tables' levels replace all of that."""
    if source.level not in given:
        return source
    if source.level == "mac":
        also = "" if "mac leakage" in given else ", and the leakage of PEs"
        left = f"not in the MAC's price, which is the tables'; sets what other logic costs beside a MAC{also}"
    elif source.level == "mac area":
        left = "not in a PE's area, which is the tables'; sets the area of other logic beside a PE"
    elif source.level == "mac leakage":
        left = "only the shape in the widths, the level is the tables'"
    else:
        return None
    return replace(source, what=f"{left}: {source.what}")
