"""Commands: `lakehouse restore | expire | hold`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, commands, open_lake
from api.cli.output import (
    Column,
    Line,
    ask_first,
    counted,
    note,
    number,
    plural,
    print_record,
    print_rows,
    shown_reference,
    size,
    version,
    when,
    words,
)
from catalog.retention import Expiry
from lakehouse.decisions import DatasetVersion, Hold
from lakehouse.errors import InvalidInputError
from lakehouse.rehearsal import rehearsal
from lakehouse.restoring import Restoration, plan_restore

app = commands()
hold = commands("Set, list and release legal holds.")
app.add_typer(hold, name="hold")

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")]


# -- restore ----------------------------------------------------------------------------------------------------------


@command(
    app,
    "restore",
    example='restore vision.photos @v1 -m "labels were wrong" --yes',
    python='catalog.restore(lake, "vision.photos", "@v1", message="labels were wrong")',
)
def restore(
    ctx: typer.Context,
    dataset: DatasetName,
    reference: Annotated[str, typer.Argument(metavar="REF", help="A state of it: photos@v1, or just @v1, @#57.")],
    message: Message = None,
    yes: Yes = False,
) -> None:
    """Bring a dataset back to an earlier state, as a new commit.

    Nothing is lost: the state before stays in the history.
    """
    call, lake = call_of(ctx), open_lake(ctx)
    found = plan_restore(lake, dataset, reference)
    record, lines = _restoration_json(found), _restoration_lines(found)
    same = [("nothing to do", f"{found.before.reference} is {record['reference']} already")]
    if not yes:
        lake.check("table.restore", found.dataset.full_name)
        would = ("would restore", shown_reference(record["reference"], found.source.table_version))
        ask_first(call, record, [would, *lines] if found else same)
        return
    done = catalog.restore(lake, dataset, reference, message=message)
    record |= {"table_version": done.table_version}
    restored = ("restored", f"{record['dataset']}@#{done.table_version} is {record['reference']}")
    print_record(call, record, [restored, *lines] if found else same)
    if found:
        note(f"The state before stays: {record['dataset']}@#{record['before']}")


def _restoration_json(found: Restoration) -> dict[str, Any]:
    before, source = found.before, found.source
    return {
        "dataset": found.dataset.full_name,
        "reference": source.reference,
        "source_table_version": source.table_version,
        "before": before.table_version,
        "changes": bool(found),
        "rows": source.num_rows,
        "rows_before": before.num_rows,
        "files": len(source.file_list),
        "files_before": len(before.file_list),
        "columns_added": [n for n in source.schema.names if n not in before.schema.names],
        "columns_removed": [n for n in before.schema.names if n not in source.schema.names],
    }


def _restoration_lines(found: Restoration) -> list[Line]:
    record = _restoration_json(found)
    return [
        ("rows", f"{number(record['rows_before'])} -> {number(record['rows'])}"),
        ("files", f"{number(record['files_before'])} -> {number(record['files'])}"),
        ("columns back", words(record["columns_added"])),
        ("columns gone", words(record["columns_removed"])),
    ]


# -- expire -----------------------------------------------------------------------------------------------------------


@command(
    app,
    "expire",
    example="expire vision.photos --keep-last 5 --keep-for 90d --keep-tag FINAL --yes",
    python='catalog.expire(lake, "vision.photos", keep_last=5, keep_for="90d", keep_tags=["FINAL"], dry_run=False)',
)
def expire(
    ctx: typer.Context,
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="[namespace.]dataset")] = None,
    every: Annotated[bool, typer.Option("--all", help="Of every dataset.")] = False,
    keep_last: Annotated[int | None, typer.Option(metavar="N", help="Keep the N newest versions of each.")] = None,
    keep_for: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Keep what was published within: 12h, 90d, 4w.")
    ] = None,
    keep_tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Keep versions with this data tag; may be given again.")
    ] = None,
    message: Message = None,
    yes: Yes = False,
) -> None:
    """Give up published versions that no rule keeps.

    Without rules, those of `lakehouse retention` hold. What any rule keeps stays, and so does the newest version, and
    whatever a tag, a milestone, a snapshot or a running reader points at, or a legal hold covers. `lakehouse vacuum` then
    frees the files.
    """
    if (dataset is None) != every:
        raise InvalidInputError("option-invalid", "Name one dataset, or say --all.")
    call = call_of(ctx)
    done = catalog.expire(
        open_lake(ctx),
        dataset,
        keep_last=keep_last,
        keep_for=keep_for,
        keep_tags=keep_tag or [],
        message=message,
        dry_run=not yes,
    )
    record = _expiry_json(done)
    if call.json:
        print_record(call, record if yes else {"dry_run": True, **record}, [])
        return
    columns = [
        Column("dataset"),
        Column("version", shown=version),
        Column("data_tag", "data tag"),
        Column("created_at", "published", when),
        counted("rows"),
        counted("files"),
        Column("bytes", "size", size, right=True),
        Column("kept_by", "stays, for", _few),
    ]
    print_rows(
        call,
        record["expired"] + record["kept"],
        columns,
        empty="Nothing expires: rules keep every version that they are about.",
    )
    said = f"{plural(len(done.expired), 'version')}, {plural(done.rows, 'row')}"
    if done.files is not None:
        said += f"; a clean-up then frees {plural(done.files, 'file')}, {size(done.bytes)}"
    typer.echo(f"{'expired' if yes else 'would expire'}  {said}")
    if not yes:
        note("Nothing was changed. Run again with --yes.")
    elif done:
        note("Free what only they needed with: lakehouse vacuum")


def _few(reasons: list[str] | None) -> str:
    """Return up to three reasons, of more the first and how many there are."""
    found = reasons or []
    return words(found) if len(found) <= 3 else f"{found[0]} and {len(found) - 1} more"


def _expiry_json(done: Expiry) -> dict[str, Any]:
    return {
        "expired": [_version_json(v) for v in done.expired],
        "kept": [_version_json(k.version) | {"kept_by": list(k.why)} for k in done.kept],
        "rows": done.rows,
        "files": done.files,
        "bytes": done.bytes,
    }


def _version_json(value: DatasetVersion) -> dict[str, Any]:
    return {
        "dataset": value.full_name,
        "version": value.number,
        "table_version": value.table_version,
        "data_tag": value.data_tag,
        "rows": value.rows,
        "files": value.files,
        "bytes": value.bytes,
        "created_at": value.created_at,
    }


# -- holds ------------------------------------------------------------------------------------------------------------


@command(
    hold,
    "set",
    example='hold set vision.photos --reason "case 12/2026, asked for by legal"',
    python='catalog.set_hold(lake, "vision.photos", "case 12/2026, asked for by legal")',
)
def set_(
    ctx: typer.Context,
    dataset: DatasetName,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, and who asked for it.")],
) -> None:
    """Put a dataset under a legal hold: nothing of it expires, is cleaned up or erased."""
    record = _hold_json(catalog.set_hold(open_lake(ctx), dataset, reason))
    print_record(call_of(ctx), record, [("held", record["dataset"]), ("reason", record["reason"])])


@command(hold, "list", example="hold list", python="catalog.list_holds(lake)")
def list_(ctx: typer.Context) -> None:
    """List the legal holds."""
    rows = [_hold_json(h) for h in catalog.list_holds(open_lake(ctx))]
    columns = [Column("dataset"), Column("reason"), Column("created_at", "since", when), Column("created_by", "by")]
    print_rows(call_of(ctx), rows, columns, empty="No dataset is under a legal hold.")


@command(
    hold,
    "release",
    example="hold release vision.photos --yes",
    python='catalog.release_hold(lake, "vision.photos", message="case closed")',
)
def release(ctx: typer.Context, dataset: DatasetName, message: Message = None, yes: Yes = False) -> None:
    """End the legal hold on a dataset."""
    call, lake = call_of(ctx), open_lake(ctx)
    if not yes:
        record = _hold_json(catalog.release_hold(rehearsal(lake), dataset))
        lines = [
            ("would release", record["dataset"]),
            ("reason", record["reason"]),
            ("since", when(record["created_at"])),
        ]
        ask_first(call, record, lines)
        return
    record = _hold_json(catalog.release_hold(lake, dataset, message=message))
    print_record(call, record, [("released", record["dataset"]), ("reason", record["reason"])])


def _hold_json(value: Hold) -> dict[str, Any]:
    return {
        "dataset": value.full_name,
        "dataset_id": value.dataset_id,
        "reason": value.reason,
        "created_at": value.created_at,
        "created_by": value.created_by,
    }
