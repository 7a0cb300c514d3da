"""Commands: `lakehouse schema ...`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import catalog
import jobs
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, commands, listed, open_lake
from api.cli.datasets import SchemaFile, parse_columns, schema_given
from api.cli.output import (
    Column,
    Line,
    ask_first,
    note,
    number,
    print_json,
    print_record,
    print_rows,
    tally,
    text,
    when,
    words,
)
from api.cli.table_options import Decimal, Delimiter, Encoding, Header, NullTokens, Types, table_options
from catalog.schema_edits import SchemaEdit
from catalog.schema_formats import read_schema
from catalog.schemas import SchemaInfo, Verdict
from jobs.ingest.tabular import TABLE_FORMATS, TableOptions
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.registry import columns_of

app = commands()
schema = commands("Show, list, check, change and export schemas.")
app.add_typer(schema, name="schema")

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")]
Number = Annotated[int | None, typer.Option(metavar="N", help="The schema version of that number instead.")]
_REFUSED, _SOME_REJECTED = 2, 7


def schema_json(info: SchemaInfo) -> dict[str, Any]:
    """Return the JSON form of a schema version."""
    own = info.schema
    return {
        "dataset": info.dataset.full_name,
        "dataset_id": info.dataset.dataset_id,
        "number": own.number,
        "registered": info.registered,
        "columns": [asdict(c) for c in own.columns],
        "key": list(own.key_columns),
        "compatibility": own.compatibility,
        "misfits": own.misfits,
        "created_at": own.created_at if info.registered else None,
        "created_by": own.created_by if info.registered else None,
        "message": own.message,
    }


@command(
    schema,
    "show",
    example="schema show vision.photos",
    python='catalog.show_schema(lake, "vision.photos@v3", number=None)',
)
def show(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="A dataset, or a state of it: photos@v3.")],
    number: Number = None,
) -> None:
    """Show the columns of a dataset: types, units, what they mean, and the rules for changes."""
    call, info = call_of(ctx), catalog.show_schema(open_lake(ctx), reference, number=number)
    record = schema_json(info)
    lines: list[Line] = [
        ("schema", f"{record['dataset']} s{record['number']}" + ("" if info.registered else " (not registered yet)")),
        ("key", words(record["key"])),
        ("compatibility", record["compatibility"]),
        ("misfits", record["misfits"]),
        ("since", f"{when(record['created_at'])} by {record['created_by']}" if info.registered else ""),
        ("message", record["message"]),
    ]
    print_record(call, record, lines)
    if not call.json:
        typer.echo()
        columns = [
            Column("name", "column"),
            Column("type"),
            Column("nullable", "null", lambda v: "" if v else "no"),
            Column("unit"),
            Column("semantic"),
            Column("description"),
        ]
        print_rows(call, record["columns"], columns, empty="")


@command(schema, "list", example="schema list vision.photos", python='catalog.list_schemas(lake, "vision.photos")')
def list_(ctx: typer.Context, name: DatasetName) -> None:
    """List the schema versions of a dataset, newest first."""
    found = [schema_json(info) for info in catalog.list_schemas(open_lake(ctx), name)]
    columns = [
        Column("number", "schema", lambda n: f"s{n}"),
        Column("registered", shown=lambda r: "" if r else "not yet"),
        Column("columns", shown=lambda c: number(len(c)), right=True),
        Column("compatibility"),
        Column("misfits"),
        Column("created_at", "since", when),
        Column("created_by", "by"),
        Column("message"),
    ]
    print_rows(call_of(ctx), found, columns, empty="")


@command(
    schema,
    "check",
    example="schema check shop.orders orders-2.csv",
    python='jobs.check_file(lake, "shop.orders", "orders-2.csv")',
)
def check(
    ctx: typer.Context,
    name: DatasetName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A schema, or a table: .csv, .parquet, .jsonl, ...")],
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: Header = None,
    null: NullTokens = None,
    types: Types = None,
    decimal: Decimal = ".",
) -> None:
    """Say what another schema would break, or what an ingest would make of a file; nothing is changed.

    Of a file that is refused it shows how its columns differ, and the commands that would take it.
    Exit code 2: it would be refused; 7: some rows would be rejected. In Python a schema is checked by
    catalog.check_schema(lake, name, schema).
    """
    lake = open_lake(ctx)
    if Path(file).suffix.lower() in TABLE_FORMATS and not _is_schema(file):
        _check_file(ctx, lake, name, file, table_options(delimiter, encoding, header, null, types, decimal))
        return
    verdict = catalog.check_schema(lake, name, schema_given(file))
    print_verdict(ctx, verdict)
    if not verdict.allowed:
        raise typer.Exit(_REFUSED)


def _is_schema(file: str) -> bool:
    """Whether a `.json` file is a schema; the other tabular files are tables."""
    if Path(file).suffix.lower() != ".json":
        return False
    try:
        read_schema(file)
    except InvalidInputError:
        return False
    return True


def _check_file(ctx: typer.Context, lake: Lake, name: str, file: str, options: TableOptions | None) -> None:
    call, found = call_of(ctx), jobs.check_file(lake, name, file, options)
    rejected = sum(found.rejects_by_code.values())
    verdict = None if found.verdict is None else verdict_json(found.verdict)
    record = asdict(replace(found, verdict=None)) | {"verdict": verdict, "allowed": found.refused is None}
    lines = [
        ("refused", found.refused or ""),
        ("because", found.reason),
        ("fit", "" if found.refused else number(found.rows)),
        ("rejects", tally(found.rejects_by_code)),
        ("flagged", tally(found.flagged_by_code)),
        ("warnings", "; ".join(f"{code}: {said}" for code, said in found.warnings.items())),
        *(("or", choice) for choice in found.choices),
    ]
    print_record(call, record, lines)
    if verdict is not None and not call.json:
        typer.echo()
        _print_differences(ctx, verdict)
    if found.refused or (rejected and not found.rows):
        raise typer.Exit(_REFUSED)
    if rejected:
        raise typer.Exit(_SOME_REJECTED)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return the JSON form of a verdict."""
    mode = verdict.new.compatibility
    return {
        "dataset": verdict.dataset.full_name,
        "old": verdict.old.number,
        "new": verdict.new.number,
        "compatibility": mode,
        "misfits": verdict.new.misfits,
        "allowed": verdict.allowed,
        "breaks_readers": any(d.breaks_readers for d in verdict.differences),
        "breaks_writers": any(d.breaks_writers for d in verdict.differences),
        "differences": [asdict(d) | {"allowed": d.allowed(mode)} for d in verdict.differences],
        "users": [asdict(u) | {"columns": list(u.columns)} for u in verdict.users],
    }


def print_verdict(ctx: typer.Context, verdict: Verdict) -> None:
    """Print a verdict: each difference, whom it breaks, who uses the column."""
    call, record = call_of(ctx), verdict_json(verdict)
    if call.json:
        print_json(record)
        return
    said = f"{verdict.new.compatibility} {'allows' if verdict.allowed else 'refuses'} this"
    if verdict.new == verdict.old:
        said = "nothing: the schemas are the same" + ("" if verdict.registered else ", but this one has no number yet")
    print_record(call, record, [("schema", f"{record['dataset']} s{record['old']}"), ("changes", said)])
    if record["differences"]:
        typer.echo()
    _print_differences(ctx, record)


def _print_differences(ctx: typer.Context, record: dict[str, Any]) -> None:
    call = call_of(ctx)
    columns = [
        Column("column"),
        Column("what"),
        Column("old"),
        Column("new"),
        Column("breaks_readers", "readers", lambda v: "break" if v else "fine"),
        Column("breaks_writers", "writers", lambda v: "break" if v else "fine"),
        Column("allowed", shown=lambda v: "yes" if v else "no"),
    ]
    if record["differences"]:
        print_rows(call, record["differences"], columns, empty="")
    if record["users"]:
        typer.echo()
        print_rows(
            call, record["users"], [Column("name", "used by"), Column("kind"), Column("columns", shown=words)], empty=""
        )


@command(
    schema,
    "evolve",
    example='schema evolve shop.orders --column price --unit EUR --description "what was paid"',
    python='catalog.evolve_schema(lake, "shop.orders", schema, compatibility="FULL", misfits="flag", message="units")',
)
def evolve(
    ctx: typer.Context,
    name: DatasetName,
    file: SchemaFile = None,
    add: Annotated[str | None, typer.Option(metavar="NAME:TYPE,...", help="Columns to add; null in old rows.")] = None,
    drop: Annotated[str | None, typer.Option(metavar="NAMES", help="Columns to leave out: a,b.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Columns that identify a row: a,b; '' for none.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The column that the next three options say something of.")] = None,
    description: Annotated[str | None, typer.Option(help="What the column's values are.")] = None,
    unit: Annotated[str | None, typer.Option(help="Their unit, such as cm or EUR.")] = None,
    semantic: Annotated[str | None, typer.Option(help="Their kind: id, label, text, image, pii:email, ...")] = None,
    compatibility: Annotated[str | None, typer.Option(help="NONE, BACKWARD or FULL, from now on.")] = None,
    misfits: Annotated[
        str | None, typer.Option(help="What an ingest does with values that don't fit: block the row, or flag it.")
    ] = None,
    message: Message = None,
    yes: Yes = False,
) -> None:
    """Change a dataset's schema: columns, what they mean, key, rules. It gets the next number.

    What breaks readers or writers is shown first, and done with --yes.
    """
    call, lake = call_of(ctx), open_lake(ctx)
    said = {k: v for k, v in (("description", description), ("unit", unit), ("semantic", semantic)) if v is not None}
    if bool(said) != (column is not None):
        raise InvalidInputError("option-invalid", "--column goes with --description, --unit or --semantic.")
    given = None if file is None else schema_given(file)
    wanted: Any = {
        "edit": SchemaEdit(
            add=columns_of(parse_columns(add)) if add else (),
            drop=tuple(listed(drop)),
            column=column,
            words=said,
            key=None if key is None else tuple(listed(key)),
        ),
        "compatibility": compatibility,
        "misfits": misfits,
    }
    verdict = catalog.check_schema(lake, name, given, **wanted)
    if verdict.allowed and verdict.breaks and not yes:
        lake.check("schema.evolve", verdict.dataset.full_name)
        record = verdict_json(verdict)
        ask_first(call, record, [("would change", f"{record['dataset']} s{record['old']} -> s{record['new']}")])
        if not call.json:
            _print_differences(ctx, record)
        return
    done = catalog.evolve_schema(lake, name, given, **wanted, message=message)
    print_verdict(ctx, done)
    if done:
        note(f"{done.dataset.full_name} has the schema s{done.new.number} now.")


@command(
    schema,
    "export",
    example="schema export shop.orders --format json-schema -o orders.schema.json",
    python='catalog.export_schema(lake, "shop.orders", format="json-schema", number=None)',
)
def export(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="A dataset, or a state of it: photos@v3.")],
    format: Annotated[
        str, typer.Option(help="json-schema, yaml or arrow (an IPC stream without rows).")
    ] = "json-schema",
    number: Number = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Where to; else stdout.")] = None,
) -> None:
    """Write a schema as a file that `create`, `evolve`, `fork` and `check` take."""
    content = catalog.export_schema(open_lake(ctx), reference, format=format, number=number)
    if out is None:
        typer.echo(content.decode() if format != "arrow" else content, nl=False)
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        raise InvalidInputError(
            "output-invalid",
            f"{out} can't be written: {error.strerror}. Name a file in a folder that is there, with -o.",
        ) from error
    record = {"file": str(out), "format": format, "bytes": len(content)}
    print_record(call_of(ctx), record, [("wrote", text(out))])
