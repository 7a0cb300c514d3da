"""Events: what there is to tell about milestones, as a function of what is decided and verified.

An event has the same id whenever and by whomever it is found, so nothing has to be kept to find it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from catalog.linkage import VERIFIED
from lakehouse.decisions import MilestoneVersion, PendingVersion
from lakehouse.lake import Lake
from lakehouse.ledger import State

KINDS = {
    "milestone.published": "a version was published",
    "milestone.ready": "a version is ready to be published by hand",
    "milestone.failed": "a member does not fit: a link, its schema or a check",
    "milestone.overdue": "a version has been pending for too long",
    "milestone.unreadable": "a state that a published version pins no longer verifies",
}
"""Kinds of events, and what each says."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell about a milestone."""

    event: str
    """Its id."""
    at: datetime
    """When it came to be."""
    kind: str
    """One of `KINDS`."""
    milestone: str
    """Full name."""
    data: dict[str, Any]
    """What is told, as JSON has it; no values of rows."""


def find_events(lake: Lake, state: State, now: datetime, overdue: timedelta) -> Iterator[Event]:
    """Iterate over everything that there is to tell.

    Args:
        state: As the one sees it who is to be told.
        overdue: How long a version may be pending.
    Raises:
        StorageError, AccessDeniedError: the store failed or refused.
    """
    for version in state.all(MilestoneVersion):
        members = [{"dataset": m.full_name, "version": m.version, "data_tag": m.data_tag} for m in version.members]
        data = {"data_tag": version.data_tag, "published_by": version.published_by, "datasets": members}
        yield _event("milestone.published", version.full_name, version.number, version.published_at, data)
    for pending in state.all(PendingVersion):
        yield from _awaited(pending, now, overdue)
    yield from _unreadable(lake, state)


def _awaited(pending: PendingVersion, now: datetime, overdue: timedelta) -> Iterator[Event]:
    name, number = pending.full_name, pending.number
    if pending.status == "Ready":
        yield _event(
            "milestone.ready", name, number, pending.since, {"data_tag": pending.data_tag}, _stamp(pending.since)
        )
    for waiting in pending.waiting:
        if waiting.kind.startswith(VERIFIED):
            failed = {"reason": waiting.kind, "dataset": waiting.dataset, "detail": waiting.detail}
            own = f"{waiting.kind}-{waiting.dataset}-{_stamp(waiting.since)}"
            yield _event("milestone.failed", name, number, waiting.since, failed, own)
    if pending.status == "Pending" and pending.since + overdue <= now:
        data: dict[str, Any] = {"since": pending.since.isoformat(), "waiting": [w.detail for w in pending.waiting]}
        yield _event("milestone.overdue", name, number, pending.since + overdue, data)


def _unreadable(lake: Lake, state: State) -> Iterator[Event]:
    """Look at what the last verification of each state said."""
    facts = lake.facts.snapshot("verifications")
    if facts is None:
        return
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for row in facts.to_arrow(["dataset_id", "table_version", "at", "ok", "problems"]).to_pylist():
        slot = (row["dataset_id"], row["table_version"])
        newest[slot] = max(newest.get(slot, row), row, key=lambda r: r["at"])
    damaged = {slot: row for slot, row in newest.items() if not row["ok"]}
    if not damaged:
        return
    for version in state.all(MilestoneVersion):
        for member in version.members:
            row = damaged.get((member.dataset_id, member.table_version))
            if row is not None and version.status == "Published":
                data = {"dataset": member.full_name, "version": member.version, "problems": json.loads(row["problems"])}
                own = f"{member.full_name}-{_stamp(row['at'])}"
                yield _event("milestone.unreadable", version.full_name, version.number, row["at"], data, own)


def _event(kind: str, name: str, number: int, at: datetime, data: dict[str, Any], own: str = "") -> Event:
    reference = f"{name}/v{number}"
    event = f"{kind}-{reference}{'-' if own else ''}{own}"
    return Event(event, at, kind, name, {"milestone": name, "version": number, "reference": reference, **data})


def _stamp(at: datetime) -> str:
    return f"{at:%Y%m%dT%H%M%S}"


__all__ = ["KINDS", "Event", "find_events"]
