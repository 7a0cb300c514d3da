"""Verification of what is pinned: that every state can be read still, told and kept on record."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import pyarrow as pa

from lakehouse.decisions import Dataset
from lakehouse.errors import AccessDeniedError, LakeError
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from lakehouse.pins import is_condemned, pins
from lakehouse.progress import SILENT, Progress
from lakehouse.readers.arrow import literal
from lakehouse.resolution import published_at
from lakehouse.tables import Table
from lakehouse.verify import Target, Verification, Verified

log = logging.getLogger(__name__)
_ROWS = 100_000
"""Rows of a record that are written at once."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a state from being read as it was pinned."""

    reference: str
    """The state that needs it."""
    kind: str
    """file-missing, file-damaged, rows-differ, pack-missing, pack-short, asset-corrupt, table-replaced, ..."""
    detail: str
    """What was found; the first of its kind, and how many there are."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found."""

    checked: int
    """States that were looked at."""
    files: int
    """Distinct data files."""
    bytes: int
    """Their size."""
    deep: bool
    """Whether everything was read."""
    seconds: float
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


@dataclass(slots=True)
class _Work:
    """The states to look at, by dataset and table version, with the references that need each."""

    states: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    refused: list[Problem] = field(default_factory=list)
    """What can't be opened by the ledger's word alone."""

    def add(self, dataset_id: str, table_version: int, reference: str) -> None:
        """Note a state."""
        needing = self.states.setdefault(dataset_id, {}).setdefault(table_version, [])
        if reference not in needing:
            needing.append(reference)


def verify(
    lake: Lake, references: Sequence[str] | None = None, *, deep: bool = False, progress: Progress = SILENT
) -> VerifyReport:
    """Check that states can be read as they were pinned: all files there and whole, rows as published, packs included.

    Each distinct file is looked at once, however many states list it. What is found is kept on record: see the view
    `readable`.

    Args:
        references: States to look at; None means every pinned one.
        deep: Also read every data file and every asset whole, and compare their checksums.
    Raises:
        InvalidInputError: a reference does not parse (reference-invalid).
        NotFoundError: what one names never existed.
        StorageError: the store can't be reached (storage-unavailable), which says nothing of what it holds.
    """
    started = time.monotonic()
    work = _pinned(lake) if references is None else _named(lake, references)
    problems, records = list(work.refused), _Records(lake, deep)
    files = size = 0
    state = lake.state()
    for dataset_id in sorted(work.states):
        needing, dataset = work.states[dataset_id], state.get(Dataset, dataset_id)
        assert dataset is not None, "the ledger never forgets a dataset that something pins"
        targets = []
        for version in sorted(needing):
            published = published_at(state, dataset_id, version)
            targets.append(Target(version, published.rows if published else None))
        hashes = records.hashes(dataset) if deep else {}
        verification = Verification(lake.storage, dataset, deep=deep, hashes=hashes, progress=progress)
        found = verification.run(targets)
        files, size = files + verification.files, size + verification.bytes
        if any(one.findings.found for one in found):
            found = _still_there(lake, dataset, found, pinned=references is None)
        for one in found:
            told = list(one.findings.told())
            problems += [Problem(name, *what) for name in needing[one.table_version] for what in told]
        records.keep(dataset, found, verification)
    records.flush()
    checked = sum(len(versions) for versions in work.states.values()) + len(work.refused)
    return VerifyReport(checked, files, size, deep, round(time.monotonic() - started, 3), tuple(problems))


def _pinned(lake: Lake) -> _Work:
    work = _Work()
    for pin in pins(lake.state()):
        work.add(pin.dataset_id, pin.table_version, pin.reference)
    return work


def _named(lake: Lake, references: Sequence[str]) -> _Work:
    work = _Work()
    for reference in references:
        try:
            found = lake.resolve(reference)
            version = found.table_version
            if version is None:
                version = Table(lake.storage, found.dataset, lake.actor).version()
            work.add(found.dataset.dataset_id, version, str(found.reference))
        except LakeError as error:
            if error.kind not in _UNREADABLE:
                raise
            work.refused.append(Problem(reference, error.kind, error.message))
    return work


_UNREADABLE = {"version-folded", "version-expired", "table-missing", "table-replaced", "feature-unsupported"}
"""Kinds that say that a state was there and can't be read any more."""


def _still_there(lake: Lake, dataset: Dataset, found: list[Verified], *, pinned: bool) -> list[Verified]:
    """Leave out what was unpinned while it was looked at; say of a named state that it was cleaned up meanwhile."""
    state = lake.state()
    if pinned:
        kept = {p.table_version for p in pins(state, dataset_id=dataset.dataset_id)}
        return [one for one in found if not one.findings.found or one.table_version in kept]
    for one in found:
        if one.findings.found and is_condemned(state, dataset.dataset_id, one.table_version):
            one.findings.found = {"version-folded": (1, "It was cleaned up: nothing pinned it.")}
    return found


class _Records:
    """What verifications found, as facts: no names of files of partitions and no words about problems, only their kinds."""

    def __init__(self, lake: Lake, deep: bool) -> None:
        self._lake, self._deep, self._id, self._number = lake, deep, f"verify-{uuid4().hex}", 0
        self._rows: dict[str, list[dict[str, object]]] = {"verifications": [], "file_hashes": []}

    def hashes(self, dataset: Dataset) -> dict[str, str]:
        """Return the sha256 of data files that deep verifications found, by path."""
        facts = self._lake.facts.snapshot("file_hashes")
        if facts is None:
            return {}
        own = f"dataset_id = {literal(dataset.dataset_id)}"
        return {
            path: sha256
            for batch in facts.batches(["path", "sha256"], own)
            for path, sha256 in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        }

    def keep(self, dataset: Dataset, found: Sequence[Verified], verification: Verification) -> None:
        """Note what was found of a dataset's states."""
        own = {"dataset_id": dataset.dataset_id, "at": datetime.now(UTC)}
        for one in found:
            kinds = {kind: count for kind, (count, _) in one.findings.found.items()}
            self._rows["verifications"].append(
                own
                | {
                    "table_version": one.table_version,
                    "deep": self._deep,
                    "ok": not kinds,
                    "files": one.files,
                    "bytes": one.bytes,
                    "problems": json.dumps(kinds) if kinds else None,
                }
            )
        for path, size, sha256 in verification.new_hashes():
            self._rows["file_hashes"].append(own | {"path": path, "size": size, "sha256": sha256})
        if any(len(rows) >= _ROWS for rows in self._rows.values()):
            self.flush()

    def flush(self) -> None:
        """Write what was noted; who may only read the lakehouse verifies without a record."""
        for name, rows in self._batches():
            try:
                self._lake.facts.append(name, rows, (self._id, self._number))
            except AccessDeniedError as error:
                log.warning("not recorded", extra={"kind": error.kind})
            self._number += 1

    def _batches(self) -> Iterator[tuple[str, pa.Table]]:
        for name, rows in self._rows.items():
            if rows:
                yield name, pa.Table.from_pylist(rows, schema=SCHEMAS[name])
                rows.clear()


__all__ = ["Problem", "VerifyReport", "verify"]
