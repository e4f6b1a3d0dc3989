"""Tables of a store: CSV, JSON Lines and Parquet hold what it holds."""

import csv
import json
from pathlib import Path

import pytest
from sweeps import rows_of

from reports.sweep.export import export_store, flat
from reports.sweep.store import REFUSED, Row, Store

REASON = 'technology "x" has prices for 45..65 nm only,\nit is at 500 nm; – say so'
ROWS = [
    Row(
        digest="0", network="n", factors={"ocs": None, "bits": 4, "file": "a,b"}, figures={"cycles": 1, "share": 1},
        layers={},
    ),
    Row(digest="1", network="n", factors={"ocs": 0.05}, figures={"share": 0.1 + 0.2, "ok": True}, layers={}),
    Row(digest="2", network="n", factors={"ocs": "fill"}, status=REFUSED, reason=REASON, figures={}, layers={}),
    Row(
        digest="3", network="n", factors={"ocs": None, "array": {"rows": 4}},
        figures={"energy_pj": {"total": 1e-300, "pe": 2**53}, "notes": ["a", "b; c"],
                 "machine": {"array": {"rows": 7}}},
        layers={}, accuracy_key="k",
    ),
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    with Store(path, create=True) as made:
        made.add(ROWS)
    return path


def exported(store: Path, name: str) -> Path:
    path = store.with_name(name)
    with Store(store) as opened:
        assert export_store(opened, path) == len(ROWS)
    return path


def test_rows_become_flat():
    assert flat(ROWS[3]) == {
        "digest": "3", "network_digest": "n", "status": "done", "reason": "", "accuracy_key": "k", "factor.ocs": None,
        "factor.array.rows": 4, "energy_pj.total": 1e-300, "energy_pj.pe": 2**53, "notes": "a; b; c",
        "machine.array.rows": 7,
    }  # fmt: skip


def test_csv(store):
    with exported(store, "t.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    for found, row in zip(table, ROWS, strict=True):
        written = flat(row)
        assert {name: value for name, value in found.items() if name not in written} == dict.fromkeys(
            set(found) - set(written), ""
        )
        assert {name: found[name] for name in written} == {n: "" if v is None else str(v) for n, v in written.items()}
    assert float(table[1]["share"]) == 0.1 + 0.2
    assert table[2]["reason"] == REASON


def test_json_lines(store):
    lines = exported(store, "t.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [flat(row) for row in ROWS]


def test_parquet(store):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    table = parquet.read_table(exported(store, "t.parquet")).to_pylist()
    assert [row["share"] for row in table] == [1.0, 0.1 + 0.2, None, None]
    assert [row["factor.ocs"] for row in table] == [None, "0.05", "fill", None]
    assert [row["factor.bits"] for row in table] == [4, None, None, None]
    assert [row["ok"] for row in table] == [None, True, None, None]
    assert table[2]["reason"] == REASON
    assert table[3]["energy_pj.pe"] == 2**53


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.CSV.gz"])
def test_other_suffixes_are_refused(store, name):
    with Store(store) as opened, pytest.raises(ValueError, match=r"must end in one of .csv, .jsonl, .parquet"):
        export_store(opened, store.with_name(name))
    assert not store.with_name(name).exists()


def test_a_swept_store_is_exported(small_store, tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    rows = rows_of(small_store)
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        with Store(small_store) as opened:
            assert export_store(opened, tmp_path / name) == len(rows)
    found = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row["cycles"] for row in found] == [row.figures["cycles"] for row in rows]
    assert not any(isinstance(value, dict | list) for row in found for value in row.values())


def test_an_empty_store_is_an_empty_table(tmp_path):
    with Store(tmp_path / "s.db", create=True) as opened:
        assert export_store(opened, tmp_path / "t.csv") == 0
        assert export_store(opened, tmp_path / "t.jsonl") == 0
    assert (tmp_path / "t.jsonl").read_bytes() == b""
