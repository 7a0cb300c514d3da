"""The image feature job: `<dataset>_features` follows its dataset, touching only what changed since the last run.

Memory: a few megabytes of images for each worker, 64 MiB of bytes read ahead, and the rows of a batch.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from catalog.datasets import create_dataset
from catalog.runs import start_run
from jobs.features.changes import KEPT, Changes, since
from jobs.features.image import FEATURE_SCHEMA, FeatureBatch, compute_batch
from jobs.ingest.findings import Finding, Severity
from jobs.job import Job, Reject, known_dataset, last_finished
from jobs.progress import SILENT, Progress
from jobs.workers import Workers
from lakehouse.blobs import Asset, read_assets, read_one
from lakehouse.decisions import Dataset
from lakehouse.errors import FormatError, InvalidInputError, LakeError, NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.readers.arrow import literal
from lakehouse.references import parse_name
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Table

IMAGE_FEATURES_SCHEMA = pa.schema(
    [
        pa.field("asset_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("label", pa.string()),
        *FEATURE_SCHEMA,
        pa.field("run", pa.string(), nullable=False),
    ]
)
"""A row of `<dataset>_features`: the asset (key `path`), its features as `features.image` defines them, the run."""

BATCH_ROWS = 10_000
_LOAD_ITEMS = 512
_LOAD_BYTES = 4 << 20
_READ_BYTES = 64 << 20
"""Bytes of assets that are read together, all or none; one asset at least."""
_ALONE = 256
"""So few images are decoded here: starting a worker takes as long as hundreds of small images."""
_DELETE_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class FeatureReport:
    """What a feature run did: assets = processed + skipped + rejected."""

    dataset: str
    features: str
    """The dataset that holds the features."""
    run: str
    table_version: int
    """Of the features."""
    processed: int
    """Assets that were decoded and measured."""
    skipped: int
    """Assets whose bytes were looked at before."""
    relabelled: int
    """Of those skipped, the ones whose split or label changed: taken over without decoding."""
    removed: int
    """Features of assets that are gone, or can't be decoded any more."""
    rejected: int
    """Assets that can't be decoded; `lake.rejects` says why."""
    seconds: float
    warnings: dict[str, int]
    """Findings in assets that were processed, by code."""
    rejects_by_code: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values."""
        return asdict(self)


def run_features(
    lake: Lake,
    dataset: str,
    *,
    feature: str = "image",
    workers: int | None = None,
    message: str | None = None,
    progress: Progress | None = None,
    full: bool = False,
) -> FeatureReport:
    """Bring `<dataset>_features` up to the dataset's head; it is made when it does not exist.

    New and changed assets are decoded; a changed split or label is taken over without decoding; features of assets
    that are gone are removed. A broken run is made good by the next one.

    Args:
        dataset: `[namespace.]name` of an asset dataset.
        feature: What to compute: image.
        workers: Processes that decode; None: one for each processor.
        full: Decode all assets again.
    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
        StateError: the dataset, or the one named `<dataset>_features`, holds something else (dataset-kind).
        InvalidInputError: a feature that is not known (feature-unknown), no worker (workers-invalid), or a package is
            not installed (extra-missing).
        ConflictError: others kept winning (table-busy).
    """
    began = time.monotonic()
    if feature != "image":
        raise InvalidInputError("feature-unknown", f"{feature!r} is no feature. Known is: image.")
    if workers is not None and workers < 1:
        raise InvalidInputError("workers-invalid", f"{workers} workers can't work. Give 1 or more.")
    full_name = ".".join(parse_name(dataset))
    now = lake.read(full_name)
    if now.dataset.kind != "assets":
        raise _other_kind(now.dataset, "assets")
    name = f"{full_name}_features"
    lake.check("rows.merge", name)
    target = _target(lake, name)
    before = None if target is None or full else _seen_before(lake, now, target)
    with start_run(lake, f"features.{feature}", parameters={"dataset": full_name, "full": full}, inputs=[now]) as run:
        if target is None:
            target = create_dataset(
                lake, name, IMAGE_FEATURES_SCHEMA, key=["path"], kind="features", parent=full_name, run=run.run
            )
        features = lake.peek(name)
        work = _Features(
            Job(lake, run, target), lake.table(name), now, workers or os.cpu_count() or 1, message, progress or SILENT
        )
        known = features if features.num_rows else None
        seen = since(now, before) if before is not None else Changes(now, known)
        work.remove(path for batch in seen.gone() for path in batch.column("path").to_pylist())
        work.relabel(seen.moved())
        work.compute(Changes(now, None) if full else seen)
        version = work.finish(features.table_version)
    counts = work.job.counts
    return FeatureReport(
        dataset=now.dataset.full_name,
        features=target.full_name,
        run=run.run,
        table_version=version,
        processed=counts["processed"],
        skipped=now.num_rows - counts["processed"] - counts["rejected"],
        relabelled=counts["relabelled"],
        removed=counts["removed"],
        rejected=counts["rejected"],
        seconds=round(time.monotonic() - began, 3),
        warnings=dict(sorted(work.job.warnings.items())),
        rejects_by_code=dict(sorted(work.job.rejects_by_code.items())),
    )


def _target(lake: Lake, name: str) -> Dataset | None:
    found = known_dataset(lake, name)
    if found is not None and found.kind != "features":
        raise _other_kind(found, "features")
    return found


def _other_kind(found: Dataset, wanted: str) -> StateError:
    return StateError(
        "dataset-kind",
        f"{found.full_name} holds {found.kind}, not {wanted}.",
        dataset=found.full_name,
        holds=found.kind,
    )


def _seen_before(lake: Lake, now: Snapshot, target: Dataset) -> Snapshot | None:
    """Return the assets as the last run read them; None when that, or what it wrote, is not what is there now."""
    last = last_finished(lake, "features.image", target)
    if last is None:
        return None
    if lake.table(target.full_name).version() != last["outputs"][target.dataset_id]:
        return None  # somebody else wrote features, or a run broke off
    version = last["inputs"].get(now.dataset.dataset_id)
    if version is None:
        return None
    try:
        return lake.read(f"{now.dataset.full_name}@#{version}")
    except (NotFoundError, StateError, FormatError):
        return None  # that state is not readable any more


@dataclass(slots=True)
class _Features:
    """One run at work."""

    job: Job
    table: Table
    now: Snapshot
    workers: int
    message: str | None
    progress: Progress

    @property
    def _said(self) -> dict[str, Any]:
        return {"run": self.job.run.run, "message": self.message, "txn": self.job.txn}

    def remove(self, paths: Iterator[str]) -> None:
        """Remove the features of assets."""
        while some := [path for _, path in zip(range(_DELETE_AT_ONCE), paths, strict=False)]:
            commit = self.table.delete(f"path in ({', '.join(map(literal, some))})", **self._said)
            self.job.committed(commit)
            self.job.counts["removed"] += commit.rows_removed

    def relabel(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Take over split and label of assets whose features are there."""
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            # Of an asset that could not be decoded there is nothing to correct.
            there = self.table.lookup(rows.select(["path", "sha256"]), [])
            rows = rows.join(there, ["path", "sha256"], join_type="inner").select(list(KEPT))
            if rows.num_rows:
                commit = self.table.merge(rows, key=["path"], **self._said)
                self.job.committed(commit)
                self.job.counts["relabelled"] += commit.rows_updated

    def compute(self, changes: Changes) -> None:
        """Decode and measure what is new, and commit the features in batches."""
        todo = changes.count()
        self.progress.total(todo)
        held: list[pa.RecordBatch] = []
        with ExitStack() as stack:
            pool = stack.enter_context(Workers(min(self.workers, todo))) if todo > _ALONE else None
            for rows, computed in _in_order(self._loads(changes), pool, 2 * self.workers + 1):
                held.append(self._rows(rows, computed))
                self.progress.advance(len(rows))
                if sum(batch.num_rows for batch in held) >= BATCH_ROWS:
                    self._commit(held)
                    held = []
        self._commit(held)

    def finish(self, version: int) -> int:
        """Note what was written, also if it was nothing: the next run goes on from here. Return the table version."""
        if self.job.table_version is None:
            self.job.run.output(self.job.dataset, version)
        self.job.run.counts = dict(self.job.counts)
        return version if self.job.table_version is None else self.job.table_version

    def _loads(self, changes: Changes) -> Iterator[list[Asset]]:
        held: list[Asset] = []
        size = 0
        for batch in changes.new():
            for asset in _readable(self.job, self.now, batch):
                held.append(asset)
                size += len(asset.data)
                if len(held) == _LOAD_ITEMS or size >= _LOAD_BYTES:
                    yield held
                    held, size = [], 0
        if held:
            yield held

    def _rows(self, rows: Sequence[dict[str, Any]], computed: FeatureBatch) -> pa.RecordBatch:
        for position, finding in computed.findings:
            self.job.reject(Reject.of(_source(self.now), rows[position]["path"], finding))
        good = [rows[position] for position in computed.positions]
        self.job.counts["processed"] += len(good)
        arrays = [
            pa.array([row[f.name] for row in good], f.type)
            if f.name in KEPT
            else pa.repeat(pa.scalar(self.job.run.run), len(good))
            if f.name == "run"
            else computed.rows.column(f.name)
            for f in IMAGE_FEATURES_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=IMAGE_FEATURES_SCHEMA)

    def _commit(self, batches: Sequence[pa.RecordBatch]) -> None:
        refused = self.job.pending_items()
        self.job.save_rejects()
        rows = pa.Table.from_batches(batches, IMAGE_FEATURES_SCHEMA)
        if rows.num_rows:
            self.job.committed(self.table.merge(rows, key=["path"], **self._said))
        else:
            self.job.committed()
        if refused:
            # Features of bytes that were replaced by what can't be decoded.
            keys = pa.table({"path": pa.array(sorted(refused), pa.string())})
            self.remove(iter(self.table.lookup(keys, []).column("path").to_pylist()))


def _source(snapshot: Snapshot) -> str:
    return f"{snapshot.dataset.full_name}@#{snapshot.table_version}"


def _readable(job: Job, now: Snapshot, batch: pa.RecordBatch) -> Iterator[Asset]:
    """Yield the assets of a batch with their bytes; one whose bytes are gone becomes a reject."""
    for part in _parts(batch):
        yield from _read_part(job, now, part)


def _read_part(job: Job, now: Snapshot, part: pa.RecordBatch) -> list[Asset]:
    storage, namespace = now.storage, now.dataset.namespace
    try:
        # All or none, since it can't be gone on with after an error.
        return list(read_assets(storage, iter([part]), KEPT, parallel=16, namespace=namespace))
    except (NotFoundError, FormatError):
        assets = []
        for row in part.to_pylist():
            try:
                data = read_one(storage, row["uri"], row["offset"], row["length"], namespace=namespace)
            except (NotFoundError, FormatError) as error:
                job.reject(Reject.of(_source(now), row["path"], _unreadable(error)))
            else:
                assets.append(Asset({name: row[name] for name in KEPT}, data))
        return assets


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield consecutive rows whose bytes fit into memory together."""
    start = size = 0
    for row, length in enumerate(batch.column("length").to_pylist()):
        if row > start and size + length > _READ_BYTES:
            yield batch.slice(start, row - start)
            start, size = row, 0
        size += length
    if start < batch.num_rows:
        yield batch.slice(start)


def _unreadable(error: LakeError) -> Finding:
    return Finding("unreadable", Severity.REJECT, error.message)


def _in_order(
    loads: Iterator[list[Asset]], pool: Workers | None, ahead: int
) -> Iterator[tuple[list[dict[str, Any]], FeatureBatch]]:
    """Yield the rows of each load with their features, in order, while workers are some loads ahead."""
    waiting: deque[tuple[list[dict[str, Any]], Callable[[], FeatureBatch]]] = deque()
    for load in loads:
        rows, blobs = [asset.row for asset in load], [asset.data for asset in load]
        computing = partial(compute_batch, blobs) if pool is None else pool.submit(compute_batch, blobs).result
        waiting.append((rows, computing))
        if len(waiting) >= ahead:
            first, result = waiting.popleft()
            yield first, result()
    while waiting:
        first, result = waiting.popleft()
        yield first, result()
