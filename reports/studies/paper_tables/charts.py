"""The study's figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.charts import Lines, Mark, Scale, Series
from reports.draw import Chart
from reports.studies.cnn_tables.findings import LOST
from reports.studies.common import DEVIATIONS, minus
from reports.studies.paper_tables.claims import cell_of, difference_of, kept
from reports.studies.paper_tables.study import BITS, OURS, PAPER

Part = Mapping[str, Any]

METHODS = {"none": "none", "best": "best clip", "ocs 0.05": "OCS 0.05", "ocs 0.05 + clip": "OCS 0.05 + clip"}
MARKS = {PAPER: "dots", OURS: "rings"}
"""How networks are drawn, by whose they are."""

SPREAD = 0.09
"""Between networks at one width, in bits."""


def charts(results: Part) -> dict[str, Chart]:
    """Return the study's figures by file name."""
    return {
        "drop_weights": _drops(results, "weights", "Weights narrowed, activations 8 bits: top-1 against float"),
        "drop_activations": _drops(results, "activations", "Activations narrowed, weights 8 bits: top-1 against float"),
        "gain_weights": _gains(results),
    }


def _bits_scale(words: str) -> Scale:
    """Return an axis on which widths become narrower."""
    return Scale(words, ticks=tuple((-float(bits), str(bits)) for bits in BITS))


def _place(results: Part, bits: int, network: Part) -> float:
    """Return where a network stands at a width, side by side with the others."""
    networks: Sequence[Part] = results["networks"]
    return -bits + SPREAD * (networks.index(network) - (len(networks) - 1) / 2)


def _mark(results: Part, bits: int, network: Part, what: str, value: float, error: float | None) -> Mark:
    words = minus(f"{value:+.1f} points")
    reach = DEVIATIONS * (error or 0.0)
    return Mark(_place(results, bits, network), value, f"{network['name']}, {what}, {bits} bits: {words}", reach=reach)


def _drops(results: Part, table: str, title: str) -> Lines:
    """Return every network's loss by width and method, networks side by side."""
    series = []
    methods = [name for name in METHODS if table == "weights" or name != "ocs 0.05 + clip"]
    for color, method in enumerate(methods, start=1):
        for whose, style in MARKS.items():
            marks = []
            for bits in BITS:
                for network in (n for n in results["networks"] if n["whose"] == whose):
                    cell = cell_of(network, table, bits, method)
                    marks.append(_mark(results, bits, network, METHODS[method], cell["drop"], cell["error"]))
            series.append(Series(f"{METHODS[method]}, {whose}", style, tuple(marks), color))
    names = [", ".join(n["name"] for n in results["networks"] if n["whose"] == whose) for whose in MARKS]
    key = (f"At each width, from left to right: {names[0]}", f"and {names[1]}.", INTERVALS)
    return Lines(title, _bits_scale(f"bits of {table}"), Scale("points", _signed), tuple(series), key)


INTERVALS = "Filled: the paper's networks; open: ours, with 95 % intervals."


def _gains(results: Part) -> Lines:
    """Return OCS minus the best clip, without the cases in which both have lost their accuracy."""
    series = []
    for color, network in enumerate(results["networks"]):
        marks = []
        for bits in BITS:
            if kept(network, "weights", bits, "ocs 0.05", "best") >= LOST:
                row = difference_of(network, "weights", bits, "ocs 0.05", "best")
                marks.append(_mark(results, bits, network, "OCS 0.05 − best clip", row["value"], row["error"]))
        series.append(Series(network["name"], MARKS[network["whose"]], tuple(marks), color % 8 + 1))
    level = Series("", "dashed", (Mark(-BITS[0] - 0.4, 0.0), Mark(-BITS[-1] + 0.4, 0.0)), 8)
    key = (INTERVALS, "Cases in which neither keeps a quarter of the float accuracy are left out.")
    title = "Weights narrowed: OCS with r = 0.05 minus the best clip"
    return Lines(title, _bits_scale("bits of weights"), Scale("points", _signed), (level, *series), key)


def _signed(value: float) -> str:
    return minus(f"{value:+g}") if value else "0"
