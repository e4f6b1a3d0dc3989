"""The HTML page: self-contained, complete, escaped."""

import copy
import re

import pytest
from html_pages import parsed

from reports.html import render_report


@pytest.fixture(scope="module")
def page(record):
    return render_report([record])


def test_page_refers_to_nothing_outside_itself(page):
    for tag, attributes in parsed(page).elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        assert not set(attributes) & {"src", "href", "srcset", "xlink:href", "action", "style", "onload", "onclick"}
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_page_shows_every_layer_and_every_figure_of_the_headline(page, record):
    text = " ".join("".join(parsed(page).text).split())
    for layer in record["layers"]:
        assert layer["name"] in text
    for words in ("97.92 %", "Equal to the torch oracle", "W4A8 + OCS 0.05", "edge-32x32", "google", "overlapped"):
        assert words in text, words
    assert record["program_digest"] in text


def test_page_shows_where_every_price_comes_from(page, record):
    text = " ".join("".join(parsed(page).text).split())
    for source in record["sources"]:
        assert " ".join(source["citation"].split()) in text
        assert " ".join(source["what"].split()) in text
    assert record["band"] in text


def test_page_has_a_figure_for_accuracy_cycles_energy_area_and_layers(page):
    labels = {a["aria-label"] for tag, a in parsed(page).elements if tag == "svg" and "aria-label" in a}
    wanted = ("accuracy", "Cycles by cause", "Energy by component", "Area by component", "DRAM", "every layer")
    for words in wanted:
        assert any(words in label for label in labels), words


def test_every_colour_key_has_a_colour(page):
    style = page.split("<style>")[1].split("</style>")[0]
    for tag, attributes in parsed(page).elements:
        for name in (attributes.get("class") or "").split():
            if re.match(r"[cb]-\w", name):
                assert f".{name}" in style, f"{tag} {name}"


def test_text_from_records_is_escaped(record):
    hostile = copy.deepcopy(record)
    hostile["network"] = "<script>alert(1)</script>"
    hostile["layers"][0]["name"] = "<img src=x onerror=alert(1)>"
    hostile["notes"] = ["<b>note</b>"]
    page = render_report([hostile])
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>note" not in page
    assert "&lt;script&gt;" in page
    parsed(page)


def test_overflow_is_shown_where_it_happened(overflowing):
    text = "".join(parsed(render_report([overflowing])).text)
    assert "Where sums left their registers" in text
    assert "stem.0" in text.split("Where sums left their registers")[1]


def test_several_runs_are_compared(record, overflowing):
    page = render_report([record, overflowing], title="Two runs")
    text = "".join(parsed(page).text)
    assert "2 recipes on 2 accelerators" in text
    assert text.count("Every layer") == 2
    labels = [a["aria-label"] for tag, a in parsed(page).elements if tag == "svg" and "aria-label" in a]
    assert any("over energy on narrow" in label for label in labels)


def test_a_failed_proof_cannot_be_overlooked(record):
    failed = record | {"bit_exact": False, "bit_exact_difference": "conv 'stem.0': engine 1, oracle 2"}
    text = "".join(parsed(render_report([failed])).text)
    assert "Not equal" in text
    assert "engine 1, oracle 2" in text


def test_a_price_alone_makes_a_page_too(record):
    gone = {"accuracy", "images", "bit_exact", "bit_exact_images", "overflowed_outputs"}
    priced = {key: value for key, value in record.items() if key not in gone}
    text = "".join(parsed(render_report([priced])).text)
    assert "Energy by component" in text
    assert "Bit-exact" not in text


def test_no_runs_make_no_page():
    with pytest.raises(ValueError, match="at least one run"):
        render_report([])
