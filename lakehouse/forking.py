"""Forking: the rows of a state as the first rows of another table, which goes its own way from there.

Delta paths stay inside a table's folder, so data files are copied, by the store itself where the columns allow it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from lakehouse import fences
from lakehouse.commits import own_commit
from lakehouse.datafiles import DataFile, file_stats, write_files
from lakehouse.decisions import Dataset
from lakehouse.delta import Route
from lakehouse.errors import translated
from lakehouse.evolving import carried, is_addition
from lakehouse.lake import Lake
from lakehouse.snapshots import Snapshot
from lakehouse.storage import Storage
from lakehouse.tables import Commit, Table

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Forked:
    """What a fork took over."""

    table_version: int
    rows: int
    files: int
    copied: bool
    """Whether the store copied the data files; False: the rows were written anew, in other columns."""


def fork_state(lake: Lake, source: Snapshot, target: Dataset, columns: pa.Schema, *, run: str | None = None) -> Forked:
    """Make the rows of a state the first rows of an empty table, in the same order.

    The caller keeps the state readable meanwhile.

    Args:
        target: A dataset whose table is there, with these columns.
    Raises:
        InvalidInputError: rows that do not fit other columns, as `evolving.change_columns`.
        StorageError: a file of the state is missing (object-not-found, data-missing), or the store failed.
    """
    table = Table(lake.storage, target, lake.actor)
    copied = can_copy(source, columns)
    if copied:
        files = _copies(lake.storage, source, target, columns)
    else:
        reader = carried(source, columns)
        files = write_files(lake.storage, target.location, reader, lookup=table.lookup_columns(columns))
    rows = sum(f.rows for f in files)
    if not files:
        return Forked(table.version(), 0, 0, copied)

    def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
        fences.refuse_swept(fresh, files, table.name)
        stamp = own_commit(
            app,
            number,
            actor=lake.actor,
            run=run,
            message=f"fork of {source.dataset.full_name}@#{source.table_version}",
            rows_added=rows,
            what="FORK",
            retries=0,
        )
        adds = [AddAction(f.path, f.size, {}, f.modified, True, f.stats) for f in files]
        fresh.create_write_transaction(adds, "append", fresh.schema(), commit_properties=stamp)  # type: ignore[arg-type]
        return None

    version = table.retried(attempt, None, run, Commit).table_version
    return Forked(version, rows, len(files), copied)


def can_copy(source: Snapshot, columns: pa.Schema) -> bool:
    """Whether the data files of a state can be those of a table with these columns, as they are."""
    own = source.dataset.guarantee == "own" and source.file_list.route is Route.FILES
    return own and is_addition(source.schema, columns)


def _copies(storage: Storage, source: Snapshot, target: Dataset, columns: pa.Schema) -> list[DataFile]:
    listed = source.file_list.table.select(["path", "size", "modified"]).to_pylist()
    base, now = storage.uri(target.location), time.time_ns() // 1_000_000
    files = storage.filesystem()

    def copy(file: dict[str, int | str]) -> DataFile:
        path = str(file["path"])
        storage.copy(f"{source.dataset.location}/{path}", f"{target.location}/{path}")
        with translated(f"reading the footer of {path}", path=path), files.open(f"{base}/{path}") as opened:
            footer = pq.ParquetFile(opened).metadata
        # The time of the original keeps the order of rows.
        return DataFile(
            path, int(file["size"]), footer.num_rows, file_stats(footer, columns), int(file["modified"]), stored=now
        )

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(copy, listed))
