"""Who uses a column: what a change of a dataset's schema has to be told to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from catalog.aggregation import milestones_of
from catalog.check_runs import definitions_of
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
    """milestone, link, check or dataset."""
    name: str
    """`main.spring/v2`, `main.spring` of a link, a check's name, `vision.photos_features`."""
    columns: tuple[str, ...]
    """Those of the columns asked for that it uses."""


def column_users(lake: Lake, dataset: Dataset, columns: Collection[str]) -> list[ColumnUser]:
    """Return what uses some of these columns: published milestone versions, links, checks, and derived datasets.

    Of checks that are SQL, and of derived datasets, it is not known which columns they read.

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
            name = f"{version.full_name}/v{version.number}"
            users += _using("milestone", name, columns, known[member.table_version])
    for milestone in milestones_of(state, dataset.full_name):
        for link in milestone.links:
            ends = ((link.child, link.child_columns), (link.parent, link.parent_columns))
            linked = {c for name, keys in ends if name.casefold() == dataset.full_name.casefold() for c in keys}
            users += _using("link", milestone.full_name, columns, linked)
    for check in definitions_of(state, dataset):
        users += _using("check", check.name, columns, check.columns)
    children = children_of(state, dataset)
    return [*users, *(ColumnUser("dataset", child.full_name, tuple(columns)) for child in children)]


def _using(kind: str, name: str, columns: Collection[str], used: Collection[str]) -> list[ColumnUser]:
    found = tuple(c for c in columns if c in used)
    return [ColumnUser(kind, name, found)] if found else []


def _names(lake: Lake, dataset: Dataset, table_version: int) -> frozenset[str]:
    try:
        return frozenset(open_snapshot(lake.storage, dataset, dataset.full_name, table_version, None).schema.names)
    except LakeError:  # what can't be opened reads nothing; `verify` says why
        return frozenset()
