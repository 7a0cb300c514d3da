"""Copying: the rows of a state of an adopted table as one version of a table of our own, which others can't clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction

from lakehouse import fences
from lakehouse.commits import own_commit
from lakehouse.creation import create_table
from lakehouse.datafiles import write_files
from lakehouse.decisions import Dataset
from lakehouse.delta import list_files, open_delta
from lakehouse.errors import LakeError, NotFoundError, StorageError
from lakehouse.history import find_transaction
from lakehouse.schema import fit, plain_schema
from lakehouse.snapshots import Snapshot
from lakehouse.storage import Storage
from lakehouse.tables import Commit, Table


def copy_id(source: Dataset) -> str:
    """Return the identity of the copy of an adopted dataset: the same whoever makes it, so that two make one."""
    return sha256(f"copy of {source.dataset_id}".encode()).hexdigest()[:32]


def ensure_table(storage: Storage, copy: Dataset, schema: pa.Schema, actor: str) -> str:
    """Make the table of a copy unless it is there, and return its Delta id.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    try:
        return str(open_delta(storage, copy.location, copy.full_name).metadata().id)
    except NotFoundError:
        pass
    try:
        return create_table(storage, copy.location, plain_schema(schema), copy.full_name, actor)
    except LakeError:
        try:  # another process made it at the same moment
            return str(open_delta(storage, copy.location, copy.full_name).metadata().id)
        except NotFoundError:
            pass
        raise


def copy_state(
    storage: Storage,
    copy: Dataset,
    source: Snapshot,
    actor: str,
    *,
    given_up: Callable[[int], bool],
    run: str | None = None,
) -> int:
    """Make the rows of a state one version of its copy, unless one has them already; return that table version.

    Rows, their order and, as far as plain types allow, their schema stay. A copy that died is made anew, and its files
    go as any that a dead writer left behind.

    Args:
        copy: The table that holds copies of that dataset's states, of the source's identity (`Dataset.copy_of`).
        given_up: Whether a table version of the copy is condemned, so that it can't be published again.
    Raises:
        StorageError: the source's files went missing meanwhile (file-missing, data-missing), or gave another number of
            rows than its log says (rows-differ).
        InvalidInputError: columns that a table of our own can't have (unsupported-type, schema-case-conflict).
        ConflictError: others kept winning for ten minutes (table-busy).
    """
    table, app = Table(storage, copy, actor), f"copy-{source.table_version}"
    known = table.landed(app)
    if known is not None:
        there = _find(table, storage, app, known)
        if there is not None and not given_up(there):
            return there
    number = 0 if known is None else known + 1
    schema, read = plain_schema(source.schema), 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for batch in source.batches():
            read += batch.num_rows
            yield batch

    reader = fit(pa.RecordBatchReader.from_batches(source.schema, counted()), schema)
    files = write_files(storage, copy.location, reader, lookup=table.lookup_columns(schema))
    if read != source.num_rows:
        raise StorageError(
            "rows-differ",
            f"{source.reference} has {source.num_rows} rows by its log, {read} were read. Nothing was published.",
        )

    def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
        fences.refuse_swept(fresh, files, table.name)
        stamp = own_commit(
            app,
            number,
            actor=actor,
            run=run,
            message=f"copy of {source.dataset.full_name}@#{source.table_version}",
            rows_added=read,
            rows_removed=list_files(fresh, table.name).rows,
            what="COPY",
            retries=0,
        )
        adds = [AddAction(f.path, f.size, {}, f.modified, True, f.stats) for f in files]
        columns = Schema.from_arrow(schema)
        fresh.create_write_transaction(adds, "overwrite", columns, commit_properties=stamp)  # type: ignore[arg-type]
        return None

    done = table.retried(attempt, (app, number), run, Commit)
    if not done.already:
        return done.table_version
    # Another process copied the same state at the same time.
    return find_transaction(storage, copy.location, done.table_version, app, number)


def _find(table: Table, storage: Storage, app: str, number: int) -> int | None:
    try:
        return find_transaction(storage, table.dataset.location, table.version(), app, number)
    except NotFoundError:  # folded
        return None
