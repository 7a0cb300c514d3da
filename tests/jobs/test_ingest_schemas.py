"""What an ingest does with files that differ from a dataset's schema: one rule for each way, and the policy flag."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import catalog
import jobs
from lakehouse.errors import InvalidInputError
from lakehouse.facts import SCHEMAS
from lakehouse.lake import Lake
from tests.support.lakes import make_lake

US, UTC_US = pa.timestamp("us"), pa.timestamp("us", "UTC")


def struct(**fields: pa.DataType) -> pa.DataType:
    """Return a struct type."""
    return pa.struct(list(fields.items()))


def taken(lake: Lake, tmp_path: Path, schema: pa.Schema, data: pa.Table, **said: Any) -> Any:
    """Ingest a Parquet file into a dataset of a schema, and return the rows and the report."""
    catalog.create_dataset(lake, "t", schema)
    pq.write_table(data, tmp_path / "t.parquet")
    report = jobs.ingest(lake, tmp_path / "t.parquet", dataset="t", **said)
    return lake.read("t").to_arrow().to_pylist(), report


def rejects(lake: Lake) -> list[tuple[Any, ...]]:
    """Line, column, value, rule and severity of all rejects but casts that are said."""
    sql = "select line, column_name, value, rule, severity from rejects where code <> 'type_cast' order by line, column_name"
    return lake.sql(sql).fetchall()


def test_columns_go_by_name(lake: Lake, tmp_path: Path) -> None:
    """The file's order of columns does not matter, and a missing column that may be null is null."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())])
    rows, report = taken(lake, tmp_path, schema, pa.table({"b": ["x"], "a": [1]}))
    assert rows == [{"a": 1, "b": "x", "c": None}]
    assert report.warnings == {}


WIDENED: list[Any] = [
    pytest.param(pa.int64(), pa.array([1, None], pa.int8()), [1, None], id="int8 in int64"),
    pytest.param(pa.float64(), pa.array([0.5, None], pa.float32()), [0.5, None], id="float in double"),
    pytest.param(pa.float64(), pa.array([2**53], pa.int64()), [2.0**53], id="int64 in double"),
    pytest.param(pa.decimal128(10, 2), pa.array([7], pa.int32()), [Decimal("7.00")], id="int32 in decimal"),
    pytest.param(
        pa.decimal128(10, 2), pa.array([Decimal("1.5")], pa.decimal128(4, 1)), [Decimal("1.50")], id="decimal"
    ),
    pytest.param(US, pa.array([date(2024, 2, 29)]), [datetime.fromisoformat("2024-02-29")], id="date in timestamp"),
    pytest.param(
        UTC_US,
        pa.array([datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("ms", "Europe/Berlin")),
        [datetime(2024, 1, 1, tzinfo=UTC)],
        id="another zone",
    ),
    pytest.param(
        pa.list_(pa.field("element", pa.int64())),
        pa.array([[1, None], []], pa.list_(pa.int16())),
        [[1, None], []],
        id="list",
    ),
    pytest.param(
        struct(x=pa.int64(), y=pa.string()),
        pa.array([{"x": 1}, None], struct(x=pa.int8())),
        [{"x": 1, "y": None}, None],
        id="struct",
    ),
    pytest.param(
        struct(x=pa.int64(), y=pa.int64()),
        pa.array([{"y": 2, "x": 1}], struct(y=pa.int64(), x=pa.int64())),
        [{"x": 1, "y": 2}],
        id="order in a struct",
    ),
    pytest.param(
        pa.map_(pa.string(), pa.int64()),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
        [[("k", 1)]],
        id="map",
    ),
    pytest.param(pa.int64(), pa.array([1, 1]).dictionary_encode(), [1, 1], id="dictionary"),
]


@pytest.mark.parametrize(("stored", "given", "values"), WIDENED)
def test_safe_casts_are_made_and_said(
    lake: Lake, tmp_path: Path, stored: pa.DataType, given: pa.Array, values: list[Any]
) -> None:
    """Numbers, dates and nested values that a wider column holds are taken, and the run says what was cast."""
    rows, report = taken(lake, tmp_path, pa.schema([("c", stored)]), pa.table({"c": given}))
    assert [row["c"] for row in rows] == values
    same = pa.types.is_dictionary(given.type) or (pa.types.is_timestamp(stored) and pa.types.is_timestamp(given.type))
    assert report.warnings == ({} if same else {"type_cast": 1})
    assert report.rejected == 0


NARROWED: list[Any] = [
    pytest.param(pa.int8(), pa.array([1, 300]), "300", "type int8", id="int64 in int8"),
    pytest.param(pa.int64(), pa.array([1.0, 2.5]), "2.5", "type int64", id="a fraction"),
    pytest.param(pa.float64(), pa.array([1, 2**53 + 1]), str(2**53 + 1), "type double", id="digits of a double"),
    pytest.param(
        pa.decimal128(4, 2),
        pa.array([Decimal("1.230"), Decimal("1.234")], pa.decimal128(10, 3)),
        "1.234",
        "type decimal128(4, 2)",
        id="decimal",
    ),
    pytest.param(
        US,
        pa.array([1_000, 1_001], pa.timestamp("ns")),
        "1970-01-01 00:00:00.000001001",
        "type timestamp[us]",
        id="nanoseconds",
    ),
    pytest.param(
        pa.list_(pa.field("element", pa.int8())), pa.array([[1], [1, 300]]), "[1, 300]", "type list<int8>", id="list"
    ),
    pytest.param(
        struct(x=pa.int8()), pa.array([{"x": 1}, {"x": 300}]), "{'x': 300}", "type struct<x: int8>", id="struct"
    ),
    pytest.param(
        pa.struct([pa.field("x", pa.int64(), nullable=False)]),
        pa.array([{"x": 1}, {"x": None}]),
        "{'x': None}",
        "type struct<x: int64 not null>",
        id="null inside",
    ),
]


@pytest.mark.parametrize(("stored", "given", "value", "rule"), NARROWED)
def test_a_value_that_does_not_fit_is_a_reject(
    lake: Lake, tmp_path: Path, stored: pa.DataType, given: pa.Array, value: str, rule: str
) -> None:
    """The row is set aside with line, column, value and rule; the rest lands."""
    rows, report = taken(lake, tmp_path, pa.schema([("c", stored)]), pa.table({"c": given}))
    assert (len(rows), report.rejected) == (1, 1)
    assert rejects(lake) == [(2, "c", value, rule, "reject")]


REFUSED: list[Any] = [
    pytest.param(pa.table({"A": [1]}), "schema-case-conflict", id="case"),
    pytest.param(pa.table({"a": [1], "b": [2]}), "schema-added-column", id="added"),
    pytest.param(pa.table({"a": ["1"]}), "schema-type-change", id="text"),
    pytest.param(pa.table({"a": [1], "at": pa.array([0], US)}), "schema-type-change", id="no zone"),
    pytest.param(pa.table({"a": [1], "s": pa.array([{"x": 1, "z": 2}])}), "schema-type-change", id="field added"),
    pytest.param(pa.table({"a": [1], "s": pa.array([{"y": "b"}])}), "schema-type-change", id="field missing"),
    pytest.param(pa.table({"at": pa.array([0], UTC_US)}), "schema-missing-column", id="required"),
]


@pytest.mark.parametrize(("data", "kind"), REFUSED)
def test_an_incompatible_file_is_refused_whole(lake: Lake, tmp_path: Path, data: pa.Table, kind: str) -> None:
    """Nothing lands, and the message has the choices: evolve the dataset, or fork it."""
    inner = pa.struct([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.string())])
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), ("at", UTC_US), ("s", inner)])
    with pytest.raises(InvalidInputError) as error:
        taken(lake, tmp_path, schema, data)
    assert error.value.kind == kind
    for choice in ("lakehouse schema evolve main.t --schema", "lakehouse dataset fork main.t NEW --schema"):
        assert choice in error.value.message
    assert lake.read("t").num_rows == 0


def test_a_zone_is_not_forgotten(lake: Lake, tmp_path: Path) -> None:
    """Times with a zone do not fit a column without."""
    with pytest.raises(InvalidInputError) as error:
        taken(lake, tmp_path, pa.schema([("at", US)]), pa.table({"at": pa.array([0], UTC_US)}))
    assert error.value.kind == "schema-type-change"


@pytest.mark.parametrize("names", [("a", "a"), ("a", "A")])
def test_two_columns_of_one_name_are_refused(lake: Lake, tmp_path: Path, names: tuple[str, str]) -> None:
    """Also when only their case differs, in CSV and Parquet."""
    (tmp_path / "t.csv").write_text(f"{','.join(names)}\n1,2\n")
    pq.write_table(pa.table([[1], [2]], names=list(names)), tmp_path / "t.parquet")
    for file in ("t.csv", "t.parquet"):
        with pytest.raises(InvalidInputError) as error:
            jobs.ingest(lake, tmp_path / file, dataset="t")
        assert error.value.kind == "duplicate-column"


def test_a_required_field_inside_json(lake: Lake, tmp_path: Path) -> None:
    """An object that lacks what must not be null is a reject."""
    catalog.create_dataset(lake, "t", pa.schema([("s", pa.struct([pa.field("x", pa.int64(), nullable=False)]))]))
    (tmp_path / "t.jsonl").write_text('{"s": {"x": 1}}\n{"s": {}}\n{"s": null}\n')
    assert jobs.ingest(lake, tmp_path / "t.jsonl", dataset="t").rejects_by_code == {"type_mismatch": 1}
    assert rejects(lake) == [(2, "s", "{}", "type struct<x: int64 not null>", "reject")]


def test_flag_takes_the_row_without_the_value(root_uri: str, tmp_path: Path) -> None:
    """Under `flag` null stands for what does not fit, and every such value is recorded; keys and required columns refuse."""
    lake = make_lake(root_uri)
    schema = pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("n", pa.int8()),
            pa.field("m", pa.int8(), nullable=False),
            ("x", pa.float64()),
        ]
    )
    catalog.create_dataset(lake, "t", schema, key=["id"])
    catalog.evolve_schema(lake, "t", misfits="flag")
    good = "".join(f"{n},1,1,0.5\n" for n in range(10, 20))
    (tmp_path / "t.csv").write_text(f"id,n,m,x\n{good}1,300,1,zwei\n2,1,300,1\nthree,1,1,1\n4,,1,\n")
    report = jobs.ingest(lake, tmp_path / "t.csv", dataset="t")
    assert (report.items, report.ingested, report.rejects_by_code) == (14, 12, {"overflow": 1, "type_mismatch": 1})
    assert report.warnings == {"overflow": 1, "type_mismatch": 1}
    assert rejects(lake) == [
        (12, "n", "300", "type int8", "warning"),
        (12, "x", "zwei", "type double", "warning"),
        (13, "m", "300", "type int8", "reject"),
        (14, "id", "three", "type int64", "reject"),
    ]
    assert lake.read("t").get(1) == {"id": 1, "n": None, "m": 1, "x": None}
    (tmp_path / "u.csv").write_text("id,n,m,x\n" + good.replace(",0.5", ",0.75") + "1,1,1,drei\n")
    merged = jobs.ingest(lake, tmp_path / "u.csv", dataset="t", mode="merge")
    assert (merged.ingested, merged.rejects_by_code) == (10, {"type_mismatch": 1})


def test_columns_that_an_ingest_adds_are_registered(lake: Lake, tmp_path: Path) -> None:
    """`--evolve` makes the next schema version; a file of known columns makes none."""
    (tmp_path / "t.csv").write_text("a\n1\n")
    (tmp_path / "u.csv").write_text("a,b\n1,x\n")
    for file in ("t.csv", "t.csv", "u.csv"):
        jobs.ingest(lake, tmp_path / file, dataset="t", evolve=True)
    assert [(s.schema.number, s.registered) for s in catalog.list_schemas(lake, "t")] == [(2, True), (1, True)]


def test_rejects_say_which_rule_is_broken(lake: Lake, tmp_path: Path) -> None:
    """Keys and null have their own rules, and no value."""
    catalog.create_dataset(
        lake, "t", pa.schema([("id", pa.int64()), pa.field("n", pa.int64(), nullable=False)]), key=["id"]
    )
    (tmp_path / "t.csv").write_text("id,n\n1,1\n1,2\n,3\n4,\n")
    jobs.ingest(lake, tmp_path / "t.csv", dataset="t")
    assert [(line, column, rule) for line, column, _, rule, _ in rejects(lake)] == [
        (2, "id", "key id"),
        (3, "id", "key id"),
        (4, "id", "key id"),
        (5, "n", "not null"),
    ]


def test_rejects_of_an_older_release_go_on(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of rejects that was made before values and rules were kept shows null, and takes both from now on."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    row = dict.fromkeys(SCHEMAS["rejects"].names, "x") | {"at": now, "line": 1}
    older = {k: v for k, v in row.items() if k not in ("value", "rule")}
    full = SCHEMAS["rejects"]
    small = pa.schema([f for f in full if f.name in older])
    with monkeypatch.context() as patched:
        patched.setitem(SCHEMAS, "rejects", small)
        lake.facts.append("rejects", pa.Table.from_pylist([older], schema=small), ("t", 0))
    assert rejects(lake) == [(1, "x", None, None, "x")]
    lake.facts.append("rejects", pa.Table.from_pylist([row | {"line": 2}], schema=full), ("t", 1))
    assert rejects(lake) == [(1, "x", None, None, "x"), (2, "x", "x", "x", "x")]
