"""Rewriting: files of a state become other files with the same rows, in one commit that changes no data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from lakehouse import fences
from lakehouse.commits import missed_files, own_commit
from lakehouse.datafiles import DataFile, write_files
from lakehouse.delta import list_files
from lakehouse.errors import ConflictError, InternalError, LakeError
from lakehouse.layout import Order, Part
from lakehouse.readers import arrow as arrow_reader
from lakehouse.readers.duck import close, connect, identifier, reading, stream
from lakehouse.readers.relation import conform, source_sql
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Commit, Table
from lakehouse.zorder import z_value

MEMORY_LIMIT = "2GB"
"""Memory of DuckDB while it reads and sorts; what does not fit is spilled to the temporary folder."""
_BATCH_ROWS = 8_192


def write_parts(
    table: Table, snapshot: Snapshot, parts: Sequence[Part], order: Order, target: int
) -> list[DataFile] | None:
    """Write the rows of each part into new files; None when a file was gone, since the table went on meanwhile.

    Args:
        target: Bytes of a file.
    Raises:
        InternalError: other rows would have been written than were there (rows-differ).
        StorageError, AccessDeniedError: the store or the disk failed.
    """
    lookup = table.lookup_columns(snapshot.schema)
    written = list[DataFile]()
    try:
        for part in parts:
            chosen = snapshot.only(part.paths)
            files = write_files(
                snapshot.storage,
                table.dataset.location,
                pa.RecordBatchReader.from_batches(snapshot.schema, _rows(chosen, order)),
                lookup=lookup,
                sorted_by=order.columns if order.kind == "sort" else (),
                target_bytes=target,
                stem=part.stem,
                modified=part.modified,
            )
            known = chosen.file_list.rows
            expected, found = arrow_reader.count(chosen) if known is None else known, sum(f.rows for f in files)
            if found != expected:
                raise InternalError(
                    "rows-differ",
                    f"{table.name}: {len(chosen.file_list)} files have {expected} rows, {found} were read. Nothing was "
                    f"changed. Check the files: lakehouse verify {table.name}",
                )
            written += files
    except LakeError as error:
        if missed_files(error) and table.version() > snapshot.table_version:
            return None
        raise
    return written


def _rows(snapshot: Snapshot, order: Order) -> Iterator[pa.RecordBatch]:
    keys = [f"{identifier(name)} nulls first" for name in order.columns]
    if order.kind == "zorder":
        keys.insert(0, z_value(snapshot, order.columns))
    by = f" order by {', '.join(keys)}" if keys else ""
    con = connect()
    try:
        with reading(snapshot.reference):
            con.execute(f"set memory_limit = '{MEMORY_LIMIT}'; set preserve_insertion_order = {not by}")
            reader = stream(con.sql(f"from ({source_sql(con, snapshot)}){by}"), _BATCH_ROWS)
        while True:
            with reading(snapshot.reference):
                batch = next(reader, None)
            if batch is None:
                return
            yield conform(batch, snapshot.schema)
    finally:
        close(con)


def commit_rewrite(
    table: Table,
    actor: str,
    parts: Sequence[Part],
    files: Sequence[DataFile],
    *,
    run: str | None,
    message: str | None,
) -> Commit | None:
    """Replace the files of parts by written ones with the same rows, in one commit; None when one was changed since.

    Raises:
        ConflictError: others kept winning for ten minutes (table-busy).
    """
    old = {file.path: file.bytes for part in parts for file in part.files}
    overtaken = False

    def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
        nonlocal overtaken
        listed = list_files(fresh, table.name).table.column("path").to_pylist()
        if overtaken := not old.keys() <= set(listed):
            return Commit(fresh.version())
        fences.refuse_swept(fresh, files, table.name)
        now = time.time_ns() // 1_000_000
        adds = [AddAction(f.path, f.size, {}, f.modified, False, f.stats) for f in files]
        removes = [RemoveAction(path, False, now, size, {}) for path, size in old.items()]
        stamp = own_commit(
            app,
            number,
            actor=actor,
            run=run,
            message=message,
            rows_added=0,
            rows_removed=0,
            what="OPTIMIZE",
            # A compare-and-swap: delta-rs would put it on top of another rewrite of the same files, and double the rows.
            retries=0,
        )
        fresh.create_write_transaction([*adds, *removes], "append", fresh.schema(), commit_properties=stamp)
        return None

    try:
        commit = table.retried(attempt, None, run, Commit)
    except ConflictError as error:
        if error.kind != "files-swept":
            raise
        return None
    return None if overtaken else commit
