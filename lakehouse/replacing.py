"""Replacing the rows of a dataset by others, in one commit that touches as little as it can.

The new rows are first written as files that no commit lists yet, so that they can be compared with the old ones like any
two states. With a key and few differences, only the rows that differ are merged, and the files are let go again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction

from lakehouse import fences, merging
from lakehouse.commits import own_commit
from lakehouse.datafiles import DataFile, engine_properties, write_files
from lakehouse.delta import FileList, Route, table_uri
from lakehouse.diff import Diff, diff
from lakehouse.diff_rows import RowCounts
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake, new_id
from lakehouse.registry import register
from lakehouse.schema import added_fields, fit
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Commit, Table

MOST_MERGED_BYTES = 64 << 20
"""Differing rows that a merge may hold in memory; of more, all rows are written anew."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What replacing the rows did."""

    table_version: int
    """Of the commit; of the head as it was, when nothing differed."""
    rows: RowCounts
    """Rows added, removed and changed; without a key nothing counts as changed."""
    committed: bool


def replace_rows(
    lake: Lake, before: Snapshot, rows: pa.RecordBatchReader, *, run: str | None = None, message: str | None = None
) -> Replacement:
    """Give a dataset these rows instead of those it has, if nobody else writes meanwhile; equal rows are no commit.

    Args:
        before: Its head; its own table.
        rows: A stream, sorted by the dataset's key if it has one. New columns are added, in the same commit.
    Raises:
        InvalidInputError: rows that lack a column of the dataset (schema-differs), or that do not fit, as `schema.fit`.
        ConflictError: somebody committed meanwhile (table-changed): look again and decide again.
        StorageError: the store failed.
    """
    table = Table(lake.storage, before.dataset, lake.actor)
    columns = _columns(before, rows.schema)
    files = write_files(lake.storage, before.dataset.location, fit(rows, columns), lookup=table.lookup_columns(columns))
    new = _uncommitted(before, columns, files)
    found = diff(before, new)
    if not found:
        _let_go(lake, before, files)
        return Replacement(before.table_version, found.counts, committed=False)
    little = None if found.schema or found.key is None else _differing(found, found.key)
    if little is None:
        commit = commit_files(table, before, files, columns, actor=lake.actor, run=run, message=message)
        if found.schema:
            register(lake.ledger, before.dataset, columns, run=run, message=message)
    else:
        commit = _merge(table, before, little, found.key or (), actor=lake.actor, run=run, message=message)
        _let_go(lake, before, files)
    return Replacement(commit.table_version, found.counts, committed=True)


def commit_files(
    table: Table,
    before: Snapshot,
    files: Sequence[DataFile],
    columns: pa.Schema,
    *,
    actor: str,
    run: str | None,
    message: str | None,
    what: str | None = None,
) -> Commit:
    """Make written files all there is of a table, with these columns, on top of exactly the state that was looked at.

    Args:
        what: The operation that the log shows; None: a plain write.
    Raises:
        ConflictError: somebody committed meanwhile (table-changed), a clean-up took the files (files-swept).
    """
    added, removed = sum(f.rows for f in files), before.num_rows

    def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
        table.expect(fresh, before.table_version)
        fences.refuse_swept(fresh, files, table.name)
        stamp = own_commit(
            app,
            number,
            actor=actor,
            run=run,
            message=message,
            rows_added=added,
            rows_removed=removed,
            what=what,
            retries=0,
        )
        adds = [AddAction(f.path, f.size, {}, f.modified, True, f.stats) for f in files]
        schema = Schema.from_arrow(columns)
        fresh.create_write_transaction(adds, "overwrite", schema, commit_properties=stamp)  # type: ignore[arg-type]
        return None

    return table.retried(attempt, None, run, lambda version: Commit(version, added, removed))


def _columns(before: Snapshot, found: pa.Schema) -> pa.Schema:
    """Return the columns that the dataset has with such rows."""
    missing = next((name for name in before.schema.names if name not in found.names), None)
    if missing is not None:
        raise InvalidInputError(
            "schema-differs",
            f"The new rows lack the column {missing!r} of {before.dataset.full_name}. Give it, or make another dataset.",
            column=missing,
        )
    return pa.schema([*before.schema, *added_fields(found, before.schema)])


def _uncommitted(before: Snapshot, columns: pa.Schema, files: Sequence[DataFile]) -> Snapshot:
    """Return written files as a state that can be compared; of a dataset of its own, which has no history with the old."""
    base = table_uri(before.storage, before.dataset.location).rstrip("/")
    table = pa.table(
        {
            "path": pa.array([f.path for f in files], pa.string()),
            "uri": pa.array([f"{base}/{f.path}" for f in files], pa.string()),
            "size": pa.array([f.size for f in files], pa.int64()),
            "rows": pa.array([f.rows for f in files], pa.int64()),
            "modified": pa.array([f.modified for f in files], pa.int64()),
        }
    )
    return replace(
        before,
        reference=f"{before.dataset.full_name} (new rows)",
        dataset=replace(before.dataset, dataset_id=new_id()),
        version=None,
        schema=columns,
        file_list=FileList(table, (), Route.FILES, uniform=True),
    )


@dataclass(frozen=True, slots=True)
class _Differing:
    """The rows that differ: all of the new ones, and of those that are gone the key."""

    new: pa.Table
    changed: pa.Table
    gone: pa.Table


def _differing(found: Diff, key: Sequence[str]) -> _Differing | None:
    """Return the rows that differ; None when they are too many to be held."""
    columns = found.new.schema
    names = [name if name in key else f"new.{name}" for name in columns.names]
    left = MOST_MERGED_BYTES
    tables = []
    for batches, schema in (
        (found.added(), columns),
        ((batch.select(names).rename_columns(columns.names) for batch in found.changed()), columns),
        (found.removed(list(key)), pa.schema([found.old.schema.field(name) for name in key])),
    ):
        held = _held(batches, left)
        if held is None:
            return None
        left -= sum(batch.nbytes for batch in held)
        tables.append(pa.Table.from_batches(held, held[0].schema).cast(schema) if held else schema.empty_table())
    return _Differing(*tables)


def _held(batches: Iterable[pa.RecordBatch], most: int) -> list[pa.RecordBatch] | None:
    held = []
    for batch in batches:
        held.append(batch)
        most -= batch.nbytes
        if most < 0:
            return None
    return held


def _merge(
    table: Table,
    before: Snapshot,
    rows: _Differing,
    key: Sequence[str],
    *,
    actor: str,
    run: str | None,
    message: str | None,
) -> Commit:
    properties = engine_properties(table.lookup_columns(before.schema))
    plan = merging.Plan(rows.new, rows.changed, 0, rows.gone)

    def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
        table.expect(fresh, before.table_version)
        stamp = own_commit(app, number, actor=actor, run=run, message=message, retries=0)
        merging.execute(fresh, plan, key, properties, stamp)
        return None

    return table.retried(
        attempt,
        None,
        run,
        lambda version: Commit(version, rows.new.num_rows, rows.gone.num_rows, rows.changed.num_rows),
    )


def _let_go(lake: Lake, before: Snapshot, files: Sequence[DataFile]) -> None:
    lake.storage.delete([f"{before.dataset.location}/{f.path}" for f in files])


__all__ = ["MOST_MERGED_BYTES", "Replacement", "commit_files", "replace_rows"]
