"""From tabular files to rows of a dataset: typed batches in, bad rows set aside with their line.

Batches are cut by row number alone, so that a broken run that goes on knows which of them landed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingest.assets import Mode
from jobs.ingest.findings import Finding, Severity
from jobs.ingest.keyed import append_unseen
from jobs.ingest.sources import File
from jobs.ingest.table_keys import RepeatedKeys
from jobs.ingest.table_schema import INCOMPATIBLE, choices
from jobs.ingest.table_values import Chunk, RowReject
from jobs.ingest.tabular import TableOptions, TableSource, open_table
from jobs.job import Job, Reject
from jobs.progress import Progress
from lakehouse.errors import InvalidInputError
from lakehouse.tables import Commit, Table

BATCH_ROWS = 250_000
"""Rows of a commit, about: whole chunks of the reader."""


@dataclass(slots=True)
class RowIngest:
    """Takes the rows of tabular files into one dataset.

    In a dataset with a key, a row whose key is there already is refused by append (key_exists); in an asset dataset a
    merge only corrects what is there, and refuses other rows (key_unknown).
    """

    job: Job
    table: Table
    mode: Mode
    key: Sequence[str]
    """Columns that identify a row; empty: none."""
    options: TableOptions
    evolve: bool
    message: str | None
    progress: Progress
    flag: bool = False
    """Whether rows are taken without the values that don't fit, as the dataset's schema says (`misfits`)."""
    landed: int = -1
    """Number of the last batch that an earlier attempt of this run committed."""
    _file: str = ""
    _recorded: int = 0

    def run(self, files: Sequence[File], first: TableSource | None) -> None:
        """Take all rows, in batches; an overwrite in one commit at the end.

        Args:
            first: The first file, if it was opened already.
        Raises:
            InvalidInputError: a file that is refused as a whole, as `open_table`; batches before it have landed.
        """
        if self.mode != "overwrite":
            for batch in self._batches(files, first):
                self._commit(batch)
            self.job.save_rejects()  # what the last commit refused
            return
        txn = self.job.txn
        # The stream's schema must be known before it begins, and each file may add to the one before.
        schema = self._schema_of_all(files) if self.evolve else self.table.schema()
        with ExitStack() as stack:
            repeated = self._repeated(files, schema, stack) if self.key and len(files) > 1 else None
            fitted = (_widened(batch, schema) for batch in self._counted(self._batches(files, first, repeated)))
            reader = pa.RecordBatchReader.from_batches(schema, (b for t in fitted for b in t.to_batches()))
            commit = self.table.overwrite(reader, evolve=self.evolve, run=txn[0], message=self.message, txn=txn)
        self.job.committed(commit)

    def _repeated(self, files: Sequence[File], schema: pa.Schema, stack: ExitStack) -> RepeatedKeys:
        """Find the keys that occur more than once in all files together: no row that is there could show them."""

        def keys() -> Iterator[tuple[int, Chunk]]:
            for number, file in enumerate(files):
                with self._open(file, schema) as source:
                    yield from ((number, chunk) for chunk in source.key_chunks())

        fields = pa.schema([schema.field(name) for name in self.key])
        folder = stack.enter_context(TemporaryDirectory(prefix="lakehouse-"))
        return stack.enter_context(RepeatedKeys(keys(), fields, Path(folder)))

    def _batches(
        self, files: Sequence[File], first: TableSource | None, repeated: RepeatedKeys | None = None
    ) -> Iterator[pa.Table]:
        for number, file in enumerate(files):
            with first or self._open(file, self.table.schema()) as source:
                first, self._file, self._recorded = None, file.location, 0
                yield from self._batches_of(source, file, source.batches(repeated, number))
            self.job.counts["bytes"] += file.size

    def _open(self, file: File, schema: pa.Schema) -> TableSource:
        partial = self.mode == "merge"
        try:
            return open_table(
                file.location, self.options, schema, self.key, evolve=self.evolve, partial=partial, flag=self.flag
            )
        except InvalidInputError as error:
            if error.kind not in INCOMPATIBLE:
                raise
            raise _with_choices(error, self.table.name, file.location) from error

    def _schema_of_all(self, files: Sequence[File]) -> pa.Schema:
        schema = self.table.schema()
        for file in files:
            with self._open(file, schema) as source:
                schema = source.schema
        return schema

    def _batches_of(self, source: TableSource, file: File, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        self._warn(file, source.findings)
        held: list[pa.RecordBatch] = []
        rows = 0
        for batch in batches:
            held.append(batch)
            rows += batch.num_rows
            if rows >= BATCH_ROWS:
                self._take_rejects(source, file)
                yield pa.Table.from_batches(held, source.schema)
                held, rows = [], 0
        self._take_rejects(source, file)
        yield pa.Table.from_batches(held, source.schema)

    def _take_rejects(self, source: TableSource, file: File) -> None:
        new = list(islice(source.rejects(), self._recorded, None))
        self._recorded += len(new)
        self.job.counts["items"] += sum(not r.flagged for r in new)
        self.job.reject(*(_reject(file, r) for r in new))

    def _warn(self, file: File, findings: Sequence[Finding]) -> None:
        self.job.reject(*(Reject.of(file.location, file.path, finding) for finding in findings))

    def _counted(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for batch in batches:
            self.job.save_rejects()
            self._count(batch.num_rows, "ingested")
            yield batch
            self.job.committed()

    def _commit(self, batch: pa.Table) -> None:
        counts, txn = self.job.counts, self.job.txn
        if self.job.number <= self.landed:
            self._count(batch.num_rows, "unchanged")
            self.job.save_rejects()
            self.job.committed()
            return
        self._count(batch.num_rows)
        base = self.table.version()
        batch = self._checked(batch)
        self.job.save_rejects()
        if not batch.num_rows:
            self.job.committed()
            return
        commit = self._write(batch, txn, base)
        self.job.committed(commit)
        counts["ingested"] += commit.rows_added + commit.rows_updated
        counts["unchanged"] += commit.rows_unchanged

    def _write(self, batch: pa.Table, txn: tuple[str, int], base: int) -> Commit:
        said: dict[str, Any] = {"evolve": self.evolve, "run": txn[0], "message": self.message, "txn": txn}
        if self.mode == "merge":
            return self.table.merge(batch, key=self.key, **said)
        if self.key:
            return append_unseen(self.table, batch, base, self._checked, **said)
        return self.table.append(batch, **said)

    def _count(self, rows: int, kind: str | None = None) -> None:
        self.job.counts["items"] += rows
        if kind is not None:
            self.job.counts[kind] += rows
        self.progress.advance(rows)

    def _checked(self, batch: pa.Table) -> pa.Table:
        """Return the rows that the mode takes; the others become rejects with their key."""
        only_known = self.mode == "merge" and self.job.dataset.kind == "assets"
        if not self.key or not (only_known or self.mode == "append"):
            return batch
        names = list(self.key)
        keys = batch.select(names)
        numbered = keys.append_column("__row", pa.array(range(batch.num_rows), pa.int64()))
        there = numbered.join(self.table.lookup(keys, []), names, join_type="left semi").column("__row")
        is_there = pc.is_in(numbered.column("__row"), value_set=there.combine_chunks())
        bad = pc.invert(is_there) if only_known else is_there
        if not pc.any(bad).as_py():
            return batch
        code = "key_unknown" if only_known else "key_exists"
        reason = (
            "the dataset has no asset with this key"
            if only_known
            else "the dataset has a row with this key; replace it with --mode merge"
        )
        for key in keys.filter(bad).to_pylist():
            text = json.dumps(key, default=str, ensure_ascii=False)
            self.job.reject(Reject(self._file, text, code, reason))
        return batch.filter(pc.invert(bad))


def _reject(file: File, row: RowReject) -> Reject:
    severity = Severity.WARNING if row.flagged else Severity.REJECT
    return Reject(
        file.location, None, row.code, row.reason, row.line, row.column, severity, value=row.value, rule=row.rule
    )


def _with_choices(error: InvalidInputError, dataset: str, file: str) -> InvalidInputError:
    """Return an error about a file that fits no row of a dataset, with the choices that are left besides correcting it."""
    evolve, fork = choices(dataset, file)
    return InvalidInputError(
        error.kind,
        f"{error.message} Or change the dataset, which `lakehouse schema check {dataset} {file}` explains, with: "
        f"{evolve}; or keep the file apart with: {fork}",
        **error.context,
    )


def _widened(batch: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of `schema`, null where it has none."""
    columns = [
        batch.column(f.name) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type) for f in schema
    ]
    return pa.table(columns, schema=schema)
