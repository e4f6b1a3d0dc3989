"""The designs of a sweep as reports look at them: rows of a store with names, settings and widths worked out."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.page.recipes import is_layered, recipe_words
from reports.search.record import SEARCH
from reports.summary import metric_name
from reports.sweep.own_prices import PRICES
from reports.sweep.store import DONE, Row, Store

PRICED_BY = ("technology", "timing")
"""Factors that say how a design is looked at, not what it is."""

FIELD_WORDS = {
    "accumulator.bits": "acc",
    "accumulator.psum_bits": "psum",
    "pe.weight_bits": "PE weight",
    "pe.act_bits": "PE act",
    "clock_mhz": "MHz",
}
"""Short words for fields of an accelerator in names of designs."""


@dataclass(frozen=True, order=True)
class Setting:
    """How a design is looked at: only figures of one setting are compared point by point.

    Parameters
    ----------
    technology
        What the study calls it.
    node_nm
        Of the prices.
    timing_mode
        Of the array.
    batch
        Samples.
    """

    technology: str
    node_nm: float
    timing_mode: str
    batch: int

    @property
    def name(self) -> str:
        """Words for it."""
        node = "" if "nm" in self.technology else f" {self.node_nm:g} nm"
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.technology}{node}, {self.timing_mode}{batch}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """One point that was measured.

    Parameters
    ----------
    row
        Of the store.
    setting
        Prices, timing, batch.
    label
        Recipe and machine, without what all designs of the network share.
    machine
        The machine's part of it.
    bits
        Widths (weight, activation) of most of its products.
    identity
        What is the same design under other prices and timing.
    """

    row: Row
    setting: Setting
    label: str
    machine: str
    bits: tuple[int, int]
    identity: str

    @property
    def figures(self) -> Mapping[str, Any]:
        """All numbers of the point."""
        return self.row.figures

    @property
    def factors(self) -> Mapping[str, Any]:
        """The study's words for it."""
        return self.row.factors

    @property
    def accuracy(self) -> float:
        """The metric's figure; 0 where the network was priced alone."""
        return float(self.row.figures["accuracy"] or 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network of a sweep with all its designs.

    Parameters
    ----------
    digest, name
        Its digest, and its name in the store.
    facts
        As stored.
    designs, refused
        What was measured, and what could not be.
    varying
        Factors that differ between its points.
    tallies
        Of the metric per sample, by accuracy key.
    """

    digest: str
    name: str
    facts: Mapping[str, Any]
    designs: tuple[Design, ...]
    refused: tuple[Row, ...]
    varying: tuple[str, ...]
    tallies: Mapping[str, NDArray[np.float64]]

    @property
    def executed(self) -> bool:
        """Whether the network was executed; else it was priced alone, and has no accuracy."""
        return bool(self.facts["executed"])

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return bool(self.facts.get("higher_is_better", True))

    @property
    def metric(self) -> str:
        """The metric's key; empty where the network was priced alone."""
        return str(self.facts["metric"] or "")

    @property
    def metric_words(self) -> str:
        """The metric in words, with its direction where less is better."""
        if not self.executed:
            return "no accuracy"
        return metric_name(self.metric) + ("" if self.higher_is_better else " (less is better)")

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Settings, the one with the most designs first."""
        counted = Counter(design.setting for design in self.designs)
        return tuple(sorted(counted, key=lambda one: (-counted[one], one.timing_mode != "overlapped", one)))

    def at(self, setting: Setting) -> tuple[Design, ...]:
        """Return the designs of one setting."""
        return tuple(design for design in self.designs if design.setting == setting)


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What stores hold: networks by name, files, points, records of searches, sources of prices that users brought."""

    networks: tuple[Network, ...]
    stores: tuple[str, ...]
    points: int
    searches: tuple[Mapping[str, Any], ...] = ()
    own_sources: Mapping[str, Any] = field(default_factory=dict)


def load(paths: Sequence[Path]) -> Loaded:
    """Read stores, each point once.

    Raises
    ------
    ValueError
        If a file is no store, is empty, or was made before figures held what is needed here.
    """
    rows: dict[str, Row] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    tallies: dict[str, NDArray[np.float64]] = {}
    searches: dict[str, Mapping[str, Any]] = {}
    own: dict[str, Any] = {}
    for path in paths:
        with Store(path) as store:
            searches |= store.records(SEARCH)
            own |= {name: record["sources"] for name, record in store.records(PRICES).items()}
            rows |= {row.digest: row for row in store.rows(layers=True)}
            facts |= {digest: found.facts for digest, found in store.networks().items()}
            tallies |= {key: found.tallies for key, found in store.accuracies(tallies=True).items()}
    names = ", ".join(map(str, paths))
    if not rows:
        raise ValueError(f"store {names} has no points; `accelsim sweep STUDY.yaml --store {paths[0]}` measures some")
    if any(row.status == DONE and "accelerator_description" not in row.figures for row in rows.values()):
        raise ValueError(f"store {names} has points without a description of their machine; sweep into a new file")
    grouped: dict[str, list[Row]] = {}
    for row in rows.values():
        grouped.setdefault(row.network, []).append(row)
    found = [_network(digest, facts[digest], mine, tallies) for digest, mine in grouped.items()]
    return Loaded(
        networks=tuple(sorted(found, key=lambda network: network.name)),
        stores=tuple(path.name for path in paths),
        points=len(rows),
        searches=tuple(searches.values()),
        own_sources=own,
    )


def _network(
    digest: str, facts: Mapping[str, Any], rows: Sequence[Row], tallies: Mapping[str, NDArray[np.float64]]
) -> Network:
    varying = varying_factors([row.factors for row in rows])
    done = [row for row in rows if row.status == DONE]
    seen = {row.accuracy_key for row in done}
    designs = sorted((_design(row, varying) for row in done), key=lambda one: (one.setting, one.label, one.row.digest))
    return Network(
        digest=digest,
        name=str(facts["network"]),
        facts=facts,
        designs=tuple(designs),
        refused=tuple(row for row in rows if row.status != DONE),
        varying=varying,
        tallies={key: value for key, value in tallies.items() if key in seen},
    )


def varying_factors(given: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the factors that are not the same everywhere, in the order of the study."""
    names = dict.fromkeys(name for factors in given for name in factors)
    return tuple(name for name in names if len({_plain(factors.get(name)) for factors in given}) > 1)


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _design(row: Row, varying: Collection[str]) -> Design:
    machine = machine_words(row, varying)
    recipe = recipe_words(row)
    kept = {name: value for name, value in row.factors.items() if name not in PRICED_BY}
    return Design(
        row=row,
        setting=Setting(
            str(row.factors.get("technology", row.figures["technology"])),
            float(row.figures["node_nm"]),
            str(row.figures["timing_mode"]),
            int(row.figures["batch"]),
        ),
        label=" · ".join(part for part in (recipe, machine) if part),
        machine=machine,
        bits=dominant_bits(row.layers),
        identity=_plain(kept),
    )


def machine_words(row: Row, varying: Collection[str]) -> str:
    """Return what tells a machine from the others of its network."""
    figures, factors = row.figures, row.factors
    words: list[str] = []
    sized = [name for name in varying if name in ("array.rows", "array.cols", "equal_area_bits")]
    if "accelerator" in varying:
        words.append(str(factors.get("accelerator")))
    if "array.dataflow" in varying:
        words.append(str(figures["dataflow"]))
    if sized:
        words.append(f"{figures['rows']}×{figures['cols']}")
    if "pe.type" in varying:
        words.append(str(figures["pe"]))
    special = {"accelerator", "array.dataflow", "array.rows", "array.cols", "pe.type"}
    for name in varying:
        if name not in special and "." in name and not is_layered(name) and factors.get(name) is not None:
            words.append(f"{FIELD_WORDS.get(name, name.rsplit('.', 1)[-1].replace('_', ' '))} {factors[name]}")
        elif name == "equal_area_bits" and factors.get(name) is not None:
            words.append(f"area of {factors[name]}-bit PEs")
    return " ".join(words)


def dominant_bits(layers: Mapping[str, Sequence[Any]]) -> tuple[int, int]:
    """Return the (weight, activation) widths of most products of a network."""
    counted: Counter[tuple[int, int]] = Counter()
    for weight, act, macs in zip(layers["weight_bits"], layers["act_bits"], layers["macs"], strict=True):
        if macs:
            counted[weight, act] += macs
    return counted.most_common(1)[0][0] if counted else (8, 8)
