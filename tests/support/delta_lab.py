"""Delta tables written with deltalake alone, and their snapshots: what other engines may leave behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from lakehouse.decisions import Dataset
from lakehouse.diff import Diff, diff
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.storage import Storage


class Lab:
    """Delta tables under one root; `key` is the declared key of every dataset."""

    def __init__(self, root: str, key: Sequence[str] = ("id",)) -> None:
        self.storage = Storage.open(root)
        self.key = tuple(key)

    def write(self, data: pa.Table, name: str = "t", **options: Any) -> None:
        """Write rows with delta-rs' own writer, which is not ours."""
        write_deltalake(self.storage.uri(name), data, storage_options=self.storage.options(), **options)

    def table(self, name: str = "t") -> DeltaTable:
        """Open the newest version with delta-rs."""
        return DeltaTable(self.storage.uri(name), storage_options=self.storage.options())

    def at(self, version: int | None = None, name: str = "t") -> Snapshot:
        """Open a version (None: the newest) as a snapshot."""
        table = self.table(name)
        dataset = Dataset(
            dataset_id=name,
            namespace="main",
            name=name,
            location=name,
            delta_id=table.metadata().id,
            key_columns=self.key,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        number = table.version() if version is None else version
        return open_snapshot(self.storage, dataset, f"main.{name}@#{number}", number, None)

    def replaced(self, old: pa.Table, new: pa.Table, key: Sequence[str] | None = None) -> Diff:
        """Write one table over another, whatever their schemas, and compare."""
        self.write(old)
        self.write(new, mode="overwrite", schema_mode="overwrite")
        return diff(self.at(0), self.at(1), key)


def rows(batches: Any) -> list[dict[str, Any]]:
    """All rows of a stream."""
    return [row for batch in batches for row in batch.to_pylist()]
