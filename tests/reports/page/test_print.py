"""The page on paper: the table says what it leaves out, and leaves out just that."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from html_pages import parsed
from made_up_stores import MadeUp

from reports.page.render import render_page
from reports.page.table import PAPER_ROWS


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    store = MadeUp(tmp_path_factory.mktemp("paper") / "paper.db")
    rng = np.random.default_rng(7)
    for place in range(PAPER_ROWS + 30):
        right = rng.random(100) < 0.5
        factors = {"weight_bits": 2 + place % 7, "ocs": place, "array.dataflow": "ws", "technology": "google"}
        store.design(right, factors, energy=float(1e6 * rng.lognormal()))
    return store.load()


@pytest.fixture(scope="module")
def page(many):
    return render_page(many).html


def test_the_page_says_what_is_printed(page):
    text = " ".join("".join(parsed(page).text).split())
    assert f"Printed: rows 1–{PAPER_ROWS} of {PAPER_ROWS + 30}, without cycles, utilization" in text
    assert "has all rows and columns" in text
    hidden = re.search(r"\.points tr > :nth-child\(n \+ (\d+)\), \.points tbody tr:nth-child\(n \+ (\d+) of", page)
    heads = re.findall(r'<th data-key="([^"]+)"', page)
    assert heads[int(hidden[1]) - 2 :][:2] == ["dram", "cycles"]
    assert int(hidden[2]) == PAPER_ROWS + 1


def test_the_pdf_holds_those_rows_and_nothing_is_cut(browser, page, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext here: the PDF is not read")
    html, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    html.write_text(page, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", f"--print-to-pdf={pdf}",
        html.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    digests = re.findall(r"\b0000[0-9a-f]{4}\b", text)
    printed = re.findall(r"<tr[^>]*><td>\w+</td><td>(\w{8})</td>", page)[:PAPER_ROWS]
    assert sorted(digests) == sorted(printed)
    assert f"1–{PAPER_ROWS} of {PAPER_ROWS + 30}" in text
    assert "traffic" in text  # the last column's head
    boxes = subprocess.run(["pdftotext", "-bbox", pdf, "-"], capture_output=True, text=True, check=True).stdout
    for width, words in re.findall(r'<page width="([\d.]+)"[^>]*>(.*?)</page>', boxes, flags=re.S):
        assert all(float(right) <= float(width) for right in re.findall(r'xMax="([\d.]+)"', words))
