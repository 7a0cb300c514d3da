"""Commands: `lakehouse metadata ...`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import Yes, command, commands, open_lake
from api.cli.output import Column, ask_first, print_record, print_rows, when, words
from lakehouse.decisions import Metadata
from lakehouse.errors import InvalidInputError
from lakehouse.references import parse_name
from lakehouse.rehearsal import rehearsal

app = commands()
metadata = commands("Set, list and remove metadata of datasets.")
app.add_typer(metadata, name="metadata")

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="[namespace.]dataset")]


@command(
    metadata,
    "set",
    example="metadata set vision.photos cost-center=4711 sensor='Mk II'",
    python='catalog.set_metadata(lake, "vision.photos", {"cost-center": "4711", "sensor": "Mk II"})',
)
def set_(
    ctx: typer.Context,
    dataset: DatasetName,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="A value is at most 4 KiB.")],
) -> None:
    """Give a dataset metadata: values under names of yours."""
    wanted = dict(_parsed(value) for value in values)
    made = catalog.set_metadata(open_lake(ctx), dataset, wanted)
    print_record(call_of(ctx), _json(dataset, made), [(m.name, m.value) for m in made])


@command(metadata, "list", example="metadata list vision.photos", python='catalog.list_metadata(lake, "vision.photos")')
def list_(ctx: typer.Context, dataset: DatasetName) -> None:
    """List the metadata of a dataset."""
    rows = [asdict(m) for m in catalog.list_metadata(open_lake(ctx), dataset)]
    columns = [Column("name"), Column("value"), Column("created_at", "since", when), Column("created_by", "by")]
    empty = f"No metadata on {dataset}. Set some with: lakehouse metadata set {dataset} NAME=VALUE"
    print_rows(call_of(ctx), rows, columns, empty=empty)


@command(
    metadata,
    "remove",
    example="metadata remove vision.photos sensor --yes",
    python='catalog.remove_metadata(lake, "vision.photos", ["sensor"])',
)
def remove(
    ctx: typer.Context,
    dataset: DatasetName,
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    yes: Yes = False,
) -> None:
    """Remove metadata of a dataset."""
    lake = open_lake(ctx)
    if yes:
        gone = catalog.remove_metadata(lake, dataset, names)
        print_record(call_of(ctx), _json(dataset, gone), [("removed", words(m.name for m in gone))])
        return
    found = catalog.remove_metadata(rehearsal(lake), dataset, names)
    ask_first(call_of(ctx), _json(dataset, found), [("would remove", words(m.name for m in found))])


def _json(dataset: str, values: list[Metadata]) -> dict[str, Any]:
    return {"dataset": ".".join(parse_name(dataset)), "metadata": {m.name: m.value for m in values}}


def _parsed(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInputError("option-invalid", f"{text[:140]!r} is not NAME=VALUE, such as cost-center=4711.")
    return name, value
