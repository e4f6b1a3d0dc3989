"""The store of a sweep: one SQLite file, a row for every point as soon as it is known.

SQLite's write-ahead log keeps what was committed through a crash, a full disk and a second sweep on the same file. It
needs a local file system: sweeps on several machines write a store each, which `merge` puts together.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

APPLICATION = 0x6163_6373
"""Marks a SQLite file as one of ours (its application id)."""

VERSION = 1
"""Of the tables; a store of another version is refused."""

WAIT_S = 120.0
"""How long to wait for another sweep that writes."""

_TABLES = """
CREATE TABLE networks (
    digest TEXT PRIMARY KEY, facts TEXT NOT NULL, tallies BLOB
) WITHOUT ROWID;
CREATE TABLE accuracies (
    key TEXT PRIMARY KEY, network TEXT NOT NULL, figures TEXT NOT NULL, layers BLOB NOT NULL, tallies BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE points (
    digest TEXT PRIMARY KEY, network TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, factors TEXT NOT NULL,
    accuracy_key TEXT, figures TEXT NOT NULL, layers BLOB NOT NULL
) WITHOUT ROWID;
CREATE VIEW designs AS SELECT digest, status,
    json_extract(factors, '$.network') AS network, json_extract(figures, '$.recipe') AS recipe,
    json_extract(figures, '$.accelerator') AS accelerator, json_extract(figures, '$.technology') AS technology,
    json_extract(figures, '$.accuracy') AS accuracy, json_extract(figures, '$.cycles') AS cycles,
    json_extract(figures, '$.energy_pj.total') AS energy_pj, json_extract(figures, '$.area_um2.total') AS area_um2
FROM points;
"""

_RECORDS = """
CREATE TABLE IF NOT EXISTS main.records (
    kind TEXT NOT NULL, key TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""
"""Made with the first record: a store of sweeps alone has none."""

DONE, REFUSED = "done", "refused"


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkRow:
    """A network with its samples: facts by name, and the float network's tallies (``None`` where there is none)."""

    digest: str
    facts: Mapping[str, Any]
    tallies: NDArray[np.float64] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Accuracy:
    """What one Program did under one way of adding up.

    Parameters
    ----------
    key, network
        Its digest, and its network's.
    figures
        Accuracy with errors, bit-exactness, overflow.
    layers
        What happened in the registers, by layer name; layers without overflow left out.
    tallies
        Of the metric per sample, ``[samples, 2]``; empty where only figures are wanted.
    """

    key: str
    network: str
    figures: Mapping[str, Any]
    layers: Mapping[str, Any]
    tallies: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One point.

    Parameters
    ----------
    digest, network
        Its own digest, and its network's.
    status, reason
        ``done``, or ``refused`` with the reason in a line.
    factors
        The study's words for it.
    accuracy_key
        Of its `Accuracy`.
    figures
        All of a point's numbers, the accuracy's included; empty where refused.
    layers
        Columns by name, one value per layer.
    """

    digest: str
    network: str
    status: str = DONE
    reason: str = ""
    factors: Mapping[str, Any]
    accuracy_key: str | None = None
    figures: Mapping[str, Any]
    layers: Mapping[str, list[Any]]


class Store:
    """An open store; use it in a ``with`` block."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open a store.

        Raises
        ------
        ValueError
            If there is none (and none is to be made), it is no store or one of another version, or it cannot be
            written to.
        """
        self.path = path
        if not create and not path.is_file():
            raise ValueError(f"store {path} does not exist; `accelsim sweep STUDY.yaml --store {path}` makes one")
        with self._said():
            self._db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        try:
            with self._said():
                self._prepare(create)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, create: bool) -> None:
        with self._writing("EXCLUSIVE") if create else self._reading():
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not tables and not application and create:
                self._make()
                application, version = APPLICATION, VERSION
        if application != APPLICATION:
            raise ValueError(f"store {self.path} is a database of something else; give another file")
        if version != VERSION:
            raise ValueError(
                f"store {self.path} has version {version}, this package reads {VERSION}; sweep into a new file, or use "
                "the version of accelsim that wrote it"
            )
        if create:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")

    def _make(self) -> None:
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id={APPLICATION}")
        self._db.execute(f"PRAGMA user_version={VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._db.close()

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(
        self,
        rows: Iterable[Row] = (),
        accuracies: Iterable[Accuracy] = (),
        networks: Iterable[NetworkRow] = (),
    ) -> None:
        """Write all or nothing; what is there already stays as it is.

        Raises
        ------
        ValueError
            If the disk is full or the file cannot be written to; what was stored before is kept.
        """
        with self._said(), self._writing():
            self._db.executemany(
                "INSERT OR IGNORE INTO networks VALUES (?, ?, ?)",
                [(n.digest, _text(n.facts), None if n.tallies is None else _packed(n.tallies)) for n in networks],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO accuracies VALUES (?, ?, ?, ?, ?)",
                [(a.key, a.network, _text(a.figures), _pressed(a.layers), _packed(a.tallies)) for a in accuracies],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (r.digest, r.network, r.status, r.reason, _text(r.factors), r.accuracy_key, _text(r.figures),
                     _pressed(r.layers))
                    for r in rows
                ],
            )  # fmt: skip

    def keep(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Write a record of plain values, in place of the one of that kind and key: what was found about points."""
        with self._said(), self._writing():
            self._db.execute(_RECORDS)
            self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, key, _pressed(record)))

    def merge(self, other: Path) -> int:
        """Take over what another store has and this one has not; return the number of points."""
        with Store(other):  # refused if it is no store of this version
            pass
        with self._said():
            self._db.execute("ATTACH ? AS other", (str(other),))
            try:
                with self._writing():
                    before = self.count()
                    for table in ("networks", "accuracies", "points"):
                        self._db.execute(f"INSERT OR IGNORE INTO main.{table} SELECT * FROM other.{table}")
                    if self._db.execute("SELECT 1 FROM other.sqlite_master WHERE name = 'records'").fetchone():
                        self._db.execute(_RECORDS)
                        self._db.execute("INSERT OR IGNORE INTO main.records SELECT * FROM other.records")
                    return self.count() - before
            finally:
                self._db.execute("DETACH other")

    # --- reading -----------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Return the number of points."""
        (number,) = self._db.execute("SELECT count(*) FROM main.points").fetchone()
        return int(number)

    def digests(self) -> frozenset[str]:
        """Return the digests of all points."""
        with self._said():
            return frozenset(digest for (digest,) in self._db.execute("SELECT digest FROM points"))

    def rows(self, *, layers: bool = False) -> Iterator[Row]:
        """Yield all points in order of their digests; their layers are read where wanted."""
        columns = "digest, network, status, reason, factors, accuracy_key, figures" + ", layers" * layers
        with self._said():
            for record in self._db.execute(f"SELECT {columns} FROM points ORDER BY digest"):
                digest, network, status, reason, factors, key, figures, *rest = record
                yield Row(
                    digest=digest,
                    network=network,
                    status=status,
                    reason=reason,
                    factors=json.loads(factors),
                    accuracy_key=key,
                    figures=json.loads(figures),
                    layers=_unpressed(rest[0]) if rest else {},
                )

    def layers(self, digest: str) -> dict[str, Any]:
        """Return the layers of one point, column by column."""
        with self._said():
            found = self._db.execute("SELECT layers FROM points WHERE digest = ?", (digest,)).fetchone()
        if found is None:
            raise ValueError(f"store {self.path} has no point {digest}")
        return _unpressed(found[0])

    def networks(self) -> dict[str, NetworkRow]:
        """Return all networks by digest."""
        with self._said():
            records = self._db.execute("SELECT digest, facts, tallies FROM networks").fetchall()
        return {
            digest: NetworkRow(digest=digest, facts=json.loads(facts), tallies=None if t is None else _unpacked(t))
            for digest, facts, t in records
        }

    def accuracies(self, network: str | None = None, *, tallies: bool = False) -> dict[str, Accuracy]:
        """Return accuracies by key: of one network, or all; with the samples' tallies where wanted."""
        where, values = ("", ()) if network is None else (" WHERE network = ?", (network,))
        column = "tallies" if tallies else "NULL"
        with self._said():
            records = self._db.execute(f"SELECT key, network, figures, layers, {column} FROM accuracies{where}", values)
            return {
                key: Accuracy(
                    key=key,
                    network=of,
                    figures=json.loads(figures),
                    layers=_unpressed(layers),
                    tallies=_unpacked(t) if t is not None else np.empty((0, 2)),
                )
                for key, of, figures, layers, t in records
            }

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return all records of a kind by key."""
        with self._said():
            if not self._db.execute("SELECT 1 FROM main.sqlite_master WHERE name = 'records'").fetchone():
                return {}
            found = self._db.execute("SELECT key, record FROM records WHERE kind = ? ORDER BY key", (kind,))
            return {key: _unpressed(record) for key, record in found}

    # --- the database ------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite ends it by itself where the disk is full
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        yield

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say in one line what SQLite complains about, with a remedy."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            remedy = next((words for sign, words in _REMEDIES.items() if sign in text), "check the file and its folder")
            raise ValueError(f"store {self.path}: {text}; {remedy}") from error


_KEPT = "what was stored is kept: then run the same command again"
_REMEDIES = {
    "disk is full": f"free some space; {_KEPT}",
    "disk I/O error": f"look after the disk; {_KEPT}",
    "unable to open": "the folder must exist and be writable; make it, or write elsewhere",
    "readonly": "the file and its folder must be writable; write elsewhere",
    "not a database": "it is no store; give another file",
    "malformed": "the file is damaged; delete it and sweep again, or restore it",
    "locked": f"another sweep has been writing for {WAIT_S:g} s; wait for it",
}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _pressed(value: Mapping[str, Any]) -> bytes:
    return zlib.compress(_text(value).encode(), 6)


def _unpressed(blob: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(blob))
    return found


def _packed(tallies: NDArray[np.float64]) -> bytes:
    return zlib.compress(np.ascontiguousarray(tallies, dtype="<f8").tobytes(), 6)


def _unpacked(blob: bytes) -> NDArray[np.float64]:
    return np.frombuffer(zlib.decompress(blob), dtype="<f8").reshape(-1, 2)
