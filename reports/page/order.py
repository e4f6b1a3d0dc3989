"""What a page says about the order of designs: rows of words, and a figure of the designs that change places."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.charts import Lines, Mark, Scale, Series
from reports.page.decide import COSTS
from reports.page.designs import Network, Setting
from reports.page.fronts import Fronts
from reports.page.stability import Stability
from reports.units import grouped, percent

DRAWN = 10
"""Designs in the figure."""


def stability_rows(found: Sequence[Stability]) -> list[dict[str, Any]]:
    """Return one row per comparison, formatted."""
    return [
        {
            "cost": one.cost.name,
            "between": " ↔ ".join(_apart(one.first, one.second)),
            "held": _held(one.first, one.second),
            "designs": grouped(one.designs),
            "tau": f"{one.tau:.3f}",
            "rho": f"{one.rho:.3f}",
            "same": percent(one.same / one.pairs) if one.pairs else "–",
            "undecided": _part(one.reversed_undecided, one.pairs),
            "decided": _part(one.reversed_decided, one.pairs),
            "certain": bool(one.reversed_decided),
        }
        for one in found
    ]


def _part(count: int, of: int) -> str:
    return f"{grouped(count)} ({percent(count / of)})" if count else "none"


def _apart(first: Setting, second: Setting) -> tuple[str, str]:
    if first.timing_mode != second.timing_mode:
        return first.timing_mode, second.timing_mode
    return tuple(f"{one.technology}" if "nm" in one.technology else f"{one.technology} {one.node_nm:g} nm"
                 for one in (first, second))  # type: ignore[return-value]  # fmt: skip


def _held(first: Setting, second: Setting) -> str:
    return first.technology if first.timing_mode != second.timing_mode else first.timing_mode


def reversal_rows(found: Sequence[Stability], most: int = 4) -> list[dict[str, Any]]:
    """Return the widest changes of order of each cost, the decided ones first."""
    rows: dict[tuple[str, float, float], dict[str, Any]] = {}
    listed = [(one, turned) for one in found for turned in one.reversals]
    listed.sort(key=lambda item: (not item[1].decided, -min(item[1].ratios)))
    for one, turned in listed:
        key = (one.cost.key, round(turned.ratios[0], 6), round(turned.ratios[1], 6))  # designs alike are one
        if key in rows or sum(known[0] == one.cost.key for known in rows) >= most:
            continue
        first, second = _apart(one.first, one.second)
        rows[key] = {
            "cost": one.cost.name,
            "ahead": turned.ahead.label,
            "behind": turned.behind.label,
            "first": f"ahead by × {turned.ratios[0]:.3f} under {first}",
            "second": f"behind by × {turned.ratios[1]:.3f} under {second}",
            "decided": turned.decided,
        }
    return list(rows.values())


def order_chart(network: Network, fronts: Sequence[Fronts], found: Sequence[Stability]) -> Lines | None:
    """Return the energy of some designs under every setting, relative to the least of them.

    Designs on any front, and those of the widest changes of order. A design that changes places with another beyond the
    band is drawn whole; one that only does so within the band, or never, dashed.
    """
    energy = [one for one in found if one.cost.key == "energy"]
    settings = sorted({one.first for one in energy} | {one.second for one in energy})
    if len(settings) < 2:
        return None
    by = {setting: {design.identity: design for design in network.at(setting)} for setting in settings}
    everywhere = set.intersection(*(set(designs) for designs in by.values()))
    certain = {design.identity for one in energy for t in one.reversals if t.decided for design in (t.ahead, t.behind)}
    wanted = [d for one in energy for t in one.reversals if t.decided for d in (t.ahead, t.behind)][: DRAWN // 2]
    front = [design for one in fronts for design in one.leaders()]
    wanted += [front[round(i * (len(front) - 1) / DRAWN)] for i in range(DRAWN + 1)] if front else []
    chosen = [i for i in dict.fromkeys(design.identity for design in wanted) if i in everywhere][:DRAWN]
    if len(chosen) < 2:
        return None
    cost = COSTS["energy"]
    series = []
    for place, identity in enumerate(chosen):
        marks = []
        for at, setting in enumerate(settings):
            value = cost.of(by[setting][identity])
            least = min(cost.of(by[setting][other]) for other in chosen)
            title = f"{by[setting][identity].label}, {setting.name}: {cost.text(value)}"
            marks.append(Mark(at, value / least, title, str(place + 1) if at == len(settings) - 1 else ""))
        color = place % 7 + 1
        path = tuple(replace(mark, label="") for mark in marks)
        series.append(Series("", "line" if identity in certain else "dashed", path, color))
        series.append(Series("", "dots" if identity in certain else "rings", tuple(marks), color))
    letters = tuple((float(i), chr(ord("A") + i)) for i in range(len(settings)))
    key = [f"{letters[i][1]}  {setting.name}" for i, setting in enumerate(settings)]
    key += [f"{i + 1}  {by[settings[0]][identity].label}" for i, identity in enumerate(chosen)]
    return Lines(
        f"{network.name}: energy of some designs under every setting",
        Scale("setting", ticks=letters),
        Scale("energy, relative to the least of these", lambda ratio: f"{ratio:.3g}", log=True),
        tuple(series),
        tuple(key),
    )
