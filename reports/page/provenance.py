"""Where a page's figures come from: stores, versions, networks, data, prices."""

import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from accelsim.technology import TECHNOLOGIES
from reports.page.designs import Design, Loaded, Network
from reports.page.machines import machine_of
from reports.prices import Prices
from reports.units import grouped

_LABEL = re.compile(r"(?P<name>.+?)(?: (?P<node>[\d.]+) nm)?(?: by (?P<scaling>\w+))?")


def facts(loaded: Loaded) -> list[tuple[str, str]]:
    """Return what identifies the whole sweep."""
    done = [design for network in loaded.networks for design in network.designs]
    exact = Counter(design.figures["bit_exact"] for design in done)
    images = sorted({design.figures["bit_exact_images"] for design in done if design.figures["bit_exact"]})
    refused = sum(len(network.refused) for network in loaded.networks)
    proved = f"{grouped(exact[True])} points equal to the torch oracle" if exact[True] else "no point checked"
    return [
        ("Stores", ", ".join(loaded.stores)),
        ("Points", f"{grouped(len(done))} measured, {grouped(refused)} refused"),
        ("Bit-exactness", proved + (f", {grouped(exact[False])} NOT equal" if exact[False] else "")
            + (f" (on {', '.join(map(str, images))} samples each)" if exact[True] else "")),
        ("Page written by", f"accelsim {_version('accelsim')}, numpy {_version('numpy')}, torch {_version('torch')}, "
            f"Python {platform.python_version()}"),
    ]  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of an unknown version"


def network_facts(network: Network) -> list[tuple[str, str]]:
    """Return what identifies a network with its samples."""
    stored = network.facts
    programs = {design.figures["program_digest"] for design in network.designs if network.executed}
    executed = (
        [
            ("Description", stored["description"]),
            ("Weights and data", stored["origin"]),
            (
                "Samples",
                f"{grouped(stored['images'])} evaluated, {grouped(stored['calibration_images'])} others calibrated "
                f"on, seed {stored['seed']}",
            ),
            (
                "Numerics",
                f"version {stored['numerics_version']}, "
                f"{'quantized here' if stored['float'] else 'came quantized'}, {len(programs)} Programs",
            ),
        ]
        if network.executed
        else [("Executed", "no: priced from shapes and widths alone, without accuracy")]
    )
    return [
        ("Network", network.name),
        *executed,
        ("Digest", network.digest),
        ("Factors", "; ".join(f"{name}: {_values(network, name)}" for name in network.varying) or "none vary"),
    ]  # fmt: skip


def _values(network: Network, name: str) -> str:
    rows = [design.row for design in network.designs] + list(network.refused)
    values = dict.fromkeys("–" if row.factors.get(name) is None else str(row.factors[name]) for row in rows)
    shown = list(values)[:12]
    return ", ".join(shown) + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def price_sources(networks: Sequence[Network], own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of every price table that was used, equal ones once; those of users' own tables are kept."""
    seen: dict[tuple[str, float], Design] = {}
    for network in networks:
        for design in network.designs:
            seen.setdefault((design.setting.technology, design.setting.node_nm), design)
    groups: list[dict[str, Any]] = []
    for (name, node), design in sorted(seen.items(), key=lambda item: item[0]):
        title = f"{name}, {node:g} nm"
        rows = list(own.get(name) or _sources(design))
        same = next((group for group in groups if group["rows"] == rows), None)
        if same:
            same["name"] += f"; {title}"
        else:
            groups.append({"name": title, "rows": rows})
    return groups


def _sources(design: Design) -> list[dict[str, Any]]:
    found = _LABEL.fullmatch(design.setting.technology)
    if found is None or found["name"] not in TECHNOLOGIES:
        return [{"status": "A", "what": "a user's own tables, of which the store does not say more", "citation": "–"}]
    node = found["node"]
    scaling: Any = found["scaling"]
    prices = Prices(name=found["name"], node_nm=float(node) if node else None, scaling=scaling)
    sources = prices.at(machine_of(design)).sources
    return [{"status": one.status, "what": one.what, "citation": one.citation} for one in sources]
