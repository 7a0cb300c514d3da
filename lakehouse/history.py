"""The history of a Delta table: its commits as people read them, and the commit that carries a transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.errors import InternalError, NotFoundError
from lakehouse.logfiles import AT_ONCE, fetch_entry
from lakehouse.storage import Storage

_EPOCH = datetime.fromtimestamp(0, UTC)


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
    salt: str | None = None
    """What the message is digested with (see `commit_chain`); None without one."""
    erased: str | None = None
    """Digest of the message that an erasure took; None: none was."""
    undated: bool = False
    """Whether the commit tells no time, so that the one of its file stands in."""


def read_tail(storage: Storage, location: str, versions: Sequence[int]) -> list[LogEntry]:
    """Return the commits of these versions, in the order given, but for those whose log entries are gone."""

    def read(version: int) -> LogEntry | None:
        try:
            content, stored = fetch_entry(storage, location, version)
        except NotFoundError:  # folded
            return None
        info: Any
        try:
            info = next((a["commitInfo"] for a in _parse(content) if "commitInfo" in a), {})
        except (ValueError, TypeError):  # damaged: a commit that tells nothing
            info = {}
        return described(version, info if isinstance(info, dict) else {}, stored)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [e for e in pool.map(read, versions) if e is not None]


def in_order(entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Return commits, oldest first, with times that never go backwards: each is at least as late as the one before."""
    latest = datetime.min.replace(tzinfo=UTC)
    ordered = []
    for entry in entries:
        latest = max(latest, entry.created_at)
        ordered.append(replace(entry, created_at=latest))
    return ordered


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
    told = _time(infos[0].get("timestamp")) if infos else None
    if told is not None:
        return told
    # No commit info (allowed by the protocol): the newest file's time is the best that is known.
    newest = max(pa.table(table.get_add_actions()).column("modification_time").to_pylist(), default=0)
    return datetime.fromtimestamp(newest / 1000, UTC)


def _actions(storage: Storage, location: str, version: int) -> Iterator[dict[str, Any]]:
    """Iterate over the actions of one commit but those on files."""
    return _parse(fetch_entry(storage, location, version)[0])


def _parse(entry: bytes) -> Iterator[dict[str, Any]]:
    for line in entry.splitlines():
        if line.strip() and not line.startswith((b'{"add"', b'{"remove"', b'{"cdc"')):
            yield json.loads(line)


def described(version: int, info: Mapping[str, Any], stored: datetime) -> LogEntry:
    """Return a commit as people read it; what makes no sense, as if it was not there.

    Args:
        info: Its commit info; may be empty.
        stored: When its log entry was stored; stands in for a time that the commit info lacks.
    """
    metrics = info.get("operationMetrics")
    sources = (info, metrics if isinstance(metrics, dict) else {})
    told = _time(info.get("timestamp"))

    def number(*names: str) -> int | None:
        found = (source[n] for n in names for source in sources if source.get(n) is not None)
        return _integer(next(found, None))

    def text(name: str) -> str | None:
        found = info.get(name)
        return None if found is None else str(found)

    return LogEntry(
        table_version=version,
        created_at=told or stored,
        operation=str(info.get("what") or info.get("operation", "")),
        rows_added=number("rows_added", "num_added_rows", "num_target_rows_inserted", "numOutputRows"),
        rows_removed=number("rows_removed", "num_deleted_rows", "num_target_rows_deleted", "numDeletedRows"),
        user=text("user"),
        message=text("message"),
        run=text("run"),
        rows_updated=number("num_target_rows_updated"),
        salt=text("salt"),
        erased=text("erased"),
        undated=told is None,
    )


def _time(milliseconds: object) -> datetime | None:
    """Return a time that a commit tells, None for none."""
    try:
        return None if milliseconds is None else _EPOCH + timedelta(milliseconds=float(str(milliseconds)))
    except (ValueError, OverflowError):
        return None


def _integer(found: object) -> int | None:
    """Return a number that a commit tells, None for none."""
    try:
        number = int(str(found))
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None
