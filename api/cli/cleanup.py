"""Commands: `lakehouse vacuum`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import catalog
from api.cli.call import Call, call_of
from api.cli.command import Yes, command, commands, open_lake
from api.cli.output import Column, counted, note, number, plural, print_json, print_rows, size
from catalog.cleanup import CleanUp

app = commands()
_KEPT_SHOWN = 4
_SOME_FAILED = 6


@command(
    app,
    "vacuum",
    example="vacuum vision.photos --keep-for 7d --yes",
    python='catalog.vacuum(lake, "vision.photos", keep_for="7d", dry_run=False)',
)
def vacuum(
    ctx: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="[DATASET]", help="Only this one; else all of our own tables, and stored bytes."),
    ] = None,
    keep_for: Annotated[
        str, typer.Option(metavar="SPAN", help="History that is younger stays: 12h, 30d; 0 keeps the head alone.")
    ] = "7d",
    orphan_age: Annotated[
        str, typer.Option(metavar="SPAN", help="Age of files that nothing mentions; at least 24h.")
    ] = "24h",
    yes: Yes = False,
) -> None:
    """Give up history that nothing needs, and sweep up orphans.

    Orphans are what dead writers left behind: files that no commit mentions, bytes that no row points at.

    What stays: the head, younger history, and every state that a published version, a milestone, a snapshot, a running
    reader or a job's next run needs. An adopted table is cleaned up only when it is named. Exit code 6 when some dataset
    could not be cleaned up.
    """
    call = call_of(ctx)
    done = catalog.vacuum(open_lake(ctx), dataset, keep_for=keep_for, orphan_age=orphan_age, dry_run=not yes)
    record = _record(done)
    if call.json:
        print_json(record if yes else {"dry_run": True, **record})
    else:
        _print(call, done, record, keep_for=keep_for, yes=yes)
    if done.problems:
        raise typer.Exit(_SOME_FAILED)


def _print(call: Call, done: CleanUp, record: dict[str, Any], *, keep_for: str, yes: bool) -> None:
    columns = [
        Column("dataset"),
        counted("versions", "versions"),
        counted("files"),
        Column("bytes", "size", size, right=True),
        counted("log_files", "log files"),
        counted("orphans"),
        Column("kept", "kept below head", _kept),
        Column("limited_by", "needed by"),
    ]
    rows = [row for row in record["datasets"] if row["versions"] or row["files"] or row["log_files"] or row["orphans"]]
    if rows:
        print_rows(call, rows, columns, empty="")
        typer.echo()
    for what, found in (("stored bytes that no row points at", done.unused), ("tables never registered", done.lost)):
        if found:
            typer.echo(f"{what}: {plural(len(found.keys), 'object')}, {size(found.bytes)}")
    for hold in done.holds:
        note(f"{hold.full_name} is under a legal hold ({hold.reason}): left as it is.")
    for name, error in done.problems.items():
        note(f"{name} could not be cleaned up ({error.kind}): {error.message}")
    if not done:
        note(f"There is nothing to give up: all history is pinned, needed, or younger than {keep_for}.")
        return
    freed = f"{plural(done.versions, 'table version')}, {plural(done.files, 'file')}, {size(done.bytes)}"
    typer.echo(f"{'freed' if yes else 'would free'}  {freed}")
    if not yes:
        note("Nothing was changed. Run again with --yes.")


def _record(done: CleanUp) -> dict[str, Any]:
    return {
        "versions": done.versions,
        "files": done.files,
        "bytes": done.bytes,
        "datasets": [
            {
                "dataset": plan.dataset.full_name,
                "head": plan.head,
                "before": plan.before,
                "kept": list(plan.kept),
                "versions": plan.versions,
                "files": plan.files,
                "bytes": plan.bytes,
                "log_files": plan.log_files,
                "orphans": len(done.orphans[plan.dataset.full_name].keys)
                if plan.dataset.full_name in done.orphans
                else 0,
                "limited_by": plan.limited_by,
            }
            for plan in done.plans
        ],
        "lost": {"objects": len(done.lost.keys), "bytes": done.lost.bytes},
        "unused": {"objects": len(done.unused.keys), "bytes": done.unused.bytes},
        "problems": [
            {"dataset": name, "kind": error.kind, "detail": error.message} for name, error in done.problems.items()
        ],
        "held": [hold.full_name for hold in done.holds],
    }


def _kept(versions: list[int] | None) -> str:
    shown = [f"#{version}" for version in versions or ()]
    return (
        ", ".join(shown)
        if len(shown) <= _KEPT_SHOWN
        else f"{', '.join(shown[:2])}, ... {shown[-1]} ({number(len(shown))})"
    )
