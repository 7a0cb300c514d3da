"""What pins a state, and the named snapshots, as the catalog shows them."""

from __future__ import annotations

from lakehouse.decisions import NamedSnapshot
from lakehouse.lake import Lake
from lakehouse.pins import pins
from lakehouse.snapshots import Snapshot


def pinned_by(lake: Lake, snapshot: Snapshot) -> list[str]:
    """Return the names of what pins a state: versions, then milestones, snapshots and leases."""
    own = (snapshot.dataset.dataset_id, snapshot.table_version)
    return [p.pinned_by for p in pins(lake.state()) if (p.dataset_id, p.table_version) == own]


def list_snapshots(lake: Lake) -> list[NamedSnapshot]:
    """Return the named snapshots, newest first, expired ones too."""
    return sorted(lake.state().all(NamedSnapshot), key=lambda s: s.created_at, reverse=True)
