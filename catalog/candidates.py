"""Which published versions the next version of a milestone is made of, and what is missing: from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from catalog.check_runs import definitions_of
from lakehouse.decisions import (
    DATA_TAGS,
    CheckDefinition,
    Dataset,
    DatasetVersion,
    Member,
    Milestone,
    MilestoneVersion,
    Name,
)
from lakehouse.ledger import State
from lakehouse.resolution import known_name, versions_of
from lakehouse.state import Index

_PUBLISHED = Index(MilestoneVersion, lambda m: (m.full_name.casefold(),))


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is missing."""

    kind: str
    dataset: str
    """Full name of the member that has to change."""
    detail: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What the next version of a milestone would pin."""

    milestone: Milestone
    previous: MilestoneVersion | None
    """The version that was published last, if there is one."""
    pinned: tuple[Member, ...]
    """Its members, under the names that their datasets have now."""
    chosen: tuple[DatasetVersion | None, ...]
    """One for each member, in the milestone's order; None when the member has none that counts."""
    lacks: tuple[Lack, ...]
    checks: tuple[str, ...] = ()
    """What the checks mean that its members have to pass, so that a choice before and after a new one differ."""

    @property
    def members(self) -> tuple[Member, ...]:
        """The chosen versions as members of a milestone version."""
        return tuple(_member(v) for v in self.chosen if v is not None)

    @property
    def data_tag(self) -> str | None:
        """The data tag that the chosen versions share; None when they differ, or none was chosen."""
        tags = {v.data_tag for v in self.chosen if v is not None}
        return next(iter(tags)) if len(tags) == 1 else None

    @property
    def unchanged(self) -> bool:
        """Whether it is what was published last."""
        return self.previous is not None and not self.lacks and set(self.pinned) == set(self.members)


def choose(state: State, milestone: Milestone) -> Choice:
    """Choose the versions of a milestone's next version.

    Of each member the newest version with a data tag that counts; of a milestone that waits for `all`, versions of one
    batch or those that are new. All must have the same data tag.
    """
    previous = max(state.find(_PUBLISHED, milestone.key), key=lambda v: v.number, default=None)
    last = tuple(_named_now(state, member) for member in previous.members) if previous else ()
    names = [known_name(state, member) for member in milestone.members]
    counting = [list(_counting(state, milestone, name)) for name in names]
    newest = [versions[0] if versions else None for versions in counting]
    absent = [
        lack
        for member, name, version in zip(milestone.members, names, newest, strict=True)
        if (lack := _absent(state, milestone, member, name, version))
    ]
    if absent:
        return Choice(milestone, previous, last, tuple(newest), tuple(absent))
    found = [version for version in newest if version is not None]
    lacks: list[Lack] = []
    if milestone.advance == "all":
        found, lacks = _cycle(counting, last)
    checks = [d for v in found for d in required_checks(state, milestone, v)]
    lacks += [*_differing(milestone, found), *_unchecked(milestone, checks)]
    return Choice(milestone, previous, last, tuple(found), tuple(lacks), tuple(sorted(d.digest for d in checks)))


def required_checks(state: State, milestone: Milestone, version: DatasetVersion) -> list[CheckDefinition]:
    """Return the checks that a version has to pass: errors, and warnings that the milestone names."""
    dataset = state.get(Dataset, version.dataset_id)
    strict = {name.casefold() for name in milestone.checks}
    found = definitions_of(state, dataset) if dataset is not None else []
    return [d for d in found if d.severity == "error" or d.name.casefold() in strict]


def _counting(state: State, milestone: Milestone, name: Name | None) -> Iterator[DatasetVersion]:
    """Iterate over the versions of a member that count, newest first."""
    tags = {tag.casefold() for tag in milestone.data_tags}
    versions = versions_of(state, name.series) if name is not None else ()
    for version in sorted(versions, key=lambda v: v.number, reverse=True):
        if version.expired_at is None and not version.withdrawn and (not tags or version.data_tag.casefold() in tags):
            yield version


def _absent(
    state: State, milestone: Milestone, member: str, name: Name | None, newest: DatasetVersion | None
) -> Lack | None:
    if name is None or name.dataset_id is None:
        return Lack("deleted", member, f"{member} was deleted: lakehouse dataset undrop {member}")
    if newest is not None:
        return None
    if not milestone.data_tags:
        return Lack("no-version", member, f"{member} has no version: lakehouse publish {member}")
    wanted, tag = " or ".join(milestone.data_tags), milestone.data_tags[-1]
    other = next(_counting(state, replace(milestone, data_tags=()), name), None)
    if other is None:
        how = f": lakehouse publish {member} --data-tag {tag}"
    else:
        how = f", v{other.number} is {other.data_tag}: lakehouse promote {member}@v{other.number} {tag}"
    return Lack("no-version", member, f"{member} has no version with the data tag {wanted}{how}")


def _cycle(
    counting: Sequence[Sequence[DatasetVersion]], last: Sequence[Member]
) -> tuple[list[DatasetVersion], list[Lack]]:
    """Choose for a milestone in which cycles must not be mixed.

    Args:
        last: What was published last; nothing: no version was.
    """
    pinned = {m.full_name.casefold(): m for m in last}
    newest = [versions[0] for versions in counting]
    fresh = [v for v in newest if _is_new(v, pinned)]
    if last and not fresh:
        return newest, []
    if len(pinned) == len(newest) and any(v.correction for v in fresh):
        return [v if v.correction and v in fresh else _pinned(versions, pinned) for versions, v in _with(counting)], []
    batches = set.intersection(*({v.batch for v in versions if v.batch} for versions in counting))
    whole = [[next(v for v in versions if v.batch == batch) for versions in counting] for batch in batches]
    for found in sorted(whole, key=lambda found: max(v.created_at for v in found), reverse=True):
        if any(_is_new(v, pinned) for v in found) and not any(_is_older(v, pinned) for v in found):
            return found, []
    latest = max((v for v in newest if v.batch), key=lambda v: v.created_at, default=None)
    lacks = []
    for v in newest:
        if v not in fresh:
            lacks.append(Lack("not-new", v.full_name, f"{v.full_name} has no new version since v{v.number}"))
        elif latest is not None and v.batch not in (None, latest.batch):
            other = f"{latest.full_name}@v{latest.number} of {latest.batch}"
            lacks.append(
                Lack("batches-differ", v.full_name, f"{v.full_name}@v{v.number} is of batch {v.batch}, {other}")
            )
    return newest, lacks


def _with(counting: Sequence[Sequence[DatasetVersion]]) -> Iterator[tuple[Sequence[DatasetVersion], DatasetVersion]]:
    return ((versions, versions[0]) for versions in counting)


def _is_new(version: DatasetVersion, pinned: dict[str, Member]) -> bool:
    """Whether it is not what was pinned last; an older version that was promoted since is new too."""
    return pinned.get(version.full_name.casefold()) != _member(version)


def _is_older(version: DatasetVersion, pinned: dict[str, Member]) -> bool:
    member = pinned.get(version.full_name.casefold())
    return member is not None and version.number < (member.version or 0)


def _pinned(versions: Sequence[DatasetVersion], pinned: dict[str, Member]) -> DatasetVersion:
    """Return the version of a member that was pinned last, or the newest when that does not count any more."""
    member = pinned.get(versions[0].full_name.casefold())
    return next((v for v in versions if member is not None and v.number == member.version), versions[0])


def _differing(milestone: Milestone, found: Sequence[DatasetVersion]) -> list[Lack]:
    """Return the members whose data tag is weaker than the strongest one."""
    order = [tag.casefold() for tag in milestone.data_tags] or [tag.key for tag in DATA_TAGS]

    def strength(version: DatasetVersion) -> int:
        tag = version.data_tag.casefold()
        return order.index(tag) if tag in order else -1

    strongest = max(found, key=strength)
    return [
        Lack(
            "tags-differ",
            v.full_name,
            f"{v.full_name}@v{v.number} is {v.data_tag}, {strongest.full_name}@v{strongest.number} is "
            f"{strongest.data_tag}: lakehouse promote {v.full_name}@v{v.number} {strongest.data_tag}",
        )
        for v in found
        if v.data_tag.casefold() != strongest.data_tag.casefold()
    ]


def _unchecked(milestone: Milestone, checks: Sequence[CheckDefinition]) -> list[Lack]:
    """Return the checks that the milestone names and no member has: nothing passes what is not there."""
    known = {d.name.casefold() for d in checks}
    how = (
        f"lakehouse check add, or drop all with: lakehouse milestone define {milestone.full_name} DATASET... --check ''"
    )
    return [
        Lack("no-check", "", f"no member has a check {name!r}: {how}")
        for name in milestone.checks
        if name.casefold() not in known
    ]


def _named_now(state: State, member: Member) -> Member:
    dataset = state.get(Dataset, member.dataset_id)
    return member if dataset is None else replace(member, full_name=dataset.full_name)


def _member(version: DatasetVersion) -> Member:
    return Member(
        dataset_id=version.dataset_id,
        full_name=version.full_name,
        table_version=version.table_version,
        version=version.number,
        data_tag=version.data_tag,
    )


__all__ = ["Choice", "Lack", "choose", "required_checks"]
