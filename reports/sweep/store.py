"""The store of a sweep: one SQLite file, a row for every point as soon as it is known.

SQLite's write-ahead log keeps what was committed through a crash, a full disk and a second sweep on the same file. It
needs a local file system: sweeps on several machines write a store each, which `merge` puts together. Every row has a
seal, so that a byte that changes on the disk is noticed and not read as another number.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

APPLICATION = 0x6163_6373
"""Marks a SQLite file as one of ours (its application id)."""

VERSION = 2
"""Of the tables; a store of another version is refused."""

WAIT_S = 120.0
"""How long to wait for another sweep that writes."""


@dataclass(frozen=True)
class _Table:
    """Columns of text, of which the first `keys` are the key; then compressed ones; last the seal of the texts."""

    keys: int
    texts: tuple[str, ...]
    blobs: tuple[str, ...]

    def definition(self, name: str) -> str:
        columns = [*(f"{text} TEXT" for text in self.texts), *(f"{blob} BLOB" for blob in self.blobs)]
        key = ", ".join(self.texts[: self.keys])
        return f"CREATE TABLE {name} ({', '.join(columns)}, seal INTEGER NOT NULL, PRIMARY KEY ({key})) WITHOUT ROWID"


_TABLES = {
    "networks": _Table(1, ("digest", "facts"), ("tallies",)),
    "accuracies": _Table(1, ("key", "network", "figures"), ("layers", "tallies")),
    "points": _Table(1, ("digest", "network", "status", "reason", "factors", "accuracy_key", "figures"), ("layers",)),
    "records": _Table(2, ("kind", "key"), ("record",)),
}

_VIEW = """
CREATE VIEW designs AS SELECT digest, status,
    json_extract(factors, '$.network') AS network, json_extract(figures, '$.recipe') AS recipe,
    json_extract(figures, '$.accelerator') AS accelerator, json_extract(figures, '$.technology') AS technology,
    json_extract(figures, '$.accuracy') AS accuracy, json_extract(figures, '$.cycles') AS cycles,
    json_extract(figures, '$.energy_pj.total') AS energy_pj, json_extract(figures, '$.area_um2.total') AS area_um2
FROM points
"""

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
        if path.is_dir():
            raise ValueError(f"store {path} is a folder; give a file in it")
        if not create and not path.is_file():
            raise ValueError(f"store {path} does not exist; `accelsim sweep STUDY.yaml --store {path}` makes one")
        with self._said():
            self._db = _connect(path, create)
        try:
            with self._said():
                self._prepare(create)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, create: bool) -> None:
        with self._writing("EXCLUSIVE") if create else nullcontext():
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
        self._check()
        if create:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")

    def _make(self) -> None:
        for name, table in _TABLES.items():
            self._db.execute(table.definition(name))
        self._db.execute(_VIEW)
        self._db.execute(f"PRAGMA application_id={APPLICATION}")
        self._db.execute(f"PRAGMA user_version={VERSION}")

    def _check(self) -> None:
        """Walk the file once, which takes some milliseconds: a page that is damaged may hide rows."""
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        if missing := _TABLES.keys() - tables:
            raise self._damaged(f"it lacks {', '.join(sorted(missing))}")
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._damaged(" ".join(found.split()))

    def _damaged(self, how: str) -> ValueError:
        return ValueError(f"store {self.path} is damaged ({how}); {_RESTORE}")

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
            self._insert(
                "networks",
                (((n.digest, _text(n.facts)), (None if n.tallies is None else _packed(n.tallies),)) for n in networks),
            )
            self._insert(
                "accuracies",
                (((a.key, a.network, _text(a.figures)), (_pressed(a.layers), _packed(a.tallies))) for a in accuracies),
            )
            self._insert(
                "points",
                (
                    (
                        (r.digest, r.network, r.status, r.reason, _text(r.factors), r.accuracy_key, _text(r.figures)),
                        (_pressed(r.layers),),
                    )
                    for r in rows
                ),
            )

    def _insert(self, table: str, records: Iterable[tuple[Sequence[Any], Sequence[Any]]], how: str = "IGNORE") -> None:
        """Insert (texts, blobs) with their seals."""
        marks = ", ".join("?" * (len(_TABLES[table].texts) + len(_TABLES[table].blobs) + 1))
        self._db.executemany(
            f"INSERT OR {how} INTO {table} VALUES ({marks})",
            ((*texts, *blobs, _seal(texts)) for texts, blobs in records),
        )

    def keep(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Write a record of plain values, in place of the one of that kind and key: what was found about points."""
        with self._said(), self._writing():
            self._insert("records", [((kind, key), (_pressed(record),))], "REPLACE")

    def merge(self, other: Path) -> int:
        """Take over what another store has and this one has not; return the number of points."""
        with Store(other) as source, self._said(), self._writing():
            before = self.count()
            for name, table in _TABLES.items():
                self._insert(name, source._records(name, table.blobs))
            return self.count() - before

    # --- reading -----------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Return the number of points."""
        (number,) = self._db.execute("SELECT count(*) FROM points").fetchone()
        return int(number)

    def digests(self) -> frozenset[str]:
        """Return the digests of all points."""
        with self._said():
            return frozenset(digest for (digest,) in self._db.execute("SELECT digest FROM points"))

    def rows(self, *, layers: bool = False) -> Iterator[Row]:
        """Yield all points in order of their digests; their layers are read where wanted."""
        for texts, blobs in self._records("points", ("layers",) if layers else ()):
            digest, network, status, reason, factors, key, figures = texts
            yield Row(
                digest=digest,
                network=network,
                status=status,
                reason=reason,
                factors=json.loads(factors),
                accuracy_key=key,
                figures=json.loads(figures),
                layers=self._unpressed(blobs[0]) if blobs else {},
            )

    def layers(self, digest: str) -> dict[str, Any]:
        """Return the layers of one point, column by column."""
        for _, (layers,) in self._records("points", ("layers",), "digest", digest):
            return self._unpressed(layers)
        raise ValueError(f"store {self.path} has no point {digest}")

    def networks(self) -> dict[str, NetworkRow]:
        """Return all networks by digest."""
        return {
            digest: NetworkRow(digest=digest, facts=json.loads(facts), tallies=None if t is None else self._unpacked(t))
            for (digest, facts), (t,) in self._records("networks", ("tallies",))
        }

    def accuracies(self, network: str | None = None, *, tallies: bool = False) -> dict[str, Accuracy]:
        """Return accuracies by key: of one network, or all; with the samples' tallies where wanted."""
        blobs = ("layers", "tallies") if tallies else ("layers",)
        where = () if network is None else ("network", network)
        return {
            key: Accuracy(
                key=key,
                network=of,
                figures=json.loads(figures),
                layers=self._unpressed(layers),
                tallies=self._unpacked(packed[0]) if packed else np.empty((0, 2)),
            )
            for (key, of, figures), (layers, *packed) in self._records("accuracies", blobs, *where)
        }

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return all records of a kind by key."""
        found = self._records("records", ("record",), "kind", kind)
        return {key: self._unpressed(record) for (_, key), (record,) in found}

    def _records(
        self, table: str, blobs: Sequence[str], column: str = "", value: str = ""
    ) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield (texts, blobs) in order of the first text, seals checked: all, or those with a value in a column."""
        texts = _TABLES[table].texts
        where, values = (f"WHERE {column} = ?", (value,)) if column else ("", ())
        with self._said():
            names = ", ".join((*texts, *blobs, "seal"))
            for record in self._db.execute(f"SELECT {names} FROM {table} {where} ORDER BY {texts[0]}", values):
                if record[-1] != _seal(record[: len(texts)]):
                    raise self._damaged(f"a row of {table} is not what was written")
                yield list(record[: len(texts)]), list(record[len(texts) : -1])

    def _unpressed(self, blob: bytes) -> dict[str, Any]:
        return dict(json.loads(self._decompressed(blob)))

    def _unpacked(self, blob: bytes) -> NDArray[np.float64]:
        return np.frombuffer(self._decompressed(blob), dtype="<f8").reshape(-1, 2)

    def _decompressed(self, blob: bytes) -> bytes:
        try:
            return zlib.decompress(blob)
        except (zlib.error, TypeError) as error:
            raise self._damaged(str(error)) from None

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
    def _said(self) -> Iterator[None]:
        """Say in one line what SQLite complains about, with a remedy."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            text = str(error)
            remedy = next((words for sign, words in _REMEDIES.items() if sign in text), "check the file and its folder")
            raise ValueError(f"store {self.path}: {text}; {remedy}") from error


def _connect(path: Path, create: bool) -> sqlite3.Connection:
    """Open the file; one in a folder that takes none beside it is read as it is, provided that it is whole."""
    log = path.with_name(f"{path.name}-wal")
    if create or os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
        return sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)


_KEPT = "what was stored is kept: then run the same command again"
_RESTORE = "restore the file, or delete it and sweep again"
_REMEDIES = {
    "disk is full": f"free some space; {_KEPT}",
    "disk I/O error": f"look after the disk; {_KEPT}",
    "unable to open": "the folder must exist and be writable; make it, or write elsewhere",
    "readonly": "the file and its folder must be writable; write elsewhere",
    "not a database": "it is no store; give another file",
    "malformed": f"the file is damaged: {_RESTORE}",
    "decode": f"the file is damaged: {_RESTORE}",
    "locked": f"another sweep has been writing for {WAIT_S:g} s; wait for it",
}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _pressed(value: Mapping[str, Any]) -> bytes:
    return zlib.compress(_text(value).encode(), 6)


def _seal(texts: Sequence[Any]) -> int:
    """Return the checksum of a record's texts; what is compressed has its own."""
    return zlib.crc32("\0".join("\1" if text is None else str(text) for text in texts).encode())


def _packed(tallies: NDArray[np.float64]) -> bytes:
    return zlib.compress(np.ascontiguousarray(tallies, dtype="<f8").tobytes(), 6)
