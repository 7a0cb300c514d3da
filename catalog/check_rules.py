"""What each kind of check means: the rows of a state that fail it.

A rule gives what fails as batches of rows: rows of the state, or what was found instead of what was expected. What
can't be judged at all, as for a missing column, is an `UnfitError` with a text for people.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.check_rows import BATCH_ROWS, names, select, shown
from catalog.foreign_keys import key_mismatches, orphan_rows
from lakehouse.decisions import CheckDefinition, DatasetVersion
from lakehouse.errors import InvalidInputError
from lakehouse.readers.duck import identifier, literal, reading
from lakehouse.session import Session
from lakehouse.snapshots import Snapshot
from lakehouse.spans import parse_span
from lakehouse.type_names import type_named, type_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

PARENT = "parent"
"""What `Asked.others` calls the state that a foreign key points at."""
_COUNT, _SHARE = "count(*)", "share(*)"
"""What samples call what was counted; columns of users are hardly called so."""
_MISTAKE = re.compile(r"(Conversion|Invalid Input|Out of Range|Binder|Mismatch Type|Not implemented) Error")
"""How DuckDB begins to tell that a query and the rows do not fit; what follows quotes values."""
Rows = Iterator[pa.RecordBatch]


class UnfitError(Exception):
    """A state that can't be judged by a check; the text says why, without any row's value."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A check of one state, with what else it reads."""

    definition: CheckDefinition
    snapshot: Snapshot
    """The whole state; a rule may be asked for a part of its files."""
    others: Mapping[str, Snapshot]
    """Other states, by what the check calls them."""
    last: DatasetVersion | None = None
    """The version published before this state."""
    known: Snapshot | None = None
    """Of rows that are here too an expensive rule need not tell."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The definition's own."""
        return self.definition.parameters


def fields(asked: Asked) -> list[pa.Field]:
    """Return the columns that a check names.

    Raises:
        UnfitError: the state lacks one.
    """
    schema = asked.snapshot.schema
    missing = [name for name in asked.definition.columns if name not in schema.names]
    if missing:
        raise UnfitError(f"There is no column {', '.join(map(repr, missing))}.")
    return [schema.field(name) for name in asked.definition.columns]


# -- row by row: the result of a state follows from the rows that came and went -------------------------------------------


def by_condition(condition: Callable[[list[pa.Field], Mapping[str, Any]], str]) -> Callable[[Asked, Snapshot], Rows]:
    """Return the rule that fails the rows which satisfy a condition in SQL."""

    def rule(asked: Asked, part: Snapshot) -> Rows:
        where = condition(fields(asked), asked.parameters)
        wanted = shown(part, asked.definition.columns)
        return select(part, wanted, f"select {names(wanted)} from t where {where}")

    return rule


def is_null(columns: list[pa.Field], _: Mapping[str, Any]) -> str:
    """Any of the columns is null."""
    return " or ".join(f"{identifier(c.name)} is null" for c in columns)


def not_accepted(columns: list[pa.Field], parameters: Mapping[str, Any]) -> str:
    """The column is none of the values; null passes."""
    (column,) = columns
    return f"{identifier(column.name)} not in ({', '.join(constant(v, column) for v in parameters['values'])})"


def out_of_range(columns: list[pa.Field], parameters: Mapping[str, Any]) -> str:
    """The column is below `min` or above `max`, or NaN; null passes."""
    (column,) = columns
    own = identifier(column.name)
    terms = [
        f"{own} {sign} {constant(parameters[n], column)}" for n, sign in (("min", "<"), ("max", ">")) if n in parameters
    ]
    if pa.types.is_floating(column.type):
        terms.append(f"isnan({own})")
    return " or ".join(terms)


def no_match(columns: list[pa.Field], parameters: Mapping[str, Any]) -> str:
    """The pattern (RE2) does not match the whole text; null passes."""
    (column,) = columns
    if not pa.types.is_string(column.type):
        raise UnfitError(f"The column {column.name!r} is {column.type}, and a pattern needs string.")
    return f"not regexp_full_match({identifier(column.name)}, {literal(parameters['pattern'])})"


def constant(value: Any, column: pa.Field) -> str:
    """Return a configured value as a SQL literal that compares with a column without a cast of the column.

    Raises:
        UnfitError: values of the column's type can't equal it.
    """
    kind = column.type
    if pa.types.is_boolean(kind):
        fits = isinstance(value, bool)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif pa.types.is_string(kind):
        fits = isinstance(value, str)
    else:
        value = _time(value, kind)
        fits = value is not None
    if not fits:
        raise UnfitError(f"The column {column.name!r} is {kind}, which can't be compared with the check's values.")
    return literal(value)


def _time(value: Any, kind: pa.DataType) -> date | None:
    """Return an ISO text as the date or time that a column of this type can hold; None when it can't."""
    if not isinstance(value, str):
        return None
    try:
        if pa.types.is_date(kind):
            return date.fromisoformat(value)
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time if pa.types.is_timestamp(kind) and (time.tzinfo is None) == (kind.tz is None) else None


def without_parent(asked: Asked, part: Snapshot) -> Rows:
    """Rows whose key no row of the parent has."""
    parent = asked.others[PARENT]
    own, there = asked.definition.columns, parent_columns(asked)
    for mismatch in key_mismatches(asked.snapshot, own, parent, there):
        raise UnfitError(mismatch)
    return orphan_rows(part, own, parent, there)


def parent_columns(asked: Asked) -> Sequence[str]:
    """Return the parent's columns that a foreign key points at; its key, unless the check names others."""
    found: Sequence[str] = asked.parameters.get("to_columns", asked.others[PARENT].dataset.key_columns)
    return found


# -- over all rows ----------------------------------------------------------------------------------------------------


def repeated(asked: Asked, part: Snapshot) -> Rows:
    """Values that more than one row has; those with a null equal nothing."""
    own = names(f.name for f in fields(asked))
    filled = " and ".join(f"{identifier(c)} is not null" for c in asked.definition.columns)
    query = f"select {own}, count(*) as {identifier(_COUNT)} from t where {filled} group by all having count(*) > 1"
    return select(part, asked.definition.columns, query)


def out_of_balance(asked: Asked, part: Snapshot) -> Rows:
    """Classes whose share of the rows that have one is below `min_share` or above `max_share`."""
    ((column,), bounds) = (fields(asked), asked.parameters)
    own = identifier(column.name)
    signs = (("min_share", "<"), ("max_share", ">"))
    terms = " or ".join(
        f"{identifier(_SHARE)} {sign} {literal(float(bounds[name]))}" for name, sign in signs if name in bounds
    )
    query = (
        f"select * from (select {own}, count(*) as {identifier(_COUNT)}, count(*) / sum(count(*)) over () as {identifier(_SHARE)} "
        f"from t where {own} is not null group by {own}) where {terms} order by {identifier(_SHARE)}"
    )
    return select(part, [column.name], query)


def returned(asked: Asked, part: Snapshot) -> Rows:
    """The rows that a query of the owner's returns.

    Raises:
        InvalidInputError: a mistake in the SQL (sql-invalid), or one that only the rows show (check-sql-failed).
        StorageError: a data file is gone or can't be read, as `reading`.
    """
    import duckdb

    with reading(part.reference), bound(asked) as query:
        try:
            yield from query.to_arrow_reader(BATCH_ROWS)
        except (duckdb.Error, OSError) as error:
            mistake = _MISTAKE.match(str(error))
            if mistake is None:
                raise
            message = f"The SQL of the check {asked.definition.name!r} failed on {part.reference}: {mistake[0]}."
            raise InvalidInputError("check-sql-failed", message, check=asked.definition.name) from error


@contextmanager
def bound(asked: Asked) -> Iterator[DuckDBPyRelation]:
    """Bind the query of a check to the states that it reads; it runs when it is read.

    Raises:
        InvalidInputError: a mistake in the SQL (sql-invalid), or more than a query, or a view (sql-unsupported).
        NotFoundError: a table that is no dataset (dataset-not-found).
    """

    def system(name: str) -> pa.Table:
        # Views have no versions, so a result could not be kept for a state.
        raise InvalidInputError("sql-unsupported", "A check reads datasets, and not the views of the lakehouse.")

    known = [s.dataset.full_name for s in asked.others.values()]
    # Whoever runs it may open more than who wrote it, who sees what it finds.
    within = (asked.snapshot.storage, [s.dataset for s in asked.others.values()])
    session = Session(lambda text: asked.others.get(text.casefold()), system, lambda: known, within)
    try:
        # Within parentheses only a query can stand, and no statement that writes.
        query = asked.parameters["query"].rstrip("; \n")
        yield session.query(f"from ({query}\n)")
    finally:
        session.close()


# -- about the state as a whole ---------------------------------------------------------------------------------------


def miscounted(asked: Asked, part: Snapshot) -> Rows:
    """The number of rows is out of bounds, or its ratio to the last version's is; a first version has no ratio."""
    rows, bounds, found = part.num_rows, asked.parameters, []
    values: list[tuple[str, float]] = [("", rows)]
    if asked.last is not None and asked.last.rows:
        values.append(("_ratio", rows / asked.last.rows))
    for suffix, value in values:
        low, high = bounds.get(f"min{suffix}"), bounds.get(f"max{suffix}")
        if (low is not None and value < low) or (high is not None and value > high):
            last = asked.last.rows if asked.last and suffix else None
            found.append({"rows": rows, "last_rows": last, "min": low, "max": high})
    return _told(found)


def other_schema(asked: Asked, part: Snapshot) -> Rows:
    """Columns that are missing or have another type; with `exact` also those that were not expected."""
    expected: Mapping[str, str] = asked.parameters["types"]
    there = {f.name: type_text(f.type) for f in part.schema}
    wanted = {name: type_text(type_named(kind, name)) for name, kind in expected.items()}
    names_seen = [*expected, *(n for n in there if n not in expected)] if asked.parameters.get("exact") else expected
    return _told(
        [
            {"column": name, "expected": expected.get(name), "found": there.get(name)}
            for name in names_seen
            if wanted.get(name) != there.get(name)
        ]
    )


def fresh_until(asked: Asked) -> datetime:
    """Return the time at which a state becomes too old: of its newest value, or of its commit, and `max_age` later.

    Raises:
        UnfitError: the column is no time, or has no value.
    """
    age = parse_span(asked.parameters["max_age"], "max_age")
    if not asked.definition.columns:
        return asked.snapshot.created_at + age
    refuse_timeless(asked)
    (column,) = fields(asked)
    query = f"select max({identifier(column.name)}) as newest from t where isfinite({identifier(column.name)})"
    newest = next(select(asked.snapshot, [column.name], query)).column(0)[0].as_py()
    if newest is None:
        raise UnfitError(f"The column {column.name!r} has no value.")
    if not isinstance(newest, datetime):
        newest = datetime(newest.year, newest.month, newest.day, tzinfo=UTC)
    return (newest if newest.tzinfo else newest.replace(tzinfo=UTC)) + age


def refuse_timeless(asked: Asked) -> None:
    """Refuse a column that is no time.

    Raises:
        UnfitError: it is none.
    """
    for column in fields(asked):
        if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
            raise UnfitError(f"The column {column.name!r} is {column.type}, and freshness needs a date or a time.")


def too_old(until: datetime) -> Rows:
    """Return what is told of a state that is not fresh any more."""
    return _told([{"fresh_until": until}])


def _told(found: list[dict[str, Any]]) -> Rows:
    return iter([pa.RecordBatch.from_pylist(found)] if found else [])
