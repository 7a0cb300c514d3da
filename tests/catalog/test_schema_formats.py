"""The forms in which a schema is given: each is read, and what is written is read back the same."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import catalog
from catalog.schema_formats import FORMATS, SchemaSpec, read_schema, write_schema
from lakehouse.decisions import Column, SchemaVersion
from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from lakehouse.type_names import type_text
from tests.support.schemas import TYPES

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
COLUMNS = st.lists(
    st.builds(
        Column,
        name=WORDS.filter(lambda w: w.strip()),
        type=TYPES.map(type_text),
        nullable=st.booleans(),
        description=WORDS,
        unit=WORDS,
        semantic=WORDS,
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda c: c.name.casefold(),
).map(tuple)
SUFFIX = {"yaml": ".yaml", "json-schema": ".json", "arrow": ".arrow"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(COLUMNS)
def test_what_is_written_is_read_back(tmp_path: Path, columns: tuple[Column, ...]) -> None:
    """Every format keeps types, null, key and meaning; YAML the rules too."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    key = (columns[0].name,)
    version = SchemaVersion(
        dataset_id="d", number=1, columns=columns, key_columns=key, compatibility="FULL", misfits="flag", created_at=now
    )
    for form in FORMATS:
        file = tmp_path / f"schema{SUFFIX[form]}"
        file.write_bytes(write_schema(version, form, "t"))
        found = read_schema(file)
        assert found.columns == columns, form
        assert found.key == (None if form == "arrow" else key)
        assert (found.compatibility, found.misfits) == (("FULL", "flag") if form == "yaml" else (None, None))


class Size(BaseModel):
    """A part of a model."""

    width: int
    height: int | None = None


class Photo(BaseModel):
    """A model as users write them."""

    path: str = Field(description="where it lies", json_schema_extra={"semantic": "id"})
    taken: datetime
    day: date | None
    size: Size
    tags: list[str] = []
    scores: dict[str, float] = {}
    price: Decimal | None = Field(None, json_schema_extra={"x-type": "decimal(10,2)", "unit": "EUR"})
    thumbnail: bytes | None = None
    kept: bool = True


def test_a_pydantic_model_is_a_schema(tmp_path: Path) -> None:
    """Optional fields, and those with a default, are nullable; descriptions and units come along."""
    found = read_schema(Photo)
    assert found.columns == (
        Column(name="path", type="string", nullable=False, description="where it lies", semantic="id"),
        Column(name="taken", type="timestamp[us, tz=UTC]", nullable=False),
        Column(name="day", type="date32[day]"),
        Column(
            name="size",
            type="struct<width: int64 not null, height: int64>",
            nullable=False,
            description="A part of a model.",
        ),
        Column(name="tags", type="list<string>"),
        Column(name="scores", type="map<string, double>"),
        Column(name="price", type="decimal128(10, 2)", unit="EUR"),
        Column(name="thumbnail", type="binary"),
        Column(name="kept", type="bool"),
    )


def test_a_model_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`package.module:Model` names a Pydantic model that can be imported."""
    (tmp_path / "my_models.py").write_text("import pydantic\nclass Row(pydantic.BaseModel):\n    n: int\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_schema("my_models:Row").columns == (Column(name="n", type="int64", nullable=False),)


def test_a_dataset_is_made_from_any_form(lake: Lake, tmp_path: Path) -> None:
    """`create_dataset` takes a model, a file, JSON Schema and Arrow; the key may come with the schema."""
    catalog.create_dataset(lake, "photos", Photo, key=["path"])
    assert lake.read("photos").schema.field("taken").type == pa.timestamp("us", "UTC")
    text = """
columns:
  - {name: id, type: bigint, nullable: false, semantic: id}
  - {name: price, type: "decimal(10,2)", unit: EUR}
key: [id]
misfits: flag
"""
    (tmp_path / "o.yml").write_text(text)
    made = catalog.create_dataset(lake, "orders", tmp_path / "o.yml")
    assert made.key_columns == ("id",)
    found = catalog.show_schema(lake, "orders").schema
    assert (found.columns[1].unit, found.misfits, found.columns[0].type) == ("EUR", "flag", "int64")
    pq.write_table(pa.table({"a": pa.array([1], pa.uint8())}), tmp_path / "a.parquet")
    catalog.create_dataset(lake, "a", str(tmp_path / "a.parquet"))
    assert lake.read("a").schema == pa.schema([("a", pa.int16())])
    exported = json.loads(catalog.export_schema(lake, "orders"))
    assert (exported["required"], exported["x-key"]) == (["id"], ["id"])
    catalog.create_dataset(lake, "again", exported)
    assert catalog.show_schema(lake, "again").schema.columns == found.columns
    field = pa.field("w", pa.float64(), metadata={"unit": "cm", "other": "x"})
    catalog.create_dataset(lake, "arrow", pa.schema([field]))
    assert catalog.show_schema(lake, "arrow").schema.columns == (Column(name="w", type="double", unit="cm"),)


JSON_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"type": "integer"}, "int64"),
    ({"type": ["number", "null"]}, "double"),
    ({"enum": ["a", "b", None]}, "string"),
    ({"const": "a"}, "string"),
    ({"$ref": "#/$defs/day"}, "date32[day]"),
    ({"allOf": [{"$ref": "#/$defs/day"}]}, "date32[day]"),
    ({"oneOf": [{"type": "null"}, {"type": "array", "items": {"type": "integer"}}]}, "list<int64>"),
    ({"type": "string", "contentEncoding": "base64"}, "binary"),
    ({"type": "integer", "minimum": -128, "maximum": 127}, "int8"),
    ({"type": "integer", "minimum": 0, "maximum": 5}, "int64"),
]


@pytest.mark.parametrize(("part", "kind"), JSON_SCHEMAS, ids=str)
def test_json_schema_becomes_columns(part: dict[str, Any], kind: str) -> None:
    """Also one that was not written here."""
    found = read_schema(
        {"type": "object", "properties": {"c": part}, "$defs": {"day": {"type": "string", "format": "date"}}}
    )
    assert found.columns == (Column(name="c", type=kind),)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {}},
        {"properties": {"c": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
        {"properties": {"c": {"type": "array"}}},
        {"properties": {"c": {"$ref": "#/$defs/absent"}}},
        {"properties": {"c": {"$ref": "https://example.org/x"}}},
        {"properties": {"c": {"$ref": "#/properties/c"}}},
        {"properties": {"c": True}},
        {"columns": [{"name": "a"}]},
        {"columns": [{"name": "a", "type": "int64", "nulable": True}]},
        {"columns": []},
        {"columns": [{"name": "a", "type": "int64"}], "kee": ["a"]},
        {"columns": [{"name": "a", "type": "int64"}], "key": "a"},
        {"columns": [{"name": "a", "type": "int64"}], "compatibility": "forward"},
        {"columns": [{"name": "a", "type": "int64"}], "misfits": "drop"},
        [1],
        7,
        int,
    ],
    ids=str,
)
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    """Refused with what is wrong."""
    with pytest.raises(InvalidInputError) as error:
        read_schema(schema)
    assert error.value.kind == "schema-invalid"


A = "columns: [{name: a, type: int64}]"
MISTAKES = [
    ("colums: []", "it says 'colums', which no schema has. Did you mean 'columns'? Known are columns, key, "),
    ("a: int", "it says 'a', which no schema has. Known are columns, key, compatibility, misfits; a JSON Schema has "),
    (f"{A}\nmisfit: flag", "it says 'misfit', which no schema has. Did you mean 'misfits'?"),
    ("columns: 3", "its columns are no list of {name, type, nullable}."),
    ("columns: [{name: a, type: int64, nullable: maybe}]", "column 'a' says nullable: 'maybe', which is neither true"),
    ('columns: [{name: a, type: int64, nullable: "no"}]', "column 'a' says nullable: 'no', which is neither true nor "),
    (
        "columns: [{name: a, type: int64, nullable: }]",
        "column 'a' says nullable: None, which is neither true nor false.",
    ),
    ("columns: [{name: a, type: int64}, b]", "column 2 is no {name, type, nullable}."),
    ("columns: [{name: a, type: int64}, {type: int64}]", "column 2 has no name."),
    ("columns: [{name: a}]", "column 'a' has no type, such as int64."),
    ("columns: [{name: a, type: int64, units: cm}]", "says 'units', which no column has. Did you mean 'unit'?"),
    ("columns: [{name: a, type: int64, colour: red}]", "column 'a' says 'colour', which no column has."),
    ("columns:\n  - {name: a, type: [int64}", "s.yaml can't be read as yaml (line 2, column 27)."),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_a_mistake_in_a_schema_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The message has the key, the column or the place, and ends as a sentence."""
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InvalidInputError) as error:
        read_schema(tmp_path / "s.yaml")
    assert error.value.kind == "schema-invalid"
    assert said in error.value.message
    assert re.search(r"[^.?][.?]$", error.value.message)


def test_a_mistake_in_json_has_its_place(tmp_path: Path) -> None:
    """A file of JSON that can't be parsed says line and column."""
    (tmp_path / "s.json").write_text('{"columns": [\n{]}')
    with pytest.raises(InvalidInputError, match=r"as json \(line 2, column 2\)\."):
        read_schema(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (("a", "A"), "schema-case-conflict"),
        (("a", "a"), "duplicate-column"),
    ],
)
def test_names_must_differ(columns: tuple[str, ...], kind: str) -> None:
    """Two columns of one name, ignoring case, are refused in every form."""
    for schema in (
        [{"name": n, "type": "int64"} for n in columns],
        SchemaSpec(tuple(Column(name=n, type="int") for n in columns)),
    ):
        with pytest.raises(InvalidInputError) as error:
            read_schema(schema)
        assert error.value.kind == kind


@pytest.mark.parametrize(
    "name",
    [
        "absent.yaml",
        "broken.yaml",
        "broken.json",
        "broken.arrow",
        "broken.parquet",
        "no.module:Model",
        "json:Nothing",
        "json:loads",
        "list.txt",
    ],
)
def test_files_that_hold_no_schema_are_refused(tmp_path: Path, name: str) -> None:
    """A missing or broken file, a module that is not there, something that is no model."""
    (tmp_path / "broken.yaml").write_text("columns: [")
    (tmp_path / "broken.json").write_text("{")
    for binary in ("broken.arrow", "broken.parquet"):
        (tmp_path / binary).write_bytes(b"x" * 50)
    (tmp_path / "list.txt").write_text("3")
    with pytest.raises(InvalidInputError) as error:
        read_schema(name if ":" in name else str(tmp_path / name))
    assert error.value.kind == "schema-invalid"


def test_an_unknown_format_is_refused(lake: Lake) -> None:
    """The message has the formats that there are."""
    catalog.create_dataset(lake, "t", pa.schema([("a", pa.int64())]))
    with pytest.raises(InvalidInputError, match="json-schema") as error:
        catalog.export_schema(lake, "t", format="avro")
    assert error.value.kind == "format-unknown"
    assert yaml.safe_load(catalog.export_schema(lake, "t", format="yaml"))["columns"] == [
        {"name": "a", "type": "int64"}
    ]
