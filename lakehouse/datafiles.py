"""Writing Parquet data files: plain types, statistics for the Delta log, bloom filters on what is looked up.

Files are written first and committed later, so that a commit can be tried again without the data, and many workers
can write what one commit publishes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import BloomFilterProperties, ColumnProperties, WriterProperties

from lakehouse.delta import STATS_COLUMNS, table_uri
from lakehouse.errors import InvalidInputError, translated
from lakehouse.schema import refuse_missing
from lakehouse.storage import Storage

TARGET_BYTES = 128 << 20
"""A data file is closed once it has about this many bytes."""
ROW_GROUP_ROWS = 131_072
BLOOM_NDV = ROW_GROUP_ROWS
BLOOM_FPP = 0.01
STATS_TEXT = 32
"""Characters of text kept in statistics: enough to skip files, and little of the data."""
_HIGHEST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file that was written into a table's folder and is not committed yet."""

    path: str
    """Path relative to the table."""
    size: int
    """Bytes."""
    rows: int
    stats: str
    """Statistics as the Delta log has them (Delta protocol, "Per-file Statistics")."""
    modified: int
    """Milliseconds since the epoch; equal for all files of one write, so that they keep their order."""
    stored: int | None = None
    """When the store got it, if that is not `modified`; milliseconds since the epoch."""


def write_files(
    storage: Storage,
    location: str,
    reader: pa.RecordBatchReader,
    *,
    lookup: Sequence[str] = (),
    sorted_by: Sequence[str] = (),
    target_bytes: int = TARGET_BYTES,
    stem: str = "part",
    modified: int | None = None,
) -> list[DataFile]:
    """Write a stream as Parquet files of about 128 MiB into a table's folder, without committing them.

    Memory is bounded by one row group (131,072 rows or 128 MiB). An empty stream writes no file.

    Args:
        location: The table's location.
        reader: Batches in the table's own schema.
        lookup: Columns that get bloom filters.
        sorted_by: Columns by which the stream is known to be sorted; noted in the files.
        target_bytes: A file is closed once it has so many; row groups are not divided.
        stem: What the files' names begin with.
        modified: The files' place in the order of rows, milliseconds since the epoch; None: now, after all others.
    Raises:
        StorageError, AccessDeniedError: the store or the disk failed.
    """
    written: list[DataFile] = []
    stamp, now = uuid4().hex[:12], time.time_ns() // 1_000_000
    rows = _RowGroups(reader)
    while (group := rows.next()) is not None:
        name = f"{stem}-{len(written):05d}-{stamp}.parquet"
        with translated("writing data files"):
            written.append(_write_one(storage, location, name, group, rows, lookup, sorted_by, target_bytes, now))
    return written if modified is None else [replace(f, modified=modified, stored=now) for f in written]


def engine_properties(lookup: Sequence[str]) -> WriterProperties:
    """Return how delta-rs is to write the files of a merge or a delete: as `write_files` writes ours.

    Args:
        lookup: Columns that get bloom filters.
    """
    bloom = ColumnProperties(bloom_filter_properties=BloomFilterProperties(True, fpp=BLOOM_FPP, ndv=BLOOM_NDV))
    return WriterProperties(
        compression="ZSTD",
        max_row_group_size=ROW_GROUP_ROWS,
        column_properties=dict.fromkeys(lookup, bloom) or None,
    )


class _RowGroups:
    """Regroups a stream of batches into tables of a row group each."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader, self._held, self._rows = iter(reader), [], 0  # type: tuple[Any, list[pa.RecordBatch], int]
        self.schema = reader.schema

    def next(self) -> pa.Table | None:
        held = sum(batch.nbytes for batch in self._held)
        while self._rows < ROW_GROUP_ROWS and held < TARGET_BYTES:
            batch = next(self._reader, None)
            if batch is None:
                break
            self._held.append(batch)
            self._rows += batch.num_rows
            held += batch.nbytes
        if not self._rows:
            return None
        table = pa.Table.from_batches(self._held, schema=self.schema)
        group, rest = table.slice(0, ROW_GROUP_ROWS), table.slice(ROW_GROUP_ROWS)
        self._held, self._rows = rest.to_batches(), rest.num_rows
        return group


def _write_one(
    storage: Storage,
    location: str,
    name: str,
    group: pa.Table | None,
    rows: _RowGroups,
    lookup: Sequence[str],
    sorted_by: Sequence[str],
    target_bytes: int,
    now: int,
) -> DataFile:
    uri = table_uri(storage, location).removeprefix("file://")
    remote = "://" in uri
    with tempfile.NamedTemporaryFile(suffix=".parquet", delete=remote) if remote else _Plain(f"{uri}/{name}") as target:
        bloom = {c: {"ndv": BLOOM_NDV, "fpp": BLOOM_FPP} for c in lookup if c in rows.schema.names}
        sorting = [pq.SortingColumn(rows.schema.get_field_index(c)) for c in sorted_by if c in rows.schema.names]
        with pq.ParquetWriter(
            target.name,
            rows.schema,
            compression="zstd",
            bloom_filter_options=bloom or None,
            sorting_columns=sorting or None,
            write_page_checksum=True,
        ) as writer:
            while group is not None:
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
                group = rows.next() if Path(target.name).stat().st_size < target_bytes else None
        footer = pq.read_metadata(target.name)
        size = Path(target.name).stat().st_size
        if remote:
            obstore.put(storage.store(uri), name, Path(target.name))
    return DataFile(name, size, footer.num_rows, file_stats(footer, rows.schema), now)


class _Plain:
    """A path that is written in place: no temporary file is needed in a local folder."""

    def __init__(self, path: str) -> None:
        self.name = path

    def __enter__(self) -> _Plain:
        Path(self.name).parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        return None


def inspect_file(storage: Storage, location: str, path: str, schema: pa.Schema) -> DataFile:
    """Return what a commit needs to know of a Parquet file that somebody else wrote into a table's folder.

    Raises:
        InvalidInputError: its columns do not have the table's names and types (schema-mismatch, column-missing), a
            required one has nulls (null-in-required), or the path leads elsewhere (path-invalid).
        StorageError: no such file, or it is no Parquet file.
    """
    if path.startswith("/") or "://" in path or ".." in path.split("/"):
        raise InvalidInputError("path-invalid", f"{path!r} leads out of the table's folder. Give a path inside it.")
    uri = table_uri(storage, location).removeprefix("file://")
    files = storage.filesystem(uri)
    with translated(f"reading the footer of {path}", path=path), files.open(f"{uri}/{path}") as file:
        stored = int(files.modified(f"{uri}/{path}").timestamp() * 1000)
        parquet = pq.ParquetFile(file)
        found, footer = parquet.schema_arrow, parquet.metadata
        size = int(file.seek(0, 2))
    for field in schema:
        index = found.get_field_index(field.name)
        if index >= 0 and found.field(index).type != field.type:
            raise InvalidInputError(
                "schema-mismatch",
                f"{path}: column {field.name!r} is {found.field(index).type}, the table has {field.type}.",
            )
    if extra := set(found.names) - set(schema.names):
        raise InvalidInputError("schema-mismatch", f"{path} has the column {min(extra)!r}, which the table lacks.")
    refuse_missing(found, schema)
    stats = file_stats(footer, schema)
    nulls = json.loads(stats)["nullCount"]
    required = next((f.name for f in schema if not f.nullable and nulls.get(f.name)), None)
    if required is not None:
        raise InvalidInputError("null-in-required", f"{path}: column {required!r} is required and has nulls.")
    return DataFile(path, size, footer.num_rows, stats, time.time_ns() // 1_000_000, stored)


def file_stats(footer: pq.FileMetaData, schema: pa.Schema) -> str:
    """Return Delta statistics of a Parquet file, from its footer alone.

    Minimum and maximum are given for integers, text, dates, timestamps and decimals; not for floats, whose
    footers leave NaN out.
    Source: Delta protocol, "Per-file Statistics"
    """
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    columns = {footer.schema.column(i).path: i for i in range(len(footer.schema))}
    for field in list(schema)[:STATS_COLUMNS]:
        index = columns.get(field.name)
        if index is None or not footer.num_row_groups:
            continue
        stats = [footer.row_group(g).column(index).statistics for g in range(footer.num_row_groups)]
        if any(s is None or not s.has_null_count for s in stats):
            continue
        nulls[field.name] = sum(s.null_count for s in stats)
        bounds = [s for s in stats if s.has_min_max]
        if not _ordered(field.type) or len(bounds) + sum(s.num_values == 0 for s in stats) < len(stats) or not bounds:
            continue
        try:
            least, most = min(s.min for s in bounds), max(s.max for s in bounds)
        except (ValueError, OverflowError):  # a time beyond the years 1 to 9999, which Python can't hold
            continue
        if _exact(least) and _exact(most):
            low[field.name], high[field.name] = _stat_value(least, upper=False), _stat_value(most, upper=True)
    return json.dumps({"numRecords": footer.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls})


def _ordered(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(
        t.is_integer(kind) or t.is_string(kind) or t.is_date(kind) or t.is_timestamp(kind) or t.is_decimal(kind)
    )


def _exact(value: Any) -> bool:
    """Whether statistics can bound by the value: JSON numbers hold some decimals only, text no higher character."""
    if isinstance(value, Decimal):
        return Decimal(repr(float(value))) == value
    return not isinstance(value, str) or value[STATS_TEXT : STATS_TEXT + 1] != _HIGHEST


def _stat_value(value: Any, *, upper: bool) -> Any:
    if isinstance(value, str) and len(value) > STATS_TEXT:
        # A cut maximum must still be an upper bound: the highest character does that.
        return value[:STATS_TEXT] + (_HIGHEST if upper else "")
    if isinstance(value, datetime):
        text = value.isoformat(timespec="microseconds")
        return text.replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value) if value != value.to_integral_value() else int(value)
    return value
