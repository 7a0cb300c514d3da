"""Tabular files as typed batches and rejects: the manifest of bad inputs, real tables, schemas, keys, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.ingest.tabular import RowReject, TableOptions, open_table
from lakehouse.errors import InvalidInputError, NotFoundError

ALBUMS = pa.schema([("AlbumId", pa.int64()), ("Title", pa.string()), ("ArtistId", pa.int64())])
NYC = TableOptions(null_tokens=("NA", r"\N"))


@dataclass(frozen=True)
class Outcome:
    """What one manifest entry must lead to."""

    refused: str | None = None
    rows: int = 0
    bad: Mapping[int, str] = field(default_factory=dict)
    findings: Sequence[str] = ()
    options: TableOptions = field(default_factory=TableOptions)
    schema: pa.Schema | None = None
    key: Sequence[str] = ()
    evolve: bool = False


MANIFEST: dict[str, list[Outcome]] = {
    "blank_first_line": [Outcome(rows=54, findings=["blank_lines"])],
    "duplicate_header": [Outcome("duplicate-column")],
    "duplicate_primary_key": [
        Outcome(rows=22, bad={4: "primary_key", 12: "primary_key"}, key=["CustomerId"]),
        Outcome(rows=24),
    ],
    "embedded_newline_ok": [Outcome(rows=2)],
    "empty": [Outcome("empty-file")],
    "header_only": [Outcome(rows=0, findings=["no_rows"])],
    "latin1": [Outcome("encoding"), Outcome(rows=59, options=TableOptions(encoding="latin-1"))],
    "mixed_types": [Outcome(rows=35, bad=dict.fromkeys((7, 13, 21, 26), "type_mismatch"))],
    "no_header": [Outcome("header-missing"), Outcome(rows=19, options=TableOptions(header=False))],
    "nul_byte": [Outcome(rows=8, bad={4: "control_character"})],
    "null_tokens": [
        Outcome(rows=9, findings=["null_tokens"]),
        Outcome(rows=9, options=TableOptions(null_tokens=("", "NA", "NULL", r"\N", "nan", "None", "-"))),
    ],
    "orphan_foreign_key": [Outcome(rows=24)],  # Foreign keys need the other table: not known to one file.
    "overflow": [Outcome(rows=12, bad={6: "overflow", 8: "overflow"})],
    "ragged": [Outcome(rows=26, bad={5: "column_count", 10: "column_count"}, findings=["blank_lines"])],
    "schema_v1": [Outcome(rows=5), Outcome(rows=5, schema=ALBUMS)],
    "schema_v2_added_column": [
        Outcome("schema-added-column", schema=ALBUMS),
        Outcome(rows=6, schema=ALBUMS, evolve=True),
    ],
    "schema_v2_case_change": [
        Outcome("schema-case-conflict", schema=ALBUMS),
        Outcome("schema-case-conflict", schema=ALBUMS, evolve=True),
    ],
    "schema_v2_type_change": [Outcome("schema-type-change", schema=ALBUMS)],
    "semicolon_decimal_comma": [
        Outcome("dialect"),
        Outcome(rows=29, options=TableOptions(delimiter=";", decimal=",")),
        Outcome(rows=29, findings=["decimal_comma"], options=TableOptions(delimiter=";")),
    ],
    "unclosed_quote": [Outcome("csv-syntax")],
    "utf16": [Outcome("encoding"), Outcome(rows=19, options=TableOptions(encoding="utf-16"))],
    "utf8_bom": [Outcome(rows=19)],
}


def read(path: Path, *args: Any, **kwargs: Any) -> tuple[pa.Table, list[RowReject]]:
    """All good rows and all rejects of a file, by line."""
    with open_table(path, *args, **kwargs) as source:
        table = pa.Table.from_batches(source.batches(), source.schema)
        return table, sorted(source.rejects(), key=lambda reject: reject.line)


def write(path: Path, text: str | bytes) -> Path:
    """Write a small file, return its path."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("name", "outcome"),
    [(name, o) for name, outcomes in MANIFEST.items() for o in outcomes],
    ids=lambda value: str(value),
)
def test_bad_table_is_treated_as_the_manifest_says(shared_data: Path, name: str, outcome: Outcome) -> None:
    """Each bad table is refused whole, or read with exactly its bad lines set aside and its warnings given."""
    path = shared_data / "bad-inputs" / "tables" / f"{name}.csv"
    arguments = (path, outcome.options, outcome.schema, outcome.key)
    if outcome.refused:
        with pytest.raises(InvalidInputError) as error:
            open_table(*arguments, evolve=outcome.evolve)
        assert error.value.kind == outcome.refused
        return
    with open_table(*arguments, evolve=outcome.evolve) as source:
        rows = sum(batch.num_rows for batch in source.batches())
        rejects = list(source.rejects())
        assert [finding.code for finding in source.findings] == list(outcome.findings)
    assert rows == outcome.rows
    assert {reject.line: reject.code for reject in rejects} == outcome.bad
    lines = path.read_bytes().split(b"\n")
    assert all(reject.raw.encode() == lines[reject.line - 1].rstrip(b"\r") for reject in rejects)


def test_every_table_of_the_manifest_has_an_outcome_that_agrees_with_it(shared_data: Path) -> None:
    """The outcomes above cover all table entries, with the manifest's code and bad lines."""
    entries = json.loads((shared_data / "bad-inputs" / "manifest.json").read_text("utf-8"))["files"]
    tables = {Path(entry["path"]).stem: entry for entry in entries if entry["kind"] == "table"}
    assert tables.keys() == MANIFEST.keys()
    for name, entry in tables.items():
        code, first = entry["expect"]["code"], MANIFEST[name][0]
        seen = {str(first.refused).replace("-", "_"), *first.bad.values(), *first.findings, "ok"}
        assert code in seen or code == "foreign_key"
        if code != "foreign_key" and "bad_lines" in entry:
            assert sorted(first.bad) == entry["bad_lines"]


def _arrow_of_sql(sql: str) -> pa.DataType:
    if sql.startswith("NVARCHAR"):
        return pa.string()
    return {"INTEGER": pa.int64(), "DATETIME": pa.timestamp("us")}.get(sql, pa.float64())


def _values_of_csv(path: Path, nulls: Sequence[str]) -> list[list[str | None]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        _, *rows = csv.reader(file)
    return [[None if cell in nulls else cell for cell in row] for row in rows]


def _same(value: object, text: str | None) -> bool:
    if isinstance(value, datetime):
        return text is not None and value.replace(tzinfo=None) == datetime.fromisoformat(text).replace(tzinfo=None)
    if isinstance(value, (int, float)):
        return text is not None and float(text) == value
    return value == text


@pytest.mark.parametrize("revision", ["v1.4.5", "2025-10"])
def test_chinook_tables_get_the_types_of_their_database(shared_data: Path, revision: str) -> None:
    """Every column has the type of the SQLite schema, every cell the value that Python's csv reads."""
    folder = shared_data / "tables-chinook" / revision
    tables = json.loads((folder / "schema.json").read_text("utf-8"))
    assert len(tables) == 11
    for name, description in tables.items():
        table, rejects = read(folder / f"{name}.csv", key=description["primary_key"])
        expected = _values_of_csv(folder / f"{name}.csv", [""])
        assert rejects == []
        assert table.num_rows == description["rows"] == len(expected)
        for number, column in enumerate(description["columns"]):
            found = table.schema.field(number)
            if any(row[number] is not None for row in expected):
                assert (found.name, found.type) == (column["name"], _arrow_of_sql(column["sql_type"]))
            values = table.column(number).to_pylist()
            assert all(_same(value, row[number]) for value, row in zip(values, expected, strict=True))


@pytest.mark.parametrize("revision", ["v0.2.0", "v0.2.2", "v1.0.2"])
def test_flight_tables_are_read_with_their_null_tokens(shared_data: Path, revision: str) -> None:
    r"""NA and \N are null, numbers and UTC times are typed, every cell agrees with Python's csv."""
    paths = sorted((shared_data / "tables-nycflights13" / revision).glob("*.csv"))
    assert len(paths) >= 3
    for path in paths:
        table, rejects = read(path, NYC)
        expected = _values_of_csv(path, NYC.null_tokens)
        assert rejects == []
        assert table.num_rows == len(expected)
        for number, column in enumerate(table.columns):
            assert all(_same(v, row[number]) for v, row in zip(column.to_pylist(), expected, strict=True))
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    if "time_hour" in types:
        assert types["time_hour"] == pa.timestamp("us", "UTC")
        assert types["wind_gust"] == pa.float64()
        assert types["wind_dir"] == pa.int64()


def test_later_revisions_of_a_table_fit_the_schema_of_the_first(shared_data: Path) -> None:
    """`-5.0` is read into an integer column as -5, and a new column needs evolution."""
    folder = shared_data / "tables-nycflights13"
    first, _ = read(folder / "v0.2.0" / "airports.csv", NYC)
    assert first.schema.field("tz").type == pa.int64()
    second, rejects = read(folder / "v0.2.2" / "airports.csv", NYC, first.schema, ["faa"], evolve=True)
    assert (second.num_rows, rejects) == (1458, [])
    assert second.schema.field("tz").type == pa.int64()
    assert second.schema.names == [*first.schema.names, "tzone"]


def test_spam_comments_keep_every_character(shared_data: Path) -> None:
    """Texts with line breaks, entities and trailing U+FEFF come out as Python's csv reads them."""
    for path in sorted((shared_data / "text-youtube-spam").glob("*.csv")):
        table, rejects = read(path)
        expected = _values_of_csv(path, [""])
        assert rejects == []
        assert table.column("CONTENT").to_pylist() == [row[3] for row in expected]
        assert set(table.column("CLASS").to_pylist()) == {0, 1}


def test_large_file_comes_in_several_batches_with_exact_lines(tmp_path: Path) -> None:
    """A big file is streamed, and the line of a bad row far down is its physical line."""
    rows = [f"{number},name {number}\n" for number in range(150_000)]
    rows[140_000] = 'oops,"two\nlines"\n'
    rows[140_001] = "140001\n"
    with open_table(write(tmp_path / "big.csv", "id,name\n" + "".join(rows))) as source:
        sizes = [batch.num_rows for batch in source.batches()]
        rejects = {reject.line: (reject.code, reject.raw) for reject in source.rejects()}
    assert len(sizes) > 1
    assert max(sizes) <= 65_536
    assert sum(sizes) == 149_998
    assert rejects == {140_002: ("type_mismatch", 'oops,"two\nlines"'), 140_004: ("column_count", "140001")}


def test_batches_can_be_read_again_without_doubling_rejects(tmp_path: Path) -> None:
    """Each pass yields the same rows, and rejects are counted once."""
    path = write(tmp_path / "t.csv", "a\n" + "1\n" * 20 + "x\n")
    with open_table(path) as source:
        once, again = list(source.batches()), list(source.batches())
        assert once == again
        assert [reject.line for reject in source.rejects()] == [22]


def test_temporary_storage_is_gone_after_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the temporary folder, neither after use nor after a refusal."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "data"
    folder.mkdir()
    read(write(folder / "good.csv", "a,b\n1,2\n"), key=["a"])
    with pytest.raises(InvalidInputError):
        open_table(write(folder / "bad.csv", 'a,b\n1,"2\n'))
    assert list(tmp_path.iterdir()) == [folder]


def test_rows_with_null_or_repeated_composite_keys_are_rejected(tmp_path: Path) -> None:
    """All rows that share a key go, and those with null in any part; equality is that of the typed values."""
    path = write(tmp_path / "t.csv", "a,b,c\n1,1.0,x\n1,2,y\n1,1,z\n,1,u\n2,,v\n2,3,w\n")
    table, rejects = read(path, key=["a", "b"])
    assert table.column("c").to_pylist() == ["y", "w"]
    assert [(reject.line, reject.code) for reject in rejects] == [(n, "primary_key") for n in (2, 4, 5, 6)]


def test_rejects_of_repeated_keys_have_the_key(tmp_path: Path) -> None:
    """Column and value are those of the key: of several columns their names, and a JSON object."""
    path = write(tmp_path / "t.csv", "a,b\n7,ä\n7,ä\n8,z\n,z\n")
    _, rejects = read(path, key=["a"])
    assert [(r.column, r.value, r.rule) for r in rejects] == [("a", "7", "key a")] * 2 + [("a", None, "key a")]
    _, rejects = read(path, key=["a", "b"])
    assert [(r.column, r.value) for r in rejects] == [("a, b", '{"a": 7, "b": "ä"}')] * 2 + [("a", None)]


def test_existing_schema_rejects_single_rows_and_fills_missing_columns(tmp_path: Path) -> None:
    """A minority of misfits are rejects; a column that the file lacks is null; null where forbidden is a reject."""
    schema = pa.schema(
        [
            pa.field("id", pa.int32(), nullable=False),
            pa.field("price", pa.decimal128(10, 2)),
            pa.field("note", pa.string()),
            pa.field("day", pa.date32()),
        ]
    )
    text = (
        "day,price,id\n2024-02-29,1.5,1\n2023-02-29,1.5,2\n2024-01-01,1.555,3\n2024-01-01,,\n2024-01-01,2,4000000000\n"
    )
    table, rejects = read(write(tmp_path / "t.csv", text), schema=schema)
    assert table.schema == schema
    assert table.to_pylist() == [{"id": 1, "price": Decimal("1.50"), "note": None, "day": date(2024, 2, 29)}]
    assert [(reject.line, reject.column, reject.code) for reject in rejects] == [
        (3, "day", "type_mismatch"),
        (4, "price", "overflow"),
        (5, "id", "not_null"),
        (6, "id", "overflow"),
    ]


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ({"options": TableOptions(types={"b": "int"})}, "unknown-column"),
        ({"options": TableOptions(types={"a": "intt"})}, "type-unknown"),
        ({"options": TableOptions(types={"a": "decimal(39,2)"})}, "type-unknown"),
        ({"options": TableOptions(encoding="latin-99")}, "encoding"),
        ({"options": TableOptions(types={"a": "date"})}, "schema-type-change"),
        ({"key": ["id"]}, "unknown-column"),
        ({"schema": pa.schema([pa.field("a", pa.int64()), pa.field("b", pa.int64(), False)])}, "schema-missing-column"),
        ({"schema": pa.schema([("a", pa.binary())])}, "unsupported-type"),
        (
            {"schema": pa.schema([("a", pa.string())]), "options": TableOptions(types={"a": "int"})},
            "schema-type-change",
        ),
    ],
)
def test_wrong_calls_are_refused_by_kind(tmp_path: Path, call: dict[str, Any], kind: str) -> None:
    """A declaration that does not fit the file or the dataset is refused before anything is read."""
    with pytest.raises(InvalidInputError) as error:
        open_table(write(tmp_path / "t.csv", "a\n1\n2\n"), **call)
    assert error.value.kind == kind


def test_unknown_formats_and_missing_files_are_refused(tmp_path: Path) -> None:
    """The suffix must be known and the file must be there; options are checked when they are made."""
    with pytest.raises(InvalidInputError, match="suffix"):
        open_table(write(tmp_path / "t.xlsx", "x"))
    with pytest.raises(NotFoundError):
        open_table(tmp_path / "absent.csv")
    with pytest.raises(InvalidInputError, match="delimiter"):
        TableOptions(delimiter=";;")
    with pytest.raises(InvalidInputError, match="decimal"):
        TableOptions(decimal="x")


def parquet(path: Path, columns: dict[str, pa.Array]) -> Path:
    """Write a Parquet file, return its path."""
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_types_become_what_delta_holds(tmp_path: Path) -> None:
    """Types that Delta lacks are widened, encodings resolved; values that do not fit exactly are rejects."""
    stamps = pa.array([1_000, 2_000, 3_001], pa.timestamp("ns"))
    path = parquet(
        tmp_path / "t.parquet",
        {
            "u": pa.array([1, 2**63, 3], pa.uint64()),
            "h": pa.array([0.5, 1.0, 2.0], pa.float16()),
            "d": pa.array(["x", None, "y"]).dictionary_encode(),
            "s": pa.array(["x", "y", "z"], pa.large_string()),
            "t": stamps,
            "l": pa.array([[1], None, []], pa.list_(pa.uint8())),
        },
    )
    table, rejects = read(path)
    expected = [pa.int64(), pa.float32(), pa.string(), pa.string(), pa.timestamp("us")]
    assert table.schema.types == [*expected, pa.list_(pa.field("element", pa.int16()))]
    assert table.column("d").to_pylist() == ["x"]
    assert table.column("l").to_pylist() == [[1]]
    assert [(r.line, r.column, r.code) for r in rejects] == [(2, "u", "overflow"), (3, "t", "overflow")]
    assert json.loads(rejects[0].raw)["u"] == 2**63


def test_parquet_fits_a_schema_only_by_casts_that_keep_values(tmp_path: Path) -> None:
    """Whole floats become integers, fractions are rejects, and text in a number column refuses the file."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    path = parquet(tmp_path / "t.parquet", {"a": pa.array([1.0, 2.5, None, float("nan")])})
    table, rejects = read(path, schema=schema)
    assert table.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": None}]
    assert [reject.line for reject in rejects] == [2, 4]
    with pytest.raises(InvalidInputError) as error:
        open_table(parquet(tmp_path / "u.parquet", {"a": pa.array(["1"])}), schema=schema)
    assert error.value.kind == "schema-type-change"


def test_a_parquet_column_of_nothing_fits_every_type(tmp_path: Path) -> None:
    """A column without a type holds null alone: it is null in any column, without a word, and a reject where null is not allowed."""
    path = parquet(tmp_path / "t.parquet", {"a": pa.array([1, 2]), "n": pa.nulls(2)})
    for kind in (pa.int32(), pa.string(), pa.timestamp("us", "UTC"), pa.list_(pa.int64()), pa.decimal128(9, 2)):
        schema = pa.schema([("a", pa.int64()), ("n", kind)])
        table, rejects = read(path, schema=schema)
        assert (table.schema, table.column("n").null_count, rejects) == (schema, 2, [])
        with open_table(path, schema=schema) as source:
            assert source.findings == ()
    _, rejects = read(path, schema=pa.schema([pa.field("a", pa.int64()), pa.field("n", pa.int32(), nullable=False)]))
    assert [reject.code for reject in rejects] == ["not_null", "not_null"]


@pytest.mark.parametrize(
    ("cells", "advice"),
    [
        (["NA"] * 9 + ["1"], "If 'NA' means null, say so with: --null '' --null NA."),
        (["n/a"] * 9 + ["x", "1", "2"], "--null n/a."),
        (["x"] * 9 + ["1"], "another column or dataset."),
        (["NA"] * 5 + ["x"] * 5, "another column or dataset."),
    ],
)
def test_a_column_full_of_one_word_for_null_is_told_how_to_read_it(
    tmp_path: Path, cells: list[str], advice: str
) -> None:
    """When a well-known word is nearly all that does not fit, the refusal names the option; other values it never says."""
    path = write(tmp_path / "t.csv", "a,b\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    schema = pa.schema([("a", pa.int64()), ("b", pa.float64())])
    with pytest.raises(InvalidInputError) as error:
        open_table(path, schema=schema)
    assert error.value.message.endswith(advice)
    lines = write(tmp_path / "t.jsonl", "".join(f'{{"a": 1, "b": "{cell}"}}\n' for cell in cells))
    with pytest.raises(InvalidInputError) as error:
        open_table(lines, schema=schema)
    assert "--null" not in error.value.message


def test_parquet_is_streamed_in_order_and_checked_for_keys(tmp_path: Path) -> None:
    """Several batches in file order; rows that share a key are found across batches."""
    numbers = [*range(150_000), 7]
    path = parquet(tmp_path / "t.parquet", {"id": pa.array(numbers), "a.b": pa.array(numbers)})
    with open_table(path, key=["id"]) as source:
        batches = list(source.batches())
        assert sorted(reject.line for reject in source.rejects()) == [8, 150_001]
    assert len(batches) > 1
    assert pa.Table.from_batches(batches).column("id").to_pylist() == [n for n in range(150_000) if n != 7]


def test_broken_and_unsupported_parquet_is_refused(tmp_path: Path) -> None:
    """A truncated file, one of 0 bytes and one with durations are refused by kind; one without rows is a warning."""
    good = parquet(tmp_path / "t.parquet", {"a": pa.array([1, 2])}).read_bytes()
    for data, kind in ((good[:-10], "parquet-corrupt"), (b"", "empty-file"), (b"x" * 100, "parquet-corrupt")):
        with pytest.raises(InvalidInputError) as error:
            open_table(write(tmp_path / "bad.parquet", data))
        assert error.value.kind == kind
    with pytest.raises(InvalidInputError, match="duration") as error:
        open_table(parquet(tmp_path / "d.parquet", {"a": pa.array([1], pa.duration("s"))}))
    assert error.value.kind == "unsupported-type"
    with open_table(parquet(tmp_path / "e.parquet", {"a": pa.array([], pa.int64())})) as source:
        assert [finding.code for finding in source.findings] == ["no_rows"]
        assert list(source.batches()) == []
