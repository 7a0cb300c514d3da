"""`lakehouse sql`: one query, or the prompt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import prompt
from api.cli.call import Call, call_of
from api.cli.command import Wide, command, commands, open_lake
from api.cli.output import note, plural, print_json_rows
from api.cli.tables import draw_rows, rows_of, values_of
from lakehouse.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

app = commands()
MOST_ROWS = 1_000
"""Rows that a table shows unless all are asked for."""


@command(
    app,
    "sql",
    example="sql 'select label, count(*) as n from \"vision.photos@v3\" group by 1 order by 2 desc'",
    python='lake.sql(\'select label, count(*) as n from "vision.photos@v3" group by 1\', milestone="spring/v2")',
)
def sql(
    ctx: typer.Context,
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="One statement; none opens a prompt.", show_default=False)
    ] = None,
    milestone: Annotated[
        str | None, typer.Option(metavar="NAME/VERSION", help="Names without @ mean this milestone's members.")
    ] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="Show more than 1,000 rows.")] = False,
    wide: Wide = False,
) -> None:
    """Run one SQL query, or an interactive prompt without one.

    DuckDB's SQL, in which any reference is a table: "vision.photos@v3", vision.photos. The lakehouse describes itself
    in the views datasets, versions, milestones, milestone_datasets, pins, holds, runs, lineage and rejects.
    """
    call, lake = call_of(ctx), open_lake(ctx)
    session = lake.session(milestone)
    if query is not None:
        with _ended_by_interrupt():
            print_result(call, session.query(query), all_rows=all_rows, wide=wide)
        return
    prompt.run(call, lake, session, lambda found: print_result(call, found, all_rows=all_rows, wide=wide))


def print_result(call: Call, found: duckdb.DuckDBPyRelation | None, *, all_rows: bool, wide: bool) -> None:
    """Print the result of a statement as it comes; None is a statement without one.

    Raises:
        InvalidInputError: the query fails on a value (sql-invalid), or JSON of two columns with one name
            (duplicate-column).
    """
    if found is None:
        note("Done.")
        if call.json:
            print_json_rows([])
        return
    names = list(found.columns)
    twice = next((n for n in names if names.count(n) > 1), None)
    if call.json and twice is not None:
        raise InvalidInputError(
            "duplicate-column",
            f"Two columns of the result are called {twice!r}, which JSON can't hold. Rename one: ... as other_name",
            column=twice,
        )
    with _running():
        reader = found.to_arrow_reader(10_000)
        if call.json:
            print_json_rows(_whole(found, rows_of(reader)))
            return
        shown = list(values_of(reader, None if all_rows else MOST_ROWS + 1))
    cut = len(shown) > MOST_ROWS and not all_rows
    draw_rows(
        reader.schema, shown[:MOST_ROWS] if cut else shown, [str(kind).lower() for kind in found.types], wide=wide
    )
    if cut:
        note(f"The first {MOST_ROWS:,} rows; there are more: --all shows them, --output json streams them.")
    else:
        note(plural(len(shown), "row"))


def _whole(found: duckdb.DuckDBPyRelation, rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Return rows with integers of 128 bits, which every sum() is, as integers: Arrow has them as decimals."""
    huge = [name for name, kind in zip(found.columns, found.types, strict=True) if str(kind).endswith("HUGEINT")]
    if not huge:
        return rows
    return (row | {n: int(row[n]) for n in huge if row[n] is not None} for row in rows)


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process: DuckDB does not look for it while it computes, and a query leaves nothing behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _running() -> Iterator[None]:
    """Turn what DuckDB finds while it computes (a cast that fails, a division) into our error."""
    import duckdb

    try:
        yield
    except duckdb.DataError as error:
        raise InvalidInputError("sql-invalid", f"The query failed on a value: {error}") from error


__all__ = ["app", "print_result", "sql"]
