"""Access: principals, the roles that they are granted, and the switch that makes grants count.

What each operation needs, and the check, are in `lakehouse.access`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from lakehouse.access import (
    EVERYWHERE,
    OPERATIONS,
    Role,
    Scope,
    describe,
    is_controlled,
    role_in,
    scope_of,
)
from lakehouse.decisions import AccessControl, Dataset, Decision, Grant, Principal, RoleName, Token
from lakehouse.errors import AccessDeniedError, InvalidInputError, NotFoundError, StateError, suggest
from lakehouse.lake import Lake
from lakehouse.ledger import State
from lakehouse.references import check_namespace, parse_name
from lakehouse.resolution import find_name, known_name

ROLES: tuple[str, ...] = tuple(role.word for role in Role)
"""The roles, the smallest first."""
_PRINCIPAL = re.compile(r"\w[\w.@+:-]{0,127}")


@dataclass(frozen=True, slots=True)
class GrantInfo:
    """One grant, and its scope as it is written now."""

    grant: Grant
    scope: str
    """`*`, `vision.*`, `vision.photos`."""


@dataclass(frozen=True, slots=True)
class AccessInfo:
    """Whether access is controlled, and what the actor may do."""

    enabled: bool
    actor: str
    grants: tuple[GrantInfo, ...]


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether somebody may do an operation, and why."""

    allowed: bool
    needs: str | None
    """The role that it needs; None: none."""
    has: str | None
    """The largest role that he has there; None: none."""
    where: str
    """What was asked about."""
    controlled: bool
    """Whether grants count; if not, everybody may do everything."""


def set_access(lake: Lake, enabled: bool, *, message: str | None = None) -> AccessInfo:
    """Switch access control on or off for everybody.

    Who switches it on is made an admin of the lakehouse, unless there is one.

    Raises:
        AccessDeniedError: he is no admin of the lakehouse (access-denied).
        InvalidInputError: the actor's name can't be a principal's (principal-invalid).
    """

    def rule(state: State) -> tuple[None, list[Decision]]:
        if is_controlled(state) == enabled:
            return None, []
        now = datetime.now(UTC)
        action = "access.on" if enabled else "access.off"
        made = [Decision.put(action, AccessControl(enabled=enabled, changed_at=now, changed_by=lake.actor))]
        if enabled and not _admins(state):
            name = _known_spelling(state, lake.actor) or _checked_principal(lake.actor)
            if state.get(Principal, name.casefold()) is None:
                principal = Principal(name=name, created_at=now, created_by=lake.actor)
                made.append(Decision.put("principal.add", principal))
            grant = Grant(principal=name, role="admin", namespace="*", created_at=now, created_by=lake.actor)
            made.append(Decision.put("grant.add", grant))
        return None, made

    lake.ledger.decide(rule, message=message)
    return show_access(lake)


def show_access(lake: Lake) -> AccessInfo:
    """Return whether access is controlled, who acts, and what was granted to him."""
    return AccessInfo(is_controlled(lake.state()), lake.actor, tuple(list_grants(lake, principal=lake.actor)))


def add_principal(
    lake: Lake, name: str, *, kind: Literal["person", "service"] = "person", description: str = ""
) -> Principal:
    """Make a person or a service known, so that roles can be granted to it.

    Args:
        name: As the operating system, a token or an identity provider calls it; the same in any case.
    Raises:
        InvalidInputError: no such name can be (principal-invalid).
        StateError: it is known already (principal-exists).
        AccessDeniedError: access-denied.
    """
    _checked_principal(name)
    value = Principal(
        name=name, kind=kind, description=description, created_at=datetime.now(UTC), created_by=lake.actor
    )

    def rule(state: State) -> tuple[Principal, list[Decision]]:
        if state.get(Principal, value.key) is not None:
            raise StateError("principal-exists", f"There is a principal {name!r} already.", principal=name)
        return value, [Decision.put("principal.add", value)]

    return lake.ledger.decide(rule).result


def remove_principal(lake: Lake, name: str) -> Principal:
    """Forget a principal, with its grants and tokens; what it did stays in the audit.

    Raises:
        NotFoundError: there is none of that name (principal-not-found).
        StateError: nobody would be left who is an admin of the lakehouse (last-admin).
        AccessDeniedError: access-denied.
    """

    def rule(state: State) -> tuple[Principal, list[Decision]]:
        found = find_principal(state, name)
        _refuse_last_admin(state, without=found.name)
        grants = [g for g in state.all(Grant) if g.principal.casefold() == found.key]
        tokens = [t for t in state.all(Token) if t.principal.casefold() == found.key]
        return found, [Decision.remove("principal.remove", value) for value in (found, *grants, *tokens)]

    return lake.ledger.decide(rule).result


def list_principals(lake: Lake) -> list[Principal]:
    """Return the principals by name; who is no admin of the lakehouse sees himself."""
    return sorted(lake.state().all(Principal), key=lambda p: p.key)


def find_principal(state: State, name: str) -> Principal:
    """Return a principal.

    Raises:
        NotFoundError: there is none of that name (principal-not-found).
    """
    found = state.get(Principal, name.casefold())
    if found is None:
        near = suggest(name, [p.name for p in state.all(Principal)])
        raise NotFoundError(
            "principal-not-found", f"There is no principal {name!r}.{near} Add it with: lakehouse user add {name}"
        )
    return found


def grant(lake: Lake, principal: str, role: str, scope: str) -> GrantInfo:
    """Give somebody a role in a scope, in place of the one that he has there.

    Args:
        role: reader, writer, publisher or admin; each may also do what those before it may.
        scope: `*` for the lakehouse, `vision.*` for a namespace, `vision.photos` for a dataset, which keeps it when it is
            renamed, and when it is dropped and made again.
    Raises:
        InvalidInputError: role-unknown; reference-invalid, name-invalid, name-reserved.
        NotFoundError: principal-not-found, dataset-not-found.
        StateError: nobody would be left who is an admin of the lakehouse (last-admin).
        AccessDeniedError: he is no admin of that scope (access-denied).
    """
    if role not in ROLES:
        raise InvalidInputError("role-unknown", f"There is no role {role!r}. Roles: {', '.join(ROLES)}.")

    def rule(state: State) -> tuple[Grant, list[Decision]]:
        where = _scope(state, scope)
        # An admin of one namespace does not see whom there is; the decision in the end does.
        who = principal if state.viewer else find_principal(state, principal).name
        value = Grant(
            principal=who,
            role=cast("RoleName", role),
            namespace=where.namespace,
            series=where.series,
            created_at=datetime.now(UTC),
            created_by=lake.actor,
        )
        if where == EVERYWHERE and role != "admin":
            _refuse_last_admin(state, without=who)
        known = state.get(Grant, value.key)
        return value, [] if known is not None and known.role == role else [Decision.put("grant.add", value)]

    return _info(lake.state(), lake.ledger.decide(rule).result)


def revoke(lake: Lake, principal: str, scope: str) -> GrantInfo:
    """Take the role back that somebody was granted in a scope; what he was granted around it still counts.

    Raises:
        NotFoundError: he was granted nothing there (grant-not-found), dataset-not-found.
        StateError: nobody would be left who is an admin of the lakehouse (last-admin).
        AccessDeniedError: he is no admin of that scope (access-denied).
    """

    def rule(state: State) -> tuple[GrantInfo, list[Decision]]:
        found = _find_grant(state, principal, scope)
        if found.scope == "*":
            _refuse_last_admin(state, without=found.grant.principal)
        return found, [Decision.remove("grant.remove", found.grant)]

    return lake.ledger.decide(rule).result


def _find_grant(state: State, principal: str, scope: str) -> GrantInfo:
    """Return the grant that `revoke` would take back; errors as there."""
    where = _scope(state, scope)
    found = state.get(Grant, f"{where.series or where.namespace.casefold()}/{principal.casefold()}")
    if found is None:
        raise NotFoundError(
            "grant-not-found",
            f"{principal} was granted nothing on {describe(state, where)} itself. See: lakehouse grant list {principal}",
        )
    return _info(state, found)


def list_grants(lake: Lake, *, principal: str | None = None, scope: str | None = None) -> list[GrantInfo]:
    """Return the grants by principal and scope: one's own, and those of scopes that one is an admin of.

    Args:
        principal: Only his.
        scope: Only those on exactly this scope.
    Raises:
        NotFoundError, InvalidInputError: the scope is none, as `grant`.
    """
    state = lake.state()
    where = None if scope is None else _scope(state, scope)
    found = [
        _info(state, g)
        for g in state.all(Grant)
        if (principal is None or g.principal.casefold() == principal.casefold())
        and (where is None or (g.namespace.casefold(), g.series) == (where.namespace.casefold(), where.series))
    ]
    return sorted(found, key=lambda g: (g.grant.principal.casefold(), g.scope.casefold()))


def may(lake: Lake, principal: str, action: str, scope: str) -> Permission:
    """Return whether somebody may do an operation, and what it needs.

    Args:
        action: One of `lakehouse.access.OPERATIONS`: `version.publish`.
        scope: As `grant` takes it.
    Raises:
        InvalidInputError: there is no such operation (operation-unknown).
        AccessDeniedError: he asks for somebody else, and is no admin of that scope (access-denied).
    """
    if action not in OPERATIONS:
        near = suggest(action, list(OPERATIONS))
        raise InvalidInputError(
            "operation-unknown", f"There is no operation {action!r}.{near} Operations: {', '.join(OPERATIONS)}."
        )
    if principal.casefold() != lake.actor.casefold():
        try:
            lake.check("grant.add", scope)
        except AccessDeniedError as error:
            told = f"Only an admin of {scope} may ask what others may do there; what {lake.actor} may do, he may ask."
            raise AccessDeniedError("access-denied", told) from error
    state, seen = lake.ledger.unguarded().state(), lake.state()
    # By what the actor sees: of a name that is hidden from him he learns as much as of one that is none.
    where = scope_of(seen, scope if scope == "*" or scope.endswith(".*") else ".".join(parse_name(scope)))
    needed = OPERATIONS[action].role
    around = EVERYWHERE if OPERATIONS[action].is_global else where
    role = role_in(state, principal, around)
    allowed = not is_controlled(state) or needed is None or (role is not None and role >= needed)
    return Permission(allowed, _word(needed), _word(role), describe(seen, around), is_controlled(state))


def _scope(state: State, text: str) -> Scope:
    """Return the scope that somebody wrote, which must be there unless it is a namespace.

    Raises:
        InvalidInputError: reference-invalid, name-invalid, name-reserved.
        NotFoundError: dataset-not-found.
    """
    if text == "*":
        return EVERYWHERE
    if text.endswith(".*"):
        namespace = check_namespace(text.removesuffix(".*"))
        known = {d.namespace.casefold(): d.namespace for d in state.all(Dataset)}
        return Scope(known.get(namespace.casefold(), namespace))
    full_name = ".".join(parse_name(text))
    if "." not in text and known_name(state, full_name) is None:
        raise NotFoundError(
            "dataset-not-found", f"There is no dataset {text!r}. A namespace is written {text}.*", dataset=full_name
        )
    return scope_of(state, find_name(state, full_name).full_name)


def _word(role: Role | None) -> str | None:
    return None if role is None else role.word


def _info(state: State, found: Grant) -> GrantInfo:
    return GrantInfo(found, describe(state, Scope(found.namespace, found.series)))


def _admins(state: State) -> set[str]:
    return {g.principal.casefold() for g in state.all(Grant) if (g.namespace, g.role) == ("*", "admin")}


def _refuse_last_admin(state: State, without: str) -> None:
    if is_controlled(state) and not state.viewer and _admins(state) == {without.casefold()}:
        raise StateError(
            "last-admin",
            f"{without} is the only admin of the lakehouse. Make somebody else one first: lakehouse grant add NAME admin '*'",
        )


def _checked_principal(name: str) -> str:
    if not _PRINCIPAL.fullmatch(name):
        raise InvalidInputError(
            "principal-invalid",
            f"{name!r} can't be a principal. Use letters, digits and . @ + : - _, at most 128, such as ada@example.org.",
        )
    return name


def _known_spelling(state: State, name: str) -> str | None:
    found = state.get(Principal, name.casefold())
    return None if found is None else found.name


__all__ = [
    "ROLES",
    "AccessInfo",
    "GrantInfo",
    "Permission",
    "add_principal",
    "find_principal",
    "grant",
    "list_grants",
    "list_principals",
    "may",
    "remove_principal",
    "revoke",
    "set_access",
    "show_access",
]
