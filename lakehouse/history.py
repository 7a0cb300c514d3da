"""The history of a Delta table: its commits as people read them, and the commit that carries a transaction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import obstore
import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.delta import table_uri
from lakehouse.errors import InternalError, NotFoundError, translated
from lakehouse.storage import Storage


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One commit of a table's history."""

    table_version: int
    created_at: datetime
    """UTC."""
    operation: str
    rows_added: int | None
    rows_removed: int | None
    user: str | None
    message: str | None
    run: str | None
    rows_updated: int | None = None
    """Rows of a merge that got other values."""


_COMMITS_AT_ONCE = 16
_COMMIT_FILE = re.compile(r"_delta_log/([0-9]{20})\.json")


def read_log(storage: Storage, location: str, newest: int, limit: int | None = None) -> list[LogEntry]:
    """Return the commits of a table whose log entries are still there, newest first; at most `limit`.

    Times never go backwards, whatever the writers' clocks said: a commit is at least as late as the one before.
    Versions are those of the log's file names: `DeltaTable.history` counts down from the newest, and is wrong below
    a gap or a commit without commit info, which the protocol allows.

    Args:
        newest: Table version to begin with.
    """
    if limit is not None:
        versions = list(range(newest, max(newest - limit, -1), -1))
    else:
        versions = [v for v in _listed(storage, location) if v <= newest]

    def read(version: int) -> LogEntry | None:
        try:
            return _read_entry(storage, location, version)
        except NotFoundError:  # folded
            return None

    with ThreadPoolExecutor(_COMMITS_AT_ONCE) as pool:
        entries = [e for e in pool.map(read, versions) if e is not None]
    latest = datetime.min.replace(tzinfo=UTC)
    for i in range(len(entries) - 1, -1, -1):
        latest = max(latest, entries[i].created_at)
        entries[i] = replace(entries[i], created_at=latest)
    return entries


def find_transaction(storage: Storage, location: str, newest: int, app: str, number: int) -> int:
    """Return the table version whose commit carries an application transaction.

    Args:
        newest: A version that has it; the search goes back from there, so that it is short for a commit just made.
    Raises:
        NotFoundError: the commit's log entry was folded (version-folded).
        InternalError: no commit carries it (transaction-lost).
    """
    for version in range(newest, -1, -1):
        for action in _actions(storage, location, version):
            txn = action.get("txn")
            if txn is not None and txn["appId"] == app and txn["version"] >= number:
                return version
    raise InternalError("transaction-lost", f"No commit of {location} up to version {newest} carries {app} {number}.")


def commit_time(storage: Storage, location: str, table: DeltaTable) -> datetime:
    """Return the time of the commit that made the opened version, UTC.

    One small read: `DeltaTable.history` lists the whole log, and holds Python's lock while it does.
    """
    try:
        infos = [a["commitInfo"] for a in _actions(storage, location, table.version()) if "commitInfo" in a]
    except NotFoundError:  # its log entry was folded into a checkpoint
        infos = []
    if infos and "timestamp" in infos[0]:
        return datetime.fromtimestamp(infos[0]["timestamp"] / 1000, UTC)
    # No commit info (allowed by the protocol): the newest file's time is the best that is known.
    newest = max(pa.table(table.get_add_actions()).column("modification_time").to_pylist(), default=0)
    return datetime.fromtimestamp(newest / 1000, UTC)


def _listed(storage: Storage, location: str) -> list[int]:
    """Return the versions whose log entries are there, newest first."""
    with translated(f"listing the log of {location}"):
        found = obstore.list(storage.store(table_uri(storage, location)), prefix="_delta_log")
        names = [_COMMIT_FILE.fullmatch(entry["path"]) for chunk in found for entry in chunk]
    return sorted((int(name[1]) for name in names if name), reverse=True)


def _read_commit(storage: Storage, location: str, version: int) -> tuple[bytes, datetime]:
    """Return one log entry and the time at which it was stored."""
    key = f"_delta_log/{version:020d}.json"
    with translated(f"reading {key}", key=key):
        try:
            found = obstore.get(storage.store(table_uri(storage, location)), key)
            return bytes(found.bytes()), found.meta["last_modified"]
        except FileNotFoundError as error:
            raise NotFoundError("version-folded", f"The log of {location} has no entry {version} any more.") from error


def _actions(storage: Storage, location: str, version: int) -> Iterator[dict[str, Any]]:
    """Iterate over the actions of one commit but those on files."""
    return _parse(_read_commit(storage, location, version)[0])


def _parse(entry: bytes) -> Iterator[dict[str, Any]]:
    for line in entry.splitlines():
        if line.strip() and not line.startswith((b'{"add"', b'{"remove"', b'{"cdc"')):
            yield json.loads(line)


def _read_entry(storage: Storage, location: str, version: int) -> LogEntry:
    content, stored = _read_commit(storage, location, version)
    entry: dict[str, Any] = next((a["commitInfo"] for a in _parse(content) if "commitInfo" in a), {})
    metrics = entry.get("operationMetrics") or {}

    def number(*names: str) -> int | None:
        found = (source[n] for n in names for source in (entry, metrics) if source.get(n) is not None)
        first = next(found, None)
        return None if first is None else int(first)

    return LogEntry(
        table_version=version,
        created_at=datetime.fromtimestamp(entry["timestamp"] / 1000, UTC) if "timestamp" in entry else stored,
        operation=str(entry.get("operation", "")),
        rows_added=number("rows_added", "num_added_rows", "num_target_rows_inserted", "numOutputRows"),
        rows_removed=number("rows_removed", "num_deleted_rows", "num_target_rows_deleted", "numDeletedRows"),
        user=entry.get("user"),
        message=entry.get("message"),
        run=entry.get("run"),
        rows_updated=number("num_target_rows_updated"),
    )
