"""Every way in which two states can be compared, each forced in turn, and the comparison as plain Python does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lakehouse import diff_ways
from lakehouse.diff import Diff, diff
from lakehouse.diff_feed import Feed, find_feed
from lakehouse.diff_files import split_files
from lakehouse.diff_rows import Comparison
from lakehouse.diff_sides import FeedSides, FileSides
from lakehouse.diff_ways import Cost, Via, Way
from lakehouse.snapshots import Snapshot

Row = tuple[Any, ...]


def all_ways(old: Snapshot, new: Snapshot) -> Iterator[Diff]:
    """Compare two states in every way that is there, whatever it costs, the files first."""
    whole = diff(old, new)
    files = FileSides(*split_files(old, new, whole._pairs))
    nothing = Cost(0, 0)
    yield forced(whole, Way(Via.FILES, nothing, Comparison(files, whole._pairs, whole._key)))
    feed = find_feed(old, new)
    if isinstance(feed, Feed):
        yield forced(whole, Way(Via.FEED, nothing, Comparison(FeedSides(feed, old, new), whole._pairs, whole._key)))
    found = diff_ways._matching(new, whole._key)
    for way in (
        diff_ways._direct(files, found, whole._pairs, whole._key),
        diff_ways._composed(files, found, whole._pairs, whole._key, nothing, share=0),
    ):
        if way is not None:
            yield forced(whole, way)
    yield whole


def forced(found: Diff, way: Way) -> Diff:
    """Return a diff that compares in a given way."""
    own = replace(found)
    own.__dict__["_way"] = way
    return own


def answer(found: Diff) -> dict[str, Any]:
    """All that a diff says but for the order of rows that share all that orders them."""
    streams = {
        "added": found.added(),
        "removed": found.removed(),
        "changed": found.changed(),
        "keys": found.differing(),
    }
    rows = {name: [repr(r) for batch in stream for r in batch.to_pylist()] for name, stream in streams.items()}
    by_key = found.key is not None
    return {
        "key": found.key,
        "counts": found.counts,
        "columns": found.columns,
        **{name: listed if by_key else sorted(listed) for name, listed in rows.items()},
    }


def plain_counts(old: list[dict[str, Any]], new: list[dict[str, Any]], key: str) -> tuple[int, int, int] | None:
    """Return rows added, removed and changed between two lists of rows; None when the key does not tell them apart."""
    names = sorted({name for row in (*old, *new) for name in row})
    before, after = (Counter(tuple(row.get(n) for n in names) for row in rows) for rows in (old, new))
    at = names.index(key) if names else 0
    gone, come = before - after, after - before
    touched = {row[at] for row in (*gone, *come)}
    for side in (before, after):
        times = Counter(dict.fromkeys(touched, 0))
        for row, count in side.items():
            times[row[at]] += count
        if any(times[k] > 1 for k in touched) or None in touched:
            return None
    both = len({row[at] for row in gone} & {row[at] for row in come})
    return come.total() - both, gone.total() - both, both


__all__ = ["all_ways", "answer", "forced", "plain_counts"]
