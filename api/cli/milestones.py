"""Commands: `lakehouse milestone ...`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Message, command, commands, open_lake
from api.cli.output import Column, note, print_record, print_rows, version, when, words
from catalog.milestones import MilestoneInfo
from lakehouse.decisions import Milestone

app = commands()
milestone = commands("Define, publish, show and list milestones.")
app.add_typer(milestone, name="milestone")


def _milestone_json(value: Milestone) -> dict[str, Any]:
    return {
        "milestone": value.full_name,
        "latest_version": value.last_version or None,
        "datasets": list(value.members),
        "description": value.description,
        "created_at": value.created_at,
    }


def _print_published(ctx: typer.Context, info: MilestoneInfo) -> None:
    made = info.version
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
            for m in made.members
        ],
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
        ]
        print_rows(call_of(ctx), record["datasets"], columns, empty="")


@command(
    milestone,
    "define",
    example="milestone define spring vision.photos vision.labels",
    python='catalog.define_milestone(lake, "spring", ["vision.photos", "vision.labels"])',
)
def define(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="[namespace.]name")],
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="Its members.")],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    message: Message = None,
) -> None:
    """Define a milestone, or give one other members for its next versions."""
    made = catalog.define_milestone(open_lake(ctx), name, datasets, description=description, message=message)
    lines = [("milestone", made.full_name), ("members", words(made.members)), ("description", made.description)]
    print_record(call_of(ctx), _milestone_json(made), lines)
    note(f"Publish it with: lakehouse milestone publish {made.full_name}")


@command(
    milestone,
    "publish",
    example='milestone publish spring -m "ready for training"',
    python='catalog.publish_milestone(lake, "spring", message="ready for training")',
)
def publish_milestone(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")], message: Message = None
) -> None:
    """Publish the members' newest versions together, in one commit."""
    _print_published(ctx, catalog.publish_milestone(open_lake(ctx), name, message=message))


@command(milestone, "show", example="milestone show spring/v2", python='catalog.show_milestone(lake, "spring/v2")')
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="spring, spring/v2 or spring/FINAL")],
) -> None:
    """Show a published version of a milestone; the newest, unless one is named."""
    _print_published(ctx, catalog.show_milestone(open_lake(ctx), name))


@command(milestone, "list", example="milestone list", python="catalog.list_milestones(lake)")
def list_milestones(ctx: typer.Context) -> None:
    """List the milestones."""
    rows = [_milestone_json(m) for m in catalog.list_milestones(open_lake(ctx))]
    columns = [
        Column("milestone"),
        Column("latest_version", "latest", version),
        Column("datasets", shown=words),
        Column("created_at", "created", when),
        Column("description"),
    ]
    print_rows(
        call_of(ctx), rows, columns, empty="No milestones. Make one with: lakehouse milestone define NAME DATASET..."
    )
