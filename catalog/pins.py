"""Pins: what keeps a state readable - published versions, milestones, named snapshots - read from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from lakehouse.decisions import DatasetVersion, MilestoneVersion, NamedSnapshot
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Pin:
    """One promise that a state stays readable."""

    dataset_id: str
    table_version: int
    pinned_by: str
    """`main.photos@v3`, `milestone main.spring/v2` or `snap:run-20-nov`, as in the view `pins`."""
    reference: str
    """A reference that resolves through this pin."""


def pins(state: State) -> Iterator[Pin]:
    """Iterate over everything that is pinned now; archived milestones and expired snapshots pin nothing."""
    for v in state.all(DatasetVersion):
        name = f"{v.full_name}@v{v.number}"
        yield Pin(v.dataset_id, v.table_version, name, name)
    for m in state.all(MilestoneVersion):
        if m.status != "Archived":
            name = f"{m.full_name}/v{m.number}"
            for member in m.members:
                reference = f"{member.full_name}@{name}"
                yield Pin(member.dataset_id, member.table_version, f"milestone {name}", reference)
    now = datetime.now(UTC)
    for s in state.all(NamedSnapshot):
        if s.expires_at is None or s.expires_at > now:
            for member in s.members:
                reference = f"{member.full_name}@snap:{s.name}"
                yield Pin(member.dataset_id, member.table_version, f"snap:{s.name}", reference)


def pinned_by(lake: Lake, snapshot: Snapshot) -> list[str]:
    """Return the names of what pins a state: versions, then milestones, then snapshots."""
    own = (snapshot.dataset.dataset_id, snapshot.table_version)
    return [p.pinned_by for p in pins(lake.state()) if (p.dataset_id, p.table_version) == own]


def list_snapshots(lake: Lake) -> list[NamedSnapshot]:
    """Return the named snapshots, newest first, expired ones too."""
    return sorted(lake.state().all(NamedSnapshot), key=lambda s: s.created_at, reverse=True)
