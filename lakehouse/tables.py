"""Writing a dataset's Delta table: append, overwrite, merge, delete - each one commit, each exactly once.

Every commit carries an application transaction; after any doubt the table is reopened and asked for it. Data files
are written first and survive a lost race, so only the commit is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable, Field
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from lakehouse import fences, merging
from lakehouse.commit_log import read_log
from lakehouse.commits import backoff, fell_behind, missed_files, own_commit, worth_retrying
from lakehouse.datafiles import DataFile, engine_properties, inspect_file, write_files
from lakehouse.decisions import Dataset
from lakehouse.delta import list_files, open_delta, refuse_foreign, table_schema
from lakehouse.errors import ConflictError, InvalidInputError, LakeError, NotFoundError, translated
from lakehouse.history import LogEntry, find_transaction
from lakehouse.ledger import Ledger
from lakehouse.predicates import check_agreement, not_evaluated, to_delta_predicate, unsupported
from lakehouse.readers import arrow as arrow_reader
from lakehouse.registry import register
from lakehouse.schema import added_fields, fit, refuse_missing, to_reader
from lakehouse.snapshots import check_identity, snapshot_of
from lakehouse.storage import Storage

PATIENCE_S = 600.0
"""Seconds for which a commit is tried again while others keep winning."""
_LOOKUP = ("asset_id", "sha256", "source_url", "path")


@dataclass(frozen=True, slots=True)
class Commit:
    """What one write did."""

    table_version: int
    """Delta version that the write made, or (nothing to do, or done before) the version that has it already."""
    rows_added: int = 0
    rows_removed: int = 0
    rows_updated: int = 0
    rows_unchanged: int = 0
    """Rows of a merge that were there already, equal in every column given."""
    already: bool = False
    """True when this transaction had landed before: nothing was written."""


class Table:
    """A dataset's table, for writing; made by `lake.table(name)`.

    Every write takes `run` (id of the run it belongs to), `message` (a person's words) and `txn` (application id, number):
    a transaction whose number was seen already is not applied again. Who lacks the grant is refused (access-denied).

    Args:
        ledger: Where changed columns are registered as a schema version; None: nowhere.
        check: Refuses what the actor may not do, given the action and the dataset's name; None: he may do everything.
    """

    def __init__(
        self,
        storage: Storage,
        dataset: Dataset,
        actor: str,
        ledger: Ledger | None = None,
        check: Callable[[str, str], None] | None = None,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._check = check or (lambda action, name: None)
        self.dataset = dataset
        self._actor = actor
        self._bytes_fence: int | None = None

    @property
    def name(self) -> str:
        """The dataset's full name."""
        return self.dataset.full_name

    def open(self, version: int | None = None) -> DeltaTable:
        """Open the Delta table freshly.

        Raises:
            NotFoundError: table-missing, version-not-found.
            FormatError: table-replaced, feature-unsupported.
        """
        table = open_delta(self._storage, self.dataset.location, self.name, version)
        check_identity(str(table.metadata().id), self.dataset)
        return table

    def schema(self) -> pa.Schema:
        """Return the Arrow schema at head."""
        return table_schema(self.open())

    def version(self) -> int:
        """Return the newest table version."""
        return self.open().version()

    def append(
        self,
        data: Any,
        *,
        expected_version: int | None = None,
        evolve: bool = False,
        run: str | None = None,
        message: str | None = None,
        txn: tuple[str, int] | None = None,
    ) -> Commit:
        """Add rows, in the order given, in one commit.

        Args:
            data: Arrow, Polars or pandas data or a stream of record batches, matched to the columns by name.
            expected_version: Commit only on top of exactly this table version; None: on top of whatever is there.
            evolve: Add the data's new columns to the table instead of refusing them.
        Raises:
            InvalidInputError: data that does not fit, as `schema.fit`; a partitioned adopted table (table-partitioned).
            ConflictError: others kept winning for ten minutes (table-busy), or somebody committed after
                `expected_version` (table-changed): read again and decide again.
        """
        self._check("rows.append", self.name)
        reader, pinned = to_reader(data), expected_version is not None
        table = self.open()
        if seen := self._seen(table, txn):
            return seen
        self.expect(table, expected_version)
        if evolve:
            table = self.add_columns(table, reader.schema, run, message, pinned=pinned)
        files = self._write(table, reader)
        if not files:
            return Commit(table.version())
        return self._commit_files(files, "append", run, message, txn, base=table.version() if pinned else None)

    def add_files(
        self,
        paths: Sequence[str],
        *,
        run: str | None = None,
        message: str | None = None,
        txn: tuple[str, int] | None = None,
    ) -> Commit:
        """Commit Parquet files that were already written into the table's folder, in one commit.

        Args:
            paths: Paths relative to the table. Rows are read in the order of the paths' text.
        Raises:
            InvalidInputError: no files (files-missing), a path that leads out of the table (path-invalid), a file whose
                columns differ (schema-mismatch) or with a null in a required column (null-in-required).
            StorageError: a file is missing or is no Parquet file.
        """
        self._check("rows.append", self.name)
        if not paths:
            raise InvalidInputError("files-missing", f"No files were given to add to {self.name}.")
        table = self.open()
        if seen := self._seen(table, txn):
            return seen
        self.refuse_foreign(table)
        schema = table_schema(table)
        files = [inspect_file(self._storage, self.dataset.location, path, schema) for path in paths]
        stamp = max(f.modified for f in files)
        return self._commit_files([replace(f, modified=stamp) for f in files], "append", run, message, txn)

    def overwrite(
        self,
        data: Any,
        *,
        expected_version: int | None = None,
        evolve: bool = False,
        run: str | None = None,
        message: str | None = None,
        txn: tuple[str, int] | None = None,
    ) -> Commit:
        """Replace all rows in one commit, if nobody else wrote since the call began.

        Args:
            expected_version: Also refuse when head is not this table version.
            evolve: Add the data's new columns to the table instead of refusing them.
        Raises:
            ConflictError: somebody committed meanwhile (table-changed): read again and decide again.
            InvalidInputError: data that does not fit, as `schema.fit`.
        """
        self._check("rows.overwrite", self.name)
        reader = to_reader(data)
        table = self.open()
        if seen := self._seen(table, txn):
            return seen
        self.expect(table, expected_version)
        if evolve:
            table = self.add_columns(table, reader.schema, run, message, pinned=True)
        before, base = list_files(table, self.name), table.version()
        files = self._write(table, reader)
        if not files and not len(before):
            return Commit(base)
        return self._commit_files(files, "overwrite", run, message, txn, base=base, removed=before.rows or 0)

    def merge(
        self,
        data: Any,
        *,
        key: Sequence[str] | None = None,
        evolve: bool = False,
        run: str | None = None,
        message: str | None = None,
        txn: tuple[str, int] | None = None,
    ) -> Commit:
        """Update rows with the same key and insert the others, in one commit.

        Only rows that differ are written, and only files whose key range can hold a given key are read. Columns
        that the data lacks keep their values in updated rows and are null in new ones. The given rows are held in
        memory: merge a long stream in batches.

        Args:
            key: Columns that identify a row; None means the dataset's key.
        Raises:
            InvalidInputError: no key (key-missing), a null or repeated key in the data (key-null, key-not-unique),
                data that does not fit, as `schema.fit`.
            ConflictError: others kept winning for ten minutes (table-busy).
        """
        self._check("rows.merge", self.name)
        names = tuple(key or self.dataset.key_columns)
        reader = to_reader(data)
        table = self.open()
        if seen := self._seen(table, txn):
            return seen
        if evolve:
            table = self.add_columns(table, reader.schema, run, message)
        rows = fit(reader, table_schema(table), partial=True).read_all()
        merging.check_keys(rows, names, self.name)
        done = Commit(table.version())

        def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
            nonlocal done
            plan = merging.plan(self._storage, self.dataset, fresh, rows, names)
            counts = {
                "rows_added": plan.new.num_rows,
                "rows_updated": plan.changed.num_rows,
                "rows_unchanged": plan.unchanged,
            }
            done = Commit(fresh.version(), **counts)
            if not plan.new.num_rows and not plan.changed.num_rows:
                return done
            self.refuse_foreign(fresh)
            if plan.new.num_rows:
                refuse_missing(rows.schema, table_schema(fresh))
            if plan.changed.num_rows:
                stamp = own_commit(app, number, actor=self._actor, run=run, message=message, retries=0)
                merging.execute(fresh, plan, names, engine_properties(self.lookup_columns(table_schema(fresh))), stamp)
            else:  # only new rows: a plain append, but compare-and-swap, or two merges could insert the same key
                added = plan.new.num_rows
                stamp = own_commit(
                    app, number, actor=self._actor, run=run, message=message, rows_added=added, retries=0
                )
                files = self._write(fresh, plan.new.to_reader(), sorted_by=names)
                self._transact(fresh, files, "append", stamp)
            return None

        return self.retried(
            attempt,
            txn,
            run,
            lambda version: Commit(version, done.rows_added, 0, done.rows_updated, done.rows_unchanged),
        )

    def delete(
        self, where: str, *, run: str | None = None, message: str | None = None, txn: tuple[str, int] | None = None
    ) -> Commit:
        """Remove the rows that satisfy a SQL condition, in one commit; earlier versions keep them.

        Raises:
            InvalidInputError: the condition does not parse or names an unknown column (predicate-invalid), or it means
                another thing to the engine that deletes (predicate-unsupported).
            ConflictError: others kept winning for ten minutes (table-busy).
        """
        self._check("rows.delete", self.name)
        table = self.open()
        if seen := self._seen(table, txn):
            return seen
        predicate = to_delta_predicate(where, table_schema(table))
        removed = 0

        def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
            nonlocal removed
            removed = arrow_reader.count(snapshot_of(self._storage, self.dataset, fresh), where)
            if not removed:
                return Commit(fresh.version())
            check_agreement(fresh, predicate, removed, self.name)
            stamp = own_commit(app, number, actor=self._actor, run=run, message=message, retries=0)
            try:
                properties = engine_properties(self.lookup_columns(table_schema(fresh)))
                fresh.delete(predicate, writer_properties=properties, commit_properties=stamp)
            except DeltaError as error:
                if not_evaluated(error):
                    raise unsupported(self.name) from error
                raise
            return None

        return self.retried(attempt, txn, run, lambda version: Commit(version, rows_removed=removed))

    def reuse_bytes(self) -> None:
        """Say, before stored bytes are looked up, that rows will be written which point at them.

        A write then fails with ConflictError (bytes-swept) when a clean-up of stored bytes came in between.
        """
        self._bytes_fence = fences.raised(self.open(), fences.BYTES)

    def mark(self, app: str, number: int) -> Commit:
        """Commit an application transaction without any change."""
        self._check("rows.append", self.name)
        return self._commit_files([], "append", None, None, (app, number))

    def landed(self, app: str) -> int | None:
        """Return the highest number of an application's transactions that landed, None before the first."""
        seen = self.open().transaction_version(app)
        return None if seen is None else int(seen)

    def lookup(self, keys: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Return the rows at head that have one of the given keys, reading only files whose key range can hold one.

        Args:
            keys: Distinct keys; its columns are (some of) the table's, of the same types. Null matches nothing.
            columns: What to return, besides the key columns, which come first.
        """
        return merging.lookup(self._storage, self.dataset, self.open(), keys, columns)

    def log(self, limit: int | None = None) -> list[LogEntry]:
        """Return the table's commits, newest first; at most `limit`.

        Times never go backwards, whatever the writers' clocks said: a commit is at least as late as the one before.
        """
        return read_log(self._storage, self.dataset, self.version(), limit)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _write(self, table: DeltaTable, reader: pa.RecordBatchReader, sorted_by: Sequence[str] = ()) -> list[DataFile]:
        self.refuse_foreign(table)
        schema = table_schema(table)
        lookup = self.lookup_columns(schema)
        return write_files(
            self._storage, self.dataset.location, fit(reader, schema), lookup=lookup, sorted_by=sorted_by
        )

    def refuse_foreign(self, table: DeltaTable) -> None:
        """Refuse to write into an adopted table that asks more than its schema says; errors as `delta.refuse_foreign`."""
        if self.dataset.guarantee != "own":
            refuse_foreign(table, self.name)

    def lookup_columns(self, schema: pa.Schema) -> list[str]:
        """Return the columns by which rows are looked up: they get bloom filters."""
        names = {*self.dataset.key_columns, *_LOOKUP}
        return [f.name for f in schema if f.name in names and pa.types.is_string(f.type)]

    def _commit_files(
        self,
        files: Sequence[DataFile],
        mode: str,
        run: str | None,
        message: str | None,
        txn: tuple[str, int] | None,
        base: int | None = None,
        removed: int | None = None,
    ) -> Commit:
        """Commit written files; with `base` only on top of exactly that version, of which `removed` rows go."""

        def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
            self.expect(fresh, base)
            fences.refuse_swept(fresh, files, self.name)
            retries = 0 if base is not None or fences.is_slow(files) else 50
            stamp = own_commit(
                app,
                number,
                actor=self._actor,
                run=run,
                message=message,
                rows_added=rows,
                rows_removed=removed,
                retries=retries,
            )
            self._transact(fresh, files, mode, stamp)
            return None

        rows = sum(f.rows for f in files)
        return self.retried(attempt, txn, run, lambda version: Commit(version, rows, removed or 0))

    def _transact(self, table: DeltaTable, files: Sequence[DataFile], mode: str, stamp: Any) -> None:
        adds = [AddAction(f.path, f.size, {}, f.modified, True, f.stats) for f in files]
        table.create_write_transaction(adds, mode, table.schema(), commit_properties=stamp)  # type: ignore[arg-type]

    def retried(
        self,
        attempt: Callable[[DeltaTable, int, str], Commit | None],
        txn: tuple[str, int] | None,
        run: str | None,
        landed: Callable[[int], Commit],
    ) -> Commit:
        """Run `attempt` on a fresh table until it lands; a commit whose response was lost is recognised.

        Args:
            attempt: Commits with the given transaction; a returned value ends it without a commit.
            landed: Makes the result from the version that the commit got.
        """
        app, number = txn or (f"{run or 'write'}-{uuid4().hex}", 0)
        deadline, tries, attempted, base = time.monotonic() + PATIENCE_S, 0, False, -1
        while True:
            try:
                table = self.open()
                if attempted and self._has(table, app, number):
                    return landed(self._find(table, app, number))
                if seen := self._seen(table, txn):
                    return seen
                attempted, base = True, table.version()
                if self._bytes_fence is not None:
                    fences.refuse_reuse(table, self._bytes_fence, self.name)
                done = attempt(table, number, app)
                if done is not None:
                    return done
                table.update_incremental()
                if self._has(table, app, number):
                    return landed(self._find(table, app, number))
                # The log was folded while this commit was on its way: it lies in a gap that no reader looks at.
            except (DeltaError, OSError, LakeError) as error:
                late = time.monotonic() > deadline
                again = worth_retrying(error) or (missed_files(error) and self.version() > base)
                if not (attempted or fell_behind(error)) or late or not again:
                    if late and isinstance(error, CommitFailedError):
                        raise ConflictError(
                            "table-busy",
                            f"{self.name} could not be committed to for {PATIENCE_S:.0f} s. Try again.",
                            dataset=self.name,
                        ) from error
                    with translated(f"writing to {self.name}", dataset=self.name):
                        raise
            tries += 1
            backoff(tries)

    def _find(self, table: DeltaTable, app: str, number: int) -> int:
        try:
            return find_transaction(self._storage, self.dataset.location, table.version(), app, number)
        except NotFoundError:  # its log entry was folded already: the newest version has it, too
            return table.version()

    def _seen(self, table: DeltaTable, txn: tuple[str, int] | None) -> Commit | None:
        if txn is None or not self._has(table, *txn):
            return None
        return Commit(table.version(), already=True)

    @staticmethod
    def _has(table: DeltaTable, app: str, number: int) -> bool:
        seen = table.transaction_version(app)
        return seen is not None and seen >= number

    def add_columns(
        self, table: DeltaTable, found: pa.Schema, run: str | None, message: str | None, *, pinned: bool = False
    ) -> DeltaTable:
        """Add the columns of `found` that the table lacks, register that, and return the table as it is then.

        Args:
            table: As it was opened.
            pinned: Only on top of exactly that version.
        Raises:
            InvalidInputError: columns that it can't have, as `schema.added_fields`.
            AccessDeniedError: the actor may not (access-denied).
            ConflictError: others kept winning for ten minutes (table-busy), or (`pinned`) were first (table-changed).
        """
        if not added_fields(found, table_schema(table)):
            return table
        self._check("schema.evolve", self.name)

        def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
            self.expect(fresh, table.version() if pinned else None)
            self.refuse_foreign(fresh)
            new = added_fields(found, table_schema(fresh))
            if not new:  # another writer was first, with the same columns
                return Commit(fresh.version())
            stamp = own_commit(app, number, actor=self._actor, run=run, message=message, retries=0)
            fresh.alter.add_columns([Field.from_arrow(f) for f in new], commit_properties=stamp)
            return None

        after = self.open(self.retried(attempt, None, run, Commit).table_version)
        if self._ledger is not None:
            register(self._ledger, self.dataset, table_schema(after), run=run, message=message)
        return after

    def expect(self, table: DeltaTable, version: int | None) -> None:
        """Refuse a table that is not at `version`; None allows any."""
        if version is not None and table.version() != version:
            raise ConflictError(
                "table-changed",
                f"{self.name} is at table version {table.version()}, expected {version}: somebody else wrote. "
                "Read it again and decide again.",
                dataset=self.name,
            )


__all__ = ["Commit", "LogEntry", "Table"]
