"""Arrow schemas: what our tables may hold, and how incoming data is fitted to a table.

Own tables hold plain types only (`string`, lists named `element`, signed integers, microsecond timestamps), because
views, dictionaries and unsigned types break other readers of the same files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import InvalidInputError, suggest

_WIDENED_UNSIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}


def plain_type(kind: pa.DataType, where: str = "") -> pa.DataType:
    """Return the plain type that stores every value of `kind`.

    Args:
        kind: Any Arrow type.
        where: The column's name, for the message.
    Raises:
        InvalidInputError: Delta has no such type (unsupported-type).
    """
    t = pa.types
    if kind in _WIDENED_UNSIGNED:
        return _WIDENED_UNSIGNED[kind]
    if t.is_dictionary(kind):
        return plain_type(kind.value_type, where)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type, where)
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind) or t.is_null(kind):
        return pa.string()
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind):
        return pa.binary()
    if t.is_float16(kind):
        return pa.float32()
    if t.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if t.is_date(kind):
        return pa.date32()
    if t.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if t.is_map(kind):
        return pa.map_(plain_type(kind.key_type, where), plain_type(kind.item_type, where))
    if t.is_struct(kind):
        return pa.struct([pa.field(f.name, plain_type(f.type, f"{where}.{f.name}"), f.nullable) for f in kind])
    if (
        t.is_list(kind)
        or t.is_large_list(kind)
        or t.is_list_view(kind)
        or t.is_large_list_view(kind)
        or t.is_fixed_size_list(kind)
    ):
        return pa.list_(pa.field("element", plain_type(kind.value_type, where)))
    if t.is_signed_integer(kind) or t.is_floating(kind) or t.is_boolean(kind):
        return kind
    raise InvalidInputError(
        "unsupported-type",
        f"Column {where!r} has the type {kind}, which Delta tables can't hold. Convert it first, for example to an integer or text.",
        column=where,
    )


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that an own table has for such data.

    Raises:
        InvalidInputError: two columns of one name (duplicate-column), names that differ only in case
            (schema-case-conflict), or a type that Delta has not (unsupported-type).
    """
    seen: dict[str, str] = {}
    for name in schema.names:
        other = seen.setdefault(name.casefold(), name)
        if schema.names.count(name) > 1:
            raise InvalidInputError("duplicate-column", f"The column {name!r} occurs twice. Rename one.", column=name)
        if other != name:
            raise InvalidInputError(
                "schema-case-conflict",
                f"The columns {other!r} and {name!r} differ only in case; Delta can't tell them apart.",
                column=name,
            )
    return pa.schema([pa.field(f.name, plain_type(f.type, f.name), f.nullable) for f in schema])


def to_reader(data: Any) -> pa.RecordBatchReader:
    """Return tabular data as a stream of record batches.

    Args:
        data: An Arrow table, record batch, reader or an iterable of batches; a Polars DataFrame or LazyFrame;
            a pandas DataFrame; a DuckDB relation; anything with `__arrow_c_stream__`.
    Raises:
        InvalidInputError: something else (data-unknown).
    """
    if isinstance(data, pa.RecordBatchReader):
        return data  # not through the C interface, which would turn the errors of its source into text
    if isinstance(data, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(data.schema, [data])
    if hasattr(data, "collect_batches"):  # a Polars LazyFrame, streamed
        frames = data.collect_batches()
        return pa.RecordBatchReader.from_batches(
            data.clear().collect().to_arrow().schema, (b for frame in frames for b in frame.to_arrow().to_batches())
        )
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, dict)):
        batches = iter(data)
        first = next(batches, None)
        if isinstance(first, pa.RecordBatch):
            return pa.RecordBatchReader.from_batches(first.schema, _chain(first, batches))
    raise InvalidInputError(
        "data-unknown",
        f"Data of type {type(data).__name__} can't be written. Give an Arrow table or batches, a Polars or pandas DataFrame.",
    )


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def added_fields(found: pa.Schema, target: pa.Schema) -> list[pa.Field]:
    """Return the columns of `found` that `target` lacks, as plain nullable fields.

    Raises:
        InvalidInputError: names that differ only in case, a duplicate, or a type that Delta has not, as `plain_schema`.
    """
    known = {name.casefold(): name for name in target.names}
    new = []
    for field in plain_schema(found):
        other = known.get(field.name.casefold())
        if other is None:
            new.append(field.with_nullable(True))
        elif other != field.name:
            raise InvalidInputError(
                "schema-case-conflict",
                f"The data has a column {field.name!r}, the table {other!r}: they differ only in case. Rename the data's column.",
                column=field.name,
            )
    return new


def refuse_missing(found: pa.Schema, target: pa.Schema) -> None:
    """Refuse data that lacks a required column.

    Raises:
        InvalidInputError: it does (column-missing).
    """
    for field in target:
        if not field.nullable and field.name not in found.names:
            raise InvalidInputError(
                "column-missing", f"The data lacks the required column {field.name!r}.", column=field.name
            )


def fit(reader: pa.RecordBatchReader, target: pa.Schema, *, partial: bool = False) -> pa.RecordBatchReader:
    """Fit a stream to a table's schema: columns by name in the table's order, safe casts only, missing ones null.

    Args:
        reader: The incoming batches.
        target: The table's schema.
        partial: Leave missing columns out instead of filling them with null (a merge of some columns).
    Returns:
        Batches of exactly `target`, or with `partial` of the columns that both have.
    Raises:
        InvalidInputError: on the call: unknown column (schema-added-column), a type of another kind
            (schema-type-change), a required column missing (column-missing), as `plain_schema`; while reading:
            a value that the type can't hold (value-invalid) or null in a required column (null-in-required).
    """
    extra = added_fields(reader.schema, target)
    if extra:
        raise InvalidInputError(
            "schema-added-column",
            f"The data has a column {extra[0].name!r} that the table lacks.{suggest(extra[0].name, target.names)} "
            f"Allow it with evolve=True (--evolve), or leave it out.",
            column=extra[0].name,
        )
    found = set(reader.schema.names)
    if not partial:
        refuse_missing(reader.schema, target)
    fields = [f for f in target if f.name in found] if partial else list(target)
    for field in fields:
        if field.name not in found:
            continue
        incoming = reader.schema.field(field.name).type
        if not _same_kind(incoming, field.type):
            raise InvalidInputError(
                "schema-type-change",
                f"Column {field.name!r} is {field.type} in the table, {incoming} in the data. Convert the data, or make a new dataset.",
                column=field.name,
            )
    schema = pa.schema(fields)
    return pa.RecordBatchReader.from_batches(schema, (_fit_batch(batch, schema) for batch in reader))


def _fit_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        if field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(field.name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        try:
            column = counted_exactly(column, field.type).cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise InvalidInputError(
                "value-invalid",
                f"Column {field.name!r} has values that {field.type} can't hold, such as too large ones or fractions.",
                column=field.name,
            ) from error
        if _rounded(batch.column(field.name), column):
            raise InvalidInputError(
                "value-invalid",
                f"Column {field.name!r} has values that lose digits as {field.type}. Round them first, for example with "
                f"a cast to {field.type}.",
                column=field.name,
            )
        if not field.nullable and column.null_count:
            raise InvalidInputError(
                "null-in-required",
                f"Column {field.name!r} is required, {column.null_count} values are null.",
                column=field.name,
            )
        columns.append(column)
    return pa.record_batch(columns, schema=schema)


def counted_exactly(column: pa.Array, target: pa.DataType) -> pa.Array:
    """Return integers that are to become decimals as decimals of their own.

    Arrow casts integers only to decimals with room for every value of their type; decimals with room for those there are.
    """
    if pa.types.is_integer(column.type) and pa.types.is_decimal(target):
        return column.cast(pa.decimal128(20, 0))
    return column


def _rounded(given: pa.Array, stored: pa.Array) -> bool:
    """Whether a cast to narrower floats changed a value, also inside lists and structs."""
    t = pa.types
    if given.type == stored.type:
        return False
    if t.is_dictionary(given.type):
        given = given.dictionary_decode()
    if isinstance(given.type, pa.BaseExtensionType):
        given = given.storage
    if t.is_list(stored.type) and not t.is_null(given.type):
        return _rounded(given.flatten(), stored.flatten())
    if t.is_struct(stored.type) and t.is_struct(given.type):
        return any(_rounded(pc.struct_field(given, f.name), pc.struct_field(stored, f.name)) for f in given.type)
    if not t.is_floating(given.type) or not t.is_floating(stored.type):
        return False
    if stored.type.bit_width >= given.type.bit_width:
        return False
    same = pc.or_(pc.equal(stored.cast(given.type), given), pc.is_nan(given))
    return pc.all(same).as_py() is False


def _same_kind(incoming: pa.DataType, stored: pa.DataType) -> bool:
    """Whether a cast between the types keeps the meaning: numbers to numbers, text to text, zone to zone."""
    t = pa.types
    if t.is_null(incoming):
        return True
    incoming = plain_type(incoming)
    if incoming == stored:
        return True
    if _is_number(incoming) and _is_number(stored):
        return True
    if t.is_date(incoming) and t.is_timestamp(stored):
        return stored.tz is None
    if t.is_timestamp(incoming) and t.is_timestamp(stored):
        return (incoming.tz is None) == (stored.tz is None)
    if t.is_list(incoming) and t.is_list(stored):
        return _same_kind(incoming.value_type, stored.value_type)
    if t.is_struct(incoming) and t.is_struct(stored):
        have = {f.name: f.type for f in stored}
        return all(f.name in have and _same_kind(f.type, have[f.name]) for f in incoming)
    if t.is_map(incoming) and t.is_map(stored):
        return _same_kind(incoming.key_type, stored.key_type) and _same_kind(incoming.item_type, stored.item_type)
    return False


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
