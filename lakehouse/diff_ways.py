"""The ways of a diff: stored changes, the change feed, or the files that differ - and which of them is cheapest.

All give the same answer, as each leaves out only rows that are the same on both sides. So the choice is one of cost,
and a way that is not there - a feed that was folded away, say - is no error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import pyarrow as pa

from lakehouse import changes
from lakehouse.changes import Changes
from lakehouse.diff_feed import Feed, find_feed, listing
from lakehouse.diff_files import split_files
from lakehouse.diff_rows import Comparison, Outcome
from lakehouse.diff_schema import ColumnPair
from lakehouse.diff_sides import FeedSides, FileSides, KeySides, has_log
from lakehouse.errors import NotFoundError
from lakehouse.snapshots import Snapshot, open_snapshot

MOST_STEPS = 256
"""So many stored changes are put together at most: each is a file to open."""
_LARGE_SHARE = 4
"""Stored keys of more than one row in so many gain nothing over reading the files."""


class Via(StrEnum):
    """How two states were compared."""

    STORED = "stored"
    """By what publication found to differ: the counts, or the keys of the rows to compare."""
    FEED = "feed"
    """By the change feed of the commits between them."""
    FILES = "files"
    """By the files that only one of them lists."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What comparing reads, at most: columns and row groups that are not needed are skipped."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Way:
    """How to compare, and what it costs."""

    via: Via
    cost: Cost
    rows: Comparison
    why: str | None = None
    """Why not by the change feed, as a clause; None when there is nothing to tell."""
    known: Outcome | None = None
    """The counts, where they were stored."""
    stored: Changes | None = None
    """The stored changes between just these states, when their keys are known."""

    @property
    def outcome(self) -> Outcome:
        """The counts."""
        return self.rows.outcome if self.known is None else self.known

    def keys(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Iterate over the keys of the rows that differ and what happened to each, ordered by key."""
        if self.stored is None:
            return self.rows.keys(schema)
        new = self.rows.sides.new
        backwards = self.stored.new_version != new.table_version
        return changes.read_keys(new.storage, self.stored, schema, backwards=backwards)


def choose(old: Snapshot, new: Snapshot, pairs: tuple[ColumnPair, ...], key: tuple[ColumnPair, ...]) -> Way:
    """Return the cheapest way to compare two states.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    files = FileSides(*split_files(old, new, pairs))
    listed = (files.old.file_list, files.new.file_list)
    cost = Cost(sum(map(len, listed)), sum(part.bytes for part in listed))
    by_files = Way(Via.FILES, cost, Comparison(files, pairs, key))
    if old.dataset.dataset_id != new.dataset.dataset_id or files.empty:
        return by_files
    if not has_log(new):
        return by_files
    found = _matching(new, key)
    direct = _direct(files, found, pairs, key)
    if direct is not None:
        return direct
    feed = find_feed(old, new)
    if isinstance(feed, Feed):
        if feed.bytes < cost.bytes:
            return Way(Via.FEED, Cost(feed.files, feed.bytes), Comparison(FeedSides(feed, old, new), pairs, key))
        return by_files
    composed = _composed(files, found, pairs, key, cost)
    return composed or replace(by_files, why=feed)


def _matching(new: Snapshot, key: Sequence[ColumnPair]) -> list[Changes]:
    """Return the stored changes of a dataset that speak of the same key."""
    if not key:
        return []
    names = [p.name.casefold() for p in key]
    found = changes.stored_changes(new.storage, new.dataset)
    return [c for c in found if [name.casefold() for name in c.key] == names]


def _direct(
    files: FileSides, found: Sequence[Changes], pairs: tuple[ColumnPair, ...], key: tuple[ColumnPair, ...]
) -> Way | None:
    """Return the way by the stored changes between just these states; None when there are none."""
    old, new = files.old, files.new
    ends = (old.table_version, new.table_version)
    one = next((c for c in found if (c.old_version, c.new_version) == ends), None)
    if one is None and old.schema.equals(new.schema):  # else columns may be told under the other state's names
        one = next((c for c in found if (c.new_version, c.old_version) == ends), None)
    if one is None:
        return None
    told = one if one.new_version == new.table_version else changes.backwards(one)
    known = Outcome(told.rows, told.columns, None)
    if not changes.is_there(new.storage, one):
        return Way(Via.STORED, Cost(0, 0), Comparison(files, pairs, key), known=known)
    sides = KeySides(files, _key_files(new, [one], key), None)
    return Way(Via.STORED, Cost(0, 0), Comparison(sides, pairs, key, known), known=known, stored=one)


def _composed(
    files: FileSides,
    found: Sequence[Changes],
    pairs: tuple[ColumnPair, ...],
    key: tuple[ColumnPair, ...],
    cost: Cost,
    share: int = _LARGE_SHARE,
) -> Way | None:
    """Return the way by stored changes that lead from one state to the other, and the feed after the last of them.

    Args:
        share: Give up when more than one row in so many would be compared; reading the files is cheaper then.
    """
    first, last = sorted((files.old, files.new), key=lambda s: s.table_version)
    ends = {v for c in found for v in (c.old_version, c.new_version) if first.table_version < v <= last.table_version}
    if not ends:
        return None
    end = max(ends)
    steps = changes.chain([c for c in found if c.complete], first.table_version, end)
    rows = files.new.file_list.rows  # of the files that may differ: the most that can be read
    if not steps or len(steps) > MOST_STEPS:
        return None
    if rows is not None and sum(c.rows.total for c in steps) * share > rows:
        return None
    feed: Feed | None = None
    if end != last.table_version:
        dataset = last.dataset
        try:
            published = open_snapshot(last.storage, dataset, f"{dataset.full_name}@#{end}", end, None)
        except NotFoundError:  # expired since, and cleaned up
            return None
        tail = find_feed(published, last)
        if not isinstance(tail, Feed):
            return None
        feed = tail
    if not all(changes.is_there(last.storage, c) for c in steps):
        return None
    sides = KeySides(files, _key_files(files.new, steps, key), feed)
    sizes = [c.keys_bytes for c in steps if c.keys is not None]
    total = Cost(cost.files + len(sizes), cost.bytes + sum(sizes))
    if feed is not None:
        total = Cost(total.files + feed.files, total.bytes + feed.bytes)
    return Way(Via.STORED, total, Comparison(sides, pairs, key))


def _key_files(new: Snapshot, steps: Sequence[Changes], key: Sequence[ColumnPair]) -> Snapshot:
    """Return the stored keys as a snapshot that can be selected from."""
    sizes = {new.storage.uri(c.keys): c.keys_bytes for c in steps if c.keys is not None}
    fields = [pa.field(name, p.type("new")) for name, p in zip(steps[0].key, key, strict=True)]
    return listing(replace(new, schema=pa.schema(fields)), sizes)


__all__ = ["Cost", "Via", "Way", "choose"]
