"""The page of the study: tables, figures, and what follows from them."""

from collections.abc import Iterator, Mapping
from typing import Any

from reports.charts import Bars
from reports.draw import Chart
from reports.figures import Bar
from reports.studies.common import markdown_table, percent

Row = Mapping[str, Any]
PES = ("fixed", "native", "composable", "bit_serial")
WORDS = {"mac": "PEs", "sram": "on-chip memories", "dram": "DRAM", "leakage": "leakage", "other": "everything else"}
COLORS = {"mac": "pe", "sram": "weight_sram", "dram": "dram", "leakage": "leakage", "other": "vector"}
"""The reports' colour of each component."""

SHOWN_TECHNOLOGY, SHOWN_SIZE = "nangate45", 128
BAND_FAR, BAND_NEAR = 0.05, 0.15


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    return "\n".join(
        [
            "# Energy against bit width",
            "",
            "Half the bits do not take half the energy: it depends on what the PE does with narrow data, and on the "
            "share of memories, which shrink in proportion, and of everything else, which does not.",
            "",
            "    python -m reports.studies.bitwidth_energy --data DIR",
            "",
            f"{results['setting']['points']} designs, priced from shapes and widths (no accuracy here); one sample per "
            "batch, first and last layer at the same widths, buffers of 512, 512 and 256 kB.",
            "",
            *[f"![Energy by component, {network}](energy_{network}.png)\n" for network in _networks(results)],
            "## Findings",
            "",
            *[f"* {line}" for line in findings(results)],
            "",
            "## Energy by width",
            "",
            f"Energy of both operands at b bits over 8 bits, {SHOWN_SIZE}×{SHOWN_SIZE} PEs, per technology. In "
            "brackets the shares of PEs, on-chip memories, DRAM, leakage and the rest, in percent.",
            "",
            *_table(results),
            "",
            "## Weights alone",
            "",
            "The same with activations of 8 bits.",
            "",
            *_table(results, acts=8),
            "",
            "## What this does not show",
            "",
            *[f"* {line}" for line in LIMITS],
            "",
        ]
    )


LIMITS = (
    f"Ratios within one technology hold to {BAND_FAR:.0%} where widths differ by a factor of two and to "
    f"{BAND_NEAR:.0%} between neighbouring widths; absolute energies within a factor of two.",
    "Technologies are separate sources with separate assumptions: their ratios may be compared, their joules not.",
    "Voltage and clock stay as they are; narrow PEs would allow lower voltage at the same clock.",
    "Accumulators keep 24 and 32 bits at every width, as on the preset; narrower sums save more (see the study "
    "accumulators).",
    "Batch 1: weights are fetched for one sample, so DRAM has the largest share that it can have.",
)


def _networks(results: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["network"] for row in results["rows"]))


def _total(row: Row) -> float:
    return float(sum(row["energy_pj"].values()))


def _find(results: Mapping[str, Any], **asked: Any) -> Row | None:
    return next((row for row in results["rows"] if all(row[name] == value for name, value in asked.items())), None)


def _table(results: Mapping[str, Any], acts: int | None = None) -> list[str]:
    widths = (2, 3, 4, 5, 6, 7)
    rows = []
    for network in _networks(results):
        for technology in dict.fromkeys(row["technology"] for row in results["rows"]):
            for pe in PES:
                where = {"network": network, "technology": technology, "pe": pe, "size": SHOWN_SIZE}
                base = _find(results, **where, weight_bits=8, act_bits=8)
                if base is None:
                    continue
                cells = []
                for bits in widths:
                    row = _find(results, **where, weight_bits=bits, act_bits=bits if acts is None else acts)
                    cells.append("–" if row is None else f"{_total(row) / _total(base):.2f} ({_shares(row)})")
                rows.append((network, technology, pe.replace("_", "-"), *cells, f"1 ({_shares(base)})"))
    return markdown_table(("network", "technology", "PE", *(f"{b} bits" for b in widths), "8 bits"), rows, left=3)


def _shares(row: Row) -> str:
    return " ".join(percent(part / _total(row), 0) for part in row["energy_pj"].values())


def findings(results: Mapping[str, Any]) -> list[str]:
    """Return what follows from the tables, in plain words."""
    return [*_halves(results), *_weights_alone(results), *_order(results), *_memory(results)]


def _ratios(results: Mapping[str, Any], pe: str, widths: tuple[int, int]) -> list[float]:
    """Return energies at (weight, activation) widths over 8 by 8, over networks, technologies and arrays."""
    found = []
    for base in results["rows"]:
        if (base["pe"], base["weight_bits"], base["act_bits"]) == (pe, 8, 8):
            where = {name: base[name] for name in ("network", "technology", "pe", "size")}
            row = _find(results, **where, weight_bits=widths[0], act_bits=widths[1])
            if row is not None:
                found.append(_total(row) / _total(base))
    return found


def _span(values: list[float]) -> str:
    return f"{min(values):.2f}–{max(values):.2f}" if values else "none"


def _halves(results: Mapping[str, Any]) -> Iterator[str]:
    parts = [f"{pe.replace('_', '-')} {_span(_ratios(results, pe, (4, 4)))}" for pe in PES]
    yield f"Both operands at 4 instead of 8 bits take this share of the energy, over all cases: {'; '.join(parts)}."


def _weights_alone(results: Mapping[str, Any]) -> Iterator[str]:
    parts = [f"{pe.replace('_', '-')} {_span(_ratios(results, pe, (4, 8)))}" for pe in PES]
    yield f"Weights alone at 4 bits: {'; '.join(parts)}."


def _order(results: Mapping[str, Any]) -> Iterator[str]:
    """Say which PE type takes least energy at each width, and where two cannot be told apart."""
    for bits in (2, 4, 8):
        wins: dict[str, int] = {}
        total = 0
        for network in _networks(results):
            for technology in dict.fromkeys(row["technology"] for row in results["rows"]):
                for size in dict.fromkeys(row["size"] for row in results["rows"]):
                    where = {"network": network, "technology": technology, "size": size}
                    found = {pe: _find(results, **where, pe=pe, weight_bits=bits, act_bits=bits) for pe in PES}
                    order = sorted((_total(row), pe) for pe, row in found.items() if row is not None)
                    if len(order) < 2:
                        continue
                    total += 1
                    name = order[0][1] if order[1][0] / order[0][0] > 1 + BAND_NEAR else "undecided"
                    wins[name] = wins.get(name, 0) + 1
        parts = [f"{name.replace('_', '-')} in {count}" for name, count in sorted(wins.items())]
        yield f"Least energy at {bits} bits, of {total} cases: {', '.join(parts)} (undecided: within {BAND_NEAR:.0%})."


def _memory(results: Mapping[str, Any]) -> Iterator[str]:
    for part in ("mac", "dram", "leakage"):
        shares = [
            [row["energy_pj"][part] / _total(row) for row in results["rows"]
             if (row["pe"], row["weight_bits"], row["act_bits"]) == ("native", bits, bits)]
            for bits in (8, 2)
        ]  # fmt: skip
        yield (
            f"With native PEs the share of {WORDS[part]} is {percent(min(shares[0]), 0)} to "
            f"{percent(max(shares[0]), 0)} % at 8 bits and {percent(min(shares[1]), 0)} to "
            f"{percent(max(shares[1]), 0)} % at 2."
        )


def charts(results: Mapping[str, Any]) -> dict[str, Chart]:
    """Return the study's figures by file name."""
    return {f"energy_{network}": _bars(results, network) for network in _networks(results)}


def _bars(results: Mapping[str, Any], network: str) -> Chart:
    bars = []
    for pe in PES:
        for bits in (8, 6, 4, 2):
            where = {"technology": SHOWN_TECHNOLOGY, "size": SHOWN_SIZE, "network": network, "pe": pe}
            row = _find(results, **where, weight_bits=bits, act_bits=bits)
            if row is not None:
                parts = {COLORS[name]: value / 1e9 for name, value in row["energy_pj"].items()}
                bars.append(Bar(f"W{bits}A{bits}", parts, pe.replace("_", "-")))
    return Bars(
        f"{network}: energy per sample, {SHOWN_TECHNOLOGY}, {SHOWN_SIZE}×{SHOWN_SIZE}",
        tuple(bars),
        lambda value: f"{value:.3g} mJ",
        lambda key: next(WORDS[name] for name, color in COLORS.items() if color == key),
    )
