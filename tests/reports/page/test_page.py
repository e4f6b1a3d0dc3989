"""The page of a sweep: complete, self-contained, escaped, of bounded size."""

import base64
import hashlib
import re

import numpy as np
import pytest
from html_pages import parsed
from made_up_stores import MadeUp

from reports.page.designs import load
from reports.page.fronts import all_fronts
from reports.page.render import render_page
from reports.page.table import ROWS, build_table
from reports.page.versus import compare_designs, compare_stores, read_condition


@pytest.fixture(scope="module")
def page(loaded):
    return render_page(loaded)


def test_page_refers_to_nothing_outside_itself(page):
    for tag, attributes in parsed(page.html).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not set(attributes) & {"src", "srcset", "xlink:href", "action", "style", "onload", "onclick"}
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in page.html
    assert "@import" not in page.html


def test_the_only_script_is_the_one_that_the_policy_names(page):
    scripts = re.findall(r"<script>(.*?)</script>", page.html, flags=re.S)
    assert page.html.count("<script") == len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page.html


def test_page_holds_every_kind_of_figure(page):
    labels = {a["aria-label"] for tag, a in parsed(page.html).elements if tag == "svg" and "aria-label" in a}
    for words in (
        "against energy", "against latency", "against area", "against energy-delay product", "against weight bits",
        "cycles per batch by cause", "folds against expansion", "array cycles against expansion", "under their roofs",
        "layers under the roofs", "utilization of the array", "channels added", "under every setting",
    ):  # fmt: skip
        assert any(words in label for label in labels), words


def test_page_shows_every_point_with_its_reason_or_its_standing(page, loaded):
    text = "".join(parsed(page.html).text)
    (network,) = loaded.networks
    for design in network.designs:
        assert design.row.digest[:8] in text
    assert network.refused
    for row in network.refused:
        assert row.digest[:8] in text
        assert row.reason in text
    for words in ("isolated", "overlapped", "nangate45", network.digest, str(network.facts["origin"])):
        assert words in text


def test_page_names_the_sources_of_every_price(page, loaded):
    from accelsim.technology import technology

    text = " ".join("".join(parsed(page.html).text).split())
    for name in ("google", "nangate45"):
        for source in technology(name, 45.0).sources:
            assert " ".join(source.citation.split()) in text


def test_every_colour_key_has_a_colour(page):
    style = page.html.split("<style>")[1].split("</style>")[0]
    for _, attributes in parsed(page.html).elements:
        for name in (attributes.get("class") or "").split():
            if re.match(r"[cbk]-\w", name):
                assert f".{name}" in style, name


def test_text_from_stores_is_escaped(made_up, random_right):
    store = made_up()
    hostile = "<script>alert(1)</script>"
    for place in range(3):
        factors = {"weight_bits": place + 2, "name": hostile, "technology": "google"}
        store.design(random_right(place, 0.5), factors, recipe=f"<b>{place}</b>", energy=1e6 * (1 + place))
    store.refuse(hostile, {"weight_bits": 9, "technology": "google"})
    made = render_page(store.load())
    assert made.html.count("<script") == 1
    assert "<b>0" not in made.html
    assert "&lt;script&gt;" in made.html
    parsed(made.html)


@pytest.fixture(scope="module")
def many(tmp_path_factory, random_right):
    store = MadeUp(tmp_path_factory.mktemp("many") / "many.db")
    rng = np.random.default_rng(5)
    for place in range(3200):
        bits = int(rng.integers(2, 9))
        factors = {"weight_bits": bits, "ocs": place, "array.dataflow": "ws", "technology": "google"}
        right = random_right(place % 200, 0.1 * bits)
        store.design(right, factors, weight_bits=bits, energy=float(1e6 * rng.lognormal()))
    return store.load()


def test_a_page_of_thousands_of_points_stays_small(many):
    page = render_page(many)
    assert len(page.html.encode()) < 8e6
    assert page.html.count("<tr") > 3200


def test_a_table_that_is_full_keeps_what_is_on_a_front(many, monkeypatch):
    (network,) = many.networks
    fronts = all_fronts(network)
    monkeypatch.setattr("reports.page.table.ROWS", 100)
    table = build_table([(network, fronts)])
    assert ROWS > 100
    assert (len(table.rows), table.left_out) == (100, 3100)
    assert sum(row[0].text == "front" for row in table.rows) == fronts[0].counts("energy")["front"]


def test_conditions_pair_designs_that_are_equal_otherwise(loaded):
    versus = compare_designs(loaded, "weight_bits=4,ocs=0.05", "weight_bits=3,ocs=none")
    assert len(versus.pairs) == 12
    for pair in versus.pairs:
        rest = [
            {k: v for k, v in d.factors.items() if k not in ("weight_bits", "ocs")} for d in (pair.first, pair.second)
        ]
        assert rest[0] == rest[1]
        weights = next(line for line in pair.lines if line.name == "weights")
        expected = "behind" if pair.first.figures["weight_bytes"] > pair.second.figures["weight_bytes"] else "ahead"
        assert weights.verdict == expected
    assert sum(row["behind"] for row in versus.tally() if row["name"] == "weights") == 12
    assert "A against B" in render_page(loaded, versus).html


def test_two_digests_make_one_pair(loaded):
    first, second = (loaded.networks[0].designs[place].row.digest for place in (0, 5))
    (pair,) = compare_designs(loaded, first[:10], second[:10]).pairs
    assert (pair.first.row.digest, pair.second.row.digest) == (first, second)


def test_a_store_equals_itself(loaded):
    versus = compare_stores(loaded, loaded)
    assert len(versus.pairs) == len(loaded.networks[0].designs)
    assert {line.verdict for pair in versus.pairs for line in pair.lines} == {"equal"}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("weight_bits=4", "weight_bits=99", "no measured point fulfils weight_bits=99"),
        ("weight_bits=4", "width=4", "there is no factor 'width'"),
        ("weight_bits", "weight_bits=4", "must look like weight_bits=4"),
        ("ffffffffffff", "weight_bits=4", "must begin one measured point's digest"),
        ("weight_bits>=3", "weight_bits=4", "choose several designs"),
    ],
)
def test_comparisons_that_mean_nothing_are_refused(loaded, first, second, words):
    with pytest.raises(ValueError, match=words):
        compare_designs(loaded, first, second)


def test_conditions_are_read_as_their_types():
    assert read_condition("a=4,b=0.05,c=none,d=ws,e<3,f=true") == {
        "a": 4, "b": 0.05, "c": None, "d": "ws", "e": "< 3", "f": True,
    }  # fmt: skip


def test_old_and_empty_stores_are_refused(made_up, random_right):
    with pytest.raises(ValueError, match="has no points"):
        made_up("empty.db").load()
    store = made_up("old.db")
    store.design(random_right(0, 0.5), {})
    del store.rows[0].figures["accelerator_description"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="without a description of their machine"):
        store.load()


def test_a_point_that_two_stores_have_is_shown_once(swept):
    assert load([swept, swept]).points == load([swept]).points
