"""Foreign keys: rows of one state that point at no row of another, at exact versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from catalog.check_rows import names, shown, tally
from lakehouse.readers import relation
from lakehouse.readers.duck import close, identifier, reading, stream
from lakehouse.snapshots import Snapshot

_BATCH_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class Orphans:
    """What of a child state has no parent."""

    count: int
    """Rows whose key has no null and that no row of the parent has."""
    samples: tuple[str, ...]
    """Up to 100 of these rows, as JSON objects: the child's own key and the columns that point."""
    rows: int
    """Rows of the child that were looked at; 0 when the keys can't be compared."""
    mismatches: tuple[str, ...] = ()
    """Why the keys can't be compared: columns that are missing, or differ in type. Nothing is cast."""

    @property
    def ok(self) -> bool:
        """Whether every row that points somewhere has its parent."""
        return not self.count and not self.mismatches


def orphans(child: Snapshot, child_columns: Sequence[str], parent: Snapshot, parent_columns: Sequence[str]) -> Orphans:
    """Count the rows of a state whose key has no parent in another state.

    A key with a null points nowhere, as in SQL (MATCH SIMPLE). The parent's keys need not be unique. Memory is that of
    a hash table of the parent's keys, which DuckDB moves to disk when it becomes large.

    Args:
        child_columns: The columns that point, in the order of `parent_columns`.
    Raises:
        StorageError: a data file is gone or can't be read, as `reading`.
    """
    mismatches = tuple(key_mismatches(child, child_columns, parent, parent_columns))
    if mismatches:
        return Orphans(0, (), 0, mismatches)
    found = tally(orphan_rows(child, child_columns, parent, parent_columns))
    return Orphans(found.count, found.samples, child.num_rows)


def key_mismatches(
    child: Snapshot, child_columns: Sequence[str], parent: Snapshot, parent_columns: Sequence[str]
) -> Iterator[str]:
    """Iterate over the reasons, for people, why the keys of two states can't be compared."""
    if len(child_columns) != len(parent_columns) or not child_columns:
        yield (
            f"The key has {len(child_columns)} columns in {child.reference} and {len(parent_columns)} in "
            f"{parent.reference}."
        )
        return
    for own, other in zip(child_columns, parent_columns, strict=True):
        missing = [(s, n) for s, n in ((child, own), (parent, other)) if n not in s.schema.names]
        yield from (f"{snapshot.reference} has no column {name!r}." for snapshot, name in missing)
        if missing:
            continue
        kind, kind_there = child.schema.field(own).type, parent.schema.field(other).type
        if kind != kind_there:
            yield f"{own!r} is {kind} in {child.reference}, and {other!r} is {kind_there} in {parent.reference}."


def orphan_rows(
    child: Snapshot, child_columns: Sequence[str], parent: Snapshot, parent_columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Iterate over the rows that have no parent, in bounded memory; the keys must be comparable."""
    wanted = shown(child, child_columns)
    con = relation.connect()
    try:
        with reading(child.reference):
            rows = relation.source_sql(con, child, wanted)
        with reading(parent.reference):
            keys = relation.source_sql(con, parent, list(dict.fromkeys(parent_columns)))
        same = " and ".join(
            f"c.{identifier(own)} = p.{identifier(other)}"
            for own, other in zip(child_columns, parent_columns, strict=True)
        )
        points = " and ".join(f"c.{identifier(own)} is not null" for own in child_columns)
        query = f"select {names(wanted, 'c.')} from ({rows}) c anti join ({keys}) p on {same} where {points}"
        with reading(f"{child.reference} and {parent.reference}"):
            found = stream(con.sql(query), _BATCH_ROWS)
        while True:
            with reading(f"{child.reference} and {parent.reference}"):
                batch = next(found, None)
            if batch is None:
                return
            yield batch
    finally:
        close(con)


__all__ = ["Orphans", "key_mismatches", "orphan_rows", "orphans"]
