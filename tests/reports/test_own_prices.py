"""Prices from a user's own tables on the command line: cost, run, sweep and the report of it."""

import json
from pathlib import Path

import pytest

from accelsim.config import load_accelerator
from accelsim.price_tables import price_tables
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate
from accelsim.technology import technology
from reports import cli
from reports.page.designs import load
from reports.page.render import render_page
from reports.sweep.store import Store

SHORT = ("--images", "24", "--calib", "32")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prices of `google` at 45 nm as Accelergy tables, with the widths that they are for."""
    accelerator, prices = load_accelerator("edge-32x32"), technology("google", 45)
    program = shape_program("net", [LayerShape(name="gemm", input=(64, 64), outputs=64)])
    ert, art = price_tables(simulate(program, accelerator, prices), accelerator, prices)
    folder = tmp_path_factory.mktemp("prices")
    (folder / "ERT.yaml").write_text(ert)
    (folder / "ART.yaml").write_text(art)
    sram = accelerator.weight_sram
    (folder / "own.yaml").write_text(f"""
name: own
node_nm: 45
tables: [ERT.yaml, ART.yaml]
roles:
  mac: {{component: pe, bits: [8, 8, 24]}}
  sram: {{component: weight_sram, bits: {sram.word_bits}, capacity_bytes: {sram.bytes // sram.banks},
         banks: {sram.banks}}}
  dram: {{component: dram, bits: 1}}
""")
    return folder / "own.yaml"


def accelsim(file: Path, *arguments: object) -> dict:
    assert cli.main([*map(str, arguments), "--json", str(file)]) == 0
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_technology_that_was_exported_prices_a_network_as_before(tables: Path, tmp_path: Path) -> None:
    told = accelsim(tmp_path / "own.json", "cost", "digits", "--calib", 32, "--technology", tables)
    named = accelsim(tmp_path / "google.json", "cost", "digits", "--calib", 32)
    assert told["cycles"] == named["cycles"]
    assert told["energy_pj"] == pytest.approx(named["energy_pj"], rel=1e-9)
    assert told["area_um2"] == pytest.approx(named["area_um2"], rel=1e-9)
    assert told["technology"].startswith("own@")
    assert "imported ERT/ART of own@" in told["sources"][0]["citation"]


def test_a_run_takes_them_too(tables: Path, tmp_path: Path) -> None:
    record = accelsim(tmp_path / "run.json", "run", "digits", *SHORT, "--technology", tables)
    assert record["technology"].startswith("own@")
    assert record["bit_exact"] is True


def test_tables_of_another_node_need_a_word(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("cost", "digits", "--calib", "32", "--accelerator", "gemmini-16x16", "--technology", str(tables))
    assert cli.main([*asked]) == 2
    assert "own@" in (said := capsys.readouterr().err)
    assert "--node 45" in said
    moved = accelsim(tmp_path / "moved.json", *asked, "--scaling", "google")
    assert moved["node_nm"] == 22


def test_a_store_says_where_its_prices_came_from_without_the_file(tables: Path, tmp_path: Path) -> None:
    study, store = tables.parent / "study.yaml", tmp_path / "own.db"
    study.write_text(
        "{name: own, accuracy: false, networks: [digits], recipes: [{weight_bits: [4, 8]}], "
        "accelerators: [edge-32x32], technologies: [google, own.yaml]}"
    )
    summary = accelsim(tmp_path / "s.json", "sweep", study, "--store", store, "--calib", 32, "--workers", 1)
    assert (summary["measured"], summary["refused"]) == (4, 0)
    again = accelsim(tmp_path / "s.json", "sweep", study, "--store", store, "--calib", 32, "--workers", 1)
    assert (again["measured"], again["kept"]) == (0, 4)
    with Store(store) as opened:
        (name,) = opened.records("prices")
    page = render_page(load([store])).html
    assert f"{name}, 45 nm" in page
    assert f"imported ERT/ART of {name} (sha256 " in page
    with Store(store, create=True) as opened:
        opened._db.execute("DELETE FROM records")
    assert "own tables, of which the store does not say more" in render_page(load([store])).html
