"""Who uses a column: what a change of a dataset's schema has to be told to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from catalog.datasets import children_of
from lakehouse.decisions import Dataset, MilestoneVersion
from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from lakehouse.snapshots import open_snapshot
from lakehouse.state import Index

_BY_MEMBER = Index(MilestoneVersion, lambda m: {member.dataset_id for member in m.members})


@dataclass(frozen=True, slots=True)
class ColumnUser:
    """Something that reads columns of a dataset."""

    kind: str
    """milestone or dataset."""
    name: str
    """As a reference: `main.spring/v2`, `vision.photos_features`."""
    columns: tuple[str, ...]
    """Those of the columns asked for that it uses."""


def column_users(lake: Lake, dataset: Dataset, columns: Collection[str]) -> list[ColumnUser]:
    """Return what uses some of these columns: published milestone versions that have them, and derived datasets.

    What else learns to name columns - checks, views of users - is to be asked for here.

    Args:
        columns: Names as the dataset has them now.
    """
    state = lake.state()
    users: list[ColumnUser] = []
    known: dict[int, frozenset[str]] = {}
    for version in state.find(_BY_MEMBER, dataset.dataset_id):
        if version.status == "Archived":
            continue
        for member in version.members:
            if member.dataset_id != dataset.dataset_id:
                continue
            if member.table_version not in known:
                known[member.table_version] = _names(lake, dataset, member.table_version)
            used = tuple(c for c in columns if c in known[member.table_version])
            if used:
                users.append(ColumnUser("milestone", f"{version.full_name}/v{version.number}", used))
    children = children_of(state, dataset)
    return [*users, *(ColumnUser("dataset", child.full_name, tuple(columns)) for child in children)]


def _names(lake: Lake, dataset: Dataset, table_version: int) -> frozenset[str]:
    try:
        return frozenset(open_snapshot(lake.storage, dataset, dataset.full_name, table_version, None).schema.names)
    except LakeError:  # what can't be opened reads nothing; `verify` says why
        return frozenset()
