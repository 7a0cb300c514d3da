"""What pins a state, and the named snapshots, as the catalog shows them."""

from __future__ import annotations

from lakehouse.decisions import NamedSnapshot
from lakehouse.lake import Lake
from lakehouse.pins import pins
from lakehouse.snapshots import Snapshot


def pinned_by(lake: Lake, snapshot: Snapshot) -> list[str]:
    """Return the names of what pins a state: versions, then milestones, snapshots and leases."""
    found = pins(lake.state(), dataset_id=snapshot.dataset.dataset_id)
    return [p.pinned_by for p in found if p.table_version == snapshot.table_version]


def list_snapshots(lake: Lake) -> list[NamedSnapshot]:
    """Return the named snapshots, newest first, expired ones too."""
    return sorted(lake.state().all(NamedSnapshot), key=lambda s: s.created_at, reverse=True)
