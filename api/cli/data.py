"""Commands: `lakehouse ingest | delete | export`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import catalog
import jobs
import lakehouse
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, commands, listed, open_lake
from api.cli.output import ask_first, note, number, plural, print_record, rejected, shown_reference, size, tally
from api.cli.progress import progress
from api.cli.table_options import Decimal, Delimiter, Encoding, Header, NullTokens, Types, table_options
from jobs.export import check_target
from lakehouse.errors import NotFoundError
from lakehouse.readers.arrow import Rows
from lakehouse.references import parse, parse_name

app = commands()
_TABLES = "Tables"
_SOME_REJECTED, _ALL_REJECTED = 7, 2


@command(
    app,
    "ingest",
    example="ingest ./photos --dataset vision.photos --license CC-BY-4.0",
    python='jobs.ingest(lake, "./photos", dataset="vision.photos", license="CC-BY-4.0")',
)
def ingest(
    ctx: typer.Context,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Files, folders or archives.")],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Where to; it is made when it does not exist.")],
    format: Annotated[
        Literal["images", "idx", "csv", "json", "parquet"] | None,
        typer.Option(help="What the sources are; else it is seen from their names."),
    ] = None,
    mode: Annotated[
        Literal["append", "merge", "overwrite"],
        typer.Option(help="Add rows; update those with the same key too; or replace everything."),
    ] = "append",
    key: Annotated[str | None, typer.Option(metavar="COLUMNS", help="Columns that identify a row: a,b.")] = None,
    license: Annotated[str, typer.Option(help="Licence of the data, such as CC-BY-4.0.")] = "",
    split: Annotated[str | None, typer.Option(help="Split of all items; else it is seen from the folders.")] = None,
    labels: Annotated[
        Literal["folder"] | None, typer.Option(help="Images: label them by the folder that they lie in.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Leave the bytes where they are.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run that did not finish.")] = False,
    resume_run: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    evolve: Annotated[bool, typer.Option("--evolve", help="Tables: add columns that are new.")] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: Header = None,
    null: NullTokens = None,
    types: Types = None,
    decimal: Decimal = ".",
    message: Message = None,
    yes: Yes = False,
) -> None:
    """Take images, archives or tables into a dataset.

    What can't be taken is kept as rejects with its reason, and the rest lands: exit code 7, or 2 when nothing landed.
    `lakehouse sql "from rejects"` lists them. Run again, items that are there already are recognised.
    """
    call, lake = call_of(ctx), open_lake(ctx)
    if mode == "overwrite" and not yes and (there := _rows_now(lake, dataset)) is not None:
        lake.check("rows.append", ".".join(parse_name(dataset)))  # as every ingest does
        record = {"dataset": dataset, "rows": there}
        ask_first(call, record, [("would replace", f"all {plural(there, 'row')} of {dataset}")])
        return
    options = table_options(delimiter, encoding, header, null, types, decimal)
    with progress("ingest") as bar, _resumable(mode):
        report = jobs.ingest(
            lake,
            sources,
            dataset=dataset,
            format=format,
            mode=mode,
            key=listed(key),
            license=license,
            split=split,
            labels=labels,
            in_place=in_place,
            resume=resume_run or resume,
            evolve=evolve,
            options=options,
            message=message,
            progress=bar,
        )
    record = report.to_json()
    _print_ingest(ctx, record)
    if record["rejected"]:
        raise typer.Exit(_ALL_REJECTED if record["rejected"] == record["items"] else _SOME_REJECTED)


def _print_ingest(ctx: typer.Context, record: dict[str, Any]) -> None:
    lines = [
        ("dataset", f"{record['dataset']}@#{record['table_version']}"),
        ("items", number(record["items"])),
        ("ingested", number(record["ingested"])),
        ("unchanged", number(record["unchanged"] or None)),
        ("duplicates", number(record["duplicates"] or None)),
        ("rejected", rejected(record["rejected"], record["rejects_by_code"])),
        ("warnings", tally(record["warnings"])),
        ("size", size(record["bytes"])),
        ("time", f"{record['seconds']:.1f} s"),
        ("run", record["run"]),
    ]
    print_record(call_of(ctx), record, lines)
    if record["rejected"]:
        query = f"select item, line, code, reason from rejects where run = '{record['run']}'"
        note(f'See what was rejected: lakehouse sql "{query}"')
    if record["ingested"] or record["duplicates"]:
        note(f"Keep this state for ever: lakehouse publish {record['dataset']}")


@contextmanager
def _resumable(mode: str) -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        kept = "nothing was changed" if mode == "overwrite" else "what landed stays; --resume goes on with the rest"
        note(f"Interrupted: {kept}.")
        raise


def _rows_now(lake: lakehouse.Lake, dataset: str) -> int | None:
    """Return how many rows a dataset has; None when there is none of that name."""
    try:
        return lake.peek(catalog.show_dataset(lake, dataset).dataset.full_name).num_rows
    except NotFoundError:
        return None


@command(
    app,
    "delete",
    example="delete vision.photos --where \"split = 'test'\" --yes",
    python='lake.table("vision.photos").delete("split = \'test\'")',
)
def delete(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")],
    where: Annotated[str, typer.Option(metavar="CONDITION", help="Which rows, in SQL.")],
    message: Message = None,
    yes: Yes = False,
) -> None:
    """Delete the rows of a dataset that satisfy a condition.

    Earlier versions keep them: this is no erasure.
    """
    lake = open_lake(ctx)
    table = lake.table(dataset)
    if not yes:
        lake.check("rows.delete", table.name)
        snap = lake.peek(dataset)
        count = Rows(snap, where).num_rows
        record = {"dataset": table.name, "rows": count, "rows_total": snap.num_rows, "where": where}
        ask_first(
            call_of(ctx), record, [("would delete", f"{count:,} of {plural(snap.num_rows, 'row')} of {table.name}")]
        )
        return
    done = table.delete(where, message=message)
    record = {"dataset": table.name, "rows_removed": done.rows_removed, "table_version": done.table_version}
    print_record(
        call_of(ctx),
        record,
        [("deleted", plural(done.rows_removed, "row")), ("dataset", f"{table.name}@#{done.table_version}")],
    )


@command(
    app,
    "export",
    example="export vision.photos@v3 --format parquet -o ./photos-v3",
    python='jobs.export(lake, "vision.photos@v3", "./photos-v3", format="parquet", overwrite=False)',
)
def export(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="[namespace.]dataset[@selector]")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where to.")],
    format: Annotated[Literal["parquet", "csv"], typer.Option(help="Nested values are JSON text in CSV.")] = "parquet",
    columns: Annotated[str | None, typer.Option(metavar="COLUMNS", help="Which columns: path,label.")] = None,
    where: Annotated[str | None, typer.Option(metavar="CONDITION", help="Which rows, in SQL.")] = None,
    yes: Yes = False,
) -> None:
    """Write a state as Parquet or CSV files.

    An earlier export in that folder is replaced only with --yes; a folder with anything else in it is refused.
    """
    lake = open_lake(ctx)
    held = sum(1 for _ in out.iterdir()) if out.is_dir() else 0
    if held and not yes:
        check_target(out, overwrite=True)
        ref = lake.peek(reference).reference
        record = {"out": str(out), "replaces": held, "reference": ref}
        lines = [("would replace", f"{plural(held, 'entry', 'entries')} in {out}"), ("with", ref)]
        ask_first(call_of(ctx), record, lines)
        return
    with progress("export") as bar:
        report = jobs.export(
            lake,
            reference,
            out,
            format=format,
            columns=listed(columns) or None,
            where=where,
            overwrite=bool(held),
            progress=bar,
        )
    lines = [
        ("exported", shown_reference(str(parse(reference)), report.table_version)),
        ("to", report.folder),
        ("rows", number(report.rows)),
        ("size", f"{size(report.bytes)} in {plural(len(report.files), 'file')}"),
    ]
    print_record(call_of(ctx), report.to_json(), lines)
