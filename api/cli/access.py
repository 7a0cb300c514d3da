"""Commands: `lakehouse access ...` and `lakehouse grant ...`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, commands, open_lake
from api.cli.output import Column, ask_first, note, print_record, print_rows, when
from catalog.access import ROLES, AccessInfo, GrantInfo
from lakehouse.access import is_controlled
from lakehouse.lake import Lake
from lakehouse.rehearsal import rehearsal

app = commands()
access = commands("Switch access control on and off, and ask who may do what.")
app.add_typer(access, name="access")
grants = commands("Grant roles to people and services, and take them back.")
app.add_typer(grants, name="grant")

Who = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="A person or service, see: lakehouse user list")]
Scope = Annotated[str, typer.Argument(metavar="SCOPE", help="'*', 'vision.*' or [namespace.]dataset")]
Role = Annotated[str, typer.Argument(metavar="|".join(ROLES).upper(), help="Each may also do what those before may.")]


@command(access, "show", example="access show", python="catalog.show_access(lake)")
def show(ctx: typer.Context) -> None:
    """Show whether access is controlled, as whom you act, and what you were granted."""
    _print_access(ctx, catalog.show_access(open_lake(ctx)))


@command(access, "on", example="access on --yes", python="catalog.set_access(lake, True)")
def on(ctx: typer.Context, yes: Yes = False, message: Message = None) -> None:
    """Let nobody do anything that was not granted; who switches it on becomes an admin, unless there is one."""
    _switch(ctx, open_lake(ctx), True, yes, message)


@command(access, "off", example="access off --yes", python="catalog.set_access(lake, False)")
def off(ctx: typer.Context, yes: Yes = False, message: Message = None) -> None:
    """Let everybody do everything again; grants are kept, and count when it is switched on again."""
    _switch(ctx, open_lake(ctx), False, yes, message)


@command(
    access,
    "check",
    example="access check ada version.publish vision.photos",
    python='catalog.may(lake, "ada", "version.publish", "vision.photos")',
)
def check(
    ctx: typer.Context,
    principal: Who,
    operation: Annotated[str, typer.Argument(metavar="OPERATION", help="data.read, rows.merge, version.publish, ...")],
    scope: Scope,
) -> None:
    """Say whether somebody may do an operation, which role it needs, and which one they have."""
    found = catalog.may(open_lake(ctx), principal, operation, scope)
    answer = ("yes" if found.allowed else "no") if found.controlled else "yes, since access is not controlled"
    lines = [
        ("may", f"{answer}: {operation} on {found.where}"),
        ("needs", found.needs or "no role"),
        ("has", found.has or "no role there"),
    ]
    print_record(call_of(ctx), {"principal": principal, "operation": operation, **asdict(found)}, lines)


@command(
    grants,
    "add",
    example="grant add ada publisher 'vision.*'",
    python='catalog.grant(lake, "ada", "publisher", "vision.*")',
)
def add(ctx: typer.Context, principal: Who, role: Role, scope: Scope) -> None:
    """Give somebody a role in a scope, in place of the one that they have there."""
    lake = open_lake(ctx)
    made = catalog.grant(lake, principal, role, scope)
    print_record(call_of(ctx), _grant(made), _lines("granted", made))
    if not is_controlled(lake.state()):
        note("Access control is off, so everybody may do everything. Switch it on with: lakehouse access on")


@command(grants, "list", example="grant list ada", python='catalog.list_grants(lake, principal="ada")')
def list_(
    ctx: typer.Context,
    principal: Annotated[str | None, typer.Argument(metavar="[PRINCIPAL]", help="Only theirs.")] = None,
    scope: Annotated[str | None, typer.Option(metavar="SCOPE", help="Only those on exactly this scope.")] = None,
) -> None:
    """List grants: your own, and those of scopes that you are an admin of."""
    rows = [_grant(g) for g in catalog.list_grants(open_lake(ctx), principal=principal, scope=scope)]
    columns = [
        Column("principal"),
        Column("role"),
        Column("scope"),
        Column("created_at", "since", when),
        Column("created_by", "by"),
    ]
    print_rows(call_of(ctx), rows, columns, empty="No grants. Make one with: lakehouse grant add PRINCIPAL ROLE SCOPE")


@command(
    grants, "remove", example="grant remove ada 'vision.*' --yes", python='catalog.revoke(lake, "ada", "vision.*")'
)
def remove(ctx: typer.Context, principal: Who, scope: Scope, yes: Yes = False) -> None:
    """Take the role back that somebody has in a scope; what they were granted around it still counts."""
    lake = open_lake(ctx)
    if not yes:
        found = catalog.revoke(rehearsal(lake), principal, scope)
        ask_first(call_of(ctx), _grant(found), _lines("would take back", found))
        return
    gone = catalog.revoke(lake, principal, scope)
    print_record(call_of(ctx), _grant(gone), _lines("taken back", gone))


def _switch(ctx: typer.Context, lake: Lake, enabled: bool, yes: bool, message: str | None) -> None:
    call, word = call_of(ctx), "on" if enabled else "off"
    if not yes:
        catalog.set_access(rehearsal(lake), enabled)
        granted = len(catalog.list_grants(lake))
        what = (
            f"on: only what was granted is allowed then; there are {granted} grants"
            if enabled
            else "off: everybody may do everything then"
        )
        ask_first(call, {"enabled": enabled, "grants": granted}, [("would switch", what)])
        return
    made = catalog.set_access(lake, enabled, message=message)
    _print_access(ctx, made)
    if enabled:
        note("Let others in with: lakehouse user add NAME, and lakehouse grant add NAME ROLE SCOPE")
    else:
        note(f"Access control is {word}: everybody may do everything.")


def _print_access(ctx: typer.Context, found: AccessInfo) -> None:
    record = {"enabled": found.enabled, "actor": found.actor, "grants": [_grant(g) for g in found.grants]}
    roles = [("granted" if not i else "", f"{g.grant.role} of {g.scope}") for i, g in enumerate(found.grants)]
    lines = [
        ("access control", "on" if found.enabled else "off: everybody may do everything"),
        ("you are", found.actor),
        *(roles or [("granted", "nothing")]),
    ]
    print_record(call_of(ctx), record, lines)


def _grant(found: GrantInfo) -> dict[str, Any]:
    return {
        "principal": found.grant.principal,
        "role": found.grant.role,
        "scope": found.scope,
        "created_at": found.grant.created_at,
        "created_by": found.grant.created_by,
    }


def _lines(word: str, found: GrantInfo) -> list[tuple[str, str]]:
    return [(word, f"{found.grant.role} of {found.scope}"), ("principal", found.grant.principal)]
