"""Who uses a column: what a change of a dataset's schema has to be told to."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from catalog.aggregation import milestones_of
from catalog.datasets import children_of
from catalog.dependents import names_of, read_by
from lakehouse.decisions import CheckDefinition, Dataset, MilestoneVersion
from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.readers.duck import literal
from lakehouse.registry import versions
from lakehouse.session import words_in
from lakehouse.snapshots import open_snapshot
from lakehouse.state import Index

_BY_MEMBER = Index(MilestoneVersion, lambda m: {member.dataset_id for member in m.members})


@dataclass(frozen=True, slots=True)
class ColumnUser:
    """Something that reads columns of a dataset."""

    kind: str
    """milestone, link, check or dataset."""
    name: str
    """`main.spring/v2`, `main.spring` of a link, a check's name, `shop.items: foreign_key_order_id` of a check of another
    dataset, `vision.photos_features`."""
    columns: tuple[str, ...]
    """Those of the columns asked for that it uses."""


def column_users(lake: Lake, dataset: Dataset, columns: Collection[str]) -> list[ColumnUser]:
    """Return what uses some of these columns: published milestone versions, links, checks, and derived datasets.

    A check that is SQL uses what it names, also as a check of another dataset that reads this one. A fork uses the columns
    that it has, a dataset made by a query those that the query names besides; other derived datasets are taken to use all.

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
    for name, used in _checks(state, dataset):
        users += _using("check", name, columns, {c for c in columns if c in used or c.casefold() in used})
    for child in children_of(state, dataset):
        users += _using("dataset", child.full_name, columns, _taken(lake, child, columns))
    return users


def _checks(state: State, dataset: Dataset) -> Iterator[tuple[str, Collection[str]]]:
    """Iterate over the checks that read a dataset: name, and the columns; words of SQL are case folded."""
    names = names_of(state, dataset)
    for check in sorted(state.all(CheckDefinition), key=lambda c: c.name):
        owner = state.get(Dataset, check.dataset_id)
        if owner is None or owner.deleted_at is not None:
            continue
        own = owner.dataset_id == dataset.dataset_id
        used = set(check.columns) if own else set()
        reads = any(key in names for key in read_by(check))
        if reads and "to" in check.parameters:
            used |= set(check.parameters.get("to_columns", dataset.key_columns))
        if (reads or own) and "query" in check.parameters:
            used |= words_in(check.parameters["query"])
        yield check.name if own else f"{owner.full_name}: {check.name}", used


def _taken(lake: Lake, child: Dataset, columns: Collection[str]) -> Collection[str]:
    """Return which of some columns a derived dataset was made from; all, where no fork and no query says so."""
    chosen = f"contains(outputs::varchar, {literal(child.dataset_id)}) or run = {literal(child.query_run or '')}"
    made = f"select job, parameters from lake.runs where job in ('fork', 'query') and ({chosen})"
    found = lake.unguarded().sql(f"{made} order by started_at desc limit 1").fetchall()
    query = json.loads(found[0][1] or "{}").get("query") if found else None
    if not found or (found[0][0] == "query" and query is None):  # made by other means, or the SQL was erased
        return columns
    has = {c.name for schema in versions(lake.state(), child.dataset_id)[-1:] for c in schema.columns}
    named = words_in(query or "")
    return has | {c for c in columns if c.casefold() in named}


def _using(kind: str, name: str, columns: Collection[str], used: Collection[str]) -> list[ColumnUser]:
    found = tuple(c for c in columns if c in used)
    return [ColumnUser(kind, name, found)] if found else []


def _names(lake: Lake, dataset: Dataset, table_version: int) -> frozenset[str]:
    try:
        return frozenset(open_snapshot(lake.storage, dataset, dataset.full_name, table_version, None).schema.names)
    except LakeError:  # what can't be opened reads nothing; `verify` says why
        return frozenset()
