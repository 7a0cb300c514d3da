"""Commands: `lakehouse dataset ...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

import catalog
import jobs
from api.cli import queries, searching
from api.cli.call import call_of
from api.cli.command import Message, Yes, command, commands, listed, open_lake
from api.cli.output import (
    Column,
    ask_first,
    note,
    number,
    plural,
    print_record,
    print_rows,
    version,
    when,
    words,
)
from catalog.datasets import DatasetInfo
from catalog.schema_formats import SchemaSpec, read_schema
from jobs.ingest.tabular import open_table
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.registry import columns_of
from lakehouse.rehearsal import rehearsal
from lakehouse.type_names import split_names, type_named

SchemaFile = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        help="YAML, JSON Schema, JSON as `show` gives it, .parquet, .arrow, .csv, or module:Model for Pydantic.",
    ),
]
_TEXT_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson")
app = commands()
dataset = commands("Create, fork, find, show, rename, delete and undrop datasets.")
dataset.add_typer(searching.app)
dataset.add_typer(queries.app)
app.add_typer(dataset, name="dataset")


def dataset_json(info: DatasetInfo) -> dict[str, Any]:
    """Return the JSON form of a dataset."""
    own = info.dataset
    return {
        "dataset": own.full_name,
        "dataset_id": own.dataset_id,
        "kind": own.kind,
        "key": list(own.key_columns),
        "latest_version": info.latest_version or None,
        "aliases": list(info.aliases),
        "tags": info.tags,
        "milestones": info.milestones,
        "children": info.children,
        "hold": info.hold.reason if info.hold else None,
        "owner": own.owner,
        "license": own.license,
        "description": own.description,
        "metadata": {m.name: m.value for m in info.metadata},
        "guarantee": own.guarantee,
        "location": own.location,
        "created_at": own.created_at,
        "deleted_at": own.deleted_at,
    }


def _print_dataset(ctx: typer.Context, lake: Lake, info: DatasetInfo) -> None:
    own = info.dataset
    query = None if own.query_run is None else jobs.query_of(lake, own.full_name)
    record = dataset_json(info) | {"query": queries.query_json(query)}
    lines = [
        ("dataset", own.full_name),
        ("former names", words(info.aliases)),
        ("kind", own.kind + (", adopted: others may vacuum it" if own.guarantee == "external" else "")),
        ("key", words(own.key_columns)),
        ("latest version", version(info.latest_version) or "none published"),
        ("tags", words(f"{tag} -> v{n}" for tag, n in info.tags.items())),
        ("milestones", words(info.milestones)),
        ("derived", words(info.children)),
        *queries.query_lines(query),
        ("legal hold", info.hold.reason if info.hold else ""),
        ("owner", own.owner),
        ("license", own.license),
        ("description", own.description),
        ("metadata", words(f"{m.name}={m.value}" for m in info.metadata)),
        ("location", own.location),
        ("created", when(own.created_at)),
        ("deleted", when(own.deleted_at)),
    ]
    print_record(call_of(ctx), record, lines)


@command(
    dataset,
    "create",
    example='dataset create shop.orders --columns "id:int64,name:string,price:decimal(10,2)" --key id',
    python='catalog.create_dataset(lake, "shop.orders", schema, key=["id"])',
)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="[namespace.]name")],
    columns: Annotated[str | None, typer.Option(metavar="NAME:TYPE,...", help="Columns and types.")] = None,
    schema: SchemaFile = None,
    location: Annotated[
        str | None, typer.Option(metavar="URI", help="Take this existing Delta table in place; nothing is copied.")
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(metavar="SQL", help='Take the rows of a query over published states: from "photos@v3" where ...'),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS", help="Columns that identify a row: a,b. Of a query: '' for none; else its dataset's."
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="What it is.")] = "",
    owner: Annotated[str | None, typer.Option(help="Who answers for it; else you.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the data, such as CC-BY-4.0.")] = None,
    reuse_name: Annotated[
        bool, typer.Option("--reuse-name", help="Take a deleted dataset's name; versions are numbered on.")
    ] = False,
) -> None:
    """Make an empty dataset, one of the rows of a query, or take an existing Delta table in place.

    In Python the latter are jobs.create_from_query(lake, name, sql), asked for by jobs.query_of(lake, name), and
    catalog.adopt_dataset(lake, name, location).
    """
    options = (("--columns", columns), ("--schema", schema), ("--location", location), ("--query", query))
    given = [option for option, value in options if value is not None]
    if len(given) != 1:
        raise InvalidInputError(
            "option-invalid",
            f"Give one of --columns, --schema, --location and --query; {' and '.join(given) or 'none'} was given.",
        )
    lake = open_lake(ctx)
    described: dict[str, Any] = {"description": description, "owner": owner, "license": license or ""}
    described["reuse_name"] = reuse_name
    if query is not None:
        chosen = None if key is None else listed(key)
        queries.create(call_of(ctx), lake, name, query, chosen, described | {"license": license})
        return
    if location is not None:
        made = catalog.adopt_dataset(lake, name, location, key=listed(key), **described)
    else:
        fields = parse_columns(columns) if columns is not None else schema_given(str(schema))
        made = catalog.create_dataset(lake, name, fields, key=listed(key), **described)
    _print_dataset(ctx, lake, catalog.show_dataset(lake, made.full_name))


@command(
    dataset,
    "fork",
    example="dataset fork shop.orders shop.orders_new --schema orders.yaml",
    python='catalog.fork_dataset(lake, "shop.orders", "shop.orders_new", "orders.yaml", empty=False)',
)
def fork(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="REF", help="The state that it begins with: orders, orders@v3.")],
    name: Annotated[str, typer.Argument(metavar="NEW", help="[namespace.]name of the new dataset.")],
    schema: SchemaFile = None,
    empty: Annotated[bool, typer.Option("--empty", help="Take no rows: only what the schema says.")] = False,
    description: Annotated[str | None, typer.Option(help="What it is; else what the source is.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it; else you.")] = None,
) -> None:
    """Make a new dataset from a state of another, with a schema of its own; it remembers its parent.

    Data files are copied by the store itself, and the bytes of assets are shared. Where columns differ by more than new
    ones, the rows are written anew, each value only if that loses nothing.
    """
    given = None if schema is None else schema_given(schema)
    made = catalog.fork_dataset(open_lake(ctx), source, name, given, empty=empty, description=description, owner=owner)
    record = {
        "dataset": made.dataset.full_name,
        "parent": made.source.dataset.full_name,
        "source": f"{made.source.dataset.full_name}@#{made.source.table_version}",
        "table_version": made.taken.table_version,
        "rows": made.taken.rows,
        "files": made.taken.files,
        "copied": made.taken.copied,
        "run": made.run,
    }
    how = "copied by the store" if made.taken.copied else "written anew"
    lines = [
        ("dataset", made.dataset.full_name),
        ("fork of", str(record["source"])),
        ("rows", number(made.taken.rows)),
        ("files", f"{number(made.taken.files)} {how}" if made.taken.files else ""),
        ("run", made.run),
    ]
    print_record(call_of(ctx), record, lines)


@command(
    dataset,
    "list",
    example="dataset list --namespace vision",
    python='catalog.list_datasets(lake, namespace="vision")',
)
def list_(
    ctx: typer.Context,
    namespace: Annotated[str | None, typer.Option(help="Only this namespace.")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that were deleted instead.")] = False,
) -> None:
    """List the datasets."""
    found = catalog.list_datasets(open_lake(ctx), namespace=namespace, deleted=deleted)
    columns = [
        Column("dataset"),
        Column("kind"),
        Column("latest_version", "latest", version),
        Column("key", shown=words),
        Column("owner"),
        Column("deleted_at" if deleted else "created_at", "deleted" if deleted else "created", when),
        Column("description"),
        *([Column("dataset_id", "id")] if deleted else []),
    ]
    empty = (
        "No dataset was deleted." if deleted else "No datasets yet. Make one with: lakehouse ingest, or dataset create"
    )
    print_rows(call_of(ctx), [dataset_json(i) for i in found], columns, empty=empty)


@command(dataset, "show", example="dataset show vision.photos", python='catalog.show_dataset(lake, "vision.photos")')
def show(ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Show a dataset with its tags, milestones, metadata, the query that makes it, and what was derived from it."""
    lake = open_lake(ctx)
    _print_dataset(ctx, lake, catalog.show_dataset(lake, name))


@command(
    dataset,
    "delete",
    example="dataset delete vision.photos --yes",
    python='catalog.delete_dataset(lake, "vision.photos", message="replaced")',
)
def delete(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")], message: Message = None, yes: Yes = False
) -> None:
    """Hide a dataset, after showing what relies on it. Its versions stay readable, and `undrop` brings it back."""
    lake = open_lake(ctx)
    if not yes:
        info = catalog.show_dataset(lake, name)
        own, relying = info.dataset, catalog.dependents(lake, name)
        lake.check("dataset.delete", own.full_name)
        rows = lake.peek(own.full_name).num_rows
        kept = sum(v.expired_at is None for v in catalog.list_versions(lake, name))
        hold = info.hold.reason if info.hold else None
        record = {"dataset": own.full_name, "rows": rows, "versions_kept": kept, "hold": hold}
        lines = [
            ("would hide", own.full_name),
            ("rows", number(rows)),
            ("stays readable", plural(kept, "published version") if kept else ""),
            ("legal hold", f"stays: {hold}" if hold else ""),
            *((f"relied on by {d.kind}", d.name) for d in relying),
        ]
        ask_first(call_of(ctx), record | {"dependents": [asdict(d) for d in relying]}, lines)
        return
    gone = catalog.delete_dataset(lake, name, message=message)
    print_record(
        call_of(ctx), {"dataset": gone.full_name, "deleted_at": gone.deleted_at}, [("deleted", gone.full_name)]
    )
    note(f"Bring it back with: lakehouse dataset undrop {gone.full_name}")


@command(
    dataset,
    "undrop",
    example="dataset undrop vision.photos",
    python='catalog.undrop_dataset(lake, "vision.photos", dataset_id=None)',
)
def undrop(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    dataset_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Which of several, as `list --deleted` shows; else the last."),
    ] = None,
) -> None:
    """Bring back a deleted dataset under its name."""
    lake = open_lake(ctx)
    back = catalog.undrop_dataset(lake, name, dataset_id=dataset_id)
    _print_dataset(ctx, lake, catalog.show_dataset(lake, back.full_name))


@command(
    dataset,
    "rename",
    example="dataset rename vision.photos vision.images",
    python='catalog.rename_dataset(lake, "vision.photos", "vision.images", message="clearer")',
)
def rename(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OLD", help="[namespace.]name")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="[namespace.]name, in the same namespace.")],
    message: Message = None,
) -> None:
    """Give a dataset another name; the old one goes on meaning it.

    Versions, tags, checks, schemas and milestones stay with it, and its numbering goes on.
    """
    lake = open_lake(ctx)
    made = catalog.rename_dataset(lake, name, new, message=message)
    _print_dataset(ctx, lake, catalog.show_dataset(lake, made.full_name))


@command(
    dataset,
    "unalias",
    example="dataset unalias vision.photos --yes",
    python='catalog.unalias_dataset(lake, "vision.photos")',
)
def unalias(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OLD", help="A former name: [namespace.]name")],
    yes: Yes = False,
) -> None:
    """Give a former name of a dataset back: it means nothing then, and a new dataset may take it."""
    lake = open_lake(ctx)
    if not yes:
        own = catalog.unalias_dataset(rehearsal(lake), name)
        ask_first(
            call_of(ctx),
            {"alias": name, "dataset": own.full_name},
            [("would give back", name), ("a name of", own.full_name)],
        )
        return
    own = catalog.unalias_dataset(lake, name)
    print_record(
        call_of(ctx), {"alias": name, "dataset": own.full_name}, [("given back", name), ("was", own.full_name)]
    )


def schema_given(given: str) -> SchemaSpec:
    """Return the schema that a file or `module:Model` gives; of tabular text, what an ingest would make of it.

    A module is looked for in the current folder first, as `python -m` does.

    Raises:
        InvalidInputError: as `open_table` and `read_schema`.
    """
    if Path(given).suffix.lower() not in _TEXT_TABLES:
        with _modules_from(Path.cwd()):
            return read_schema(given)
    with open_table(given) as source:
        return SchemaSpec(columns_of(source.schema))


@contextmanager
def _modules_from(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported meanwhile."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def parse_columns(given: str) -> pa.Schema:
    """Return the schema that `a:int64,b:decimal(10,2)` names.

    Raises:
        InvalidInputError: a part that is not `name:type` (option-invalid), or an unknown type (type-unknown).
    """
    fields = []
    for part in split_names(given):
        name, _, type_name = (p.strip() for p in part.partition(":"))
        if not name or not type_name:
            raise InvalidInputError("option-invalid", f"--columns: {part!r} is not name:type, such as id:int64.")
        fields.append(pa.field(name, type_named(type_name, name)))
    return pa.schema(fields)
