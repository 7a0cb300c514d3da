"""Merging: only what differs is written, only files that can hold a key are read."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from tests.support.lakes import SCHEMA, adds, make_lake, make_table, read, rows

NAN = float("nan")


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A fresh lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


def test_merge_compares_nan_and_null_as_values(local: Lake) -> None:
    """NaN equals NaN and null equals null when a merge looks for what changed, and each differs from the other."""
    table = make_table(local, "t", SCHEMA, key=["id"])
    table.append(rows((1, "a", NAN), (2, None, None), (3, "c", NAN), (4, "d", None)))
    commit = table.merge(rows((1, "a", NAN), (2, None, None), (3, "c", None), (4, "d", NAN)))
    assert (commit.rows_unchanged, commit.rows_updated) == (2, 2)
    found = {r[0]: r[2] for r in read(local)}
    assert found[3] is None
    assert math.isnan(found[4])


def test_partial_merge(local: Lake) -> None:
    """Columns that the data lacks keep their values in updated rows and are null in new ones."""
    table = make_table(local, "t", SCHEMA, key=["id"])
    table.append(rows((1, "a", 1.0), (2, "b", 2.0)))
    table.merge(pa.table({"size": [1.5, 3.0], "id": [1, 3]}))
    assert sorted(read(local)) == [(1, "a", 1.5), (2, "b", 2.0), (3, None, 3.0)]


def test_partial_merge_lacks_required_column(local: Lake) -> None:
    """A merge of some columns may update rows, but not make rows without a required column."""
    schema = pa.schema([("id", pa.int64()), pa.field("must", pa.string(), nullable=False), ("size", pa.float64())])
    table = make_table(local, "t", schema, key=["id"])
    table.append(pa.table({"id": [1], "must": ["x"], "size": [1.0]}))
    for data in ({"id": [2], "size": [2.0]}, {"id": [1, 2], "size": [9.0, 2.0]}):
        with pytest.raises(InvalidInputError) as caught:
            table.merge(pa.table(data))
        assert caught.value.kind == "column-missing"
    assert table.merge(pa.table({"id": [1], "size": [9.0]})).rows_updated == 1
    assert read(local) == [(1, "x", 9.0)]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"id": [1, None], "name": ["a", "b"]}, "key-null"),
        ({"id": [1, 1], "name": ["a", "b"]}, "key-not-unique"),
        ({"name": ["a"]}, "key-missing"),
    ],
)
def test_merge_keys_are_checked(local: Lake, data: dict[str, Any], kind: str) -> None:
    """Rows that a merge could not place are refused before anything is written."""
    table = make_table(local, "t", SCHEMA, key=["id"])
    with pytest.raises(InvalidInputError) as caught:
        table.merge(pa.table(data))
    assert caught.value.kind == kind
    assert table.version() == 0


def test_merge_key_names_a_column_twice(local: Lake) -> None:
    """A key with a repeated column is a mistake, and told as one."""
    table = make_table(local, "t", SCHEMA)
    with pytest.raises(InvalidInputError) as caught:
        table.merge(rows((1, "a", 1.0)), key=["id", "id"])
    assert caught.value.kind == "key-invalid"


def test_merge_needs_a_key(local: Lake) -> None:
    """Without a key, given or declared, a merge is refused; a given one is used."""
    table = make_table(local, "t", SCHEMA)
    with pytest.raises(InvalidInputError, match="key"):
        table.merge(rows((1, "a", 1.0)))
    table.append(rows((1, "a", 1.0)))
    assert table.merge(rows((1, "b", 1.0)), key=["id"]).rows_updated == 1


KEYS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.string(), ["", "a", "ü" * 40 + "1", "ü" * 40 + "2", "\U0010ffff" * 40]),
    (pa.int32(), [-(2**31), 0, 5]),
    (pa.date32(), [date(1, 1, 1), date(2026, 11, 21)]),
    (pa.timestamp("us", tz="UTC"), [datetime(1969, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]),
    (pa.timestamp("us"), [datetime(1969, 1, 1, 0, 0, 0, 1), datetime(2026, 1, 1)]),  # noqa: DTZ001
    (pa.decimal128(38, 18), [Decimal("0.123456789012345678"), Decimal("12345678901234567890.5")]),
    (pa.binary(), [b"", b"\x00\xff"]),
    (pa.bool_(), [True, False]),
]


@pytest.mark.parametrize(("kind", "values"), KEYS, ids=[str(k) for k, _ in KEYS])
def test_merge_by_keys_of_any_type(local: Lake, kind: pa.DataType, values: list[Any]) -> None:
    """Rows are found again whatever the key's type, with one file per row."""
    table = make_table(local, "t", pa.schema([("k", kind), ("v", pa.int64())]), key=["k"])
    for value in values:
        table.append(pa.table({"k": pa.array([value], kind), "v": [0]}))
    commit = table.merge(pa.table({"k": pa.array(values, kind), "v": [0, *([1] * (len(values) - 1))]}))
    assert (commit.rows_added, commit.rows_unchanged, commit.rows_updated) == (0, 1, len(values) - 1)
    assert sorted(read(local), key=str) == sorted([(values[0], 0), *((v, 1) for v in values[1:])], key=str)


def test_merge_touches_few_files(local: Lake) -> None:
    """Only the files that hold a changed row are written anew."""
    table = make_table(local, "t", SCHEMA, key=["id"])
    for start in range(0, 100, 10):
        table.append(rows(*((start + i, "n", 0.0) for i in range(10))))
    before = {a["path"] for a in adds(table)}
    commit = table.merge(rows((35, "m", 1.0), (200, "n", 0.0)))
    after = {a["path"] for a in adds(table)}
    assert (commit.rows_added, commit.rows_updated) == (1, 1)
    assert len(before - after) == 1
    assert len(read(local)) == 101
