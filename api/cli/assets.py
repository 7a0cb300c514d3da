"""Commands: `lakehouse asset show | get`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import command, commands, open_lake
from api.cli.jsonable import jsonable_row
from api.cli.output import note, print_json_rows, print_record, size
from api.cli.tables import cell
from lakehouse.errors import StateError, translated

app = commands()
asset = commands("Find assets and get their bytes.")
app.add_typer(asset, name="asset")

Ref = Annotated[str, typer.Argument(metavar="REF", help="A state of a dataset of assets.")]
Word = Annotated[str, typer.Argument(metavar="ASSET", help="Its path, id, sha256 or source URL.")]


@command(
    asset,
    "show",
    example="asset show vision.photos@v3 cats/001.jpg",
    python='catalog.find_assets(lake, "vision.photos@v3", "cats/001.jpg")',
)
def show(ctx: typer.Context, reference: Ref, word: Word) -> None:
    """Show what is known of an asset.

    The same bytes, or one URL, may lie under several paths: all are shown.
    """
    rows = catalog.find_assets(open_lake(ctx), reference, word)
    if call_of(ctx).json:
        print_json_rows(rows)
        return
    for i, row in enumerate(rows):
        if i:
            typer.echo()
        shown = {name: value for name, value in row.items() if value not in (None, "")}
        lines = [(name, size(value) if name == "length" else cell(value)) for name, value in shown.items()]
        print_record(call_of(ctx), row, lines)


@command(
    asset,
    "get",
    example="asset get vision.photos@v3 cats/001.jpg -o cat.jpg",
    python='catalog.read_asset(lake, "vision.photos@v3", "cats/001.jpg").data',
)
def get(
    ctx: typer.Context,
    reference: Ref,
    word: Word,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to; - is stdout. Else its own name, here."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if there is one.")] = False,
) -> None:
    """Write an asset's bytes to a file, after comparing them with their sha256."""
    found = catalog.read_asset(open_lake(ctx), reference, word)
    if out == "-":
        typer.get_binary_stream("stdout").write(found.data)
        return
    path = Path(out) if out else Path(Path(found.row["path"]).name)
    if path.is_dir():
        path /= Path(found.row["path"]).name
    with translated(f"writing {path}"):
        try:
            with path.open("wb" if overwrite else "xb") as file:
                file.write(found.data)
        except FileExistsError as error:
            raise StateError(
                "file-exists", f"{path} exists already. Allow it with --overwrite, or choose -o."
            ) from error
    record = {"file": str(path), "bytes": len(found.data), **jsonable_row(found.row)}
    print_record(call_of(ctx), record, [("wrote", str(path)), ("size", size(len(found.data)))])
    note(f"sha256 {found.row['sha256']} is right")
