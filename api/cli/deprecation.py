"""Command: `lakehouse deprecate`."""

from __future__ import annotations

from typing import Annotated

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import command, commands, open_lake
from api.cli.output import print_record
from lakehouse.errors import InvalidInputError
from lakehouse.notices import sentence

app = commands()


@command(
    app,
    "deprecate",
    example='deprecate vision.photos@v3 --reason "labels were shifted, use v4"',
    python='catalog.deprecate(lake, "vision.photos@v3", "labels were shifted, use v4", withdraw=False)',
)
def deprecate(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="A published version: photos@v3, photos@latest.")],
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="What is wrong with it, for its readers.")] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Also keep it from being read.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the notice away.")] = False,
) -> None:
    """Tell the readers of a version why not to use it, or withdraw it.

    Readers are warned. A withdrawn version is read only through milestones and snapshots that pinned it before, and it
    stays pinned, so that --undo (in Python: catalog.undeprecate(lake, reference)) brings it back.
    """
    if undo == (reason is not None) or (undo and withdraw):
        raise InvalidInputError("option-invalid", "Give --reason, with --withdraw or not; or --undo alone.")
    lake = open_lake(ctx)
    made = (
        catalog.undeprecate(lake, reference)
        if reason is None
        else catalog.deprecate(lake, reference, reason, withdraw=withdraw)
    )
    record = {
        "dataset": made.full_name,
        "version": made.number,
        "notice": made.notice or None,
        "withdrawn": made.withdrawn,
    }
    said = sentence(made) if made.notice else f"{made.full_name}@v{made.number} has no notice"
    print_record(call_of(ctx), record, [("version", said)])
