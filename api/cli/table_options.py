"""The options that say how tabular files are to be read, for `ingest` and `schema check`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.ingest.tabular import TableOptions
from lakehouse.errors import InvalidInputError

Delimiter = Annotated[str | None, typer.Option(help="CSV: one character; else comma, or tab for .tsv.")]
Encoding = Annotated[str | None, typer.Option(help="CSV: such as latin-1; else UTF-8.")]
Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="CSV: whether the first row names the columns.")
]
NullTokens = Annotated[
    list[str] | None,
    typer.Option("--null", metavar="TOKEN", help="CSV: text that means null; may be given again."),
]
Types = Annotated[
    list[str] | None, typer.Option("--type", metavar="COL=TYPE", help="Tables: not inferred; may be given again.")
]
Decimal = Annotated[str, typer.Option(help="CSV: the decimal mark.")]


def table_options(
    delimiter: str | None,
    encoding: str | None,
    header: bool | None,
    null: list[str] | None,
    types: list[str] | None,
    decimal: str,
) -> TableOptions | None:
    """Return the options of tabular sources; None when none was given, so that other sources don't refuse them.

    Raises:
        InvalidInputError: a type that is not COLUMN=TYPE; as `TableOptions` (option-invalid).
    """
    options = TableOptions(
        delimiter="\t" if delimiter == "\\t" else delimiter,
        encoding=encoding,
        header=header,
        null_tokens=tuple(null) if null else ("",),
        types=_types(types or []),
        decimal=decimal,
    )
    return None if options == TableOptions() else options


def _types(given: list[str]) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in given]
    bad = next((name for name, equals, kind in pairs if not (name and equals and kind)), None)
    if bad is not None:
        raise InvalidInputError("option-invalid", f"--type {bad!r} is not COLUMN=TYPE, such as price=decimal(10,2).")
    return {name: kind for name, _, kind in pairs}
