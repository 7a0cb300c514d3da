"""Foreign keys: rows of one state whose key no row of another state has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from catalog.check_rows import BATCH_ROWS, names, shown
from lakehouse.readers.duck import close, connect, identifier, reading, stream
from lakehouse.readers.relation import source_sql
from lakehouse.snapshots import Snapshot

SAMPLE = 100
"""Distinct keys that are kept as examples."""


@dataclass(frozen=True, slots=True)
class Orphans:
    """What counting a foreign key found."""

    rows: int
    """Rows with a key: those in which a column of it is null refer to nothing."""
    orphans: int
    """Such rows whose key no parent has."""
    sample: list[dict[str, Any]]
    """Distinct keys of such rows, and how many rows have each (`rows`), the most frequent first."""


def find_orphans(child: Snapshot, columns: Sequence[str], parent: Snapshot, parent_columns: Sequence[str]) -> Orphans:
    """Count the rows of a child whose key no row of a parent has.

    Args:
        columns: The child's key, in the order of `parent_columns`.
    Raises:
        StorageError: a data file is gone, or the store failed.
    """
    keys = [f"k{i}" for i in range(len(columns))]
    mine = ", ".join(f"{identifier(c)} as {k}" for c, k in zip(columns, keys, strict=True))
    theirs = ", ".join(f"{identifier(c)} as {k}" for c, k in zip(parent_columns, keys, strict=True))
    same = " and ".join(f"c.{k} = p.{k}" for k in keys)
    filled = " and ".join(f"{k} is not null" for k in keys)
    with connect() as con, reading(child.reference):
        con.execute(
            f"create temp table keys as select {', '.join(keys)}, count(*) as rows from (select {mine} "
            f"from ({source_sql(con, child, columns)})) where {filled} group by all"
        )
        con.execute(
            f"create temp table orphans as select * from keys c anti join (select {theirs} "
            f"from ({source_sql(con, parent, parent_columns)})) p on {same}"
        )
        rows = con.execute("select coalesce(sum(rows), 0) from keys").fetchall()[0][0]
        orphans = con.execute("select coalesce(sum(rows), 0) from orphans").fetchall()[0][0]
        named = ", ".join(f"{k} as {identifier(c)}" for k, c in zip(keys, columns, strict=True))
        sample = con.sql(f"select {named}, rows from orphans order by rows desc, {', '.join(keys)} limit {SAMPLE}")
        return Orphans(int(rows), int(orphans), sample.to_arrow_table().to_pylist())


def orphan_rows(
    child: Snapshot, columns: Sequence[str], parent: Snapshot, parent_columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Iterate over the rows of a child whose key no row of a parent has, in bounded memory: its own key and `columns`.

    Args:
        columns: The child's columns that point, in the order of `parent_columns`; types as `key_mismatches` wants them.
    Raises:
        StorageError: a data file is gone, or the store failed.
    """
    wanted = shown(child, columns)
    con = connect()
    try:
        with reading(child.reference):
            rows = source_sql(con, child, wanted)
        with reading(parent.reference):
            keys = source_sql(con, parent, list(dict.fromkeys(parent_columns)))
        pairs = [(identifier(own), identifier(there)) for own, there in zip(columns, parent_columns, strict=True)]
        same = " and ".join(f"c.{own} = p.{there}" for own, there in pairs)
        filled = " and ".join(f"c.{own} is not null" for own, _ in pairs)
        query = f"select {names(wanted, 'c.')} from ({rows}) c anti join ({keys}) p on {same} where {filled}"
        both = f"{child.reference} and {parent.reference}"
        with reading(both):
            found = stream(con.sql(query), BATCH_ROWS)
        while True:
            with reading(both):
                batch = next(found, None)
            if batch is None:
                return
            yield batch
    finally:
        close(con)


def key_mismatches(
    child: Snapshot, columns: Sequence[str], parent: Snapshot, parent_columns: Sequence[str]
) -> Iterator[str]:
    """Iterate over the reasons, for people, why the keys of two states can't be compared."""
    if len(columns) != len(parent_columns) or not columns:
        yield f"The key has {len(columns)} columns in {child.reference} and {len(parent_columns)} in {parent.reference}."
        return
    for own, there in zip(columns, parent_columns, strict=True):
        missing = [(s, n) for s, n in ((child, own), (parent, there)) if n not in s.schema.names]
        yield from (f"{snapshot.reference} has no column {name!r}." for snapshot, name in missing)
        if missing:
            continue
        kind, kind_there = child.schema.field(own).type, parent.schema.field(there).type
        if not same_key_type(kind, kind_there):
            yield f"{own!r} is {kind} in {child.reference}, and {there!r} is {kind_there} in {parent.reference}."


def same_key_type(child: pa.DataType, parent: pa.DataType) -> bool:
    """Whether values of two columns can be compared without a cast that changes their meaning."""
    return bool(child.equals(parent)) or (pa.types.is_integer(child) and pa.types.is_integer(parent))


__all__ = ["SAMPLE", "Orphans", "find_orphans", "key_mismatches", "orphan_rows", "same_key_type"]
