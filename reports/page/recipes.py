"""What a report calls a recipe: widths by layer and planned splits by what they came to."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reports.sweep.store import Row
from reports.units import significant

_WIDTHS = re.compile(r"W(\d+(?:-\d+)?)A(\d+(?:-\d+)?)")
_PLANNED = re.compile(r"OCS (?:plan|\d+ channels)")


LAYERED = ("weight_bits", "act_bits", "ocs")
"""Factors of a search that are chosen by groups of layers: ``weight_bits.front``."""


def is_layered(factor: str) -> bool:
    """Return whether a factor is a search's choice for a group of layers; else one with a dot is a machine's field."""
    what, dot, _ = factor.partition(".")
    return bool(dot) and what in LAYERED


def recipe_words(row: Row) -> str:
    """Return the recipe's label; of mixed widths their range with the weights' mean, of a plan what asked for it.

    The label of a search's recipe tells its base; the widths are those of the layers, each weighted by its weights.
    """
    label = str(row.figures["recipe"])
    found = _WIDTHS.match(label)
    if found is not None:
        weights = _weights(found[1], row)
        acts = _acts(found[2], row)
        label = f"{weights}{'' if weights[-1].isdigit() else ' '}{acts}{label[found.end() :]}"
    return _PLANNED.sub(lambda match: _planned(match[0], row), label)


def _weights(given: str, row: Row) -> str:
    chosen = _chosen("weight_bits", row.factors)
    if not chosen and "-" not in given:
        return f"W{given}"
    if chosen and len(set(chosen)) == 1:
        return f"W{chosen[0]}"
    layers = [(bits, count) for bits, count in _layers(row.layers) if count]
    if not layers:
        return f"W{given} mixed"
    low, high = min(bits for bits, _ in layers), max(bits for bits, _ in layers)
    if low == high:
        return f"W{low}"
    mean = sum(bits * count for bits, count in layers) / sum(count for _, count in layers)
    return f"W{low}-{high} mixed (mean {significant(mean, 2)} bits)"


def _acts(given: str, row: Row) -> str:
    chosen = [bits for bits in _chosen("act_bits", row.factors) if bits is not None]
    if not chosen:
        return f"A{given}" + " mixed" * ("-" in given)
    low, high = min(chosen), max(chosen)
    return f"A{low}" if low == high else f"A{low}-{high} mixed"


def _layers(layers: Mapping[str, Sequence[Any]]) -> list[tuple[int, int]]:
    """Return (weight bits, weights) of the layers that hold weights."""
    columns = zip(*(layers[name] for name in ("kind", "weight_bits", "k", "n", "groups")), strict=True)
    return [(bits, k * n * groups) for kind, bits, k, n, groups in columns if kind == "conv"]


def _planned(label: str, row: Row) -> str:
    """Return what asked for a plan of splits: the study's word, the search's choices, or the plan itself."""
    factors = row.factors
    if factors.get("ocs") is not None:
        return f"OCS {factors['ocs']}"
    if factors.get("ocs_folds") is not None:
        return f"OCS {factors['ocs_folds']} folds"
    chosen = _chosen("ocs", factors)
    if chosen:
        return f"OCS {'/'.join(dict.fromkeys(map(str, chosen)))}"
    added = 100 * (float(row.figures["weight_expansion"]) - 1)
    return f"{label.replace('plan', 'planned')} (+{significant(added, 2)}\N{NO-BREAK SPACE}% weights)"


def _chosen(what: str, factors: Mapping[str, Any]) -> list[Any]:
    """Return a search's choices for the groups of layers."""
    return [value for name, value in factors.items() if name.startswith(f"{what}.")]
