"""Names of column types as text, both ways: Arrow's own names, and those that people know from SQL.

`int64`, `decimal128(10, 2)`, `timestamp[us, tz=UTC]`, `list<string>`, `struct<x: double, y: double not null>`,
`map<string, int64>`. The names of struct fields that hold more than letters, digits and `_` stand in double quotes.
"""

from __future__ import annotations

import json
import re

import pyarrow as pa

from lakehouse.errors import InvalidInputError, suggest

_TIMESTAMP = pa.timestamp("us")
_TIMESTAMP_UTC = pa.timestamp("us", "UTC")
_NAMES: dict[str, pa.DataType] = {
    **dict.fromkeys(("tinyint", "int8"), pa.int8()),
    **dict.fromkeys(("smallint", "int16"), pa.int16()),
    **dict.fromkeys(("int", "integer", "int32"), pa.int32()),
    **dict.fromkeys(("bigint", "int64", "long"), pa.int64()),
    **dict.fromkeys(("float", "real", "float32"), pa.float32()),
    **dict.fromkeys(("double", "double precision", "float64"), pa.float64()),
    **dict.fromkeys(("boolean", "bool"), pa.bool_()),
    **dict.fromkeys(("date", "date32", "date32[day]"), pa.date32()),
    **dict.fromkeys(("timestamp", "datetime", "timestamp_ntz", "timestamp[us]"), _TIMESTAMP),
    **dict.fromkeys(("timestamptz", "timestamp with time zone", "timestamp[us, tz=utc]"), _TIMESTAMP_UTC),
    "timestamp[us, utc]": _TIMESTAMP_UTC,
    **dict.fromkeys(("string", "text", "utf8", "varchar", "char", "nvarchar"), pa.string()),
    **dict.fromkeys(("binary", "bytes", "blob"), pa.binary()),
}
_SIZED = re.compile(r"(decimal|numeric|decimal128|varchar|nvarchar|char)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_NESTED = re.compile(r"\s*(list|struct|map)\s*<(.*)>\s*", re.DOTALL | re.IGNORECASE)
_FIELD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\w+)\s*:(.*)', re.DOTALL)
_NOT_NULL = re.compile(r"(.*\S)\s+not\s+null\s*", re.DOTALL | re.IGNORECASE)
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[<>()\[\],]|[^"<>()\[\],]+', re.DOTALL)


def type_text(kind: pa.DataType) -> str:
    """Return the name of a plain type, which `type_named` reads back as the same type."""
    t = pa.types
    if t.is_list(kind):
        return f"list<{_inner(kind.value_field)}>"
    if t.is_map(kind):
        return f"map<{type_text(kind.key_type)}, {_inner(kind.item_field)}>"
    if t.is_struct(kind):
        return f"struct<{', '.join(f'{_quoted(f.name)}: {_inner(f)}' for f in kind)}>"
    return str(kind)


def _inner(field: pa.Field) -> str:
    return type_text(field.type) + ("" if field.nullable else " not null")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"\w+", name) else json.dumps(name, ensure_ascii=False)


def type_named(name: str, column: str) -> pa.DataType:
    """Return the Arrow type of an Arrow or SQL type name: `bigint`, `decimal(10,2)`, `list<string>`, ...

    The length of `varchar(n)` is not enforced; `integer` has 32 bits, as in SQL.

    Args:
        column: Named in errors.
    Raises:
        InvalidInputError: the name is not known (type-unknown).
    """
    if nested := _NESTED.fullmatch(name):
        return _nested(nested[1].lower(), split_names(nested[2]), name, column)
    folded = " ".join(name.lower().split())
    if sized := _SIZED.fullmatch(folded):
        kind, size, scale = sized[1], int(sized[2]), int(sized[3] or 0)
        if "char" in kind:
            return pa.string()
        if 1 <= size <= 38 and scale <= size:
            return pa.decimal128(size, scale)
    if folded not in _NAMES:
        raise _unknown(name, column)
    return _NAMES[folded]


def _nested(kind: str, parts: list[str], name: str, column: str) -> pa.DataType:
    if kind == "struct":
        fields = [_FIELD.fullmatch(part) for part in parts]
        if all(fields):
            return pa.struct([_field(_unquoted(f[1]), f[2], column) for f in fields if f is not None])
    elif kind == "list" and len(parts) == 1:
        named = _FIELD.fullmatch(parts[0])  # Arrow writes `list<element: int64>`
        return pa.list_(_field("element", named[2] if named else parts[0], column))
    elif kind == "map" and len(parts) == 2:
        return pa.map_(type_named(parts[0], column), _field("value", parts[1], column))
    raise _unknown(name, column)


def _field(name: str, text: str, column: str) -> pa.Field:
    required = _NOT_NULL.fullmatch(text)
    return pa.field(name, type_named((required[1] if required else text).strip(), column), nullable=not required)


def _unquoted(name: str) -> str:
    return str(json.loads(name)) if name.startswith('"') else name


def split_names(text: str) -> list[str]:
    """Return the parts of `a, b` between commas that stand in no bracket and no quotes."""
    parts, depth = [""], 0
    for piece in _PART.findall(text):
        depth += (piece in ("<", "(", "[")) - (piece in (">", ")", "]"))
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _unknown(name: str, column: str) -> InvalidInputError:
    return InvalidInputError(
        "type-unknown",
        f"Column {column!r} is declared as {name!r}, which is no type name.{suggest(name, set(_NAMES))} "
        f"Known are: {', '.join(sorted(_NAMES))}, decimal(p,s) with p up to 38, list<T>, struct<name: T, ...>, map<K, V>.",
        column=column,
        type=name,
    )
