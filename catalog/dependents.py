"""Dependents: what relies on a dataset, as one wants to know before it is hidden or loses a name."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from catalog.aggregation import milestones_of
from catalog.datasets import children_of
from lakehouse.copying import copy_id
from lakehouse.decisions import CheckDefinition, Dataset, MilestoneVersion, NamedSnapshot
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import parse, parse_name
from lakehouse.resolution import aliases_of, find_dataset, find_name
from lakehouse.session import names_in
from lakehouse.state import Index

_VERSIONS = Index(MilestoneVersion, lambda m: {member.dataset_id for member in m.members})
_SNAPSHOTS = Index(NamedSnapshot, lambda s: {member.dataset_id for member in s.members})


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something that relies on a dataset."""

    kind: str
    """`milestone`: waits for its versions; `milestone version` and `snapshot`: pin states of it; `dataset`: was derived or
    forked from it; `check`: of another dataset, compares with it, or is SQL in which its name comes."""
    name: str
    """`main.spring`, `main.spring/v2`, `run-20-nov`, `vision.photos_features`, `shop.items: foreign_key_order_id`."""


def dependents(lake: Lake, name: str) -> list[Dependent]:
    """Return what relies on a dataset, by kind and name.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted.
    """
    state = lake.state()
    dataset = find_dataset(state, ".".join(parse_name(name)))
    names = names_of(state, dataset)
    found = {
        "milestone": [m.full_name for m in milestones_of(state, dataset.full_name)],
        "milestone version": list(_milestone_versions(state, dataset)),
        "dataset": [d.full_name for d in children_of(state, dataset)],
        "check": checks_naming(state, names, besides=dataset),
        "snapshot": list(_snapshots(state, dataset)),
    }
    return [Dependent(kind, each) for kind, all_of in found.items() for each in dict.fromkeys(all_of)]


def checks_naming(state: State, names: Collection[str], *, besides: Dataset | None = None) -> list[str]:
    """Return the checks, `dataset: check`, that read a dataset by one of these names.

    Args:
        names: Full names, case folded.
        besides: Not the checks of this dataset.
    """
    found = []
    for check in state.all(CheckDefinition):
        owner = state.get(Dataset, check.dataset_id)
        if owner is None or owner.deleted_at is not None or (besides and owner.dataset_id == besides.dataset_id):
            continue
        if any(key in names for key in read_by(check)):
            found.append(f"{owner.full_name}: {check.name}")
    return sorted(found)


def names_of(state: State, dataset: Dataset) -> set[str]:
    """Return the names that mean a dataset, former ones too, case folded."""
    known = find_name(state, dataset.full_name)
    return {known.key, *(alias.casefold() for alias in aliases_of(state, known))}


def read_by(check: CheckDefinition) -> Iterator[str]:
    """Iterate over the names of datasets that a check reads, besides its own; of SQL over all that may be names."""
    texts = [check.parameters["to"]] if "to" in check.parameters else []
    if "query" in check.parameters:
        texts += [".".join(name) for name in names_in(check.parameters["query"])]
    for text in texts:
        try:
            yield parse(text).key
        except InvalidInputError:  # a word of SQL that can't be a name
            continue


def _milestone_versions(state: State, dataset: Dataset) -> Iterator[str]:
    for dataset_id in (dataset.dataset_id, copy_id(dataset)):
        for version in state.find(_VERSIONS, dataset_id):
            if version.status != "Archived":
                yield f"{version.full_name}/v{version.number}"


def _snapshots(state: State, dataset: Dataset) -> Iterator[str]:
    now = datetime.now(UTC)
    for dataset_id in (dataset.dataset_id, copy_id(dataset)):
        for snapshot in state.find(_SNAPSHOTS, dataset_id):
            if snapshot.expires_at is None or snapshot.expires_at > now:
                yield snapshot.name
