"""Commands: `lakehouse milestone ...`: what a milestone is made of, and its versions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import catalog
from api.cli import milestone_versions
from api.cli.call import call_of
from api.cli.command import Message, command, commands, listed, open_lake
from api.cli.output import Column, note, notice_text, print_record, print_rows, version, when, words
from catalog.aggregation import Standing
from catalog.milestones import MilestoneInfo
from catalog.notifications import Target, check_target, subscribe_all
from lakehouse.decisions import DatasetVersion, Milestone
from lakehouse.errors import InvalidInputError

app = commands()
milestone = commands("Define, publish, show and archive milestones.")
app.add_typer(milestone, name="milestone")
milestone_versions.register(milestone)

Name = Annotated[str, typer.Argument(metavar="NAME", help="[namespace.]name")]
Member = Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")]


def _milestone_json(value: Milestone) -> dict[str, Any]:
    return {
        "milestone": value.full_name,
        "latest_version": value.last_version or None,
        "datasets": list(value.members),
        "data_tags": list(value.data_tags),
        "links": [str(link) for link in value.links],
        "checks": list(value.checks),
        "advance": value.advance,
        "policy": value.policy,
        "protected": value.protected,
        "description": value.description,
        "created_at": value.created_at,
    }


def _print_published(ctx: typer.Context, info: MilestoneInfo) -> None:
    made = info.version
    noticed = {(v.dataset_id, v.table_version): v for v in info.notices}
    record: dict[str, Any] = {
        "milestone": made.full_name,
        "version": made.number,
        "status": made.status,
        "data_tag": made.data_tag,
        "attribute": info.attribute,
        "color": info.color,
        "published_at": made.published_at,
        "published_by": made.published_by,
        "message": made.message,
        "datasets": [
            {k: v for k, v in asdict(m).items() if k in ("version", "table_version", "data_tag")}
            | {"dataset": m.full_name, "ready": True}
            | _notice_json(noticed.get((m.dataset_id, m.table_version)))
            for m in made.members
        ],
        "links": [asdict(proof) for proof in made.proofs],
        "new": info.new,
    }
    tagged = (
        f"{made.data_tag} ({words(v for v in (info.attribute, info.color) if v)})" if info.attribute else made.data_tag
    )
    lines = [
        ("milestone", f"{made.full_name}/v{made.number}"),
        ("status", made.status),
        ("data tag", tagged or "the members' differ"),
        ("published", f"{when(made.published_at)} by {made.published_by}"),
        ("message", made.message),
    ]
    print_record(call_of(ctx), record, lines)
    if not call_of(ctx).json:
        typer.echo()
        columns = [
            Column("dataset"),
            Column("version", shown=version),
            Column("table_version", "commit", lambda n: f"#{n}", right=True),
            Column("data_tag", "data tag"),
            Column("said", "notice"),
        ]
        rows = [m | {"said": notice_text(m["notice"], withdrawn=m["withdrawn"])} for m in record["datasets"]]
        print_rows(call_of(ctx), rows, columns, empty="")


def _notice_json(noticed: DatasetVersion | None) -> dict[str, Any]:
    return {"notice": noticed.notice if noticed else None, "withdrawn": noticed is not None and noticed.withdrawn}


def standing_json(found: Standing) -> dict[str, Any]:
    """Return where a milestone stands, as JSON."""
    pending, published = found.pending, found.published
    awaited = {w.dataset.casefold() for w in pending.waiting} if pending else set()
    chosen = {m.full_name.casefold(): m for m in pending.members} if pending else {}
    return {
        "milestone": found.milestone.full_name,
        "latest_version": published.number if published else None,
        "version": pending.number if pending else published.number if published else None,
        "status": pending.status if pending else published.status if published else "Pending",
        "data_tag": pending.data_tag if pending else published.data_tag if published else None,
        "since": pending.since if pending else None,
        "datasets": [
            {
                "dataset": name,
                "version": m.version if (m := chosen.get(name.casefold())) else None,
                "table_version": m.table_version if m else None,
                "data_tag": m.data_tag if m else None,
                "ready": m is not None and name.casefold() not in awaited,
            }
            for name in (found.milestone.members if pending else ())
        ],
        "waiting": [asdict(w) for w in pending.waiting] if pending else [],
    }


def print_standing(ctx: typer.Context, found: Standing) -> None:
    """Print where a milestone stands: what the next version waits for, one line each."""
    record = standing_json(found)
    newest = f"{found.milestone.full_name}/v{found.published.number}" if found.published else "none"
    state = "nothing new since" if found.pending is None else f"v{found.pending.number} is {found.pending.status}"
    since = f" since {when(found.pending.since)}" if found.pending else ""
    lines = [("milestone", found.milestone.full_name), ("published", newest), ("next", state + since)]
    print_record(call_of(ctx), record, lines)
    if call_of(ctx).json or found.pending is None:
        return
    typer.echo()
    columns = [
        Column("dataset"),
        Column("version", shown=version),
        Column("data_tag", "data tag"),
        Column("ready", shown=lambda ready: "yes" if ready else "no"),
    ]
    print_rows(call_of(ctx), record["datasets"], columns, empty="")
    if found.pending.waiting:
        typer.echo()
        shown = [Column("since", "waits since", when), Column("detail", "for")]
        print_rows(call_of(ctx), record["waiting"], shown, empty="")
    else:
        note(f"Publish it with: lakehouse milestone publish {found.milestone.full_name}")


@command(
    milestone,
    "define",
    example="milestone define spring orders customers --data-tag FINAL --link 'orders.customer_id -> customers.id'",
    python='catalog.define_milestone(lake, "spring", ["orders", "customers"], data_tags=["FINAL"], '
    'links=["orders.customer_id -> customers.id"])',
)
def define(
    ctx: typer.Context,
    name: Name,
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="Its members.")],
    data_tag: Annotated[
        str | None, typer.Option(metavar="TAGS", help="Versions with these data tags count, the strongest last.")
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(metavar="LINK", help="'orders.customer_id -> customers.id'; several times. '' drops all."),
    ] = None,
    check: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Members' checks that must pass though they are warnings.")
    ] = None,
    advance: Annotated[
        Literal["any", "all"] | None,
        typer.Option(help="Move on with any new member, or when all are new. [default: any]"),
    ] = None,
    policy: Annotated[
        Literal["automatic", "manual"] | None,
        typer.Option(help="Publish what is ready at once, or by hand. [default: automatic]"),
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    notify: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="Whom to tell of its events; several times.")
    ] = None,
    message: Message = None,
) -> None:
    """Define a milestone, or change what its next versions are made of."""
    lake = open_lake(ctx)
    targets = [_target(text) for text in notify or ()]
    for target in targets:
        check_target(target)
    made = catalog.define_milestone(
        lake,
        name,
        datasets,
        data_tags=None if data_tag is None else listed(data_tag),
        links=None if link is None else [text for text in link if text],
        checks=None if check is None else listed(check),
        advance=advance,
        policy=policy,
        description=description,
        message=message,
    )
    if targets:
        subscribe_all(lake, made.full_name, targets)
    _print_definition(ctx, made)


def _target(text: str) -> Target:
    name, equals, url = text.partition("=")
    if not equals:
        raise InvalidInputError("option-invalid", f"{name!r} is not NAME=URL, such as team=https://example.org/hook.")
    return Target(name, url)


def _print_definition(ctx: typer.Context, made: Milestone) -> None:
    lines = [
        ("milestone", made.full_name),
        ("members", words(made.members)),
        ("data tags", words(made.data_tags) or "all"),
        ("links", words(map(str, made.links))),
        ("checks", words([*made.checks, "all errors"])),
        ("moves on", f"with {made.advance} new, {made.policy}"),
        ("description", made.description),
    ]
    print_record(call_of(ctx), _milestone_json(made), lines)
    note(f"See what it waits for: lakehouse milestone status {made.full_name}")


@command(
    milestone,
    "load",
    example="milestone load spring.yaml",
    python='catalog.load_milestone(lake, "spring.yaml")',
)
def load(ctx: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE")], message: Message = None) -> None:
    """Define a milestone as a YAML file says; docs/owners.md shows one."""
    _print_definition(ctx, catalog.load_milestone(open_lake(ctx), file, message=message))


@command(
    milestone,
    "join",
    example="milestone join spring vision.labels",
    python='catalog.join_milestone(lake, "spring", "vision.labels")',
)
def join(ctx: typer.Context, name: Name, dataset: Member) -> None:
    """Make a dataset a member, from the next version on."""
    print_standing(ctx, catalog.join_milestone(open_lake(ctx), name, dataset))


@command(
    milestone,
    "leave",
    example="milestone leave spring vision.labels",
    python='catalog.leave_milestone(lake, "spring", "vision.labels")',
)
def leave(ctx: typer.Context, name: Name, dataset: Member) -> None:
    """Take a dataset out, from the next version on; published versions keep it."""
    print_standing(ctx, catalog.leave_milestone(open_lake(ctx), name, dataset))


@command(
    milestone,
    "publish",
    example='milestone publish spring -m "ready for training"',
    python='catalog.publish_milestone(lake, "spring", message="ready for training")',
)
def publish_milestone(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    accept_schema: Annotated[
        bool, typer.Option("--accept-schema", help="Also when a member lost columns, or changed types.")
    ] = False,
    message: Message = None,
) -> None:
    """Publish the members' newest versions together, in one commit, if nothing is missing."""
    info = catalog.publish_milestone(open_lake(ctx), name, accept_schema=accept_schema, message=message)
    if not info.new:
        note(f"Nothing was published: nothing new since v{info.version.number}.")
    _print_published(ctx, info)


@command(milestone, "show", example="milestone show spring/v2", python='catalog.show_milestone(lake, "spring/v2")')
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="spring, spring/v2 or spring/FINAL")],
) -> None:
    """Show a published version of a milestone; the newest, unless one is named."""
    _print_published(ctx, catalog.show_milestone(open_lake(ctx), name))


@command(milestone, "status", example="milestone status spring", python='catalog.milestone_status(lake, "spring")')
def status(ctx: typer.Context, name: Name) -> None:
    """Show what the next version waits for, and since when."""
    print_standing(ctx, catalog.milestone_status(open_lake(ctx), name))


@command(milestone, "list", example="milestone list", python="catalog.list_milestones(lake)")
def list_milestones(ctx: typer.Context) -> None:
    """List the milestones."""
    rows = [_milestone_json(m) for m in catalog.list_milestones(open_lake(ctx))]
    columns = [
        Column("milestone"),
        Column("latest_version", "latest", version),
        Column("datasets", shown=words),
        Column("data_tags", "data tags", words),
        Column("policy"),
        Column("created_at", "created", when),
        Column("description"),
    ]
    print_rows(
        call_of(ctx), rows, columns, empty="No milestones. Make one with: lakehouse milestone define NAME DATASET..."
    )
