"""What changed between two versions of a milestone, and back to one of them."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.decisions import Dataset, Member, MilestoneVersion
from lakehouse.diff import Diff
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import parse_milestone_ref
from lakehouse.resolution import find_dataset, find_milestone_version
from lakehouse.restoring import restore


@dataclass(frozen=True, slots=True)
class MemberChange:
    """What became of one member between two versions of a milestone."""

    dataset: str
    """Full name."""
    old: Member | None
    """None: it came."""
    new: Member | None
    """None: it left."""
    diff: Diff | None
    """What differs between the two states; None when they are one state, or one is missing."""


def compare_milestones(lake: Lake, old: str, new: str) -> list[MemberChange]:
    """Compare two versions of a milestone, or of two, member by member.

    Members are compared lazily: rows are counted when a diff is asked for its counts.

    Args:
        old, new: `spring/v1`, `spring/v2`, `spring/FINAL`.
    Raises:
        NotFoundError: milestone-not-found, milestone-version-not-found.
        StateError: milestone-archived.
    """
    state = lake.state()
    before, after = (find_milestone_version(state, parse_milestone_ref(reference)) for reference in (old, new))
    left, right = ({_name(state, m): m for m in version.members} for version in (before, after))
    found = []
    for key in [*right, *(key for key in left if key not in right)]:
        mine, theirs = left.get(key), right.get(key)
        diff = None
        if mine and theirs and (mine.dataset_id, mine.table_version) != (theirs.dataset_id, theirs.table_version):
            selectors = (f"{v.full_name}/v{v.number}" for v in (before, after))
            diff = lake.diff(*(f"{m.full_name}@{s}" for m, s in zip((mine, theirs), selectors, strict=True)))
        name = theirs or mine
        assert name is not None
        found.append(MemberChange(name.full_name, mine, theirs, diff))
    return found


def _name(state: State, member: Member) -> str:
    """Return the name that a member's dataset has now, case folded: it may have been renamed between two versions."""
    dataset = state.get(Dataset, member.dataset_id)
    return (dataset or member).full_name.casefold()


def plan_roll_back(lake: Lake, reference: str) -> MilestoneVersion:
    """Return the version that `roll_back_milestone` would bring all members back to; errors as there."""
    version = find_milestone_version(lake.state(), parse_milestone_ref(reference))
    for member in version.members:
        lake.check("table.restore", find_dataset(lake.state(), member.full_name).full_name)
    return version


def roll_back_milestone(lake: Lake, reference: str, *, message: str | None = None) -> dict[str, int]:
    """Bring all members back to what a milestone version pins: a new commit each, nothing is lost.

    The members are restored one after the other; who is interrupted runs it again. Nothing is published.

    Args:
        reference: `spring/v1`.
    Returns:
        The table version of each member's head afterwards, by full name.
    Raises:
        NotFoundError: milestone-not-found, milestone-version-not-found, or a member was deleted (dataset-deleted).
        StateError: milestone-archived.
        AccessDeniedError: the actor may not restore one of the members; none is changed (access-denied).
    """
    version = plan_roll_back(lake, reference)  # refused before the first one changes
    said = message or f"rolled back to {version.full_name}/v{version.number}"
    return {
        member.full_name: restore(
            lake, member.full_name, f"{member.full_name}@{version.full_name}/v{version.number}", message=said
        ).table_version
        for member in version.members
    }


__all__ = ["MemberChange", "compare_milestones", "roll_back_milestone"]
