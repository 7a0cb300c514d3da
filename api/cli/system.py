"""Commands: `lakehouse init | demo | doctor | status`."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from typing import Annotated

import typer

import catalog
import lakehouse
from api.cli import demo as tour
from api.cli.call import call_of
from api.cli.command import command, commands, open_lake
from api.cli.output import Column, note, number, plural, print_json, print_record, print_rows, size, when

app = commands()


@command(app, "init", example="init --root ./lake", python='lakehouse.init("./lake")')
def init(ctx: typer.Context) -> None:
    """Make a lakehouse at --root, after proving that its store is safe.

    The proof: a second create of the same object is refused, and of many racing writers exactly one wins. A store
    that fails it would corrupt tables, and is refused. A root that is a lakehouse already is left as it is.
    """
    lake = lakehouse.init(call_of(ctx).root)
    print_record(call_of(ctx), {"root": lake.root}, [("lakehouse", lake.root)])
    note(f"Next: lakehouse --root {lake.root} ingest FOLDER --dataset NAME")


@command(app, "demo", example="demo", python='api.cli.demo.run("./demo-lake")')
def demo(
    ctx: typer.Context,
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="Where; else a new temporary folder.", show_default=False)
    ] = None,
) -> None:
    """Show everything on real images, offline, in under a minute."""
    tour.run(folder or call_of(ctx).root or tempfile.mkdtemp(prefix="lakehouse-demo-"))


@command(app, "doctor", example="doctor --root ./lake", python='catalog.doctor("./lake")')
def doctor(ctx: typer.Context) -> None:
    """Check the installation, the store, and that every dataset opens.

    Exit code 6 when something is broken.
    """
    call = call_of(ctx)
    checks = []
    for check in catalog.doctor(call.root):
        checks.append(check)
        if not call.json:
            mark, colour = ("ok", typer.colors.GREEN) if check.ok else ("FAILED", typer.colors.RED)
            typer.echo(f"{typer.style(mark.ljust(6), fg=colour)}  {check.name}: {check.detail}")
    bad = sum(not check.ok for check in checks)
    if call.json:
        print_json({"ok": not bad, "checks": [asdict(check) for check in checks]})
    else:
        typer.echo(f"\n{plural(bad, 'problem')} found: see above." if bad else "\nAll is well.")
    if bad:
        raise typer.Exit(6)


@command(app, "status", example="status", python="catalog.status(lake)")
def status(ctx: typer.Context) -> None:
    """Show what the lakehouse holds and what ran last."""
    call = call_of(ctx)
    found = catalog.status(open_lake(ctx))
    more = f", {number(found.deleted)} deleted" if found.deleted else ""
    published = f"{plural(found.published_rows, 'row')}, {size(found.published_bytes)} in the newest versions"
    lines = [
        ("root", found.root),
        ("format", f"{found.format}, since {when(found.created_at)}"),
        ("datasets", number(found.datasets) + more),
        ("versions", number(found.versions)),
        ("published", published if found.versions else ""),
        ("milestones", f"{number(found.milestones)} ({plural(found.milestone_versions, 'version')})"),
        ("snapshots", number(found.snapshots)),
        ("rejects", number(found.rejects) + (": select * from rejects" if found.rejects else "")),
    ]
    print_record(call, asdict(found), lines)
    if not call.json and found.runs:
        typer.echo("\nnewest runs")
        columns = [
            Column("run"),
            Column("job"),
            Column("status"),
            Column("started_at", "started", when),
            Column("actor"),
        ]
        print_rows(call, found.runs, columns, empty="")


__all__ = ["app"]
