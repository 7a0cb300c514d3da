"""Column types of incoming tables: what Delta can hold, and the schema that a file will be read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from lakehouse.errors import InvalidInputError, suggest
from lakehouse.type_names import type_named

INCOMPATIBLE = ("schema-added-column", "schema-type-change", "schema-case-conflict", "schema-missing-column")
"""Kinds of the errors about a file that fits no row of a dataset: another schema would take it."""

_TIMESTAMP = pa.timestamp("us")
_TIMESTAMP_UTC = pa.timestamp("us", "UTC")


def storable(source: pa.DataType, column: str) -> pa.DataType:
    """Return the type in which a Delta table holds values of `source` (unsigned -> next wider signed, and so on).

    Raises:
        InvalidInputError: Delta has no such type: times, durations, intervals, decimals beyond 38 digits
            (unsupported-type).
    """
    t = pa.types
    simple: tuple[tuple[bool, pa.DataType], ...] = (
        (t.is_null(source) or t.is_string(source) or t.is_large_string(source), pa.string()),
        (str(source) == "string_view", pa.string()),
        (t.is_binary(source) or t.is_large_binary(source) or t.is_fixed_size_binary(source), pa.binary()),
        (str(source) == "binary_view", pa.binary()),
        (t.is_uint8(source), pa.int16()),
        (t.is_uint16(source), pa.int32()),
        (t.is_uint32(source) or t.is_uint64(source), pa.int64()),
        (t.is_float16(source), pa.float32()),
        (t.is_date(source), pa.date32()),
        (t.is_signed_integer(source) or t.is_floating(source) or t.is_boolean(source), source),
    )
    for matches, target in simple:
        if matches:
            return target
    if t.is_timestamp(source):
        return _TIMESTAMP_UTC if source.tz else _TIMESTAMP
    if t.is_decimal(source) and source.precision <= 38:
        return pa.decimal128(source.precision, source.scale)
    return _storable_nested(source, column)


def _storable_nested(source: pa.DataType, column: str) -> pa.DataType:
    t = pa.types
    if t.is_dictionary(source):
        return storable(source.value_type, column)
    if t.is_list(source) or t.is_large_list(source) or t.is_fixed_size_list(source):
        return pa.list_(pa.field("element", storable(source.value_type, column)))
    if t.is_struct(source) and source.num_fields:
        return pa.struct([pa.field(f.name, storable(f.type, f"{column}.{f.name}")) for f in source])
    if t.is_map(source):
        return pa.map_(storable(source.key_type, column), storable(source.item_type, column))
    raise InvalidInputError(
        "unsupported-type",
        f"Column {column!r} has the type {source}, which a Delta table can't hold. "
        "Convert it first, for example to a number or to text.",
        column=column,
        type=str(source),
    )


def choices(dataset: str, file: object) -> tuple[str, str]:
    """Return the commands that take a file that fits no row of a dataset: change that, or begin another."""
    return (
        f"lakehouse schema evolve {dataset} --schema {file}",
        f"lakehouse dataset fork {dataset} NEW --schema {file} --empty",
    )


def declared_types(types: Mapping[str, str], columns: Sequence[str], path: Path) -> dict[str, pa.DataType]:
    """Return the declared Arrow types by column.

    Raises:
        InvalidInputError: a declared column is not in the file (unknown-column), or type-unknown.
    """
    for name in types:
        require_column(name, columns, path)
    return {name: type_named(text, name) for name, text in types.items()}


def require_column(name: str, columns: Sequence[str], path: Path) -> None:
    """Refuse a column name that the file does not have.

    Raises:
        InvalidInputError: no such column (unknown-column).
    """
    if name not in columns:
        raise InvalidInputError(
            "unknown-column", f"{path} has no column {name!r}.{suggest(name, set(columns))}", column=name
        )


def target_schema(
    found: Mapping[str, pa.DataType], schema: pa.Schema | None, *, evolve: bool, path: Path, partial: bool = False
) -> pa.Schema:
    """Return the schema that the rows of a file will have.

    Args:
        found: Columns of the file in order, with the type to use where no schema rules.
        schema: The dataset's schema; None for a new dataset.
        evolve: Whether the file may add columns; they are nullable and come last.
        path: Named in errors.
        partial: Leave columns out that the file does not have, instead of filling them with null.
    Raises:
        InvalidInputError: schema-case-conflict, schema-added-column, schema-missing-column.
    """
    if schema is None:
        return pa.schema([pa.field(name, dtype) for name, dtype in found.items()])
    by_fold = {name.casefold(): name for name in schema.names}
    added = [name for name in found if name not in schema.names]
    for name in added:
        if name.casefold() in by_fold:
            raise InvalidInputError(
                "schema-case-conflict",
                f"{path} has a column {name!r} where the dataset has {by_fold[name.casefold()]!r}: column names "
                "that differ only in case are the same column in Delta. Rename the column in the file.",
                column=name,
                expected=by_fold[name.casefold()],
            )
    if added and not evolve:
        raise InvalidInputError(
            "schema-added-column",
            f"{path} has columns that the dataset does not have: {', '.join(map(repr, added))}."
            f"{suggest(added[0], set(schema.names) - set(found))} Remove them, or add them with --evolve (evolve=True).",
            columns=added,
        )
    kept = [column for column in schema if not partial or column.name in found]
    for column in kept:
        if column.name not in found and not column.nullable:
            raise InvalidInputError(
                "schema-missing-column",
                f"{path} has no column {column.name!r}, and the dataset does not allow null in it. Add the column.",
                column=column.name,
            )
    return pa.schema([*kept, *(pa.field(name, found[name]) for name in added)])
