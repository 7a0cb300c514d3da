"""Tables for people: aligned, without frames, cut to the terminal's width."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import typer

from api.cli.jsonable import dumps

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

PIPED_WIDTH = 120
"""Characters in a line of data when stdout is no terminal."""
_NARROWEST, _SMALL = 12, 16
"""Characters that a column is cut to at most, and up to which it is never cut. Columns that do not fit are left out."""
_LONGEST = 200
"""Characters of a value that are shown at most."""
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


def draw(
    titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] = (), *, piped: int | None = None
) -> None:
    """Print a table on stdout, cut to the width of the terminal.

    Args:
        titles: One per column; may have two lines.
        rows: Cells.
        right: Which columns are aligned to the right; () means none.
        piped: Characters in a line when stdout is no terminal; None: as many as there are.
    """
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    limit = console.width if console.is_terminal else piped
    left = _draw(console, titles, list(rows), right or [False] * len(titles), limit)
    if left:
        typer.echo(f"{left} more columns do not fit; --output json has them all.", err=True)


def draw_rows(
    schema: pa.Schema, rows: Iterable[Sequence[Any]], types: Sequence[object] = (), *, wide: bool = False
) -> None:
    """Print rows of data under the names and types of their columns, cut to the terminal or to `PIPED_WIDTH`.

    Args:
        types: Names of the types to show; () means those of the schema.
        wide: Show all columns whole, however long the lines become.
    """
    import pyarrow.types as t
    from rich.console import Console

    titles = [f"{field.name}\n{kind}" for field, kind in zip(schema, types or schema.types, strict=True)]
    right = [t.is_integer(f.type) or t.is_floating(f.type) or t.is_decimal(f.type) for f in schema]
    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    limit = None if wide else console.width if console.is_terminal else PIPED_WIDTH
    left = _draw(console, titles, [[cell(value) for value in row] for row in rows], right, limit)
    if left:
        typer.echo(f"{left} more columns do not fit: choose some, or show all with --wide.", err=True)


def _draw(
    console: Console, titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], limit: int | None
) -> int:
    """Print a table in lines of at most `limit` characters; return how many columns were left out."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = [[text.translate(_CONTROLS) for text in row] for row in rows]
    widths = [max(map(cell_len, (*title.split("\n"), *(row[i] for row in cells)))) for i, title in enumerate(titles)]
    fitted = widths if limit is None else fit(widths, limit)
    left = len(titles) - len(fitted)
    console.width = max(1, sum(fitted) + 2 * len(fitted) + 1)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title, width, to_right in zip(titles, fitted, right, strict=False):
        justify: Literal["left", "right"] = "right" if to_right else "left"
        table.add_column(Text(title), no_wrap=True, overflow="ellipsis", justify=justify, width=width)
    more = [Text("…")] if left else []
    if left:
        table.add_column("…", width=1)
    for row in cells:
        table.add_row(*map(Text, row[: len(fitted)]), *more)
    with console.capture() as drawn:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))
    return left


def fit(widths: Sequence[int], limit: int) -> list[int]:
    """Return the widths of the first columns, as many as fit into a line; wide columns give way before others go."""
    least = [width if width <= _SMALL else _NARROWEST for width in widths]
    shown = len(widths)
    while shown > 1 and sum(least[:shown]) + 2 * (shown - 1) + 3 * (shown < len(widths)) > limit:
        shown -= 1
    room = limit - 2 * (shown - 1) - 3 * (shown < len(widths))
    for cap in range(max(widths, default=0), _NARROWEST, -1):
        fitted = [min(width, max(cap, low)) for width, low in zip(widths[:shown], least, strict=False)]
        if sum(fitted) <= room:
            return fitted
    return [min(low, max(1, limit)) for low in least[:shown]]


def rows_of(batches: Iterable[pa.RecordBatch], limit: int | None = None) -> Iterable[dict[str, Any]]:
    """Return the rows of record batches as they come, at most `limit`."""
    return islice((row for batch in batches for row in batch.to_pylist()), limit)


def values_of(batches: Iterable[pa.RecordBatch], limit: int | None = None) -> Iterable[Sequence[Any]]:
    """Return the rows as values without names, of which some may be the same."""
    columns = ((column.to_pylist() for column in batch.columns) for batch in batches)
    return islice((row for lists in columns for row in zip(*lists, strict=True)), limit)


def cell(value: Any) -> str:
    """Return a value of data as a person reads it, on one line."""
    match value:
        case None:
            return "null"
        case str():
            said = value
        case bool():
            said = str(value).lower()
        case float():
            said = f"{value:.6g}"
        case int() | Decimal():
            said = str(value)
        case bytes():
            said = f"{value[:8].hex()}{'…' if len(value) > 8 else ''} ({len(value):,} bytes)"
        case date():  # a datetime too
            said = str(value).replace("+00:00", "Z")
        case _:
            said = dumps(value)
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
