"""The demo, on one accelerator."""

import pytest

from reports import demo
from reports.html import render_report


@pytest.fixture(scope="module")
def records():
    return demo.run_demo(accelerators=("gemmini-16x16",))


def test_splitting_recovers_what_four_bits_lose(records):
    plain8, plain4, split2, split5 = (record["accuracy"]["integer"] for record in records)
    assert plain4 < split2 <= split5 <= plain8
    assert all(record["bit_exact"] for record in records)


def test_four_bits_cost_less_than_eight_and_splits_something(records):
    energies = [record["energy_pj"]["total"] for record in records]
    assert energies[1] < energies[2] < energies[3] < energies[0]
    assert records[1]["weight_bytes"] < records[2]["weight_bytes"] < records[3]["weight_bytes"]


def test_table_has_a_row_for_every_run_and_the_page_a_line(records):
    table = demo.demo_table(records)
    page = render_report(records)
    for record in records:
        assert record["recipe"] in table
        assert record["recipe"] in page
    assert table.count("yes (64)") == 4
