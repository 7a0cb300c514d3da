"""Milestones: named groups of datasets that are published together, and their versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from catalog.aggregation import Standing, standing
from catalog.aggregation import advance as _advance
from catalog.candidates import choose
from catalog.check_runs import definitions_of
from catalog.linkage import Orphaned, orphans_of, unverified
from lakehouse.decisions import Dataset, DatasetVersion, DataTag, Decision, Link, Milestone, MilestoneVersion
from lakehouse.errors import InvalidInputError, NotFoundError, StateError, suggest
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.pins import refuse_condemned
from lakehouse.references import (
    MilestoneRef,
    Version,
    check_milestone_name,
    check_namespace,
    check_tag,
    parse_milestone_ref,
    parse_name,
)
from lakehouse.resolution import find_dataset, find_milestone, find_milestone_version, known_name, pinned_version

Advance = Literal["any", "all"]
Policy = Literal["automatic", "manual"]


@dataclass(frozen=True, slots=True)
class MilestoneInfo:
    """A published milestone version as consumers see it."""

    version: MilestoneVersion
    attribute: str | None
    """What the members' data tag means: `IS_FINAL`; None for a data tag that no mapping knows."""
    color: str | None
    notices: tuple[DatasetVersion, ...]
    """Members' versions that were deprecated or withdrawn since."""
    new: bool = False
    """Whether this very call published it."""


def define_milestone(
    lake: Lake,
    name: str,
    members: Sequence[str],
    *,
    data_tags: Sequence[str] | None = None,
    links: Iterable[str | Link] | None = None,
    checks: Sequence[str] | None = None,
    advance: Advance | None = None,
    policy: Policy | None = None,
    description: str | None = None,
    message: str | None = None,
) -> Milestone:
    """Define a milestone, or change what an existing one is made of from its next version on.

    What is not given stays as it is. Its members may have published versions already: then it moves on at once.

    Args:
        name: `[namespace.]name`.
        members: Datasets, each once.
        data_tags: Versions count that have one of these, the strongest last; () means every version (the default).
        links: Foreign keys between members: `orders.customer_id -> customers.id`,
            `items.(order_id, shop) -> orders.(id, shop)`.
        checks: Names of members' checks that must pass although they are warnings; errors must pass anyway.
        advance: `any` (the default): one new member gives the next version, with the others as they are. `all`: it
            waits until every member is new, and mixes no versions of different batches.
        policy: `automatic` (the default): a version that is ready is published at once. `manual`: by hand.
        description: What it is for.
    Raises:
        InvalidInputError: a name that does not parse or chooses a version (reference-invalid) or is kept
            (name-reserved), no member or one given twice (member-repeated), a link that does not parse or is not between
            members (link-invalid), tag-invalid, tag-reserved.
        NotFoundError: a member does not exist, or no member has a check of that name (check-not-found).
    """
    ref = _without_version(name)
    full_name = f"{check_namespace(ref.namespace)}.{check_milestone_name(ref.name)}"
    names = [".".join(parse_name(m)) for m in members]
    if not names or len({n.casefold() for n in names}) != len(names):
        raise InvalidInputError("member-repeated", f"Milestone {full_name} needs at least one member, each only once.")
    for tag in data_tags or ():
        check_tag(tag)
    given = None if links is None else [link if isinstance(link, Link) else parse_link(link) for link in links]

    def rule(state: State) -> tuple[Milestone, list[Decision]]:
        known = state.get(Milestone, full_name.casefold())
        base = known or Milestone(full_name=full_name, members=(), created_at=datetime.now(UTC))
        owners = [find_dataset(state, n) for n in names]
        found = tuple(owner.full_name for owner in owners)
        value = replace(
            base,
            members=found,
            data_tags=base.data_tags if data_tags is None else tuple(data_tags),
            links=_between(
                full_name, base.links if given is None else [_named_now(state, link) for link in given], found
            ),
            checks=base.checks if checks is None else tuple(checks),
            advance=advance or base.advance,
            policy=policy or base.policy,
            description=base.description if description is None else description,
        )
        _refuse_unchecked(state, value, owners)
        return value, [] if value == known else [Decision.put("milestone.define", value)]

    made = lake.ledger.decide(rule, message=message).result
    return _advance(lake, made.full_name).milestone


def join_milestone(lake: Lake, name: str, dataset: str) -> Standing:
    """Make a dataset a member of a milestone, from its next version on; one that is a member stays one.

    Raises:
        NotFoundError: milestone-not-found, dataset-not-found.
    """
    ref, full = _without_version(name), ".".join(parse_name(dataset))

    def rule(state: State) -> tuple[str, list[Decision]]:
        found = find_dataset(state, full).full_name
        return found, joining(state, f"{ref.namespace}.{ref.name}", found)

    lake.ledger.decide(rule)
    return _advance(lake, f"{ref.namespace}.{ref.name}")


def joining(state: State, reference: str, full_name: str) -> list[Decision]:
    """Return the decision that makes a dataset a member of a milestone; none when it is one.

    Args:
        reference: `spring`, or `spring/v2` if that must be its next version.
    Raises:
        InvalidInputError: what it names after the `/` is no number (reference-invalid).
        NotFoundError: milestone-not-found.
        StateError: its next version has another number (version-mismatch).
    """
    ref = parse_milestone_ref(reference)
    milestone = find_milestone(state, f"{ref.namespace}.{ref.name}")
    awaited = milestone.last_version + 1
    if "/" in reference and not isinstance(ref.selector, Version):
        raise InvalidInputError(
            "reference-invalid",
            f"{reference!r} names no number of a version. The next one is {milestone.full_name}/v{awaited}; or leave it out.",
        )
    if "/" in reference and ref.selector != Version(awaited):
        raise StateError(
            "version-mismatch",
            f"The next version of milestone {milestone.full_name} is v{awaited}, not {ref.selector}: nothing was "
            f"published. See: lakehouse milestone status {milestone.full_name}",
            milestone=milestone.full_name,
        )
    if full_name.casefold() in (m.casefold() for m in milestone.members):
        return []
    return [Decision.put("milestone.join", replace(milestone, members=(*milestone.members, full_name)))]


def leave_milestone(lake: Lake, name: str, dataset: str) -> Standing:
    """Take a dataset out of a milestone, from its next version on; published versions keep it.

    Raises:
        NotFoundError: milestone-not-found.
        InvalidInputError: it is no member (not-a-member), the only one (member-repeated), or linked (link-invalid).
    """
    full = ".".join(parse_name(dataset))

    def leave(milestone: Milestone, state: State) -> Milestone:
        known = known_name(state, full)
        leaving = known.key if known else full.casefold()
        left = tuple(m for m in milestone.members if m.casefold() != leaving)
        if len(left) == len(milestone.members):
            raise InvalidInputError("not-a-member", f"{dataset} is no member of {milestone.full_name}.")
        if not left:
            raise InvalidInputError("member-repeated", f"{dataset} is the only member of {milestone.full_name}.")
        return replace(milestone, members=left, links=_between(milestone.full_name, milestone.links, left))

    return _advance(lake, _change(lake, name, "milestone.leave", leave).full_name)


def publish_milestone(
    lake: Lake, name: str, *, accept_schema: bool = False, message: str | None = None, run: str | None = None
) -> MilestoneInfo:
    """Publish what a milestone's members have published as its next version, in one commit.

    No data is written: the new version pins what its members published. When nothing is new since the last version,
    that one is returned, as not new, and the message is not kept.

    Args:
        accept_schema: Also when a member lost columns, or changed types, since the last version.
    Raises:
        InvalidInputError: the name does not parse or chooses a version (reference-invalid).
        NotFoundError: milestone-not-found.
        StateError: something is missing (milestone-not-ready): a member's version, equal data tags, a link that holds.
    """
    ref = _without_version(name)
    full_name = f"{ref.namespace}.{ref.name}"
    lake.check("milestone.publish", f"{find_milestone(lake.state(), full_name).full_name.partition('.')[0]}.*")
    found = _advance(lake, full_name, by_hand=True, accept_schema=accept_schema, message=message, run=run)
    if not found.made and (found.pending is not None or found.published is None):
        waiting = found.pending.waiting if found.pending else ()
        raise StateError(
            "milestone-not-ready",
            f"Milestone {found.milestone.full_name} can't be published. " + ". ".join(w.detail for w in waiting[:10]),
            milestone=found.milestone.full_name,
            waiting=list(dict.fromkeys(w.dataset for w in waiting)),
        )
    assert found.published is not None, "it was published now or before"
    return replace(_info(lake.state(), found.published), new=found.made)


def show_milestone(lake: Lake, reference: str) -> MilestoneInfo:
    """Return a published version of a milestone: `spring`, `spring/v2`, `spring/FINAL`.

    Raises:
        NotFoundError: milestone-not-found, milestone-version-not-found.
        StateError: milestone-archived.
    """
    state = lake.state()
    return _info(state, find_milestone_version(state, parse_milestone_ref(reference)))


def milestone_status(lake: Lake, name: str) -> Standing:
    """Return where a milestone stands: its newest version, and what the next one waits for and since when.

    Raises:
        InvalidInputError: the name does not parse or chooses a version (reference-invalid).
        NotFoundError: milestone-not-found.
    """
    ref = _without_version(name)
    return standing(lake, f"{ref.namespace}.{ref.name}")


def milestone_orphans(lake: Lake, name: str) -> list[Orphaned]:
    """Return samples of the rows that keep the links of a milestone's next version from holding.

    Raises:
        InvalidInputError: the name does not parse or chooses a version (reference-invalid).
        NotFoundError: milestone-not-found.
    """
    ref, state = _without_version(name), lake.state()
    return orphans_of(lake, choose(state, find_milestone(state, f"{ref.namespace}.{ref.name}")))


def unverified_links(lake: Lake, name: str) -> list[Link]:
    """Return the links of a milestone's next version that were not counted yet; errors as `milestone_orphans`."""
    ref, state = _without_version(name), lake.state()
    return unverified(lake, choose(state, find_milestone(state, f"{ref.namespace}.{ref.name}")))


def list_milestones(lake: Lake) -> list[Milestone]:
    """Return all milestones by name."""
    return sorted(lake.state().all(Milestone), key=lambda m: m.full_name.casefold())


def archive_milestone(lake: Lake, reference: str, *, message: str | None = None) -> MilestoneVersion:
    """Archive a published milestone version: it can't be read any more, and pins nothing, until it is unarchived.

    Raises:
        InvalidInputError: no version is named (reference-invalid).
        NotFoundError: milestone-not-found, milestone-version-not-found.
        StateError: the milestone is protected (milestone-protected).
    """

    def archive(state: State, version: MilestoneVersion) -> MilestoneVersion:
        if find_milestone(state, version.full_name).protected:
            raise StateError(
                "milestone-protected",
                f"{version.full_name} is protected: its versions can't be archived. "
                f"Lift that first: lakehouse milestone protect {version.full_name} --off",
            )
        return replace(version, status="Archived")

    return _restate(lake, reference, "milestone.archive", archive, message)


def unarchive_milestone(lake: Lake, reference: str, *, message: str | None = None) -> MilestoneVersion:
    """Bring back an archived milestone version, as long as no clean-up has given up one of its states.

    Raises:
        InvalidInputError: no version is named (reference-invalid).
        NotFoundError: milestone-not-found, milestone-version-not-found; a state of it was cleaned up (version-folded).
    """

    def unarchive(state: State, version: MilestoneVersion) -> MilestoneVersion:
        for member in version.members:
            refuse_condemned(state, member.dataset_id, member.full_name, member.table_version)
        return replace(version, status="Published")

    return _restate(lake, reference, "milestone.unarchive", unarchive, message)


def protect_milestone(lake: Lake, name: str, protected: bool = True) -> Milestone:
    """Protect the versions of a milestone from being archived, or lift that.

    Raises:
        NotFoundError: milestone-not-found.
    """
    return _change(lake, name, "milestone.protect", lambda milestone, _: replace(milestone, protected=protected))


def parse_link(text: str) -> Link:
    """Read a link: `orders.customer_id -> customers.id`, `items.(order_id, shop) -> orders.(id, shop)`.

    Raises:
        InvalidInputError: it does not parse (link-invalid).
    """
    sides = [_link_side(side.strip()) for side in text.split("->")]
    if len(sides) != 2 or None in sides:
        raise InvalidInputError(
            "link-invalid",
            f"{text!r} is no link. Write orders.customer_id -> customers.id, or several columns in brackets: "
            "items.(order_id, shop) -> orders.(id, shop)",
        )
    child, parent = (side for side in sides if side is not None)
    if len(child[1]) != len(parent[1]):
        raise InvalidInputError("link-invalid", f"{text!r} links {len(child[1])} columns with {len(parent[1])}.")
    return Link(child=child[0], child_columns=child[1], parent=parent[0], parent_columns=parent[1])


def _link_side(text: str) -> tuple[str, tuple[str, ...]] | None:
    dataset, _, columns = text.rpartition(".(") if text.endswith(")") else text.rpartition(".")
    names = tuple(c.strip() for c in columns.removesuffix(")").split(","))
    return (".".join(parse_name(dataset)), names) if dataset and all(names) else None


def _named_now(state: State, link: Link) -> Link:
    """Return a link between the names that its datasets have now."""
    child, parent = (known_name(state, end) for end in (link.child, link.parent))
    return replace(
        link, child=child.full_name if child else link.child, parent=parent.full_name if parent else link.parent
    )


def _between(milestone: str, links: Iterable[Link], members: Sequence[str]) -> tuple[Link, ...]:
    """Return the links of a milestone with their datasets as the members are spelt."""
    spelt = {m.casefold(): m for m in members}
    found = []
    for link in links:
        ends = [spelt.get(end.casefold()) for end in (link.child, link.parent)]
        if ends[0] is None or ends[1] is None:
            strange = link.child if ends[0] is None else link.parent
            raise InvalidInputError(
                "link-invalid",
                f"The link {link} needs {strange}, which is no member. Name it too, or the links that stay, none as here: "
                f"lakehouse milestone define {milestone} {' '.join(members)} --link ''",
            )
        found.append(replace(link, child=ends[0], parent=ends[1]))
    return tuple(found)


def _refuse_unchecked(state: State, milestone: Milestone, members: Sequence[Dataset]) -> None:
    """Refuse names of checks that no member has: nothing would be enforced."""
    known = [d.name for member in members for d in definitions_of(state, member)]
    for name in milestone.checks:
        if name.casefold() not in (k.casefold() for k in known):
            full_names = " ".join(milestone.members)
            raise NotFoundError(
                "check-not-found",
                f"No member of {milestone.full_name} has a check {name!r}.{suggest(name, known)} List a member's with: "
                f"lakehouse check list {milestone.members[0]}. Drop the milestone's with: lakehouse milestone define "
                f"{milestone.full_name} {full_names} --check ''",
                milestone=milestone.full_name,
                check=name,
            )


def _change(lake: Lake, name: str, action: str, change: Callable[[Milestone, State], Milestone]) -> Milestone:
    ref = _without_version(name)

    def rule(state: State) -> tuple[Milestone, list[Decision]]:
        known = find_milestone(state, f"{ref.namespace}.{ref.name}")
        value = change(known, state)
        return value, [] if value == known else [Decision.put(action, value)]

    return lake.ledger.decide(rule).result


def _restate(
    lake: Lake,
    reference: str,
    action: str,
    change: Callable[[State, MilestoneVersion], MilestoneVersion],
    message: str | None,
) -> MilestoneVersion:
    ref = parse_milestone_ref(reference)
    if not isinstance(ref.selector, Version):
        raise InvalidInputError(
            "reference-invalid",
            f"{reference!r} names no version by its number, such as {ref.namespace}.{ref.name}/v2.",
        )

    def rule(state: State) -> tuple[MilestoneVersion, list[Decision]]:
        milestone = find_milestone(state, f"{ref.namespace}.{ref.name}")
        found = state.get(MilestoneVersion, f"{milestone.key}/{ref.selector}")
        version = find_milestone_version(state, ref) if found is None else found
        value = change(state, version)
        return value, [] if value == version else [Decision.put(action, value)]

    return lake.ledger.decide(rule, message=message).result


def _without_version(name: str) -> MilestoneRef:
    ref = parse_milestone_ref(name)
    if "/" in name:
        raise InvalidInputError(
            "reference-invalid",
            f"{name!r} chooses a version of a milestone, but the milestone itself is meant here: "
            f"{ref.namespace}.{ref.name}. Its next version gets the next number.",
        )
    return ref


def _info(state: State, version: MilestoneVersion) -> MilestoneInfo:
    tag = state.get(DataTag, (version.data_tag or "").casefold())
    found = (pinned_version(state, member) for member in version.members)
    notices = tuple(v for v in found if v is not None and v.notice)
    return MilestoneInfo(version, tag.attribute if tag else None, tag.color if tag else None, notices)


__all__ = [
    "MilestoneInfo",
    "archive_milestone",
    "define_milestone",
    "join_milestone",
    "joining",
    "leave_milestone",
    "list_milestones",
    "milestone_orphans",
    "milestone_status",
    "parse_link",
    "protect_milestone",
    "publish_milestone",
    "show_milestone",
    "unarchive_milestone",
    "unverified_links",
]
