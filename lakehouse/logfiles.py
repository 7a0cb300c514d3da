"""A Delta log as files: which entries and checkpoints are there, and what an entry did to the data files.

delta-rs reads states. Clean-up needs the log itself, since it decides which of its files may go.
Source: Delta protocol, "Delta Log Entries", "Checkpoints"
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import obstore

from lakehouse.delta import table_uri
from lakehouse.errors import NotFoundError, translated
from lakehouse.storage import Storage

AT_ONCE = 16
"""Log entries that are fetched at the same time."""
_ENTRY = re.compile(r"_delta_log/([0-9]{20})\.json")
_CHECKPOINT = re.compile(r"_delta_log/([0-9]{20})\.checkpoint(\.[^/]+)?\.(parquet|json)")


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The files of one log."""

    entries: tuple[int, ...]
    """Versions whose entries are there, ascending."""
    checkpoints: dict[int, tuple[str, ...]]
    """Keys of the parts of each checkpoint, relative to the table, by version, ascending."""

    @property
    def newest(self) -> int:
        """The newest version that the files speak of; -1 for none."""
        return max((*self.entries[-1:], *list(self.checkpoints)[-1:]), default=-1)

    def checkpoint_before(self, version: int) -> int | None:
        """Return the version of the last checkpoint at or before a version; None when there is none."""
        versions = list(self.checkpoints)
        at = bisect_right(versions, version)
        return versions[at - 1] if at else None

    def surplus(self, kept: Sequence[int], before: int) -> list[str]:
        """Return the keys of files that neither a version from `before` on needs, nor one that is kept, oldest first.

        A version needs the last checkpoint at or before it, the entries after that up to it, and its own entry, which
        has its time. Without a checkpoint at or before `before` everything is needed.

        Args:
            kept: Versions below `before` that stay readable.
        """
        base = self.checkpoint_before(before)
        if base is None:
            return []
        bases, entries = {base}, set[int]()
        for version in kept:
            start = self.checkpoint_before(version)
            bases |= set() if start is None else {start}
            entries |= {version, *range(-1 if start is None else start + 1, version)}
        gone = [(v, entry_key(v)) for v in self.entries if v < base and v not in entries]
        gone += [(v, key) for v, keys in self.checkpoints.items() if v < base and v not in bases for key in keys]
        return [key for _, key in sorted(gone)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit, as its log entry tells it."""

    version: int
    info: dict[str, Any]
    """The commit info; empty when the writer left none (allowed by the protocol)."""
    stored: datetime
    """When the entry was stored, by the store's clock."""
    added: dict[str, int]
    """Data files that it listed: {path: bytes}; paths without escapes."""
    removed: tuple[str, ...]
    """Data files that it no longer lists."""
    changes: dict[str, int]
    """Change files of its change feed: {path: bytes}."""


def entry_key(version: int) -> str:
    """Return the key of a version's log entry, relative to the table."""
    return f"_delta_log/{version:020d}.json"


def list_log(storage: Storage, location: str) -> LogFiles:
    """Return the files of a table's log.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    with translated(f"listing the log of {location}"):
        chunks = obstore.list(storage.store(table_uri(storage, location)), prefix="_delta_log")
        return log_of(found["path"] for chunk in chunks for found in chunk)


def log_of(paths: Iterable[str]) -> LogFiles:
    """Return the files of a log among the keys of a table's objects, relative to the table."""
    entries: list[int] = []
    checkpoints: dict[int, list[str]] = {}
    for path in paths:
        if name := _ENTRY.fullmatch(path):
            entries.append(int(name[1]))
        elif name := _CHECKPOINT.fullmatch(path):
            checkpoints.setdefault(int(name[1]), []).append(path)
    return LogFiles(tuple(sorted(entries)), {v: tuple(checkpoints[v]) for v in sorted(checkpoints)})


def fetch_entry(storage: Storage, location: str, version: int) -> tuple[bytes, datetime]:
    """Return one log entry and the time at which it was stored.

    Raises:
        NotFoundError: it is not there any more (version-folded).
        StorageError, AccessDeniedError: the store failed or refused.
    """
    key = entry_key(version)
    with translated(f"reading {key}", key=key):
        try:
            found = obstore.get(storage.store(table_uri(storage, location)), key)
            return bytes(found.bytes()), found.meta["last_modified"]
        except FileNotFoundError as error:
            raise NotFoundError("version-folded", f"The log of {location} has no entry {version} any more.") from error


def read_entries(storage: Storage, location: str, versions: Sequence[int]) -> Iterator[Entry]:
    """Iterate over commits in the order given; a few are fetched ahead.

    Raises:
        NotFoundError: one of them is not there any more (version-folded).
    """

    def read(version: int) -> Entry:
        return parse_entry(version, *fetch_entry(storage, location, version))

    waiting: deque[Future[Entry]] = deque()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for version in versions:
            waiting.append(pool.submit(read, version))
            if len(waiting) >= 2 * AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def parse_entry(version: int, content: bytes, stored: datetime) -> Entry:
    """Return what a log entry says of files, and its commit info."""
    info: dict[str, Any] = {}
    added: dict[str, int] = {}
    changes: dict[str, int] = {}
    removed: list[str] = []
    for line in content.splitlines():
        if not line.strip():
            continue
        action = json.loads(line)
        if "add" in action:
            added[unquote(action["add"]["path"])] = int(action["add"]["size"])
        elif "remove" in action:
            removed.append(unquote(action["remove"]["path"]))
        elif "cdc" in action:
            changes[unquote(action["cdc"]["path"])] = int(action["cdc"].get("size") or 0)
        elif "commitInfo" in action and not info:
            info = action["commitInfo"]
    return Entry(version, info, stored, added, tuple(removed), changes)
