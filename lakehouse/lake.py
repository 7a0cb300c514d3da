"""The lake: one root, opened; everything that reads, and the tables that write, start here."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa

from lakehouse import access, leases
from lakehouse import diff as diffs
from lakehouse.commit_log import COMMITS, log_tails
from lakehouse.decisions import Dataset, Decision, Member, MilestoneVersion, NamedSnapshot
from lakehouse.errors import AccessDeniedError, InvalidInputError, NotFoundError, StateError
from lakehouse.facts import SCHEMAS, Facts
from lakehouse.ledger import Ledger, State
from lakehouse.notices import tell
from lakehouse.pins import refuse_condemned
from lakehouse.read_spool import spooled
from lakehouse.reads import Reads
from lakehouse.references import Head, InMilestone, Reference, check_snapshot_name, parse, parse_milestone_ref
from lakehouse.resolution import (
    Resolved,
    find_dataset,
    find_milestone_version,
    find_snapshot,
    living_names,
    published_at,
    refuse_expired,
    resolve,
)
from lakehouse.session import Filtered, Session
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.spans import parse_span
from lakehouse.storage import Storage
from lakehouse.streams import Stream
from lakehouse.tables import Table
from lakehouse.tokens import holder
from lakehouse.visibility import facts_seen, history_seen, reads_seen

if TYPE_CHECKING:
    import duckdb


KEPT_OPEN = 32
"""Published versions whose list of files a process keeps."""
_RECENT_S = 1.0
"""How old the grants may be by which a write of rows is judged: a stream of small ones need not ask each time."""


def connect(root: str | os.PathLike[str] | None = None, *, actor: str | None = None, token: str | None = None) -> Lake:
    """Open a lakehouse.

    Args:
        root: A folder, `s3://bucket/prefix`, or a profile's name; None means `$LAKEHOUSE_ROOT` or the default profile.
        actor: Who acts, for grants and the audit; None means whom the token stands for, or the operating system's user
            (`uid-1000` for one without a name, as in many containers), whatever `$USER` says. Without access control
            `$LAKEHOUSE_ACTOR` may say another name.
        token: Proves who acts; None means `$LAKEHOUSE_TOKEN`, if that is set and no actor is given.
    Raises:
        AccessDeniedError: the token does not hold (token-invalid, token-expired, token-revoked); a mere name was given
            by `$LAKEHOUSE_ACTOR` where access is controlled (actor-unproven).
        NotFoundError: there is no lakehouse (lakehouse-not-found).
        InvalidInputError: no root is named anywhere (root-missing), or a broken one; the actor's name is empty
            (actor-missing).
        StorageError, AccessDeniedError: the store failed or refused.
    """
    storage = Storage.open(None if root is None else os.fspath(root))
    state = (opened := Lake(storage, _default_actor() if actor is None else actor)).unguarded().state()
    if token is None and actor is None:
        token = os.environ.get("LAKEHOUSE_TOKEN") or None
    if token is not None:
        return Lake(storage, *holder(state, token))
    if actor is None and "LAKEHOUSE_ACTOR" in os.environ and access.is_controlled(state):
        raise AccessDeniedError(
            "actor-unproven",
            f"$LAKEHOUSE_ACTOR says {opened.actor!r}, but access is controlled here, and a name proves nothing. "
            "Set $LAKEHOUSE_TOKEN, or unset $LAKEHOUSE_ACTOR to act as the operating system's user.",
        )
    return opened


def init(root: str | os.PathLike[str] | None = None, *, actor: str | None = None) -> Lake:
    """Make a lakehouse under a root, after proving that its store decides races; an existing one is just opened.

    Raises:
        StorageError: the store lets two writers win (store-unsafe).
        InvalidInputError, AccessDeniedError: as `connect`.
    """
    try:
        return connect(root, actor=actor)
    except NotFoundError:
        lake = Lake(
            Storage.open(None if root is None else os.fspath(root)), _default_actor() if actor is None else actor
        )
        lake.storage.probe()
        lake.ledger.create()
        return lake


def _default_actor() -> str:
    if actor := os.environ.get("LAKEHOUSE_ACTOR"):
        return actor
    try:  # not `getpass.getuser`, which believes $LOGNAME and $USER
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


class Lake:
    """An open lakehouse. It holds no state of its own: any number may be open on one root.

    Args:
        storage: The root.
        actor: Who acts: what he may not read is not there, where access is controlled.
        until: When the token expires that proves it; None: something else does.
    """

    def __init__(self, storage: Storage, actor: str, until: datetime | None = None) -> None:
        if not actor:
            raise InvalidInputError("actor-missing", "The name of the actor is empty. Say who acts, or leave it out.")
        self.storage = storage
        self.actor, self.until = actor, until
        self.ledger = Ledger(storage, actor)
        self.facts = Facts(storage, actor)
        self.reads = Reads(storage, actor)
        self._opened: dict[tuple[str, int | None], Snapshot] = {}

    def __repr__(self) -> str:
        return f"Lake({self.storage.root!r})"

    @property
    def root(self) -> str:
        """The root: an absolute path or a URI."""
        return self.storage.root

    def state(self) -> State:
        """Return the current decisions, as the actor sees them."""
        return self.ledger.state()

    def unguarded(self) -> Lake:
        """Return the same lake without access control: for what follows from something that was allowed."""
        free = copy(self)
        free.ledger = self.ledger.unguarded()
        return free

    def check(self, action: str, resource: str = "*") -> None:
        """Refuse an operation early that the actor may not do; what decides in the end does so again.

        Args:
            action: One of `access.OPERATIONS`.
            resource: `*` for the lakehouse, `vision.*`, or a dataset's full name.
        Raises:
            AccessDeniedError: a grant is missing (access-denied).
        """
        if not self.ledger.guarded:
            return
        try:
            self._check(self.ledger.state(within_s=_RECENT_S), action, resource)
        except AccessDeniedError:
            self._check(self.ledger.state(), action, resource)

    def _check(self, state: State, action: str, resource: str) -> None:
        access.check(state, self.actor, action, [access.scope_of(state, resource)])

    # -- reading --------------------------------------------------------------------------------------------------

    def resolve(self, reference: str | Reference) -> Resolved:
        """Return the dataset and table version that a reference stands for, without opening the table.

        Raises:
            InvalidInputError: it does not parse (reference-invalid).
            NotFoundError, StateError: as `resolution.resolve`.
        """
        ref = parse(reference) if isinstance(reference, str) else reference
        return resolve(self.storage, self.state(), ref)

    def read(self, reference: str | Reference, *, state: State | None = None) -> Snapshot:
        """Open the state that a reference names; the snapshot never moves.

        A version with a notice, as `catalog.deprecate` puts it, logs a warning, once per process. The audit learns of
        it in the background (see `reads`).

        Args:
            state: The decisions that say what it means, so that several references are read as of one moment; None:
                the newest.
        Raises:
            InvalidInputError: it does not parse (reference-invalid).
            StateError: it was given up or withdrawn (version-expired, version-withdrawn), as `resolution.resolve`.
            NotFoundError: what it names does not exist, or its table is gone (table-missing).
            FormatError: the table can't be read here (feature-unsupported, table-replaced).
        """
        snapshot = self.peek(reference, state=state)
        self.reads.note(snapshot)
        return snapshot

    def peek(self, reference: str | Reference, *, state: State | None = None) -> Snapshot:
        """Open a state as `read` does, for what the lakehouse does itself: the audit does not count it as read."""
        ref = parse(reference) if isinstance(reference, str) else reference
        state = state or self.state()
        found = resolve(self.storage, state, ref)
        return self._open(found, state)

    def _open(self, found: Resolved, state: State) -> Snapshot:
        snapshot = self._opened_at(found)
        if snapshot.version is None:  # head may be a published state too
            published = published_at(state, found.dataset.dataset_id, snapshot.table_version)
            snapshot = replace(snapshot, version=published)
        tell(snapshot.version)
        return snapshot

    def _opened_at(self, found: Resolved) -> Snapshot:
        # A published state of an own table never changes, so it is opened once per process.
        pinned = found.version is not None and found.dataset.guarantee == "own"
        slot = (found.dataset.dataset_id, found.table_version)
        known = self._opened.get(slot) if pinned else None
        if known is not None:
            return replace(known, reference=str(found.reference), version=found.version)
        snapshot = open_snapshot(self.storage, found.dataset, str(found.reference), found.table_version, found.version)
        if pinned:
            while len(self._opened) >= KEPT_OPEN:
                self._opened.pop(next(iter(self._opened)), None)
            self._opened[slot] = snapshot
        return snapshot

    def session(self, milestone: str | None = None) -> Session:
        """Open a DuckDB session in which any reference is a table name.

        Args:
            milestone: Names without a selector then mean that milestone's members: `spring/v2`.
        Raises:
            NotFoundError: milestone-not-found, milestone-version-not-found.
            StateError: milestone-archived.
        """
        pinned, state = None if milestone is None else self.milestone(milestone), self.state()
        within = (self.storage, state.all(Dataset)) if state.viewer else None
        return Session(lambda text: self._table_for_sql(text, pinned), self._system_relation, self._names, within)

    def sql(self, query: str, *, milestone: str | None = None) -> duckdb.DuckDBPyRelation:
        """Run one SQL statement (DuckDB's dialect) in which any reference is a table name.

        Args:
            query: `select label, count(*) from "vision.photos@v3" group by 1`
            milestone: Names without a selector then mean that milestone's members; a name that is no member is an error.
        Returns:
            A relation, evaluated when read; the states that it reads are fixed now.
        Raises:
            InvalidInputError: the SQL is wrong (sql-invalid) or does what a session can't (sql-unsupported).
            NotFoundError: a table is unknown (dataset-not-found) or no member of the milestone (not-a-member).
        """
        return self.session(milestone).query(query)

    def diff(self, old: str | Reference, new: str | Reference, *, key: Sequence[str] | None = None) -> diffs.Diff:
        """Compare two states.

        Args:
            key: Columns that identify a row; None means the dataset's key, or a comparison as multisets without one.
        Raises:
            NotFoundError, InvalidInputError, FormatError: as `read`.
        """
        return diffs.diff(self.read(old), self.read(new), key)

    def milestone(self, reference: str) -> MilestoneBundle:
        """Open a published version of a milestone: `spring/v2`, `spring` or `ns.spring/FINAL`.

        Raises:
            InvalidInputError: it does not parse (reference-invalid).
            NotFoundError: milestone-not-found, milestone-version-not-found.
            StateError: milestone-archived.
        """
        return MilestoneBundle(self, find_milestone_version(self.state(), parse_milestone_ref(reference)))

    # -- writing --------------------------------------------------------------------------------------------------

    def table(self, name: str) -> Table:
        """Return a dataset's table for writing.

        Raises:
            NotFoundError: dataset-not-found, dataset-deleted.
        """
        return Table(self.storage, find_dataset(self.state(), parse(name).name), self.actor, self.ledger, self.check)

    def stream(
        self, name: str, *, run: str | None = None, message: str | None = None
    ) -> AbstractContextManager[Stream]:
        """Open a stream of appends that flushes by size and time, each flush exactly once.

        Raises:
            NotFoundError: dataset-not-found, dataset-deleted.
        """
        return Stream(self.table(name), run=run, message=message)

    def snapshot(
        self,
        name: str,
        references: Sequence[str],
        *,
        expires: str | datetime | None = None,
        message: str | None = None,
        run: str | None = None,
    ) -> NamedSnapshot:
        """Pin the states of several datasets under one name, in one commit.

        Args:
            name: Unique among snapshots.
            references: One state per dataset.
            expires: When the pins end: an aware datetime, or a span from now such as `90d`, `12h`; None means never.
        Raises:
            InvalidInputError: a bad name (name-invalid), a dataset given twice (member-repeated), a bad span (expires-invalid).
            StateError: the name is taken (snapshot-exists), or a version was given up (version-expired).
            NotFoundError: a reference does not resolve, or a clean-up was faster (version-folded).
        """
        check_snapshot_name(name)
        expires_at = _expiry(expires)
        opened = [self.peek(r) for r in references]
        repeated = {s.dataset.dataset_id for s in opened}
        if len(repeated) != len(opened) or not opened:
            raise InvalidInputError("member-repeated", f"Snapshot {name!r} needs at least one dataset, each only once.")
        value = NamedSnapshot(
            name=name,
            members=leases.members(opened),
            created_at=datetime.now(UTC),
            created_by=self.actor,
            expires_at=expires_at,
            message=message or "",
        )

        def rule(state: State) -> tuple[NamedSnapshot, list[Decision]]:
            if state.get(NamedSnapshot, value.key) is not None:
                raise StateError(
                    "snapshot-exists", f"A snapshot named {name!r} exists already. Choose another name.", snapshot=name
                )
            for member, found in zip(value.members, opened, strict=True):
                if found.version is not None:
                    refuse_expired(state, found.version)
                refuse_condemned(state, member.dataset_id, member.full_name, member.table_version)
            return value, [Decision.put("snapshot.create", value)]

        return self.ledger.decide(rule, run=run, message=message).result

    def delete_snapshot(self, name: str) -> NamedSnapshot:
        """Remove a named snapshot and its pins; what else pins the same states keeps them.

        Raises:
            NotFoundError: no such snapshot (snapshot-not-found).
        """

        def rule(state: State) -> tuple[NamedSnapshot, list[Decision]]:
            found = state.get(NamedSnapshot, name.casefold()) or find_snapshot(state, name)
            return found, [Decision.remove("snapshot.delete", found)]

        return self.ledger.decide(rule).result

    def lease(
        self, references: str | Sequence[str], *, hours: float = leases.HOURS, holder: str | None = None
    ) -> leases.Leased:
        """Keep states readable while they are read: `with lake.lease(["photos", "labels@v3"]) as leased: ...`.

        Leaving the context ends the lease; so does its time, for a process that was killed. What is published or in a
        snapshot is kept anyway.

        Args:
            references: What is read; a dataset's name alone means its head as it is now.
            hours: When the lease ends by itself; `renew` makes it longer.
            holder: Who reads, for people; None means the actor.
        Raises:
            InvalidInputError: no reference (member-repeated), no positive number of hours (expires-invalid).
            NotFoundError, StateError: a reference does not resolve.
        """
        return leases.lease(self, references, hours=hours, holder=holder)

    # -- for the SQL session --------------------------------------------------------------------------------------

    def _table_for_sql(self, text: str, pinned: MilestoneBundle | None) -> Snapshot | None:
        """Return the snapshot that a name in SQL means; None when no dataset has that name."""
        try:
            ref = parse(text)
        except InvalidInputError:
            return None
        if pinned is not None and "@" not in text:
            return pinned.read(ref.name)
        state = self.state()
        try:
            found = resolve(self.storage, state, ref)
        except NotFoundError as error:
            if error.kind == "dataset-not-found":
                return None
            raise
        snapshot = self._open(found, state)
        self.reads.note(snapshot)
        return snapshot

    def _names(self) -> list[str]:
        return living_names(self.state())

    def _system_relation(self, name: str) -> pa.Table | Snapshot | Filtered:
        state = self.state()
        if name == "ledger_state":
            entity, key, value = ([row[i] for row in state.raw()] for i in range(3))
            return pa.table(
                {
                    "entity": pa.array(entity, pa.string()),
                    "key": pa.array(key, pa.string()),
                    "value": pa.array(value, pa.string()),
                }
            )
        if name == "ledger_log":
            return history_seen(state, self.ledger.history())
        if name == "log_tails":
            rows = log_tails(self.storage, state.all(Dataset))
            return pa.Table.from_pylist(rows, schema=SCHEMAS[COMMITS])
        if name == "spooled_reads":
            self.reads.flush()
            return reads_seen(state, spooled(self.storage))
        fact = name.removeprefix("fact_")
        found = self.facts.snapshot(fact)
        if found is None:
            return SCHEMAS[fact].empty_table()
        where = facts_seen(state, fact, SCHEMAS[fact])
        return Filtered(found, where) if where else found


class MilestoneBundle:
    """One published version of a milestone: a consistent set of datasets.

    Args:
        lake: Where it lives.
        version: Its published version.
    """

    def __init__(self, lake: Lake, version: MilestoneVersion) -> None:
        self._lake = lake
        self.version = version

    def __repr__(self) -> str:
        return f"MilestoneBundle({self.version.full_name}/v{self.version.number})"

    @property
    def datasets(self) -> dict[str, Member]:
        """The members by full name, as they were published."""
        return {m.full_name: m for m in self.version.members}

    def read(self, name: str) -> Snapshot:
        """Open one member.

        Raises:
            NotFoundError: it is no member (not-a-member).
        """
        ref = parse(name)
        if not isinstance(ref.selector, Head):
            raise InvalidInputError(
                "reference-invalid", f"{name!r}: a member of a milestone is named without a selector."
            )
        namespace, _, milestone = self.version.full_name.partition(".")
        within = parse_milestone_ref(f"{namespace}.{milestone}/v{self.version.number}")
        selector = InMilestone(within.namespace, within.name, within.selector)
        return self._lake.read(Reference(ref.namespace, ref.dataset, selector))

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Run SQL in which names without a selector mean this milestone's members; errors as `Lake.sql`."""
        return self._lake.sql(query, milestone=f"{self.version.full_name}/v{self.version.number}")


def _expiry(expires: str | datetime | None) -> datetime | None:
    if expires is None:
        return None
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise InvalidInputError(
                "time-naive", f"expires={expires.isoformat()} has no zone. Give an aware datetime, such as one in UTC."
            )
        if expires <= datetime.now(UTC):
            raise InvalidInputError(
                "expires-invalid", f"expires={expires.isoformat()} is over already. Give a time in the future."
            )
        return expires.astimezone(UTC)
    try:
        span = parse_span(expires, "expires")
        if span:
            return datetime.now(UTC) + span
    except (InvalidInputError, OverflowError):  # OverflowError: beyond the year 9999
        pass
    raise InvalidInputError("expires-invalid", f"{expires!r} is no span of time. Write 30m, 12h, 90d or 4w.")


def new_id() -> str:
    """Return a new identity: 32 hex digits, random."""
    return uuid4().hex
