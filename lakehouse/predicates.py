"""Conditions for delta-rs: one SQL expression over a dataset's columns, in DuckDB's dialect, checked before it is used.

delta-rs evaluates deletes with another engine, whose identifiers mind case and whose `/` cuts integers. So the
condition is parsed by DuckDB and written anew, every column quoted in its exact case; and both engines must count
the same rows, or the condition is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.errors import InvalidInputError, translated
from lakehouse.readers.duck import check_condition, connect, identifier, predicate_error

# How DataFusion words that it can't parse, plan, convert or compute an expression.
_NOT_EVALUATED = re.compile(
    r"schema error|error during planning|parser error|type_coercion|not implemented|unable to convert expression"
    r"|evaluating filter predicate"
)


def to_delta_predicate(where: str, schema: pa.Schema) -> str:
    """Return the condition as delta-rs takes it.

    Raises:
        InvalidInputError: it does not parse, is more than one expression, has a subquery, or names an unknown
            column (predicate-invalid).
    """
    import duckdb

    con = connect()
    try:
        check_condition(con, where)
        con.register("t", schema.empty_table())
        try:
            con.execute(f"select 1 from t where ({where}\n)")
        except duckdb.Error as error:
            raise predicate_error(where, str(error)) from error
        [(text,)] = con.execute("select json_serialize_sql(?::VARCHAR)", [f"select ({where}\n)"]).fetchall()
        tree = json.loads(text)
        used: dict[str, str] = {}
        _rename_columns(tree, {name.casefold(): name for name in schema.names}, used)
        [(sql,)] = con.execute("select json_deserialize_sql(?::VARCHAR)", [json.dumps(tree)]).fetchall()
    finally:
        con.close()
    predicate = str(sql).removeprefix("SELECT ")
    for name, stand_in in used.items():
        predicate = predicate.replace(stand_in, identifier(name))
    return predicate


def _rename_columns(node: Any, columns: dict[str, str], used: dict[str, str]) -> None:
    """Put stand-ins that need no quoting in place of the columns of a syntax tree; `used` is {column: stand-in}."""
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            first = node["column_names"][0].casefold()
            if first in columns:
                node["column_names"][0] = used.setdefault(columns[first], f"c_{uuid4().hex}")
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _rename_columns(child, columns, used)


def check_agreement(table: DeltaTable, predicate: str, expected: int, what: str) -> None:
    """Refuse a condition that selects another number of rows in delta-rs' engine than it does where rows are read.

    Args:
        predicate: From `to_delta_predicate`.
        expected: Rows that the condition selects when the same table version is read.
        what: The dataset's name, for the message.
    Raises:
        InvalidInputError: another number, or delta-rs can't evaluate it (predicate-unsupported).
        StorageError, AccessDeniedError: the store failed or refused.
    """
    with translated(f"counting the rows of {what} to delete", dataset=what):
        try:
            rows = pa.RecordBatchReader.from_stream(table.scan([table.schema().fields[0].name], predicate))
            found = sum(batch.num_rows for batch in rows)
        except (DeltaError, pa.ArrowInvalid) as error:
            if not_evaluated(error):
                raise unsupported(what) from error
            raise
    if found != expected:
        raise InvalidInputError(
            "predicate-unsupported",
            f"The condition selects {expected} rows of {what} where it is read and {found} where it is deleted: the two "
            f"engines disagree, so nothing was deleted. Write it with plain comparisons, without divisions or NaN.",
            dataset=what,
        )


def not_evaluated(error: Exception) -> bool:
    """Whether delta-rs failed at the condition itself, not at the store or at a file."""
    return _NOT_EVALUATED.search(str(error).lower()) is not None


def unsupported(what: str) -> InvalidInputError:
    """Return the error for a condition that delta-rs can't evaluate."""
    return InvalidInputError(
        "predicate-unsupported",
        f"The condition can't be used to delete rows of {what}: it has a function or a type that deletes don't know. "
        f"Write it with plain comparisons.",
        dataset=what,
    )
