"""Fact tables: bulk records that are never decisions - runs, rejects, stored bytes, metrics.

Each is a Delta table under `_system/`, made when the first row comes. Decisions live in the ledger instead.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.commits import FACT_PROPERTIES, reopening
from lakehouse.decisions import system_dataset
from lakehouse.delta import open_delta
from lakehouse.errors import NotFoundError, translated
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.storage import Storage
from lakehouse.tables import Commit, Table
from lakehouse.upkeep import tend_if_due

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
        {"item": _TEXT, "line": _INT, "column_name": _TEXT, "reason": _TEXT, "value": _TEXT, "rule": _TEXT},
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
    # Commits of datasets whose log entries were folded away, as these told of them; `erased` is the digest of a message.
    "commits": _schema(
        {"dataset_id": _TEXT, "table_version": _INT, "created_at": _TIME, "operation": _TEXT},
        {"rows_added": _INT, "rows_removed": _INT, "user": _TEXT, "message": _TEXT, "run": _TEXT, "rows_updated": _INT}
        | {"salt": _TEXT, "erased": _TEXT, "undated": pa.bool_()},
    ),
    # What verifications found of states; `problems` is a JSON object {kind: count}, null when there are none.
    "verifications": _schema(
        {"dataset_id": _TEXT, "table_version": _INT, "at": _TIME, "deep": pa.bool_(), "ok": pa.bool_()},
        {"files": _INT, "bytes": _INT, "problems": _TEXT},
    ),
    # The sha256 of data files, as the first deep verification found it.
    "file_hashes": _schema({"dataset_id": _TEXT, "path": _TEXT, "size": _INT, "sha256": _TEXT, "at": _TIME}, {}),
    # Each attempt to tell a subscriber of an event.
    "deliveries": _schema(
        {"subscription": _TEXT, "event": _TEXT, "at": _TIME, "ok": pa.bool_()}, {"status": _INT, "error": _TEXT}
    ),
    # How many rows of a child had no parent, counted at these table versions; `sample` is a JSON list of such keys.
    "link_proofs": _schema(
        {"child_id": _TEXT, "child_version": _INT, "child_columns": _TEXT}
        | {"parent_id": _TEXT, "parent_version": _INT, "parent_columns": _TEXT}
        | {"rows": _INT, "orphans": _INT, "at": _TIME},
        {"sample": _TEXT},
    ),
    # What differs between two published versions (table versions) of one table; the keys lie beside its data.
    "changes": _schema(
        {"dataset_id": _TEXT, "old_version": _INT, "new_version": _INT}
        | {"rows_added": _INT, "rows_removed": _INT, "rows_changed": _INT, "columns": _TEXT, "key": _TEXT, "at": _TIME},
        {"keys_uri": _TEXT, "keys_bytes": _INT},
    ),
    # Results of checks; `inputs` is a JSON list of the other states that one read: [dataset id, table version] each.
    "check_results": _schema(
        {"result": _TEXT, "dataset_id": _TEXT, "table_version": _INT, "name": _TEXT, "kind": _TEXT}
        | {"digest": _TEXT, "inputs": _TEXT, "severity": _TEXT, "ok": pa.bool_(), "failures": _INT, "rows": _INT}
        | {"method": _TEXT, "started_at": _TIME, "finished_at": _TIME},
        {"finding": _TEXT, "ok_until": _TIME},
    ),
    # Up to 100 failing rows of each result, as JSON objects.
    "check_samples": _schema({"result": _TEXT, "dataset_id": _TEXT, "position": _INT, "sample": _TEXT}, {}),
    # What one pass over a state found of each column; texts are JSON: values, and lists of them.
    "column_stats": _schema(
        {"dataset_id": _TEXT, "table_version": _INT, "position": _INT, "column_name": _TEXT, "type": _TEXT}
        | {"rows": _INT, "nulls": _INT, "at": _TIME},
        {"distinct": _INT, "min": _TEXT, "max": _TEXT, "mean": pa.float64(), "std": pa.float64()}
        | dict.fromkeys(("quantiles", "top", "histogram"), _TEXT)
        | {"length_min": _INT, "length_max": _INT, "length_mean": pa.float64()},
    ),
    # Who opened which state: one row for the openings by one process within a minute. `spool` is the object that told it.
    "reads": _schema(
        {"at": _TIME, "dataset_id": _TEXT, "table_version": _INT, "reference": _TEXT, "opens": _INT, "bytes": _INT}
        | {"actor": _TEXT, "consumer": _TEXT, "host": _TEXT, "process": _INT, "spool": _TEXT},
        {"rows": _INT, "version": _INT},
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
        # `evolve`: an older release may have made the table, with fewer columns.
        commit = reopening(lambda: table.append(rows, txn=txn, evolve=True))
        tend_if_due(self._storage, f"_system/{name}", commit.table_version, FACT_PROPERTIES)
        return commit

    def landed(self, name: str, app: str) -> int | None:
        """Return the highest number of an application's transactions that landed in one fact table, None before."""
        try:
            return reopening(lambda: self._table(name).landed(app))
        except NotFoundError:
            return None

    def snapshot(self, name: str) -> Snapshot | None:
        """Return the newest state of one fact table, or None when it has no row yet."""
        try:
            found = reopening(lambda: open_snapshot(self._storage, system_dataset(name), f"system.{name}", None, None))
        except NotFoundError as error:
            if error.kind != "table-missing":
                raise
            return None
        if set(SCHEMAS[name].names) <= set(found.schema.names):
            return found
        # Rows of an older release: what they lack is null.
        return replace(found, schema=SCHEMAS[name], file_list=replace(found.file_list, uniform=False))

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
                    configuration=FACT_PROPERTIES,
                    storage_options=self._storage.options(),
                )
            except DeltaError:  # another process made it at the same moment: it is there now, or the next call says why
                open_delta(self._storage, f"_system/{name}", f"system.{name}")
