"""Leases: a reader that takes its time says in the ledger what it reads, so that no clean-up takes it away meanwhile.

A lease ends when its reader is done, or by itself at the time when the reader must have been: a reader that was killed
leaves nothing that has to be repaired.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from lakehouse.decisions import Decision, Lease, Member
from lakehouse.errors import InvalidInputError, LakeError, NotFoundError
from lakehouse.ledger import State
from lakehouse.pins import SKEW, refuse_condemned
from lakehouse.references import Head, parse
from lakehouse.resolution import known_name
from lakehouse.snapshots import Snapshot

if TYPE_CHECKING:
    from lakehouse.lake import Lake

log = logging.getLogger(__name__)

HOURS = 24.0
"""How long a lease lasts, unless said otherwise."""
_ROUNDS = 10
"""How often references are resolved anew when clean-ups are faster."""


@dataclass(slots=True)
class Leased:
    """States that stay readable while this is used as a context."""

    lake: Lake
    lease: Lease
    """The decision, as it stands in the ledger."""
    snapshots: tuple[Snapshot, ...]
    """What is leased, opened, in the order given."""
    hours: float

    def read(self, reference: str) -> Snapshot:
        """Return a leased state, as it was when the lease was given.

        Args:
            reference: As it was leased, or its dataset's name where only one state of that is leased.
        Raises:
            NotFoundError: it is not leased (not-a-member).
        """
        ref = parse(reference)
        found = [s for s in self.snapshots if s.reference.casefold() == str(ref).casefold()]
        if not found and isinstance(ref.selector, Head):
            name = known_name(self.lake.state(), ref.name)
            now = name.key if name else ref.key
            found = [s for s in self.snapshots if s.dataset.full_name.casefold() in (ref.key, now)]
        if not found or len({s.table_version for s in found}) > 1:
            held = ", ".join(s.reference for s in self.snapshots)
            raise NotFoundError("not-a-member", f"{ref} is no one state of this lease. It holds: {held}.")
        return found[0]

    def renew(self, hours: float | None = None) -> None:
        """Make the lease last longer, from now on; one that has ended is given again if nothing was cleaned up.

        Args:
            hours: None means as long as before.
        Raises:
            NotFoundError: it had ended, and a clean-up was faster (version-folded).
            InvalidInputError: no positive number of hours (expires-invalid).
        """
        self.hours = self.hours if hours is None else hours
        self.lease = replace(self.lease, expires_at=ends_at(self.hours))
        self.lake.ledger.decide(lambda state: (None, leasing(state, self.lease)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.lake.ledger.decide(lambda state: (None, releasing(state, self.lease.name)))
        except LakeError as failure:  # it ends by itself
            log.info("lease not released", extra={"lease": self.lease.name, "error": failure.kind})


def lease(
    lake: Lake,
    references: str | Sequence[str],
    *,
    hours: float = HOURS,
    holder: str | None = None,
    run: str | None = None,
) -> Leased:
    """Give a lease on the states that some references name now, in one decision; errors as `Lake.lease`."""
    given = [references] if isinstance(references, str) else list(references)
    if not given:
        raise InvalidInputError("member-repeated", "A lease needs at least one reference.")
    tries = 0
    while True:
        tries += 1
        snapshots = tuple(lake.read(r) for r in given)
        found = Leased(
            lake, new_lease(uuid4().hex, snapshots, hours, holder or lake.actor, lake.actor), snapshots, hours
        )
        try:
            lake.ledger.decide(lambda state, value=found.lease: (None, leasing(state, value)), run=run)  # type: ignore[misc]
        except NotFoundError:
            # A head may go on, and be cleaned up, between its reading and the decision: then there is a newer one.
            if tries == _ROUNDS:
                raise
            continue
        return found


def new_lease(name: str, snapshots: Iterable[Snapshot], hours: float, holder: str, actor: str) -> Lease:
    """Return a lease on some states that begins now.

    Raises:
        InvalidInputError: no positive number of hours (expires-invalid).
    """
    return Lease(
        name=name,
        members=members(snapshots),
        holder=holder,
        created_by=actor,
        created_at=datetime.now(UTC),
        expires_at=ends_at(hours),
    )


def leasing(state: State, value: Lease) -> list[Decision]:
    """Return the decisions that give or renew a lease, for a rule of the ledger; leases that have ended go with it.

    Raises:
        NotFoundError: a clean-up has given up one of the states (version-folded).
    """
    for member in value.members:
        refuse_condemned(state, member.dataset_id, member.full_name, member.table_version)
    # A clean-up honours them for a little longer, since the clocks of two machines differ.
    late = datetime.now(UTC) - SKEW
    ended = [old for old in state.all(Lease) if old.expires_at <= late and old.name != value.name]
    return [Decision.put("lease.give", value), *(Decision.remove("lease.end", old) for old in ended)]


def releasing(state: State, name: str) -> list[Decision]:
    """Return the decision that ends a lease; none when it is not there any more."""
    found = state.get(Lease, name)
    return [] if found is None else [Decision.remove("lease.release", found)]


def members(snapshots: Iterable[Snapshot]) -> tuple[Member, ...]:
    """Return states as a lease or a named snapshot keeps them."""
    return tuple(
        Member(
            dataset_id=s.dataset.dataset_id,
            full_name=s.dataset.full_name,
            table_version=s.table_version,
            version=s.version.number if s.version else None,
            data_tag=s.version.data_tag if s.version else None,
        )
        for s in snapshots
    )


def ends_at(hours: float) -> datetime:
    """Return the time that is so many hours away.

    Raises:
        InvalidInputError: no positive number of hours, or one beyond the calendar (expires-invalid).
    """
    if hours > 0:
        with suppress(OverflowError):
            return datetime.now(UTC) + timedelta(hours=hours)
    raise InvalidInputError("expires-invalid", f"A lease of {hours} hours is none. Give a positive number.")
