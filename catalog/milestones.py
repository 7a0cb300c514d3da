"""Milestones: a named group of datasets that are published together, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lakehouse.decisions import DatasetVersion, DataTag, Decision, Member, Milestone, MilestoneVersion, Name
from lakehouse.errors import InvalidInputError, StateError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import MilestoneRef, check_milestone_name, check_namespace, parse_milestone_ref, parse_name
from lakehouse.resolution import (
    find_dataset,
    find_milestone,
    find_milestone_version,
    find_name,
    find_version,
    refuse_expired,
)


@dataclass(frozen=True, slots=True)
class MilestoneInfo:
    """A published milestone version as consumers see it."""

    version: MilestoneVersion
    attribute: str | None
    """What the members' shared data tag means: `IS_FINAL`; None when they differ."""
    color: str | None


def define_milestone(
    lake: Lake, name: str, members: Sequence[str], *, description: str = "", message: str | None = None
) -> Milestone:
    """Define a milestone, or give an existing one other members for its next versions.

    Args:
        name: `[namespace.]name`.
        members: Datasets, each once.
    Raises:
        InvalidInputError: a name that does not parse or chooses a version (reference-invalid) or is kept
            (name-reserved), no member or one given twice (member-repeated).
        NotFoundError: a member does not exist.
    """
    ref = _without_version(name)
    full_name = f"{check_namespace(ref.namespace)}.{check_milestone_name(ref.name)}"
    names = [".".join(parse_name(m)) for m in members]
    if not names or len({n.casefold() for n in names}) != len(names):
        raise InvalidInputError("member-repeated", f"Milestone {full_name} needs at least one member, each only once.")

    def rule(state: State) -> tuple[Milestone, list[Decision]]:
        known = state.get(Milestone, full_name.casefold())
        value = Milestone(
            full_name=known.full_name if known else full_name,
            members=tuple(find_dataset(state, n).full_name for n in names),
            description=description or (known.description if known else ""),
            last_version=known.last_version if known else 0,
            created_at=known.created_at if known else datetime.now(UTC),
        )
        return value, [Decision.put("milestone.define", value)]

    return lake.ledger.decide(rule, message=message).result


def publish_milestone(lake: Lake, name: str, *, message: str | None = None, run: str | None = None) -> MilestoneInfo:
    """Publish the newest published version of every member as the milestone's next version, in one commit.

    No data is written: the new version pins what its members published.

    Raises:
        InvalidInputError: the name does not parse or chooses a version (reference-invalid).
        NotFoundError: milestone-not-found.
        StateError: a member was deleted or has no published version yet (milestone-not-ready).
    """
    ref = _without_version(name)

    def rule(state: State) -> tuple[MilestoneInfo, list[Decision]]:
        milestone = find_milestone(state, f"{ref.namespace}.{ref.name}")
        names = [find_name(state, dataset) for dataset in milestone.members]
        waiting = [name for name in names if _lack(name)]
        if waiting:
            raise StateError(
                "milestone-not-ready",
                f"Milestone {milestone.full_name} can't be published. " + " ".join(_lack(n) for n in waiting[:10]),
                milestone=milestone.full_name,
                waiting=[n.full_name for n in waiting],
            )
        chosen = [find_version(state, n, n.last_version) for n in names]
        for newest in chosen:
            refuse_expired(state, newest)
        ready = tuple(_member(v) for v in chosen)
        tags = {m.data_tag for m in ready}
        version = MilestoneVersion(
            full_name=milestone.full_name,
            number=milestone.last_version + 1,
            data_tag=next(iter(tags)) if len(tags) == 1 else None,
            members=ready,
            published_at=datetime.now(UTC),
            published_by=lake.actor,
            message=message or "",
        )
        raised = replace(milestone, last_version=version.number)
        return _info(state, version), [
            Decision.put("milestone.publish", version),
            Decision.put("milestone.publish", raised),
        ]

    return lake.ledger.decide(rule, run=run, message=message).result


def show_milestone(lake: Lake, reference: str) -> MilestoneInfo:
    """Return a published version of a milestone: `spring`, `spring/v2`, `spring/FINAL`.

    Raises:
        NotFoundError: milestone-not-found, milestone-version-not-found.
        StateError: milestone-archived.
    """
    state = lake.state()
    return _info(state, find_milestone_version(state, parse_milestone_ref(reference)))


def list_milestones(lake: Lake) -> list[Milestone]:
    """Return all milestones by name."""
    return sorted(lake.state().all(Milestone), key=lambda m: m.full_name.casefold())


def _without_version(name: str) -> MilestoneRef:
    ref = parse_milestone_ref(name)
    if "/" in name:
        raise InvalidInputError(
            "reference-invalid",
            f"{name!r} chooses a version of a milestone, but the milestone itself is meant here: "
            f"{ref.namespace}.{ref.name}. Its next version gets the next number.",
        )
    return ref


def _lack(name: Name) -> str:
    """Return a sentence on what keeps a member from being published, or an empty string."""
    if name.dataset_id is None:
        return f"{name.full_name} was deleted: lakehouse dataset undrop {name.full_name}"
    return "" if name.last_version else f"{name.full_name} has no version: lakehouse publish {name.full_name}"


def _member(version: DatasetVersion) -> Member:
    return Member(
        dataset_id=version.dataset_id,
        full_name=version.full_name,
        table_version=version.table_version,
        version=version.number,
        data_tag=version.data_tag,
    )


def _info(state: State, version: MilestoneVersion) -> MilestoneInfo:
    tag = state.get(DataTag, version.data_tag.casefold()) if version.data_tag else None
    return MilestoneInfo(version, tag.attribute if tag else None, tag.color if tag else None)
