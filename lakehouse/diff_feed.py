"""The change feed between two versions of a table: what their commits did to rows, as files to read.

A commit that changes rows within files leaves change files, which hold the rows before and after; of any other commit
the rows of the files that it adds came, and those of the files that it removes went. Counting rows that came as +1 and
rows that went as -1, the sum over the commits is the difference of the two states, as multisets of rows: a row that
was changed and changed back, or removed and inserted again, sums to nothing.

Source: Delta protocol, "Add CDC File"
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import obstore
import pyarrow as pa
from deltalake import Schema

from lakehouse.delta import FileList, Route, table_uri
from lakehouse.diff_schema import ColumnPair
from lakehouse.errors import NotFoundError, translated
from lakehouse.logfiles import AT_ONCE, fetch_entry
from lakehouse.readers.relation import source_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from lakehouse.snapshots import Snapshot

MOST_COMMITS = 1_000
"""Between states further apart the feed is not looked for: each commit's log entry is read."""
_KIND = "_change_type"


@dataclass(frozen=True, slots=True)
class Feed:
    """The files that tell what happened between two versions of one table."""

    images: Snapshot
    """Change files: the table's columns and `_change_type`."""
    whole: tuple[tuple[int, Snapshot], ...]
    """Data files all of whose rows came (weight 1, or more) or went (-1, or less)."""
    sign: int
    """1 forwards; -1 when the old state is the later version."""

    @property
    def files(self) -> int:
        """Number of files to read."""
        return sum(map(len, self._lists))

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(listed.bytes for listed in self._lists)

    @property
    def _lists(self) -> list[FileList]:
        return [self.images.file_list, *(part.file_list for _, part in self.whole)]

    def rows_sql(self, con: DuckDBPyConnection, pairs: Sequence[ColumnPair]) -> str:
        """Return a query of the rows that came (`sign` > 0) and went (`sign` < 0), with columns `c<n>`."""
        names = [p.name for p in pairs]
        items = ", ".join(item for p in pairs for item in p.projection("new"))
        came = f"if({_KIND} in ('insert', 'update_postimage'), {self.sign}, {-self.sign})"
        parts = [f"select {items}, {came} as sign from ({source_sql(con, self.images, [*names, _KIND])})"]
        for weight, part in self.whole:
            parts.append(f"select {items}, {weight * self.sign} as sign from ({source_sql(con, part, names)})")
        return " union all ".join(parts)


@dataclass(slots=True)
class _Found:
    """What a run of log entries says."""

    changes: dict[str, int] = field(default_factory=dict)
    """Change files: {path: bytes}."""
    weights: Counter[str] = field(default_factory=Counter)
    """Data files that came whole, less how often they went whole."""
    sizes: dict[str, int] = field(default_factory=dict)


def find_feed(old: Snapshot, new: Snapshot) -> Feed | str:
    """Return the change feed between two states of one dataset, or why there is none, as a clause.

    Every log entry between them and every file that they speak of must be there: clean-ups take both away.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    first, last = sorted((old.table_version, new.table_version))
    between = f"the change feed of #{first} to #{last}"
    if any(s.file_list.route is Route.SCAN or s.file_list.partition_columns for s in (old, new)):
        return "the table's files do not hold its rows as they are"
    if not old.schema.equals(new.schema):
        return "the schema changed in between"
    if last - first > MOST_COMMITS:
        return f"more than {MOST_COMMITS:,} commits lie in between"
    location = new.dataset.location

    def read(version: int) -> bytes:
        return fetch_entry(new.storage, location, version)[0]

    found = _Found()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for content in pool.map(read, range(first + 1, last + 1)):
                if reason := _take(found, content, new.schema):
                    return reason
    except NotFoundError:
        return f"{between} was folded"
    weights = {path: weight for path, weight in found.weights.items() if weight}
    if any("://" in path or path.startswith("/") for path in (*found.changes, *weights)):
        return "the table has files outside its folder"
    listed = {path for s in (old, new) for path in s.file_list.table.column("path").to_pylist()}
    if not _all_there(new, [*found.changes, *(path for path in weights if path not in listed)]):
        return f"{between} was cleaned up"
    images = replace(new, schema=new.schema.append(pa.field(_KIND, pa.string())))
    return Feed(
        _holding(images, found.changes),
        tuple(
            (weight, _holding(new, {p: found.sizes[p] for p, w in weights.items() if w == weight}))
            for weight in sorted(set(weights.values()))
        ),
        1 if old.table_version <= new.table_version else -1,
    )


def _take(found: _Found, entry: bytes, schema: pa.Schema) -> str | None:
    """Add one commit to what was found; say why that can't be done."""
    actions = [json.loads(line) for line in entry.splitlines() if line.strip()]
    for action in actions:
        metadata = action.get("metaData")
        if metadata is not None and (metadata.get("partitionColumns") or not _same(metadata["schemaString"], schema)):
            return "the schema changed in between"
        if any((action.get(kind) or {}).get("deletionVector") for kind in ("add", "remove")):
            return "the table's files do not hold its rows as they are"
    changes = {unquote(a["cdc"]["path"]): int(a["cdc"].get("size") or 0) for a in actions if "cdc" in a}
    found.changes |= changes
    if changes:
        return None
    for action in actions:
        for kind, weight in (("add", 1), ("remove", -1)):
            told: dict[str, Any] | None = action.get(kind)
            if told is not None and told.get("dataChange", True):
                path = unquote(told["path"])
                found.weights[path] += weight
                found.sizes[path] = int(told.get("size") or found.sizes.get(path, 0))
    return None


def _same(schema_string: str, schema: pa.Schema) -> bool:
    return bool(pa.schema(Schema.from_json(schema_string).to_arrow()).equals(schema))


def _all_there(snapshot: Snapshot, paths: Sequence[str]) -> bool:
    """Whether files of the table's folder exist."""
    store = snapshot.storage.store(table_uri(snapshot.storage, snapshot.dataset.location).removeprefix("file://"))

    def there(path: str) -> bool:
        try:
            obstore.head(store, path)
        except FileNotFoundError:
            return False
        return True

    with (
        translated(f"looking for the change feed of {snapshot.dataset.full_name}"),
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        return all(pool.map(there, paths))


def _holding(snapshot: Snapshot, sizes: dict[str, int]) -> Snapshot:
    """Return a snapshot of the same table that lists these files instead."""
    base = table_uri(snapshot.storage, snapshot.dataset.location).removeprefix("file://").rstrip("/")
    return listing(snapshot, {f"{base}/{path}": size for path, size in sizes.items()})


def listing(snapshot: Snapshot, sizes: dict[str, int]) -> Snapshot:
    """Return a snapshot that lists other Parquet files, by their full paths or URIs, with their sizes in bytes."""
    count = len(sizes)
    table = pa.table(
        {
            "path": pa.array(list(sizes), pa.string()),
            "uri": pa.array(list(sizes), pa.string()),
            "size": pa.array(list(sizes.values()), pa.int64()),
            "rows": pa.nulls(count, pa.int64()),
            "modified": pa.array([0] * count, pa.int64()),
        }
    )
    return replace(snapshot, file_list=FileList(table, (), Route.FILES, uniform=False))


__all__ = ["MOST_COMMITS", "Feed", "find_feed", "listing"]
