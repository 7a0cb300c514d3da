"""JSON Schema (draft 2020-12) of a dataset's rows, and columns from a JSON Schema, also from one that Pydantic made.

What JSON Schema has no word for stands under `x-type` (name of the column's exact type), `x-unit`, `x-semantic`, and
`x-key` for the key columns, so that an export reads back as the same schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lakehouse.decisions import Column
from lakehouse.errors import InvalidInputError
from lakehouse.registry import arrow_schema
from lakehouse.type_names import type_named, type_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]
_FORMATS: dict[str, tuple[pa.DataType, Json]] = {
    "date": (pa.date32(), {"type": "string", "format": "date"}),
    "date-time": (pa.timestamp("us", "UTC"), {"type": "string", "format": "date-time"}),
    "binary": (pa.binary(), {"type": "string", "format": "binary", "contentEncoding": "base64"}),
}
_SIMPLE = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "string": pa.string()}


def to_json_schema(columns: tuple[Column, ...], key: tuple[str, ...] = (), title: str = "") -> Json:
    """Return the JSON Schema of one row as an object."""
    properties = {}
    for column, field in zip(columns, arrow_schema(columns), strict=True):
        said = {"description": column.description, "x-unit": column.unit, "x-semantic": column.semantic}
        shape = _nullable(_shape(field.type)) if column.nullable else _shape(field.type)
        properties[column.name] = shape | {"x-type": column.type} | {k: v for k, v in said.items() if v}
    return {
        "$schema": DIALECT,
        **({"title": title} if title else {}),
        "type": "object",
        "properties": properties,
        "required": [c.name for c in columns if not c.nullable],
        "additionalProperties": False,
        **({"x-key": list(key)} if key else {}),
    }


def _shape(kind: pa.DataType) -> Json:
    t = pa.types
    for format_type, shape in _FORMATS.values():
        if kind == format_type:
            return dict(shape)
    if t.is_integer(kind):
        limit = 1 << (kind.bit_width - 1)
        return {"type": "integer", "minimum": -limit, "maximum": limit - 1}
    if t.is_floating(kind):
        return {"type": "number"}
    if t.is_boolean(kind):
        return {"type": "boolean"}
    if t.is_list(kind):
        return {"type": "array", "items": _field_shape(kind.value_field)}
    if t.is_struct(kind):
        inner = {f.name: _field_shape(f) for f in kind}
        required = [f.name for f in kind if not f.nullable]
        return {"type": "object", "properties": inner, "required": required, "additionalProperties": False}
    if t.is_map(kind):
        return {"type": "object", "additionalProperties": _field_shape(kind.item_field)}
    return {"type": "string"}  # text, decimals, times without a zone: as `lakehouse ... --output json` writes them


def _field_shape(field: pa.Field) -> Json:
    return _nullable(_shape(field.type)) if field.nullable else _shape(field.type)


def _nullable(shape: Json) -> Json:
    return shape | {"type": [shape["type"], "null"]}


def from_json_schema(given: Mapping[str, Any]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return the columns and the key of a JSON Schema of objects.

    A property that may be absent or null is a nullable column; `default`, `pattern`, `enum` and limits are not columns'
    business and are left to checks.

    Raises:
        InvalidInputError: it describes no object, or a property that no column can hold (schema-invalid); a type name
            under `x-type` that is none (type-unknown).
    """
    reader = _Reader(given)
    properties, required = given.get("properties"), given.get("required", ())
    if not isinstance(properties, Mapping) or not properties:
        raise _invalid("it describes no object with properties")
    return tuple(reader.column(name, part, name in required) for name, part in properties.items()), tuple(
        given.get("x-key", ())
    )


class _Reader:
    """Reads the parts of one JSON Schema, following its references."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def column(self, name: str, part: Any, required: bool) -> Column:
        kind, null, said = self._read(part, name, 0)
        words = {k: str(said.get(f"x-{k}", said.get(k, ""))) for k in ("unit", "semantic")}
        return Column(
            name=name,
            type=type_text(kind),
            nullable=null or not required,
            description=str(said.get("description", "")),
            **words,
        )

    def _read(self, part: Any, where: str, depth: int) -> tuple[pa.DataType, bool, Json]:
        """Return the type of a part, whether it may be null, and the part without references and null."""
        said, null = self._plain(part, where, depth)
        if "x-type" in said:
            return type_named(str(said["x-type"]), where), null, said
        kinds = said.get("type")
        if isinstance(kinds, list):
            null = null or "null" in kinds
            kinds = [k for k in kinds if k != "null"]
            kinds = kinds[0] if len(kinds) == 1 else kinds
        if kinds is None:
            values = [v for v in said.get("enum", [said["const"]] if "const" in said else []) if v is not None]
            kinds = "string" if values and all(isinstance(v, str) for v in values) else None
        return self._type(said, kinds, where, depth), null, said

    def _plain(self, part: Any, where: str, depth: int) -> tuple[Json, bool]:
        if not isinstance(part, Mapping) or depth > 32:
            raise _invalid(f"property {where!r} is no schema, or nests too deep")
        said, null = dict(part), False
        if "$ref" in said:
            said = {**self._referred(str(said.pop("$ref")), where), **said}
            return self._plain(said, where, depth + 1)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in said and "x-type" not in said:
                choices = said.pop(word)
                rest = [c for c in choices if c != {"type": "null"}]
                null = null or len(rest) < len(choices)
                if len(rest) != 1:
                    raise _invalid(
                        f"property {where!r} may have several types; say which column type it gets under 'x-type'"
                    )
                inner, inner_null = self._plain(rest[0], where, depth + 1)
                said, null = {**inner, **said}, null or inner_null
        return said, null

    def _referred(self, path: str, where: str) -> Json:
        found: Any = self._root
        for word in path.removeprefix("#").strip("/").split("/"):
            found = found.get(word) if isinstance(found, Mapping) else None
        if not path.startswith("#/") or not isinstance(found, Mapping):
            raise _invalid(f"property {where!r} refers to {path!r}, which is not in the same document")
        return dict(found)

    def _type(self, said: Json, kind: Any, where: str, depth: int) -> pa.DataType:
        if kind == "string" and said.get("format") in _FORMATS:
            return _FORMATS[said["format"]][0]
        if kind == "string" and said.get("contentEncoding") == "base64":
            return pa.binary()
        if kind == "integer":
            for exact in (pa.int8(), pa.int16(), pa.int32()):
                limit = 1 << (exact.bit_width - 1)
                if (said.get("minimum"), said.get("maximum")) == (-limit, limit - 1):
                    return exact
        if isinstance(kind, str) and kind in _SIMPLE:
            return _SIMPLE[kind]
        if kind == "array" and "items" in said:
            return pa.list_(self._field("element", said["items"], where, True, depth))
        if kind == "object" and isinstance(said.get("properties"), Mapping):
            needed = said.get("required", ())
            parts = said["properties"].items()
            return pa.struct([self._field(n, p, f"{where}.{n}", n in needed, depth) for n, p in parts])
        if kind == "object" and isinstance(said.get("additionalProperties"), Mapping):
            return pa.map_(pa.string(), self._field("value", said["additionalProperties"], where, True, depth))
        raise _invalid(f"property {where!r} has no type that a column can have; name one under 'x-type'")

    def _field(self, name: str, part: Any, where: str, required: bool, depth: int) -> pa.Field:
        kind, null, _ = self._read(part, where, depth + 1)
        return pa.field(name, kind, nullable=null or not required)


def _invalid(what: str) -> InvalidInputError:
    return InvalidInputError("schema-invalid", f"The JSON Schema can't be a dataset's schema: {what}.")
