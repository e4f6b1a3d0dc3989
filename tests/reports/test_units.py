"""Figures for people, and tables for terminals."""

import doctest

import pytest

from reports import figures, units
from reports.terminal import format_pairs, format_table, plain


@pytest.mark.parametrize("module", [units, figures], ids=lambda m: m.__name__)
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 pJ"), (0.5, "0.500 pJ"), (999.4, "999 pJ"), (999.6, "1.00 nJ"), (12_345, "12.3 nJ"), (2.5e12, "2.50 J")],
)
def test_energies_take_the_unit_that_keeps_them_short(value, text):
    assert units.energy(value).replace("\N{NO-BREAK SPACE}", " ") == text


def test_a_row_is_never_a_thousand_and_twenty_four_of_a_smaller_unit():
    assert units.storage(1024**2 - 1).endswith("MiB")
    assert units.storage(1023).endswith("1023\N{NO-BREAK SPACE}B")


def test_signs_of_differences_are_written_out():
    assert units.points(0.0123) == "+1.23"
    assert units.points(-0.0123) == "−1.23"


def test_table_columns_line_up():
    table = format_table(("name", "value"), [("a", "1"), ("long name", "12345")]).splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[2].startswith("a ")
    assert table[2].endswith("    1")


def test_long_texts_wrap_under_themselves():
    lines = format_pairs([("key", "word " * 40), ("longer key", "x")], width=60).splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert lines[1].startswith(" " * 12 + "word")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_text_reaches_terminals_of_any_encoding(encoding):
    text = plain("9\N{NARROW NO-BREAK SPACE}953 ── 12.8\N{NO-BREAK SPACE}µJ ± 4×4 mm²", encoding)
    assert text.encode(encoding)
    assert "?" not in text
    assert "9 953" in text
