"""Ingest: the one call that takes files, folders and archives into a dataset."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, cast, get_args

from catalog.datasets import create_dataset
from catalog.runs import Run
from jobs.ingest.assets import ASSET_SCHEMA, AssetIngest, Mode, landed_paths
from jobs.ingest.idx import read_idx
from jobs.ingest.items import Layout, Load, loads_of_files, loads_of_idx, wanted_name
from jobs.ingest.rows import RowIngest
from jobs.ingest.sources import File, Format, Source, choose_format, idx_pairs, open_source, suffix
from jobs.ingest.tabular import TABLE_FORMATS, TableOptions, open_table
from jobs.job import Job, begin, known_dataset, printable, rejected_items
from jobs.progress import SILENT, Progress
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake
from lakehouse.references import parse_name
from lakehouse.registry import current
from lakehouse.tables import Table

JOB = "ingest"
_COUNTS = ("items", "ingested", "unchanged", "duplicates", "rejected", "bytes")


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did: items = ingested + unchanged + duplicates + rejected."""

    dataset: str
    table_version: int
    """The last commit's, or the head when there was nothing to commit."""
    run: str
    items: int
    """Files, members of archives, images of an IDX file, or rows; a refused archive counts as one."""
    ingested: int
    """New or replaced rows; of assets, those with bytes that were not stored before."""
    unchanged: int
    """Items that the dataset had already, with the same bytes or values."""
    duplicates: int
    """Assets whose bytes were stored already under another path: rows without bytes of their own."""
    rejected: int
    """Items that were not taken; `lake.rejects` says why."""
    bytes: int
    """Bytes of the assets that were read, or of the tabular files."""
    seconds: float
    warnings: dict[str, int]
    """Findings that kept nothing out, by code."""
    rejects_by_code: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values."""
        return asdict(self)


def ingest(
    lake: Lake,
    sources: str | Path | Sequence[str | Path],
    *,
    dataset: str,
    format: str | None = None,
    mode: str = "append",
    key: Sequence[str] = (),
    license: str = "",
    split: str | None = None,
    labels: Literal["folder"] | None = None,
    in_place: bool = False,
    resume: str | bool | None = None,
    evolve: bool = False,
    options: TableOptions | None = None,
    message: str | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Take files into a dataset, which is made when it does not exist; what can't be taken becomes a reject.

    Images (also in ZIP and tar files) and IDX files make assets, whose key is their path; tabular files make rows.
    Rows and rejects land in batches, each exactly once; an overwrite lands whole or not at all.

    Args:
        sources: Folders, files, archives, or `s3://bucket/prefix` with images.
        dataset: `[namespace.]name`.
        format: images, idx, csv, json or parquet; None finds out by the names of the files.
        mode: append adds what is new and refuses other content under a known key; merge replaces it, also where only
            split, label or license differ; overwrite replaces the whole dataset.
        key: Columns that identify a row of a tabular dataset; empty: the dataset's own.
        license: Of the items, and of a new dataset.
        split: Of all assets; None: a first folder named train, test, val, valid or validation tells.
        labels: "folder": the name of the folder (after that of the split) is the label.
        in_place: Register image files where they are, without copying their bytes.
        resume: Go on with an unfinished run: its id, or True for the newest of the same call.
        evolve: Let tabular files add columns.
        options: What is declared about tabular files.
        message: For the log of the dataset.
        progress: Told how far it is.
    Raises:
        NotFoundError: source-not-found; dataset-deleted; run-not-found (resume).
        InvalidInputError: an argument that makes no sense (source-missing, mode-unknown, labels-unknown, resume-overwrite,
            option-not-for-format), what `choose_format` refuses, a broken IDX file, a key that the data lacks
            (key-invalid), or a tabular file that is refused as a whole, as `open_table`.
        StateError: the dataset holds something else (dataset-kind); run-differs, run-finished (resume).
        ConflictError: others kept winning (table-busy), overtook an overwrite (table-changed), took the run (run-taken).
    """
    began = time.monotonic()
    lake.check("rows.append", ".".join(parse_name(dataset)))
    opened = _opened(sources)
    call = _Ingest(
        lake=lake,
        sources=opened,
        dataset=".".join(parse_name(dataset)),
        format=choose_format(opened, format),
        mode=cast("Mode", mode),
        key=tuple(key),
        license=license,
        layout=Layout(split, labels is not None),
        in_place=in_place,
        evolve=evolve,
        options=options or TableOptions(),
        message=message,
        progress=progress or SILENT,
    )
    _check_arguments(call, labels, resume)
    with begin(lake, JOB, call.parameters(), resume, call.source) as run:
        job = call.assets(run, resumed=bool(resume)) if call.makes_assets else call.rows(run, resumed=bool(resume))
        run.counts = {name: job.counts[name] for name in _COUNTS}
    return _report(job, time.monotonic() - began)


def _opened(sources: str | Path | Sequence[str | Path]) -> tuple[Source, ...]:
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not given:
        raise InvalidInputError("source-missing", "No source was given. Name a folder, a file or an archive.")
    return tuple(open_source(source) for source in given)


def _report(job: Job, seconds: float) -> IngestReport:
    version = job.lake.table(job.dataset.full_name).version() if job.table_version is None else job.table_version
    return IngestReport(
        dataset=job.dataset.full_name,
        table_version=version,
        run=job.run.run,
        **{name: job.counts[name] for name in _COUNTS},
        seconds=round(seconds, 3),
        warnings=dict(sorted(job.warnings.items())),
        rejects_by_code=dict(sorted(job.rejects_by_code.items())),
    )


@dataclass(frozen=True, slots=True)
class _Ingest:
    """One call of `ingest`, its arguments checked."""

    lake: Lake
    sources: tuple[Source, ...]
    dataset: str
    format: Format
    mode: Mode
    key: tuple[str, ...]
    license: str
    layout: Layout
    in_place: bool
    evolve: bool
    options: TableOptions
    message: str | None
    progress: Progress

    @property
    def makes_assets(self) -> bool:
        return self.format in ("images", "idx")

    @property
    def source(self) -> str:
        """Where the data comes from, as text."""
        return ", ".join(printable(s.text) for s in self.sources)

    def parameters(self) -> dict[str, Any]:
        """Return what identifies the call: a run is resumed by the same call only."""
        said: dict[str, Any] = {"dataset": self.dataset, "format": self.format, "mode": self.mode}
        said |= {"license": self.license, "layout": asdict(self.layout), "in_place": self.in_place}
        if not self.makes_assets:
            # Batches of rows are told apart by their number only, so the files must be the same ones.
            listed = [(f.location, f.size, Path(f.location).stat().st_mtime_ns) for f in self._table_files()]
            said |= {"key": list(self.key), "evolve": self.evolve, "options": asdict(self.options)}
            said["files"] = sha256(repr(listed).encode("utf-8", "surrogateescape")).hexdigest()
        return said

    def assets(self, run: Run, *, resumed: bool) -> Job:
        """Take images or IDX files."""
        pairs = idx_pairs(self.sources) if self.format == "idx" else []
        dataset = known_dataset(self.lake, self.dataset)
        if dataset is None:
            dataset = create_dataset(
                self.lake, self.dataset, ASSET_SCHEMA, key=["path"], kind="assets", license=self.license, run=run.run
            )
        elif dataset.kind != "assets":
            raise StateError(
                "dataset-kind",
                f"{dataset.full_name} holds {dataset.kind}, not assets. Take the images into another dataset.",
                dataset=dataset.full_name,
            )
        job, table = Job(self.lake, run, dataset), self.lake.table(self.dataset)
        if resumed:
            job.resume(table)
        if pairs:
            self.progress.total(sum(read_idx(pair.images_path).count for pair in pairs))
        taking = AssetIngest(
            job,
            table,
            self.mode,
            license=self.license,
            message=self.message,
            progress=self.progress,
            head=self.lake.peek(self.dataset),
            check_paths=len(self.sources) > 1,
        )
        taking.run(loads_of_idx(pairs, self.layout.split) if pairs else self._loads(job, table, resumed=resumed))
        return job

    def _loads(self, job: Job, table: Table, *, resumed: bool) -> Iterator[Load]:
        if self.progress is not SILENT:
            self.progress.total(sum(1 for source in self.sources for _ in source.files(wanted_name)))
        rejected = rejected_items(job) if resumed else {}

        def skip(paths: Sequence[str]) -> set[str]:
            landed = landed_paths(job, table, paths)
            refused = {path for path in paths if printable(path) in rejected}
            job.counts.update(items=len(landed | refused), unchanged=len(landed), rejected=len(refused))
            job.rejects_by_code.update(rejected[printable(path)] for path in refused)
            return landed | refused

        for source in self.sources:
            yield from loads_of_files(source, self.layout, in_place=self.in_place, skip=skip if resumed else None)

    def rows(self, run: Run, *, resumed: bool) -> Job:
        """Take tabular files."""
        files, dataset, first = self._table_files(), known_dataset(self.lake, self.dataset), None
        self.progress.total(None)
        if self.mode == "merge" and not self.key and not (dataset and dataset.key_columns):
            raise InvalidInputError(
                "key-missing",
                f"A merge into {self.dataset} needs a key: the dataset has none and none was given. Name its columns: --key "
                "id; nothing was made.",
                dataset=self.dataset,
            )
        if dataset is None:
            first = open_table(files[0].location, self.options, None, self.key)
            dataset = create_dataset(
                self.lake, self.dataset, first.schema, key=self.key, license=self.license, run=run.run
            )
        job, table = Job(self.lake, run, dataset), self.lake.table(self.dataset)
        landed = table.landed(run.run) if resumed else None
        taking = RowIngest(
            job,
            table,
            self.mode,
            self.key or dataset.key_columns,
            self.options,
            self.evolve,
            self.message,
            self.progress,
            flag=self._flags(table),
            landed=-1 if landed is None else landed,
        )
        taking.run(files, first)
        return job

    def _flags(self, table: Table) -> bool:
        """Whether rows land without values that don't fit; in a merge, null would replace the values that are there."""
        rules = current(self.lake.state(), table.dataset, table.schema(), self.lake.actor)
        return rules.misfits == "flag" and self.mode != "merge"

    def _table_files(self) -> list[File]:
        def wanted(name: str) -> bool:
            return TABLE_FORMATS.get(suffix(name)) == self.format

        remote = next((s.text for s in self.sources if s.is_remote), None)
        if remote is not None:
            raise InvalidInputError("source-remote", f"Tables are read from local disks only. Copy {remote} first.")
        files = [file for source in self.sources for file in source.files(wanted)]
        if not files:
            raise InvalidInputError(
                "source-empty", f"There is no {self.format} file in {', '.join(s.text for s in self.sources)}."
            )
        return files


def _check_arguments(call: _Ingest, labels: str | None, resume: str | bool | None) -> None:
    if call.mode not in get_args(Mode):
        raise InvalidInputError("mode-unknown", f"{call.mode!r} is no mode. Known are: {', '.join(get_args(Mode))}.")
    if labels not in (None, "folder"):
        raise InvalidInputError("labels-unknown", f"labels={labels!r} is not known. Labels come from: folder.")
    if resume and call.mode == "overwrite":
        raise InvalidInputError("resume-overwrite", "An overwrite lands whole or not at all. Run it again instead.")
    only_tables = {"key": call.key, "evolve": call.evolve, "options": call.options != TableOptions()}
    only_images = {"labels": labels, "in_place": call.in_place}
    only_assets = {"split": call.layout.split}
    wrong = only_tables if call.makes_assets else only_images | only_assets
    if call.format == "idx":
        wrong = wrong | only_images
    given = [name for name, value in wrong.items() if value]
    if given:
        raise InvalidInputError(
            "option-not-for-format", f"{given[0]!r} means nothing for {call.format}. Leave it out.", option=given[0]
        )
