"""From the points of two sweeps to the study's results: which expansion reaches the next width, and what it costs."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.studies.common import DEVIATIONS
from reports.studies.swept import Designs, accuracy_of, designs, figure, setting_of
from reports.sweep.store import Row

HERE = Path(__file__).parent

FIGURES = ("cycles", "energy_pj", "energy_delay_pj_s", "dram_bytes", "weight_bytes", "area_um2")
"""What is compared; totals where a figure has parts."""

MACHINE = ("array.dataflow", "array.rows", "pe.type", "equal_area_bits", "dram.bandwidth_gb_per_s")
"""Factors that tell the machines of the cost sweep apart."""


def collect(args: argparse.Namespace) -> dict[str, Any]:
    """Sweep both studies and return the results."""
    accurate, priced = designs(args, [HERE / "accuracy.yaml", HERE / "cost.yaml"])
    accuracy = list(accuracies(accurate))
    cases = list(break_evens(priced))
    return {
        "setting": setting_of(accurate) | {"priced": len(priced.rows), "ratios": ratios(priced)},
        "accuracy": accuracy,
        "break_even": {"columns": ["network", *MACHINE, "bits", *FIGURES], "rows": cases},
        "matched": list(matched(accuracy, priced)),
        "shown": list(shown(priced)),
    }


LEAST_SHARE = 0.25
"""Of the float network's accuracy, that W(b+1) must keep: to be no worse than a broken network means nothing."""

SHOWN = {
    "array.dataflow": "ws",
    "array.rows": 64,
    "pe.type": "native",
    "equal_area_bits": None,
    "dram.bandwidth_gb_per_s": 8.5,
}
"""The machine of the page's picture of accuracy against energy."""


def shown(priced: Designs) -> Iterator[dict[str, Any]]:
    """Yield energy and cycles of every width and expansion on the machine `SHOWN`."""
    for row in sorted(priced.matching(SHOWN).rows, key=_accuracy_order):
        f = row.factors
        record = {"network": f["network"], "bits": f["weight_bits"], "ocs": f.get("ocs") or 0.0}
        yield record | {name: figure(row, name) for name in ("energy_pj", "cycles")}


# --- accuracy --------------------------------------------------------------------------------------------------------


def accuracies(accurate: Designs) -> Iterator[dict[str, Any]]:
    """Yield every executed design with its difference to the unsplit one of one bit more."""
    for row in sorted(accurate.rows, key=_accuracy_order):
        f = row.factors
        following = accurate.find({**f, "weight_bits": f["weight_bits"] + 1, "ocs": None})
        plain = accurate.find({**f, "ocs": None})
        record = {"network": f["network"], "clip": f.get("clip"), "bits": f["weight_bits"], "ocs": f.get("ocs") or 0.0}
        record |= accuracy_of(row)
        for name, other in (("minus_next", following), ("minus_plain", plain)):
            found = None if other is None or other is row else accurate.difference(row, other)
            record |= {name: found and found.value, f"{name}_error": found and found.error}
        yield record


def _accuracy_order(row: Row) -> tuple[Any, ...]:
    f = row.factors
    return f["network"], f.get("clip") or "", f["weight_bits"], f.get("ocs") or 0.0


def matching_ratio(accuracy: Sequence[Mapping[str, Any]], case: Mapping[str, Any], deviations: float) -> float | None:
    """Return the smallest expansion at which a width is not decidedly behind the next one; ``None``: at none.

    ``case`` has network, clip and bits.
    """
    rows = [row for row in accuracy if all(row[name] == case[name] for name in ("network", "clip", "bits"))]
    for row in sorted(rows, key=lambda row: row["ocs"]):
        if row["minus_next"] is not None and row["minus_next"] >= -deviations * row["minus_next_error"]:
            return float(row["ocs"])
    return None


# --- cost ------------------------------------------------------------------------------------------------------------


def ratios(priced: Designs) -> list[float]:
    """Return the expansions that were priced."""
    return [value or 0.0 for value in priced.values("ocs")]


def break_evens(priced: Designs) -> Iterator[list[Any]]:
    """Yield, per machine and width, up to which expansion each figure is no more than that of the next width unsplit.

    Rows as `MACHINE` with network before and width and `FIGURES` behind; ``None`` where not even the unsplit network
    costs less or as much. An expansion between two that were priced is not claimed.
    """
    groups: dict[tuple[Any, ...], dict[float, Row]] = {}
    for row in priced.rows:
        f = row.factors
        key = (f["network"], *(f.get(name) for name in MACHINE), f["weight_bits"])
        groups.setdefault(key, {})[f.get("ocs") or 0.0] = row
    for key in sorted(groups, key=repr):
        following = groups.get((*key[:-1], key[-1] + 1))
        if following is not None and 0.0 in following:
            yield [*key, *(_even(groups[key], following[0.0], name) for name in FIGURES)]


def _even(split: Mapping[float, Row], following: Row, name: str) -> float | None:
    even = None
    for ratio in sorted(split):
        if figure(split[ratio], name) > figure(following, name) * (1 + 1e-12):
            break
        even = ratio
    return even


def matched(accuracy: Sequence[Mapping[str, Any]], priced: Designs) -> Iterator[dict[str, Any]]:
    """Yield, where splitting reaches the next width, its cost over that of the next width, per machine."""
    for network, clip, bits in sorted(steps(accuracy), key=repr):
        ratio = matching_ratio(accuracy, {"network": network, "clip": clip, "bits": bits}, DEVIATIONS)
        costs = [] if not ratio else list(_costs(priced, network, bits, ratio))
        yield {"network": network, "clip": clip, "bits": bits, "ocs": ratio, "costs": costs}


def steps(accuracy: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """Return (network, clip rule, width) of all steps to a next width that keeps a share of the float accuracy."""
    kept = {
        (row["network"], row["clip"], row["bits"])
        for row in accuracy
        if not row["ocs"] and row["accuracy"] >= LEAST_SHARE * (row["accuracy"] - row["difference"])
    }
    return {(network, clip, bits - 1) for network, clip, bits in kept if (network, clip, bits - 1) in _cases(accuracy)}


def _cases(accuracy: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    return {(row["network"], row["clip"], row["bits"]) for row in accuracy}


def _costs(priced: Designs, network: str, bits: int, ratio: float) -> Iterator[list[Any]]:
    for row in priced.matching({"network": network, "weight_bits": bits, "ocs": ratio}).rows:
        following = priced.find({**row.factors, "weight_bits": bits + 1, "ocs": None})
        if following is None:
            continue
        over = [round(figure(row, name) / figure(following, name), 5) for name in FIGURES]
        yield [*(row.factors.get(name) for name in MACHINE), *over]
