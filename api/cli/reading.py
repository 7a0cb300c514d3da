"""Commands: `lakehouse show | head | log | diff | lineage`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import pyarrow as pa
import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Wide, command, commands, listed, open_lake
from api.cli.output import (
    Column,
    counted,
    note,
    notice_text,
    number,
    plural,
    print_json,
    print_json_rows,
    print_record,
    print_rows,
    shown_reference,
    size,
    tally,
    version,
    when,
    words,
)
from api.cli.stats import drift_json, print_drift
from api.cli.tables import PIPED_WIDTH, cell, draw, draw_rows, rows_of, values_of
from catalog.lineage import lineage_tree
from catalog.openlineage import event_json
from lakehouse.copying import copy_id
from lakehouse.decisions import Dataset, DatasetVersion
from lakehouse.diff import Diff
from lakehouse.errors import InvalidInputError
from lakehouse.ledger import State
from lakehouse.references import parse
from lakehouse.snapshots import Snapshot
from lakehouse.tables import Table

app = commands()
Ref = Annotated[str, typer.Argument(metavar="REF", help="[namespace.]dataset[@selector]")]


@command(app, "show", example="show vision.photos@v3", python='lake.read("vision.photos@v3")')
def show(ctx: typer.Context, reference: Ref) -> None:
    """Show one state of a dataset: size, schema, pins."""
    lake = open_lake(ctx)
    snap = lake.read(reference)
    record: dict[str, Any] = {
        "reference": snap.reference,
        "dataset": snap.dataset.full_name,
        "table_version": snap.table_version,
        "version": snap.version.number if snap.version else None,
        "data_tag": snap.version.data_tag if snap.version else None,
        "rows": snap.num_rows,
        "files": len(snap.file_list),
        "bytes": snap.file_list.bytes,
        "created_at": snap.created_at,
        "schema": [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in snap.schema],
        "pinned_by": catalog.pinned_by(lake, snap),
        "notice": (snap.version.notice or None) if snap.version else None,
        "withdrawn": snap.version.withdrawn if snap.version else False,
        "key": list(snap.dataset.key_columns),
    }
    published = f"v{record['version']} ({record['data_tag']})" if snap.version else "not published"
    lines = [
        ("reference", snap.reference),
        ("version", published),
        ("withdrawn" if record["withdrawn"] else "deprecated", record["notice"] or ""),
        ("table version", f"#{snap.table_version}"),
        ("created", when(snap.created_at)),
        ("rows", number(record["rows"])),
        ("size", f"{size(record['bytes'])} in {plural(len(snap.file_list), 'file')}"),
        ("key", words(snap.dataset.key_columns)),
        ("pinned by", words(record["pinned_by"]) or "nothing: publish it, or take a snapshot"),
    ]
    print_record(call_of(ctx), record, lines)
    if not call_of(ctx).json:
        typer.echo()
        draw(["column", "type", ""], [[f.name, str(f.type), "" if f.nullable else "required"] for f in snap.schema])


@command(app, "head", example="head vision.photos@v3 -n 5", python='lake.read("vision.photos@v3").scan()')
def head(
    ctx: typer.Context,
    reference: Ref,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="How many.")] = 10,
    columns: Annotated[str | None, typer.Option(metavar="COLUMNS", help="Which columns: path,label.")] = None,
    wide: Wide = False,
) -> None:
    """Print the first rows of a state."""
    snap = open_lake(ctx).read(reference)
    names = listed(columns) or snap.schema.names
    batches = snap.batches(names, batch_rows=min(65_536, max(1, rows)))
    if call_of(ctx).json:
        print_json_rows(rows_of(batches, rows))
        return
    draw_rows(pa.schema([snap.schema.field(n) for n in names]), values_of(batches, rows), wide=wide)
    note(f"{min(rows, snap.num_rows):,} of {plural(snap.num_rows, 'row')} of {_shown(snap)}")


@command(app, "log", example="log vision.photos -n 20", python='lake.table("vision.photos").log(20)')
def log(
    ctx: typer.Context,
    reference: Ref,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only so many.", show_default=False)] = None,
) -> None:
    """List the commits of a dataset, newest first.

    Published versions are marked. A reference such as photos@v2 starts the list at that state.
    """
    lake = open_lake(ctx)
    found = lake.resolve(reference)
    top, own = found.table_version, found.dataset
    # A start in the past needs the log up to it, so there the limit applies afterwards.
    entries = Table(lake.storage, own, lake.actor).log(limit if top is None else None)
    published = _published(lake.state(), own)
    wanted = islice((e for e in entries if top is None or e.table_version <= top), limit)
    rows = [
        {
            "table_version": e.table_version,
            "version": published[e.table_version][-1].number if e.table_version in published else None,
            "created_at": e.created_at,
            "operation": e.operation,
            "rows_added": e.rows_added,
            "rows_removed": e.rows_removed,
            "rows_updated": e.rows_updated,
            "user": e.user,
            "message": e.message,
            "run": e.run,
            "notice": (published[e.table_version][-1].notice or None) if e.table_version in published else None,
            "versions": [
                {"version": v.number, "data_tag": v.data_tag, "notice": v.notice or None, "withdrawn": v.withdrawn}
                for v in published.get(e.table_version, ())
            ],
        }
        for e in wanted
    ]
    columns = [
        Column("table_version", "commit", lambda n: f"#{n}", right=True),
        Column("versions", "version", lambda found: words(version(v["version"]) for v in found)),
        Column("versions", "notice", _notices),
        Column("created_at", "time", when),
        Column("operation"),
        counted("rows_added", "added"),
        counted("rows_removed", "removed"),
        counted("rows_updated", "updated"),
        Column("message"),
        Column("user"),
        Column("run"),
    ]
    print_rows(call_of(ctx), rows, columns, empty="No commits.")


def _notices(versions: list[dict[str, Any]]) -> str:
    """Say what became of the versions of a commit; of several, of which one."""
    return "; ".join(
        (f"v{v['version']} " if len(versions) > 1 else "") + notice_text(v["notice"], withdrawn=v["withdrawn"])
        for v in versions
        if v["notice"]
    )


def _published(state: State, own: Dataset) -> dict[int, list[DatasetVersion]]:
    """Return the published versions of each table version, oldest first; of an adopted table, of what was copied, too."""
    found: dict[int, list[DatasetVersion]] = {}
    for v in sorted(state.all(DatasetVersion), key=lambda v: v.number):
        if v.expired_at is not None:
            continue
        if v.dataset_id == own.dataset_id:
            found.setdefault(v.table_version, []).append(v)
        elif v.copied_from is not None and v.dataset_id == copy_id(own):
            found.setdefault(v.copied_from, []).append(v)
    return found


@command(app, "diff", example="diff photos@v1 photos@v2", python='lake.diff("photos@v1", "photos@v2", key=["path"])')
def diff(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The state before.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The state after.")],
    key: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Columns that identify a row; else the dataset's key.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Examples to show of each kind; 0 for none.")] = 5,
    column: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Examples of this column only; may be given again.")
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Also show how the values of each column moved.")] = False,
    wide: Wide = False,
) -> None:
    """Compare two states: schema, counts, examples."""
    lake = open_lake(ctx)
    found = lake.diff(old, new, key=listed(key) or None)
    _check_columns(found, column or [])
    moved = catalog.drift(lake, found.old, found.new) if stats else None
    if call_of(ctx).json:
        print_json(found.to_json() | ({} if moved is None else {"stats": [drift_json(d) for d in moved]}))
        return
    typer.echo(f"{_shown(found.old)} -> {_shown(found.new)}\n")
    _summary(ctx, found)
    if moved is not None:
        print_drift(ctx, moved)
    if rows:
        _changed(found, rows, column, wide=wide)
        _come_and_gone(found, rows, column, wide=wide)


def _shown(snap: Snapshot) -> str:
    return shown_reference(snap.reference, snap.table_version)


def _check_columns(found: Diff, columns: list[str]) -> None:
    known = list(dict.fromkeys([*found.old.schema.names, *found.new.schema.names]))
    missing = next((name for name in columns if name not in known), None)
    if missing is not None:
        refs = f"{found.old.reference} or {found.new.reference}"
        raise InvalidInputError(
            "column-not-found",
            f"There is no column {missing!r} in {refs}. Columns: {words(known)}.",
            column=missing,
        )


def _summary(ctx: typer.Context, found: Diff) -> None:
    counts, files, schema = found.counts, found.files, found.schema
    matched = f"by {words(found.key)}" if found.key else "none: whole rows were compared"
    retyped = words(f"{c.name} ({c.old_type} -> {c.new_type})" for c in schema.changed)
    lines = [
        ("rows", f"{counts.added:,} added, {counts.removed:,} removed, {counts.changed:,} changed"),
        ("in columns", words(f"{name} {n:,}" for name, n in found.columns.items())),
        ("columns added", words(schema.added)),
        ("columns removed", words(schema.removed)),
        ("columns changed", retyped),
        ("rows matched", matched + (f" ({found.fallback})" if found.fallback else "")),
        ("files", f"{files.added:,} added, {files.removed:,} removed, {files.common:,} common"),
        ("compared", found.compared),
    ]
    print_record(call_of(ctx), {}, lines if found else [("rows", "no difference"), *lines[-3:]])


def _changed(found: Diff, count: int, columns: list[str] | None, *, wide: bool) -> None:
    if not found.counts.changed:
        return
    rows = list(rows_of(found.changed(columns), count))
    typer.echo(f"\nchanged ({len(rows):,} of {found.counts.changed:,})")
    keys = list(found.key or ())
    table = [
        [*(cell(row[k]) for k in keys), name, cell(row.get(f"old.{name}")), cell(row.get(f"new.{name}"))]
        for row in rows
        for name in row["changed_columns"]
        if not columns or name in columns
    ]
    strings = pa.schema([(name, pa.string()) for name in (*keys, "column", "old", "new")])
    draw(strings.names, table, piped=None if wide else PIPED_WIDTH)


def _come_and_gone(found: Diff, count: int, columns: list[str] | None, *, wide: bool) -> None:
    """Print rows that were added and removed, their key first."""
    counts, keys = found.counts, list(found.key or ())
    for title, total, snap, batches in (
        ("added", counts.added, found.new, found.added),
        ("removed", counts.removed, found.old, found.removed),
    ):
        if total:
            typer.echo(f"\n{title} ({min(count, total):,} of {total:,})")
            names = [*keys, *(n for n in columns or snap.schema.names if n not in keys and n in snap.schema.names)]
            values = ([row[n] for n in names] for row in rows_of(batches(), count))
            draw_rows(pa.schema([snap.schema.field(n) for n in names]), values, wide=wide)


@command(
    app,
    "lineage",
    example="lineage vision.photos_features@v2",
    python='catalog.lineage(lake, "vision.photos_features@v2", forward=False)',
)
def lineage(
    ctx: typer.Context,
    reference: Ref,
    forward: Annotated[
        bool, typer.Option("--forward", help="What was made from it and who only read it, instead.")
    ] = False,
    tree: Annotated[bool, typer.Option("--tree", help="As a tree.")] = False,
    openlineage: Annotated[
        bool, typer.Option("--openlineage", help="As OpenLineage events, one JSON object a line.")
    ] = False,
) -> None:
    """Show what a state was made from, or what was made from it."""
    lake = open_lake(ctx)
    if openlineage:
        for event in catalog.openlineage_events(lake, reference, forward=forward):
            typer.echo(event_json(event))
        return
    found = catalog.lineage(lake, reference, forward=forward)
    ref = parse(reference)
    empty = f"No recorded run read {ref}." if forward else f"No recorded run made {ref}."
    if tree and found and not call_of(ctx).json:
        for line in lineage_tree(str(ref), found, forward=forward):
            typer.echo(line)
        return
    columns = [
        Column("depth", "step", str, right=True),
        Column("output"),
        Column("made_from", "made from"),
        Column("job"),
        Column("started_at", "at", when),
        Column("counted"),
        Column("run"),
    ]
    edges: list[dict[str, Any]] = [asdict(e) for e in found]
    added = [{"made_from": e["input"] or e["source"], "counted": tally(e["counts"] or {})} for e in edges]
    shown = edges if call_of(ctx).json else [e | more for e, more in zip(edges, added, strict=True)]
    print_rows(call_of(ctx), shown, columns, empty=empty)
