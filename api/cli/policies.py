"""Commands: `lakehouse retention ...`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, commands, open_lake
from api.cli.output import Column, ask_first, note, print_record, print_rows, text, when, words
from catalog.policies import Retention
from lakehouse.rehearsal import rehearsal

app = commands()
retention = commands("Set, list and remove policies that say which versions stay.")
app.add_typer(retention, name="retention")

Scope = Annotated[str, typer.Argument(metavar="NAMESPACE|DATASET", help="vision or vision.*, [namespace.]dataset")]


@command(
    retention,
    "set",
    example="retention set vision --keep-last 10 --keep-for 90d --keep-tag FINAL",
    python='catalog.set_retention(lake, "vision", keep_last=10, keep_for="90d", keep_tags=["FINAL"])',
)
def set_(
    ctx: typer.Context,
    scope: Scope,
    keep_last: Annotated[int | None, typer.Option(metavar="N", help="Keep the N newest versions of each.")] = None,
    keep_for: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Keep what was published within: 12h, 90d, 4w.")
    ] = None,
    keep_tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Keep versions with this data tag; may be given again.")
    ] = None,
    message: Message = None,
) -> None:
    """Say which published versions of a dataset, or of a namespace's datasets, stay; a dataset's own policy goes first.

    `lakehouse expire` without rules follows the policies; nothing expires by itself.
    """
    made = catalog.set_retention(
        open_lake(ctx), scope, keep_last=keep_last, keep_for=keep_for, keep_tags=keep_tag or [], message=message
    )
    print_record(call_of(ctx), _json(made), [("policy", made.scope), *_lines(made)])
    note(f"See what it would give up with: lakehouse expire {'--all' if made.policy.series is None else made.scope}")


@command(retention, "list", example="retention list", python="catalog.list_retention(lake)")
def list_(ctx: typer.Context) -> None:
    """List the retention policies."""
    columns = [
        Column("scope", "policy"),
        Column("keep_last", "keep last", text, right=True),
        Column("keep_for", "keep for", text),
        Column("keep_tags", "keep tags", words),
        Column("created_at", "since", when),
        Column("created_by", "by"),
    ]
    rows = [_json(r) for r in catalog.list_retention(open_lake(ctx))]
    print_rows(call_of(ctx), rows, columns, empty="There is no retention policy: every version stays.")


@command(
    retention, "remove", example="retention remove vision --yes", python='catalog.remove_retention(lake, "vision")'
)
def remove(ctx: typer.Context, scope: Scope, yes: Yes = False) -> None:
    """Remove a policy; of a dataset, its namespace's then holds again."""
    call, lake = call_of(ctx), open_lake(ctx)
    if not yes:
        found = catalog.remove_retention(rehearsal(lake), scope)
        ask_first(call, _json(found), [("would remove", found.scope), *_lines(found)])
        return
    gone = catalog.remove_retention(lake, scope)
    print_record(call, _json(gone), [("removed", gone.scope)])


def _json(found: Retention) -> dict[str, Any]:
    own = found.policy
    return {
        "scope": found.scope,
        "keep_last": own.keep_last,
        "keep_for": own.keep_for,
        "keep_tags": list(own.keep_tags),
        "created_at": own.created_at,
        "created_by": own.created_by,
    }


def _lines(found: Retention) -> list[tuple[str, str]]:
    own = found.policy
    return [("keep last", text(own.keep_last)), ("keep for", own.keep_for or ""), ("keep tags", words(own.keep_tags))]
