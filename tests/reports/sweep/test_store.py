"""The store: what is written is read, once; what is no store, or a damaged one, is refused in a line."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweeps import contents

from reports.sweep.export import export_store
from reports.sweep.store import VERSION, Accuracy, NetworkRow, Row, Store

ROOT = Path(__file__).parents[3]
ODD = 'a "quoted", comma\nand line – ☃'


def row(place: int, **changes: Any) -> Row:
    plain: dict[str, Any] = {
        "digest": f"{place:032x}",
        "network": "n",
        "factors": {"weight_bits": place, "ocs": None, "recipe": ODD},
        "accuracy_key": f"key{place % 7}",
        "figures": {"accuracy": place / 7, "cycles": place**9, "energy_pj": {"total": 0.1 * place, "pe": 1e-300}},
        "layers": {"name": ["a", "b"], "cycles": [place, 2**53]},
    }
    return Row(**(plain | changes))


def accuracy(place: int) -> Accuracy:
    tallies = np.random.default_rng(place).random((500, 2))
    return Accuracy(key=f"key{place}", network="n", figures={"accuracy": place / 9}, layers={"a": {}}, tallies=tallies)


NETWORK = NetworkRow(digest="n", facts={"network": ODD}, tallies=np.array([[1.0, 2.0], [3.0, np.pi]]))


def filled(path: Path, places: range) -> Path:
    with Store(path, create=True) as store:
        store.add([row(place) for place in places], [accuracy(place % 7) for place in places], [NETWORK])
        store.keep("kind", "key", {"of": ODD})
    return path


def refused(path: Path, *, create: bool = False) -> str:
    """Return the one line with which a store is refused, whether at opening or at reading."""
    with pytest.raises(ValueError) as caught:
        _read_all(path, create)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def _read_all(path: Path, create: bool) -> None:
    with Store(path, create=create) as store:
        list(store.rows(layers=True))
        store.accuracies(tallies=True)
        store.networks()
        store.records("kind")


# --- what it keeps ---------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path):
    path = filled(tmp_path / "s.db", range(20))
    with Store(path) as store:
        assert store.count() == 20
        found = list(store.rows(layers=True))
        assert [vars(item) for item in found] == [vars(row(place)) for place in range(20)]
        assert store.digests() == {item.digest for item in found}
        assert store.layers(row(3).digest) == row(3).layers
        assert np.array_equal(store.accuracies(tallies=True)["key3"].tallies, accuracy(3).tallies)
        assert store.accuracies("other") == {}
        assert store.accuracies("n")["key3"].tallies.shape == (0, 2)
        assert np.array_equal(store.networks()["n"].tallies, NETWORK.tallies)
        assert store.networks()["n"].facts == NETWORK.facts
        assert store.records("kind") == {"key": {"of": ODD}}
        with pytest.raises(ValueError, match="has no point"):
            store.layers("x")


def test_what_is_there_stays(tmp_path):
    path = filled(tmp_path / "s.db", range(5))
    with Store(path, create=True) as store:
        store.add([row(2, figures={"accuracy": 9.0}), row(5)])
        assert store.count() == 6
        assert [r.figures["accuracy"] for r in store.rows()][2] == row(2).figures["accuracy"]


def test_all_of_an_addition_or_nothing(tmp_path):
    path = filled(tmp_path / "s.db", range(5))
    with Store(path, create=True) as store:
        with pytest.raises(ValueError, match="JSON"):
            store.add([row(7), row(8, figures={"accuracy": float("nan")})])
        assert store.count() == 5
        store.add([row(7)])
        assert store.count() == 6


# --- merging ---------------------------------------------------------------------------------------------------------


def test_overlapping_stores_merge(tmp_path):
    first, second = filled(tmp_path / "a.db", range(12)), filled(tmp_path / "b.db", range(8, 20))
    before = contents(second)
    with Store(first, create=True) as store:
        assert store.merge(second) == 8
        assert store.merge(second) == 0
        assert store.merge(first) == 0
    assert contents(first) == contents(filled(tmp_path / "whole.db", range(20)))
    assert contents(second) == before
    with Store(first) as store:
        assert store.records("kind") == {"key": {"of": ODD}}


def test_a_merge_takes_all_or_nothing(tmp_path):
    first, second = filled(tmp_path / "a.db", range(3)), filled(tmp_path / "b.db", range(3, 4000))
    before = contents(first)
    with Store(first, create=True) as store:
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages + 20}")
        with pytest.raises(ValueError, match=r"disk is full; free some space"):
            store.merge(second)
        store._db.execute("PRAGMA max_page_count=1000000")
        assert store.count() == 3
    assert contents(first) == before
    (tmp_path / "text.db").write_text("no store")
    with Store(first, create=True) as store:
        for bad in (tmp_path / "text.db", tmp_path / "none.db", tmp_path):
            with pytest.raises(ValueError, match=str(bad)):
                store.merge(bad)
    assert contents(first) == before


def test_a_damaged_store_is_not_merged(tmp_path):
    first, second = filled(tmp_path / "a.db", range(3)), filled(tmp_path / "b.db", range(3, 40))
    before = contents(first)
    _swap(second, b'"weight_bits":11,', b'"weight_bits":12,')
    with Store(first, create=True) as store, pytest.raises(ValueError, match=r"b\.db.*damaged"):
        store.merge(second)
    assert contents(first) == before


# --- what is no store ------------------------------------------------------------------------------------------------


def _other_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE points (digest TEXT)")
    db.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (_other_database, "something else"),
        (lambda path: path.write_text("some words, more than a hundred of them, " * 100), "no store"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000), "store"),
        (lambda path: path.symlink_to(path), "store"),
    ],
    ids=["folder", "other database", "text", "header alone", "link to itself"],
)  # fmt: skip
@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_store(tmp_path, make, words, create):
    path = tmp_path / "s.db"
    make(path)
    if words == "store" and not create:
        refused(path)
        return
    assert words in refused(path, create=create)


def test_an_empty_file_becomes_a_store_when_written_to(tmp_path):
    path = tmp_path / "s.db"
    path.touch()
    assert "something else" in refused(path)
    assert len(contents(filled(path, range(3)))["points"]) == 3


def test_folders_that_do_not_exist(tmp_path):
    assert "accelsim sweep" in refused(tmp_path / "s.db")
    assert "must exist and be writable" in refused(tmp_path / "none" / "s.db", create=True)


@pytest.mark.parametrize("version", [0, VERSION - 1, VERSION + 1, 999])
@pytest.mark.parametrize("create", [False, True])
def test_stores_of_other_versions(copied: Callable[[str], Path], version, create):
    path = copied("s.db")
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={version}")
    db.close()
    before = path.read_bytes()
    assert f"has version {version}, this package reads {VERSION}" in refused(path, create=create)
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", ["points", "networks", "accuracies"])
def test_missing_tables(copied: Callable[[str], Path], table):
    path = copied("s.db")
    with sqlite3.connect(path) as db:
        db.execute(f"DROP TABLE {table}")
    db.close()
    assert "damaged" in refused(path)
    assert "damaged" in refused(path, create=True)


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_stores(copied: Callable[[str], Path], small_store: Path, share):
    path = copied("s.db")
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(share * len(whole)))])
    try:
        assert contents(path) == contents(small_store)  # nothing but unused bytes were lost
    except ValueError as error:
        _is_line(error, path)
    else:
        assert share > 0.99


def test_flipped_bytes_are_never_misread(copied: Callable[[str], Path], small_store: Path, rng: np.random.Generator):
    expected, whole = contents(small_store), small_store.read_bytes()
    path, lines = copied("s.db"), 0
    for place in rng.integers(100, len(whole), 150):
        spoilt = bytearray(whole)
        spoilt[place] ^= int(rng.integers(1, 256))
        path.write_bytes(spoilt)
        try:
            found = contents(path)
        except ValueError as error:
            lines += _is_line(error, path)
        else:
            assert found == expected, place  # the byte was not in use
    assert lines > 50


def _is_line(error: ValueError, path: Path) -> bool:
    assert "\n" not in str(error)
    assert str(path) in str(error)
    return True


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"images":24', b'"images":25'),
        (b'"weight_bits":3', b'"weight_bits":4'),
        (b'"network":"digits"', b'"network":"digitz"'),
    ],
)  # fmt: skip
def test_one_digit_of_the_text_changed_is_noticed(copied: Callable[[str], Path], old, new):
    path = copied("s.db")
    _swap(path, old, new)
    assert "damaged" in refused(path)


def _swap(path: Path, old: bytes, new: bytes) -> None:
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))


# --- disks and folders -----------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_was_stored(tmp_path):
    path = filled(tmp_path / "s.db", range(10))
    before = contents(path)
    with Store(path, create=True) as store:
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages + 5}")
        with pytest.raises(ValueError, match=r"disk is full; free some space; what was stored is kept"):
            store.add([row(place) for place in range(10, 2000)])
        assert store.count() == 10
    assert contents(path) == before
    assert len(contents(filled(path, range(2000)))["points"]) == 2000


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _add_until_it_fails(store: Store) -> None:
    for place in range(10, 20000):
        store.add([row(place, layers={"noise": np.random.default_rng(place).random(50).tolist()})])


def test_a_disk_that_is_really_full(mounted):
    path = filled(mounted / "s.db", range(10))
    with Store(path, create=True) as store:
        with pytest.raises(ValueError, match=r"(full|disk I/O).*what was stored is kept"):
            _add_until_it_fails(store)
        stored = store.count()
        assert stored > 20
    with pytest.raises((ValueError, OSError)), Store(path) as store:
        export_store(store, mounted / "s.csv")
    assert [item.name for item in mounted.iterdir() if "csv" in item.name] == []
    with Store(path) as store:
        assert [item.digest for item in store.rows()] == [row(place).digest for place in range(stored)]


def test_a_read_only_folder_is_read_and_not_written(mounted):
    path = filled(mounted / "s.db", range(10))
    expected = contents(path)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    assert "writable" in refused(path, create=True)
    assert "writable" in refused(mounted / "new.db", create=True)
    assert contents(path) == expected
    with Store(mounted.parent / "other.db", create=True) as store:
        assert store.merge(path) == 10


def test_a_folder_of_the_kernel_takes_no_store():
    assert "must exist and be writable" in refused(Path("/proc/self/s.db"), create=True)


# --- several at once -------------------------------------------------------------------------------------------------


WRITER = """
import sys
from pathlib import Path
from reports.sweep.store import Row, Store
with Store(Path(sys.argv[1]), create=True) as store:
    for place in range(int(sys.argv[2]), 1_000_000):
        rows = [Row(digest=f"{n:032x}", network="n", factors={}, figures={}, layers={}) for n in (place, place + 10**6)]
        store.add(rows)
        print(place, flush=True)
"""


def test_killed_writers_leave_whole_additions(tmp_path):
    path = filled(tmp_path / "s.db", range(3))
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, cwd=ROOT)
        for start in (100, 200)
    ]
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(20):
            assert writer.stdout.readline()
    with Store(path) as store:  # reads while others write
        assert sum(1 for _ in store.rows(layers=True)) >= 40
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert path.with_name("s.db-wal").exists()  # nobody closed it
    found = {int(digest, 16) for digest, *_ in contents(path)["points"]}
    pairs = found - set(range(3))
    assert pairs
    assert all((place + 10**6 in pairs) != (place - 10**6 in pairs) for place in pairs)
    assert len(contents(filled(path, range(4)))["points"]) == len(found) + 1


def test_readers_see_whole_additions_while_another_writes(tmp_path):
    path = filled(tmp_path / "s.db", range(2))
    seen: list[int] = []

    def read() -> None:
        while not seen or seen[-1] < 402:
            with Store(path) as store:
                seen.append(sum(1 for _ in store.rows(layers=True)))

    reader = threading.Thread(target=read)
    reader.start()
    with Store(path, create=True) as store:
        for start in range(2, 402, 10):
            store.add([row(place) for place in range(start, start + 10)])
    reader.join(timeout=60)
    assert not reader.is_alive()
    assert seen == sorted(seen)
    assert all(count % 10 == 2 for count in seen)


def test_a_store_that_is_being_written_to_is_waited_for_with_a_limit(tmp_path, monkeypatch):
    path = filled(tmp_path / "s.db", range(2))
    monkeypatch.setattr("reports.sweep.store.WAIT_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    try:
        with Store(path, create=True) as store:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ValueError, match="another sweep"):
                store.add([row(5)])
            other.execute("ROLLBACK")
            store.add([row(5)])
            assert store.count() == 3
    finally:
        other.close()
