"""Pins: what keeps a state readable - published versions, milestones, named snapshots, leases - from the ledger alone.

A clean-up condemns what nothing pins, and whatever pins a state refuses a condemned one. Both are decisions on the
same ledger, so of a pin and a clean-up that race one is validated on top of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from lakehouse.decisions import (
    Condemned,
    Cursor,
    Dataset,
    DatasetVersion,
    Hold,
    Lease,
    Member,
    MilestoneVersion,
    NamedSnapshot,
    Value,
)
from lakehouse.errors import NotFoundError
from lakehouse.ledger import State
from lakehouse.state import Index

SKEW = timedelta(minutes=5)
"""A clean-up honours what expired so recently: the clocks of two machines differ."""
_V = TypeVar("_V", bound=Value)
_VERSIONS = Index(DatasetVersion, lambda v: (v.dataset_id,))
_MILESTONES = Index(MilestoneVersion, lambda m: [member.dataset_id for member in m.members])
_SNAPSHOTS = Index(NamedSnapshot, lambda s: [member.dataset_id for member in s.members])
_LEASES = Index(Lease, lambda lease: [member.dataset_id for member in lease.members])
_CURSORS = Index(Cursor, lambda c: (c.dataset_id,))


@dataclass(frozen=True, slots=True)
class Pin:
    """One promise that a state stays readable."""

    dataset_id: str
    table_version: int
    pinned_by: str
    """`main.photos@v3`, `milestone main.spring/v2`, `snap:run-20-nov` or `lease ...`, as in the view `pins`."""
    reference: str
    """A reference that resolves through this pin; of a lease, one by table version."""


def pins(state: State, now: datetime | None = None, dataset_id: str | None = None) -> Iterator[Pin]:
    """Iterate over everything that is pinned; what expired or was archived pins nothing.

    Args:
        now: Time at which expiry is judged; None means the present.
        dataset_id: Only what pins this dataset.
    """
    at = now or datetime.now(UTC)
    for v in _about(state, _VERSIONS, dataset_id):
        if v.expired_at is None:
            dataset = state.get(Dataset, v.dataset_id)
            full_name = dataset.full_name if dataset else v.full_name
            name = f"{full_name}@v{v.number}"
            # A withdrawn version is kept, so that this can be taken back, but not read by its number.
            yield Pin(v.dataset_id, v.table_version, name, f"{full_name}@#{v.table_version}" if v.withdrawn else name)
    yield from pins_on_versions(state, at, dataset_id)


def pins_on_versions(state: State, at: datetime, dataset_id: str | None = None) -> Iterator[Pin]:
    """Iterate over what is pinned besides the published versions themselves: such a state can't be expired.

    Args:
        at: Time at which expiry is judged.
        dataset_id: Only what pins this dataset.
    """
    for members, pinned_by, selector in _bundles(state, at, dataset_id):
        for member in members:
            if dataset_id in (None, member.dataset_id):
                reference = f"{member.full_name}@{selector or f'#{member.table_version}'}"
                yield Pin(member.dataset_id, member.table_version, pinned_by, reference)


def _bundles(state: State, at: datetime, dataset_id: str | None) -> Iterator[tuple[tuple[Member, ...], str, str]]:
    """Iterate over what pins several states at once: (members, its name, the selector that means it; empty: none)."""
    for m in _about(state, _MILESTONES, dataset_id):
        if m.status != "Archived":
            yield m.members, f"milestone {m.full_name}/v{m.number}", f"{m.full_name}/v{m.number}"
    for s in _about(state, _SNAPSHOTS, dataset_id):
        if s.expires_at is None or s.expires_at > at:
            yield s.members, f"snap:{s.name}", f"snap:{s.name}"
    for lease in _about(state, _LEASES, dataset_id):
        if lease.expires_at > at:
            yield lease.members, f"lease {lease.name}", ""


def _about(state: State, index: Index[_V], dataset_id: str | None) -> Iterator[_V]:
    return state.all(index.cls) if dataset_id is None else state.find(index, dataset_id)


def pinned_versions(state: State, dataset_id: str) -> list[int]:
    """Return the table versions of a dataset that a clean-up must keep one by one, ascending."""
    return sorted({p.table_version for p in pins(state, datetime.now(UTC) - SKEW, dataset_id)})


def needed_from(state: State, dataset_id: str) -> tuple[int, str] | None:
    """Return the oldest version from which a job still reads the changes of a dataset, and which job; None for none."""
    late = datetime.now(UTC) - SKEW
    found = [(c.table_version, c.job) for c in state.find(_CURSORS, dataset_id) if c.expires_at > late]
    return min(found, default=None)


def held(state: State, dataset_id: str) -> Hold | None:
    """Return the legal hold on a dataset, if there is one; a hold on an adopted one covers the copies of its versions."""
    dataset = state.get(Dataset, dataset_id)
    original = dataset.copy_of if dataset else None
    return state.get(Hold, dataset_id) or (state.get(Hold, original) if original else None)


def is_condemned(state: State, dataset_id: str, table_version: int) -> bool:
    """Whether a table version was given up by a clean-up: its files are gone, or going."""
    found = state.get(Condemned, dataset_id)
    return found is not None and found.covers(table_version)


def refuse_condemned(state: State, dataset_id: str, full_name: str, table_version: int) -> None:
    """Refuse a state that a clean-up has given up; every decision that pins a state calls this in its rule.

    Raises:
        NotFoundError: it is condemned (version-folded).
    """
    found = state.get(Condemned, dataset_id)
    if found is None or not found.covers(table_version):
        return
    raise NotFoundError(
        "version-folded",
        f"{full_name} no longer has its table version {table_version}: it was cleaned up on "
        f"{found.decided_at:%Y-%m-%d}, since nothing pinned it. What is left: lakehouse log {full_name}",
        dataset=full_name,
        version=table_version,
    )
