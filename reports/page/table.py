"""The table of all points: what varies, the figures, the standing; static, and sorted and filtered by a script."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.charts import BEHIND, FRONT, UNDECIDED
from reports.page.decide import COSTS, Cost
from reports.page.designs import Design, Network
from reports.page.fronts import Fronts
from reports.summary import SHARES, metric_text
from reports.sweep.store import Row
from reports.units import grouped, percent, significant

ROWS = 6000
"""Rows of the table; a page of so many stays below some 10 MB."""

FACTORS = 14
"""Columns of factors."""

PAPER_ROWS = 120
"""Rows that are printed."""

PAPER_LAST = "dram"
"""Last column that is printed: what comes after it is looked up, not compared."""

STANDINGS = {FRONT: "front", UNDECIDED: "undecided", BEHIND: "behind", "": "refused"}

NOT_SHOWN = ("network",)


UNITS = {
    "energy": ("J", 1e-12),
    "latency": ("s", 1.0),
    "area": ("mm²", 1e-6),
    "edp": ("J·s", 1e-12),
    "weights": ("B", 1.0),
    "dram": ("B", 1.0),
}
"""Units of costs, and how many of them are one of what is stored."""


@dataclass(frozen=True)
class Column:
    """A column.

    Parameters
    ----------
    key, name
        What filters and the explorer call it, and words.
    number
        Whether it holds numbers.
    unit, scale
        Of the numbers behind its cells, on an axis: one of them is `scale` units.
    hint
        Tool tip.
    """

    key: str
    name: str
    number: bool
    unit: str = ""
    scale: float = 1.0
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the number behind it as text, where there is one."""

    text: str
    value: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows; `left_out` points are in the store alone."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    constant: tuple[tuple[str, str], ...]
    left_out: int

    @property
    def on_paper(self) -> int:
        """Number of columns that are printed."""
        return [column.key for column in self.columns].index(PAPER_LAST) + 1


def build_table(networks: Sequence[tuple[Network, Sequence[Fronts]]]) -> Table:
    """Return the table of all points, those on fronts first."""
    points = [point for network, fronts in networks for point in _points(network, fronts)]
    factors = [point[0].factors for point in points]
    names = list(dict.fromkeys(name for given in factors for name in given))
    several = len({network.digest for network, _ in networks}) > 1
    varying = [name for name in names if name not in NOT_SHOWN and len({str(g.get(name)) for g in factors}) > 1]
    shown = varying[:FACTORS]
    figures = _figure_columns(networks)
    columns = [Column("standing", "standing", False, hint="by accuracy and energy"), Column("point", "point", False)]
    columns += [Column("network", "network", False)] if several else []
    columns += [Column(name, name, _numeric(factors, name)) for name in shown]
    columns += [column for column, _ in figures]
    order = (FRONT, UNDECIDED, BEHIND, "")
    points.sort(key=lambda point: order.index(point[2]))
    rows = tuple(_cells(point, several, shown, figures) for point in points[:ROWS])
    constant = tuple((name, _text(factors[0].get(name))) for name in names if name not in (*NOT_SHOWN, *varying))
    return Table(tuple(columns), rows, constant, max(0, len(points) - ROWS))


Point = tuple[Row, Design | None, str, str]


def _points(network: Network, fronts: Sequence[Fronts]) -> list[Point]:
    standing = {
        design.row.digest: state
        for one in fronts
        for design, state in zip(one.field.designs, one.standings["energy"], strict=True)
    }
    found: list[Point] = [(d.row, d, standing[d.row.digest], network.name) for d in network.designs]
    return found + [(row, None, "", network.name) for row in network.refused]


Read = Callable[[Design], tuple[float | None, str]]


def _figure_columns(networks: Sequence[tuple[Network, Sequence[Fronts]]]) -> list[tuple[Column, Read]]:
    metrics = {network.metric for network, _ in networks if network.executed}
    words = next((n.metric_words for n, _ in networks if n.executed), "metric") if len(metrics) == 1 else "metric"
    share = ("%", 100.0) if metrics <= set(SHARES) else ("", 1.0)
    columns: list[tuple[Column, Read]] = [
        (Column("accuracy", words, True, *share), _accuracy),
        (Column("error", "± 1 s.e.", True, *share), _error),
    ]
    columns += [(Column(cost.key, cost.name, True, *UNITS[cost.key]), _cost(cost)) for cost in COSTS.values()]
    columns += [
        (Column("cycles", "cycles", True), _plain("cycles", grouped)),
        (Column("utilization", "utilization", True, "%", 100.0), _plain("utilization", percent)),
        (Column("expansion", "weights ×", True), _plain("weight_expansion", lambda value: f"{value:.4g}")),
        (Column("overflowed", "overflowed", True), _overflowed),
        (Column("exact", "bit-exact", False), _exact),
    ]
    return columns


def _cost(cost: Cost) -> Read:
    return lambda design: (cost.of(design), cost.text(cost.of(design)))


def _plain(key: str, text: Callable[[float], str]) -> Read:
    return lambda design: (design.figures[key], text(design.figures[key]))


def _accuracy(design: Design) -> tuple[float | None, str]:
    if design.figures["accuracy"] is None:
        return None, ""
    return design.accuracy, metric_text(design.figures["metric"], design.accuracy)


def _error(design: Design) -> tuple[float | None, str]:
    error = design.figures["standard_error"]
    if error is None:
        return None, ""
    return error, significant(100 * error if design.figures["metric"] in SHARES else error)


def _overflowed(design: Design) -> tuple[float | None, str]:
    count = design.figures.get("overflowed_outputs")
    return count, "" if count is None else grouped(count)


def _exact(design: Design) -> tuple[float | None, str]:
    return None, {True: "yes", False: "NO", None: "not checked"}[design.figures["bit_exact"]]


def _cells(
    point: Point, several: bool, factors: Sequence[str], figures: Sequence[tuple[Column, Read]]
) -> tuple[Cell, ...]:
    row, design, standing, network = point
    cells = [Cell(STANDINGS[standing]), Cell(row.digest[:8])]
    cells += [Cell(network)] if several else []
    cells += [_factor(row.factors, name) for name in factors]
    if design is None:
        return (*cells, *(Cell("") for _ in figures))
    return (*cells, *(_figure(read(design)) for _, read in figures))


def _figure(read: tuple[float | None, str]) -> Cell:
    value, text = read
    return Cell(text, "" if value is None else f"{value:.7g}")


def _factor(factors: Mapping[str, Any], name: str) -> Cell:
    return Cell(_text(factors.get(name)))


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _numeric(factors: Sequence[Mapping[str, Any]], name: str) -> bool:
    given = [factor.get(name) for factor in factors]
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in given)


def refusals(networks: Sequence[Network]) -> list[dict[str, Any]]:
    """Return the reasons why points were refused, with how many and what they have in common."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for network in networks:
        for row in network.refused:
            groups.setdefault((network.name, row.reason), []).append(row)
    found = []
    for (name, reason), rows in sorted(groups.items(), key=lambda item: -len(item[1])):
        first = rows[0].factors
        shared = [
            f"{key} {first[key]}"
            for key in first
            if key != "network" and first[key] is not None and all(row.factors.get(key) == first[key] for row in rows)
        ]
        found.append({"network": name, "reason": reason, "count": len(rows), "shared": ", ".join(shared)})
    return found
