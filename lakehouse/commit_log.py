"""The log of a dataset as people read it: the commits of its Delta log, and before them those that were folded away.

Folding projects each commit into the fact table `commits` before its log entry goes (`folding.record`). A commit that is
there twice is the same twice: two clean-ups may have recorded it. Where the log still has it, the log tells.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa

from lakehouse.commits import reopening
from lakehouse.decisions import Dataset, system_dataset
from lakehouse.errors import LakeError, NotFoundError
from lakehouse.history import LogEntry, in_order, read_tail
from lakehouse.logfiles import list_log
from lakehouse.readers.duck import literal
from lakehouse.snapshots import open_snapshot
from lakehouse.storage import Storage

log = logging.getLogger(__name__)

COMMITS = "commits"
"""The fact table of folded commits."""
COLUMNS = [f.name for f in fields(LogEntry)]
"""What it tells of each commit."""
_LOOK_BACK = 64
"""Commits read before the oldest one asked for: a commit is at least as late as those."""


def read_log(storage: Storage, dataset: Dataset, newest: int, limit: int | None = None) -> list[LogEntry]:
    """Return the commits of a dataset, newest first; at most `limit`.

    Times never go backwards, whatever the writers' clocks said: a commit is at least as late as the one before.
    Versions are those of the log's file names: `DeltaTable.history` counts down from the newest, and is wrong below
    a gap or a commit without commit info, which the protocol allows. An adopted table lacks what others cleaned away.

    Args:
        newest: Table version to begin with.
    """
    first = 0 if limit is None else newest - limit + 1
    start = max(first - _LOOK_BACK, 0)
    listed = range(start, newest + 1) if limit is not None else list_log(storage, dataset.location).entries
    found = in_order(stored_commits(storage, dataset, start, newest, [v for v in listed if v <= newest]))
    return [e for e in found if e.table_version >= first][::-1]


def stored_commits(
    storage: Storage, dataset: Dataset, first: int, last: int, listed: Sequence[int] | None = None
) -> list[LogEntry]:
    """Return the commits from one table version to another (inclusive), oldest first, with the times of their writers.

    Those that nothing tells of any more are left out.

    Args:
        listed: Versions whose log entries are worth looking for; None: all.
    """
    tail = read_tail(storage, dataset.location, range(first, last + 1) if listed is None else listed)
    if len(tail) == last - first + 1:
        return tail
    # After the log: what a clean-up folds meanwhile was recorded before its entry went.
    folded = folded_commits(storage, dataset.dataset_id, first, last)
    known = {e.table_version: e for e in (*folded, *tail)}
    return [known[v] for v in sorted(known)]


def folded_commits(storage: Storage, dataset_id: str, first: int, last: int) -> list[LogEntry]:
    """Return the commits from one table version to another (inclusive) that were folded away, oldest first."""
    where = f"dataset_id = {literal(dataset_id)} and table_version between {first} and {last}"

    def read() -> pa.Table:
        facts = open_snapshot(storage, system_dataset(COMMITS), f"system.{COMMITS}", None, None)
        return facts.to_arrow([c for c in COLUMNS if c in facts.schema.names], where)

    try:
        known = {row["table_version"]: as_commit(row) for row in reopening(read).to_pylist()}
    except NotFoundError as error:
        if error.kind != "table-missing":
            raise
        return []  # nothing was ever folded
    return [known[v] for v in sorted(known)]


def as_commit(row: Mapping[str, Any]) -> LogEntry:
    """Return the commit that a row of the fact table tells of."""
    told: dict[str, Any] = {name: row.get(name) for name in COLUMNS}
    return LogEntry(**told | {"undated": bool(told["undated"])})


def log_tails(storage: Storage, datasets: Iterable[Dataset]) -> list[dict[str, Any]]:
    """Return the commits of several datasets whose log entries are still there, as rows of the fact table `commits`.

    Each log entry is fetched. A dataset whose table is gone or can't be reached has none.
    """
    rows = []
    for dataset in datasets:
        try:
            tail = read_tail(storage, dataset.location, list_log(storage, dataset.location).entries)
        except LakeError as error:
            log.debug("a log could not be read", extra={"dataset": dataset.full_name, "error": error.kind})
            continue
        rows += [{"dataset_id": dataset.dataset_id} | {n: getattr(e, n) for n in COLUMNS} for e in tail]
    return rows
