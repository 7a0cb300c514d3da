"""Commands: `lakehouse publish | tag | snapshot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

import catalog
import jobs  # noqa: F401 - brings the decoder of images along, for checks
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, commands, open_lake
from api.cli.output import (
    Column,
    ask_first,
    note,
    number,
    plural,
    print_record,
    print_rows,
    size,
    version,
    when,
    words,
)
from catalog.aggregation import Standing
from catalog.versions import DEFAULT_DATA_TAG
from lakehouse.decisions import DatasetVersion, NamedSnapshot
from lakehouse.references import parse_name
from lakehouse.rehearsal import rehearsal

app = commands()
tag = commands("Set, list, remove movable names of versions; see how they moved.")
snapshot = commands("Pin the states of several datasets under one name.")
app.add_typer(tag, name="tag")
app.add_typer(snapshot, name="snapshot")

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")]


@command(
    app,
    "publish",
    example='publish vision.photos --data-tag FINAL -m "labels reviewed"',
    python='catalog.publish(lake, "vision.photos", data_tag="FINAL", message="labels reviewed")',
)
def publish(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Its head; or a state of it: photos@#57.")],
    data_tag: Annotated[
        str, typer.Option(metavar="TAG", help="DRAFT, REVIEWED, FINAL, or a word of yours.")
    ] = DEFAULT_DATA_TAG,
    copy: Annotated[
        bool, typer.Option("--copy", help="Of an adopted table: keep a copy of our own, which others can't clean up.")
    ] = False,
    number_: Annotated[
        int | None, typer.Option("--version", metavar="N", help="The number that it must get; else it is refused.")
    ] = None,
    milestone: Annotated[
        str | None, typer.Option(metavar="NAME[/vN]", help="Make the dataset a member of this milestone.")
    ] = None,
    batch: Annotated[str | None, typer.Option(metavar="KEY", help="The cycle that it belongs to: 2026-W48.")] = None,
    correction: Annotated[
        bool, typer.Option("--correction", help="Milestones that wait for all members take it at once.")
    ] = False,
    message: Message = None,
) -> None:
    """Publish a state as the dataset's next version: numbered, pinned."""
    lake, moved = open_lake(ctx), list[Standing]()
    made = catalog.publish(
        lake,
        dataset,
        data_tag=data_tag,
        message=message,
        copy=copy,
        version=number_,
        milestone=milestone,
        batch=batch,
        correction=correction,
        told=moved.append,
    )
    record = {
        "dataset": made.full_name,
        "version": made.number,
        "table_version": made.table_version,
        "data_tag": made.data_tag,
        "reference": f"{made.full_name}@v{made.number}",
        "rows": made.rows,
        "files": made.files,
        "bytes": made.bytes,
        "created_at": made.created_at,
    }
    lines = [
        ("published", f"{made.full_name}@v{made.number} ({made.data_tag})"),
        ("table version", f"#{made.table_version}"),
        ("rows", number(made.rows)),
        ("size", f"{size(made.bytes)} in {plural(made.files, 'file')}"),
    ]
    print_record(call_of(ctx), record, lines)
    _note_milestones(made, moved)


@command(
    app,
    "promote",
    example="promote vision.photos@v3 FINAL",
    python='catalog.promote(lake, "vision.photos@v3", "FINAL")',
)
def promote(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="A published version: photos@v3, photos@latest.")],
    data_tag: Annotated[str, typer.Argument(metavar="TAG", help="DRAFT, REVIEWED, FINAL, or a word of yours.")],
    message: Message = None,
) -> None:
    """Give a published version another data tag; no row is written."""
    lake, moved = open_lake(ctx), list[Standing]()
    made = catalog.promote(lake, reference, data_tag, message=message, told=moved.append)
    record = {"dataset": made.full_name, "version": made.number, "data_tag": made.data_tag}
    print_record(call_of(ctx), record, [("promoted", f"{made.full_name}@v{made.number} is {made.data_tag}")])
    _note_milestones(made, moved)


def _note_milestones(made: DatasetVersion, moved: Sequence[Standing]) -> None:
    """Say on stderr what a dataset's version published of its milestones, and what those wait for in which it counts."""
    for found in moved:
        milestone, pending = found.milestone.full_name, found.pending
        for published in found.new:
            note(f"Milestone {milestone}: v{published.number} is published.")
        counting = [tag.casefold() for tag in found.milestone.data_tags]
        if pending is None or (counting and made.data_tag.casefold() not in counting):
            continue
        waits = pending.waiting
        more = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
        said = f"waits: {waits[0].detail}{more}" if waits else f"is ready: lakehouse milestone publish {milestone}"
        note(f"Milestone {milestone}: v{pending.number} {said}")


# -- tags -------------------------------------------------------------------------------------------------------------


@command(tag, "set", example="tag set photos@v3 prod", python='catalog.set_tag(lake, "photos@v3", "prod")')
def set_(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="A published version: photos@v3, photos@latest.")],
    name: Annotated[str, typer.Argument(metavar="TAG")],
) -> None:
    """Point a tag at a published version; it moves when it exists."""
    made = catalog.set_tag(open_lake(ctx), reference, name)
    dataset = ".".join(parse_name(reference.partition("@")[0]))
    record = {"dataset": dataset, "tag": made.name, "version": made.number}
    print_record(call_of(ctx), record, [("tagged", f"{dataset}@{made.name} -> v{made.number}")])


@command(tag, "list", example="tag list photos", python='catalog.list_tags(lake, "photos")')
def list_tags(ctx: typer.Context, dataset: DatasetName) -> None:
    """List a dataset's tags."""
    found = catalog.list_tags(open_lake(ctx), dataset)
    rows = [{"tag": name, "version": number} for name, number in sorted(found.items())]
    columns = [Column("tag"), Column("version", shown=version)]
    print_rows(
        call_of(ctx), rows, columns, empty=f"No tags on {dataset}. Set one: lakehouse tag set {dataset}@latest TAG"
    )


@command(tag, "remove", example="tag remove photos prod --yes", python='catalog.remove_tag(lake, "photos", "prod")')
def remove(
    ctx: typer.Context, dataset: DatasetName, name: Annotated[str, typer.Argument(metavar="TAG")], yes: Yes = False
) -> None:
    """Remove a tag; the version that it named stays."""
    lake = open_lake(ctx)
    full_name = ".".join(parse_name(dataset))
    if yes:
        gone = catalog.remove_tag(lake, dataset, name)
        record = {"dataset": full_name, "tag": gone.name, "version": gone.number}
        print_record(call_of(ctx), record, [("removed", f"{full_name}@{gone.name}, which was v{gone.number}")])
        return
    found = catalog.remove_tag(rehearsal(lake), dataset, name)
    record = {"dataset": full_name, "tag": found.name, "version": found.number}
    lines = [("would remove", f"{full_name}@{found.name}"), ("stays readable", f"v{found.number}")]
    ask_first(call_of(ctx), record, lines)


@command(tag, "log", example="tag log photos prod", python='catalog.tag_history(lake, "photos", "prod")')
def log(
    ctx: typer.Context,
    dataset: DatasetName,
    name: Annotated[str | None, typer.Argument(metavar="[TAG]", help="Only this tag.")] = None,
) -> None:
    """List who moved which tag when, newest first."""
    moves = catalog.tag_history(open_lake(ctx), dataset, name)
    rows = [{"tag": m.tag, "old": m.old, "new": m.new, "at": m.at, "user": m.actor} for m in moves]
    columns = [
        Column("at", "when", when),
        Column("tag"),
        Column("old", "from", version),
        Column("new", "to", lambda number: version(number) or "removed"),
        Column("user", "by"),
    ]
    print_rows(call_of(ctx), rows, columns, empty=f"No tag of {dataset} was ever set{' as ' + name if name else ''}.")


# -- snapshots --------------------------------------------------------------------------------------------------------


def _snapshot_json(value: NamedSnapshot) -> dict[str, Any]:
    return {
        "snapshot": value.name,
        "created_at": value.created_at,
        "created_by": value.created_by,
        "expires_at": value.expires_at,
        "message": value.message,
        "datasets": [
            {"dataset": m.full_name, "version": m.version, "table_version": m.table_version, "data_tag": m.data_tag}
            for m in value.members
        ],
    }


def _pinned(record: dict[str, Any]) -> str:
    return words(
        f"{d['dataset']}@" + (f"v{d['version']}" if d["version"] else f"#{d['table_version']}")
        for d in record["datasets"]
    )


@command(
    snapshot,
    "create",
    example="snapshot create run-20-nov vision.photos vision.labels@prod --expires 90d",
    python='lake.snapshot("run-20-nov", ["vision.photos", "vision.labels@prod"], expires="90d")',
)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    references: Annotated[list[str], typer.Argument(metavar="REF", help="One state of each dataset.")],
    expires: Annotated[
        str | None, typer.Option(metavar="SPAN", help="When the pins end: 12h, 90d, 4w; else never.")
    ] = None,
    message: Message = None,
) -> None:
    """Pin the states of several datasets under one name, in one commit."""
    made = open_lake(ctx).snapshot(name, references, expires=expires, message=message)
    record = _snapshot_json(made)
    ends = when(made.expires_at) or "never"
    print_record(call_of(ctx), record, [("snapshot", made.name), ("pins", _pinned(record)), ("expires", ends)])
    note(f"Read it as: {made.members[0].full_name}@snap:{made.name}")


@command(snapshot, "list", example="snapshot list", python="catalog.list_snapshots(lake)")
def list_snapshots(ctx: typer.Context) -> None:
    """List the snapshots, newest first."""
    rows = [_snapshot_json(s) for s in catalog.list_snapshots(open_lake(ctx))]
    columns = [
        Column("snapshot"),
        Column("pins"),
        Column("created_at", "created", when),
        Column("expires_at", "expires", when),
        Column("created_by", "by"),
        Column("message"),
    ]
    shown = rows if call_of(ctx).json else [r | {"pins": _pinned(r)} for r in rows]
    print_rows(call_of(ctx), shown, columns, empty="No snapshots. Make one with: lakehouse snapshot create NAME REF...")


@command(snapshot, "delete", example="snapshot delete run-20-nov --yes", python='lake.delete_snapshot("run-20-nov")')
def delete(ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")], yes: Yes = False) -> None:
    """Delete a snapshot and its pins; what else pins the same states keeps them."""
    lake = open_lake(ctx)
    if yes:
        gone = lake.delete_snapshot(name)
        print_record(call_of(ctx), _snapshot_json(gone), [("deleted", f"snap:{gone.name}")])
        return
    record = _snapshot_json(rehearsal(lake).delete_snapshot(name))
    ask_first(call_of(ctx), record, [("would delete", f"snap:{record['snapshot']}"), ("unpins", _pinned(record))])
