"""Command: `lakehouse verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import command, commands, open_lake
from api.cli.output import Column, note, plural, print_json, print_rows, size
from api.cli.progress import progress

app = commands()


@command(
    app,
    "verify",
    example="verify vision.photos@v3 --deep",
    python='catalog.verify(lake, ["vision.photos@v3"], deep=True)',
)
def verify(
    ctx: typer.Context,
    references: Annotated[
        list[str] | None, typer.Argument(metavar="REF", help="States to look at; else every pinned one.")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read all bytes too, and compare their checksums.")] = False,
) -> None:
    """Check that what is pinned can be read: files, sizes, rows, packs.

    Exit code 6 when there are problems. What was found is kept: lakehouse sql "from readable"
    """
    call = call_of(ctx)
    lake = open_lake(ctx)
    with progress("verify") as bar:
        found = catalog.verify(lake, references or None, deep=deep, progress=bar)
    problems = [asdict(problem) for problem in found.problems]
    if call.json:
        print_json({"checked": found.checked, "ok": found.ok} | asdict(found) | {"problems": problems})
    else:
        columns = [Column("reference"), Column("kind"), Column("detail")]
        what = f"{plural(found.checked, 'state')}, {plural(found.files, 'distinct file')}, {size(found.bytes)}"
        done = f"{what} {'read whole' if deep else 'looked at'}."
        print_rows(call, problems, columns, empty=f"All is well: {done}")
        if problems:
            note(f"{plural(len(problems), 'problem')} found: {done}")
    if not found.ok:
        raise typer.Exit(6)


__all__ = ["app"]
