"""Fences: how a writer learns that a clean-up took what it was about to commit.

A clean-up that deletes what no version mentions - data files, stored bytes - first commits a fence: an application
transaction on the table, without any change of it. A writer looks for fences in the very state that it commits on top
of. So its commit comes before the fence, and the clean-up, which looks again after the fence, sees what it mentions; or
it comes after, and the writer sees the fence and gives up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from deltalake import DeltaTable

from lakehouse.datafiles import DataFile
from lakehouse.errors import ConflictError

FILES = "lakehouse-fence-files"
"""Transaction of a clean-up of data files; its number is the time (ms since epoch) before which files were condemned."""
BYTES = "lakehouse-fence-bytes"
"""Transaction of a clean-up of stored bytes; its number grows with each."""
MARGIN_MS = 3_600_000
"""Milliseconds by which the clocks of two machines may differ."""
SLOW_MS = 12 * MARGIN_MS
"""A commit of files as old as that looks for fences in exactly the state that it commits on top of. Less than the age of
an orphan (`sweep.ORPHAN_AGE`) by more than the margin: younger files no fence can mean."""


def raised(table: DeltaTable, fence: str) -> int:
    """Return the number of the newest fence in an opened table version; -1 when there is none."""
    number = table.transaction_version(fence)
    return -1 if number is None else int(number)


def is_slow(files: Sequence[DataFile]) -> bool:
    """Whether a commit of these files must be a compare-and-swap, since a fence may mean them."""
    limit = time.time_ns() // 1_000_000 - SLOW_MS
    return any(_since(f) < limit for f in files)


def _since(file: DataFile) -> int:
    return file.modified if file.stored is None else file.stored


def refuse_swept(table: DeltaTable, files: Sequence[DataFile], what: str) -> None:
    """Refuse to commit files that a clean-up has taken for left behind by a dead writer.

    Raises:
        ConflictError: a fence means one of them (files-swept).
    """
    fence = raised(table, FILES)
    if any(_since(f) < fence + MARGIN_MS for f in files):
        raise ConflictError(
            "files-swept",
            f"{what}: this write took so long that a clean-up deleted its uncommitted files. Write them again.",
            dataset=what,
        )


def refuse_reuse(table: DeltaTable, seen: int, what: str) -> None:
    """Refuse to commit rows that may point at stored bytes which a clean-up has deleted since.

    Args:
        seen: The fence that was there before the bytes were looked up.
    Raises:
        ConflictError: there is a newer one (bytes-swept).
    """
    if raised(table, BYTES) > seen:
        raise ConflictError(
            "bytes-swept",
            f"{what}: stored bytes that nothing mentioned were deleted while this was running, and it may have reused some. "
            "Run it again; an ingest goes on with: --resume",
            dataset=what,
        )
