"""Commands: `lakehouse optimize`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import lakehouse
from api.cli.call import call_of
from api.cli.command import Message, command, commands, listed, open_lake
from api.cli.output import note, plural, print_record, size
from api.cli.progress import progress

app = commands()


@command(
    app,
    "optimize",
    example="optimize vision.photos --z-order captured_at,label",
    python='lakehouse.optimize(lake, "vision.photos", zorder=["captured_at", "label"])',
)
def optimize(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")],
    sort: Annotated[bool, typer.Option("--sort", help="Order rows by the dataset's key.")] = False,
    z_order: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Order rows by several columns at once: a,b.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Rewrite all files; with an order as one, in one commit.")
    ] = False,
    adopted: Annotated[
        bool, typer.Option("--adopted", help="Also when it is an adopted table, whose files belong to others.")
    ] = False,
    message: Message = None,
) -> None:
    """Rewrite a dataset's files so that reading touches fewer of them.

    Small files are joined, and rows keep their order; with --sort or --z-order the head has them in another one.
    Published versions stay as they are, and others may write meanwhile. What was replaced is history: `lakehouse vacuum`
    deletes it.
    """
    call, lake = call_of(ctx), open_lake(ctx)
    with progress("optimize") as bar:
        report = lakehouse.optimize(
            lake,
            dataset,
            sort=sort,
            zorder=listed(z_order),
            full=full,
            adopted=adopted,
            message=message,
            progress=bar,
        )
    lines = [
        ("optimized", f"{report.dataset} (#{report.table_version})"),
        ("rewritten", plural(report.rewritten, "file") if report.commits else "nothing: there was nothing to do"),
        ("files", f"{report.files_before:,} -> {report.files_after:,}"),
        ("size", f"{size(report.bytes_before)} -> {size(report.bytes_after)}"),
        ("commits", str(report.commits or "")),
    ]
    print_record(call, asdict(report) | {"left": list(report.left)}, lines)
    if report.left:
        note(f"{plural(len(report.left), 'file')} kept being changed by others and stayed. Run it again.")
