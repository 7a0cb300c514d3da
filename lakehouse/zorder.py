"""Z-order: one value per row in which the bits of several columns are interleaved.

Rows that are close in all columns are close in this value, so that each file covers a small range of every column and
a condition on any of them skips most files. A column counts by its rank among a sample, in one of 255 buckets of about
equal numbers of rows; null has a bucket of its own, the lowest.
Source: G. M. Morton (1966), "A Computer Oriented Geodetic Data Base and a New Technique in File Sequencing"
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.errors import InvalidInputError
from lakehouse.readers.duck import connect, identifier, reading, sql_type, string
from lakehouse.readers.relation import source_sql

if TYPE_CHECKING:
    from lakehouse.snapshots import Snapshot

BITS = 8
"""Bits of each column."""
MOST = 63 // BITS
"""Columns whose bits fit in a BIGINT."""
_BOUNDS = (1 << BITS) - 2
_SAMPLE_ROWS = 100_000


def check_columns(schema: pa.Schema, columns: Sequence[str], what: str) -> None:
    """Refuse columns that rows can't be z-ordered by.

    Raises:
        InvalidInputError: too many columns or one named twice (zorder-invalid), an unknown one (column-not-found), or
            a list, struct or map (column-unordered).
    """
    if len(columns) > MOST or len(set(columns)) < len(columns):
        raise InvalidInputError(
            "zorder-invalid", f"A z-order takes 1 to {MOST} columns, each once; found {', '.join(columns)}."
        )
    for name in columns:
        check_column(schema, name, what)


def check_column(schema: pa.Schema, name: str, what: str) -> None:
    """Refuse a column that rows can't be ordered by.

    Raises:
        InvalidInputError: no such column (column-not-found), or a list, struct or map (column-unordered).
    """
    if name not in schema.names:
        raise InvalidInputError(
            "column-not-found", f"{what} has no column {name!r}. Columns: {', '.join(schema.names)}.", column=name
        )
    if pa.types.is_nested(schema.field(name).type):
        raise InvalidInputError(
            "column-unordered",
            f"Column {name!r} of {what} is {schema.field(name).type}: rows can't be ordered by it. Choose another one.",
            column=name,
        )


def z_value(snapshot: Snapshot, columns: Sequence[str]) -> str:
    """Return a SQL expression over the columns that gives a row's z-value, a BIGINT.

    Args:
        snapshot: Whose rows are ordered; their columns are read once, for a sample.
    Raises:
        StorageError: a data file is gone (data-missing), or the store failed.
    """
    names = ", ".join(f"{identifier(name)} as c{i}" for i, name in enumerate(columns))
    values = []
    with connect() as con, reading(snapshot.reference):
        source = source_sql(con, snapshot, columns)
        con.execute(f"create temp table sample as select {names} from ({source}) using sample {_SAMPLE_ROWS}")
        for i, name in enumerate(columns):
            found = con.execute(
                f"select distinct on (v) v::varchar from (select max(v) as v from (select c{i} as v, "
                f"ntile({_BOUNDS}) over (order by c{i}) as n from sample where c{i} is not null) group by n) order by v"
            ).fetchall()
            kind = sql_type(snapshot.schema.field(name).type)
            values.append(_value(identifier(name), [f"{string(b)}::{kind}" for (b,) in found], i, len(columns)))
    return " | ".join(values)


def _value(name: str, bounds: Sequence[str], place: int, width: int) -> str:
    """Return a SQL expression that gives the bucket of a column's value, with its bits at their places."""

    def spread(bucket: int) -> str:
        return str(sum((bucket >> bit & 1) << bit * width + width - 1 - place for bit in range(BITS)))

    return f"(case when {name} is null then 0 else {_search(name, bounds, 1, spread)} end)::bigint"


def _search(name: str, bounds: Sequence[str], first: int, spread: Callable[[int], str]) -> str:
    """Return a SQL expression that finds by bisection how many bounds lie below a value."""
    if not bounds:
        return spread(first)
    middle = len(bounds) // 2
    below = _search(name, bounds[:middle], first, spread)
    above = _search(name, bounds[middle + 1 :], first + middle + 1, spread)
    return f"case when {name} <= {bounds[middle]} then {below} else {above} end"
