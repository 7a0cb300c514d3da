"""Fact tables: bulk records that are never decisions - runs, rejects, stored bytes, metrics.

Each is a Delta table under `_system/`, made when the first row comes. Decisions live in the ledger instead.
"""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.commits import SYSTEM_PROPERTIES
from lakehouse.decisions import system_dataset
from lakehouse.delta import open_delta
from lakehouse.errors import LakeError, NotFoundError, translated
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.storage import Storage
from lakehouse.tables import Commit, Table

COMPACT_EVERY = 64
"""Commits after which a writer merges a fact table's small files."""

_TIME = pa.timestamp("us", tz="UTC")


def _schema(required: dict[str, pa.DataType], optional: dict[str, pa.DataType]) -> pa.Schema:
    return pa.schema(
        [pa.field(n, t, nullable=False) for n, t in required.items()] + [pa.field(n, t) for n, t in optional.items()]
    )


_TEXT, _INT = pa.string(), pa.int64()
SCHEMAS: dict[str, pa.Schema] = {
    # One row per event of a run; the newest event's values count.
    "runs": _schema(
        {"run": _TEXT, "event": _TEXT, "at": _TIME, "job": _TEXT, "actor": _TEXT},
        dict.fromkeys(("code_version", "parameters", "inputs", "outputs", "counts", "error"), _TEXT),
    ),
    # Input items and rows that were not taken.
    "rejects": _schema(
        {
            "run": _TEXT,
            "dataset": _TEXT,
            "dataset_id": _TEXT,
            "source": _TEXT,
            "at": _TIME,
            "code": _TEXT,
            "severity": _TEXT,
        },
        {"item": _TEXT, "line": _INT, "column_name": _TEXT, "reason": _TEXT},
    ),
    # Where the bytes of each asset are stored, once per namespace; `prefix` is the first 8 bytes of the hash.
    "blobs": _schema(
        {"namespace": _TEXT, "prefix": _INT, "sha256": _TEXT, "uri": _TEXT, "offset": _INT, "length": _INT},
        {"run": _TEXT},
    ),
    # Sums over the rows of published versions; sums, so that the next version's follow from what changed.
    "metrics": _schema(
        {"dataset_id": _TEXT, "table_version": _INT, "split": _TEXT, "name": _TEXT, "value": pa.float64()},
        {"label": _TEXT},
    ),
    # Commits of datasets whose log entries were folded away, as the log shows them.
    "commits": _schema(
        {"dataset_id": _TEXT, "table_version": _INT, "created_at": _TIME, "operation": _TEXT},
        {"rows_added": _INT, "rows_removed": _INT, "user": _TEXT, "message": _TEXT, "run": _TEXT, "rows_updated": _INT},
    ),
}


class Facts:
    """The fact tables of one root.

    Args:
        storage: The root.
        actor: Who writes.
    """

    def __init__(self, storage: Storage, actor: str) -> None:
        self._storage, self._actor = storage, actor

    def append(self, name: str, rows: pa.Table, txn: tuple[str, int]) -> Commit:
        """Add rows to one fact table, exactly once per transaction.

        Args:
            name: One of `SCHEMAS`.
        Raises:
            StorageError, AccessDeniedError: the store failed or refused.
        """
        try:
            table = self._table(name)
        except NotFoundError:
            self._create(name)
            table = self._table(name)
        commit = table.append(rows, txn=txn)
        if commit.table_version % COMPACT_EVERY == 0:
            self._compact(name)
        return commit

    def landed(self, name: str, app: str) -> int | None:
        """Return the highest number of an application's transactions that landed in one fact table, None before."""
        try:
            return self._table(name).landed(app)
        except NotFoundError:
            return None

    def snapshot(self, name: str) -> Snapshot | None:
        """Return the newest state of one fact table, or None when it has no row yet."""
        try:
            return open_snapshot(self._storage, system_dataset(name), f"system.{name}", None, None)
        except NotFoundError:
            return None

    def _table(self, name: str) -> Table:
        open_delta(self._storage, f"_system/{name}", f"system.{name}")
        return Table(self._storage, system_dataset(name), self._actor)

    def _create(self, name: str) -> None:
        with translated(f"creating system.{name}"):
            try:
                DeltaTable.create(
                    self._storage.uri(f"_system/{name}"),
                    SCHEMAS[name],
                    mode="ignore",
                    configuration=SYSTEM_PROPERTIES,
                    storage_options=self._storage.options(),
                )
            except DeltaError:  # another process made it at the same moment: it is there now, or the next call says why
                open_delta(self._storage, f"_system/{name}", f"system.{name}")

    def _compact(self, name: str) -> None:
        try:
            open_delta(self._storage, f"_system/{name}", f"system.{name}").optimize.compact()
        except (DeltaError, OSError, LakeError):
            return  # lost against a writer, or the store failed: the rows are there, the next writer does it
