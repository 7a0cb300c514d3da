"""Foreign keys: rows of one state whose key no row of another state has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.readers.duck import connect, identifier, reading
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


def same_key_type(child: pa.DataType, parent: pa.DataType) -> bool:
    """Whether values of two columns can be compared without a cast that changes their meaning."""
    return bool(child.equals(parent)) or (pa.types.is_integer(child) and pa.types.is_integer(parent))


__all__ = ["SAMPLE", "Orphans", "find_orphans", "same_key_type"]
