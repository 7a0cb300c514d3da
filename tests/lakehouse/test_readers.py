"""Reading snapshots: columns, conditions, look-ups, splits, on both backends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse.decisions import Dataset
from lakehouse.errors import InvalidInputError, NotFoundError, StorageError
from lakehouse.profiles import Profile
from lakehouse.readers.relation import connect, literal, source_sql
from lakehouse.snapshots import Snapshot, open_snapshot
from lakehouse.storage import Storage
from tests.support.lakes import make_lake, make_table

ROWS = pa.table(
    {
        "id": pa.array(range(1000), pa.int64()),
        "split": pa.array([("train", "test", None)[n % 3] for n in range(1000)]),
        'na\'me "q"': pa.array([f"it's {n}" for n in range(1000)]),
        "score": pa.array([n / 7 for n in range(1000)]),
    }
)


def make(root: str, rows: pa.Table = ROWS, files: int = 4) -> Snapshot:
    """Write rows as one table under a root, and open it."""
    storage = Storage(Profile(root=root))
    uri = storage.uri("main/t")
    size = -(-rows.num_rows // files)
    for start in range(0, rows.num_rows, size):
        write_deltalake(uri, rows.slice(start, size), mode="append", storage_options=storage.options())
    dataset = Dataset(
        dataset_id="d1",
        namespace="main",
        name="t",
        location="main/t",
        delta_id=DeltaTable(uri, storage_options=storage.options()).metadata().id,
        key_columns=("id",),
        created_at=datetime.now(UTC),
    )
    return open_snapshot(storage, dataset, "main.t@head", None, None)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A thousand rows in four files."""
    return make(str(tmp_path_factory.mktemp("lake")))


def test_every_reader_reads_from_every_backend(root_uri: str) -> None:
    """Arrow, Polars, pandas and DuckDB give the same rows from a folder and from S3."""
    snapshot = make(root_uri)
    assert snapshot.to_arrow().equals(ROWS.cast(snapshot.schema))
    assert snapshot.to_pandas().shape == (1000, 4)
    assert_frame_equal(snapshot.scan().collect(), snapshot.to_polars())
    assert snapshot.get(17)['na\'me "q"'] == "it's 17"
    con = connect()
    twice = f"select sum(id) from ({source_sql(con, snapshot, ['id'])}) join ({source_sql(con, snapshot)}) using (id)"
    assert con.sql(twice).fetchall() == [(499500,)]
    con.close()


@pytest.mark.s3
def test_an_adopted_table_is_read_where_it_is(s3_uri: str, tmp_path: Path) -> None:
    """A root in a folder reads a table that lies on S3."""
    there = make(s3_uri)
    dataset = replace(there.dataset, location=f"{s3_uri}/main/t")
    snapshot = open_snapshot(Storage(Profile(root=str(tmp_path))), dataset, "main.t@head", None, None)
    assert snapshot.to_arrow().equals(ROWS.cast(snapshot.schema))
    assert_frame_equal(snapshot.scan().collect(), snapshot.to_polars())


def test_columns_come_in_the_order_asked_for(snapshot: Snapshot) -> None:
    """A projection keeps the caller's order and the exact types."""
    rows = snapshot.to_arrow(["score", "id"], "id < 2")
    assert rows.schema.equals(pa.schema([("score", pa.float64()), ("id", pa.int64())]))
    assert rows.to_pylist() == [{"score": 0.0, "id": 0}, {"score": 1 / 7, "id": 1}]


def test_unknown_and_missing_columns_are_refused(snapshot: Snapshot) -> None:
    """An unknown column is named with close matches; no column at all is refused."""
    with pytest.raises(InvalidInputError, match=r"'scor'.*'score'") as raised:
        snapshot.batches(["scor"])
    assert raised.value.kind == "column-not-found"
    with pytest.raises(InvalidInputError) as raised:
        snapshot.batches([])
    assert raised.value.kind == "columns-empty"


def test_a_condition_may_use_columns_that_are_not_read(snapshot: Snapshot) -> None:
    """The condition sees all columns, comments and all, and keeps the order of rows."""
    rows = snapshot.to_arrow(["id"], "split = 'test' and score > 140 -- the last ones")
    assert rows.column("id").to_pylist() == [n for n in range(1000) if n % 3 == 1 and n / 7 > 140]


@pytest.mark.parametrize(
    "where",
    [
        "id >",
        "nope = 1",
        "nope(id)",
        "",
        "-- nothing",
        "id = ?",
        "id > 1; drop table x",
        "id) , (1",
        "1 = 1) union all select 1, 'a', 'b', 2.0 where (1 = 1",
        "1 = 1) order by (id",
        "1 = 1) using sample (3",
        "1 = 1) group by (id",
        "1 = 1) limit (3",
        "id; select 1",
        "distinct id",
        "id > 1;",
        "id in (select 1)",
        "exists (from read_csv('/etc/passwd'))",
        "count(*) > 1",
        "id > 1 as x",
    ],
)
def test_a_condition_that_is_not_one_expression_is_refused(snapshot: Snapshot, where: str) -> None:
    """Whatever is no single condition over the columns is refused by the call itself, in DuckDB's words."""
    with pytest.raises(InvalidInputError, match="The condition can't be used: ") as raised:
        snapshot.batches(where=where)
    assert raised.value.kind == "predicate-invalid"
    assert "read_parquet" not in raised.value.message


def test_a_value_that_does_not_fit_its_column_is_refused(snapshot: Snapshot) -> None:
    """Such a condition fails when it is evaluated, and is the caller's mistake too."""
    with pytest.raises(InvalidInputError, match="abc") as raised:
        snapshot.to_arrow(where="id = 'abc'")
    assert raised.value.kind == "predicate-invalid"


def test_files_that_statistics_exclude_are_not_read(snapshot: Snapshot) -> None:
    """Conditions reach the Parquet scan as filters, so that row groups are skipped, and columns as projections."""
    con = connect()
    sql = f"explain select score from ({source_sql(con, snapshot)}) where id = 900 and split = 'test'"
    plan = con.sql(sql).fetchall()[0][1]
    con.close()
    assert "id = 900" in plan
    assert "Read Parquet" in plan
    assert "na'me" not in plan
    lazy = snapshot.scan().filter(pl.col("id") == 900).select("score").explain()
    assert 'SELECTION: col("id") == 900' in lazy
    assert "PROJECT 2/4 COLUMNS" in lazy


def test_find_gives_rows_as_python_values(snapshot: Snapshot) -> None:
    """Rows are found by any columns, null included; no match is no row, an unknown column an error."""
    assert [r["id"] for r in snapshot.find(split="test", score=1 / 7)] == [1]
    assert len(snapshot.find(split=None)) == 333
    assert snapshot.find(id=-1) == []
    with pytest.raises(InvalidInputError, match="'nope'"):
        snapshot.find(nope=1)
    with pytest.raises(InvalidInputError, match="list") as raised:
        snapshot.find(id=[1])
    assert raised.value.kind == "value-unsupported"


def test_get_gives_the_one_row_of_a_key(snapshot: Snapshot) -> None:
    """A key finds its row; an unknown one is an error, and so is a key of the wrong length."""
    assert snapshot.get(999)['na\'me "q"'] == "it's 999"
    with pytest.raises(NotFoundError) as missing:
        snapshot.get(1000)
    assert missing.value.kind == "row-not-found"
    with pytest.raises(InvalidInputError) as wrong:
        snapshot.get(1, 2)
    assert wrong.value.kind == "key-invalid"


def test_a_split_reads_like_a_snapshot(snapshot: Snapshot) -> None:
    """The rows of a split come through every reader."""
    train = snapshot.split("train")
    ids = list(range(0, 1000, 3))
    assert train.num_rows == 334
    assert train.to_arrow(["id"]).column("id").to_pylist() == ids
    assert [i for b in train.batches(["id"]) for i in b.column(0).to_pylist()] == ids
    assert train.to_polars().get_column("id").to_list() == ids
    assert train.to_pandas(["id"])["id"].tolist() == ids
    lazy = train.scan()
    assert_frame_equal(lazy.collect(), train.to_polars())
    assert lazy.filter(pl.col("score") < 1).select("id").collect().get_column("id").to_list() == [0, 3, 6]
    assert lazy.select(pl.len()).collect().item() == 334
    assert lazy.head(2).collect().get_column("id").to_list() == [0, 3]


def test_batches_may_be_left_before_their_end(snapshot: Snapshot) -> None:
    """An iteration that is abandoned closes its connection; batches hold at most the rows asked for."""
    batches = snapshot.batches(batch_rows=10)
    assert next(batches).num_rows <= 10
    batches.close()  # type: ignore[attr-defined]
    assert list(batches) == []


@given(
    st.one_of(
        st.text(),
        st.binary(max_size=20),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.dates(),
        st.datetimes(min_value=datetime(1600, 1, 1), max_value=datetime(3000, 1, 1)),  # noqa: DTZ001
        st.datetimes(min_value=datetime(1600, 1, 1), max_value=datetime(3000, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
        st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12),
    )
)
def test_a_literal_is_the_value(value: Any) -> None:
    """Any value of a column's type is read back from its SQL literal unchanged."""
    if isinstance(value, str) and "\0" in value:
        return  # DuckDB's parser ends at this character
    con = connect()
    found = con.sql(f"select {literal(value)} as v").to_arrow_table().column("v").to_pylist()[0]
    con.close()
    assert found == value


def test_values_of_every_kind_are_found(tmp_path: Path) -> None:
    """Look-ups work for each kind of value that a column can have."""
    row = {
        "d": date(2026, 1, 2),
        "t": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        "n": Decimal("1.50"),
        "b": b"\x00'",
        "x": float("nan"),
        "ok": False,
    }
    snapshot = make(str(tmp_path), pa.Table.from_pylist([row, dict.fromkeys(row)]), files=1)
    for name, value in row.items():
        assert len(snapshot.find(**{name: value})) == 1, name
        assert len(snapshot.find(**{name: None})) == 1, name


def test_a_file_that_is_gone_is_told_on_every_backend(root_uri: str) -> None:
    """A data file that somebody deleted is told as that, in one line, whatever way the store says it."""
    lake = make_lake(root_uri)
    make_table(lake, "t", pa.schema([("id", pa.int64())])).append(pa.table({"id": [1]}))
    snapshot = lake.read("t")
    path = snapshot.file_list.table.column("path")[0].as_py()
    lake.storage.delete([f"{snapshot.dataset.location}/{path}"])
    for read in (snapshot.to_arrow, lambda: snapshot.to_arrow(where="id = 1"), lambda: list(snapshot.batches())):
        with pytest.raises(
            StorageError, match=r"data file of t@head is gone|data file of main\.t@head is gone"
        ) as caught:
            read()
        assert caught.value.kind == "data-missing"
        assert "\n" not in caught.value.message
        assert "Traceback" not in caught.value.message
