"""The page itself: sections from the modules beside this one, put into one HTML file that fetches nothing.

Everything is static. One inline script, allowed by its digest in the page's security policy, sorts and filters the
table and draws the explorer; without it both are simply not there.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from reports.charts import FRONT, UNDECIDED, Staircase, free_until
from reports.draw import Chart, draw
from reports.page import components, heat, order, provenance, roofline, stairs, versus
from reports.page.decide import COSTS
from reports.page.designs import Design, Loaded, Network
from reports.page.fronts import Fronts, all_fronts
from reports.page.searched import Searched, searches
from reports.page.stability import stabilities
from reports.page.table import PAPER_ROWS, build_table, refusals
from reports.palette import style_sheet
from reports.summary import metric_text
from reports.units import grouped, percent, significant
from reports.view import DEVIATIONS, FULL, NARROW, STATUS, TIMING, WIDE, drawn

BAND_WORDS = (
    "energies, areas and energy-delay products of one technology are told apart beyond 5 % at equal widths and at a "
    "factor of 2 in width, beyond 15 % between neighbouring widths"
)


@dataclass(frozen=True)
class Figure:
    """A figure of the page: file name, chart, widths that it is drawn at."""

    name: str
    chart: Chart
    widths: tuple[float, ...] = (WIDE, NARROW)

    @property
    def title(self) -> str:
        """What the chart is called."""
        return self.chart.title

    @property
    def html(self) -> Markup:
        """The figure, drawn at its widths."""
        return drawn(lambda width: draw(self.chart, width), *self.widths)


@dataclass(frozen=True)
class Page:
    """A page and the figures on it."""

    html: str
    figures: tuple[Figure, ...]


def render_page(loaded: Loaded, comparison: versus.Versus | None = None, title: str | None = None) -> Page:
    """Return the page of some stores.

    Parameters
    ----------
    loaded
        Of `reports.page.designs.load`.
    comparison
        Shown first.
    title
        Heading; made from the networks where ``None``.
    """
    measured = [network for network in loaded.networks if network.designs]
    pairs = [(network, all_fronts(network)) for network in measured]
    figures: list[Figure] = []
    chart = None if comparison is None else versus.chart(comparison)
    if chart is not None:
        figures.append(Figure("versus", chart, (FULL, WIDE, NARROW)))
    versus_figure = figures[0] if figures else None
    searched = [_search_section(search, figures) for search in searches(loaded)]
    sections = [_network_section(network, fronts, place, figures) for place, (network, fronts) in enumerate(pairs)]
    everything = [(network, fronts) for network, fronts in pairs]
    everything += [(network, []) for network in loaded.networks if not network.designs]
    modes = sorted({setting.timing_mode for network in measured for setting in network.settings})
    context = {
        "title": title or ", ".join(dict.fromkeys(network.name for network in loaded.networks)),
        "subtitle": f"{grouped(loaded.points)} points of a {'search' if searched else 'sweep'}",
        "searches": searched,
        "paper_rows": PAPER_ROWS,
        "versus": None if comparison is None else versus.context(comparison),
        "versus_figure": versus_figure,
        "networks": sections,
        "table": build_table(everything),
        "refusals": refusals(loaded.networks),
        "facts": provenance.facts(loaded),
        "network_facts": [(network.name, provenance.network_facts(network)) for network in loaded.networks],
        "sources": provenance.price_sources(measured, loaded.own_sources),
        "status": STATUS,
        "timing": {mode: TIMING.get(mode, "") for mode in modes},
        "band": BAND_WORDS,
        "deviations": DEVIATIONS,
    }  # fmt: skip
    return Page(_html("sweep.html.j2", context), tuple(figures))


def _html(template: str, context: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["upper_first"] = lambda text: text[:1].upper() + text[1:]
    script = style_sheet("sweep.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fixed = {"style": style_sheet("style.css") + style_sheet("sweep.css"), "script": script, "script_digest": digest}
    return environment.get_template(template).render(fixed | context)


def _breakable(name: str) -> Markup:
    """Let a field's name break after dots and underlines."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def _search_section(search: Searched, figures: list[Figure]) -> dict[str, Any]:
    made = [Figure(f"search-{_slug(search.name)}-{name}", chart) for name, chart in search.charts.items()]
    figures.extend(made)
    return {"anchor": f"search-{_slug(search.name)}", "found": search, "figures": made}


# --- one network -----------------------------------------------------------------------------------------------------


def _network_section(network: Network, fronts: Sequence[Fronts], place: int, figures: list[Figure]) -> dict[str, Any]:
    stem = f"{_slug(network.name)}{f'-{place + 1}' if place else ''}"

    def figure(name: str, chart: Chart | None, *widths: float) -> Figure | None:
        if chart is None:
            return None
        made = Figure(f"{stem}-{name}", chart, widths or (WIDE, NARROW))
        figures.append(made)
        return made

    main = fronts[0]
    machines = stairs.machines(network, main.setting)
    climbed = stairs.network_stairs(network, machines) if machines else None
    found = stabilities(network)
    maps = heat.heat(network, fronts)
    by_bits = components.energy_by_bits(network, fronts)
    by_front = components.front_energy(network, main)
    causes = components.cycles_by_cause(network, fronts)
    return {
        "anchor": f"network-{place + 1}",
        "name": network.name,
        "metric": network.metric_words,
        "executed": network.executed,
        "tiles": _tiles(network, main),
        "fronts": [_front_group(one, figure) for one in fronts],
        "by_bits": _parts(by_bits, figure("energy-by-bits", by_bits.chart if by_bits else None, FULL, WIDE, NARROW)),
        "by_front": _parts(by_front, figure("energy-of-front", by_front.chart, FULL, WIDE, NARROW)),
        "causes": _parts(causes, figure("cycles-by-cause", causes.chart, FULL, WIDE, NARROW)),
        "stairs": climbed and {
            "figures": [figure("stairs-folds", climbed.folds), figure("stairs-cycles", climbed.cycles)],
            "layers": [
                figure(f"stairs-layer-{i + 1}", chart)
                for i, chart in enumerate(stairs.layer_stairs(network, machines))
            ],
            "notes": climbed.notes,
            "free": _free(climbed.cycles),
            "setting": main.setting.name,
        },
        "roofs": [
            one
            for one in (
                figure("roofline-designs", roofline.designs_chart(network, fronts)),
                figure("roofline-layers", roofline.layers_chart(network, main.best)),
            )
            if one is not None
        ],
        "roof_design": f"{main.best.label} ({main.setting.name})",
        "heat": [figure(f"layers-{i + 1}", chart, FULL, WIDE, NARROW) for i, chart in enumerate(maps.maps)],
        "heat_designs": [f"{design.label}, {design.setting.name}" for design in maps.designs],
        "heat_missing": maps.missing,
        "stability": order.stability_rows(found),
        "reversals": order.reversal_rows(found),
        "order": figure("order", order.order_chart(network, fronts, found), FULL, WIDE, NARROW),
        "one_setting": len(network.settings) == 1,
    }  # fmt: skip


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")


def _tiles(network: Network, main: Fronts) -> list[dict[str, str]]:
    best = main.best
    counts = main.counts("energy")
    energy, latency = COSTS["energy"], COSTS["latency"]
    chosen = ", of those not decidedly behind in accuracy" if network.executed else ""
    refused, undecided = grouped(len(network.refused)), grouped(counts[UNDECIDED])
    return [
        {"name": "Designs", "value": grouped(len(network.designs)),
            "detail": f"{len(network.settings)} setting{'s' * (len(network.settings) > 1)} of prices and timing, "
                f"{refused} points refused"},
        {"name": "On the front", "value": grouped(counts[FRONT]),
            "detail": f"accuracy and energy, {main.setting.name}; {undecided} more not told from it"},
        {"name": "Least energy-delay", "value": energy.text(energy.of(best)),
            "detail": f"{best.label}{chosen}: {latency.text(latency.of(best))}"},
        _accuracy_tile(network, best),
    ]  # fmt: skip


def _accuracy_tile(network: Network, best: Design) -> dict[str, str]:
    if not network.executed:
        return {"name": "Accuracy", "value": "–", "detail": "priced, not executed"}
    real = best.figures["float"]
    against = "" if real is None else f"float {metric_text(network.metric, real)}"
    return {"name": "Its accuracy", "value": metric_text(network.metric, best.accuracy), "detail": against}


def _front_group(fronts: Fronts, figure: Any) -> dict[str, Any]:
    stem = _slug(fronts.setting.name)
    return {
        "name": fronts.setting.name,
        "counts": fronts.counts("energy"),
        "figures": [
            (COSTS[key].name, fronts.counts(key), figure(f"pareto-{key}-{stem}", fronts.charts[key]))
            for key in fronts.charts
        ],
    }


def _parts(parts: components.Parts | None, figure: Figure | None) -> dict[str, Any] | None:
    if parts is None or figure is None:
        return None
    return {"figure": figure, "held": parts.held, "legend": parts.legend}


def _free(chart: Staircase) -> list[str]:
    """Say how far every curve of a network is free."""
    found = []
    for stair in chart.stairs:
        if len(stair.x) > 1:
            free = free_until(stair)
            rise = f"the least uniform ratio adds {percent(stair.y[1] - 1)} of array cycles"
            found.append(f"{stair.name}: " + (f"{significant(100 * free)} % of weights are free" if free else rise))
    return found
