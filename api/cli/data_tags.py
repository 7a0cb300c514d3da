"""Commands: `lakehouse data-tag ...`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Yes, command, commands, open_lake
from api.cli.output import Column, ask_first, plural, print_record, print_rows
from lakehouse.decisions import MilestoneVersion
from lakehouse.rehearsal import rehearsal

app = commands()
data_tag = commands("Say what data tags mean to consumers of milestones.")
app.add_typer(data_tag, name="data-tag")

TagName = Annotated[str, typer.Argument(metavar="TAG", help="DRAFT, REVIEWED, FINAL, or a word of yours.")]


@command(
    data_tag,
    "set",
    example="data-tag set GOLD IS_GOLD Yellow",
    python='catalog.set_data_tag(lake, "GOLD", "IS_GOLD", "Yellow")',
)
def set_(
    ctx: typer.Context,
    name: TagName,
    attribute: Annotated[str, typer.Argument(metavar="ATTRIBUTE", help="A column of the view Milestone.")],
    color: Annotated[str, typer.Argument(metavar="COLOR", help="How it is shown.")],
) -> None:
    """Give a data tag an attribute and a colour."""
    made = catalog.set_data_tag(open_lake(ctx), name, attribute, color)
    print_record(
        call_of(ctx), asdict(made), [("data tag", made.name), ("attribute", made.attribute), ("color", made.color)]
    )


@command(data_tag, "list", example="data-tag list", python="catalog.list_data_tags(lake)")
def list_tags(ctx: typer.Context) -> None:
    """List the data tags that have a meaning."""
    rows = [asdict(tag) for tag in catalog.list_data_tags(open_lake(ctx))]
    columns = [Column("name", "data tag"), Column("attribute"), Column("color")]
    print_rows(call_of(ctx), rows, columns, empty="No data tags. Set one: lakehouse data-tag set TAG IS_TAG Color")


@command(data_tag, "remove", example="data-tag remove GOLD --yes", python='catalog.remove_data_tag(lake, "GOLD")')
def remove(ctx: typer.Context, name: TagName, yes: Yes = False) -> None:
    """Forget what a data tag means; versions keep it."""
    lake = open_lake(ctx)
    if yes:
        gone = catalog.remove_data_tag(lake, name)
        print_record(call_of(ctx), asdict(gone), [("removed", f"{gone.name} ({gone.attribute})")])
        return
    found = catalog.remove_data_tag(rehearsal(lake), name)
    carried = sum((v.data_tag or "").casefold() == found.key for v in lake.state().all(MilestoneVersion))
    lines = [
        ("would remove", f"{found.name} ({found.attribute})"),
        ("column gone", f"{found.attribute} of the view Milestone"),
        ("carried by", plural(carried, "milestone version")),
    ]
    ask_first(call_of(ctx), asdict(found) | {"milestone_versions": carried}, lines)
