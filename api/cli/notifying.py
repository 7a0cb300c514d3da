"""Commands: `lakehouse notify ...`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Yes, command, commands, listed, open_lake
from api.cli.output import Column, ask_first, note, plural, print_record, print_rows, when, words
from catalog.events import KINDS
from catalog.notifications import retries
from lakehouse.decisions import Subscription
from lakehouse.rehearsal import rehearsal

app = commands()
notify = commands("Tell webhooks, mail and chats what happens to milestones.")
app.add_typer(notify, name="notify")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the subscription.")]


def _lines(made: Subscription) -> list[tuple[str, str]]:
    return [
        ("subscription", made.name),
        ("url", made.url),
        ("events", words(made.events) or "all"),
        ("milestone", made.milestone or "all"),
        ("secret", f"${made.secret_env}" if made.secret_env else "none"),
    ]


@command(
    notify,
    "add",
    example="notify add team https://example.org/hook --event milestone.published --secret-env HOOK_KEY",
    python='catalog.subscribe(lake, "team", "https://example.org/hook", events=["milestone.published"], '
    'secret_env="HOOK_KEY")',
)
def add(
    ctx: typer.Context,
    name: Name,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="Where events go: a webhook, or a channel that Apprise knows, such as slack://."
        ),
    ],
    event: Annotated[str | None, typer.Option(metavar="KINDS", help=f"Only these: {', '.join(KINDS)}.")] = None,
    milestone: Annotated[str | None, typer.Option(metavar="NAME", help="Only this milestone.")] = None,
    secret_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable with the signing key; of a channel its URL.")
    ] = "",
) -> None:
    """Tell a receiver of events from now on."""
    made = catalog.subscribe(
        open_lake(ctx), name, url, events=listed(event), milestone=milestone, secret_env=secret_env
    )
    print_record(call_of(ctx), asdict(made), _lines(made))


@command(notify, "list", example="notify list", python="catalog.list_subscriptions(lake)")
def list_subscriptions(ctx: typer.Context) -> None:
    """List the subscriptions."""
    rows = [asdict(s) for s in catalog.list_subscriptions(open_lake(ctx))]
    columns = [
        Column("name", "subscription"),
        Column("url"),
        Column("events", shown=words),
        Column("milestone"),
        Column("secret_env", "secret in"),
        Column("created_at", "created", when),
    ]
    print_rows(call_of(ctx), rows, columns, empty="No subscriptions. Make one: lakehouse notify add NAME URL")


@command(notify, "remove", example="notify remove team --yes", python='catalog.unsubscribe(lake, "team")')
def remove(ctx: typer.Context, name: Name, yes: Yes = False) -> None:
    """End a subscription."""
    lake = open_lake(ctx)
    if yes:
        gone = catalog.unsubscribe(lake, name)
        print_record(call_of(ctx), asdict(gone), [("removed", gone.name)])
        return
    found = catalog.unsubscribe(rehearsal(lake), name)
    ask_first(call_of(ctx), asdict(found), [("would remove", f"{found.name} ({found.url})")])


_ATTEMPTS = [
    Column("at", "time", when),
    Column("subscription"),
    Column("event"),
    Column("ok", "delivered", lambda ok: "yes" if ok else "no"),
    Column("error"),
    Column("next_at", "next attempt", when),
]


def _print_deliveries(ctx: typer.Context, made: list[catalog.Delivery], empty: str) -> None:
    rows: list[dict[str, Any]] = [asdict(d) for d in made]
    print_rows(call_of(ctx), rows, _ATTEMPTS, empty=empty)


@command(notify, "send", example="notify send", python="catalog.notify(lake)")
def send(ctx: typer.Context) -> None:
    """Deliver what was not delivered yet; `milestone watch` does so too."""
    lake = open_lake(ctx)
    made, waiting = catalog.notify(lake), retries(lake)
    _print_deliveries(ctx, made, "Nothing to deliver now." if waiting else "Nothing to deliver.")
    if waiting:
        wait = f"{plural(len(waiting), 'event')} {'waits' if len(waiting) == 1 else 'wait'}"
        note(f"{wait} for the next attempt, at {when(waiting[0])} the earliest.")


@command(notify, "log", example="notify log team", python='catalog.list_deliveries(lake, "team")')
def log(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only of this subscription.")] = None,
) -> None:
    """List the attempts to deliver, newest first."""
    _print_deliveries(ctx, catalog.list_deliveries(open_lake(ctx), name), "Nothing was delivered yet.")
