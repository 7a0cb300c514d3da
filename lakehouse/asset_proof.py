"""Proof of assets: whether the packs and objects that rows point at are there, long enough, and hold what the rows say.

Distinct locations are found by DuckDB, within a stated memory and else on disk, so that neither the number of rows nor
the number of states that share them matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import obstore
import pyarrow as pa

from lakehouse.blobs import read_assets, read_one, verify_sha256
from lakehouse.errors import LakeError, translated
from lakehouse.presence import shown_file
from lakehouse.progress import Progress
from lakehouse.readers.duck import close, connect, reading, stream
from lakehouse.readers.relation import register_table, source_sql
from lakehouse.snapshots import Snapshot
from lakehouse.storage import Storage

MEMORY_LIMIT = "1GB"
_PARALLEL = 16
_ROWS = 2_048
_HELD = 10_000
_BAD = pa.schema([("uri", pa.string()), ("kind", pa.string()), ("size", pa.int64())])
_WRONG = pa.schema(
    [
        ("uri", pa.string()),
        ("kind", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("sha256", pa.string()),
    ]
)


class AssetProof:
    """Looks at what the rows of an asset dataset's files point at; a context manager.

    Args:
        snapshot: Its file list holds the files to take the rows from, of one state or of many.
        progress: Told of each object, or with `deep` of each asset.
        deep: Read every asset and compare its sha256.
    """

    def __init__(self, snapshot: Snapshot, progress: Progress, *, deep: bool) -> None:
        self._snapshot, self._progress, self._deep = snapshot, progress, deep
        self._storage: Storage = snapshot.storage
        self._listed: dict[str, dict[str, int]] = {}
        self._con = connect()
        self._con.execute(f"set memory_limit = '{MEMORY_LIMIT}'; set preserve_insertion_order = false")
        # A statement ends the stream of the one before on the same connection.
        self._side = self._con.cursor()
        self._held: dict[str, list[dict[str, Any]]] = {"bad": [], "wrong": []}
        self._noted = 0

    def __enter__(self) -> Self:
        for name, schema in (("bad", _BAD), ("wrong", _WRONG)):
            self._con.execute(f"create table {name} as from {register_table(self._con, schema.empty_table())}")
        return self

    def __exit__(self, *_: object) -> None:
        self._side.close()
        close(self._con)

    def problems(self) -> Iterator[tuple[str, str, str, int]]:
        """Look at everything; iterate over (path of the data file, kind, detail, number of objects or assets).

        Raises:
            StorageError: the store can't be reached (storage-unavailable).
        """
        if not {"uri", "offset", "length"} <= set(self._snapshot.schema.names):
            return
        with reading(self._snapshot.dataset.full_name):
            self._progress.message(f"{self._snapshot.dataset.full_name}: packs and objects")
            self._progress.total(None)
            self._look_at_objects()
            if self._deep and "sha256" in self._snapshot.schema.names:
                self._progress.message(f"{self._snapshot.dataset.full_name}: assets")
                self._read_assets()
            self._flush("bad")
            self._flush("wrong")
            if self._noted:
                yield from self._by_file()

    # -- objects --------------------------------------------------------------------------------------------------

    def _look_at_objects(self) -> None:
        rows = source_sql(self._con, self._snapshot, ["uri", "offset", "length"])
        query = f'select uri, max("offset" + length) as until from ({rows}) where uri is not null group by uri'
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for batch in stream(self._con.sql(query), _ROWS):
                places = list(zip(batch.column("uri").to_pylist(), batch.column("until").to_pylist(), strict=True))
                for folder in {uri.rpartition("/")[0] for uri, _ in places if "://" not in uri} - self._listed.keys():
                    self._listed[folder] = {o.key: o.size for o in self._storage.list(folder)}
                for bad in pool.map(lambda place: self._look(*place), places):
                    self._progress.advance(1)
                    if bad is not None:
                        self._note("bad", bad)

    def _look(self, uri: str, until: int) -> dict[str, Any] | None:
        """Return what is wrong with one object, None if it is there and long enough."""
        what = "object" if "://" in uri else "pack"
        size = self._listed.get(uri.rpartition("/")[0], {}).get(uri)
        try:
            size = _stored_size(self._storage, uri) if size is None else size
        except LakeError as error:
            return {"uri": uri, "kind": _refuse_outage(error).kind, "size": None}
        if size is None:
            return {"uri": uri, "kind": f"{what}-missing", "size": None}
        return {"uri": uri, "kind": f"{what}-short", "size": size} if size < until else None

    # -- bytes ----------------------------------------------------------------------------------------------------

    def _read_assets(self) -> None:
        self._flush("bad")
        rows = source_sql(self._con, self._snapshot, ["uri", "offset", "length", "sha256"])
        query = (
            f'select distinct uri, "offset", length, sha256 from ({rows}) s where uri is not null and not exists '
            '(from bad b where b.uri = s.uri and (b.size is null or s."offset" + s.length > b.size)) '
            'order by uri, "offset"'
        )
        for batch in stream(self._con.sql(query), _ROWS):
            for row, kind in _judged(self._storage, batch):
                self._progress.advance(1)
                if kind is not None:
                    self._note("wrong", {**row, "kind": kind})

    # -- what is wrong, by data file ------------------------------------------------------------------------------

    def _note(self, table: str, row: dict[str, Any]) -> None:
        self._held[table].append(row)
        self._noted += 1
        if len(self._held[table]) >= _HELD:
            self._flush(table)

    def _flush(self, table: str) -> None:
        if rows := self._held[table]:
            found = pa.Table.from_pylist(rows, schema={"bad": _BAD, "wrong": _WRONG}[table])
            self._side.execute(f"insert into {table} from {register_table(self._side, found)}")
            rows.clear()

    def _by_file(self) -> Iterator[tuple[str, str, str, int]]:
        listed = self._snapshot.file_list
        names = [n for n in ("uri", "offset", "length", "sha256") if n in self._snapshot.schema.names]
        same = " and ".join(f's."{n}" is not distinct from w."{n}"' for n in names)
        for at, path in enumerate(listed.table.column("path").to_pylist()):
            one = replace(self._snapshot, file_list=replace(listed, table=listed.table.slice(at, 1)))
            found = self._con.execute(
                f"with s as materialized (select distinct * from ({source_sql(self._con, one, names)})) "
                "select b.kind, count(distinct s.uri), min(s.uri) from s join bad b using (uri) "
                'where b.size is null or s."offset" + s.length > b.size group by all '
                f"union all select w.kind, count(*), min(s.uri) from s join wrong w on {same} group by all"
            ).fetchall()
            for kind, count, uri in found:
                said = _SAID.get(kind, f"can't be read ({kind})")
                yield path, kind, f"The rows of {shown_file(path)} point at {uri}, which {said}.", count


_SAID = {
    "pack-missing": "is missing",
    "object-missing": "is missing",
    "pack-short": "ends before their bytes do",
    "object-short": "ends before their bytes do",
    "asset-corrupt": "does not hold the bytes of their sha256 there",
}


def _stored_size(storage: Storage, uri: str) -> int | None:
    """Return the size of an object in bytes; None when there is none."""
    base, key = storage.locate(uri)
    with translated("looking at an object"):
        try:
            return (
                int(obstore.head(storage.store(base), key)["size"]) if "://" in base else Path(base, key).stat().st_size
            )
        except (FileNotFoundError, NotADirectoryError):
            return None


def _judged(storage: Storage, batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Iterate over the locations of a batch with what is wrong with the bytes; None: nothing."""
    try:
        read = read_assets(storage, iter([batch]), None, _PARALLEL)
        yield from [(asset.row, _mismatch(asset.row, asset.data)) for asset in read]
    except LakeError as error:  # one of them can't be read: each for itself, so that the others are
        _refuse_outage(error)
        for row in batch.to_pylist():
            try:
                yield row, _mismatch(row, read_one(storage, row["uri"], row["offset"], row["length"]))
            except LakeError as one:
                yield row, _refuse_outage(one).kind


def _mismatch(row: dict[str, Any], data: bytes) -> str | None:
    try:
        if row["sha256"] is not None:
            verify_sha256(data, row["sha256"])
    except LakeError as error:
        return error.kind
    return None


def _refuse_outage(error: LakeError) -> LakeError:
    if error.kind == "storage-unavailable":
        raise error
    return error
