"""Stored changes: what publication found to differ from the version before, so that a later diff need not look again.

The counts are a row of the fact table `changes`. The keys of the rows that differ are values, which may have to be
erased, so they lie beside the table's data: one Parquet file per publication, `_changes/<old>-<new>.parquet` under the
table's location. Both are written before the version is decided; what a publication leaves that dies in between is
true all the same, and writing it again changes nothing.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.decisions import Dataset, system_dataset
from lakehouse.diff_rows import RowCounts
from lakehouse.errors import NotFoundError, translated
from lakehouse.facts import SCHEMAS, Facts
from lakehouse.readers.duck import literal
from lakehouse.snapshots import open_snapshot
from lakehouse.storage import Storage

if TYPE_CHECKING:
    from lakehouse.diff import Diff

CHANGES = "changes"
"""The fact table of stored changes."""
MOST_KEYS = 5_000_000
"""Of a larger change only the counts are stored."""
_REVERSED = {"added": "removed", "removed": "added", "changed": "changed"}
_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two published versions of one table."""

    old_version: int
    """Table version, as is `new_version`."""
    new_version: int
    rows: RowCounts
    columns: dict[str, int]
    """Rows changed, per column that changed anywhere."""
    key: tuple[str, ...]
    """The columns that rows were matched by."""
    keys: str | None
    """Key, under the root, of the file of keys; None when there are none, or too many."""
    keys_bytes: int
    """Size of that file."""

    @property
    def complete(self) -> bool:
        """Whether the keys of all rows that differ are known."""
        return self.keys is not None or not self.rows


def stored_changes(storage: Storage, dataset: Dataset) -> list[Changes]:
    """Return the stored changes of a dataset, in no stated order.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    try:
        facts = open_snapshot(storage, system_dataset(CHANGES), f"system.{CHANGES}", None, None)
    except NotFoundError:  # nothing was published a second time yet
        return []
    found = {}
    for row in facts.to_arrow(where=f"dataset_id = {literal(dataset.dataset_id)}").to_pylist():
        counts = RowCounts(row["rows_added"], row["rows_removed"], row["rows_changed"])
        found[row["old_version"], row["new_version"]] = Changes(
            old_version=row["old_version"],
            new_version=row["new_version"],
            rows=counts,
            columns=json.loads(row["columns"]),
            key=tuple(json.loads(row["key"])),
            keys=row["keys_uri"],
            keys_bytes=row["keys_bytes"] or 0,
        )
    return list(found.values())


def chain(found: Sequence[Changes], start: int, end: int) -> list[Changes] | None:
    """Return the fewest stored changes that lead from one table version to another; None when none do.

    A step may be taken in either direction: the same keys differ.
    """
    steps: dict[int, list[tuple[int, Changes]]] = {}
    for step in found:
        steps.setdefault(step.old_version, []).append((step.new_version, step))
        steps.setdefault(step.new_version, []).append((step.old_version, step))
    came_by: dict[int, tuple[int, Changes] | None] = {start: None}
    waiting = deque([start])
    while waiting and end not in came_by:
        at = waiting.popleft()
        for other, step in steps.get(at, ()):
            if other not in came_by:
                came_by[other] = (at, step)
                waiting.append(other)
    if end not in came_by:
        return None
    taken = []
    while (came := came_by[end]) is not None:
        end, step = came
        taken.append(step)
    return taken[::-1]


def store(facts: Facts, found: Diff) -> Changes | None:
    """Store what a diff of two versions of one table says, and return it; None when rows were not matched by a key.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    if found.key is None:
        return None
    old, new, counts = found.old, found.new, found.counts
    dataset, storage = new.dataset, new.storage
    keys, size = None, None
    if 0 < counts.total <= MOST_KEYS:
        keys = f"{dataset.location}/_changes/{old.table_version}-{new.table_version}.parquet"
        size = _write_keys(storage, keys, found)
    row = {
        "dataset_id": dataset.dataset_id,
        "old_version": old.table_version,
        "new_version": new.table_version,
        "rows_added": counts.added,
        "rows_removed": counts.removed,
        "rows_changed": counts.changed,
        "columns": json.dumps(found.columns),
        "key": json.dumps(found.key),
        "at": datetime.now(UTC),
        "keys_uri": keys,
        "keys_bytes": size,
    }
    transaction = f"{CHANGES}-{dataset.dataset_id}-{old.table_version}-{new.table_version}"
    facts.append(CHANGES, pa.Table.from_pylist([row], schema=SCHEMAS[CHANGES]), (transaction, 0))
    return Changes(old.table_version, new.table_version, counts, found.columns, found.key, keys, size or 0)


def _write_keys(storage: Storage, key: str, found: Diff) -> int:
    """Write the keys of a diff, in their order, and return the bytes; the content is the same whoever writes it."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as target, translated(f"writing {key}", key=key):
        batches = found.differing()
        first = next(batches)
        with pq.ParquetWriter(target.name, first.schema, compression="zstd") as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
        obstore.put(storage.store(), key, Path(target.name))
        return Path(target.name).stat().st_size


def read_keys(storage: Storage, found: Changes, schema: pa.Schema, *, backwards: bool) -> Iterator[pa.RecordBatch]:
    """Iterate over stored keys and what happened to each row, in the order of the keys.

    Args:
        schema: The key's columns, and `change` as the last.
        backwards: Tell it as of the change from the newer version to the older one.
    """
    if found.keys is None:
        return
    uri = storage.uri(found.keys)
    with translated(f"reading {found.keys}", key=found.keys), storage.filesystem(uri).open(uri) as file:
        for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(_BATCH_ROWS):
            columns = batch.columns
            if backwards:
                columns[-1] = pa.array([_REVERSED[kind] for kind in columns[-1].to_pylist()], pa.string())
            yield pa.RecordBatch.from_arrays(
                [c.cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
            )


def backwards(found: Changes) -> Changes:
    """Return the same changes, told from the newer version to the older one."""
    rows = replace(found.rows, added=found.rows.removed, removed=found.rows.added)
    return replace(found, old_version=found.new_version, new_version=found.old_version, rows=rows)


def is_there(storage: Storage, found: Changes) -> bool:
    """Whether the file of keys is still there; true when there are no keys to know."""
    try:
        return found.complete and (found.keys is None or bool(storage.head(found.keys).size))
    except NotFoundError:
        return False


__all__ = [
    "CHANGES",
    "MOST_KEYS",
    "Changes",
    "backwards",
    "chain",
    "is_there",
    "read_keys",
    "store",
    "stored_changes",
]
