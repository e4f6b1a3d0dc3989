"""A store's points as flat tables: CSV, JSON Lines, Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from accelsim.store import write_atomically
from reports.sweep.store import Row, Store

Table = list[dict[str, Any]]


def flat(row: Row) -> dict[str, Any]:
    """Return a point as one level of plain values: factors as ``factor.*``, parts of figures as ``energy_pj.pe``."""
    found: dict[str, Any] = {
        "digest": row.digest,
        "network_digest": row.network,
        "status": row.status,
        "reason": row.reason,
        "accuracy_key": row.accuracy_key,
    }
    for name, value in row.factors.items():
        found |= _parts(f"factor.{name}", value)
    for name, value in row.figures.items():
        found |= _parts(name, value)
    return found


def _parts(name: str, value: Any) -> dict[str, Any]:
    """Return a value as columns: parts of parts are named with dots."""
    if isinstance(value, dict):
        return {key: part for inner, item in value.items() for key, part in _parts(f"{name}.{inner}", item).items()}
    return {name: "; ".join(map(str, value)) if isinstance(value, list) else value}


def export_store(store: Store, path: Path) -> int:
    """Write all points to a file whose suffix says how, whole or not at all; return their number.

    Raises
    ------
    ValueError
        For another suffix than `FORMATS` has, or Parquet without its library.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"export file {path} must end in one of {', '.join(FORMATS)} (got {path.suffix!r})")
    table = [flat(row) for row in store.rows()]
    write_atomically(path, FORMATS[path.suffix](table))
    return len(table)


def columns(table: Iterable[dict[str, Any]]) -> list[str]:
    """Return all columns, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in table for name in row))


def _csv(table: Table) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns(table), restval="")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def _json_lines(table: Table) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in table).encode()


def _parquet(table: Table) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"Parquet needs pyarrow ({error}); install accelsim[parquet], or export .csv") from None
    arrays = {name: _arrow_column([row.get(name) for row in table]) for name in columns(table)}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    return sink.getvalue()


def _arrow_column(values: list[Any]) -> list[Any]:
    """Return a column of one type: factors may be numbers in one row and words in the next."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        return [float(value) if kinds == {int, float} and value is not None else value for value in values]
    return [None if value is None else str(value) for value in values]


FORMATS: dict[str, Callable[[Table], bytes]] = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
