"""Conditions for deletes: they mean what they mean for reading, or they are refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.errors import InvalidInputError
from lakehouse.lake import Lake
from tests.support.lakes import SCHEMA, make_lake, make_table, read, rows


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A fresh lake in a folder."""
    return make_lake(str(tmp_path / "lake"))


ODD = ["Case", "order", 'q"uote', "a.b", "with space", "ünï", "date", "row", "t", "s", "1st", "back\\slash"]


@pytest.mark.parametrize("name", ODD)
def test_odd_column_names(local: Lake, name: str) -> None:
    """Columns with capitals, quotes, dots and keywords for names are merged on, updated and deleted by."""
    schema = pa.schema([(name, pa.int64()), ("v", pa.string())])
    table = make_table(local, "t", schema, key=[name])
    table.append(pa.table({name: [1, 2, 3], "v": ["a", "b", "c"]}))
    assert table.merge(pa.table({name: [2, 4], "v": ["B", "d"]})).rows_updated == 1
    quoted = '"' + name.replace('"', '""') + '"'
    assert table.delete(f"{quoted} >= 3").rows_removed == 2
    assert table.delete(f"'ü' <> 'x' and {quoted.swapcase() if name.isascii() else quoted} = 1").rows_removed == 1
    assert read(local) == [(2, "B")]


@pytest.mark.parametrize(
    "where",
    [
        "id in (1, 2) -- and a comment",
        "ID < 3",
        "name like '_' and id <= 2",
        "s.f = 1 and id between 1 and 2",
        "day < date '2026-01-03'",
        "not (id > 2 or name is null)",
        "\"At\" <= '1970-01-01 00:00:02+00'",
    ],
)
def test_delete_means_what_reading_means(local: Lake, where: str) -> None:
    """The rows that a condition deletes are those that it selects when it is used for reading."""
    data = pa.table(
        {
            "id": [1, 2, 3],
            "name": ["a", "b", None],
            "s": [{"f": 1}] * 3,
            "day": [date(2026, 1, d) for d in (1, 2, 3)],
            "at": pa.array([1, 2, 3], pa.timestamp("s", tz="UTC")).cast(pa.timestamp("us", tz="UTC")),
        }
    )
    table = make_table(local, "t", data.schema)
    table.append(data)
    assert local.read("t").to_arrow(columns=["id"], where=where).column("id").to_pylist() == [1, 2]
    assert table.delete(where).rows_removed == 2
    assert [r[0] for r in read(local)] == [3]


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("id / 2 = 1", "predicate-unsupported"),  # 1 row where `/` divides, 2 where it cuts
        ("list_contains([1, 2], id)", "predicate-unsupported"),
        ("id = 1) or (id = 2", "predicate-invalid"),
        ("nothing = 1", "predicate-invalid"),
        ("id = ", "predicate-invalid"),
        ("", "predicate-invalid"),
        ("id in (select 1)", "predicate-invalid"),
        ("true; select 1", "predicate-invalid"),
        ("id", "predicate-unsupported"),
        ("name", "predicate-invalid"),
    ],
)
def test_delete_refuses(local: Lake, where: str, kind: str) -> None:
    """A condition that does not parse, or that the deleting engine takes otherwise, deletes nothing."""
    table = make_table(local, "t", SCHEMA)
    table.append(rows((1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0)))
    with pytest.raises(InvalidInputError) as caught:
        table.delete(where)
    assert caught.value.kind == kind
    assert len(read(local)) == 3
