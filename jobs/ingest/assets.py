"""From items to rows of an asset dataset: bytes into packs, once per namespace, and batches of rows, once each.

Memory: about 64 MiB of items read ahead, as much in the group being stored, the rows of a batch, and 8 bytes for each
asset of the namespace (`HashIndex`); with several sources also their paths, to see one that occurs twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingest.findings import Finding, Severity
from jobs.ingest.items import Item, Load, read_ahead
from jobs.ingest.keyed import append_unseen
from jobs.job import Job, Reject
from jobs.progress import Progress
from lakehouse.blob_index import HashIndex
from lakehouse.blobs import Location
from lakehouse.packs import PackWriter
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Commit, Table

ASSET_SCHEMA = pa.schema(
    [
        pa.field("asset_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("media_type", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_url", pa.string()),
        pa.field("license", pa.string()),
        pa.field("split", pa.string()),
        pa.field("label", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("run", pa.string(), nullable=False),
    ]
)
"""The shape of every asset dataset; its key is `path`.

`asset_id` follows from the path alone; `sha256` is lower-case hex; `width` and `height` are pixels as stored; `label`
is text, also where the classes are numbers; `metadata` is JSON text: `findings` (codes), `orientation` (EXIF, when not
1), `frames` (when over 1), or null when there is nothing to say.
"""

Mode = Literal["append", "merge", "overwrite"]

_PATH_EXISTS = Finding(
    "path_exists", Severity.REJECT, "the dataset has other bytes at this path; replace them with --mode merge"
)

BATCH_ROWS = 10_000
BATCH_BYTES = 256 << 20
"""A batch is committed when it has as many rows, or has stored as many bytes."""

_GROUP_ITEMS = 4_096
_GROUP_BYTES = 64 << 20
_EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif"}


def asset_id(path: str) -> str:
    """Return the id of the asset at a path: 32 hexadecimal digits, the same in every dataset."""
    return sha256(b"asset " + path.encode()).hexdigest()[:32]


# Columns of `_Rows.items`; the others are the same in all rows of a batch.
_NAMES = (
    *("asset_id", "path", "uri", "offset", "length", "sha256", "media_type"),
    *("source", "source_url", "split", "label", "metadata", "format", "width", "height"),
)
_TOLD = ("license", "split", "label")
"""Columns in which a merge finds an asset changed although its bytes are the same."""
_KEPT = (*_TOLD, "source_url")
"""Columns that a source may know or not: a merge keeps what is there where it does not."""


@dataclass(slots=True)
class _Rows:
    """The rows of a batch, by column."""

    items: list[tuple[str | int | None, ...]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    """What each path was counted as."""
    stored: int = 0
    """Bytes put into packs."""

    def add(self, item: Item, place: Location, kind: str) -> None:
        info = item.info
        assert info is not None
        self.kinds[item.path] = kind
        self.items.append(
            (
                asset_id(item.path),
                item.path,
                place.uri,
                place.offset,
                place.length,
                item.digest.hex(),
                info.media_type,
                item.source,
                item.source_url,
                item.split,
                item.label,
                _metadata(item),
                info.format,
                info.width,
                info.height,
            )
        )

    def take(self, license: str | None, run: str) -> pa.RecordBatch:
        """Return the rows and forget them, but for their kinds: those are asked for when they are committed."""
        count = len(self.items)
        columns = dict(zip(_NAMES, zip(*self.items, strict=True), strict=True)) if count else dict.fromkeys(_NAMES, ())
        same = {"modality": "image", "license": license, "created_at": datetime.now(UTC), "run": run}
        arrays = [
            pa.array(columns[f.name], f.type)
            if f.name in columns
            else pa.repeat(pa.scalar(same.get(f.name), f.type), count)
            for f in ASSET_SCHEMA
        ]
        self.items, self.stored = [], 0
        return pa.RecordBatch.from_arrays(arrays, schema=ASSET_SCHEMA)


def _metadata(item: Item) -> str | None:
    info = item.info
    if info is None or not (info.findings or info.orientation != 1):
        return None
    said: dict[str, object] = {"findings": [f.code for f in info.findings]} if info.findings else {}
    if info.orientation != 1:
        said["orientation"] = info.orientation
    if info.frames > 1:
        said["frames"] = info.frames
    return json.dumps(said)


class AssetIngest:
    """Takes items into one asset dataset.

    Args:
        job: The run.
        table: The dataset's table.
        mode: What a path that is there already with other bytes means: append refuses it, merge updates its row (also
            when only the split, label or license that the source knows is another); overwrite looks at no row that is
            there, and replaces them all in one commit at the end.
        license: Of every item.
        message: Of every commit.
        progress: Told of every item.
        head: The dataset now; if it is empty, no path needs to be looked up.
        check_paths: Whether a path may come twice within the run.
    """

    def __init__(
        self,
        job: Job,
        table: Table,
        mode: Mode,
        *,
        license: str,
        message: str | None,
        progress: Progress,
        head: Snapshot,
        check_paths: bool,
    ) -> None:
        self.job, self.table, self.mode, self.message, self.progress = job, table, mode, message, progress
        self._license = license or None
        # What this run itself adds is never met again in the dataset: one source has a path once, several are checked.
        self._has_rows = mode != "overwrite" and head.num_rows > 0
        # The version on top of which a batch is appended: no newer than what its paths were looked up in.
        self._base = head.table_version
        self._seen: set[str] | None = set() if check_paths else None
        namespace = job.dataset.namespace
        table.reuse_bytes()
        self._index = HashIndex(job.lake.facts, namespace, job.run.run)
        self._pack = PackWriter(job.lake.storage, namespace)
        self._rows = _Rows()

    def run(self, loads: Iterator[Load]) -> None:
        """Take all items, in batches; an overwrite in one commit at the end."""
        with self._pack:
            if self.mode != "overwrite":
                for batch in self._batches(loads):
                    self.job.committed(self._commit(batch) if batch.num_rows else None)
                    self._rows.kinds.clear()
                self.job.save_rejects()  # what the last commit refused
                return
            txn = self.job.txn
            reader = pa.RecordBatchReader.from_batches(ASSET_SCHEMA, self._counted(self._batches(loads)))
            commit = self.table.overwrite(reader, run=self.job.run.run, message=self.message, txn=txn)
            self.job.committed(commit)

    def _batches(self, loads: Iterator[Load]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of each batch, whose bytes are durable and whose rejects are written."""
        for group in _groups(read_ahead(loads)):
            self._take(group)
            self.progress.advance(len(group))
            if len(self._rows.items) >= BATCH_ROWS or self._rows.stored >= BATCH_BYTES:
                yield self._settled()
        yield self._settled()

    def _settled(self) -> pa.RecordBatch:
        self.job.save_rejects()
        self._pack.flush()
        self._index.save(self.job.txn)
        return self._rows.take(self._license, self.job.run.run)

    def _counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch
            self._rows.kinds.clear()
            self.job.committed()

    def _commit(self, batch: pa.RecordBatch) -> Commit:
        rows, txn = pa.Table.from_batches([batch]), self.job.txn
        said: dict[str, Any] = {"run": txn[0], "message": self.message, "txn": txn}
        if self.mode == "append":
            commit = append_unseen(self.table, rows, self._base, self._unseen, **said)
            self._base = commit.table_version
            return commit
        return self.table.merge(self._told(rows), key=["path"], **said)

    def _unseen(self, rows: pa.Table) -> pa.Table:
        """Return the rows whose paths nobody took meanwhile; the others are counted as what they are now."""
        self._has_rows, counts = True, self.job.counts
        there = self._known(rows.column("path").to_pylist())
        for row in rows.select(["path", "sha256", "source"]).to_pylist():
            path = row["path"]
            if path not in there:
                continue
            counts[self._rows.kinds[path]] -= 1
            if there[path]["sha256"] == row["sha256"]:
                counts["unchanged"] += 1
            else:
                self.job.reject(Reject.of(row["source"], path, _PATH_EXISTS))
        return rows.filter(pc.invert(pc.is_in(rows.column("path"), pa.array(list(there), pa.string()))))

    def _told(self, rows: pa.Table) -> pa.Table:
        """Leave what the source does not know about an asset as it is: a split or label that was set since."""
        rows = rows.drop_columns([name for name in _KEPT if rows.column(name).null_count == rows.num_rows])
        some = [name for name in _KEPT if name in rows.column_names and rows.column(name).null_count]
        if some:
            paths = rows.column("path").to_pylist()
            there = self._known(paths)
            for name in some:
                kept = pa.array([there[path][name] if path in there else None for path in paths], pa.string())
                at = rows.schema.get_field_index(name)
                rows = rows.set_column(at, rows.schema.field(at), pc.coalesce(rows.column(name), kept))
        return rows

    def _take(self, group: Sequence[Item]) -> None:
        known = self._known([item.path for item in group if item.refused is None])
        counts, fresh, retold = self.job.counts, [], set()
        for item in group:
            counts["items"] += 1
            counts["bytes"] += len(item.data)
            refusal = item.refused or self._repeated(item)
            if refusal is None and item.path in known:
                if self._is_same(item, known[item.path]):
                    counts["unchanged"] += 1
                    continue
                if self.mode == "append":
                    refusal = _PATH_EXISTS
            if refusal is None:
                fresh.append(item)
                if item.path in known and known[item.path]["sha256"] == item.digest.hex():
                    retold.add(item.path)
            else:
                self.job.reject(Reject.of(item.source, item.path, refusal))
        self._store(fresh, retold)

    def _store(self, items: Sequence[Item], retold: Set[str]) -> None:
        """Store the bytes of items that are not stored yet, and add their rows; `retold` are there, with other words."""
        to_pack = [item for item in items if item.uri is None]
        places = dict(zip(map(id, to_pack), self._index.lookup([i.digest for i in to_pack]), strict=True))
        for item in items:
            assert item.info is not None
            place, kind = places.get(id(item)), "ingested" if item.path in retold else "duplicates"
            if item.uri is not None:
                place, kind = Location(item.uri, 0, len(item.data)), "ingested"
            elif place is None:
                # Not found when the group was looked up: its twin may have been stored a moment ago.
                place = self._index.recent(item.digest)
            if place is None:
                extension = _EXTENSIONS.get(item.info.format) or item.info.format.lower()
                place, kind = self._pack.add(item.data, extension), "ingested"
                self._index.remember(item.digest, place)
                self._rows.stored += place.length
            self.job.counts[kind] += 1
            for found in item.info.findings:
                self.job.warnings[found.code] += 1
            self._rows.add(item, place, kind)

    def _is_same(self, item: Item, there: dict[str, str | None]) -> bool:
        """Whether the dataset has the item: its bytes, and in a merge also what its source knows about it."""
        told = {"license": self._license, "split": item.split, "label": item.label} if self.mode == "merge" else {}
        return there["sha256"] == item.digest.hex() and all(
            value is None or value == there[name] for name, value in told.items()
        )

    def _known(self, paths: Sequence[str]) -> dict[str, dict[str, str | None]]:
        """Return sha256, license, split, label and source_url by path of what the dataset had before this run."""
        if not self._has_rows or not paths:
            return {}
        keys = pa.table({"path": pa.array(sorted(set(paths)), pa.string())})
        found = self.table.lookup(keys, ["sha256", *_KEPT])
        return {row["path"]: row for row in found.to_pylist()}

    def _repeated(self, item: Item) -> Finding | None:
        if self._seen is None:
            return None
        if item.path in self._seen:
            return Finding("path_repeated", Severity.REJECT, "another source of this run has the same path")
        self._seen.add(item.path)
        return None


def _groups(loads: Iterator[list[Item]]) -> Iterator[list[Item]]:
    """Yield the items in groups that are looked up together."""
    held: list[Item] = []
    size = 0
    for items in loads:
        held += items
        size += sum(len(item.data) for item in items)
        if len(held) >= _GROUP_ITEMS or size >= _GROUP_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def landed_paths(job: Job, table: Table, paths: Sequence[str]) -> set[str]:
    """Return those of the paths whose rows this run wrote before it was broken off."""
    keys = pa.table({"path": pa.array(sorted(set(paths)), pa.string())})
    found = table.lookup(keys, ["run"])
    here = zip(found.column("path").to_pylist(), found.column("run").to_pylist(), strict=True)
    return {path for path, run in here if run == job.run.run}
