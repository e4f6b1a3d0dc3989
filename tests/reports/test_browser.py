"""The page in a real browser: it opens, asks for nothing, shows every figure, and fits narrow and wide windows."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from reports.html import render_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

PROBE = """<script>
const shown = e => e.getClientRects().length > 0 && e.getBoundingClientRect().width > 0;
const drawn = [...document.querySelectorAll('.drawn')].filter(d => !d.closest('details:not([open])'));
document.body.insertAdjacentHTML('beforeend', '<pre id="probe"></pre>');
document.getElementById('probe').textContent = JSON.stringify({
  width: innerWidth,
  scroll: document.documentElement.scrollWidth,
  figures: drawn.length,
  versions: drawn.map(d => [...d.children].filter(shown).length),
  text: drawn.map(d => [...d.querySelectorAll('text')].filter(shown).length),
  cut: drawn.filter(d => [...d.querySelectorAll('svg')].some(s => shown(s)
    && s.getBoundingClientRect().right > d.getBoundingClientRect().right + 1)).length,
  requests: performance.getEntriesByType('resource').length,
  dark: getComputedStyle(document.body).backgroundColor,
});
</script></body>"""


@pytest.fixture(scope="module")
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: the page is not opened in a browser")
    return found


@pytest.fixture(scope="module")
def pages(record, overflowing, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    contents = {"one": [record], "overflow": [overflowing], "several": [record, overflowing]}
    for name, records in contents.items():
        (folder / f"{name}.html").write_text(render_report(records), encoding="utf-8")
    return folder


def opened(browser: str, page: Path, profile: Path, width: int, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking",
        f"--user-data-dir={profile}", f"--window-size={width},1200", *flags, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def probed(browser: str, page: Path, profile: Path, width: int, *flags: str) -> dict:
    """Open a copy of a page that measures itself: without its security policy, which forbids scripts."""
    content = page.read_text(encoding="utf-8")
    content = re.sub(r"<meta http-equiv=[^>]*>", "", content).replace("</body>", PROBE)
    copy = profile.parent / f"probe-{page.name}"
    copy.write_text(content, encoding="utf-8")
    dom = opened(browser, copy, profile, width, "--dump-dom", *flags).stdout
    found = re.search(r'<pre id="probe">(.*?)</pre>', dom, flags=re.S)
    assert found, dom[-2000:]
    return json.loads(unescape(found.group(1)))


@pytest.mark.parametrize("name", ["one", "overflow", "several"])
@pytest.mark.parametrize("width", [1280, 800, 400])
def test_every_figure_is_shown_once_and_nothing_is_wider_than_the_window(browser, pages, tmp_path, name, width):
    seen = probed(browser, pages / f"{name}.html", tmp_path / "profile", width)
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["figures"] >= 6
    assert set(seen["versions"]) == {1}
    assert seen["cut"] == 0
    assert seen["requests"] == 0


def test_figures_carry_their_words_as_text(browser, pages, tmp_path):
    seen = probed(browser, pages / "one.html", tmp_path / "profile", 1280)
    assert sum(seen["text"]) > 30


def test_page_turns_dark_where_that_is_preferred(browser, pages, tmp_path):
    light = probed(browser, pages / "one.html", tmp_path / "a", 1280)["dark"]
    dark = probed(browser, pages / "one.html", tmp_path / "b", 1280, "--blink-settings=preferredColorScheme=0")["dark"]
    assert light != dark


def test_browser_has_nothing_to_complain_about(browser, pages, tmp_path):
    run = opened(browser, pages / "several.html", tmp_path / "profile", 1280, "--enable-logging=stderr", "--dump-dom")
    assert "<h1>" in run.stdout
    assert "CONSOLE" not in run.stderr


def test_page_prints_to_pdf(browser, pages, tmp_path):
    target = tmp_path / "page.pdf"
    opened(browser, pages / "several.html", tmp_path / "profile", 1280, f"--print-to-pdf={target}")
    assert target.read_bytes().startswith(b"%PDF")
