"""Export: the same rows in the same order, in files that other programs read."""

from __future__ import annotations

import csv
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.datasets import create_dataset
from catalog.versions import publish
from jobs import export as export_rows
from jobs.export import ExportReport
from lakehouse.errors import InvalidInputError, NotFoundError, StateError
from lakehouse.lake import Lake

ROWS = pa.table(
    {
        "id": [1, 2, 3],
        "text": ["", 'a "quote",\nand a line', None],
        "list": pa.array([[1, None], [], None], pa.list_(pa.int64())),
        "struct": [{"k": b"\x00\xff", "t": datetime(2026, 1, 1, tzinfo=UTC)}, {"k": None, "t": None}, None],
        "bytes": [b"\x00\xff", b"", None],
        "decimal": [Decimal("1.50"), Decimal("-0.01"), None],
        "time": [datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), None, None],
        "day": [date(2026, 1, 2), None, None],
        "float": [0.1, float("inf"), None],
    }
)


@pytest.fixture
def table(lake: Lake) -> Lake:
    """A lakehouse with rows of many types in `main.t`, published as v1."""
    create_dataset(lake, "t", ROWS.schema, key=["id"])
    lake.table("t").append(ROWS)
    publish(lake, "t")
    return lake


def test_parquet_keeps_rows_types_and_order(lake_anywhere: Lake, tmp_path: Path) -> None:
    """What is read back is what the reference names, on both backends; later changes do not show."""
    create_dataset(lake_anywhere, "t", ROWS.schema)
    lake_anywhere.table("t").append(ROWS)
    publish(lake_anywhere, "t")
    expected = lake_anywhere.read("t@v1").to_arrow()
    lake_anywhere.table("t").append(ROWS)
    report = export_rows(lake_anywhere, "t@v1", tmp_path / "out")
    assert pq.read_table(tmp_path / "out").equals(expected)
    assert (report.rows, report.files, report.reference) == (3, ("part-00000.parquet",), "main.t@v1")
    assert report.bytes == (tmp_path / "out" / "part-00000.parquet").stat().st_size
    assert json.loads(json.dumps(report.to_json()))["files"] == ["part-00000.parquet"]


def test_csv_is_text_that_says_null_and_empty_apart(table: Lake, tmp_path: Path) -> None:
    """Nested values are JSON, bytes base64, times UTC; null is an empty cell, empty text is quoted."""
    export_rows(table, "t", tmp_path / "out", format="csv")
    text = (tmp_path / "out" / "part-00000.csv").read_text("utf-8")
    header, first, second, third = csv.reader(text.splitlines(keepends=True))
    assert header == ROWS.column_names
    assert first[:3] == ["1", "", "[1, null]"]
    assert json.loads(first[3]) == {"k": "AP8=", "t": "2026-01-01T00:00:00+00:00"}
    assert first[4:] == ["AP8=", "1.50", "2026-01-02 03:04:05.000006Z", "2026-01-02", "0.1"]
    assert second[1] == 'a "quote",\nand a line'
    assert second[2] == "[]"
    assert set(third[1:]) == {""}
    assert '\n1,"",' in text
    assert "\n3,,," in text


def test_columns_and_condition_limit_the_rows(table: Lake, tmp_path: Path) -> None:
    """Only the named columns and the rows that satisfy the condition are written, also when there are none."""
    export_rows(table, "t", tmp_path / "out", columns=["text", "id"], where="id < 2")
    assert pq.read_table(tmp_path / "out").to_pydict() == {"text": [""], "id": [1]}
    report = export_rows(table, "t", tmp_path / "none", where="id > 9")
    assert report.rows == 0
    assert pq.read_table(tmp_path / "none").schema.names == ROWS.column_names


def test_many_rows_become_several_files(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are cut at a number of rows, and their names sort in the order of the rows; twice gives the same bytes."""
    monkeypatch.setitem(export_rows.__globals__, "PART_ROWS", 1_000)
    create_dataset(lake, "t", pa.schema([("n", pa.int64())]))
    lake.table("t").append(pa.table({"n": range(2_500)}))
    reports: list[ExportReport] = [export_rows(lake, "t", tmp_path / name) for name in ("one", "two")]
    assert len(reports[0].files) == 3
    assert pq.read_table(tmp_path / "one").column("n").to_pylist() == list(range(2_500))
    for name in reports[0].files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_target_with_something_in_it_is_left_alone(table: Lake, tmp_path: Path) -> None:
    """An earlier export is replaced only when that is asked for; anything else in a folder, and a file, never."""
    target = tmp_path / "out"
    export_rows(table, "t", target, format="csv")
    with pytest.raises(StateError) as error:
        export_rows(table, "t", target)
    assert error.value.kind == "target-exists"
    export_rows(table, "t", target, overwrite=True)
    assert [path.name for path in target.iterdir()] == ["part-00000.parquet"]
    (target / "precious.txt").write_text("x")
    with pytest.raises(StateError) as error:
        export_rows(table, "t", target, overwrite=True)
    assert error.value.kind == "target-not-export"
    with pytest.raises(StateError):
        export_rows(table, "t", target / "precious.txt", overwrite=True)
    assert (target / "precious.txt").read_text() == "x"


def test_a_failed_export_leaves_nothing(table: Lake, tmp_path: Path) -> None:
    """A wrong reference, format, column or condition is named, and no folder appears."""
    wrong = [
        ({"reference": "t@v9"}, "version-not-found"),
        ({"format": "xml"}, "format-unknown"),
        ({"columns": ["nope"]}, "column-not-found"),
        ({"where": "nope = 1"}, "predicate-invalid"),
    ]
    for arguments, kind in wrong:
        with pytest.raises((NotFoundError, InvalidInputError)) as error:
            export_rows(table, **{"reference": "t", "out": tmp_path / "x", **arguments})
        assert error.value.kind == kind
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]
