"""The commands sweep, merge and export: what they say and write, and how they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweeps import SMALL, contents

from reports import cli


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command; return its exit status and what it printed."""
    monkeypatch.delenv("ACCELSIM_DATA", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_shards_merged_are_the_whole_and_are_exported(tmp_path, study, said, small_store):
    for place in (1, 2):
        record = tmp_path / f"{place}.json"
        status, out, err = said(
            "sweep",
            study,
            "--store",
            tmp_path / f"{place}.db",
            "--shard",
            f"{place}/2",
            "--workers",
            1,
            "--json",
            record,
        )
        assert (status, err) == (0, "")
        found = json.loads(record.read_text())
        assert set(found) == {"study", "store", "points", "measured", "kept", "refused", "failures"}
        assert found["points"] == found["measured"] == len(contents(tmp_path / f"{place}.db")["points"])
        assert f"small: {found['points']} points, {found['points']} measured now, 0 from" in out
    record = tmp_path / "merge.json"
    target = tmp_path / "all.db"
    stores = (tmp_path / "1.db", tmp_path / "2.db", tmp_path / "1.db")
    status, out, _ = said("merge", *stores, "--store", target, "--json", record)
    assert status == 0
    assert contents(target) == contents(small_store)
    found = json.loads(record.read_text())
    assert set(found) == {"store", "points", "taken"}
    assert found["points"] == 16
    assert "16 points" in out
    status, out, err = said("sweep", study, "--store", target, "--workers", 1)
    assert (status, err) == (0, "")
    assert "16 points, 0 measured now, 16 from" in out
    table, record = tmp_path / "t.csv", tmp_path / "export.json"
    assert said("export", target, table, "--json", record)[0] == 0
    assert json.loads(record.read_text()) == {"file": str(table), "points": 16}
    assert len(table.read_text().splitlines()) == 17


def test_refused_points_are_counted_and_failures_end_with_1(tmp_path, study, said, monkeypatch):
    plain = SMALL | {
        "technologies": ["nangate45"],
        "recipes": [{"weight_bits": 4}],
        "accelerators": [{"base": "edge-32x32", "node_nm": [45.0, 65.0]}],
    }
    study.write_text(yaml.safe_dump(plain))
    status, out, _ = said("sweep", study, "--store", tmp_path / "s.db", "--workers", 1)
    assert status == 0
    assert "1 points cannot be built or priced; the store says why" in out

    def broken(unit: Any) -> Any:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("reports.sweep.sweep.measure", broken)
    status, out, _ = said("sweep", study, "--store", tmp_path / "t.db", "--workers", 1)
    assert status == 1
    assert "failed: digits weight_bits=4: RuntimeError: no such luck" in out


def _make(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no store, and not the beginning of one")
    (tmp_path / "bad.yaml").write_text(
        "name: x\nnetworks: [digits]\nrecipes: [{weight_bits: 40}]\naccelerators: [nope]\n"
    )
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(SMALL | {"networks": ["digitz"]}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep", "none.yaml", "--store", "s.db"), "does not exist"),
        (("sweep", "bad.yaml", "--store", "s.db"), "has 2 error(s)"),
        (("sweep", "net.yaml", "--store", "s.db"), "digitz"),
        (("sweep", "study.yaml"), "--store"),
        (("sweep", "study.yaml", "--store", "text.db"), "no store"),
        (("sweep", "study.yaml", "--store", "."), "folder"),
        (("sweep", "study.yaml", "--store", "none/s.db"), "must exist and be writable"),
        (("sweep", "study.yaml", "--store", "s.db", "--workers", "0"), "workers must be >= 1"),
        (("sweep", "study.yaml", "--store", "s.db", "--workers", "two"), "--workers"),
        (("sweep", "study.yaml", "--store", "s.db", "--shard", "3/2"), "shard must be"),
        (("sweep", "study.yaml", "--store", "s.db", "--shard", "half"), "2/8"),
        (("sweep", "study.yaml", "--store", "s.db", "--workers", "2", "--scheduler", "tcp://x:1"), "--scheduler"),
        (("sweep", "study.yaml", "--store", "s.db", "--json", "none/x.json"), "does not exist"),
        (("merge", "none.db", "--store", "s.db"), "none.db must exist"),
        (("merge", "text.db", "--store", "new.db"), "no store"),
        (("export", "none.db", "t.csv"), "none.db does not exist"),
        (("export", "text.db", "t.csv"), "no store"),
        (("export", "small.db", "t.xlsx"), "must end in one of"),
        (("export", "small.db", "none/t.csv"), "does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_is_one_line(tmp_path, study, said, small_store, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    _make(tmp_path)
    (tmp_path / "small.db").write_bytes(small_store.read_bytes())
    status, out, err = said(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("accelsim: ")
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "new.db").exists()
