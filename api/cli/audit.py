"""Commands: `lakehouse audit ...`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import command, commands, open_lake
from api.cli.output import (
    Column,
    counted,
    note,
    number,
    plural,
    print_json,
    print_record,
    print_rows,
    size,
    version,
    when,
    words,
)
from api.cli.progress import progress

app = commands()
audit = commands("Show who decided, wrote and read what; prove no decision changed.")
app.add_typer(audit, name="audit")

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Only so many, the newest.")]
Ref = Annotated[
    str | None,
    typer.Argument(metavar="REF", help="A state such as photos@v3, or a dataset with all its states; else all."),
]


@command(
    audit,
    "log",
    example="audit log vision.photos --action version",
    python='catalog.audit_log(lake, "vision.photos", actor=None, action="version", since="30d", limit=50)',
)
def log(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A dataset, a milestone, or one of their versions or tags; else all."),
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this one did.")] = None,
    action: Annotated[
        str | None, typer.Option(metavar="ACTION", help="Only this: version.publish, or version for all of these.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only since then: 7d, 2026-11-01, 2026-11-01T12:00:00Z.")
    ] = None,
    limit: Limit = 50,
) -> None:
    """List decisions and data commits, newest first.

    Without a name the log of every dataset is read. The JSON has each thing before and after.
    """
    lake = open_lake(ctx)
    found = catalog.audit_log(lake, name, actor=actor, action=action, since=since, limit=limit)
    columns = [
        Column("at", "time", when),
        Column("actor"),
        Column("action"),
        Column("resource"),
        Column("message"),
        Column("run"),
        Column("commit_id", "decided together", lambda text: (text or "")[:8]),
    ]
    print_rows(call_of(ctx), [asdict(entry) for entry in found], columns, empty="Nothing was decided or written.")


@command(
    audit,
    "reads",
    example="audit reads vision.photos@v3",
    python='catalog.audit_reads(lake, "vision.photos@v3", limit=50)',
)
def reads(ctx: typer.Context, reference: Ref = None, limit: Limit = 50) -> None:
    """List who opened which state, newest first."""
    found = catalog.audit_reads(open_lake(ctx), reference, limit=limit)
    columns = [
        Column("at", "time", when),
        Column("actor"),
        Column("consumer"),
        Column("reference"),
        Column("version", shown=version),
        Column("table_version", "commit", lambda n: f"#{n}", right=True),
        counted("opens"),
        Column("bytes", "size", size, right=True),
        Column("host"),
    ]
    print_rows(call_of(ctx), [asdict(event) for event in found], columns, empty="Nobody has opened it.")


@command(
    audit,
    "fetches",
    example="audit fetches vision.photos",
    python='catalog.audit_fetches(lake, "vision.photos")',
)
def fetches(ctx: typer.Context, reference: Ref = None) -> None:
    """Count how often which consumer opened which state."""
    found = catalog.audit_fetches(open_lake(ctx), reference)
    columns = [
        Column("dataset"),
        Column("version", shown=version),
        Column("table_version", "commit", lambda n: f"#{n}", right=True),
        Column("consumer"),
        counted("opens"),
        Column("bytes", "read at most", size, right=True),
        Column("first_at", "first", when),
        Column("last_at", "last", when),
        Column("actors", "by", words),
    ]
    print_rows(call_of(ctx), [asdict(fetch) for fetch in found], columns, empty="Nobody has opened it.")


@command(audit, "verify", example="audit verify --head 3f1c...", python="catalog.verify_audit(lake, head=None)")
def verify(
    ctx: typer.Context,
    head: Annotated[
        str | None, typer.Option(metavar="HEX", help="A head noted earlier: it must still be part of the chain.")
    ] = None,
) -> None:
    """Check the hash chain over decisions and data commits.

    Note the head that is printed somewhere else: who holds the storage could write the whole chain anew, and a head that
    was noted before proves it. Exit code 6 when the chain does not match.
    """
    call, lake = call_of(ctx), open_lake(ctx)
    with progress("verify") as bar:
        found = catalog.verify_audit(lake, head=head, progress=bar)
    looked = found.data_commits
    if call.json:
        print_json({"ok": found.ok} | asdict(found))
    else:
        covered = f"{plural(found.entries, 'decision')} in {plural(found.commits, 'commit')}"
        lines: list[tuple[str, str]] = [
            ("covered", covered + (f" since {when(found.since)}" if found.since else "")),
            ("", "" if looked is None else f"{plural(looked, 'data commit')} up to the last published versions"),
            ("not covered", f"{plural(found.uncovered, 'decision')} of an earlier release" if found.uncovered else ""),
            ("erased", number(found.erased + found.data_erased) if found.erased + found.data_erased else ""),
            ("last head" if looked is None else "head", found.head),
        ]
        print_record(call, {}, lines)
        note("All is well." if found.ok else f"Problem: {found.problem}")
    if not found.ok:
        raise typer.Exit(6)


__all__ = ["app"]
