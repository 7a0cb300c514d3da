"""Lifetimes: from which table version to which one a data file was listed.

A file is needed while any version in its lifetime can be read. Replaying the log once tells the lifetimes of all
files, so what a clean-up costs follows the number of files and of commits, and not the number of pinned versions.
What was replayed is kept (`save`), since the entries that tell it are folded away.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import NotFoundError
from lakehouse.logfiles import Entry
from lakehouse.storage import Overwrite, Storage

_FOLDER = "_system/lifetimes"
_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("added", pa.int64(), nullable=False),  # first table version that lists it; -1: nobody knows
        pa.field("removed", pa.int64()),  # first one that does not; null: still listed
    ]
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A file that was listed from table version `added` to the one before `removed`."""

    path: str
    bytes: int
    added: int
    """-1: nobody knows, so any older version may need it."""
    removed: int
    """Equal to `added` for a change file, which only the feed of that one commit needs."""

    def needed_by(self, kept: Sequence[int]) -> bool:
        """Whether one of some versions (ascending) lists the file."""
        at = bisect_left(kept, self.added)
        return at < len(kept) and kept[at] < self.removed


@dataclass(slots=True)
class Lifetimes:
    """The lifetimes of a table's files, as far as the log was replayed."""

    version: int
    """The newest replayed version; -1 before the first."""
    listed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files that this version lists: {path: (added, bytes)}."""
    ended: list[Ended] = field(default_factory=list)
    """Files that it no longer lists, and that may still be there."""

    def replay(self, entry: Entry) -> None:
        """Go on by one commit."""
        for path in entry.removed:
            added, size = self.listed.pop(path, (-1, 0))
            self.ended.append(Ended(path, size, added, entry.version))
        for path, size in entry.added.items():
            # A commit may list a file again, to note other statistics.
            self.listed.setdefault(path, (entry.version, size))
        self.ended += [Ended(path, size, entry.version, entry.version) for path, size in entry.changes.items()]
        self.version = entry.version

    def split(self, kept: Sequence[int]) -> tuple[list[Ended], list[Ended]]:
        """Return the ended files that some versions need, and those that none needs.

        Args:
            kept: Versions before `version` that stay readable, ascending.
        """
        needed, dead = list[Ended](), list[Ended]()
        for file in self.ended:
            (needed if file.needed_by(kept) else dead).append(file)
        alive = self.listed.keys() | {file.path for file in needed}
        # A restore lists a file again, so one lifetime of it may be over while another one is needed.
        return needed, [file for file in dead if file.path not in alive]


def seed(version: int, listed: Iterable[tuple[str, int]]) -> Lifetimes:
    """Return the lifetimes where a log begins without its first entries: nobody knows since when files are listed."""
    return Lifetimes(version, {path: (-1, size) for path, size in listed})


def save(storage: Storage, dataset_id: str, found: Lifetimes) -> None:
    """Keep what was replayed; it has to be there before the ledger says that it is."""
    rows: list[tuple[str, int, int, int | None]] = [
        (path, size, added, None) for path, (added, size) in found.listed.items()
    ]
    rows += [(file.path, file.bytes, file.added, file.removed) for file in found.ended]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_SCHEMA)
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
    target = BytesIO()
    pq.write_table(table, target, compression="zstd")
    storage.put(_key(dataset_id, found.version), target.getvalue(), Overwrite())


def load(storage: Storage, dataset_id: str, version: int) -> Lifetimes | None:
    """Return what was kept at a version; None when nothing was."""
    try:
        content = storage.get(_key(dataset_id, version))
    except NotFoundError:
        return None
    found = Lifetimes(version)
    rows = pq.read_table(BytesIO(content))
    for path, size, added, removed in zip(*(rows.column(n).to_pylist() for n in _SCHEMA.names), strict=True):
        if removed is None:
            found.listed[path] = (added, size)
        else:
            found.ended.append(Ended(path, size, added, removed))
    return found


def outdated(storage: Storage, dataset_id: str, version: int) -> Iterator[str]:
    """Iterate over the keys of what was kept at versions before this one."""
    for info in storage.list(f"{_FOLDER}/{dataset_id}"):
        name = info.key.rpartition("/")[2].partition(".")[0]
        if name.isdigit() and int(name) < version:
            yield info.key


def _key(dataset_id: str, version: int) -> str:
    return f"{_FOLDER}/{dataset_id}/{version}.parquet"
