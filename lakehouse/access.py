"""Access: what each operation needs, and the one check that says whether somebody may do it.

Access control guards the faces - command line, SQL, services - and everybody who goes through this library. Who holds the
storage's credentials holds the data. While it was never switched on, everybody may do everything.

Two rules, both applied where nobody can go around them by accident. What somebody may not read is not there for him:
his state of the ledger has no row of it (`visibility`). What he may read but not change is refused by `check`: of
decisions within the ledger's compare-and-swap, so that a revoked grant and a decision never cross; of rows by the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from lakehouse.decisions import (
    AccessControl,
    CheckDefinition,
    Condemned,
    Cursor,
    Dataset,
    DatasetVersion,
    Decision,
    Grant,
    Hold,
    Lease,
    Metadata,
    Milestone,
    MilestoneVersion,
    Name,
    NamedSnapshot,
    PendingVersion,
    RetentionPolicy,
    SchemaVersion,
    Subscription,
    Tag,
    Token,
    Value,
)
from lakehouse.errors import AccessDeniedError, InternalError, LakeError
from lakehouse.state import Index, State


class Role(IntEnum):
    """What somebody may do in a scope; each role may also do what the smaller ones may."""

    READER = 1
    WRITER = 2
    PUBLISHER = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        """As it is written: `reader`."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a role holds: the whole lakehouse, a namespace, or one dataset."""

    namespace: str
    """`*` for the whole lakehouse."""
    series: str | None = None
    """Numbering of the dataset, which it keeps under any name."""


EVERYWHERE = Scope("*")


@dataclass(frozen=True, slots=True)
class Operation:
    """What one operation needs."""

    role: Role | None
    """None: nothing; it follows from a rule or from time, whoever is there to note it."""
    about: type[Value] | None = None
    """What it is about; other values that the same decision changes follow from that. None: the whole lakehouse."""
    own: bool = False
    """Whether who made the thing may do it anyway."""

    @property
    def is_global(self) -> bool:
        """Whether it is about the whole lakehouse, whatever is named."""
        return self.about is None or self.about is Token


OPERATIONS: dict[str, Operation] = {
    "data.read": Operation(Role.READER, Dataset),
    "rows.append": Operation(Role.WRITER, Dataset),
    "rows.overwrite": Operation(Role.WRITER, Dataset),
    "rows.merge": Operation(Role.WRITER, Dataset),
    "rows.delete": Operation(Role.WRITER, Dataset),
    "table.optimize": Operation(Role.WRITER, Dataset),
    "table.restore": Operation(Role.WRITER, Dataset),
    "lakehouse.init": Operation(None),
    "dataset.create": Operation(Role.WRITER, Dataset),
    "dataset.fork": Operation(Role.WRITER, Dataset),
    "dataset.query": Operation(Role.WRITER, Dataset),
    "dataset.copy": Operation(Role.PUBLISHER, Dataset),
    "dataset.adopt": Operation(Role.ADMIN, Dataset),
    "dataset.delete": Operation(Role.ADMIN, Dataset),
    "dataset.undrop": Operation(Role.ADMIN, Dataset),
    "dataset.rename": Operation(Role.ADMIN, Dataset),
    "dataset.unalias": Operation(Role.ADMIN, Name),
    "schema.evolve": Operation(Role.WRITER, SchemaVersion),
    "metadata.set": Operation(Role.WRITER, Metadata),
    "metadata.remove": Operation(Role.WRITER, Metadata),
    "check.add": Operation(Role.PUBLISHER, CheckDefinition),
    "check.remove": Operation(Role.PUBLISHER, CheckDefinition),
    "version.publish": Operation(Role.PUBLISHER, DatasetVersion),
    "version.promote": Operation(Role.PUBLISHER, DatasetVersion),
    "version.deprecate": Operation(Role.PUBLISHER, DatasetVersion),
    "version.withdraw": Operation(Role.PUBLISHER, DatasetVersion),
    "version.undeprecate": Operation(Role.PUBLISHER, DatasetVersion),
    "version.expire": Operation(Role.ADMIN, DatasetVersion),
    "version.condemn": Operation(Role.ADMIN),
    "tag.set": Operation(Role.PUBLISHER, Tag),
    "tag.remove": Operation(Role.PUBLISHER, Tag),
    "data_tag.set": Operation(Role.ADMIN),
    "data_tag.remove": Operation(Role.ADMIN),
    "snapshot.create": Operation(Role.READER, NamedSnapshot),
    "snapshot.delete": Operation(Role.WRITER, NamedSnapshot, own=True),
    "lease.give": Operation(Role.READER, Lease),
    "lease.release": Operation(Role.ADMIN, Lease, own=True),
    "lease.end": Operation(None),
    "cursor.set": Operation(Role.READER, Cursor),
    "cursor.end": Operation(None),
    "hold.set": Operation(Role.ADMIN, Hold),
    "hold.release": Operation(Role.ADMIN, Hold),
    "retention.set": Operation(Role.ADMIN, RetentionPolicy),
    "retention.remove": Operation(Role.ADMIN, RetentionPolicy),
    "milestone.define": Operation(Role.PUBLISHER, Milestone),
    "milestone.join": Operation(Role.PUBLISHER, Milestone),
    "milestone.leave": Operation(Role.PUBLISHER, Milestone),
    "milestone.protect": Operation(Role.PUBLISHER, Milestone),
    "milestone.publish": Operation(Role.PUBLISHER, Milestone),
    "milestone.archive": Operation(Role.PUBLISHER, MilestoneVersion),
    "milestone.unarchive": Operation(Role.PUBLISHER, MilestoneVersion),
    "milestone.pending": Operation(None),
    "milestone.ready": Operation(None),
    "milestone.settle": Operation(None),
    "subscription.create": Operation(Role.PUBLISHER, Subscription),
    "subscription.delete": Operation(Role.PUBLISHER, Subscription, own=True),
    "access.on": Operation(Role.ADMIN),
    "access.off": Operation(Role.ADMIN),
    "principal.add": Operation(Role.ADMIN),
    "principal.remove": Operation(Role.ADMIN),
    "grant.add": Operation(Role.ADMIN, Grant),
    "grant.remove": Operation(Role.ADMIN, Grant),
    "token.create": Operation(Role.ADMIN, Token, own=True),
    "token.revoke": Operation(Role.ADMIN, Token, own=True),
    "audit.verify": Operation(Role.ADMIN),
}
"""Every operation: the actions of decisions, and what is done to rows. A decision with another action is refused."""

_GRANTS = Index(Grant, lambda g: (g.principal.casefold(),))
_NAMES = Index(Name, lambda n: (n.series,) if n.series and n.alias_of is None else ())
"""Names by their numbering, without former ones."""


def is_controlled(state: State) -> bool:
    """Whether access control is switched on."""
    found = state.get(AccessControl, "access")
    return found is not None and found.enabled


def role_in(state: State, actor: str, scope: Scope) -> Role | None:
    """Return the largest role that somebody was granted for a scope, there or around it; None without any."""
    roles = [Role[g.role.upper()] for g in state.find(_GRANTS, actor.casefold()) if _covers(g, scope)]
    return max(roles, default=None)


def check(state: State, actor: str, action: str, scopes: Iterable[Scope]) -> None:
    """Refuse an operation that somebody may not do.

    Args:
        actor: Who does it.
        action: One of `OPERATIONS`.
        scopes: What it is about first, which needs the operation's role; what else it reads needs `reader`.
    Raises:
        AccessDeniedError: a grant is missing (access-denied); it names the role and how to get it.
    """
    if not is_controlled(state):
        return
    needed = _operation(action).role
    first: Scope | None = None
    for scope in scopes:
        if needed is None:
            return
        role = role_in(state, actor, scope)
        if role is None and first is not None:
            raise _beyond(actor, action, describe(state, first), needed)
        if role is None or role < needed:
            where = describe(state, scope)
            has = f"has only {role.word}" if role else "has no role"
            quoted = f"'{where}'" if "*" in where else where
            raise AccessDeniedError(
                "access-denied",
                f"{actor} may not do {action} on {where}: that needs the role {needed.word}, and {actor} {has} there. "
                f"An admin grants it with: lakehouse grant add {actor} {needed.word} {quoted}",
                actor=actor,
                action=action,
                resource=where,
                role=needed.word,
            )
        first, needed = first or scope, Role.READER


def _beyond(actor: str, action: str, where: str, needed: Role) -> AccessDeniedError:
    """Return the refusal of what is also about something that somebody may not read, which is not named."""
    return AccessDeniedError(
        "access-denied",
        f"{actor} may not do {action} on {where}: that needs the role {needed.word} on all that it is about, and {actor} "
        "may not read some of it. Ask an admin of the lakehouse.",
        actor=actor,
        action=action,
        resource=where,
        role=needed.word,
    )


def check_decisions(state: State, actor: str, made: Iterable[Decision]) -> None:
    """Refuse decisions that somebody may not make; errors as `check`."""
    if not is_controlled(state):
        return
    for decision in made:
        operation = _operation(decision.action)
        if operation.about is None:
            check(state, actor, decision.action, [EVERYWHERE])
        elif decision.entity == operation.about.ENTITY:
            # What is replaced counts, too: it may be about more than what comes.
            for value in filter(None, (state.get(operation.about, decision.key), decision.value)):
                if not (operation.own and _is_own(value, actor)):
                    check(state, actor, decision.action, scopes_of(state, value))


def unexplained(error: LakeError, actor: str) -> LakeError:
    """Return an error whose reason somebody may not see: its words, which may name anything, are left out."""
    return type(error)(
        error.kind,
        f"That can't be done, for a reason that {actor} may not see ({error.kind}). Ask an admin of the lakehouse.",
    )


def describe(state: State, scope: Scope) -> str:
    """Return a scope as it is written: `*`, `vision.*`, `vision.photos`."""
    if scope.series is not None:
        return next((n.full_name for n in state.find(_NAMES, scope.series)), f"{scope.namespace}.*")
    return "*" if scope == EVERYWHERE else f"{scope.namespace}.*"


def scope_of_name(state: State, full_name: str) -> Scope:
    """Return the scope of a dataset's name; one that was never used is judged by its namespace alone."""
    name = state.get(Name, full_name.casefold())
    if name is not None and name.alias_of is not None:
        name = state.get(Name, name.alias_of.casefold()) or name
    own = name.full_name if name is not None else full_name
    return Scope(own.partition(".")[0], (name.series or None) if name is not None else None)


def scope_of(state: State, resource: str) -> Scope:
    """Return the scope that is written `*`, `vision.*` or `vision.photos`."""
    if resource == EVERYWHERE.namespace:
        return EVERYWHERE
    if resource.endswith(".*"):
        return Scope(resource.removesuffix(".*"))
    return scope_of_name(state, resource)


def scopes_of(state: State, value: Value) -> list[Scope]:
    """Return what a value of the ledger is about: first the thing itself, then what else it tells of.

    A value that nothing is said about here is about the whole lakehouse.
    """
    match value:
        case Dataset():
            return [_of_dataset(state, value)]
        case Name():
            return [scope_of_name(state, value.full_name)]
        case DatasetVersion() | Tag():
            return [_of_series(state, value.series)]
        case CheckDefinition() | Condemned() | Hold() | Metadata() | SchemaVersion():
            return [_of_id(state, value.dataset_id)]
        case Cursor():
            return [_of_id(state, value.dataset_id), _of_id(state, value.target)]
        case NamedSnapshot() | Lease():
            return [_of_id(state, m.dataset_id) for m in value.members]
        case Milestone():
            return [_of_namespace(value.full_name), *(scope_of_name(state, m) for m in value.members)]
        case MilestoneVersion() | PendingVersion():
            return [_of_namespace(value.full_name), *(_of_id(state, m.dataset_id) for m in value.members)]
        case Subscription():
            milestone = state.get(Milestone, value.milestone.casefold())
            return [EVERYWHERE] if milestone is None else scopes_of(state, milestone)
        case RetentionPolicy() | Grant():
            return [Scope(value.namespace, value.series)]
    return [EVERYWHERE]


def _operation(action: str) -> Operation:
    found = OPERATIONS.get(action)
    if found is None:
        raise InternalError("operation-unknown", f"No rule says who may do {action!r}. Please report this.")
    return found


def _covers(grant: Grant, scope: Scope) -> bool:
    if grant.namespace == EVERYWHERE.namespace:
        return True
    same = grant.namespace.casefold() == scope.namespace.casefold()
    return grant.series == scope.series if grant.series is not None else same


def _is_own(value: Value, actor: str) -> bool:
    names = ("principal",) if isinstance(value, Token) else ("holder", "created_by")
    return actor.casefold() in (str(getattr(value, name, "")).casefold() for name in names)


def _of_namespace(full_name: str) -> Scope:
    return Scope(full_name.partition(".")[0])


def _of_series(state: State, series: str) -> Scope:
    # A dataset that was renamed into another namespace belongs there.
    found = next((n for n in state.find(_NAMES, series)), None)
    return EVERYWHERE if found is None else Scope(found.full_name.partition(".")[0], series)


def _of_dataset(state: State, dataset: Dataset) -> Scope:
    if dataset.copy_of is not None:
        return _of_id(state, dataset.copy_of)
    known = state.get(Dataset, dataset.dataset_id) or dataset  # whoever renames it may do so by its name until then
    return scope_of_name(state, known.full_name)


def _of_id(state: State, dataset_id: str) -> Scope:
    found = state.get(Dataset, dataset_id)
    return EVERYWHERE if found is None else _of_dataset(state, found)


__all__ = [
    "EVERYWHERE",
    "OPERATIONS",
    "Operation",
    "Role",
    "Scope",
    "check",
    "check_decisions",
    "describe",
    "is_controlled",
    "role_in",
    "scope_of",
    "scope_of_name",
    "scopes_of",
    "unexplained",
]
