"""Datasets made by a query: what `dataset create --query` and `dataset show` print, and `lakehouse dataset refresh`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

import jobs
from api.cli.call import Call, call_of
from api.cli.command import command, commands, open_lake
from api.cli.output import Line, note, number, print_record, when
from jobs.query import DatasetQuery, QueryInput
from lakehouse.lake import Lake

app = commands()


@command(
    app,
    "refresh",
    example="dataset refresh vision.sevens",
    python='jobs.refresh_from_query(lake, "vision.sevens")',
)
def refresh(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="[namespace.]name of a dataset made by a query.")],
    query: Annotated[str | None, typer.Option(metavar="SQL", help="Another query, from now on.")] = None,
) -> None:
    """Run the query of a dataset again, in one commit of the rows that differ.

    @latest, tags and data tags mean the newest versions; @v3 stays. Rows that others wrote into the dataset since go. When
    nothing is new there is no commit.
    """
    found = jobs.refresh_from_query(open_lake(ctx), name, query)
    said = f"{found.added:,} added, {found.removed:,} removed, {found.changed:,} changed"
    nothing = not (found.added or found.removed or found.changed)
    lines = [
        ("dataset", f"{found.dataset}@#{found.table_version}"),
        *_moved(found.inputs),
        ("rows", f"{number(found.rows)}: {'as they were' if nothing else said}"),
        ("run", found.run or ""),
    ]
    print_record(call_of(ctx), found.to_json(), lines)
    if found.run is None:
        note("Nothing is new: the query and what it reads are the same.")


def create(call: Call, lake: Lake, name: str, query: str, key: Sequence[str] | None, described: dict[str, Any]) -> None:
    """Make a dataset by a query, and print what came of it."""
    made = jobs.create_from_query(lake, name, query, key=key, **described)
    lines = [
        ("dataset", f"{made.dataset}@#{made.table_version}"),
        *_resolved(made.inputs),
        ("rows", number(made.rows)),
        ("run", made.run or ""),
    ]
    print_record(call, made.to_json(), lines)


def query_json(query: DatasetQuery | None) -> dict[str, Any] | None:
    """Return the JSON form of what makes a dataset."""
    if query is None:
        return None
    inputs = [{"reference": entry.reference, "resolved": entry.resolved} for entry in query.inputs]
    return {"sql": query.sql, "inputs": inputs, "refreshed_at": query.refreshed_at, "run": query.run}


def query_lines(query: DatasetQuery | None) -> list[Line]:
    """Return what people want to see of it."""
    if query is None:
        return []
    return [
        ("made by query", " ".join((query.sql or "that was erased, or reads what you may not").split())),
        *_resolved(query.inputs),
        ("refreshed", when(query.refreshed_at)),
    ]


def _resolved(inputs: Sequence[QueryInput]) -> list[Line]:
    return [("reads", e.resolved if e.reference == e.resolved else f"{e.reference} ({e.resolved})") for e in inputs]


def _moved(inputs: Sequence[QueryInput]) -> list[Line]:
    return [
        ("reads", f"{e.reference}: {e.resolved if e.before in (None, e.resolved) else f'{e.before} -> {e.resolved}'}")
        for e in inputs
    ]


__all__ = ["app", "create", "query_json", "query_lines", "refresh"]
