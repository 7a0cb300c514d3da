"""Restoring: a new commit at head whose rows, order and schema are those of an earlier state of the dataset.

No data is written: the commit lists the files of that state again. What was at head before stays in the history.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.commits import own_commit
from lakehouse.decisions import Dataset
from lakehouse.delta import FileList, Route, refuse_foreign
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake
from lakehouse.proof import prove_files
from lakehouse.references import parse, parse_name
from lakehouse.resolution import find_dataset, known_name
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Commit, Table


@dataclass(frozen=True, slots=True)
class Restoration:
    """What restoring a state changes."""

    before: Snapshot
    """The head as it is."""
    source: Snapshot
    """The state that the head shall equal."""

    @property
    def dataset(self) -> Dataset:
        """The dataset that changes."""
        return self.before.dataset

    @property
    def copies(self) -> bool:
        """Whether rows are copied, since the state is of another table: of an earlier dataset of that name."""
        return self.source.dataset.dataset_id != self.dataset.dataset_id

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return (
            self.copies
            or self.source.schema != self.before.schema
            or _paths(self.source.file_list) != _paths(self.before.file_list)
        )


def plan_restore(lake: Lake, name: str, reference: str) -> Restoration:
    """Return what restoring a state would change; nothing is changed. Arguments and errors as `restore`."""
    target = find_dataset(lake.state(), ".".join(parse_name(name)))
    return _plan(lake, target, lake.read(_reference(lake, target, reference)))


def restore(lake: Lake, name: str, reference: str, *, message: str | None = None, run: str | None = None) -> Commit:
    """Bring a dataset back to an earlier state, by a new commit on top of its history, if nobody else writes meanwhile.

    Rows, their order and the schema are those of that state. An earlier dataset of the same name, dropped since, has a
    table of its own: then its rows are copied, into the same columns.

    Args:
        name: `[namespace.]name`.
        reference: Any state of that dataset: `photos@v1`, `photos@#7`, `photos@spring/v2`; or the selector alone: `@v1`.
        message: A person's words; None says what was restored.
    Returns:
        The commit; without any rows when the head is that state already.
    Raises:
        InvalidInputError: the reference is of another dataset (dataset-differs); a partitioned or constrained adopted
            table (table-partitioned, table-constrained).
        NotFoundError, StateError: as `Lake.read`.
        StateError: rows would have to be copied into other columns (schema-differs), an adopted table marks rows as
            deleted (restore-unsupported).
        StorageError: a file of that state is missing or damaged (file-missing, file-damaged); nothing is changed.
        ConflictError: somebody committed meanwhile (table-changed): look again and decide again.
    """
    found = plan_restore(lake, name, reference)
    lake.check("table.restore", found.dataset.full_name)
    if not found:
        return Commit(found.before.table_version)
    with lake.lease(
        _reference(lake, found.dataset, reference), holder=f"restore of {found.dataset.full_name}"
    ) as leased:
        found = _plan(lake, found.dataset, leased.snapshots[0])
        said = message or f"restored {found.source.reference} (#{found.source.table_version})"
        return _copy(lake, found, said, run) if found.copies else _relist(lake, found, said, run)


def _reference(lake: Lake, target: Dataset, given: str) -> str:
    """Return the full reference of a state of the dataset."""
    ref = parse(f"{target.full_name}{given}" if given.startswith("@") else given)
    known = known_name(lake.state(), ref.name)
    if known is None or known.key != target.full_name.casefold():
        raise InvalidInputError(
            "dataset-differs",
            f"{ref} is no state of {target.full_name}. Name one of its own, such as {target.full_name}@v1; to take over "
            f"another dataset's rows, overwrite with them.",
            dataset=target.full_name,
        )
    return str(ref)


def _plan(lake: Lake, target: Dataset, source: Snapshot) -> Restoration:
    table = Table(lake.storage, target, lake.actor)
    if target.guarantee != "own":
        refuse_foreign(table.open(), table.name)
    found = Restoration(lake.read(target.full_name), source)
    if found.dataset.dataset_id != target.dataset_id:
        raise StateError(
            "dataset-replaced", f"{table.name} was deleted or made anew while it was restored.", dataset=table.name
        )
    if found.copies and source.schema != found.before.schema:
        raise StateError(
            "schema-differs",
            f"{source.reference} is of an earlier dataset of that name, with other columns than {table.name} has now, so its "
            f"rows can't be copied back. Read them from {source.reference}, or export them.",
            dataset=table.name,
        )
    if not found.copies and Route.SCAN in (source.file_list.route, found.before.file_list.route):
        raise StateError(
            "restore-unsupported",
            f"{table.name} marks rows as deleted without rewriting files; let the engine that made it restore it.",
            dataset=table.name,
        )
    return found


def _relist(lake: Lake, found: Restoration, message: str, run: str | None) -> Commit:
    """Commit the files of the source again, on top of exactly the head that was looked at."""
    old, new, head = found.before, found.source, found.before.table_version
    # What head lists is read by everybody; what it does not was out of sight since.
    prove_files(new, _paths(old.file_list))
    added, removed = _rows_beyond(new.file_list, old.file_list), _rows_beyond(old.file_list, new.file_list)
    table = Table(lake.storage, found.dataset, lake.actor)

    def attempt(fresh: DeltaTable, number: int, app: str) -> Commit | None:
        table.expect(fresh, head)
        stamp = own_commit(
            app,
            number,
            actor=lake.actor,
            run=run,
            message=message,
            rows_added=added,
            rows_removed=removed,
            retries=0,
        )
        fresh.restore(new.table_version, commit_properties=stamp)
        return None

    return table.retried(attempt, None, run, lambda version: Commit(version, added or 0, removed or 0))


def _copy(lake: Lake, found: Restoration, message: str, run: str | None) -> Commit:
    """Write the rows of the source anew, in their order."""
    rows = pa.RecordBatchReader.from_batches(found.source.schema, found.source.batches())
    table = Table(lake.storage, found.dataset, lake.actor)
    return table.overwrite(rows, expected_version=found.before.table_version, run=run, message=message)


def _paths(files: FileList) -> set[str]:
    return set(files.table.column("path").to_pylist())


def _rows_beyond(files: FileList, others: FileList) -> int | None:
    """Return the rows of the files that are not among others; None when statistics don't tell."""
    known = _paths(others)
    listed = zip(files.table.column("path").to_pylist(), files.table.column("rows").to_pylist(), strict=True)
    counts = [rows for path, rows in listed if path not in known]
    return None if None in counts else sum(counts)
