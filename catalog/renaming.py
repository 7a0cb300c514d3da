"""Renaming: a dataset gets another name in its namespace, and the old one goes on meaning it.

Versions, tags, checks and schemas are kept under identities, so none of them is touched; what holds names - datasets,
milestones from their next version on, holds - follows in the same commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from catalog.aggregation import advance_with, milestones_of
from catalog.dependents import checks_naming
from lakehouse.decisions import Dataset, Decision, Hold, Link, Milestone, Name
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import check_name, parse_name
from lakehouse.resolution import aliases_of, find_dataset, find_name
from lakehouse.state import Index

_BY_NAME = Index(Dataset, lambda d: (d.full_name.casefold(),))


def rename_dataset(lake: Lake, name: str, new: str, *, message: str | None = None) -> Dataset:
    """Give a dataset another name, in one commit; the old name goes on meaning it, and its numbering of versions goes on.

    Former names can't be used by another dataset before `unalias_dataset` gives them back; a dataset may return to one.
    What was published keeps the names that it was published under.

    Args:
        name, new: `[namespace.]name`; both in one namespace.
    Raises:
        InvalidInputError: reference-invalid, name-reserved; another namespace, which stores bytes of its own
            (rename-namespace).
        NotFoundError: dataset-not-found, dataset-deleted.
        StateError: the new name is taken, or was used before, so that its versions can still be read under it
            (dataset-exists).
    """
    old, (namespace, short) = ".".join(parse_name(name)), parse_name(new)
    check_name(short)

    def rule(state: State) -> tuple[Dataset, list[Decision]]:
        known, dataset = find_name(state, old), find_dataset(state, old)
        if namespace.casefold() != dataset.namespace.casefold():
            raise InvalidInputError(
                "rename-namespace",
                f"{dataset.full_name} can't move to the namespace {namespace!r}, since bytes are stored once per namespace. "
                f"Rename it within its own: {dataset.namespace}.{short}; or make it anew there: lakehouse export, ingest.",
                dataset=dataset.full_name,
            )
        named = replace(dataset, name=short)
        if named == dataset:
            return dataset, []
        _refuse_used(state, known, named.full_name)
        values = (*_names(state, known, named.full_name), *_followers(state, dataset, named))
        return named, [Decision.put("dataset.rename", value) for value in values]

    renamed = lake.ledger.decide(rule, message=message).result
    advance_with(lake, renamed.full_name)
    return renamed


def unalias_dataset(lake: Lake, alias: str) -> Dataset:
    """Give a former name of a dataset back, and return the dataset; a new dataset may then take that name.

    Its numbering goes on after the versions that there are now, so that no old reference gets another meaning.

    Raises:
        NotFoundError: it is no former name (alias-not-found).
        StateError: checks of other datasets read it by that name (alias-used).
    """
    full = ".".join(parse_name(alias))

    def rule(state: State) -> tuple[Dataset, list[Decision]]:
        known = state.get(Name, full.casefold())
        if known is None or known.alias_of is None:
            raise NotFoundError(
                "alias-not-found",
                f"{full} is no former name of a dataset. See: lakehouse dataset show {full}",
                dataset=full,
            )
        if users := checks_naming(state, {known.key}):
            raise StateError(
                "alias-used",
                f"{known.full_name} is named by the checks {', '.join(users)}. Let them name {known.alias_of} first.",
                dataset=known.full_name,
            )
        dataset, own = find_dataset(state, full), find_name(state, full)
        given_back = replace(known, series="", alias_of=None, last_version=own.last_version)
        return dataset, [Decision.put("dataset.unalias", given_back)]

    return lake.ledger.decide(rule).result


def _refuse_used(state: State, own: Name, full_name: str) -> None:
    """Refuse a name that ever stood for anything but this dataset."""
    known = state.get(Name, full_name.casefold())
    if known is None or known.key == own.key or (known.alias_of or "").casefold() == own.key:
        return
    if known.alias_of is not None:
        why = f"is a former name of {known.alias_of}"
    else:
        why = "exists already" if known.dataset_id is not None else "was used before, and its versions are numbered on"
    raise StateError("dataset-exists", f"{known.full_name} {why}. Choose another name.", dataset=known.full_name)


def _names(state: State, own: Name, full_name: str) -> Iterator[Name]:
    """Iterate over the name, and all former ones, as they are after a rename: each former one leads to it in one step."""
    yield replace(own, full_name=full_name)
    if own.key != full_name.casefold():
        yield replace(own, dataset_id=None, alias_of=full_name)
    for alias in aliases_of(state, own):
        if alias.casefold() != full_name.casefold():
            known = state.get(Name, alias.casefold())
            assert known is not None, "an index leads to what is there"
            yield replace(known, alias_of=full_name)


def _followers(state: State, dataset: Dataset, named: Dataset) -> Iterator[Dataset | Hold | Milestone]:
    """Iterate over what holds the old name, with the new one: earlier datasets of that name and copies, too."""
    for one in state.find(_BY_NAME, dataset.full_name.casefold()):
        yield replace(one, name=named.name)
        if hold := state.get(Hold, one.dataset_id):
            yield replace(hold, full_name=named.full_name)

    def now(name: str) -> str:
        return named.full_name if name.casefold() == dataset.full_name.casefold() else name

    def linked(link: Link) -> Link:
        return replace(link, child=now(link.child), parent=now(link.parent))

    for milestone in milestones_of(state, dataset.full_name):
        yield replace(milestone, members=tuple(map(now, milestone.members)), links=tuple(map(linked, milestone.links)))
