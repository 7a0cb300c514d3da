"""Upkeep: our own small tables stay small, as part of normal work.

Every so many commits the writer that makes the round number merges the table's small files, makes a checkpoint, and
deletes what nobody needs any more: log entries before a checkpoint that is old enough, files that those entries
removed, and now and then files that no commit ever listed. No row is ever given up: these tables have no history of
versions, only rows.

A reader or writer that slept for longer than the safe age may find its files gone. It opens the table again
(`commits.reopening`), and a writer looks whether its commit landed where others see it (`overslept`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.delta import arrow_table, open_delta
from lakehouse.errors import LakeError
from lakehouse.logfiles import LogFiles, log_of, read_entries
from lakehouse.small_files import join
from lakehouse.storage import ObjectInfo, Storage

log = logging.getLogger(__name__)

EVERY = 32
"""Commits between two upkeeps of a table: a cold reader fetches about so many small files and entries."""
SAFE_AGE = timedelta(hours=1)
"""What was replaced so long ago is deleted: no query of a running reader should need it."""
ORPHAN_FLOOR = timedelta(hours=24)
"""A file that no commit lists is deleted when it is older: its writer must be dead."""
ORPHANS_EVERY = 16 * EVERY
"""Commits between two searches for such files, which cost a look at each younger one."""
AT_MOST = 1_024
"""Log entries that one upkeep deletes, so that none takes long: a table that was never tended takes several."""


def awake_s() -> float:
    """Return the seconds of a clock that never goes back and, where there is one, counts while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def overslept(since_s: float) -> bool:
    """Whether a writer that opened the table then may have committed into a log that was cut off before it.

    Args:
        since_s: `awake_s()` before it opened the table.
    """
    return awake_s() - since_s >= SAFE_AGE.total_seconds() / 2


def tend_if_due(storage: Storage, location: str, version: int, properties: Mapping[str, str]) -> None:
    """Tend a table when a commit made a round version; failing costs nothing, since the commit has landed.

    Args:
        location: Key of the table under the root.
        version: Table version that the commit made.
        properties: Delta properties that the table should have; one made by an earlier release gets them.
    """
    if version % EVERY:
        return
    try:
        tend(storage, location, properties, orphans=version % ORPHANS_EVERY == 0)
    except (DeltaError, OSError, LakeError) as error:
        log.debug("upkeep of %s left to a later writer: %s", location, type(error).__name__)


def tend(storage: Storage, location: str, properties: Mapping[str, str], *, orphans: bool = False) -> None:
    """Merge small files, make a checkpoint, delete what was replaced long ago.

    It may die at any point and run beside others: what is deleted was given up by a commit and a checkpoint before.

    Args:
        orphans: Also look for files that no commit lists.
    Raises:
        LakeError, DeltaError, OSError: the store failed, or others wrote; a later upkeep does what this one left.
    """
    table = open_delta(storage, location, location)
    stale = {k: v for k, v in properties.items() if table.metadata().configuration.get(k) != v}
    if stale:
        table.alter.set_table_properties(stale)
    join(storage, location)
    # Opened anew: a handle that was carried over commits of others may have missed entries that were deleted meanwhile.
    table = open_delta(storage, location, location)
    table.create_checkpoint()
    _clean(storage, location, table, orphans)


def _clean(storage: Storage, location: str, table: DeltaTable, orphans: bool) -> None:
    """Delete files that only states need which ended a safe age ago.

    The age is that of a checkpoint, compared with the newest file of the log: both times are the store's, so no clock
    of a writer counts. Every state since that checkpoint stays whole.
    """
    found = {info.key.removeprefix(f"{location}/"): info for info in storage.list(location)}
    files = log_of(found)
    now = max(found[key].modified for parts in files.checkpoints.values() for key in parts)
    old = [v for v, parts in files.checkpoints.items() if all(found[k].modified <= now - SAFE_AGE for k in parts)]
    if not old:
        return
    base = old[-1]
    listed = _paths(table)
    replaced = [v for v in files.entries if v < base][:AT_MOST]
    done = base if len(replaced) < AT_MOST else replaced[-1]
    gone = {path for entry in read_entries(storage, location, replaced) for path in entry.removed}
    if orphans:
        gone |= _orphans(storage, location, found, files, base)
    # Data files before the entries that tell of them: an upkeep that dies in between is done again.
    _delete(storage, location, [path for path in gone if path in found and path not in listed])
    _delete(storage, location, [key for key in files.surplus((), base) if _version(key) < done])


def _orphans(storage: Storage, location: str, found: Mapping[str, ObjectInfo], files: LogFiles, base: int) -> set[str]:
    """Return the old data files that neither the state at `base` lists nor a commit since."""
    since = [v for v in files.entries if v >= base]
    if len(since) > AT_MOST:  # a busy hour: later
        return set()
    newest = max(info.modified for info in found.values())
    old = {
        path
        for path, info in found.items()
        if not path.startswith("_delta_log/") and info.modified <= newest - ORPHAN_FLOOR
    }
    if not old:
        return old
    old -= _paths(open_delta(storage, location, location, base))
    for entry in read_entries(storage, location, since):
        old -= entry.added.keys()
    return old


def _paths(table: DeltaTable) -> set[str]:
    return set(arrow_table(table.get_add_actions()).column("path").to_pylist())


def _version(key: str) -> int:
    return int(key.removeprefix("_delta_log/")[:20])


def _delete(storage: Storage, location: str, paths: list[str]) -> None:
    storage.delete([f"{location}/{path}" for path in paths])
