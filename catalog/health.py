"""Health: what a lakehouse holds, and whether everything it promises can be opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

from catalog.runs import code_version
from lakehouse.decisions import Dataset, DatasetVersion, Format, Milestone, MilestoneVersion, NamedSnapshot
from lakehouse.errors import LakeError
from lakehouse.lake import Lake, connect
from lakehouse.ledger import State
from lakehouse.pins import pins
from lakehouse.profiles import find_profile
from lakehouse.snapshots import open_snapshot
from lakehouse.storage import Storage

NEWEST_RUNS = 5
_PACKAGES = ("deltalake", "duckdb", "obstore", "polars", "pyarrow", "pillow")


@dataclass(frozen=True, slots=True)
class Status:
    """What a lakehouse holds, without opening any dataset."""

    root: str
    format: int
    """Number of the root's format."""
    created_at: datetime
    datasets: int
    """Datasets that are there."""
    deleted: int
    """Datasets that were deleted and can be brought back."""
    versions: int
    """Published versions of datasets."""
    milestones: int
    milestone_versions: int
    snapshots: int
    published_rows: int
    """Rows of the newest published version of each dataset."""
    published_bytes: int
    """Bytes of their data files."""
    rejects: int
    """Items and rows that runs could not take; warnings are not counted."""
    runs: list[dict[str, Any]]
    """The newest runs: run, job, status, started_at, finished_at, actor."""


def status(lake: Lake) -> Status:
    """Return what a lakehouse holds; the cost does not grow with the data.

    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    state = lake.state()
    form = state.get(Format, "format")
    assert form is not None, "the first decision of every ledger"
    datasets = [d for d in state.all(Dataset) if d.copy_of is None]
    newest = _newest_versions(state)
    rejects = lake.sql("select count(*) as n from lake.rejects where severity = 'reject'").fetchall()[0][0]
    runs = lake.sql(
        "select run, job, status, started_at, finished_at, actor from lake.runs "
        f"order by started_at desc limit {NEWEST_RUNS}"
    )
    return Status(
        root=lake.root,
        format=form.number,
        created_at=form.created_at,
        datasets=sum(d.deleted_at is None for d in datasets),
        deleted=sum(d.deleted_at is not None for d in datasets),
        versions=sum(1 for _ in state.all(DatasetVersion)),
        milestones=sum(1 for _ in state.all(Milestone)),
        milestone_versions=sum(1 for _ in state.all(MilestoneVersion)),
        snapshots=sum(1 for _ in state.all(NamedSnapshot)),
        published_rows=sum(v.rows for v in newest),
        published_bytes=sum(v.bytes for v in newest),
        rejects=int(rejects),
        runs=runs.to_arrow_table().to_pylist(),
    )


def _newest_versions(state: State) -> list[DatasetVersion]:
    newest: dict[str, DatasetVersion] = {}
    for version in state.all(DatasetVersion):
        known = newest.get(version.series)
        if known is None or version.number > known.number:
            newest[version.series] = version
    return list(newest.values())


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    """What was found; for a problem, what to do."""


def doctor(root: str | None = None) -> Iterator[Check]:
    """Look at the installation, the store and everything that the ledger promises; check after check, as they come.

    After a problem that the rest depends on, nothing more is looked at. The probe writes below `_system/probe` and
    takes it away again. Secrets are never shown.

    Args:
        root: As `lakehouse.connect` takes it.
    """
    yield Check("code", True, code_version())
    yield Check("packages", True, ", ".join(f"{name} {_installed(name)}" for name in _PACKAGES))
    lake: Lake | None = None

    def profile() -> str:
        found = find_profile(root)
        credentials = ", credentials from " + next(iter(found.credentials)) if found.credentials else ""
        named = f"profile {found.name}, " if found.name else ""
        return f"{named}{Storage(found).root}{credentials}"

    def ledger() -> str:
        nonlocal lake
        lake = connect(root)
        return f"readable, at decision {lake.state().seq}"

    for name, look in (("root", profile), ("ledger", ledger)):
        found = _look(name, look)
        yield found
        if not found.ok:
            return
    assert lake is not None
    yield _look("store", _probe(lake))
    yield from _datasets(lake)
    yield from _pins(lake)


def _probe(lake: Lake) -> Callable[[], str]:
    def look() -> str:
        lake.storage.probe()
        return "refuses a second create, and lets one of many racers win"

    return look


def _datasets(lake: Lake) -> Iterator[Check]:
    """Check that every dataset opens; one line for all that do, one for each that does not."""
    present = [d for d in lake.state().all(Dataset) if d.deleted_at is None and d.copy_of is None]
    bad = [c for c in (_look(d.full_name, _opener(lake, d, None)) for d in present) if not c.ok]
    yield Check("datasets", not bad, f"{len(present) - len(bad)} of {len(present)} open")
    yield from bad


def _pins(lake: Lake) -> Iterator[Check]:
    """Check that every pinned state opens, each once, however often it is pinned."""
    state = lake.state()
    distinct = {(p.dataset_id, p.table_version): p for p in pins(state)}
    bad = []
    for (dataset_id, table_version), pin in distinct.items():
        dataset = state.get(Dataset, dataset_id)
        assert dataset is not None, "the ledger never forgets a dataset that something pins"
        found = _look(pin.pinned_by, _opener(lake, dataset, table_version))
        bad += [] if found.ok else [found]
    yield Check("pins", not bad, f"{len(distinct) - len(bad)} of {len(distinct)} pinned states open")
    yield from bad


def _opener(lake: Lake, dataset: Dataset, table_version: int | None) -> Callable[[], str]:
    def look() -> str:
        open_snapshot(lake.storage, dataset, dataset.full_name, table_version, None)
        return "opens"

    return look


def _look(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except LakeError as error:
        return Check(name, False, f"{error.message} ({error.kind})")


def _installed(package: str) -> str:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return "not installed"
