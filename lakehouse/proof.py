"""Proof that a version's files are there and whole, before something is published that rests on them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import StorageError, translated
from lakehouse.presence import shown_file
from lakehouse.snapshots import Snapshot
from lakehouse.storage import Storage

PARALLEL = 16
_TAIL = 64 << 10
"""Bytes at the end of a file that are asked for first: most footers are shorter."""
_CHUNK = 8 << 20


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
    with ThreadPoolExecutor(min(PARALLEL, len(rows))) as pool:
        list(pool.map(lambda row: look(snapshot.storage, row, snapshot.reference), rows))
    return len(rows)


def look(storage: Storage, row: Mapping[str, Any], what: str, size: int | None = None) -> int:
    """Check one data file by its size and its footer; return its number of rows.

    Args:
        row: The file as `FileList.table` has it.
        what: What the file belongs to, for messages.
        size: Its size in bytes where a listing told it already.
    Raises:
        StorageError: file-missing, file-damaged.
    """
    uri, name = str(row["uri"]), shown_file(str(row["path"]))
    files = storage.filesystem(uri)
    with translated(f"looking at {name}", path=name), _present(what, name, row):
        found = files.size(uri) if size is None else size
        _check(what, name, found == row["size"], f"{found} bytes", row)  # else there is no use in reading it
        tail = files.cat_file(uri, start=max(0, found - _TAIL), end=found)
        needed = int.from_bytes(tail[-8:-4], "little") + 8  # Parquet format, "File Format": the footer's length
        if _TAIL < needed <= found:
            tail = files.cat_file(uri, start=found - needed, end=found)
    with _readable(what, name):
        rows = int(pq.read_metadata(pa.BufferReader(tail)).num_rows)
    _check(what, name, row["rows"] in (None, rows), f"{rows} rows", row)
    return rows


def read_whole(storage: Storage, row: Mapping[str, Any], what: str) -> tuple[int, str]:
    """Read every page of one data file, with the checksums that it carries; return its number of rows and its sha256.

    A file in a store is brought to a temporary folder first. Memory holds a few batches.

    Raises:
        StorageError: file-missing, file-damaged.
    """
    uri, name = str(row["uri"]), shown_file(str(row["path"]))
    digest, found = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(suffix=".parquet") as kept:
        remote = "://" in uri
        files = storage.filesystem(uri)
        with translated(f"reading {name}", path=name), _present(what, name, row), files.open(uri, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                found += len(chunk)
                if remote:
                    kept.write(chunk)
        kept.flush()
        _check(what, name, found == row["size"], f"{found} bytes", row)
        with _readable(what, name), _present(what, name, row):
            rows = _decode(Path(kept.name if remote else uri))
    _check(what, name, row["rows"] in (None, rows), f"{rows} rows", row)
    return rows, digest.hexdigest()


def _decode(path: Path) -> int:
    # Buffering ahead would hold the whole file.
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        try:
            return sum(batch.num_rows for batch in file.iter_batches())
        except pa.ArrowNotImplementedError:  # a type of another engine that Arrow can't hold: the footer has to do
            return int(file.metadata.num_rows)


@contextmanager
def _present(what: str, name: str, row: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(
            "file-missing", f"{what}: the data file {name} is missing at {row['uri']}.", path=name
        ) from error


@contextmanager
def _readable(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            "file-damaged", f"{what}: the data file {name} can't be read ({type(error).__name__}).", path=name
        ) from error


def _check(what: str, name: str, holds: bool, has: str, row: Mapping[str, Any]) -> None:
    if not holds:
        raise StorageError(
            "file-damaged",
            f"{what}: the data file {name} has {has}, the log says {row['size']} bytes and {row['rows']} rows.",
            path=name,
        )
