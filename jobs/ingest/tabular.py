"""Tabular files as typed Arrow batches and rejects: CSV, TSV, JSON, Parquet. Knows nothing of the lakehouse's storage.

A file is either refused as a whole, by an error that names the choice that is left, or read to its end: every row lands
in a batch or in the rejects, never in both and never in neither. Nothing is guessed that changes values: delimiter,
encoding, null tokens and decimal mark are declared; types are declared or inferred over the whole file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingest.csv_source import stage_csv
from jobs.ingest.findings import Finding
from jobs.ingest.json_source import stage_json
from jobs.ingest.parquet_source import ParquetOrigin
from jobs.ingest.table_keys import RepeatedKeys
from jobs.ingest.table_schema import require_column
from jobs.ingest.table_stage import Stage
from jobs.ingest.table_values import Chunk, Misfit, Origin, RowReject, TableOptions, cut
from jobs.ingest.text_table import TextOrigin
from lakehouse.errors import InvalidInputError, NotFoundError
from lakehouse.type_names import type_text

__all__ = ["TABLE_FORMATS", "RowReject", "TableOptions", "TableSource", "open_table"]

TABLE_FORMATS: dict[str, Literal["csv", "json", "parquet"]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
"""Suffix of a file that `open_table` takes, in lower case -> its format."""


_FLAGGED = ("type_mismatch", "overflow")
"""Codes of values that a row can do without, where null is allowed."""


def open_table(
    path: str | Path,
    options: TableOptions | None = None,
    schema: pa.Schema | None = None,
    key: Sequence[str] = (),
    *,
    evolve: bool = False,
    partial: bool = False,
    flag: bool = False,
) -> TableSource:
    """Open a tabular file for reading; a text file is parsed whole here, into temporary local storage.

    Args:
        path: A local file; its suffix, in any case, says the format.
        options: What the caller declares about the file.
        schema: The dataset's schema, whose types rule; None for a new dataset, whose types are inferred.
        key: Columns that identify a row. All rows of the file that share a key are rejected, and those with null in it.
        evolve: Whether columns that `schema` does not have are added to it.
        partial: Leave columns of `schema` out that the file does not have, instead of filling them with null.
        flag: Take a row without the values that do not fit, where null is allowed, instead of rejecting it; its flagged
            rejects say what was left out.
    Returns:
        A source to iterate; close it, or use it in a `with` block, to free its temporary storage early.
    Raises:
        NotFoundError: there is no such file (file-not-found).
        InvalidInputError: the file is refused as a whole: unsupported-format, empty-file, encoding, dialect,
            header-missing, duplicate-column, csv-syntax, json-syntax, parquet-corrupt, unsupported-type,
            schema-type-change, schema-case-conflict, schema-added-column, schema-missing-column; or the call is wrong:
            unknown-column, type-unknown.
    """
    path, options = Path(path), options or TableOptions()
    kind = TABLE_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InvalidInputError(
            "unsupported-format",
            f"{path} is no tabular file that is known here: its suffix is none of {', '.join(sorted(TABLE_FORMATS))}.",
        )
    if not path.is_file():
        raise NotFoundError("file-not-found", f"There is no file {path}. Check the path.")
    with ExitStack() as on_error:
        stage = Stage()
        on_error.callback(stage.close)
        origin: _Settled
        if kind == "parquet":
            origin = ParquetOrigin(path, options, schema, evolve=evolve, partial=partial)
        else:
            staged = stage_csv(path, options, schema, stage) if kind == "csv" else stage_json(path, options, stage)
            origin = TextOrigin(staged, options, schema, evolve=evolve, partial=partial, path=path)
        for name in key:
            require_column(name, origin.schema.names, path)
        source = TableSource(path, origin, key, stage, flag=flag)
        on_error.pop_all()
    return source


class _Settled(Origin, Protocol):
    """An origin that has decided its schema."""

    schema: pa.Schema
    findings: list[Finding]


class TableSource:
    """One opened file: its schema, its warnings, its good rows as batches, its bad rows as rejects."""

    def __init__(self, path: Path, origin: _Settled, key: Sequence[str], stage: Stage, *, flag: bool) -> None:
        self.path = path
        self.schema: pa.Schema = origin.schema
        """What every batch has; a column that the file lacks is null, or (`partial`) left out."""
        self.key = tuple(key)
        self._origin, self._stage, self._flag = origin, stage, flag
        self.findings: tuple[Finding, ...] = tuple(origin.findings)
        """Warnings about the file as a whole."""
        self._structural = stage.rejects.mark()

    def batches(self, repeated: RepeatedKeys | None = None, number: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield the good rows in file order, at most 65,536 rows a batch; every call starts anew.

        Args:
            repeated: Keys that occur more than once in several files, of which this is file `number`; None: those of
                this file alone.
        """
        self._stage.rejects.rewind(self._structural)
        with ExitStack() as stack:
            if self.key and repeated is None:
                keys = RepeatedKeys(((number, c) for c in self.key_chunks()), self.key_schema, self._stage.folder)
                repeated = stack.enter_context(keys)
            for chunk in self._origin.chunks(self.schema):
                batch = self._good_rows(chunk, repeated, number)
                if batch.num_rows:
                    yield batch

    @property
    def key_schema(self) -> pa.Schema:
        """The key columns."""
        return pa.schema([self.schema.field(name) for name in self.key])

    def key_chunks(self) -> Iterator[Chunk]:
        """Yield the key columns of all rows."""
        return self._origin.chunks(self.key_schema)

    def rejects(self) -> Iterator[RowReject]:
        """Yield the rows that were not taken so far; complete once `batches` was consumed. Not sorted by line."""
        return iter(self._stage.rejects)

    def close(self) -> None:
        """Delete the temporary storage; the source can't be read any more."""
        self._stage.close()

    def __enter__(self) -> TableSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _good_rows(self, chunk: Chunk, repeated: RepeatedKeys | None, number: int) -> pa.RecordBatch:
        """Reject what is wrong with a chunk, return the rest."""
        misfits = {row: [*found] for row, found in chunk.misfits.items()}
        for name in self.key:
            for row in _null_rows(chunk, name):
                misfits.setdefault(row, []).append(Misfit(name, "primary_key", "the key is null"))
        for column in self.schema:
            if not column.nullable:
                for row in _null_rows(chunk, column.name):
                    misfits.setdefault(row, []).append(Misfit(column.name, "not_null", "the column must not be null"))
        if repeated is not None:
            lines = chunk.lines.to_pylist()
            twice = repeated.lines(number, lines[0], lines[-1])
            if twice:
                reason = f"other rows have the same key ({', '.join(self.key)})"
                for row, line in enumerate(lines):
                    if line in twice:
                        found = Misfit(", ".join(self.key), "primary_key", reason, self._key_of(chunk, row))
                        misfits.setdefault(row, []).append(found)
        refused = [row for row in sorted(misfits) if not self._set_aside(chunk, row, misfits[row])]
        batch = chunk.batch
        if refused:
            rows = pa.array(range(batch.num_rows), pa.int64())
            batch = batch.filter(pc.invert(pc.is_in(rows, pa.array(refused, pa.int64()))))
        return pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def _key_of(self, chunk: Chunk, row: int) -> str:
        """Return the key of a row as text: its value, or a JSON object of several."""
        values = {name: chunk.batch.column(name)[row].as_py() for name in self.key}
        if len(values) == 1:
            return cut(str(values[self.key[0]]))
        return cut(json.dumps(values, default=str, ensure_ascii=False))

    def _set_aside(self, chunk: Chunk, row: int, found: Sequence[Misfit]) -> bool:
        """Note what is wrong with a row; return whether it is taken all the same, with null for what does not fit."""
        taken = self._flag and all(m.code in _FLAGGED for m in found)
        line, raw = chunk.lines[row].as_py(), chunk.raw(row)
        for m in found if taken else found[:1]:
            self._stage.rejects.add(RowReject(line, m.column, m.code, m.reason, raw, m.value, self._rule(m), taken))
        return taken

    def _rule(self, misfit: Misfit) -> str:
        """Return what a misfit breaks."""
        if misfit.code in _FLAGGED:
            return f"type {type_text(self.schema.field(misfit.column).type)}"
        return {"primary_key": f"key {', '.join(self.key)}", "not_null": "not null"}.get(misfit.code, "plain text")


def _null_rows(chunk: Chunk, name: str) -> list[int]:
    return pc.indices_nonzero(pc.is_null(chunk.batch.column(name))).to_pylist()  # type: ignore[no-any-return]
