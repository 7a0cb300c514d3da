"""Proof that a version's files are there and whole, before something is published that rests on them."""

from __future__ import annotations

from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import StorageError, translated
from lakehouse.snapshots import Snapshot

PARALLEL = 16


def prove_files(snapshot: Snapshot, proven: Set[str] = frozenset()) -> int:
    """Check that each data file exists with the size and the number of rows that the log says.

    Args:
        proven: Paths of files that need no look: an earlier version proved them.
    Returns:
        Number of files that were looked at.
    Raises:
        StorageError: a file is missing (file-missing), or has another size or row count (file-damaged).
    """
    rows = [r for r in snapshot.file_list.table.to_pylist() if r["path"] not in proven]
    if not rows:
        return 0
    files = snapshot.storage.filesystem(str(rows[0]["uri"]))

    def look(row: dict[str, object]) -> None:
        uri = str(row["uri"])
        with translated(f"looking at {row['path']}", path=row["path"]):
            try:
                size = files.size(uri)
            except FileNotFoundError as error:
                raise StorageError(
                    "file-missing",
                    f"{snapshot.reference}: the data file {row['path']} is missing at {uri}.",
                    path=row["path"],
                ) from error
        found = None
        if size == row["size"]:  # else there is no use in reading it
            try:
                with files.open(uri, "rb", **({} if snapshot.storage.is_local else {"block_size": 1 << 16})) as file:
                    found = pq.read_metadata(file).num_rows
            except (OSError, pa.ArrowInvalid) as error:
                raise StorageError(
                    "file-damaged",
                    f"{snapshot.reference}: the data file {row['path']} can't be read ({type(error).__name__}).",
                    path=row["path"],
                ) from error
        if size != row["size"] or (row["rows"] is not None and found != row["rows"]):
            has = f"{size} bytes" if size != row["size"] else f"{found} rows"
            raise StorageError(
                "file-damaged",
                f"{snapshot.reference}: the data file {row['path']} has {has}, "
                f"the log says {row['size']} bytes and {row['rows']} rows.",
                path=row["path"],
            )

    with ThreadPoolExecutor(min(PARALLEL, len(rows))) as pool:
        list(pool.map(look, rows))
    return len(rows)
