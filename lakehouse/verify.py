"""Verification: whether everything that a state needs is there and whole, told for each state that needs it.

Each state is opened, and each distinct file is looked at once, however many states list it: so the cost follows the
files and not the pins. Of assets, each pack or object that their rows point at is looked at once; `deep` also reads
every file and every asset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from lakehouse.asset_proof import AssetProof
from lakehouse.decisions import Dataset
from lakehouse.delta import Route
from lakehouse.errors import LakeError, StorageError
from lakehouse.presence import listed_sizes, shown_file
from lakehouse.progress import SILENT, Progress
from lakehouse.proof import PARALLEL, look, read_whole
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.storage import Storage

_READ_AT_ONCE = 4
"""Files that are read whole at the same time."""
_AT_ONCE = 1_024
"""Files that are handed to threads together."""
_FILE_COLUMNS = ("path", "uri", "size", "rows", "modified")


@dataclass(frozen=True, slots=True)
class Target:
    """A state that is to be verified."""

    table_version: int
    rows: int | None
    """Rows that it was published with; None: it was not published."""


@dataclass(slots=True)
class Findings:
    """What is wrong with a state: {kind: (how many things, the first in words)}."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, detail: str, count: int = 1) -> None:
        """Note one more problem; only the first of a kind is told in words, so that memory is bounded."""
        known, first = self.found.get(kind, (0, detail))
        self.found[kind] = (known + count, first)

    def add_all(self, other: Findings) -> None:
        """Note all of another's problems."""
        for kind, (count, detail) in other.found.items():
            self.add(kind, detail, count)

    def told(self) -> Iterator[tuple[str, str]]:
        """Iterate over (kind, detail)."""
        for kind, (count, detail) in self.found.items():
            yield kind, detail if count == 1 else f"{count:,} such problems, the first: {detail}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one state."""

    table_version: int
    findings: Findings
    opened: bool = False
    counted: bool = False
    """Whether the log alone tells its number of rows."""
    files: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _File:
    """One distinct data file."""

    row: dict[str, Any]
    rows: int | None = None
    """Rows found in it; None when it could not be read."""
    sha256: str | None = None
    findings: Findings = field(default_factory=Findings)


class Verification:
    """The verification of states of one dataset.

    Args:
        storage: The root.
        dataset: Whose states.
        deep: Read everything, with all checksums.
        hashes: The sha256 that an earlier deep verification found, by the path of each data file.
        progress: Told of each file and each asset.
    """

    def __init__(
        self,
        storage: Storage,
        dataset: Dataset,
        *,
        deep: bool = False,
        hashes: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self._storage, self._dataset, self._deep, self._progress = storage, dataset, deep, progress
        self._hashes = hashes or {}
        self._files: dict[str, _File] = {}
        self._newest: Snapshot | None = None

    @property
    def files(self) -> int:
        """Number of distinct data files."""
        return len(self._files)

    @property
    def bytes(self) -> int:
        """Their size, as the log has it."""
        return sum(f.row["size"] for f in self._files.values())

    def new_hashes(self) -> Iterator[tuple[str, int, str]]:
        """Iterate over (path, bytes, sha256) of whole files whose sha256 was not known before."""
        for path, file in self._files.items():
            if file.sha256 and path not in self._hashes and "=" not in path:  # a partition's folder shows row values
                yield path, file.row["size"], file.sha256

    def run(self, targets: Sequence[Target]) -> list[Verified]:
        """Verify the states; what is wrong with one does not keep the others from being verified.

        Raises:
            StorageError: the store can't be reached (storage-unavailable), which says nothing of what it holds.
        """
        found = [self._open(target) for target in targets]
        self._look_at_files()
        if self._dataset.kind == "assets" and self._newest is not None:
            self._look_at_assets(self._newest)
        damaged = any(f.findings.found for f in self._files.values())
        for target, one in zip(targets, found, strict=True):
            if one.opened and (damaged or not one.counted):
                self._attribute(target, one)
        return found

    def _snapshot(self, target: Target) -> Snapshot:
        reference = f"{self._dataset.full_name}@#{target.table_version}"
        return open_snapshot(self._storage, self._dataset, reference, target.table_version, None)

    def _open(self, target: Target) -> Verified:
        """Open a state and note its files."""
        findings = Findings()
        try:
            snapshot = self._snapshot(target)
        except LakeError as error:
            _note(findings, error)
            return Verified(target.table_version, findings)
        listed = snapshot.file_list
        for batch in listed.table.select(_FILE_COLUMNS).to_batches():
            paths = batch.column("path").to_pylist()
            fresh = pa.array([i for i, path in enumerate(paths) if path not in self._files], pa.int64())
            for row in batch.take(fresh).to_pylist():
                self._files[row["path"]] = _File(row)
        rows = listed.rows
        if rows is not None:
            _compare_rows(findings, target, rows)
        self._newest = snapshot
        return Verified(target.table_version, findings, True, rows is not None, len(listed), listed.bytes)

    def _look_at_files(self) -> None:
        self._progress.message(f"{self._dataset.full_name}: data files")
        self._progress.total(len(self._files))
        sizes = {} if self._deep else listed_sizes(self._storage, self._dataset.location, self._files.keys())

        def one(file: _File) -> None:
            try:
                if self._deep:
                    file.rows, file.sha256 = read_whole(self._storage, file.row, self._dataset.full_name)
                    self._compare_hash(file)
                else:
                    size = sizes.get(file.row["path"])
                    file.rows = look(self._storage, file.row, self._dataset.full_name, size)
            except LakeError as error:
                _note(file.findings, error)

        with ThreadPoolExecutor(_READ_AT_ONCE if self._deep else PARALLEL) as pool:
            files = iter(self._files.values())
            while some := list(islice(files, _AT_ONCE)):
                for _ in pool.map(one, some):
                    self._progress.advance(1)

    def _compare_hash(self, file: _File) -> None:
        known = self._hashes.get(file.row["path"])
        if known is not None and known != file.sha256:
            raise StorageError(
                "file-damaged",
                f"{self._dataset.full_name}: the data file {shown_file(file.row['path'])} has the sha256 {file.sha256}, "
                f"an earlier verification found {known}.",
            )

    def _look_at_assets(self, newest: Snapshot) -> None:
        """Look at what the rows of all whole files point at."""
        whole = {path: file for path, file in self._files.items() if not file.findings.found}
        if not whole or newest.file_list.route is not Route.FILES:
            return
        table = pa.Table.from_pylist([f.row for f in whole.values()], schema=newest.file_list.table.schema)
        union = replace(newest, file_list=replace(newest.file_list, table=table))
        with AssetProof(union, self._progress, deep=self._deep) as proof:
            for path, kind, detail, count in proof.problems():
                whole[path].findings.add(kind, detail, count)

    def _attribute(self, target: Target, one: Verified) -> None:
        """Tell a state the problems of its files, and count its rows where the log does not."""
        try:
            snapshot = self._snapshot(target)
            files = [self._files[path] for path in snapshot.file_list.table.column("path").to_pylist()]
            for file in files:
                one.findings.add_all(file.findings)
            if not one.counted and not one.findings.found:
                scanned = snapshot.file_list.route is Route.SCAN
                _compare_rows(one.findings, target, snapshot.num_rows if scanned else sum(f.rows or 0 for f in files))
        except LakeError as error:
            _note(one.findings, error)


def _note(findings: Findings, error: LakeError) -> None:
    if error.kind == "storage-unavailable":
        raise error
    findings.add(error.kind, error.message)


def _compare_rows(findings: Findings, target: Target, rows: int) -> None:
    if target.rows is not None and rows != target.rows:
        findings.add("rows-differ", f"It has {rows:,} rows, and was published with {target.rows:,}.")
