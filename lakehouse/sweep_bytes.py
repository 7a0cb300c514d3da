"""Sweeps of stored bytes: packs and objects that no row of any state points at, and uploads that nobody finished.

Bytes are reused: an ingest finds by their hash what its namespace has. So the index forgets them first, then a fence is
raised in every dataset of the namespace, so that a run which had looked them up before is refused, then rows are looked
through again, and only then bytes go.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pyarrow as pa

from lakehouse import fences
from lakehouse.decisions import Condemned, Dataset, system_dataset
from lakehouse.delta import open_delta, table_schema, table_uri
from lakehouse.errors import NotFoundError, translated
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.readers.duck import connect, literal
from lakehouse.readers.relation import source_sql
from lakehouse.snapshots import open_snapshot
from lakehouse.storage import ObjectInfo
from lakehouse.sweep import ORPHAN_AGE, Orphans, check_age
from lakehouse.tables import Table
from lakehouse.vacuum import survey, whole_state

_FOLDER = "_blobs"
_INDEX = "blobs"
_FORGOTTEN_AT_ONCE = 500
_EVER = timedelta(days=36_500)


def find_unused_bytes(lake: Lake, age: timedelta = ORPHAN_AGE) -> Orphans:
    """Return the packs and objects that are older than an orphan's age and that no row of any state points at.

    Reads the column `uri` of every asset dataset, of the files of all states that stay.

    Raises:
        InvalidInputError: too short an age (orphan-age-invalid).
        NotFoundError: a table is missing, so what its rows point at is not known (table-missing).
        StorageError, AccessDeniedError: the store failed or refused.
    """
    check_age(age)
    old = _old(lake, datetime.now(UTC) - age)
    if old:
        mentioned, _ = _mentioned(lake, whole_state(lake), {})
        old = [o for o in old if o.key not in mentioned]
    return Orphans.of(old)


def sweep_bytes(lake: Lake, age: timedelta = ORPHAN_AGE) -> Orphans:
    """Delete what `find_unused_bytes` returns, and end unfinished uploads as old as that.

    A run that may have reused some of the bytes is refused when it commits (bytes-swept).

    Raises:
        InvalidInputError, NotFoundError, StorageError, AccessDeniedError: as `find_unused_bytes`.
        ConflictError: others kept winning for ten minutes (table-busy).
    """
    check_age(age)
    limit = datetime.now(UTC) - age
    _end_uploads(lake, limit)
    old = _old(lake, limit)
    if not old:
        return Orphans.of([])
    mentioned, seen = _mentioned(lake, whole_state(lake), {})
    unused = [o for o in old if o.key not in mentioned]
    if not unused:
        return Orphans.of([])
    _forget(lake, [o.key for o in unused])
    state = whole_state(lake)
    namespaces = {o.key.split("/")[1].casefold() for o in unused}
    for dataset in _asset_datasets(lake, state):
        if dataset.namespace.casefold() in namespaces:
            table = Table(lake.storage, dataset, lake.actor)
            table.mark(fences.BYTES, max(time.time_ns() // 1_000_000, fences.raised(table.open(), fences.BYTES) + 1))
    # Rows that were committed before the fence are seen now; later ones looked the bytes up after they were forgotten.
    again, _ = _mentioned(lake, whole_state(lake), seen)
    gone = [o for o in unused if o.key not in again]
    lake.storage.delete([o.key for o in gone])
    return Orphans.of(gone)


def _old(lake: Lake, limit: datetime) -> list[ObjectInfo]:
    return [o for o in lake.storage.list(_FOLDER) if o.modified < limit]


def _asset_datasets(lake: Lake, state: State) -> Iterator[Dataset]:
    """Iterate over the own tables whose rows may point at bytes, deleted ones too: they can be brought back."""
    for dataset in state.all(Dataset):
        if dataset.guarantee == "own":
            # A table that can't be opened may come back, so then nothing is known of any bytes.
            table = open_delta(lake.storage, dataset.location, dataset.full_name)
            if "uri" in table_schema(table).names:
                yield dataset


def _mentioned(lake: Lake, state: State, seen: dict[str, set[str]]) -> tuple[set[str], dict[str, set[str]]]:
    """Return the keys that rows of any state point at, and the data files that were read for that, by dataset.

    Args:
        seen: Data files that need not be read again.
    """
    found: set[str] = set()
    read: dict[str, set[str]] = {}
    for dataset in _asset_datasets(lake, state):
        condemned = state.get(Condemned, dataset.dataset_id)
        alive = survey(lake, state, dataset, _EVER).alive(condemned.kept if condemned else ())
        fresh = sorted(alive - seen.get(dataset.dataset_id, set()))
        read[dataset.dataset_id] = alive
        if fresh:
            found |= _uris(lake, dataset, fresh)
    return found, read


def _uris(lake: Lake, dataset: Dataset, paths: Sequence[str]) -> set[str]:
    snapshot = open_snapshot(lake.storage, dataset, dataset.full_name, None, None)
    base = table_uri(lake.storage, dataset.location)
    count = len(paths)
    listed = pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "uri": pa.array([f"{base}/{path}" for path in paths], pa.string()),
            "size": pa.array([0] * count, pa.int64()),
            "rows": pa.array([None] * count, pa.int64()),
            "modified": pa.array([0] * count, pa.int64()),
        }
    )
    files = replace(snapshot, file_list=replace(snapshot.file_list, table=listed))
    with connect() as con, translated(f"reading where the bytes of {dataset.full_name} are"):
        rows = con.sql(
            f"select distinct uri from ({source_sql(con, files, ['uri'])}) where starts_with(uri, '{_FOLDER}/')"
        ).fetchall()
    return {uri for (uri,) in rows}


def _forget(lake: Lake, keys: Sequence[str]) -> None:
    """Take keys out of the index of hashes, so that nobody who looks from now on reuses them."""
    index = Table(lake.storage, system_dataset(_INDEX), lake.actor)
    rest = iter(keys)
    while some := list(islice(rest, _FORGOTTEN_AT_ONCE)):
        try:
            index.delete(f"uri in ({', '.join(map(literal, some))})")
        except NotFoundError:  # no index yet: its writer died before
            return


def _end_uploads(lake: Lake, limit: datetime) -> None:
    """End multipart uploads that were begun before a time and never finished; their parts cost, and nobody lists them."""
    if lake.storage.scheme != "s3":
        return
    files: Any = lake.storage.filesystem()
    bucket, _, prefix = lake.storage.root.removeprefix("s3://").partition("/")
    with translated("looking for unfinished uploads"):
        found = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/{_FOLDER}/".lstrip("/"))
        for upload in found.get("Uploads") or ():
            if upload["Initiated"] < limit:
                files.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
