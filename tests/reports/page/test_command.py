"""The command ``accelsim report``."""

import json

import pytest
from made_up_stores import MadeUp

from reports.cli import main


@pytest.fixture
def small(tmp_path, random_right):
    """A store of four designs."""
    store = MadeUp(tmp_path / "small.db")
    for place, bits in enumerate((3, 4, 5, 8)):
        factors = {"weight_bits": bits, "technology": "google"}
        store.design(random_right(place, 0.1 * bits), factors, weight_bits=bits, energy=1e6 * bits)
    store.load()
    return store.path


def test_a_page_and_its_figures_are_written(small, tmp_path, capsys):
    page, folder, record = tmp_path / "page.html", tmp_path / "figures", tmp_path / "report.json"
    asked = ["report", str(small), "--html", str(page), "--figures", str(folder), "--json", str(record)]
    assert main(asked) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    written = json.loads(record.read_text(encoding="utf-8"))
    names = {path.name for path in folder.iterdir()}
    assert {path.rsplit("/", 1)[1] for path in written["figures"]} == names
    assert {name.removesuffix(".svg") for name in names if name.endswith(".svg")} == {
        name.removesuffix(".png") for name in names if name.endswith(".png")
    }
    assert written["points"] == 4
    assert "wrote" in capsys.readouterr().out


def test_designs_are_compared(small, tmp_path):
    page = tmp_path / "page.html"
    assert main(["report", str(small), "--html", str(page), "--compare", "weight_bits=3", "weight_bits=8"]) == 0
    assert "A against B" in page.read_text(encoding="utf-8")
    assert main(["report", str(small), "--html", str(page), "--compare", str(small), str(small)]) == 0


def test_records_of_runs_are_shown_side_by_side(record, overflowing, tmp_path):
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, one in zip(paths, (record, overflowing), strict=True):
        path.write_text(json.dumps(one), encoding="utf-8")
    page = tmp_path / "page.html"
    assert main(["report", *map(str, paths), "--html", str(page)]) == 0
    assert "2 recipes on 2 accelerators" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["{store}"], "--html FILE or --figures DIR must be given"),
        (["missing.db", "--html", "{page}"], "missing.db does not exist"),
        (["{text}", "--html", "{page}"], "neither a store nor JSON"),
        (["{json}", "--html", "{page}"], "no record of `accelsim run --json`"),
        (["{store}", "{json}", "--html", "{page}"], "must be reported apart"),
        (["{json}", "--figures", "{page}"], "must be given with stores"),
        (["{store}", "--html", "{page}", "--compare", "{store}", "weight_bits=3"], "must both be stores"),
        (["{store}", "--html", "{page}", "--compare", "weight_bits=3", "bits=3"], "there is no factor 'bits'"),
        (["{store}", "--html", "nowhere/page.html"], "does not exist"),
    ],
)
def test_bad_input_is_one_line(small, tmp_path, capsys, asked, words):
    (tmp_path / "text.txt").write_text("no JSON", encoding="utf-8")
    (tmp_path / "some.json").write_text('{"a": 1}', encoding="utf-8")
    places = {"store": small, "page": tmp_path / "page.html", "text": tmp_path / "text.txt"}
    places["json"] = tmp_path / "some.json"
    assert main(["report", *(part.format(**places) for part in asked)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
