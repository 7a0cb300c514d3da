"""Resolution: from a reference and the ledger's state to a dataset and a table version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

from lakehouse.decisions import Dataset, DatasetVersion, Member, Milestone, MilestoneVersion, Name, NamedSnapshot, Tag
from lakehouse.errors import NotFoundError, StateError, suggest
from lakehouse.ledger import State
from lakehouse.notices import refuse_withdrawn
from lakehouse.pins import refuse_condemned
from lakehouse.references import (
    AsOf,
    Head,
    InMilestone,
    InSnapshot,
    Latest,
    MilestoneRef,
    Named,
    Reference,
    TableVersion,
    Version,
)
from lakehouse.state import Index
from lakehouse.storage import Storage
from lakehouse.tables import Table

_VERSIONS = Index(DatasetVersion, lambda v: (v.series,))
_STATES = Index(DatasetVersion, lambda v: ((v.dataset_id, v.table_version),))
_ALIASES = Index(Name, lambda n: (n.alias_of.casefold(),) if n.alias_of else ())
_TAGS = Index(Tag, lambda t: (t.series,))
_MILESTONE_VERSIONS = Index(MilestoneVersion, lambda m: (m.full_name.casefold(),))


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference stands for."""

    reference: Reference
    dataset: Dataset
    table_version: int | None
    """None: the newest one, decided when the table is opened."""
    version: DatasetVersion | None
    """The published version, where the reference names one."""


def known_name(state: State, full_name: str) -> Name | None:
    """Return what is known under a dataset's name, or a former name of it; None when nothing is."""
    name = state.get(Name, full_name.casefold())
    if name is not None and name.alias_of is not None:
        name = state.get(Name, name.alias_of.casefold())
    return name if name is not None and name.series else None


def aliases_of(state: State, name: Name) -> list[str]:
    """Return the former names that still mean a dataset."""
    return sorted(alias.full_name for alias in state.find(_ALIASES, name.key))


def living_names(state: State) -> list[str]:
    """Return the full names that mean a dataset which is there: those of datasets, and former ones."""
    there = {n.key: n.full_name for n in state.all(Name) if n.dataset_id is not None}
    former = [n.full_name for n in state.all(Name) if n.alias_of is not None and n.alias_of.casefold() in there]
    return [*there.values(), *former]


def find_name(state: State, full_name: str) -> Name:
    """Return what is known under a dataset's name, or a former name of it.

    Raises:
        NotFoundError: never used (dataset-not-found), with close matches.
    """
    name = known_name(state, full_name)
    if name is None:
        known = living_names(state)
        short = [n.removeprefix("main.") for n in known]
        raise NotFoundError(
            "dataset-not-found",
            f"There is no dataset {full_name!r}{_for_viewer(state)}.{suggest(full_name.removeprefix('main.'), [*known, *short])} "
            "List them with: lakehouse dataset list",
            dataset=full_name,
        )
    return name


def _for_viewer(state: State) -> str:
    return f" that {state.viewer} may read" if state.viewer else ""


def find_dataset(state: State, full_name: str) -> Dataset:
    """Return the dataset that a name stands for now.

    Raises:
        NotFoundError: no such name (dataset-not-found), or it was deleted (dataset-deleted).
    """
    name = find_name(state, full_name)
    dataset = state.get(Dataset, name.dataset_id) if name.dataset_id else None
    if dataset is None:
        raise NotFoundError(
            "dataset-deleted",
            f"The dataset {name.full_name} was deleted. Bring it back with: lakehouse dataset undrop {name.full_name}",
            dataset=name.full_name,
        )
    return dataset


def resolve(storage: Storage, state: State, ref: Reference) -> Resolved:
    """Return what a reference stands for.

    Raises:
        NotFoundError: dataset-not-found, dataset-deleted, version-not-found, tag-not-found, milestone-not-found,
            snapshot-not-found, not-a-member, before-first-commit, version-folded.
        StateError: the version or the snapshot expired (version-expired, snapshot-expired), the version was withdrawn
            (version-withdrawn), the milestone version is archived (milestone-archived).
    """
    selector = ref.selector
    if isinstance(selector, InMilestone | InSnapshot):  # what was pinned keeps the name that it was pinned under
        return _pinned(state, ref, _member(state, ref, selector))
    name = find_name(state, ref.name)
    ref = _renamed(ref, name.full_name)
    match selector:
        case Head():
            return Resolved(ref, find_dataset(state, ref.name), None, None)
        case TableVersion(number):
            dataset = find_dataset(state, ref.name)
            refuse_condemned(state, dataset.dataset_id, dataset.full_name, number)
            return Resolved(ref, dataset, number, published_at(state, dataset.dataset_id, number))
        case AsOf(time):
            dataset = find_dataset(state, ref.name)
            number = _version_at(storage, dataset, time)
            refuse_condemned(state, dataset.dataset_id, dataset.full_name, number)
            return Resolved(ref, dataset, number, published_at(state, dataset.dataset_id, number))
        case Latest() | Version() | Named():
            return _published(state, ref, choose_version(state, name, selector))
        case _:
            assert_never(selector)


def versions_of(state: State, series: str) -> Iterator[DatasetVersion]:
    """Iterate over the published versions of one name, oldest first, under the name that it has now."""
    return (named_now(state, version) for version in state.find(_VERSIONS, series))


def named_now(state: State, version: DatasetVersion) -> DatasetVersion:
    """Return a published version under the name that its dataset has now."""
    dataset = state.get(Dataset, version.dataset_id)
    if dataset is None or dataset.full_name == version.full_name:
        return version
    return replace(version, full_name=dataset.full_name)


def published_at(state: State, dataset_id: str, table_version: int) -> DatasetVersion | None:
    """Return the newest published version of a table version, if there is one."""
    found = [v for v in state.find(_STATES, (dataset_id, table_version)) if v.expired_at is None]
    newest = max(found, key=lambda v: v.number, default=None)
    return None if newest is None else named_now(state, newest)


def tags_of(state: State, series: str) -> dict[str, int]:
    """Return a name's movable tags: {tag: version number}."""
    return {t.name: t.number for t in state.find(_TAGS, series)}


def find_version(state: State, name: Name, number: int) -> DatasetVersion:
    """Return one published version.

    Raises:
        NotFoundError: it was never published (version-not-found).
    """
    version = state.get(DatasetVersion, f"{name.series}/v{number}")
    if version is None:
        have = _have([v.number for v in versions_of(state, name.series)]) or (
            "none was published yet: lakehouse publish " + name.full_name
        )
        raise NotFoundError(
            "version-not-found", f"{name.full_name} has no version v{number}; {have}.", dataset=name.full_name
        )
    return named_now(state, version)


def _have(numbers: list[int]) -> str:
    if not numbers:
        return ""
    first, last = min(numbers), max(numbers)
    return f"it has only v{last}" if first == last else f"it has v{first} to v{last}"


def choose_version(state: State, name: Name, selector: Latest | Version | Named) -> DatasetVersion:
    """Return the published version that a selector means; `latest` and data tags pass over withdrawn ones if they can.

    Raises:
        NotFoundError: version-not-found, tag-not-found.
        StateError: every version with that data tag was expired (version-expired).
    """
    if isinstance(selector, Version):
        return find_version(state, name, selector.number)
    if isinstance(selector, Latest):
        newest = find_version(state, name, name.last_version or 1)
        return _readable(versions_of(state, name.series)) or newest if newest.withdrawn else newest
    tag = state.get(Tag, f"{name.series}/{selector.name.casefold()}")
    if tag is not None:
        return find_version(state, name, tag.number)
    published = list(versions_of(state, name.series))
    carrying = [v for v in published if v.data_tag.casefold() == selector.name.casefold() and v.expired_at is None]
    if carrying:
        return _readable(carrying) or max(carrying, key=lambda v: v.number)
    gone = [v for v in published if v.data_tag.casefold() == selector.name.casefold()]
    if gone:
        raise StateError(
            "version-expired",
            f"Every version of {name.full_name} with the data tag {gone[-1].data_tag} was expired, the last of them v{gone[-1].number}. "
            f"Other versions: lakehouse log {name.full_name}",
            dataset=name.full_name,
            version=gone[-1].number,
        )
    kept = dict.fromkeys(v.data_tag for v in published if v.expired_at is None)
    known = [*tags_of(state, name.series), *kept, "head", "latest"]
    raise NotFoundError(
        "tag-not-found",
        f"{name.full_name} has no tag and no data tag {selector.name!r}.{suggest(selector.name, known)} Known: {', '.join(known)}.",
        dataset=name.full_name,
        tag=selector.name,
    )


def _readable(versions: Iterable[DatasetVersion]) -> DatasetVersion | None:
    """Return the newest of some versions that was neither expired nor withdrawn."""
    found = [v for v in versions if v.expired_at is None and not v.withdrawn]
    return max(found, key=lambda v: v.number, default=None)


def find_milestone(state: State, full_name: str) -> Milestone:
    """Return a milestone's definition.

    Raises:
        NotFoundError: it was never defined (milestone-not-found), with close matches.
    """
    milestone = state.get(Milestone, full_name.casefold())
    if milestone is None:
        known = [m.full_name for m in state.all(Milestone)]
        near = suggest(full_name.removeprefix("main."), [*known, *(k.removeprefix("main.") for k in known)])
        raise NotFoundError(
            "milestone-not-found",
            f"There is no milestone {full_name!r}.{near} List them with: lakehouse milestone list",
            milestone=full_name,
        )
    return milestone


def find_milestone_version(state: State, ref: MilestoneRef) -> MilestoneVersion:
    """Return the milestone version that a milestone reference chooses.

    Raises:
        NotFoundError: milestone-not-found, or no such version or data tag (milestone-version-not-found).
        StateError: it was archived, so its tables are no longer pinned (milestone-archived); `latest` and a data tag
            pass over archived versions as long as another one is left.
    """
    milestone = find_milestone(state, f"{ref.namespace}.{ref.name}")
    versions = list(state.find(_MILESTONE_VERSIONS, milestone.key))
    match ref.selector:
        case Version(number):
            found = [v for v in versions if v.number == number]
        case Latest():
            found = versions
        case Named(tag):
            found = [v for v in versions if (v.data_tag or "").casefold() == tag.casefold()]
    if not found:
        have = (
            _have([v.number for v in versions])
            if versions
            else f"none was published yet. What it waits for: lakehouse milestone status {milestone.full_name}"
        )
        raise NotFoundError(
            "milestone-version-not-found",
            f"Milestone {milestone.full_name} has no version {ref.selector}; {have}.",
            milestone=milestone.full_name,
        )
    pinned = [v for v in found if v.status != "Archived"]
    if not pinned:
        raise StateError(
            "milestone-archived",
            f"{milestone.full_name}/v{max(v.number for v in found)} was archived; its states are no longer pinned. "
            'List all versions with: lakehouse sql "from milestones"',
            milestone=milestone.full_name,
        )
    return max(pinned, key=lambda v: v.number)


def find_snapshot(state: State, name: str) -> NamedSnapshot:
    """Return a named snapshot that has not expired.

    Raises:
        NotFoundError: no such snapshot (snapshot-not-found).
        StateError: its time is over, so its tables are no longer pinned (snapshot-expired).
    """
    found = state.get(NamedSnapshot, name.casefold())
    if found is None:
        near = suggest(name, [s.name for s in state.all(NamedSnapshot)])
        raise NotFoundError(
            "snapshot-not-found",
            f"There is no snapshot {name!r}.{near} List them with: lakehouse snapshot list",
            snapshot=name,
        )
    if found.expires_at is not None and found.expires_at <= datetime.now(UTC):
        raise StateError(
            "snapshot-expired",
            f"Snapshot {found.name} expired at {found.expires_at:%Y-%m-%d %H:%M} UTC.",
            snapshot=found.name,
        )
    return found


def _renamed(ref: Reference, full_name: str) -> Reference:
    """Return a reference by the name that its dataset has now; one that names it already stays as it was written."""
    if full_name.casefold() == ref.key:
        return ref
    namespace, _, dataset = full_name.partition(".")
    return Reference(namespace, dataset, ref.selector)


def _member(state: State, ref: Reference, selector: InMilestone | InSnapshot) -> Member:
    """Return the member that was pinned under a name, or else whose dataset has it now or had it."""
    if isinstance(selector, InMilestone):
        members, where = find_milestone_version(state, selector.ref).members, f"milestone {selector.ref}"
    else:
        members, where = find_snapshot(state, selector.name).members, f"snapshot {selector.name}"
    for member in members:
        if member.full_name.casefold() == ref.key:
            return member
    now = find_name(state, ref.name).key
    for member in members:
        dataset = state.get(Dataset, member.dataset_id)
        if dataset is not None and dataset.full_name.casefold() == now:
            return member
    names = [m.full_name for m in members]
    raise NotFoundError(
        "not-a-member",
        f"{ref.name} is no member of {where}.{suggest(ref.name, names)} Members: {', '.join(names[:20])}.",
        dataset=ref.name,
    )


def _pinned(state: State, ref: Reference, member: Member) -> Resolved:
    dataset = state.get(Dataset, member.dataset_id)
    assert dataset is not None, "the ledger never forgets a dataset that something pins"
    return Resolved(_renamed(ref, dataset.full_name), dataset, member.table_version, pinned_version(state, member))


def pinned_version(state: State, member: Member) -> DatasetVersion | None:
    """Return the published version that a member stands for, as it is now; else the newest of its state, if any."""
    for version in state.find(_STATES, (member.dataset_id, member.table_version)):
        if version.number == member.version:
            return named_now(state, version)
    return published_at(state, member.dataset_id, member.table_version)


def refuse_expired(state: State, version: DatasetVersion) -> None:
    """Refuse a published version that was given up; every decision that names a version calls this in its rule.

    Raises:
        StateError: it was expired (version-expired).
    """
    current = state.get(DatasetVersion, version.key) or version
    if current.expired_at is not None:
        raise StateError(
            "version-expired",
            f"{version.full_name}@v{current.number} was expired on {current.expired_at:%Y-%m-%d %H:%M} UTC and is no longer "
            f"kept. Newer versions: lakehouse log {version.full_name}",
            dataset=version.full_name,
            version=current.number,
        )


def _published(state: State, ref: Reference, version: DatasetVersion) -> Resolved:
    refuse_expired(state, version)
    refuse_withdrawn(state, version)
    dataset = state.get(Dataset, version.dataset_id)
    assert dataset is not None, "the ledger never forgets a dataset that has versions"
    return Resolved(ref, dataset, version.table_version, version)


def _version_at(storage: Storage, dataset: Dataset, time: datetime) -> int:
    log = Table(storage, dataset, "").log()
    for entry in log:
        if entry.created_at <= time:
            return entry.table_version
    if not log or log[-1].table_version:
        raise NotFoundError(
            "version-folded",
            f"The log of {dataset.full_name} no longer says which version it had at {time:%Y-%m-%d %H:%M:%S} UTC: its "
            f"oldest entries were cleaned away. Name a version instead, see: lakehouse log {dataset.full_name}",
            dataset=dataset.full_name,
        )
    first = log[-1].created_at
    raise NotFoundError(
        "before-first-commit",
        f"{dataset.full_name} did not exist at {time:%Y-%m-%d %H:%M:%S} UTC: its first commit came at {first:%Y-%m-%d %H:%M:%S} UTC.",
        dataset=dataset.full_name,
    )
