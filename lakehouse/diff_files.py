"""The files of a diff: which of them hold rows that may differ.

Data files never change, so rows of a file that both states list are equal and cancel out: only the others are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from lakehouse.delta import Route
from lakehouse.diff_schema import ColumnPair, file_names, one_sided_names
from lakehouse.errors import translated

if TYPE_CHECKING:
    from lakehouse.snapshots import Snapshot

_FOOTERS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Data files by what happened to them; a file that both states list is common."""

    added: int
    removed: int
    common: int


def count_files(old: Snapshot, new: Snapshot) -> FileCounts:
    """Compare two lists of files by their full paths."""
    before, after = set(old.files()), set(new.files())
    return FileCounts(added=len(after - before), removed=len(before - after), common=len(after & before))


def split_files(old: Snapshot, new: Snapshot, pairs: Sequence[ColumnPair]) -> tuple[Snapshot, Snapshot, Snapshot]:
    """Return the old and the new state limited to the files that may differ, and the new one limited to the others."""
    before, after = _paths(old), _paths(new)
    equal = _equal_files(old, new, before.keys() & after.keys(), pairs)
    return (
        old.only({path for uri, path in before.items() if uri not in equal}),
        new.only({path for uri, path in after.items() if uri not in equal}),
        new.only({path for uri, path in after.items() if uri in equal}),
    )


def _paths(snapshot: Snapshot) -> dict[str, str]:
    listed = snapshot.file_list
    return dict(zip(listed.uris, listed.table.column("path").to_pylist(), strict=True))


def _equal_files(old: Snapshot, new: Snapshot, listed: set[str], pairs: Sequence[ColumnPair]) -> set[str]:
    """Return the files, of those that both states list, whose rows are surely the same on both sides.

    What is read from a file depends on the rest of the log too: deletion vectors and column mapping (the scan route),
    partition columns, and the schema. A commit may drop a column while it leaves files in place that hold it
    (delta-rs does so when it overwrites one partition with another schema): where the two schemas name different
    columns, the footers tell which files hold one of those.
    """
    lists = (old.file_list, new.file_list)
    if not listed or any(f.route is Route.SCAN for f in lists):
        return set()
    if lists[0].partition_columns != lists[1].partition_columns or not all(pair.widened for pair in pairs):
        return set()
    names = one_sided_names(old.schema, new.schema)
    if not names:
        return listed

    def holds_none(uri: str) -> bool:
        return not names & file_names(pq.read_schema(uri, filesystem=new.storage.filesystem(uri)))

    with translated(f"reading the footers of {new.dataset.full_name}"), ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        ordered = sorted(listed)
        return {uri for uri, equal in zip(ordered, pool.map(holds_none, ordered), strict=True) if equal}
