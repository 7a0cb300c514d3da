"""Sweeps: what dead writers left behind - data files that no commit mentions, bytes that no row points at.

Nothing tells a dead writer from a slow one, so only what is older than an orphan's age is looked at, and it goes in
steps: look, raise a fence (see `fences`), look again, delete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lakehouse import fences
from lakehouse.decisions import Dataset
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.pins import is_condemned
from lakehouse.storage import ObjectInfo
from lakehouse.tables import Table
from lakehouse.vacuum import refuse_held, survey, whole_state

_OWN_TABLE = re.compile(r"[^/]+/[^/]+-[0-9a-f]{8}")
"""Where `catalog.create_dataset` puts a table: namespace, name, and the beginning of its id."""
ORPHAN_AGE = timedelta(hours=24)
"""Age at which what nothing mentions counts as left behind; a writer has that long to commit what it wrote."""


@dataclass(frozen=True, slots=True)
class Orphans:
    """What was left behind."""

    keys: tuple[str, ...]
    """Keys under the root."""
    bytes: int

    @classmethod
    def of(cls, found: list[ObjectInfo]) -> Orphans:
        """Return the orphans that objects are."""
        return cls(tuple(o.key for o in found), sum(o.size for o in found))

    def __bool__(self) -> bool:
        return bool(self.keys)


def check_age(age: timedelta) -> None:
    """Refuse an orphan's age that a slow writer could not keep to.

    Raises:
        InvalidInputError: less than 24 hours (orphan-age-invalid).
    """
    if age < ORPHAN_AGE:
        raise InvalidInputError(
            "orphan-age-invalid",
            f"Orphans must be at least {ORPHAN_AGE.total_seconds() / 3600:g} hours old: a writer may still commit younger files.",
        )


def find_orphans(lake: Lake, dataset: Dataset, age: timedelta = ORPHAN_AGE) -> Orphans:
    """Return the files in an own table's folder that no commit mentions and that are older than an orphan's age.

    Raises:
        StateError: the dataset is under a legal hold (dataset-held).
        InvalidInputError: too short an age (orphan-age-invalid).
    """
    check_age(age)
    return Orphans.of(list(_unmentioned(lake, whole_state(lake), dataset, datetime.now(UTC) - age)))


def sweep(lake: Lake, dataset: Dataset, age: timedelta = ORPHAN_AGE) -> Orphans:
    """Delete what `find_orphans` returns; a writer that still wanted to commit one of the files is refused.

    Raises:
        StateError, InvalidInputError: as `find_orphans`.
        ConflictError: others kept winning for ten minutes (table-busy).
    """
    check_age(age)
    limit = datetime.now(UTC) - age
    found = Orphans.of(list(_unmentioned(lake, whole_state(lake), dataset, limit)))
    if not found:
        return found
    Table(lake.storage, dataset, lake.actor).mark(fences.FILES, int(limit.timestamp() * 1000))
    # Commits that came before the fence are seen now, and later ones look for it.
    condemned = set(found.keys)
    gone = [o for o in _unmentioned(lake, whole_state(lake), dataset, limit) if o.key in condemned]
    lake.storage.delete([o.key for o in gone])
    return Orphans.of(gone)


def find_lost_tables(lake: Lake, age: timedelta = ORPHAN_AGE) -> Orphans:
    """Return the files of tables that were made and never registered, when all of them are older than an orphan's age.

    Raises:
        InvalidInputError: too short an age (orphan-age-invalid).
    """
    check_age(age)
    limit, found = datetime.now(UTC) - age, list[ObjectInfo]()
    # Listed before the ledger is read: a table that is registered in between is known.
    made = [t for n in lake.storage.folders() if not n.startswith("_") for t in lake.storage.folders(n)]
    known = {d.location.rpartition("/")[0] for d in whole_state(lake).all(Dataset)}
    for folder in made:
        if folder not in known and _OWN_TABLE.fullmatch(folder):
            files = list(lake.storage.list(folder))
            found += files if all(f.modified < limit for f in files) else []
    return Orphans.of(found)


def sweep_lost_tables(lake: Lake, age: timedelta = ORPHAN_AGE) -> Orphans:
    """Delete what `find_lost_tables` returns; whoever makes a table registers it at once or is dead."""
    found = find_lost_tables(lake, age)
    lake.storage.delete(found.keys)
    return found


def _unmentioned(lake: Lake, state: State, dataset: Dataset, limit: datetime) -> Iterator[ObjectInfo]:
    if dataset.guarantee != "own":
        return
    refuse_held(state, dataset)
    prefix = f"{dataset.location}/"
    old = [
        o
        for o in lake.storage.list(dataset.location)
        if o.modified < limit and not o.key.startswith(f"{prefix}_delta_log/")
    ]
    if not old:
        return
    # Listed before the log is read: what is committed in between is mentioned.
    mentioned = survey(lake, state, dataset).mentioned()
    for found in old:
        path = found.key.removeprefix(prefix)
        if path not in mentioned and not (path.startswith("_changes/") and _current(state, dataset, path)):
            yield found


def _current(state: State, dataset: Dataset, path: str) -> bool:
    """Whether stored changes, `_changes/<old>-<new>.parquet`, are between states that are still there."""
    old, _, new = path.removeprefix("_changes/").removesuffix(".parquet").partition("-")
    return not (old.isdigit() and new.isdigit()) or not any(
        is_condemned(state, dataset.dataset_id, int(version)) for version in (old, new)
    )
