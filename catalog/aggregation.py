"""Aggregation: milestones move on when their members do - from pending to ready to published.

Each pipeline publishes its own dataset; whoever publishes last completes the milestone, and any later run does what a
dead one left. Choosing is a function of the ledger, verifying is stored as facts, and the decision is one commit on top
of exactly the state that was chosen from. So of many that aggregate at once one publishes, and the others see it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from catalog.candidates import Choice, Lack, choose
from catalog.linkage import VERIFIED, Linkage, failed_checks, lost_columns, verify_links
from lakehouse.decisions import Decision, Milestone, MilestoneVersion, PendingVersion, Waiting
from lakehouse.errors import LakeError, StateError
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.pins import refuse_condemned
from lakehouse.resolution import find_milestone, known_name
from lakehouse.state import Index

log = logging.getLogger(__name__)

_BY_MEMBER = Index(Milestone, lambda m: [n.casefold() for n in m.members])
_NOTHING = Linkage((), ())


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a milestone stands."""

    milestone: Milestone
    published: MilestoneVersion | None
    """The version that was published last."""
    pending: PendingVersion | None
    """The version that comes next; None when nothing new was published since the last one."""
    new: tuple[MilestoneVersion, ...] = ()
    """What this very call published, in order."""

    @property
    def made(self) -> bool:
        """Whether this very call published."""
        return bool(self.new)


def advance(
    lake: Lake,
    name: str,
    *,
    by_hand: bool = False,
    accept_schema: bool = False,
    message: str | None = None,
    run: str | None = None,
) -> Standing:
    """Bring one milestone as far as it can go: note what it waits for, make it ready, or publish it.

    Where one publication completes several versions, each is published. A publication is one commit. Nothing is written
    when nothing changed.

    Args:
        name: Full name of the milestone.
        by_hand: Publish one version also where the milestone's policy leaves that to a person.
        accept_schema: Publish it although a member lost columns, or changed types, since the last version.
        message: A person's words about it.
    Raises:
        NotFoundError: milestone-not-found.
        StorageError, AccessDeniedError: the store failed or refused.
    """
    assert not lake.ledger.rehearses, "a rehearsal publishes nothing, so it would never be done"
    found, new = _step(lake, name, by_hand, accept_schema, message, run), list[MilestoneVersion]()
    while found.made:
        new += found.new
        try:
            found = _step(lake, name, False, False, None, run)
        except LakeError as error:  # what was published has landed
            log.warning("the version after v%d was left for a later run: %s", new[-1].number, error.kind)
            break
    return replace(found, new=tuple(new))


def _step(lake: Lake, name: str, by_hand: bool, accept_schema: bool, message: str | None, run: str | None) -> Standing:
    """Bring one milestone forward by at most one version; arguments as `advance`."""
    lake = lake.unguarded()  # its policy was decided already, and whoever comes by carries it out
    while True:
        state = lake.state()
        choice = choose(state, find_milestone(state, name))
        settled = choice.unchanged and not (by_hand and _was_archived(choice))
        linkage = _NOTHING if settled else _verified(lake, choice, accept_schema)

        def rule(
            state: State, choice: Choice = choice, settled: bool = settled, linkage: Linkage = linkage
        ) -> tuple[Standing | None, list[Decision]]:
            if choose(state, find_milestone(state, name)) != choice:
                return None, []  # somebody published meanwhile: choose and verify again
            return _settle(state, choice) if settled else _decide(lake, state, choice, linkage, by_hand, message)

        standing = lake.ledger.decide(rule, run=run, message=message).result
        if standing is not None:
            return standing


def advance_with(
    lake: Lake, full_name: str, *, run: str | None = None, told: Callable[[Standing], object] | None = None
) -> None:
    """Bring the milestones of one dataset as far as they can go, after something about it was decided.

    What was decided has landed, so a failure here is only logged: the next run of any process does the same.

    Args:
        told: Is called with where each milestone stands then that the actor sees.
    """
    seen = lake.state()
    for milestone in milestones_of(lake.unguarded().state(), full_name):
        try:
            found = advance(lake, milestone.full_name, run=run)
            if told is not None and seen.get(Milestone, milestone.key) is not None:
                told(found)
        except LakeError as error:
            if seen.get(Milestone, milestone.key) is None:
                log.warning("a milestone that %s may not read was left for a later run: %s", lake.actor, error.kind)
            else:
                log.warning("milestone %s was left for a later run: %s", milestone.full_name, error.message)


def aggregate(lake: Lake, names: Sequence[str] | None = None) -> Iterator[Standing]:
    """Bring milestones as far as they can go, one after the other.

    Args:
        names: Full names; None means all of them.
    Raises:
        NotFoundError: milestone-not-found.
        StorageError, AccessDeniedError: the store failed or refused.
    """
    state = lake.state()
    for name in names if names is not None else [m.full_name for m in state.all(Milestone)]:
        yield advance(lake, find_milestone(state, name).full_name)


def standing(lake: Lake, name: str) -> Standing:
    """Return where a milestone stands, without deciding anything.

    Args:
        name: Full name.
    Raises:
        NotFoundError: milestone-not-found.
    """
    state = lake.state()
    choice = choose(state, find_milestone(state, name))
    if choice.unchanged:
        return Standing(choice.milestone, choice.previous, None)
    known = state.get(PendingVersion, choice.milestone.key)
    if known is not None and _is_current(known, choice):
        return Standing(choice.milestone, choice.previous, known)
    how = f"{choice.milestone.full_name} was not looked at since: lakehouse milestone watch --once"
    lacks = choice.lacks or (Lack("not-aggregated", "", how),)
    return Standing(choice.milestone, choice.previous, _pending(choice, lacks, known))


def milestones_of(state: State, full_name: str) -> list[Milestone]:
    """Return the milestones that a dataset is a member of."""
    name = known_name(state, full_name)  # milestones hold the name that a dataset has now
    return list(state.find(_BY_MEMBER, name.key if name else full_name.casefold()))


def _was_archived(choice: Choice) -> bool:
    """Whether the last version can't be read any more: a person may publish the same again, an aggregation does not."""
    return choice.previous is not None and choice.previous.status == "Archived"


def _verified(lake: Lake, choice: Choice, accept_schema: bool) -> Linkage:
    """Verify a choice that could be published."""
    if choice.lacks:
        return _NOTHING
    lost = () if accept_schema else lost_columns(lake, choice)
    linkage = verify_links(lake, choice)
    return replace(linkage, lacks=(*lost, *linkage.lacks, *failed_checks(lake, choice)))


def _settle(state: State, choice: Choice) -> tuple[Standing, list[Decision]]:
    """Nothing is new: what was awaited, if anything, is not any more."""
    known = state.get(PendingVersion, choice.milestone.key)
    ended = [Decision.remove("milestone.settle", known)] if known else []
    return Standing(choice.milestone, choice.previous, None), ended


def _decide(
    lake: Lake, state: State, choice: Choice, linkage: Linkage, by_hand: bool, message: str | None
) -> tuple[Standing, list[Decision]]:
    milestone = choice.milestone
    known = state.get(PendingVersion, milestone.key)
    lacks = (*choice.lacks, *linkage.lacks)
    if lacks or not (by_hand or milestone.policy == "automatic"):
        pending = _pending(choice, lacks, known)
        noted = [] if pending == known else [Decision.put(f"milestone.{pending.status.lower()}", pending)]
        return Standing(milestone, choice.previous, pending), noted
    for member in choice.members:
        refuse_condemned(state, member.dataset_id, member.full_name, member.table_version)
    if choice.data_tag is None:
        raise StateError("milestone-not-ready", f"The data tags of {milestone.full_name}'s members differ.")
    version = MilestoneVersion(
        full_name=milestone.full_name,
        number=milestone.last_version + 1,
        data_tag=choice.data_tag,
        members=choice.members,
        proofs=linkage.proofs,
        published_at=datetime.now(UTC),
        published_by=lake.actor,
        message=message or "",
    )
    raised = replace(milestone, last_version=version.number)
    decisions = [Decision.put("milestone.publish", version), Decision.put("milestone.publish", raised)]
    if known is not None:
        decisions.append(Decision.remove("milestone.publish", known))
    return Standing(raised, version, None, (version,)), decisions


def _is_current(known: PendingVersion, choice: Choice) -> bool:
    """Whether what was noted is about this choice: for each lack in it, or what verifying it found."""
    if known.number != choice.milestone.last_version + 1 or known.members != choice.members:
        return False
    noted = {(w.kind, w.dataset) for w in known.waiting}
    return noted == {(k.kind, k.dataset) for k in choice.lacks} or (
        not choice.lacks and all(kind.startswith(VERIFIED) for kind, _ in noted)
    )


def _pending(choice: Choice, lacks: Sequence[Lack], known: PendingVersion | None) -> PendingVersion:
    """Return the version that is awaited; what it waited for already keeps the time since when."""
    number, now = choice.milestone.last_version + 1, datetime.now(UTC)
    before = known if known is not None and known.number == number else None
    since = {(w.kind, w.dataset): w.since for w in before.waiting} if before else {}
    return PendingVersion(
        full_name=choice.milestone.full_name,
        number=number,
        status="Pending" if lacks else "Ready",
        data_tag=choice.data_tag,
        members=choice.members,
        waiting=tuple(
            Waiting(kind=k.kind, dataset=k.dataset, detail=k.detail, since=since.get((k.kind, k.dataset), now))
            for k in lacks
        ),
        since=before.since if before else now,
    )


__all__ = ["Standing", "advance", "advance_with", "aggregate", "milestones_of", "standing"]
