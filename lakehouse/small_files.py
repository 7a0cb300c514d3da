"""Small files of our own tables, joined into larger ones in one commit that changes no data.

The commit is a compare-and-swap on a table in which all the files are still listed: delta-rs' own compaction lands on
top of another one of the same files, even where no retry is allowed, and each row is then there twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from lakehouse.commits import backoff, own_commit
from lakehouse.datafiles import DataFile, write_files
from lakehouse.delta import list_files, open_delta, table_schema
from lakehouse.errors import translated
from lakehouse.storage import Storage

TARGET_BYTES = 16 << 20
"""Files of half this size are not joined any more, so that an upkeep costs the same however long the table is."""
_TRIES = 8
"""How often a commit is tried while writers keep winning; after that a later upkeep joins them."""
_BATCH_ROWS = 65_536
_AT_ONCE = 16
_ACTOR = "upkeep"


@dataclass(frozen=True, slots=True)
class _Small:
    path: str
    size: int
    modified: int


def join(storage: Storage, location: str) -> None:
    """Join the small files of a table; when others change the same files, or keep winning, nothing is changed.

    Memory is bounded by the files that become one (16 MiB), and one row group.

    Args:
        location: Key of the table under the root.
    Raises:
        LakeError, DeltaError, OSError: the store failed.
    """
    table = open_delta(storage, location, location)
    bins = _bins(table, location)
    if not bins:
        return
    schema, written = table_schema(table), list[DataFile]()
    for files in bins:
        reader = pa.RecordBatchReader.from_batches(schema, _batches(storage, location, files, schema))
        written += write_files(
            storage, location, reader, target_bytes=2 * TARGET_BYTES, modified=max(f.modified for f in files)
        )
    _commit(storage, location, [file for files in bins for file in files], written)


def _bins(table: DeltaTable, location: str) -> list[list[_Small]]:
    """Return small files that lie beside each other in the order of rows, in groups that each become one file."""
    bins: list[list[_Small]] = [[]]
    listed = list_files(table, location).table.select(["path", "size", "modified"])
    for row in listed.to_pylist():
        if row["size"] * 2 >= TARGET_BYTES:
            bins.append([])
            continue
        if sum(f.size for f in bins[-1]) + row["size"] > TARGET_BYTES:
            bins.append([])
        bins[-1].append(_Small(**row))
    return [files for files in bins if len(files) > 1]


def _batches(storage: Storage, location: str, files: Sequence[_Small], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        contents = list(pool.map(lambda file: storage.get(f"{location}/{file.path}"), files))
    for content in contents:
        with translated(f"reading files of {location}"):
            for batch in pq.ParquetFile(BytesIO(content)).iter_batches(_BATCH_ROWS):
                names = set(batch.schema.names)
                columns = [
                    batch.column(f.name).cast(f.type) if f.name in names else pa.nulls(batch.num_rows, f.type)
                    for f in schema
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _commit(storage: Storage, location: str, old: Sequence[_Small], new: Sequence[DataFile]) -> None:
    for attempt in range(_TRIES):
        table = open_delta(storage, location, location)
        listed = set(list_files(table, location).table.column("path").to_pylist())
        if not listed.issuperset(file.path for file in old):
            return
        now = time.time_ns() // 1_000_000
        adds = [AddAction(f.path, f.size, {}, f.modified, False, f.stats) for f in new]
        removes = [RemoveAction(f.path, False, now, f.size, {}) for f in old]
        stamp = own_commit(_ACTOR, table.version(), actor=_ACTOR, what="OPTIMIZE", retries=0)
        try:
            table.create_write_transaction([*adds, *removes], "append", table.schema(), commit_properties=stamp)
            return
        except CommitFailedError:
            backoff(attempt)
