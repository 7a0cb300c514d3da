"""The hash chain over the data commits of each table: published versions carry its head, as the decisions that they are.

A head is SHA-256 over the head before and the digest of one commit. A publication goes on from the newest head of its
table, so it costs what was committed since. The heads are decisions, and so in the chain of the ledger (see `chain`).

A digest covers what the log shows of a commit: version, time, operation, numbers of rows, who, run, and the message by
a digest of its own, with a salt that the commit carries. So erasure stays possible: message and salt go together, the
digest of the message stays. Without a salt - a commit of another program - a message is covered by its being there.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from operator import attrgetter, itemgetter

from lakehouse.chain import canonical
from lakehouse.commit_log import COLUMNS, as_commit, stored_commits
from lakehouse.decisions import Dataset, DatasetVersion
from lakehouse.history import LogEntry, read_tail
from lakehouse.logfiles import list_log
from lakehouse.progress import SILENT, Progress
from lakehouse.readers.duck import close, connect, stream
from lakehouse.readers.relation import source_sql
from lakehouse.snapshots import Snapshot
from lakehouse.state import Index, State
from lakehouse.storage import Storage

log = logging.getLogger(__name__)

_SEALED = Index(DatasetVersion, lambda v: (v.dataset_id,) if v.commits_head else ())
_PART = 1_000
"""Commits that are held at a time."""


@dataclass(frozen=True, slots=True)
class Extension:
    """What a published version adds to the chain of its table."""

    dataset_id: str
    table_version: int
    digests: dict[int, bytes] | None
    """Digests of the commits that may be new to the chain, by table version; None: the table has no chain."""

    def head(self, state: State) -> str:
        """Return the head at the table version; empty when an earlier publication covers that, or there is no chain."""
        newest = _newest(state, self.dataset_id)
        head, covered = (newest.commits_head, newest.table_version) if newest else ("", -1)
        if self.digests is None or covered >= self.table_version:
            return ""
        for number in range(covered + 1, self.table_version + 1):
            head = _next(head, self.digests[number])
        return head


def extension(storage: Storage, state: State, dataset: Dataset, table_version: int) -> Extension:
    """Read what the publication of a table version adds to the chain.

    An adopted table has no chain: others may clean its log. A commit that nothing tells of any more adds no digest.

    Args:
        state: One before that of the publication.
    """
    digests = None
    if dataset.guarantee == "own":
        newest = _newest(state, dataset.dataset_id)
        first = newest.table_version + 1 if newest else 0
        digests = {}
        for number, commit in _numbered(storage, dataset, first, table_version):
            digests[number] = b"" if commit is None else _digest(commit)
            if commit is None:
                log.warning("%s: nothing tells of commit #%d any more", dataset.full_name, number)
    return Extension(dataset.dataset_id, table_version, digests)


def blanked(commit: LogEntry) -> LogEntry:
    """Return a commit without its message: what an erasure records in its place. The heads stay what they are."""
    return replace(commit, message=None, salt=None, erased=commit.erased or _words(commit) or None)


@dataclass(frozen=True, slots=True)
class CommitProof:
    """What a check of the chains of all tables found."""

    commits: int = 0
    """Data commits that match, up to the last published version of each table."""
    erased: int = 0
    """Those of them whose messages an erasure has taken."""
    problem: str | None = None
    """Which commits do not match, and what may have happened; None: all match."""

    def __add__(self, other: CommitProof) -> CommitProof:
        return CommitProof(self.commits + other.commits, self.erased + other.erased, self.problem or other.problem)


def check_commits(storage: Storage, state: State, folded: Snapshot | None, progress: Progress = SILENT) -> CommitProof:
    """Check the commits of every table against the heads that its published versions carry, up to the first problem.

    Args:
        state: The whole state.
        folded: The fact table of folded commits; None: nothing was folded yet.
    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    heads: dict[str, dict[int, DatasetVersion]] = {}
    for version in state.all(DatasetVersion):
        if version.commits_head:
            heads.setdefault(version.dataset_id, {})[version.table_version] = version
    progress.total(len(heads))
    proof = CommitProof()
    with closing(_recorded(folded)) as recorded:
        following = next(recorded, None)
        for dataset_id in sorted(heads):
            while following is not None and following[0] < dataset_id:
                following = next(recorded, None)
            own = following[1] if following is not None and following[0] == dataset_id else iter(())
            dataset = state.get(Dataset, dataset_id)
            assert dataset is not None, "no decision removes a dataset"
            proof += _checked(storage, dataset, heads[dataset_id], own)
            if proof.problem:
                break
            progress.advance(1)
    return proof


def _checked(
    storage: Storage, dataset: Dataset, versions: dict[int, DatasetVersion], recorded: Iterator[LogEntry]
) -> CommitProof:
    """Check the commits of one table.

    Args:
        versions: Its published versions that carry a head, by table version.
        recorded: Its folded commits, oldest first.
    """
    head, found, start = "", CommitProof(), 0
    commits = erased = 0
    for number, told in _told(storage, dataset, max(versions), recorded):
        # Whoever tells of a commit must tell the same: what differs can't match.
        head = _next(head, b"".join(sorted({_digest(commit) for commit in told})))
        commits += bool(told)
        erased += any(commit.erased for commit in told)
        if number not in versions:
            continue
        if versions[number].commits_head != head:
            problem = (
                f"The log of {dataset.full_name} does not match what was published as v{versions[number].number}: a "
                f"commit between #{start} and #{number} was changed, removed or put in."
            )
            return replace(found, problem=problem)
        found, start = CommitProof(commits, erased), number + 1
    return found


def _told(
    storage: Storage, dataset: Dataset, last: int, recorded: Iterator[LogEntry]
) -> Iterator[tuple[int, list[LogEntry]]]:
    """Iterate over table versions with all that the log and the record tell of each commit; nothing where none does."""
    listed = [v for v in list_log(storage, dataset.location).entries if v <= last]
    parts = (listed[at : at + _PART] for at in range(0, len(listed), _PART))
    logged = (commit for part in parts for commit in read_tail(storage, dataset.location, part))
    both = heapq.merge(logged, (c for c in recorded if c.table_version <= last), key=attrgetter("table_version"))
    expected = 0
    for number, told in groupby(both, key=attrgetter("table_version")):
        yield from _untold(storage, dataset, expected, number - 1)
        yield number, list(told)
        expected = number + 1
    yield from _untold(storage, dataset, expected, last)


def _untold(storage: Storage, dataset: Dataset, first: int, last: int) -> Iterator[tuple[int, list[LogEntry]]]:
    """Look once more: a clean-up may have folded what the log had when it was listed."""
    return ((number, [commit] if commit else []) for number, commit in _numbered(storage, dataset, first, last))


def _recorded(folded: Snapshot | None) -> Generator[tuple[str, Iterator[LogEntry]]]:
    """Iterate over the folded commits of all tables by dataset id, oldest first; sorted on disk where they are many."""
    if folded is None:
        return
    con = connect()
    try:
        source = source_sql(con, folded, ["dataset_id", *COLUMNS])
        reader = stream(con.sql(f"from ({source}) order by dataset_id, table_version"), _PART)
        rows = (row for batch in reader for row in batch.to_pylist())
        for dataset_id, own in groupby(rows, key=itemgetter("dataset_id")):
            yield dataset_id, map(as_commit, own)
    finally:
        close(con)


def _numbered(storage: Storage, dataset: Dataset, first: int, last: int) -> Iterator[tuple[int, LogEntry | None]]:
    """Iterate over the table versions of a range with their commits; None where nothing tells of one."""
    for start in range(first, last + 1, _PART):
        end = min(start + _PART - 1, last)
        found = {commit.table_version: commit for commit in stored_commits(storage, dataset, start, end)}
        yield from ((number, found.get(number)) for number in range(start, end + 1))


def _newest(state: State, dataset_id: str) -> DatasetVersion | None:
    return max(state.find(_SEALED, dataset_id), key=lambda v: v.table_version, default=None)


def _next(head: str, digest: bytes) -> str:
    return sha256(head.encode() + digest).hexdigest()


def _digest(commit: LogEntry) -> bytes:
    # The time of a file, which stands in where a commit tells none, is another one in a copy of the lake.
    at = None if commit.undated else commit.created_at
    rows = (commit.rows_added, commit.rows_removed, commit.rows_updated)
    frame = [commit.table_version, at, commit.operation, *rows, commit.user, commit.run]
    blank = commit.message is None and commit.salt is None
    words = commit.erased if commit.erased and blank else _words(commit)
    return sha256(canonical([*frame, words])).digest()


def _words(commit: LogEntry) -> str:
    """Return the digest of a commit's message; empty without one."""
    if commit.message is None:
        return ""
    if commit.salt is None:
        return "not covered"
    return sha256(canonical([commit.salt, commit.message])).hexdigest()


__all__ = ["CommitProof", "Extension", "blanked", "check_commits", "extension"]
