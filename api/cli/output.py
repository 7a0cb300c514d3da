"""What commands print: data on stdout as tables or JSON, messages on stderr.

A command hands over the JSON form of its result once; the table form chooses from it what people want to see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import typer

from api.cli.call import Call
from api.cli.jsonable import dumps, jsonable_row
from api.cli.tables import draw

Line = tuple[str, str]
"""A label and what stands behind it."""


def number(value: Any) -> str:
    """Return a count with separators for thousands; nothing for None."""
    return "" if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Return a number of bytes for people: `12.3 MB`, in powers of 1000."""
    if value is None:
        return ""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(amount) < 999.95 or unit == "TB":
            break
        amount /= 1000
    return f"{value} B" if unit == "B" else f"{amount:.1f} {unit}"


def when(value: datetime | None) -> str:
    """Return a time in UTC to the minute: `2026-11-21 07:00`."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"


def version(value: int | None) -> str:
    """Return a version's name: `v3`; nothing for None and 0."""
    return f"v{value}" if value else ""


def notice_text(notice: str | None, *, withdrawn: bool) -> str:
    """Return what became of a version: `deprecated: labels were shifted`; nothing without a notice."""
    return f"{'withdrawn' if withdrawn else 'deprecated'}: {notice}" if notice else ""


def shown_reference(reference: str, table_version: int) -> str:
    """Return a reference with what it resolved to: `photos@v2 (#5)`."""
    at = f"#{table_version}"
    return reference if reference.endswith(at) else f"{reference} ({at})"


def words(value: Iterable[str] | None) -> str:
    """Return a list with commas."""
    return ", ".join(value or ())


def text(value: Any) -> str:
    """Return anything as text; nothing for None."""
    return "" if value is None else str(value)


def tally(counts: Mapping[str, int]) -> str:
    """Return counts by name: `empty_file 2, image_corrupt 1`."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def rejected(count: int, by_code: Mapping[str, int]) -> str:
    """Return how many items were rejected and why; nothing for none."""
    return f"{count:,} ({tally(by_code)})" if count else ""


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return `1 row`, `12,345 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    key: str
    """Which value of the row."""
    title: str = ""
    """Empty: the key."""
    shown: Callable[[Any], str] = text
    right: bool = False
    """Whether it is aligned to the right."""


def counted(key: str, title: str = "") -> Column:
    """Return a column of counts."""
    return Column(key, title, number, right=True)


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    typer.echo(dumps(value, indent=2))


def print_json_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows of data as a JSON list, one row a line, as they come."""
    lines = (dumps(jsonable_row(row)) for row in rows)
    first = next(lines, None)
    if first is None:
        typer.echo("[]")
        return
    typer.echo(f"[\n{first}", nl=False)
    while block := list(islice(lines, 1_000)):
        typer.echo("".join(f",\n{line}" for line in block), nl=False)
    typer.echo("\n]")


def print_rows(call: Call, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, empty: str) -> None:
    """Print a list of things.

    Args:
        rows: Their JSON form.
        columns: What of it the table shows; those without any value are left out.
        empty: Said on stderr when there is none.
    """
    if call.json:
        print_json(rows)
    elif rows:
        used = [c for c in columns if any(c.shown(row.get(c.key)) for row in rows)]
        table = [[column.shown(row.get(column.key)) for column in used] for row in rows]
        draw([c.title or c.key for c in used], table, right=[c.right for c in used])
    else:
        note(empty)


def print_record(call: Call, record: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Print one thing: its JSON form, or labelled lines; lines without a value are left out."""
    if call.json:
        print_json(record)
        return
    shown = [(label, said) for label, said in lines if said]
    width = max((len(label) for label, _ in shown), default=0)
    for label, said in shown:
        typer.echo(f"{label.ljust(width)}  {said}")


def note(message: str) -> None:
    """Say something on stderr."""
    typer.echo(message, err=True)


def ask_first(call: Call, record: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Print what a destructive command would do, instead of doing it."""
    print_record(call, {"dry_run": True, **record}, lines)
    note("Nothing was changed. Run again with --yes.")
