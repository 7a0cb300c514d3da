"""Rows of a snapshot as Arrow record batches, by way of DuckDB: pushdown, streaming, one connection per reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import InvalidInputError
from lakehouse.readers import lazy
from lakehouse.readers.duck import check_condition, close, connect, identifier, judging, literal, reading, stream
from lakehouse.readers.relation import conform, source_sql

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from lakehouse.blobs import Asset
    from lakehouse.snapshots import Snapshot


def batches(
    snapshot: Snapshot, columns: Sequence[str] | None = None, where: str | None = None, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Iterate over record batches of exactly the snapshot's types, in its fixed order.

    Mistakes in the arguments are raised by the call itself, not by the first step of the iteration.

    Args:
        snapshot: What to read.
        columns: Names to read, in this order; None means all.
        where: One SQL condition over the snapshot's columns.
        batch_rows: Rows a batch, at most.
    Raises:
        InvalidInputError: no columns (columns-empty), or a condition that does not parse or bind (predicate-invalid).
        StorageError: a data file is gone (data-missing), or the store failed.
    """
    names = snapshot.schema.names if columns is None else list(columns)
    if not names:
        raise InvalidInputError("columns-empty", f"Reading {snapshot.reference} needs at least one column.")
    con = connect()
    selected = _select(con, snapshot, ", ".join(map(identifier, names)), where)
    schema = pa.schema([snapshot.schema.field(n) for n in names])
    return _stream(con, selected, snapshot, schema, where, batch_rows)


def count(snapshot: Snapshot, where: str | None = None) -> int:
    """Return the number of rows, from the files' own counts unless there is a condition; errors as in `batches`."""
    con = connect()
    try:
        selected = _select(con, snapshot, "count(*)", where)
        with reading(snapshot.reference), judging(where):
            return int(selected.fetchall()[0][0])
    finally:
        close(con)


def find(snapshot: Snapshot, equal: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows whose columns equal the given values; None finds null.

    The values become literals of the query, so that DuckDB skips files and row groups by statistics and bloom filters.
    """
    terms = [f"{identifier(n)} is null" if v is None else f"{identifier(n)} = {literal(v)}" for n, v in equal.items()]
    rows = pa.Table.from_batches(batches(snapshot, None, " and ".join(terms) or None), schema=snapshot.schema)
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a snapshot that satisfy a condition, readable like the snapshot itself."""

    snapshot: Snapshot
    where: str
    """A SQL condition over the snapshot's columns."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return count(self.snapshot, self.where)

    def scan(self) -> pl.LazyFrame:
        """Return a Polars LazyFrame; columns are pushed down to the files."""
        return lazy.from_batches(self.snapshot.schema, lambda columns: batches(self.snapshot, columns, self.where))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over record batches, as `Snapshot.batches` does."""
        return self.snapshot.batches(columns, self.where)

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows as one Arrow table."""
        return self.snapshot.to_arrow(columns, self.where)

    def to_polars(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rows as a Polars DataFrame."""
        return self.snapshot.to_polars(columns, self.where)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame."""
        return self.snapshot.to_pandas(columns, self.where)

    def assets(self, columns: Sequence[str] | None = None, parallel: int = 16) -> Iterator[Asset]:
        """Iterate over rows with their bytes, as `Snapshot.assets` does."""
        return self.snapshot.assets(columns, self.where, parallel)


def _select(con: DuckDBPyConnection, snapshot: Snapshot, what: str, where: str | None) -> DuckDBPyRelation:
    """Bind a query over the snapshot."""
    with reading(snapshot.reference), judging(where):
        query = f"select {what} from ({source_sql(con, snapshot)})"
        if where is not None:
            check_condition(con, where)
            query += f" where ({where}\n)"
        return con.sql(query)


def _stream(
    con: DuckDBPyConnection,
    selected: DuckDBPyRelation,
    snapshot: Snapshot,
    schema: pa.Schema,
    where: str | None,
    batch_rows: int,
) -> Iterator[pa.RecordBatch]:
    try:
        with reading(snapshot.reference), judging(where):
            reader = stream(selected, batch_rows)
        while True:
            with reading(snapshot.reference), judging(where):
                batch = next(reader, None)
            if batch is None:
                return
            yield conform(batch, schema)
    finally:
        close(con)


__all__ = ["Rows", "batches", "count", "find", "literal"]
