"""Strategies for plain types, columns and rows at the edges of what a type holds."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

FIELD_NAMES = st.sampled_from(["x", "y", "long_name", "a b", 'say "hi"', "ä:>,", "not null"])
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
SIMPLE = st.sampled_from(
    [
        *INTEGERS,
        pa.float32(),
        pa.float64(),
        pa.bool_(),
        pa.string(),
        pa.binary(),
        pa.date32(),
        pa.timestamp("us"),
        pa.timestamp("us", "UTC"),
        pa.decimal128(4, 2),
        pa.decimal128(10, 0),
        pa.decimal128(22, 3),
    ]
)


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    names = st.lists(FIELD_NAMES, min_size=1, max_size=3, unique=True)
    fields = names.flatmap(lambda ns: st.tuples(*(st.builds(pa.field, st.just(n), inner, st.booleans()) for n in ns)))
    return st.one_of(
        inner.map(lambda t: pa.list_(pa.field("element", t))),
        fields.map(lambda fs: pa.struct(list(fs))),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int64()]), inner),
    )


TYPES: st.SearchStrategy[pa.DataType] = st.recursive(SIMPLE, _nested, max_leaves=4)
"""Types that our tables hold."""


def edges(kind: pa.DataType) -> list[Any]:
    """Return values of a type that no smaller type holds."""
    t = pa.types
    if t.is_integer(kind):
        limit = 1 << (kind.bit_width - 1)
        return [-limit, limit - 1]
    if t.is_float32(kind):
        return [0.5, float(2**100)]
    if t.is_float64(kind):
        return [0.1, 1e300]
    if t.is_decimal(kind):
        digits = 10**kind.precision - 1
        return [Decimal(digits).scaleb(-kind.scale), -Decimal(digits).scaleb(-kind.scale)]
    if t.is_boolean(kind):
        return [True, False]
    if t.is_string(kind):
        return ["", "ä"]
    if t.is_binary(kind):
        return [b"", b"\xff"]
    if t.is_date(kind):
        return [date(1, 1, 1), date(9999, 12, 31)]
    if t.is_timestamp(kind):
        return [datetime(2024, 2, 29, 12, 30, 1, 7, tzinfo=UTC if kind.tz else None)]
    return _nested_edges(kind)


def _nested_edges(kind: pa.DataType) -> list[Any]:
    t = pa.types
    if t.is_list(kind):
        return [[], [None, *edges(kind.value_type)]]
    if t.is_map(kind):
        key = edges(kind.key_type)[0]
        return [[], *([(key, value)] for value in [*edges(kind.item_type), None])]
    most = max(len(edges(f.type)) for f in kind)
    return [{f.name: (edges(f.type) + edges(f.type)[-1:] * most)[n] for f in kind} for n in range(most)] + [
        {f.name: None if f.nullable else edges(f.type)[0] for f in kind}
    ]


def edge_rows(schema: pa.Schema) -> pa.Table:
    """Return rows that hold the edges of every column, and null wherever that is allowed."""
    columns = [edges(f.type) for f in schema]
    most = max((len(c) for c in columns), default=0)
    filled = [c + [None if f.nullable else c[-1]] * (most + 1 - len(c)) for c, f in zip(columns, schema, strict=True)]
    return pa.table([pa.array(c, f.type) for c, f in zip(filled, schema, strict=True)], schema=schema)
