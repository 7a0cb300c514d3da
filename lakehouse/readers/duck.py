"""DuckDB as all readers use it: fresh connections, and names, values and types in its dialect."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pyarrow as pa

from lakehouse.errors import FormatError, InvalidInputError, StorageError, translated

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_GONE = re.compile(r"(?:No files found.* pattern|FileNotFoundError:) *(?P<path>.*)")
_open: WeakSet[DuckDBPyConnection] = WeakSet()
_streams: WeakSet[pa.RecordBatchReader] = WeakSet()


def _disown() -> None:
    # Destroying a connection or its open stream waits for threads, which a forked child does not have: it would hang
    # or crash. So in the child what the parent had open is kept for ever, also when the interpreter ends.
    for inherited in (*_open, *_streams):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
    _open.clear()
    _streams.clear()


os.register_at_fork(after_in_child=_disown)


@atexit.register
def _close_all() -> None:
    # A connection that holds Python objects and is alive at exit makes DuckDB's binding complain on stderr.
    for con in list(_open):
        con.close()


def connect() -> DuckDBPyConnection:
    """Return a fresh in-memory DuckDB connection: times are UTC, nothing is ever downloaded.

    A fresh database per reader is what makes reading safe after a fork, and keeps readers from seeing each other.
    """
    import duckdb

    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": str(Path(tempfile.gettempdir()) / f"lakehouse-{os.getpid()}"),
        }
    )
    _open.add(con)
    # DuckDB takes `python -c`, worker processes too, for a person at a prompt, and would print bars of progress.
    # In a notebook without ipywidgets it has none, and refuses to be told so.
    con.execute("set TimeZone = 'UTC'")
    if con.execute("select current_setting('enable_progress_bar')").fetchall() == [(True,)]:
        con.execute("set enable_progress_bar = false")
    return con


def stream(selected: DuckDBPyRelation, batch_rows: int) -> pa.RecordBatchReader:
    """Return a relation's rows as a stream that survives a fork, in the sense that a child never tears it down."""
    reader = selected.to_arrow_reader(batch_rows)
    _streams.add(reader)
    return reader


def close(con: DuckDBPyConnection) -> None:
    """Close a connection, unless it is the parent's of a forked process."""
    if con in _open:
        _open.discard(con)
        con.close()


def identifier(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def string(text: str) -> str:
    """Return a text as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def literal(value: Any) -> str:
    """Return a Python value as a SQL literal.

    Raises:
        InvalidInputError: a value that no column of a dataset can equal (value-unsupported).
    """
    match value:
        case None:
            return "null"
        case bool() | int() | Decimal():
            return str(value)
        case float():
            return f"{string(repr(value))}::DOUBLE"
        case str():
            return string(value)
        case bytes():
            return f"from_hex({string(value.hex())})"
        case datetime():
            kind = "TIMESTAMP" if value.tzinfo is None else "TIMESTAMP WITH TIME ZONE"
            return f"{string(value.isoformat(sep=' '))}::{kind}"
        case date():
            return f"{string(value.isoformat())}::DATE"
    raise InvalidInputError(
        "value-unsupported",
        f"Values of type {type(value).__name__} can't be looked up. Give a text, number, time or bytes.",
    )


_TYPES: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}


def sql_type(kind: pa.DataType) -> str:
    """Return the DuckDB type of a Delta column's Arrow type.

    Raises:
        FormatError: a type that Delta has not (type-unsupported).
    """
    if kind in _TYPES:
        return _TYPES[kind]
    if pa.types.is_decimal128(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{identifier(f.name)} {sql_type(f.type)}' for f in kind)})"
    raise FormatError("type-unsupported", f"Columns of type {kind} can't be read here: Delta has no such type.")


def check_condition(con: DuckDBPyConnection, where: str) -> None:
    """Refuse text that is not one expression over columns, so that `where ({text})` means just that condition.

    Raises:
        InvalidInputError: it does not parse, is more or less than one expression, has a name, a placeholder or a
            subquery (predicate-invalid).
    """
    (text,) = con.execute("select json_serialize_sql(?::VARCHAR)", [f"select {where}\n"]).fetchall()[0]
    parsed = json.loads(text)
    if parsed["error"]:
        raise predicate_error(where, parsed["error_message"])
    nodes = [statement["node"] for statement in parsed["statements"]]
    expressions = nodes[0].pop("select_list", [])
    if nodes != [_nothing_selected(con)] or len(expressions) != 1 or expressions[0]["alias"]:
        raise predicate_error(where, "it is not one expression")
    tree = json.dumps(expressions)
    # A quote within a string is escaped in JSON, so these are found in the syntax tree only.
    if '"class": "SUBQUERY"' in tree or '"class": "PARAMETER"' in tree:
        raise predicate_error(where, "subqueries and placeholders are not allowed here")


def _nothing_selected(con: DuckDBPyConnection) -> Any:
    """Return the syntax tree of a query that has a select list and nothing else, without that list."""
    (text,) = con.execute("select json_serialize_sql('select true')").fetchall()[0]
    node = json.loads(text)["statements"][0]["node"]
    del node["select_list"]
    return node


def predicate_error(where: str, message: str) -> InvalidInputError:
    """Return the error for a condition that can't be used, in DuckDB's words; the condition may hold row values."""
    said = re.sub(r"^\w+ Error: ", "", message.split("\n\nLINE")[0]).rstrip(".")
    return InvalidInputError("predicate-invalid", f"The condition can't be used: {said}.", condition_length=len(where))


@contextmanager
def judging(where: str | None) -> Iterator[None]:
    """Turn what DuckDB says about a condition, when it binds or evaluates it, into our error.

    Raises:
        InvalidInputError: the condition can't be bound or its values not converted (predicate-invalid).
    """
    import duckdb

    try:
        yield
    except (duckdb.Error, OSError) as error:  # a stream of Arrow batches reports DuckDB's errors as OSError
        said = str(error)
        mistake = said.startswith(("Parser Error", "Binder Error", "Catalog Error", "Conversion Error"))
        if where is None or not mistake or "Error while reading file" in said:
            raise
        raise predicate_error(where, said) from error


@contextmanager
def reading(reference: str) -> Iterator[None]:
    """Turn what DuckDB and the store say while a state's files are read into our errors.

    Raises:
        StorageError: a data file is gone (data-missing), or can't be read (storage-failed, ...).
    """
    import duckdb

    with translated(f"reading {reference}", reference=reference):
        try:
            yield
        except duckdb.Error as error:
            said = told(error)
            if gone := _GONE.search(said):
                where = "" if gone["path"] in ("", "None") else f": {gone['path']}"
                message = f"A data file of {reference} is gone{where}. Was it vacuumed?"
                raise StorageError("data-missing", message, reference=reference) from error
            raise OSError(said) from error  # `translated` knows what the words of a store mean


def told(error: Exception) -> str:
    """Return in one line what DuckDB says; of an error in a file system written in Python, that error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
