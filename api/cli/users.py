"""Commands: `lakehouse user ...` and `lakehouse token ...`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Yes, command, commands, open_lake
from api.cli.output import Column, ask_first, note, plural, print_record, print_rows, text, when
from catalog.tokens import EXPIRES, find_token
from lakehouse.decisions import Principal, Token
from lakehouse.rehearsal import rehearsal

app = commands()
users = commands("Add, list and remove people and services.")
app.add_typer(users, name="user")
tokens = commands("Make, list and revoke tokens that prove who acts.")
app.add_typer(tokens, name="token")

UserName = Annotated[str, typer.Argument(metavar="NAME", help="As the operating system or a token calls them.")]
TokenId = Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, see: lakehouse token list")]


@command(
    users,
    "add",
    example="user add ada --description 'Vision team'",
    python='catalog.add_principal(lake, "ada", description="Vision team")',
)
def add(
    ctx: typer.Context,
    name: UserName,
    service: Annotated[bool, typer.Option("--service", help="A service, no person.")] = False,
    description: Annotated[str, typer.Option(metavar="TEXT", help="Who or what it is.")] = "",
) -> None:
    """Make a person or a service known, so that roles can be granted to it."""
    made = catalog.add_principal(open_lake(ctx), name, kind="service" if service else "person", description=description)
    print_record(call_of(ctx), asdict(made), _lines("added", made))
    note(f"Give it a role with: lakehouse grant add {made.name} reader SCOPE")


@command(users, "list", example="user list", python="catalog.list_principals(lake)")
def list_(ctx: typer.Context) -> None:
    """List people and services; who is no admin of the lakehouse sees himself."""
    columns = [
        Column("name"),
        Column("kind"),
        Column("description"),
        Column("created_at", "since", when),
        Column("created_by", "by"),
    ]
    rows = [asdict(p) for p in catalog.list_principals(open_lake(ctx))]
    print_rows(call_of(ctx), rows, columns, empty="Nobody is known yet. Add somebody with: lakehouse user add NAME")


@command(users, "remove", example="user remove ada --yes", python='catalog.remove_principal(lake, "ada")')
def remove(ctx: typer.Context, name: UserName, yes: Yes = False) -> None:
    """Forget a person or service, with all grants and tokens; what they did stays in the audit."""
    call, lake = call_of(ctx), open_lake(ctx)
    if not yes:
        found = catalog.remove_principal(rehearsal(lake), name)
        counts = plural(len(catalog.list_grants(lake, principal=found.name)), "grant")
        ask_first(call, asdict(found), [*_lines("would remove", found), ("with", counts)])
        return
    gone = catalog.remove_principal(lake, name)
    print_record(call, asdict(gone), _lines("removed", gone))


@command(
    tokens,
    "create",
    example="token create ci --expires 30d --description 'Nightly build'",
    python='catalog.create_token(lake, "ci", expires="30d", description="Nightly build")',
)
def create(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Whom it stands for; you, if not given.")] = None,
    expires: Annotated[str, typer.Option(metavar="SPAN", help="How long it holds: 12h, 90d, 4w.")] = EXPIRES,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
) -> None:
    """Make a token that proves who acts. It is shown this once; set $LAKEHOUSE_TOKEN to it."""
    made = catalog.create_token(open_lake(ctx), name, expires=expires, description=description)
    record = {**_token(made.token), "token": made.text}
    print_record(call_of(ctx), record, [("token", made.text), *_token_lines(made.token)])
    note("Keep it now: it is stored nowhere and can't be shown again.")


@command(tokens, "list", example="token list", python="catalog.list_tokens(lake)")
def list_tokens(ctx: typer.Context) -> None:
    """List your tokens; an admin of the lakehouse sees all."""
    columns = [
        Column("token_id", "id"),
        Column("principal"),
        Column("status"),
        Column("description"),
        Column("created_at", "since", when),
        Column("expires_at", "expires", when),
    ]
    rows = [_token(t) for t in catalog.list_tokens(open_lake(ctx))]
    print_rows(call_of(ctx), rows, columns, empty="No tokens. Make one with: lakehouse token create")


@command(
    tokens, "revoke", example="token revoke 3f2a90c1b4d7 --yes", python='catalog.revoke_token(lake, "3f2a90c1b4d7")'
)
def revoke(ctx: typer.Context, token: TokenId, yes: Yes = False) -> None:
    """End a token now."""
    call, lake = call_of(ctx), open_lake(ctx)
    if not yes:
        catalog.revoke_token(rehearsal(lake), token)
        found = find_token(lake.state(), token)
        ask_first(call, _token(found), [("would revoke", found.token_id), *_token_lines(found)])
        return
    gone = catalog.revoke_token(lake, token)
    print_record(call, _token(gone), [("revoked", gone.token_id), *_token_lines(gone)])


def _lines(word: str, found: Principal) -> list[tuple[str, str]]:
    return [(word, found.name), ("kind", found.kind), ("description", found.description)]


def _token(found: Token) -> dict[str, Any]:
    """Return a token without its digest."""
    held = "valid" if found.expires_at > datetime.now(UTC) else "expired"
    return {
        "token_id": found.token_id,
        "principal": found.principal,
        "status": held if found.revoked_at is None else "revoked",
        "description": found.description,
        "created_at": found.created_at,
        "created_by": found.created_by,
        "expires_at": found.expires_at,
        "revoked_at": found.revoked_at,
    }


def _token_lines(found: Token) -> list[tuple[str, str]]:
    return [
        ("stands for", found.principal),
        ("description", text(found.description)),
        ("expires", when(found.expires_at)),
    ]
