"""A network that was priced alone, and one whose metric is better where it is less."""

import pytest
from html_pages import parsed
from made_up_stores import figures, layers

from reports.page.designs import load
from reports.page.render import render_page
from reports.page.versus import compare_designs
from reports.sweep.store import NetworkRow, Row, Store

NOT_EXECUTED = {"metric": None, "accuracy": None, "standard_error": None, "images": 0, "bit_exact": None}


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    path = tmp_path_factory.mktemp("priced") / "priced.db"
    executed = ("float", "bit_exact_images", "overflowed_outputs", "program_digest", "higher_is_better", "difference")
    rows = []
    for place, bits in enumerate((3, 4, 8)):
        plain = {k: v for k, v in figures(energy=1e6 * bits).items() if k not in executed} | NOT_EXECUTED
        factors = {"network": "topology.csv", "weight_bits": bits, "technology": "google"}
        rows.append(Row(digest=f"{place:032x}", network="n" * 32, factors=factors, figures=plain, layers=layers(bits)))
    facts = {"network": "topology", "seed": 0, "numerics_version": 1, "images": 0, "metric": None}
    facts |= {"executed": False, "float": False}
    with Store(path, create=True) as store:
        store.add(rows, networks=[NetworkRow(digest="n" * 32, facts=facts, tallies=None)])
    return load([path])


def test_a_network_without_accuracy_has_a_page(priced):
    page = render_page(priced)
    text = " ".join("".join(parsed(page.html).text).split())
    assert "priced, not executed" in text
    assert "What accuracy costs" not in text
    assert "Energy by component against weight bits" in text
    assert not any("pareto" in figure.name for figure in page.figures)


def test_it_is_compared_by_its_costs(priced):
    (pair,) = compare_designs(priced, "weight_bits=3", "weight_bits=8").pairs
    assert [line.name for line in pair.lines][:2] == ["energy", "latency"]
    assert pair.lines[0].verdict == "ahead"
    assert "A against B" in render_page(priced, compare_designs(priced, "weight_bits=3", "weight_bits=8")).html
