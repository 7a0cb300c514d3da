"""Key ranges: between which keys the rows of each data file lie, for planning only.

The log's statistics tell it for free, but leave out floats and bytes and cut long text: then the file's footer is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.datafiles import STATS_TEXT
from lakehouse.errors import translated
from lakehouse.snapshots import Snapshot

Range = tuple[tuple[Any, ...], tuple[Any, ...]]
"""The least and the greatest value of each of the leading key columns."""
FOOTERS_AT_ONCE = 16
_Bounds = tuple[Any, Any, int | None]
"""Least value, greatest value and number of nulls of one column; None: nobody knows."""


def key_ranges(
    snapshot: Snapshot, adds: pa.Table, key: Sequence[str], without: Collection[str] = ()
) -> dict[str, Range]:
    """Return the key ranges of a state's files, by path, all of the same columns; files that don't tell are left out.

    Args:
        adds: The state's add actions, flattened.
        key: Columns; a range says something of the first, and of the others as far as all files tell.
        without: Paths of files that are not asked for.
    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    paths = [unquote(path) for path in adds.column("path").to_pylist()]
    told = dict(zip(paths, _by_statistics(adds, key), strict=True))
    uris = dict(zip(snapshot.file_list.table.column("path").to_pylist(), snapshot.file_list.uris, strict=True))
    asked = [path for path in told if path not in without]
    vague = [path for path in asked if _is_vague(told[path])]

    def look(path: str) -> Range:
        try:
            return _by_footer(pq.read_metadata(uris[path], filesystem=snapshot.storage.filesystem(uris[path])), key)
        except FileNotFoundError:  # replaced and cleaned up since: who reads it will see that
            return (), ()

    with translated(f"reading the footers of {snapshot.reference}"), ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        told |= zip(vague, pool.map(look, vague), strict=True)
    known = {path: told[path] for path in asked if told[path][0]}
    columns = min((len(low) for low, _ in known.values()), default=0)
    return {path: (low[:columns], high[:columns]) for path, (low, high) in known.items()}


def _is_vague(found: Range) -> bool:
    return not found[0] or any(isinstance(v, str) and len(v) >= STATS_TEXT for v in (*found[0], *found[1]))


def _by_statistics(adds: pa.Table, key: Sequence[str]) -> list[Range]:
    silent: list[_Bounds] = [(None, None, None)] * adds.num_rows
    columns = []
    for name in key:
        names = [f"{what}.{name}" for what in ("min", "max", "null_count")]
        told = set(names) <= set(adds.column_names)
        columns.append(list(zip(*(adds.column(n).to_pylist() for n in names), strict=True)) if told else silent)
    return [_leading(bounds) for bounds in zip(*columns, strict=True)]


def _by_footer(footer: pq.FileMetaData, key: Sequence[str]) -> Range:
    places = {footer.schema.column(i).path: i for i in range(len(footer.schema))}
    groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
    bounds = list[_Bounds]()
    for name in key:
        found = [group.column(places[name]).statistics for group in groups] if name in places else []
        if not found or any(s is None or not s.has_min_max or not s.has_null_count for s in found):
            break
        try:
            bounds.append((min(s.min for s in found), max(s.max for s in found), sum(s.null_count for s in found)))
        except (ValueError, OverflowError):  # a time beyond the years 1 to 9999, which Python can't hold
            break
    return _leading(bounds)


def _leading(bounds: Iterable[_Bounds]) -> Range:
    """Return the range of the leading columns that have bounds and no null, which would be less than all."""
    told = list(takewhile(lambda b: b[0] is not None and b[1] is not None and b[2] == 0, bounds))
    return tuple(low for low, _, _ in told), tuple(high for _, high, _ in told)
