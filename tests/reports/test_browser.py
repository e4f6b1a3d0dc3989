"""The page in a real browser: it opens, asks for nothing, shows every figure, and fits narrow and wide windows."""

import json
import re
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from reports.html import render_report

WIDTHS = (1280, 800, 400)

PROBE = """<script>
const shown = e => e.getClientRects().length > 0 && e.getBoundingClientRect().width > 0;
const drawn = [...document.querySelectorAll('.drawn')].filter(d => !d.closest('details:not([open])'));
parent.document.getElementById('probe' + innerWidth).textContent = JSON.stringify({
  scroll: document.documentElement.scrollWidth,
  figures: drawn.length,
  versions: drawn.map(d => [...d.children].filter(shown).length),
  texts: drawn.map(d => [...d.querySelectorAll('text')].filter(shown).length),
  cut: drawn.filter(d => [...d.querySelectorAll('svg')].some(s => shown(s)
    && s.getBoundingClientRect().right > d.getBoundingClientRect().right + 1)).length,
  requests: performance.getEntriesByType('resource').length,
  page: getComputedStyle(document.body).backgroundColor,
});
</script></body>"""


@pytest.fixture(scope="module")
def pages(record, overflowing, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    contents = {"one": [record], "overflow": [overflowing], "several": [record, overflowing]}
    for name, records in contents.items():
        (folder / f"{name}.html").write_text(render_report(records), encoding="utf-8")
    return folder


def opened(browser: str, page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        f"--user-data-dir={profile}", "--window-size=1400,1200", *flags, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def probed(browser: str, page: Path, folder: Path, *flags: str) -> dict[int, dict]:
    """Open copies of a page side by side at all widths (no window is as narrow as a phone) that measure themselves.

    The copies lack the page's security policy, which forbids scripts.
    """
    content = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8")).replace("</body>", PROBE)
    frames = "".join(
        f'<pre id="probe{width}"></pre>'
        f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(content)}"></iframe>'
        for width in WIDTHS
    )
    wrapper = folder / "probe.html"
    wrapper.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}</body>", encoding="utf-8")
    dom = opened(browser, wrapper, folder / "profile", "--dump-dom", *flags).stdout
    return {
        width: json.loads(unescape(re.search(rf'<pre id="probe{width}">(.*?)</pre>', dom, flags=re.S).group(1)))
        for width in WIDTHS
    }


@pytest.mark.parametrize("name", ["one", "overflow", "several"])
def test_every_figure_is_shown_once_and_nothing_is_wider_than_the_window(browser, pages, tmp_path, name):
    for width, seen in probed(browser, pages / f"{name}.html", tmp_path).items():
        assert seen["scroll"] <= width
        assert seen["figures"] >= 6
        assert set(seen["versions"]) == {1}
        assert seen["cut"] == 0
        assert seen["requests"] == 0
        assert sum(seen["texts"]) > 30


def test_page_turns_dark_where_that_is_preferred(browser, pages, tmp_path):
    for folder in (tmp_path / "light", tmp_path / "dark"):
        folder.mkdir()
    light = probed(browser, pages / "one.html", tmp_path / "light")[1280]["page"]
    dark = probed(browser, pages / "one.html", tmp_path / "dark", "--blink-settings=preferredColorScheme=0")
    assert dark[1280]["page"] != light


def test_browser_has_nothing_to_complain_about(browser, pages, tmp_path):
    run = opened(browser, pages / "several.html", tmp_path / "profile", "--enable-logging=stderr", "--dump-dom")
    assert "<h1>" in run.stdout
    assert "CONSOLE" not in run.stderr


def test_page_prints_to_pdf(browser, pages, tmp_path):
    target = tmp_path / "page.pdf"
    opened(browser, pages / "several.html", tmp_path / "profile", f"--print-to-pdf={target}")
    assert target.read_bytes().startswith(b"%PDF")
