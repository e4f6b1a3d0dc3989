"""The page of a sweep in a real browser: no complaint, no request, every figure, a table that filters and sorts."""

import json
import re
import subprocess
from html import escape, unescape

import pytest

from reports.page.designs import load
from reports.page.render import render_page
from reports.page.versus import compare_designs

WIDTHS = (1280, 390)

PROBE = """<script>
const shown = e => e.getClientRects().length > 0 && e.getBoundingClientRect().width > 0
  && e.getBoundingClientRect().height > 0;
const filter = document.getElementById('filter');
const rows = () => [...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden);
const dots = () => document.querySelectorAll('#plot svg > g:not(.legend) > circle').length;
const ask = text => { filter.value = text; filter.dispatchEvent(new Event('input')); };
const wait = () => new Promise(done => setTimeout(done, 250));
(async () => {
  const found = { requests: performance.getEntriesByType('resource').length, tables: {}, papers: [] };
  const all = [...document.querySelectorAll('.drawn')];
  const drawn = all.filter(d => !d.closest('details:not([open])'));
  found.figures = drawn.length;
  found.hidden = all.length - drawn.length;
  found.versions = drawn.map(d => [...d.children].filter(shown).length);
  found.empty = drawn.filter(d => ![...d.querySelectorAll('svg')].some(s => shown(s)
    && s.getBoundingClientRect().height > 40)).length;
  found.cut = drawn.filter(d => [...d.querySelectorAll('svg')].some(s => shown(s)
    && s.getBoundingClientRect().right > d.getBoundingClientRect().right + 1)).length;
  found.scroll = document.documentElement.scrollWidth;
  found.explorer = dots();
  for (const text of ASKED) {
    ask(text); await wait();
    found.tables[text] = rows().length;
    found.papers.push(document.getElementById('paper').textContent);
  }
  found.problem = filter.classList.contains('problem');
  found.filtered = document.getElementById('shown').textContent;
  ask(''); await wait();
  found.all = rows().length;
  const energy = document.querySelector('#table th[data-key=energy]');
  energy.querySelector('button').click();
  const values = () => rows().map(r => Number(r.cells[energy.cellIndex].dataset.v)).filter(v => !Number.isNaN(v) && v);
  const up = values();
  energy.querySelector('button').click();
  found.sorted = up.every((v, i) => !i || up[i - 1] <= v) && values().every((v, i, a) => !i || a[i - 1] >= v);
  found.page = getComputedStyle(document.body).backgroundColor;
  parent.document.getElementById('probe' + innerWidth).textContent = JSON.stringify(found);
})();
</script></body>"""


@pytest.fixture(scope="module")
def page(swept, tmp_path_factory):
    loaded = load([swept])
    path = tmp_path_factory.mktemp("page") / "page.html"
    versus = compare_designs(loaded, "weight_bits=4,ocs=0.05", "weight_bits=3,ocs=none")
    path.write_text(render_page(loaded, versus).html, encoding="utf-8")
    return path


def opened(browser, page, profile, *flags):
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        f"--user-data-dir={profile}", "--window-size=1400,1200", "--virtual-time-budget=20000", *flags, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


ASKED = ("front", "weight_bits<=3", "weight_bits=4 ocs=fill", "dataflow=os technology=google", "refused")


@pytest.fixture(scope="module")
def middle(swept):
    """An energy in µJ that parts the designs in two."""
    energies = sorted(design.figures["energy_pj"]["total"] for design in load([swept]).networks[0].designs)
    return round(energies[len(energies) // 2] / 1e6, 3)


@pytest.fixture(scope="module")
def probed(browser, page, middle, tmp_path_factory):
    """Copies of the page at two widths that measure themselves, light and dark; they lack the security policy."""
    folder = tmp_path_factory.mktemp("probe")
    probe = PROBE.replace("ASKED", json.dumps([*ASKED, f"energy<{middle}uJ", "nonsense<3"]))
    content = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8")).replace("</body>", probe)
    frames = "".join(
        f'<pre id="probe{width}"></pre>'
        f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(content)}"></iframe>'
        for width in WIDTHS
    )
    wrapper = folder / "probe.html"
    wrapper.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}</body>", encoding="utf-8")
    found = {}
    for theme, flags in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))):
        dom = opened(browser, wrapper, folder / theme, "--dump-dom", *flags).stdout
        found[theme] = {
            width: json.loads(unescape(re.search(rf'<pre id="probe{width}">(.*?)</pre>', dom, flags=re.S).group(1)))
            for width in WIDTHS
        }
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_shown_once_and_fits(probed, width):
    seen = probed["light"][width]
    assert seen["requests"] == 0
    assert seen["figures"] >= 18
    assert seen["hidden"] == 12
    assert set(seen["versions"]) == {1}
    assert (seen["empty"], seen["cut"]) == (0, 0)
    assert seen["scroll"] <= width


def test_the_page_turns_dark_where_that_is_preferred(probed):
    assert probed["light"][1280]["page"] != probed["dark"][1280]["page"]


def test_the_table_filters_by_words_and_conditions(probed, swept, middle):
    (network,) = load([swept]).networks
    factors = [design.factors for design in network.designs] + [row.factors for row in network.refused]
    energies = [design.figures["energy_pj"]["total"] for design in network.designs]
    expected = {
        "weight_bits<=3": sum(given["weight_bits"] <= 3 for given in factors),
        "weight_bits=4 ocs=fill": sum(given["weight_bits"] == 4 and given.get("ocs") == "fill" for given in factors),
        "dataflow=os technology=google": sum(
            given.get("array.dataflow") == "os" and given["technology"] == "google" for given in factors
        ),
        f"energy<{middle}uJ": sum(energy < 1e6 * middle for energy in energies),
        "refused": len(network.refused),
    }
    for seen in probed["light"].values():
        assert {text: count for text, count in seen["tables"].items() if text in expected} == expected
        assert 0 < seen["tables"]["front"] < len(factors)
        assert seen["papers"] == [f"1–{min(120, count)} of {count}" for count in seen["tables"].values()]
        assert seen["problem"]
        assert seen["all"] == len(factors)
        assert seen["explorer"] == len(network.designs)
        assert seen["sorted"]
    assert 0 < expected[f"energy<{middle}uJ"] < len(energies)


def test_browser_has_nothing_to_complain_about_and_runs_the_script(browser, page, tmp_path):
    """With the security policy in force."""
    run = opened(browser, page, tmp_path / "profile", "--enable-logging=stderr", "--dump-dom")
    assert "CONSOLE" not in run.stderr
    assert '<button type="button">energy</button>' in run.stdout
    assert "<circle" in run.stdout.split('id="plot"')[1].split("</div>")[0]


def test_the_page_is_complete_without_its_script(page):
    content = page.read_text(encoding="utf-8").split("<script>")[0]
    assert '<div class="tools" hidden>' in content
    assert content.count("<tr") > 60


def test_page_prints_to_pdf(browser, page, tmp_path):
    target = tmp_path / "page.pdf"
    opened(browser, page, tmp_path / "profile", f"--print-to-pdf={target}")
    assert target.read_bytes().startswith(b"%PDF")
